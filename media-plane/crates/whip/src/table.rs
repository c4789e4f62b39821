//! Whose a packet is: by the name in a check, then by the address that check came from. Bounded by the sessions there are.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use crate::limits::MAX_PATHS;
use crate::stun;

/// A session of the shared socket.
pub type Key = u64;

#[derive(Debug)]
struct Entry<Q> {
    queue: Q,
    names: Vec<String>,
    /// Oldest first.
    addresses: VecDeque<SocketAddr>,
}

/// See the module; `Q` is where a session's packets go.
#[derive(Debug)]
pub struct Table<Q> {
    next: Key,
    entries: HashMap<Key, Entry<Q>>,
    names: HashMap<String, Key>,
    addresses: HashMap<SocketAddr, Key>,
}

impl<Q> Default for Table<Q> {
    fn default() -> Self {
        Self { next: 1, entries: HashMap::new(), names: HashMap::new(), addresses: HashMap::new() }
    }
}

impl<Q: Clone> Table<Q> {
    /// A new session whose checks name `ufrag`.
    pub fn insert(&mut self, ufrag: &str, queue: Q) -> Key {
        let key = self.next;
        self.next += 1;
        self.entries.insert(key, Entry { queue, names: vec![ufrag.to_owned()], addresses: VecDeque::new() });
        self.names.insert(ufrag.to_owned(), key);
        key
    }

    /// Another name for the session, after an ICE restart; of the older ones the newest stays.
    pub fn rename(&mut self, key: Key, ufrag: &str) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        while entry.names.len() > 1 {
            self.names.remove(&entry.names.remove(0));
        }
        entry.names.push(ufrag.to_owned());
        self.names.insert(ufrag.to_owned(), key);
    }

    /// The session's publisher has proven that it sends from this address.
    pub fn learn(&mut self, key: Key, address: SocketAddr) {
        if self.addresses.get(&address) == Some(&key) {
            return;
        }
        if !self.entries.contains_key(&key) {
            return;
        }
        let before = self.addresses.insert(address, key);
        // The address may have changed hands, for example behind one NAT.
        if let Some(other) = before.and_then(|before| self.entries.get_mut(&before)) {
            other.addresses.retain(|known| *known != address);
        }
        let Some(entry) = self.entries.get_mut(&key) else { return };
        entry.addresses.push_back(address);
        if entry.addresses.len() > MAX_PATHS
            && let Some(oldest) = entry.addresses.pop_front()
        {
            self.addresses.remove(&oldest);
        }
    }

    /// Where a packet goes; `None` = nowhere.
    pub fn find(&self, from: SocketAddr, data: &[u8]) -> Option<Q> {
        let key =
            if stun::is_stun(data) { self.names.get(stun::local_ufrag(data)?)? } else { self.addresses.get(&from)? };
        self.entries.get(key).map(|entry| entry.queue.clone())
    }

    /// The session is over.
    pub fn remove(&mut self, key: Key) {
        let Some(entry) = self.entries.remove(&key) else { return };
        for name in entry.names {
            self.names.remove(&name);
        }
        for address in entry.addresses {
            self.addresses.remove(&address);
        }
    }

    /// Sessions, names and addresses known.
    pub fn sizes(&self) -> (usize, usize, usize) {
        (self.entries.len(), self.names.len(), self.addresses.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ufrag: &str) -> Vec<u8> {
        let name = format!("{ufrag}:remote");
        let mut data = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
        data.extend([7; 12]);
        data.extend([0, 6, 0, u8::try_from(name.len()).unwrap()]);
        data.extend(name.as_bytes());
        data.resize(data.len().next_multiple_of(4), 0);
        data
    }

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 7], port))
    }

    #[test]
    fn checks_go_by_name_and_media_by_address() {
        let mut table = Table::default();
        let one = table.insert("one", 1);
        let two = table.insert("two", 2);
        assert_eq!(table.find(address(1), &check("two")), Some(2));
        assert_eq!(table.find(address(1), &[0x80; 40]), None, "nothing is proven yet");
        table.learn(one, address(1));
        assert_eq!(table.find(address(1), &[0x80; 40]), Some(1));
        table.learn(two, address(1));
        assert_eq!(table.find(address(1), &[0x80; 40]), Some(2), "the address has changed hands");
        table.rename(two, "two-again");
        assert_eq!(table.find(address(9), &check("two-again")), Some(2));
        assert_eq!(table.find(address(9), &check("two")), Some(2), "until the new one is used");
        table.remove(one);
        table.remove(two);
        assert_eq!(table.sizes(), (0, 0, 0));
    }

    #[test]
    fn names_and_addresses_of_a_session_are_bounded() {
        let mut table = Table::default();
        let key = table.insert("one", 1);
        for port in 1..=1_000 {
            table.learn(key, address(port));
            table.learn(key, address(port));
            table.rename(key, &format!("name{port}"));
        }
        assert_eq!(table.sizes(), (1, 2, MAX_PATHS));
        assert_eq!(table.find(address(1_000), &[0x80; 40]), Some(1));
    }
}
