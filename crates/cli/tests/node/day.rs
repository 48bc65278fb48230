//! A day in the life of a node: the commands of docs/operations.md, one after the other, as they stand there.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tenon_testkit::client::{Reply, call, get, post};
use tenon_testkit::{Finished, Tenon, repository};

use crate::examples;
use crate::load::{Asking, Load, expect_all};
use crate::marks::{Before, Mark};
use crate::support::{Site, to};

const SHOP: &str = "shop.example";
const GATEWAY: &str = "api.example";
/// Of the customer whose agreement the example has.
const KEY: &str = "acme-web-shop-key";

/// The commands of the page that have not been run.
struct Page {
    commands: VecDeque<String>,
    /// What the person has set in their shell.
    shell: String,
    /// Where they are.
    folder: PathBuf,
}

impl Page {
    const SECTION: &str = "\n## A day in the life\n";

    fn open(folder: PathBuf) -> Self {
        let page = std::fs::read_to_string(repository().join("docs/operations.md")).unwrap();
        let (_, section) = page.split_once(Self::SECTION).expect("docs/operations.md tells of a day");
        let section = section.split("\n## ").next().unwrap();
        let commands = section.lines().filter_map(|line| line.strip_prefix("$ ")).map(str::to_owned);
        Self { commands: commands.collect(), shell: String::new(), folder }
    }

    /// The next command, which has to begin with `begins`, as it is run here: the node of the page is this one.
    #[track_caller]
    fn next(&mut self, site: &Site, begins: &str) -> String {
        let command = self.commands.pop_front().unwrap_or_else(|| panic!("the page ends before `{begins}`"));
        assert!(command.starts_with(begins), "the page says `{command}`, and not `{begins} …`");
        let first_token = format!("cat {}/", site.tenon.data().display());
        command
            .replace("http://127.0.0.1:8081", &site.url())
            .replace("sudo cat /var/lib/tenon/", &first_token)
    }

    /// The next command is one for the shell alone.
    #[track_caller]
    fn set(&mut self, site: &Site, begins: &str) {
        let command = self.next(site, begins);
        self.shell.push_str(&format!("{command}\n"));
    }

    /// What runs the next command in the person's shell.
    #[track_caller]
    fn command(&mut self, site: &Site, begins: &str) -> impl FnOnce() -> Finished + Send + 'static {
        let binary = Path::new(env!("CARGO_BIN_EXE_tenon"));
        let command = self.next(site, begins);
        let binaries = binary.parent().unwrap().display();
        let script = format!("PATH={binaries}:$PATH\n{}{command}", self.shell);
        let folder = self.folder.clone();
        move || {
            let shell = Tenon::new("/bin/sh");
            shell.run_for(examples::BUILD_DEADLINE, &folder, ["-c", script.as_str()])
        }
    }

    #[track_caller]
    fn run(&mut self, site: &Site, begins: &str) -> Finished {
        self.command(site, begins)()
    }
}

/// What a client of the gateway has left.
fn left(site: &Site) -> u32 {
    let mut request = to(GATEWAY, get("/zones"));
    request.headers_mut().insert("x-api-key", KEY.parse().unwrap());
    let reply = call(site.address(), request);
    let left = reply.header("x-ratelimit-remaining").parse();
    left.unwrap_or_else(|_| panic!("{reply:?}"))
}

fn cheapest(site: &Site) -> Value {
    let reply: Reply = site.get(SHOP, "/products/cheapest");
    serde_json::from_str::<Value>(&reply.expect(200)).unwrap()["cents"].clone()
}

#[test]
fn a_day_in_the_life() {
    let tenon = Tenon::new(env!("CARGO_BIN_EXE_tenon"));
    let mut site = Site { node: tenon.node().start(), tenon };
    let (address, admin) = (site.address().to_string(), site.node.admin().to_string());
    let shop = examples::built(&site.tenon, "storefront");
    examples::built(&site.tenon, "api-gateway");
    let mut page = Page::open(examples::workshop());

    // In the morning: two tenants, each with a token of its own and an app.
    page.set(&site, "export TENON_NODE=");
    page.set(&site, "export TENON_TOKEN=");
    page.set(&site, "umask 077");
    page.run(&site, "tenon tenant set acme").expect_code(0);
    page.run(&site, "tenon tenant set zenith").expect_code(0);
    page.run(&site, "tenon token create --tenant acme --verb deploy").expect_code(0);
    page.run(&site, "tenon token create --tenant zenith --verb deploy").expect_code(0);
    page.run(&site, "tenon deploy examples/storefront --tenant acme").expect_code(0);
    page.run(&site, "tenon deploy examples/api-gateway --tenant zenith").expect_code(0);
    page.run(&site, "tenon deploy examples/storefront --tenant zenith")
        .expect_code(1)
        .expect_stderr(&["admin-forbidden"]);
    assert_eq!(cheapest(&site), 1290);
    let login = call(site.address(), to(SHOP, post("/login", json!({ "user": "ada" }).to_string())));
    let login: Value = serde_json::from_str(&login.expect(200)).unwrap();
    let bearer = format!("Bearer {}", login["token"].as_str().unwrap());
    let orders = || {
        let mut request = to(SHOP, get("/orders"));
        request.headers_mut().insert(http::header::AUTHORIZATION, bearer.parse().unwrap());
        call(site.address(), request).expect(200)
    };
    let ordered = orders();

    // At noon: a version whose `auth` fails goes out in steps, under load, and comes back by itself.
    let asking = |host: &str, path: &str, pause| Asking {
        address: site.address(),
        host: host.into(),
        path: path.into(),
        clients: 3,
        pause: Duration::from_millis(pause),
    };
    let neighbour = Load::start(asking(GATEWAY, "/health", 1));
    let authorized = (http::header::AUTHORIZATION, bearer.parse().unwrap());
    let customers = Load::start_with(asking(SHOP, "/orders", 10), Some(authorized));
    customers.more(30);
    let auth = shop.join("auth/src/component.rs");
    let sound = "let claims = token::verify(";
    let mistaken = "assert!(token.is_empty(), \"a mistake\");\n        let claims = token::verify(";
    examples::replace(&auth, sound, mistaken);
    page.run(&site, "tenon deploy examples/storefront --tenant acme --canary")
        .expect_code(1)
        .expect_stderr(&["rollout-reverted", "r2 was sent back; r1 serves: it crashed"]);
    let said = page.run(&site, "tenon logs acme/storefront").expect_code(0).stdout;
    assert!(said.contains("guest-trap"), "{said}");
    let customers = customers.stop();
    let (well, met): (Vec<_>, Vec<_>) = customers.iter().partition(|one| one.status == 200);
    assert!(met.iter().any(|one| one.code == "guest-trap"), "nobody met the bad version");
    assert!(met.iter().all(|one| ["guest-trap", "circuit-open"].contains(&one.code.as_str())), "{met:?}");
    assert!(well.len() > met.len(), "{} of {} customers were served", well.len(), customers.len());
    assert_eq!(orders(), ordered, "the version before has everybody again");
    expect_all(&neighbour.stop(), 200);

    // In the evening: the machine loses power while the next version is compiled.
    examples::replace(&auth, mistaken, sound);
    examples::replace(&shop.join("storefront/src/shop.ts"), "cents: 1290", "cents: 1190");
    let counted: Vec<u32> = (0..5).map(|_| left(&site)).collect();
    let revisions = site.json(["revisions", "acme/storefront"]);
    let before = Before::of(&site, "acme/storefront");
    let deploying = std::thread::spawn(page.command(&site, "tenon deploy examples/storefront --tenant acme"));
    assert!(before.wait(&site, Mark::Compiling, &deploying), "{:?}", deploying.join());
    site.node.kill();
    deploying.join().unwrap().expect_code(1).expect_stderr(&["node-"]);

    // It comes back: nothing that was acknowledged is lost, and nothing is there that was not.
    site.node = site.tenon.node_with_admin(&admin).listen(address.as_str()).start();
    let neighbour = Load::start(Asking {
        address: site.address(),
        host: GATEWAY.into(),
        path: "/health".into(),
        clients: 3,
        pause: Duration::from_millis(1),
    });
    assert_eq!(left(&site), counted[4] - 1, "what the gateway had counted: {counted:?}");
    assert_eq!(cheapest(&site), 1290);
    assert_eq!(site.json(["revisions", "acme/storefront"])["revisions"], revisions["revisions"]);
    assert_eq!(site.json(["rollout", "acme/storefront"])["state"], "reverted");
    let tenants = site.json(["tenant", "list"]);
    let quota = |at: usize| &tenants["tenants"][at]["quota"]["requests_per_second"];
    assert_eq!((quota(0), quota(1)), (&500.into(), &10_000.into()), "{tenants:#}");

    // The same command once more finishes the deploy; what was uploaded is not sent again.
    let again = page.run(&site, "tenon deploy examples/storefront --tenant acme").expect_code(0);
    assert!(again.stdout.contains("acme/storefront r3 serves"), "{}", again.stdout);
    assert!(!again.stderr.contains("uploaded"), "{}", again.stderr);
    assert_eq!(cheapest(&site), 1190);
    neighbour.more(100);
    expect_all(&neighbour.stop(), 200);

    // Who did what is on record.
    page.run(&site, "tenon audit").expect_code(0);
    let audit = site.json(["audit", "--limit", "1000"]);
    assert_eq!(audit["intact"], true);
    let did = |what: &str| {
        audit["entries"].as_array().unwrap().iter().filter(|entry| entry["what"] == what).count()
    };
    assert_eq!(did("deploy"), 4, "{audit:#}");
    assert!(page.commands.is_empty(), "nobody has run {:?}", page.commands);
    site.node.stop();
}
