//! `piecemeal tracker`: runs a tracker until Ctrl-C.
//!
//! Layer: programs.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use crossbeam_channel::RecvTimeoutError;

use super::flags::Args;
use super::input::{self, Input};
use super::output::Output;
use super::{Exit, signals};
use crate::dial::Dialler;
use crate::hash::Sha1;
use crate::json::{self, Object};
use crate::printable::printable;
use crate::terminal::eprint_line;
use crate::tracker_server::{Options, Outcome, PORT, Sighting, TrackerServer, Via};
use crate::units;

/// How soon a signal is noticed at the latest.
const GLANCE: Duration = Duration::from_millis(100);

pub fn run(args: &Args) -> Result<Exit> {
    let torrents: Vec<_> = args.operands.iter().map(|o| served(o)).collect::<Result<_>>()?;
    let options = Options {
        listen: args.listen_at,
        watch: args.json || args.verbose != 0,
        torrents,
        ..Options::default()
    };
    let count = options.torrents.len();
    let interrupted = signals::catch()?;
    let place = args.listen_at.map_or(format!("port {PORT}"), |at| at.to_string());
    let server =
        TrackerServer::start(options).with_context(|| format!("cannot listen at {place}"))?;
    greet(args, &server, count)?;
    watch(args, &server, &interrupted)?;
    drop(server);
    if !args.json && !args.quiet {
        eprint_line("the tracker has ended");
    }
    Ok(Exit::Interrupted)
}

/// What one operand adds to the list of torrents: a TORRENT as everywhere, or a bare info hash.
fn served(operand: &OsStr) -> Result<(Sha1, Option<String>)> {
    if let Some(info_hash) = operand.to_str().and_then(Sha1::from_hex) {
        return Ok((info_hash, None));
    }
    Ok(match input::load(operand, &Dialler::default())? {
        Input::Torrent(torrent) => (torrent.info_hash, Some(torrent.name)),
        Input::Magnet(magnet) => (magnet.info_hash, magnet.name),
    })
}

fn urls(places: &[SocketAddr], scheme: &str) -> Vec<String> {
    places.iter().map(|place| format!("{scheme}://{place}/announce")).collect()
}

/// Which URLs to use.
fn greet(args: &Args, server: &TrackerServer, count: usize) -> Result<()> {
    let places = server.places();
    let (http, udp) = (urls(&places, "http"), urls(&places, "udp"));
    if args.json {
        let listening = Object::new()
            .str("event", "listening")
            .raw("addresses", &json::strings(server.addrs().iter().map(ToString::to_string)))
            .raw("announce", &json::strings(http.iter().chain(&udp)))
            .raw("torrents", &if count == 0 { "null".to_owned() } else { count.to_string() })
            .done();
        return Output::new().line_now(listening);
    }
    if args.quiet {
        return Ok(());
    }
    let serves = match count {
        0 => "all torrents".to_owned(),
        _ => units::count(count as u64, "torrent"),
    };
    eprint_line(&format!("tracker for {serves}; announce to"));
    http.iter().chain(&udp).for_each(|url| eprint_line(&format!("  {url}")));
    if let Some(place) = places.first() {
        eprint_line(&format!("status page: http://{place}/"));
    }
    Ok(())
}

/// Prints what is announced, until a signal comes.
fn watch(args: &Args, server: &TrackerServer, interrupted: &AtomicBool) -> Result<()> {
    while !interrupted.load(Ordering::Relaxed) {
        match server.sightings().recv_timeout(GLANCE) {
            Ok(sighting) if args.json => Output::new().line_now(sighting_json(&sighting))?,
            Ok(sighting) => eprint_line(&printable(&sighting_text(&sighting))),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => bail!("the tracker has broken down"),
        }
    }
    Ok(())
}

fn sighting_json(sighting: &Sighting) -> String {
    let Sighting { announce, report, outcome, missed } = sighting;
    let object = Object::new()
        .str("event", "announce")
        .str("via", via(report.via))
        .str("source", &announce.source.to_string())
        .str("peer", &announce.address.to_string())
        .str("peer_id", &announce.peer_id.escape_ascii().to_string())
        .str("info_hash", &announce.info_hash.to_string())
        .str("what", &announce.event.to_string())
        .num("uploaded", report.uploaded)
        .num("downloaded", report.downloaded)
        .num_or_null("left", report.left)
        .str("path", &report.path);
    let object = match outcome {
        Outcome::Answered { peers, counts } => object
            .num("peers", *peers as u64)
            .num("seeders", counts.seeds)
            .num("leechers", counts.leechers)
            .null("refused"),
        Outcome::Refused(refusal) => object.str("refused", &refusal.to_string()),
    };
    // Announces before this one that came faster than they could be printed.
    object.num("missed", *missed).done()
}

fn sighting_text(sighting: &Sighting) -> String {
    let Sighting { announce, report, outcome, missed } = sighting;
    let has = match report.left {
        Some(0) => "has all".to_owned(),
        Some(left) => format!("lacks {}", units::size(left)),
        None => "lacks something".to_owned(),
    };
    let became = match outcome {
        Outcome::Answered { peers, counts } => {
            let of = |n: u32, what| units::count(n.into(), what);
            let (seeders, leechers) = (of(counts.seeds, "seeder"), of(counts.leechers, "leecher"));
            format!("told {peers} of {seeders}, {leechers}")
        }
        Outcome::Refused(refusal) => format!("refused: {refusal}"),
    };
    let missed = if *missed == 0 { String::new() } else { format!(" ({missed} not shown)") };
    let (info_hash, peer, what) = (announce.info_hash, announce.address, announce.event);
    format!("{info_hash} {peer} {} {what}: {has}; {became}{missed}", via(report.via))
}

fn via(via: Via) -> &'static str {
    match via {
        Via::Http => "http",
        Via::Udp => "udp",
    }
}
