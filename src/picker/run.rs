//! What to ask of a server that has whole files (BEP 19): not blocks here and there, but one long run
//! of them, since each request costs a round trip and a server sends a range in order.
//!
//! ```text
//! pieces   v v v b b . . . . . . v . . b . . .      v verified, b begun by peers
//!                    └─────────┘                    the longest gap; a run begins at its start
//! ```
//!
//! 1. **The longest gap.** Whole pieces that nobody is at, where most of them lie side by side: peers
//!    take what is rare, here and there, and the gaps that are left are filled from the longest on.
//!    A server that can only send a file from its start gets the next gap instead.
//! 2. **What is left of a begun piece**, when no piece is untouched.
//! 3. **What others owe for too long**, when nothing is unasked.
//!
//! Blocks of a run do not become late by themselves, so no endgame asks peers for them: who owes a run
//! gives the end of it away when others have nothing to do (see the swarm's `web_seeds`).
//!
//! In order the first of all this is the best, and before it comes rule 3, for what a reader will want
//! next.
//! There the blocks of a run do become late: each is due when it should come at the server's rate. A
//! slow server works ahead, as slow peers do ([`in_order`](super::in_order)), and does nothing else.
//!
//! Layer: decisions. A part of the picker.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::begun::Begun;
use super::{ConnId, Picker, Reason};
use crate::bitfield::Bitfield;
use crate::geometry::{PieceIndex, Span};

/// A server helps out with blocks that others have owed for so long. A peer's answer that comes
/// sooner is on its way; a request to a server costs it more than one to a peer.
const LATE: Duration = Duration::from_secs(1);

/// Nobody is expected to need longer for a run.
const DUE_MAX: Duration = Duration::from_secs(60);

/// Where a run may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// At the longest gap.
    Anywhere,
    /// At the first gap from this piece on, or else at the first of all.
    Piece(PieceIndex),
    /// In order, of a server that sends so many bytes a second, if that is known.
    Window { rate: u64 },
    /// The same for one that is slow: what nobody waits for yet.
    Ahead { rate: u64 },
}

impl From {
    /// When a block of a run is due, which starts so many bytes behind the run's start. `None`: it
    /// never becomes late.
    fn due(self, bytes: u64, now: Instant) -> Option<Instant> {
        let (From::Window { rate } | From::Ahead { rate }) = self else { return None };
        let wait = Duration::try_from_secs_f64(bytes as f64 / rate as f64).unwrap_or_default();
        Some(now + wait.min(DUE_MAX))
    }
}

impl Picker {
    /// Whether every block that we lack is asked of somebody.
    pub fn is_all_asked(&self) -> bool {
        self.unasked == 0 && self.rarity.is_empty()
    }

    /// Chooses blocks that lie side by side, of at most so many bytes or of one piece, to be asked of
    /// one that has these pieces; notes that it was asked. Empty if there is nothing for it.
    pub fn pick_run(
        &mut self,
        conn: ConnId,
        has: &Bitfield,
        from: From,
        bytes: u64,
        now: Instant,
    ) -> (Vec<Span>, Reason) {
        if let From::Window { .. } = from {
            let end = self.window_end();
            let (spans, reason) = self.help_out(conn, has, end, now);
            if !spans.is_empty() {
                return (spans, reason);
            }
        }
        let length = u64::from(self.geometry.piece_length());
        let max = (bytes / length).clamp(1, u64::from(u32::MAX));
        let gap = self.gap(has, from, max as u32);
        // In order, what is begun may come before it.
        let begun = if let From::Window { .. } = from { self.left_over(has, now) } else { None };
        let begun = begun.filter(|begun| gap.as_ref().is_none_or(|gap| *begun < gap.start));
        if let Some(pieces) = gap.filter(|_| begun.is_none()) {
            let first = pieces.start;
            let spans = pieces.flat_map(|piece| {
                self.begin(piece);
                let due = from.due(u64::from(piece - first) * length, now);
                self.take_run(piece, conn, due)
            });
            return (spans.collect(), Reason::Gap);
        }
        if let From::Ahead { .. } = from {
            return (Vec::new(), Reason::Gap);
        }
        if let Some(piece) = self.left_over(has, now) {
            return (self.take_run(piece, conn, from.due(0, now)), Reason::Join);
        }
        self.help_out(conn, has, self.geometry.pieces(), now)
    }

    /// Untouched pieces side by side, all of which are offered.
    fn gap(&mut self, has: &Bitfield, from: From, max: u32) -> Option<Range<PieceIndex>> {
        let first = match from {
            From::Anywhere => None,
            From::Piece(first) => Some(first),
            From::Window { .. } => Some(0),
            From::Ahead { .. } => Some(self.window_end()),
        };
        let again = if let From::Piece(first) = from { 0..first } else { 0..0 };
        let open = |piece: PieceIndex| self.rarity.contains(piece) && has.contains(piece);
        let pieces = self.geometry.pieces();
        let length = |start: PieceIndex, end: PieceIndex| {
            (start..end).take_while(|&piece| open(piece)).count() as u32
        };
        if let Some(first) = first {
            let all = (first..pieces).chain(again.start..again.end.min(pieces));
            let start = all.into_iter().find(|&piece| open(piece))?;
            return Some(start..start + length(start, pieces.min(start.saturating_add(max))));
        }
        let (mut best, mut piece) = (0..0, 0);
        while piece < pieces {
            let gap = length(piece, pieces);
            if best.len() < gap as usize {
                best = piece..piece + gap;
            }
            // The piece that ended the gap is not open.
            piece += gap + 1;
        }
        best.end = best.end.min(best.start.saturating_add(max));
        (!best.is_empty()).then_some(best)
    }

    /// A begun piece of which blocks are unasked, and which is nobody's alone.
    fn left_over(&self, has: &Bitfield, now: Instant) -> Option<PieceIndex> {
        let open = |(&piece, begun): (&PieceIndex, &Begun)| {
            let alone = begun.is_asked() && self.is_for_one_alone(piece, begun, now);
            (begun.unasked() != 0 && has.contains(piece) && !alone).then_some(piece)
        };
        self.begun.iter().find_map(open)
    }

    fn take_run(&mut self, piece: PieceIndex, conn: ConnId, since: Option<Instant>) -> Vec<Span> {
        let blocks = self.begun.get_mut(&piece).expect("begun").take_run(conn, since);
        self.unasked -= blocks.len() as u32;
        blocks.map(|block| self.geometry.block(piece, block)).collect()
    }

    /// Rule 3: blocks of one piece before `end`, side by side.
    fn help_out(
        &mut self,
        conn: ConnId,
        has: &Bitfield,
        end: PieceIndex,
        now: Instant,
    ) -> (Vec<Span>, Reason) {
        for (&piece, begun) in self.begun.range_mut(..end) {
            let mut late: Vec<u32> = Vec::new();
            if has.contains(piece) && !self.suspects.contains(&piece) {
                let owed = begun.owed(conn, now, LATE).map(|(_, block)| block);
                let mut owed = owed.peekable();
                let first = owed.peek().copied().unwrap_or(0);
                late.extend((first..).zip(owed).take_while(|(a, b)| a == b).map(|(a, _)| a));
            }
            if !late.is_empty() {
                late.iter().for_each(|&block| begun.ask_again(block, conn, now));
                let spans = late.into_iter().map(|block| self.geometry.block(piece, block));
                return (spans.collect(), Reason::Help { due: LATE });
            }
        }
        (Vec::new(), Reason::Gap)
    }
}
