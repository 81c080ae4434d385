//! What a piece's end means to everybody: it is verified, or it is bad.
//!
//! Layer: decisions. A part of the swarm.

use std::time::{Duration, Instant};

use super::peer::Peer;
use super::{Action, BanReason, Decision, Order, Swarm};
use crate::geometry::PieceIndex;
use crate::order;
use crate::picker::ConnId;
use crate::wire::message::Message;

/// Peers are told of new pieces at once, but of several not oftener than this: each telling wakes two
/// threads for each peer, and of small pieces there may be a thousand in a second.
const NEWS_AFTER: Duration = Duration::from_millis(60);

impl Swarm {
    /// A piece is verified: blocks of it that are still owed are not needed, everybody is told.
    pub(super) fn stored(&mut self, piece: PieceIndex, now: Instant) {
        let owed = self.picker.stored(piece);
        for &(conn, span) in &owed {
            self.cancel(conn, span);
        }
        for peer in self.peers.values_mut().filter(|peer| peer.has.contains(piece)) {
            peer.wanted -= 1;
        }
        let conns: Vec<ConnId> = self.peers.keys().copied().collect();
        conns.into_iter().for_each(|conn| self.update_interest(conn));
        self.news.push(piece);
        if self.next_news <= now || self.have().is_full() {
            self.tell_news(now);
        }
        self.check_finished(now);
        // Who was cancelled has room again. All others were asked when they had.
        owed.into_iter().for_each(|(conn, _)| self.ask(conn, now));
    }

    /// When the peers are to be told of new pieces, if there are any.
    pub fn news_due(&self) -> Option<Instant> {
        (!self.news.is_empty()).then_some(self.next_news)
    }

    /// Tells everybody of the new pieces, if it is time.
    pub fn tell_due_news(&mut self, now: Instant) {
        if self.news_due().is_some_and(|due| due <= now) {
            self.tell_news(now);
        }
    }

    pub(super) fn tell_news(&mut self, now: Instant) {
        let news = std::mem::take(&mut self.news);
        if news.is_empty() {
            return;
        }
        self.next_news = now + NEWS_AFTER;
        // Who has everything sees our progress by them, but to learn that we have everything too is of
        // no use to it. (Transmission 3 then takes all at our address for seeds.)
        let have_all = self.have().is_full();
        let tells = |peer: &Peer| !(have_all && peer.has.is_full()) || peer.suggests;
        let told = self.peers.iter().filter(|(_, peer)| tells(peer));
        for (&conn, _) in told {
            let say = |&piece| Order::Say(Message::Have(piece));
            self.actions.extend(news.iter().map(|piece| Action::Tell { conn, order: say(piece) }));
        }
    }

    /// A piece is bad. Who sent it alone is guilty; of several, the one who differs will be.
    pub(super) fn corrupt(&mut self, piece: PieceIndex, mut senders: Vec<ConnId>, now: Instant) {
        self.totals.corrupt += 1;
        order::sort(&mut senders);
        senders.dedup();
        self.announce(Decision::Corrupt { piece, senders: senders.len() });
        for (conn, span) in self.picker.corrupt(piece, senders.len()) {
            self.cancel(conn, span);
        }
        if let [alone] = senders[..] {
            self.ban(alone, BanReason::SentCorruptPiece(piece), now);
        }
        self.ask_everybody(now);
    }
}
