//! Which devices a run takes, and for which numbers of ranks.

use dime_harness::team::ask_child;
use dime_harness::{Fallible, cuda};

/// The devices asked for, or all, counted by a child so that this process stays free of CUDA.
pub fn choose_devices(asked: &[usize]) -> Fallible<Vec<usize>> {
    if !asked.is_empty() {
        return Ok(asked.to_vec());
    }
    let count = ask_child(|| {
        cuda::init()?;
        Ok(cuda::device_count()?.to_ne_bytes().to_vec())
    })
    .map_err(|error| format!("no CUDA device can be used: {error}"))?;
    let count =
        count.try_into().map(usize::from_ne_bytes).map_err(|_| "a child process answered with half a number")?;
    Ok((0..count).collect())
}

/// The numbers of ranks asked for, or all that the devices allow.
pub fn choose_rank_counts(asked: &[usize], devices: usize) -> Fallible<Vec<usize>> {
    if let Some(bad) = asked.iter().find(|&&ranks| ranks > devices || !(2..=8).contains(&ranks)) {
        return Err(format!("--ranks {bad}: there are {devices} devices, and 2 to 8 ranks can be checked"));
    }
    if !asked.is_empty() {
        return Ok(asked.to_vec());
    }
    if devices < 2 { Err(format!("{devices} device; a check needs two")) } else { Ok((2..=devices.min(8)).collect()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rank_counts_must_fit_the_devices() {
        assert_eq!(choose_rank_counts(&[], 4), Ok(vec![2, 3, 4]));
        assert_eq!(choose_rank_counts(&[8, 3], 8), Ok(vec![8, 3]));
        assert!(choose_rank_counts(&[5], 4).is_err());
        assert!(choose_rank_counts(&[1], 4).is_err());
        assert!(choose_rank_counts(&[], 1).is_err());
    }
}
