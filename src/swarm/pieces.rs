//! What a piece's end means to everybody: it is verified, or it is bad.
//!
//! Layer: decisions. A part of the swarm.

use std::time::Instant;

use super::{BanReason, Decision, Swarm};
use crate::geometry::PieceIndex;
use crate::picker::ConnId;
use crate::wire::message::Message;

impl Swarm {
    /// A piece is verified: blocks of it that are still owed are not needed, everybody is told.
    pub(super) fn stored(&mut self, piece: PieceIndex, now: Instant) {
        let owed = self.picker.stored(piece);
        for &(conn, span) in &owed {
            self.cancel(conn, span);
        }
        let conns: Vec<ConnId> = self.peers.keys().copied().collect();
        let have_all = self.have().is_full();
        for conn in conns {
            let peer = self.peers.get_mut(&conn).expect("listed");
            // Who has everything sees our progress by it, but to learn that we have everything too is
            // of no use to it. (Transmission 3 then takes all at our address for seeds.)
            let tells = !(have_all && peer.has.is_full()) || peer.suggests;
            if peer.has.contains(piece) {
                peer.wanted -= 1;
                self.update_interest(conn);
            }
            if tells {
                self.tell(conn, Message::Have(piece));
            }
        }
        self.check_finished(now);
        // Who was cancelled has room again. All others were asked when they had.
        owed.into_iter().for_each(|(conn, _)| self.ask(conn, now));
    }

    /// A piece is bad. Who sent it alone is guilty; of several, the one who differs will be.
    pub(super) fn corrupt(&mut self, piece: PieceIndex, mut senders: Vec<ConnId>, now: Instant) {
        self.totals.corrupt += 1;
        senders.sort_unstable();
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
