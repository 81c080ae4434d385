//! What those that know peers have said: it tells why there is nobody to talk to.
//!
//! Layer: decisions. Owned by the swarm, and by the search for metadata before it.

use super::{Fact, Stuck};
use crate::address_book::{AddressBook, Source};

#[derive(Debug)]
pub struct Heard {
    /// How many trackers are asked, and whether the DHT is.
    trackers: usize,
    dht: bool,
    tracker_answers: usize,
    tracker_failures: usize,
    tracker_error: Option<String>,
    /// Whether a node of the DHT has answered.
    dht_answered: bool,
}

impl Heard {
    pub fn new(trackers: usize, dht: bool) -> Heard {
        Heard {
            trackers,
            dht,
            tracker_answers: 0,
            tracker_failures: 0,
            tracker_error: None,
            dht_answered: false,
        }
    }

    /// Takes a fact; those that are not about trackers or the DHT tell nothing.
    pub fn take(&mut self, fact: &Fact) {
        match fact {
            Fact::Addresses { source: Source::Tracker, .. } => self.tracker_answers += 1,
            Fact::TrackerFailed { error } => {
                self.tracker_failures += 1;
                self.tracker_error = Some(error.clone());
            }
            Fact::DhtSearched { answered } => self.dht_answered |= *answered != 0,
            _ => {}
        }
    }

    /// Why there is nobody to ask, while so many dials are on the way and nobody is connected.
    pub fn why_nobody(&self, book: &AddressBook, dials: usize) -> Stuck {
        let ((failed, example), known) = (book.failures(), book.known());
        if dials > failed || (dials != 0 && known == 0) {
            return Stuck::Dialling { dials };
        }
        if known != 0 {
            return Stuck::NoneReachable { known, error: example.map(str::to_owned) };
        }
        match (self.trackers, self.tracker_answers) {
            (_, 0) if self.dht_answered => Stuck::NobodyInDht,
            (0, _) if self.dht => Stuck::NoDhtNodeAnswered,
            (0, _) => Stuck::NobodyToAsk,
            (_, 0) => {
                let (failed, error) = (self.tracker_failures, self.tracker_error.clone());
                Stuck::NoTrackerAnswered { failed, error }
            }
            _ => Stuck::NoPeersKnown,
        }
    }
}
