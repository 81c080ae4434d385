//! Swarms with a rule of the protocol and without: what the rule is worth.
//!
//! Each is dimensioned so that nothing but the rule decides: where the seed's line is what all wait
//! for, it does not matter who gives to whom.
//!
//! Layer: programs. Pure.

use std::time::Duration;

use super::{
    MBIT, MIB, SAME, Scenario, Variant, against, completed, crowd, honest, seconds, sized, usual,
    variant,
};
use crate::choker::OPTIMISTIC_INTERVAL;
use crate::lab::world::{Kind, Nature};
use crate::lab::{Played, outcome};

/// So much later than those who give must free riders be before giving has paid.
const PAYS: f64 = 1.15;

/// Six who trade among themselves, each with what others lack, and twelve who come with nothing.
fn newcomers(peers: Option<usize>, label: &str, off: bool) -> Variant {
    let trader = honest(2.0 * MBIT, 16.0 * MBIT, 20);
    let mut natures: Vec<Nature> =
        (0..6).map(|i| Nature { half: Some(i), ..trader.clone() }).collect();
    // They give nothing, as who has nothing: what they get is the optimistic unchoke's alone.
    let newcomer = Nature {
        kind: Kind::FreeRider,
        joins: Duration::from_secs(15),
        leaves: Some(Duration::from_secs(600)),
        ..trader
    };
    natures.extend(vec![newcomer; peers.unwrap_or(12)]);
    natures.iter_mut().for_each(|nature| nature.without.optimistic = off);
    sized(160 * MIB, 256 << 10, label, natures)
}

pub const NEWCOMERS: Scenario = Scenario {
    name: "newcomers",
    about: "twelve with nothing come to six who trade: how long is it until their first block?",
    variants: |peers| {
        vec![newcomers(peers, "optimistic unchoke", false), newcomers(peers, "without", true)]
    },
    lesson: |runs| {
        let (served, of, mean) = runs[0].first_blocks();
        let (tried, _, _) = runs[1].first_blocks();
        format!(
            "With an optimistic unchoke that moves on every {} s (OPTIMISTIC_INTERVAL in src/choker.rs) \
             {served} of {of} newcomers got a block while the six traded, the first one after {} on \
             average; without it {tried} did.",
            OPTIMISTIC_INTERVAL.as_secs(),
            seconds(mean)
        )
    },
};

/// A seed, and leechers of which so many take and never give. Every piece is soon out; from then on
/// what counts is who gives to whom.
fn riders(peers: usize, riders: usize, label: &str, off: bool) -> Variant {
    let mut natures = crowd(peers, 4.0 * MBIT, MBIT, 16.0 * MBIT);
    natures.iter_mut().for_each(|nature| nature.without.tit_for_tat = off);
    natures[peers + 1 - riders..].iter_mut().for_each(|nature| nature.kind = Kind::FreeRider);
    sized(32 * MIB, 128 << 10, label, natures)
}

fn giving(run: &Played) -> String {
    let o = &run.outcome;
    let pays = PAYS <= o.riders / o.honest;
    format!(
        "who gave was done after {} on average and who did not after {}: {}",
        seconds(o.honest),
        seconds(o.riders),
        if pays { "giving pays" } else { "giving hardly pays" }
    )
}

fn both(peers: usize, number: usize) -> Vec<Variant> {
    vec![
        riders(peers, number, "tit for tat", false),
        riders(peers, number, "everybody in turn", true),
    ]
}

fn tit_for_tat(runs: &[Played]) -> String {
    format!("With tit for tat {}. Without it {}.", giving(&runs[0]), giving(&runs[1]))
}

pub const TIT_FOR_TAT: Scenario = Scenario {
    name: "tit-for-tat",
    about: "half of sixteen never give; the others reward who gives, or serve everybody in turn",
    variants: |peers| {
        let n = peers.unwrap_or(16);
        both(n, n / 2)
    },
    lesson: tit_for_tat,
};

pub const FREE_RIDERS: Scenario = Scenario {
    name: "free-riders",
    about: "a quarter of sixteen take and never give, with tit for tat and without",
    variants: |peers| {
        let n = peers.unwrap_or(16);
        both(n, (n / 4).max(1))
    },
    lesson: tit_for_tat,
};

pub const PICKING: Scenario = Scenario {
    name: "picking",
    about: "rarest first, at random, or in order, of a seed that answers as asked and is soon gone",
    variants: |peers| {
        let run = |label: &str, random: bool, in_order: bool| {
            let mut natures = crowd(peers.unwrap_or(12), 2.0 * MBIT, 4.0 * MBIT, 16.0 * MBIT);
            natures[0].leaves_after = Some(1.7);
            for nature in &mut natures {
                nature.without.rarest_first = random;
                // Or it would be the seed that takes care that every piece is somewhere.
                nature.without.rationing = true;
                nature.in_order = in_order;
            }
            variant(label, natures)
        };
        vec![
            run("rarest first", false, false),
            run("random", true, false),
            run("in order", false, true),
        ]
    },
    lesson: |runs| {
        let out = |run: &Played| match run.outcome.out.1 {
            copies if copies.is_finite() => {
                format!("every piece had left the seed when it had sent {copies:.2} copies")
            }
            _ => "some pieces never left the seed".to_owned(),
        };
        let line = |run: &Played| format!("{}, {}", completed(run), out(run));
        format!(
            "Rarest first: {}; at random: {}; in order: {}. The sooner each piece is with somebody \
             else, the less depends on the seed.",
            line(&runs[0]),
            line(&runs[1]),
            line(&runs[2])
        )
    },
};

pub const ENDGAME: Scenario = Scenario {
    name: "endgame",
    about: "the last blocks are asked of several peers, or waited for; one peer gives drop by drop",
    variants: |peers| {
        let run = |label: &str, off: bool| {
            let mut natures = usual(peers.unwrap_or(8));
            natures.iter_mut().for_each(|nature| nature.without.endgame = off);
            // What it owes is what the others wait for.
            (natures[1].up, natures[1].down) = (MBIT / 25.0, 4.0 * MBIT);
            variant(label, natures)
        };
        vec![run("with endgame", false), run("without", true)]
    },
    lesson: |runs| {
        // The slow one is the first leecher; it waits for nobody but itself.
        let others = |run: &Played| run.mean(2..run.world.nodes.len());
        let (with, without) = (others(&runs[0]), others(&runs[1]));
        format!(
            "Those who are not slow themselves were done after {} on average with the endgame, after {} \
             without: {}. Of what came {:.1} % was of no use with it, {:.1} % without.",
            seconds(with),
            seconds(without),
            against(with, without),
            100.0 * runs[0].outcome.wasted.max(0.0),
            100.0 * runs[1].outcome.wasted.max(0.0)
        )
    },
};

pub const SUPER_SEEDING: Scenario = Scenario {
    name: "super-seeding",
    about: "the first seed answers as asked, sends first what nobody has, or super-seeds (BEP 16)",
    variants: |peers| {
        let run = |label: &str, as_asked, super_seed| {
            let mut natures = crowd(peers.unwrap_or(16), 4.0 * MBIT, 4.0 * MBIT, 20.0 * MBIT);
            natures[0].super_seed = super_seed;
            natures[0].without.rationing = as_asked;
            variant(label, natures)
        };
        vec![
            run("as asked", true, false),
            run("first what nobody has", false, false),
            run("super-seed", false, true),
        ]
    },
    lesson: |runs| {
        let line = |run: &Played| {
            let o = &run.outcome;
            format!(
                "{:.2} copies, all out after {}, the last done after {}",
                o.copies,
                seconds(o.out.0),
                seconds(o.last)
            )
        };
        let saves = 1.0 - runs[2].outcome.copies / runs[0].outcome.copies;
        let verdict = match SAME <= saves {
            true => format!("super-seeding saved the seed {:.0} % of what it sends", 100.0 * saves),
            false => "super-seeding saved the seed nothing here".to_owned(),
        };
        format!(
            "As asked: {}; first what nobody has (as seed does by itself): {}; super-seeding: {}. Against \
             as asked {verdict}.",
            line(&runs[0]),
            line(&runs[1]),
            line(&runs[2])
        )
    },
};

impl Played {
    /// The mean time of these nodes.
    fn mean(&self, nodes: std::ops::Range<usize>) -> f64 {
        let of = nodes.len() as f64;
        self.world.nodes[nodes].iter().map(outcome::time).sum::<f64>() / of
    }

    /// How many of those who never give got a block, of how many, and after what time on average.
    pub(super) fn first_blocks(&self) -> (usize, usize, f64) {
        // Who is done with trading serves everybody in turn.
        let traded = self.world.nodes.iter().filter(|node| node.nature.kind == Kind::Honest);
        let until = traded.filter_map(|node| node.finished).min().unwrap_or(Duration::MAX);
        let riders = self.world.nodes.iter().filter(|node| node.nature.kind == Kind::FreeRider);
        let waits: Vec<Option<f64>> = riders
            .map(|node| {
                let first = node.first_block.filter(|first| *first < until)?;
                Some((first - node.nature.joins).as_secs_f64())
            })
            .collect();
        let came: Vec<f64> = waits.iter().copied().flatten().collect();
        let mean = match came.len() {
            0 => f64::INFINITY,
            n => came.iter().sum::<f64>() / n as f64,
        };
        (came.len(), waits.len(), mean)
    }
}
