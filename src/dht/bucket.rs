//! A bucket of the routing table: at most [`K`] nodes, and some that wait for a place (BEP 5).
//!
//! ```text
//! good           it has answered us, and was heard of in the last 15 minutes
//! questionable   neither
//! bad            it left [`FAILURES_MAX`] questions in a row unanswered; one that never answered
//!                any is bad after the first
//! ```
//!
//! Layer: decisions.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use crate::krpc::Contact;
use crate::reach::{Reach, customer, reach};

/// Nodes in a bucket, and nodes that are told to others (BEP 5).
pub const K: usize = 8;

/// Nodes that wait for a place in a full bucket.
const SPARE_MAX: usize = 4;

/// A node that was not heard of for so long is questionable (BEP 5).
pub const GOOD_FOR: Duration = Duration::from_secs(15 * 60);

/// Questions in a row that a good node may leave unanswered: packets get lost.
const FAILURES_MAX: u8 = 2;

/// Without anybody to replace it, a bad node stays until then: our own line may be down.
const FAILURES_END: u8 = 5;

#[derive(Debug, Clone)]
pub struct Entry {
    pub contact: Contact,
    /// The last packet of any kind; of one that was only named to us, the moment of that.
    pub seen: Instant,
    pub has_answered: bool,
    failures: u8,
    /// Its id belongs to its address (BEP 42), or need not.
    fits: bool,
}

impl Entry {
    pub fn new(contact: Contact, has_answered: bool, now: Instant) -> Entry {
        Entry { contact, seen: now, has_answered, failures: 0, fits: fits(contact) }
    }

    pub fn is_good(&self, now: Instant) -> bool {
        self.has_answered && self.failures == 0 && now < self.seen + GOOD_FOR
    }

    pub fn is_bad(&self) -> bool {
        let limit = if self.has_answered { FAILURES_MAX } else { 1 };
        limit <= self.failures
    }

    /// Who gives way first when somebody better comes: the higher, the sooner.
    fn weakness(&self) -> (bool, bool, bool) {
        (self.is_bad(), !self.has_answered, !self.fits)
    }
}

/// Whether a node's id belongs to its address. Those on a private network cannot know the address
/// by which they are seen (BEP 42).
pub fn fits(contact: Contact) -> bool {
    let ip = contact.addr.ip();
    reach(ip) != Reach::Everywhere || contact.id.fits(ip)
}

/// The network that an address belongs to: /24, or /64 of IPv6. One customer can have many addresses
/// in one. `None` for those that are not public: there each is as likely to be another's.
pub fn network(ip: IpAddr) -> Option<IpAddr> {
    let network = match ip {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() >> 8 << 8).into(),
        IpAddr::V6(_) => customer(ip),
    };
    (reach(ip) == Reach::Everywhere).then_some(network)
}

#[derive(Debug)]
pub struct Bucket {
    pub nodes: Vec<Entry>,
    spare: Vec<Entry>,
    /// When it was last heard that one of the nodes lives, or one was looked for.
    pub touched: Instant,
}

impl Bucket {
    pub fn new(now: Instant) -> Bucket {
        Bucket { nodes: Vec::new(), spare: Vec::new(), touched: now }
    }

    /// The entry of a node, whether it has a place or waits for one.
    pub fn find(&mut self, contact: Contact) -> Option<&mut Entry> {
        self.all_mut().find(|entry| entry.contact == contact)
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.nodes.iter_mut().chain(&mut self.spare)
    }

    pub fn all(&self) -> impl Iterator<Item = &Entry> {
        self.nodes.iter().chain(&self.spare)
    }

    pub fn remove(&mut self, contact: Contact) {
        self.nodes.retain(|entry| entry.contact != contact);
        self.spare.retain(|entry| entry.contact != contact);
    }

    /// Whether a further node could get a place, or wait for one.
    pub fn has_room(&self) -> bool {
        self.nodes.len() < K || self.nodes.iter().any(Entry::is_bad) || self.spare.is_empty()
    }

    /// Gives a node a place: a free one, or that of a weaker one.
    pub fn place(&mut self, entry: Entry, now: Instant) -> Result<(), Entry> {
        if self.nodes.len() < K {
            self.nodes.push(entry);
        } else {
            let weakest = self.nodes.iter_mut().max_by_key(|node| node.weakness());
            match weakest.filter(|weakest| entry.weakness() < weakest.weakness()) {
                Some(weakest) => *weakest = entry,
                None => return Err(entry),
            }
        }
        self.touched = now;
        Ok(())
    }

    /// Lets a node wait. The one that waits longest goes.
    pub fn wait(&mut self, entry: Entry) {
        if !entry.has_answered {
            return;
        }
        if self.spare.len() == SPARE_MAX {
            self.spare.remove(0);
        }
        self.spare.push(entry);
    }

    /// A node did not answer. A bad one goes when somebody waits for its place, or at last.
    pub fn failed(&mut self, contact: Contact) {
        let Some(entry) = self.find(contact) else { return };
        entry.failures = entry.failures.saturating_add(1);
        let hopeless = !entry.has_answered || FAILURES_END <= entry.failures;
        if !entry.is_bad() {
            return;
        }
        let waits = self.spare.iter().any(|spare| spare.contact == contact);
        let next = (!waits).then(|| self.spare.pop()).flatten();
        if hopeless || waits || next.is_some() {
            self.remove(contact);
        }
        self.nodes.extend(next);
    }

    /// Splits off those that are nearer to `own` than `bits` common bits.
    pub fn split(&mut self, bits: u32, own: crate::krpc::NodeId) -> Bucket {
        let nearer = |entry: &mut Entry| bits < own.common_bits(entry.contact.id);
        Bucket {
            nodes: self.nodes.extract_if(.., nearer).collect(),
            spare: self.spare.extract_if(.., nearer).collect(),
            touched: self.touched,
        }
    }
}

impl Entry {
    /// It has sent something.
    pub fn heard(&mut self, answered: bool, now: Instant) {
        self.seen = now;
        if answered {
            self.has_answered = true;
            self.failures = 0;
        }
    }
}
