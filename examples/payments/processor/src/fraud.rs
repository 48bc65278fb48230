//! The rules against fraud. Each says of one payment, seen by itself, what is wrong with it.
//!
//! A rule here knows the amount and the currency, for that is all the contract tells, and nothing of the payments
//! before: each call runs in a fresh instance with no memory of others. Rules about history ("the fifth payment within
//! a minute", "three times this card's usual") need a payer in the contract and a ledger beside this component; they
//! are not pretended here.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::money::{Currency, Money};

/// What we take of a currency, in whole units of it.
struct Policy {
    code: &'static str,
    /// Less than this is how stolen cards are tried out.
    floor: u64,
    /// More than this is for a person to decide, with papers.
    ceiling: u64,
}

/// The currencies we take. The ceilings are near the 10,000 at which most countries want the payer known.
const POLICIES: [Policy; 10] = [
    Policy { code: "AUD", floor: 1, ceiling: 10_000 },
    Policy { code: "CAD", floor: 1, ceiling: 10_000 },
    Policy { code: "CHF", floor: 1, ceiling: 10_000 },
    Policy { code: "EUR", floor: 1, ceiling: 10_000 },
    Policy { code: "GBP", floor: 1, ceiling: 8_000 },
    Policy { code: "JPY", floor: 100, ceiling: 1_500_000 },
    Policy { code: "KWD", floor: 1, ceiling: 3_000 },
    Policy { code: "NOK", floor: 10, ceiling: 100_000 },
    Policy { code: "SEK", floor: 10, ceiling: 100_000 },
    Policy { code: "USD", floor: 1, ceiling: 10_000 },
];

/// How close to the ceiling an amount looks as if it was chosen to stay under it, in percent of the ceiling.
const STRUCTURING_PERCENT: u64 = 97;

/// A rule: its name, for the person who has to explain a refusal, and what it has against a payment.
struct Rule {
    name: &'static str,
    objects: fn(&Money, &Policy) -> Option<&'static str>,
}

const RULES: [Rule; 3] = [
    Rule { name: "floor", objects: floor },
    Rule { name: "ceiling", objects: ceiling },
    Rule { name: "structuring", objects: structuring },
];

fn floor(money: &Money, policy: &Policy) -> Option<&'static str> {
    let low = money.minor < Money::minor_of(policy.floor, money.currency);
    low.then_some("so small an amount is how stolen cards are tried out")
}

fn ceiling(money: &Money, policy: &Policy) -> Option<&'static str> {
    let high = money.minor > Money::minor_of(policy.ceiling, money.currency);
    high.then_some("so large an amount needs a person to approve it")
}

fn structuring(money: &Money, policy: &Policy) -> Option<&'static str> {
    let ceiling = Money::minor_of(policy.ceiling, money.currency);
    let just_below = money.minor <= ceiling && money.minor * 100 > ceiling * STRUCTURING_PERCENT;
    just_below.then_some("the amount is just below what needs approval")
}

/// Why a payment is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// We take no payments in this currency.
    Currency(Currency),
    /// Rules object: the name of each, and its words.
    Rules(Money, Vec<(&'static str, &'static str)>),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Currency(currency) => write!(f, "payments in {} are not taken", currency.code),
            Self::Rules(money, objections) => {
                let listed: Vec<String> =
                    objections.iter().map(|(name, why)| alloc::format!("{why} (rule {name})")).collect();
                write!(f, "{money} is refused: {}", listed.join("; "))
            }
        }
    }
}

impl core::error::Error for Refusal {}

/// Asks every rule.
///
/// # Errors
/// All that the rules have against the payment.
pub fn judge(money: &Money) -> Result<(), Refusal> {
    let policy = POLICIES
        .iter()
        .find(|policy| policy.code == money.currency.code)
        .ok_or(Refusal::Currency(money.currency))?;
    let objections: Vec<_> =
        RULES.iter().filter_map(|rule| Some((rule.name, (rule.objects)(money, policy)?))).collect();
    if objections.is_empty() { Ok(()) } else { Err(Refusal::Rules(*money, objections)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of the rules that object.
    fn objecting(amount: f64, code: &str) -> Vec<&'static str> {
        match judge(&Money::exactly(amount, code).unwrap()) {
            Ok(()) => Vec::new(),
            Err(Refusal::Rules(_, objections)) => objections.into_iter().map(|(name, _)| name).collect(),
            Err(refusal) => panic!("{refusal}"),
        }
    }

    #[test]
    fn each_rule_objects_from_where_it_should_and_not_before() {
        for (amount, code, rules) in [
            (0.99, "EUR", &["floor"][..]),
            (1.00, "EUR", &[]),
            (9_700.00, "EUR", &[]),
            (9_700.01, "EUR", &["structuring"]),
            (10_000.00, "EUR", &["structuring"]),
            (10_000.01, "EUR", &["ceiling"]),
            (7_760.01, "GBP", &["structuring"]),
            (99.0, "JPY", &["floor"]),
            (100.0, "JPY", &[]),
            (1_500_001.0, "JPY", &["ceiling"]),
            (0.999, "KWD", &["floor"]),
            (3_000.001, "KWD", &["ceiling"]),
        ] {
            assert_eq!(objecting(amount, code), rules, "{amount} {code}");
        }
    }

    #[test]
    fn the_largest_amount_there_is_overflows_nothing() {
        assert_eq!(objecting(999_999_999_999_999.0, "JPY"), ["ceiling"]);
        assert_eq!(objecting(9_999_999_999_999.99, "USD"), ["ceiling"]);
    }

    #[test]
    fn a_currency_without_a_policy_is_not_taken() {
        let money = Money::exactly(5.0, "KPW").unwrap();
        assert_eq!(judge(&money).unwrap_err().to_string(), "payments in KPW are not taken");
    }

    #[test]
    fn a_refusal_names_amount_and_rule() {
        let refused = judge(&Money::exactly(0.5, "USD").unwrap()).unwrap_err();
        let said = "0.50 USD is refused: so small an amount is how stolen cards are tried out (rule floor)";
        assert_eq!(refused.to_string(), said);
    }

    #[test]
    fn every_policy_is_of_a_currency_and_leaves_room_between_its_bounds() {
        for policy in &POLICIES {
            assert!(Currency::of(policy.code).is_some(), "{}", policy.code);
            assert!(policy.floor * 100 < policy.ceiling, "{}", policy.code);
        }
    }
}
