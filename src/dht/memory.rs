//! What a node keeps until the next run: other nodes, and the address by which it was seen.
//!
//! ```text
//! d  3:ips    [ IPv4: 4 or IPv6: 16, … ]
//!    5:nodes  | id: 20 | IPv4: 4 | port: 2 |*        6:nodes6  | id: 20 | IPv6: 16 | port: 2 |*  e
//! ```
//!
//! Not its own id: two that run at the same time would have the same, at two ports.
//!
//! Layer: decisions.

use std::net::IpAddr;

use crate::bencode::{self, Dictionary};
use crate::krpc::{Contact, read_nodes, write_nodes};

/// Nodes of each family that are kept: a table has 100 to 200.
const NODES_MAX: usize = 500;

/// More than what [`Memory::encode`] ever makes, in bytes.
pub const MEMORY_LEN_MAX: usize = 64 * 1024;

const _: () = assert!(NODES_MAX * (26 + 38) < MEMORY_LEN_MAX / 2);

/// What is worth keeping until the next run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    pub nodes: Vec<Contact>,
    /// Our own addresses, as others saw us.
    pub ips: Vec<IpAddr>,
}

impl Memory {
    pub fn encode(&self) -> Vec<u8> {
        let octets = |ip: &IpAddr| match ip {
            IpAddr::V4(ip) => bencode::bytes(&ip.octets()),
            IpAddr::V6(ip) => bencode::bytes(&ip.octets()),
        };
        let nodes = |v6: bool| {
            let family = self.nodes.iter().filter(|node| node.addr.is_ipv6() == v6);
            write_nodes(&family.copied().take(NODES_MAX).collect::<Vec<_>>(), v6)
        };
        Dictionary::new()
            .list("ips", self.ips.iter().map(octets))
            .bytes("nodes", nodes(false))
            .bytes("nodes6", nodes(true))
            .done()
    }

    /// What a file says. Whatever makes no sense in it is as if it were not there.
    pub fn decode(file: &[u8]) -> Memory {
        let mut memory = Memory::default();
        let Some(document) = (file.len() <= MEMORY_LEN_MAX).then(|| bencode::decode(file).ok())
        else {
            return memory;
        };
        let Some(root) = document.as_ref().and_then(|document| document.root().dict()) else {
            return memory;
        };
        for (key, v6) in [("nodes", false), ("nodes6", true)] {
            let bytes = root.bytes(key).unwrap_or_default();
            memory.nodes.extend(read_nodes(bytes, v6, NODES_MAX).unwrap_or_default());
        }
        let ip = |bytes: &[u8]| match bytes.len() {
            4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
            _ => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        };
        let ips = root.list("ips").into_iter().flat_map(|list| list.iter());
        memory.ips.extend(ips.take(2).filter_map(|value| ip(value.bytes()?)));
        memory
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::krpc::NodeId;

    #[test]
    fn what_is_kept_comes_back_and_what_is_garbage_does_not() {
        let node = |n: u32, v6: bool| {
            let id = NodeId([n as u8; 20]);
            let [.., high, low] = n.to_be_bytes();
            let v4 = std::net::SocketAddr::from(([10, 0, high, low], 1));
            let addr = if v6 { format!("[2001:db8::{n:x}]:1").parse().unwrap() } else { v4 };
            Contact { id, addr }
        };
        let ips = vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        let mut memory = Memory { nodes: vec![node(1, false), node(2, true)], ips };
        assert_eq!(Memory::decode(&memory.encode()), memory);
        memory.nodes = (0..2000).map(|n| node(n, n % 2 == 1)).collect();
        let file = memory.encode();
        assert!(file.len() < MEMORY_LEN_MAX && Memory::decode(&file).nodes.len() == 2 * NODES_MAX);
        for garbage in ["", "x", "i1e", "de", "d5:nodes3:abc6:nodes6i1e3:ipsl1:aee"] {
            assert_eq!(Memory::decode(garbage.as_bytes()), Memory::default(), "{garbage}");
        }
        assert_eq!(Memory::decode(&vec![b'l'; MEMORY_LEN_MAX + 1]), Memory::default());
    }
}
