//! What the doctor found: checks in sections, as lines for a person and as one JSON object for a script.

use serde_json::{Map, Value, json};

/// The number of the JSON format. A field that changes its meaning or goes makes it one more.
const FORMAT: u32 = 1;
/// As wide as the longest mark and a space.
const INDENT: &str = "       ";

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// As it should be.
    Ok,
    /// Works, but slower or otherwise than one might think; or it could not be looked at.
    Warn,
    /// Does not work.
    Fail,
}

impl Status {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }

    fn mark(self) -> &'static str {
        match self {
            Self::Ok => "[OK]",
            Self::Warn => "[WARN]",
            Self::Fail => "[FAIL]",
        }
    }

    fn colour(self) -> &'static str {
        match self {
            Self::Ok => "\x1b[32m",
            Self::Warn => "\x1b[33m",
            Self::Fail => "\x1b[31m",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug)]
pub struct Check {
    /// Its name in JSON; never changes.
    name: &'static str,
    status: Status,
    text: String,
    /// What to do; there is one unless the status is [`Status::Ok`].
    advice: Option<String>,
    details: Vec<String>,
    data: Map<String, Value>,
}

impl Check {
    fn new(name: &'static str, status: Status, text: String, advice: Option<String>) -> Self {
        Self { name, status, text, advice, details: Vec::new(), data: Map::new() }
    }

    /// It is as it should be.
    pub fn ok(name: &'static str, text: impl Into<String>) -> Self {
        Self::new(name, Status::Ok, text.into(), None)
    }

    /// It works, but not as one might think; `advice` says what to do.
    pub fn warn(name: &'static str, text: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(name, Status::Warn, text.into(), Some(advice.into()))
    }

    /// It does not work; `advice` says what to do.
    pub fn fail(name: &'static str, text: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(name, Status::Fail, text.into(), Some(advice.into()))
    }

    /// The same with a field for scripts.
    pub fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.data.insert(field.to_owned(), value.into());
        self
    }

    /// The same with more lines.
    pub fn details<T: Into<String>>(mut self, lines: impl IntoIterator<Item = T>) -> Self {
        self.details.extend(lines.into_iter().map(Into::into));
        self
    }

    /// How it ended.
    #[cfg(test)]
    pub fn status(&self) -> Status {
        self.status
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name,
            "status": self.status.name(),
            "text": self.text,
            "advice": self.advice,
            "details": self.details,
            "data": self.data,
        })
    }

    fn write(&self, text: &mut String, colours: bool) {
        let (begin, end) = if colours { (self.status.colour(), "\x1b[0m") } else { ("", "") };
        *text += &format!("{begin}{}{end} {}\n", self.status.mark(), one_line(&self.text));
        let more = self.advice.iter().chain(&self.details);
        more.for_each(|line| *text += &format!("{INDENT}{}\n", one_line(line)));
    }
}

/// Checks that belong together.
pub struct Section {
    /// Its name in JSON; never changes.
    pub name: &'static str,
    /// Its headline.
    pub title: &'static str,
    /// What was looked at, in order.
    pub checks: Vec<Check>,
}

/// Everything that was looked at.
pub struct Report(pub Vec<Section>);

impl Report {
    fn checks(&self) -> impl Iterator<Item = &Check> {
        self.0.iter().flat_map(|section| &section.checks)
    }

    fn count(&self, status: Status) -> usize {
        self.checks().filter(|check| check.status == status).count()
    }

    /// The worst of all.
    pub fn status(&self) -> Status {
        self.checks().map(|check| check.status).max().unwrap_or(Status::Ok)
    }

    /// As lines.
    pub fn text(&self, colours: bool) -> String {
        let mut text = String::new();
        for section in self.0.iter().filter(|section| !section.checks.is_empty()) {
            text += &format!("{}\n", section.title);
            section.checks.iter().for_each(|check| check.write(&mut text, colours));
            text.push('\n');
        }
        let [ok, warn, fail] = [Status::Ok, Status::Warn, Status::Fail].map(|status| self.count(status));
        text + &format!("{ok} OK, {warn} WARN, {fail} FAIL\n")
    }

    /// As one object.
    pub fn json(&self) -> Value {
        let sections = self.0.iter().map(|section| {
            let checks: Vec<Value> = section.checks.iter().map(Check::json).collect();
            json!({ "name": section.name, "title": section.title, "checks": checks })
        });
        json!({
            "format": FORMAT,
            "version": env!("CARGO_PKG_VERSION"),
            "status": self.status().name(),
            "ok": self.count(Status::Ok),
            "warn": self.count(Status::Warn),
            "fail": self.count(Status::Fail),
            "sections": sections.collect::<Vec<_>>(),
        })
    }
}

/// The same without characters that would break the line or move the cursor: names of files and variables come from outside.
fn one_line(text: &str) -> String {
    let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let checks = vec![
            Check::ok("one", "all right").details(["a detail"]).with("number", 7),
            Check::warn("two", "odd\n[OK] forged", "do this"),
        ];
        Report(vec![
            Section { name: "first", title: "First", checks },
            Section { name: "none", title: "Nothing to say", checks: vec![] },
        ])
    }

    #[test]
    fn what_is_not_ok_has_a_second_line_and_no_text_begins_a_line_of_its_own() {
        assert_eq!(
            report().text(false),
            "First\n[OK] all right\n       a detail\n[WARN] odd\\n[OK] forged\n       do this\n\n1 OK, 1 WARN, 0 FAIL\n"
        );
        assert!(report().text(true).contains("\x1b[33m[WARN]\x1b[0m odd"));
    }

    #[test]
    fn the_worst_check_is_the_status_of_all() {
        assert_eq!(report().status(), Status::Warn);
        assert_eq!(Report(vec![]).status(), Status::Ok);
        let json = report().json();
        assert_eq!((&json["status"], &json["warn"]), (&json!("warn"), &json!(1)));
        let check = &json["sections"][0]["checks"][0];
        assert_eq!(
            (&check["status"], &check["advice"], &check["data"]["number"]),
            (&json!("ok"), &json!(null), &json!(7))
        );
    }
}
