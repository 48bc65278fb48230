//! Numbers with their spread.

use serde_json::{Value, json};

/// The middle of some measurements and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    /// The smallest.
    pub(super) min: f64,
    /// A quarter are at most this.
    pub(super) q1: f64,
    /// Half are at most this.
    pub(super) median: f64,
    /// Three quarters are at most this.
    pub(super) q3: f64,
    /// The largest.
    pub(super) max: f64,
}

impl Spread {
    /// The spread of `values`, if there are any.
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let place = share * (values.len() - 1) as f64;
            let (low, high) = (values[place.floor() as usize], values[place.ceil() as usize]);
            low + (high - low) * place.fract()
        };
        (!values.is_empty()).then(|| Self {
            min: at(0.0),
            q1: at(0.25),
            median: at(0.5),
            q3: at(0.75),
            max: at(1.0),
        })
    }

    /// As JSON, rounded to a thousandth.
    pub(super) fn json(&self) -> Value {
        let round = |value: f64| (value * 1e3).round() / 1e3;
        json!({
            "min": round(self.min), "q1": round(self.q1), "median": round(self.median), "q3": round(self.q3),
            "max": round(self.max),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_lie_between_values() {
        let spread = Spread::of([4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!(spread, Spread { min: 1.0, q1: 1.75, median: 2.5, q3: 3.25, max: 4.0 });
        assert_eq!(Spread::of([7.0]).unwrap().q1, 7.0);
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([f64::NAN]), None);
    }
}
