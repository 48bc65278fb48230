//! The file: a JSON array of products, with their texts in every language.

use serde::Deserialize;

/// How many products there may be; the page shows all of them.
pub const PRODUCTS_MAX: usize = 500;

/// A product as it is written.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Product {
    pub id: String,
    pub name: Texts,
    pub about: Texts,
    pub cents: u32,
    pub stock: u32,
}

/// One text in every language.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Texts {
    pub en: String,
    pub de: String,
}

/// The products in a file; the error is a sentence.
pub fn read(file: &str) -> Result<Vec<Product>, String> {
    let products: Vec<Product> = serde_json::from_str(file).map_err(|error| error.to_string())?;
    if products.len() > PRODUCTS_MAX {
        return Err(format!("there are {} products; at most {PRODUCTS_MAX} are shown", products.len()));
    }
    for (index, product) in products.iter().enumerate() {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if product.id.is_empty() || !product.id.bytes().all(fits) {
            return Err(format!("`{}` is no id: lower-case letters, digits and dashes are", product.id));
        }
        if products[..index].iter().any(|other| other.id == product.id) {
            return Err(format!("two products are called `{}`", product.id));
        }
    }
    Ok(products)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_this_example_is_one() {
        let products = read(include_str!("../../data/products.json")).unwrap();
        let ids: Vec<_> = products.iter().map(|product| product.id.as_str()).collect();
        assert_eq!(ids, ["mortise", "saw", "mallet", "glue"]);
    }

    #[test]
    fn mistakes_are_said() {
        let one = |id: &str| {
            format!(
                r#"{{"id":"{id}","name":{{"en":"a","de":"b"}},"about":{{"en":"","de":""}},"cents":1,"stock":0}}"#
            )
        };
        assert!(read("[]").unwrap().is_empty());
        assert!(read("[{}]").unwrap_err().contains("missing field"));
        assert!(read(&format!("[{}]", one("a/b"))).unwrap_err().contains("`a/b` is no id"));
        assert!(read(&format!("[{}]", one(""))).is_err());
        assert!(read(&format!("[{0},{0}]", one("a"))).unwrap_err().contains("two products"));
    }
}
