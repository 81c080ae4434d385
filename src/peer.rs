//! One peer connection: two threads, one for each direction.
//!
//! ```text
//! reader:  dial or be dialled ─► shake hands ─► read, parse ─┬─► blocks to the assembler
//!                                                           └─► all else to the swarm
//! writer:  orders of the swarm ─► messages ─► socket
//!             └─ "these blocks are asked for" ─► reader, which lets no other block through
//! ```
//!
//! Why two: two clients that upload to each other with one blocking thread each would block in
//! `write` together for ever. The session keeps a third handle of the socket and shuts it down when
//! the swarm drops the peer, so neither direction can be left hanging.
//!
//! Layer: hands. [`reader`] and [`writer`] each own one handle of the socket.

pub mod reader;
pub mod writer;

use std::net::SocketAddr;
use std::time::Duration;

use crate::hash::Sha1;
use crate::picker::ConnId;
use crate::trace::Trace;
use crate::wire::handshake::{Handshake, PeerId, Reserved};

/// How long a dial may take. Longer paths exist; the address is tried again later.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(6);

/// How long the whole handshake may take, from the first byte to the last.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(8);

/// A peer that says nothing for so long is gone. BEP 3 wants a keep-alive every two minutes.
pub const SILENCE_MAX: Duration = Duration::from_secs(150);

/// We say something at least this often.
pub const KEEP_ALIVE: Duration = Duration::from_secs(100);

/// A peer that takes nothing for so long does not read any more.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// How many requests may be unanswered from the reader's view: those of the pipeline, and as many
/// again that were given up and may still be answered.
pub const ASKED_MAX: usize = 2048;

/// What both threads of every connection know.
#[derive(Debug, Clone, Copy)]
pub struct Context {
    pub info_hash: Sha1,
    pub peer_id: PeerId,
    pub pieces: u32,
    /// The extensions that our handshake announces.
    pub reserved: Reserved,
    pub trace: Trace,
}

/// One connection.
#[derive(Debug, Clone, Copy)]
pub struct Link {
    pub conn: ConnId,
    pub addr: SocketAddr,
    /// It dialled us.
    pub incoming: bool,
}

impl Context {
    fn handshake(&self) -> Handshake {
        Handshake { reserved: self.reserved, info_hash: self.info_hash, peer_id: self.peer_id }
    }
}
