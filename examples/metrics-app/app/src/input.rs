//! Reading numbers from text.

use std::fmt;

/// How much of a line that is no number is shown.
const SHOWN_CHARS_MAX: usize = 24;

/// What was in an input.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Numbers {
    /// The numbers, in order.
    pub values: Vec<f64>,
    /// The lines that are none.
    pub skipped: Vec<Skipped>,
}

/// A line that is no number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its number, from 1.
    pub line: usize,
    /// Its beginning.
    pub text: String,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} is not a number: {:?}", self.line, self.text)
    }
}

/// The numbers in `input`, one a line; blanks around them and empty lines mean nothing. Infinity and NaN are no numbers
/// here: one of them would be the whole result.
pub fn read(input: &[u8]) -> Numbers {
    let mut numbers = Numbers::default();
    for (index, line) in input.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        match std::str::from_utf8(line).ok().and_then(|text| text.parse::<f64>().ok()) {
            Some(value) if value.is_finite() => numbers.values.push(value),
            _ => {
                let text = String::from_utf8_lossy(line).chars().take(SHOWN_CHARS_MAX).collect();
                numbers.skipped.push(Skipped { line: index + 1, text });
            }
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_one_a_line() {
        let numbers = read(b"1\n 2.5 \r\n\n-3e2\n.5");
        assert_eq!(numbers, Numbers { values: vec![1.0, 2.5, -300.0, 0.5], skipped: vec![] });
        assert_eq!(read(b""), Numbers::default());
    }

    #[test]
    fn what_is_no_number_is_named_with_its_line() {
        let numbers = read(b"1\ntwo\n3\nNaN\ninf\n\xff\n4,5");
        assert_eq!(numbers.values, [1.0, 3.0]);
        let said: Vec<String> = numbers.skipped.iter().map(ToString::to_string).collect();
        assert_eq!(said[0], "line 2 is not a number: \"two\"");
        let lines: Vec<usize> = numbers.skipped.iter().map(|skipped| skipped.line).collect();
        assert_eq!(lines, [2, 4, 5, 6, 7]);
        assert_eq!(read(&[b'x'; 1000]).skipped[0].text.len(), SHOWN_CHARS_MAX);
    }
}
