//! A piece of which some blocks are asked for or here: who owes which block since when.
//!
//! Layer: decisions. Owned by the picker, one for each begun piece (about as many as there are
//! peers), [`BLOCK_SIZE`] bytes a block.

use std::time::{Duration, Instant};

use super::ConnId;

use crate::order;

/// How many peers may owe us the same block. More would only waste what they send.
const ASKED_MAX: usize = 3;

/// When that many were asked, and none has answered for so long, another takes the place of the
/// first of them: slow peers must not be able to keep a block among themselves.
const CROWDED_AGE: Duration = Duration::from_secs(2);

pub(super) struct Begun {
    blocks: Vec<Block>,
    unasked: u32,
    /// Where the search for an unasked block goes on; nothing before it is unasked.
    next: usize,
    /// Who was last asked for a block in the ordinary way. Others leave the piece to it while
    /// they have pieces of their own.
    sender: Option<ConnId>,
}

/// What a block takes on a 64-bit machine: of 50 pieces of 16 MiB begun at a time, 3.5 MiB.
const BLOCK_SIZE: usize = 72;
const _: () = assert!(size_of::<Block>() <= BLOCK_SIZE);

#[derive(Clone)]
struct Block {
    arrived: bool,
    /// Since when it is owed, by the one who was asked last.
    since: Option<Instant>,
    /// In the order in which they were asked.
    asked: [Option<ConnId>; ASKED_MAX],
    /// Who was asked before them and owes it still. Empty unless `asked` is full.
    earlier: Vec<ConnId>,
}

impl Block {
    fn is_unasked(&self) -> bool {
        !self.arrived && self.asked == [None; ASKED_MAX]
    }

    /// Who owes it.
    fn owing(&self) -> impl Iterator<Item = ConnId> + '_ {
        self.earlier.iter().chain(self.asked.iter().flatten()).copied()
    }
}

impl Begun {
    pub fn new(blocks: u32) -> Begun {
        let asked = [None; ASKED_MAX];
        let block = Block { arrived: false, since: None, asked, earlier: Vec::new() };
        Begun { blocks: vec![block; blocks as usize], unasked: blocks, next: 0, sender: None }
    }

    /// How many blocks are neither here nor asked for.
    pub fn unasked(&self) -> u32 {
        self.unasked
    }

    pub fn is_unasked(&self, block: u32) -> bool {
        self.blocks[block as usize].is_unasked()
    }

    pub fn arrived(&self, block: u32) -> bool {
        self.blocks[block as usize].arrived
    }

    pub fn sender(&self) -> Option<ConnId> {
        self.sender
    }

    /// Whether anybody owes us a block.
    pub fn is_asked(&self) -> bool {
        self.asked().next().is_some()
    }

    /// Whether nothing is here and nothing is asked for.
    pub fn is_untouched(&self) -> bool {
        self.unasked as usize == self.blocks.len()
    }

    /// Notes that a peer is asked for the first unasked block.
    pub fn ask_next(&mut self, conn: ConnId, now: Instant) -> Option<u32> {
        if self.unasked == 0 {
            return None;
        }
        let found = self.blocks[self.next..].iter().position(Block::is_unasked);
        let block = self.next + found.expect("one is unasked, and none before `next`");
        self.next = block + 1;
        self.unasked -= 1;
        self.sender = Some(conn);
        self.blocks[block].asked[0] = Some(conn);
        self.blocks[block].since = Some(now);
        Some(block as u32)
    }

    /// Notes that one peer is asked for the first unasked block and all unasked ones that follow it
    /// side by side. Without `since` they are never late by themselves.
    pub fn take_run(&mut self, conn: ConnId, since: Option<Instant>) -> std::ops::Range<u32> {
        let Some(first) = self.blocks[self.next..].iter().position(Block::is_unasked) else {
            return 0..0;
        };
        let first = self.next + first;
        let count = self.blocks[first..].iter().take_while(|block| block.is_unasked()).count();
        for block in &mut self.blocks[first..first + count] {
            (block.asked[0], block.since) = (Some(conn), since);
        }
        self.next = first + count;
        self.unasked -= count as u32;
        self.sender = Some(conn);
        first as u32..(first + count) as u32
    }

    /// Whether all of it was asked for as one run, and is still to come.
    pub fn is_run(&self) -> bool {
        self.unasked == 0 && self.blocks.last().is_some_and(|block| block.since.is_none())
    }

    /// Notes that one more peer is asked for a block that is owed. The first of too many makes
    /// room for it; what that one sends is welcome all the same.
    pub fn ask_again(&mut self, block: u32, conn: ConnId, now: Instant) {
        let block = &mut self.blocks[block as usize];
        let place = block.asked.iter().position(Option::is_none).unwrap_or_else(|| {
            block.earlier.extend(block.asked[0]);
            block.asked.rotate_left(1);
            ASKED_MAX - 1
        });
        block.asked[place] = Some(conn);
        block.since = Some(now);
    }

    /// Whether a block has been owed for at least `age`.
    pub fn is_late(&self, now: Instant, age: Duration) -> bool {
        let late = |since: Instant| age <= now.saturating_duration_since(since);
        let owed = |block: &&Block| !block.arrived && !block.is_unasked();
        self.blocks.iter().filter(owed).any(|block| block.since.is_some_and(late))
    }

    /// The blocks that are owed for at least `age`, but not by this peer, and may be asked again.
    pub fn owed(
        &self,
        conn: ConnId,
        now: Instant,
        age: Duration,
    ) -> impl Iterator<Item = (Instant, u32)> + '_ {
        self.blocks.iter().enumerate().filter_map(move |(i, block)| {
            let since = block.since?;
            let age = if block.asked.contains(&None) { age } else { age.max(CROWDED_AGE) };
            let due = age <= now.saturating_duration_since(since);
            let open = !block.arrived && !block.is_unasked();
            (due && open && block.owing().all(|other| other != conn)).then_some((since, i as u32))
        })
    }

    /// Who owes which block.
    pub fn asked(&self) -> impl Iterator<Item = (ConnId, u32)> + '_ {
        let owed = self.blocks.iter().enumerate().filter(|(_, block)| !block.arrived);
        owed.flat_map(|(i, block)| block.owing().map(move |conn| (conn, i as u32)))
    }

    /// The block is here. Returns who else was asked for it, or `None` if it was here already.
    pub fn arrive(&mut self, block: u32, conn: ConnId) -> Option<Vec<ConnId>> {
        let block = &mut self.blocks[block as usize];
        if block.arrived {
            return None;
        }
        self.unasked -= u32::from(block.is_unasked());
        block.arrived = true;
        let others = block.owing().filter(|&other| other != conn).collect();
        (block.asked, block.earlier) = ([None; ASKED_MAX], Vec::new());
        Some(others)
    }

    /// A peer no longer owes a block; true if nobody does now.
    pub fn release(&mut self, block: u32, conn: ConnId) -> bool {
        let at = block as usize;
        let block = &mut self.blocks[at];
        if let Some(early) = block.earlier.iter().position(|&other| other == conn) {
            block.earlier.remove(early);
            return false;
        }
        let Some(asked) = block.asked.iter_mut().find(|asked| **asked == Some(conn)) else {
            return false;
        };
        // Whoever made room takes the place: the block is not unasked while anybody owes it.
        *asked = block.earlier.pop();
        // `ask_next` fills the first place and expects it to be free.
        order::sort_by_key(&mut block.asked, Option::is_none);
        if self.sender == Some(conn) {
            self.sender = None;
        }
        let unasked = block.is_unasked();
        if unasked {
            self.unasked += 1;
            self.next = self.next.min(at);
        }
        unasked
    }
}
