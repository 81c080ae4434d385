//! A run as one page that needs no network: flows, maps, curves and decisions, with a slider.
//!
//! The page is `replay.html` with the record written into it as JSON. Text in it is our own, but for
//! `<`, which is escaped all the same: a string may not end the script that it is in.
//!
//! Layer: programs. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Played;
use super::outcome::time;
use super::record::Moment;
use super::scenario::Scenario;
use super::world::Kind;
use crate::json::{self, Object};

const PAGE: &str = include_str!("replay.html");

/// Flows are added up over a two-hundredth of the run.
const BUCKETS: u128 = 200;

/// The whole page.
pub fn page(scenario: &Scenario, rng: u64, runs: &[Played]) -> String {
    let data = Object::new()
        .str("name", scenario.name)
        .str("about", scenario.about)
        .str("lesson", &(scenario.lesson)(runs))
        .num("rng", rng)
        .raw("runs", &json::array(runs.iter().map(run_json)))
        .done();
    PAGE.replace("/*DATA*/", &data.replace('<', "\\u003c"))
}

/// A line of the JSON output: the sums and each node's.
pub fn summary_json(run: &Played) -> Object {
    let nodes = (0..run.world.nodes.len()).map(|at| node_json(run, at).done());
    sums_json(run).raw("peers", &json::array(nodes))
}

fn sums_json(run: &Played) -> Object {
    let finite =
        |number: f64| if number.is_finite() { format!("{number:.3}") } else { "null".into() };
    let o = &run.outcome;
    Object::new()
        .str("label", &run.label)
        .raw("bound", &finite(o.bound))
        .raw("last", &finite(o.last))
        .raw("mean", &finite(o.honest))
        .raw("efficiency", &finite(o.efficiency()))
        .raw("copies", &finite(o.copies))
        .raw("wasted", &finite(o.wasted))
        .num("completed", o.done as u64)
        .num("leechers", o.of as u64)
}

fn node_json(run: &Played, at: usize) -> Object {
    let node = &run.world.nodes[at];
    let kind = match node.nature.kind {
        Kind::Seed => "seed",
        Kind::Honest => "leecher",
        Kind::FreeRider => "free rider",
        Kind::Client => "client",
        Kind::Liar => "liar",
        Kind::Miser => "miser",
        Kind::Boaster => "boaster",
    };
    let took = time(node);
    let took = if took.is_finite() { format!("{took:.3}") } else { "null".to_owned() };
    let sources =
        run.received[at].iter().copied().zip(&run.world.names).filter(|(bytes, _)| *bytes != 0);
    let sources = sources.fold(Object::new(), |object, (bytes, name)| object.num(name, bytes));
    Object::new()
        .str("name", &run.world.names[at])
        .str("kind", kind)
        .num("up", node.nature.up as u64)
        .num("down", node.nature.down as u64)
        .raw("seconds", &took)
        .num("received", node.received)
        .num("sent", node.sent)
        .raw("from", &sources.done())
}

fn ms(at: Duration) -> u128 {
    at.as_millis()
}

fn run_json(run: &Played) -> String {
    let record = &run.world.record;
    let end = ms(record.end()).max(1);
    let bucket = (end / BUCKETS).max(1);
    let mut flows: BTreeMap<(u128, usize, usize), u64> = BTreeMap::new();
    let (mut stored, mut decisions) = (Vec::new(), Vec::new());
    let mut left: BTreeMap<usize, u128> = BTreeMap::new();
    for (node, known) in run.world.nodes.iter().enumerate() {
        if known.nature.half.is_some() {
            let has = known.nature.start(run.world.geometry.pieces());
            stored.extend(has.iter().map(|piece| format!("[0,{node},{piece}]")));
        }
    }
    for (at, moment) in &record.moments {
        let at = ms(*at);
        match moment {
            Moment::Block { from, to, bytes } => {
                *flows.entry((at / bucket, *from, *to)).or_default() += u64::from(*bytes);
            }
            Moment::Stored { node, piece } => stored.push(format!("[{at},{node},{piece}]")),
            Moment::Decided { node, about, text } => {
                let about = about.map_or(-1, |about| about as i64);
                decisions.push(format!("[{at},{node},{about},{}]", json::string(text)));
            }
            Moment::Left { node } => drop(left.insert(*node, at)),
            Moment::Joined { .. } | Moment::Finished { .. } | Moment::Corrupt { .. } => {}
        }
    }
    let flow = |((bucket, from, to), bytes)| format!("[{bucket},{from},{to},{bytes}]");
    let node = |at: usize| {
        let node = &run.world.nodes[at];
        node_json(run, at)
            .num("joins", ms(node.nature.joins) as u64)
            .num_or_null("left", left.get(&at).map(|at| *at as u64))
            .bool("full", node.nature.starts_full())
            .done()
    };
    sums_json(run)
        .num("end", end as u64)
        .num("bucket", bucket as u64)
        .num("pieces", run.world.geometry.pieces())
        .raw("nodes", &json::array((0..run.world.nodes.len()).map(node)))
        .raw("stored", &json::array(stored))
        .raw("flows", &json::array(flows.into_iter().map(flow)))
        .raw("decisions", &json::array(decisions))
        .done()
}
