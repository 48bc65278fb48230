//! Hands back what it is given.

wit_bindgen::generate!({ path: "../wit", world: "provider" });

use exports::test::matrix::echo::{Colour, Guest, Perms, Person, Scalars, Shape};

struct Provider;

impl Guest for Provider {
    fn scalars_of(v: Scalars) -> Scalars {
        v
    }
    fn truth(v: bool) -> bool {
        v
    }
    fn unsigned(v: u64) -> u64 {
        v
    }
    fn signed(v: i64) -> i64 {
        v
    }
    fn single(v: f32) -> f32 {
        v
    }
    fn double(v: f64) -> f64 {
        v
    }
    fn letter(v: char) -> char {
        v
    }
    fn text(v: String) -> String {
        v
    }
    fn bytes(v: Vec<u8>) -> Vec<u8> {
        v
    }
    fn nested(v: Vec<Vec<String>>) -> Vec<Vec<String>> {
        v
    }
    fn pair(v: (u32, String)) -> (u32, String) {
        v
    }
    fn people(v: Vec<Person>) -> Vec<Person> {
        v
    }
    fn shape_of(v: Shape) -> Shape {
        v
    }
    fn colour_of(v: Colour) -> Colour {
        v
    }
    fn perms_of(v: Perms) -> Perms {
        v
    }
    fn maybe(v: Option<String>) -> Option<String> {
        v
    }
    fn outcome(fails: bool, number: u32, reason: String) -> Result<u32, String> {
        if fails { Err(reason) } else { Ok(number) }
    }
}

export!(Provider);
