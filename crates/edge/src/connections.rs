//! How many connections there may be, in all and of one address.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Parts that addresses are spread over, so that workers which accept at the same time seldom meet.
const PARTS: usize = 16;

/// What a server gives to connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Connections that one worker holds open; further ones wait in the kernel's queue.
    pub per_worker_max: usize,
    /// Connections of one address, or of one network of 64 bits where addresses have 128; further ones are closed.
    pub per_address_max: usize,
    /// A client has this long to send a request's head, and to begin the next one.
    pub head: Duration,
    /// A client has this long for the handshake of TLS.
    pub handshake: Duration,
    /// Handshakes of HTTP/3 that may be under way; further connections are refused.
    pub handshakes_max: usize,
    /// Of them, those whose clients need not show that they are at the address they say; further ones have to.
    pub handshakes_unproved_max: usize,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            per_worker_max: 10_000,
            per_address_max: 2_048,
            head: Duration::from_secs(30),
            handshake: Duration::from_secs(10),
            handshakes_max: 1_024,
            handshakes_unproved_max: 64,
        }
    }
}

/// Connections by address, so that none can have all of those that there may be.
#[derive(Debug)]
pub struct Addresses {
    per_address_max: usize,
    hasher: RandomState,
    open: [Mutex<HashMap<IpAddr, usize>>; PARTS],
}

/// A connection that counts as one of its address until this is dropped.
#[derive(Debug)]
pub struct Held {
    addresses: Arc<Addresses>,
    of: IpAddr,
}

impl Addresses {
    /// None yet; of each address, or network of IPv6, there may be as many as this.
    pub fn new(per_address_max: usize) -> Arc<Self> {
        let open = std::array::from_fn(|_| Mutex::default());
        Arc::new(Self { per_address_max, hasher: RandomState::new(), open })
    }

    fn part(&self, of: IpAddr) -> &Mutex<HashMap<IpAddr, usize>> {
        let part = self.hasher.hash_one(of) % PARTS as u64;
        &self.open[usize::try_from(part).unwrap_or(0)]
    }

    /// One more of this address, unless it has as many as it may.
    pub fn hold(self: &Arc<Self>, client: IpAddr) -> Option<Held> {
        let of = counted_as(client);
        let mut open = self.part(of).lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(of).or_default();
        if *count >= self.per_address_max.max(1) {
            return None;
        }
        *count += 1;
        Some(Held { addresses: Arc::clone(self), of })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut open = self.addresses.part(self.of).lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = open.entry(self.of) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// The address that a client is known by: one of IPv6 is one of as many as its network has, all of which a client can use.
pub fn counted_as(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_holds_as_many_as_it_may_and_another_is_not_concerned() {
        let addresses = Addresses::new(2);
        let hold = |client: &str| addresses.hold(client.parse().unwrap());
        let held = (hold("10.0.0.1"), hold("::ffff:10.0.0.1"));
        assert!(held.0.is_some() && held.1.is_some() && hold("10.0.0.1").is_none());
        assert!(hold("10.0.0.2").is_some());
        drop(held);
        assert!(hold("10.0.0.1").is_some());
        let _network = (hold("2001:db8::1"), hold("2001:db8::ffff:1"));
        assert!(hold("2001:db8::2").is_none() && hold("2001:db8:0:1::2").is_some());
        drop(_network);
        let left: usize = addresses.open.iter().map(|part| part.lock().unwrap().len()).sum();
        assert_eq!(left, 0, "nothing is kept of an address that has none");
    }
}
