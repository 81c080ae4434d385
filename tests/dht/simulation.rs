//! Ten thousand nodes in virtual time: who announces is found, and at what cost.
//!
//! Each torrent is announced by one node and looked for by another, a minute later. A look-up
//! succeeds if it finds the announcer, whatever else it is told.

use std::time::{Duration, Instant};

use piecemeal::dht::Announce;
use piecemeal::hash::Sha1;

use crate::world::{Nature, World, addr};

/// Unless told otherwise by `DHT_NODES` and `DHT_TORRENTS`.
const NODES: usize = 10_000;
const TORRENTS: usize = 120;

fn number(variable: &str, otherwise: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[derive(Debug)]
struct Outcome {
    succeeded: usize,
    torrents: usize,
    /// Of the look-ups.
    hops: f64,
    hops_max: u32,
    questions: f64,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let Outcome { succeeded, torrents, hops, hops_max, questions } = self;
        write!(f, "{succeeded} of {torrents} found, {hops:.2} hops (at most {hops_max}), ")?;
        write!(f, "{questions:.1} questions a look-up")
    }
}

fn play(nature: Nature, torrents: usize, seed: u64) -> Outcome {
    let start = Instant::now();
    let mut world = World::new(nature, seed);
    let hash = |n: usize| piecemeal::hash::sha1(&n.to_be_bytes());
    let announce = Announce { port: 7000, implied_port: false, seed: false };
    let mut announcers = Vec::new();
    for n in 0..torrents {
        // Every tenth is new here, and must find its way in first.
        let node = if n.is_multiple_of(10) { world.newcomer() } else { world.somebody() };
        world.search(node, hash(n), Some(announce));
        announcers.push(node);
        world.run(Duration::from_millis(100));
    }
    world.run(Duration::from_secs(60));
    let told = |world: &World, n: usize, hash: Sha1| {
        let announced = |(node, s): &(usize, _)| {
            *node == n
                && matches!(s, piecemeal::dht::Searched { info_hash, announced, .. } if *info_hash == hash && *announced != 0)
        };
        world.searched.iter().any(announced)
    };
    let untold = (0..torrents).filter(|&n| !told(&world, announcers[n], hash(n))).count();
    assert_eq!(untold, 0, "announcers that have told nobody");
    world.searched.clear();
    let mut seekers = Vec::new();
    for n in 0..torrents {
        let node = if n % 10 == 1 { world.newcomer() } else { world.somebody() };
        world.search(node, hash(n), None);
        seekers.push(node);
        world.run(Duration::from_millis(100));
    }
    world.run(Duration::from_secs(25));
    let peer = |n: usize| {
        let mut peer = addr(announcers[n]);
        peer.set_port(7000);
        peer
    };
    let found = |n: &usize| world.found.contains(&(seekers[*n], hash(*n), peer(*n)));
    let succeeded = (0..torrents).filter(found).count();
    let rounds: Vec<_> = world.searched.iter().map(|(_, round)| round).collect();
    let count = rounds.len() as f64;
    let outcome = Outcome {
        succeeded,
        torrents,
        hops: rounds.iter().map(|round| f64::from(round.hops)).sum::<f64>() / count,
        hops_max: rounds.iter().map(|round| round.hops).max().unwrap_or(0),
        questions: rounds.iter().map(|round| round.asked as f64).sum::<f64>() / count,
    };
    let (nodes, packets, time) = (nature.nodes, world.packets, start.elapsed().as_secs_f64());
    println!(
        "{nodes} nodes: {outcome}; log2(n) = {:.1}; {packets} packets, played in {time:.1} s",
        (nodes as f64).log2()
    );
    outcome
}

#[test]
fn ten_thousand_nodes_with_loss_churn_and_liars_find_what_was_announced() {
    let nature =
        Nature { nodes: number("DHT_NODES", NODES), lost: 3, dead: 10, dying: 50, liars: 5 };
    let outcome = play(nature, number("DHT_TORRENTS", TORRENTS), 1);
    assert!(99 * outcome.torrents <= 100 * outcome.succeeded, "{outcome}");
    let log = (nature.nodes as f64).log2();
    assert!(outcome.hops <= log / 2.0 && f64::from(outcome.hops_max) <= 2.0 * log, "{outcome}");
    assert!(outcome.questions <= 6.0 * log, "{outcome}");
}

#[test]
fn the_cost_grows_with_the_logarithm_of_the_number_of_nodes() {
    let nature = Nature { nodes: 0, lost: 0, dead: 0, dying: 0, liars: 0 };
    let sizes = [100, 1_000, 10_000];
    let outcomes = sizes.map(|nodes| play(Nature { nodes, ..nature }, 25, 2));
    assert!(outcomes.iter().all(|outcome| outcome.succeeded == outcome.torrents), "{outcomes:?}");
    for pair in outcomes.windows(2) {
        // Ten times the nodes: 3.3 more bits on the way, of which each hop takes at least one.
        assert!(pair[1].hops <= pair[0].hops + 10f64.log2(), "{pair:?}");
        assert!(pair[1].questions <= pair[0].questions + 8.0 * 10f64.log2(), "{pair:?}");
    }
}
