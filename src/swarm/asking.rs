//! What to ask of whom, and when to stop waiting for it.
//!
//! Layer: decisions. A part of the swarm.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use super::{Action, Decision, DropReason, Order, Peer, Swarm};
use crate::geometry::{BLOCK_LEN, Span};
use crate::picker::{Candidate, ConnId};
use crate::wire::message::Message;

/// A peer that owes us blocks and has sent none for so long is dropped.
const STALLED: Duration = Duration::from_secs(60);

/// In order: what takes so long to come is for later, if somebody who is so much quicker has what is
/// needed next.
const SLOW: Duration = Duration::from_millis(500);
const MUCH_QUICKER: f64 = 4.0;

impl Swarm {
    /// Fills the queue of every peer that has room in it. Who gave most for its time chooses first,
    /// then who owes least: what is left of a download must not go round among those who have
    /// shown nothing.
    pub(super) fn ask_everybody(&mut self, now: Instant) {
        let rank = |(&conn, peer): (&ConnId, &Peer)| {
            let seconds = 1 + now.saturating_duration_since(peer.since).as_secs();
            (Reverse(peer.received / seconds), peer.asked.len(), conn)
        };
        let mut ranks: Vec<_> = self.peers.iter().map(rank).collect();
        ranks.sort_unstable();
        ranks.into_iter().for_each(|(.., conn)| self.ask(conn, now));
    }

    /// Fills one peer's queue of requests.
    pub(super) fn ask(&mut self, conn: ConnId, now: Instant) {
        let connected = self.peers.len() as u32;
        let slow = self.config.in_order && self.is_slow(conn);
        let Some(peer) = self.peers.get(&conn) else { return };
        let room = peer.room(now);
        if room == 0 || !peer.can_be_asked() || self.finished {
            return;
        }
        if self.picker.is_all_asked() {
            self.give_way(conn, now);
        }
        let peer = self.peers.get_mut(&conn).expect("just there");
        let candidate = Candidate {
            conn,
            has: &peer.has,
            only: peer.choking.then_some(peer.allowed_fast.as_slice()),
            slow,
            suggested: &peer.suggested,
        };
        let mut picked = Vec::with_capacity(room);
        self.picker.pick(&candidate, room, connected, now, &mut picked);
        let picker = &self.picker;
        peer.suggested.retain(|&piece| picker.is_open(piece));
        if picked.is_empty() {
            return;
        }
        if peer.asked.is_empty() {
            peer.waiting_since = now;
        }
        let asked = peer.pipeline.ask(now);
        peer.asked.extend(picked.iter().map(|(span, _)| (*span, asked)));
        let spans: Vec<Span> = picked.iter().map(|(span, _)| *span).collect();
        self.actions.push(Action::Tell { conn, order: Order::Ask(spans) });
        for (span, reason) in picked {
            self.decide(|| Decision::Request { conn, span, reason });
        }
    }

    /// Whether what is asked of a peer now comes late, and somebody much quicker has the piece that
    /// is needed next.
    fn is_slow(&mut self, conn: ConnId) -> bool {
        let Some(first) = self.picker.first_missing() else { return false };
        let Some(peer) = self.peers.get(&conn) else { return false };
        let rate = peer.pipeline.rate();
        let due = (peer.asked.len() + 1) as f64 * f64::from(BLOCK_LEN);
        if rate == 0.0 || due < SLOW.as_secs_f64() * rate {
            return false;
        }
        let quick = |other: &Peer| {
            let able = !other.choking && other.snubbed.is_none() && other.has.contains(first);
            able && MUCH_QUICKER * rate < other.pipeline.rate()
        };
        self.peers.values().any(quick)
    }

    /// A peer need not send a block any more.
    pub(super) fn cancel(&mut self, conn: ConnId, span: Span) {
        let Some(peer) = self.peers.get_mut(&conn) else {
            return self.web_seed_need_not(conn, span);
        };
        if peer.answered(span).is_some() {
            self.tell(conn, Message::Cancel(span));
            self.decide(|| Decision::Cancel { conn, span });
        }
    }

    /// What a peer owes may be asked of others; the bytes count all the same if they come.
    pub(super) fn release_all(&mut self, conn: ConnId, now: Instant) {
        let peer = self.peers.get_mut(&conn).expect("known");
        peer.pipeline.idle(now);
        for (span, _) in std::mem::take(&mut peer.asked) {
            self.picker.released(conn, span);
        }
    }

    /// Blocks that are due for too long may be asked of others; who never sends any is dropped.
    pub(super) fn lose_patience(&mut self, now: Instant) {
        let late = |(&conn, peer): (&ConnId, &Peer)| {
            let waited = peer.owing(now)?;
            (peer.patience() <= waited).then_some((conn, waited))
        };
        let late: Vec<(ConnId, Duration)> = self.peers.iter().filter_map(late).collect();
        for (conn, waited) in late {
            let peer = self.peers.get_mut(&conn).expect("listed");
            let first = *peer.snubbed.get_or_insert(now);
            let (blocks, fast) = (peer.asked.len(), peer.fast);
            // One that is there but slow gets its next chance from the probe; one that was given
            // several of these in vain is in the way.
            let owes = now.saturating_duration_since(first);
            if STALLED <= owes {
                self.drop_peer(conn, DropReason::Stalled { waited: owes }, now);
                continue;
            }
            peer.snubbed = Some(first);
            let spans: Vec<Span> = peer.asked.iter().map(|(span, _)| *span).collect();
            self.release_all(conn, now);
            if fast {
                // It would answer each request in the end; a cancel saves it the trouble.
                spans.into_iter().for_each(|span| self.tell(conn, Message::Cancel(span)));
            }
            self.decide(|| Decision::Snub { conn, waited, blocks });
        }
    }
}
