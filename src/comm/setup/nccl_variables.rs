//! NCCL's own environment variables that Dime follows, parsed as NCCL parses them. docs/nccl-variables.md lists them.
//!
//! NCCL copies its configuration files into the environment when it makes its first communicator, so the variables
//! are read at setup.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::num::NonZeroU16;
use std::os::unix::ffi::OsStrExt;

/// The longest path over which GPUs may access each other's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    /// Not at all.
    Local,
    /// By NVLink.
    Nvlink,
    /// Over some PCIe paths.
    SomePcie,
    /// Over all paths.
    System,
}

/// The variables of NCCL that concern Dime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NcclVariables {
    level: Option<Level>,
    cumem: bool,
    graph_mixing: Option<bool>,
    most_ctas: Option<NonZeroU16>,
}

impl NcclVariables {
    /// The values of the environment now.
    pub fn from_env() -> Self {
        Self::of(|name| std::env::var_os(name))
    }

    fn of(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let number = |name: &str| variable(name).as_deref().and_then(number);
        let level = if number("NCCL_P2P_DISABLE") == Some(1) {
            Some(Level::Local)
        } else {
            variable("NCCL_P2P_LEVEL").as_deref().and_then(level)
        };
        Self {
            level,
            // -2 leaves the choice to NCCL; other negative numbers count as 0.
            cumem: number("NCCL_CUMEM_ENABLE").is_none_or(|number| number > 0 || number == -2),
            // NCCL ignores other numbers.
            graph_mixing: match number("NCCL_GRAPH_MIXING_SUPPORT") {
                Some(0) => Some(false),
                Some(1) => Some(true),
                _ => None,
            },
            most_ctas: number("NCCL_MAX_CTAS").and_then(|number| u16::try_from(number).ok()).and_then(NonZeroU16::new),
        }
    }

    /// The values of these variables.
    #[cfg(test)]
    pub fn of_text(variables: &[(&str, &str)]) -> Self {
        Self::of(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, text)| OsString::from(text)))
    }

    /// GPUs must not access each other's memory (NCCL_P2P_DISABLE, NCCL_P2P_LEVEL).
    pub fn forbids_peer_access(&self) -> bool {
        self.level == Some(Level::Local)
    }

    /// GPUs may access each other's memory over any PCIe path. Dime does not know which paths an intermediate level
    /// allows, so such a level allows none.
    pub fn allows_pcie(&self) -> bool {
        self.level.is_none_or(|level| level == Level::System)
    }

    /// Memory must not be allocated by cuMemCreate (NCCL_CUMEM_ENABLE).
    pub fn avoids_cumem(&self) -> bool {
        !self.cumem
    }

    /// Whether graphs are ordered against each other (NCCL_GRAPH_MIXING_SUPPORT). None: the communicator's
    /// configuration decides.
    pub fn mixes_graphs(&self) -> Option<bool> {
        self.graph_mixing
    }

    /// The most blocks of a kernel (NCCL_MAX_CTAS). None: the communicator's configuration decides.
    pub fn most_ctas(&self) -> Option<NonZeroU16> {
        self.most_ctas
    }
}

/// A number as NCCL reads it: by C's strtoll, in any base; a text without digits is 0. None: the text is empty or the
/// number too large.
fn number(text: &OsStr) -> Option<i64> {
    if text.is_empty() {
        return None;
    }
    let text = CString::new(text.as_bytes()).ok()?;
    Some(strtoll(&text)).filter(|number| *number != i64::MAX && *number != i64::MIN)
}

fn strtoll(text: &CStr) -> i64 {
    // SAFETY: a C string; the end pointer may be null.
    unsafe { libc::strtoll(text.as_ptr(), std::ptr::null_mut(), 0) }
}

/// A level by its name or by the number that it had in old releases.
fn level(text: &OsStr) -> Option<Level> {
    let named = match text.as_bytes() {
        b"LOC" => Level::Local,
        b"NVL" | b"NVB" | b"C2C" => Level::Nvlink,
        b"PIX" | b"PXB" | b"P2C" | b"PXN" | b"PHB" => Level::SomePcie,
        b"SYS" => Level::System,
        [b'0'..=b'9', ..] => match number(text) {
            Some(0) => Level::Local,
            Some(1..=3) => Level::SomePcie,
            _ => Level::System,
        },
        _ => return None,
    };
    Some(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> NcclVariables {
        NcclVariables::of_text(variables)
    }

    #[test]
    fn nothing_set_forbids_nothing() {
        for variables in [&[][..], &[("NCCL_P2P_LEVEL", "nonsense"), ("NCCL_CUMEM_ENABLE", "")]] {
            let parsed = of(variables);
            assert!(!parsed.forbids_peer_access() && parsed.allows_pcie());
            assert!(!parsed.avoids_cumem() && parsed.mixes_graphs().is_none());
        }
    }

    #[test]
    fn peer_access_is_forbidden_in_every_spelling_that_nccl_takes() {
        for text in ["1", " 1", "+1", "0x1", "01", "1 please"] {
            assert!(of(&[("NCCL_P2P_DISABLE", text)]).forbids_peer_access(), "{text}");
        }
        // NCCL asks for exactly 1.
        for text in ["0", "2", "-1", "true", ""] {
            assert!(!of(&[("NCCL_P2P_DISABLE", text)]).forbids_peer_access(), "{text}");
        }
        for text in ["LOC", "0", "00", "0x0", "0 or so"] {
            assert!(of(&[("NCCL_P2P_LEVEL", text)]).forbids_peer_access(), "{text}");
        }
        for text in ["loc", "LOCAL", "NVL", "1", "5", "-0", " 0", "", "99999999999999999999"] {
            assert!(!of(&[("NCCL_P2P_LEVEL", text)]).forbids_peer_access(), "{text}");
        }
        // The level counts where NCCL_P2P_DISABLE is off.
        assert!(of(&[("NCCL_P2P_DISABLE", "0"), ("NCCL_P2P_LEVEL", "LOC")]).forbids_peer_access());
        assert!(of(&[("NCCL_P2P_DISABLE", "1"), ("NCCL_P2P_LEVEL", "SYS")]).forbids_peer_access());
    }

    #[test]
    fn only_the_last_level_allows_every_way_over_pcie() {
        for (text, allows) in [
            ("NVL", false),
            ("NVB", false),
            ("C2C", false),
            ("PIX", false),
            ("PXB", false),
            ("P2C", false),
            ("PXN", false),
            ("PHB", false),
            ("1", false),
            ("3", false),
            ("SYS", true),
            ("4", true),
            ("5", true),
            ("17", true),
        ] {
            assert_eq!(of(&[("NCCL_P2P_LEVEL", text)]).allows_pcie(), allows, "{text}");
        }
    }

    #[test]
    fn numbers_are_read_as_nccl_reads_them() {
        for (text, avoids) in [("0", true), ("-1", true), ("no", true), ("0x0", true), ("1", false), ("-2", false)] {
            assert_eq!(of(&[("NCCL_CUMEM_ENABLE", text)]).avoids_cumem(), avoids, "{text}");
        }
        let (off, on) = (Some(false), Some(true));
        for (text, mixes) in
            [("0", off), (" 0", off), ("00", off), ("off", off), ("1", on), ("0x1", on), ("2", None), ("", None)]
        {
            assert_eq!(of(&[("NCCL_GRAPH_MIXING_SUPPORT", text)]).mixes_graphs(), mixes, "{text}");
        }
        for (text, most) in [("8", Some(8)), ("0x10", Some(16)), ("0", None), ("-3", None), ("", None), ("70000", None)]
        {
            assert_eq!(of(&[("NCCL_MAX_CTAS", text)]).most_ctas().map(NonZeroU16::get), most, "{text}");
        }
        assert_eq!(number(OsStr::new("99999999999999999999")), None);
    }
}
