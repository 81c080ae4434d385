//! `piecemeal create PATH`: makes a `.torrent` of a file or a folder.
//!
//! It goes to NAME.torrent in the current directory, or to `--out`; `-` is standard output, and then
//! what there is to say goes to standard error. An existing file is kept, but for `--force`; what is
//! in the torrent is kept whatever is asked for. A link stays, and the file it leads to is written; a
//! device or a pipe is written to as it is.
//!
//! Layer: programs.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::Exit;
use super::flags::Args;
use super::output::Output;
use crate::create::{Created, Plan, Wishes, today};
use crate::json::Object;
use crate::printable::printable;
use crate::progress::Progress;
use crate::terminal::eprint_line;
use crate::units::{count, size};

/// How many of the names that will look different elsewhere are told.
const RENAMED_TOLD: usize = 5;

pub fn run(args: &Args) -> Result<Exit> {
    let Some(operand) = super::one_operand(args) else { return Ok(Exit::Usage) };
    let plan = Plan::new(Path::new(operand), wishes(args)).context("cannot make a torrent")?;
    let target = match &args.out {
        Some(out) if out.as_os_str() == "-" => None,
        Some(out) => Some(out.clone()),
        None => Some(PathBuf::from(format!("{}.torrent", plan.name()))),
    };
    // Before hours of hashing, not after them.
    if let Some(target) = &target {
        check_free(&plan, target, args.force).with_context(|| cannot_write(target))?;
    }
    let mut progress = Progress::new(args.quiet, true);
    let created = plan.hash(&mut |done, total| {
        progress.hashing("hashing", done, total);
        ControlFlow::Continue(())
    });
    progress.finish();
    let created = created.context("cannot make a torrent")?.context("hashing was stopped")?;
    match &target {
        Some(target) => {
            write(target, &created.bytes, args.force).with_context(|| cannot_write(target))?;
        }
        None => {
            let mut out = Output::new();
            out.bytes(&created.bytes)?;
            out.finish()?;
        }
    }
    warn(&created);
    tell(args, target.as_deref(), &created)?;
    Ok(Exit::Done)
}

fn wishes(args: &Args) -> Wishes {
    Wishes {
        name: args.name.clone(),
        piece_length: args.piece_length,
        pad: args.pad,
        trackers: args.announce.clone(),
        web_seeds: args.web_seeds.clone(),
        private: args.private,
        comment: args.comment.clone(),
        source: args.source.clone(),
        creation_date: if args.no_date { None } else { today() },
    }
}

pub(super) fn cannot_write(target: &Path) -> String {
    format!("cannot write {}", target.display())
}

fn folder_of(target: &Path) -> &Path {
    match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Whether a torrent may be written there: not over its own data, nor into it.
fn check_free(plan: &Plan, target: &Path, force: bool) -> Result<()> {
    if plan.holds(target)? {
        bail!("it lies in what the torrent is made of; name another place with -o");
    }
    check_target(target, force)
}

pub(super) fn check_target(target: &Path, force: bool) -> Result<()> {
    if !fs::metadata(folder_of(target)).context("its folder")?.is_dir() {
        bail!("its folder is a file");
    }
    match fs::metadata(target) {
        Ok(there) if there.is_dir() => bail!("it is a folder"),
        Ok(there) if is_disk(&there) => bail!("it is a disk"),
        Ok(there) if there.is_file() && !force => bail!("it exists; --force overwrites it"),
        Err(_) if target.is_symlink() => bail!("it is a link that leads nowhere"),
        _ => Ok(()),
    }
}

fn is_disk(there: &fs::Metadata) -> bool {
    #[cfg(unix)]
    return std::os::unix::fs::FileTypeExt::is_block_device(&there.file_type());
    #[cfg(not(unix))]
    return false;
}

/// Writes all or nothing: what was there stays if the disk is full. What is no file cannot be
/// replaced, and gets the bytes.
pub(super) fn write(target: &Path, bytes: &[u8], force: bool) -> io::Result<()> {
    let there = fs::metadata(target).ok();
    if there.as_ref().is_some_and(|there| !there.is_file()) {
        return OpenOptions::new().write(true).open(target)?.write_all(bytes);
    }
    let target = &if there.is_some() { fs::canonicalize(target)? } else { target.to_owned() };
    let temporary = folder_of(target).join(format!(".piecemeal-{}.tmp", std::process::id()));
    let path = if force { &temporary } else { target };
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    let done = match written {
        Ok(()) if force => fs::rename(path, target),
        written => written,
    };
    if done.is_err() {
        let _ = fs::remove_file(path);
    }
    done
}

fn warn(created: &Created) {
    for (here, there) in created.renamed.iter().take(RENAMED_TOLD) {
        let (here, there) = (printable(here), printable(there));
        eprint_line(&format!("piecemeal: {here} will be {there} where it is downloaded"));
    }
    if let Some(more) = created.renamed.len().checked_sub(RENAMED_TOLD + 1) {
        eprint_line(&format!("piecemeal: and {} more such names", more + 1));
    }
    if created.linked != 0 {
        let count = created.linked;
        eprint_line(&format!(
            "piecemeal: {count} of the files lie behind symbolic links, which verify and get do not \
             follow: they will find them missing here"
        ));
    }
}

fn tell(args: &Args, target: Option<&Path>, created: &Created) -> Result<()> {
    let torrent = &created.torrent;
    let (hash, magnet) = (torrent.info_hash.to_string(), torrent.magnet());
    let (pieces, piece_length) = (torrent.geometry.pieces(), torrent.geometry.piece_length());
    let path = target.map(|target| target.display().to_string());
    let text = if args.json {
        Object::new()
            .str_or_null("path", path.as_deref())
            .str("name", &torrent.name)
            .str("info_hash", &hash)
            .num("total_length", torrent.stored_length())
            .num("piece_length", piece_length)
            .num("pieces", pieces)
            .num("files", torrent.stored_files() as u64)
            .bool("private", torrent.private)
            .str("magnet", &magnet)
            .done()
    } else if args.quiet {
        return Ok(());
    } else {
        let bytes = size(torrent.stored_length());
        let files = count(torrent.stored_files() as u64, "file");
        let (pieces, length) = (count(pieces.into(), "piece"), size(piece_length.into()));
        format!(
            "{}: {files}, {bytes} in {pieces} of {length}\ninfo hash: {hash}\n{magnet}",
            printable(path.as_deref().unwrap_or(&torrent.name))
        )
    };
    if target.is_none() {
        eprint_line(&text);
        return Ok(());
    }
    let mut out = Output::new();
    out.line(text)?;
    out.finish()
}
