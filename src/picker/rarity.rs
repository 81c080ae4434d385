//! Pieces in the order of their rarity, kept while peers come, go and tell what they got.
//!
//! ```text
//! order:   [ 7 3 | 0 9 4 | 1 8 2 ]      pieces, rarest first, shuffled among equals
//! bounds:    0     2       5            where the pieces with 0, 1, 2 … peers begin
//! ```
//!
//! When one more peer has a piece, it changes places with the last of its group and the boundary
//! moves over it: a step of constant time, whatever the size of the torrent. Peers that have all
//! pieces change no order and are only counted.
//!
//! Layer: decisions. Owned by the picker.

use crate::bitfield::Bitfield;
use crate::geometry::PieceIndex;

/// A piece that is not in the order: verified, or begun.
const ABSENT: u32 = u32::MAX;

/// So many places of the order are searched for a piece that a peer has. Nearly always one of the
/// first is; a peer that has hardly any would cost a pass over the order for nothing, each time.
const SEARCH_MAX: usize = 4_096;

pub(super) struct Rarity {
    /// How many peers have each piece, those that have all not counted.
    counts: Vec<u16>,
    /// Peers that have every piece.
    seeds: u32,
    order: Vec<PieceIndex>,
    /// Where in `order` a piece is, or [`ABSENT`].
    place: Vec<u32>,
    /// The pieces in the order, to be compared with what a peer has.
    present: Bitfield,
    /// `bounds[n]` is where the pieces with `n` peers begin; the last entry is the order's length.
    bounds: Vec<u32>,
}

impl Rarity {
    pub fn new(pieces: u32, rng: &mut fastrand::Rng) -> Rarity {
        let mut order: Vec<PieceIndex> = (0..pieces).collect();
        rng.shuffle(&mut order);
        let mut place = vec![ABSENT; pieces as usize];
        for (at, &piece) in order.iter().enumerate() {
            place[piece as usize] = at as u32;
        }
        let (counts, bounds) = (vec![0; pieces as usize], vec![0, pieces]);
        Rarity { counts, seeds: 0, order, place, present: Bitfield::full(pieces), bounds }
    }

    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    pub fn contains(&self, piece: PieceIndex) -> bool {
        self.place[piece as usize] != ABSENT
    }

    pub fn availability(&self, piece: PieceIndex) -> u32 {
        u32::from(self.counts[piece as usize]) + self.seeds
    }

    pub fn add_all(&mut self, has: &Bitfield) {
        if has.is_full() {
            self.seeds += 1;
        } else {
            has.iter().for_each(|piece| self.add_one(piece));
        }
    }

    pub fn remove_all(&mut self, has: &Bitfield) {
        if has.is_full() {
            self.seeds -= 1;
        } else {
            has.iter().for_each(|piece| self.remove_one(piece));
        }
    }

    /// A peer that was counted got one more piece; `has` is what it has now. With its last piece
    /// it becomes one of those that are only counted.
    pub fn peer_has(&mut self, has: &Bitfield, piece: PieceIndex) {
        if has.is_full() {
            has.iter().filter(|&other| other != piece).for_each(|other| self.remove_one(other));
            self.seeds += 1;
        } else {
            self.add_one(piece);
        }
    }

    /// A peer that was counted has one piece less; `has` is what it has now. Without its first piece
    /// it is none of those any more that are only counted.
    pub fn peer_lost(&mut self, has: &Bitfield, piece: PieceIndex) {
        if has.count() + 1 == has.len() {
            self.seeds -= 1;
            has.iter().for_each(|other| self.add_one(other));
        } else {
            self.remove_one(piece);
        }
    }

    fn add_one(&mut self, piece: PieceIndex) {
        let count = self.counts[piece as usize];
        self.counts[piece as usize] = count.checked_add(1).expect("fewer than 65536 peers");
        if self.contains(piece) {
            // The last of the group goes to the piece's place, the boundary over the piece.
            let group = usize::from(count);
            if self.bounds.len() <= group + 2 {
                self.bounds.push(self.order.len() as u32);
            }
            self.bounds[group + 1] -= 1;
            self.swap(piece, self.bounds[group + 1]);
        }
    }

    /// One peer less has the piece.
    fn remove_one(&mut self, piece: PieceIndex) {
        let count = self.counts[piece as usize];
        self.counts[piece as usize] = count.checked_sub(1).expect("the peer was counted");
        if self.contains(piece) {
            let group = usize::from(count);
            self.swap(piece, self.bounds[group]);
            self.bounds[group] += 1;
        }
    }

    /// Takes a piece out of the order; nothing if it is not in it.
    pub fn remove(&mut self, piece: PieceIndex) {
        if !self.contains(piece) {
            return;
        }
        // From group to group the gap moves to the end of the order, and is cut off there.
        for group in usize::from(self.counts[piece as usize])..self.bounds.len() - 1 {
            self.bounds[group + 1] -= 1;
            self.swap(piece, self.bounds[group + 1]);
        }
        self.order.pop();
        self.place[piece as usize] = ABSENT;
        self.present.remove(piece);
    }

    /// Puts a piece back into the order.
    pub fn insert(&mut self, piece: PieceIndex) {
        if self.contains(piece) {
            return;
        }
        self.place[piece as usize] = self.order.len() as u32;
        self.order.push(piece);
        self.present.insert(piece);
        let count = usize::from(self.counts[piece as usize]);
        while self.bounds.len() < count + 2 {
            self.bounds.push(self.order.len() as u32 - 1);
        }
        for group in (count + 1..self.bounds.len()).rev() {
            self.swap(piece, self.bounds[group]);
            self.bounds[group] += 1;
        }
    }

    /// Exchanges a piece with the one at a place of the order.
    fn swap(&mut self, piece: PieceIndex, at: u32) {
        let from = self.place[piece as usize];
        let other = self.order[at as usize];
        self.order.swap(from as usize, at as usize);
        self.place[piece as usize] = at;
        self.place[other as usize] = from;
    }

    /// The rarest piece of those that a peer has.
    pub fn rarest(&self, has: &Bitfield) -> Option<PieceIndex> {
        let mut order = self.order.iter().copied();
        let first = order.by_ref().take(SEARCH_MAX).find(|&piece| has.contains(piece));
        first.or_else(|| {
            let few: Vec<PieceIndex> = self.present.common(has).take(SEARCH_MAX).collect();
            match few.len() {
                SEARCH_MAX => order.find(|&piece| has.contains(piece)),
                _ => few.into_iter().min_by_key(|&piece| self.place[piece as usize]),
            }
        })
    }

    /// The first piece, not before `begin`, of those that a peer has.
    pub fn first_of(&self, has: &Bitfield, begin: PieceIndex) -> Option<PieceIndex> {
        self.present.common_from(has, begin).next()
    }

    /// Some piece of those that a peer has, from a random place on.
    pub fn random_of(&self, start: u32, has: &Bitfield) -> Option<PieceIndex> {
        let start = start as usize % self.order.len().max(1);
        let (before, after) = self.order.split_at(start);
        let mut some = after.iter().chain(before).take(SEARCH_MAX).copied();
        some.find(|&piece| has.contains(piece)).or_else(|| self.present.common(has).next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The order must be sorted by count, the places and bounds must agree with it.
    fn assert_sound(rarity: &Rarity) {
        let counts: Vec<u16> = rarity.order.iter().map(|&p| rarity.counts[p as usize]).collect();
        assert!(counts.is_sorted(), "{counts:?}");
        for (at, &piece) in rarity.order.iter().enumerate() {
            assert_eq!(rarity.place[piece as usize], at as u32);
            let group = usize::from(rarity.counts[piece as usize]);
            assert!((rarity.bounds[group]..rarity.bounds[group + 1]).contains(&(at as u32)));
        }
        assert_eq!(*rarity.bounds.last().unwrap() as usize, rarity.order.len());
        assert_eq!(rarity.present.count() as usize, rarity.order.len());
    }

    #[test]
    fn the_order_stays_sorted_whatever_happens() {
        for seed in 0..50 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut rarity = Rarity::new(20, &mut rng);
            let mut peers: Vec<Bitfield> = Vec::new();
            for _ in 0..300 {
                match rng.u8(..8) {
                    0 => {
                        let all = rng.bool();
                        let has = Bitfield::with(20, (0..20).filter(|_| all || rng.bool()));
                        rarity.add_all(&has);
                        peers.push(has);
                    }
                    1 if !peers.is_empty() => {
                        let gone = peers.swap_remove(rng.usize(..peers.len()));
                        rarity.remove_all(&gone);
                    }
                    2 | 3 if !peers.is_empty() => {
                        let peer = rng.usize(..peers.len());
                        let piece = rng.u32(..20);
                        if peers[peer].insert(piece) {
                            rarity.peer_has(&peers[peer], piece);
                        }
                    }
                    4 | 5 if !peers.is_empty() => {
                        let peer = rng.usize(..peers.len());
                        let piece = rng.u32(..20);
                        if peers[peer].remove(piece) {
                            rarity.peer_lost(&peers[peer], piece);
                        }
                    }
                    6 => rarity.remove(rng.u32(..20)),
                    _ => rarity.insert(rng.u32(..20)),
                }
                assert_sound(&rarity);
                for piece in 0..20 {
                    let have = peers.iter().filter(|has| has.contains(piece)).count();
                    assert_eq!(rarity.availability(piece), have as u32);
                }
            }
        }
    }

    #[test]
    fn the_rarest_of_what_a_peer_has() {
        let mut rarity = Rarity::new(3, &mut fastrand::Rng::with_seed(1));
        [0, 0, 1].into_iter().for_each(|piece| rarity.add_one(piece));
        let mut has = Bitfield::full(3);
        assert_eq!(rarity.rarest(&has), Some(2));
        has.remove(2);
        assert_eq!(rarity.rarest(&has), Some(1));
        rarity.remove(1);
        assert_eq!(rarity.rarest(&has), Some(0));
        assert_eq!(rarity.random_of(7, &has), Some(0));
        assert_eq!(rarity.rarest(&Bitfield::new(3)), None);
    }

    #[test]
    fn a_few_pieces_among_many_are_found_behind_the_search() {
        let pieces = 3 * SEARCH_MAX as u32;
        let mut rarity = Rarity::new(pieces, &mut fastrand::Rng::with_seed(1));
        let [last, third] =
            [1, SEARCH_MAX].map(|from_end| rarity.order[pieces as usize - from_end]);
        let has = Bitfield::with(pieces, [last, third]);
        assert_eq!(rarity.rarest(&has), Some(third));
        assert!(has.contains(rarity.random_of(0, &has).unwrap()));
        rarity.remove(third);
        assert_eq!(rarity.rarest(&has), Some(last));
        rarity.remove(last);
        assert_eq!((rarity.rarest(&has), rarity.random_of(0, &has)), (None, None));
    }
}
