//! The export of the world `app`: the life of one input.

use demo::metrics::logging::{Level, log};
use demo::metrics::math_ops::calculate_metric;

use crate::input::{self, Numbers};
use crate::report;

wit_bindgen::generate!({ path: "../wit", world: "app" });

/// How many lines that are no numbers are logged one by one; the rest are counted.
const COMPLAINTS_MAX: usize = 5;

struct App;

impl Guest for App {
    fn process_data(input: Vec<u8>) -> String {
        log(Level::Debug, &format!("{} bytes", input.len()));
        let Numbers { values, skipped } = input::read(&input);
        for line in skipped.iter().take(COMPLAINTS_MAX) {
            log(Level::Warn, &line.to_string());
        }
        if let Some(more) = skipped.len().checked_sub(COMPLAINTS_MAX).filter(|more| *more > 0) {
            log(Level::Warn, &format!("{more} more lines are no numbers"));
        }
        let metric = if values.is_empty() {
            log(Level::Error, "there are no numbers");
            None
        } else {
            Some(calculate_metric(&values))
        };
        let report = report::json(values.len(), skipped.len(), metric);
        log(Level::Info, &report);
        report
    }
}

export!(App);
