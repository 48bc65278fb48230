//! The goods, the people and the orders of a small shop. They are constants: every request gets a fresh instance of
//! this component, so nothing that it keeps in memory outlives the request.

use alloc::borrow::{Cow, ToOwned as _};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde::Serialize;
use serde_json::Value;

use crate::answer::{Answer, shown, whole};

/// Something to buy.
#[derive(Serialize)]
pub struct Product {
    /// What it is called in paths.
    pub id: &'static str,
    name: &'static str,
    /// Its price.
    pub cents: u32,
}

/// A product and how many of it.
#[derive(Clone, Copy, Serialize)]
pub struct Line {
    product: &'static str,
    quantity: u32,
}

/// Something bought.
#[derive(Serialize)]
pub struct Order {
    /// What it is called in paths.
    pub id: &'static str,
    /// Who bought it.
    pub customer: String,
    lines: Cow<'static, [Line]>,
    cents: u32,
}

/// What there is to buy.
pub const PRODUCTS: [Product; 4] = [
    Product { id: "mortise", name: "Mortise chisel, 8 mm", cents: 3450 },
    Product { id: "saw", name: "Dovetail saw", cents: 7900 },
    Product { id: "mallet", name: "Joiner's mallet", cents: 2800 },
    Product { id: "glue", name: "Fish glue, 500 g – “Kölner Leim” 🐟", cents: 1290 },
];

/// Who may log in, and what they may do.
pub const PEOPLE: [(&str, &[&str]); 2] =
    [("ada", &["orders:read", "orders:write"]), ("bob", &["orders:read"])];

const LINES_MAX: usize = 20;
const QUANTITY_MAX: u32 = 100;

/// The orders of `customer`. Somebody else's order is as unknown as one that was never placed.
pub fn orders_of(customer: &str) -> Vec<Order> {
    const ORDERS: [(&str, &str, &[Line]); 3] = [
        ("1001", "ada", &[Line { product: "saw", quantity: 1 }]),
        ("1002", "bob", &[Line { product: "mallet", quantity: 2 }]),
        ("1003", "ada", &[Line { product: "glue", quantity: 3 }, Line { product: "mortise", quantity: 1 }]),
    ];
    ORDERS
        .iter()
        .filter(|(_, owner, _)| *owner == customer)
        .map(|(id, owner, lines)| priced(id, owner, Cow::Borrowed(lines)))
        .collect()
}

/// An order with its price.
pub fn priced(id: &'static str, customer: &str, lines: Cow<'static, [Line]>) -> Order {
    let price =
        |id: &str| PRODUCTS.iter().find(|product| product.id == id).map_or(0, |product| product.cents);
    let cents = lines.iter().map(|line| line.quantity * price(line.product)).sum();
    Order { id, customer: customer.to_owned(), lines, cents }
}

/// The lines of an order as a customer sent them, checked.
///
/// # Errors
/// The answer to what is wrong with them.
pub fn checked_lines(value: Option<&Value>) -> Result<Vec<Line>, Answer> {
    let invalid = |message: &str| Answer::problem(422, "invalid-order", message);
    let lines = value
        .and_then(Value::as_array)
        .filter(|lines| (1..=LINES_MAX).contains(&lines.len()))
        .ok_or_else(|| invalid(&format!("`lines` must be a list of 1 to {LINES_MAX} lines")))?;
    let checked = |(index, line): (usize, &Value)| {
        let number = index + 1;
        let wanted = line.get("product");
        let product = PRODUCTS
            .iter()
            .find(|product| wanted.and_then(Value::as_str) == Some(product.id))
            .ok_or_else(|| invalid(&format!("line {number}: there is no product {}", shown(wanted))))?;
        let quantity = whole(line.get("quantity"), 1, QUANTITY_MAX).ok_or_else(|| {
            invalid(&format!("line {number}: `quantity` must be a whole number from 1 to {QUANTITY_MAX}"))
        })?;
        Ok(Line { product: product.id, quantity })
    };
    lines.iter().enumerate().map(checked).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn orders_are_priced() {
        let cents: Vec<_> = orders_of("ada").iter().map(|order| order.cents).collect();
        assert_eq!(cents, [7900, 3 * 1290 + 3450]);
        assert!(orders_of("eve").is_empty());
    }

    #[test]
    fn lines_are_checked() {
        let message = |lines: Value| {
            let answer = checked_lines(Some(&lines)).err().unwrap();
            assert_eq!(answer.status, 422);
            String::from_utf8(answer.body).unwrap()
        };
        assert_eq!(checked_lines(Some(&json!([{ "product": "saw", "quantity": 2 }]))).ok().unwrap().len(), 1);
        assert!(message(json!([])).contains("1 to 20 lines"));
        assert!(message(json!([{ "product": "axe" }])).contains("line 1: there is no product \\\"axe\\\""));
        assert!(message(json!([7])).contains("no product undefined"));
        assert!(message(json!([{ "product": "saw", "quantity": 101 }])).contains("from 1 to 100"));
    }
}
