//! Values of options: numbers, sizes with units, and lists of sizes and doubling ranges.

use std::fmt::Display;
use std::str::FromStr;

/// Reads "256", "4K", "16M", "1G" (powers of 1024) as bytes.
pub fn parse_bytes(text: &str) -> Result<usize, String> {
    let text = text.trim();
    let (digits, shift) = match text.chars().last() {
        Some('k' | 'K') => (&text[..text.len() - 1], 10),
        Some('m' | 'M') => (&text[..text.len() - 1], 20),
        Some('g' | 'G') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let number: usize = digits.parse().map_err(|_| format!("{text:?} is no size; write 256, 4K or 16M"))?;
    number.checked_mul(1 << shift).filter(|&bytes| bytes > 0).ok_or_else(|| format!("{text:?} is out of range"))
}

/// Reads a number of which there must be at least `least`.
pub fn at_least<T>(least: T) -> impl Fn(&str) -> Result<T, String> + Clone
where
    T: FromStr<Err: Display> + PartialOrd + Display + Copy,
{
    move |text| match text.parse() {
        Ok(number) if number >= least => Ok(number),
        Ok(_) => Err(format!("must be at least {least}")),
        Err(error) => Err(error.to_string()),
    }
}

/// Sizes in bytes: a list of sizes and of ranges A..B that double from A to B inclusive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes(pub Vec<usize>);

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Sizes, String> {
        let mut sizes = Vec::new();
        for part in text.split(',') {
            match part.split_once("..") {
                None => sizes.push(parse_bytes(part)?),
                Some((first, last)) => {
                    let (first, last) = (parse_bytes(first)?, parse_bytes(last.trim_start_matches('='))?);
                    if first > last {
                        return Err(format!("{part:?} runs downwards"));
                    }
                    let doubled = std::iter::successors(Some(first), |size| size.checked_mul(2));
                    sizes.extend(doubled.take_while(|&size| size <= last));
                }
            }
        }
        Ok(Sizes(sizes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_doubles_and_includes_its_end() {
        assert_eq!("256..2K".parse(), Ok(Sizes(vec![256, 512, 1024, 2048])));
        assert_eq!("3..13".parse(), Ok(Sizes(vec![3, 6, 12])));
        assert_eq!("1K,2M..4M,7".parse(), Ok(Sizes(vec![1024, 2 << 20, 4 << 20, 7])));
    }

    #[test]
    fn a_number_below_the_least_is_refused() {
        assert_eq!(at_least(1_u64)("1"), Ok(1));
        assert_eq!(at_least(1_u64)("0"), Err("must be at least 1".to_owned()));
        assert_eq!(at_least(7_usize)("6"), Err("must be at least 7".to_owned()));
        for bad in ["", "-1", "many", "99999999999999999999"] {
            assert!(at_least(1_u64)(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn bad_sizes_are_refused() {
        for bad in ["", "0", "4T", "4K..1K", "-1", "99999999999G"] {
            assert!(bad.parse::<Sizes>().is_err(), "{bad}");
        }
    }
}
