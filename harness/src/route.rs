//! What dimeExplain says of an all-reduce.

use crate::Fallible;

/// What libdime.so says it would do with one all-reduce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// One of its own kernels, by name.
    Fast(String),
    /// The real NCCL, with the reason.
    Forward(String),
}

impl Route {
    /// Reads the line dimeExplain writes: "fast: KERNEL ..." or "forward: REASON".
    pub fn parse(line: &str) -> Fallible<Route> {
        if let Some(rest) = line.strip_prefix("fast:") {
            let kernel = rest.split_whitespace().next().unwrap_or("");
            if kernel.is_empty() {
                return Err(format!("dimeExplain names no kernel: {line:?}"));
            }
            return Ok(Route::Fast(kernel.trim_end_matches([',', ';', ':']).to_owned()));
        }
        match line.strip_prefix("forward:") {
            Some(reason) => Ok(Route::Forward(reason.trim().to_owned())),
            None => Err(format!("dimeExplain wrote neither \"fast:\" nor \"forward:\" but {line:?}")),
        }
    }
}

/// The most blocks that the line of dimeExplain gives for a launch; None where it forwards.
pub fn blocks(line: &str) -> Option<usize> {
    let (before, _) = line.strip_prefix("fast:")?.split_once(" blocks")?;
    before.split_whitespace().next_back()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explanation_of_a_fast_all_reduce_gives_its_blocks() {
        assert_eq!(blocks("fast: one_shot_ll with up to 64 blocks of 128 threads"), Some(64));
        assert_eq!(blocks("forward: the message is larger than 16 blocks"), None);
    }

    #[test]
    fn an_explanation_names_a_kernel_or_a_reason() {
        assert_eq!(Route::parse("fast: one_shot_ll 8 blocks"), Ok(Route::Fast("one_shot_ll".into())));
        assert_eq!(Route::parse("fast: two_shot_bulk, 64 x 512"), Ok(Route::Fast("two_shot_bulk".into())));
        assert_eq!(Route::parse("forward: too large"), Ok(Route::Forward("too large".into())));
        assert!(Route::parse("slow").is_err());
        assert!(Route::parse("fast: ").is_err());
    }
}
