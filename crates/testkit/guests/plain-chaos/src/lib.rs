//! A plain handler that misbehaves on request: the path chooses how.

use std::time::Duration;

use faults::Target;

wit_bindgen::generate!({
    inline: "
        package fixture:chaos;

        interface handler {
            record request {
                method: string,
                path: string,
                headers: list<tuple<string, string>>,
                body: option<list<u8>>,
            }
            record response {
                status: u16,
                headers: list<tuple<string, string>>,
                body: list<u8>,
            }
            handle: func(req: request) -> response;
        }

        world chaos {
            export handler;
        }
    ",
});

use exports::fixture::chaos::handler::{Guest, Request, Response};

struct Chaos;

static mut COUNTER: u32 = 0;

impl Guest for Chaos {
    fn handle(req: Request) -> Response {
        let target = Target::parse(&req.path);
        faults::maybe(&target);
        let mut status = 200;
        let mut headers = Vec::new();
        let body = match target.path {
            "/ok" => b"ok\n".to_vec(),
            "/counter" => {
                let counter = &raw mut COUNTER;
                // SAFETY: a guest has one thread and this is the only use.
                let count = unsafe {
                    *counter += 1;
                    *counter
                };
                count.to_string().into_bytes()
            }
            "/spin" => {
                faults::spin(Duration::from_millis(target.number("ms", 100)));
                b"spun\n".to_vec()
            }
            "/alloc" => faults::allocate(target.number("mib", 1)).to_string().into_bytes(),
            "/big" => vec![b'x'; target.number("bytes", 1 << 20) as usize],
            "/secret-write" => faults::secret::plant(target.number("key", 1)).to_string().into_bytes(),
            "/secret-read" => faults::secret::find(target.number("key", 1)).to_string().into_bytes(),
            "/length" => req.body.as_ref().map_or(0, Vec::len).to_string().into_bytes(),
            "/headers" => {
                let value = "x".repeat(100);
                headers.extend((0..target.number("n", 1)).map(|n| (format!("x-{n}"), value.clone())));
                Vec::new()
            }
            // Answers whatever status and whatever header the query says, valid or not.
            "/respond" => {
                status = u16::try_from(target.number("status", 200)).unwrap_or(u16::MAX);
                if let (Some(name), Some(value)) = (target.text("name"), target.text("value")) {
                    headers.push((name, value));
                }
                target.text("body").unwrap_or_default().into_bytes()
            }
            _ => {
                status = 404;
                Vec::new()
            }
        };
        Response { status, headers, body }
    }
}

export!(Chaos);
