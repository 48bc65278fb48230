//! A component that exports a typed function which answers no request.

wit_bindgen::generate!({
    inline: "
        package fixture:adder;

        interface arithmetic {
            add: func(left: u32, right: u32) -> u32;
        }

        world adder {
            export arithmetic;
        }
    ",
});

use exports::fixture::adder::arithmetic::Guest;

struct Adder;

impl Guest for Adder {
    fn add(left: u32, right: u32) -> u32 {
        left.wrapping_add(right)
    }
}

export!(Adder);
