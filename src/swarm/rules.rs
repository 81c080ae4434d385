//! Rules that can be left out, to measure what each is worth. `get` and `seed` always keep them all;
//! the [`lab`](crate::lab) plays swarms without (`piecemeal lab SCENARIO --without RULE`).
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
    /// Who gives nothing gets nothing, and is not tried either.
    pub optimistic: bool,
    /// The only seed of a crowd answers requests as they come, and not first for what nobody has.
    pub rationing: bool,
}

impl Without {
    /// The names of the rules.
    pub const NAMES: [&str; 5] =
        ["rarest-first", "endgame", "tit-for-tat", "optimistic", "rationing"];

    /// Leaves one more out, by its name. `None`: there is none of this name.
    pub fn leave_out(&mut self, name: &str) -> Option<()> {
        let rules = [
            &mut self.rarest_first,
            &mut self.endgame,
            &mut self.tit_for_tat,
            &mut self.optimistic,
            &mut self.rationing,
        ];
        let (_, rule) = Self::NAMES.iter().zip(rules).find(|(known, _)| **known == name)?;
        *rule = true;
        Some(())
    }

    /// What either leaves out.
    pub fn and(self, other: Without) -> Without {
        Without {
            rarest_first: self.rarest_first || other.rarest_first,
            endgame: self.endgame || other.endgame,
            tit_for_tat: self.tit_for_tat || other.tit_for_tat,
            optimistic: self.optimistic || other.optimistic,
            rationing: self.rationing || other.rationing,
        }
    }
}
