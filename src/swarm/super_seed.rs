//! Super-seeding (BEP 16): the only seed sends every piece once before it sends any twice.
//!
//! Of a seed that shows all it has, several peers fetch the same piece, and until the last piece has
//! left it somebody waits. A super-seed says that it has nothing. Then, piece by piece:
//!
//! 1. **A piece is shown to one peer** (`have`), and only who was shown a piece gets it. First those
//!    come that nobody was shown, in a random order.
//! 2. **Who spreads gets more**: the next piece goes to the peer with the fewest pieces that were not
//!    seen at anybody else yet; of several to the one that has waited longest.
//! 3. **Only so many are under way** ([`UNDER_WAY`], or [`AHEAD`] of our rate): fewer pieces at a
//!    time are whole sooner, and a piece can be passed on only when it is whole.
//! 4. **What is not seen elsewhere is shown again** after [`PATIENCE`], or as soon as the peer that
//!    was shown it has left, but never while a first copy is on its way.
//! 5. **It ends** when every piece is at two other peers, or one of them is a seed. Then
//!    everybody is told of the rest, in one order ([`Order::Haves`]).
//!
//! Nobody is choked meanwhile: what is shown is ration enough, and a place to wait for costs time.
//!
//! Only when asked for (`--super-seed`): one leecher alone would wait for every piece, and one that
//! counts on a bitfield would never ask. Without the flag a crowd is served by
//! [`rationing`](super::rationing), which hides nothing.
//!
//! Layer: decisions. A part of the swarm, which owns it while it lasts.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{Action, Order, Swarm};
use crate::bitfield::Bitfield;
use crate::geometry::{PieceIndex, Span};
use crate::order;
use crate::picker::ConnId;
use crate::wire::message::Message;

/// Pieces on their way to those that they were shown to, at least.
const UNDER_WAY: u64 = 4;

/// On a fast line so much of the rate is under way: a `have` and its requests need a round trip.
const AHEAD: f64 = 0.5;

/// When a piece was seen nowhere but at the peer that it was shown to, another one gets it.
const PATIENCE: Duration = Duration::from_secs(3);

/// What was sent may lie in sockets for so long before the peer has it.
const ARRIVAL: Duration = Duration::from_secs(20);

/// A piece that is not fetched for so long no longer counts as being under way.
const UNFETCHED: Duration = Duration::from_secs(5);

pub(super) struct SuperSeed {
    shown: BTreeMap<ConnId, Shown>,
    /// Pieces that were shown to nobody, the next one last.
    fresh: Vec<PieceIndex>,
    /// Everybody is being told of everything.
    over: bool,
}

/// What one peer was shown.
struct Shown {
    pieces: Bitfield,
    /// Bytes that it has not fetched yet, and the last time it did.
    pending: Vec<(PieceIndex, u64, Instant)>,
    unproven: Vec<Unproven>,
    last: Instant,
}

/// A piece that one peer was shown, and nobody else has.
struct Unproven {
    piece: PieceIndex,
    /// The peer says that it has it.
    arrived: bool,
    /// When that was; before, the last time some of it was fetched.
    since: Instant,
}

impl Unproven {
    fn patience(&self) -> Duration {
        if self.arrived { PATIENCE } else { ARRIVAL }
    }
}

impl SuperSeed {
    pub fn new(pieces: u32, rng: &mut fastrand::Rng) -> SuperSeed {
        let mut fresh: Vec<PieceIndex> = (0..pieces).collect();
        rng.shuffle(&mut fresh);
        SuperSeed { shown: BTreeMap::new(), fresh, over: false }
    }

    /// Nothing need be hidden any more.
    pub fn end(&mut self) {
        self.over = true;
    }

    /// A peer that was told that we have nothing.
    pub fn welcome(&mut self, conn: ConnId, pieces: u32, now: Instant) {
        let (pending, unproven) = (Vec::new(), Vec::new());
        let shown = Shown { pieces: Bitfield::new(pieces), pending, unproven, last: now };
        self.shown.insert(conn, shown);
    }

    pub fn gone(&mut self, conn: ConnId) {
        self.shown.remove(&conn);
    }

    /// Whether a peer may fetch a piece: it connected before all this, or was shown it.
    pub fn allows(&self, conn: ConnId, piece: PieceIndex) -> bool {
        self.shown.get(&conn).is_none_or(|shown| shown.pieces.contains(piece))
    }

    /// Whether new peers are to be told that we have nothing.
    pub fn is_hiding(&self) -> bool {
        !self.over
    }

    pub fn sent(&mut self, conn: ConnId, spans: &[Span], now: Instant) {
        let Some(shown) = self.shown.get_mut(&conn) else { return };
        for (piece, left, last) in &mut shown.pending {
            let bytes = spans.iter().filter(|span| span.piece == *piece);
            let bytes: u64 = bytes.map(|span| u64::from(span.length)).sum();
            if bytes != 0 {
                (*left, *last) = (left.saturating_sub(bytes), now);
                let unproven = shown.unproven.iter_mut().find(|shown| shown.piece == *piece);
                unproven.into_iter().for_each(|unproven| unproven.since = now);
            }
        }
        shown.pending.retain(|(_, left, _)| *left != 0);
    }

    fn under_way(&self, now: Instant) -> u64 {
        let pending = self.shown.values().flat_map(|shown| &shown.pending);
        let counts = pending.filter(|(.., last)| now < *last + UNFETCHED);
        counts.map(|(_, left, _)| left).sum()
    }

    /// Whether somebody was shown a piece so lately that nobody else need be.
    fn is_trusted(&self, piece: PieceIndex, now: Instant) -> bool {
        self.shown.values().any(|shown| {
            let pending = shown.pending.iter().find(|(other, ..)| *other == piece);
            let unproven = shown.unproven.iter().find(|unproven| unproven.piece == piece);
            match (pending, unproven) {
                (Some((.., last)), _) => now < *last + UNFETCHED,
                (None, Some(unproven)) => now < unproven.since + unproven.patience(),
                (None, None) => false,
            }
        })
    }
}

impl Swarm {
    /// Begins to super-seed, if we have everything.
    pub(super) fn super_seed(&mut self) {
        if self.finished {
            let pieces = self.picker.geometry().pieces();
            self.super_seed = Some(SuperSeed::new(pieces, &mut self.rng));
        }
    }

    /// Shows pieces until enough of them are under way.
    pub(super) fn show(&mut self, now: Instant) {
        let Some(mut state) = self.super_seed.take() else { return };
        self.notice_spread(&mut state, now);
        let length = u64::from(self.picker.geometry().piece_length());
        let ahead = (AHEAD * self.totals.up.per_second(now)) as u64;
        let mut room = (UNDER_WAY * length).max(ahead).saturating_sub(state.under_way(now));
        state.over |= self.is_spread();
        while !state.over
            && room != 0
            && let Some((conn, piece)) = self.choose_show(&mut state, now)
        {
            let bytes = u64::from(self.picker.geometry().piece_len(piece));
            let shown = state.shown.get_mut(&conn).expect("chosen");
            shown.pieces.insert(piece);
            shown.pending.push((piece, bytes, now));
            shown.unproven.push(Unproven { piece, arrived: false, since: now });
            shown.last = now;
            room = room.saturating_sub(bytes);
            self.tell(conn, Message::Have(piece));
        }
        match state.over {
            true => self.tell_rest(state),
            false => self.super_seed = Some(state),
        }
    }

    /// Forgets what was seen elsewhere.
    fn notice_spread(&self, state: &mut SuperSeed, now: Instant) {
        for (conn, shown) in &mut state.shown {
            let Some(peer) = self.peers.get(conn) else { continue };
            let elsewhere = |piece: PieceIndex| {
                self.picker.availability(piece) > u32::from(peer.has.contains(piece))
            };
            shown.unproven.retain(|unproven| !elsewhere(unproven.piece));
            for unproven in &mut shown.unproven {
                if !unproven.arrived && peer.has.contains(unproven.piece) {
                    (unproven.arrived, unproven.since) = (true, now);
                }
            }
            shown.pending.retain(|(piece, ..)| !peer.has.contains(*piece));
        }
    }

    /// Whether the others have everything without us.
    fn is_spread(&self) -> bool {
        let enough = (self.peers.len() as u32).clamp(1, 2);
        let mut pieces = 0..self.picker.geometry().pieces();
        !self.peers.is_empty() && pieces.all(|piece| self.picker.availability(piece) >= enough)
    }

    /// What to show next, and to whom.
    fn choose_show(&self, state: &mut SuperSeed, now: Instant) -> Option<(ConnId, PieceIndex)> {
        while let Some(&piece) = state.fresh.last() {
            if self.picker.availability(piece) == 0 {
                let conn = self.choose_target(state, piece)?;
                state.fresh.pop();
                return Some((conn, piece));
            }
            state.fresh.pop();
        }
        let pieces = 0..self.picker.geometry().pieces();
        let enough = if self.first_copies(state, now) { 1 } else { 2 };
        let lost = |piece: &PieceIndex| {
            self.picker.availability(*piece) < enough && !state.is_trusted(*piece, now)
        };
        let mut lost: Vec<PieceIndex> = pieces.filter(lost).collect();
        order::sort_by_key(&mut lost, |&piece| self.picker.availability(piece));
        lost.into_iter()
            .find_map(|piece| self.choose_target(state, piece).map(|conn| (conn, piece)))
    }

    /// Whether a piece that nobody has is on its way. No second copy may hold it up.
    fn first_copies(&self, state: &SuperSeed, now: Instant) -> bool {
        let pending = state.shown.values().flat_map(|shown| &shown.pending);
        let mut fetched = pending.filter(|(.., last)| now < *last + UNFETCHED);
        fetched.any(|(piece, ..)| self.picker.availability(*piece) == 0)
    }

    fn choose_target(&self, state: &SuperSeed, piece: PieceIndex) -> Option<ConnId> {
        let lacks = |(conn, shown): &(&ConnId, &Shown)| {
            let has = self.peers.get(*conn).is_none_or(|peer| peer.has.contains(piece));
            !has && !shown.pieces.contains(piece)
        };
        let candidates = state.shown.iter().filter(lacks);
        let best = candidates.min_by_key(|(_, shown)| (shown.unproven.len(), shown.last));
        best.map(|(&conn, _)| conn)
    }

    /// Tells everybody of what they were not shown; of what a peer has, it need not hear.
    fn tell_rest(&mut self, state: SuperSeed) {
        for (conn, Shown { pieces: shown, .. }) in state.shown {
            let Some(peer) = self.peers.get(&conn) else { continue };
            let rest = (0..shown.len()).filter(|&p| !shown.contains(p) && !peer.has.contains(p));
            let rest = Bitfield::with(shown.len(), rest);
            if !rest.is_empty() {
                self.actions.push(Action::Tell { conn, order: Order::Haves(rest) });
            }
        }
    }
}
