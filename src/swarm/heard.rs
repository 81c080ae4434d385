//! What those that know peers have said: it tells why there is nobody to talk to.
//!
//! Layer: decisions. Owned by the swarm, and by the search for metadata before it.

use super::{Fact, Stuck};
use crate::address_book::{AddressBook, Source};
use crate::printable::clipped;

#[derive(Debug)]
pub struct Heard {
    /// How many trackers are asked, and whether the DHT and the local network are.
    trackers: usize,
    dht: bool,
    lan: bool,
    tracker_answers: usize,
    tracker_error: Option<String>,
    /// Whether a node of the DHT has answered.
    dht_answered: bool,
}

impl Heard {
    pub fn new(trackers: usize, dht: bool, lan: bool) -> Heard {
        let (tracker_answers, tracker_error, dht_answered) = Default::default();
        Heard { trackers, dht, lan, tracker_answers, tracker_error, dht_answered }
    }

    /// Takes a fact; those that are not about trackers or the DHT tell nothing.
    pub fn take(&mut self, fact: &Fact) {
        match fact {
            Fact::Addresses { source: Source::Tracker, .. } => self.tracker_answers += 1,
            Fact::TrackerFailed { error } => self.tracker_error = Some(error.clone()),
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
            let (error, said) = (example.map(str::to_owned), self.said(true));
            return Stuck::NoneReachable { known, error, said };
        }
        let said = self.said(false);
        if said.is_empty() { Stuck::NobodyToAsk } else { Stuck::NobodyKnown { said } }
    }

    /// What each of those that are asked has said; or only who has not answered.
    pub fn said(&self, silent_only: bool) -> String {
        let tracker = match &self.tracker_error {
            _ if self.tracker_answers != 0 => Err("the tracker knows no other peer"),
            Some(error) => Ok(format!("no tracker answered ({})", clipped(error, 100))),
            None => Ok("no tracker has answered yet".to_owned()),
        };
        let dht = match self.dht_answered {
            true => Err("the DHT knows no other peer"),
            false => Ok("no DHT node has answered yet".to_owned()),
        };
        let lan = Err("nobody on the local network has answered yet");
        let all = [(self.trackers != 0, tracker), (self.dht, dht), (self.lan, lan)];
        let asked = all.into_iter().filter(|(is_asked, _)| *is_asked);
        let said = asked.filter_map(|(_, said)| match said {
            Ok(silent) => Some(silent),
            Err(answer) => (!silent_only).then(|| answer.to_owned()),
        });
        said.collect::<Vec<String>>().join("; ")
    }
}
