//! A graceful stop: what runs may finish, nothing new begins, exit code 0.

use std::net::TcpStream;

use tenon_testkit::client::{Connection, call, get};
use tenon_testkit::{DEADLINE, until};

use crate::support::serve;

// Two threads: one waits for the log while the other drives the request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_may_finish() {
    for guest in ["chaos-http", "service-p3"] {
        let mut server = serve(guest).start();
        let address = server.address();
        let mut connection = Connection::open(address).await.unwrap();
        let running = tokio::spawn(async move { connection.exchange(get("/sleep?ms=1500")).await });
        server.logged(&["sleeping"]);
        server.terminate();
        assert_eq!(running.await.unwrap().unwrap().expect(200), "slept\n");
        let status = server.wait(DEADLINE);
        assert_eq!(status.code(), Some(0), "{}", server.log());
    }
}

#[tokio::test]
async fn a_body_that_is_being_sent_is_sent_to_its_end() {
    let mut server = serve("chaos-http").start();
    let mut connection = Connection::open(server.address()).await.unwrap();
    let mut response = connection.send(get("/drip?chunks=40&ms=20")).await.unwrap();
    let first = response.chunk().await.unwrap().unwrap();
    server.terminate();
    let rest = response.finish().await.unwrap().text();
    assert_eq!(String::from_utf8_lossy(&first).into_owned() + &rest, "drop\n".repeat(40));
    assert_eq!(server.wait(DEADLINE).code(), Some(0));
}

#[tokio::test]
async fn idle_connections_do_not_keep_it() {
    let mut server = serve("plain-root").start();
    let mut idle = Vec::new();
    for _ in 0..10 {
        let mut connection = Connection::open(server.address()).await.unwrap();
        connection.exchange(get("/")).await.unwrap().expect(200);
        idle.push(connection);
    }
    // One that never said anything.
    let silent = TcpStream::connect(server.address()).unwrap();
    server.terminate();
    assert_eq!(server.wait(DEADLINE).code(), Some(0));
    drop((idle, silent));
}

#[tokio::test]
async fn nothing_new_begins() {
    let server = serve("chaos-http").start();
    let mut connection = Connection::open(server.address()).await.unwrap();
    let mut response = connection.send(get("/drip?chunks=1000000&ms=20")).await.unwrap();
    response.chunk().await.unwrap().unwrap();
    server.terminate();
    until("the port to be closed", DEADLINE, || TcpStream::connect(server.address()).is_err().then_some(()));
}

#[test]
fn a_stop_without_anything_running_is_immediate() {
    let server = serve("plain-root").start();
    call(server.address(), get("/")).expect(200);
    let start = std::time::Instant::now();
    server.stop();
    // A drain would take half a minute.
    assert!(start.elapsed().as_secs() < 15, "{:?}", start.elapsed());
}

#[test]
fn the_port_is_free_again_for_the_next() {
    let first = serve("plain-root").start();
    let address = first.address().to_string();
    call(first.address(), get("/")).expect(200);
    first.stop();
    let second = serve("plain-root").listen(&address).start();
    assert_eq!(second.address().to_string(), address);
    second.stop();
}

#[tokio::test]
async fn the_drain_ends_in_time_whatever_a_client_does() {
    // A response that would go on for a minute: the drain lasts the wall limit and the time to take a response.
    let mut server = serve("chaos-http").args(["--wall", "1s"]).start();
    let mut connection = Connection::open(server.address()).await.unwrap();
    let mut response = connection.send(get("/big?bytes=60000000")).await.unwrap();
    response.chunk().await.unwrap().unwrap();
    // The client reads no further, and keeps the connection.
    server.terminate();
    let began = std::time::Instant::now();
    assert_eq!(server.wait(DEADLINE).code(), Some(0));
    assert!(began.elapsed() < std::time::Duration::from_secs(15), "{:?}", began.elapsed());
    drop(response);
}
