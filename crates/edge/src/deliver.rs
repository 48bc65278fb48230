//! The life of a message: taken from its queue, admitted, handled, and then accepted, tried again or thrown away.
//!
//! Messages are delivered at least once and in no certain order: several run at the same time, and one whose handling
//! fails is tried again later. How often it was tried is known to the process only; after a restart it begins anew.
//!
//! A message is admitted as a request is: a turn of its tenant and one of its revision, a sandbox of the tenant's share, the
//! tenant's rates; and what its guest uses is the tenant's. Where a request would be refused, it waits: also while the
//! revision is given a rest, so that no message is used up by an app that fails in any case. A message that fails gives no
//! rest itself, for it is tried later, and requests may do well meanwhile; but it may be the one that ends a rest.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tenon_engine::{Failure, Limit, Post, Record, Service};
use tenon_model::store::{Collection, Delivery, StoreError};
use tenon_model::{Limits, RevisionNumber};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tracing::field::DisplayValue;

use crate::app::App;
use crate::breaker::{Ended, Pass};
use crate::clock::Now;
use crate::count::{Outcome, micros};
use crate::identify::Ids;
use crate::observe::{MessageHead, Observed, What};
use crate::server::ServerError;
use crate::site::Site;
use crate::slot::Slot;
use crate::tenant::Token;
use crate::ticket::whose;
use crate::trace::{Draw, begin};

/// Messages that are handled at the same time; they count among the requests of the app that may run.
pub const DELIVERIES_MAX: usize = 16;
/// How often the handling of a message is tried. One that failed every time is thrown away.
pub const ATTEMPTS_MAX: u32 = 5;
/// How long a message rests after it was tried for the first time; each further rest is four times as long.
const REST: Duration = Duration::from_millis(100);
/// Messages that may rest at the same time; each further one rests in the place of one that is handled.
const RESTING_MAX: usize = 1_000;
/// When the app or its tenant handles as many requests as it may, or the store fails: wait before trying again.
const PAUSE: Duration = Duration::from_millis(100);
/// When the node has no free sandbox, or the app cannot be brought into memory: wait before trying again.
const POOL_PAUSE: Duration = Duration::from_secs(1);

/// What became of the messages of a node since it was started.
#[derive(Debug, Default)]
pub struct Tally {
    handled: AtomicU64,
    failed: AtomicU64,
    thrown_away: AtomicU64,
}

impl Tally {
    /// Messages that were handled.
    pub fn handled(&self) -> u64 {
        self.handled.load(Relaxed)
    }

    /// Attempts that failed.
    pub fn failed(&self) -> u64 {
        self.failed.load(Relaxed)
    }

    /// Messages that were thrown away, because every attempt failed.
    pub fn thrown_away(&self) -> u64 {
        self.thrown_away.load(Relaxed)
    }
}

/// The delivery of messages, running on a thread of its own.
pub struct Deliveries {
    /// Told to stop: how long what runs may go on, at most.
    stop: watch::Sender<Option<Duration>>,
    thread: JoinHandle<()>,
    tally: Arc<Tally>,
    app: Arc<App>,
    slot: Arc<Slot>,
    /// What people call the app.
    name: String,
}

impl Deliveries {
    /// Starts to deliver what the site's app is subscribed to; `None` when that is nothing.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(site: &Arc<Site>) -> Result<Option<Self>, ServerError> {
        let Some(entry) = site.alone() else { return Ok(None) };
        let Some(service) = entry.stable.service() else { return Ok(None) };
        let Some(post) = service.post() else { return Ok(None) };
        let (stop, stopped) = watch::channel(None);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(ServerError::Worker)?;
        let random = |error: getrandom::Error| ServerError::Worker(error.into());
        let (ids, draw) = (Ids::new().map_err(random)?, Draw::new().map_err(random)?);
        let tally = Arc::new(Tally::default());
        let office = Arc::new(Office {
            door: Door { app: Arc::clone(&entry.app), slot: Arc::clone(&entry.stable) },
            site: Arc::clone(site),
            name: service.name().to_owned(),
            post,
            ids,
            draw,
            tally: Arc::clone(&tally),
            resting: Arc::new(Semaphore::new(RESTING_MAX)),
        });
        let longest = site.longest();
        let thread = std::thread::Builder::new()
            .name("tenon-messages".into())
            .spawn(move || {
                runtime.block_on(office.deliver_all(stopped, longest));
                // Whatever still rests is in the store.
                runtime.shutdown_background();
            })
            .map_err(ServerError::Worker)?;
        let (app, slot, name) =
            (Arc::clone(&entry.app), Arc::clone(&entry.stable), service.name().to_owned());
        Ok(Some(Self { stop, thread, tally, app, slot, name }))
    }

    /// What became of the messages so far.
    pub fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }

    /// Takes no further message, and waits for those that are being handled: as long as one may last, or `most` where that is
    /// less.
    pub fn drain(self, most: Option<Duration>) {
        self.stop.send_replace(Some(most.unwrap_or(Duration::MAX)));
        let _ = self.thread.join();
        let Tally { handled, failed, thrown_away } = &*self.tally;
        let (handled, failed, thrown_away) =
            (handled.load(Relaxed), failed.load(Relaxed), thrown_away.load(Relaxed));
        let (tenant, revision) = whose(&self.app, Some(&self.slot));
        tracing::info!(
            target: "tenon::message",
            tenant,
            app = self.name,
            revision,
            handled,
            failed,
            thrown_away,
            "no more messages are delivered"
        );
    }
}

/// Messages that an app may handle at once: no more than can each use up their processor time within their time on the
/// wall, for then all of them would run out of it together; and at most half of what may run, so that clients have turns.
fn places_max(limits: &Limits) -> usize {
    let in_time = limits.wall.as_micros() / limits.cpu.as_micros().max(1) / 2;
    let turns = limits.concurrency as usize / 2;
    usize::try_from(in_time).unwrap_or(usize::MAX).min(turns).clamp(1, DELIVERIES_MAX)
}

/// All that a delivery needs.
struct Office {
    door: Door,
    site: Arc<Site>,
    /// What people call the app.
    name: String,
    post: Post,
    ids: Ids,
    draw: Draw,
    tally: Arc<Tally>,
    resting: Arc<Semaphore>,
}

/// Through which messages come to a revision: the same way as requests.
struct Door {
    app: Arc<App>,
    slot: Arc<Slot>,
}

/// Leave to handle one message, given back when it is dropped.
struct Admitted {
    _in_tenant: InTenant,
    _in_gate: InGate,
    _sandbox: Token,
    passed: Passed,
}

/// A message that counts among what its tenant runs.
struct InTenant(Arc<App>);

impl Drop for InTenant {
    fn drop(&mut self) {
        self.0.tenant().leave();
    }
}

/// A message that counts among what its revision runs.
struct InGate(Arc<Slot>);

impl Drop for InGate {
    fn drop(&mut self) {
        self.0.gate().leave();
    }
}

/// A message that the revision's breaker let pass.
struct Passed {
    slot: Arc<Slot>,
    /// `None` where it is no concern of the breaker's, and once it is over.
    pass: Option<Pass>,
}

impl Passed {
    /// What it says of the revision counts where it finds out whether that works again.
    fn ended(&mut self, ended: Ended) {
        if let Some(pass) = self.pass.take() {
            let ended = if pass == Pass::Probe { ended } else { Ended::Otherwise };
            self.slot.breaker().ended(pass, ended, || Now::read().ns);
        }
    }
}

impl Drop for Passed {
    fn drop(&mut self) {
        // It has not come to a guest.
        self.ended(Ended::Otherwise);
    }
}

impl Door {
    /// Waits until one more may be handled. Clients do not wait longer because messages wait: those take no place in any
    /// queue, and hold nothing meanwhile.
    async fn admit(&self, bytes: u64) -> Admitted {
        loop {
            match self.try_admit(bytes, Now::read()) {
                Ok(admitted) => return admitted,
                Err(again) => tokio::time::sleep(again).await,
            }
        }
    }

    /// Leave to handle a message of so many bytes, or how long to wait before it is worth asking again.
    fn try_admit(&self, bytes: u64, now: Now) -> Result<Admitted, Duration> {
        let tenant = self.app.tenant();
        if !tenant.try_enter() {
            return Err(PAUSE);
        }
        let in_tenant = InTenant(Arc::clone(&self.app));
        if !self.slot.gate().try_enter() {
            return Err(PAUSE);
        }
        let in_gate = InGate(Arc::clone(&self.slot));
        let sandbox = tenant.try_sandbox().ok_or(PAUSE)?;
        // It is looked again soon: what is waited for may be over before.
        let soon = |again: Duration| again.clamp(Duration::from_millis(1), POOL_PAUSE);
        let pass = match self.app.is_alone() {
            true => None,
            false => Some(self.slot.breaker().pass(now.ns).map_err(soon)?),
        };
        let passed = Passed { slot: Arc::clone(&self.slot), pass };
        // Last, for what is taken of a rate is not given back.
        tenant.may(now).map_err(|(_, again)| soon(again))?;
        tenant.moved(bytes, now.ns);
        Ok(Admitted { _in_tenant: in_tenant, _in_gate: in_gate, _sandbox: sandbox, passed })
    }
}

impl Office {
    /// Delivers until it is told to stop, then waits for what is running.
    async fn deliver_all(self: Arc<Self>, mut stopped: watch::Receiver<Option<Duration>>, longest: Duration) {
        let places_max = places_max(self.door.slot.limits());
        let places = Arc::new(Semaphore::new(places_max));
        let mut last: Option<String> = None;
        let most = {
            let mut stopped = pin!(stopped.wait_for(Option::is_some));
            loop {
                let next = async {
                    // It is never closed.
                    let place = Arc::clone(&places).acquire_owned().await.ok()?;
                    let taken = self.post.store.take_any(&self.post.subscription, last.as_deref()).await;
                    Some((place, taken))
                };
                let (place, taken) = tokio::select! {
                    next = next => match next { Some(next) => next, None => return },
                    most = &mut stopped => break most.ok().and_then(|most| *most).unwrap_or(Duration::MAX),
                };
                match taken {
                    Ok(delivery) => {
                        last = Some(delivery.message.topic.clone());
                        tokio::spawn(Arc::clone(&self).deliver(delivery, place));
                    }
                    Err(error) => {
                        let (tenant, revision) = self.whose();
                        tracing::error!(target: "tenon::message", %error, tenant, app = self.name, revision, "messages cannot be taken");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        };
        // All places are free once nothing is handled any more.
        let all = places.acquire_many(u32::try_from(places_max).unwrap_or(u32::MAX));
        if tokio::time::timeout(longest.min(most), all).await.is_err() {
            let (tenant, revision) = self.whose();
            tracing::warn!(target: "tenon::message", tenant, app = self.name, revision, "messages were still being handled when the drain's time was over");
        }
    }

    /// One delivery: admit, bring into memory, handle, settle.
    async fn deliver(self: Arc<Self>, delivery: Delivery, place: OwnedSemaphorePermit) {
        let handled = loop {
            let admitted = self.door.admit(delivery.message.bytes() as u64).await;
            let service = match self.door.slot.ready(self.site.loads(), Now::read()).await {
                Ok(service) => service,
                Err(error) => {
                    let (tenant, revision) = self.whose();
                    tracing::warn!(target: "tenon::message", %error, tenant, app = self.name, revision, "a message waits: its app cannot be brought into memory");
                    drop(admitted);
                    tokio::time::sleep(POOL_PAUSE).await;
                    continue;
                }
            };
            match self.handle(&delivery, &service, admitted).await {
                // Not the guest's doing: it does not count as an attempt.
                Err(failure) if self.is_for_want_of_room(&failure) => tokio::time::sleep(POOL_PAUSE).await,
                handled => break handled,
            }
        };
        match handled {
            Ok(()) => self.accept(&delivery).await,
            Err(_) if delivery.attempts + 1 >= ATTEMPTS_MAX => {
                self.throw_away(&delivery);
                self.accept(&delivery).await;
            }
            Err(_) => self.rest(delivery, place).await,
        }
    }

    /// Whether a message failed because others have what it needs: sandboxes, or the tenant's memory. One that has all of
    /// the tenant's memory to itself, and needs more, never goes well.
    fn is_for_want_of_room(&self, failure: &Failure) -> bool {
        match failure {
            Failure::PoolExhausted { .. } => true,
            Failure::OutOfMemory { limit: Limit::AccountMemory(_), .. } => {
                self.door.app.tenant().usage().running > 0
            }
            _ => false,
        }
    }

    /// Whose a line of the log is, and of which revision.
    fn whose(&self) -> (Option<&str>, Option<DisplayValue<RevisionNumber>>) {
        whose(&self.door.app, Some(&self.door.slot))
    }

    /// Runs the guest; it counts as running until it is recorded.
    async fn handle(
        &self,
        delivery: &Delivery,
        service: &Arc<Service>,
        mut admitted: Admitted,
    ) -> Result<(), Failure> {
        let id = self.ids.fresh();
        let attempt = delivery.attempts + 1;
        let (name, component) = (self.name.clone(), self.post.component.clone());
        let (topic, number) = (Arc::<str>::from(&*delivery.message.topic), delivery.sequence);
        let (tally, shared) = (Arc::clone(&self.tally), id.shared());
        let (app, slot) = (Arc::clone(&self.door.app), Arc::clone(&self.door.slot));
        let observer = self.site.observer().cloned();
        let trace = observer.as_ref().and_then(|observer| begin(&self.draw, observer.sample()));
        let (began, received_bytes) = (Instant::now(), delivery.message.bytes() as u64);
        let record = move |Record { outcome, bill, ended, crash }: Record| {
            admitted.passed.ended(Ended::of(&outcome));
            slot.counters().count_message(outcome.as_ref().is_ok_and(|finished| *finished), &bill);
            let (tenant, revision) = whose(&app, Some(&slot));
            if let Some(observer) = observer {
                observer.observe(Observed {
                    app: Some(Arc::clone(&app)),
                    revision: Some(slot.key().revision),
                    id: Arc::clone(&shared),
                    what: What::Message(MessageHead { topic: Arc::clone(&topic), number, attempt }),
                    status: None,
                    outcome: Outcome::of(&outcome),
                    code: outcome.as_ref().err().map(Failure::code),
                    crash: crash.clone(),
                    arrived: began,
                    took: ended.saturating_duration_since(began),
                    cpu: bill.cpu,
                    memory_bytes: bill.memory_bytes,
                    received_bytes,
                    sent_bytes: 0,
                    trace,
                });
            }
            match outcome {
                Ok(finished) => {
                    tally.handled.fetch_add(u64::from(finished), Relaxed);
                    tracing::debug!(
                        target: "tenon::request",
                        request_id = &*shared,
                        tenant,
                        app = name,
                        revision,
                        component,
                        topic = &*topic,
                        message = number,
                        attempt,
                        finished,
                        cpu_us = micros(bill.cpu),
                        wall_us = micros(bill.wall),
                        memory_bytes = bill.memory_bytes,
                        "message handled"
                    );
                }
                Err(failure) => {
                    tally.failed.fetch_add(1, Relaxed);
                    let place = failure.place();
                    tracing::error!(
                        target: "tenon::message",
                        request_id = &*shared,
                        tenant,
                        app = name,
                        revision,
                        component = place.and_then(|place| place.component.as_deref()).unwrap_or(&component),
                        function = place.and_then(|place| place.function.as_deref()).unwrap_or("handle"),
                        limit = failure.limit().as_deref().unwrap_or("none"),
                        cause = failure.cause(),
                        code = failure.code(),
                        crash = crash.as_deref().unwrap_or("none"),
                        topic = &*topic,
                        number,
                        attempt,
                        attempts_max = ATTEMPTS_MAX,
                        cpu_us = micros(bill.cpu),
                        wall_us = micros(bill.wall),
                        memory_bytes = bill.memory_bytes,
                        "a message was not handled"
                    );
                }
            }
            drop(admitted);
        };
        let account = Some(Arc::clone(self.door.app.tenant().account()));
        service.deliver(delivery.message.clone(), id.shared(), account, Box::new(record)).await
    }

    /// Removes a message that was handled, or is given up.
    async fn accept(&self, delivery: &Delivery) {
        let accepted = match self.queue(delivery) {
            Ok(topic) => self.post.store.accept(&topic, delivery.sequence).await,
            Err(error) => Err(error),
        };
        if let Err(error) = accepted {
            // It stays taken until the node is started again, and is then delivered once more.
            let (tenant, revision) = self.whose();
            tracing::error!(target: "tenon::message", %error, tenant, app = self.name, revision, topic = delivery.message.topic, "a message cannot be removed");
        }
    }

    fn throw_away(&self, delivery: &Delivery) {
        self.tally.thrown_away.fetch_add(1, Relaxed);
        let (tenant, revision) = self.whose();
        tracing::error!(
            target: "tenon::message",
            tenant,
            app = self.name,
            revision,
            component = self.post.component,
            topic = delivery.message.topic,
            number = delivery.sequence,
            attempts = ATTEMPTS_MAX,
            bytes = delivery.message.bytes(),
            "a message was thrown away: every attempt to handle it failed"
        );
    }

    /// Gives a message back after a rest, without keeping others from being handled meanwhile.
    async fn rest(self: Arc<Self>, delivery: Delivery, place: OwnedSemaphorePermit) {
        let rest = REST * 4_u32.saturating_pow(delivery.attempts);
        let resting = Arc::clone(&self.resting).try_acquire_owned();
        // Where too many rest, it keeps the place of one that would be handled.
        let _place = resting.is_err().then_some(place);
        tokio::time::sleep(rest).await;
        let given_back = match self.queue(&delivery) {
            Ok(topic) => self.post.store.give_back(&topic, delivery.sequence).await,
            Err(error) => Err(error),
        };
        if let Err(error) = given_back {
            let (tenant, revision) = self.whose();
            tracing::error!(target: "tenon::message", %error, tenant, app = self.name, revision, topic = delivery.message.topic, "a message cannot be given back");
        }
    }

    fn queue(&self, delivery: &Delivery) -> Result<Collection, StoreError> {
        let of = &self.post.subscription;
        Collection::new(&of.tenant, &of.app, &delivery.message.topic)
    }
}

#[cfg(test)]
mod tests {
    use tenon_model::Quota;

    use super::*;
    use crate::slot::tests::slot;
    use crate::tenant::tests::generous;
    use crate::tenant::{Shares, Tenant};

    fn door(quota: Quota, shares: &Arc<Shares>) -> Door {
        let slot = slot("tenant/app", 1);
        let id = slot.key().app.clone();
        Door { app: App::new(id.clone(), Tenant::new(id.tenant, quota, shares)), slot }
    }

    #[test]
    fn a_message_takes_what_a_request_takes_and_holds_nothing_while_it_waits() {
        let shares = Shares::new(2);
        let door = door(Quota { concurrency: 3, ..generous() }, &shares);
        let now = Now::read();
        let first = door.try_admit(10, now).ok().unwrap();
        let second = door.try_admit(10, now).ok().unwrap();
        let usage = || door.app.tenant().usage();
        assert_eq!((usage().running, door.slot.running(), shares.shared_in_use()), (2, 2, 2));
        assert_eq!(usage().bytes, 20);
        // All sandboxes are taken, then all turns of the tenant.
        assert_eq!(door.try_admit(10, now).err(), Some(PAUSE));
        assert_eq!((usage().running, door.slot.running()), (2, 2));
        drop(second);
        door.app.tenant().set_quota(Quota { concurrency: 1, ..generous() });
        assert_eq!(door.try_admit(10, now).err(), Some(PAUSE));
        drop(first);
        assert_eq!((usage().running, door.slot.running(), shares.shared_in_use()), (0, 0, 0));
        assert_eq!(usage().refused, [0; 6], "who waits is not refused");
    }

    #[test]
    fn a_message_waits_while_its_revision_is_given_a_rest_and_may_end_it() {
        let shares = Shares::new(2);
        let door = door(generous(), &shares);
        let now = Now::read();
        let breaker = door.slot.breaker();
        // Messages that fail give no rest.
        for _ in 0..2 * crate::breaker::FAILURES_IN_A_ROW {
            door.try_admit(1, now).ok().unwrap().passed.ended(Ended::Crashed);
        }
        assert!(!breaker.is_open());
        for _ in 0..crate::breaker::FAILURES_IN_A_ROW {
            breaker.ended(Pass::Ordinary, Ended::Crashed, || now.ns);
        }
        assert!(breaker.is_open());
        assert_eq!(door.try_admit(1, now).err(), Some(POOL_PAUSE));
        assert_eq!((door.app.tenant().usage().running, shares.shared_in_use()), (0, 0));
        let later = Now { ns: now.ns + 10 * crate::clock::SECOND_NS, ..now };
        // One that does not come to a guest says nothing.
        drop(door.try_admit(1, later).ok().unwrap());
        assert!(breaker.is_open());
        door.try_admit(1, later).ok().unwrap().passed.ended(Ended::Well);
        assert!(!breaker.is_open());
    }

    #[test]
    fn a_message_waits_for_the_tenants_rates() {
        let shares = Shares::new(9);
        let door = door(Quota { cpu_us_per_second: 1_000, requests_per_second: 1, ..generous() }, &shares);
        let now = Now::read();
        drop(door.try_admit(1, now).ok().unwrap());
        assert!(door.try_admit(1, now).is_err(), "one a second");
        let later = Now { ns: now.ns + 10 * crate::clock::SECOND_NS, ..now };
        door.app.tenant().account().spend_cpu(5_000_000);
        assert_eq!(door.try_admit(1, later).err(), Some(POOL_PAUSE), "its processor time is used up");
        assert_eq!((door.app.tenant().usage().running, shares.shared_in_use()), (0, 0));
        let much_later = Now { ns: later.ns + 10 * crate::clock::SECOND_NS, ..now };
        assert!(door.try_admit(1, much_later).is_ok());
    }
}
