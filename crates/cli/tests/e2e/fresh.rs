//! A fresh sandbox for each request: nothing of one request is there in the next.

use tenon_testkit::Serving;
use tenon_testkit::client::{Connection, call, get};

use crate::support::{serve, tenon};

const CONNECTIONS: usize = 4;

/// Plants a secret now and then, and looks for it `reads` times over several connections.
async fn no_secret_is_left_behind(server: &Serving, reads: usize) {
    const KEY: u64 = 0x5eed_0000_5ec2_e700;
    let planted = call_async(server, &format!("/secret-write?key={KEY}")).await;
    assert!(planted >= 200_000, "a planted secret is found by the one who planted it: {planted}");
    let address = server.address();
    let lanes: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            tokio::spawn(async move {
                let mut connection = Connection::open(address).await.unwrap();
                for turn in 0..reads / CONNECTIONS {
                    if turn % 50 == 25 {
                        connection
                            .exchange(get(&format!("/secret-write?key={KEY}")))
                            .await
                            .unwrap()
                            .expect(200);
                    }
                    let reply = connection.exchange(get(&format!("/secret-read?key={KEY}"))).await.unwrap();
                    assert_eq!(reply.expect(200), "0", "turn {turn} found words of an earlier request");
                }
            })
        })
        .collect();
    for lane in lanes {
        lane.await.unwrap();
    }
}

async fn call_async(server: &Serving, target: &str) -> usize {
    let mut connection = Connection::open(server.address()).await.unwrap();
    connection.exchange(get(target)).await.unwrap().expect(200).parse().unwrap()
}

#[tokio::test]
async fn no_secret_is_left_behind_by_wasi_0_2() {
    let server = serve("chaos-http").start();
    no_secret_is_left_behind(&server, 1000).await;
    server.stop();
}

#[tokio::test]
async fn no_secret_is_left_behind_by_a_plain_handler() {
    let server = serve("plain-chaos").start();
    no_secret_is_left_behind(&server, 400).await;
    server.stop();
}

#[tokio::test]
async fn no_secret_is_left_behind_by_wasi_0_3() {
    let server = serve("service-p3").start();
    no_secret_is_left_behind(&server, 400).await;
    server.stop();
}

#[tokio::test]
async fn nor_in_a_place_that_is_used_again_at_once() {
    // One place in the pool: every request gets the memory of the one before it.
    let server = serve("chaos-http").args(["--pool", "1"]).start();
    let mut connection = Connection::open(server.address()).await.unwrap();
    for turn in 0..50 {
        // A refusal can come while the former request is still being taken down; it is no answer, so ask again.
        let mut ask = async |target: &str| loop {
            let reply = connection.exchange(get(target)).await.unwrap();
            if reply.status != 503 {
                break reply.expect(200);
            }
        };
        let planted: usize = ask("/secret-write?key=77").await.parse().unwrap();
        assert!(planted >= 200_000);
        assert_eq!(ask("/secret-read?key=77").await, "0", "turn {turn}");
    }
    server.stop();
}

#[test]
fn a_counter_never_counts() {
    for guest in ["chaos-http", "plain-chaos", "service-p3"] {
        let server = serve(guest).start();
        for _ in 0..50 {
            assert_eq!(call(server.address(), get("/counter")).expect(200), "1");
        }
        server.stop();
    }
}

#[test]
fn how_a_sandbox_is_reset_is_said_at_the_start_and_by_doctor() {
    let tenon = tenon();
    let doctor = tenon.run(tenon.data(), ["--json", "doctor"]).json();
    let said = doctor["node"]["page_scan"].as_str().unwrap_or_default().to_owned();
    assert!(said == "on" || said.starts_with("off: "), "{doctor}");
    let server = serve("plain-echo").start();
    server.logged(&["the pool is ready", "page_scan", &said]);
    server.stop();
}
