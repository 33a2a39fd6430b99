//! What people read: a line for each thing as it is measured, and the table at the end.

use std::time::Duration;

use crate::yardstick;

/// What was measured so far.
#[derive(Debug, Default)]
pub struct Report {
    rows: Vec<Row>,
    failures: u32,
}

#[derive(Debug)]
struct Row {
    scenario: String,
    measured: String,
    wanted: &'static str,
}

impl Report {
    /// Prints a figure, with how fast the machine was just then, and keeps it for the table.
    pub fn add(&mut self, scenario: &str, measured: String, wanted: &'static str) {
        let measured = measured + &format!(" (yardstick {})", duration(yardstick::take()));
        say(&format!("{scenario}: {measured}"));
        self.rows.push(Row { scenario: scenario.to_owned(), measured, wanted });
    }

    /// Prints what went wrong and keeps it for the table.
    pub fn add_failure(&mut self, scenario: &str, error: &anyhow::Error) {
        say(&format!("{scenario}: FAILED: {error:#}"));
        self.rows.push(Row { scenario: scenario.to_owned(), measured: "failed".to_owned(), wanted: "" });
        self.failures += 1;
    }

    /// How many scenarios failed.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// Prints all figures beside what is wanted, in Markdown.
    pub fn print_table(&self) {
        say("\n| scenario | measured | wanted on SQLite with 100,000 assets |\n|---|---|---|");
        for Row { scenario, measured, wanted } in &self.rows {
            say(&format!("| {scenario} | {measured} | {wanted} |"));
        }
    }
}

/// Prints a line.
#[expect(clippy::print_stdout, reason = "it is what the program is for")]
pub fn say(text: &str) {
    println!("{text}");
}

/// A number with commas: 1,234,567.
#[must_use]
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A duration in microseconds, or in milliseconds when it is long.
#[must_use]
pub fn duration(duration: Duration) -> String {
    let millis = duration.as_secs_f64() * 1000.0;
    match duration.as_micros() {
        micros @ 0..1_000 => format!("{micros} µs"),
        1_000..100_000 => format!("{millis:.1} ms"),
        _ => format!("{millis:.0} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_for_people() {
        assert_eq!(["0", "999", "1,000", "1,234,567"], [0, 999, 1_000, 1_234_567].map(count).each_ref());
        let durations = [231, 4_960, 250_400].map(|micros| duration(Duration::from_micros(micros)));
        assert_eq!(["231 µs", "5.0 ms", "250 ms"], durations.each_ref());
    }
}
