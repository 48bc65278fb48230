//! Exact amounts: decimal digits to a whole number of the currency's smallest unit, with no float on the way.

/// A currency and how many decimals it has (ISO 4217).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Currency {
    pub code: &'static str,
    pub decimals: usize,
}

/// What can be ordered in.
pub const CURRENCIES: [Currency; 6] = [
    Currency { code: "EUR", decimals: 2 },
    Currency { code: "USD", decimals: 2 },
    Currency { code: "GBP", decimals: 2 },
    Currency { code: "CHF", decimals: 2 },
    Currency { code: "JPY", decimals: 0 },
    Currency { code: "KWD", decimals: 3 },
];

/// The amount in `text`, in the smallest unit; the error is a sentence.
pub fn minor_units(text: &str, currency: Currency) -> Result<u64, String> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if !digits(whole) || (text.contains('.') && !digits(decimals)) {
        return Err("an amount is written with digits and one point, as 34.50".to_owned());
    }
    if decimals.len() > currency.decimals {
        let Currency { code, decimals } = currency;
        return Err(format!("the amount has more decimals than {code}, which has {decimals}"));
    }
    let padded = format!("{whole}{decimals:0<width$}", width = currency.decimals);
    padded.parse().map_err(|_| "the amount is too large".to_owned())
}

/// A whole number in `text`; the error is a sentence.
pub fn whole(text: &str) -> Result<u32, String> {
    if !digits(text) {
        return Err("this is no whole number".to_owned());
    }
    text.parse().map_err(|_| "the number is too large".to_owned())
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_currency(text: &str, code: &str) -> Result<u64, String> {
        minor_units(text, *CURRENCIES.iter().find(|currency| currency.code == code).unwrap())
    }

    #[test]
    fn amounts_are_exact() {
        assert_eq!(in_currency("34.50", "EUR"), Ok(3450));
        assert_eq!(in_currency("34.5", "EUR"), Ok(3450));
        assert_eq!(in_currency("4.35", "EUR"), Ok(435));
        assert_eq!(in_currency("7", "EUR"), Ok(700));
        assert_eq!(in_currency("0", "JPY"), Ok(0));
        assert_eq!(in_currency("1.005", "KWD"), Ok(1005));
        assert_eq!(in_currency("184467440737095516.15", "EUR"), Ok(u64::MAX));
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in ["", ".", "1.", ".5", "-1", "+1", "1,50", "1e2", "0x1", "1.2.3", " 1", "١"] {
            assert!(in_currency(text, "EUR").is_err(), "{text}");
        }
        assert!(in_currency("1.005", "EUR").unwrap_err().contains("more decimals than EUR"));
        assert!(in_currency("1.5", "JPY").unwrap_err().contains("more decimals than JPY"));
        assert!(in_currency("184467440737095516.16", "EUR").unwrap_err().contains("too large"));
    }

    #[test]
    fn whole_numbers_have_no_point() {
        assert_eq!(whole("4294967295"), Ok(u32::MAX));
        for text in ["", "1.0", "-1", "4294967296", "two"] {
            assert!(whole(text).is_err(), "{text}");
        }
    }
}
