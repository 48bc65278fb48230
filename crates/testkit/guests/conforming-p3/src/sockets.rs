//! `wasi:sockets`, on this machine alone.

use std::future::IntoFuture as _;
use std::pin::pin;

use faults::Checks;
use wasip3::sockets::ip_name_lookup::resolve_addresses;
use wasip3::sockets::types::{
    ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress, TcpSocket,
    UdpSocket,
};
use wasip3::wit_bindgen::StreamReader;
use wasip3::wit_bindgen::StreamResult::{Cancelled, Complete, Dropped};
use wasip3::wit_stream;

use crate::wait::{both, now, soon, within};

pub fn local(port: u16) -> IpSocketAddress {
    IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address: (127, 0, 0, 1) })
}

fn at(address: (u8, u8, u8, u8), port: u16) -> IpSocketAddress {
    IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address })
}

fn six() -> IpSocketAddress {
    let address = (0, 0, 0, 0, 0, 0, 0, 1);
    IpSocketAddress::Ipv6(Ipv6SocketAddress { port: 1, flow_info: 0, address, scope_id: 0 })
}

fn port(address: &IpSocketAddress) -> u16 {
    match address {
        IpSocketAddress::Ipv4(address) => address.port,
        IpSocketAddress::Ipv6(address) => address.port,
    }
}

pub async fn check(checks: &mut Checks, echo: u16) {
    unbound(checks).await;
    listening(checks).await;
    if let Some((here, there)) = pair().await {
        conversation(checks, &here, &there).await;
    } else {
        checks.holds("two sockets are connected", false, "they are not");
    }
    closing(checks).await;
    pressure(checks).await;
    udp(checks, echo).await;
    names(checks).await;
}

/// A socket that nothing was done with.
async fn unbound(checks: &mut Checks) {
    let Ok(socket) = TcpSocket::create(IpAddressFamily::Ipv4) else {
        return checks.holds("a socket is made", false, "it is not");
    };
    checks.holds("its family", socket.get_address_family() == IpAddressFamily::Ipv4, "another");
    checks.shows("it has no address", socket.get_local_address().map(|_| ()), "Err(InvalidState)");
    checks.shows("nor a peer", socket.get_remote_address().map(|_| ()), "Err(InvalidState)");
    checks.same("nor does it listen", socket.get_is_listening(), false);

    let (received, done) = socket.receive();
    checks.same("nothing comes", soon(received.collect()).await, Some(vec![]));
    checks.shows("and the result says why", soon(done.into_future()).await, "Some(Err(InvalidState))");
    let (mut writer, reader) = wit_stream::new();
    let done = socket.send(reader);
    checks.same("nothing is sent", soon(writer.write_all(vec![1])).await, Some(vec![1]));
    checks.shows("and the result says why not", soon(done.into_future()).await, "Some(Err(InvalidState))");

    for (what, address) in [
        ("of the other family", six()),
        ("that is nobody's", at((0, 0, 0, 0), 80)),
        ("of many", at((224, 0, 0, 1), 80)),
        ("of all", at((255, 255, 255, 255), 80)),
        ("without a port", local(0)),
    ] {
        let Ok(socket) = TcpSocket::create(IpAddressFamily::Ipv4) else { return };
        checks.shows(
            &format!("no connection to an address {what}"),
            socket.connect(address).await,
            "Err(InvalidArgument)",
        );
    }
    for (what, address) in [("of the other family", six()), ("of many", at((224, 0, 0, 1), 0))] {
        checks.shows(&format!("no address {what} is bound"), socket.bind(address), "Err(InvalidArgument)");
    }
    for (what, found) in [
        ("backlog", socket.set_listen_backlog_size(0)),
        ("hop limit", socket.set_hop_limit(0)),
        ("time to keep alive", socket.set_keep_alive_idle_time(0)),
        ("interval", socket.set_keep_alive_interval(0)),
        ("count", socket.set_keep_alive_count(0)),
        ("buffer to receive", socket.set_receive_buffer_size(0)),
        ("buffer to send", socket.set_send_buffer_size(0)),
    ] {
        checks.shows(&format!("no {what} of nothing"), found, "Err(InvalidArgument)");
    }
    for (what, found) in [
        ("backlog", socket.set_listen_backlog_size(u64::MAX)),
        ("time to keep alive", socket.set_keep_alive_idle_time(u64::MAX)),
        ("interval", socket.set_keep_alive_interval(1)),
        ("count", socket.set_keep_alive_count(u32::MAX)),
        ("buffer to receive", socket.set_receive_buffer_size(u64::MAX)),
        ("buffer to send", socket.set_send_buffer_size(1)),
    ] {
        checks.shows(&format!("any other {what} is taken"), found, "Ok(())");
    }
    let kept = (socket.set_keep_alive_enabled(true), socket.get_keep_alive_enabled());
    checks.shows("options are kept", kept, "(Ok(()), Ok(true))");
    checks.shows("a hop limit", (socket.set_hop_limit(42), socket.get_hop_limit()), "(Ok(()), Ok(42))");
    checks.holds("a size of the buffer", socket.get_receive_buffer_size().is_ok_and(|it| it > 0), "none");
}

async fn listening(checks: &mut Checks) {
    let Ok(server) = TcpSocket::create(IpAddressFamily::Ipv4) else { return };
    checks.shows("a socket is bound", server.bind(local(0)), "Ok(())");
    let address = server.get_local_address();
    checks.holds("it has a port now", address.as_ref().is_ok_and(|it| port(it) != 0), "it has not");
    checks.shows("it is not bound twice", server.bind(local(0)), "Err(InvalidState)");
    let Ok(mut incoming) = server.listen() else {
        return checks.holds("it listens", false, "it does not");
    };
    checks.same("it says that it listens", server.get_is_listening(), true);
    checks.shows("it does not listen twice", server.listen().map(|_| ()), "Err(InvalidState)");
    checks.shows("a listener does not connect", server.connect(local(1)).await, "Err(InvalidState)");
    checks.shows("it has no peer", server.get_remote_address().map(|_| ()), "Err(InvalidState)");
    {
        let mut accept = pin!(incoming.read(Vec::with_capacity(1)));
        checks.same("nobody came yet", now(accept.as_mut()).await.map(|it| it.0), None);
        checks.same("and nobody is waited for", accept.as_mut().cancel().0, Cancelled);
    }
    let (Ok(address), Ok(taken)) = (address, TcpSocket::create(IpAddressFamily::Ipv4)) else { return };
    checks.shows("an address in use", taken.bind(local(port(&address))), "Err(AddressInUse)");
    checks.shows("another may be bound after that", taken.bind(local(0)), "Ok(())");

    let Ok(client) = TcpSocket::create(IpAddressFamily::Ipv4) else { return };
    let (connected, accepted) = both(client.connect(address), soon(incoming.next())).await;
    checks.shows("a connection is made", connected, "Ok(())");
    let Some(Some(accepted)) = accepted else { return checks.holds("it is accepted", false, "it is not") };
    checks.same(
        "the other end sees this one",
        accepted.get_remote_address().map(|it| port(&it)).ok(),
        client.get_local_address().map(|it| port(&it)).ok(),
    );
    checks.shows("it is made once", client.connect(address).await, "Err(InvalidState)");
    checks.shows("and does not listen", client.listen().map(|_| ()), "Err(InvalidState)");
    checks.shows(
        "it has a peer",
        client.get_remote_address().map(|it| port(&it) == port(&address)),
        "Ok(true)",
    );

    // What listens is the stream, as much as the socket.
    drop(server);
    let Ok(late) = TcpSocket::create(IpAddressFamily::Ipv4) else { return };
    let (connected, accepted) = both(soon(late.connect(address)), soon(incoming.next())).await;
    checks.shows("the stream listens without its socket", connected, "Some(Ok(()))");
    checks.holds("and what it accepted", accepted.flatten().is_some(), "is nothing");
    drop(incoming);
    let Ok(refused) = TcpSocket::create(IpAddressFamily::Ipv4) else { return };
    checks.shows("nobody listens any longer", refused.connect(address).await, "Err(ConnectionRefused)");
    let again = refused.connect(address).await;
    checks.holds("and the socket is of no more use", again.is_err(), "it is");
}

/// Two sockets that are connected to each other.
async fn pair() -> Option<(TcpSocket, TcpSocket)> {
    let server = TcpSocket::create(IpAddressFamily::Ipv4).ok()?;
    server.bind(local(0)).ok()?;
    let mut incoming = server.listen().ok()?;
    let client = TcpSocket::create(IpAddressFamily::Ipv4).ok()?;
    let address = server.get_local_address().ok()?;
    let (connected, accepted) = both(client.connect(address), soon(incoming.next())).await;
    connected.ok()?;
    Some((client, accepted??))
}

async fn some(reader: &mut StreamReader<u8>) -> Option<Vec<u8>> {
    soon(reader.read(Vec::with_capacity(100))).await.map(|(_, content)| content)
}

async fn conversation(checks: &mut Checks, here: &TcpSocket, there: &TcpSocket) {
    let (mut writer, reader) = wit_stream::new();
    let mut sent = pin!(here.send(reader).into_future());
    let (mut arriving, arrived) = there.receive();
    checks.same("bytes are sent", soon(writer.write_all(b"ping".to_vec())).await, Some(vec![]));
    checks.same("and arrive", some(&mut arriving).await, Some(b"ping".to_vec()));
    let nothing = soon(writer.write(vec![])).await.map(|(result, _)| result);
    checks.same("nothing is sent", nothing, Some(Complete(0)));

    let (mut back, back_done) = here.receive();
    {
        let mut reading = pin!(back.read(Vec::with_capacity(10)));
        checks.same("nothing to read is not the end", now(reading.as_mut()).await, None);
        checks.same("and a read is given up", reading.as_mut().cancel(), (Cancelled, vec![]));
    }
    let (again, why) = here.receive();
    checks.same("receiving begins once", soon(again.collect()).await, Some(vec![]));
    checks.shows("and the result says so", soon(why.into_future()).await, "Some(Err(InvalidState))");
    let (mut second, reader) = wit_stream::new();
    let why = here.send(reader);
    checks.same("and so does sending", soon(second.write_all(vec![1])).await, Some(vec![1]));
    checks.shows("for the same reason", soon(why.into_future()).await, "Some(Err(InvalidState))");

    checks.shows("the result waits for the end", now(sent.as_mut()).await, "None");
    drop(writer);
    checks.shows("of the stream", soon(sent.as_mut()).await, "Some(Ok(()))");
    let end = soon(arriving.read(Vec::with_capacity(10))).await;
    checks.same("the other end sees the end", end, Some((Dropped, vec![])));
    checks.shows("which is a good one", soon(arrived.into_future()).await, "Some(Ok(()))");

    let (mut writer, reader) = wit_stream::new();
    let answered = there.send(reader);
    let left = soon(writer.write_all(b"pong".to_vec())).await;
    checks.same("the other way still works", left, Some(vec![]));
    checks.same("and is read after a read that was given up", some(&mut back).await, Some(b"pong".to_vec()));
    drop(writer);
    checks.shows("both ways are closed", soon(answered.into_future()).await, "Some(Ok(()))");
    checks.same("and read to the end", soon(back.collect()).await, Some(vec![]));
    checks.shows("which is good on both sides", soon(back_done.into_future()).await, "Some(Ok(()))");
}

/// Streams outlive their socket, and one that nobody reads.
async fn closing(checks: &mut Checks) {
    let Some((here, there)) = pair().await else { return };
    let (mut writer, reader) = wit_stream::new();
    let sent = here.send(reader);
    let (received, done) = there.receive();
    drop((here, there));
    let left = soon(writer.write_all(b"still here".to_vec())).await;
    checks.same("streams outlive their sockets", left, Some(vec![]));
    drop(writer);
    checks.same("on both sides", soon(received.collect()).await, Some(b"still here".to_vec()));
    let both_done = (soon(sent.into_future()).await, soon(done.into_future()).await);
    checks.shows("and end well", both_done, "(Some(Ok(())), Some(Ok(())))");

    let Some((here, there)) = pair().await else { return };
    let (received, done) = here.receive();
    drop(received);
    checks.shows("a stream nobody reads ends well", soon(done.into_future()).await, "Some(Ok(()))");
    drop(here);
    let (received, done) = there.receive();
    checks.same("one whose peer is gone ends", soon(received.collect()).await, Some(vec![]));
    checks.holds("and tells how", soon(done.into_future()).await.is_some(), "it does not");
    let (mut writer, reader) = wit_stream::new();
    let sent = there.send(reader);
    let mut sending = async || {
        // The first bytes may go before the other side says that nobody is there.
        for _ in 0..1_000 {
            if !writer.write_all(vec![0; 1_000]).await.is_empty() {
                return true;
            }
        }
        false
    };
    checks.same("nothing more is taken for a peer that is gone", soon(sending()).await, Some(true));
    let result = soon(sent.into_future()).await;
    checks.holds(
        "and the result says why",
        matches!(
            result,
            Some(Err(ErrorCode::ConnectionBroken
                | ErrorCode::ConnectionReset
                | ErrorCode::ConnectionAborted))
        ),
        &format!("{result:?}"),
    );
}

/// Who does not read holds back who writes.
async fn pressure(checks: &mut Checks) {
    const BYTES: usize = 16 << 20;
    let Some((here, there)) = pair().await else { return };
    let (mut writer, reader) = wit_stream::new();
    let sent = here.send(reader);
    let (mut received, _) = there.receive();
    let mut writing = Box::pin(async move { writer.write_all(vec![7; BYTES]).await.len() });
    let early = within(200_000_000, writing.as_mut()).await;
    checks.same("a peer that does not read holds the writer back", early, None);
    let mut count = 0;
    let reading = async {
        while count < BYTES {
            let (result, chunk) = received.read(Vec::with_capacity(64 << 10)).await;
            count += chunk.len();
            if result == Dropped {
                break;
            }
        }
    };
    let (left, ()) = both(writing, reading).await;
    checks.same("until it does", (left, count), (0, BYTES));
    checks.shows("and then all is well", soon(sent.into_future()).await, "Some(Ok(()))");
}

async fn udp(checks: &mut Checks, echo: u16) {
    let Ok(socket) = UdpSocket::create(IpAddressFamily::Ipv4) else {
        return checks.holds("a UDP socket is made", false, "it is not");
    };
    let send = async |socket: &UdpSocket, content: &[u8], to: Option<IpSocketAddress>| {
        soon(socket.send(content.to_vec(), to)).await
    };
    checks.holds(
        "its family is the one asked for",
        socket.get_address_family() == IpAddressFamily::Ipv4,
        "another",
    );
    checks.shows("it has no UDP address", socket.get_local_address().map(|_| ()), "Err(InvalidState)");
    checks.shows("nor a UDP peer", socket.get_remote_address().map(|_| ()), "Err(InvalidState)");
    checks.shows(
        "nothing is received before it is bound",
        soon(socket.receive()).await.map(|it| it.map(|_| ())),
        "Some(Err(InvalidState))",
    );
    checks.shows("it cannot be parted from nobody", socket.disconnect(), "Err(InvalidState)");
    checks.shows("no UDP hop limit of nothing", socket.set_unicast_hop_limit(0), "Err(InvalidArgument)");
    let kept = (socket.set_unicast_hop_limit(42), socket.get_unicast_hop_limit());
    checks.shows("a UDP hop limit", kept, "(Ok(()), Ok(42))");
    for (what, found) in [
        ("buffer to receive", socket.set_receive_buffer_size(0)),
        ("buffer to send", socket.set_send_buffer_size(0)),
    ] {
        checks.shows(&format!("no UDP {what} of nothing"), found, "Err(InvalidArgument)");
    }
    checks.shows(
        "a UDP address of the other family is not bound",
        socket.bind(six()),
        "Err(InvalidArgument)",
    );
    checks.shows("it is bound", socket.bind(local(0)), "Ok(())");
    checks.shows("once", socket.bind(local(0)), "Err(InvalidState)");
    checks.holds("to a port", socket.get_local_address().is_ok_and(|it| port(&it) != 0), "to none");
    checks.shows("it needs an address", send(&socket, b"ping", None).await, "Some(Err(InvalidArgument))");
    for (what, to) in [
        ("of the other family", six()),
        ("that is nobody's", at((0, 0, 0, 0), 80)),
        ("without a port", local(0)),
    ] {
        checks.shows(
            &format!("none {what}"),
            send(&socket, b"ping", Some(to)).await,
            "Some(Err(InvalidArgument))",
        );
        checks.shows(&format!("no peer {what}"), socket.connect(to), "Err(InvalidArgument)");
    }
    {
        let mut receive = pin!(socket.receive());
        checks.holds("nothing came yet", now(receive.as_mut()).await.is_none(), "something came");
    }
    for content in [&b"ping"[..], b"", &[9; 1_400]] {
        let name = format!("{} bytes", content.len());
        checks.shows(
            &format!("a datagram of {name} is sent"),
            send(&socket, content, Some(local(echo))).await,
            "Some(Ok(()))",
        );
        let came = soon(socket.receive()).await;
        let fits = matches!(&came, Some(Ok((came, from))) if came == content && port(from) == echo);
        checks.holds(&format!("and comes back, {name}"), fits, &format!("{came:?}"));
    }
    checks.shows(
        "a datagram that is too large",
        send(&socket, &[0; 65_530], Some(local(echo))).await,
        "Some(Err(DatagramTooLarge))",
    );

    checks.shows("it is connected", socket.connect(local(echo)), "Ok(())");
    checks.shows(
        "it has a UDP peer now",
        socket.get_remote_address().map(|it| port(&it) == echo),
        "Ok(true)",
    );
    checks.shows("and needs no address", send(&socket, b"one", None).await, "Some(Ok(()))");
    checks.shows("nor minds the right one", send(&socket, b"two", Some(local(echo))).await, "Some(Ok(()))");
    for expected in ["one", "two"] {
        let came = soon(socket.receive()).await;
        let fits = matches!(&came, Some(Ok((came, _))) if came == expected.as_bytes());
        checks.holds(&format!("`{expected}` comes back"), fits, &format!("{came:?}"));
    }
    checks.shows(
        "but takes no other",
        send(&socket, b"x", Some(local(1))).await,
        "Some(Err(InvalidArgument))",
    );
    checks.shows("it is connected anew", socket.connect(local(echo)), "Ok(())");
    checks.shows("and parted", socket.disconnect(), "Ok(())");
    checks.shows("once only", socket.disconnect(), "Err(InvalidState)");
    checks.shows("it has no peer then", socket.get_remote_address().map(|_| ()), "Err(InvalidState)");
    checks.shows("and needs an address again", send(&socket, b"x", None).await, "Some(Err(InvalidArgument))");

    let Ok(fresh) = UdpSocket::create(IpAddressFamily::Ipv4) else { return };
    checks.shows(
        "one that is not bound sends",
        send(&fresh, b"ping", Some(local(echo))).await,
        "Some(Ok(()))",
    );
    checks.holds(
        "and is bound by that",
        fresh.get_local_address().is_ok_and(|it| port(&it) != 0),
        "it is not",
    );
    checks.holds("so that it receives", matches!(soon(fresh.receive()).await, Some(Ok(_))), "it does not");
}

async fn names(checks: &mut Checks) {
    let look_up = async |name: &str| soon(resolve_addresses(name.to_owned())).await;
    let found = look_up("127.0.0.1").await;
    let is_it =
        matches!(found.as_ref(), Some(Ok(found)) if matches!(found[..], [IpAddress::Ipv4((127, 0, 0, 1))]));
    checks.holds("an address is its own name", is_it, &format!("{found:?}"));
    let found = look_up("localhost").await;
    let some = matches!(found.as_ref(), Some(Ok(found)) if !found.is_empty());
    checks.holds("a granted name has addresses", some, &format!("{found:?}"));
    for name in ["example.com", "", "a b", "localhost.evil.test"] {
        let found = look_up(name).await;
        checks.holds(
            &format!("no other name is looked up, {name:?}"),
            matches!(found, Some(Err(_))),
            &format!("{found:?}"),
        );
    }
}
