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
//! | `scenario` | the swarms, and what they teach |
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

use outcome::Outcome;
use record::Moment;
use scenario::{Scenario, Variant};
use world::{Kind, World};

/// A variant, after it was played.
pub struct Played {
    pub label: String,
    pub world: World,
    pub outcome: Outcome,
    /// Bytes that each node got from each other one: `received[to][from]`.
    pub received: Vec<Vec<u64>>,
}

/// Plays all variants of a scenario, with the same seed of the random generator for each.
pub fn play(scenario: &Scenario, peers: Option<usize>, rng: u64) -> Vec<Played> {
    (scenario.variants)(peers).into_iter().map(|variant| play_one(variant, rng)).collect()
}

fn play_one(variant: Variant, rng: u64) -> Played {
    let Variant { label, geometry, natures, weather } = variant;
    let (world, outcome) = outcome::play(geometry, natures, weather, true, rng);
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

    /// Decisions whose text begins so.
    pub fn decisions(&self, start: &str) -> usize {
        self.count(|m| matches!(m, Moment::Decided { text, .. } if text.starts_with(start)))
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
