//! From a magnet link to the metadata (BEP 9): whom to ask for it, and what to make of the answers.
//!
//! ```text
//! addresses ──► Search: dial, shake hands, extended handshake ──► who has how many bytes of it
//!                                    Fetch: pieces of 16 KiB, from several at once ──► SHA-1 fits?
//! the swarm ◄── the connections, what their peers said, the addresses ◄── it does: the torrent
//! ```
//!
//! [`Search`] is for a magnet link what the [`Swarm`](crate::swarm::Swarm) is for a torrent: facts go
//! in, actions come out, the time is an argument. It ends with the info dictionary, and leaves its
//! peers to the swarm. [`Fetch`] is the part of it that knows pieces and liars.
//!
//! Layer: decisions. Runs on the session's thread, until the metadata is here.

mod fetch;
mod progress;
mod record;
mod search;
#[cfg(test)]
mod tests;

pub use fetch::{Fetch, Step};
pub use progress::Progress;
pub use search::{Search, Wish};
