//! What a swarm takes over from the search for its metadata (BEP 9): addresses, connections, and what
//! the peers have said already.
//!
//! Layer: decisions. A part of the swarm.

use std::net::SocketAddr;
use std::time::Instant;

use super::{Dial, Fact, Hello, Swarm};
use crate::address_book::AddressBook;
use crate::picker::ConnId;
use crate::wire::message::Message;

/// What is left when the metadata is here.
pub struct Heritage {
    pub book: AddressBook,
    /// Numbers go on from there.
    pub last_conn: u32,
    /// Connections whose handshake is not done: number, address, whether they dialled us.
    pub dials: Vec<(ConnId, SocketAddr, bool)>,
    pub peers: Vec<Heir>,
}

/// A peer that was told our extended handshake, and `have none` if it speaks Fast.
pub struct Heir {
    pub conn: ConnId,
    pub hello: Hello,
    /// What it said, in order.
    pub messages: Vec<Message>,
}

impl Heritage {
    /// All its connections, to be hung up: who was told that we have nothing cannot be told in one
    /// message that we have much. Their addresses may be dialled at once.
    pub fn hang_up(&mut self, now: Instant) -> Vec<ConnId> {
        let dials = std::mem::take(&mut self.dials);
        let peers = std::mem::take(&mut self.peers);
        let conns = peers.iter().map(|heir| heir.conn).chain(dials.iter().map(|dial| dial.0));
        let conns = conns.collect();
        self.book.release_all(now);
        conns
    }
}

impl Swarm {
    /// Goes on with what the search has left. Only for a swarm that has met nobody and has nothing.
    pub fn inherit(&mut self, heritage: Heritage, now: Instant) {
        self.book = heritage.book;
        self.last_conn = heritage.last_conn;
        for (conn, addr, incoming) in heritage.dials {
            self.dials.insert(conn, Dial { addr, incoming });
        }
        for Heir { conn, hello, messages } in heritage.peers {
            let (addr, incoming) = (hello.addr, hello.incoming);
            self.dials.insert(conn, Dial { addr, incoming });
            // It knows that we have nothing; that again would be one too many.
            self.connected(conn, hello, true, now);
            self.handle(now, Fact::Said { conn, messages });
        }
    }
}
