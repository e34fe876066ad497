//! The reasons to forward, in words, by the names that the counters have.

#[path = "../../../src/route/reason.rs"]
mod reason;

use reason::REASONS;

/// The reason of this name in words. None: a libdime.so of another version has it.
pub fn text_of(name: &str) -> Option<&'static str> {
    REASONS.iter().find(|reason| reason.name() == name).map(|reason| reason.text())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_found_by_its_name() {
        assert_eq!(text_of("too_large"), Some("the message is larger than the threshold"));
        assert_eq!(text_of("of_the_future"), None);
    }
}
