//! The writer: sends one peer what the swarm orders.
//!
//! Orders that wait together become one write. Before a request goes out the reader is told of it,
//! so that the answer is known as one when it comes.
//!
//! Layer: hands. One thread a peer. Owns its handle of the socket.

use std::io::Write;
use std::net::{Shutdown, TcpStream};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::{Context, KEEP_ALIVE, WRITE_TIMEOUT};
use crate::geometry::Span;
use crate::picker::ConnId;
use crate::swarm::Order;
use crate::trace::Direction;
use crate::wire::message::Message;

/// When what is to be sent is longer than this, it is sent before more is added.
const WRITE_LEN: usize = 64 * 1024;

pub struct Writer {
    pub context: Context,
    pub conn: ConnId,
    pub socket: TcpStream,
    pub orders: Receiver<Order>,
    /// To the reader of the same connection.
    pub asked: Sender<Span>,
}

impl Writer {
    /// The thread: until the swarm drops the peer, or the peer does not take what we send. Then the
    /// reader finds the socket shut, and tells the swarm.
    pub fn run(mut self) {
        let _ = self.socket.set_write_timeout(Some(WRITE_TIMEOUT));
        while self.step().is_some() {}
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// Waits for an order, takes those behind it too, and sends them. `None`: it is over.
    fn step(&mut self) -> Option<()> {
        let mut bytes = Vec::new();
        match self.orders.recv_timeout(KEEP_ALIVE) {
            Ok(order) => self.encode(order, &mut bytes)?,
            Err(RecvTimeoutError::Timeout) => self.say(&Message::KeepAlive, &mut bytes),
            Err(RecvTimeoutError::Disconnected) => return None,
        }
        while bytes.len() < WRITE_LEN {
            let Ok(order) = self.orders.try_recv() else { break };
            self.encode(order, &mut bytes)?;
        }
        self.socket.write_all(&bytes).ok()
    }

    fn encode(&self, order: Order, bytes: &mut Vec<u8>) -> Option<()> {
        match order {
            Order::Say(message) => self.say(&message, bytes),
            Order::Ask(spans) => {
                for span in spans {
                    // A full list means that the peer reads our requests and answers none of
                    // thousands: no client of good will does that.
                    self.asked.try_send(span).ok()?;
                    self.say(&Message::Request(span), bytes);
                }
            }
        }
        Some(())
    }

    fn say(&self, message: &Message, bytes: &mut Vec<u8>) {
        self.context.trace.message(Direction::Out, self.conn, message);
        message.encode(bytes);
    }
}
