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
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use crossbeam_channel::{Receiver, Sender};

use crate::bitfield::Bitfield;
use crate::blame::Blame;
use crate::event::{Alarm, Delivery, Event};
use crate::geometry::{Geometry, PieceIndex, Span};
use crate::hash::{Hasher, PieceHashes, Sha1, Verified};
use crate::order;
use crate::picker::ConnId;
use crate::storage::Writing;
use crate::swarm::Fact;
use crate::trace::Trace;
use crate::wait;

/// A piece of which some blocks are here.
struct Partial {
    hasher: Hasher,
    /// Blocks that are in the hash already; always the first ones.
    hashed: u32,
    /// Who sent each block; `None`: not here yet.
    senders: Vec<Option<ConnId>>,
    missing: u32,
    began: Instant,
    /// Spent on writing and hashing; measured for a trace only.
    busy: Duration,
}

pub struct Assembler {
    geometry: Geometry,
    hashes: PieceHashes,
    storage: Writing,
    partials: HashMap<PieceIndex, Partial>,
    have: Bitfield,
    blame: Blame,
    events: Sender<Event>,
    trace: Trace,
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
        Assembler { geometry, hashes, storage, partials, have, blame, events, trace: Trace::off() }
    }

    /// The same, and what it does is told.
    pub fn traced(self, trace: Trace) -> Assembler {
        Assembler { trace, ..self }
    }

    /// The thread: until every reader has gone. Chunks that are done with go back to `empty`.
    /// Returns what the disk holds, so that it can be written down. A disk that fails is told to
    /// the session, and ends the work: what was verified before is kept.
    pub fn run(
        mut self,
        deliveries: Receiver<Delivery>,
        empty: Sender<Vec<u8>>,
    ) -> (Writing, Bitfield) {
        let _alarm = Alarm::new("assembler", &self.events);
        while let Some(delivery) = wait::recv(&deliveries) {
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
        let start = self.trace.is_on().then(Instant::now);
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
        partial.busy += start.map_or(Duration::ZERO, |start| start.elapsed());
        if partial.missing == 0 {
            let partial = self.partials.remove(&piece).expect("just used");
            self.complete(piece, partial)?;
        }
        Ok(())
    }

    /// All blocks of a piece are here.
    fn complete(&mut self, piece: PieceIndex, partial: Partial) -> Result<()> {
        let Partial { hasher, senders, began, busy, .. } = partial;
        let start = Instant::now();
        let digest = hasher.finish();
        let verdict = self.hashes.check(piece, digest);
        if self.trace.is_on() {
            let times = [began.elapsed(), busy + start.elapsed()];
            self.tell_fate(piece, digest, verdict.is_some(), &senders, times);
        }
        match verdict {
            Some(verified) => self.stored(piece, verified),
            None => self.corrupt(piece, senders.into_iter().flatten().collect()),
        }
    }

    /// The line of a trace: from whom, and where the time went (all of it; what was work here).
    fn tell_fate(
        &self,
        piece: PieceIndex,
        digest: Sha1,
        stored: bool,
        senders: &[Option<ConnId>],
        times: [Duration; 2],
    ) {
        let mut from: Vec<ConnId> = senders.iter().copied().flatten().collect();
        order::sort(&mut from);
        from.dedup();
        let from: Vec<String> = from.iter().map(ToString::to_string).collect();
        let fate = if stored { "stored, its hash is" } else { "thrown away, not its hash:" };
        let [whole, busy] = times.map(|time| time.as_secs_f64() * 1e3);
        let (blocks, from) = (senders.len(), from.join(" "));
        let what = format!(
            "piece {piece} {fate} {digest}; {blocks} blocks of {from} in {whole:.1} ms, {busy:.1} ms \
             of them writing and hashing"
        );
        self.trace.about("assembler", &what);
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
        let (began, busy) = (Instant::now(), Duration::ZERO);
        Partial { hasher: Hasher::new(), hashed: 0, senders, missing: blocks, began, busy }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use crossbeam_channel::bounded;

    use super::*;
    use crate::storage::fixture::{Folder, torrent};
    use crate::storage::{Layout, open};

    /// Without it nothing can be written any more, and the session would look for peers for ever.
    #[test]
    fn a_panic_ends_the_run() {
        let folder = Folder::temporary();
        let layout = Layout::below(torrent(&[("", 16_384)], 16_384), folder.path());
        let have = Bitfield::new(1);
        let (writing, _) = open(&layout, &have).unwrap();
        let (events, inbox) = bounded(1);
        let hashes = layout.torrent().piece_hashes.clone();
        let assembler = Assembler::new(hashes, writing, have, events);
        // The block lies outside of its chunk.
        let blocks = vec![(layout.geometry().whole(0), 1)];
        let (delivery, deliveries) = bounded(1);
        delivery.send(Delivery { conn: ConnId(1), chunk: Vec::new(), blocks }).unwrap();
        drop(delivery);
        let run = || assembler.run(deliveries, bounded(1).0);
        assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
        let Ok(Event::Failed(err)) = inbox.try_recv() else { panic!("nobody was told") };
        assert_eq!(err.to_string(), "the assembler's thread panicked");
    }
}
