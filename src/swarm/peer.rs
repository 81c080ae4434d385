//! What the swarm knows of one connected peer.
//!
//! Layer: decisions. Owned by the swarm.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::giving::QUEUE_MAX;
use super::pex::Exchange;
use crate::bitfield::Bitfield;
use crate::geometry::{BLOCK_LEN, PieceIndex, Span};
use crate::pipeline::{Asked, Pipeline};
use crate::rate::Rate;
use crate::wire::extended::Extended;
use crate::wire::handshake::PeerId;

/// How long a peer may owe us a block, at least and at most. In between: four times what its
/// queue should take.
const PATIENCE_MIN: Duration = Duration::from_secs(3);
const PATIENCE_MAX: Duration = Duration::from_secs(30);

/// Before the first block: a transmission daemon may take some seconds to wake its disk.
const PATIENCE_FIRST: Duration = Duration::from_secs(10);

/// Requests to a peer that suggests pieces, however slow it is: a seed that rations what only it has
/// chooses among them, and nobody else could send it sooner.
const SUGGESTER: usize = 16;

/// A peer that let us wait is asked for one block after so long, to see whether it is back.
const PROBE_AFTER: Duration = Duration::from_secs(5);

pub(super) struct Peer {
    pub addr: SocketAddr,
    pub incoming: bool,
    pub id: PeerId,
    /// Both of us speak the Fast extension (BEP 6).
    pub fast: bool,
    /// The bit of the extension protocol was set in its handshake (BEP 10).
    pub speaks_extended: bool,
    /// Its extended handshake has come, and what all of them together say.
    pub shook_extended: bool,
    pub said: Extended,
    pub pex: Exchange,
    /// Pieces of the metadata that it was given.
    pub metadata_given: u32,
    pub has: Bitfield,
    /// How many pieces it has that we lack. We are interested while there are any.
    pub wanted: u32,
    /// We told it that we are interested.
    pub interested: bool,
    /// It chokes us: it answers no request but for `allowed_fast`.
    pub choking: bool,
    pub allowed_fast: Vec<PieceIndex>,
    /// What it would like to be asked for, oldest first (BEP 6).
    pub suggested: Vec<PieceIndex>,
    /// It has suggested something: it thinks about what goes to whom.
    pub suggests: bool,
    /// The requests it has not answered, in the order in which they were made.
    pub asked: VecDeque<(Span, Asked)>,
    pub pipeline: Pipeline,
    pub since: Instant,
    /// The last block, or when the first request was made after a time without any.
    pub waiting_since: Instant,
    pub last_block: Option<Instant>,
    /// It let us wait too long; since then it is asked for one block at a time.
    pub snubbed: Option<Instant>,
    /// Bytes of blocks received.
    pub received: u64,
    /// Requests refused since the last block (BEP 6).
    pub refused: u32,
    /// Messages that meant nothing, since the last block.
    pub idle_talk: u32,
    /// Messages that cost us a pass over all pieces.
    pub passes: u32,
    /// It wants something of us.
    pub wants: bool,
    /// Its requests that wait for their turn.
    pub queue: Vec<Span>,
    /// Those of its requests that wait because others come first ([`super::rationing`]).
    pub held: Vec<Span>,
    /// Bytes of blocks sent to it, and when the last of them went out.
    pub sent: u64,
    pub last_sent: Instant,
    /// What it gave us, in bytes, and what it was served, in bytes by its merit ([`super::serving`]).
    pub merit: f64,
    pub turn: f64,
    /// What it gave us lately, and we it.
    pub down: Rate,
    pub up: Rate,
    /// It told us what it has, by whatever message.
    pub told_pieces: bool,
    /// It has told its port in the DHT.
    pub told_port: bool,
}

impl Peer {
    pub fn new(addr: SocketAddr, incoming: bool, id: PeerId, pieces: u32, now: Instant) -> Peer {
        Peer {
            addr,
            incoming,
            id,
            fast: false,
            speaks_extended: false,
            shook_extended: false,
            said: Extended::default(),
            pex: Exchange::new(now),
            metadata_given: 0,
            has: Bitfield::new(pieces),
            wanted: 0,
            interested: false,
            choking: true,
            allowed_fast: Vec::new(),
            suggested: Vec::new(),
            suggests: false,
            asked: VecDeque::new(),
            pipeline: Pipeline::default(),
            since: now,
            waiting_since: now,
            last_block: None,
            snubbed: None,
            received: 0,
            refused: 0,
            idle_talk: 0,
            passes: 0,
            wants: false,
            queue: Vec::new(),
            held: Vec::new(),
            sent: 0,
            last_sent: now,
            merit: 0.0,
            turn: 0.0,
            down: Rate::new(now),
            up: Rate::new(now),
            told_pieces: false,
            told_port: false,
        }
    }

    /// How many more requests it may get now; 0 unless it is worth sending some.
    pub fn room(&self, now: Instant) -> usize {
        let depth = match self.snubbed {
            // What it refuses somebody else might send.
            None if self.refused != 0 => 1,
            // What it does not take it may drop without a word.
            None => {
                let depth = self.pipeline.depth().max(if self.suggests { SUGGESTER } else { 0 });
                depth.min(self.said.reqq.map_or(usize::MAX, |n| n as usize))
            }
            Some(since) => usize::from(since + PROBE_AFTER <= now),
        };
        let room = depth.saturating_sub(self.asked.len());
        // A few requests at once cost one write instead of many.
        if room < depth / 4 { 0 } else { room }
    }

    /// How long it may let us wait for a block.
    pub fn patience(&self) -> Duration {
        if self.received == 0 {
            return PATIENCE_FIRST;
        }
        let queue = self.asked.len() as f64 * f64::from(BLOCK_LEN);
        let due = 4.0 * queue / self.pipeline.rate().max(1.0);
        Duration::try_from_secs_f64(due).unwrap_or(PATIENCE_MAX).clamp(PATIENCE_MIN, PATIENCE_MAX)
    }

    /// How long it owes us a block, if it does.
    pub fn owing(&self, now: Instant) -> Option<Duration> {
        (!self.asked.is_empty()).then(|| now.saturating_duration_since(self.waiting_since))
    }

    /// Takes a request off the list.
    pub fn answered(&mut self, span: Span) -> Option<Asked> {
        // Answers come in order, so the first one is nearly always it.
        let at = self.asked.iter().position(|(asked, _)| *asked == span)?;
        self.asked.remove(at).map(|(_, asked)| asked)
    }

    /// Whether a request of it is one too many, or was made already.
    pub fn is_asking_too_much(&self, span: Span) -> bool {
        QUEUE_MAX <= self.queue.len() + self.held.len()
            || self.queue.contains(&span)
            || self.held.contains(&span)
    }

    /// Whether it could be asked for anything at all.
    pub fn can_be_asked(&self) -> bool {
        self.interested && (!self.choking || !self.allowed_fast.is_empty())
    }

    /// It has everything, or all that it wants (BEP 21).
    pub fn fetches_nothing(&self) -> bool {
        self.has.is_full() || self.said.upload_only == Some(true)
    }

    /// What it calls itself; without a word of its own, what its id says.
    pub fn client(&self) -> String {
        self.said.client.clone().unwrap_or_else(|| self.id.client())
    }

    /// Since when it has been of no use to us: no block, not even a promise of one. `None`: it is we
    /// who ask it for nothing.
    pub fn useless_since(&self) -> Option<Instant> {
        let ready = self.interested && !self.choking && self.snubbed.is_none();
        match (ready, self.asked.is_empty()) {
            (true, true) => None,
            (true, false) => Some(self.waiting_since),
            (false, _) => Some(self.last_block.unwrap_or(self.since)),
        }
    }
}
