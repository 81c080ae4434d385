//! What the swarm decided, with the reason as data: for `--trace`, for the log, for tests.
//!
//! Layer: decisions.

use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use crate::address_book::Source;
use crate::choker;
use crate::geometry::{PieceIndex, Span};
use crate::picker::{ConnId, Reason};
use crate::printable::printable;
use crate::units::{count, size};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    Dial {
        conn: ConnId,
        addr: SocketAddr,
        source: Source,
        /// How often it failed since it was last of use.
        failures: u32,
        /// Addresses that could be dialled instead.
        others: usize,
        /// Places that were free for it.
        free: usize,
    },
    /// A peer is here: who it is, and what it has.
    Welcome {
        conn: ConnId,
        addr: SocketAddr,
        client: String,
        incoming: bool,
    },
    Interest {
        conn: ConnId,
        pieces: u32,
    },
    NoInterest {
        conn: ConnId,
    },
    Request {
        conn: ConnId,
        span: Span,
        reason: Reason,
        /// How many blocks it owes with this one, and gives in a second, in bytes.
        queue: usize,
        rate: u64,
    },
    /// A block came, so long after the request.
    Came {
        conn: ConnId,
        span: Span,
        after: Duration,
    },
    /// The block came from somebody else.
    Cancel {
        conn: ConnId,
        span: Span,
    },
    Unchoke {
        conn: ConnId,
        reason: choker::Reason,
    },
    Choke {
        conn: ConnId,
        reason: choker::Reason,
    },
    /// The only seed of a crowd answers what a peer asked for of a piece.
    Grant {
        conn: ConnId,
        piece: PieceIndex,
        why: Granted,
    },
    /// The peer owes us blocks for too long: others are asked for them.
    Snub {
        conn: ConnId,
        waited: Duration,
        blocks: usize,
    },
    Drop {
        conn: ConnId,
        addr: SocketAddr,
        reason: DropReason,
    },
    Ban {
        addr: SocketAddr,
        reason: BanReason,
    },
    /// A web seed is asked for so many bytes, from this block on.
    Fetch {
        conn: ConnId,
        first: Span,
        bytes: u64,
        reason: Reason,
    },
    /// The last blocks that a web seed was asked for go to others, which have nothing to do.
    GiveWay {
        conn: ConnId,
        blocks: usize,
    },
    /// Something is the matter with a web seed.
    WebSeed {
        place: String,
        why: String,
        sequel: Sequel,
    },
    /// The piece did not match its hash; so many peers contributed.
    Corrupt {
        piece: PieceIndex,
        senders: usize,
    },
}

/// Why the only seed of a crowd answers this request before others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Granted {
    /// Nobody has the piece, and nobody is sent it.
    Fresh,
    /// Who has it does not pass it on.
    Stuck,
    /// It was granted some of the piece already.
    Begun,
    /// It has waited for too long; perhaps for a first copy.
    Starved { first: bool },
    /// Nothing else is under way.
    Idle,
}

impl Granted {
    pub fn is_first_copy(self) -> bool {
        matches!(self, Granted::Fresh | Granted::Stuck | Granted::Starved { first: true })
    }
}

impl fmt::Display for Granted {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Granted::Fresh => "nobody else has it, and of those who ask it passes on most",
            Granted::Stuck => "who has it does not pass it on",
            Granted::Begun => "the rest of a piece that it has some of",
            Granted::Starved { .. } => "it has waited for long",
            Granted::Idle => "the line is idle, though others have it",
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DropReason {
    /// It is this very client.
    Ourselves,
    /// We are connected to it already.
    Duplicate {
        of: ConnId,
    },
    /// It broke the protocol.
    Violation(String),
    /// It sends messages that mean nothing.
    Flood,
    /// It chokes, refuses or sends nothing, and another address waits for the place.
    Useless {
        after: Duration,
    },
    /// It owes us blocks and sends none.
    Stalled {
        waited: Duration,
    },
    /// It refused so many requests in a row.
    Refuses {
        requests: u32,
    },
    Banned,
    /// It asks for blocks and does not take them.
    Deaf {
        time: Duration,
    },
    /// It has everything, and so have we.
    Seeds,
    /// It hung up, or the connection broke.
    Gone(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BanReason {
    /// It alone sent a piece that does not match its hash.
    SentCorruptPiece(PieceIndex),
    /// Its block of this piece differs from the one that matched.
    SentCorruptBlock(PieceIndex),
    /// It alone sent metadata that does not match the info hash.
    SentCorruptMetadata,
    Ourselves,
}

/// What becomes of a web seed after something went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sequel {
    /// It is asked again, but not sooner.
    Again(Duration),
    /// It is not asked for these pieces any more: those of a file.
    Without(Range<PieceIndex>),
    GivenUp,
}

impl Sequel {
    /// One word for it.
    pub fn state(&self) -> &'static str {
        match self {
            Sequel::Again(_) => "paused",
            Sequel::Without(_) => "lacks",
            Sequel::GivenUp => "given_up",
        }
    }
}

impl Decision {
    /// Whether it goes into the log without being asked for: something went wrong and was mended.
    pub fn matters(&self) -> bool {
        match self {
            Decision::Corrupt { .. } => true,
            Decision::WebSeed { sequel, .. } => *sequel == Sequel::GivenUp,
            Decision::Ban { reason, .. } => *reason != BanReason::Ourselves,
            Decision::Drop { reason, .. } => {
                matches!(reason, DropReason::Violation(_) | DropReason::Flood)
            }
            _ => false,
        }
    }

    /// Whom it is about: connection and address, as far as the decision itself knows.
    pub fn peer(&self) -> (Option<ConnId>, Option<SocketAddr>) {
        match *self {
            Decision::Dial { conn, addr, .. }
            | Decision::Welcome { conn, addr, .. }
            | Decision::Drop { conn, addr, .. } => (Some(conn), Some(addr)),
            Decision::Interest { conn, .. }
            | Decision::NoInterest { conn }
            | Decision::Request { conn, .. }
            | Decision::Came { conn, .. }
            | Decision::Cancel { conn, .. }
            | Decision::Unchoke { conn, .. }
            | Decision::Choke { conn, .. }
            | Decision::Grant { conn, .. }
            | Decision::Fetch { conn, .. }
            | Decision::GiveWay { conn, .. }
            | Decision::Snub { conn, .. } => (Some(conn), None),
            Decision::Ban { addr, .. } => (None, Some(addr)),
            Decision::WebSeed { .. } | Decision::Corrupt { .. } => (None, None),
        }
    }

    /// Which part of the program decided, for the filter of `--trace`.
    pub fn topic(&self) -> &'static str {
        match self {
            Decision::Request { .. }
            | Decision::Came { .. }
            | Decision::Cancel { .. }
            | Decision::Snub { .. }
            | Decision::Fetch { .. }
            | Decision::GiveWay { .. } => "picker",
            Decision::Corrupt { .. } => "assembler",
            Decision::Unchoke { .. } | Decision::Choke { .. } | Decision::Grant { .. } => "choker",
            _ => "swarm",
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Decision::Dial { conn, addr, source, failures, others, free } => {
                write!(f, "dial {addr} as {conn}: known from {source}, try {}; ", failures + 1)?;
                let (free, others) = (count(*free as u64, "place"), count(*others as u64, "other"));
                write!(f, "{free} free, {others} to dial (fewest failures first)")
            }
            Decision::Welcome { conn, addr, client, incoming } => {
                let how = if *incoming { "dialled us" } else { "answered" };
                write!(f, "{addr} ({client}) {how}, it is {conn}")
            }
            Decision::Interest { conn, pieces } => {
                write!(f, "interested in {conn}: it has {pieces} pieces that we lack")
            }
            Decision::NoInterest { conn } => {
                write!(f, "not interested in {conn}: it has nothing that we lack")
            }
            Decision::Request { conn, span, reason, queue, rate } => {
                write!(f, "request {span} of {conn}: {reason}; ")?;
                let rate = match rate {
                    0 => "has yet to show its rate".to_owned(),
                    rate => format!("gives {}/s", size(*rate)),
                };
                write!(f, "{conn} {rate}, and owes {queue} with it")
            }
            Decision::Came { conn, span, after } => {
                let ms = after.as_secs_f64() * 1e3;
                write!(f, "{span} of {conn} came {ms:.1} ms after its request")
            }
            Decision::Cancel { conn, span } => {
                write!(f, "cancel {span} of {conn}: it came from somebody else")
            }
            Decision::Unchoke { conn, reason } => write!(f, "unchoke {conn}: {reason}"),
            Decision::Choke { conn, reason } => write!(f, "choke {conn}: {reason}"),
            Decision::Grant { conn, piece, why } => write!(f, "send {conn} piece {piece}: {why}"),
            Decision::Snub { conn, waited, blocks } => write!(
                f,
                "{conn} has sent nothing for {:.1} s: {blocks} blocks are asked of others",
                waited.as_secs_f64()
            ),
            Decision::Drop { conn, addr, reason } => write!(f, "drop {addr} ({conn}): {reason}"),
            Decision::Ban { addr, reason } => write!(f, "ban {addr}: {reason}"),
            Decision::Fetch { conn, first, bytes, reason } => {
                write!(f, "fetch {bytes} bytes from {first} on of web seed {conn}: {reason}")
            }
            Decision::GiveWay { conn, blocks } => {
                write!(f, "the last {blocks} blocks of web seed {conn} go to who is free")
            }
            Decision::WebSeed { place, why, sequel } => match sequel {
                Sequel::GivenUp => write!(f, "web seed {place} is given up: {why}"),
                Sequel::Again(pause) => {
                    write!(f, "web seed {place}: {why}; again in {} s", pause.as_secs())
                }
                Sequel::Without(pieces) => {
                    let (first, last) = (pieces.start, pieces.end.saturating_sub(1));
                    write!(f, "web seed {place}: {why}; pieces {first}-{last} come from others")
                }
            },
            Decision::Corrupt { piece, senders: 1 } => {
                write!(f, "piece {piece} does not match its hash; one peer sent it all")
            }
            Decision::Corrupt { piece, senders } => write!(
                f,
                "piece {piece} does not match its hash; {senders} peers contributed, so it is \
                 fetched from one alone and compared"
            ),
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            DropReason::Ourselves => f.write_str("it has our own peer id"),
            DropReason::Duplicate { of } => write!(f, "it is {of}, connected already"),
            DropReason::Violation(rule) => write!(f, "it broke the protocol: {}", printable(rule)),
            DropReason::Flood => f.write_str("too many messages that mean nothing"),
            DropReason::Useless { after } => {
                write!(f, "of no use for {} s, and another address waits", after.as_secs())
            }
            DropReason::Stalled { waited } => {
                write!(f, "owes us blocks for {} s", waited.as_secs())
            }
            DropReason::Refuses { requests } => write!(f, "refused {requests} requests in a row"),
            DropReason::Banned => f.write_str("banned"),
            DropReason::Deaf { time } => {
                write!(f, "took none of the blocks it asked for in {} s", time.as_secs())
            }
            DropReason::Seeds => f.write_str("it has everything, and so have we"),
            DropReason::Gone(why) => f.write_str(&printable(why)),
        }
    }
}

impl fmt::Display for BanReason {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            BanReason::SentCorruptPiece(piece) => {
                write!(f, "it alone sent piece {piece}, which does not match its hash")
            }
            BanReason::SentCorruptBlock(piece) => {
                write!(f, "its block of piece {piece} differs from the one that matches the hash")
            }
            BanReason::SentCorruptMetadata => {
                f.write_str("it alone sent metadata that does not match the info hash")
            }
            BanReason::Ourselves => f.write_str("it is ourselves"),
        }
    }
}
