//! `wasi:messaging` 0.2.0-draft: messages to the other components of the app. A message that is sent waits, durably,
//! in the queue of its topic; a request waits for its answers for as long as the request runs that sent it. Who is
//! given messages, and how, is in [`crate::deliver`].

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tenon_model::store::{MESSAGE_BYTES_MAX, Message, Messages, NAME_BYTES_MAX, StoreError, topic_matches};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use wasmtime::Result;
use wasmtime::component::Resource;

use super::Caller;
use super::stores::{Held, quoted, told};
use crate::host::Called;

mod bindings {
    wasmtime::component::bindgen!({
        path: "wit/messaging",
        world: "wasi:messaging/messaging-request-reply",
        imports: {
            "wasi:messaging/producer.send": async | trappable,
            "wasi:messaging/request-reply.request": async | trappable,
            default: trappable,
        },
        exports: { default: async },
        with: {
            "wasi:messaging/types.client": super::Client,
            "wasi:messaging/types.message": super::Letter,
            "wasi:messaging/request-reply.request-options": super::Options,
        },
    });
}

pub(crate) use bindings::MessagingRequestReplyPre as HandlerPre;
pub(super) use bindings::wasi::messaging::{producer, request_reply, types};
pub(crate) use types::Error;

/// The version of the package that is implemented.
pub(super) const VERSION: &str = "0.2.0-draft";
/// What a component exports to be given messages.
pub(crate) const HANDLER: &str = "wasi:messaging/incoming-handler@0.2.0-draft";
/// The same in any version.
pub(crate) const HANDLER_UNVERSIONED: &str = "wasi:messaging/incoming-handler";
/// Messages that a component holds at once.
pub(super) const MESSAGES_HELD_MAX: u32 = 64;
/// Requests of a node that wait for answers at once.
const REQUESTS_WAITING_MAX: usize = 10_000;
/// Random bytes in the name of an inbox: nobody, in no run of the node, meets one of another request.
const INBOX_NAME_BYTES: usize = 16;
/// Answers to one request.
const REPLIES_MAX: u32 = 64;

/// A connection to the message store: there is one, whatever it is called.
#[expect(unreachable_pub, reason = "the bindings export the types of their resources again")]
pub struct Client;

/// A message in a guest's hands.
#[expect(unreachable_pub, reason = "the bindings export the types of their resources again")]
pub struct Letter {
    message: Message,
    /// Whether it was received: only then it has a topic.
    received: bool,
    _held: Held,
}

/// How a request is made.
#[derive(Default)]
#[expect(unreachable_pub, reason = "the bindings export the types of their resources again")]
pub struct Options {
    timeout: Option<Duration>,
    replies: Option<u32>,
}

/// The requests that wait for answers.
#[derive(Debug, Default)]
pub(crate) struct Inboxes {
    open: Mutex<HashMap<String, mpsc::Sender<Message>>>,
}

impl Inboxes {
    fn open(self: &Arc<Self>) -> Result<(Inbox, mpsc::Receiver<Message>), StoreError> {
        // A message that waits keeps the name longer than this process may live: an answer that comes late must not find a
        // request that began since.
        let mut random = [0; INBOX_NAME_BYTES];
        getrandom::fill(&mut random).map_err(|error| StoreError::Failed(error.to_string()))?;
        let name = format!("{:032x}", u128::from_le_bytes(random));
        let (sender, receiver) = mpsc::channel(REPLIES_MAX as usize);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= REQUESTS_WAITING_MAX {
            return Err(StoreError::Full("the list of requests that wait for answers"));
        }
        open.insert(name.clone(), sender);
        Ok((Inbox { name, inboxes: Arc::clone(self) }, receiver))
    }

    fn find(&self, name: &str) -> Option<mpsc::Sender<Message>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}

/// Closed when it goes.
struct Inbox {
    name: String,
    inboxes: Arc<Inboxes>,
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.inboxes.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

fn other(error: &StoreError) -> Error {
    match error {
        StoreError::Timeout => Error::Timeout,
        error => Error::Other(told(error)),
    }
}

impl Called<'_> {
    /// The store, if this may be published there.
    fn publisher(&self, topic: &str) -> Result<Arc<dyn Messages>, Error> {
        let granted = self.caller.grants().messaging.iter().flat_map(|grant| &grant.publish);
        if topic.len() > NAME_BYTES_MAX || !granted.into_iter().any(|pattern| topic_matches(pattern, topic)) {
            let asked = format!("publish to {}", quoted(topic));
            let line = format!(r#""wasi:messaging" = {{ publish = [{}] }}"#, quoted(topic));
            self.caller.refused("wasi:messaging", &asked, &line);
            return Err(Error::PermissionDenied(asked));
        }
        let store = &self.caller.backends().stores.messages;
        store.clone().ok_or_else(|| Error::Connection("this host has no message store".into()))
    }

    /// A message in the hands of the component.
    pub(crate) fn letter(&mut self, message: Message, received: bool) -> Result<Resource<Letter>> {
        let held = self.hold_one().ok_or_else(|| wasmtime::Error::msg(full()))?;
        self.held_letter(message, received, held)
    }

    fn held_letter(&mut self, message: Message, received: bool, held: Held) -> Result<Resource<Letter>> {
        Ok(self.table.push(Letter { message, received, _held: held })?)
    }

    /// One more message, unless the component holds as many as it may.
    fn hold_one(&self) -> Option<Held> {
        let held = Held::one(&self.caller.held_messages, MESSAGES_HELD_MAX);
        if held.is_none() {
            self.caller.spent("messages-held", MESSAGES_HELD_MAX.into());
        }
        held
    }

    /// Changes a message, which has to stay within its limit.
    fn edit(&mut self, letter: &Resource<Letter>, edit: impl FnOnce(&mut Message)) -> Result<()> {
        let message = &mut self.table.get_mut(letter)?.message;
        edit(message);
        wasmtime::ensure!(
            message.bytes() <= MESSAGE_BYTES_MAX,
            "a message has {MESSAGE_BYTES_MAX} bytes at most, its metadata counted"
        );
        Ok(())
    }
}

fn full() -> String {
    format!("the component holds {MESSAGES_HELD_MAX} messages, and may not hold more")
}

async fn publish(caller: Arc<Caller>, store: Arc<dyn Messages>, message: Message) -> Result<(), Error> {
    let (tenant, app) = caller.owner();
    store.publish(tenant, app, message).await.map_err(|error| other(&error))
}

impl producer::Host for Called<'_> {
    async fn send(
        &mut self,
        _client: Resource<Client>,
        topic: String,
        letter: Resource<Letter>,
    ) -> Result<Result<(), Error>> {
        let Letter { message, .. } = self.table.delete(letter)?;
        let store = match self.publisher(&topic) {
            Ok(store) => store,
            Err(refused) => return Ok(Err(refused)),
        };
        let message = Message { topic, reply_to: None, ..message };
        Ok(publish(Arc::clone(self.caller), store, message).await)
    }
}

impl request_reply::Host for Called<'_> {
    async fn request(
        &mut self,
        _client: Resource<Client>,
        topic: String,
        letter: Resource<Letter>,
        options: Option<Resource<Options>>,
    ) -> Result<Result<Vec<Resource<Letter>>, Error>> {
        let options = options.map(|options| self.table.delete(options)).transpose()?.unwrap_or_default();
        let message = self.table.get(&letter)?.message.clone();
        let store = match self.publisher(&topic) {
            Ok(store) => store,
            Err(refused) => return Ok(Err(refused)),
        };
        let caller = Arc::clone(self.caller);
        // A wait without end ends with the request.
        let deadline = Instant::now() + options.timeout.unwrap_or(caller.limits().wall);
        // The guest has its own message still, and maybe others: there have to be hands for the answers.
        let Some(first) = self.hold_one() else { return Ok(Err(Error::Other(full()))) };
        let free = MESSAGES_HELD_MAX.saturating_sub(caller.held_messages.load(Relaxed)) + 1;
        let wanted = options.replies.unwrap_or(1).clamp(1, REPLIES_MAX.min(free)) as usize;
        let (inbox, mut answers) = match caller.backends().stores.inboxes.open() {
            Ok(opened) => opened,
            Err(error) => return Ok(Err(other(&error))),
        };
        let message = Message { topic, reply_to: Some(inbox.name.clone()), ..message };
        if let Err(error) = publish(Arc::clone(&caller), store, message).await {
            return Ok(Err(error));
        }
        let mut received = Vec::new();
        while received.len() < wanted {
            match timeout_at(deadline, answers.recv()).await {
                Ok(Some(answer)) => received.push(answer),
                Ok(None) | Err(_) => break,
            }
        }
        if received.is_empty() {
            return Ok(Err(Error::Timeout));
        }
        let mut letters = Vec::new();
        let mut first = Some(first);
        for answer in received {
            // Others of the component may have taken up messages meanwhile.
            let Some(held) = first.take().or_else(|| self.hold_one()) else { break };
            letters.push(self.held_letter(answer, true, held)?);
        }
        Ok(Ok(letters))
    }

    fn reply(&mut self, to: Resource<Letter>, letter: Resource<Letter>) -> Result<Result<(), Error>> {
        let Letter { message, .. } = self.table.delete(letter)?;
        // To answer a message that nobody waits on, or not any more, is no mistake.
        if let Some(inbox) = &self.table.get(&to)?.message.reply_to
            && let Some(inbox) = self.caller.backends().stores.inboxes.find(inbox)
            && inbox.try_send(message).is_err_and(|error| matches!(error, mpsc::error::TrySendError::Full(_)))
        {
            return Ok(Err(Error::Other(format!("there are {REPLIES_MAX} answers already"))));
        }
        Ok(Ok(()))
    }
}

impl request_reply::HostRequestOptions for Called<'_> {
    fn new(&mut self) -> Result<Resource<Options>> {
        Ok(self.table.push(Options::default())?)
    }

    fn set_timeout_ms(&mut self, options: Resource<Options>, timeout_ms: u32) -> Result<()> {
        self.table.get_mut(&options)?.timeout = Some(Duration::from_millis(timeout_ms.into()));
        Ok(())
    }

    fn set_expected_replies(&mut self, options: Resource<Options>, replies: u32) -> Result<()> {
        self.table.get_mut(&options)?.replies = Some(replies);
        Ok(())
    }

    fn drop(&mut self, options: Resource<Options>) -> Result<()> {
        self.table.delete(options)?;
        Ok(())
    }
}

impl types::Host for Called<'_> {}

impl types::HostClient for Called<'_> {
    fn connect(&mut self, _name: String) -> Result<Result<Resource<Client>, Error>> {
        Ok(Ok(self.table.push(Client)?))
    }

    fn disconnect(&mut self, _client: Resource<Client>) -> Result<Result<(), Error>> {
        Ok(Ok(()))
    }

    fn drop(&mut self, client: Resource<Client>) -> Result<()> {
        self.table.delete(client)?;
        Ok(())
    }
}

impl types::HostMessage for Called<'_> {
    fn new(&mut self, data: Vec<u8>) -> Result<Resource<Letter>> {
        wasmtime::ensure!(data.len() <= MESSAGE_BYTES_MAX, "a message has {MESSAGE_BYTES_MAX} bytes at most");
        self.letter(Message { data, ..Message::default() }, false)
    }

    fn topic(&mut self, letter: Resource<Letter>) -> Result<Option<String>> {
        let letter = self.table.get(&letter)?;
        Ok(letter.received.then(|| letter.message.topic.clone()))
    }

    fn content_type(&mut self, letter: Resource<Letter>) -> Result<Option<String>> {
        Ok(self.table.get(&letter)?.message.content_type.clone())
    }

    fn set_content_type(&mut self, letter: Resource<Letter>, content_type: String) -> Result<()> {
        self.edit(&letter, |message| message.content_type = Some(content_type))
    }

    fn data(&mut self, letter: Resource<Letter>) -> Result<Vec<u8>> {
        Ok(self.table.get(&letter)?.message.data.clone())
    }

    fn set_data(&mut self, letter: Resource<Letter>, data: Vec<u8>) -> Result<()> {
        self.edit(&letter, |message| message.data = data)
    }

    fn metadata(&mut self, letter: Resource<Letter>) -> Result<Option<Vec<(String, String)>>> {
        let metadata = &self.table.get(&letter)?.message.metadata;
        Ok((!metadata.is_empty()).then(|| metadata.clone()))
    }

    fn add_metadata(&mut self, letter: Resource<Letter>, key: String, value: String) -> Result<()> {
        self.edit(&letter, |message| {
            message.metadata.retain(|(known, _)| *known != key);
            message.metadata.push((key, value));
        })
    }

    fn set_metadata(&mut self, letter: Resource<Letter>, metadata: Vec<(String, String)>) -> Result<()> {
        self.edit(&letter, |message| message.metadata = metadata)
    }

    fn remove_metadata(&mut self, letter: Resource<Letter>, key: String) -> Result<()> {
        self.edit(&letter, |message| message.metadata.retain(|(known, _)| *known != key))
    }

    fn drop(&mut self, letter: Resource<Letter>) -> Result<()> {
        self.table.delete(letter)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_comes_late_finds_no_request_of_another_run() {
        let names = || {
            let inboxes = Arc::new(Inboxes::default());
            let open = [inboxes.open().unwrap().0, inboxes.open().unwrap().0];
            open.each_ref().map(|inbox| inbox.name.clone())
        };
        let all: std::collections::BTreeSet<_> = (0..100).flat_map(|_| names()).collect();
        assert_eq!(all.len(), 200);
        assert!(all.iter().all(|name| name.len() == 2 * INBOX_NAME_BYTES), "{all:?}");
    }

    #[tokio::test]
    async fn an_inbox_is_closed_when_its_request_ends() {
        let inboxes = Arc::new(Inboxes::default());
        let (inbox, mut answers) = inboxes.open().unwrap();
        let answer = Message { data: b"yes".to_vec(), ..Message::default() };
        inboxes.find(&inbox.name).unwrap().try_send(answer.clone()).unwrap();
        assert_eq!(answers.recv().await, Some(answer));
        let name = inbox.name.clone();
        drop(inbox);
        assert!(inboxes.find(&name).is_none());
    }
}
