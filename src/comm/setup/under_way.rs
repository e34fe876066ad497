//! Whether a setup is under way in this process. If one is, a rank may wait on its GPU for another thread that maps
//! memory.

use std::sync::atomic::{AtomicUsize, Ordering};

static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

/// Whether a setup is under way in some thread.
pub fn is_any() -> bool {
    UNDER_WAY.load(Ordering::SeqCst) != 0
}

/// Marks a setup as under way while it lives.
pub struct UnderWay(());

impl UnderWay {
    /// Marks one from now on.
    pub fn begin() -> Self {
        UNDER_WAY.fetch_add(1, Ordering::SeqCst);
        Self(())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        UNDER_WAY.fetch_sub(1, Ordering::SeqCst);
    }
}
