//! Asserts what the documentation of each function of WASI 0.3 promises, one interface a path, and answers with one line
//! for each assertion: `ok NAME`, or `FAILED NAME: what was found`. Below `/serve/` it is a service whose responses a
//! client asserts something of.

use faults::{Checks, Target};
use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::{spawn_local, wit_future, wit_stream};

mod cli;
mod client;
mod clocks;
mod denied;
mod filesystem;
mod http;
/// There is one version of it, for components of 0.2 and of 0.3 alike.
#[path = "../../conforming/src/keyvalue.rs"]
mod keyvalue;
mod random;
mod serve;
mod sockets;
mod streams;
mod wait;

wasip3::http::service::export!(Conforming);

struct Conforming;

impl wasip3::exports::http::handler::Guest for Conforming {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let target = request.get_path_with_query().unwrap_or_default();
        let target = Target::parse(&target);
        let port = |name: &str| u16::try_from(target.number(name, 0)).unwrap_or_default();
        let mut checks = Checks::default();
        match target.path {
            "/cli" => cli::check(&mut checks).await,
            "/client" => client::check(&mut checks, port("peer"), port("closed")).await,
            "/clocks" => clocks::check(&mut checks).await,
            "/denied" => denied::check(&mut checks, port("peer")).await,
            "/filesystem" => filesystem::check(&mut checks).await,
            "/filesystem/read-only" => denied::read_only(&mut checks).await,
            "/http" => http::check(&mut checks, &request).await,
            "/keyvalue" => keyvalue::check(&mut checks),
            "/random" => random::check(&mut checks),
            "/sockets" => sockets::check(&mut checks, port("udp")).await,
            "/streams" => streams::check(&mut checks).await,
            path => {
                let what = path.strip_prefix("/serve/").unwrap_or_default();
                return serve::answer(what, &target, request).await;
            }
        }
        Ok(respond(checks.told().as_bytes().to_vec()))
    }
}

/// A response with this content.
fn respond(content: Vec<u8>) -> Response {
    let (mut writer, reader) = wit_stream::new();
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (response, _sent) = Response::new(Fields::new(), Some(reader), trailers);
    spawn_local(async move {
        // What remains when the client went away is nobody's.
        writer.write_all(content).await;
    });
    response
}
