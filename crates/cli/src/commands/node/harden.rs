//! What the process gives up before anything from outside reaches it.

use std::net::SocketAddr;

/// Ports below this one need a capability.
const PRIVILEGED_PORTS: u16 = 1_024;

/// Drops every capability but the one that low ports need, forbids to gain any, and leaves no core dump: a core has the
/// memory of every tenant, and its tokens and keys. What cannot be dropped is said and not fatal: the unit file or the
/// container drops it as well.
pub(super) fn drop_privileges(addresses: &[Option<SocketAddr>]) {
    use rustix::process::{Resource, Rlimit, setrlimit};
    if let Err(error) = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }) {
        tracing::warn!(%error, "core dumps could not be forbidden");
    }
    #[cfg(target_os = "linux")]
    {
        let needs_low_port = addresses.iter().flatten().any(|it| (1..PRIVILEGED_PORTS).contains(&it.port()));
        if let Err(error) = linux::drop_privileges(needs_low_port) {
            tracing::warn!(%error, "privileges could not be dropped");
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (addresses, PRIVILEGED_PORTS);
}

#[cfg(target_os = "linux")]
mod linux {
    use rustix::thread::{
        CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
        remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
    };

    /// Of the thread that calls, and so of all that it starts.
    pub(super) fn drop_privileges(keep_low_ports: bool) -> rustix::io::Result<()> {
        let kept = if keep_low_ports { CapabilitySet::NET_BIND_SERVICE } else { CapabilitySet::empty() };
        let had = capabilities(None)?;
        // Only who may is able to narrow what its children could have; the others' children have nothing anyway.
        if had.effective.contains(CapabilitySet::SETPCAP) {
            for one in CapabilitySet::all().iter().filter(|one| !kept.contains(*one)) {
                // A kernel may not know all of them.
                let _ = remove_capability_from_bounding_set(one);
            }
        }
        clear_ambient_capability_set()?;
        let permitted = had.permitted & kept;
        set_capabilities(
            None,
            CapabilitySets { effective: permitted, permitted, inheritable: CapabilitySet::empty() },
        )?;
        set_no_new_privs(true)
    }
}
