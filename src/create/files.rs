//! Which files a torrent is made of.
//!
//! Layer: hands. Only looks: what it reads is folders.

use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};

use crate::metainfo::path::COMPONENT_LEN_MAX;
use crate::order;

/// As deep as folders may nest. Other clients refuse what is deeper.
const DEPTH_MAX: usize = 100;

/// The most files we take, as in libtorrent. It also ends a tree that grows while we walk it.
const FILES_MAX: usize = 1_000_000;

/// One file to be hashed, as it was when it was found.
#[derive(Debug, Clone)]
pub struct Source {
    /// Where to read it.
    pub path: PathBuf,
    /// Its path in the torrent; empty if it is the whole torrent.
    pub components: Vec<String>,
    /// In bytes.
    pub length: u64,
    /// Whether it, or a folder on the way below the torrent's, is a link.
    pub linked: bool,
    /// Only fills a gap (BEP 47): it is on no disk, and its bytes are zero.
    pub pad: bool,
    modified: Option<SystemTime>,
}

impl Source {
    fn new(path: PathBuf, components: Vec<String>, data: &Metadata, linked: bool) -> Source {
        let (length, modified) = (data.len(), data.modified().ok());
        Source { path, components, length, linked, pad: false, modified }
    }

    /// So many zeros, under the name that BEP 47 proposes.
    fn pad(length: u64) -> Source {
        let components = vec![".pad".to_owned(), length.to_string()];
        let path = PathBuf::new();
        Source { path, components, length, linked: false, pad: true, modified: None }
    }

    /// An error if the file has changed since it was found.
    pub fn check_unchanged(&self) -> Result<()> {
        if self.pad {
            return Ok(());
        }
        let data = fs::metadata(&self.path).with_context(|| self.path.display().to_string())?;
        if data.len() != self.length || data.modified().ok() != self.modified {
            bail!("{}: changed while it was read", self.path.display());
        }
        Ok(())
    }
}

/// The name of the file or folder that a path leads to, whatever way it is written (`.`, `a/..`).
pub fn own_name(path: &Path) -> Result<String> {
    let shown = || path.display().to_string();
    let whole;
    let name = match path.file_name() {
        Some(name) => name,
        None => {
            whole = fs::canonicalize(path).with_context(shown)?;
            whole.file_name().with_context(|| shown() + ": has no name; give one with --name")?
        }
    };
    let name = name.to_str();
    Ok(name.with_context(|| shown() + ": the name is not UTF-8; give one with --name")?.to_owned())
}

/// What is the same for two paths that lead to one file.
#[cfg(unix)]
pub fn identity(path: &Path) -> std::io::Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).map(|data| (data.dev(), data.ino()))
}
#[cfg(not(unix))]
pub fn identity(path: &Path) -> std::io::Result<PathBuf> {
    fs::canonicalize(path)
}

/// All files at or below a path, in the torrent's order.
pub fn find(path: &Path) -> Result<Vec<Source>> {
    let data = fs::metadata(path).with_context(|| path.display().to_string())?;
    let mut files = Vec::new();
    if data.is_dir() {
        walk(path, &mut files)?;
    } else {
        check_regular(path, &data)?;
        files.push(Source::new(path.to_owned(), Vec::new(), &data, path.is_symlink()));
    }
    // As bytes of the whole path. Two paths are never equal, so the order is the same every time.
    let mut named: Vec<(String, Source)> =
        files.into_iter().map(|file| (file.components.join("/"), file)).collect();
    order::sort_by(&mut named, |a, b| a.0.cmp(&b.0));
    Ok(named.into_iter().map(|(_, file)| file).collect())
}

/// The same files, each with a byte at the start of a piece: as libtorrent has it, a pad file comes
/// before the file that needs it, and none at the end.
pub fn padded(sources: Vec<Source>, piece_length: u32) -> Vec<Source> {
    let piece_length = u64::from(piece_length);
    let mut into_piece = 0;
    let mut all = Vec::with_capacity(sources.len());
    for source in sources {
        if source.length != 0 {
            if into_piece != 0 {
                all.push(Source::pad(piece_length - into_piece));
            }
            into_piece = source.length % piece_length;
        }
        all.push(source);
    }
    all
}

/// A folder on the way, and the folders above it by what they really are: a link back to one of
/// them would never end.
struct Step {
    path: PathBuf,
    components: Vec<String>,
    above: Vec<PathBuf>,
    linked: bool,
}

fn walk(root: &Path, files: &mut Vec<Source>) -> Result<()> {
    let first = fs::canonicalize(root).with_context(|| root.display().to_string())?;
    let mut todo = vec![Step {
        path: root.to_owned(),
        components: Vec::new(),
        above: vec![first],
        linked: false,
    }];
    while let Some(step) = todo.pop() {
        let shown = || step.path.display().to_string();
        for entry in fs::read_dir(&step.path).with_context(shown)? {
            let entry = entry.with_context(shown)?;
            let linked = step.linked || entry.file_type().is_ok_and(|kind| kind.is_symlink());
            let path = entry.path();
            let shown = || path.display().to_string();
            // This follows links: what counts is what would be read.
            let data = fs::metadata(&path).with_context(shown)?;
            let name = path.file_name().and_then(|name| name.to_str());
            let name = name.with_context(|| shown() + ": the name is not UTF-8")?;
            if COMPONENT_LEN_MAX < name.len() {
                bail!(
                    "{}: a name of {} bytes, the limit is {COMPONENT_LEN_MAX}",
                    shown(),
                    name.len()
                );
            }
            let mut components = step.components.clone();
            components.push(name.to_owned());
            if data.is_dir() {
                todo.push(Step { linked, ..below(&step, path, components)? });
                continue;
            }
            check_regular(&path, &data)?;
            if files.len() == FILES_MAX {
                bail!("{}: more than {FILES_MAX} files, the limit", root.display());
            }
            files.push(Source::new(path, components, &data, linked));
        }
    }
    Ok(())
}

fn below(step: &Step, path: PathBuf, components: Vec<String>) -> Result<Step> {
    let shown = || path.display().to_string();
    if DEPTH_MAX < components.len() {
        bail!("{}: more than {DEPTH_MAX} folders deep, the limit", shown());
    }
    let real = fs::canonicalize(&path).with_context(shown)?;
    if step.above.contains(&real) {
        bail!("{}: a link back to a folder that it is in", shown());
    }
    let mut above = step.above.clone();
    above.push(real);
    Ok(Step { path, components, above, linked: step.linked })
}

fn check_regular(path: &Path, data: &Metadata) -> Result<()> {
    if !data.is_file() {
        bail!("{}: neither a file nor a folder", path.display());
    }
    Ok(())
}
