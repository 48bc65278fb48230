//! Objects and messages of the embedded store.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use tenon_model::store::{
    BlobReader, Blobs as _, Collection, MESSAGE_BYTES_MAX, Message, Messages as _, OBJECT_CHUNK_BYTES_MAX,
    PAGE_NAMES_MAX, StoreError, Subscription,
};
use tenon_state::{Embedded, Quota};
use tokio::time::timeout;

/// Long enough to be sure that nothing comes.
const QUIET: Duration = Duration::from_millis(100);

fn store() -> (Embedded, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Embedded::open(folder.path(), Quota::default()).unwrap(), folder)
}

fn named(name: &str) -> Collection {
    Collection::new("tenant", "app", name).unwrap()
}

async fn put(store: &Embedded, container: &Collection, object: &str, bytes: &[u8]) -> Result<(), StoreError> {
    let mut writer = store.create().await?;
    for chunk in bytes.chunks(1_000) {
        writer.write(chunk.to_vec()).await?;
    }
    writer.place(container, object.to_owned()).await
}

async fn all(reader: &dyn BlobReader) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let more = reader.read(bytes.len() as u64, 700).await.unwrap();
        if more.is_empty() {
            return bytes;
        }
        bytes.extend(more);
    }
}

fn files(folder: &Path) -> usize {
    fs::read_dir(folder.join("objects")).unwrap().count()
}

#[tokio::test]
async fn an_object_is_there_whole_or_not_at_all() {
    let (store, folder) = store();
    let images = named("images");
    assert_eq!(put(&store, &images, "o", b"x").await, Err(StoreError::Missing("images".into())));
    assert_eq!(files(folder.path()), 0, "what could not be placed leaves nothing behind");
    store.create_container(&images).await.unwrap();
    let bytes: Vec<u8> = (0..10_000_u32).map(|number| number as u8).collect();
    put(&store, &images, "o", &bytes).await.unwrap();
    let opened = store.open(&images, "o".into()).await.unwrap();
    assert_eq!((opened.size(), store.info(&images, "o".into()).await.unwrap().size), (10_000, 10_000));
    assert_eq!(all(&*opened).await, bytes);
    assert_eq!(opened.read(9_998, 10).await.unwrap(), &bytes[9_998..]);
    assert!(opened.read(u64::MAX, usize::MAX).await.unwrap().is_empty());
    assert!(opened.read(0, usize::MAX).await.unwrap().len() <= OBJECT_CHUNK_BYTES_MAX);

    let mut unfinished = store.create().await.unwrap();
    unfinished.write(b"never placed".to_vec()).await.unwrap();
    drop(unfinished);
    assert_eq!(files(folder.path()), 1);

    // Who reads the old one reads it to its end.
    put(&store, &images, "o", b"new").await.unwrap();
    assert_eq!(all(&*opened).await, bytes);
    assert_eq!(all(&*store.open(&images, "o".into()).await.unwrap()).await, b"new");
    assert_eq!(files(folder.path()), 1);
    store.delete(&images, vec!["o".into(), "none".into()]).await.unwrap();
    assert!(matches!(store.open(&images, "o".into()).await, Err(StoreError::Missing(_))));
    assert_eq!(files(folder.path()), 0);
}

#[tokio::test]
async fn containers_are_kept_apart_listed_copied_and_removed() {
    let (store, folder) = store();
    let (one, two) = (named("one"), named("two"));
    assert_eq!(store.container(&one).await.unwrap(), None);
    store.create_container(&one).await.unwrap();
    let created = store.container(&one).await.unwrap();
    store.create_container(&one).await.unwrap();
    assert_eq!(store.container(&one).await.unwrap(), created, "made once");
    put(&store, &one, "a", b"of one").await.unwrap();
    let copy = store.copy((&one, "a".into()), (&two, "b".into())).await;
    assert_eq!(copy, Err(StoreError::Missing("two".into())));
    assert_eq!(files(folder.path()), 1);
    store.create_container(&two).await.unwrap();
    store.copy((&one, "a".into()), (&two, "b".into())).await.unwrap();
    store.delete_container(&one).await.unwrap();
    assert_eq!(store.container(&one).await.unwrap(), None);
    assert!(store.list(&one, None).await.unwrap().names.is_empty());
    assert_eq!(all(&*store.open(&two, "b".into()).await.unwrap()).await, b"of one");
    // At the same time: each waits for the disk, and they wait together.
    let copies = (0..PAGE_NAMES_MAX).map(|number| {
        let (store, two) = (store.clone(), two.clone());
        tokio::spawn(async move { store.copy((&two, "b".into()), (&two, format!("n{number:04}"))).await })
    });
    for copied in copies.collect::<Vec<_>>() {
        copied.await.unwrap().unwrap();
    }
    let first = store.list(&two, None).await.unwrap();
    assert_eq!((first.names.len(), first.more), (PAGE_NAMES_MAX, true));
    let rest = store.list(&two, first.names.last().cloned()).await.unwrap();
    assert_eq!((rest.names, rest.more), (vec!["n0999".to_owned()], false));
    store.clear(&two).await.unwrap();
    assert!(store.container(&two).await.unwrap().is_some());
    assert_eq!(files(folder.path()), 0);
}

#[tokio::test]
async fn what_a_crash_left_behind_is_swept() {
    let (store, folder) = store();
    let images = named("images");
    store.create_container(&images).await.unwrap();
    put(&store, &images, "o", b"kept").await.unwrap();
    drop(store);
    let objects = folder.path().join("objects");
    fs::write(objects.join(format!("{:032x}", 7)), b"orphan").unwrap();
    fs::write(objects.join("not-ours"), b"a person put it here").unwrap();
    let store = Embedded::open(folder.path(), Quota::default()).unwrap();
    assert_eq!(files(folder.path()), 2);
    assert_eq!(all(&*store.open(&images, "o".into()).await.unwrap()).await, b"kept");
}

fn message(topic: &str, data: &str) -> Message {
    Message {
        topic: topic.into(),
        content_type: Some("text/plain".into()),
        data: data.into(),
        metadata: vec![("a".into(), "b".into()), ("a".into(), String::new())],
        reply_to: None,
    }
}

#[tokio::test]
async fn a_message_goes_to_one_taker_in_order_until_it_is_accepted() {
    let (store, _folder) = store();
    let topic = named("t");
    for data in ["1", "2", "3"] {
        store.publish("tenant", "app", message("t", data)).await.unwrap();
    }
    store.publish("tenant", "other", message("t", "of another app")).await.unwrap();
    let first = store.take(&topic).await.unwrap();
    assert_eq!((&first.message, first.attempts), (&message("t", "1"), 0));
    let second = store.take(&topic).await.unwrap();
    assert_eq!(second.message.data, b"2");
    store.give_back(&topic, first.sequence).await.unwrap();
    let again = store.take(&topic).await.unwrap();
    assert_eq!((again.message.data.as_slice(), again.attempts), (&b"1"[..], 1));
    for sequence in [again.sequence, second.sequence] {
        store.accept(&topic, sequence).await.unwrap();
    }
    let third = store.take(&topic).await.unwrap();
    assert_eq!(third.message.data, b"3");
    assert!(timeout(QUIET, store.take(&topic)).await.is_err(), "no message is taken twice");
}

#[tokio::test]
async fn topics_of_a_subscription_take_turns() {
    let (store, _folder) = store();
    for topic in ["bills.new", "orders", "orders.a", "orders.a", "orders.a", "orders.b", "orders/a", "shop"] {
        store.publish("tenant", "app", message(topic, topic)).await.unwrap();
    }
    store.publish("tenant", "other", message("orders.a", "of another app")).await.unwrap();
    let topics = ["orders.*", "shop", "orders.a", "none"].map(str::to_owned).into();
    let of = Subscription { tenant: "tenant".into(), app: "app".into(), topics };
    let mut seen = Vec::new();
    for _ in 0..5 {
        let after = seen.last().cloned();
        let taken = store.take_any(&of, after.as_deref()).await.unwrap();
        assert_eq!(taken.message.data, taken.message.topic.as_bytes());
        seen.push(taken.message.topic);
    }
    assert_eq!(seen, ["orders.a", "orders.b", "shop", "orders.a", "orders.a"]);
    assert!(timeout(QUIET, store.take_any(&of, Some("orders.a"))).await.is_err());

    // It is woken by a topic that was not there, and by a message that is given back.
    let waiting = tokio::spawn({
        let (store, of) = (store.clone(), of.clone());
        async move { store.take_any(&of, None).await.unwrap() }
    });
    tokio::task::yield_now().await;
    store.publish("tenant", "app", message("orders.z", "late")).await.unwrap();
    let late = waiting.await.unwrap();
    assert_eq!(late.message.data, b"late");
    store.give_back(&named("orders.z"), late.sequence).await.unwrap();
    let again = store.take_any(&of, None).await.unwrap();
    assert_eq!((again.message.data.as_slice(), again.attempts), (&b"late"[..], 1));
    store.accept(&named("orders.z"), again.sequence).await.unwrap();
    assert!(timeout(QUIET, store.take_any(&of, None)).await.is_err(), "no message is taken twice");
}

#[tokio::test]
async fn takers_beside_each_other_handle_each_message_once() {
    let (store, _folder) = store();
    let of = Subscription { tenant: "tenant".into(), app: "app".into(), topics: ["t".to_owned()].into() };
    let takers: Vec<_> = (0..8)
        .map(|_| {
            let (store, of) = (store.clone(), of.clone());
            tokio::spawn(async move {
                let mut seen = Vec::new();
                while let Ok(taken) = timeout(Duration::from_millis(500), store.take_any(&of, None)).await {
                    let taken = taken.unwrap();
                    store.accept(&named("t"), taken.sequence).await.unwrap();
                    seen.extend(taken.message.data);
                }
                seen
            })
        })
        .collect();
    for number in 0..100_u8 {
        let message = Message { topic: "t".into(), data: vec![number], ..Message::default() };
        store.publish("tenant", "app", message).await.unwrap();
    }
    let mut all = Vec::new();
    for taker in takers {
        all.extend(taker.await.unwrap());
    }
    all.sort_unstable();
    assert_eq!(all, (0..100).collect::<Vec<u8>>());
}

#[tokio::test]
async fn who_waits_is_woken_once_for_each_message() {
    let (store, _folder) = store();
    let topic = named("t");
    let takers = (0..8).map(|_| {
        let (store, topic) = (store.clone(), topic.clone());
        tokio::spawn(async move { store.take(&topic).await.unwrap().message.data })
    });
    let takers: Vec<_> = takers.collect();
    for number in 0..8_u8 {
        store.publish("tenant", "app", message("t", &number.to_string())).await.unwrap();
    }
    let mut taken = Vec::new();
    for taker in takers {
        taken.push(timeout(Duration::from_secs(10), taker).await.expect("woken").unwrap());
    }
    taken.sort();
    assert_eq!(taken, (0..8_u8).map(|number| number.to_string().into_bytes()).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_was_taken_and_not_accepted_waits_again_after_a_restart() {
    let (store, folder) = store();
    let topic = named("t");
    store.publish("tenant", "app", message("t", "1")).await.unwrap();
    store.take(&topic).await.unwrap();
    drop(store);
    let store = Embedded::open(folder.path(), Quota::default()).unwrap();
    let again = store.take(&topic).await.unwrap();
    assert_eq!(again.message, message("t", "1"));
    store.accept(&topic, again.sequence).await.unwrap();
    drop(store);
    let store = Embedded::open(folder.path(), Quota::default()).unwrap();
    assert!(timeout(QUIET, store.take(&topic)).await.is_err());
}

#[tokio::test]
async fn a_message_is_bounded() {
    let (store, _folder) = store();
    let large = message("t", &"x".repeat(MESSAGE_BYTES_MAX));
    let refused = store.publish("tenant", "app", large).await;
    assert!(matches!(refused, Err(StoreError::TooLarge { limit: "bytes of a message", .. })));
}
