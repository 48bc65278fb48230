//! The export of the world `catalogue-world`, on top of `products`.

use exports::demo::page::catalogue::{Guest, Language, Product, Unavailable};

use crate::products;

wit_bindgen::generate!({ path: "../wit", world: "catalogue-world" });

/// Where the manifest lets this component see the file.
const FILE: &str = "/data/products.json";

struct Catalogue;

impl Guest for Catalogue {
    fn products(language: Language) -> Result<Vec<Product>, Unavailable> {
        // Standard error is the node's log.
        let said = |cause: &dyn std::fmt::Display| eprintln!("{FILE}: {cause}");
        let file = std::fs::read_to_string(FILE).map_err(|error| {
            said(&error);
            Unavailable::Unreadable
        })?;
        let products = products::read(&file).map_err(|error| {
            said(&error);
            Unavailable::Mistaken
        })?;
        let in_language = |texts: products::Texts| match language {
            Language::English => texts.en,
            Language::German => texts.de,
        };
        let shown = products.into_iter().map(|product| Product {
            id: product.id,
            name: in_language(product.name),
            about: in_language(product.about),
            cents: product.cents,
            stock: product.stock,
        });
        Ok(shown.collect())
    }
}

export!(Catalogue);
