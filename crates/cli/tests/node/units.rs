//! What starts a node on a machine: the unit file, the container, and the arguments that the documentation gives.

use std::fs::File;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use rustix::process::{Signal, kill_process};
use tenon_testkit::client::{call, get};
use tenon_testkit::{DEADLINE, Tenon, repository, until};

use crate::manager::{Manager, Orphan, main_process};

fn read(file: &str) -> String {
    std::fs::read_to_string(repository().join(file)).unwrap()
}

/// Has `tenon node` read these arguments, without starting anything: every flag has to be one, with values that it takes.
#[track_caller]
fn accepted(tenon: &Tenon, args: &[&str]) {
    let help = tenon.run(tenon.data(), ["node", "--help"]).expect_code(0).stdout;
    for flag in args.iter().filter(|arg| arg.starts_with("--")) {
        assert!(
            help.split_whitespace().any(|word| word.trim_end_matches(',') == *flag),
            "`tenon node` has no {flag}:\n{help}"
        );
    }
    // What is wrong with them is said before a help that comes after them.
    tenon.run(tenon.data(), [&["node"], args, &["--help"]].concat()).expect_code(0);
}

/// The value of a line `KEY=…` of a unit file.
fn of_unit<'a>(unit: &'a str, key: &str) -> &'a str {
    unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap()
}

/// The words between backticks after `TENON_ARGS`.
fn further_args(text: &str) -> Vec<Vec<&str>> {
    let after = text.split("TENON_ARGS").skip(1);
    let quoted = after.filter_map(|rest| {
        let rest = rest.strip_prefix('=').or_else(|| rest.split_once('`').map(|(_, rest)| rest))?;
        rest.split('`').next()
    });
    quoted.map(|args| args.split_whitespace().collect()).filter(|args: &Vec<&str>| !args.is_empty()).collect()
}

#[test]
fn what_the_unit_file_starts_is_accepted() {
    let tenon = Tenon::new(env!("CARGO_BIN_EXE_tenon"));
    let unit = read("deploy/tenon-node.service");
    let start: Vec<&str> = of_unit(&unit, "ExecStart").split_whitespace().collect();
    let ["/usr/local/bin/tenon", "node", args @ .., "$TENON_ARGS"] = &start[..] else { panic!("{start:?}") };
    assert!(args.contains(&"--listen") && args.contains(&"--admin"), "{args:?}");
    accepted(&tenon, args);
    let pages = [unit.clone(), read("docs/operations.md")];
    let further: Vec<_> = pages.iter().flat_map(|page| further_args(page)).collect();
    assert!(further.len() >= 2, "{further:?}");
    for more in further.iter().filter(|more| more[0].starts_with("--")) {
        accepted(&tenon, &[args, more].concat());
    }
    // The directory that it may write to is the one that the node is told.
    assert_eq!(
        of_unit(&unit, "Environment"),
        format!("TENON_DATA=/var/lib/{}", of_unit(&unit, "StateDirectory"))
    );
    assert_eq!(of_unit(&unit, "LimitCORE"), "0");
}

/// The words of a command of the unit, for this node: the program that was built, on these addresses, without further arguments.
fn as_here(command: &str, listen: &str, admin: &str) -> Vec<String> {
    let here = |word: &str| match word {
        "/usr/local/bin/tenon" => env!("CARGO_BIN_EXE_tenon").to_owned(),
        "0.0.0.0:80" => listen.to_owned(),
        "127.0.0.1:8081" => admin.to_owned(),
        _ => word.to_owned(),
    };
    command.split_whitespace().filter(|word| *word != "$TENON_ARGS").map(here).collect()
}

/// What systemd does with the unit, but for what it takes away from the process: starts it, waits until it says that it serves, and
/// reloads it.
#[test]
fn what_the_unit_file_starts_serves_and_is_replaced_by_what_it_reloads() {
    let unit = read("deploy/tenon-node.service");
    assert_eq!((of_unit(&unit, "Type"), of_unit(&unit, "NotifyAccess")), ("notify", "all"));
    let (start, reload) = (of_unit(&unit, "ExecStart"), of_unit(&unit, "ExecReload"));
    assert_eq!(reload.replacen(" --replace --detach", "", 1), start, "both have the same arguments");
    let (tenon, manager) = (Tenon::new(env!("CARGO_BIN_EXE_tenon")), Manager::new());
    let words = as_here(start, "any", "127.0.0.1:0");
    // Where it listens, the testkit says.
    let at = words.iter().position(|word| word == "--listen").unwrap();
    assert_eq!(words[at + 1], "any");
    let others = words[1..at].iter().chain(&words[at + 2..]);
    let mut first = tenon.serving(others).listen("0.0.0.0:0").env("NOTIFY_SOCKET", manager.path()).start();
    assert_eq!(main_process(&manager.told()), i32::try_from(first.id()).unwrap());
    let said = first.logged(&["admin", "http://"]);
    let admin = said.rsplit_once("http://").unwrap().1;
    let here = SocketAddr::from(([127, 0, 0, 1], first.address().port()));
    assert_eq!(call(here, get("/")).status, 404, "it serves, and has no app");

    let words = as_here(reload, &first.address().to_string(), admin);
    let log = tenon.data().join("reload.log");
    let printed = tenon.data().join("reload.out");
    let mut reload = Command::new(&words[0])
        .args(&words[1..])
        .env("TENON_DATA", tenon.data())
        .env("NOTIFY_SOCKET", manager.path())
        .stdin(Stdio::null())
        // Not pipes: the next node has them too, and goes on.
        .stdout(File::create(&printed).unwrap())
        .stderr(File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let reloaded = until("the reload to return", DEADLINE, || reload.try_wait().unwrap());
    let log = std::fs::read_to_string(&log).unwrap();
    assert!(reloaded.success(), "{log}");
    let next = Orphan(main_process(&manager.told()));
    let printed = std::fs::read_to_string(&printed).unwrap();
    assert!(printed.starts_with("serving 0 apps on http://0.0.0.0:"), "{printed} {log}");
    assert!(first.wait(DEADLINE).success(), "{}", first.log());
    assert!(next.is_running(), "the next node ended with what started it: {log}");
    assert_eq!(call(here, get("/")).status, 404);
    kill_process(next.pid(), Signal::TERM).unwrap();
    assert_eq!(manager.told(), "STOPPING=1");
    until("the end of the next node", DEADLINE, || (!next.is_running()).then_some(()));
}

#[test]
fn a_reload_whose_node_does_not_start_fails_and_says_so() {
    let tenon = Tenon::new(env!("CARGO_BIN_EXE_tenon"));
    let node = tenon.node().start();
    let (listen, admin) = (node.address().to_string(), node.admin().to_string());
    let file = tenon.data().join("no.pem");
    let tls = ["--tls-listen", "127.0.0.1:0", "--tls", file.to_str().unwrap(), file.to_str().unwrap()];
    let reload = ["node", "--replace", "--detach", "--listen", &listen, "--admin", &admin];
    tenon
        .run(tenon.data(), [&reload[..], &tls[..]].concat())
        .expect_code(1)
        .expect_stderr(&["tls-files", "node-not-replaced"]);
    assert_eq!(call(node.address(), get("/")).status, 404, "the one before goes on");
    node.stop();
}

#[test]
fn the_documentation_says_what_each_line_of_the_unit_file_is_for() {
    let (unit, page) = (read("deploy/tenon-node.service"), read("docs/operations.md"));
    let (_, section) = page.split_once("\n### The unit\n").expect("there is a section about it");
    let section = section.split("\n#").next().unwrap();
    let (_, service) = unit.split_once("[Service]").unwrap();
    let service = service.split("\n[").next().unwrap();
    let keys = service.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
    let unsaid: Vec<_> =
        keys.map(|(key, _)| key).filter(|key| !section.contains(&format!("`{key}`"))).collect();
    assert!(unsaid.is_empty(), "docs/operations.md does not say what {unsaid:?} are for");
}

#[test]
fn kernel_settings_are_names_and_numbers() {
    let settings = read("deploy/60-tenon.conf");
    let lines = settings.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let settings: Vec<(&str, u64)> = lines
        .map(|line| {
            let (name, value) = line.split_once(" = ").unwrap_or_else(|| panic!("{line}"));
            (name, value.parse().unwrap_or_else(|_| panic!("{line}")))
        })
        .collect();
    // Without it the kernel ends connections that the old process has not accepted when a node is replaced.
    assert!(settings.contains(&("net.ipv4.tcp_migrate_req", 1)), "{settings:?}");
    for (name, _) in settings {
        let known = ["vm.", "net.core.", "net.ipv4.", "net.unix."];
        assert!(known.iter().any(|folder| name.starts_with(folder)), "{name}");
    }
}

#[test]
fn what_the_container_starts_is_accepted() {
    let tenon = Tenon::new(env!("CARGO_BIN_EXE_tenon"));
    let file = read("deploy/Containerfile");
    let list = |key: &str| -> Vec<String> {
        let line = file.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        serde_json::from_str(line).unwrap()
    };
    assert_eq!(list("ENTRYPOINT "), ["/usr/local/bin/tenon", "node"]);
    let command = list("CMD ");
    accepted(&tenon, &command.iter().map(String::as_str).collect::<Vec<_>>());
    // What is said twice says the same.
    let after = |key: &str| {
        let line = file.lines().find_map(|line| line.trim_start_matches("#").trim_start().split_once(key));
        line.unwrap_or_else(|| panic!("no {key}")).1.split_whitespace().next().unwrap()
    };
    assert_eq!(after("USER "), after("--uid "));
    assert_eq!(after("ENV TENON_DATA="), after("--home-dir "));
    assert_eq!(after("VOLUME "), after("--home-dir "));
    let copied = file.lines().find_map(|line| line.strip_prefix("COPY --chmod=755 ")).unwrap();
    assert_eq!(copied, "${PROGRAM} /usr/local/bin/tenon");
    assert_eq!(after("ARG PROGRAM="), "target/shipped/tenon");
    assert_eq!(after("--build-arg PROGRAM="), "target/release/tenon");
    assert_eq!(after("--file "), "deploy/Containerfile");
    let exposed = file.lines().find_map(|line| line.strip_prefix("EXPOSE ")).unwrap();
    assert!(command[1].ends_with(":8080") && exposed.contains("8080/tcp"), "{exposed}");
    // And what its comment puts in that place.
    let line = file.lines().find_map(|line| line.split_once("--listen 0.0.0.0:8080 --tls-listen ")).unwrap();
    let further = format!("--listen 0.0.0.0:8080 --tls-listen {}", line.1);
    accepted(&tenon, &further.split_whitespace().collect::<Vec<_>>());
}

#[test]
fn systemd_understands_the_unit_file() {
    let there = Command::new("systemd-analyze").arg("--version").output();
    if !there.is_ok_and(|it| it.status.success()) {
        eprintln!("skipped: there is no systemd-analyze here");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tenon-node.service");
    // The program is where it was built, and not where it is installed.
    let unit = read("deploy/tenon-node.service").replace("/usr/local/bin/tenon", env!("CARGO_BIN_EXE_tenon"));
    std::fs::write(&file, unit).unwrap();
    let verify = |file: &std::path::Path| {
        let said = Command::new("systemd-analyze").arg("verify").arg(file).output().unwrap();
        (said.status.success(), String::from_utf8_lossy(&said.stderr).into_owned())
    };
    let about =
        |said: &str| said.lines().filter(|line| line.contains("tenon-node")).collect::<Vec<_>>().join("\n");
    let (well, said) = verify(&file);
    assert!(well && about(&said).is_empty(), "{said}");
    // It would say so.
    let wrong = std::fs::read_to_string(&file).unwrap().replace("Restart=always", "Restart=seldom");
    std::fs::write(&file, wrong).unwrap();
    assert!(about(&verify(&file).1).contains("restart specifier"), "{:?}", verify(&file));
}
