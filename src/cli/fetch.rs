//! The metadata of a magnet link (BEP 9): for the commands that need a torrent and were given a link,
//! and into a file of its own.
//!
//! Layer: programs.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::create::{cannot_write, check_target, write};
use super::flags::Args;
use super::get;
use super::input::{self, Input};
use super::output::Output;
use super::view::View;
use super::{Exit, signals};
use crate::json::Object;
use crate::magnet::Magnet;
use crate::metainfo::Metainfo;
use crate::printable::printable;
use crate::session::{Options, Outcome, Session};
use crate::units::{count, size};
use crate::wire::handshake::Reserved;

/// Loads what a TORRENT operand names, and fetches the metadata of a magnet link. `Err` of the inner
/// result: the user did not want to wait for it.
pub fn load(args: &Args, operand: &OsStr) -> Result<Result<Metainfo, Exit>> {
    match input::load(operand, &args.dialler())? {
        Input::Torrent(torrent) => Ok(Ok(*torrent)),
        Input::Magnet(magnet) => metadata(args, &magnet),
    }
}

/// Fetches the metadata. What happens meanwhile goes to standard error: standard output is for what
/// the command has to say.
fn metadata(args: &Args, magnet: &Magnet) -> Result<Result<Metainfo, Exit>> {
    // The place of the data has no part in this.
    let quiet = args.quiet || args.json;
    let args = Args { out: None, json: false, quiet, ..args.clone() };
    let Some(trace) = get::trace(&args) else { return Ok(Err(Exit::Usage)) };
    let options = get::magnet_options(&args, magnet, trace)?;
    // Nothing that a minimal peer would hang up for.
    let options = Options { reserved: Reserved::default().with_extended(), ..options };
    let (found, inbox) = crossbeam_channel::bounded(1);
    let then = move |torrent| {
        let _ = found.try_send(torrent);
        Ok(None)
    };
    let interrupted = signals::catch()?;
    let session = Session::start_magnet(options, Box::new(then))?;
    let mut view = View::new(&args, &trace);
    let followed = get::follow(&session, &interrupted, &mut view, || Ok(()));
    let summary = session.join()?;
    view.finish();
    followed?;
    match (summary.outcome, inbox.try_recv()) {
        (Outcome::Complete, Ok(torrent)) => Ok(Ok(torrent)),
        _ => view.end("", None, None, &summary).map(Err),
    }
}

/// `get --metadata-only`: the metadata as a `.torrent`, and nothing else.
pub fn metadata_only(args: &Args, operand: &OsStr) -> Result<Exit> {
    if let Some(target) = args.out.as_deref().filter(|out| out.as_os_str() != "-") {
        check_target(target, args.force).with_context(|| cannot_write(target))?;
    }
    let torrent = match load(args, operand)? {
        Ok(torrent) => torrent,
        Err(exit) => return Ok(exit),
    };
    let bytes = torrent.to_torrent();
    let target = match &args.out {
        Some(out) if out.as_os_str() == "-" => {
            let mut out = Output::new();
            out.bytes(&bytes)?;
            out.finish()?;
            return Ok(Exit::Done);
        }
        Some(out) => out.clone(),
        None => {
            let dir = args.dir.clone().unwrap_or_default();
            dir.join(format!("{}.torrent", torrent.name))
        }
    };
    keep(&target, &bytes, args.force)?;
    let path = target.display().to_string();
    let text = if args.json {
        json(&torrent).str("path", &path).done()
    } else if args.quiet {
        return Ok(Exit::Done);
    } else {
        format!("{}: {}", printable(&path), text(&torrent))
    };
    let mut out = Output::new();
    out.line(text)?;
    out.finish()?;
    Ok(Exit::Done)
}

/// `--save-torrent`: the same file again is no mistake, another one is kept, but for `--force`.
pub fn save(args: &Args, torrent: &Metainfo) -> Result<()> {
    let Some(target) = &args.save_torrent else { return Ok(()) };
    let bytes = torrent.to_torrent();
    if fs::read(target).is_ok_and(|there| there == bytes) {
        Ok(())
    } else {
        keep(target, &bytes, args.force)
    }
}

fn keep(target: &Path, bytes: &[u8], force: bool) -> Result<()> {
    check_target(target, force)
        .and_then(|()| Ok(write(target, bytes, force)?))
        .with_context(|| cannot_write(target))
}

/// The torrent in a few words.
pub fn text(torrent: &Metainfo) -> String {
    let bytes = size(torrent.stored_length());
    let pieces = count(torrent.geometry.pieces().into(), "piece");
    format!("{}, {bytes} in {pieces}", printable(&torrent.name))
}

pub fn json(torrent: &Metainfo) -> Object {
    Object::new()
        .str("event", "metadata")
        .str("name", &torrent.name)
        .str("info_hash", &torrent.info_hash.to_string())
        .num("total_length", torrent.stored_length())
        .num("pieces", torrent.geometry.pieces())
        .num("files", torrent.stored_files() as u64)
        .bool("private", torrent.private)
}
