//! Comparing the lines of two fingerprints.

use std::collections::BTreeMap;

use dime_harness::Fallible;

/// What `found` has otherwise than `expected`, in words. Numbers of ranks that only one of them has are left out. `is_part`: lines
/// that `found` lacks do not count.
pub fn differences(expected: &str, found: &str, is_part: bool) -> Fallible<Vec<String>> {
    let (expected, found) = (parse(expected)?, parse(found)?);
    let shared = |other: &Lines, ranks: &str| other.iter().any(|(_, what, _)| ranks_of(what) == ranks);
    if !found.iter().any(|(_, what, _)| shared(&expected, ranks_of(what))) {
        return Err("the two have no number of ranks in common".to_owned());
    }
    let answers: BTreeMap<&str, &str> = expected.iter().map(|(_, what, answer)| (*what, *answer)).collect();
    let mut differences = Vec::new();
    for (line, what, answer) in found.iter().filter(|(_, what, _)| shared(&expected, ranks_of(what))) {
        match answers.get(what) {
            Some(other) if other == answer => {}
            Some(other) => differences.push(format!("{what}\n  expected: {other}\n  found:    {answer}")),
            None => differences.push(format!("not expected: {line}")),
        }
    }
    if !is_part {
        let found_answers: BTreeMap<&str, &str> = found.iter().map(|(_, what, answer)| (*what, *answer)).collect();
        let missing = expected.iter().filter(|(_, what, _)| shared(&found, ranks_of(what)));
        differences.extend(
            missing
                .filter(|(_, what, _)| !found_answers.contains_key(what))
                .map(|(line, ..)| format!("missing: {line}")),
        );
    }
    Ok(differences)
}

/// Lines, and the two parts of each: what was done, and the answer.
type Lines<'a> = Vec<(&'a str, &'a str, &'a str)>;

fn parse(text: &str) -> Fallible<Lines<'_>> {
    text.lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| {
            let parts = line.split_once(": ");
            let (what, answer) = parts.ok_or_else(|| format!("not a line of a fingerprint: {line:?}"))?;
            Ok((line, what, answer))
        })
        .collect()
}

/// "2 ranks"
fn ranks_of(what: &str) -> &str {
    what.split(',').next().unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPECTED: &str = "# a comment\n2 ranks, a: x\n2 ranks, b: y\n3 ranks, a: z\n";

    #[test]
    fn equal_lines_in_any_order_have_no_differences() {
        assert_eq!(differences(EXPECTED, "2 ranks, b: y\n2 ranks, a: x\n", false), Ok(vec![]));
    }

    #[test]
    fn each_kind_of_difference_is_found_and_only_for_shared_ranks() {
        let found = "2 ranks, a: x\n2 ranks, b: other\n4 ranks, a: w\n";
        assert_eq!(differences(EXPECTED, found, false).unwrap().len(), 1);
        assert_eq!(differences(EXPECTED, "2 ranks, a: x\n", false).unwrap(), ["missing: 2 ranks, b: y"]);
        assert_eq!(differences(EXPECTED, "2 ranks, a: x\n", true), Ok(vec![]));
        assert_eq!(differences(EXPECTED, "3 ranks, a: z\n3 ranks, c: v\n", false).unwrap().len(), 1);
    }

    #[test]
    fn files_that_cannot_be_compared_are_refused() {
        assert!(differences(EXPECTED, "4 ranks, a: w\n", false).is_err());
        assert!(differences("nonsense\n", EXPECTED, false).is_err());
    }
}
