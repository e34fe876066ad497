//! Whether a setup is under way in this process. Then one rank may wait on its GPU for another thread that maps memory.

use std::sync::atomic::{AtomicUsize, Ordering};

static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

/// Whether a setup is under way in some thread.
pub fn is_any() -> bool {
    UNDER_WAY.load(Ordering::SeqCst) != 0
}

/// While it lives a setup is under way.
pub struct UnderWay(());

impl UnderWay {
    /// From now on.
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
