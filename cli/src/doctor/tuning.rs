//! The tuning file: which one libdime.so would read, and whether its rows are for the GPUs here.

use std::time::{Duration, SystemTime};

use dime::comm::setup::tuning::Loaded;
use dime::kernel::layout::MAX_RANKS;

use crate::doctor::report::{Check, Section};

/// The tuning file, for GPUs of this architecture if there are some.
pub fn section(file: Option<&Loaded>, arch: Option<u32>) -> Section {
    let check = file.map_or_else(
        || Check::ok("tuning", "there is none, so the built-in rows decide").with("path", serde_json::Value::Null),
        |file| of_file(file, arch),
    );
    Section { name: "tuning", title: "Tuning file", checks: vec![check] }
}

fn of_file(file: &Loaded, arch: Option<u32>) -> Check {
    let path = file.path.display().to_string();
    let age = file.modified.and_then(|modified| SystemTime::now().duration_since(modified).ok());
    let changed = age.map_or_else(String::new, |age| format!(", changed {}", age_text(age)));
    let not_used = |text: String| {
        let advice = "correct it, write a new one with dime tune, or set DIME_TUNING_FILE=none (docs/tuning.md)";
        Check::warn("tuning", format!("{text}: the file is not used, and the built-in rows decide"), advice)
    };
    let (check, rows) = match (&file.tuning, arch) {
        (Err(problems), _) => {
            let text = format!("{path}{changed}: {} problems", problems.len());
            (not_used(text).details(problems.iter().cloned()), 0)
        }
        (Ok(tuning), Some(arch)) => match file.trouble(arch) {
            Some(trouble) => (not_used(trouble), 0),
            None => {
                let counts = (2..=MAX_RANKS).filter_map(|ranks| Some((ranks, tuning.tuned(arch, ranks)?.count())));
                let counts: Vec<(usize, usize)> = counts.collect();
                let lines = counts.iter().map(|(ranks, count)| format!("{ranks} ranks: {count} rows and thresholds"));
                let text = format!("{path}{changed}: its rows go before the built-in ones on these GPUs");
                (Check::ok("tuning", text).details(lines), counts.iter().map(|(_, count)| count).sum())
            }
        },
        (Ok(tuning), None) => {
            let text =
                format!("{path}{changed}: {} rows; without GPUs it is not known whether any holds", tuning.rows.len());
            (Check::ok("tuning", text), 0)
        }
    };
    check.with("path", path).with("age_s", age.map(|age| age.as_secs())).with("rows", rows)
}

fn age_text(age: Duration) -> String {
    match age.as_secs() / 86_400 {
        0 => "less than a day ago".to_owned(),
        1 => "a day ago".to_owned(),
        days => format!("{days} days ago"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::Status;
    use dime::route::tuning::{Tuning, TuningRow};

    #[test]
    fn a_file_that_is_not_used_is_a_warning() {
        let row = TuningRow { arch: Some(90), blocks: Some(8), ..TuningRow::ANY };
        let good = Loaded { path: "/t.csv".into(), modified: None, tuning: Ok(Tuning { rows: vec![row] }) };
        let bad = Loaded { tuning: Err(vec!["line 2: bad".to_owned()]), ..good.clone() };
        for (file, arch, status) in [
            (None, None, Status::Ok),
            (Some(&good), Some(90), Status::Ok),
            (Some(&good), None, Status::Ok),
            (Some(&good), Some(80), Status::Warn),
            (Some(&bad), None, Status::Warn),
        ] {
            assert_eq!(section(file, arch).checks[0].status(), status, "{file:?} {arch:?}");
        }
    }

    #[test]
    fn ages_are_in_days() {
        assert_eq!(age_text(Duration::from_secs(5)), "less than a day ago");
        assert_eq!(age_text(Duration::from_secs(90_000)), "a day ago");
        assert_eq!(age_text(Duration::from_secs(900_000)), "10 days ago");
    }
}
