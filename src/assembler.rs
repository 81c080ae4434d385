//! The assembler: the one thread that hashes what comes and writes the output.
//!
//! ```text
//! Delivery ──► for each block: write it to the map; hash it if it is the next of its piece,
//!              or else later, from the map
//!          ──► piece complete? hash right: Stored, and the token that lets it be uploaded
//!                              hash wrong: Corrupt, with the sender of each block
//! ```
//!
//! A block is hashed while it is hot in the processor's cache, straight from the chunk that the
//! reader filled; the chunk then goes back to the readers. The channel in is bounded, so a slow disk
//! pushes back on the sockets instead of filling memory.
//!
//! Layer: hands. One thread. Owns the writing end of the storage, the pieces in progress, the list
//! of what failed.

use std::collections::HashMap;

use anyhow::{Context, Result};
use crossbeam_channel::{Receiver, Sender};

use crate::bitfield::Bitfield;
use crate::blame::Blame;
use crate::event::{Delivery, Event};
use crate::geometry::{Geometry, PieceIndex, Span};
use crate::hash::{Hasher, PieceHashes, Sha1, Verified};
use crate::picker::ConnId;
use crate::storage::Writing;
use crate::swarm::Fact;

/// A piece of which some blocks are here.
struct Partial {
    hasher: Hasher,
    /// Blocks that are in the hash already; always the first ones.
    hashed: u32,
    /// Who sent each block; `None`: not here yet.
    senders: Vec<Option<ConnId>>,
    missing: u32,
}

pub struct Assembler {
    geometry: Geometry,
    hashes: PieceHashes,
    storage: Writing,
    partials: HashMap<PieceIndex, Partial>,
    have: Bitfield,
    blame: Blame,
    events: Sender<Event>,
}

impl Assembler {
    /// An assembler for a torrent of which these pieces are on disk.
    pub fn new(
        hashes: PieceHashes,
        storage: Writing,
        have: Bitfield,
        events: Sender<Event>,
    ) -> Assembler {
        let geometry = storage.layout().geometry();
        let (partials, blame) = (HashMap::new(), Blame::default());
        Assembler { geometry, hashes, storage, partials, have, blame, events }
    }

    /// The thread: until every reader has gone. Chunks that are done with go back to `empty`.
    /// Returns what the disk holds, so that it can be written down. A disk that fails is told to
    /// the session, and ends the work: what was verified before is kept.
    pub fn run(
        mut self,
        deliveries: Receiver<Delivery>,
        empty: Sender<Vec<u8>>,
    ) -> (Writing, Bitfield) {
        for delivery in deliveries {
            if let Err(err) = self.take(&delivery) {
                let _ = self.events.send(Event::Failed(err));
                break;
            }
            // A full pool has enough, and a reader that has gone needs none.
            let _ = empty.try_send(delivery.chunk);
        }
        (self.storage, self.have)
    }

    fn take(&mut self, delivery: &Delivery) -> Result<()> {
        for &(span, at) in &delivery.blocks {
            let bytes = &delivery.chunk[at..at + span.length as usize];
            self.block(delivery.conn, span, bytes)?;
        }
        Ok(())
    }

    /// One block. The reader has checked that it was asked for, so it is one of ours.
    fn block(&mut self, conn: ConnId, span: Span, bytes: &[u8]) -> Result<()> {
        let Span { piece, .. } = span;
        let block = self.geometry.block_index(span).context("a block that nobody asked for")?;
        if self.have.contains(piece) {
            return Ok(());
        }
        let blocks = self.geometry.blocks(piece);
        let partial = self.partials.entry(piece).or_insert_with(|| Partial::new(blocks));
        if partial.senders[block as usize].is_some() {
            return Ok(());
        }
        partial.senders[block as usize] = Some(conn);
        partial.missing -= 1;
        self.storage.write(span, bytes)?;
        if block == partial.hashed {
            partial.hasher.update(bytes);
            partial.hashed += 1;
        }
        // What came too early is in the map, and mostly still in the cache.
        while partial.senders.get(partial.hashed as usize).is_some_and(Option::is_some) {
            let next = self.geometry.block(piece, partial.hashed);
            self.storage.read_back(next, &mut |bytes| partial.hasher.update(bytes))?;
            partial.hashed += 1;
        }
        if partial.missing == 0 {
            let partial = self.partials.remove(&piece).expect("just used");
            self.complete(piece, partial)?;
        }
        Ok(())
    }

    /// All blocks of a piece are here.
    fn complete(&mut self, piece: PieceIndex, partial: Partial) -> Result<()> {
        let Partial { hasher, senders, .. } = partial;
        match self.hashes.check(piece, hasher.finish()) {
            Some(verified) => self.stored(piece, verified),
            None => self.corrupt(piece, senders.into_iter().flatten().collect()),
        }
    }

    fn stored(&mut self, piece: PieceIndex, verified: Verified) -> Result<()> {
        self.storage.seal(verified)?;
        self.have.insert(piece);
        let _ = self.events.send(Event::Stored(verified));
        if self.blame.concerns(piece) {
            let hashes = self.block_hashes(piece)?;
            for conn in self.blame.verified(piece, &hashes) {
                self.tell(Fact::Guilty { conn, piece });
            }
        }
        Ok(())
    }

    fn corrupt(&mut self, piece: PieceIndex, senders: Vec<ConnId>) -> Result<()> {
        let hashes = self.block_hashes(piece)?;
        self.blame.failed(piece, senders.iter().copied().zip(hashes).collect());
        self.tell(Fact::Corrupt { piece, senders });
        Ok(())
    }

    /// The hash of each block of a piece that is on disk.
    fn block_hashes(&mut self, piece: PieceIndex) -> Result<Vec<Sha1>> {
        let mut hashes = Vec::new();
        for block in 0..self.geometry.blocks(piece) {
            let mut hasher = Hasher::new();
            let span = self.geometry.block(piece, block);
            self.storage.read_back(span, &mut |bytes| hasher.update(bytes))?;
            hashes.push(hasher.finish());
        }
        Ok(hashes)
    }

    /// A session that has ended hears nothing, and that is all right.
    fn tell(&self, fact: Fact) {
        let _ = self.events.send(Event::Fact(fact));
    }
}

impl Partial {
    fn new(blocks: u32) -> Partial {
        let senders = vec![None; blocks as usize];
        Partial { hasher: Hasher::new(), hashed: 0, senders, missing: blocks }
    }
}
