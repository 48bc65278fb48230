//! The `wasi:http` 0.3 service world: says hello. Without `std`, so that it imports `wasi:http` alone.

#![no_std]

extern crate alloc;

// The heap, the panic handler and `cabi_realloc`.
use bench_heap as _;

use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::{wit_bindgen, wit_future, wit_stream};

struct Hello;
wasip3::http::service::export!(Hello);

impl Guest for Hello {
    async fn handle(_request: Request) -> Result<Response, ErrorCode> {
        let (mut body, body_reader) = wit_stream::new();
        let (trailers, trailers_reader) = wit_future::new(|| Ok(None));
        let (response, _sent) = Response::new(Fields::new(), Some(body_reader), trailers_reader);
        drop(trailers);
        wit_bindgen::spawn_local(async move {
            let _unsent = body.write_all(b"Hello, world!\n".to_vec()).await;
        });
        Ok(response)
    }
}
