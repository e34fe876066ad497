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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explanation_names_a_kernel_or_a_reason() {
        assert_eq!(Route::parse("fast: one_shot_ll 8 blocks"), Ok(Route::Fast("one_shot_ll".into())));
        assert_eq!(Route::parse("fast: two_shot_bulk, 64 x 512"), Ok(Route::Fast("two_shot_bulk".into())));
        assert_eq!(Route::parse("forward: too large"), Ok(Route::Forward("too large".into())));
        assert!(Route::parse("slow").is_err());
        assert!(Route::parse("fast: ").is_err());
    }
}
