//! What an app used, and what was refused it, is told of the app: whichever revision did it, and whatever became of that.

use serde_json::Value;
use tenon_testkit::client::{call, get};
use tenon_testkit::{DEADLINE, fixtures, until};

use crate::support::Site;

const HOST: &str = "shop.example";

/// An answer of the admin API to whoever runs the node.
fn admin(site: &Site, path: &str) -> String {
    let token = std::fs::read_to_string(site.tenon.data().join("node/admin-token")).unwrap();
    let mut request = get(path);
    request.headers_mut().insert("authorization", format!("Bearer {}", token.trim()).parse().unwrap());
    call(site.node.admin(), request).expect(200)
}

/// What a counter of the app says, over all its lines that have these labels.
fn total(site: &Site, name: &str, labels: &str) -> f64 {
    let metrics = admin(site, "/metrics");
    let lines = metrics.lines().filter(|line| {
        line.starts_with(&format!("{name}{{")) && line.contains("app=\"shop\"") && line.contains(labels)
    });
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

fn of_top(site: &Site) -> Value {
    let top: Value = serde_json::from_str(&admin(site, "/v1/top")).unwrap();
    top["apps"].as_array().unwrap().iter().find(|app| app["app"] == "shop").cloned().unwrap_or_default()
}

#[test]
fn what_was_refused_is_counted_for_its_app() {
    let site = Site::of(&["acme"]);
    site.deploy(&site.app("acme", "shop", HOST, "one"), &[]);
    site.run(["pause", "acme/shop"]).expect_code(0);
    for _ in 0..3 {
        site.get(HOST, "/config?key=version").expect_failure(503, "app-paused");
    }
    assert_eq!(total(&site, "tenon_requests_total", "outcome=\"refused\""), 3.0);
    assert_eq!(of_top(&site)["refused"], 3);
    site.node.stop();
}

#[test]
fn what_an_app_used_does_not_fall_when_revisions_go() {
    let site = Site::of(&["acme"]);
    let used = ["tenon_cpu_seconds_total", "tenon_memory_byte_seconds_total", "tenon_sent_bytes_total"];
    let mut before = [0.0; 3];
    let mut asked = 0;
    let mut step = |what: &str, site: &Site| {
        for _ in 0..5 {
            site.version(HOST);
        }
        asked += 5;
        until("all to be counted", DEADLINE, || {
            (total(site, "tenon_requests_total", "outcome=\"answered\"") as u64 >= asked).then_some(())
        });
        let now = used.map(|name| total(site, name, ""));
        for ((name, before), now) in used.iter().zip(before).zip(now) {
            assert!(now > before, "{what}: {name} was {before} and is {now}");
        }
        before = now;
    };
    for version in ["one", "two", "three", "four"] {
        site.deploy(&site.app("acme", "shop", HOST, version), &[]);
        step(version, &site);
    }
    // All of its revisions come into being anew.
    site.run(["tenant", "set", "acme", "--allow", "sockets"]).expect_code(0);
    step("allowed something else", &site);
    let top = of_top(&site);
    assert_eq!(top["requests"], 25, "{top:#}");
    assert!(top["memory_byte_seconds"].as_u64().is_some() && top["bytes_out"].as_u64() > Some(0), "{top:#}");
    site.node.stop();
}

/// Works for a millisecond or so in a memory of sixteen pages; exports what [`fixtures::STUFF_CONSUMER`] imports.
const BUSY: &str = r#"
(component
  (core module $m
    (memory 16)
    ;; It calls itself, so that the engine cannot put all of it into its caller.
    (func $go (export "go") (param i32) (result i32)
      (local $left i32)
      (if (local.get 0) (then
        (drop (call $go (i32.sub (local.get 0) (i32.const 1))))
        (return (local.get 0))))
      (local.set $left (i32.const 3000000))
      (loop $again
        (i32.store (i32.const 64) (local.get $left))
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br_if $again (local.get $left)))
      (local.get 0)))
  (core instance $i (instantiate $m))
  (func $go (param "x" u32) (result u32) (canon lift (core func $i "go")))
  (instance $stuff (export "go" (func $go)))
  (export "acme:thing/stuff" (instance $stuff)))
"#;

/// Deploys acme/shop at `host`, of a component `front` that does little and this one, which works.
pub(crate) fn deploy_composed(site: &Site, host: &str, works: &str) {
    let folder = site.tenon.data().join("composed");
    std::fs::create_dir_all(&folder).unwrap();
    fixtures::write(&folder, "front.wasm", fixtures::STUFF_CONSUMER);
    fixtures::write(&folder, &format!("{works}.wasm"), BUSY);
    let manifest = format!(
        "name = \"shop\"\n[deploy]\ntenant = \"acme\"\nroutes = [\"{host}/*\"]\n[component.front]\npath = \"front.wasm\"\n\
         [component.front.imports]\n\"acme:thing/stuff\" = {{ component = \"{works}\" }}\n[component.{works}]\npath = \"{works}.wasm\"\n"
    );
    std::fs::write(folder.join("tenon.toml"), manifest).unwrap();
    site.deploy(&folder, &[]);
}

/// Of two components of one app, each is told by itself.
#[test]
fn what_each_component_of_a_composition_used_is_told() {
    let site = Site::with(["--loaded", "1"]);
    site.run(["tenant", "set", "acme"]).expect_code(0);
    deploy_composed(&site, HOST, "back");
    let ask = || (0..60).for_each(|_| drop(site.get(HOST, "/").expect(200)));
    ask();
    let of = |component: &str, name: &str| total(&site, name, &format!("component=\"{component}\""));
    let cpu = |component: &str| of(component, "tenon_component_cpu_seconds_total");
    let app = until("all to be counted", DEADLINE, || {
        let answered = total(&site, "tenon_requests_total", "outcome=\"answered\"");
        (answered >= 60.0).then(|| total(&site, "tenon_cpu_seconds_total", ""))
    });
    let (front, back) = (cpu("front"), cpu("back"));
    assert!(back > 5.0 * front, "who works is found working: {front} and {back} of {app}");
    // Found by looking, so not exactly; the app's own bill is exact.
    assert!((0.4..1.6).contains(&((front + back) / app)), "{front} and {back} of {app}");
    assert_eq!(of("front", "tenon_component_memory_bytes_max"), 65_536.0);
    assert_eq!(of("back", "tenon_component_memory_bytes_max"), 16.0 * 65_536.0);
    let held = |component: &str| of(component, "tenon_component_memory_byte_seconds_total");
    assert!((held("back") / held("front") - 16.0).abs() < 0.1, "{} and {}", held("back"), held("front"));

    // Out of memory and back in it, the sums go on.
    site.deploy(&site.app("acme", "other", "other.example", "one"), &[]);
    site.version("other.example");
    assert!(cpu("back") >= back);
    ask();
    assert!(cpu("back") > 1.3 * back, "{} after {back}", cpu("back"));

    let rows = site.json(["top", "--once", "--interval", "100ms", "--components"])["rows"].clone();
    let row = rows.as_array().unwrap().iter().find(|row| row["app"] == "shop").unwrap();
    let names: Vec<_> = row["components"].as_array().unwrap().iter().map(|it| &it["component"]).collect();
    assert_eq!(names, ["back", "front"], "{row}");
    let page = site.run(["top", "--once", "--interval", "100ms", "--components"]).expect_code(0).stdout;
    assert!(page.contains("\n  front ") && page.contains("\n  back "), "{page}");
    site.node.stop();
}
