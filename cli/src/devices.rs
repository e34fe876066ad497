//! `dime devices`: the GPUs of this machine.

use dime_harness::output::say;
use dime_harness::{Fallible, cuda};

/// Options of `dime devices`.
#[derive(clap::Args)]
pub struct Options {
    /// Print one word for the machine, such as h200-x8
    #[arg(long)]
    short: bool,
    /// Print only how many there are
    #[arg(long, conflicts_with = "short")]
    count: bool,
}

/// Prints the list, the short name or the number.
pub fn run(options: &Options) -> Fallible<bool> {
    cuda::init()?;
    let count = cuda::device_count()?;
    if options.count {
        say!("{count}")?;
        return Ok(true);
    }
    let names: Vec<String> = (0..count).map(cuda::device_name).collect::<Fallible<_>>()?;
    if options.short {
        let first = names.first().map_or("none", String::as_str);
        say!("{}", short_name(first, count))?;
    } else {
        for (index, name) in names.iter().enumerate() {
            say!("{index}  {name}")?;
        }
        let version = cuda::driver_version()?;
        let driver = cuda::kernel_driver_version().unwrap_or_else(|| "unknown".to_owned());
        say!("driver {driver}, CUDA {}.{}", version / 1000, version % 1000 / 10)?;
    }
    Ok(true)
}

/// "NVIDIA H200" and 8 give "h200-x8"; the first word that holds a digit names the model.
pub fn short_name(product: &str, count: usize) -> String {
    let is_model = |word: &&str| word.chars().any(|c| c.is_ascii_digit());
    let model = product.split_whitespace().find(is_model).unwrap_or("gpu");
    format!("{}-x{count}", model.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_name_is_the_model_and_the_count() {
        assert_eq!(short_name("NVIDIA H200", 8), "h200-x8");
        assert_eq!(short_name("NVIDIA H100 80GB HBM3", 2), "h100-x2");
        assert_eq!(short_name("Tesla V100-SXM2-16GB", 4), "v100-sxm2-16gb-x4");
        assert_eq!(short_name("none", 0), "gpu-x0");
    }
}
