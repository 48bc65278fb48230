//! A real browser without windows, driven over WebDriver (<https://www.w3.org/TR/webdriver2/>).

use std::env::consts::ARCH;
use std::ffi::OsString;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tenon_testkit::client::{call, full, request};
use tenon_testkit::{Tenon, Watched, repository};

/// Where `cargo xtask test` unpacks Debian's packages.
const UNPACKED: &str = ".tools/browser";
/// Set by `cargo xtask test` where it has found or set up a browser: then a test that finds none fails.
const REQUIRED: &str = "TENON_BROWSER_REQUIRED";
/// The member of an answer that an element's id is (section 11 of the specification).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// The key of that name (section 17.4.2).
const ENTER: char = '\u{e007}';
/// It asks nobody but whom it is told to ask, and needs no more of the machine than a process has.
const FLAGS: [&str; 10] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1200,1000",
    // When what drives it is gone, it ends.
    "--remote-debugging-pipe",
];

/// A browser with one page, and a profile of its own.
pub(crate) struct Browser {
    address: SocketAddr,
    session: String,
    _driver: Watched,
    // Goes after who writes into it.
    _profile: Tenon,
}

impl Browser {
    /// Starts one. Where there is none to start it says so, for everybody to see, and the test is skipped.
    ///
    /// # Panics
    /// When there is none and one is required, or it does not start.
    pub(crate) fn start() -> Option<Self> {
        let Some((program, mut wanted)) = find() else {
            assert!(
                std::env::var_os(REQUIRED).is_none(),
                "{REQUIRED} is set, and there is neither a browser in {UNPACKED} nor `chromium` and `chromedriver`"
            );
            let test = std::thread::current().name().unwrap_or("a test").to_owned();
            let _ = writeln!(
                std::io::stderr(),
                "SKIPPED 1 test: {test}: there is no browser (install Debian's packages `chromium` and `chromium-driver`)"
            );
            return None;
        };
        let profile = Tenon::new("/usr/bin/env");
        let folder = profile.data().display();
        let args = [OsString::from(format!("HOME={folder}"))].into_iter().chain(program);
        let driver = profile.watch(profile.data(), args.chain(["--port=0".into()]));
        let line = driver.shows(1, &["started successfully on port "]);
        let port = line.rsplit(' ').next().and_then(|port| port.trim_end_matches('.').parse::<u16>().ok());
        let address = SocketAddr::from(([127, 0, 0, 1], port.unwrap()));
        let own = format!("--user-data-dir={folder}/profile");
        wanted["goog:chromeOptions"]["args"] = FLAGS.into_iter().chain([own.as_str()]).collect();
        let made = ask(address, "/session", &json!({ "capabilities": { "alwaysMatch": wanted } }));
        let session = made["sessionId"].as_str().unwrap().to_owned();
        Some(Self { address, session, _driver: driver, _profile: profile })
    }

    /// Opens `url` and waits until it is there.
    #[track_caller]
    pub(crate) fn open(&self, url: &str) {
        self.ask("/url", &json!({ "url": url }));
    }

    /// Types `text` into the field that `selector` finds, as a person would, and the key that sends it.
    #[track_caller]
    pub(crate) fn enter(&self, selector: &str, text: &str) {
        let found = self.ask("/element", &json!({ "using": "css selector", "value": selector }));
        let field = found[ELEMENT].as_str().unwrap().to_owned();
        self.ask(&format!("/element/{field}/value"), &json!({ "text": format!("{text}{ENTER}") }));
    }

    /// What a function with this body returns in the page.
    #[track_caller]
    pub(crate) fn run(&self, body: &str) -> Value {
        self.ask("/execute/sync", &json!({ "script": body, "args": [] }))
    }

    /// The text that a person sees of what `selector` finds; none of what is hidden.
    #[track_caller]
    pub(crate) fn text(&self, selector: &str) -> String {
        let text = self.run(&format!("return document.querySelector({}).innerText", json!(selector)));
        let is_shown =
            self.run(&format!("return document.querySelector({}).checkVisibility()", json!(selector)));
        if is_shown == true { text.as_str().unwrap_or_default().to_owned() } else { String::new() }
    }

    /// Ends it.
    pub(crate) fn quit(self) {
        let path = format!("/session/{}", self.session);
        call(self.address, request("DELETE", &path, full(""))).expect(200);
    }

    #[track_caller]
    fn ask(&self, path: &str, body: &Value) -> Value {
        ask(self.address, &format!("/session/{}{path}", self.session), body)
    }
}

#[track_caller]
fn ask(address: SocketAddr, path: &str, body: &Value) -> Value {
    let text = call(address, request("POST", path, full(body.to_string()))).expect(200);
    let mut answer: Value = serde_json::from_str(&text).unwrap();
    answer["value"].take()
}

/// What drives a browser, and what it is told of which.
fn find() -> Option<(Vec<OsString>, Value)> {
    let root = repository().join(UNPACKED);
    let driver = root.join("usr/bin/chromedriver");
    let browser = root.join("usr/lib/chromium/chromium-headless-shell");
    if driver.is_file() && browser.is_file() {
        // Their libraries lie beside them, those of sound in a folder of their own.
        let (usr, lib) = (root.join("usr/lib").display().to_string(), root.join("lib").display().to_string());
        let libraries = format!(
            "LD_LIBRARY_PATH={usr}/{ARCH}-linux-gnu:{usr}/{ARCH}-linux-gnu/pulseaudio:{lib}/{ARCH}-linux-gnu"
        );
        let wanted =
            json!({ "browserName": "chrome-headless-shell", "goog:chromeOptions": { "binary": browser } });
        return Some((vec![libraries.into(), driver.into()], wanted));
    }
    let runs = |program: &str| {
        let status =
            Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    (runs("chromedriver") && runs("chromium"))
        .then(|| (vec!["chromedriver".into()], json!({ "browserName": "chrome" })))
}
