//! What was acknowledged is there afterwards, whatever happened in between; what is damaged is said to be.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tenon_model::store::{Blobs as _, Collection, KeyValue, Message, Messages as _, StoreError};
use tenon_state::{Embedded, Quota};

/// How often the writing process is killed.
const KILLS: u64 = 12;
/// Writers of the process that is killed.
const WRITERS: u32 = 4;

fn bucket() -> Collection {
    Collection::new("tenant", "app", "bucket").unwrap()
}

fn open(folder: &Path) -> Embedded {
    Embedded::open(folder, Quota::default()).unwrap()
}

fn value(writer: u32, number: u64) -> Vec<u8> {
    // Of many sizes, so that pages split and merge.
    format!("{writer}:{number};").repeat((number % 97 + 1) as usize).into_bytes()
}

/// Not a test: the process that the next test kills. It writes in the folder it is started in, and says what was
/// acknowledged. Without the word on its standard input it does nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the process that another test starts and kills"]
async fn writes_until_it_is_killed() {
    let mut word = String::new();
    std::io::stdin().read_line(&mut word).unwrap();
    let Some(start) = word.strip_prefix("write from ").and_then(|number| number.trim().parse::<u64>().ok())
    else {
        return;
    };
    let store = open(Path::new("."));
    let writers = (0..WRITERS).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            for number in start.. {
                store.set(&bucket(), format!("w{writer}"), value(writer, number)).await.unwrap();
                store.set(&bucket(), format!("w{writer}-{number}"), value(writer, number)).await.unwrap();
                store.increment(&bucket(), "sum".into(), 1).await.unwrap();
                writeln!(std::io::stdout(), "acknowledged {writer} {number}").unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_the_killing_of_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged: HashMap<u32, u64> = HashMap::new();
    let (mut start, mut total) = (0, 0_u64);
    for round in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writes_until_it_is_killed", "--ignored", "--nocapture"])
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        writeln!(child.stdin.take().unwrap(), "write from {start}").unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen: Vec<(u32, u64)> = Vec::new();
        let mut note = |line: String| {
            let said = line.strip_prefix("acknowledged ").and_then(|line| line.split_once(' '));
            seen.extend(said.and_then(|(writer, number)| Some((writer.parse().ok()?, number.parse().ok()?))));
            seen.len() as u64
        };
        // Killed after a different number of acknowledgements each time, in the middle of whatever it then does.
        while note(lines.next().unwrap().unwrap()) < 3 + round * 7 {}
        child.kill().unwrap();
        // What it had said before it was killed counts too; a last line that was cut off does not parse.
        for line in lines.map_while(Result::ok) {
            note(line);
        }
        child.wait().unwrap();
        total += seen.len() as u64;
        for (writer, number) in seen {
            let latest: &mut u64 = acknowledged.entry(writer).or_default();
            *latest = number.max(*latest);
        }

        let store = open(folder.path());
        for (&writer, &number) in &acknowledged {
            let named = store.get(&bucket(), format!("w{writer}-{number}")).await.unwrap();
            assert_eq!(named, Some(value(writer, number)), "round {round}");
            let latest = store.get(&bucket(), format!("w{writer}")).await.unwrap().unwrap();
            let at_least = (number..number + 3).any(|number| latest == value(writer, number));
            assert!(at_least, "round {round}: writer {writer} went back before {number}");
            start = start.max(number + 10);
        }
        let sum = store.get(&bucket(), "sum".into()).await.unwrap().unwrap();
        let sum: u64 = String::from_utf8(sum).unwrap().parse().unwrap();
        assert!(sum >= total, "round {round}: {sum} of {total} increments are left");
    }
    assert!(total > KILLS * 3);
}

/// Not a test: the process whose disk takes no more, and then does again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the process that another test starts"]
async fn fills_its_disk() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let mut word = String::new();
    std::io::stdin().read_line(&mut word).unwrap();
    if word.trim() != "fill" {
        return;
    }
    let full = |bytes| setrlimit(Resource::Fsize, Rlimit { current: bytes, maximum: None }).unwrap();
    // A write beyond the limit is an error then, and not the end.
    signal_hook::flag::register(25, std::sync::Arc::default()).unwrap();
    let store = open(Path::new("."));
    let container = Collection::new("tenant", "app", "images").unwrap();
    store.create_container(&container).await.unwrap();
    store.set(&bucket(), "before".into(), b"kept".to_vec()).await.unwrap();
    for round in 0..3_u32 {
        full(Some(1));
        let key = format!("k{round}");
        for _ in 0..3 {
            let set = store.set(&bucket(), key.clone(), vec![7; 100_000]).await;
            assert!(matches!(set, Err(StoreError::Failed(_))), "{set:?}");
        }
        let mut object = store.create().await.unwrap();
        let written = object.write(b"bytes".to_vec()).await;
        assert!(matches!(written, Err(StoreError::Failed(_))), "{written:?}");
        drop(object);
        full(None);
        // Somebody may still be reading from the one that failed: then it is tried again.
        let began = Instant::now();
        while let Err(error) = store.set(&bucket(), key.clone(), b"after".to_vec()).await {
            assert!(began.elapsed() < Duration::from_secs(20), "{error}");
        }
        assert_eq!(store.get(&bucket(), key).await, Ok(Some(b"after".to_vec())));
        assert_eq!(store.get(&bucket(), "before".into()).await, Ok(Some(b"kept".to_vec())));
        let mut object = store.create().await.unwrap();
        object.write(b"bytes".to_vec()).await.unwrap();
        object.place(&container, format!("o{round}")).await.unwrap();
    }
    drop(store);
    let store = open(Path::new("."));
    assert_eq!(store.list_keys(&bucket(), None).await.unwrap().keys, ["before", "k0", "k1", "k2"]);
    assert_eq!(store.list(&container, None).await.unwrap().names, ["o0", "o1", "o2"]);
    writeln!(std::io::stdout(), "went on").unwrap();
}

#[test]
fn a_full_disk_is_an_error_until_there_is_room_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "fills_its_disk", "--ignored", "--nocapture"])
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "fill").unwrap();
    let lines: Vec<String> =
        BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok).collect();
    let well = child.wait().unwrap().success() && lines.iter().any(|line| line.contains("went on"));
    assert!(well, "{lines:#?}");
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let container = Collection::new("tenant", "app", "images").unwrap();
    let topic = Collection::new("tenant", "app", "orders").unwrap();
    {
        let store = open(folder.path());
        store.set(&bucket(), "k".into(), b"v".to_vec()).await.unwrap();
        store.create_container(&container).await.unwrap();
        let mut object = store.create().await.unwrap();
        object.write(b"bytes".to_vec()).await.unwrap();
        object.place(&container, "o".into()).await.unwrap();
        let message = Message { topic: "orders".into(), data: b"m".to_vec(), ..Message::default() };
        store.publish("tenant", "app", message).await.unwrap();
    }
    let store = open(folder.path());
    assert_eq!(store.get(&bucket(), "k".into()).await, Ok(Some(b"v".to_vec())));
    let object = store.open(&container, "o".into()).await.unwrap();
    assert_eq!(object.read(0, 100).await.unwrap(), b"bytes");
    assert_eq!(store.take(&topic).await.unwrap().message.data, b"m");
}

#[test]
fn a_store_is_open_once() {
    let folder = tempfile::tempdir().unwrap();
    let _first = open(folder.path());
    assert_eq!(Embedded::open(folder.path(), Quota::default()).unwrap_err().code, "store-in-use");
}

#[test]
fn a_file_that_is_no_store_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state.redb");
    for round in 1..=2 {
        fs::write(&file, vec![b'x'; 100_000]).unwrap();
        let said = Embedded::open(folder.path(), Quota::default()).unwrap_err();
        assert_eq!(said.code, "store-damaged", "{said}");
        let aside = folder.path().join(format!("state.redb.damaged-{round}"));
        assert!(said.to_string().contains(aside.to_str().unwrap()), "{said}");
        assert_eq!(fs::read(aside).unwrap(), vec![b'x'; 100_000]);
        assert!(!file.exists());
    }
    open(folder.path());
}

/// Whatever is wrong with the file, opening and reading it ends, in a value or in an error.
#[tokio::test]
async fn damage_anywhere_is_an_error_and_never_a_panic() {
    let whole = tempfile::tempdir().unwrap();
    {
        let store = open(whole.path());
        for number in 0..200_u64 {
            store.set(&bucket(), format!("key-{number}"), value(0, number)).await.unwrap();
        }
    }
    let bytes = fs::read(whole.path().join("state.redb")).unwrap();
    let (mut refused, mut failed, mut passed) = (0, 0, 0);
    let began = Instant::now();
    for round in 0..60_u64 {
        let mut damaged = bytes.clone();
        // A fixed sequence: the same damage in every run.
        let mut random = round.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5555;
        let mut draw = |below: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) as usize % below
        };
        match round % 4 {
            0 => damaged.truncate(draw(bytes.len())),
            1 => damaged[..512].iter_mut().for_each(|byte| *byte ^= if draw(20) == 0 { 0x55 } else { 0 }),
            2 => {
                let page = draw(bytes.len() / 4096) * 4096;
                damaged[page..page + 4096].fill(draw(256) as u8);
            }
            _ => {
                for _ in 0..200 {
                    let at = draw(damaged.len());
                    damaged[at] ^= 1 << draw(8);
                }
            }
        }
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("state.redb"), damaged).unwrap();
        let Ok(store) = Embedded::open(folder.path(), Quota::default()) else {
            refused += 1;
            continue;
        };
        let all = store.list_keys(&bucket(), None).await;
        let one = store.get(&bucket(), "key-7".into()).await;
        let set = tokio::time::timeout(
            Duration::from_secs(20),
            store.set(&bucket(), "key-7".into(), b"new".to_vec()),
        );
        let set = set.await.expect("writing to a damaged store ends");
        if all.is_err() || one.is_err() || set.is_err() {
            failed += 1;
        } else {
            passed += 1;
        }
    }
    assert!(refused > 0, "{refused} refused, {failed} failed, {passed} passed");
    assert!(began.elapsed() < Duration::from_secs(120));
}

#[tokio::test]
async fn an_app_keeps_no_more_than_its_quota() {
    let folder = tempfile::tempdir().unwrap();
    let quota = Quota { key_value_bytes: 10_000, object_bytes: 10_000, message_bytes: 10_000 };
    let store = Embedded::open(folder.path(), quota).unwrap();
    let mut kept = 0;
    let full = loop {
        match store.set(&bucket(), format!("k{kept}"), vec![0; 1_000]).await {
            Ok(()) => kept += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((full, kept), (StoreError::Full("the app's key-value store"), 9));
    // Another app has a quota of its own; what is removed or made smaller is there to be used again.
    let other = Collection::new("tenant", "other", "bucket").unwrap();
    store.set(&other, "k".into(), vec![0; 5_000]).await.unwrap();
    KeyValue::delete(&store, &bucket(), "k0".into()).await.unwrap();
    store.set(&bucket(), "k1".into(), vec![0; 1_500]).await.unwrap();

    let message = Message { topic: "t".into(), data: vec![0; 6_000], ..Message::default() };
    store.publish("tenant", "app", message.clone()).await.unwrap();
    let full = store.publish("tenant", "app", message.clone()).await;
    assert_eq!(full, Err(StoreError::Full("the app's message store")));
    let topic = Collection::new("tenant", "app", "t").unwrap();
    let taken = store.take(&topic).await.unwrap();
    store.accept(&topic, taken.sequence).await.unwrap();
    store.publish("tenant", "app", message).await.unwrap();
}
