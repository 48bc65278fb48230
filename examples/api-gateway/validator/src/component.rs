//! The export of the world `schema-validator`, on top of `schema`.

use alloc::string::String;
use alloc::vec::Vec;

use demo::gateway::schemas;
use exports::demo::gateway::validator::{Guest, Violation};

use crate::schema;

wit_bindgen::generate!({ path: "../wit", world: "schema-validator", generate_all });

struct Validator;

impl Guest for Validator {
    fn validate(operation: String, body: Vec<u8>) -> Result<(), Vec<Violation>> {
        let Some(schema) = schemas::for_operation(&operation) else { return Ok(()) };
        let found = schema::violations(&schema, &body);
        if found.is_empty() {
            return Ok(());
        }
        Err(found.into_iter().map(|one| Violation { at: one.at, message: one.message }).collect())
    }
}

export!(Validator);
