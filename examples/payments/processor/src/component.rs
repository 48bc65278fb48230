//! The export of the world `payments`: the life of a payment.

use alloc::string::{String, ToString as _};

use wasi::clocks::wall_clock;
use wasi::random::random;

use crate::fraud;
use crate::money::Money;
use crate::receipt::Receipt;

wit_bindgen::generate!({ path: "../wit", world: "payments", generate_all });

struct Payments;

impl Guest for Payments {
    fn process_payment(amount: f64, currency: String) -> Result<String, String> {
        let money = Money::exactly(amount, &currency).map_err(|error| error.to_string())?;
        fraud::judge(&money).map_err(|refusal| refusal.to_string())?;
        let nonce = [random::get_random_u64(), random::get_random_u64()];
        Ok(Receipt { money, seconds: wall_clock::now().seconds, nonce }.to_string())
    }
}

export!(Payments);
