//! What the nodes of a swarm are before it is played, and what happens to the network meanwhile.
//!
//! Layer: programs. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::bitfield::Bitfield;
use crate::swarm::Without;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Seed,
    Honest,
    /// Takes, and never gives.
    FreeRider,
    /// Takes from the server, as it is meant to; there is nobody else it knows.
    Client,
    /// Half of the blocks it sends are wrong.
    Liar,
    /// Has everything, and never unchokes anybody.
    Miser,
    /// Says that it has everything, has nothing, and answers no request.
    Boaster,
}

/// What a peer is, before it joins.
#[derive(Debug, Clone)]
pub struct Nature {
    pub kind: Kind,
    /// Bytes a second.
    pub up: f64,
    pub down: f64,
    pub latency: Duration,
    pub joins: Duration,
    pub leaves: Option<Duration>,
    /// It leaves when it has sent so many copies.
    pub leaves_after: Option<f64>,
    pub super_seed: bool,
    /// Rules it does not keep.
    pub without: Without,
    pub in_order: bool,
    /// It starts with half of the pieces, which half follows from this number: of several in a row
    /// each lacks what others have.
    pub half: Option<u32>,
}

impl Nature {
    /// Whether it has everything from the start.
    pub fn starts_full(&self) -> bool {
        matches!(self.kind, Kind::Seed | Kind::Miser)
    }

    /// What it has from the start, of so many pieces.
    pub fn start(&self, pieces: u32) -> Bitfield {
        match self.half {
            _ if self.starts_full() => Bitfield::full(pieces),
            Some(half) => Bitfield::with(pieces, (0..pieces).filter(|p| (p + half) % 6 < 3)),
            None => Bitfield::new(pieces),
        }
    }
}

/// What happens to the network itself.
#[derive(Debug, Clone, Default)]
pub struct Weather {
    /// Nobody who joins from then on is told of anybody.
    pub tracker_dies: Option<Duration>,
    pub partition: Option<Partition>,
}

/// The nodes from this one on cannot reach the others, and the other way round, for a while.
#[derive(Debug, Clone)]
pub struct Partition {
    pub first: usize,
    pub from: Duration,
    pub until: Duration,
}

/// `S` is the seed, `1` to `n` are leechers, `F1` is a free rider, and so on.
pub fn names(natures: &[Nature]) -> Vec<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut name = |nature: &Nature| {
        let letter = match nature.kind {
            Kind::Seed => "S",
            Kind::Honest | Kind::Client => "",
            Kind::FreeRider => "F",
            Kind::Liar => "L",
            Kind::Miser => "M",
            Kind::Boaster => "B",
        };
        let count = counts.entry(letter).or_default();
        *count += 1;
        if letter == "S" && *count == 1 { "S".to_owned() } else { format!("{letter}{count}") }
    };
    natures.iter().map(&mut name).collect()
}
