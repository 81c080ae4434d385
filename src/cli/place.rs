//! Where the data of `get`, `seed` and `verify` goes or is, and which of it is wanted.
//!
//! ```text
//! -d DIR           DIR/NAME            -o PATH          PATH itself
//! -d DIR -o PATH   DIR/PATH            -s N -o PATH     PATH itself, if N is one file and PATH no folder
//! -o -             standard output; the data lies in a private folder of $TMPDIR (or /var/tmp, which
//!                  is on a disk where /tmp may be memory), which is removed at the end
//! -o - -d DIR      standard output, and DIR/NAME as ever: it is kept, and gone on with
//! --piece N -o F   F, or standard output, when the piece is verified; until then in such a folder
//! ```
//!
//! Layer: programs.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};

use super::Misuse;
use super::flags::Args;
use super::output::Output;
use crate::geometry::PieceIndex;
use crate::hash::sha1;
use crate::metainfo::Metainfo;
use crate::select::Selection;
use crate::storage::{Aside, Layout};
use crate::units::count;

/// Where the data goes.
pub struct Place {
    pub layout: Layout,
    /// It goes to standard output.
    pub streams: bool,
    /// Where it lies meanwhile; gone with this.
    pub temporary: Option<Temporary>,
}

/// What the command line says of a torrent; `offered` is what its link selects, which `-s` overrides.
pub fn place(args: &Args, torrent: Arc<Metainfo>, offered: Selection) -> Result<Place> {
    if let Some(piece) = args.piece {
        return one_piece(args, torrent, piece);
    }
    let streams = is_stream(args);
    if streams && std::io::stdout().is_terminal() {
        let how = "pipe it to a program, or name a file";
        return Err(Misuse(format!("-o - would write the file to the terminal: {how}")).into());
    }
    let mut temporary = None;
    let layout = match &args.out {
        Some(_) if streams && args.dir.is_none() => {
            let folder = temporary.insert(Temporary::new()?);
            Layout::below(torrent, folder.0.clone())
        }
        _ => files(args, torrent)?,
    };
    let wanted = if args.select.is_all() { &offered } else { &args.select };
    let layout = layout.select(wanted).map_err(|err| Misuse(err.to_string()))?;
    // A torrent that is a folder stays one, though it has one file only.
    let is_file = |out: &&PathBuf| !wanted.is_all() && !is_folder(&below(args, out));
    let layout = match args.out.as_ref().filter(is_file) {
        Some(_) if !streams && !layout.torrent().single && layout.only_file().is_some() => {
            layout.renamed()?
        }
        _ => layout,
    };
    if streams && layout.only_file().is_none() {
        let how = "select one with -s, --list shows them with their numbers";
        return Err(Misuse(format!("-o - is for one file: {how}")).into());
    }
    Ok(Place { layout, streams, temporary })
}

/// Where the files are, or are to be, of their own.
pub fn files(args: &Args, torrent: Arc<Metainfo>) -> Result<Layout> {
    match &args.out {
        Some(_) if is_stdout(args) && args.command != "get" => {
            let what = "-o - is for get: seed and verify want the file itself";
            Err(Misuse(what.to_owned()).into())
        }
        Some(out) if !is_stream(args) => Layout::at(torrent, below(args, out)),
        _ => Ok(Layout::below(torrent, args.dir.clone().unwrap_or(".".into()))),
    }
}

/// What `-o` names: relative to `-d`.
fn below(args: &Args, out: &Path) -> PathBuf {
    args.dir.as_ref().map_or_else(|| out.to_owned(), |dir| dir.join(out))
}

/// Whether it can only be a folder.
fn is_folder(path: &Path) -> bool {
    path.is_dir() || path.as_os_str().as_encoded_bytes().ends_with(b"/")
}

/// Of `--piece`.
fn one_piece(args: &Args, torrent: Arc<Metainfo>, piece: PieceIndex) -> Result<Place> {
    let pieces = torrent.geometry.pieces();
    if args.out.is_none() || (args.json && is_stdout(args)) {
        let what = "--piece: where to? Name a file with -o, or - without --json";
        return Err(Misuse(what.to_owned()).into());
    }
    if pieces <= piece {
        let pieces = count(pieces.into(), "piece");
        bail!("--piece {piece}: the torrent has {pieces}, counted from 0");
    }
    let folder = Temporary::new()?;
    let layout = Layout::below(torrent, folder.0.clone()).one_piece(piece);
    Ok(Place { layout, streams: false, temporary: Some(folder) })
}

impl Place {
    /// Writes the one piece that was wanted, if it was one, to where `-o` says.
    pub fn deliver(&self, args: &Args) -> Result<()> {
        let (Some(piece), Some(out)) = (self.layout.piece(), &args.out) else { return Ok(()) };
        let span = self.layout.geometry().whole(piece);
        let mut bytes = Vec::with_capacity(span.length as usize);
        Aside::load(&self.layout)?.read_each(span, &mut |step| bytes.extend_from_slice(step))?;
        if self.layout.torrent().piece_hashes.check(piece, sha1(&bytes)).is_none() {
            bail!("piece {piece} changed on the disk after it was verified");
        }
        if is_stdout(args) {
            let mut output = Output::new();
            output.bytes(&bytes)?;
            return output.finish();
        }
        let out = below(args, out);
        std::fs::write(&out, &bytes).with_context(|| format!("cannot write {}", out.display()))
    }
}

/// Whether the data goes to standard output while it comes.
pub fn is_stream(args: &Args) -> bool {
    is_stdout(args) && args.piece.is_none() && args.command == "get"
}

fn is_stdout(args: &Args) -> bool {
    args.out.as_deref() == Some(Path::new("-"))
}

/// A folder that nobody else may look into, and that is removed with all in it.
pub struct Temporary(PathBuf);

impl Temporary {
    fn new() -> Result<Temporary> {
        let own = std::env::var_os("TMPDIR").filter(|dir| !dir.is_empty()).map(PathBuf::from);
        let large = || Some(PathBuf::from("/var/tmp")).filter(|dir| dir.is_dir());
        let base = own.or_else(large).unwrap_or_else(std::env::temp_dir);
        let path = base.join(format!("piecemeal-{:016x}", fastrand::u64(..)));
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder
            .create(&path)
            .with_context(|| format!("cannot make the temporary folder {}", path.display()))?;
        Ok(Temporary(path))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
