//! Opening the two ends: everything that can be known to go wrong is known before a byte comes.
//!
//! Layer: hands. Runs in the main thread, before the others start.

use std::fs::File;
use std::sync::Arc;

use anyhow::{Context, Result, bail};

use super::aside::{Aside, borders};
use super::folder::{Access, Folder, Status, if_there};
use super::layout::Layout;
use super::reading::Reading;
use super::writing::Writing;
use super::{bus_error, room};
use crate::bitfield::Bitfield;
use crate::units::size;

/// As [`open_with`], where nothing is kept aside.
pub fn open(layout: &Layout, have: &Bitfield) -> Result<(Writing, Reading)> {
    open_with(layout, have, &Aside::default())
}

/// Opens a torrent's files for writing and reading. `have` are the pieces that are verified, `aside`
/// those of them that are not in the files.
///
/// Creates the folder and the empty files; all others when their first byte comes. Refuses what
/// would go wrong later: files that are too long, links, folders in a file's place, too little room
/// on the disk, a second writer.
pub fn open_with(layout: &Layout, have: &Bitfield, aside: &Aside) -> Result<(Writing, Reading)> {
    bus_error::install();
    let folder = Folder::create(layout.folder())
        .with_context(|| format!("cannot create the folder {}", layout.folder().display()))?;
    let claim = claim(layout, &folder)?;
    let ready = make_ready(layout, &folder, have);
    if let Some(claim) = &claim {
        let name = layout.resume_name();
        match &ready {
            Ok(()) => claim.set_len(0).with_context(|| format!("cannot empty {name}"))?,
            // Nothing was written, so what was vouched for still holds; an empty one is litter.
            Err(_) if claim.metadata().is_ok_and(|data| data.len() == 0) => {
                let _ = std::fs::remove_file(layout.folder().join(name));
            }
            Err(_) => {}
        }
    }
    ready?;
    let folder = Arc::new(folder);
    let mut writing = Writing::new(layout.clone(), Arc::clone(&folder), have, claim);
    let aside = writing.settle(aside)?;
    Ok((writing, Reading::new(layout.clone(), folder, aside)))
}

/// Looks at every file's place, creates the empty ones, and makes sure of the room.
fn make_ready(layout: &Layout, folder: &Folder, have: &Bitfield) -> Result<()> {
    let missing = missing_bytes(layout, have);
    // Too much by what has its place there already, which is little.
    let aside = borders(layout).iter().filter(|&piece| !have.contains(piece)).count() as u64;
    let mut needed = aside * u64::from(layout.geometry().piece_length());
    for (index, file) in layout.files().iter().enumerate() {
        if !layout.is_chosen(index) {
            continue;
        }
        match look(layout, folder, index)? {
            None if file.length == 0 => {
                let made = folder.open_file(&layout.components(index), Access::Write);
                made.with_context(|| format!("cannot create {}", layout.path(index).display()))?;
            }
            // What is verified has its room, however little the file system says it took.
            status => {
                let allocated = status.map_or(0, |status| status.allocated);
                let unreserved = file.length.saturating_sub(allocated);
                needed = needed.saturating_add(unreserved.min(missing[index]));
            }
        }
    }
    check_room(layout, folder, needed)
}

/// What is at a file's place: nothing, or a file that can become the right one.
fn look(layout: &Layout, folder: &Folder, index: usize) -> Result<Option<Status>> {
    let expected = layout.files()[index].length;
    let path = || layout.path(index);
    match folder.status(&layout.components(index)) {
        Ok(status) => {
            if let Some(why) = status.kind.complaint() {
                bail!("{} {why}", path().display());
            }
            if expected < status.size {
                bail!(
                    "{} is {} bytes long, in the torrent it is {expected}: it is another file; \
                     move it away, or choose another folder with --dir",
                    path().display(),
                    status.size
                );
            }
            Ok(Some(status))
        }
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(err) => Err(err).with_context(|| format!("cannot use {}", path().display())),
    }
}

/// How many bytes of each file belong to pieces that are not verified.
fn missing_bytes(layout: &Layout, have: &Bitfield) -> Vec<u64> {
    let geometry = layout.geometry();
    let mut missing = vec![0; layout.files().len()];
    for piece in (0..geometry.pieces()).filter(|&piece| !have.contains(piece)) {
        for part in layout.parts(geometry.whole(piece)) {
            missing[part.file] += part.length as u64;
        }
    }
    missing
}

/// A disk that is too small is better reported now than at 97 %.
fn check_room(layout: &Layout, folder: &Folder, needed: u64) -> Result<()> {
    match folder.free() {
        Some(free) if free < needed => bail!(
            "cannot download to {}: {} more are needed and {} are free: no space left on device",
            layout.root().display(),
            size(needed),
            size(free)
        ),
        _ => Ok(()),
    }
}

/// Takes the resume file, so that nobody else writes here. [`open`] then empties it, so that nobody
/// trusts it after we have written. Where locks or even the file are not to be had (a folder that is
/// not ours, network file systems), the download can still work.
fn claim(layout: &Layout, folder: &Folder) -> Result<Option<File>> {
    let name = layout.resume_name();
    let file = if_there(folder.open_file(&[name.as_ref()], Access::Write));
    let Some(file) = file.with_context(|| format!("cannot open {name}"))? else { return Ok(None) };
    if room::lock(&file) == room::Lock::Taken {
        let place = layout.root();
        bail!("cannot download to {}: another piecemeal is writing there", place.display());
    }
    Ok(Some(file))
}
