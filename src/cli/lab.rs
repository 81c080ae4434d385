//! `piecemeal lab [SCENARIO]`: plays a whole swarm in virtual time, shows it, and says what it teaches.
//!
//! Layer: programs.

use std::io::IsTerminal;

use anyhow::{Context, Result};

use super::flags::Args;
use super::output::Output;
use super::{Exit, Misuse};
use crate::json::Object;
use crate::lab::scenario::{SCENARIOS, Scenario, seconds};
use crate::lab::{self, Played, live, outcome, page};
use crate::printable::clipped;
use crate::units::size;

/// Leechers at most: the sum of their decisions is what takes the time.
const PEERS_MAX: usize = 200;

pub fn run(args: &Args) -> Result<Exit> {
    let mut out = Output::new();
    let [name] = args.operands.as_slice() else {
        for scenario in SCENARIOS {
            match args.json {
                true => out.line(
                    Object::new().str("name", scenario.name).str("about", scenario.about).done(),
                )?,
                false => out.line(format!("{:<16} {}", scenario.name, scenario.about))?,
            }
        }
        out.finish()?;
        return Ok(Exit::Done);
    };
    let name = name.to_string_lossy();
    let known = SCENARIOS.iter().find(|scenario| scenario.name == name);
    let scenario = known.ok_or_else(|| {
        Misuse(format!("no scenario {}; piecemeal lab lists them", clipped(&name, 40)))
    })?;
    let peers = args.leechers.map(|n| usize::from(n).clamp(2, PEERS_MAX));
    let rng = args.rng.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let runs = lab::play(scenario, peers, rng);
    if let Some(path) = &args.html {
        std::fs::write(path, page::page(scenario, rng, &runs))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if args.json {
        for run in &runs {
            out.line(page::summary_json(run).num("rng", rng).done())?;
        }
        out.line(Object::new().str("lesson", &(scenario.lesson)(&runs)).done())?;
    } else {
        let watched = std::io::stderr().is_terminal() && !args.quiet && args.html.is_none();
        if watched && let Some(run) = runs.last() {
            live::replay(run);
        }
        report(&mut out, scenario, rng, &runs)?;
    }
    out.finish()?;
    Ok(Exit::Done)
}

/// The tables, and the lesson.
fn report(out: &mut Output, scenario: &Scenario, rng: u64, runs: &[Played]) -> Result<()> {
    out.line(format!("{}: {} (--rng {rng})", scenario.name, scenario.about))?;
    if let [run] = runs {
        out.line("")?;
        nodes(out, run)?;
    }
    out.line("")?;
    out.line(format!(
        "{:<22} {:>8} {:>8} {:>8} {:>6} {:>7} {:>7} {:>9}",
        "", "bound", "last", "mean", "of it", "copies", "wasted", "completed"
    ))?;
    for run in runs {
        let o = &run.outcome;
        out.line(format!(
            "{:<22} {:>8} {:>8} {:>8} {:>4.0} % {:>7.2} {:>7} {:>9}",
            run.label,
            seconds(o.bound),
            seconds(o.last),
            seconds(o.honest),
            100.0 * o.efficiency(),
            o.copies,
            if o.wasted.is_finite() {
                format!("{:.1} %", 100.0 * o.wasted.max(0.0))
            } else {
                "-".into()
            },
            format!("{} of {}", o.done, o.of)
        ))?;
    }
    out.line("")?;
    out.line((scenario.lesson)(runs))
}

/// Who got what from whom.
fn nodes(out: &mut Output, run: &Played) -> Result<()> {
    out.line(format!(
        "{:<5} {:>8} {:>10} {:>10} {:>6}  from whom",
        "peer", "time", "received", "sent", "ratio"
    ))?;
    let total = run.world.geometry.total_length() as f64;
    for (at, node) in run.world.nodes.iter().enumerate() {
        let mut sources: Vec<(u64, &String)> =
            run.received[at].iter().copied().zip(&run.world.names).collect();
        sources.retain(|(bytes, _)| *bytes != 0);
        sources.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
        let share = |bytes: u64| 100.0 * bytes as f64 / node.received.max(1) as f64;
        let shown =
            sources.iter().take(5).map(|(bytes, name)| format!("{name} {:.0} %", share(*bytes)));
        let mut shown = shown.collect::<Vec<_>>().join(", ");
        if 5 < sources.len() {
            shown += &format!(" and {} more", sources.len() - 5);
        }
        let time = outcome::time(node);
        out.line(format!(
            "{:<5} {:>8} {:>10} {:>10} {:>6.2}  {shown}",
            run.world.names[at],
            if node.received == 0 && time == 0.0 { "-".to_owned() } else { seconds(time) },
            size(node.received),
            size(node.sent),
            node.sent as f64 / total
        ))?;
    }
    Ok(())
}
