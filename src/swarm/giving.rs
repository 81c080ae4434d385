//! What we give: whom to unchoke, which requests to serve, when it has been enough.
//!
//! Layer: decisions. A part of the swarm.

use std::time::{Duration, Instant};

use super::serving::HALF_LIFE;
use super::{Action, Decision, DropReason, Order, SuperSeed, Swarm};
use crate::choker::{Contender, Places};
use crate::geometry::{BLOCK_LEN, Span};
use crate::picker::ConnId;
use crate::wire::message::Message;

/// Requests of one peer that may wait for their turn. Past it they are refused, or dropped where the
/// peer does not speak of refusals (libtorrent takes 2,000, Transmission 512).
pub const QUEUE_MAX: usize = 512;

/// The longest block that we give: what clients ask for is 16 KiB; some took 128 KiB years ago.
const GIVE_MAX: u32 = 8 * BLOCK_LEN;

/// How often free places are looked for.
const LOOK: Duration = Duration::from_secs(1);

/// Places of a seed that rations: at least, and one for each piece that goes out in so many seconds.
/// Who has a place and waits longer for a piece would think that it is let down.
const SLOTS_RATIONED: usize = 4;
const ROUND_TRIP: f64 = 4.0;

/// A peer that has requests waiting and takes nothing for so long is dropped: it does not read.
const UNREAD_MAX: Duration = Duration::from_secs(60);

/// When a seed has done its part.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Goal {
    /// Uploaded, in sizes of what is wanted.
    pub ratio: Option<f64>,
    /// Time after completion.
    pub time: Option<Duration>,
}

impl Swarm {
    /// A peer wants something of us, or nothing any more.
    pub(super) fn wants(&mut self, conn: ConnId, interested: bool) {
        let peer = self.peers.get_mut(&conn).expect("known");
        // Who changes its mind a thousand times and neither gives nor takes plays with us.
        peer.idle_talk += 1;
        self.choice_is_due |= peer.wants != interested;
        peer.wants = interested;
    }

    /// Lets the choker decide, and tells everybody concerned.
    pub(super) fn choose(&mut self, now: Instant) {
        self.ration(now);
        let seeding = self.finished || self.config.without.tit_for_tat;
        // What a super-seed shows is ration enough, and a place to wait for costs time.
        let open = self.super_seed.as_ref().is_some_and(SuperSeed::is_hiding);
        let contenders: Vec<Contender> = self
            .peers
            .iter_mut()
            .map(|(&conn, peer)| Contender {
                conn,
                interested: (peer.wants || open) && !peer.fetches_nothing(),
                snubs: peer.snubbed.is_some(),
                gives: peer.down.per_second(now),
                offers: peer.interested,
                age: now.saturating_duration_since(peer.since),
            })
            .collect();
        let places = self.places(open, now);
        let verdict = self.choker.decide(&contenders, seeding, places, now);
        for (conn, reason) in verdict.choke {
            self.decide(|| Decision::Choke { conn, reason });
            self.tell(conn, Message::Choke);
            self.withdraw_all(conn, now);
        }
        for (conn, reason) in verdict.unchoke {
            self.decide(|| Decision::Unchoke { conn, reason });
            self.tell(conn, Message::Unchoke);
        }
    }

    /// How many may be unchoked.
    fn places(&mut self, open: bool, now: Instant) -> Places {
        let rate = self.totals.up.per_second(now);
        let Places { mut any, givers } = Places::at(rate);
        if open {
            any = self.config.max_peers;
        } else if self.rationing.is_some() {
            let length = f64::from(self.picker.geometry().piece_length());
            any = any.max(SLOTS_RATIONED + (ROUND_TRIP * rate / length) as usize);
        }
        let [any, givers] = [any, givers.max(any)].map(|places| places.min(self.config.max_peers));
        Places { any, givers }
    }

    /// What is due because time has passed.
    pub(super) fn give(&mut self, now: Instant) {
        self.show(now);
        self.grant(now);
        self.serve(now);
        if self.last_choice + LOOK <= now {
            let past = now.saturating_duration_since(self.last_choice).as_secs_f64();
            self.last_choice = now;
            if !self.finished {
                let fades = 0.5_f64.powf(past / HALF_LIFE.as_secs_f64());
                self.peers.values_mut().for_each(|peer| peer.merit *= fades);
            }
            self.choose(now);
            self.drop_deaf(now);
        }
        let Some(since) = self.complete_since else { return };
        let Some(goal) = self.config.goal else { return };
        let enough = self.ratio_bytes().is_some_and(|wanted| wanted <= self.totals.uploaded)
            || goal.time.is_some_and(|time| since + time <= now);
        if enough && !self.done {
            self.done = true;
            self.actions.push(Action::Done);
        }
    }

    /// How many bytes are to go out before the ratio of the goal is reached.
    fn ratio_bytes(&self) -> Option<u64> {
        let ratio = self.config.goal?.ratio?;
        let (total, _) = self.picker.wanted_bytes();
        Some((ratio * total as f64).ceil() as u64)
    }

    /// How many bytes may still be handed to the writers, once all is here: with those that are under
    /// way the ratio is reached.
    pub(super) fn budget(&self) -> u64 {
        match self.ratio_bytes().filter(|_| self.complete_since.is_some()) {
            None => u64::MAX,
            Some(wanted) => {
                let queued = self.peers.values().flat_map(|peer| &peer.queue);
                let under_way: u64 = queued.map(|span| u64::from(span.length)).sum();
                wanted.saturating_sub(self.totals.uploaded + under_way)
            }
        }
    }

    /// A peer that lets its requests wait because it does not read what we send.
    fn drop_deaf(&mut self, now: Instant) {
        let deaf = |conn: &ConnId| {
            let peer = &self.peers[conn];
            !peer.queue.is_empty() && peer.last_sent + UNREAD_MAX <= now
        };
        let deaf: Vec<ConnId> = self.peers.keys().copied().filter(deaf).collect();
        // With a low limit it is we who let it wait.
        if self.config.upload_limit.is_some() {
            return;
        }
        for conn in deaf {
            self.drop_peer(conn, DropReason::Deaf { time: UNREAD_MAX }, now);
        }
    }

    /// A peer asks for a block.
    pub(super) fn requested(&mut self, conn: ConnId, span: Span, now: Instant) {
        let allowed = self.choker.is_unchoked(conn);
        let served = allowed
            && span.length <= GIVE_MAX
            && self.picker.geometry().contains(span)
            && self.have().contains(span.piece)
            && self.super_seed.as_ref().is_none_or(|state| state.allows(conn, span.piece));
        let peer = self.peers.get_mut(&conn).expect("known");
        if !served || peer.is_asking_too_much(span) {
            // A request that crossed our `choke` is nobody's fault; thousands are.
            peer.idle_talk += 1;
            if peer.fast {
                self.tell(conn, Message::Reject(span));
            }
            return;
        }
        peer.held.push(span);
        let alone = peer.fast || peer.held.len() == 1;
        match &self.rationing {
            Some(state) if alone && state.allows(conn, span.piece) => {
                self.release(conn, |held| *held == span, now);
            }
            Some(_) => self.grant(now),
            None => self.serve(now),
        }
    }

    /// A peer does not want a block any more.
    pub(super) fn cancelled(&mut self, conn: ConnId, span: Span, now: Instant) {
        let peer = self.peers.get_mut(&conn).expect("known");
        if let Some(at) = peer.queue.iter().position(|queued| *queued == span) {
            peer.queue.remove(at);
            self.actions.push(Action::Tell { conn, order: Order::Withdraw(span) });
            self.rationing.iter_mut().for_each(|state| state.cancelled(conn, span, now));
        } else if let Some(at) = peer.held.iter().position(|held| *held == span) {
            peer.held.remove(at);
        } else {
            peer.idle_talk += 1;
            return;
        }
        if self.peers[&conn].fast {
            // It may be on its way all the same; an answer too many harms nobody (BEP 6).
            self.tell(conn, Message::Reject(span));
        }
    }

    /// A choked peer gets nothing more; with the Fast extension it is told so of each request.
    fn withdraw_all(&mut self, conn: ConnId, now: Instant) {
        let Some(peer) = self.peers.get_mut(&conn) else { return };
        let (mut queue, fast) = (std::mem::take(&mut peer.queue), peer.fast);
        if let Some(state) = &mut self.rationing {
            queue.iter().for_each(|&span| state.cancelled(conn, span, now));
        }
        queue.append(&mut peer.held);
        self.actions.push(Action::Tell { conn, order: Order::WithdrawAll });
        if fast {
            queue.into_iter().for_each(|span| self.tell(conn, Message::Reject(span)));
        }
    }

    /// These blocks went out.
    pub(super) fn sent(&mut self, conn: ConnId, spans: Vec<Span>, now: Instant) {
        let bytes: u64 = spans.iter().map(|span| u64::from(span.length)).sum();
        self.totals.uploaded += bytes;
        self.totals.up.add(bytes, now);
        if let Some(state) = &mut self.super_seed {
            state.sent(conn, &spans, now);
        }
        self.show(now);
        if let Some(state) = &mut self.rationing {
            state.settled(conn, &spans, now);
            self.grant(now);
        }
        let Some(peer) = self.peers.get_mut(&conn) else { return };
        peer.sent += bytes;
        peer.up.add(bytes, now);
        (peer.last_sent, peer.idle_talk) = (now, 0);
        peer.queue.retain(|queued| !spans.contains(queued));
        self.serve(now);
    }
}
