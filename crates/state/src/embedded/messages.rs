//! Messages: a queue for each topic. Which messages are taken is known to the process only: after a crash all of
//! them wait again, and one that was being handled is handled twice rather than never.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use redb::{ReadableTable as _, TableDefinition};
use tenon_model::store::{
    Collection, Delivery, MESSAGE_BYTES_MAX, Message, Messages, Pending, StoreError, TOPIC_MESSAGES_MAX,
    check,
};
use tokio::sync::Notify;

use super::Embedded;
use super::usage::{ENTRY_BYTES, Kind, account};

/// Messages that may be taken and neither accepted nor given back, in one topic.
const TAKEN_MAX: usize = 10_000;

type Row<'a> = (Option<&'a str>, &'a [u8], Vec<(&'a str, &'a str)>, Option<&'a str>);

/// (tenant, app, topic, sequence) → (content type, data, metadata, reply to).
pub(super) const MESSAGES: TableDefinition<(&str, &str, &str, u64), Row<'static>> =
    TableDefinition::new("messages");
/// (tenant, app, topic) → (the next sequence, messages that wait).
pub(super) const TOPICS: TableDefinition<(&str, &str, &str), (u64, u64)> = TableDefinition::new("topics");

/// What the process knows of the topics somebody takes from.
#[derive(Debug, Default)]
pub(super) struct Queues(Mutex<HashMap<Collection, Arc<Queue>>>);

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
        let mut queues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(queues.entry(topic.clone()).or_default())
    }

    /// Somebody may wait for this; only then is it known here.
    fn known(&self, topic: &Collection) -> Option<Arc<Queue>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(topic).cloned()
    }

    /// Forgets a topic of which nothing is taken and for which nobody waits: only the list itself knows it.
    fn forget(&self, topic: &Collection) {
        let mut queues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = |queue: &Arc<Queue>| Arc::strong_count(queue) == 1 && queue.with(|state| state.is_empty());
        if queues.get(topic).is_some_and(idle) {
            queues.remove(topic);
        }
    }
}

/// Somebody who waits for messages of a topic.
struct Taker {
    queues: Arc<Queues>,
    topic: Collection,
    /// Until the taker goes.
    queue: Option<Arc<Queue>>,
}

impl Drop for Taker {
    fn drop(&mut self) {
        self.queue = None;
        self.queues.forget(&self.topic);
    }
}

impl Queue {
    fn with<T>(&self, work: impl FnOnce(&mut BTreeMap<u64, Taken>) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_taken(&self, sequence: u64) -> bool {
        self.with(|state| state.get(&sequence).is_some_and(|taken| taken.now))
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

impl Embedded {
    /// The first message that nobody has taken, if there is one at this moment.
    async fn first(&self, topic: &Collection, queue: &Arc<Queue>) -> Result<Option<Delivery>, StoreError> {
        let (topic, queue) = (topic.clone(), Arc::clone(queue));
        let read = self.shared.reader.clone().run(move |transaction| {
            let messages = transaction.open_table(MESSAGES)?;
            let row = |sequence| (topic.tenant(), topic.app(), topic.name(), sequence);
            let mut passed = 0;
            for entry in messages.range(row(0)..=row(u64::MAX))? {
                let (key, value) = entry?;
                let sequence = key.value().3;
                if queue.is_taken(sequence) {
                    passed += 1;
                    if passed >= TAKEN_MAX {
                        return Ok(Ok(None));
                    }
                    continue;
                }
                let (content_type, data, metadata, reply_to) = value.value();
                let message = Message {
                    topic: topic.name().to_owned(),
                    content_type: content_type.map(str::to_owned),
                    data: data.to_vec(),
                    metadata: metadata
                        .into_iter()
                        .map(|(name, value)| (name.to_owned(), value.to_owned()))
                        .collect(),
                    reply_to: reply_to.map(str::to_owned),
                };
                return Ok(Ok(Some((sequence, message))));
            }
            Ok(Ok(None))
        });
        Ok(read.await?.map(|(sequence, message)| Delivery { sequence, attempts: 0, message }))
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
            if let Some(queue) = queues.known(&told) {
                queue.news.notify_waiters();
            }
            Ok(())
        })
    }

    fn take(&self, topic: &Collection) -> Pending<Delivery> {
        let (store, topic) = (self.clone(), topic.clone());
        Box::pin(async move {
            let opened = store.shared.queues.of(&topic);
            let queues = Arc::clone(&store.shared.queues);
            let _taker = Taker { queues, topic: topic.clone(), queue: Some(Arc::clone(&opened)) };
            // Declared after the taker, and so dropped before it: the taker is the last.
            let queue = opened;
            loop {
                // Before looking: what comes between looking and waiting must not be missed.
                let mut news = std::pin::pin!(queue.news.notified());
                news.as_mut().enable();
                match store.first(&topic, &queue).await? {
                    Some(mut delivery) => {
                        if let Some(before) = queue.take(delivery.sequence) {
                            delivery.attempts = before;
                            return Ok(delivery);
                        }
                    }
                    None => news.await,
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
            queue.news.notify_waiters();
        }
        Box::pin(std::future::ready(Ok(())))
    }
}
