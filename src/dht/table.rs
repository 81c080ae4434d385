//! The routing table (BEP 5): the nodes that we know, many near our own id, few far away.
//!
//! ```text
//! bucket 0   ids that differ from ours in the first bit          half of all nodes, 8 are kept
//! bucket 1   … that share one bit with ours                      a quarter
//! bucket n   … that share n bits or more: the last one, which is split when it is full
//! ```
//!
//! Nobody gets more of it than his share: one node for each public address, one for each /24 (or /64
//! of IPv6) in a bucket, and where there is a choice those whose id belongs to their address (BEP 42).
//!
//! Layer: decisions. One table for each family (BEP 32); its size is bounded by its shape.

use std::time::Instant;

use super::bucket::{Bucket, Entry, GOOD_FOR, network};
use crate::krpc::{Contact, NodeId};
use crate::order;
use crate::reach::{Reach, reach};

/// Buckets at most: one for each bit of an id.
const BUCKETS_MAX: usize = 160;

#[derive(Debug)]
pub struct Table {
    own: NodeId,
    /// Never empty.
    buckets: Vec<Bucket>,
}

impl Table {
    pub fn new(own: NodeId, now: Instant) -> Table {
        Table { own, buckets: vec![Bucket::new(now)] }
    }

    /// The same nodes, seen from another place.
    pub fn moved(&self, own: NodeId, now: Instant) -> Table {
        let mut table = Table::new(own, now);
        for entry in self.entries() {
            table.insert(entry.clone(), now);
        }
        table
    }

    fn index(&self, id: NodeId) -> usize {
        (self.own.common_bits(id) as usize).min(self.buckets.len() - 1)
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.buckets.iter().flat_map(Bucket::all)
    }

    /// All nodes but the bad ones; those that have answered first.
    pub fn nodes(&self) -> Vec<Contact> {
        let mut nodes: Vec<&Entry> = self.entries().filter(|entry| !entry.is_bad()).collect();
        order::sort_by_key(&mut nodes, |entry| !entry.has_answered);
        nodes.into_iter().map(|entry| entry.contact).collect()
    }

    /// How many nodes have a place, and how many of these are good.
    pub fn len(&self, now: Instant) -> (usize, usize) {
        let nodes = || self.buckets.iter().flat_map(|bucket| &bucket.nodes);
        (nodes().count(), nodes().filter(|entry| entry.is_good(now)).count())
    }

    /// A node has answered a question of ours.
    pub fn answered(&mut self, contact: Contact, now: Instant) {
        let index = self.index(contact.id);
        let bucket = &mut self.buckets[index];
        match bucket.find(contact) {
            Some(entry) => {
                entry.heard(true, now);
                bucket.touched = now;
            }
            None => drop(self.insert(Entry::new(contact, true, now), now)),
        }
    }

    /// A node that is known from an earlier run only.
    pub fn remembered(&mut self, contact: Contact, now: Instant) {
        self.insert(Entry::new(contact, false, now), now);
    }

    /// A node has asked us something, or was named by another. True if it should be asked back: it
    /// is not known, and there is room for it.
    pub fn heard_of(&mut self, contact: Contact, itself: bool, now: Instant) -> bool {
        let index = self.index(contact.id);
        if let Some(entry) = self.buckets[index].find(contact) {
            if itself {
                entry.heard(false, now);
            }
            return false;
        }
        let last = index + 1 == self.buckets.len() && index + 1 < BUCKETS_MAX;
        (last || self.buckets[index].has_room()) && self.admits(contact)
    }

    /// A node has left a question unanswered.
    pub fn failed(&mut self, contact: Contact) {
        let index = self.index(contact.id);
        self.buckets[index].failed(contact);
    }

    /// Whether a stranger may come in: not ourselves, and the only one of its address and id.
    fn admits(&self, contact: Contact) -> bool {
        let Contact { id, addr } = contact;
        let public = reach(addr.ip()) == Reach::Everywhere;
        let same = |other: Contact| {
            other.id == id || other.addr == addr || (public && other.addr.ip() == addr.ip())
        };
        id != self.own && !self.entries().any(|entry| !entry.is_bad() && same(entry.contact))
    }

    /// Whether it has got a place.
    fn insert(&mut self, entry: Entry, now: Instant) -> bool {
        let contact = entry.contact;
        // What answers at an address now is what lives there, whatever was there before.
        if entry.has_answered {
            let old: Vec<Contact> = self
                .entries()
                .map(|entry| entry.contact)
                .filter(|old| old.addr == contact.addr && old.id != contact.id)
                .collect();
            for old in old {
                let index = self.index(old.id);
                self.buckets[index].remove(old);
            }
        }
        if !self.admits(contact) {
            return false;
        }
        let mut entry = entry;
        loop {
            let index = self.index(contact.id);
            let splits = index + 1 == self.buckets.len() && self.buckets.len() < BUCKETS_MAX;
            let bucket = &mut self.buckets[index];
            let subnet = network(contact.addr.ip());
            if subnet.is_some() && bucket.all().any(|e| network(e.contact.addr.ip()) == subnet) {
                return false;
            }
            match bucket.place(entry, now) {
                Ok(()) => return true,
                Err(back) => entry = back,
            }
            if !splits {
                bucket.wait(entry);
                return false;
            }
            let nearer = bucket.split(index as u32, self.own);
            self.buckets.push(nearer);
        }
    }

    /// The `n` nodes nearest to a target, nearest first, the bad ones left out; if `sure`, those too
    /// that have never answered.
    ///
    /// With `c` bits of our id in the target, those of bucket `c` share more with it, those of later
    /// buckets exactly `c`, those of earlier ones fewer and fewer.
    pub fn closest(&self, target: NodeId, n: usize, sure: bool) -> Vec<Contact> {
        let at = self.index(target);
        let mut found: Vec<Contact> = Vec::with_capacity(n + super::bucket::K);
        let mut take = |buckets: &[Bucket]| {
            let from = found.len();
            let nodes = buckets.iter().flat_map(|bucket| &bucket.nodes);
            let fit = |entry: &&Entry| !entry.is_bad() && (entry.has_answered || !sure);
            found.extend(nodes.filter(fit).map(|entry| entry.contact));
            order::sort_by_key(&mut found[from..], |contact| contact.id.distance(target));
            n <= found.len()
        };
        let last = self.buckets.len() - 1;
        let nearest = if at == last { at..last + 1 } else { at..at + 1 };
        let _ = take(&self.buckets[nearest])
            || take(&self.buckets[(at + 1).min(last + 1)..])
            || (0..at).rev().any(|index| take(&self.buckets[index..=index]));
        found.truncate(n);
        found
    }

    /// A place to look for, in a bucket that nothing was heard of for 15 minutes (BEP 5).
    pub fn refresh(&mut self, rng: &mut fastrand::Rng, now: Instant) -> Option<NodeId> {
        let due = |bucket: &Bucket| bucket.touched + GOOD_FOR <= now && !bucket.nodes.is_empty();
        let index = self.buckets.iter().position(due)?;
        self.buckets[index].touched = now;
        Some(self.own.random_sharing(index as u32, rng))
    }

    /// The node that was not heard of for longest, if that is too long.
    pub fn questionable(&self, now: Instant) -> Option<Contact> {
        let nodes = self.buckets.iter().flat_map(|bucket| &bucket.nodes);
        let oldest = nodes.min_by_key(|entry| entry.seen)?;
        (oldest.seen + GOOD_FOR <= now).then_some(oldest.contact)
    }
}

#[cfg(test)]
mod tests {
    use super::super::bucket::K;
    use super::*;
    use std::net::SocketAddr;
    use std::time::Duration;

    fn public(n: u32) -> SocketAddr {
        // Each in a /24 of its own.
        (std::net::Ipv4Addr::from_bits(0x0800_0001 + (n << 8)), 6881).into()
    }

    fn filled(nodes: u32) -> (Table, Vec<Contact>, Instant, fastrand::Rng) {
        let mut rng = fastrand::Rng::with_seed(7);
        let now = Instant::now();
        let mut table = Table::new(NodeId::random(&mut rng), now);
        let make = |n| Contact { id: NodeId::for_ip(public(n).ip(), &mut rng), addr: public(n) };
        let all: Vec<Contact> = (0..nodes).map(make).collect();
        all.iter().for_each(|contact| table.answered(*contact, now));
        (table, all, now, rng)
    }

    #[test]
    fn buckets_split_near_the_own_id_only() {
        let (table, _, now, _) = filled(4000);
        let sizes: Vec<usize> = table.buckets.iter().map(|bucket| bucket.nodes.len()).collect();
        assert!(sizes.iter().all(|&size| size <= K) && sizes[..6].iter().all(|&size| size == K));
        assert!((8..=13).contains(&sizes.len()), "log2(4000 / 8) is 9: {sizes:?}");
        assert_eq!(table.len(now).0, sizes.iter().sum::<usize>());
        for (index, bucket) in table.buckets.iter().enumerate() {
            let bits = |entry: &Entry| table.own.common_bits(entry.contact.id) as usize;
            let last = index + 1 == table.buckets.len();
            assert!(bucket.all().all(|e| bits(e) == index || (last && index < bits(e))));
        }
    }

    #[test]
    fn the_closest_are_those_that_a_full_search_finds() {
        let (table, _, _, mut rng) = filled(500);
        for _ in 0..200 {
            let target = NodeId::random(&mut rng);
            let mut all: Vec<Contact> =
                table.buckets.iter().flat_map(|b| &b.nodes).map(|e| e.contact).collect();
            all.sort_by_key(|contact| contact.id.distance(target));
            assert_eq!(table.closest(target, K, true), all[..K]);
        }
        assert_eq!(table.closest(table.own, 3, true).len(), 3);
    }

    #[test]
    fn one_node_for_each_address_and_one_for_each_network() {
        let mut rng = fastrand::Rng::with_seed(1);
        let now = Instant::now();
        let mut table = Table::new(NodeId::random(&mut rng), now);
        let mut add = |addr: &str| {
            let addr: SocketAddr = addr.parse().unwrap();
            table.answered(Contact { id: NodeId::for_ip(addr.ip(), &mut rng), addr }, now);
            table.len(now).0
        };
        assert_eq!(add("8.8.8.8:1"), 1);
        assert_eq!(add("8.8.8.8:2"), 1, "the same address");
        assert_eq!(add("8.8.8.9:1"), 1, "the same /24");
        assert_eq!(add("8.8.9.9:1"), 2);
        assert_eq!(add("[2001:db8::1]:1"), 3);
        assert_eq!(add("[2001:db8::2]:1"), 3, "the same /64");
        assert_eq!(add("127.0.0.1:1"), 4);
        assert_eq!(add("127.0.0.1:2"), 5, "on one machine there may be many");
        assert_eq!(add("127.0.0.1:2"), 5, "but not two at one port");
    }

    #[test]
    fn ten_thousand_nodes_of_one_network_get_one_place() {
        let (mut table, _, now, mut rng) = filled(20);
        let before = table.len(now).0;
        for n in 0..10_000u32 {
            let addr = (std::net::Ipv4Addr::from_bits(0x0909_0900 + n % 256), 1 + n as u16).into();
            table.answered(Contact { id: NodeId::random(&mut rng), addr }, now);
        }
        let own_network =
            |contact: &&Contact| network(contact.addr.ip()) == network([9, 9, 9, 0].into());
        let theirs = table.nodes().iter().filter(own_network).count();
        assert!(theirs <= table.buckets.len() && table.len(now).0 <= before + theirs, "{theirs}");
    }

    #[test]
    fn a_full_bucket_keeps_who_is_good_and_replaces_who_is_bad() {
        let (mut table, all, now, _) = filled(4000);
        let far: Vec<Contact> = table.buckets[0].nodes.iter().map(|e| e.contact).collect();
        for contact in all.iter().filter(|contact| !far.contains(contact)) {
            table.answered(*contact, now);
        }
        let now_there: Vec<Contact> = table.buckets[0].nodes.iter().map(|e| e.contact).collect();
        assert_eq!(far, now_there, "long known nodes are the most reliable");
        table.failed(far[0]);
        assert!(table.buckets[0].find(far[0]).is_some(), "a packet may get lost");
        table.failed(far[0]);
        assert!(table.buckets[0].find(far[0]).is_none() && table.buckets[0].nodes.len() == K);
    }

    #[test]
    fn an_id_that_fits_its_address_takes_the_place_of_one_that_does_not() {
        let mut rng = fastrand::Rng::with_seed(3);
        let now = Instant::now();
        let mut table = Table::new(NodeId([0; 20]), now);
        let far = |n: u32, rng: &mut fastrand::Rng| loop {
            let id = NodeId::for_ip(public(n).ip(), rng);
            if 0x80 <= id.0[0] {
                break Some(id);
            }
            if rng.u8(..) == 0 {
                break None;
            }
        };
        for n in 0..100 {
            let mut id = NodeId::random(&mut rng);
            id.0[0] |= 0x80;
            table.answered(Contact { id, addr: public(n) }, now);
        }
        for n in 100..200 {
            if let Some(id) = far(n, &mut rng) {
                table.answered(Contact { id, addr: public(n) }, now);
            }
        }
        assert!(table.buckets[0].nodes.iter().all(|e| super::super::bucket::fits(e.contact)));
    }

    #[test]
    fn what_is_old_is_asked_again_and_quiet_buckets_are_refreshed() {
        let (mut table, _, now, mut rng) = filled(100);
        assert_eq!((table.questionable(now), table.refresh(&mut rng, now)), (None, None));
        let later = now + GOOD_FOR;
        assert_eq!(table.len(later).1, 0);
        let old = table.questionable(later).unwrap();
        table.answered(old, later);
        assert!(table.len(later).1 == 1 && table.questionable(later) != Some(old));
        let mut refreshed = 0;
        while let Some(target) = table.refresh(&mut rng, later) {
            assert!(table.own.common_bits(target) < 160);
            refreshed += 1;
        }
        assert!(refreshed == table.buckets.len() - 1, "one was just heard of: {refreshed}");
        assert!(table.refresh(&mut rng, later + Duration::from_secs(1)).is_none());
    }

    #[test]
    fn who_never_answered_goes_first_and_a_new_id_at_an_address_replaces_the_old() {
        let now = Instant::now();
        let mut table = Table::new(NodeId([0; 20]), now);
        let contact = |n: u8| Contact { id: NodeId([n; 20]), addr: ([127, 0, 0, 1], 1).into() };
        table.remembered(contact(0xf1), now);
        assert!(!table.heard_of(contact(0xf1), true, now) && table.len(now) == (1, 0));
        table.failed(contact(0xf1));
        assert_eq!(table.len(now), (0, 0));
        table.answered(contact(0xf1), now);
        table.answered(contact(0xf2), now);
        assert_eq!(table.nodes(), [contact(0xf2)]);
        assert!(
            !table.heard_of(Contact { id: NodeId([0; 20]), ..contact(1) }, true, now),
            "ourselves"
        );
    }
}
