//! Whose request is answered next: who gave us more gets more of what goes out.
//!
//! The choker says who may ask; of those that may, a line that is shared by equal parts would give a
//! free rider in a free place as much as the best uploader. So requests wait here, and go to the
//! writers a few at a time ([`WINDOW`], or [`AHEAD`] of our rate):
//!
//! ```text
//! requests ─► held ─► the peer with the smallest served / merit ─► its writer
//! ```
//!
//! * **Merit** is what a peer gave us lately: it halves every [`HALF_LIFE`] while we lack pieces. As
//!   a seed we remember it as it was, and add first copies that were passed on. Who has none gets a
//!   small part ([`NEWCOMERS`] of the mean), so that newcomers come by their first pieces.
//! * **Nothing waits while the line is free**: who has no merit gets all that the others leave.
//! * With one peer that asks, or where nobody has merit, requests pass at once.
//!
//! Layer: decisions. A part of the swarm.

use std::time::{Duration, Instant};

use super::peer::Peer;
use super::{Action, Order, Swarm};
use crate::geometry::{BLOCK_LEN, Span};
use crate::picker::ConnId;

/// Bytes that are on the way to the writers' sockets at once, at least.
const WINDOW: u64 = 2 * BLOCK_LEN as u64;

/// On a fast line so many seconds of the rate.
const AHEAD: f64 = 0.1;

/// Who has taken nothing for so long does not hold up the others.
const TAKES: Duration = Duration::from_millis(250);

pub(super) const HALF_LIFE: Duration = Duration::from_secs(20);

/// What a peer without merit counts for, in parts of the mean.
const NEWCOMERS: f64 = 1.0 / 16.0;

fn bytes(spans: &[Span]) -> u64 {
    spans.iter().map(|span| u64::from(span.length)).sum()
}

impl Swarm {
    /// Whether requests wait for their turn.
    pub(super) fn takes_turns(&self) -> bool {
        let asking = |peer: &&Peer| !peer.held.is_empty() || !peer.queue.is_empty();
        let merit = self.peers.values().any(|peer| 0.0 < peer.merit);
        merit && 1 < self.peers.values().filter(asking).count()
    }

    /// Hands requests to the writers until enough of them are under way.
    pub(super) fn serve(&mut self, now: Instant) {
        if self.rationing.is_some() || self.peers.values().all(|peer| peer.held.is_empty()) {
            return;
        }
        if !self.takes_turns() {
            let conns: Vec<ConnId> = self.peers.keys().copied().collect();
            return conns.into_iter().for_each(|conn| {
                self.release(conn, |_| true, now);
            });
        }
        let window = WINDOW.max((AHEAD * self.totals.up.per_second(now)) as u64);
        let takes = |peer: &&Peer| now < peer.last_sent + TAKES;
        let active = self.peers.values().filter(takes);
        let mut under_way: u64 = active.map(|peer| bytes(&peer.queue)).sum();
        let merits = self.peers.values().filter(|peer| peer.wants).map(|peer| peer.merit);
        let (sum, n) = merits.fold((0.0, 0.0), |(sum, n), merit| (sum + merit, n + 1.0));
        let least = (NEWCOMERS * sum / f64::max(n, 1.0)).max(1.0);
        while under_way < window {
            let waits =
                |(_, peer): &(&ConnId, &Peer)| !peer.held.is_empty() && bytes(&peer.queue) < window;
            let waiting = self.peers.iter().filter(waits);
            let next = waiting.min_by(|(_, a), (_, b)| a.turn.total_cmp(&b.turn));
            let Some((&conn, _)) = next else { return };
            let mut one = 0..1;
            let len = self.release(conn, |_| one.next().is_some(), now);
            if len == 0 {
                // The goal is as good as reached.
                return;
            }
            under_way += len;
            let peer = self.peers.get_mut(&conn).expect("chosen");
            // Who did not ask for a while has no claim on what went out meanwhile.
            peer.turn = peer.turn.max(self.turn);
            self.turn = peer.turn;
            peer.turn += len as f64 / peer.merit.max(least);
        }
    }

    /// Hands held requests of a peer to its writer, as far as the goal goes; how many bytes that is.
    pub(super) fn release(
        &mut self,
        conn: ConnId,
        mut which: impl FnMut(&Span) -> bool,
        now: Instant,
    ) -> u64 {
        let mut budget = self.budget();
        let mut which = |span: &Span| {
            let go = budget != 0 && which(span);
            budget = budget.saturating_sub(if go { u64::from(span.length) } else { 0 });
            go
        };
        let Some(peer) = self.peers.get_mut(&conn) else { return 0 };
        if peer.queue.is_empty() {
            peer.last_sent = now;
        }
        let held = std::mem::take(&mut peer.held);
        let (go, stay): (Vec<Span>, Vec<Span>) = match peer.fast {
            true => held.into_iter().partition(which),
            false => {
                let n = held.iter().position(|span| !which(span)).unwrap_or(held.len());
                (held[..n].to_vec(), held[n..].to_vec())
            }
        };
        peer.held = stay;
        for &span in &go {
            peer.queue.push(span);
            self.actions.push(Action::Tell { conn, order: Order::Upload(span) });
        }
        bytes(&go)
    }
}
