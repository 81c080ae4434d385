//! What the threads tell the session, and the buffers that they hand to each other.
//!
//! ```text
//! reader ─── Delivery (a chunk, and where blocks lie in it) ──► assembler ─── empty chunk ──► reader
//!    └────── Event::Fact ──► session ◄── Event::Fact, Failed ───────┘
//! ```
//!
//! Blocking sends go downhill only: reader → assembler → session. The session never blocks on one.
//!
//! Layer: hands.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpStream};

use crossbeam_channel::Sender;

use crate::geometry::Span;
use crate::hash::Verified;
use crate::picker::ConnId;
use crate::swarm::Fact;

/// Events on their way to the session. Each is one read of a socket or one piece; when the session
/// is behind, readers wait here, and with them the peers.
pub const EVENTS_MAX: usize = 256;

/// Chunks on their way to the assembler: what may be read ahead of a slow disk, 2 MiB. More would
/// fall out of the processor's cache before it is hashed.
pub const DELIVERIES_MAX: usize = 16;

/// The size of a chunk: one read of a fast socket takes so much. Reading in steps of 16 KiB costs
/// twice the time; more would not fit the promise of 16 MiB for 50 peers.
pub const CHUNK_LEN: usize = 128 * 1024;

/// Tasks on their way to one writer. A peer that lets more of them pile up does not read.
pub const TASKS_MAX: usize = 2048;

/// Everything that is told to the session: closed, so that its loop says what it does with each.
#[derive(Debug)]
pub enum Event {
    /// For the swarm, which decides.
    Fact(Fact),
    /// A piece is in its file and matched its hash.
    Stored(Verified),
    /// Somebody dialled us. The listener waits until `turn` is dropped: a crowd waits in the system's
    /// queue, and takes no descriptors of ours.
    Accepted { socket: TcpStream, addr: SocketAddr, turn: Sender<Infallible> },
    /// A tracker did something, for the log.
    Tracker(crate::tracker::Report),
    /// Something happened in the DHT.
    Dht(crate::dht_node::Report),
    /// All bytes were written, or their reader has gone.
    Streamed(crate::stream::End),
    /// The router at home did something.
    PortMap(crate::port_map::Report),
    /// The disk failed, or a thread that is needed: this run ends.
    Failed(anyhow::Error),
    /// The user wants to see the swarm, its pieces in so many cells.
    Look { cells: usize },
    /// The user wants to stop.
    Stop,
}

/// Held by a thread without which the run cannot go on: a panic in it ends the run.
pub struct Alarm {
    whose: &'static str,
    events: Sender<Event>,
}

impl Alarm {
    pub fn new(whose: &'static str, events: &Sender<Event>) -> Alarm {
        Alarm { whose, events: events.clone() }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let what = anyhow::anyhow!("the {}'s thread panicked", self.whose);
            // A session that has ended need not be told.
            let _ = self.events.send(Event::Failed(what));
        }
    }
}

/// Bytes as they came from a socket, and the blocks that lie in them.
#[derive(Debug)]
pub struct Delivery {
    pub conn: ConnId,
    pub chunk: Vec<u8>,
    pub blocks: Blocks,
}

/// The blocks in a chunk that were asked for: what they are, and where in it their bytes begin.
pub type Blocks = Vec<(Span, usize)>;
