//! What became of a swarm, and how that compares with what no protocol could beat.
//!
//! The bound for N leechers, a file of F bytes, a seed that sends Us and leechers that send Ul and
//! receive D bytes a second, from when the first joins: max(F/Us, N·F/(Us + ΣUl), F/Dmin). The seed must send everything once;
//! all uplinks together must send N copies; the slowest downlink must receive one.
//!
//! Layer: programs. Pure.

use std::fmt;
use std::time::Duration;

use super::record::Record;
use super::world::{Kind, Nature, Node, Weather, World};
use crate::geometry::Geometry;
use crate::trace::Trace;

/// So much longer than the bound a run may take before it is given up.
const PATIENCE: f64 = 20.0;
const PATIENCE_MORE: f64 = 60.0;

/// Sums over a swarm. Times in seconds since the node joined, infinite for what never happened.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub bound: f64,
    /// When the last honest leecher had everything, since the first joined.
    pub last: f64,
    /// The mean times of those who give, and of those who do not.
    pub honest: f64,
    pub riders: f64,
    /// What the seeds sent, in sizes of the torrent.
    pub copies: f64,
    /// When every piece had left the first seed, and what it had sent then, in sizes.
    pub out: (f64, f64),
    /// What came and was of no use, in parts of what was needed.
    pub wasted: f64,
    /// Honest leechers that completed, of so many.
    pub done: usize,
    pub of: usize,
}

impl Outcome {
    /// The part of the bound's speed that was reached, 0 to 1.
    pub fn efficiency(&self) -> f64 {
        if self.last.is_finite() { self.bound / self.last } else { 0.0 }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Outcome { bound, last, honest, riders, copies, out, wasted, .. } = self;
        write!(f, "bound {bound:.1} s, last {last:.1} s ({:.2}), ", self.efficiency())?;
        write!(f, "mean {honest:.1} s, free riders {riders:.1} s, {copies:.2} copies, ")?;
        write!(f, "all out after {:.1} s and {:.3}, {:.1} % wasted", out.0, out.1, 100.0 * wasted)
    }
}

/// The time in seconds that no protocol can beat.
pub fn bound(geometry: &Geometry, natures: &[Nature]) -> f64 {
    let size = geometry.total_length() as f64;
    let seeds = || natures.iter().filter(|n| n.kind == Kind::Seed);
    let seed: f64 = seeds().map(|n| n.up).sum();
    let wants = |n: &&Nature| matches!(n.kind, Kind::Honest | Kind::Client) && n.leaves.is_none();
    let leechers = || natures.iter().filter(wants);
    // A client gives nothing.
    let up: f64 = leechers().filter(|n| n.kind == Kind::Honest).map(|n| n.up).sum();
    let lacks = |n: &Nature| if n.half.is_some() { size / 2.0 } else { size };
    let down = leechers().map(|n| lacks(n) / n.down).fold(0.0, f64::max);
    let all = leechers().map(lacks).sum::<f64>() / (seed + up);
    let out = if seeds().next().is_some() { size / seed } else { 0.0 };
    out.max(all).max(down)
}

/// Plays a swarm until everybody who will ever be done is.
pub fn play(
    geometry: Geometry,
    natures: Vec<Nature>,
    weather: Weather,
    record: bool,
    seed: u64,
) -> (World, Outcome) {
    play_watched(geometry, natures, weather, Record::new(record, Trace::off()), seed)
}

/// The same, with this record of it.
pub fn play_watched(
    geometry: Geometry,
    natures: Vec<Nature>,
    weather: Weather,
    record: Record,
    seed: u64,
) -> (World, Outcome) {
    let bound = bound(&geometry, &natures);
    let latest = natures.iter().map(|n| n.joins.as_secs_f64()).fold(0.0, f64::max);
    let limit = Duration::from_secs_f64(PATIENCE_MORE + latest + PATIENCE * bound);
    let mut world = World::new(geometry, natures, weather, record.kept, seed);
    world.record = record;
    let waits = |node: &Node| {
        !matches!(node.nature.kind, Kind::Liar | Kind::Miser | Kind::Boaster)
            && node.nature.leaves.is_none()
            && node.finished.is_none()
            && !node.gone
    };
    world.run(limit, |world| !world.nodes.iter().any(waits));
    let outcome = outcome(&world, bound);
    (world, outcome)
}

/// How long a node took.
pub fn time(node: &Node) -> f64 {
    let joined = node.nature.joins.as_secs_f64();
    node.finished.map_or(f64::INFINITY, |at| at.as_secs_f64() - joined)
}

fn outcome(world: &World, bound: f64) -> Outcome {
    let of = |kind: Kind| world.nodes.iter().filter(move |node| node.nature.kind == kind);
    let honest = || {
        let stays = |node: &&Node| node.nature.leaves.is_none();
        of(Kind::Honest).chain(of(Kind::Client)).filter(stays)
    };
    let mean = |times: Vec<f64>| times.iter().sum::<f64>() / times.len() as f64;
    let size = world.geometry.total_length() as f64;
    let done = honest().filter(|node| node.finished.is_some()).count();
    // From the moment on at which there is something to do: the bound is of that as well.
    let first = honest().map(|node| node.nature.joins.as_secs_f64()).fold(f64::INFINITY, f64::min);
    let end = |node: &Node| node.finished.map_or(f64::INFINITY, |at| at.as_secs_f64() - first);
    let received: u64 = honest().map(|node| node.received).sum();
    Outcome {
        bound,
        last: honest().map(end).fold(0.0, f64::max),
        honest: mean(honest().map(time).collect()),
        riders: mean(of(Kind::FreeRider).map(time).collect()),
        copies: of(Kind::Seed).map(|node| node.sent).sum::<u64>() as f64 / size,
        out: world.out.map_or((f64::INFINITY, f64::INFINITY), |(at, sent)| {
            (at.as_secs_f64(), sent as f64 / size)
        }),
        wasted: received as f64 / size / done as f64 - 1.0,
        done,
        of: honest().count(),
    }
}
