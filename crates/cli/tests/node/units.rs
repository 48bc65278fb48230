//! What starts a node on a machine: the unit file, the container, and the arguments that the documentation gives.

use std::process::Command;

use tenon_testkit::{Tenon, repository};

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
