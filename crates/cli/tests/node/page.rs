//! The page of the admin API, in a real browser.

mod browser;

use std::time::Duration;

use serde_json::{Value, json};
use tenon_testkit::{DEADLINE, until};

use self::browser::Browser;
use crate::accounting::deploy_composed;
use crate::load::{Asking, Load};
use crate::support::Site;

const HOST: &str = "shop.example";

/// What the table of a composition shows: of each component its name, its processor time a second and its share of that, both
/// since the start, its memory, and the most of that.
const COMPONENTS: &str = "return [...document.querySelectorAll('tbody tr')].map((row) => \
    [row.cells[0], ...row.querySelectorAll('td span')].map((it) => it.textContent))";

/// What is kept of a token, and where.
const KEPT: &str = "return [sessionStorage.length, localStorage.length, document.cookie]";

/// The number that a figure begins with.
fn number(figure: &str) -> Option<f64> {
    figure.split(' ').next()?.replace(',', "").parse().ok()
}

/// What is shown of the component `name`, once it was seen at work since the last look.
fn at_work(browser: &Browser, name: &str) -> Vec<String> {
    until("a component at work on the page", DEADLINE, || {
        let rows: Vec<Vec<String>> = serde_json::from_value(browser.run(COMPONENTS)).unwrap();
        let row = rows.into_iter().find(|row| row[0] == name)?;
        (number(&row[1])? > 0.0).then_some(row)
    })
}

/// Waits until what `selector` finds is shown with all of `texts`.
fn shows(browser: &Browser, selector: &str, texts: &[&str]) -> String {
    until(&format!("{selector} with {texts:?}"), DEADLINE, || {
        let shown = browser.text(selector);
        texts.iter().all(|text| shown.contains(text)).then_some(shown)
    })
}

#[test]
fn the_page_shows_what_each_component_takes_to_whoever_has_a_token() {
    let Some(browser) = Browser::start() else { return };
    let site = Site::of(&["acme", "zenith"]);
    deploy_composed(&site, HOST, "worker");
    let load = Load::start(Asking {
        address: site.address(),
        host: HOST.into(),
        path: "/".into(),
        clients: 1,
        pause: Duration::from_millis(2),
    });

    // Whoever has no token sees nothing, and is told how to come by one.
    browser.open(&site.url());
    shows(&browser, "#door", &["tenon token create --verb read", "node/admin-token"]);
    browser.enter("#token", "tenon_0123456789ab_00");
    shows(&browser, "#trouble", &["does not know this token", "tenon token create"]);
    browser.enter("#token", "not a token");
    shows(&browser, "#trouble", &["no token"]);
    assert_eq!((browser.text("main"), browser.run(KEPT)), (String::new(), json!([0, 0, ""])));

    let token = std::fs::read_to_string(site.tenon.data().join("node/admin-token")).unwrap();
    browser.enter("#token", token.trim());
    let worker = at_work(&browser, "worker");
    assert!(number(&worker[2]) > Some(50.0) && number(&worker[3]) > Some(0.0), "{worker:?}");
    assert_eq!(worker[6], "1.0 MiB", "{worker:?}");
    let rows = browser.run(COMPONENTS);
    let front = rows.as_array().unwrap().iter().find(|row| row[0] == "front").unwrap();
    assert_eq!(front[6], "64 KiB", "{rows}");
    shows(&browser, "article", &["acme / shop", "r1", "requests/s", "2 components"]);
    assert_eq!(browser.run(KEPT), json!([1, 0, ""]));
    // The style is applied, and so are the widths that the script sets: the policy lets both through.
    let bars = browser.run(
        "return [...document.querySelectorAll('.bar')].map((bar) => [getComputedStyle(bar).display, \
         [...bar.children].reduce((sum, piece) => sum + piece.offsetWidth, 0) / bar.offsetWidth, bar.ariaLabel])",
    );
    let bars = bars.as_array().unwrap();
    let is_whole = |bar: &Value| bar[0] == "flex" && bar[1].as_f64().is_some_and(|width| width > 0.9);
    assert!(bars.len() == 3 && bars.iter().all(is_whole), "{bars:?}");
    assert!(bars[0][2].as_str().unwrap().contains("worker"), "{bars:?}");

    // What is asked for is found, and what is not there is not.
    browser.enter("#filter", "worker");
    shows(&browser, "article", &["acme / shop"]);
    browser.enter("#filter", "-of-nobody");
    shows(&browser, "#none", &["Nothing is called that"]);

    // Whoever has another tenant's token sees nothing of this one.
    browser.run("document.querySelector('#filter').value = ''; document.querySelector('#leave').click()");
    assert_eq!((browser.text("main"), browser.run(KEPT)), (String::new(), json!([0, 0, ""])));
    let made = site.json(["token", "create", "--tenant", "zenith", "--verb", "read"]);
    browser.enter("#token", made["secret"].as_str().unwrap());
    shows(&browser, "#none", &["No app was asked"]);

    // A node that does not answer is said not to.
    crate::load::expect_all(&load.stop(), 200);
    site.node.stop();
    shows(&browser, "#trouble", &["does not answer", "the figures are of"]);
    browser.quit();
}
