//! The result, as a line of JSON.

/// `{"count":…,"skipped":…,"metric":…}`; a metric that JSON has no number for is null.
pub fn json(count: usize, skipped: usize, metric: Option<f64>) -> String {
    let metric = match metric {
        // `Debug` of a finite float is a JSON number, also with an exponent, and reads back as the same float.
        Some(value) if value.is_finite() => format!("{value:?}"),
        _ => "null".to_owned(),
    };
    format!(r#"{{"count":{count},"skipped":{skipped},"metric":{metric}}}"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_is_json() {
        assert_eq!(json(2, 0, Some(1.5)), r#"{"count":2,"skipped":0,"metric":1.5}"#);
        assert_eq!(json(1, 3, Some(1e300)), r#"{"count":1,"skipped":3,"metric":1e300}"#);
        for nothing in [None, Some(f64::NAN), Some(f64::INFINITY)] {
            assert_eq!(json(0, 1, nothing), r#"{"count":0,"skipped":1,"metric":null}"#);
        }
    }
}
