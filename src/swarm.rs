//! The swarm: every decision of a download, in one place.
//!
//! ```text
//! facts (a peer came, said, left; a piece was stored) ──► Swarm ──► actions (dial, tell, hang up)
//! ```
//!
//! It holds no socket, no file and no clock: the time is an argument. So a test can play a swarm of
//! a thousand peers in virtual time and get the same answer every time, and everything that is ever
//! decided has its place here: whom to dial ([`dialling`]), what to make of a message ([`talk`]),
//! what extensions say ([`extended`]), what to ask of whom ([`asking`]), whom to drop or ban, when we are done.
//!
//! Layer: decisions. Runs on the session's thread, which brings the facts and carries out the
//! actions. Owns the peers, the picker, the address book.

mod account;
mod asking;
mod decision;
mod dialling;
mod extended;
mod giving;
mod heard;
mod heritage;
mod peer;
mod pex;
mod pieces;
mod rationing;
mod rules;
mod serving;
mod snapshot;
mod status;
mod super_seed;
mod talk;
#[cfg(test)]
mod tests;
mod totals;
mod web_seeds;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::address_book::{AddressBook, Source};
use crate::bitfield::Bitfield;
use crate::choker::Choker;
use crate::geometry::{Geometry, PieceIndex, Span};
use crate::picker::{ConnId, Picker};
use crate::places::Places;
use crate::wire::extended::Offer;
use crate::wire::handshake::{PeerId, Reserved};
use crate::wire::message::Message;

pub use account::Account;
use account::Accounts;
pub use decision::{BanReason, Decision, DropReason, Granted, Sequel};
pub use giving::{Goal, QUEUE_MAX};
pub use heard::Heard;
pub use heritage::{Heir, Heritage};
use peer::Peer;
pub use pex::{Budget, makes_sense};
use rationing::Rationing;
pub use rules::Without;
pub use snapshot::{Row, Snapshot};
pub use status::{Status, Stuck};
use super_seed::SuperSeed;
use totals::Totals;
use web_seeds::WebSeed;
pub use web_seeds::{FetchEnd, WebSeedRow};

/// How often [`Swarm::tick`] should be called.
pub const TICK: Duration = Duration::from_millis(100);

/// How many left peers are remembered, for the case that their blocks turn out to be bad.
const DEPARTED_MAX: usize = 256;

/// What a run is told at its beginning.
#[derive(Debug, Clone)]
pub struct Config {
    pub geometry: Geometry,
    pub peer_id: PeerId,
    /// What our extended handshake says.
    pub offer: Offer,
    /// Connections at most, those being dialled included.
    pub max_peers: usize,
    /// Give up after so long without a byte.
    pub stop_timeout: Option<Duration>,
    /// Go on uploading once all is here; without it that is the end.
    pub goal: Option<Goal>,
    /// Send every piece once before any twice, while we are the only seed (BEP 16).
    pub super_seed: bool,
    /// The user's limits to what comes in and goes out, in bytes a second.
    pub download_limit: Option<u64>,
    pub upload_limit: Option<u64>,
    /// Peers come from the trackers and the user only (BEP 27).
    pub private: bool,
    /// The pieces to fetch; all of them if it is not given.
    pub wanted: Option<Bitfield>,
    /// The pieces come in their order, not the rarest first.
    pub in_order: bool,
    /// Rules to break, in the lab.
    pub without: Without,
    /// How many trackers will be asked.
    pub trackers: usize,
    /// Whether the local network will be asked.
    pub lan: bool,
    /// Whether every peer that comes or goes is told of.
    pub watch: bool,
    /// Our ports in the DHT, IPv4 and IPv6, where we are a node of it.
    pub dht_ports: [Option<u16>; 2],
    /// Whether every decision is told, and not only those that matter.
    pub trace: bool,
}

/// What happened. Facts about connections that the swarm has dropped already are ignored.
#[derive(Debug)]
pub enum Fact {
    /// Somebody told us where peers may be.
    Addresses {
        source: Source,
        addrs: Vec<SocketAddr>,
    },
    TrackerFailed {
        error: String,
    },
    /// A round of looking in the DHT is over; so many nodes answered.
    DhtSearched {
        answered: usize,
    },
    /// The handshake is done, and the info hash was ours.
    Connected {
        conn: ConnId,
        hello: Hello,
    },
    /// In the order in which they came.
    Said {
        conn: ConnId,
        messages: Vec<Message>,
    },
    /// The dial failed, or the connection ended.
    Gone {
        conn: ConnId,
        end: End,
    },
    /// The piece matched its hash and is in its file.
    Stored {
        piece: PieceIndex,
    },
    /// The piece did not match; these sent its blocks.
    Corrupt {
        piece: PieceIndex,
        senders: Vec<ConnId>,
    },
    /// These blocks have been written to the peer's socket.
    Sent {
        conn: ConnId,
        spans: Vec<Span>,
    },
    /// A block that this peer sent differs from the one that matched later.
    Guilty {
        conn: ConnId,
        piece: PieceIndex,
    },
    /// These blocks came from a web seed, and are on their way to the assembler.
    Fetched {
        conn: ConnId,
        spans: Vec<Span>,
    },
    /// A web seed is free again, or of no use.
    FetchEnded {
        conn: ConnId,
        end: FetchEnd,
    },
}

/// What a peer told of itself in the handshake.
#[derive(Debug, Clone)]
pub struct Hello {
    pub addr: SocketAddr,
    /// It dialled us.
    pub incoming: bool,
    pub peer_id: PeerId,
    pub reserved: Reserved,
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The dial failed, the peer hung up, or the connection broke.
    Lost(String),
    /// The peer broke this rule.
    Violation(String),
}

/// What to do. Carried out in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    Dial {
        conn: ConnId,
        addr: SocketAddr,
    },
    Tell {
        conn: ConnId,
        order: Order,
    },
    HangUp {
        conn: ConnId,
    },
    /// Have a web seed send these bytes of the torrent.
    Fetch {
        conn: ConnId,
        bytes: Range<u64>,
    },
    /// Of what it was last asked for, a web seed need not send what lies behind this.
    CutFetch {
        conn: ConnId,
        at: u64,
    },
    /// The trackers should be asked for more peers.
    MorePeers,
    /// A peer has told us that it is a node of the DHT.
    DhtNode {
        addr: SocketAddr,
    },
    /// Every wanted piece is verified. Without a goal this is the end.
    Finished,
    /// As much has been uploaded, or for as long, as the goal says.
    Done,
    /// Nothing came for as long as the user was willing to wait.
    GiveUp,
    /// Nothing to do: this was decided, and may be told.
    Decided(Decision),
}

/// What to send to one peer.
#[derive(Debug, PartialEq, Eq)]
pub enum Order {
    Say(Message),
    /// `have` for each of these pieces. They may be more than the way to a peer holds: the writer
    /// makes them as the peer takes them.
    Haves(Bitfield),
    /// Requests for these blocks, whose answers are then expected.
    Ask(Vec<Span>),
    /// A block that the peer asked for.
    Upload(Span),
    /// A piece of the metadata that it asked for, under its id for such messages (BEP 9).
    Metadata {
        id: u8,
        piece: u32,
    },
    /// It does not want this block any more.
    Withdraw(Span),
    /// It gets none of those that wait.
    WithdrawAll,
}

pub struct Swarm {
    config: Config,
    picker: Picker,
    book: AddressBook,
    /// In order, so that a run in virtual time repeats.
    peers: BTreeMap<ConnId, Peer>,
    dials: BTreeMap<ConnId, Dial>,
    web_seeds: BTreeMap<ConnId, WebSeed>,
    last_conn: u32,
    actions: Vec<Action>,
    /// Peers that left: their address, and whether they had dialled us.
    departed: VecDeque<(ConnId, SocketAddr, bool)>,
    /// What went between us and those that left.
    accounts: Accounts,
    choker: Choker,
    super_seed: Option<SuperSeed>,
    rationing: Option<Rationing>,
    /// Nobody in the crowd says what they have.
    mute: bool,
    /// When a crowd was found not to pass anything on.
    apart: Option<Instant>,
    /// Where the turns are of those that are served ([`serving`]).
    turn: f64,
    /// When a peer that has everything was met, while we had everything.
    other_seed: Option<Instant>,
    rng: fastrand::Rng,
    last_choice: Instant,
    /// Somebody changed what it wants: the choker is to look again, once for all that was said.
    choice_is_due: bool,
    totals: Totals,
    /// When the last piece was verified; of a seed, the start.
    complete_since: Option<Instant>,
    /// The goal has been reached.
    done: bool,
    /// The last block, or the start.
    last_block: Instant,
    /// Pieces that nobody has been told of yet, and when that may be done.
    news: Vec<PieceIndex>,
    next_news: Instant,
    /// When it is looked next who is to be told of other peers.
    next_exchange: Instant,
    places: Places,
    heard: Heard,
    finished: bool,
}

/// A connection whose handshake is not done yet.
struct Dial {
    addr: SocketAddr,
    /// It dialled us: how this ends says nothing of the address, which the book may know too.
    incoming: bool,
}

impl Swarm {
    /// A swarm for a torrent of which these pieces are here already.
    pub fn new(config: Config, have: Bitfield, mut rng: fastrand::Rng, now: Instant) -> Swarm {
        let choker = Choker::new(rng.fork(), now).without_optimistic(config.without.optimistic);
        let mut picker = Picker::new(config.geometry, have, rng.fork());
        if let Some(wanted) = &config.wanted {
            picker = picker.wanting(wanted.clone());
        }
        picker = picker.without(config.without.rarest_first, config.without.endgame);
        if config.in_order {
            picker = picker.in_order();
        }
        let mut swarm = Swarm {
            choker,
            picker,
            super_seed: None,
            rationing: None,
            news: Vec::new(),
            next_news: now,
            mute: false,
            apart: None,
            turn: 0.0,
            other_seed: None,
            rng,
            places: Places::new(now),
            heard: Heard::new(config.trackers, config.dht_ports != [None; 2], config.lan),
            config,
            book: AddressBook::default(),
            peers: BTreeMap::new(),
            dials: BTreeMap::new(),
            web_seeds: BTreeMap::new(),
            last_conn: 0,
            actions: Vec::new(),
            departed: VecDeque::new(),
            accounts: Accounts::default(),
            totals: Totals::new(now),
            last_block: now,
            next_exchange: now,
            last_choice: now,
            choice_is_due: false,
            complete_since: None,
            done: false,
            finished: false,
        };
        swarm.check_finished(now);
        if swarm.config.super_seed && swarm.have().is_full() {
            swarm.super_seed();
        }
        swarm
    }

    /// Takes one fact.
    pub fn handle(&mut self, now: Instant, fact: Fact) {
        self.heard.take(&fact);
        self.tell_due_news(now);
        match fact {
            Fact::Addresses { source, addrs } => {
                if self.config.private && !matches!(source, Source::User | Source::Tracker) {
                    return;
                }
                for addr in addrs {
                    self.book.add(addr, source, now);
                }
                self.dial(now);
            }
            Fact::TrackerFailed { .. } | Fact::DhtSearched { .. } => {}
            Fact::Connected { conn, hello } => self.connected(conn, hello, false, now),
            Fact::Said { conn, messages } => self.said(conn, messages, now),
            Fact::Gone { conn, end } => self.gone(conn, end, now),
            Fact::Stored { piece } => self.stored(piece, now),
            Fact::Corrupt { piece, senders } => self.corrupt(piece, senders, now),
            Fact::Sent { conn, spans } => self.sent(conn, spans, now),
            Fact::Guilty { conn, piece } => {
                self.ban(conn, BanReason::SentCorruptBlock(piece), now);
            }
            Fact::Fetched { conn, spans } => self.fetched(conn, spans, now),
            Fact::FetchEnded { conn, end } => self.fetch_ended(conn, end, now),
        }
    }

    /// Does what is due because time has passed. To be called every [`TICK`].
    pub fn tick(&mut self, now: Instant) {
        self.tell_due_news(now);
        self.lose_patience(now);
        self.evict(now);
        self.dial(now);
        self.ask_everybody(now);
        self.ask_web_seeds(now);
        self.give(now);
        self.tell_of_others(now);
        let waited = now.saturating_duration_since(self.last_block);
        if self.config.stop_timeout.is_some_and(|limit| limit <= waited) && !self.finished {
            self.actions.push(Action::GiveUp);
        }
    }

    /// What is to be done since the last time somebody asked.
    pub fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// The verified pieces.
    pub fn have(&self) -> &Bitfield {
        self.picker.have()
    }

    /// Bytes of pieces that are not verified, those included that nobody wants: a partial seed is no
    /// seed (BEP 21).
    pub fn left(&self) -> u64 {
        let (geometry, have) = (self.picker.geometry(), self.have());
        let whole = u64::from(have.count()) * u64::from(geometry.piece_length());
        let last = geometry.pieces() - 1;
        let short = geometry.piece_length() - geometry.piece_len(last);
        let here = whole - if have.contains(last) { u64::from(short) } else { 0 };
        geometry.total_length() - here
    }

    /// Whether every wanted piece is verified. If not all pieces are wanted that makes us a partial
    /// seed (BEP 21): one that fetches nothing more, and does not have all.
    pub fn complete_for_us(&self) -> bool {
        self.picker.wanted().1 == 0
    }

    /// Bytes of blocks received in this run.
    pub fn downloaded(&self) -> u64 {
        self.totals.downloaded
    }

    fn check_finished(&mut self, now: Instant) {
        if self.complete_for_us() && !self.finished {
            self.finished = true;
            self.complete_since = Some(now);
            self.actions.push(Action::Finished);
            self.drop_seeds(now);
            if self.fetches_nothing() {
                self.say_upload_only();
            }
        }
    }

    /// Whether the end has come, and nobody new is wanted.
    fn closing(&self) -> bool {
        self.finished && self.config.goal.is_none()
    }

    /// Two of which neither fetches anything have nothing to say to each other (BEP 21).
    fn drop_seeds(&mut self, now: Instant) {
        if self.finished && !self.closing() {
            let seeds = self.peers.iter().filter(|(_, peer)| peer.fetches_nothing());
            let seeds: Vec<ConnId> = seeds.map(|(&conn, _)| conn).collect();
            if !seeds.is_empty() {
                self.other_seed = Some(now);
                self.super_seed.iter_mut().for_each(SuperSeed::end);
            }
            seeds.into_iter().for_each(|conn| self.drop_peer(conn, DropReason::Seeds, now));
        }
    }

    /// Bytes of blocks sent in this run.
    pub fn uploaded(&self) -> u64 {
        self.totals.uploaded
    }

    /// Notes a decision, if anybody wants to know. The reason is made only then.
    fn decide(&mut self, decision: impl FnOnce() -> Decision) {
        if self.config.trace {
            self.actions.push(Action::Decided(decision()));
        }
    }

    /// As [`decide`](Self::decide), for what is told in any case.
    fn announce(&mut self, decision: Decision) {
        if self.config.trace || self.config.watch || decision.matters() {
            self.actions.push(Action::Decided(decision));
        }
    }

    fn tell(&mut self, conn: ConnId, message: Message) {
        self.actions.push(Action::Tell { conn, order: Order::Say(message) });
    }
}
