//! Rationing: what a seed does when a crowd has nobody but it.
//!
//! Of a seed that answers every request in turn, several peers fetch the same piece, and until the
//! last piece has left it somebody waits; if it leaves before, nobody completes. Super-seeding
//! ([`super_seed`](super::super_seed)) hides what it has, which one leecher alone, and clients that
//! count on a bitfield, pay for. Here nothing is hidden and nobody is refused: the seed only says
//! *when* it answers.
//!
//! ```text
//! request ─► of a granted piece? ─yes─► writer
//!                   └─no─► held ─► granted: 1. a piece that nobody has and nobody is sent
//!                                           2. one that is not passed on by who has it
//!                                           3. when nothing is under way: some blocks of others
//! ```
//!
//! 1. **First what nobody has.** A piece is granted to one of those that ask for it; the others'
//!    requests wait, and most are taken back when their piece is seen elsewhere. So that they ask
//!    for different pieces, each is suggested some (`suggest`, BEP 6). Who does not speak Fast is
//!    answered in the order in which it asks all the same.
//! 2. **Who spreads gets more**: the next grant is for the peer with the fewest pieces that were not
//!    seen at anybody else yet; of several for the one that has waited longest. Who has more of them
//!    than those who pass on best gets first copies only when nobody else wants any, and what it
//!    keeps is given to others.
//! 3. **Few at a time** ([`UNDER_WAY`], or [`AHEAD`] of our rate): a piece can be passed on only
//!    when it is whole. Who takes what it was granted too slowly does not count.
//! 4. **The line is never idle** while anything is asked for, and nobody waits longer than
//!    [`STARVED`] for anything at all.
//!
//! It begins when [`CROWD`] peers want something and a piece is nowhere but here, and ends when every
//! piece is at two others, another seed is met, or hardly anybody is left; or when nobody says what
//! they have, or nobody passes anything on ([`MUTE`]): they may not reach each other, and the pieces
//! that wait for it would wait for nothing. One leecher or a few never notice it.
//!
//! Layer: decisions. A part of the swarm, which owns it while it lasts.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::peer::Peer;
use super::{Action, Decision, Granted, Order, Swarm};
use crate::bitfield::Bitfield;
use crate::geometry::{BLOCK_LEN, PieceIndex, Span};
use crate::order;
use crate::picker::ConnId;
use crate::wire::message::Message;

/// So many peers that want something are a crowd; with fewer than the second number it is over.
const CROWD: usize = 4;
const CROWD_LEFT: usize = 2;

/// Pieces on their way at once, at least, and blocks.
const UNDER_WAY: u64 = 2;
const UNDER_WAY_BLOCKS: u64 = 8;

/// On a fast line so many seconds of the rate are under way.
const AHEAD: f64 = 0.25;

/// A peer that has so much on the way to it is not granted more, unless that is less than a piece.
const EACH: u64 = 4 * BLOCK_LEN as u64;

/// A grant of which nothing was fetched for so long is not under way.
const UNFETCHED: Duration = Duration::from_secs(2);

/// Nor is one that takes this many times as long as what is under way should.
const SLOW: f64 = 3.0;

/// A first copy that is not seen at its peer so long after it went there may be granted again: it
/// may lie in sockets meanwhile.
const ARRIVAL: Duration = Duration::from_secs(20);

/// When nothing was under way for so long, requests for what others have are answered, so many
/// blocks at a time. A queue in the line is longer than that; on a fast line the time in which
/// [`IDLE_WINDOWS`] of the least window pass.
const IDLE: Duration = Duration::from_millis(150);
const IDLE_WINDOWS: f64 = 4.0;
const AGAIN: u32 = 4;

/// So many blocks' worth of pieces is suggested to each.
const SUGGESTED_BLOCKS: u32 = 8;

/// A first copy that is seen nowhere else so long after it went out is with somebody who does not
/// pass it on.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who has a piece for so long could have passed it on.
pub(super) const PASSES_ON: Duration = Duration::from_secs(2);

/// So many first copies that nobody else has are no reason not to trust a peer with another.
const TRUST: usize = 1;

/// Who was granted nothing for so long is granted what it asked for first.
const STARVED: Duration = Duration::from_secs(8);

/// The same for a first copy, if it has so many already that it does not pass on.
const HOARDER: Duration = Duration::from_secs(60);

/// A crowd of which nobody has told of a piece so long after the first grant is none; nor is one of
/// which nobody has passed a piece on for so long, while [`KEPT`] of them could be. They may not reach
/// each other. But a piece takes its time: at least that in which we send [`PASSING`] of them.
pub(super) const MUTE: Duration = Duration::from_secs(3);
const KEPT: usize = 4;
const PASSING: f64 = 8.0;

/// So long after such a crowd we try again.
const APART: Duration = Duration::from_secs(300);

/// Requests of one peer that are looked at in search of a piece to grant.
const SEARCH_MAX: usize = 64;

/// After another seed was met it counts for so long: the two are not connected.
const OTHER_SEED: Duration = Duration::from_secs(300);

pub(super) struct Rationing {
    rations: BTreeMap<ConnId, Ration>,
    /// Who was granted the first copy of each piece, and when something of it last went out.
    first: Vec<Option<(ConnId, Instant)>>,
    /// Pieces that were suggested to nobody, the next one last.
    fresh: Vec<PieceIndex>,
    /// Since when nothing is under way.
    idle: Option<Instant>,
    /// When the first piece was granted, and when one was last seen to be passed on.
    began: Option<Instant>,
    last_proof: Option<Instant>,
}

/// What one peer was granted.
struct Ration {
    pieces: Bitfield,
    under_way: Vec<Grant>,
    /// First copies that nobody else has, those under way among them.
    unproven: Vec<PieceIndex>,
    /// How many of them it has had for a while, and how many we had to give to another.
    kept: usize,
    given_again: usize,
    /// What was suggested to it, and it was not granted yet.
    suggested: Vec<PieceIndex>,
    last: Instant,
}

struct Grant {
    piece: PieceIndex,
    /// Bytes that it has not fetched yet.
    left: u64,
    since: Instant,
    last: Instant,
}

impl Ration {
    /// How many first copies it has had and not passed on.
    fn owes(&self) -> usize {
        self.kept + self.given_again
    }
}

impl Grant {
    fn counts(&self, slow: Duration, now: Instant) -> bool {
        now < self.last + UNFETCHED && now < self.since + slow
    }
}

impl Rationing {
    fn new(pieces: u32, rng: &mut fastrand::Rng) -> Rationing {
        let first = vec![None; pieces as usize];
        let mut fresh: Vec<PieceIndex> = (0..pieces).collect();
        rng.shuffle(&mut fresh);
        Rationing {
            rations: BTreeMap::new(),
            first,
            fresh,
            idle: None,
            began: None,
            last_proof: None,
        }
    }

    pub fn welcome(&mut self, conn: ConnId, now: Instant) {
        let pieces = Bitfield::new(self.first.len() as u32);
        let ration = Ration {
            pieces,
            under_way: Vec::new(),
            unproven: Vec::new(),
            kept: 0,
            given_again: 0,
            suggested: Vec::new(),
            last: now,
        };
        self.rations.insert(conn, ration);
    }

    pub fn gone(&mut self, conn: ConnId) {
        let suggested = self.rations.remove(&conn).map(|ration| ration.suggested);
        self.fresh.extend(suggested.unwrap_or_default());
        let lost = |first: &&mut Option<(ConnId, Instant)>| first.is_some_and(|(c, _)| c == conn);
        self.first.iter_mut().filter(lost).for_each(|first| *first = None);
    }

    /// Whether a request may pass at once, if no other waits.
    pub fn allows(&self, conn: ConnId, piece: PieceIndex) -> bool {
        self.rations.get(&conn).is_none_or(|ration| ration.pieces.contains(piece))
    }

    /// It does not want this block any more.
    pub fn cancelled(&mut self, conn: ConnId, span: Span, now: Instant) {
        self.settled(conn, &[span], now);
        let first = &mut self.first[span.piece as usize];
        *first = first.filter(|(to, _)| *to != conn);
    }

    /// These blocks went out.
    pub fn settled(&mut self, conn: ConnId, spans: &[Span], now: Instant) {
        let Some(ration) = self.rations.get_mut(&conn) else { return };
        for grant in &mut ration.under_way {
            let bytes = spans.iter().filter(|span| span.piece == grant.piece);
            let bytes: u64 = bytes.map(|span| u64::from(span.length)).sum();
            if bytes != 0 {
                (grant.left, grant.last) = (grant.left.saturating_sub(bytes), now);
                let first = &mut self.first[grant.piece as usize];
                *first = first.map(|(to, at)| (to, if to == conn { now } else { at }));
            }
        }
        ration.under_way.retain(|grant| grant.left != 0);
    }

    fn under_way(&self, slow: Duration, now: Instant) -> u64 {
        let grants = self.rations.values().flat_map(|ration| &ration.under_way);
        grants.filter(|grant| grant.counts(slow, now)).map(|grant| grant.left).sum()
    }

    /// How many first copies may be with a peer without being seen elsewhere: some more than with
    /// the quarter that passes on best. (Of all, since half of them may never give.)
    fn trust(&self) -> usize {
        let mut counts: Vec<usize> = self.rations.values().map(Ration::owes).collect();
        order::sort(&mut counts);
        let usual = counts.get(counts.len() / 4).copied().unwrap_or(0);
        TRUST + usual + usual / 2
    }

    /// Whether nobody has passed anything on for so long, although many pieces could be.
    fn keeps_apart(&self, time: Duration, now: Instant) -> bool {
        let owed: usize = self.rations.values().map(Ration::owes).sum();
        KEPT <= owed && self.last_proof.max(self.began).is_some_and(|last| last + time <= now)
    }

    fn is_promised(&self, piece: PieceIndex, now: Instant) -> bool {
        self.first[piece as usize].is_some_and(|(_, last)| now < last + ARRIVAL)
    }

    /// The first copy of a piece goes to a peer, or the second where the first is not passed on.
    fn grant(&mut self, conn: ConnId, piece: PieceIndex, bytes: u64, fresh: bool, now: Instant) {
        self.is_not_its_doing(conn, piece);
        let Some(ration) = self.rations.get_mut(&conn) else { return };
        ration.pieces.insert(piece);
        ration.under_way.push(Grant { piece, left: bytes, since: now, last: now });
        if fresh {
            ration.unproven.push(piece);
            self.idle = None;
        }
        ration.last = now;
        self.first[piece as usize] = Some((conn, now));
        self.began.get_or_insert(now);
        for ration in self.rations.values_mut() {
            ration.suggested.retain(|&suggested| suggested != piece);
        }
    }

    /// Some blocks of a piece that others have go to a peer.
    fn grant_again(&mut self, conn: ConnId, piece: PieceIndex, left: u64, now: Instant) {
        self.is_not_its_doing(conn, piece);
        let Some(ration) = self.rations.get_mut(&conn) else { return };
        ration.under_way.push(Grant { piece, left, since: now, last: now });
        ration.last = now;
    }

    /// Who has a piece that we send to another too will not have passed it on.
    fn is_not_its_doing(&mut self, conn: ConnId, piece: PieceIndex) {
        for (_, ration) in self.rations.iter_mut().filter(|(other, _)| **other != conn) {
            let before = ration.unproven.len();
            ration.unproven.retain(|&unproven| unproven != piece);
            ration.given_again += before - ration.unproven.len();
        }
    }
}

impl Swarm {
    /// Looks whether there is a crowd, and what may go to whom.
    pub(super) fn ration(&mut self, now: Instant) {
        let wanting = self.peers.values().filter(|peer| peer.wants).count();
        let other = self.other_seed.is_some_and(|met| now < met + OTHER_SEED);
        let whole = self.have().is_full();
        let alone =
            whole && self.finished && !self.closing() && !other && self.super_seed.is_none();
        let enough = if self.rationing.is_some() { 2 } else { 1 };
        let rare = |piece| self.picker.availability(piece) < enough;
        let few = if self.rationing.is_some() { CROWD_LEFT } else { CROWD };
        let length = f64::from(self.picker.geometry().piece_length());
        let time = PASSING * length / self.totals.up.per_second(now).max(1.0);
        let time = Duration::try_from_secs_f64(time).unwrap_or(APART).clamp(MUTE, APART);
        let began = self.rationing.as_ref().and_then(|state| state.began);
        self.mute |= began.is_some_and(|began| began + time <= now);
        if self.rationing.as_ref().is_some_and(|state| state.keeps_apart(time, now)) {
            self.apart = Some(now);
        }
        let apart = self.apart.is_some_and(|when| now < when + APART);
        let speaks = |peer: &Peer| peer.wants && !peer.has.is_empty();
        self.mute &= !self.peers.values().any(speaks);
        let pieces = self.picker.geometry().pieces();
        let crowd = !self.config.without.rationing
            && alone
            && !self.mute
            && !apart
            && few <= wanting
            && (0..pieces).any(rare);
        match (crowd, self.rationing.is_some()) {
            (true, false) => {
                let mut state = Rationing::new(pieces, &mut self.rng);
                self.peers.keys().for_each(|&conn| state.welcome(conn, now));
                self.rationing = Some(state);
            }
            (false, true) => self.end_rationing(now),
            _ => {}
        }
        self.grant(now);
    }

    /// All that was held is answered in the usual way.
    fn end_rationing(&mut self, now: Instant) {
        self.rationing = None;
        let conns: Vec<ConnId> = self.peers.keys().copied().collect();
        conns.into_iter().for_each(|conn| {
            self.release(conn, |_| true, now);
        });
    }

    /// Grants pieces until enough of them are under way.
    pub(super) fn grant(&mut self, now: Instant) {
        let Some(mut state) = self.rationing.take() else { return };
        self.notice_proofs(&mut state, now);
        let piece_len = u64::from(self.picker.geometry().piece_length());
        let rate = self.totals.up.per_second(now);
        let least = (UNDER_WAY * piece_len).max(UNDER_WAY_BLOCKS * u64::from(BLOCK_LEN));
        let window = least.max((AHEAD * rate) as u64);
        let slow = Duration::try_from_secs_f64(SLOW * window as f64 / rate.max(1.0));
        let slow = slow.unwrap_or(UNFETCHED * 10).max(UNFETCHED);
        let pause = IDLE_WINDOWS * least as f64 / rate.max(1.0);
        let pause = Duration::try_from_secs_f64(pause).unwrap_or(IDLE).min(IDLE);
        loop {
            let under_way = state.under_way(slow, now);
            if window <= under_way || self.budget() == 0 {
                break;
            }
            if under_way == 0 {
                state.idle.get_or_insert(now);
            }
            let idle = state.idle.is_some_and(|since| since + pause <= now);
            let Some((conn, piece, why)) = self.choose_grant(&state, idle, now) else { break };
            self.decide(|| Decision::Grant { conn, piece, why });
            if why.is_first_copy() {
                let bytes = u64::from(self.picker.geometry().piece_len(piece));
                let fresh = self.picker.availability(piece) == 0;
                state.grant(conn, piece, bytes, fresh, now);
                self.release(conn, |span| span.piece == piece, now);
            } else {
                let mut blocks = 0..AGAIN;
                let some = |span: &Span| span.piece == piece && blocks.next().is_some();
                let bytes = self.release(conn, some, now);
                state.grant_again(conn, piece, bytes, now);
            }
        }
        self.suggest(&mut state);
        self.rationing = Some(state);
    }

    /// Every peer has pieces to ask for that nobody else will, before it is unchoked.
    fn suggest(&mut self, state: &mut Rationing) {
        let blocks = self.picker.geometry().piece_length().div_ceil(BLOCK_LEN);
        let ahead = SUGGESTED_BLOCKS.div_ceil(blocks) as usize;
        for (&conn, ration) in &mut state.rations {
            let Some(peer) = self.peers.get(&conn) else { continue };
            ration.suggested.retain(|&piece| self.picker.availability(piece) == 0);
            if !(peer.fast && peer.wants) {
                continue;
            }
            while ration.suggested.len() < ahead {
                let Some(piece) = state.fresh.pop() else { break };
                if self.picker.availability(piece) == 0 && state.first[piece as usize].is_none() {
                    ration.suggested.push(piece);
                    let order = Order::Say(Message::Suggest(piece));
                    self.actions.push(Action::Tell { conn, order });
                }
            }
        }
    }

    /// What was seen at a second peer is proven.
    fn notice_proofs(&mut self, state: &mut Rationing, now: Instant) {
        for (conn, ration) in &mut state.rations {
            let Some(peer) = self.peers.get_mut(conn) else { continue };
            let elsewhere = |piece: PieceIndex| {
                self.picker.availability(piece) > u32::from(peer.has.contains(piece))
            };
            let kept = |piece: &&PieceIndex| {
                let sent = state.first[**piece as usize].map_or(now, |(_, last)| last);
                peer.has.contains(**piece) && sent + PASSES_ON <= now
            };
            ration.kept = ration.unproven.iter().filter(kept).count();
            let passed_on = ration.unproven.extract_if(.., |piece| elsewhere(*piece)).count();
            if passed_on != 0 {
                state.last_proof = Some(now);
            }
            ration.under_way.retain(|grant| !peer.has.contains(grant.piece));
            peer.merit += passed_on as f64 * f64::from(self.picker.geometry().piece_length());
        }
    }

    /// What to grant next, to whom, and why.
    fn choose_grant(
        &self,
        state: &Rationing,
        idle: bool,
        now: Instant,
    ) -> Option<(ConnId, PieceIndex, Granted)> {
        let waits = |(conn, ration): &(&ConnId, &Ration)| {
            let active = ration.under_way.iter().filter(|grant| now < grant.last + UNFETCHED);
            active.map(|grant| grant.left).sum::<u64>() < EACH
                && self.peers.get(*conn).is_some_and(|peer| !peer.held.is_empty())
        };
        let mut waiting: Vec<(&ConnId, &Ration)> = state.rations.iter().filter(waits).collect();
        order::sort_by_key(&mut waiting, |(_, ration)| {
            (ration.unproven.len() + ration.given_again, ration.last)
        });
        // Old clients may count on answers in the order of their requests.
        let held = |conn: &ConnId| {
            let peer = &self.peers[conn];
            peer.held.iter().take(if peer.fast { SEARCH_MAX } else { 1 })
        };
        let is_fresh = |piece: PieceIndex| {
            self.picker.availability(piece) == 0 && !state.is_promised(piece, now)
        };
        let trust = state.trust();
        let is_stuck = |piece: PieceIndex| {
            let first = state.first[piece as usize];
            let hoards = |conn| state.rations.get(&conn).is_some_and(|r| trust < r.owes());
            let quiet = first.is_some_and(|(conn, last)| hoards(conn) || last + PATIENCE <= now);
            quiet && self.picker.availability(piece) == 1
        };
        let starved = |(conn, ration): &(&ConnId, &Ration)| {
            let common = held(conn).max_by_key(|span| self.picker.availability(span.piece))?;
            let fresh = is_fresh(common.piece);
            // Who passes nothing on is not given first copies to keep.
            let patience = if fresh && trust < ration.owes() { HOARDER } else { STARVED };
            let why = Granted::Starved { first: fresh };
            (ration.last + patience <= now).then_some((**conn, common.piece, why))
        };
        if let Some(granted) = waiting.iter().find_map(starved) {
            return Some(granted);
        }
        let own = |(conn, ration): &(&ConnId, &Ration)| {
            let span = held(conn).find(|span| ration.pieces.contains(span.piece))?;
            Some((**conn, span.piece, Granted::Begun))
        };
        if let Some(granted) = waiting.iter().find_map(own) {
            return Some(granted);
        }
        let trusted = |(_, ration): &&(&ConnId, &Ration)| idle || ration.owes() <= trust;
        let first = |good: &dyn Fn(PieceIndex) -> bool, why: Granted| {
            waiting.iter().filter(trusted).find_map(|(conn, _)| {
                let span = held(conn).find(|span| good(span.piece))?;
                Some((**conn, span.piece, why))
            })
        };
        let again = || {
            let &(&conn, _) = waiting.first().filter(|_| idle)?;
            let rarest = held(&conn).min_by_key(|span| self.picker.availability(span.piece))?;
            Some((conn, rarest.piece, Granted::Idle))
        };
        first(&is_fresh, Granted::Fresh).or_else(|| first(&is_stuck, Granted::Stuck)).or_else(again)
    }
}
