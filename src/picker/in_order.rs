//! In order: for `--sequential`, and for bytes that somebody reads while they come (`-o -`).
//!
//! ```text
//! pieces  |##|##|##| 3  4  5 | 6  7  8  9 …          ## verified
//!                   └ window ┘└ ahead ───►
//! ```
//!
//! The *window* begins with the first piece that is missing: what a reader waits for. The rules, in the
//! order in which they are tried for a peer that can take requests:
//!
//! 1. **What is late of the first piece**, as soon as somebody would wait for it, and then **the first
//!    block that nobody was asked for**, of the first piece that the peer has. Pieces are shared: one
//!    piece from eight peers is there sooner than eight pieces.
//! 2. **Nothing beyond the window before its late blocks are asked again**: whoever can send more is
//!    asked for what a slow or silent peer holds up. The first answer wins.
//! 3. **Slow peers work ahead** of the window, where there is time for them: a block that is two seconds
//!    on its way would hold up everybody who is quicker. Only if a quick peer has what the reader
//!    waits for.
//! 4. Endgame and help as ever ([`picker`](super)).
//!
//! Rarity has no say, so nobody ever waits for it.
//!
//! Layer: decisions. A part of the picker.

use std::time::{Duration, Instant};

use super::{Candidate, Picker, Reason};
use crate::geometry::{PieceIndex, Span};

/// How much is urgent: so many bytes, and no fewer pieces than that. About a second of a film of the
/// highest quality; more would be asked for twice without need.
const WINDOW_LEN: u64 = 4 << 20;
const WINDOW_PIECES: u32 = 2;

/// A block in the window that is due for so long is asked again; of the first piece, which is what
/// the reader waits for, before anything else, and sooner by who has nothing else to send in the
/// window. (What is asked of a peer ahead is half a second's worth.)
const LATE: Duration = Duration::from_secs(1);
const LATE_FIRST: Duration = Duration::from_millis(500);

impl Picker {
    /// The pieces come in their order.
    pub fn in_order(mut self) -> Picker {
        self.in_order = true;
        self
    }

    /// The first piece that is wanted and missing.
    pub fn first_missing(&mut self) -> Option<PieceIndex> {
        let pieces = self.geometry.pieces();
        // What is verified stays so: the search goes on where it ended.
        while self.first < pieces && !self.lacks(self.first) {
            self.first += 1;
        }
        (self.first < pieces).then_some(self.first)
    }

    /// The piece behind the window.
    pub(super) fn window_end(&mut self) -> PieceIndex {
        let pieces = WINDOW_LEN.div_ceil(u64::from(self.geometry.piece_length()));
        let first = self.first_missing().unwrap_or(self.geometry.pieces());
        // At most `WINDOW_LEN`, for pieces of one byte.
        first.saturating_add((pieces as u32).max(WINDOW_PIECES))
    }

    /// Rules 1 to 3.
    pub(super) fn pick_in_order(
        &mut self,
        peer: &Candidate,
        goal: usize,
        now: Instant,
        picked: &mut Vec<(Span, Reason)>,
    ) {
        let end = self.window_end();
        let begin = if peer.slow { end } else { 0 };
        if !peer.slow {
            let first = self.first.saturating_add(1);
            self.pick_late(peer, first, LATE, goal, now, picked);
        }
        let mut doubled = false;
        while picked.len() < goal {
            let piece = self.next_open(peer, begin, now).or_else(|| self.next_open(peer, 0, now));
            if !doubled && !peer.slow && piece.is_none_or(|piece| end <= piece) {
                doubled = true;
                self.pick_late(peer, end, LATE_FIRST, goal, now, picked);
                continue;
            }
            let Some(piece) = piece else { return };
            if self.rarity.contains(piece) {
                self.begin(piece);
            }
            self.take(piece, peer.conn, Reason::InOrder, goal, now, picked);
        }
    }

    /// The first piece, not before `begin`, with a block that this peer may be asked for.
    fn next_open(&self, peer: &Candidate, begin: PieceIndex, now: Instant) -> Option<PieceIndex> {
        let open = self.begun.range(begin..).find(|(piece, begun)| {
            let alone = begun.sender() != Some(peer.conn)
                && begun.is_asked()
                && self.is_for_one_alone(**piece, begun, now);
            begun.unasked() != 0 && !alone && peer.offers(**piece)
        });
        let open = open.map(|(&piece, _)| piece);
        let fresh = match peer.only {
            None => self.rarity.first_of(peer.has, begin),
            Some(only) => {
                let fresh =
                    |p: &PieceIndex| begin <= *p && self.rarity.contains(*p) && peer.offers(*p);
                only.iter().copied().filter(fresh).min()
            }
        };
        open.into_iter().chain(fresh).min()
    }

    /// Late blocks of the pieces before `end`, in order; those of the first piece when they are due for
    /// `first`.
    fn pick_late(
        &mut self,
        peer: &Candidate,
        end: PieceIndex,
        first: Duration,
        goal: usize,
        now: Instant,
        picked: &mut Vec<(Span, Reason)>,
    ) {
        let mut late = Vec::new();
        for (&piece, begun) in self.begun.range(..end).filter(|(piece, _)| peer.offers(**piece)) {
            if begun.sender().is_some() && self.is_for_one_alone(piece, begun, now) {
                continue;
            }
            let age = if piece == self.first { first } else { LATE };
            late.extend(
                begun.owed(peer.conn, now, age).map(|(since, block)| (piece, block, since)),
            );
        }
        for (piece, block, since) in late.into_iter().take(goal.saturating_sub(picked.len())) {
            let due = now.saturating_duration_since(since);
            self.begun.get_mut(&piece).expect("listed").ask_again(block, peer.conn, now);
            picked.push((self.geometry.block(piece, block), Reason::Urgent { due }));
        }
    }
}
