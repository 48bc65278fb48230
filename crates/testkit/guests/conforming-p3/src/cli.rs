//! `wasi:cli`: the environment, and standard streams that are streams.

use std::future::IntoFuture as _;
use std::pin::pin;

use faults::Checks;
use wasip3::cli::types::ErrorCode;
use wasip3::cli::{environment, stderr, stdin, stdout, terminal_stderr, terminal_stdin, terminal_stdout};
use wasip3::wit_bindgen::{FutureReader, StreamReader, StreamResult};
use wasip3::wit_stream;

use crate::wait::{both, now, soon};

type Write = fn(StreamReader<u8>) -> FutureReader<Result<(), ErrorCode>>;

pub async fn check(checks: &mut Checks) {
    let variables = vec![("A".to_owned(), "b".to_owned())];
    checks.same("the environment is the granted one", environment::get_environment(), variables.clone());
    checks.same("each time", environment::get_environment(), variables);
    checks.same("so are the arguments", environment::get_arguments(), vec!["x".to_owned(), "y".to_owned()]);
    checks.same("no directory to begin in", environment::get_initial_cwd(), None);
    checks.holds(
        "no terminal",
        terminal_stdin::get_terminal_stdin().is_none()
            && terminal_stdout::get_terminal_stdout().is_none()
            && terminal_stderr::get_terminal_stderr().is_none(),
        "there is one",
    );

    let (input, ended) = stdin::read_via_stream();
    checks.same("standard input is at its end", soon(input.collect()).await, Some(vec![]));
    checks.shows("and ended well", soon(ended.into_future()).await, "Some(Ok(()))");
    let (input, ended) = stdin::read_via_stream();
    drop(input);
    checks.shows("given up unread, it ended well too", soon(ended.into_future()).await, "Some(Ok(()))");
    let ((one, _), (two, _)) = (stdin::read_via_stream(), stdin::read_via_stream());
    checks.same(
        "two may read it at once",
        soon(both(one.collect(), two.collect())).await,
        Some((vec![], vec![])),
    );

    let streams =
        [("output", stdout::write_via_stream as Write), ("error", stderr::write_via_stream as Write)];
    for (name, write) in streams {
        writes(checks, name, write).await;
    }
    for (name, write) in streams {
        floods(checks, name, write).await;
    }
}

async fn writes(checks: &mut Checks, name: &str, write: Write) {
    let (mut writer, reader) = wit_stream::new();
    let mut done = pin!(write(reader).into_future());
    let first = soon(writer.write_all(b"in two ".to_vec())).await;
    checks.same(&format!("standard {name} takes a part of a line"), first, Some(vec![]));
    let nothing = soon(writer.write(vec![])).await.map(|(result, _)| result);
    checks.same(&format!("standard {name} takes nothing"), nothing, Some(StreamResult::Complete(0)));
    let second = soon(writer.write_all(format!("parts on {name}\n").into_bytes())).await;
    checks.same(&format!("standard {name} takes the rest of it"), second, Some(vec![]));
    checks.shows(&format!("standard {name} is not done before the stream"), now(done.as_mut()).await, "None");
    drop(writer);
    checks.shows(&format!("and then it is, {name}"), soon(done.as_mut()).await, "Some(Ok(()))");

    let (writer, reader) = wit_stream::new::<u8>();
    let done = write(reader);
    drop(writer);
    checks.shows(&format!("no bytes on {name} end well"), soon(done.into_future()).await, "Some(Ok(()))");
}

/// More than the log takes in a second, and something that nobody waits for.
async fn floods(checks: &mut Checks, name: &str, write: Write) {
    let (mut writer, reader) = wit_stream::new();
    let done = write(reader);
    let left = soon(writer.write_all(vec![b'.'; 200_000])).await;
    drop(writer);
    checks.same(&format!("more than is logged is taken on {name}"), left, Some(vec![]));
    checks.shows(&format!("and ends well on {name}"), soon(done.into_future()).await, "Some(Ok(()))");

    // Nobody waits for the result of this one.
    let (mut writer, reader) = wit_stream::new();
    drop(write(reader));
    let left = soon(writer.write_all(b"unwatched\n".to_vec())).await;
    checks.same(&format!("{name} writes on when nobody waits for the result"), left, Some(vec![]));
}
