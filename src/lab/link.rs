//! One connection between two simulated peers: what waits, what is in the socket, what is under way.
//!
//! ```text
//! swarm ─► queue of blocks (can be withdrawn) ─► socket (cannot) ─► uplink ─► latency ─► downlink
//!      └──────────── messages ──────────────────►
//! ```
//!
//! As over TCP everything of one direction arrives in order, so a `have` waits behind the blocks that
//! are in the socket already. That is the part of a real network that matters most here.
//!
//! Layer: programs. Pure; owned by the world.

use std::collections::VecDeque;
use std::time::Duration;

use crate::geometry::Span;
use crate::picker::ConnId;
use crate::wire::message::Message;

/// What fits into a socket before `write` waits: on a line like these hardly a block
/// ([`Portion`](crate::peer::writer::Portion)).
const SOCKET_LEN: usize = 16 * 1024;

/// What may be on its way: the window of TCP.
const WINDOW: usize = 512 * 1024;

/// What a small message costs, with its share of a packet's header.
const MESSAGE_LEN: usize = 24;

/// So many messages travel together.
const PACKET_MESSAGES: usize = 50;

#[derive(Debug)]
pub enum Item {
    Message(Message),
    /// A block, and whether its bytes are wrong.
    Block(Span, bool),
}

impl Item {
    /// Bytes on the wire.
    pub fn size(&self) -> usize {
        match self {
            Item::Message(Message::Bitfield(bits)) => MESSAGE_LEN + bits.len(),
            Item::Message(_) => MESSAGE_LEN,
            Item::Block(span, _) => span.length as usize + MESSAGE_LEN,
        }
    }
}

/// One direction.
#[derive(Default)]
pub struct Pipe {
    pub queue: VecDeque<Span>,
    socket: VecDeque<Item>,
    socket_len: usize,
    pub in_flight: usize,
    /// It waits for its turn on the uplink.
    pub in_ring: bool,
    /// What the sender of this direction has asked for, and has not got.
    pub asked: Vec<Span>,
}

impl Pipe {
    pub fn write(&mut self, item: Item) {
        self.socket_len += item.size();
        self.socket.push_back(item);
    }

    /// Moves blocks from the queue into the socket while there is room.
    pub fn fill(&mut self, lies: impl Fn(Span) -> bool) -> Vec<Span> {
        let mut written = Vec::new();
        while self.socket_len < SOCKET_LEN
            && let Some(span) = self.queue.pop_front()
        {
            self.write(Item::Block(span, lies(span)));
            written.push(span);
        }
        written
    }

    pub fn can_send(&self) -> bool {
        !self.socket.is_empty() && self.in_flight < WINDOW
    }

    /// What goes out next: one block, or the messages before it.
    pub fn send(&mut self) -> (Vec<Item>, usize) {
        let (mut items, mut len) = (Vec::new(), 0);
        while let Some(item) = self.socket.front() {
            let is_block = matches!(item, Item::Block(..));
            if (is_block && !items.is_empty()) || PACKET_MESSAGES <= items.len() {
                break;
            }
            len += item.size();
            items.extend(self.socket.pop_front());
            if is_block {
                break;
            }
        }
        self.socket_len -= len;
        self.in_flight += len;
        (items, len)
    }
}

pub struct Link {
    pub nodes: [usize; 2],
    pub conns: [ConnId; 2],
    pub latency: Duration,
    pub open: bool,
    /// `pipes[side]` is what `nodes[side]` sends.
    pub pipes: [Pipe; 2],
}
