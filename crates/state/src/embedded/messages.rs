//! Messages: a queue for each topic. Which messages are taken is known to the process only: after a crash all of
//! them wait again, and one that was being handled is handled twice rather than never.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};

use redb::{ReadTransaction, ReadableTable as _, TableDefinition};
use tenon_model::store::{
    Collection, Delivery, MESSAGE_BYTES_MAX, Message, Messages, Pending, StoreError, Subscription,
    TOPIC_MESSAGES_MAX, check,
};
use tokio::sync::Notify;

use super::Embedded;
use super::usage::{ENTRY_BYTES, Kind, account};

/// Messages that may be taken and neither accepted nor given back, in one topic.
const TAKEN_MAX: usize = 10_000;
/// Topics that are passed over in one search, because all of their messages are taken.
const TOPICS_PASSED_MAX: usize = 1_000;

type Row<'a> = (Option<&'a str>, &'a [u8], Vec<(&'a str, &'a str)>, Option<&'a str>);

/// (tenant, app, topic, sequence) → (content type, data, metadata, reply to).
pub(super) const MESSAGES: TableDefinition<(&str, &str, &str, u64), Row<'static>> =
    TableDefinition::new("messages");
/// (tenant, app, topic) → (the next sequence, messages that wait).
pub(super) const TOPICS: TableDefinition<(&str, &str, &str), (u64, u64)> = TableDefinition::new("topics");

/// What the process knows of the topics somebody takes from.
#[derive(Debug, Default)]
pub(super) struct Queues {
    known: Mutex<HashMap<Collection, Arc<Queue>>>,
    /// For whoever waits for more than one topic.
    news: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    news: Notify,
    /// Those that are taken, and how often each was given back.
    state: Mutex<BTreeMap<u64, Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    /// Not when it was given back and waits again.
    now: bool,
    before: u32,
}

impl Queues {
    fn of(&self, topic: &Collection) -> Arc<Queue> {
        let mut queues = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(queues.entry(topic.clone()).or_default())
    }

    /// Somebody may wait for this; only then is it known here.
    fn known(&self, topic: &Collection) -> Option<Arc<Queue>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(topic).cloned()
    }

    /// Tells everybody who waits that a message of the topic waits.
    fn tell(&self, topic: &Collection) {
        if let Some(queue) = self.known(topic) {
            queue.news.notify_waiters();
        }
        self.news.notify_waiters();
    }

    /// Whether somebody has taken this message.
    fn is_taken(&self, topic: &Collection, sequence: u64) -> bool {
        self.known(topic)
            .is_some_and(|queue| queue.with(|state| state.get(&sequence).is_some_and(|it| it.now)))
    }

    /// Forgets a topic of which nothing is taken and for which nobody waits: only the list itself knows it.
    fn forget(&self, topic: &Collection) {
        let mut queues = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = |queue: &Arc<Queue>| Arc::strong_count(queue) == 1 && queue.with(|state| state.is_empty());
        if queues.get(topic).is_some_and(idle) {
            queues.remove(topic);
        }
    }
}

/// Somebody who waits for messages of a topic, which is known for that long.
struct Taker {
    queues: Arc<Queues>,
    topic: Collection,
    /// Until the taker goes.
    queue: Option<Arc<Queue>>,
}

impl Taker {
    fn new(queues: &Arc<Queues>, topic: &Collection) -> Self {
        let queue = Some(queues.of(topic));
        Self { queues: Arc::clone(queues), topic: topic.clone(), queue }
    }
}

impl Drop for Taker {
    fn drop(&mut self) {
        self.queue = None;
        self.queues.forget(&self.topic);
    }
}

/// A message that is taken and not yet handed over. Dropped, it waits again as it did before.
struct Claim {
    taker: Taker,
    sequence: u64,
    before: u32,
    handed_over: bool,
}

impl Claim {
    /// `None` when somebody else was faster.
    fn lay(queues: &Arc<Queues>, topic: &Collection, sequence: u64) -> Option<Self> {
        let taker = Taker::new(queues, topic);
        let before = taker.queue.as_ref().and_then(|queue| queue.take(sequence))?;
        Some(Self { taker, sequence, before, handed_over: false })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let (false, Some(queue)) = (self.handed_over, &self.taker.queue) else { return };
        let (sequence, before) = (self.sequence, self.before);
        queue.with(|state| match before {
            0 => drop(state.remove(&sequence)),
            before => drop(state.insert(sequence, Taken { now: false, before })),
        });
        self.taker.queues.tell(&self.taker.topic);
    }
}

impl Queue {
    fn with<T>(&self, work: impl FnOnce(&mut BTreeMap<u64, Taken>) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes it unless somebody has; says how often it was taken before.
    fn take(&self, sequence: u64) -> Option<u32> {
        self.with(|state| {
            let taken = state.entry(sequence).or_default();
            if taken.now {
                return None;
            }
            taken.now = true;
            Some(taken.before)
        })
    }
}

/// The first message of a topic that nobody has taken.
fn first_of(
    transaction: &ReadTransaction,
    queues: &Queues,
    topic: &Collection,
) -> Result<Option<u64>, redb::Error> {
    let messages = transaction.open_table(MESSAGES)?;
    let row = |sequence| (topic.tenant(), topic.app(), topic.name(), sequence);
    for entry in messages.range(row(0)..=row(u64::MAX))?.take(TAKEN_MAX) {
        let sequence = entry?.0.value().3;
        if !queues.is_taken(topic, sequence) {
            return Ok(Some(sequence));
        }
    }
    Ok(None)
}

/// The first message that nobody has taken of the topics of `of` that follow `after`, in the order of the topics.
fn first_after(
    transaction: &ReadTransaction,
    queues: &Queues,
    of: &Subscription,
    after: Option<&str>,
) -> Result<Option<(Collection, u64)>, redb::Error> {
    let topics = transaction.open_table(TOPICS)?;
    let mut first: Option<(Collection, u64)> = None;
    for pattern in &of.topics {
        // What is below a name begins with the name and a dot, and `/` is the character after the dot.
        let (start, end) = match pattern.strip_suffix(".*") {
            Some(above) => (format!("{above}."), Bound::Excluded(format!("{above}/"))),
            None => (pattern.clone(), Bound::Included(pattern.clone())),
        };
        let start = match after {
            Some(after) if after >= start.as_str() => Bound::Excluded(after),
            _ => Bound::Included(start.as_str()),
        };
        fn row<'a>(of: &'a Subscription, name: &'a str) -> (&'a str, &'a str, &'a str) {
            (&of.tenant, &of.app, name)
        }
        let end = end.as_ref().map(|end| row(of, end));
        let start = start.map(|start| row(of, start));
        if is_empty(&start, &end) {
            continue;
        }
        for entry in topics.range::<(&str, &str, &str)>((start, end))?.take(TOPICS_PASSED_MAX) {
            let (key, _) = entry?;
            let name = key.value().2;
            if first.as_ref().is_some_and(|(first, _)| first.name() <= name) {
                break;
            }
            // It was made of these parts when the message was published.
            let Ok(topic) = Collection::new(&of.tenant, &of.app, name) else { continue };
            if !of.covers(name) {
                continue;
            }
            if let Some(sequence) = first_of(transaction, queues, &topic)? {
                first = Some((topic, sequence));
                break;
            }
        }
    }
    Ok(first)
}

/// Whether there is nothing between the two: the database does not take such a range.
fn is_empty<T: Ord>(start: &Bound<T>, end: &Bound<T>) -> bool {
    match (start, end) {
        (Bound::Included(start), Bound::Included(end)) => start > end,
        (Bound::Included(start) | Bound::Excluded(start), Bound::Included(end) | Bound::Excluded(end)) => {
            start >= end
        }
        (_, _) => false,
    }
}

impl Embedded {
    /// The message behind a claim; `None` when it was accepted by another just before the claim was laid.
    async fn claimed(&self, claim: &mut Claim) -> Result<Option<Delivery>, StoreError> {
        let (topic, sequence) = (claim.taker.topic.clone(), claim.sequence);
        // This sees the state after the claim: a message that is there now is there for whoever has the claim.
        let read = self.shared.reader.clone().run(move |transaction| {
            let messages = transaction.open_table(MESSAGES)?;
            let row = messages.get((topic.tenant(), topic.app(), topic.name(), sequence))?;
            Ok(Ok(row.map(|row| {
                let (content_type, data, metadata, reply_to) = row.value();
                let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
                Message {
                    topic: topic.name().to_owned(),
                    content_type: content_type.map(str::to_owned),
                    data: data.to_vec(),
                    metadata: metadata.into_iter().map(owned).collect(),
                    reply_to: reply_to.map(str::to_owned),
                }
            })))
        });
        let Some(message) = read.await? else { return Ok(None) };
        claim.handed_over = true;
        Ok(Some(Delivery { sequence, attempts: claim.before, message }))
    }
}

impl Messages for Embedded {
    fn publish(&self, tenant: &str, app: &str, message: Message) -> Pending<()> {
        let checked = check("bytes of a message", MESSAGE_BYTES_MAX as u64, message.bytes() as u64)
            .and_then(|()| Collection::new(tenant, app, &message.topic));
        let topic = match checked {
            Ok(topic) => topic,
            Err(error) => return Box::pin(std::future::ready(Err(error))),
        };
        let (quota, bytes) = (self.shared.quota, message.bytes());
        let queues = Arc::clone(&self.shared.queues);
        let told = topic.clone();
        let written = self.shared.writer.run(bytes, move |transaction| {
            let mut topics = transaction.open_table(TOPICS)?;
            let key = (topic.tenant(), topic.app(), topic.name());
            let (next, waiting) = topics.get(key)?.map_or((0, 0), |row| row.value());
            if waiting >= TOPIC_MESSAGES_MAX {
                return Ok(Err(StoreError::Full("the topic")));
            }
            let weight = bytes as u64 + ENTRY_BYTES;
            if let Err(full) = account(transaction, quota, Kind::Messages, &topic, weight, 0)? {
                return Ok(Err(full));
            }
            topics.insert(key, (next + 1, waiting + 1))?;
            let metadata =
                message.metadata.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let row = (
                message.content_type.as_deref(),
                message.data.as_slice(),
                metadata,
                message.reply_to.as_deref(),
            );
            transaction
                .open_table(MESSAGES)?
                .insert((topic.tenant(), topic.app(), topic.name(), next), row)?;
            Ok(Ok(()))
        });
        Box::pin(async move {
            written.await?;
            queues.tell(&told);
            Ok(())
        })
    }

    fn take(&self, topic: &Collection) -> Pending<Delivery> {
        let (store, topic) = (self.clone(), topic.clone());
        Box::pin(async move {
            let queues = Arc::clone(&store.shared.queues);
            let _taker = Taker::new(&queues, &topic);
            // Declared after the taker, and so dropped before it: the taker is the last.
            let queue = queues.of(&topic);
            loop {
                // Before looking: what comes between looking and waiting must not be missed.
                let mut news = std::pin::pin!(queue.news.notified());
                news.as_mut().enable();
                let (known, of) = (Arc::clone(&queues), topic.clone());
                let read = store.shared.reader.clone();
                let found = read.run(move |transaction| first_of(transaction, &known, &of).map(Ok)).await?;
                let Some(sequence) = found else {
                    news.await;
                    continue;
                };
                if let Some(mut claim) = Claim::lay(&queues, &topic, sequence)
                    && let Some(delivery) = store.claimed(&mut claim).await?
                {
                    return Ok(delivery);
                }
            }
        })
    }

    fn take_any(&self, of: &Subscription, after: Option<&str>) -> Pending<Delivery> {
        let (store, of, after) = (self.clone(), of.clone(), after.map(str::to_owned));
        Box::pin(async move {
            let queues = Arc::clone(&store.shared.queues);
            loop {
                // Before looking, as above.
                let mut news = std::pin::pin!(queues.news.notified());
                news.as_mut().enable();
                let (known, of, after) = (Arc::clone(&queues), of.clone(), after.clone());
                let found = store.shared.reader.clone().run(move |transaction| {
                    let mut found = first_after(transaction, &known, &of, after.as_deref())?;
                    if found.is_none() && after.is_some() {
                        found = first_after(transaction, &known, &of, None)?;
                    }
                    Ok(Ok(found))
                });
                let Some((topic, sequence)) = found.await? else {
                    news.await;
                    continue;
                };
                if let Some(mut claim) = Claim::lay(&queues, &topic, sequence)
                    && let Some(delivery) = store.claimed(&mut claim).await?
                {
                    return Ok(delivery);
                }
            }
        })
    }

    fn accept(&self, topic: &Collection, sequence: u64) -> Pending<()> {
        let (topic, quota) = (topic.clone(), self.shared.quota);
        let (queues, known) = (Arc::clone(&self.shared.queues), topic.clone());
        let written = self.shared.writer.run(0, move |transaction| {
            let mut messages = transaction.open_table(MESSAGES)?;
            let removed = messages.remove((topic.tenant(), topic.app(), topic.name(), sequence))?;
            let Some(weight) = removed.map(|row| {
                let (content_type, data, metadata, reply_to) = row.value();
                let noted = metadata.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
                let bytes = topic.name().len()
                    + content_type.map_or(0, str::len)
                    + data.len()
                    + noted
                    + reply_to.map_or(0, str::len);
                bytes as u64 + ENTRY_BYTES
            }) else {
                return Ok(Ok(()));
            };
            let mut topics = transaction.open_table(TOPICS)?;
            let key = (topic.tenant(), topic.app(), topic.name());
            let (next, waiting) = topics.get(key)?.map_or((0, 0), |row| row.value());
            // None waits and none is taken: counting may begin again, and the row of a topic that was used once goes.
            if waiting <= 1 {
                topics.remove(key)?;
            } else {
                topics.insert(key, (next, waiting - 1))?;
            }
            account(transaction, quota, Kind::Messages, &topic, 0, weight)
        });
        Box::pin(async move {
            written.await?;
            if let Some(queue) = queues.known(&known) {
                queue.with(|state| state.remove(&sequence));
                drop(queue);
                queues.forget(&known);
            }
            // The number may stand for another message already, which looked taken until now.
            queues.tell(&known);
            Ok(())
        })
    }

    fn give_back(&self, topic: &Collection, sequence: u64) -> Pending<()> {
        if let Some(queue) = self.shared.queues.known(topic) {
            queue.with(|state| {
                if let Some(taken) = state.get_mut(&sequence) {
                    taken.now = false;
                    taken.before = taken.before.saturating_add(1);
                }
            });
            self.shared.queues.tell(topic);
        }
        Box::pin(std::future::ready(Ok(())))
    }
}
