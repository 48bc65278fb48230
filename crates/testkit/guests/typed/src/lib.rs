//! Every kind of type that needs no async: each function gives back what it is given. And a few that do not end well.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

wit_bindgen::generate!({
    inline: "
        package fixture:typed@1.2.0;

        interface echo {
            enum color { red, green, blue }
            flags access { read, write, execute }
            record point { x: s32, y: s32, name: option<string> }
            variant shape { empty, circle(f64), polygon(list<point>), ok(color) }

            bool-of: func(value: bool) -> bool;
            s8-of: func(value: s8) -> s8;
            u8-of: func(value: u8) -> u8;
            s16-of: func(value: s16) -> s16;
            u16-of: func(value: u16) -> u16;
            s32-of: func(value: s32) -> s32;
            u32-of: func(value: u32) -> u32;
            s64-of: func(value: s64) -> s64;
            u64-of: func(value: u64) -> u64;
            f32-of: func(value: f32) -> f32;
            f64-of: func(value: f64) -> f64;
            char-of: func(value: char) -> char;
            string-of: func(value: string) -> string;
            bytes-of: func(value: list<u8>) -> list<u8>;
            list-of: func(value: list<string>) -> list<string>;
            tuple-of: func(value: tuple<u8, string, bool>) -> tuple<u8, string, bool>;
            color-of: func(value: color) -> color;
            access-of: func(value: access) -> access;
            point-of: func(value: point) -> point;
            shape-of: func(value: shape) -> shape;
            option-of: func(value: option<option<u32>>) -> option<option<u32>>;
            result-of: func(value: result<point, string>) -> result<point, string>;
            move-by: func(p: point, dx: s32, dy: option<s32>) -> point;
        }

        interface counters {
            resource counter {
                constructor(start: u32);
                add: func(by: u32) -> u32;
                merge: static func(a: counter, b: counter) -> counter;
            }
            value: func(of: borrow<counter>) -> u32;
            alive: func() -> u32;
            refuse: func() -> result<counter, string>;
        }

        interface other {
            alive: func() -> string;
        }

        world typed {
            export echo;
            export counters;
            export other;
            export greet: func(name: string, title: option<string>) -> string;
            export say: func(text: string);
            export fail: func(why: string) -> result<u32, string>;
            export panic: func();
            export spin: func();
            export grow: func();
        }
    ",
});

use exports::fixture::typed::counters::{Counter, CounterBorrow, Guest as Counters, GuestCounter};
use exports::fixture::typed::echo::{Access, Color, Guest as Echo, Point, Shape};
use exports::fixture::typed::other::Guest as Other;

struct Typed;

macro_rules! echoes {
    ($($name:ident: $ty:ty,)*) => {$(
        fn $name(value: $ty) -> $ty {
            value
        }
    )*};
}

impl Echo for Typed {
    echoes! {
        bool_of: bool,
        s8_of: i8,
        u8_of: u8,
        s16_of: i16,
        u16_of: u16,
        s32_of: i32,
        u32_of: u32,
        s64_of: i64,
        u64_of: u64,
        f32_of: f32,
        f64_of: f64,
        char_of: char,
        string_of: String,
        bytes_of: Vec<u8>,
        list_of: Vec<String>,
        tuple_of: (u8, String, bool),
        color_of: Color,
        access_of: Access,
        point_of: Point,
        shape_of: Shape,
        option_of: Option<Option<u32>>,
        result_of: Result<Point, String>,
    }

    fn move_by(p: Point, dx: i32, dy: Option<i32>) -> Point {
        Point { x: p.x + dx, y: p.y + dy.unwrap_or(0), ..p }
    }
}

static ALIVE: AtomicU32 = AtomicU32::new(0);

struct Count(Cell<u32>);

impl Drop for Count {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Relaxed);
    }
}

impl GuestCounter for Count {
    fn new(start: u32) -> Self {
        ALIVE.fetch_add(1, Relaxed);
        Self(Cell::new(start))
    }

    fn add(&self, by: u32) -> u32 {
        self.0.set(self.0.get() + by);
        self.0.get()
    }

    fn merge(a: Counter, b: Counter) -> Counter {
        Counter::new(Count::new(a.get::<Count>().0.get() + b.get::<Count>().0.get()))
    }
}

impl Counters for Typed {
    type Counter = Count;

    fn value(of: CounterBorrow<'_>) -> u32 {
        of.get::<Count>().0.get()
    }

    fn alive() -> u32 {
        ALIVE.load(Relaxed)
    }

    fn refuse() -> Result<Counter, String> {
        Err("no counter".into())
    }
}

impl Other for Typed {
    fn alive() -> String {
        "yes".into()
    }
}

impl Guest for Typed {
    fn greet(name: String, title: Option<String>) -> String {
        match title {
            Some(title) => format!("hello, {title} {name}"),
            None => format!("hello, {name}"),
        }
    }

    fn say(text: String) {
        println!("{text}");
    }

    fn fail(why: String) -> Result<u32, String> {
        Err(why)
    }

    fn panic() {
        panic!("on purpose");
    }

    fn spin() {
        let mut number = 0_u64;
        loop {
            number = std::hint::black_box(number + 1);
        }
    }

    fn grow() {
        let mut kept = Vec::new();
        loop {
            kept.push(std::hint::black_box(vec![1_u8; 1 << 20]));
        }
    }
}

export!(Typed);
