//! Hands back what it is given.

wit_bindgen::generate!({ path: "../wit", world: "provider" });

#[path = "../../rust-caller/src/counters.rs"]
mod counters;

use exports::test::matrix::echo::{Colour, Guest, Perms, Person, Scalars, Shape};

struct Component;

impl Guest for Component {
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
    fn deep(v: Option<Option<u32>>) -> Option<Option<u32>> {
        v
    }
    fn small(a: u8, b: i8, c: u16, d: i16, e: u32, f: i32) -> (u8, i8, u16, i16, u32, i32) {
        (a, b, c, d, e, f)
    }
    fn results(v: Vec<Result<u32, String>>) -> Vec<Result<u32, String>> {
        v
    }
    fn outcome(fails: bool, number: u32, reason: String) -> Result<u32, String> {
        if fails { Err(reason) } else { Ok(number) }
    }
}

export!(Component);
