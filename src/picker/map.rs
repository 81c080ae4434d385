//! The pieces as a map: what is here, what is on its way, how rare the rest is.
//!
//! Layer: decisions. Pure; a pass over the pieces, made only when somebody looks.

use super::Picker;

/// Some neighbouring pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cell {
    pub pieces: u32,
    /// Of these: verified.
    pub have: u32,
    /// Of these: some block is asked for, or here.
    pub begun: u32,
    /// How many of the connected peers have the rarest of the rest; `None`: nothing else is wanted.
    pub rarest: Option<u32>,
}

impl Picker {
    /// All pieces in at most so many cells, each but the last with as many pieces as the others.
    pub fn map(&self, cells: usize) -> Vec<Cell> {
        let pieces = self.geometry.pieces();
        let each = pieces.div_ceil(u32::try_from(cells.max(1)).unwrap_or(u32::MAX)).max(1);
        let mut map = vec![Cell::default(); pieces.div_ceil(each) as usize];
        for piece in 0..pieces {
            let cell = &mut map[(piece / each) as usize];
            cell.pieces += 1;
            if self.have.contains(piece) {
                cell.have += 1;
            } else if self.begun.contains_key(&piece) {
                cell.begun += 1;
            } else if self.wanted.contains(piece) {
                let has = self.availability(piece);
                cell.rarest = Some(cell.rarest.map_or(has, |rarest| rarest.min(has)));
            }
        }
        map
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::{Candidate, ConnId};
    use super::*;
    use crate::bitfield::Bitfield;
    use crate::geometry::Geometry;

    #[test]
    fn what_is_here_on_its_way_and_rare() {
        let geometry = Geometry::new(10 * 16_384, 16_384).expect("a geometry");
        let have = Bitfield::with(10, [0, 1]);
        let mut picker = Picker::new(geometry, have, fastrand::Rng::with_seed(1));
        picker.peer_came(&Bitfield::full(10));
        let some = Bitfield::with(10, [2]);
        picker.peer_came(&some);
        let peer =
            Candidate { conn: ConnId(1), has: &some, only: None, slow: false, suggested: &[] };
        picker.pick(&peer, 2, 1, Instant::now(), &mut Vec::new());
        let map = picker.map(4);
        let cell = |pieces, have, begun, rarest| Cell { pieces, have, begun, rarest };
        let rest = cell(3, 0, 0, Some(1));
        assert_eq!(map, [cell(3, 2, 1, None), rest, rest, cell(1, 0, 0, Some(1))]);
        assert_eq!((picker.map(0).len(), picker.map(1_000).len()), (1, 10));
    }
}
