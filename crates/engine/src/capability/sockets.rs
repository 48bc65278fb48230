//! `wasi:sockets`: whom a component may connect to, and where it may listen.
//!
//! Every use of an address is checked against the grants, names only by what they resolve to at that moment. The
//! engine's own implementation does the rest.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use tenon_model::{Grants, SocketDirection, SocketGrant, SocketProtocol};
use wasmtime::component::{Accessor, LinkerInstance, Resource};
use wasmtime::{Result, StoreContextMut};
use wasmtime_wasi::WasiCtx;
use wasmtime_wasi::p2::Network;
use wasmtime_wasi::p2::bindings::sockets as sockets02;
use wasmtime_wasi::p3::bindings::sockets as sockets03;
use wasmtime_wasi::sockets::{SocketAddrUse, TcpSocket, UdpSocket, WasiSockets, WasiSocketsCtx};

use super::Caller;
use crate::host::{self, Host};

/// How long the lookup of a granted name may take.
const LOOKUP_MAX: Duration = Duration::from_secs(5);
/// How long a request goes by what was found: each connection and each datagram asks.
const FRESH: Duration = Duration::from_secs(1);
/// Names of one component that are remembered, and addresses of each.
const NAMES_MAX: usize = 64;
const ADDRESSES_MAX: usize = 64;
/// The ports of a grant that is for every port, and so for one that the system picks.
const ANY_PORT: (u16, u16) = (1, u16::MAX);

/// Nothing, except what the component was granted.
pub(crate) fn context(caller: &Arc<Caller>) -> WasiSocketsCtx {
    let grants = &caller.grants().sockets;
    if grants.is_empty() {
        return WasiSocketsCtx::default();
    }
    let caller = Arc::clone(caller);
    let mut builder = WasiCtx::builder();
    builder
        // Whatever is asked for is asked below, so that the log says what was refused.
        .allow_tcp(true)
        .allow_udp(true)
        // Which names, the lookup itself is asked.
        .allow_ip_name_lookup(true)
        .socket_addr_check(move |address, usage| {
            let caller = Arc::clone(&caller);
            Box::pin(async move { may_use(&caller, address, usage).await })
        });
    std::mem::take(builder.build().sockets())
}

/// Whether a component may use an address so; says in the log when not.
async fn may_use(caller: &Caller, address: SocketAddr, usage: SocketAddrUse) -> bool {
    use SocketDirection::{Connect, Listen};
    use SocketProtocol::{Tcp, Udp};
    let grants = caller.grants();
    // A socket that sends is bound to whatever is free; that alone lets nobody in.
    let free = address.ip().is_unspecified() && address.port() == 0;
    let (protocol, direction) = match usage {
        SocketAddrUse::TcpBind if free && any(grants, Tcp) => return true,
        SocketAddrUse::UdpBind if free && any(grants, Udp) => return true,
        // Where it listens was checked. Who comes is whoever comes.
        SocketAddrUse::TcpAccept => {
            return has(grants, Tcp, Listen) && caller.count_socket();
        }
        SocketAddrUse::UdpReceive if has(grants, Udp, Listen) => return true,
        SocketAddrUse::TcpConnect => (Tcp, Connect),
        SocketAddrUse::TcpBind | SocketAddrUse::TcpListen => (Tcp, Listen),
        SocketAddrUse::UdpSend => (Udp, Connect),
        SocketAddrUse::UdpReceive => {
            // Nobody asked for it: it is dropped without a word, which a stranger could repeat.
            return covers(caller, Udp, Connect, address).await;
        }
        SocketAddrUse::UdpBind => (Udp, Listen),
    };
    let granted = covers(caller, protocol, direction, address).await;
    if !granted {
        let (protocol, direction) = (protocol_name(protocol), direction_name(direction));
        let line = format!(
            r#""wasi:sockets" = [{{ protocol = "{protocol}", direction = "{direction}", host = "{}", port = {} }}]"#,
            address.ip().to_canonical(),
            match address.port() {
                0 => format!("\"{}-{}\"", ANY_PORT.0, ANY_PORT.1),
                port => port.to_string(),
            }
        );
        caller.refused("wasi:sockets", &format!("{protocol} {direction} {address}"), &line);
    }
    granted
}

fn any(grants: &Grants, protocol: SocketProtocol) -> bool {
    grants.sockets.iter().any(|grant| grant.protocol == protocol)
}

fn has(grants: &Grants, protocol: SocketProtocol, direction: SocketDirection) -> bool {
    grants.sockets.iter().any(|grant| (grant.protocol, grant.direction) == (protocol, direction))
}

async fn covers(
    caller: &Caller,
    protocol: SocketProtocol,
    direction: SocketDirection,
    address: SocketAddr,
) -> bool {
    for grant in &caller.grants().sockets {
        let ports = grant.ports.0..=grant.ports.1;
        // Port 0 is whichever the system picks.
        let any = address.port() == 0 && direction == SocketDirection::Listen && grant.ports == ANY_PORT;
        if (grant.protocol, grant.direction) == (protocol, direction)
            && (any || ports.contains(&address.port()))
            && is_at(&caller.names, &grant.host, address.ip()).await
        {
            return true;
        }
    }
    false
}

/// Whether an address is the host of a grant: that address, one of that network, or one that the name has now.
async fn is_at(names: &Names, host: &str, ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    if let Ok(exactly) = host.parse::<IpAddr>() {
        return exactly.to_canonical() == ip;
    }
    if let Ok(network) = host.parse::<IpNet>() {
        return network.contains(&ip);
    }
    if let Some(found) = names.known(host, Instant::now()) {
        return found.contains(&ip);
    }
    let found = match tokio::time::timeout(LOOKUP_MAX, tokio::net::lookup_host((host, 0))).await {
        Ok(Ok(found)) => found.map(|found| found.ip().to_canonical()).take(ADDRESSES_MAX).collect(),
        _ => Vec::new(),
    };
    let is_it = found.contains(&ip);
    names.keep(host, found, Instant::now());
    is_it
}

/// What names of grants stood for when they were last looked up; nothing where there was no answer.
#[derive(Default)]
pub(super) struct Names(Mutex<Vec<Name>>);

struct Name {
    host: String,
    addresses: Arc<[IpAddr]>,
    found: Instant,
}

impl Names {
    fn all(&self) -> MutexGuard<'_, Vec<Name>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The addresses of a name, where that is still fresh.
    fn known(&self, host: &str, now: Instant) -> Option<Arc<[IpAddr]>> {
        let is_it = |name: &&Name| name.host == host && now.duration_since(name.found) < FRESH;
        self.all().iter().find(is_it).map(|name| Arc::clone(&name.addresses))
    }

    fn keep(&self, host: &str, addresses: Vec<IpAddr>, now: Instant) {
        let mut all = self.all();
        all.retain(|name| name.host != host && now.duration_since(name.found) < FRESH);
        if all.len() < NAMES_MAX {
            all.push(Name { host: host.to_owned(), addresses: addresses.into(), found: now });
        }
    }

    /// Another request looks for itself.
    pub(super) fn forget(&self) {
        self.all().clear();
    }
}

/// Whether a component may look up a name: those of its grants. An address in digits is no lookup.
fn may_look_up(caller: &Caller, name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let literal = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
    let granted = literal || caller.grants().sockets.iter().any(|SocketGrant { host, .. }| *host == name);
    if !granted {
        let line = format!(
            r#""wasi:sockets" = [{{ protocol = "tcp", direction = "connect", host = "{}", port = 443 }}]"#,
            name.escape_default()
        );
        caller.refused("wasi:sockets", &format!("lookup {}", name.escape_default()), &line);
    }
    granted
}

fn protocol_name(protocol: SocketProtocol) -> &'static str {
    match protocol {
        SocketProtocol::Tcp => "tcp",
        SocketProtocol::Udp => "udp",
    }
}

fn direction_name(direction: SocketDirection) -> &'static str {
    match direction {
        SocketDirection::Connect => "connect",
        SocketDirection::Listen => "listen",
    }
}

/// `create-tcp-socket` of 0.2, counted. Takes the place of the engine's.
pub(super) fn bound_tcp02(instance: &mut LinkerInstance<'_, Host>, who: usize) -> Result<()> {
    use sockets02::{network, tcp_create_socket};
    instance.func_wrap(
        "create-tcp-socket",
        move |mut store: StoreContextMut<'_, Host>, (family,): (network::IpAddressFamily,)| {
            let host = store.data_mut();
            if !host::called(who)(host).caller.count_socket() {
                return Ok((Err(network::ErrorCode::NewSocketLimit),));
            }
            let mut view = host::sockets(who)(host);
            match tcp_create_socket::Host::create_tcp_socket(&mut view, family) {
                Ok(socket) => Ok((Ok(socket),)),
                Err(error) => Ok((Err(network::Host::convert_error_code(&mut view, error)?),)),
            }
        },
    )
}

/// `create-udp-socket` of 0.2, counted. Takes the place of the engine's.
pub(super) fn bound_udp02(instance: &mut LinkerInstance<'_, Host>, who: usize) -> Result<()> {
    use sockets02::{network, udp_create_socket};
    instance.func_wrap_async(
        "create-udp-socket",
        move |mut store: StoreContextMut<'_, Host>, (family,): (network::IpAddressFamily,)| {
            Box::new(async move {
                let host = store.data_mut();
                if !host::called(who)(host).caller.count_socket() {
                    return Ok((Err(network::ErrorCode::NewSocketLimit),));
                }
                let mut view = host::sockets(who)(host);
                match udp_create_socket::Host::create_udp_socket(&mut view, family).await {
                    Ok(socket) => Ok((Ok(socket),)),
                    Err(error) => Ok((Err(network::Host::convert_error_code(&mut view, error)?),)),
                }
            })
        },
    )
}

/// `resolve-addresses` of 0.2, for granted names. Takes the place of the engine's.
pub(super) fn bound_lookup02(instance: &mut LinkerInstance<'_, Host>, who: usize) -> Result<()> {
    use sockets02::{ip_name_lookup, network};
    instance.func_wrap(
        "resolve-addresses",
        move |mut store: StoreContextMut<'_, Host>, (network, name): (Resource<Network>, String)| {
            let host = store.data_mut();
            if !may_look_up(host::called(who)(host).caller, &name) {
                return Ok((Err(network::ErrorCode::AccessDenied),));
            }
            let mut view = host::sockets(who)(host);
            match ip_name_lookup::Host::resolve_addresses(&mut view, network, name) {
                Ok(stream) => Ok((Ok(stream),)),
                Err(error) => Ok((Err(network::Host::convert_error_code(&mut view, error)?),)),
            }
        },
    )
}

/// What makes sockets in 0.3, counted. Takes the place of the engine's.
pub(super) fn bound_types03(instance: &mut LinkerInstance<'_, Host>, who: usize) -> Result<()> {
    use sockets03::types;
    let full = || types::ErrorCode::Other(Some("the limit on connections is reached".to_owned()));
    instance.func_wrap(
        "[static]tcp-socket.create",
        move |mut store: StoreContextMut<'_, Host>, (family,): (types::IpAddressFamily,)| {
            let host = store.data_mut();
            if !host::called(who)(host).caller.count_socket() {
                return Ok((Err(full()),));
            }
            let mut view = host::sockets(who)(host);
            let made: Result<Resource<TcpSocket>, _> = types::HostTcpSocket::create(&mut view, family);
            match made {
                Ok(socket) => Ok((Ok(socket),)),
                Err(error) => Ok((Err(types::Host::convert_error_code(&mut view, error)?),)),
            }
        },
    )?;
    instance.func_wrap_async(
        "[static]udp-socket.create",
        move |mut store: StoreContextMut<'_, Host>, (family,): (types::IpAddressFamily,)| {
            Box::new(async move {
                let host = store.data_mut();
                if !host::called(who)(host).caller.count_socket() {
                    return Ok((Err(full()),));
                }
                let mut view = host::sockets(who)(host);
                let made: Result<Resource<UdpSocket>, _> =
                    types::HostUdpSocket::create(&mut view, family).await;
                match made {
                    Ok(socket) => Ok((Ok(socket),)),
                    Err(error) => Ok((Err(types::Host::convert_error_code(&mut view, error)?),)),
                }
            })
        },
    )
}

/// `resolve-addresses` of 0.3, for granted names. Takes the place of the engine's.
pub(super) fn bound_lookup03(instance: &mut LinkerInstance<'_, Host>, who: usize) -> Result<()> {
    use sockets03::ip_name_lookup::{ErrorCode, HostWithStore};
    instance.func_wrap_concurrent("resolve-addresses", move |store: &Accessor<Host>, (name,): (String,)| {
        Box::pin(async move {
            let may =
                store.with(|mut access| may_look_up(host::called(who)(access.data_mut()).caller, &name));
            if !may {
                return Ok((Err(ErrorCode::AccessDenied),));
            }
            let store = &store.with_getter::<WasiSockets>(host::sockets(who));
            Ok((<WasiSockets as HostWithStore<Host>>::resolve_addresses(store, name).await?,))
        })
    })
}

#[cfg(test)]
mod tests {
    use tenon_model::{Authority, Limits, OutsideLimits};

    use super::*;
    use crate::capability::{Backends, Principals};

    fn caller(sockets: Vec<SocketGrant>) -> Arc<Caller> {
        let grants = Grants { sockets, ..Grants::default() };
        let whole = Authority { grants, outside: OutsideLimits::default(), memory_bytes: None };
        let principals = Principals::new("app", &whole, &Limits::default(), &Backends::default());
        Caller::new(Arc::new(principals), 0, "id".into())
    }

    fn grant(
        protocol: SocketProtocol,
        direction: SocketDirection,
        host: &str,
        ports: (u16, u16),
    ) -> SocketGrant {
        SocketGrant { protocol, direction, host: host.into(), ports }
    }

    async fn may(caller: &Caller, usage: SocketAddrUse, address: &str) -> bool {
        may_use(caller, address.parse().unwrap(), usage).await
    }

    #[tokio::test(flavor = "current_thread")]
    async fn protocol_direction_host_and_port_all_count() {
        use SocketAddrUse::*;
        let caller = caller(vec![
            grant(SocketProtocol::Tcp, SocketDirection::Connect, "127.0.0.1", (5432, 5433)),
            grant(SocketProtocol::Tcp, SocketDirection::Connect, "10.1.0.0/16", (80, 80)),
            grant(SocketProtocol::Tcp, SocketDirection::Connect, "localhost", (9000, 9000)),
            grant(SocketProtocol::Udp, SocketDirection::Listen, "0.0.0.0", (5353, 5353)),
        ]);
        for (usage, address) in [
            (TcpConnect, "127.0.0.1:5432"),
            (TcpConnect, "127.0.0.1:5433"),
            (TcpConnect, "[::ffff:127.0.0.1]:5432"),
            (TcpConnect, "10.1.255.3:80"),
            (TcpConnect, "127.0.0.1:9000"),
            (TcpBind, "0.0.0.0:0"),
            (UdpBind, "0.0.0.0:5353"),
            (UdpReceive, "192.0.2.1:77"),
        ] {
            assert!(may(&caller, usage, address).await, "{usage:?} {address}");
        }
        for (usage, address) in [
            (TcpConnect, "127.0.0.1:5434"),
            (TcpConnect, "127.0.0.2:5432"),
            (TcpConnect, "10.2.0.1:80"),
            (TcpConnect, "127.0.0.2:9000"),
            (UdpSend, "127.0.0.1:5432"),
            (TcpBind, "127.0.0.1:5432"),
            (TcpListen, "0.0.0.0:5353"),
            (TcpListen, "0.0.0.0:0"),
            (TcpAccept, "192.0.2.1:77"),
            (UdpBind, "127.0.0.1:5353"),
            (UdpSend, "192.0.2.1:5353"),
        ] {
            assert!(!may(&caller, usage, address).await, "{usage:?} {address}");
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_name_is_looked_up_once_in_a_while() {
        use SocketAddrUse::TcpConnect;
        let caller =
            caller(vec![grant(SocketProtocol::Tcp, SocketDirection::Connect, "localhost", (9000, 9000))]);
        assert!(may(&caller, TcpConnect, "127.0.0.1:9000").await);
        // What was found counts, and nothing is looked up.
        assert!(
            caller.names.known("localhost", Instant::now()).unwrap().contains(&IpAddr::from([127, 0, 0, 1]))
        );
        caller.names.keep("localhost", vec![IpAddr::from([192, 0, 2, 7])], Instant::now());
        assert!(may(&caller, TcpConnect, "192.0.2.7:9000").await);
        assert!(!may(&caller, TcpConnect, "127.0.0.1:9000").await);
        // After a second it is looked up again.
        caller.names.all()[0].found -= FRESH;
        assert!(may(&caller, TcpConnect, "127.0.0.1:9000").await);
        for number in 0..2 * NAMES_MAX {
            caller.names.keep(&number.to_string(), Vec::new(), Instant::now());
        }
        assert_eq!(caller.names.all().len(), NAMES_MAX);
        caller.renew("next".into(), 0);
        assert!(caller.names.all().is_empty(), "another request looks for itself");
    }

    #[test]
    fn only_granted_names_are_looked_up() {
        let caller =
            caller(vec![grant(SocketProtocol::Tcp, SocketDirection::Connect, "db.internal", (1, 2))]);
        for name in ["db.internal", "DB.Internal.", "192.0.2.1", "::1", "[::1]"] {
            assert!(may_look_up(&caller, name), "{name}");
        }
        for name in ["internal", "x.db.internal", "db.internal.evil.test", ""] {
            assert!(!may_look_up(&caller, name), "{name}");
        }
    }
}
