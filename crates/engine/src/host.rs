//! What one request's guest can reach: its own resource table, inert WASI, and what each of its components was
//! granted.
//!
//! Everything a component could reach is made when it is first asked for: a request that touches nothing pays for
//! nothing. The engine hands host functions a plain function pointer to find their state with, so the component that
//! asks is part of the function's type: `Host::cli_of::<2>` is the second part's.

use std::sync::Arc;

use tenon_model::Limits;
use wasmtime::component::{HasData, ResourceTable};
use wasmtime::{ResourceLimiter, Result};
use wasmtime_wasi::WasiCtx;
use wasmtime_wasi::cli::WasiCliCtxView;
use wasmtime_wasi::clocks::WasiClocksCtxView;
use wasmtime_wasi::filesystem::{WasiFilesystemCtx, WasiFilesystemCtxView};
use wasmtime_wasi::random::WasiRandomCtx;
use wasmtime_wasi::sockets::{WasiSocketsCtx, WasiSocketsCtxView};
use wasmtime_wasi_http::{
    Error as HttpError, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

use crate::account::Account;
use crate::capability::clocks::Steady;
use crate::capability::{self, Caller, OpenFiles, PRINCIPALS_MAX, Principals, Sent};
use crate::crash::{self, Used};
use crate::meter::{Meter, TablesDenied};
use crate::pool::TABLE_ELEMENTS;
use crate::shares::Shares;

/// Core instances, memories and tables one request may create: more than any pooled component can have.
const CORE_ITEMS_MAX: usize = 1_000;
/// Bytes of a body that the host takes from the guest in one write.
const BODY_CHUNK_BYTES: usize = 64 << 10;

/// Where a request says which trace it is part of (W3C Trace Context).
const TRACEPARENT: http::HeaderName = http::HeaderName::from_static("traceparent");

/// The data of one request's store.
pub(crate) struct Host {
    pub(crate) table: ResourceTable,
    http: WasiHttpCtx,
    pub(crate) allowance: Allowance,
    pub(crate) open_files: OpenFiles,
    /// The whole's.
    whole: Seat,
    /// The parts', each made when the part first asks for something.
    parts: Vec<Option<Box<Seat>>>,
    /// Where it is counted what each component uses, in a composition that is served.
    shares: Option<Arc<Shares>>,
}

impl Host {
    pub(crate) fn new(
        limits: &Limits,
        meter: Arc<Meter>,
        request: Arc<str>,
        principals: Arc<Principals>,
        shares: Option<Arc<Shares>>,
    ) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.handles as usize);
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(usize::try_from(limits.header_bytes).unwrap_or(usize::MAX));
        Self {
            table,
            http,
            allowance: Allowance {
                memory_bytes_max: limits.memory_bytes,
                memory_bytes: 0,
                table_elements_max: limits.table_elements,
                table_elements: 0,
                account: meter.account().cloned(),
                meter,
            },
            open_files: OpenFiles::default(),
            whole: Seat::new(principals, 0, request),
            parts: Vec::new(),
            shares,
        }
    }

    /// Where it is counted what each component uses.
    pub(crate) fn shares(&self) -> Option<&Arc<Shares>> {
        self.shares.as_ref()
    }

    /// Goes on for another request. What the guest keeps open stays open and counts; all else is as in a fresh
    /// sandbox.
    pub(crate) fn renew(&mut self, meter: Arc<Meter>, request: &Arc<str>) {
        self.allowance.renew(meter);
        let sockets = self.open_sockets();
        for seat in
            std::iter::once(&mut self.whole).chain(self.parts.iter_mut().flatten().map(|it| &mut **it))
        {
            seat.renew(request, sockets);
        }
    }

    /// Goes on for several requests at once, of these ids. `anew` when one of them has just come in, `alone` when
    /// nothing of another one runs.
    pub(crate) fn renew_among(&mut self, requests: &Arc<str>, anew: bool, alone: bool) {
        for seat in
            std::iter::once(&mut self.whole).chain(self.parts.iter_mut().flatten().map(|it| &mut **it))
        {
            seat.request = Arc::clone(requests);
            if let Some(caller) = &seat.caller {
                caller.renew_among(Arc::clone(requests), anew);
            }
            if anew && alone {
                seat.begin_anew();
            }
        }
    }

    /// Sockets of 0.2 that the guest holds, all its components together: the table does not say whose each is.
    fn open_sockets(&mut self) -> u32 {
        use wasmtime_wasi::p2::{TcpSocket, UdpSocket};
        let open = self.table.iter_mut().filter(|entry| entry.is::<TcpSocket>() || entry.is::<UdpSocket>());
        u32::try_from(open.count()).unwrap_or(u32::MAX)
    }

    /// Whether a socket was opened.
    pub(crate) fn opened_sockets(&self) -> bool {
        let seats = std::iter::once(&self.whole).chain(self.parts.iter().flatten().map(|it| &**it));
        seats.filter_map(|seat| seat.caller.as_ref()).any(|caller| caller.sockets() > 0)
    }

    /// Whether the guest holds a message of HTTP that it has not finished: whoever waits for its end would wait for
    /// as long as the sandbox lives.
    pub(crate) fn holds_unfinished_message(&mut self) -> bool {
        use wasmtime_wasi_http::p2::body::HostOutgoingBody;
        use wasmtime_wasi_http::p2::types::HostResponseOutparam;
        self.table
            .iter_mut()
            .any(|entry| entry.is::<HostOutgoingBody>() || entry.is::<HostResponseOutparam>())
    }

    /// What the guest has used up of what it may, beside time and memory.
    fn used(&mut self) -> Used {
        let Self { table, allowance, open_files, whole, parts, .. } = self;
        let seats = std::iter::once(&*whole).chain(parts.iter().flatten().map(|it| &**it));
        let outside = seats
            .filter_map(|seat| Some((seat.index, seat.caller.as_ref()?)))
            .map(|(index, caller)| {
                let mut spent = caller.spent_so_far();
                spent.open_files = open_files.count(index) as u64;
                spent
            })
            .collect();
        let handles = table.iter_mut().count() as u64;
        Used { table_elements: allowance.table_elements, handles, outside }
    }

    /// Who principal `index` is in this request.
    pub(crate) fn caller(&mut self, index: usize) -> &Arc<Caller> {
        called(index)(self).caller
    }

    /// The state of principal `N`, and what all of them share.
    fn seat<const N: usize>(&mut self) -> (&mut Seat, &mut ResourceTable, &mut WasiHttpCtx) {
        let Self { table, http, whole, parts, .. } = self;
        let seat = if N == 0 {
            whole
        } else {
            if parts.len() < N {
                parts.resize_with(N, || None);
            }
            parts[N - 1].get_or_insert_with(|| {
                Box::new(Seat::new(Arc::clone(&whole.principals), N, Arc::clone(&whole.request)))
            })
        };
        (seat, table, http)
    }

    fn cli_of<const N: usize>(&mut self) -> WasiCliCtxView<'_> {
        let (seat, table, ..) = self.seat::<N>();
        WasiCliCtxView { ctx: seat.wasi().cli(), table }
    }

    fn clocks_of<const N: usize>(&mut self) -> WasiClocksCtxView<'_> {
        let (seat, table, ..) = self.seat::<N>();
        WasiClocksCtxView { ctx: seat.wasi().clocks(), table }
    }

    fn steady_of<const N: usize>(&mut self) -> Option<Steady> {
        self.seat::<N>().0.steady()
    }

    fn random_of<const N: usize>(&mut self) -> &mut WasiRandomCtx {
        self.seat::<N>().0.wasi().random()
    }

    fn filesystem_of<const N: usize>(&mut self) -> WasiFilesystemCtxView<'_> {
        let (seat, table, ..) = self.seat::<N>();
        WasiFilesystemCtxView { ctx: seat.filesystem(), table }
    }

    fn sockets_of<const N: usize>(&mut self) -> WasiSocketsCtxView<'_> {
        let (seat, table, ..) = self.seat::<N>();
        WasiSocketsCtxView { ctx: seat.sockets(), table }
    }

    fn http_of<const N: usize>(&mut self) -> WasiHttpCtxView<'_> {
        let (seat, table, ctx) = self.seat::<N>();
        WasiHttpCtxView { ctx, table, hooks: seat }
    }

    fn called_of<const N: usize>(&mut self) -> Called<'_> {
        let (seat, table, _) = self.seat::<N>();
        Called { caller: seat.caller(), table }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Whether the request failed is judged when its sandbox is gone.
        let used = self.used();
        self.allowance.meter.trail.keep_used(used);
    }
}

/// The functions that find each principal's state, by its index.
macro_rules! getters {
    ($($(#[$doc:meta])* $name:ident: $method:ident -> $data:ty;)*) => {$(
        $(#[$doc])*
        pub(crate) fn $name(principal: usize) -> fn(&mut Host) -> $data {
            const ALL: [fn(&mut Host) -> $data; PRINCIPALS_MAX] = [
                Host::$method::<0>, Host::$method::<1>, Host::$method::<2>, Host::$method::<3>,
                Host::$method::<4>, Host::$method::<5>, Host::$method::<6>, Host::$method::<7>,
                Host::$method::<8>, Host::$method::<9>, Host::$method::<10>, Host::$method::<11>,
                Host::$method::<12>, Host::$method::<13>, Host::$method::<14>, Host::$method::<15>,
                Host::$method::<16>,
            ];
            ALL[principal]
        }
    )*};
}

getters! {
    /// Environment, arguments, standard streams.
    cli: cli_of -> WasiCliCtxView<'_>;
    /// Clocks.
    clocks: clocks_of -> WasiClocksCtxView<'_>;
    /// The monotonic clock, where it is one that only the guest moves.
    steady: steady_of -> Option<Steady>;
    /// Randomness.
    random: random_of -> &mut WasiRandomCtx;
    /// Directories.
    filesystem: filesystem_of -> WasiFilesystemCtxView<'_>;
    /// Sockets.
    sockets: sockets_of -> WasiSocketsCtxView<'_>;
    /// HTTP.
    http: http_of -> WasiHttpCtxView<'_>;
    /// For capabilities of our own: who asks, and the table that its handles are in.
    called: called_of -> Called<'_>;
}

/// What a capability of our own works with: who asks, and the table that its handles are in.
pub(crate) struct Called<'a> {
    pub(crate) caller: &'a Arc<Caller>,
    pub(crate) table: &'a mut ResourceTable,
}

/// Names [`Called`] for the engine's bindings.
pub(crate) struct HasCalled;

impl HasData for HasCalled {
    type Data<'a> = Called<'a>;
}

/// The resource table alone: streams and pollables need no WASI context.
pub(crate) struct Table;

impl HasData for Table {
    type Data<'a> = &'a mut ResourceTable;
}

impl WasiHttpView for Host {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        self.http_of::<0>()
    }
}

/// What one principal has in one request. Nothing of it exists before the guest asks.
struct Seat {
    principals: Arc<Principals>,
    index: usize,
    request: Arc<str>,
    caller: Option<Arc<Caller>>,
    wasi: Option<WasiCtx>,
    steady: Option<Steady>,
    filesystem: Option<WasiFilesystemCtx>,
    sockets: Option<WasiSocketsCtx>,
}

impl Seat {
    fn new(principals: Arc<Principals>, index: usize, request: Arc<str>) -> Self {
        Self {
            principals,
            index,
            request,
            caller: None,
            wasi: None,
            steady: None,
            filesystem: None,
            sockets: None,
        }
    }

    fn renew(&mut self, request: &Arc<str>, sockets: u32) {
        self.request = Arc::clone(request);
        if let Some(caller) = &self.caller {
            caller.renew(Arc::clone(request), sockets);
        }
        self.begin_anew();
    }

    /// Randomness from a seed, and a clock that the guest moves.
    fn begin_anew(&mut self) {
        self.wasi = None;
        self.steady = None;
    }

    fn caller(&mut self) -> &Arc<Caller> {
        self.caller.get_or_insert_with(|| {
            Caller::new(Arc::clone(&self.principals), self.index, Arc::clone(&self.request))
        })
    }

    fn wasi(&mut self) -> &mut WasiCtx {
        if self.wasi.is_none() {
            let steady = self.steady();
            self.wasi = Some(capability::cli::context(self.caller(), steady));
        }
        self.wasi.get_or_insert_default()
    }

    fn steady(&mut self) -> Option<Steady> {
        self.principals.grants(self.index).clock?;
        Some(self.steady.get_or_insert_default().clone())
    }

    fn filesystem(&mut self) -> &mut WasiFilesystemCtx {
        let Self { filesystem, principals, index, .. } = self;
        filesystem.get_or_insert_with(|| capability::filesystem::context(principals.grants(*index)))
    }

    fn sockets(&mut self) -> &mut WasiSocketsCtx {
        if self.sockets.is_none() {
            self.sockets = Some(capability::sockets::context(self.caller()));
        }
        self.sockets.get_or_insert_default()
    }
}

impl WasiHttpHooks for Seat {
    fn send_request(
        &mut self,
        mut request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _sent: Box<dyn Future<Output = Result<(), HttpError>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent, HttpError>> + Send> {
        // What the guest says itself about its place in a trace stands.
        if let Some(trace) = crash::trace()
            && !request.headers().contains_key(TRACEPARENT)
        {
            request.headers_mut().insert(TRACEPARENT, trace);
        }
        Box::new(capability::http::send(Arc::clone(self.caller()), request, options.unwrap_or_default()))
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_CHUNK_BYTES
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_CHUNK_BYTES
    }
}

/// What is left of a request's memory and tables.
pub(crate) struct Allowance {
    memory_bytes_max: u64,
    memory_bytes: u64,
    table_elements_max: u64,
    table_elements: u64,
    /// Whose the memory is, together with that of others.
    account: Option<Arc<Account>>,
    pub(crate) meter: Arc<Meter>,
}

impl Allowance {
    /// Goes on under another meter, with the memory that is in use already.
    pub(crate) fn renew(&mut self, meter: Arc<Meter>) {
        meter.memory_used(self.memory_bytes);
        self.meter = meter;
    }
}

impl Drop for Allowance {
    fn drop(&mut self) {
        if let Some(account) = &self.account {
            account.give_memory(self.memory_bytes);
        }
    }
}

impl ResourceLimiter for Allowance {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        if let Some(maximum) = maximum.filter(|maximum| desired > *maximum) {
            // The memory's own maximum: what its maker declared, or the component's limit within a composition.
            self.meter.own_memory_denied(desired as u64, maximum as u64);
            return Ok(false);
        }
        let asked = self.memory_bytes.saturating_add(desired.saturating_sub(current) as u64);
        if asked > self.memory_bytes_max {
            self.meter.memory_denied(asked);
            self.meter.set_account_full(false);
            return Ok(false);
        }
        if self.account.as_ref().is_some_and(|account| !account.take_memory(asked - self.memory_bytes)) {
            self.meter.memory_denied(asked);
            self.meter.set_account_full(true);
            return Ok(false);
        }
        self.memory_bytes = asked;
        self.meter.memory_used(asked);
        // A guest that was refused and then made do with less did not run out of memory.
        self.meter.memory_denied(0);
        self.meter.own_memory_denied(0, 0);
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        let beyond = maximum.filter(|maximum| desired > *maximum);
        // The engine gives a table of the pool no greater maximum than the pool has; a smaller one is the guest's own.
        if beyond.is_some_and(|maximum| maximum < TABLE_ELEMENTS) {
            return Ok(false);
        }
        let asked = self.table_elements.saturating_add(desired.saturating_sub(current) as u64);
        let denied = if asked > self.table_elements_max {
            Some(TablesDenied::All(self.table_elements_max))
        } else {
            beyond.map(|maximum| TablesDenied::One(maximum as u64))
        };
        self.meter.set_tables_denied(denied);
        if denied.is_some() {
            return Ok(false);
        }
        self.table_elements = asked;
        Ok(true)
    }

    fn instances(&self) -> usize {
        CORE_ITEMS_MAX
    }

    fn tables(&self) -> usize {
        CORE_ITEMS_MAX
    }

    fn memories(&self) -> usize {
        CORE_ITEMS_MAX
    }
}
