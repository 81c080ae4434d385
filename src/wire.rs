//! The peer wire: what two peers say to each other over TCP.
//!
//! ```text
//! both:  handshake, 68 bytes           [`handshake`]
//! both:  messages, as many as they like, in any order, until one hangs up   [`message`]
//! both:  what they agreed on beyond that            [`extended`], [`metadata`], [`pex`]
//! ```
//!
//! Layer: values. Knows no sockets: readers and writers bring the bytes.

pub mod extended;
pub mod handshake;
pub mod message;
pub mod metadata;
pub mod pex;

/// The peer broke the protocol: the rule that it broke, for a log line. The connection ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation(pub String);

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Violation {}

/// A short way to refuse.
fn violation<T>(what: String) -> Result<T, Violation> {
    Err(Violation(what))
}
