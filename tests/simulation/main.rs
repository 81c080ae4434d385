//! Plays swarms in virtual time, with links that have a capacity and a length, and checks what no
//! unit test can: that everybody completes, how soon, and at what cost to the seed.
//!
//! The time of the last leecher is compared with what no protocol could beat:
//! max(F/Us, N·F/(Us + ΣUl), F/Dmin), for a file of F bytes, N leechers, a seed that sends Us and
//! leechers that send Ul and receive D bytes a second.
//!
//! `SIMULATION_SWARMS=1000 cargo test --release --test simulation -- --nocapture` plays more of them.

mod crowd;

use std::time::Duration;

use crowd::{crowd, geometry, honest};
use piecemeal::geometry::Geometry;
use piecemeal::lab::outcome::{self, Outcome};
use piecemeal::lab::world::{Kind, Nature, Node, Weather, World};

/// How many swarms of a random kind are played, unless told otherwise.
const SWARMS: u64 = 120;

const MBIT: f64 = 1e6 / 8.0;

fn play(geometry: Geometry, natures: Vec<Nature>, seed: u64) -> Outcome {
    outcome::play(geometry, natures, Weather::default(), false, seed).1
}

/// One seed with 10 Mbit/s, and 16 leechers with 10 up and 50 down; 24 MiB. It may super-seed, and
/// leave after so many copies.
fn flash_crowd(piece_length: u32, super_seed: bool, leaves: Option<f64>, seed: u64) -> Outcome {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut natures = vec![honest(10.0 * MBIT, 10.0 * MBIT, 10)];
    natures[0].kind = Kind::Seed;
    natures[0].super_seed = super_seed;
    natures[0].leaves_after = leaves;
    for _ in 0..16 {
        let mut nature = honest(10.0 * MBIT, 50.0 * MBIT, rng.u64(10..=40));
        nature.joins = Duration::from_millis(rng.u64(100..300));
        natures.push(nature);
    }
    play(geometry(24 << 20, piece_length), natures, seed)
}

/// Twenty machines with 25 Mbit/s both ways get 16 MiB from one of them.
fn cluster(piece_length: u32, super_seed: bool, seed: u64) -> Outcome {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut natures = vec![honest(25.0 * MBIT, 25.0 * MBIT, 1); 20];
    natures[0].kind = Kind::Seed;
    natures[0].super_seed = super_seed;
    natures[1..].iter_mut().for_each(|n| n.joins = Duration::from_millis(rng.u64(100..300)));
    play(geometry(16 << 20, piece_length), natures, seed)
}

fn name(piece_length: u32, super_seed: bool) -> String {
    let how = if super_seed { "super-seeds" } else { "rations" };
    format!("pieces of {} KiB, the seed {how}", piece_length >> 10)
}

#[test]
fn a_flash_crowd_is_over_soon_after_the_seed_has_sent_everything_once() {
    for (piece_length, seed) in [(256 << 10, 1), (256 << 10, 2), (64 << 10, 3), (16 << 10, 4)] {
        for super_seed in [false, true] {
            let outcome = flash_crowd(piece_length, super_seed, None, seed);
            println!("flash crowd, {}: {outcome}", name(piece_length, super_seed));
            assert!(0.75 <= outcome.bound / outcome.last && outcome.copies <= 1.2, "{outcome}");
        }
    }
    // There are hardly more pieces than leechers.
    let outcomes: Vec<Outcome> =
        (5..13).map(|seed| flash_crowd(1 << 20, false, None, seed)).collect();
    for outcome in &outcomes {
        println!("flash crowd, {}: {outcome}", name(1 << 20, false));
    }
    let mean = |of: fn(&Outcome) -> f64| outcomes.iter().map(of).sum::<f64>() / 8.0;
    let (efficiency, copies) = (mean(Outcome::efficiency), mean(|outcome| outcome.out.1));
    assert!(
        0.6 <= efficiency && copies <= 1.05,
        "{efficiency:.3}, all out after {copies:.3} copies"
    );
}

#[test]
fn a_seed_may_leave_after_one_copy() {
    for (piece_length, seed) in [(256 << 10, 1), (64 << 10, 2), (16 << 10, 3)] {
        for super_seed in [false, true] {
            let outcome = flash_crowd(piece_length, super_seed, Some(1.05), seed);
            println!("the seed leaves, {}: {outcome}", name(piece_length, super_seed));
            assert!(outcome.last.is_finite(), "{outcome}");
        }
    }
}

#[test]
fn a_cluster_shares_what_one_machine_has() {
    for (piece_length, seed) in [(256 << 10, 1), (256 << 10, 2), (16 << 10, 3)] {
        for super_seed in [false, true] {
            let outcome = cluster(piece_length, super_seed, seed);
            println!("cluster, {}: {outcome}", name(piece_length, super_seed));
            // Since the first of them joined.
            assert!(outcome.last <= 9.3, "{outcome}");
        }
    }
}

/// Twelve who give and four who do not, with the same lines.
#[test]
fn who_does_not_give_comes_last() {
    for seed in 0..2 {
        let mut natures = vec![honest(20.0 * MBIT, 20.0 * MBIT, 20); 17];
        natures[0] = honest(16.0 * MBIT, 16.0 * MBIT, 20);
        natures[0].kind = Kind::Seed;
        natures[13..].iter_mut().for_each(|nature| nature.kind = Kind::FreeRider);
        natures[1..].iter_mut().for_each(|nature| nature.up = 4.0 * MBIT);
        let outcome = play(geometry(16 << 20, 128 << 10), natures, seed);
        println!("free riders: {outcome}");
        assert!(outcome.honest < outcome.riders, "{outcome}");
    }
}

/// Three each with 1, 2, 4, 8 and 16 Mbit/s up, and three who give nothing; all with 50 down.
/// The mean times, in that order.
fn order(seed: u64) -> Vec<f64> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut natures = vec![honest(10.0 * MBIT, 50.0 * MBIT, 10)];
    natures[0].kind = Kind::Seed;
    for i in 0..18 {
        let up = [1.0, 2.0, 4.0, 8.0, 16.0, 10.0][i / 3];
        let mut nature = honest(up * MBIT, 50.0 * MBIT, rng.u64(10..=40));
        if i / 3 == 5 {
            nature.kind = Kind::FreeRider;
        }
        nature.joins = Duration::from_millis(rng.u64(100..300));
        natures.push(nature);
    }
    let mut world =
        World::new(geometry(24 << 20, 16 << 10), natures, Weather::default(), false, seed);
    world.run(Duration::from_secs(300), |world| {
        world.nodes[1..].iter().all(|node| node.finished.is_some())
    });
    let time = |node: &Node| node.finished.map_or(f64::INFINITY, |at| at.as_secs_f64());
    let times: Vec<f64> = world.nodes[1..].iter().map(time).collect();
    times.chunks(3).map(|three| three.iter().sum::<f64>() / 3.0).collect()
}

#[test]
fn who_gives_more_is_done_sooner() {
    let mut mean = [0.0; 6];
    for seed in 0..4 {
        let times = order(seed);
        println!("1, 2, 4, 8, 16 Mbit/s up, and none: {times:.1?}");
        mean.iter_mut().zip(times).for_each(|(mean, time)| *mean += time / 4.0);
    }
    let [one, two, four, eight, sixteen, none] = mean;
    assert!(sixteen.max(eight).max(four) < two && two < one && two < none, "{mean:.1?}");
}

#[test]
fn any_crowd() {
    let swarms = std::env::var("SIMULATION_SWARMS").ok().and_then(|n| n.parse().ok());
    let swarms: u64 = swarms.unwrap_or(SWARMS);
    let mut failed = Vec::new();
    let mut waste = [0.0; 2];
    let (mut efficiency, mut copies, mut n) = ([0.0; 2], [0.0; 2], [0.0; 2]);
    let mut later = Vec::new();
    for seed in 0..swarms {
        // The large ones are for those who have the time.
        let peers_max = match seed {
            SWARMS.. if seed % 10 == 0 => 200,
            _ if seed % 10 == 0 => 30,
            _ => 8,
        };
        let (geometry, natures) = crowd(seed, peers_max);
        let shows = natures[0].super_seed;
        let leaves = natures[0].leaves_after.is_some();
        let peers = natures.len();
        let outcome = play(geometry, natures, seed);
        println!("{seed}: {peers} peers, super {shows}, leaves {leaves}: {outcome}");
        if outcome.last.is_finite() {
            let i = usize::from(shows);
            efficiency[i] += outcome.bound / outcome.last;
            copies[i] += outcome.copies;
            n[i] += 1.0;
            waste[i] += outcome.wasted;
            if outcome.riders.is_finite() {
                later.push(outcome.riders / outcome.honest);
            }
        } else {
            failed.push(seed);
        }
    }
    for (i, name) in ["shows all", "super-seeds"].iter().enumerate() {
        let [efficiency, copies, waste] = [efficiency[i], copies[i], waste[i]].map(|x| x / n[i]);
        println!("{name}: {efficiency:.3} of the bound, {copies:.2} copies, {waste:.3} wasted");
    }
    let mean = later.iter().sum::<f64>() / later.len() as f64;
    println!("free riders take {mean:.2} times as long as those who give");
    assert!(failed.is_empty(), "honest peers that did not complete in {failed:?}");
}
