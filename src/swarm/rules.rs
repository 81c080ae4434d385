//! Rules that can be left out, to measure what each is worth. `get` and `seed` always keep them all;
//! the [`lab`](crate::lab) plays swarms without.
//!
//! Layer: decisions. A part of the swarm.

/// What is left out. By default nothing is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Without {
    /// Pieces are taken at random, however rare they are.
    pub rarest_first: bool,
    /// No block is asked of a second peer while the first owes it.
    pub endgame: bool,
    /// Everybody has a turn, whatever they give.
    pub tit_for_tat: bool,
}
