//! `wasi:sockets`, with TCP and UDP granted on 127.0.0.1, both ways. An echo of UDP is at the port of the query.

use wasip2::io::streams::StreamError;
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::network::{
    ErrorCode, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress,
};
use wasip2::sockets::tcp::{ShutdownType, TcpSocket};
use wasip2::sockets::tcp_create_socket::create_tcp_socket;
use wasip2::sockets::udp::OutgoingDatagram;
use wasip2::sockets::udp_create_socket::create_udp_socket;

use faults::Checks;

fn local(port: u16) -> IpSocketAddress {
    IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address: (127, 0, 0, 1) })
}

fn port(address: &IpSocketAddress) -> u16 {
    match address {
        IpSocketAddress::Ipv4(address) => address.port,
        IpSocketAddress::Ipv6(address) => address.port,
    }
}

pub fn check(checks: &mut Checks, echo: u16) {
    tcp(checks);
    udp(checks, echo);
}

fn bound() -> Result<TcpSocket, ErrorCode> {
    let socket = create_tcp_socket(IpAddressFamily::Ipv4)?;
    socket.start_bind(&instance_network(), local(0))?;
    socket.subscribe().block();
    socket.finish_bind()?;
    Ok(socket)
}

fn tcp(checks: &mut Checks) {
    let network = instance_network();
    let Ok(socket) = create_tcp_socket(IpAddressFamily::Ipv4) else {
        return checks.holds("a socket is made", false, "it is not");
    };
    checks.holds("its family", socket.address_family() == IpAddressFamily::Ipv4, "another");
    checks.fails("an unbound socket has no address", socket.local_address(), ErrorCode::InvalidState);
    checks.fails("nor a peer", socket.remote_address(), ErrorCode::InvalidState);
    checks.same("nor does it listen", socket.is_listening(), false);
    checks.fails("it accepts nothing", socket.accept(), ErrorCode::InvalidState);
    checks.fails("it cannot be shut down", socket.shutdown(ShutdownType::Both), ErrorCode::InvalidState);
    checks.fails("an unbound socket does not listen", socket.start_listen(), ErrorCode::InvalidState);
    checks.fails("nothing to finish: bind", socket.finish_bind(), ErrorCode::NotInProgress);
    checks.fails("nothing to finish: connect", socket.finish_connect(), ErrorCode::NotInProgress);
    checks.fails("nothing to finish: listen", socket.finish_listen(), ErrorCode::NotInProgress);
    let six = IpSocketAddress::Ipv6(Ipv6SocketAddress {
        port: 0,
        flow_info: 0,
        address: (0, 0, 0, 0, 0, 0, 0, 1),
        scope_id: 0,
    });
    checks.fails(
        "an address of the other family: bind",
        socket.start_bind(&network, six),
        ErrorCode::InvalidArgument,
    );
    checks.fails(
        "an address of the other family: connect",
        socket.start_connect(&network, six),
        ErrorCode::InvalidArgument,
    );
    checks.fails(
        "port 0 is no destination",
        socket.start_connect(&network, local(0)),
        ErrorCode::InvalidArgument,
    );
    checks.fails("no backlog of nothing", socket.set_listen_backlog_size(0), ErrorCode::InvalidArgument);
    checks.fails("no hop limit of nothing", socket.set_hop_limit(0), ErrorCode::InvalidArgument);
    checks.fails(
        "no time of nothing to keep alive",
        socket.set_keep_alive_idle_time(0),
        ErrorCode::InvalidArgument,
    );
    checks.fails("no interval of nothing", socket.set_keep_alive_interval(0), ErrorCode::InvalidArgument);
    checks.fails("no count of nothing", socket.set_keep_alive_count(0), ErrorCode::InvalidArgument);
    checks.fails("no buffer of nothing", socket.set_receive_buffer_size(0), ErrorCode::InvalidArgument);
    checks.same(
        "options are kept",
        (socket.set_keep_alive_enabled(true), socket.keep_alive_enabled()),
        (Ok(()), Ok(true)),
    );
    checks.same("a hop limit", (socket.set_hop_limit(42), socket.hop_limit()), (Ok(()), Ok(42)));

    let Ok(server) = bound() else { return checks.holds("a socket is bound", false, "it is not") };
    let address = server.local_address();
    checks.holds("it has a port now", address.as_ref().is_ok_and(|it| port(it) != 0), "it has not");
    checks.fails("it is not bound twice", server.start_bind(&network, local(0)), ErrorCode::InvalidState);
    checks.same(
        "it listens",
        server.start_listen().and_then(|()| {
            server.subscribe().block();
            server.finish_listen()
        }),
        Ok(()),
    );
    checks.same("and says so", server.is_listening(), true);
    checks.fails("it does not listen twice", server.start_listen(), ErrorCode::InvalidState);
    checks.fails(
        "a listener does not connect",
        server.start_connect(&network, local(1)),
        ErrorCode::InvalidState,
    );
    checks.fails("nobody came yet", server.accept(), ErrorCode::WouldBlock);

    let Ok(address) = address else { return };
    let started = socket.start_connect(&network, address);
    checks.same("a connection begins", started, Ok(()));
    let streams = loop {
        match socket.finish_connect() {
            Err(ErrorCode::WouldBlock) => socket.subscribe().block(),
            done => break done,
        }
    };
    let Ok((input, output)) = streams else {
        return checks.holds("a connection is made", false, "it is not");
    };
    checks.fails("it is made once", socket.start_connect(&network, address), ErrorCode::InvalidState);
    checks.same("it has a peer", socket.remote_address().map(|it| port(&it)), Ok(port(&address)));
    server.subscribe().block();
    let Ok((peer, peer_input, peer_output)) = server.accept() else {
        return checks.holds("it is accepted", false, "no");
    };
    checks.same(
        "the other end sees this one",
        peer.remote_address().map(|it| port(&it)),
        socket.local_address().map(|it| port(&it)),
    );
    checks.holds("bytes go there", output.blocking_write_and_flush(b"ping").is_ok(), "they do not");
    checks.same("and arrive", peer_input.blocking_read(100).ok(), Some(b"ping".to_vec()));
    checks.same("nothing to read is not the end", input.read(10).ok(), Some(vec![]));
    checks.same("one way is closed", socket.shutdown(ShutdownType::Send), Ok(()));
    let end = peer_input.blocking_read(10);
    checks.holds("the other end sees the end", matches!(end, Err(StreamError::Closed)), &format!("{end:?}"));
    checks.holds(
        "the other way still works",
        peer_output.blocking_write_and_flush(b"pong").is_ok(),
        "it does not",
    );
    checks.same("and is read", input.blocking_read(100).ok(), Some(b"pong".to_vec()));
    let after = output.blocking_write_and_flush(b"x");
    checks.holds("nothing is written after the close", after.is_err(), "it is");

    // Somebody had this port a moment ago, and nobody has it now.
    let free = bound().and_then(|it| it.local_address()).map(|it| port(&it)).unwrap_or(1);
    if let Ok(lonely) = create_tcp_socket(IpAddressFamily::Ipv4) {
        let refused = lonely.start_connect(&network, local(free)).and_then(|()| {
            loop {
                match lonely.finish_connect() {
                    Err(ErrorCode::WouldBlock) => lonely.subscribe().block(),
                    done => break done.map(|_| ()),
                }
            }
        });
        checks.fails("nobody listens there", refused, ErrorCode::ConnectionRefused);
        checks.holds(
            "and the socket is of no more use",
            lonely.start_connect(&network, local(free)).is_err(),
            "it is",
        );
    }
}

fn udp(checks: &mut Checks, echo: u16) {
    let network = instance_network();
    let Ok(socket) = create_udp_socket(IpAddressFamily::Ipv4) else {
        return checks.holds("a UDP socket is made", false, "it is not");
    };
    checks.fails("an unbound UDP socket has no streams", socket.stream(None), ErrorCode::InvalidState);
    checks.fails("nor an address", socket.local_address(), ErrorCode::InvalidState);
    checks.fails("nor something to finish", socket.finish_bind(), ErrorCode::NotInProgress);
    checks.fails("no UDP hop limit of nothing", socket.set_unicast_hop_limit(0), ErrorCode::InvalidArgument);
    let bind = socket.start_bind(&network, local(0)).and_then(|()| {
        socket.subscribe().block();
        socket.finish_bind()
    });
    checks.same("it is bound", bind, Ok(()));
    checks.fails("once", socket.start_bind(&network, local(0)), ErrorCode::InvalidState);
    checks.fails("it has no peer", socket.remote_address(), ErrorCode::InvalidState);
    let Ok((input, output)) = socket.stream(None) else {
        return checks.holds("it has streams", false, "none");
    };
    checks.same("nothing came yet", input.receive(10).map(|it| it.len()), Ok(0));
    output.subscribe().block();
    checks.holds("it may send", output.check_send().is_ok_and(|it| it > 0), "it may not");
    let datagram = |to| OutgoingDatagram { data: b"ping".to_vec(), remote_address: to };
    checks.same("a datagram is sent", output.send(&[datagram(Some(local(echo)))]), Ok(1));
    input.subscribe().block();
    let came = input
        .receive(10)
        .map(|it| it.into_iter().map(|it| (it.data, port(&it.remote_address))).collect::<Vec<_>>());
    checks.same("and comes back, from where it was sent", came, Ok(vec![(b"ping".to_vec(), echo)]));
    output.subscribe().block();
    let _ = output.check_send();
    checks.fails(
        "without a peer, it needs an address",
        output.send(&[datagram(None)]),
        ErrorCode::InvalidArgument,
    );
    drop((input, output));
    // A socket of its own: on this engine, one that has had streams traps when it is to be connected.
    let Ok(socket) = create_udp_socket(IpAddressFamily::Ipv4) else { return };
    let bind = socket.start_bind(&network, local(0)).and_then(|()| {
        socket.subscribe().block();
        socket.finish_bind()
    });
    checks.same("another is bound", bind, Ok(()));
    let Ok((input, output)) = socket.stream(Some(local(echo))) else {
        return checks.holds("it is connected", false, "no");
    };
    checks.same("it has a peer now", socket.remote_address().map(|it| port(&it)), Ok(echo));
    output.subscribe().block();
    let _ = output.check_send();
    checks.same("and needs no address", output.send(&[datagram(None)]), Ok(1));
    input.subscribe().block();
    checks.same("what comes back", input.receive(1).map(|it| it.len()), Ok(1));
    output.subscribe().block();
    let _ = output.check_send();
    checks.fails("nor takes another", output.send(&[datagram(Some(local(1)))]), ErrorCode::InvalidArgument);
}
