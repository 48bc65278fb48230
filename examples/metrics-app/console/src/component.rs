//! The export of the world `console`, on top of `line`.

use exports::demo::metrics::logging::{Guest, Level};

use crate::line::line;

wit_bindgen::generate!({ path: "../wit", world: "console" });

struct Console;

impl Guest for Console {
    fn log(level: Level, message: String) {
        match level {
            Level::Debug => println!("{}", line("debug", &message)),
            Level::Info => println!("{}", line("info", &message)),
            Level::Warn => eprintln!("{}", line("warn", &message)),
            Level::Error => eprintln!("{}", line("error", &message)),
        }
    }
}

export!(Console);
