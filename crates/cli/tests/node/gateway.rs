//! The example `api-gateway`: a gateway for each of several customers, made and deployed as its README says.

use std::path::PathBuf;
use std::process::Command;

use http::Request;
use tenon_testkit::Tenon;
use tenon_testkit::client::{Body, Reply, call, full, request};
use tenon_testkit::differential::{Question, as_fresh};

use crate::examples;
use crate::support::{Site, to};

const CUSTOMERS: usize = 12;

/// The example, built from a copy of its source, and its customers' folders.
fn fleet(tenon: &Tenon) -> (PathBuf, PathBuf) {
    let example = examples::built(tenon, "api-gateway");
    let out = tenon.data().join("fleet");
    let status = Command::new("cargo")
        .args(["run", "--quiet", "--release", "--manifest-path"])
        .arg(example.join("fleet/Cargo.toml"))
        .arg("--")
        .arg(example.join(".tenon"))
        .arg(CUSTOMERS.to_string())
        .arg(&out)
        .env_remove("CARGO_TARGET_DIR")
        .status()
        .unwrap();
    assert!(status.success());
    (example, out)
}

fn asking(host: &str, key: &str, method: &str, path: &str, body: &'static str) -> Request<Body> {
    let mut request = to(host, request(method, path, full(body)));
    request.headers_mut().insert("x-api-key", key.parse().unwrap());
    request
}

/// One of them, served alone.
#[test]
fn a_gateway_answers_from_a_used_place_as_from_a_new_one() {
    let tenon = Tenon::new(env!("CARGO_BIN_EXE_tenon"));
    let example = examples::built(&tenon, "api-gateway");
    let quote = Question::post("/quotes", "application/json", "{}");
    let questions = [Question::get("/health"), quote, Question::get("/zones").with("x-api-key", "unknown")];
    as_fresh(&tenon.serve(example), &questions, &[]);
}

#[test]
fn each_customer_has_keys_a_rate_and_a_schema_of_its_own() {
    let site = Site::new();
    let (example, out) = fleet(&site.tenon);
    let deployed = Command::new("sh")
        .arg(example.join("deploy.sh"))
        .arg(&out)
        .env("TENON", env!("CARGO_BIN_EXE_tenon"))
        .env("TENON_NODE", site.url())
        .env("TENON_DATA", site.tenon.data())
        .env("QUOTA", "--apps 4 --requests 5000")
        .output()
        .unwrap();
    assert!(deployed.status.success(), "{}", String::from_utf8_lossy(&deployed.stderr));
    let tenants = site.json(["tenant", "list"]);
    let all = tenants["tenants"].as_array().unwrap();
    assert!(all.iter().all(|one| one["quota"]["requests_per_second"] == 5_000), "{tenants:#}");
    let keys = std::fs::read_to_string(out.join("keys.tsv")).unwrap();
    let customers: Vec<Vec<&str>> = keys.lines().skip(1).map(|line| line.split('\t').collect()).collect();
    assert_eq!(customers.len(), CUSTOMERS);
    assert_eq!(site.json(["status"])["apps"], CUSTOMERS);
    let components: std::collections::BTreeSet<String> = customers
        .iter()
        .map(|row| {
            let revisions = site.json(["revisions", &format!("{}/api-gateway", row[0])]);
            revisions["revisions"][0]["component"].to_string()
        })
        .collect();
    assert_eq!(components.len(), CUSTOMERS, "no two are alike");

    let ask = |host: &str, key: &str, method: &str, path: &str, body: &'static str| -> Reply {
        call(site.address(), asking(host, key, method, path, body))
    };
    for row in &customers {
        let [name, host, key] = row[..] else { panic!("{row:?}") };
        assert_eq!(site.get(host, "/health").expect(200), format!("{{\"customer\":\"{name}\"}}"));
        assert!(ask(host, key, "GET", "/zones", "").expect(200).contains("neighbours"), "{name}");
    }
    let [one, two, ten] = [&customers[0], &customers[1], &customers[9]];
    // A key opens its own customer's gateway alone.
    assert!(ask(one[1], two[2], "GET", "/zones", "").expect(401).contains("unknown-key"));
    assert!(site.get(one[1], "/zones").expect(401).contains("no-key"));
    // What a key is not for.
    assert!(ask(ten[1], ten[2], "POST", "/quotes", "{}").expect(403).contains("missing-scope"));
    // The first may send 2 kg, the second 3.
    let parcel = r#"{"country":"FR","grams":2500}"#;
    assert!(ask(one[1], one[2], "POST", "/quotes", parcel).expect(422).contains("at most 2000"));
    assert_eq!(
        ask(two[1], two[2], "POST", "/quotes", parcel).expect(200),
        r#"{"zone":"neighbours","cents":1210,"days":3}"#
    );
    // The third may ask 60 times a minute.
    let third = &customers[2];
    let limited =
        (0..150).map(|_| ask(third[1], third[2], "GET", "/zones", "")).find(|reply| reply.status == 429);
    let limited = limited.expect("the rate was used up");
    assert!(limited.header("retry-after").parse::<u32>().is_ok_and(|seconds| seconds <= 60));
    assert!(ask(two[1], two[2], "GET", "/zones", "").status == 200, "its neighbour's was not");

    // Run again, it does nothing.
    let again = Command::new("sh")
        .arg(example.join("deploy.sh"))
        .arg(&out)
        .env("TENON", env!("CARGO_BIN_EXE_tenon"))
        .env("TENON_NODE", site.url())
        .env("TENON_DATA", site.tenon.data())
        .status()
        .unwrap();
    assert!(again.success());
    assert_eq!(site.json(["apps"])["apps"][0]["stable"], "r1");
    site.node.stop();
}
