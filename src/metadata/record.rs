//! What one peer says before anybody knows the torrent: kept in order, for the swarm to hear.
//!
//! ```text
//! extended handshake │ bitfield │ unchoke │ have, have, have, …       at most RECORD_MAX bytes
//!                        └── a later one replaces it, and every `have` before
//! ```
//!
//! Layer: decisions. Owned by [`Search`](super::Search), one for each peer.

use crate::wire::message::Message;

/// The longest record of one peer, in bytes. The longest metadata that we take is of a torrent whose
/// bitfield has 52 KiB; beside that, two thousand `have` and an extended handshake find room.
pub const RECORD_MAX: usize = 128 << 10;

/// The longest that all records together may be, in bytes: more than fifty such bitfields.
pub const RECORDS_MAX: usize = 4 << 20;

/// What a message without a payload takes.
const MESSAGE: usize = size_of::<Message>();

#[derive(Default)]
pub struct Record {
    messages: Vec<Message>,
    bytes: usize,
}

impl Record {
    /// Adds a message. True if it makes others void, which honest peers have no need of: what
    /// pieces a peer has, it says anew with a bitfield.
    pub fn keep(&mut self, message: Message) -> bool {
        let says_all =
            |m: &Message| matches!(m, Message::Bitfield(_) | Message::HaveAll | Message::HaveNone);
        let before = self.messages.len();
        if says_all(&message) {
            self.messages.retain(|old| !says_all(old) && !matches!(old, Message::Have(_)));
            self.bytes = self.messages.iter().map(size).sum();
        }
        let replaces = self.messages.len() != before;
        self.bytes += size(&message);
        self.messages.push(message);
        replaces
    }

    /// How much memory it takes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn into_messages(self) -> Vec<Message> {
        self.messages
    }
}

fn size(message: &Message) -> usize {
    let payload = match message {
        Message::Bitfield(payload) | Message::Extended(_, payload) => payload.len(),
        _ => 0,
    };
    MESSAGE + payload
}
