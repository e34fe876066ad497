//! A line on the terminal that says how far the run is. Where standard error is no terminal there is none.

use std::io::{IsTerminal, Write};

/// Characters of the bar.
const WIDTH: usize = 24;

/// The line.
pub struct Progress {
    gpus: usize,
    steps: usize,
    done: usize,
    is_shown: bool,
}

impl Progress {
    /// Begins with nothing done of so many steps.
    pub fn new(gpus: usize, steps: usize) -> Progress {
        Progress { gpus, steps, done: 0, is_shown: std::io::stderr().is_terminal() }
    }

    /// Says what the next step is; with no step left the line is removed.
    pub fn show(&mut self, what: &str) {
        if self.is_shown {
            let text = if self.done < self.steps { self.line(what) } else { String::new() };
            // The cursor goes back to the beginning, so that a message takes the line's place. A terminal that has gone
            // is no reason to stop.
            let _ = write!(std::io::stderr().lock(), "\r\x1b[K{text}\r");
        }
        self.done += 1;
    }

    fn line(&self, what: &str) -> String {
        let full = self.done * WIDTH / self.steps.max(1);
        let bar = format!("{}{}", "#".repeat(full), ".".repeat(WIDTH - full));
        format!("[{bar}] {}/{}  {} GPUs, {what}", self.done, self.steps, self.gpus)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_fills_with_the_steps() {
        let mut progress = Progress { gpus: 4, steps: 4, done: 0, is_shown: false };
        progress.show("a");
        assert_eq!(progress.line("bf16 sum"), "[######..................] 1/4  4 GPUs, bf16 sum");
    }
}
