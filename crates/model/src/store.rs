//! What a store of keys, of objects or of messages has to be able to do, whoever keeps it.
//!
//! The engine asks these traits on behalf of a guest; `tenon-state` implements them. Every name and every size has
//! a limit here, so that the implementations differ in where they keep things and in nothing else.

use std::collections::BTreeSet;
use std::fmt;
use std::pin::Pin;
use std::time::SystemTime;

/// The longest name of a bucket, a container, an object or a topic, in bytes.
pub const NAME_BYTES_MAX: usize = 512;
/// The longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 1 << 10;
/// The largest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 4 << 20;
/// The most keys that one batch may name.
pub const BATCH_KEYS_MAX: usize = 1_000;
/// The most bytes of keys and values that one batch may carry, either way.
pub const BATCH_BYTES_MAX: usize = 16 << 20;
/// The most names in one page of a list.
pub const PAGE_NAMES_MAX: usize = 1_000;
/// The largest object of a container, in bytes.
pub const OBJECT_BYTES_MAX: u64 = 1 << 30;
/// The most bytes that are read from an object at once.
pub const OBJECT_CHUNK_BYTES_MAX: usize = 256 << 10;
/// The largest message, with its metadata, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// The most messages that wait in one topic of one app; what comes on top is refused.
pub const TOPIC_MESSAGES_MAX: u64 = 100_000;

/// An answer that is still to come.
pub type Pending<T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'static>>;

/// Why a store did not do as it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// There is no bucket, container or object of this name.
    Missing(String),
    /// What was asked for does not fit a limit of the store.
    TooLarge {
        /// Which limit.
        limit: &'static str,
        /// The limit.
        max: u64,
        /// What was asked for.
        actual: u64,
    },
    /// The value is not a decimal number of 64 bits with a sign, or the sum would not be one.
    NotANumber,
    /// More is asked of the store at this moment than it takes on, or more is kept than it may keep.
    Full(&'static str),
    /// The answer did not come in time.
    Timeout,
    /// The store itself failed. The text is for the log, not for a guest.
    Failed(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(name) => write!(f, "there is no `{name}`"),
            Self::TooLarge { limit, max, actual } => write!(f, "{limit}: {actual} is more than {max}"),
            Self::NotANumber => f.write_str("the value is not a 64-bit number, or would cease to be one"),
            Self::Full(what) => write!(f, "{what} is full"),
            Self::Timeout => f.write_str("the answer did not come in time"),
            Self::Failed(cause) => write!(f, "the store failed: {cause}"),
        }
    }
}

impl std::error::Error for StoreError {}

/// A collection that belongs to one app of one tenant: a bucket, a container or a topic. Two apps that use the same
/// name do not share it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Collection {
    tenant: String,
    app: String,
    name: String,
}

impl Collection {
    /// The collection `name` of this app.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] for a part longer than [`NAME_BYTES_MAX`].
    pub fn new(tenant: &str, app: &str, name: &str) -> Result<Self, StoreError> {
        for part in [tenant, app, name] {
            check("bytes of a name", NAME_BYTES_MAX as u64, part.len() as u64)?;
        }
        Ok(Self { tenant: tenant.to_owned(), app: app.to_owned(), name: name.to_owned() })
    }

    /// Whose it is.
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// Which app's it is.
    pub fn app(&self) -> &str {
        &self.app
    }

    /// What the app calls it.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Collection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.tenant, self.app, self.name)
    }
}

/// `Ok` when `actual` is within `max`.
///
/// # Errors
/// [`StoreError::TooLarge`] when it is not.
pub fn check(limit: &'static str, max: u64, actual: u64) -> Result<(), StoreError> {
    if actual > max { Err(StoreError::TooLarge { limit, max, actual }) } else { Ok(()) }
}

/// `Ok` when this is a key that every store takes.
///
/// # Errors
/// [`StoreError::TooLarge`] when it is longer than [`KEY_BYTES_MAX`].
pub fn check_key(key: &str) -> Result<(), StoreError> {
    check("bytes of a key", KEY_BYTES_MAX as u64, key.len() as u64)
}

/// `Ok` when this is a value that every store takes.
///
/// # Errors
/// [`StoreError::TooLarge`] when it is longer than [`VALUE_BYTES_MAX`].
pub fn check_value(value: &[u8]) -> Result<(), StoreError> {
    check("bytes of a value", VALUE_BYTES_MAX as u64, value.len() as u64)
}

/// `Ok` when every store takes these in one batch.
///
/// # Errors
/// [`StoreError::TooLarge`] for too many keys, too long a key or value, or too many bytes together.
pub fn check_batch<'a>(pairs: impl Iterator<Item = (&'a str, &'a [u8])>) -> Result<(), StoreError> {
    let (mut keys, mut bytes) = (0, 0);
    for (key, value) in pairs {
        check_key(key)?;
        check_value(value)?;
        keys += 1;
        bytes += (key.len() + value.len()) as u64;
    }
    check("keys of a batch", BATCH_KEYS_MAX as u64, keys)?;
    check("bytes of a batch", BATCH_BYTES_MAX as u64, bytes)
}

/// One page of the keys of a bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPage {
    /// At most [`PAGE_NAMES_MAX`] keys.
    pub keys: Vec<String>,
    /// Where the next page begins; there is none when this is `None`. Only the store that made it understands it.
    pub next: Option<String>,
}

/// What came of a compare-and-swap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Swap {
    /// The value was as expected, and is the new one now.
    Done,
    /// It was not; this is what it is.
    Changed(Option<Vec<u8>>),
}

/// A store of values by key.
///
/// What a call has answered with `Ok` is durable as far as the store is, and every later call sees it. A batch is
/// one step: all of it happens, or nothing.
pub trait KeyValue: Send + Sync + fmt::Debug {
    /// The value, when there is one.
    fn get(&self, bucket: &Collection, key: String) -> Pending<Option<Vec<u8>>>;
    /// Sets the value.
    fn set(&self, bucket: &Collection, key: String, value: Vec<u8>) -> Pending<()>;
    /// Removes the value, when there is one.
    fn delete(&self, bucket: &Collection, key: String) -> Pending<()>;
    /// Whether there is a value.
    fn exists(&self, bucket: &Collection, key: String) -> Pending<bool>;
    /// One page of the keys, from the start or from where an earlier page ended. A key that is there all the time
    /// is on some page.
    fn list_keys(&self, bucket: &Collection, from: Option<String>) -> Pending<KeyPage>;
    /// Adds to a number, which begins at nought, and answers the sum. The number is kept as decimal text.
    fn increment(&self, bucket: &Collection, key: String, delta: i64) -> Pending<i64>;
    /// Sets the value if it is still `expected`. A value that was changed and changed back counts as unchanged.
    fn compare_and_swap(
        &self,
        bucket: &Collection,
        key: String,
        expected: Option<Vec<u8>>,
        value: Vec<u8>,
    ) -> Pending<Swap>;
    /// The values of all these keys, in their order.
    fn get_many(&self, bucket: &Collection, keys: Vec<String>) -> Pending<Vec<Option<Vec<u8>>>>;
    /// Sets all of these.
    fn set_many(&self, bucket: &Collection, pairs: Vec<(String, Vec<u8>)>) -> Pending<()>;
    /// Removes all of these.
    fn delete_many(&self, bucket: &Collection, keys: Vec<String>) -> Pending<()>;
}

/// What is known of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// When it was written.
    pub created: SystemTime,
    /// How many bytes it has.
    pub size: u64,
}

/// One page of the objects of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectPage {
    /// At most [`PAGE_NAMES_MAX`] names, in order.
    pub names: Vec<String>,
    /// Whether more follow; the next page begins after the last name of this one.
    pub more: bool,
}

/// A store of objects: byte strings too large to be carried about whole.
pub trait Blobs: Send + Sync + fmt::Debug {
    /// Makes a container; one that is there already stays as it is.
    fn create_container(&self, container: &Collection) -> Pending<()>;
    /// When the container was made, when there is one.
    fn container(&self, container: &Collection) -> Pending<Option<SystemTime>>;
    /// Removes the container and all of its objects, when there is one.
    fn delete_container(&self, container: &Collection) -> Pending<()>;
    /// Removes all objects.
    fn clear(&self, container: &Collection) -> Pending<()>;
    /// What is known of an object; [`StoreError::Missing`] when there is none.
    fn info(&self, container: &Collection, object: String) -> Pending<ObjectInfo>;
    /// Opens an object. What was opened can be read to its end, whatever becomes of the object meanwhile.
    fn open(&self, container: &Collection, object: String) -> Pending<Box<dyn BlobReader>>;
    /// Begins an object. Nobody sees it before it is put in its place.
    fn create(&self) -> Pending<Box<dyn BlobWriter>>;
    /// Removes objects; those that are not there are passed over.
    fn delete(&self, container: &Collection, objects: Vec<String>) -> Pending<()>;
    /// The objects after `after`, in the order of their names.
    fn list(&self, container: &Collection, after: Option<String>) -> Pending<ObjectPage>;
    /// Copies an object, over the one that may be in its new place.
    fn copy(&self, from: (&Collection, String), to: (&Collection, String)) -> Pending<()>;
}

/// An object that is being read.
pub trait BlobReader: Send + Sync + fmt::Debug {
    /// How many bytes it has.
    fn size(&self) -> u64;
    /// At most `length` bytes (and at most [`OBJECT_CHUNK_BYTES_MAX`]) from `offset` on; none at the end.
    fn read(&self, offset: u64, length: usize) -> Pending<Vec<u8>>;
}

/// An object that is being written. Dropped before it was put in its place, it leaves nothing behind.
pub trait BlobWriter: Send + Sync + fmt::Debug {
    /// Adds to the end. One call at a time.
    fn write(&mut self, bytes: Vec<u8>) -> Pending<()>;
    /// Puts the object in its place, over the one that may be there; durable when this answers.
    fn place(self: Box<Self>, container: &Collection, object: String) -> Pending<()>;
}

/// A message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The topic it was sent to.
    pub topic: String,
    /// The form of its data.
    pub content_type: Option<String>,
    /// What it says.
    pub data: Vec<u8>,
    /// What the sender noted beside it.
    pub metadata: Vec<(String, String)>,
    /// Where an answer is waited for.
    pub reply_to: Option<String>,
}

impl Message {
    /// How many bytes it has, everything counted.
    pub fn bytes(&self) -> usize {
        let noted = self.metadata.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        let form = self.content_type.as_ref().map_or(0, String::len);
        self.topic.len() + self.data.len() + noted + form + self.reply_to.as_ref().map_or(0, String::len)
    }
}

/// A message that was taken from a queue, and has to be accepted or given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Its place in the queue of its topic.
    pub sequence: u64,
    /// How often it was taken before.
    pub attempts: u32,
    /// The message.
    pub message: Message,
}

/// Whether `topic` is one of those that `pattern` stands for: itself, or with a trailing `.*` everything below.
pub fn topic_matches(pattern: &str, topic: &str) -> bool {
    match pattern.strip_suffix(".*") {
        Some(above) => topic.strip_prefix(above).is_some_and(|rest| rest.len() > 1 && rest.starts_with('.')),
        None => pattern == topic,
    }
}

/// The topics of one app that somebody takes messages of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Whose they are.
    pub tenant: String,
    /// Which app's they are.
    pub app: String,
    /// Topics; a trailing `.*` stands for everything below.
    pub topics: BTreeSet<String>,
}

impl Subscription {
    /// Whether messages of `topic` are taken.
    pub fn covers(&self, topic: &str) -> bool {
        self.topics.iter().any(|pattern| topic_matches(pattern, topic))
    }
}

/// A store of messages: for each topic of an app a queue. Each message goes to one taker, and again to another if
/// the first does not accept it.
pub trait Messages: Send + Sync + fmt::Debug {
    /// Puts a message at the end of the queue of its topic; durable when this answers.
    fn publish(&self, tenant: &str, app: &str, message: Message) -> Pending<()>;
    /// The first message of the topic that nobody has taken; waits until there is one.
    fn take(&self, topic: &Collection) -> Pending<Delivery>;
    /// The first message that nobody has taken of one of the topics of `of`; waits until there is one. Topics take
    /// turns, in the order of their names, beginning with the one that follows `after`.
    fn take_any(&self, of: &Subscription, after: Option<&str>) -> Pending<Delivery>;
    /// Removes a message that was taken.
    fn accept(&self, topic: &Collection, sequence: u64) -> Pending<()>;
    /// Puts a message that was taken back in its place.
    fn give_back(&self, topic: &Collection, sequence: u64) -> Pending<()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_bounded_in_keys_and_in_bytes() {
        let keys: Vec<String> = (0..=BATCH_KEYS_MAX).map(|key| key.to_string()).collect();
        let all = |count: usize| check_batch(keys[..count].iter().map(|key| (key.as_str(), &[] as &[u8])));
        assert_eq!(all(BATCH_KEYS_MAX), Ok(()));
        assert!(matches!(
            all(BATCH_KEYS_MAX + 1),
            Err(StoreError::TooLarge { limit: "keys of a batch", .. })
        ));
        let value = vec![0; VALUE_BYTES_MAX];
        let large = check_batch(keys[..5].iter().map(|key| (key.as_str(), value.as_slice())));
        assert!(matches!(large, Err(StoreError::TooLarge { limit: "bytes of a batch", .. })));
    }

    #[test]
    fn a_pattern_stands_for_what_is_below_it_and_nothing_else() {
        let covers = topic_matches;
        assert!(covers("orders.new", "orders.new"));
        assert!(covers("orders.*", "orders.new") && covers("orders.*", "orders.new.eu"));
        for topic in ["orders", "orders.", "ordersnew", "orders2.new", "order.new", ""] {
            assert!(!covers("orders.*", topic), "{topic}");
        }
        assert!(!covers("orders", "orders.new") && !covers("*", "orders"));
    }

    #[test]
    fn names_and_keys_are_bounded() {
        assert!(Collection::new("tenant", "app", &"b".repeat(NAME_BYTES_MAX)).is_ok());
        assert!(Collection::new("tenant", "app", &"b".repeat(NAME_BYTES_MAX + 1)).is_err());
        assert!(check_key(&"k".repeat(KEY_BYTES_MAX + 1)).is_err());
    }
}
