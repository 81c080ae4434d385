//! `piecemeal lab [SCENARIO]`: plays a whole swarm in virtual time, shows it, and says what it teaches.
//!
//! Layer: programs.

use std::io::IsTerminal;

use anyhow::{Context, Result};

use super::flags::Args;
use super::output::Output;
use super::{Exit, Misuse, get};
use crate::json::Object;
use crate::lab::scenario::{SCENARIOS, Scenario, seconds};
use crate::lab::{self, Knobs, Played, live, outcome, page};
use crate::order;
use crate::printable::clipped;
use crate::units::size;

/// Of the torrent: with more a run takes minutes, real ones.
const SIZE: std::ops::RangeInclusive<u64> = 64 << 10..=1 << 30;

/// Pieces at most, for the same reason.
const PIECES_MAX: u64 = 16_384;

/// Of whom most came: so many fit a line of 80 characters.
const SOURCES: usize = 3;

/// The longest bar, in characters.
const BAR: f64 = 44.0;

/// With more variants there would be more tables than anybody reads; `-v` shows them all the same.
const TABLES_MAX: usize = 3;

pub fn run(args: &Args) -> Result<Exit> {
    let mut out = Output::new();
    let [name] = args.operands.as_slice() else {
        list(&mut out, args.json)?;
        out.finish()?;
        return Ok(Exit::Done);
    };
    if args.list {
        return Err(Misuse("--list names the scenarios; it takes none".to_owned()).into());
    }
    let name = name.to_string_lossy();
    let known = SCENARIOS.iter().find(|scenario| scenario.name == name);
    let scenario = known.ok_or_else(|| {
        Misuse(format!("no scenario {}; piecemeal lab --list names them", clipped(&name, 40)))
    })?;
    let peers = args.leechers.map(usize::from);
    let mut knobs = args.lab.clone();
    knobs.piece_length = args.piece_length;
    check(&knobs)?;
    let rng = args.rng.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let Some(trace) = get::trace(args) else { return Ok(Exit::Usage) };
    let runs = lab::play_watched(scenario, peers, &knobs, rng, trace);
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
        let watched =
            std::io::stderr().is_terminal() && !args.quiet && args.html.is_none() && !trace.is_on();
        if watched && let Some(run) = runs.last() {
            live::replay(run);
        }
        report(&mut out, scenario, rng, &runs, args.verbose != 0)?;
    }
    out.finish()?;
    Ok(Exit::Done)
}

fn list(out: &mut Output, json: bool) -> Result<()> {
    for scenario in SCENARIOS {
        match json {
            true => out.line(
                Object::new().str("name", scenario.name).str("about", scenario.about).done(),
            )?,
            false => out.line(format!("{:<16} {}", scenario.name, scenario.about))?,
        }
    }
    Ok(())
}

/// What no line of the table of flags can see alone.
fn check(knobs: &Knobs) -> Result<()> {
    if let Some(size) = knobs.size
        && !SIZE.contains(&size)
    {
        return Err(Misuse(format!("--size {size}: expected 64K to 1G")).into());
    }
    // Sizes of the scenarios' own are below that.
    let size = knobs.size.unwrap_or(96 << 20);
    if let Some(length) = knobs.piece_length
        && !(16 << 10 <= length && size.div_ceil(u64::from(length)) <= PIECES_MAX)
    {
        let least = (size / PIECES_MAX).max(16 << 10);
        return Err(Misuse(format!("--piece-length {length}: expected {least} or more")).into());
    }
    Ok(())
}

/// The tables, and the lesson.
fn report(
    out: &mut Output,
    scenario: &Scenario,
    rng: u64,
    runs: &[Played],
    all: bool,
) -> Result<()> {
    out.line(format!("{}: {} (--rng {rng})", scenario.name, scenario.about))?;
    for run in runs.iter().filter(|_| all || runs.len() <= TABLES_MAX) {
        out.line("")?;
        out.line(format!("{}:", run.label))?;
        nodes(out, run)?;
    }
    out.line("")?;
    out.line(format!(
        "{:<23} {:>7} {:>7} {:>7} {:>6} {:>6} {:>7} {:>9}",
        "", "bound", "last", "mean", "of it", "copies", "wasted", "completed"
    ))?;
    for run in runs {
        let o = &run.outcome;
        out.line(format!(
            "{:<23} {:>7} {:>7} {:>7} {:>4.0} % {:>6.2} {:>7} {:>9}",
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
    if TABLES_MAX < runs.len() {
        bars(out, runs)?;
    }
    out.line((scenario.lesson)(runs))
}

/// The time of the last, as a bar for each run.
fn bars(out: &mut Output, runs: &[Played]) -> Result<()> {
    let times = || runs.iter().map(|run| run.outcome.last);
    let most = times().filter(|time| time.is_finite()).fold(0.0, f64::max);
    out.line(format!("{:<24} until the last has it", ""))?;
    for (run, time) in runs.iter().zip(times()) {
        let bar = if time.is_finite() { (BAR * time / most).ceil() as usize } else { 0 };
        out.line(format!("{:<24} {} {}", run.label, "#".repeat(bar), seconds(time)))?;
    }
    out.line("")
}

/// Who got what from whom.
fn nodes(out: &mut Output, run: &Played) -> Result<()> {
    out.line(format!(
        "{:<4} {:>8} {:>10} {:>10} {:>5} from whom",
        "peer", "time", "received", "sent", "ratio"
    ))?;
    let total = run.world.geometry.total_length() as f64;
    for (at, node) in run.world.nodes.iter().enumerate() {
        let mut sources: Vec<(u64, &String)> =
            run.received[at].iter().copied().zip(&run.world.names).collect();
        sources.retain(|(bytes, _)| *bytes != 0);
        order::sort_by_key(&mut sources, |(bytes, _)| std::cmp::Reverse(*bytes));
        let share = |bytes: u64| 100.0 * bytes as f64 / node.received.max(1) as f64;
        let shown = sources
            .iter()
            .take(SOURCES)
            .map(|(bytes, name)| format!("{name} {:.0} %", share(*bytes)));
        let mut shown = shown.collect::<Vec<_>>().join(", ");
        if SOURCES < sources.len() {
            shown += &format!(" and {} more", sources.len() - SOURCES);
        }
        let time = outcome::time(node);
        out.line(format!(
            "{:<4} {:>8} {:>10} {:>10} {:>5.2} {shown}",
            run.world.names[at],
            if node.received == 0 && time == 0.0 { "-".to_owned() } else { seconds(time) },
            size(node.received),
            size(node.sent),
            node.sent as f64 / total
        ))?;
    }
    Ok(())
}
