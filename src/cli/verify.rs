//! `piecemeal verify TORRENT`: whether the data in `--dir` is what the torrent says. Only reads.
//!
//! Exit 0 if every piece matches and every file has its length, else 1 and a summary.
//!
//! Layer: programs.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};

use super::fetch;
use super::flags::Args;
use super::output::Output;
use super::{Exit, Misuse, place};
use crate::check::{self, Found};
use crate::json::{self, Object};
use crate::printable::printable;
use crate::progress::Progress;
use crate::storage::folder::Folder;
use crate::storage::{Aside, Layout};
use crate::units::{count, size};

/// How many of the files that are not right are named; all of them with `-v` and in JSON.
const NAMED_MAX: usize = 10;

pub fn run(args: &Args) -> Result<Exit> {
    let Some(operand) = super::one_operand(args) else { return Ok(Exit::Usage) };
    let torrent = match fetch::load(args, operand)? {
        Ok(torrent) => torrent,
        Err(exit) => return Ok(exit),
    };
    let layout = place::files(args, Arc::new(torrent))?;
    // A folder that is not there is rather a mistake in the command than missing data.
    let folder = layout.folder();
    let folder =
        Folder::open(folder).with_context(|| format!("cannot open {}", folder.display()))?;
    let layout = layout.select(&args.select).map_err(|err| Misuse(err.to_string()))?;
    let mut progress = Progress::new(args.quiet, true);
    // With some files only, their border pieces can be told by what was kept aside of them.
    let aside = if layout.is_whole() { Aside::default() } else { Aside::load(&layout)? };
    let found = check::run_with(&layout, &aside, &layout.wanted(), &mut |done, total| {
        progress.hashing("checking", done, total);
        ControlFlow::Continue(())
    })?;
    progress.finish();
    let mut found = found.context("the check was stopped")?;
    for piece in found.aside.iter() {
        let in_files = aside.is_in_files(&layout, &folder, piece);
        if !in_files.context("cannot compare the files with what is kept aside")? {
            found.have.remove(piece);
            found.differ.insert(piece);
        }
    }
    let report = Report::new(&layout, found);
    if !args.quiet || args.json {
        let mut out = Output::new();
        if args.json {
            out.line_now(report.json())?
        } else {
            report.text(&mut out, args.verbose)?
        }
        out.finish()?;
    }
    Ok(if report.is_right() { Exit::Done } else { Exit::Failed })
}

struct Report<'a> {
    layout: &'a Layout,
    found: Found,
    /// How many pieces are looked at: those of the selected files.
    pieces: u32,
    /// Files and what is wrong with them; first those that are not even what they should look like.
    wrong: Vec<(usize, String)>,
}

impl Report<'_> {
    fn new(layout: &Layout, found: Found) -> Report<'_> {
        let troubles = found.troubles.iter().filter(|(file, _)| layout.is_chosen(*file));
        let troubles = troubles.map(|(file, trouble)| (*file, trouble.to_string()));
        let mut wrong: Vec<(usize, String)> = troubles.collect();
        // Those have the blame for their pieces; a neighbour that only shares one has not.
        let blamed: BTreeSet<usize> = wrong.iter().map(|(file, _)| *file).collect();
        for index in (0..layout.files().len()).filter(|&file| layout.is_chosen(file)) {
            let pieces = layout.pieces_of(index);
            let all = pieces.len();
            let differ = pieces.clone().filter(|&piece| found.differ.contains(piece)).count();
            let absent = pieces.filter(|&piece| !found.have.contains(piece)).count() - differ;
            let what = match (differ, absent) {
                _ if blamed.contains(&index) => continue,
                (0, 0) => continue,
                (_, 0) => format!("{differ} of {} differ", count(all as u64, "piece")),
                (0, _) => {
                    format!(
                        "{absent} of {} are not there, or not wholly",
                        count(all as u64, "piece")
                    )
                }
                _ => {
                    let all = count(all as u64, "piece");
                    format!("{differ} of {all} differ, {absent} are not there")
                }
            };
            wrong.push((index, what));
        }
        Report { layout, found, pieces: layout.wanted().count(), wrong }
    }

    /// A missing file without a byte is in no piece, and is missing all the same.
    fn is_right(&self) -> bool {
        self.found.have.count() == self.pieces && self.wrong.is_empty()
    }

    fn absent(&self) -> u32 {
        self.pieces - self.found.have.count() - self.found.differ.count()
    }

    /// A file's path below `--dir`.
    fn path(&self, file: usize) -> String {
        let parts = self.layout.components(file);
        parts.into_iter().map(Path::new).collect::<PathBuf>().display().to_string()
    }

    fn text(&self, out: &mut Output, verbose: u8) -> Result<()> {
        let Found { have, differ, .. } = &self.found;
        let torrent = self.layout.torrent();
        let name = printable(&torrent.name);
        let chosen = (0..self.layout.files().len()).filter(|&file| self.layout.is_chosen(file));
        let bytes = size(chosen.map(|file| self.layout.files()[file].length).sum());
        let (good, all) = (have.count(), self.pieces);
        if self.is_right() {
            return out.line(match all {
                1 => format!("{name}: the only piece matches, {bytes}"),
                _ => format!("{name}: all {all} pieces match, {bytes}"),
            });
        }
        let (differ, absent) = (differ.count(), self.absent());
        out.line(format!(
            "{name}: {good} of {} match, {differ} differ, {absent} are not there",
            count(all.into(), "piece")
        ))?;
        let named = if verbose == 0 { NAMED_MAX } else { usize::MAX };
        for (file, what) in self.wrong.iter().take(named) {
            out.line(format!("  {}: {}", printable(&self.path(*file)), printable(what)))?;
        }
        match self.wrong.len().saturating_sub(named) {
            0 => Ok(()),
            more => {
                out.line(format!("  and {} more; -v names them all", count(more as u64, "file")))
            }
        }
    }

    fn json(&self) -> String {
        let torrent = self.layout.torrent();
        let file = |(file, what): &(usize, String)| {
            Object::new().str("path", &self.path(*file)).str("problem", what).done()
        };
        Object::new()
            .str("name", &torrent.name)
            .str("info_hash", &torrent.info_hash.to_string())
            .bool("complete", self.is_right())
            .num("pieces", self.pieces)
            .num("good", self.found.have.count())
            .num("bad", self.found.differ.count())
            .num("missing", self.absent())
            .raw("files", &json::array(self.wrong.iter().map(file)))
            .done()
    }
}
