//! `wasi:http/incoming-handler@0.2`: says hello; `GET /hold?ms=N` first sleeps inside the guest, so that a
//! number of instances can be held alive at once; `GET /spin` never ends, and `GET /bomb` takes memory until there is no
//! more. With the feature `reach` it imports interfaces that need a grant and calls them for `GET /reach`.

use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

struct Hello;
wasip2::http::proxy::export!(Hello);

/// Longest time one request may hold its instance.
const HOLD_MS_MAX: u64 = 60_000;

impl Guest for Hello {
    fn handle(request: IncomingRequest, response_out: ResponseOutparam) {
        if request.path_with_query().as_deref() == Some("/spin") {
            loop {
                std::hint::spin_loop();
            }
        }
        if request.path_with_query().as_deref() == Some("/bomb") {
            let mut held = Vec::new();
            loop {
                held.push(std::hint::black_box(vec![1_u8; 1 << 20]));
            }
        }
        if let Some(hold_ms) = request.path_with_query().as_deref().and_then(hold_ms) {
            subscribe_duration(hold_ms.min(HOLD_MS_MAX) * 1_000_000).block();
        }
        #[cfg(feature = "reach")]
        if request.path_with_query().as_deref() == Some("/reach") {
            reach();
        }
        let response = OutgoingResponse::new(Fields::new());
        let Ok(body) = response.body() else { return };
        ResponseOutparam::set(response_out, Ok(response));
        if let Ok(stream) = body.write() {
            let _ = stream.blocking_write_and_flush(b"Hello, world!\n");
        }
        let _ = OutgoingBody::finish(body, None);
    }
}

fn hold_ms(path: &str) -> Option<u64> {
    path.strip_prefix("/hold?ms=")?.parse().ok()
}

/// One call of each interface that needs a grant.
#[cfg(feature = "reach")]
fn reach() {
    use wasip2::http::types::OutgoingRequest;
    use wasip2::sockets::{network::IpAddressFamily, tcp_create_socket::create_tcp_socket};

    let _ = wasip2::http::outgoing_handler::handle(OutgoingRequest::new(Fields::new()), None);
    let _ = wasip2::filesystem::preopens::get_directories();
    let _ = create_tcp_socket(IpAddressFamily::Ipv4);
}
