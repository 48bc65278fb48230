//! Compiled code: made once, used again, and never run when anybody has touched it.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tenon_testkit::client::{call, get};
use tenon_testkit::{Guests, Serving, Tenon};

use crate::support::tenon;

const GUEST: &str = "plain-root";
const ANSWER: &str = "plain-root GET /x\n";

fn start(tenon: &Tenon) -> Serving {
    tenon.serve(Guests::get(GUEST)).start()
}

/// Starts, checks that it answers, stops, and gives back what it printed and logged.
#[track_caller]
fn answers(tenon: &Tenon) -> String {
    let server = start(tenon);
    assert_eq!(call(server.address(), get("/x")).expect(200), ANSWER);
    let ended = server.stop();
    ended.stdout + &ended.stderr
}

/// The artifacts in a data directory.
fn artifacts(tenon: &Tenon) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![tenon.data().join("artifacts")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "cwasm") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

#[track_caller]
fn only_artifact(tenon: &Tenon) -> PathBuf {
    let mut found = artifacts(tenon);
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

fn identity(path: &Path) -> (u64, u64, SystemTime) {
    let metadata = fs::metadata(path).unwrap();
    (metadata.ino(), metadata.len(), metadata.modified().unwrap())
}

#[test]
fn a_second_start_compiles_nothing() {
    let tenon = tenon();
    answers(&tenon);
    let artifact = only_artifact(&tenon);
    let before = identity(&artifact);
    let said = answers(&tenon);
    assert_eq!(only_artifact(&tenon), artifact);
    assert_eq!(identity(&artifact), before, "the artifact was written again");
    assert!(said.contains("loaded"), "{said}");
    assert!(!said.contains("compiled"), "{said}");
}

#[test]
fn the_key_and_the_artifacts_are_the_users_alone() {
    let tenon = tenon();
    answers(&tenon);
    for private in [tenon.data().join("key"), only_artifact(&tenon), tenon.data().join("artifacts")] {
        let mode = fs::metadata(&private).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}: {mode:o}", private.display());
    }
    let mode = fs::metadata(tenon.data().join("key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_changed_byte_is_noticed_wherever_it_is() {
    let tenon = tenon();
    answers(&tenon);
    let artifact = only_artifact(&tenon);
    let sound = fs::read(&artifact).unwrap();
    let length = sound.len();
    for at in [0, 64, length / 4, length / 2, length * 3 / 4, length - 60, length - 20, length - 1] {
        let mut changed = sound.clone();
        changed[at] ^= 0x10;
        fs::write(&artifact, &changed).unwrap();
        answers(&tenon);
        assert_ne!(fs::read(only_artifact(&tenon)).unwrap(), changed, "byte {at} of {length} stays changed");
    }
}

#[test]
fn a_truncated_artifact_is_noticed() {
    let tenon = tenon();
    answers(&tenon);
    let artifact = only_artifact(&tenon);
    let sound = fs::read(&artifact).unwrap();
    for length in [sound.len() - 1, sound.len() / 2, 4096, 48, 8, 0] {
        fs::write(&artifact, &sound[..length]).unwrap();
        answers(&tenon);
        assert!(
            fs::metadata(only_artifact(&tenon)).unwrap().len() > 4096,
            "cut to {length} bytes, and left so"
        );
    }
}

#[test]
fn another_nodes_artifact_is_not_run() {
    let (ours, theirs) = (tenon(), tenon());
    answers(&ours);
    answers(&theirs);
    let (our_artifact, their_artifact) = (only_artifact(&ours), only_artifact(&theirs));
    assert_eq!(
        our_artifact.file_name(),
        their_artifact.file_name(),
        "the same component, engine and processor"
    );
    let foreign = fs::read(&their_artifact).unwrap();
    fs::write(&our_artifact, &foreign).unwrap();
    answers(&ours);
    assert_ne!(fs::read(only_artifact(&ours)).unwrap(), foreign, "the foreign artifact is still there");
}

#[test]
fn another_components_artifact_is_not_run() {
    let tenon = tenon();
    answers(&tenon);
    let ours = only_artifact(&tenon);
    let other = tenon.serve(Guests::get("plain-no-headers")).start();
    other.stop();
    let theirs = artifacts(&tenon).into_iter().find(|path| *path != ours).expect("a second artifact");
    fs::copy(&theirs, &ours).unwrap();
    answers(&tenon);
}

#[test]
fn what_is_no_artifact_at_all_is_not_run() {
    let tenon = tenon();
    answers(&tenon);
    let artifact = only_artifact(&tenon);
    let executable = fs::read("/proc/self/exe").unwrap();
    for content in [&b"not an artifact"[..], &[0; 100_000], &executable[..executable.len().min(4 << 20)]] {
        fs::write(&artifact, content).unwrap();
        answers(&tenon);
    }
}

#[test]
fn a_new_key_makes_the_old_artifacts_worthless() {
    let tenon = tenon();
    answers(&tenon);
    let key = tenon.data().join("key");
    let before = fs::read(&key).unwrap();
    let artifact = fs::read(only_artifact(&tenon)).unwrap();
    fs::remove_file(&key).unwrap();
    answers(&tenon);
    assert_ne!(fs::read(&key).unwrap(), before);
    assert_ne!(fs::read(only_artifact(&tenon)).unwrap(), artifact, "sealed with the lost key, and kept");
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let tenon = tenon();
    answers(&tenon);
    let key = tenon.data().join("key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    tenon.serve(Guests::get(GUEST)).refused().expect_code(1).expect_stderr(&["key", "600"]);
}

#[test]
fn two_nodes_that_start_at_once_in_one_data_directory_agree() {
    let tenon = tenon();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(|| answers(&tenon))).collect();
        for thread in threads {
            thread.join().unwrap();
        }
    });
    only_artifact(&tenon);
    answers(&tenon);
}

/// `tenon compile` of the guest, with the artifact written to `root.cwasm` in the data directory.
fn compiled(tenon: &Tenon) -> PathBuf {
    let out = tenon.data().join("root.cwasm");
    let guest = Guests::get(GUEST);
    let args = ["compile".as_ref(), guest.as_os_str(), "-o".as_ref(), out.as_os_str()];
    tenon.run(tenon.data(), args).expect_code(0);
    out
}

#[test]
fn an_artifact_of_this_node_is_served() {
    let tenon = tenon();
    let server = tenon.serve(compiled(&tenon)).start();
    assert_eq!(call(server.address(), get("/x")).expect(200), ANSWER);
    server.stop();
    // The component itself finds it in the store.
    let said = answers(&tenon);
    assert!(said.contains("loaded") && !said.contains("compiled"), "{said}");
}

#[test]
fn an_artifact_of_another_node_or_a_changed_one_is_refused() {
    let (ours, theirs) = (tenon(), tenon());
    let artifact = compiled(&ours);
    theirs.serve(&artifact).refused().expect_code(1).expect_stderr(&["root.cwasm"]);

    let sound = fs::read(&artifact).unwrap();
    for at in [0, sound.len() / 2, sound.len() - 60, sound.len() - 1] {
        let mut changed = sound.clone();
        changed[at] ^= 1;
        fs::write(&artifact, changed).unwrap();
        ours.serve(&artifact).refused().expect_code(1).expect_stderr(&["root.cwasm"]);
    }
    for length in [0, 10, sound.len() / 2, sound.len() - 1] {
        fs::write(&artifact, &sound[..length]).unwrap();
        ours.serve(&artifact).refused().expect_code(1).expect_stderr(&["root.cwasm"]);
    }
}
