//! What to ask of whom, and when to stop waiting for it.
//!
//! Layer: decisions. A part of the swarm.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use super::{Action, Decision, DropReason, Order, Peer, Swarm, WebSeed};
use crate::geometry::{BLOCK_LEN, Span};
use crate::order;
use crate::picker::{Candidate, ConnId};
use crate::wire::message::Message;

/// A peer that owes us blocks and has sent none for so long is dropped.
const STALLED: Duration = Duration::from_secs(60);

/// With a limit to what comes in, no more is asked for than passes it in so many seconds, over all
/// peers: what is asked beyond it waits in sockets, would look late, and be asked of others again.
const AHEAD_OF_LIMIT: u64 = 4;

/// But always so many blocks, so that two peers can be at work.
const BLOCKS_IN_LIMIT: u64 = 2;

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
        order::sort(&mut ranks);
        ranks.into_iter().for_each(|(.., conn)| self.ask(conn, now));
    }

    /// Fills one peer's queue of requests.
    pub(super) fn ask(&mut self, conn: ConnId, now: Instant) {
        let connected = self.peers.len() as u32;
        let slow = self.config.in_order && self.is_slow(conn, now);
        let Some(peer) = self.peers.get(&conn) else { return };
        let room = peer.room(now).min(self.room_in_limit());
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
        let (owed, rate) = (peer.asked.len() - picked.len(), peer.pipeline.rate() as u64);
        let spans: Vec<Span> = picked.iter().map(|(span, _)| *span).collect();
        self.actions.push(Action::Tell { conn, order: Order::Ask(spans) });
        for (n, (span, reason)) in picked.into_iter().enumerate() {
            let queue = owed + n + 1;
            self.decide(|| Decision::Request { conn, span, reason, queue, rate });
        }
    }

    /// How many more blocks may be asked for, whoever has them.
    fn room_in_limit(&self) -> usize {
        let Some(rate) = self.config.download_limit else { return usize::MAX };
        let most =
            (rate.saturating_mul(AHEAD_OF_LIMIT) / u64::from(BLOCK_LEN)).max(BLOCKS_IN_LIMIT);
        usize::try_from(most).unwrap_or(usize::MAX).saturating_sub(self.owed())
    }

    /// How many blocks peers owe us.
    fn owed(&self) -> usize {
        self.peers.values().map(|peer| peer.asked.len()).sum()
    }

    /// How long what peers owe us may take to pass our own limit, which is nobody's fault. Web seeds
    /// take their parts of it.
    pub(super) fn held_back(&self) -> Duration {
        let Some(rate) = self.config.download_limit else { return Duration::ZERO };
        let bytes = self.owed() as u64 * u64::from(BLOCK_LEN);
        let shares = 1 + self.web_seeds.len() as u64;
        Duration::from_millis(bytes * 1000 * shares / rate.max(1))
    }

    /// Whether what is asked of a peer now comes late, and somebody much quicker has the piece that
    /// is needed next.
    fn is_slow(&mut self, conn: ConnId, now: Instant) -> bool {
        let Some(peer) = self.peers.get(&conn) else { return false };
        let rate = peer.pipeline.rate();
        let due = (peer.asked.len() + 1) as f64 * f64::from(BLOCK_LEN);
        if rate == 0.0 || due < SLOW.as_secs_f64() * rate {
            return false;
        }
        self.has_quicker(rate, now)
    }

    /// Whether somebody who is much quicker than that has the piece that is needed next.
    pub(super) fn has_quicker(&mut self, rate: f64, now: Instant) -> bool {
        let Some(first) = self.picker.first_missing() else { return false };
        let quick = |other: &Peer| {
            let able = !other.choking && other.snubbed.is_none() && other.has.contains(first);
            able && MUCH_QUICKER * rate < other.pipeline.rate()
        };
        let quick_server = |other: &WebSeed| MUCH_QUICKER * rate < other.rate_for(first, now);
        self.peers.values().any(quick) || self.web_seeds.values().any(quick_server)
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
        let ours = 2 * self.held_back();
        let late = |(&conn, peer): (&ConnId, &Peer)| {
            let waited = peer.owing(now)?;
            (peer.patience() + ours <= waited).then_some((conn, waited))
        };
        let late: Vec<(ConnId, Duration)> = self.peers.iter().filter_map(late).collect();
        for (conn, waited) in late {
            let peer = self.peers.get_mut(&conn).expect("listed");
            let first = *peer.snubbed.get_or_insert(now);
            let (blocks, fast) = (peer.asked.len(), peer.fast);
            // One that is there but slow gets its next chance from the probe; one that was given
            // several of these in vain is in the way.
            let owes = now.saturating_duration_since(first);
            if STALLED + ours <= owes {
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
