//! The reference services, from outside: each built from a copy of its source with the real toolchains, and composed.
//!
//! Needs the guest toolchains in the project's tool folder, where `cargo xtask` puts them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod edge_cache;
mod edge_shop;
mod normalizer;
mod storefront_page;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tenon_testkit::client::{Body, Reply, call, post};
use tenon_testkit::differential::{Question, as_fresh};
use tenon_testkit::{Serving, Tenon, repository, share_cargo};

/// How long a build from nothing may take on a machine that is busy with others.
const BUILD_DEADLINE: Duration = Duration::from_secs(1200);

/// What a build leaves among the sources.
const PRODUCTS: [&str; 5] = [".tenon", "target", "node_modules", "internal", "bindings"];

/// One build at a time: each uses all of the machine.
static BUILDING: Mutex<()> = Mutex::new(());

/// A built copy of an example, and the `tenon` that built it.
struct Example {
    tenon: Tenon,
    folder: PathBuf,
    manifest: &'static str,
}

impl Example {
    /// Copies the sources of `name` to the folder of test products and builds them there. The folder outlives the test,
    /// so that the next run builds what has changed since; the first one builds everything.
    fn build(name: &str, manifest: &'static str) -> Self {
        let _alone = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
        let tenon = Tenon::new(env!("CARGO_BIN_EXE_tenon"));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("examples").join(name);
        mirror(&repository().join("examples").join(name), &folder);
        share_cargo(Path::new(env!("CARGO_TARGET_TMPDIR")), &folder.join(".tenon"));
        let args = ["build".as_ref(), folder.as_os_str()];
        tenon.run_for(BUILD_DEADLINE, tenon.data(), args).expect_code(0);
        Self { tenon, folder, manifest }
    }

    /// The composed file.
    fn compose(&self) -> PathBuf {
        let out = self.tenon.data().join("composed.wasm");
        let args =
            ["compose".as_ref(), "--config".as_ref(), self.manifest.as_ref(), "-o".as_ref(), out.as_os_str()];
        self.tenon.run(&self.folder, args).expect_code(0);
        out
    }

    /// Serves the folder.
    fn serve(&self) -> Serving {
        self.tenon.serve(&self.folder).start()
    }

    /// The manifest with what `change` makes of its text, to be served from the components that are built: what its paths
    /// name stays where it is.
    fn with_manifest(&self, tenon: &Tenon, change: impl FnOnce(String) -> String) -> PathBuf {
        let text = fs::read_to_string(self.folder.join(self.manifest)).unwrap();
        let here = format!("{}/", self.folder.display());
        let lines = text.lines().filter(|line| !line.starts_with("source = "));
        let text: String = lines.map(|line| format!("{line}\n")).collect();
        let text = text.replace("path = \"", &format!("path = \"{here}"));
        let text = text.replace("directory = \"", &format!("directory = \"{here}"));
        let file = tenon.data().join("changed.toml");
        fs::write(&file, change(text)).unwrap();
        file
    }

    /// Runs the contract tests beside it.
    fn passes_its_contract_tests(&self) {
        let args = ["test".as_ref(), self.folder.as_os_str()];
        self.tenon.run(&self.folder, args).expect_code(0);
    }

    /// What `tenon inspect` says about `file`.
    fn inspect(&self, file: &Path) -> Value {
        let args = ["inspect".as_ref(), file.as_os_str(), "--json".as_ref()];
        self.tenon.run(&self.folder, args).expect_code(0).json()
    }
}

/// Makes `to` hold the sources that `from` holds, and no other; what was built in it stays.
fn mirror(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    let names = |folder: &Path| -> BTreeSet<_> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        entries.filter(|name| !PRODUCTS.iter().any(|product| name == *product)).collect()
    };
    let sources = names(from);
    for gone in names(to).difference(&sources) {
        let path = to.join(gone);
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
    }
    for name in sources {
        let (source, copy) = (from.join(&name), to.join(&name));
        if source.is_dir() {
            mirror(&source, &copy);
        } else if fs::read(&copy).ok() != Some(fs::read(&source).unwrap()) {
            fs::copy(source, copy).unwrap();
        }
    }
}

/// The names under `key` of what `inspect` says, without the versions of WASI interfaces.
#[track_caller]
fn names(of: &Value, key: &str) -> Vec<String> {
    let list = of[key].as_array().unwrap_or_else(|| panic!("no `{key}` in {of:#}"));
    let mut names: Vec<_> = list.iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

/// A request with a JSON body.
fn sending(path: &str, body: &Value) -> http::Request<Body> {
    let mut request = post(path, body.to_string());
    request.headers_mut().insert("content-type", "application/json".parse().unwrap());
    request
}

/// The same, to be sent more than once.
fn json_question(path: &str, body: &Value) -> Question {
    Question::post(path, "application/json", body.to_string())
}

/// What Rust's and Go's own libraries bring along, which reaches nothing.
fn is_inert(import: &str) -> bool {
    ["wasi:cli/", "wasi:clocks/", "wasi:io/", "wasi:random/"]
        .iter()
        .any(|package| import.starts_with(package))
}

#[test]
fn the_image_processor_reaches_nothing_and_exports_resize() {
    let example = Example::build("image-processor", "tenon.toml");
    let shown = example.inspect(&example.compose());
    assert_eq!(names(&shown, "exports"), ["demo:image-processor/processor@1.0.0"]);
    assert_eq!(
        shown["exports"][0]["functions"],
        json!(["resize: func(input: list<u8>, opts: resize-options) -> result<list<u8>, string>"])
    );
    let imports = names(&shown, "imports");
    assert!(imports.iter().all(|import| is_inert(import)), "{imports:?}");
}

/// A PNG of 3 × 2 red pixels.
const PNG: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAMAAAACCAIAAAASFvFNAAAAEElEQVR42mP4z8AAQQxwFgBB0gX7b/EWxwAAAABJRU5ErkJggg==";

/// A PNG of so many pixels, none of them compressed (RFC 2083; RFC 1950; RFC 1951, section 3.2.4).
fn png_of(width: u32, height: u32) -> Vec<u8> {
    let crc = |bytes: &[u8]| {
        !bytes.iter().fold(u32::MAX, |crc, byte| {
            (0..8)
                .fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
        })
    };
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut chunk = |kind: &[u8], data: &[u8]| {
        png.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
        let body = [kind, data].concat();
        png.extend(&body);
        png.extend(crc(&body).to_be_bytes());
    };
    let size = [width.to_be_bytes(), height.to_be_bytes()].concat();
    chunk(b"IHDR", &[&size[..], &[8, 2, 0, 0, 0]].concat());
    let row = |y: u32| std::iter::once(0).chain((0..width * 3).map(move |x| (x ^ y) as u8));
    let pixels: Vec<u8> = (0..height).flat_map(row).collect();
    let mut stored = vec![0x78, 0x01];
    let blocks = pixels.chunks(u16::MAX.into());
    let last = blocks.len() - 1;
    for (index, block) in blocks.enumerate() {
        let length = u16::try_from(block.len()).unwrap();
        stored.push(u8::from(index == last));
        stored.extend(length.to_le_bytes().into_iter().chain((!length).to_le_bytes()));
        stored.extend(block);
    }
    let (a, b) = pixels.iter().fold((1_u32, 0_u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    stored.extend((b << 16 | a).to_be_bytes());
    chunk(b"IDAT", &stored);
    chunk(b"IEND", b"");
    png
}

#[test]
fn the_image_processor_resizes_over_http() {
    let example = Example::build("image-processor", "tenon.toml");
    let server = example.serve();
    let resize = |input: &str, width: u32, format: &str| -> Reply {
        let body = json!({ "input": input, "opts": { "width": width, "height": 0, "format": format } });
        call(server.address(), sending("/processor/resize", &body))
    };

    let answer: Value = serde_json::from_str(&resize(PNG, 6, "png").expect(200)).unwrap();
    let picture = STANDARD.decode(answer.as_str().unwrap()).unwrap();
    // The signature, and width and height in the first chunk (PNG, 5.2 and 11.2.1).
    assert!(picture.starts_with(b"\x89PNG\r\n\x1a\n"), "{picture:?}");
    assert_eq!((&picture[16..20], &picture[20..24]), (&[0, 0, 0, 6][..], &[0, 0, 0, 4][..]));

    for (format, magic) in [("jpeg", &b"\xff\xd8\xff"[..]), ("webp", &b"RIFF"[..])] {
        let answer: Value = serde_json::from_str(&resize(PNG, 3, format).expect(200)).unwrap();
        assert!(STANDARD.decode(answer.as_str().unwrap()).unwrap().starts_with(magic), "{format}");
    }
    // Several megabytes, as no sender would have them.
    let large = STANDARD.encode(png_of(1_500, 1_000));
    assert!(large.len() > 4 << 20, "{}", large.len());
    let answer: Value = serde_json::from_str(&resize(&large, 30, "png").expect(200)).unwrap();
    let picture = STANDARD.decode(answer.as_str().unwrap()).unwrap();
    assert_eq!((&picture[16..20], &picture[20..24]), (&[0, 0, 0, 30][..], &[0, 0, 0, 20][..]));

    let refused = resize(PNG, 6, "gif").expect(422);
    assert!(refused.contains("there is no format"), "{refused}");
    let refused = resize("bm8gcGljdHVyZQ==", 6, "png").expect(422);
    assert!(refused.contains("not a PNG, JPEG or WebP file"), "{refused}");
    server.stop();

    let resizing = |input: &str, format: &str| {
        let opts = json!({ "width": 6, "height": 0, "format": format });
        json_question("/processor/resize", &json!({ "input": input, "opts": opts }))
    };
    let questions = [resizing(PNG, "png"), resizing(PNG, "webp"), resizing(PNG, "gif")];
    as_fresh(&example.tenon.serve(&example.folder), &questions, &[resizing(&large, "jpeg")]);
}

#[test]
fn payments_are_taken_and_refused_over_http() {
    let example = Example::build("payments", "tenon.toml");
    let server = example.serve();
    let pay = |amount: Value, currency: &str| {
        let body = json!({ "amount": amount, "currency": currency });
        call(server.address(), sending("/process-payment", &body))
    };

    let receipt = pay(json!(4.35), "EUR").expect(200);
    assert!(receipt.contains("4.35 EUR 20") && receipt.contains(" sha256:"), "{receipt}");
    let other = pay(json!(4.35), "EUR").expect(200);
    assert_ne!(receipt, other, "no two receipts are alike");
    for (amount, currency, why) in [
        (json!(10.5), "JPY", "more decimals than JPY"),
        (json!(0.1 + 0.2), "EUR", "more decimals than EUR"),
        (json!("NaN"), "EUR", "not a finite number"),
        (json!(0.5), "USD", "rule floor"),
        (json!(5), "eur", "ISO 4217"),
    ] {
        let refused = pay(amount, currency).expect(422);
        assert!(refused.contains(why), "{refused}");
    }
    server.stop();

    // A receipt has a random number in it.
    let paying = |amount: f64, currency: &str| {
        json_question("/process-payment", &json!({ "amount": amount, "currency": currency }))
    };
    let questions = [paying(4.35, "EUR"), paying(10.5, "JPY"), paying(0.5, "USD")];
    as_fresh(&example.tenon.serve(&example.folder), &questions, &[]);
}

#[test]
fn payments_see_a_clock_and_random_numbers_and_nothing_else() {
    let example = Example::build("payments", "tenon.toml");
    let shown = example.inspect(&example.compose());
    assert_eq!(names(&shown, "imports"), ["wasi:clocks/wall-clock@0.2.6", "wasi:random/random@0.2.6"]);
    assert_eq!(
        shown["exports"][0]["functions"],
        json!(["process-payment: func(amount: f64, currency: string) -> result<string, string>"])
    );
}

#[test]
fn the_metrics_app_gets_both_imports_from_components() {
    let example = Example::build("metrics-app", "composition.toml");
    let composed = example.compose();
    let shown = example.inspect(&composed);
    assert_eq!(names(&shown, "components"), ["app", "console", "math"]);
    assert_eq!(shown["exports"][0]["functions"], json!(["process-data: func(input: list<u8>) -> string"]));
    let imports = names(&shown, "imports");
    assert!(imports.iter().all(|import| is_inert(import)), "nothing of its own is left open: {imports:?}");

    let again = fs::read(example.compose()).unwrap();
    assert!(fs::read(&composed).unwrap() == again, "composing is reproducible");
}

#[test]
fn the_metrics_app_answers_and_logs_over_http_and_from_the_command_line() {
    let example = Example::build("metrics-app", "composition.toml");
    let expected = json!({ "count": 3, "skipped": 1, "metric": 2.5 });
    let server = example.serve();
    let mut request = post("/process-data", "1\n2\nthree\n4.5\n");
    request.headers_mut().insert("content-type", "application/octet-stream".parse().unwrap());
    let answer: Value = serde_json::from_str(&call(server.address(), request).expect(200)).unwrap();
    assert_eq!(serde_json::from_str::<Value>(answer.as_str().unwrap()).unwrap(), expected);
    server.logged(&["three"]);
    server.stop();
    let data = ["1\n2\nthree\n4.5\n", "7\n", "no number\n"];
    let questions = data.map(|data| Question::post("/process-data", "application/octet-stream", data));
    as_fresh(&example.tenon.serve(&example.folder), &questions, &[]);

    let composed = example.compose();
    let bytes = "[49, 10, 50, 10, 120, 10, 52, 46, 53]";
    let invocation = format!("process-data({bytes})");
    let args = ["call".as_ref(), composed.as_os_str(), invocation.as_ref(), "--json".as_ref()];
    let called = example.tenon.run(&example.folder, args).expect_code(0).json();
    assert!(called.to_string().contains("2.5"), "{called}");
}

#[test]
fn the_metrics_app_alone_leaves_its_imports_to_the_host() {
    let example = Example::build("metrics-app", "composition.toml");
    let shown = example.inspect(&example.folder.join(".tenon/app.wasm"));
    let mut imports = names(&shown, "imports");
    imports.retain(|import| !is_inert(import));
    assert_eq!(imports, ["demo:metrics/logging@1.0.0", "demo:metrics/math-ops@1.0.0"]);
}

/// The program of `examples/plugin-host`. It is built with what cargo calls a test run of the whole workspace, so that it
/// stands on the engine that is built already, and is up to date.
fn plugin_host() -> PathBuf {
    let _alone = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = Path::new(env!("CARGO_BIN_EXE_tenon")).parent().unwrap();
    let mut build = Command::new(env!("CARGO"));
    build.args(["test", "--no-run", "--locked", "--workspace", "--test", "plugin", "--target-dir"]);
    build.arg(folder.parent().unwrap()).current_dir(repository());
    if folder.ends_with("release") {
        build.arg("--release");
    }
    // What cargo tells this test about its package would be taken for the packages' own, and the engine be built again.
    let told = std::env::vars_os().map(|(name, _)| name);
    for name in told.filter(|name| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
    }) {
        build.env_remove(name);
    }
    let built = build.output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    folder.join("plugin-host")
}

#[test]
fn the_metrics_app_gets_both_imports_from_a_host() {
    let (example, host) = (Example::build("metrics-app", "composition.toml"), plugin_host());
    let run = |plugin: &Path| {
        let mut host = Command::new(&host)
            .arg(plugin)
            .env("TMPDIR", example.tenon.data())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = host.stdin.take().unwrap();
        input.write_all(b"1\n2\nthree\n4.5\n").unwrap();
        drop(input);
        host.wait_with_output().unwrap()
    };
    // As its README says.
    let output = run(&example.folder.join(".tenon/app.wasm"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{err}");
    assert_eq!(out, "{\"count\":3,\"skipped\":1,\"metric\":2.5}\n");
    let logged = [
        "plugin: debug: 14 bytes",
        "plugin: warn: line 3 is not a number: \"three\"",
        "plugin: info: {\"count\":3,\"skipped\":1,\"metric\":2.5}",
    ];
    assert_eq!(err.lines().collect::<Vec<_>>(), logged);

    // The same from components: the application cannot tell.
    let composed = run(&example.compose());
    let out = String::from_utf8_lossy(&composed.stdout);
    assert_eq!(out, "{\"count\":3,\"skipped\":1,\"metric\":2.5}\n", "{composed:?}");
    assert!(!String::from_utf8_lossy(&composed.stderr).contains("plugin: warn"), "its log is a component's");
}
