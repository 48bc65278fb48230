//! Asks another component and hands on what it says.

wit_bindgen::generate!({ path: "../wit", world: "caller", generate_all });

mod counters;

use exports::test::matrix::drive;
use exports::test::matrix::relay::{Colour, Guest, Perms, Person, Scalars, Shape};
use test::matrix::{asked, echo};

struct Component;

impl Guest for Component {
    fn scalars_of(v: Scalars) -> Scalars {
        echo::scalars_of(v)
    }
    fn truth(v: bool) -> bool {
        echo::truth(v)
    }
    fn unsigned(v: u64) -> u64 {
        echo::unsigned(v)
    }
    fn signed(v: i64) -> i64 {
        echo::signed(v)
    }
    fn single(v: f32) -> f32 {
        echo::single(v)
    }
    fn double(v: f64) -> f64 {
        echo::double(v)
    }
    fn letter(v: char) -> char {
        echo::letter(v)
    }
    fn text(v: String) -> String {
        echo::text(&v)
    }
    fn bytes(v: Vec<u8>) -> Vec<u8> {
        echo::bytes(&v)
    }
    fn nested(v: Vec<Vec<String>>) -> Vec<Vec<String>> {
        echo::nested(&v)
    }
    fn pair(v: (u32, String)) -> (u32, String) {
        echo::pair((v.0, &v.1))
    }
    fn people(v: Vec<Person>) -> Vec<Person> {
        echo::people(&v)
    }
    fn shape_of(v: Shape) -> Shape {
        echo::shape_of(&v)
    }
    fn colour_of(v: Colour) -> Colour {
        echo::colour_of(v)
    }
    fn perms_of(v: Perms) -> Perms {
        echo::perms_of(v)
    }
    fn maybe(v: Option<String>) -> Option<String> {
        echo::maybe(v.as_deref())
    }
    fn deep(v: Option<Option<u32>>) -> Option<Option<u32>> {
        echo::deep(v)
    }
    fn small(a: u8, b: i8, c: u16, d: i16, e: u32, f: i32) -> (u8, i8, u16, i16, u32, i32) {
        echo::small(a, b, c, d, e, f)
    }
    fn results(v: Vec<Result<u32, String>>) -> Vec<Result<u32, String>> {
        echo::results(&v)
    }
    fn outcome(fails: bool, number: u32, reason: String) -> Result<u32, String> {
        echo::outcome(fails, number, &reason)
    }
}

impl drive::Guest for Component {
    fn run() -> Vec<u32> {
        let a = asked::Counter::new(40, asked::Colour::Red);
        let added = a.add(&asked::Step { by: 2, label: "two".to_owned() });
        let b = asked::make(7);
        let (read, two) = (asked::read(&b), asked::live());
        let merged = asked::Counter::merge(a, &b);
        let colour = merged.colour() as u32;
        let still_two = asked::live();
        let closed = asked::close(merged);
        let one = asked::live();
        drop(b);
        vec![added, read, two, colour, still_two, closed, one, asked::live()]
    }
}

export!(Component);
