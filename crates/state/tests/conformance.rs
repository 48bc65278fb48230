//! What every key-value store has to do, asked of each of them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;
use std::time::Duration;

use tenon_model::store::{
    BATCH_BYTES_MAX, Collection, KEY_BYTES_MAX, KeyValue, PAGE_NAMES_MAX, StoreError, Swap, VALUE_BYTES_MAX,
};
use tenon_state::{Embedded, Quota, Redis};
use tenon_testkit::RedisServer;

fn bucket(app: &str, name: &str) -> Collection {
    Collection::new("tenant", app, name).unwrap()
}

fn key(text: &str) -> String {
    text.to_owned()
}

/// The whole suite; the store may hold other buckets, but none of these.
async fn conforms(store: Arc<dyn KeyValue>) {
    reads_its_writes(&*store).await;
    keeps_buckets_apart(&*store).await;
    counts(&*store).await;
    counts_without_losing_any(&store).await;
    swaps(&*store).await;
    swaps_for_one_winner(&store).await;
    batches(&*store).await;
    lists_every_key_once(&*store).await;
    bounds(&*store).await;
}

async fn reads_its_writes(store: &dyn KeyValue) {
    let bucket = bucket("app", "reads");
    assert_eq!(store.get(&bucket, key("k")).await, Ok(None));
    assert_eq!(store.exists(&bucket, key("k")).await, Ok(false));
    for value in [&b"one"[..], b"", b"\0\xff binary", b"one"] {
        store.set(&bucket, key("k"), value.to_vec()).await.unwrap();
        assert_eq!(store.get(&bucket, key("k")).await, Ok(Some(value.to_vec())));
        assert_eq!(store.exists(&bucket, key("k")).await, Ok(true));
    }
    store.set(&bucket, key(""), b"of the empty key".to_vec()).await.unwrap();
    assert_eq!(store.get(&bucket, key("")).await, Ok(Some(b"of the empty key".to_vec())));
    store.delete(&bucket, key("k")).await.unwrap();
    store.delete(&bucket, key("k")).await.unwrap();
    assert_eq!(store.get(&bucket, key("k")).await, Ok(None));
}

async fn keeps_buckets_apart(store: &dyn KeyValue) {
    let places =
        [("app", "a"), ("app", "b"), ("other", "a"), ("app", ""), ("ap", "pa"), ("app/a", ""), ("", "app/a")];
    for (app, name) in places {
        store.set(&bucket(app, name), key("k"), format!("{app}|{name}").into_bytes()).await.unwrap();
    }
    for (app, name) in places {
        let found = store.get(&bucket(app, name), key("k")).await;
        assert_eq!(found, Ok(Some(format!("{app}|{name}").into_bytes())));
        assert_eq!(store.list_keys(&bucket(app, name), None).await.unwrap().keys, ["k"]);
    }
}

async fn counts(store: &dyn KeyValue) {
    let bucket = bucket("app", "counts");
    assert_eq!(store.increment(&bucket, key("n"), 5).await, Ok(5));
    assert_eq!(store.increment(&bucket, key("n"), -7).await, Ok(-2));
    assert_eq!(store.get(&bucket, key("n")).await, Ok(Some(b"-2".to_vec())));
    assert_eq!(store.list_keys(&bucket, None).await.unwrap().keys, ["n"]);
    store.set(&bucket, key("n"), i64::MAX.to_string().into_bytes()).await.unwrap();
    assert_eq!(store.increment(&bucket, key("n"), 1).await, Err(StoreError::NotANumber));
    assert_eq!(store.get(&bucket, key("n")).await, Ok(Some(i64::MAX.to_string().into_bytes())));
    store.set(&bucket, key("text"), b"seven".to_vec()).await.unwrap();
    assert_eq!(store.increment(&bucket, key("text"), 1).await, Err(StoreError::NotANumber));
    assert_eq!(store.get(&bucket, key("text")).await, Ok(Some(b"seven".to_vec())));
}

async fn counts_without_losing_any(store: &Arc<dyn KeyValue>) {
    let bucket = bucket("app", "many-count");
    let tasks = (0..50).map(|_| {
        let (store, bucket) = (Arc::clone(store), bucket.clone());
        tokio::spawn(async move {
            for _ in 0..10 {
                store.increment(&bucket, key("n"), 1).await.unwrap();
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert_eq!(store.get(&bucket, key("n")).await, Ok(Some(b"500".to_vec())));
}

async fn swaps(store: &dyn KeyValue) {
    let bucket = bucket("app", "swaps");
    let swap = |expected: Option<&[u8]>, value: &[u8]| {
        store.compare_and_swap(&bucket, key("k"), expected.map(<[u8]>::to_vec), value.to_vec())
    };
    assert_eq!(swap(Some(b"x"), b"a").await, Ok(Swap::Changed(None)));
    assert_eq!(swap(None, b"a").await, Ok(Swap::Done));
    assert_eq!(swap(None, b"b").await, Ok(Swap::Changed(Some(b"a".to_vec()))));
    assert_eq!(swap(Some(b"a"), b"").await, Ok(Swap::Done));
    // An empty value is not the same as none.
    assert_eq!(swap(None, b"b").await, Ok(Swap::Changed(Some(Vec::new()))));
    assert_eq!(swap(Some(b""), b"\0").await, Ok(Swap::Done));
    assert_eq!(store.get(&bucket, key("k")).await, Ok(Some(b"\0".to_vec())));
    assert_eq!(store.list_keys(&bucket, None).await.unwrap().keys, ["k"]);
}

async fn swaps_for_one_winner(store: &Arc<dyn KeyValue>) {
    let bucket = bucket("app", "race");
    let tasks = (0..20_u8).map(|racer| {
        let (store, bucket) = (Arc::clone(store), bucket.clone());
        tokio::spawn(
            async move { store.compare_and_swap(&bucket, key("k"), None, vec![racer]).await.unwrap() },
        )
    });
    let mut won = 0;
    for task in tasks.collect::<Vec<_>>() {
        won += u32::from(task.await.unwrap() == Swap::Done);
    }
    assert_eq!(won, 1);
}

async fn batches(store: &dyn KeyValue) {
    let bucket = bucket("app", "batches");
    let pair = |name: &str, value: &str| (key(name), value.as_bytes().to_vec());
    store.set_many(&bucket, vec![pair("a", "1"), pair("b", "2"), pair("a", "3")]).await.unwrap();
    let found = store.get_many(&bucket, vec![key("b"), key("none"), key("a"), key("b")]).await.unwrap();
    assert_eq!(found, [Some(b"2".to_vec()), None, Some(b"3".to_vec()), Some(b"2".to_vec())]);
    store.delete_many(&bucket, vec![key("a"), key("none")]).await.unwrap();
    assert_eq!(store.list_keys(&bucket, None).await.unwrap().keys, ["b"]);
    assert_eq!(store.get_many(&bucket, Vec::new()).await, Ok(Vec::new()));
    store.set_many(&bucket, Vec::new()).await.unwrap();
    store.delete_many(&bucket, Vec::new()).await.unwrap();
}

async fn lists_every_key_once(store: &dyn KeyValue) {
    let bucket = bucket("app", "lists");
    let count = PAGE_NAMES_MAX * 2 + 1;
    let all: Vec<String> = (0..count).map(|number| format!("key-{number:05}")).collect();
    for some in all.chunks(500) {
        store
            .set_many(&bucket, some.iter().map(|name| (name.clone(), b"v".to_vec())).collect())
            .await
            .unwrap();
    }
    let (mut found, mut from, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = store.list_keys(&bucket, from).await.unwrap();
        assert!(page.keys.len() <= PAGE_NAMES_MAX);
        found.extend(page.keys);
        pages += 1;
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    found.sort();
    assert_eq!((found, pages), (all, 3));
    // A cursor that nobody gave out is a place like any other.
    assert_eq!(store.list_keys(&bucket, Some(key("zzz"))).await.unwrap().keys, [""; 0]);
}

async fn bounds(store: &dyn KeyValue) {
    let bucket = bucket("app", "bounds");
    let long = "k".repeat(KEY_BYTES_MAX);
    let large = vec![7; VALUE_BYTES_MAX];
    store.set(&bucket, long.clone(), large.clone()).await.unwrap();
    assert_eq!(store.get(&bucket, long.clone()).await.unwrap().unwrap(), large);
    let is_refused = |error: StoreError| matches!(error, StoreError::TooLarge { .. });
    let longer = format!("{long}k");
    assert!(is_refused(store.set(&bucket, longer.clone(), Vec::new()).await.unwrap_err()));
    assert!(is_refused(store.get(&bucket, longer.clone()).await.unwrap_err()));
    assert!(is_refused(store.exists(&bucket, longer.clone()).await.unwrap_err()));
    assert!(is_refused(store.delete(&bucket, longer.clone()).await.unwrap_err()));
    assert!(is_refused(store.increment(&bucket, longer.clone(), 1).await.unwrap_err()));
    assert!(is_refused(store.list_keys(&bucket, Some(longer)).await.unwrap_err()));
    assert!(is_refused(store.set(&bucket, key("k"), vec![7; VALUE_BYTES_MAX + 1]).await.unwrap_err()));
    // More than a batch may carry can be there, and is not given out in one.
    let keys: Vec<String> =
        (0..=BATCH_BYTES_MAX / VALUE_BYTES_MAX).map(|number| number.to_string()).collect();
    for name in &keys {
        store.set(&bucket, name.clone(), large.clone()).await.unwrap();
    }
    assert!(is_refused(store.get_many(&bucket, keys.clone()).await.unwrap_err()));
    store.delete_many(&bucket, keys).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_store_conforms() {
    let folder = tempfile::tempdir().unwrap();
    conforms(Arc::new(Embedded::open(folder.path(), Quota::default()).unwrap())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_conforms() {
    let Some(server) = RedisServer::start() else { return };
    conforms(Arc::new(Redis::new(&server.url()).unwrap())).await;
}

#[tokio::test]
async fn redis_is_connected_to_again() {
    let Some(mut server) = RedisServer::start() else { return };
    let store = Redis::new(&server.url()).unwrap();
    let bucket = bucket("app", "again");
    store.set(&bucket, key("k"), b"before".to_vec()).await.unwrap();
    server.stop();
    let away = tokio::time::timeout(Duration::from_secs(20), store.get(&bucket, key("k"))).await.unwrap();
    assert!(away.is_err(), "{away:?}");
    server.start_again();
    store.set(&bucket, key("k"), b"after".to_vec()).await.unwrap();
    assert_eq!(store.get(&bucket, key("k")).await, Ok(Some(b"after".to_vec())));
}

#[tokio::test]
async fn a_redis_server_that_is_not_there_is_an_error_soon() {
    // A port that was free a moment ago: nobody listens.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let store = Redis::new(&format!("redis://{free}")).unwrap();
    let refused = tokio::time::timeout(Duration::from_secs(20), store.get(&bucket("app", "b"), key("k")));
    assert!(matches!(refused.await.unwrap(), Err(StoreError::Failed(_) | StoreError::Timeout)));
}
