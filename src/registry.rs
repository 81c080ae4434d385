//! The registry of a tracker: which peers are in which swarm, and whom an asker is told (BEP 3, 48).
//!
//! ```text
//!                     ┌ swarm ── 4 crowds: leechers and seeds, IPv4 and IPv6; each a list of peers
//! registry ─ hash ──► ┤ swarm
//!     │               └ swarm                     ▲
//!     └─ index: (swarm, address) ──► place in a crowd
//! ```
//!
//! * A peer is its address: what a client says about itself overwrites only what came from the same
//!   address and port, so nobody can change or remove somebody else. `stopped` must also bring the
//!   `key` or the peer id that the peer came with, since neighbours behind one router share an
//!   address; aria2 draws another key for each announce, and others another id for each run.
//! * Whom an asker is told: [`choice`]. Never itself, no seeds to a seed, both kinds to a leecher.
//! * Which address it is told: a peer on the tracker's own machine is known as 127.0.0.1 or ::1. Askers
//!   elsewhere are told the machine's own address instead. Private addresses are not told to
//!   askers in the public network, who could not reach them.
//! * How long: twice the interval that it was given, and a minute.
//! * How many: [`Limits`], [`guard`].
//!
//! An unlisted swarm without peers is forgotten, and with it how often it was completed.
//!
//! Layer: decisions. No sockets, no clock (`now` is an argument), no threads.

mod choice;
mod guard;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::hash::Sha1;
use guard::Guard;

/// How much is kept, and how often peers are asked to come.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Addresses in all swarms together. One costs some 160 bytes, in a swarm of its own 330.
    pub peers: usize,
    /// Swarms that an open tracker keeps; the torrents that were given are not counted.
    pub swarms: usize,
    /// Addresses with one IP address (IPv6: in one /64): a seedbox has thousands of torrents.
    pub peers_per_address: u32,
    /// Questions from one IP address in [`guard::WINDOW`] seconds.
    pub questions_per_address: u32,
    /// Peers in one answer, whatever `numwant` says.
    pub numwant: usize,
    /// The interval of a small tracker: newcomers find each other soon.
    pub interval_min: u32,
    /// The interval of a full one, and what most trackers use.
    pub interval_max: u32,
    /// The interval grows with the number of peers so that no more of them come in a second.
    pub announces_per_second: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            peers: 200_000,
            swarms: 100_000,
            peers_per_address: 5_000,
            questions_per_address: 1_000,
            numwant: 200,
            interval_min: 120,
            interval_max: 1_800,
            announces_per_second: 50,
        }
    }
}

/// Clients may come for more peers no sooner than this, in seconds.
const MIN_INTERVAL: u32 = 30;

/// A client that is late by this much is still there, in seconds.
const GRACE: u32 = 60;

/// Why a client announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Regular,
    Started,
    Completed,
    Stopped,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Event::Regular => "regular",
            Event::Started => "started",
            Event::Completed => "completed",
            Event::Stopped => "stopped",
        })
    }
}

/// What a client says about itself, checked.
#[derive(Debug, Clone)]
pub struct Announce {
    pub info_hash: Sha1,
    pub peer_id: [u8; 20],
    pub key: u32,
    /// Where it can be dialled; with port 0 it cannot, and nobody is told of it.
    pub address: SocketAddr,
    /// Where the announce came from.
    pub source: IpAddr,
    /// Nothing is missing: it is a seed.
    pub complete: bool,
    pub event: Event,
    /// How many peers it wants.
    pub numwant: usize,
    /// Whether it can be told peers of the other family too. (UDP has no way to.)
    pub both_families: bool,
}

/// A peer as others are told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    pub address: SocketAddr,
    pub peer_id: [u8; 20],
}

/// The answer to an announce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// In seconds.
    pub interval: u32,
    pub min_interval: u32,
    pub counts: Counts,
    pub peers: Vec<Told>,
}

/// How large a swarm is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub seeds: u32,
    pub leechers: u32,
    /// How many became seeds under our eyes.
    pub completed: u32,
}

/// How large everything is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub swarms: usize,
    pub peers: usize,
    pub seeds: usize,
    pub leechers: usize,
    pub ipv4: usize,
    pub ipv6: usize,
}

/// Why somebody is turned away, in words for a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    NotServed,
    TooManyQuestions(u32),
    AddressFull(u32),
    PeersFull(usize),
    SwarmsFull(usize),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Refusal::NotServed => write!(f, "this tracker does not serve this torrent"),
            Refusal::TooManyQuestions(limit) => {
                let window = guard::WINDOW;
                write!(f, "too many requests from your address: {limit} in {window} s is the limit")
            }
            Refusal::AddressFull(limit) => {
                write!(f, "too many peers at your address: {limit} is the limit")
            }
            Refusal::PeersFull(limit) => write!(f, "this tracker is full: it has {limit} peers"),
            Refusal::SwarmsFull(limit) => {
                write!(f, "this tracker is full: it has {limit} torrents")
            }
        }
    }
}

/// A peer as we keep it.
#[derive(Debug, Clone, Copy)]
struct Peer {
    address: SocketAddr,
    peer_id: [u8; 20],
    key: u32,
    /// The second after which it counts as gone.
    expires: u32,
}

/// Peers of one kind and one family, in no order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kind {
    seed: bool,
    v6: bool,
}

/// All of them; a kind's place here is that of its crowd in [`Swarm::crowds`].
const KINDS: [Kind; 4] = [
    Kind { seed: false, v6: false },
    Kind { seed: false, v6: true },
    Kind { seed: true, v6: false },
    Kind { seed: true, v6: true },
];

impl Kind {
    fn of(announce: &Announce) -> Kind {
        Kind { seed: announce.complete, v6: announce.address.is_ipv6() }
    }

    fn number(self) -> usize {
        usize::from(self.seed) * 2 + usize::from(self.v6)
    }
}

#[derive(Debug, Default)]
struct Swarm {
    id: u64,
    crowds: [Vec<Peer>; 4],
    completed: u32,
    /// It was given to us, so it stays, with or without peers.
    listed: bool,
}

impl Swarm {
    fn crowd(&self, seed: bool, v6: bool) -> &[Peer] {
        &self.crowds[Kind { seed, v6 }.number()]
    }

    fn counts(&self) -> Counts {
        let count = |seed| (self.crowd(seed, false).len() + self.crowd(seed, true).len()) as u32;
        Counts { seeds: count(true), leechers: count(false), completed: self.completed }
    }
}

/// Where a peer is: in which crowd of its swarm, and where there.
#[derive(Debug, Clone, Copy)]
struct Place {
    kind: Kind,
    at: u32,
}

/// What belongs to every peer besides its entry in a crowd. Apart from the swarms, so that one can be
/// changed while the other is borrowed.
#[derive(Debug, Default)]
struct Ledger {
    index: HashMap<(u64, SocketAddr), Place>,
    /// Peers of each of [`KINDS`].
    totals: [usize; 4],
    guard: Guard,
}

impl Ledger {
    fn add(&mut self, swarm: &mut Swarm, kind: Kind, peer: Peer) {
        let crowd = &mut swarm.crowds[kind.number()];
        if crowd.is_empty() {
            // Most swarms of an open tracker have one peer, and lists begin with four places.
            crowd.reserve_exact(1);
        }
        self.index.insert((swarm.id, peer.address), Place { kind, at: crowd.len() as u32 });
        crowd.push(peer);
        self.totals[kind.number()] += 1;
        self.guard.hold(peer.address.ip());
    }

    fn remove(&mut self, swarm: &mut Swarm, place: Place) -> Peer {
        let crowd = &mut swarm.crowds[place.kind.number()];
        let peer = crowd.swap_remove(place.at as usize);
        self.index.remove(&(swarm.id, peer.address));
        // The last one of the crowd is there now.
        if let Some(moved) = crowd.get(place.at as usize) {
            self.index.insert((swarm.id, moved.address), place);
        }
        self.totals[place.kind.number()] -= 1;
        self.guard.release(peer.address.ip());
        peer
    }
}

/// All swarms of a tracker.
pub struct Registry {
    limits: Limits,
    /// Whether it serves torrents that it was not given.
    open: bool,
    start: Instant,
    rng: Rng,
    /// The machine's own addresses, as those see it who are not on it.
    home: Vec<IpAddr>,
    swarms: HashMap<Sha1, Swarm>,
    ledger: Ledger,
    next_id: u64,
}

impl Registry {
    /// A tracker for all torrents.
    pub fn open(limits: Limits, home: Vec<IpAddr>, now: Instant, rng: Rng) -> Registry {
        let (swarms, ledger) = Default::default();
        Registry { limits, open: true, start: now, rng, home, swarms, ledger, next_id: 0 }
    }

    /// From now on a tracker for these torrents only.
    pub fn only(mut self, torrents: impl IntoIterator<Item = Sha1>) -> Registry {
        self.open = false;
        for info_hash in torrents {
            self.swarm(info_hash).listed = true;
        }
        self
    }

    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Counts a question from this address; refuses it when there were too many.
    pub fn admit(&mut self, source: IpAddr, now: Instant) -> Result<(), Refusal> {
        let second = self.second(now);
        self.ledger.guard.admit(source, second, self.limits.questions_per_address)
    }

    /// Takes what a client says, and chooses what it is told.
    pub fn announce(&mut self, announce: &Announce, now: Instant) -> Result<Answer, Refusal> {
        let known = self.swarms.get(&announce.info_hash);
        if known.is_none() && !self.open {
            return Err(Refusal::NotServed);
        }
        let id = known.map(|swarm| swarm.id);
        let place = id.and_then(|id| self.ledger.index.get(&(id, announce.address)).copied());
        if announce.event == Event::Stopped {
            self.leave(announce, place);
        } else if announce.address.port() != 0 {
            if place.is_none() {
                self.check_room(announce, known.is_none())?;
            }
            self.join(announce, place, now);
        }
        let (interval, min_interval) = (self.interval(), MIN_INTERVAL);
        let Some(swarm) = self.swarms.get(&announce.info_hash) else {
            let (counts, peers) = Default::default();
            return Ok(Answer { interval, min_interval, counts, peers });
        };
        let peers = if announce.event == Event::Stopped {
            Vec::new()
        } else {
            choice::choose(swarm, announce, self.limits.numwant, &self.home, &mut self.rng)
        };
        Ok(Answer { interval, min_interval, counts: swarm.counts(), peers })
    }

    /// How large a swarm is; `None` if nobody is known to be in it.
    pub fn scrape(&self, info_hash: Sha1) -> Option<Counts> {
        self.swarms.get(&info_hash).map(Swarm::counts)
    }

    pub fn totals(&self) -> Totals {
        let [v4_leechers, v6_leechers, v4_seeds, v6_seeds] = self.ledger.totals;
        Totals {
            swarms: self.swarms.len(),
            peers: self.ledger.index.len(),
            seeds: v4_seeds + v6_seeds,
            leechers: v4_leechers + v6_leechers,
            ipv4: v4_leechers + v4_seeds,
            ipv6: v6_leechers + v6_seeds,
        }
    }

    /// When peers are asked to come again, in seconds.
    pub fn interval(&self) -> u32 {
        let Limits { announces_per_second, interval_min, interval_max, .. } = self.limits;
        let peers = u32::try_from(self.ledger.index.len()).unwrap_or(u32::MAX);
        (peers / announces_per_second).clamp(interval_min, interval_max)
    }

    /// Forgets whoever has not come for too long. It looks at every peer: 100,000 take milliseconds.
    pub fn expire(&mut self, now: Instant) {
        let second = self.second(now);
        let ledger = &mut self.ledger;
        self.swarms.retain(|_, swarm| {
            for kind in KINDS {
                // Backwards: what is moved into a gap has been looked at.
                for at in (0..swarm.crowds[kind.number()].len()).rev() {
                    if swarm.crowds[kind.number()][at].expires < second {
                        ledger.remove(swarm, Place { kind, at: at as u32 });
                    }
                }
            }
            swarm.listed || swarm.crowds.iter().any(|crowd| !crowd.is_empty())
        });
    }

    fn join(&mut self, announce: &Announce, place: Option<Place>, now: Instant) {
        let expires = self.second(now).saturating_add(2 * self.interval() + GRACE);
        let Announce { address, peer_id, key, .. } = *announce;
        let peer = Peer { address, peer_id, key, expires };
        let kind = Kind::of(announce);
        self.swarm(announce.info_hash);
        let Some(swarm) = self.swarms.get_mut(&announce.info_hash) else { return };
        match place {
            Some(place) if place.kind == kind => {
                swarm.crowds[kind.number()][place.at as usize] = peer;
            }
            Some(place) => {
                self.ledger.remove(swarm, place);
                self.ledger.add(swarm, kind, peer);
                // Only whom we saw without the whole counts, so it cannot be said again and again.
                if announce.event == Event::Completed && kind.seed {
                    swarm.completed = swarm.completed.saturating_add(1);
                }
            }
            None => self.ledger.add(swarm, kind, peer),
        }
    }

    fn leave(&mut self, announce: &Announce, place: Option<Place>) {
        let (Some(swarm), Some(place)) = (self.swarms.get_mut(&announce.info_hash), place) else {
            return;
        };
        let peer = &swarm.crowds[place.kind.number()][place.at as usize];
        if peer.key == announce.key || peer.peer_id == announce.peer_id {
            self.ledger.remove(swarm, place);
        }
    }

    /// The swarm of a torrent, which is made if there is none.
    fn swarm(&mut self, info_hash: Sha1) -> &mut Swarm {
        self.swarms.entry(info_hash).or_insert_with(|| {
            self.next_id += 1;
            Swarm { id: self.next_id, ..Swarm::default() }
        })
    }

    fn check_room(&self, announce: &Announce, new_swarm: bool) -> Result<(), Refusal> {
        let Limits { peers, swarms, peers_per_address, .. } = self.limits;
        if self.ledger.guard.held(announce.address.ip()) >= peers_per_address {
            return Err(Refusal::AddressFull(peers_per_address));
        }
        if self.ledger.index.len() >= peers {
            return Err(Refusal::PeersFull(peers));
        }
        if new_swarm && self.swarms.len() >= swarms {
            return Err(Refusal::SwarmsFull(swarms));
        }
        Ok(())
    }

    /// Times are kept in seconds since the start: four bytes a peer.
    fn second(&self, now: Instant) -> u32 {
        let seconds: Duration = now.saturating_duration_since(self.start);
        u32::try_from(seconds.as_secs()).unwrap_or(u32::MAX)
    }
}
