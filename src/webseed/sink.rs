//! Bytes in, blocks out: what a server sends is one stream, and the assembler takes blocks.
//!
//! ```text
//! chunk  |== block ==|== block ==|== a part of one =|......... free .........|
//!        base                                       end
//!         both are handed out with the chunk; the part goes to the front of the next one
//! ```
//!
//! Layer: hands. A part of the web seed's thread; owns the chunk that is being filled.

use crate::event::{Delivery, Event};
use crate::geometry::{BLOCK_LEN, Geometry};
use crate::peer::reader::{Outlets, new_chunk};
use crate::picker::ConnId;
use crate::swarm::{Fact, FetchEnd};

pub struct Sink {
    conn: ConnId,
    outlets: Outlets,
    chunk: Vec<u8>,
    /// The torrent's byte at the front of the chunk: the first of a block.
    base: u64,
    /// How much of the chunk is filled: less than a block between two calls.
    filled: usize,
}

impl Sink {
    /// For a run that begins at this byte of the torrent, the first of a block.
    pub fn new(conn: ConnId, outlets: &Outlets, start: u64) -> Sink {
        let outlets = outlets.clone();
        Sink { conn, chunk: new_chunk(&outlets), outlets, base: start, filled: 0 }
    }

    /// The torrent's byte that comes next.
    pub fn end(&self) -> u64 {
        self.base + self.filled as u64
    }

    /// Where the next bytes go. A block has room at least.
    pub fn room(&mut self) -> &mut [u8] {
        if self.chunk.len() < self.filled + BLOCK_LEN as usize {
            self.chunk.resize(self.filled + BLOCK_LEN as usize, 0);
        }
        &mut self.chunk[self.filled..]
    }

    /// So many bytes have been put there. Whole blocks are handed out.
    pub fn filled(&mut self, geometry: &Geometry, n: usize) -> Result<(), FetchEnd> {
        self.filled += n;
        let (mut spans, mut blocks, mut at) = (Vec::new(), Vec::new(), 0);
        while at < self.filled {
            let span = geometry.block_at(self.base + at as u64);
            if self.filled < at + span.length as usize {
                break;
            }
            spans.push(span);
            blocks.push((span, at));
            at += span.length as usize;
        }
        if blocks.is_empty() {
            return Ok(());
        }
        let mut next = new_chunk(&self.outlets);
        let rest = &self.chunk[at..self.filled];
        next[..rest.len()].copy_from_slice(rest);
        let chunk = std::mem::replace(&mut self.chunk, next);
        (self.base, self.filled) = (self.base + at as u64, self.filled - at);
        // First the word, then the bytes: the swarm must know of a block before it hears that its
        // piece is complete.
        let conn = self.conn;
        let over = || FetchEnd::Useless { why: "we are done".to_owned() };
        let fetched = Event::Fact(Fact::Fetched { conn, spans });
        self.outlets.events.send(fetched).map_err(|_| over())?;
        self.outlets.deliveries.send(Delivery { conn, chunk, blocks }).map_err(|_| over())
    }

    /// A pad file's bytes, which nobody need send.
    pub fn fill_zeros(&mut self, geometry: &Geometry, mut n: usize) -> Result<(), FetchEnd> {
        while n != 0 {
            let room = self.room();
            let len = n.min(room.len());
            room[..len].fill(0);
            n -= len;
            self.filled(geometry, len)?;
        }
        Ok(())
    }
}
