//! Which block to ask of which peer (the piece selection of BEP 3, and its endgame).
//!
//! The rules, in the order in which they are tried for a peer that can take requests:
//!
//! 1. **Finish what is begun.** Blocks of a piece that this peer already sends, then of other begun
//!    pieces: a whole piece can be verified and given on, half a piece helps nobody. But a peer that
//!    has a rarer piece is asked for that: the only seed of a crowd should send what nobody else can.
//! 2. **The first pieces at random.** Until [`RANDOM_FIRST`] pieces are there, any will do: what
//!    counts is to have something to give, and rare pieces come slowly.
//! 3. **Rarest first.** Then the piece that the fewest peers have, before it is lost with them.
//!    Pieces that are equally rare come in an order that was shuffled at the start, so that the
//!    members of a swarm do not all fetch the same one.
//! 4. **Endgame.** When no block is left unasked, a peer that could send more is asked for blocks
//!    that others owe us for a while; the first answer wins, the others get a `cancel`.
//!
//! With [`in_order`] the first three give way to the order of the pieces.
//!
//! Layer: decisions. Pure: no clock but an argument, no peers but numbers. Owned by the swarm.

mod begun;
mod in_order;
mod map;
mod rarity;
mod reason;
pub mod run;
mod wanted;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::bitfield::Bitfield;
use crate::geometry::{Geometry, PieceIndex, Span};
use crate::order;
use begun::Begun;
pub use map::Cell;
use rarity::Rarity;
pub use reason::Reason;

/// How many pieces are fetched at random before rarity counts (libtorrent: 4).
pub const RANDOM_FIRST: u32 = 4;

/// In the endgame a block is asked of a further peer when it has been due for so long. On a fast
/// path the answer is on its way, and asking again would only waste it.
const ENDGAME_AGE: Duration = Duration::from_millis(300);

/// So many pieces for each peer may be begun before those are finished, whatever is rarer.
const BEGUN_PER_PEER: usize = 2;

/// While other blocks are still unasked but this peer does not have them, it may help out with
/// blocks that have been due for so long.
const HELP_AGE: Duration = Duration::from_secs(5);

/// A piece that failed is left to one peer alone while its blocks come. Once one is due for so
/// long others help: finding out who lied must not be a way to hold up a piece.
const ALONE_AGE: Duration = Duration::from_secs(2);

/// Our number for a connection, never used twice. (The `peer_id` is what the peer calls itself.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u32);

impl std::fmt::Display for ConnId {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// What an arriving block means.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The first copy; these other peers were asked for it too and need not send it.
    Fresh { also_asked: Vec<ConnId> },
    /// We have it already: wasted.
    Duplicate,
}

/// What the picker is told about the peer it picks for.
pub struct Candidate<'a> {
    pub conn: ConnId,
    pub has: &'a Bitfield,
    /// The pieces it may be asked for although it chokes us (BEP 6); `None` when it does not.
    pub only: Option<&'a [PieceIndex]>,
    /// Its blocks take long, and somebody quicker has what is needed next (in order only).
    pub slow: bool,
    /// What it would like to be asked for.
    pub suggested: &'a [PieceIndex],
}

impl Candidate<'_> {
    fn offers(&self, piece: PieceIndex) -> bool {
        self.has.contains(piece) && self.only.is_none_or(|only| only.contains(&piece))
    }
}

pub struct Picker {
    geometry: Geometry,
    /// The verified pieces.
    have: Bitfield,
    /// The pieces that are to be fetched, the verified ones among them.
    wanted: Bitfield,
    wanted_bytes: u64,
    /// Those that are not verified yet.
    missing: u32,
    missing_bytes: u64,
    in_order: bool,
    /// Rules that the lab leaves out: rarity, and the endgame.
    random: bool,
    patient: bool,
    /// No piece before this one is missing.
    first: PieceIndex,
    /// Pieces with a block asked or arrived, not verified yet. In order, so that runs repeat.
    begun: BTreeMap<PieceIndex, Begun>,
    /// The pieces that are neither had nor begun, rarest first.
    rarity: Rarity,
    /// Pieces that failed and are fetched from one peer alone.
    suspects: Vec<PieceIndex>,
    /// Blocks in `begun` that nobody has been asked for.
    unasked: u32,
    rng: fastrand::Rng,
}

impl Picker {
    pub fn new(geometry: Geometry, have: Bitfield, mut rng: fastrand::Rng) -> Picker {
        assert_eq!(have.len(), geometry.pieces(), "a bitfield of this torrent");
        let mut rarity = Rarity::new(geometry.pieces(), &mut rng);
        have.iter().for_each(|piece| rarity.remove(piece));
        let mut picker = Picker {
            geometry,
            have,
            wanted: Bitfield::full(geometry.pieces()),
            wanted_bytes: 0,
            missing: 0,
            missing_bytes: 0,
            in_order: false,
            random: false,
            patient: false,
            first: 0,
            begun: BTreeMap::new(),
            rarity,
            suspects: Vec::new(),
            unasked: 0,
            rng,
        };
        picker.count_missing();
        picker
    }

    /// Without rarest first, or without the endgame: to see what they are worth.
    pub fn without(mut self, rarest_first: bool, endgame: bool) -> Picker {
        (self.random, self.patient) = (rarest_first, endgame);
        self
    }

    pub fn have(&self) -> &Bitfield {
        &self.have
    }

    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Bytes of pieces that are not verified yet but partly here.
    pub fn partial_bytes(&self) -> u64 {
        let bytes = |(piece, begun): (&PieceIndex, &Begun)| {
            (0..self.geometry.blocks(*piece))
                .filter(|&block| begun.arrived(block))
                .map(|block| u64::from(self.geometry.block(*piece, block).length))
                .sum::<u64>()
        };
        self.begun.iter().map(bytes).sum()
    }

    /// A peer with these pieces came; its pieces become less rare.
    pub fn peer_came(&mut self, has: &Bitfield) {
        self.rarity.add_all(has);
    }

    /// A peer with these pieces left.
    pub fn peer_left(&mut self, has: &Bitfield) {
        self.rarity.remove_all(has);
    }

    /// A peer got one more piece; `has` is what it has now.
    pub fn peer_has(&mut self, has: &Bitfield, piece: PieceIndex) {
        self.rarity.peer_has(has, piece);
    }

    /// A peer lost a piece; `has` is what it has now.
    pub fn peer_lost(&mut self, has: &Bitfield, piece: PieceIndex) {
        self.rarity.peer_lost(has, piece);
    }

    /// How many peers have a piece.
    pub fn availability(&self, piece: PieceIndex) -> u32 {
        self.rarity.availability(piece)
    }

    /// Chooses up to `count` blocks to ask of a peer and notes that it was asked. `peers` is how
    /// many are connected.
    pub fn pick(
        &mut self,
        peer: &Candidate,
        count: usize,
        peers: u32,
        now: Instant,
        picked: &mut Vec<(Span, Reason)>,
    ) {
        let goal = picked.len() + count;
        if self.in_order {
            self.pick_in_order(peer, goal, now, picked);
        } else {
            self.pick_rarest(peer, goal, peers, now, picked);
        }
        if picked.len() < goal && !self.patient {
            self.pick_again(peer, goal, now, picked);
        }
    }

    /// Rules 1 to 3.
    fn pick_rarest(
        &mut self,
        peer: &Candidate,
        goal: usize,
        peers: u32,
        now: Instant,
        picked: &mut Vec<(Span, Reason)>,
    ) {
        if self.unasked != 0 {
            self.pick_begun(peer, true, goal, now, picked);
            if self.suggestion(peer).is_none() && !self.offers_rarer(peer, peers) {
                self.pick_begun(peer, false, goal, now, picked);
            }
        }
        while picked.len() < goal {
            let Some((piece, reason)) = self.choose_new(peer, peers) else { break };
            self.begin(piece);
            self.take(piece, peer.conn, reason, goal, now, picked);
        }
        if picked.len() < goal && self.unasked != 0 {
            self.pick_begun(peer, false, goal, now, picked);
        }
    }

    /// Rule 1: unasked blocks of begun pieces, those that the peer is at (`own`) or the others.
    fn pick_begun(
        &mut self,
        peer: &Candidate,
        own: bool,
        goal: usize,
        now: Instant,
        picked: &mut Vec<(Span, Reason)>,
    ) {
        let open = |(&piece, begun): (&PieceIndex, &Begun)| {
            let at_it = begun.sender() == Some(peer.conn);
            let free = begun.unasked() != 0 && at_it == own && peer.offers(piece);
            let alone = self.is_for_one_alone(piece, begun, now);
            (free && (own || !alone || !begun.is_asked())).then_some((piece, alone))
        };
        let pieces: Vec<_> = self.begun.iter().filter_map(open).collect();
        for (piece, alone) in pieces {
            if goal <= picked.len() {
                return;
            }
            let reason = match own {
                _ if alone => Reason::Suspect,
                true => Reason::Finish,
                false => Reason::Join,
            };
            self.take(piece, peer.conn, reason, goal, now, picked);
        }
    }

    /// Whether a peer has a piece to begin that fewer have than any begun one it could help with.
    /// Not while anything is welcome, and not when many are begun already.
    fn offers_rarer(&self, peer: &Candidate, peers: u32) -> bool {
        let early = self.random || self.have.count() < RANDOM_FIRST || peer.only.is_some();
        // Those of which a server owes every block are not in anybody's way.
        let open = self.begun.values().filter(|begun| !begun.is_run()).count();
        if early || BEGUN_PER_PEER * peers as usize <= open {
            return false;
        }
        let Some(rarest) = self.rarest_offer(peer.has) else { return false };
        let open = self.begun.iter().filter(|(piece, begun)| {
            begun.unasked() != 0 && begun.sender() != Some(peer.conn) && peer.offers(**piece)
        });
        open.map(|(&piece, _)| self.availability(piece)).min().is_some_and(|begun| rarest < begun)
    }

    /// How many peers have the rarest piece that could be begun with one that has these.
    fn rarest_offer(&self, has: &Bitfield) -> Option<u32> {
        self.rarity.rarest(has).map(|piece| self.availability(piece))
    }

    /// A second peer has got a piece that only one had. What the first owes of it may be had of the
    /// other; if it has pieces that nobody else has, its time is worth more than ours.
    pub fn spared(&self, piece: PieceIndex, only: impl Fn(ConnId) -> bool) -> Vec<(ConnId, Span)> {
        let begun =
            self.begun.get(&piece).filter(|_| !self.in_order && self.availability(piece) == 2);
        let Some(begun) = begun else { return Vec::new() };
        begun
            .asked()
            .filter(|&(conn, _)| only(conn))
            .map(|(conn, block)| (conn, self.geometry.block(piece, block)))
            .collect()
    }

    /// Whether one that has these pieces is the only one to have some of them.
    pub fn is_only_source(&self, has: &Bitfield) -> bool {
        self.rarest_offer(has) == Some(1)
    }

    /// A piece that failed is one peer's alone while that peer is at it.
    fn is_for_one_alone(&self, piece: PieceIndex, begun: &Begun, now: Instant) -> bool {
        self.suspects.contains(&piece) && !begun.is_late(now, ALONE_AGE)
    }

    /// A piece that the peer would like to be asked for, and nobody else has: who gives it knows
    /// better than we whom it gives the others.
    fn suggestion(&self, peer: &Candidate) -> Option<PieceIndex> {
        let good = |piece: &PieceIndex| {
            self.is_open(*piece) && peer.offers(*piece) && self.availability(*piece) == 1
        };
        peer.suggested.iter().copied().find(good)
    }

    /// Whether a piece is neither had nor begun.
    pub fn is_open(&self, piece: PieceIndex) -> bool {
        self.rarity.contains(piece)
    }

    /// Rules 2 and 3: a piece to begin.
    fn choose_new(&mut self, peer: &Candidate, peers: u32) -> Option<(PieceIndex, Reason)> {
        if let Some(only) = peer.only {
            let fresh =
                |piece: &&PieceIndex| self.rarity.contains(**piece) && peer.has.contains(**piece);
            return only.iter().find(fresh).map(|&piece| (piece, Reason::Random));
        }
        if let Some(piece) = self.suggestion(peer) {
            return Some((piece, Reason::Suggested));
        }
        if self.random || self.have.count() < RANDOM_FIRST {
            let start = self.rng.u32(..);
            return self.rarity.random_of(start, peer.has).map(|piece| (piece, Reason::Random));
        }
        let piece = self.rarity.rarest(peer.has)?;
        let have = self.rarity.availability(piece);
        Some((piece, Reason::Rarest { have, peers }))
    }

    fn begin(&mut self, piece: PieceIndex) {
        self.rarity.remove(piece);
        let blocks = self.geometry.blocks(piece);
        self.unasked += blocks;
        self.begun.insert(piece, Begun::new(blocks));
    }

    /// Takes unasked blocks of one begun piece until the goal is reached.
    fn take(
        &mut self,
        piece: PieceIndex,
        conn: ConnId,
        reason: Reason,
        goal: usize,
        now: Instant,
        picked: &mut Vec<(Span, Reason)>,
    ) {
        let begun = self.begun.get_mut(&piece).expect("begun");
        while picked.len() < goal {
            let Some(block) = begun.ask_next(conn, now) else { return };
            self.unasked -= 1;
            picked.push((self.geometry.block(piece, block), reason));
        }
    }

    /// Rule 4: blocks that others owe us.
    fn pick_again(
        &mut self,
        peer: &Candidate,
        goal: usize,
        now: Instant,
        picked: &mut Vec<(Span, Reason)>,
    ) {
        let endgame = self.unasked == 0 && self.rarity.is_empty();
        let age = if endgame { ENDGAME_AGE } else { HELP_AGE };
        // Nothing is owed for long enough: the common case, found without a list.
        let mut owed: Vec<(Instant, PieceIndex, u32)> = Vec::new();
        for (&piece, begun) in &self.begun {
            let taken = begun.sender().is_some() && self.is_for_one_alone(piece, begun, now);
            if !peer.offers(piece) || taken {
                continue;
            }
            owed.extend(
                begun.owed(peer.conn, now, age).map(|(since, block)| (since, piece, block)),
            );
        }
        order::sort(&mut owed);
        for (since, piece, block) in owed.into_iter().take(goal.saturating_sub(picked.len())) {
            let due = now.saturating_duration_since(since);
            let reason = if endgame { Reason::Endgame { due } } else { Reason::Help { due } };
            self.begun.get_mut(&piece).expect("listed").ask_again(block, peer.conn, now);
            picked.push((self.geometry.block(piece, block), reason));
        }
    }

    /// A block came from a peer that was asked for it.
    pub fn arrived(&mut self, conn: ConnId, span: Span) -> Arrival {
        let block = self.geometry.block_index(span).expect("only our blocks are asked for");
        let Some(begun) = self.begun.get_mut(&span.piece) else { return Arrival::Duplicate };
        let was_unasked = begun.is_unasked(block);
        match begun.arrive(block, conn) {
            Some(also_asked) => {
                // Its time was over and it came all the same.
                self.unasked -= u32::from(was_unasked);
                Arrival::Fresh { also_asked }
            }
            None => Arrival::Duplicate,
        }
    }

    /// A peer will not send a block: it choked us, refused, is too late, or is gone.
    pub fn released(&mut self, conn: ConnId, span: Span) {
        let block = self.geometry.block_index(span).expect("only our blocks are asked for");
        if let Some(begun) = self.begun.get_mut(&span.piece) {
            self.unasked += u32::from(begun.release(block, conn));
            if begun.is_untouched() {
                self.give_up(span.piece);
            }
        }
    }

    /// A piece of which nothing is here and nothing is asked goes back among the others.
    fn give_up(&mut self, piece: PieceIndex) {
        let begun = self.begun.remove(&piece).expect("begun");
        self.unasked -= begun.unasked();
        self.rarity.insert(piece);
    }

    /// The piece matched its hash and is in its file. Returns who was asked for blocks of it that
    /// are no longer needed.
    pub fn stored(&mut self, piece: PieceIndex) -> Vec<(ConnId, Span)> {
        let owed = self.end(piece);
        self.rarity.remove(piece);
        self.suspects.retain(|&suspect| suspect != piece);
        if self.have.insert(piece) && self.wanted.contains(piece) {
            self.missing -= 1;
            self.missing_bytes -= u64::from(self.geometry.piece_len(piece));
        }
        owed
    }

    /// The piece did not match its hash. It is fetched again, from one peer alone where several
    /// contributed, so that the next failure has a name. Returns who was asked for blocks of it:
    /// one that came from a peer which had been dropped meanwhile is owed still.
    pub fn corrupt(&mut self, piece: PieceIndex, contributors: usize) -> Vec<(ConnId, Span)> {
        let owed = self.end(piece);
        if 1 < contributors && !self.suspects.contains(&piece) {
            self.suspects.push(piece);
        }
        self.rarity.insert(piece);
        owed
    }

    /// Forgets what is here of a piece, and who owes what of it: they are returned.
    fn end(&mut self, piece: PieceIndex) -> Vec<(ConnId, Span)> {
        let Some(begun) = self.begun.remove(&piece) else { return Vec::new() };
        self.unasked -= begun.unasked();
        begun.asked().map(|(conn, block)| (conn, self.geometry.block(piece, block))).collect()
    }
}

#[cfg(test)]
mod tests;
