//! The lab: whole swarms on this machine, to watch, to measure and to break.
//!
//! ```text
//! scenario ─► variants ─► world (real swarms, a network that is not there) ─► record ─┬─► table
//!                                                                                    ├─► live view
//!                                                                                    └─► page
//! ```
//!
//! Every peer is a real [`Swarm`](crate::swarm::Swarm): the very code that decides for `get` and
//! `seed`. What is made up is what is around it: lines with a capacity and a length, people who come,
//! leave, lie and break things, and the clock. So a minute passes in a moment, and the same `--rng`
//! plays the same run to the last block.
//!
//! | file | what it holds |
//! |---|---|
//! | [`scenario`] | the swarms, and what they teach |
//! | `nature` | what a peer is, and what happens to the network |
//! | `world`, `link` | the network and the clock |
//! | `record` | what happened |
//! | `outcome` | sums, and the time that no protocol can beat |
//! | `live` | the run again, on a terminal |
//! | `page` | the run again, in a browser |
//!
//! Layer: programs. Pure, but for `live`, which draws.

pub mod live;
pub mod outcome;
pub mod page;
pub mod record;
pub mod scenario;
pub mod world;

mod link;
mod nature;

use std::collections::BTreeSet;
use std::time::Duration;

use outcome::Outcome;
use record::{Moment, Record};
use scenario::{Scenario, Variant};
use world::{Kind, World};

use crate::geometry::Geometry;
use crate::swarm::Without;
use crate::trace::Trace;

/// A variant, after it was played.
pub struct Played {
    pub label: String,
    pub world: World,
    pub outcome: Outcome,
    /// Bytes that each node got from each other one: `received[to][from]`.
    pub received: Vec<Vec<u64>>,
}

/// So many pieces a torrent has at most, about, unless the user says otherwise.
const PIECES: u64 = 2048;

/// What the user turns: it holds for every variant of a scenario.
#[derive(Debug, Clone, Default)]
pub struct Knobs {
    /// Left out at everybody.
    pub without: Without,
    /// Of every leecher, and of the seed, in bytes a second.
    pub up: Option<f64>,
    pub down: Option<f64>,
    pub seed_up: Option<f64>,
    /// Of the torrent, and of a piece, in bytes.
    pub size: Option<u64>,
    pub piece_length: Option<u32>,
}

impl Knobs {
    fn turn(&self, variant: &mut Variant) {
        let size = self.size.unwrap_or(variant.geometry.total_length());
        // A larger torrent has larger pieces too, or its pieces were too many to play.
        let least = (size / PIECES).next_power_of_two() as u32;
        let piece_length = self.piece_length.unwrap_or(variant.geometry.piece_length().max(least));
        if let Some(geometry) = Geometry::new(size, piece_length) {
            variant.geometry = geometry;
        }
        for nature in &mut variant.natures {
            nature.without = nature.without.and(self.without);
            let (up, down) = match nature.kind {
                Kind::Seed => (self.seed_up, self.seed_up),
                _ => (self.up, self.down),
            };
            nature.up = up.unwrap_or(nature.up);
            nature.down = down.unwrap_or(nature.down);
        }
    }
}

/// Plays all variants of a scenario, with the same seed of the random generator for each.
pub fn play(scenario: &Scenario, peers: Option<usize>, knobs: &Knobs, rng: u64) -> Vec<Played> {
    play_watched(scenario, peers, knobs, rng, Trace::off())
}

/// The same, with every decision of everybody told to the trace.
pub fn play_watched(
    scenario: &Scenario,
    peers: Option<usize>,
    knobs: &Knobs,
    rng: u64,
    trace: Trace,
) -> Vec<Played> {
    let mut variants = (scenario.variants)(peers);
    variants.iter_mut().for_each(|variant| knobs.turn(variant));
    variants.into_iter().map(|variant| play_one(variant, rng, trace)).collect()
}

fn play_one(variant: Variant, rng: u64, trace: Trace) -> Played {
    let Variant { label, geometry, natures, weather } = variant;
    trace.about_node(Duration::ZERO, "swarm", &label, "begins");
    let record = Record::new(true, trace);
    let (world, outcome) = outcome::play_watched(geometry, natures, weather, record, rng);
    let received = received(&world);
    Played { label, world, outcome, received }
}

impl Played {
    /// The mean times of leechers with the best line, and of the others.
    pub fn fast_and_slow(&self) -> (f64, f64) {
        let honest = || self.world.nodes.iter().filter(|node| node.nature.kind == Kind::Honest);
        let best = honest().map(|node| node.nature.up).fold(0.0, f64::max);
        let mean = |fast: bool| {
            let times = honest().filter(|node| (node.nature.up == best) == fast).map(outcome::time);
            let times: Vec<f64> = times.collect();
            times.iter().sum::<f64>() / times.len() as f64
        };
        (mean(true), mean(false))
    }

    /// Pieces that failed their hash, at all nodes together.
    pub fn corrupt(&self) -> usize {
        self.count(|moment| matches!(moment, Moment::Corrupt { .. }))
    }

    /// How many nodes banned somebody, of how many that could have.
    pub fn banned_by(&self) -> (usize, usize) {
        let bans = self.world.record.moments.iter().filter_map(|(_, moment)| match moment {
            Moment::Decided { node, text, .. } if text.starts_with("ban ") => Some(*node),
            _ => None,
        });
        let bans: BTreeSet<usize> = bans.collect();
        (bans.len(), self.outcome.of)
    }

    /// Blocks that came between two moments to nodes before this one, and to the others.
    pub fn blocks_between(&self, [from, until]: [Duration; 2], first: usize) -> [usize; 2] {
        let mut sums = [0; 2];
        for (at, moment) in &self.world.record.moments {
            if let Moment::Block { to, .. } = moment
                && (from..until).contains(at)
            {
                sums[usize::from(first <= *to)] += 1;
            }
        }
        sums
    }

    fn count(&self, what: impl Fn(&Moment) -> bool) -> usize {
        self.world.record.moments.iter().filter(|(_, moment)| what(moment)).count()
    }
}

fn received(world: &World) -> Vec<Vec<u64>> {
    let n = world.nodes.len();
    let mut received = vec![vec![0; n]; n];
    for (_, moment) in &world.record.moments {
        if let Moment::Block { from, to, bytes } = moment {
            received[*to][*from] += u64::from(*bytes);
        }
    }
    received
}
