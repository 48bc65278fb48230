//! The twin without grants: everything that reaches outside is refused, and says so.

use faults::Checks;
use wasip3::cli::environment;
use wasip3::filesystem::preopens::get_directories;
use wasip3::filesystem::types::{DescriptorFlags, NewTimestamp, OpenFlags, PathFlags};
use wasip3::sockets::ip_name_lookup::resolve_addresses;
use wasip3::sockets::types::{IpAddressFamily, TcpSocket, UdpSocket};

use crate::client;
use crate::filesystem::{content, open, write};
use crate::keyvalue::wasi::keyvalue::store;
use crate::sockets::local;
use crate::wait::soon;

/// Grants that lead nowhere: `wasi:http` to a host that is not there, `wasi:sockets` for both protocols to an address
/// that is nobody's, `wasi:keyvalue` for a bucket that is not asked for.
pub async fn check(checks: &mut Checks, peer: u16) {
    checks.same("no environment", environment::get_environment(), vec![]);
    checks.same("no arguments", environment::get_arguments(), vec![]);
    checks.same("no directory", get_directories().len(), 0);

    checks.shows("no bucket", store::open("default").map(|_| ()), "Err(Error::AccessDenied)");
    let sent = soon(client::status(&format!("127.0.0.1:{peer}"))).await;
    checks.shows("no request", sent, "Some(Err(HttpRequestDenied))");
    let Ok(socket) = TcpSocket::create(IpAddressFamily::Ipv4) else {
        return checks.holds("a socket is made", false, "it is not");
    };
    checks.shows("no address is bound", socket.bind(local(0)), "Err(AccessDenied)");
    checks.shows("no connection", soon(socket.connect(local(peer))).await, "Some(Err(AccessDenied))");
    checks.shows("and the socket is of no more use", socket.get_local_address().is_err(), "true");
    if let Ok(socket) = TcpSocket::create(IpAddressFamily::Ipv4) {
        checks.shows("nobody listens", socket.listen().map(|_| ()), "Err(AccessDenied)");
        checks.same("nor says so", socket.get_is_listening(), false);
    }
    let Ok(socket) = UdpSocket::create(IpAddressFamily::Ipv4) else {
        return checks.holds("a UDP socket is made", false, "it is not");
    };
    checks.shows("no UDP address is bound", socket.bind(local(0)), "Err(AccessDenied)");
    checks.shows("no datagram", socket.send(b"ping".to_vec(), Some(local(peer))).await, "Err(AccessDenied)");
    checks.shows("no peer", socket.connect(local(peer)), "Err(AccessDenied)");
    checks.shows("no name", soon(resolve_addresses("localhost".to_owned())).await, "Some(Err(AccessDenied))");
    let literal = soon(resolve_addresses("127.0.0.1".to_owned())).await;
    checks.shows("an address is no name", literal.map(|it| it.map(|it| it.len())), "Some(Ok(1))");
}

/// A granted directory that may only be read and has `file` and `sub` in it.
pub async fn read_only(checks: &mut Checks) {
    let Some((root, _)) = get_directories().into_iter().next() else {
        return checks.holds("there is a directory", false, "none");
    };
    checks.shows("a file is read", content(&root, "file").await, r#"Ok("content")"#);
    let read = DescriptorFlags::READ;
    let none = OpenFlags::empty();
    let new = || "new".to_owned();
    let file = || "file".to_owned();
    let (change, unchanged) = (NewTimestamp::Now, NewTimestamp::NoChange);
    for (what, found) in [
        ("opened for writing", open(&root, "file", none, DescriptorFlags::WRITE).await.map(|_| ())),
        ("truncated", open(&root, "file", OpenFlags::TRUNCATE, read).await.map(|_| ())),
        ("created", open(&root, "new", OpenFlags::CREATE, read).await.map(|_| ())),
        (
            "opened to be changed",
            open(&root, "sub", OpenFlags::DIRECTORY, DescriptorFlags::MUTATE_DIRECTORY).await.map(|_| ()),
        ),
        ("made a directory", root.create_directory_at(new()).await),
        ("removed", root.unlink_file_at(file()).await),
        ("removed as a directory", root.remove_directory_at("sub".to_owned()).await),
        ("renamed", root.rename_at(file(), &root, new()).await),
        ("linked", root.link_at(PathFlags::empty(), file(), &root, new()).await),
        ("made a link", root.symlink_at(file(), new()).await),
        ("given another time", root.set_times_at(PathFlags::empty(), file(), unchanged, change).await),
        ("given another time itself", root.set_times(unchanged, change).await),
    ] {
        checks.holds(&format!("nothing is {what}"), found.is_err(), "it was");
    }
    if let Ok(opened) = open(&root, "file", none, read).await {
        checks.holds("nor written", write(&opened, b"x", 0).await.is_err(), "it was");
        checks.holds("nor cut", opened.set_size(0).await.is_err(), "it was");
        checks.holds("nor given a time", opened.set_times(change, change).await.is_err(), "it was");
    }
    checks.shows("the file is as it was", content(&root, "file").await, r#"Ok("content")"#);
}
