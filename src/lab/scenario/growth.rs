//! Swarms of different sizes: what it costs that many want it.
//!
//! Layer: programs. Pure.

use super::{MBIT, MIB, Scenario, crowd, honest, seconds, sized, usual, variant};
use crate::lab::world::{Kind, Nature};
use std::time::Duration;

pub const ONE_SEED: Scenario = Scenario {
    name: "one-seed",
    about: "one seed and eight leechers on equal lines",
    variants: |peers| vec![variant("swarm", usual(peers.unwrap_or(8)))],
    lesson: |runs| {
        let o = &runs[0].outcome;
        format!(
            "The seed sent {:.2} copies and {} peers got one each: {:.0} % of what they needed came from \
             each other. The last was done after {}, at {:.0} % of the speed that no protocol can beat.",
            o.copies,
            o.done,
            100.0 * (1.0 - o.copies / o.done as f64).max(0.0),
            seconds(o.last),
            100.0 * o.efficiency()
        )
    },
};

pub const WHY_P2P: Scenario = Scenario {
    name: "why-p2p",
    about: "a server alone against a swarm, for 1 to 32 who want the file",
    variants: |peers| {
        let counts =
            [1, 2, 4, 8, 16, 32, 64, 128].into_iter().filter(|n| *n <= peers.unwrap_or(32));
        let both = |n: usize| {
            let swarm = crowd(n, 8.0 * MBIT, 4.0 * MBIT, 16.0 * MBIT);
            let mut alone = swarm.clone();
            // Clients of a server: they take, and give nothing.
            alone[1..].iter_mut().for_each(|nature| nature.kind = Kind::Client);
            [
                variant(&format!("server, {n} clients"), alone),
                variant(&format!("swarm, {n} peers"), swarm),
            ]
        };
        counts.flat_map(both).collect()
    },
    lesson: |runs| {
        let ([few, fewer, ..], [.., server, swarm]) = (runs, runs) else { return String::new() };
        let times = |many: f64, few: f64| many / few;
        format!(
            "With {} who want it instead of {} the server needs {:.1} times as long ({}), the swarm {:.1} \
             times ({}): to a server each client is one more to serve, to a swarm each brings an uplink \
             along.",
            swarm.outcome.of,
            few.outcome.of,
            times(server.outcome.last, few.outcome.last),
            seconds(server.outcome.last),
            times(swarm.outcome.last, fewer.outcome.last),
            seconds(swarm.outcome.last),
        )
    },
};

pub const FLASH_CROWD: Scenario = Scenario {
    name: "flash-crowd",
    about: "a release: everybody comes at once, and there is one seed",
    variants: |peers| {
        let natures = crowd(peers.unwrap_or(16), 10.0 * MBIT, 10.0 * MBIT, 50.0 * MBIT);
        vec![sized(24 * MIB, 64 << 10, "crowd", natures)]
    },
    lesson: |runs| {
        let o = &runs[0].outcome;
        format!(
            "{} peers were served in {}, {:.2} times the bound of {}. When every piece had left the seed \
             it had sent {:.2} copies: what it sends twice before that, somebody waits for.",
            o.done,
            seconds(o.last),
            1.0 / o.efficiency(),
            seconds(o.bound),
            o.out.1
        )
    },
};

/// As `tests/simulation` plays it.
pub const CLUSTER: Scenario = Scenario {
    name: "cluster",
    about: "twenty machines with 25 Mbit/s both ways get 16 MiB from one of them",
    variants: |peers| {
        let line = honest(25.0 * MBIT, 25.0 * MBIT, 1);
        let mut natures = vec![line.clone(); peers.unwrap_or(19) + 1];
        natures[0] = Nature { kind: Kind::Seed, ..line };
        natures[1..].iter_mut().for_each(|nature| nature.joins = Duration::from_millis(100));
        vec![sized(16 * MIB, 256 << 10, "cluster", natures)]
    },
    lesson: |runs| {
        let o = &runs[0].outcome;
        format!(
            "The last of {} was done after {} ({} on average), and the source sent {:.2} copies; {} is \
             what one copy takes on the line of the source.",
            o.of,
            seconds(o.last),
            seconds(o.honest),
            o.copies,
            seconds(o.bound)
        )
    },
};
