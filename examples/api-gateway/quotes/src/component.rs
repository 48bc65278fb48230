//! The export of the world `backend`, on top of `price`.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use exports::demo::gateway::quotes::{Guest, Quote, Zone};

use crate::price;

wit_bindgen::generate!({ path: "../wit", world: "backend", generate_all });

struct Quotes;

impl Guest for Quotes {
    fn zones() -> Vec<Zone> {
        price::ZONES
            .iter()
            .map(|zone| Zone {
                name: zone.name.to_owned(),
                countries: zone.countries.iter().map(|country| (*country).to_owned()).collect(),
                base_cents: zone.base_cents,
                kilogram_cents: zone.kilogram_cents,
                days: zone.days,
            })
            .collect()
    }

    fn price(body: Vec<u8>) -> Result<Quote, String> {
        price::price(&body).map(|quote| Quote {
            zone: quote.zone.to_owned(),
            cents: quote.cents,
            days: quote.days,
        })
    }
}

export!(Quotes);
