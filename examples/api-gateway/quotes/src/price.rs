//! Zones and prices.

use alloc::format;
use alloc::string::{String, ToString as _};

use serde::Deserialize;

/// A place to send to.
#[derive(Debug, PartialEq, Eq)]
pub struct Zone {
    pub name: &'static str,
    pub countries: &'static [&'static str],
    pub base_cents: u32,
    pub kilogram_cents: u32,
    pub days: u32,
}

/// All zones, the nearest first.
pub const ZONES: &[Zone] = &[
    Zone { name: "home", countries: &["DE"], base_cents: 490, kilogram_cents: 60, days: 2 },
    Zone {
        name: "neighbours",
        countries: &["AT", "BE", "CH", "CZ", "DK", "FR", "LU", "NL", "PL"],
        base_cents: 990,
        kilogram_cents: 110,
        days: 3,
    },
    Zone {
        name: "far",
        countries: &["ES", "FI", "GB", "IT", "NO", "PT", "SE"],
        base_cents: 1_690,
        kilogram_cents: 240,
        days: 6,
    },
];

/// Express costs this many percent, and takes half as long.
const EXPRESS_PERCENT: u64 = 180;
/// What one parcel may weigh.
const GRAMS_MAX: u32 = 31_500;

#[derive(Deserialize)]
struct Parcel {
    country: String,
    grams: u32,
    #[serde(default)]
    express: bool,
}

/// What it costs.
#[derive(Debug, PartialEq, Eq)]
pub struct Quote {
    pub zone: &'static str,
    pub cents: u32,
    pub days: u32,
}

/// The price for a parcel, given as JSON.
pub fn price(body: &[u8]) -> Result<Quote, String> {
    let parcel: Parcel = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let country = parcel.country.to_ascii_uppercase();
    let zone = ZONES.iter().find(|zone| zone.countries.contains(&country.as_str()));
    let zone = zone.ok_or_else(|| format!("nothing is sent to `{country}`"))?;
    if !(1..=GRAMS_MAX).contains(&parcel.grams) {
        return Err(format!("a parcel weighs 1 to {GRAMS_MAX} grams"));
    }
    let further = u64::from(parcel.grams.saturating_sub(1) / 1_000);
    let usual = u64::from(zone.base_cents) + further * u64::from(zone.kilogram_cents);
    let cents = if parcel.express { usual * EXPRESS_PERCENT / 100 } else { usual };
    let days = if parcel.express { zone.days.div_ceil(2) } else { zone.days };
    Ok(Quote { zone: zone.name, cents: u32::try_from(cents).unwrap_or(u32::MAX), days })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_begun_kilogram_after_the_first_is_paid() {
        let cents = |grams: u32| {
            price(format!(r#"{{"country":"de","grams":{grams}}}"#).as_bytes()).map(|quote| quote.cents)
        };
        assert_eq!((cents(1), cents(1_000), cents(1_001)), (Ok(490), Ok(490), Ok(550)));
        assert!(cents(0).is_err() && cents(GRAMS_MAX + 1).is_err());
    }

    #[test]
    fn express_is_dearer_and_faster() {
        let quote = price(br#"{"country":"FR","grams":500,"express":true}"#);
        assert_eq!(quote, Ok(Quote { zone: "neighbours", cents: 1_782, days: 2 }));
    }

    #[test]
    fn what_is_not_a_parcel_is_said() {
        assert!(price(b"{").is_err());
        assert_eq!(price(br#"{"country":"XX","grams":1}"#), Err("nothing is sent to `XX`".to_string()));
    }
}
