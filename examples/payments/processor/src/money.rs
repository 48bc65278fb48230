//! Amounts of money, exact to the smallest unit of their currency.
//!
//! The contract hands the amount over as a binary floating-point number, which cannot hold most decimal fractions: 10.10
//! arrives as 10.0999999999999996447…. Rounding that to cents would also accept 10.0995 and the 0.30000000000000004 that
//! somebody's 0.1 + 0.2 came to. So the number is read back as the shortest decimal that stands for it, which is what
//! was written in the first place as long as that had no more than 15 digits, and it must fit the currency as it is.

use alloc::format;
use core::fmt;

/// The most smallest units of any amount: 15 digits, up to which a decimal and its floating-point number stand for each
/// other one to one.
const MINOR_MAX: u64 = 999_999_999_999_999;

/// A currency of ISO 4217.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Currency {
    /// Its code: three capital letters.
    pub code: &'static str,
    /// How many decimals its smallest unit has (the "minor unit" column of ISO 4217).
    pub decimals: u32,
}

/// The currencies with money in circulation, by their decimals (ISO 4217, list one). Gold, bonds, test codes and units
/// of account are not here: nobody pays with them.
const CURRENCIES: [(u32, &[&str]); 3] = [
    (
        0,
        &[
            "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "VND", "VUV", "XAF",
            "XOF", "XPF",
        ],
    ),
    (
        2,
        &[
            "AED", "AFN", "ALL", "AMD", "AOA", "ARS", "AUD", "AWG", "AZN", "BAM", "BBD", "BDT", "BMD", "BND",
            "BOB", "BRL", "BSD", "BTN", "BWP", "BYN", "BZD", "CAD", "CDF", "CHF", "CNY", "COP", "CRC", "CUP",
            "CVE", "CZK", "DKK", "DOP", "DZD", "EGP", "ERN", "ETB", "EUR", "FJD", "FKP", "GBP", "GEL", "GHS",
            "GIP", "GMD", "GTQ", "GYD", "HKD", "HNL", "HTG", "HUF", "IDR", "ILS", "INR", "IRR", "JMD", "KES",
            "KGS", "KHR", "KPW", "KYD", "KZT", "LAK", "LBP", "LKR", "LRD", "LSL", "MAD", "MDL", "MGA", "MKD",
            "MMK", "MNT", "MOP", "MRU", "MUR", "MVR", "MWK", "MXN", "MYR", "MZN", "NAD", "NGN", "NIO", "NOK",
            "NPR", "NZD", "PAB", "PEN", "PGK", "PHP", "PKR", "PLN", "QAR", "RON", "RSD", "RUB", "SAR", "SBD",
            "SCR", "SDG", "SEK", "SGD", "SHP", "SLE", "SOS", "SRD", "SSP", "STN", "SVC", "SYP", "SZL", "THB",
            "TJS", "TMT", "TOP", "TRY", "TTD", "TWD", "TZS", "UAH", "USD", "UYU", "UZS", "VED", "VES", "WST",
            "XCD", "XCG", "YER", "ZAR", "ZMW", "ZWG",
        ],
    ),
    (3, &["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"]),
];

impl Currency {
    /// The currency with this code.
    pub fn of(code: &str) -> Option<Self> {
        CURRENCIES.iter().find_map(|(decimals, codes)| {
            let code = codes.iter().find(|known| **known == code)?;
            Some(Self { code, decimals: *decimals })
        })
    }
}

/// More than nothing, of one currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Money {
    /// The currency.
    pub currency: Currency,
    /// How many of its smallest unit; never 0.
    pub minor: u64,
}

/// Why an amount is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoneyError {
    /// No such currency.
    UnknownCurrency,
    /// Not a number, or infinite.
    NotANumber,
    /// Zero or less.
    NotPositive,
    /// It has more decimals than the currency.
    TooPrecise(Currency),
    /// It has more digits than the number it came as can hold for certain.
    TooLarge(Currency),
}

impl fmt::Display for MoneyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownCurrency => {
                f.write_str("the currency is not a code of ISO 4217 such as EUR, in capital letters")
            }
            Self::NotANumber => f.write_str("the amount is not a finite number"),
            Self::NotPositive => f.write_str("the amount is not more than zero"),
            Self::TooPrecise(Currency { code, decimals }) => {
                write!(f, "the amount has more decimals than {code}, which has {decimals}")
            }
            Self::TooLarge(Currency { code, .. }) => {
                write!(f, "the amount is too large to be exact in {code}")
            }
        }
    }
}

impl core::error::Error for MoneyError {}

impl Money {
    /// Exactly `amount` of the currency with this code.
    ///
    /// # Errors
    /// When there is no such currency, or no such amount of it.
    pub fn exactly(amount: f64, code: &str) -> Result<Self, MoneyError> {
        let currency = Currency::of(code).ok_or(MoneyError::UnknownCurrency)?;
        if !amount.is_finite() {
            return Err(MoneyError::NotANumber);
        }
        if amount <= 0.0 {
            return Err(MoneyError::NotPositive);
        }
        if amount > MINOR_MAX as f64 {
            return Err(MoneyError::TooLarge(currency));
        }
        // `Display` of a float is the shortest decimal that reads back as the same number, without an exponent.
        let text = format!("{amount}");
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        if fraction.len() > currency.decimals as usize {
            return Err(MoneyError::TooPrecise(currency));
        }
        let missing = currency.decimals as usize - fraction.len();
        let mut digits = whole.bytes().chain(fraction.bytes()).chain(core::iter::repeat_n(b'0', missing));
        let minor = digits
            .try_fold(0_u64, |sum, digit| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
            .filter(|minor| *minor <= MINOR_MAX)
            .ok_or(MoneyError::TooLarge(currency))?;
        Ok(Self { currency, minor })
    }

    /// As many smallest units as `major` of this currency have: `EUR 5` is 500.
    pub(crate) const fn minor_of(major: u64, currency: Currency) -> u64 {
        major * 10_u64.pow(currency.decimals)
    }
}

/// As banks write it: all decimals of the currency, no separators, then the code.
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Currency { code, decimals } = self.currency;
        let unit = 10_u64.pow(decimals);
        let (whole, fraction) = (self.minor / unit, self.minor % unit);
        match decimals {
            0 => write!(f, "{whole} {code}"),
            _ => write!(f, "{whole}.{fraction:0width$} {code}", width = decimals as usize),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exactly(amount: f64, code: &str) -> Result<String, MoneyError> {
        Money::exactly(amount, code).map(|money| money.to_string())
    }

    #[test]
    fn amounts_are_those_that_were_written() {
        for (amount, code, text) in [
            (10.1, "EUR", "10.10 EUR"),
            (0.01, "USD", "0.01 USD"),
            (1.005, "KWD", "1.005 KWD"),
            (1234.0, "JPY", "1234 JPY"),
            (4.35, "EUR", "4.35 EUR"),
            (1_000_000.07, "EUR", "1000000.07 EUR"),
            (9_999_999_999_999.99, "EUR", "9999999999999.99 EUR"),
        ] {
            assert_eq!(exactly(amount, code).as_deref(), Ok(text));
        }
    }

    /// The error of the obvious way: 4.35 × 100 is 434.99999999999994.
    #[test]
    fn every_cent_survives() {
        let eur = Currency::of("EUR").unwrap();
        let amounts = (1..200_000).chain((1..2_000).map(|n| n * 499_999_999_979 % MINOR_MAX + 1));
        for minor in amounts {
            let text = format!("{}.{:02}", minor / 100, minor % 100);
            let money = Money::exactly(text.parse().unwrap(), "EUR");
            assert_eq!(money, Ok(Money { currency: eur, minor }), "{text}");
        }
    }

    #[test]
    fn what_does_not_fit_the_currency_is_refused_not_rounded() {
        let refused = |amount, code| exactly(amount, code).unwrap_err();
        let [eur, jpy] = ["EUR", "JPY"].map(|code| Currency::of(code).unwrap());
        assert_eq!(refused(10.005, "EUR"), MoneyError::TooPrecise(eur));
        assert_eq!(refused(0.1 + 0.2, "EUR"), MoneyError::TooPrecise(eur));
        assert_eq!(refused(10.5, "JPY"), MoneyError::TooPrecise(jpy));
        assert_eq!(refused(f64::MIN_POSITIVE, "EUR"), MoneyError::TooPrecise(eur));
        assert_eq!(refused(1e15, "JPY"), MoneyError::TooLarge(jpy));
        assert_eq!(refused(1e13, "EUR"), MoneyError::TooLarge(eur));
        assert_eq!(refused(f64::MAX, "EUR"), MoneyError::TooLarge(eur));
        for amount in [0.0, -0.0, -1.0, -f64::MIN_POSITIVE] {
            assert_eq!(refused(amount, "EUR"), MoneyError::NotPositive);
        }
        for amount in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(refused(amount, "EUR"), MoneyError::NotANumber);
        }
        for code in ["", "eur", "EURO", "XXX", "XAU", "€", "EUR\0"] {
            assert_eq!(refused(1.0, code), MoneyError::UnknownCurrency, "{code}");
        }
    }

    #[test]
    fn the_table_holds_each_code_once() {
        let mut codes: alloc::vec::Vec<_> = CURRENCIES.iter().flat_map(|(_, codes)| *codes).collect();
        let all = codes.len();
        codes.sort();
        codes.dedup();
        assert_eq!(codes.len(), all);
        assert!(
            codes.iter().all(|code| code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase()))
        );
    }
}
