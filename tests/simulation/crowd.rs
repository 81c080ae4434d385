//! Swarms made up by a random generator: sizes, lines, distances, and who behaves how.

use std::time::Duration;

use piecemeal::geometry::Geometry;

pub use piecemeal::lab::scenario::honest;
use piecemeal::lab::world::{Kind, Nature};

const KIB: f64 = 1024.0;

pub fn geometry(size: u64, piece_length: u32) -> Geometry {
    Geometry::new(size, piece_length).expect("a geometry")
}

/// A swarm of up to so many peers. Every fourth has a seed that leaves.
pub fn crowd(seed: u64, peers_max: u64) -> (Geometry, Vec<Nature>) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let piece_length = (16 * 1024) << rng.u32(0..4);
    let leaves = rng.u8(0..4) == 0;
    let pieces = if leaves { rng.u64(100..130) } else { rng.u64(20..60) };
    let geometry = geometry(pieces * u64::from(piece_length) - rng.u64(0..16_000), piece_length);
    let peers = rng.u64(2..=peers_max);
    let (slow, fast) = (40.0 * KIB, 1000.0 * KIB);
    let line = |rng: &mut fastrand::Rng| {
        let up = slow * (fast / slow).powf(rng.f64());
        honest(up, up * (1.0 + 5.0 * rng.f64()), rng.u64(2..120))
    };
    let mut first = Nature { kind: Kind::Seed, ..line(&mut rng) };
    first.super_seed = leaves || rng.bool();
    if leaves {
        first.leaves_after = Some(1.2);
    }
    // What a seed that leaves has given must not leave too, or be kept by those who do not give.
    let still = if leaves { 0.0 } else { 1.0 };
    let (riders, churn) = (still * rng.f64() * 0.3, still * rng.f64() * 0.3);
    let liars = if leaves { 0 } else { rng.u64(0..3) };
    let size = geometry.total_length() as f64;
    let mut natures = vec![first];
    for i in 0..peers {
        let mut nature = line(&mut rng);
        nature.joins = Duration::from_millis(rng.u64(0..2_000));
        if 2 <= i && i < 2 + liars {
            nature.kind = Kind::Liar;
        } else if 2 <= i && rng.f64() < riders {
            nature.kind = Kind::FreeRider;
        } else if 2 <= i && rng.f64() < churn {
            let stays = rng.f64() * size / nature.down;
            nature.leaves = Some(nature.joins + Duration::from_secs_f64(stays));
        } else if rng.f64() < 0.2 {
            nature.joins += Duration::from_secs_f64(rng.f64() * size / natures[0].up);
        }
        natures.push(nature);
    }
    (geometry, natures)
}
