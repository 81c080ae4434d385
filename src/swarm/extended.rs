//! What peers say under the extension protocol (BEP 10), one function for each extension.
//!
//! ```text
//! extended 0    handshake      its ids, its name, how many requests it takes
//! extended 1    ut_metadata    it wants a piece of the metadata (BEP 9)      our ids: see
//! extended 2    ut_pex         it knows other peers (BEP 11)                 [`Extension`]
//! extended 3    lt_donthave    a piece of it is gone (BEP 54)
//! extended 4    upload_only    it fetches nothing, or fetches again (BEP 21)
//! ```
//!
//! Layer: decisions. A part of the swarm.

use std::time::Instant;

use super::giving::QUEUE_MAX;
use super::talk::Broken;
use super::{Action, Order, Swarm};
use crate::geometry::{PieceIndex, Span};
use crate::picker::ConnId;
use crate::wire::extended::{self, Extended, Extension};
use crate::wire::message::Message;
use crate::wire::metadata::{self, Metadata};

/// What a handshake counts that comes again, and a piece that is gone.
const IDLE_HANDSHAKE: u32 = 50;
const IDLE_DONT_HAVE: u32 = 10;

/// How often one connection may be given all of the metadata. More than once, since an answer may
/// be lost to a bad neighbour and everything be asked again.
const METADATA_TIMES: u32 = 4;

/// And so many pieces more, where it is short.
const METADATA_MORE: u32 = 16;

impl Swarm {
    /// Our extended handshake: the first thing that is said, where the peer speaks of extensions.
    pub(super) fn say_extended(&mut self, conn: ConnId) {
        let peer = &self.peers[&conn];
        if peer.speaks_extended {
            let (ip, upload_only) = (peer.addr.ip(), self.fetches_nothing());
            let payload = self.config.offer.to_bytes(ip, QUEUE_MAX, upload_only);
            self.tell(conn, Message::Extended(extended::HANDSHAKE, payload));
        }
    }

    /// A message of an extension, by the id that we gave it.
    pub(super) fn extended(
        &mut self,
        conn: ConnId,
        id: u8,
        payload: &[u8],
        now: Instant,
    ) -> Result<(), Broken> {
        let peer = self.peers.get_mut(&conn).expect("known");
        match (id, Extension::of_our_id(id)) {
            // It may not say so much: the bit in its handshake was not set.
            _ if !peer.speaks_extended => peer.idle_talk += 1,
            (extended::HANDSHAKE, _) => {
                let said = Extended::parse(payload).map_err(|rule| rule.0)?;
                self.extended_handshake(conn, said);
            }
            (_, Some(Extension::Metadata)) => {
                let message = Metadata::parse(payload).map_err(|rule| rule.0)?;
                self.metadata(conn, &message);
            }
            (_, Some(Extension::DontHave)) => {
                let piece = extended::dont_have(payload).map_err(|rule| rule.0)?;
                self.lost_piece(conn, piece)?;
            }
            (_, Some(Extension::UploadOnly)) => {
                let flag = payload.first().is_some_and(|&flag| flag != 0);
                peer.idle_talk += 1;
                peer.said.upload_only = Some(flag);
                self.choice_is_due = true;
            }
            (_, Some(Extension::Pex)) => self.hears_of(conn, payload, now)?,
            // Nothing else was offered.
            (_, None) => peer.idle_talk += 1,
        }
        Ok(())
    }

    /// What the peer speaks, and under which ids; a later handshake changes what it names.
    fn extended_handshake(&mut self, conn: ConnId, said: Extended) {
        let peer = self.peers.get_mut(&conn).expect("known");
        peer.idle_talk += if peer.shook_extended { IDLE_HANDSHAKE } else { 0 };
        peer.shook_extended = true;
        let changes = said.upload_only.is_some();
        peer.said.update(said);
        self.choice_is_due |= changes;
    }

    /// Whether we fetch nothing any more, and so say `upload_only` (BEP 21).
    pub(super) fn fetches_nothing(&self) -> bool {
        self.finished && !self.closing()
    }

    /// Everybody who may want to know is told that we fetch nothing any more.
    pub(super) fn say_upload_only(&mut self) {
        let spoken = self.peers.iter().filter(|(_, peer)| peer.shook_extended);
        let ids = spoken.map(|(&conn, peer)| (conn, peer.said.id(Extension::UploadOnly)));
        for (conn, id) in ids.collect::<Vec<_>>() {
            match id {
                Some(id) => self.tell(conn, Message::Extended(id, vec![1])),
                // Without the message there is still the field.
                None => {
                    let again = b"d11:upload_onlyi1ee".to_vec();
                    self.tell(conn, Message::Extended(extended::HANDSHAKE, again));
                }
            }
        }
    }

    /// The peer does not have a piece any more (BEP 54); what it owes of it is asked of others.
    fn lost_piece(&mut self, conn: ConnId, piece: PieceIndex) -> Result<(), Broken> {
        let pieces = self.picker.geometry().pieces();
        if pieces <= piece {
            return Err(format!("lt_donthave {piece} of a torrent of {pieces} pieces (BEP 54)"));
        }
        let peer = self.peers.get_mut(&conn).expect("known");
        peer.idle_talk += IDLE_DONT_HAVE;
        if !peer.has.contains(piece) {
            return Ok(());
        }
        peer.passes += u32::from(peer.has.is_full());
        peer.has.remove(piece);
        self.picker.peer_lost(&peer.has, piece);
        peer.wanted -= u32::from(self.picker.lacks(piece));
        let owed = peer.asked.iter().map(|(span, _)| *span);
        let owed: Vec<Span> = owed.filter(|span| span.piece == piece).collect();
        for span in owed {
            self.cancel(conn, span);
            self.picker.released(conn, span);
        }
        self.update_interest(conn);
        Ok(())
    }

    /// The peer wants a piece of the metadata (BEP 9). Answers to requests that we never made are
    /// nothing to us.
    fn metadata(&mut self, conn: ConnId, message: &Metadata) {
        let peer = self.peers.get_mut(&conn).expect("known");
        peer.idle_talk += 1;
        let &Metadata::Request { piece } = message else { return };
        let Some(id) = peer.said.id(Extension::Metadata) else { return };
        let size = self.config.offer.metadata_size as usize;
        let enough = metadata::pieces(size) * METADATA_TIMES + METADATA_MORE;
        if metadata::range(piece, size).is_none() || enough <= peer.metadata_given {
            let reject = Metadata::Reject { piece }.to_bytes();
            return self.tell(conn, Message::Extended(id, reject));
        }
        peer.metadata_given += 1;
        self.actions.push(Action::Tell { conn, order: Order::Metadata { id, piece } });
    }
}
