//! What a tenant may use of the node, and its share of the sandboxes.
//!
//! Rates are looked at before anything is done for a request, so that who floods is refused at the price of a few
//! numbers. Sandboxes are given out as many as there are: first of the tenant's own reserve, then of what all share. A
//! tenant waits for a shared one with one request at a time, so that those who wait take turns by tenant.
//!
//! What counts is a sandbox with requests in it, however many they are. One that rests between two requests counts for
//! nobody, and makes room as soon as its place is asked for.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tenon_engine::{Account, Claim, Claimed, Service};
use tenon_model::{Quota, TenantId};

use crate::bucket::Bucket;
use crate::clock::Now;
use crate::turns::{Full, Turns};

/// Refusals of one tenant that are written to the log in a second.
const REFUSALS_LOGGED_PER_SECOND: u64 = 1;
/// Refusals of one tenant, or of requests that are nobody's, that are observed in a second; further ones are counted.
pub(crate) const REFUSALS_OBSERVED_PER_SECOND: u64 = 100;

/// The node's sandboxes: what tenants have in reserve, and what they share.
#[derive(Debug)]
pub struct Shares {
    instances: u32,
    shared: Arc<Turns>,
    /// Of all tenants.
    reserved: Mutex<u32>,
}

impl Shares {
    /// Shares of a pool of so many sandboxes.
    pub fn new(instances: u32) -> Arc<Self> {
        let shared = Turns::new(instances);
        Arc::new(Self { instances: shared.all(), shared, reserved: Mutex::new(0) })
    }

    /// Sandboxes there are.
    pub fn instances(&self) -> u32 {
        self.instances
    }

    /// Of those, the ones that some tenant has in reserve.
    pub fn reserved(&self) -> u32 {
        *self.reserved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shared ones that are taken now.
    pub fn shared_in_use(&self) -> u32 {
        self.shared.taken()
    }

    /// Puts more or fewer into a tenant's reserve; how many it has then.
    fn reserve(&self, reserve: &Arc<Turns>, has: u32, wanted: u32) -> u32 {
        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        if wanted >= has {
            let more = (wanted - has).min(self.instances.saturating_sub(*reserved));
            let back = reserve.keep(&self.shared, more);
            self.shared.hand(reserve, more - back);
            *reserved += more;
            has + more
        } else {
            let fewer = has - wanted;
            let back = self.shared.keep(reserve, fewer);
            reserve.hand(&self.shared, fewer - back);
            *reserved = reserved.saturating_sub(fewer);
            wanted
        }
    }
}

/// One of the things that a tenant may use only so much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaName {
    /// [`Quota::requests_per_second`].
    Requests,
    /// [`Quota::cpu_us_per_second`].
    Cpu,
    /// [`Quota::bytes_per_second`].
    Bytes,
    /// [`Quota::memory_bytes`].
    Memory,
    /// [`Quota::concurrency`], and as many as may wait do.
    Concurrency,
    /// Its reserve of sandboxes, and what all share: all are taken.
    Instances,
}

impl QuotaName {
    /// All of them, in the order in which refusals are counted.
    pub const ALL: [Self; 6] =
        [Self::Requests, Self::Cpu, Self::Bytes, Self::Memory, Self::Concurrency, Self::Instances];

    /// What it is called: the value of `x-quota`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests-per-second",
            Self::Cpu => "cpu-per-second",
            Self::Bytes => "bytes-per-second",
            Self::Memory => "memory",
            Self::Concurrency => "concurrency",
            Self::Instances => "instances",
        }
    }
}

/// A tenant is at the end of a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverQuota {
    /// Which one.
    pub quota: QuotaName,
    /// Its value.
    pub limit: u64,
    /// When it is worth trying again.
    pub again: Duration,
}

/// A tenant on this node: lives as long as the node, across snapshots. Quotas can be changed while it lives.
#[derive(Debug)]
pub struct Tenant {
    id: TenantId,
    quota: Mutex<Quota>,
    requests: Bucket,
    cpu: Bucket,
    bytes: Bucket,
    /// What its guests use, counted while they run.
    account: Arc<Account>,
    /// Of the account's processor time, what the rate has been charged with.
    charged_cpu_ns: AtomicU64,
    turns: Arc<Turns>,
    queue_max: AtomicU32,
    shares: Arc<Shares>,
    reserve: Arc<Turns>,
    reserved: AtomicU32,
    /// Who waits for a shared sandbox: one at a time.
    turnstile: Arc<Turns>,
    refused: [AtomicU64; QuotaName::ALL.len()],
    bytes_moved: AtomicU64,
    /// Refusals that are written to the log.
    said: Bucket,
    /// Refusals that are observed.
    told: Bucket,
}

/// What a tenant uses now, and what it was refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TenantUsage {
    /// Requests that run.
    pub running: u32,
    /// Requests that wait for their turn.
    pub waiting: u32,
    /// Memory of its running requests, in bytes.
    pub memory_bytes: u64,
    /// Processor time since the node started, in microseconds.
    pub cpu_us: u64,
    /// Bytes of bodies since the node started.
    pub bytes: u64,
    /// Sandboxes that nobody else can take: fewer than the quota says where the pool has no more.
    pub reserved_instances: u32,
    /// Requests refused since the node started, in the order of [`QuotaName::ALL`].
    pub refused: [u64; QuotaName::ALL.len()],
}

impl Tenant {
    /// A tenant with these quotas, whose sandboxes are of `shares`.
    pub fn new(id: TenantId, quota: Quota, shares: &Arc<Shares>) -> Arc<Self> {
        let tenant = Self {
            id,
            quota: Mutex::new(quota),
            requests: Bucket::new(0),
            cpu: Bucket::new(0),
            bytes: Bucket::new(0),
            account: Arc::default(),
            charged_cpu_ns: AtomicU64::new(0),
            turns: Turns::new(0),
            queue_max: AtomicU32::new(0),
            shares: Arc::clone(shares),
            reserve: Turns::new(0),
            reserved: AtomicU32::new(0),
            turnstile: Turns::new(1),
            refused: std::array::from_fn(|_| AtomicU64::default()),
            bytes_moved: AtomicU64::new(0),
            said: Bucket::new(REFUSALS_LOGGED_PER_SECOND),
            told: Bucket::new(REFUSALS_OBSERVED_PER_SECOND),
        };
        tenant.set_quota(quota);
        Arc::new(tenant)
    }

    /// Who it is.
    pub fn id(&self) -> &TenantId {
        &self.id
    }

    fn locked_quota(&self) -> MutexGuard<'_, Quota> {
        self.quota.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds it to these from now on; what runs already may go on.
    pub fn set_quota(&self, quota: Quota) {
        let mut current = self.locked_quota();
        *current = quota;
        let now_ns = Now::read().ns;
        self.requests.set_rate(u64::from(quota.requests_per_second), now_ns);
        self.cpu.set_rate(quota.cpu_us_per_second.saturating_mul(1_000), now_ns);
        self.bytes.set_rate(quota.bytes_per_second, now_ns);
        self.account.set_memory_max(quota.memory_bytes);
        self.turns.set_all(quota.concurrency);
        self.queue_max.store(quota.queue, Relaxed);
        let has = self.reserved.load(Relaxed);
        let has = self.shares.reserve(&self.reserve, has, quota.reserved_instances);
        self.reserved.store(has, Relaxed);
    }

    /// Puts as much into its reserve as it may have, where the pool had no more before; whether it has all of it.
    pub fn fill_reserve(&self) -> bool {
        let wanted = self.locked_quota();
        let has = self.reserved.load(Relaxed);
        if has >= wanted.reserved_instances {
            return true;
        }
        let has = self.shares.reserve(&self.reserve, has, wanted.reserved_instances);
        self.reserved.store(has, Relaxed);
        has >= wanted.reserved_instances
    }

    /// Sandboxes of its reserve that no request is in.
    pub fn idle_reserve(&self) -> u32 {
        self.reserve.all().saturating_sub(self.reserve.taken())
    }

    /// What it may use.
    pub fn quota(&self) -> Quota {
        *self.locked_quota()
    }

    /// What it uses.
    pub fn usage(&self) -> TenantUsage {
        TenantUsage {
            running: self.turns.taken(),
            waiting: self.turns.waiting(),
            memory_bytes: self.account.memory_bytes(),
            cpu_us: self.account.cpu_ns() / 1_000,
            bytes: self.bytes_moved.load(Relaxed),
            reserved_instances: self.reserved.load(Relaxed),
            refused: self.refused.each_ref().map(|refused| refused.load(Relaxed)),
        }
    }

    /// What its guests' use is counted in.
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }

    fn over(&self, quota: QuotaName, limit: u64, again: Duration) -> OverQuota {
        self.refused[quota as usize].fetch_add(1, Relaxed);
        OverQuota { quota, limit, again }
    }

    /// Whether it may have one more request, by what it has used until now.
    pub(crate) fn check(&self, now: Now) -> Result<(), OverQuota> {
        self.may(now).map_err(|(quota, again)| {
            let limit = self.limit(quota);
            self.over(quota, limit, again)
        })
    }

    /// The same, for what is not refused but waits: which quota it is at the end of, and for how long.
    pub(crate) fn may(&self, now: Now) -> Result<(), (QuotaName, Duration)> {
        let used_ns = self.account.cpu_ns();
        // Whoever raises it charges what lies between: each nanosecond is charged once.
        if used_ns > self.charged_cpu_ns.load(Relaxed) {
            let before = self.charged_cpu_ns.fetch_max(used_ns, Relaxed);
            self.cpu.charge(used_ns.saturating_sub(before), now.ns);
        }
        if let Err(again) = self.cpu.check(now.ns) {
            return Err((QuotaName::Cpu, again));
        }
        if let Err(again) = self.bytes.check(now.ns) {
            return Err((QuotaName::Bytes, again));
        }
        if self.account.is_full() {
            return Err((QuotaName::Memory, Duration::from_secs(1)));
        }
        self.requests.take(1, now.ns).map_err(|again| (QuotaName::Requests, again))
    }

    /// The value of a quota.
    fn limit(&self, quota: QuotaName) -> u64 {
        let current = self.quota();
        match quota {
            QuotaName::Requests => u64::from(current.requests_per_second),
            QuotaName::Cpu => current.cpu_us_per_second,
            QuotaName::Bytes => current.bytes_per_second,
            QuotaName::Memory => current.memory_bytes,
            QuotaName::Concurrency => u64::from(current.concurrency),
            QuotaName::Instances => u64::from(self.shares.instances),
        }
    }

    /// Lets one more of its requests run, at once or when one of them has ended. It has to be told when it [ends](Self::leave).
    pub(crate) async fn enter(&self, wait: Duration) -> Result<(), OverQuota> {
        if self.turns.take() {
            return Ok(());
        }
        let waited = match self.turns.wait(self.queue_max.load(Relaxed)) {
            Ok(waiting) => tokio::time::timeout(wait, waiting).await.is_ok(),
            Err(Full) => false,
        };
        if waited {
            return Ok(());
        }
        let limit = self.limit(QuotaName::Concurrency);
        Err(self.over(QuotaName::Concurrency, limit, Duration::from_secs(1)))
    }

    /// The same, at once or not at all.
    pub(crate) fn try_enter(&self) -> bool {
        self.turns.take()
    }

    pub(crate) fn leave(&self) {
        self.turns.give();
    }

    /// A sandbox for one of its requests, now or when one is free.
    pub(crate) async fn sandbox(self: &Arc<Self>, wait: Duration) -> Result<Token, OverQuota> {
        if let Some(token) = self.try_sandbox() {
            return Ok(token);
        }
        // No more wait than may run: each has entered.
        let all = u32::MAX;
        let own = async {
            match self.reserve.wait(all) {
                Ok(waiting) => waiting.await,
                Err(Full) => std::future::pending().await,
            }
        };
        let shared = async {
            let Ok(turn) = self.turnstile.wait(all) else { return std::future::pending().await };
            turn.await;
            let _turn = Turned(&self.turnstile);
            match self.shares.shared.wait(all) {
                Ok(waiting) => waiting.await,
                Err(Full) => std::future::pending().await,
            }
        };
        let token = async {
            tokio::select! {
                biased;
                () = own => Token { tenant: Arc::clone(self), shared: false },
                () = shared => Token { tenant: Arc::clone(self), shared: true },
            }
        };
        let over =
            |_| self.over(QuotaName::Instances, u64::from(self.shares.instances), Duration::from_secs(1));
        tokio::time::timeout(wait, token).await.map_err(over)
    }

    /// A sandbox for a request that nobody has sent, and who has it: whoever asks, or where others may come to it, the sandbox
    /// itself, as it is with any other request.
    ///
    /// # Errors
    /// When none became free in time.
    pub async fn lend(
        self: &Arc<Self>,
        service: &Service,
        wait: Duration,
    ) -> Result<(Option<Token>, Option<Claim>), OverQuota> {
        let token = self.sandbox(wait).await?;
        Ok(self.hand(Some(token), service))
    }

    /// The same, at once or not at all.
    pub(crate) fn try_sandbox(self: &Arc<Self>) -> Option<Token> {
        let shared = if self.reserved.load(Relaxed) > 0 && self.reserve.take() {
            false
        } else if self.shares.shared.take() {
            true
        } else {
            return None;
        };
        Some(Token { tenant: Arc::clone(self), shared })
    }

    /// A sandbox for a request that `service` is to answer; `None` where others are in one that it can join.
    ///
    /// A sandbox that is joined again and again is never given back. So while anybody waits for one that is shared, nobody joins
    /// any; who waits does so in turn, and then all join that wait for the same.
    pub(crate) async fn sandbox_for(
        self: &Arc<Self>,
        service: &Service,
        wait: Duration,
    ) -> Result<Option<Token>, OverQuota> {
        if self.shares.shared.waiting() == 0 && service.has_room() {
            return Ok(None);
        }
        if !service.lets_in_several() {
            return self.sandbox(wait).await.map(Some);
        }
        if let Some(token) = self.try_sandbox() {
            return Ok(Some(token));
        }
        // In a box: each request would have room for it.
        let waiting = Box::pin(async {
            tokio::select! {
                biased;
                token = self.sandbox(wait) => token.map(Some),
                () = service.room() => Ok(None),
            }
        });
        waiting.await
    }

    /// Who has the sandbox that a request was given: the request, or where others may come to it, the sandbox itself. One
    /// that has none claims one, should it find nobody to join.
    pub(crate) fn hand(
        self: &Arc<Self>,
        token: Option<Token>,
        service: &Service,
    ) -> (Option<Token>, Option<Claim>) {
        if service.lets_in_several() { (None, Some(self.claim(token))) } else { (token, None) }
    }

    fn claim(self: &Arc<Self>, token: Option<Token>) -> Claim {
        let tenant = Arc::clone(self);
        Box::new(move || {
            let token = token.or_else(|| tenant.try_sandbox())?;
            let claimed: Claimed = Box::new(token);
            Some(claimed)
        })
    }

    /// Bytes of a body have moved.
    pub(crate) fn moved(&self, bytes: u64, now_ns: u64) {
        self.bytes.charge(bytes, now_ns);
        self.bytes_moved.fetch_add(bytes, Relaxed);
    }

    /// Whether a refusal is to be written to the log: the first of each second is.
    pub(crate) fn is_said(&self, now: Now) -> bool {
        self.said.take(1, now.ns).is_ok()
    }

    /// Whether a refusal is to be observed: who floods must not push out what is observed of others.
    pub(crate) fn is_told(&self, now: Now) -> bool {
        self.told.take(1, now.ns).is_ok()
    }
}

impl Drop for Tenant {
    fn drop(&mut self) {
        // No request of it is left.
        self.shares.reserve(&self.reserve, *self.reserved.get_mut(), 0);
    }
}

/// A place in the turnstile.
struct Turned<'a>(&'a Arc<Turns>);

impl Drop for Turned<'_> {
    fn drop(&mut self) {
        self.0.give();
    }
}

/// A sandbox that is given back when this is dropped.
#[derive(Debug)]
pub struct Token {
    tenant: Arc<Tenant>,
    shared: bool,
}

impl Drop for Token {
    fn drop(&mut self) {
        let Tenant { shares, reserve, .. } = &*self.tenant;
        if self.shared { shares.shared.give() } else { reserve.give() }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn generous() -> Quota {
        Quota { requests_per_second: 1_000_000, concurrency: 1_000, ..Quota::default() }
    }

    fn tenant(name: &str, quota: Quota, shares: &Arc<Shares>) -> Arc<Tenant> {
        Tenant::new(name.parse().unwrap(), quota, shares)
    }

    fn name_of(refused: Result<(), OverQuota>) -> &'static str {
        refused.unwrap_err().quota.name()
    }

    #[test]
    fn each_rate_refuses_with_its_name_and_lets_in_again() {
        let quota = Quota {
            requests_per_second: 2,
            cpu_us_per_second: 1_000,
            bytes_per_second: 100,
            memory_bytes: 10,
            ..Quota::default()
        };
        let tenant = tenant("a", quota, &Shares::new(1));
        let now = Now::read();
        let later = |seconds: u64| Now { ns: now.ns + seconds * crate::clock::SECOND_NS, ..now };
        assert_eq!(tenant.check(now), Ok(()));
        assert_eq!(tenant.check(now), Ok(()));
        let over = tenant.check(now).unwrap_err();
        let half = Duration::from_millis(500);
        assert_eq!(over, OverQuota { quota: QuotaName::Requests, limit: 2, again: half });

        tenant.account.spend_cpu(3_000_000);
        assert_eq!(name_of(tenant.check(later(10))), "cpu-per-second");
        assert_eq!(tenant.check(later(13)), Ok(()), "it is charged once");
        tenant.moved(250, later(20).ns);
        assert_eq!(name_of(tenant.check(later(20))), "bytes-per-second");
        assert_eq!(tenant.check(later(22)), Ok(()));
        assert!(tenant.account.take_memory(10) && !tenant.account.take_memory(1));
        assert_eq!(name_of(tenant.check(later(30))), "memory");
        tenant.account.give_memory(10);
        assert_eq!(tenant.check(later(30)), Ok(()));
        tenant.set_quota(Quota { requests_per_second: 0, ..quota });
        assert_eq!(name_of(tenant.check(later(90))), "requests-per-second");
        assert_eq!(tenant.usage().refused, [2, 1, 1, 1, 0, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn as_many_run_as_may_and_others_wait_or_are_refused() {
        let quota = Quota { concurrency: 1, queue: 1, ..generous() };
        let tenant = tenant("a", quota, &Shares::new(9));
        let wait = Duration::from_secs(1);
        tenant.enter(wait).await.unwrap();
        let waits = tokio::spawn({
            let tenant = Arc::clone(&tenant);
            async move { tenant.enter(Duration::from_secs(60)).await }
        });
        tokio::task::yield_now().await;
        assert_eq!(name_of(tenant.enter(wait).await), "concurrency");
        tenant.leave();
        waits.await.unwrap().unwrap();
        assert_eq!(name_of(tenant.enter(wait).await), "concurrency");
        assert_eq!((tenant.usage().running, tenant.usage().waiting), (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reserve_is_there_when_all_that_is_shared_is_taken() {
        let shares = Shares::new(4);
        let reserved = tenant("reserved", Quota { reserved_instances: 1, ..generous() }, &shares);
        let greedy = tenant("greedy", generous(), &shares);
        let wait = Duration::from_secs(1);
        let mut taken: Vec<_> = std::iter::from_fn(|| greedy.try_sandbox()).collect();
        assert_eq!(taken.len(), 3, "the reserve is not among what is shared");
        assert_eq!(greedy.sandbox(wait).await.unwrap_err().quota, QuotaName::Instances);
        let own = reserved.sandbox(wait).await.unwrap();
        assert_eq!(reserved.sandbox(wait).await.unwrap_err().quota, QuotaName::Instances);
        // What is given back goes to whoever waits.
        let waits = tokio::spawn({
            let reserved = Arc::clone(&reserved);
            async move { reserved.sandbox(wait).await.map(|token| token.shared) }
        });
        tokio::task::yield_now().await;
        taken.pop();
        assert!(waits.await.unwrap().unwrap());
        let waits = tokio::spawn({
            let reserved = Arc::clone(&reserved);
            async move { reserved.sandbox(wait).await.map(|token| token.shared) }
        });
        // The shared one is free again, and the reserved one too.
        let _shared: Vec<_> = std::iter::from_fn(|| greedy.try_sandbox()).collect();
        tokio::task::yield_now().await;
        drop(own);
        assert!(!waits.await.unwrap().unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_for_what_is_shared_take_turns_by_tenant() {
        let shares = Shares::new(1);
        let (many, one) = (tenant("many", generous(), &shares), tenant("one", generous(), &shares));
        let token = many.try_sandbox().unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let waiting = |tenant: &Arc<Tenant>, name: &'static str| {
            let (tenant, order) = (Arc::clone(tenant), Arc::clone(&order));
            tokio::spawn(async move {
                let _token = tenant.sandbox(Duration::from_secs(60)).await.unwrap();
                order.lock().unwrap().push(name);
            })
        };
        let mut all: Vec<_> = (0..5).map(|_| waiting(&many, "many")).collect();
        tokio::task::yield_now().await;
        all.push(waiting(&one, "one"));
        tokio::task::yield_now().await;
        drop(token);
        for each in all {
            each.await.unwrap();
        }
        assert_eq!(order.lock().unwrap()[..2], ["many", "one"]);
    }

    #[test]
    fn a_claim_takes_the_sandbox_that_was_given_or_one_that_is_free_and_keeps_none() {
        let shares = Shares::new(1);
        let (tenant, other) = (tenant("a", generous(), &shares), tenant("b", generous(), &shares));
        // The one that was given to it.
        let claim = tenant.claim(tenant.try_sandbox());
        assert_eq!(shares.shared_in_use(), 1);
        let claimed = claim().unwrap();
        assert!(other.try_sandbox().is_none(), "the sandbox has it, whatever becomes of the request");
        drop(claimed);
        // One that is not used.
        drop(tenant.claim(tenant.try_sandbox()));
        assert_eq!(shares.shared_in_use(), 0);
        // One that was not given, and is or is not there.
        let claim = tenant.claim(None);
        let taken = other.try_sandbox().unwrap();
        assert!(claim().is_none());
        drop(taken);
        let claimed = tenant.claim(None)();
        assert_eq!((claimed.is_some(), shares.shared_in_use()), (true, 1));
        drop(claimed);
        assert_eq!(shares.shared_in_use(), 0);
    }

    #[test]
    fn a_reserve_grows_and_shrinks_and_goes_with_its_tenant() {
        let shares = Shares::new(4);
        let greedy = tenant("greedy", generous(), &shares);
        let mut taken: Vec<_> = std::iter::from_fn(|| greedy.try_sandbox()).collect();
        assert_eq!(taken.len(), 4);
        let tenant = tenant("a", Quota { reserved_instances: 2, ..generous() }, &shares);
        assert!(tenant.try_sandbox().is_none(), "all are in use");
        taken.pop();
        assert!(greedy.try_sandbox().is_none(), "it is in reserve now");
        let own = tenant.try_sandbox().unwrap();
        assert!(!own.shared);
        assert_eq!(shares.reserved(), 2);
        tenant.set_quota(Quota { reserved_instances: 9, ..generous() });
        assert_eq!((tenant.usage().reserved_instances, shares.reserved()), (4, 4), "there are no more");
        tenant.set_quota(Quota { reserved_instances: 0, ..generous() });
        drop((own, taken));
        assert_eq!((shares.reserved(), shares.shared_in_use()), (0, 0));
        tenant.set_quota(Quota { reserved_instances: 3, ..generous() });
        drop(tenant);
        assert_eq!(std::iter::from_fn(|| greedy.try_sandbox()).collect::<Vec<_>>().len(), 4);
    }

    #[test]
    fn a_reserve_that_the_pool_could_not_fill_is_filled_when_another_shrinks() {
        let shares = Shares::new(4);
        let first = tenant("a", Quota { reserved_instances: 3, ..generous() }, &shares);
        let second = tenant("b", Quota { reserved_instances: 3, ..generous() }, &shares);
        assert_eq!((second.usage().reserved_instances, second.idle_reserve()), (1, 1));
        assert!(first.fill_reserve() && !second.fill_reserve());
        first.set_quota(Quota { reserved_instances: 1, ..generous() });
        assert!(second.fill_reserve());
        assert_eq!((second.usage().reserved_instances, shares.reserved()), (3, 4));
        let used = second.try_sandbox().unwrap();
        assert_eq!((used.shared, second.idle_reserve()), (false, 2));
        drop(first);
        drop(used);
        assert_eq!((second.idle_reserve(), shares.reserved()), (3, 3));
    }
}
