//! Keys and values in a Redis server.
//!
//! A bucket is two Redis keys: a hash of the values, and a sorted set of the hash's fields, because a hash cannot be
//! listed in bounded pages without reading its values too. Every change touches both in one `MULTI`; both are in
//! one slot of a cluster.

use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, cmd, pipe};
use tenon_model::store::{
    BATCH_BYTES_MAX, Collection, KeyPage, KeyValue, PAGE_NAMES_MAX, Pending, StoreError, Swap,
    VALUE_BYTES_MAX, check, check_batch, check_key, check_value,
};
use tokio::runtime::{Builder, Handle};
use tokio::sync::{Mutex, Semaphore, oneshot};

/// How long connecting may take.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(2);
/// How long an answer may take.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(5);
/// Requests to the server at once; others wait for their turn.
const REQUESTS_AT_ONCE_MAX: usize = 64;
/// How often a request that may be repeated is sent when the connection breaks.
const TRIES_MAX: usize = 2;

/// Adds only to what is not text of another kind, and says which sort of failure it was.
const SWAP: &str = r"
local found = redis.call('HGET', KEYS[1], ARGV[1])
local as_expected
if ARGV[2] == '1' then as_expected = (found == ARGV[3]) else as_expected = (found == false) end
if not as_expected then return {0, found} end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[4])
redis.call('ZADD', KEYS[2], 0, ARGV[1])
return {1, false}
";

/// The URL of a Redis server is not one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidRedisUrl(String);

impl fmt::Display for InvalidRedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not the URL of a Redis server (`redis://HOST:PORT/NUMBER`): {}", self.0)
    }
}

impl std::error::Error for InvalidRedisUrl {}

/// Keys and values in a Redis server, version 4 or later. A clone is the same connection.
///
/// How durable a write is, the server's configuration says (`appendfsync`).
#[derive(Clone, Debug)]
pub struct Redis {
    shared: Arc<Shared>,
}

struct Shared {
    link: Arc<Link>,
    runtime: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").finish_non_exhaustive()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) =
            self.thread.take().filter(|thread| thread.thread().id() != std::thread::current().id())
        {
            let _ = thread.join();
        }
    }
}

struct Link {
    client: Client,
    connection: Mutex<Option<MultiplexedConnection>>,
    turns: Semaphore,
}

impl Redis {
    /// Gets ready to use the server at `url`; connects when first asked for something, and again when the
    /// connection is lost.
    ///
    /// The connection is served by a thread of its own, so that it does not matter which thread asks.
    ///
    /// # Errors
    /// When the URL is none, or no thread can be started.
    pub fn new(url: &str) -> Result<Self, InvalidRedisUrl> {
        // What the client says may quote the URL, and the URL may hold a password: only its kind is passed on.
        let client = Client::open(url).map_err(|error| InvalidRedisUrl(format!("{:?}", error.kind())))?;
        let system = |error: std::io::Error| InvalidRedisUrl(format!("no thread for it: {error}"));
        let runtime = Builder::new_current_thread().enable_all().build().map_err(system)?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new()
            .name("tenon-redis".into())
            .spawn(move || {
                // Ends when the sender is dropped.
                let _ = runtime.block_on(stopped);
            })
            .map_err(system)?;
        let link = Link { client, connection: Mutex::new(None), turns: Semaphore::new(REQUESTS_AT_ONCE_MAX) };
        let shared = Shared { link: Arc::new(link), runtime: handle, stop: Some(stop), thread: Some(thread) };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Sends `request` and reads its answer as a `T`.
    fn ask<T: FromRedisValue + Send + 'static>(&self, request: Request) -> Pending<T> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let link = Arc::clone(&shared.link);
            let answer = shared.runtime.spawn(async move { link.ask(&request).await });
            answer.await.map_err(|error| StoreError::Failed(error.to_string()))?
        })
    }
}

struct Request {
    what: What,
    /// Whether it may be sent twice without harm.
    repeatable: bool,
}

enum What {
    One(Cmd),
    All(Pipeline),
}

impl Request {
    fn one(command: Cmd) -> Self {
        Self { what: What::One(command), repeatable: true }
    }

    fn all(commands: Pipeline) -> Self {
        Self { what: What::All(commands), repeatable: true }
    }

    fn once(self) -> Self {
        Self { repeatable: false, ..self }
    }
}

impl Link {
    async fn ask<T: FromRedisValue>(&self, request: &Request) -> Result<T, StoreError> {
        let _turn = self.turns.acquire().await.map_err(|_| StoreError::Failed("closed".into()))?;
        let mut tries = 1;
        loop {
            let mut connection = self.connection().await?;
            let answer = match &request.what {
                What::One(command) => command.query_async(&mut connection).await,
                What::All(commands) => commands.query_async(&mut connection).await,
            };
            let error: RedisError = match answer {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let broken =
                error.is_io_error() || error.is_connection_dropped() || error.is_unrecoverable_error();
            if broken {
                *self.connection.lock().await = None;
                if request.repeatable && tries < TRIES_MAX && !error.is_timeout() {
                    tries += 1;
                    continue;
                }
            }
            return Err(failure(&error));
        }
    }

    async fn connection(&self) -> Result<MultiplexedConnection, StoreError> {
        // Held while connecting: one attempt at a time, of which all learn the result.
        let mut connection = self.connection.lock().await;
        if let Some(connection) = &*connection {
            return Ok(connection.clone());
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_WAIT_MAX))
            .set_response_timeout(Some(ANSWER_WAIT_MAX));
        let fresh = self.client.get_multiplexed_async_connection_with_config(&config).await;
        let fresh = fresh.map_err(|error| failure(&error))?;
        Ok(connection.insert(fresh).clone())
    }
}

fn failure(error: &RedisError) -> StoreError {
    // `HINCRBY` has no error code of its own.
    let text = error.to_string();
    if text.contains("hash value is not an integer") || text.contains("increment or decrement would overflow")
    {
        return StoreError::NotANumber;
    }
    if error.is_timeout() {
        return StoreError::Timeout;
    }
    if error.kind() == ErrorKind::AuthenticationFailed {
        return StoreError::Failed("the Redis server refuses the user name or password".into());
    }
    tracing::error!(%error, "the Redis server failed");
    StoreError::Failed(text)
}

/// A part of a name, so that no two names are written alike.
fn escaped(part: &str) -> String {
    part.replace('%', "%25").replace('/', "%2F").replace('{', "%7B").replace('}', "%7D")
}

fn hash(bucket: &Collection) -> String {
    let [tenant, app, name] = [bucket.tenant(), bucket.app(), bucket.name()].map(escaped);
    format!("tenon:{{{tenant}/{app}/{name}}}:values")
}

fn index(bucket: &Collection) -> String {
    let [tenant, app, name] = [bucket.tenant(), bucket.app(), bucket.name()].map(escaped);
    format!("tenon:{{{tenant}/{app}/{name}}}:keys")
}

/// An answer that is known at once.
fn refused<T: Send + 'static>(error: StoreError) -> Pending<T> {
    Box::pin(std::future::ready(Err(error)))
}

/// Refuses what does not fit a limit.
macro_rules! fit {
    ($checked:expr) => {
        if let Err(error) = $checked {
            return refused(error);
        }
    };
}

/// What another program put there may be larger than a value of ours.
fn check_found(value: Option<&Vec<u8>>) -> Result<(), StoreError> {
    value.map_or(Ok(()), |value| check("bytes of a value", VALUE_BYTES_MAX as u64, value.len() as u64))
}

impl KeyValue for Redis {
    fn get(&self, bucket: &Collection, key: String) -> Pending<Option<Vec<u8>>> {
        fit!(check_key(&key));
        let mut command = cmd("HGET");
        command.arg(hash(bucket)).arg(key);
        let answer = self.ask::<Option<Vec<u8>>>(Request::one(command));
        Box::pin(async move {
            let value = answer.await?;
            check_found(value.as_ref()).map(|()| value)
        })
    }

    fn set(&self, bucket: &Collection, key: String, value: Vec<u8>) -> Pending<()> {
        self.set_many(bucket, vec![(key, value)])
    }

    fn delete(&self, bucket: &Collection, key: String) -> Pending<()> {
        self.delete_many(bucket, vec![key])
    }

    fn exists(&self, bucket: &Collection, key: String) -> Pending<bool> {
        fit!(check_key(&key));
        let mut command = cmd("HEXISTS");
        command.arg(hash(bucket)).arg(key);
        self.ask(Request::one(command))
    }

    fn list_keys(&self, bucket: &Collection, from: Option<String>) -> Pending<KeyPage> {
        let start = match &from {
            Some(last) => {
                fit!(check_key(last));
                format!("({last}")
            }
            None => "-".to_owned(),
        };
        let mut command = cmd("ZRANGEBYLEX");
        // One more than a page, to know whether there is another.
        command.arg(index(bucket)).arg(start).arg("+").arg("LIMIT").arg(0).arg(PAGE_NAMES_MAX + 1);
        let answer = self.ask::<Vec<String>>(Request::one(command));
        Box::pin(async move {
            let mut keys = answer.await?;
            let more = keys.len() > PAGE_NAMES_MAX;
            keys.truncate(PAGE_NAMES_MAX);
            let next = keys.last().filter(|_| more).cloned();
            Ok(KeyPage { keys, next })
        })
    }

    fn increment(&self, bucket: &Collection, key: String, delta: i64) -> Pending<i64> {
        fit!(check_key(&key));
        let mut commands = pipe();
        commands.atomic();
        commands.cmd("HINCRBY").arg(hash(bucket)).arg(&key).arg(delta);
        commands.cmd("ZADD").arg(index(bucket)).arg(0).arg(&key).ignore();
        let answer = self.ask::<(i64,)>(Request::all(commands).once());
        Box::pin(async move { Ok(answer.await?.0) })
    }

    fn compare_and_swap(
        &self,
        bucket: &Collection,
        key: String,
        expected: Option<Vec<u8>>,
        value: Vec<u8>,
    ) -> Pending<Swap> {
        fit!(check_key(&key).and_then(|()| check_value(&value)));
        let mut command = cmd("EVAL");
        command.arg(SWAP).arg(2).arg(hash(bucket)).arg(index(bucket)).arg(key);
        command.arg(u8::from(expected.is_some())).arg(expected.unwrap_or_default()).arg(value);
        let answer = self.ask::<(u8, Option<Vec<u8>>)>(Request::one(command).once());
        Box::pin(async move {
            let (done, found) = answer.await?;
            check_found(found.as_ref())?;
            Ok(if done == 1 { Swap::Done } else { Swap::Changed(found) })
        })
    }

    fn get_many(&self, bucket: &Collection, keys: Vec<String>) -> Pending<Vec<Option<Vec<u8>>>> {
        fit!(check_batch(keys.iter().map(|key| (key.as_str(), &[] as &[u8]))));
        if keys.is_empty() {
            return Box::pin(std::future::ready(Ok(Vec::new())));
        }
        // How much it is comes first: an answer that is not wanted should not be sent.
        let (mut lengths, mut command) = (pipe(), cmd("HMGET"));
        command.arg(hash(bucket));
        for key in &keys {
            lengths.cmd("HSTRLEN").arg(hash(bucket)).arg(key);
            command.arg(key);
        }
        let lengths = self.ask::<Vec<u64>>(Request::all(lengths));
        let answer = self.ask::<Vec<Option<Vec<u8>>>>(Request::one(command));
        Box::pin(async move {
            let bytes = lengths.await?.into_iter().fold(0, u64::saturating_add);
            check("bytes of a batch", BATCH_BYTES_MAX as u64, bytes)?;
            answer.await
        })
    }

    fn set_many(&self, bucket: &Collection, pairs: Vec<(String, Vec<u8>)>) -> Pending<()> {
        fit!(check_batch(pairs.iter().map(|(key, value)| (key.as_str(), value.as_slice()))));
        if pairs.is_empty() {
            return Box::pin(std::future::ready(Ok(())));
        }
        let (mut values, mut keys) = (cmd("HSET"), cmd("ZADD"));
        values.arg(hash(bucket));
        keys.arg(index(bucket));
        for (key, value) in pairs {
            keys.arg(0).arg(&key);
            values.arg(key).arg(value);
        }
        let mut commands = pipe();
        commands.atomic().add_command(values).ignore().add_command(keys).ignore();
        self.ask(Request::all(commands))
    }

    fn delete_many(&self, bucket: &Collection, keys: Vec<String>) -> Pending<()> {
        fit!(check_batch(keys.iter().map(|key| (key.as_str(), &[] as &[u8]))));
        if keys.is_empty() {
            return Box::pin(std::future::ready(Ok(())));
        }
        let mut commands = pipe();
        commands.atomic();
        commands.cmd("HDEL").arg(hash(bucket)).arg(&keys).ignore();
        commands.cmd("ZREM").arg(index(bucket)).arg(&keys).ignore();
        self.ask(Request::all(commands))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_buckets_share_their_keys() {
        let bucket = |app: &str, name: &str| hash(&Collection::new("t", app, name).unwrap());
        assert_ne!(bucket("a/b", "c"), bucket("a", "b/c"));
        assert_ne!(bucket("a%2Fb", "c"), bucket("a/b", "c"));
        assert_eq!(bucket("a}", "b{"), "tenon:{t/a%7D/b%7B}:values");
    }

    #[test]
    fn a_password_is_not_repeated() {
        let error = Redis::new("http://user:secret@127.0.0.1").unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
