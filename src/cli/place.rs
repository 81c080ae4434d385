//! Where the data of `get` and `seed` goes, and which of it is wanted.
//!
//! ```text
//! -d DIR           DIR/NAME            -o PATH          PATH itself
//! -o -             standard output; the data lies in a private folder of $TMPDIR (or /var/tmp, which
//!                  is on a disk where /tmp may be memory), which is removed at the end
//! -o - -d DIR      standard output, and DIR/NAME as ever: it is kept, and gone on with
//! ```
//!
//! Layer: programs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};

use super::Misuse;
use super::flags::Args;
use crate::metainfo::Metainfo;
use crate::select::Selection;
use crate::storage::Layout;

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
    let streams = is_stream(args);
    let mut temporary = None;
    let layout = match &args.out {
        Some(_) if streams && args.dir.is_none() => {
            let folder = temporary.insert(Temporary::new()?);
            Layout::below(torrent, folder.0.clone())
        }
        Some(out) if !streams => Layout::at(torrent, out)?,
        _ => Layout::below(torrent, args.dir.clone().unwrap_or(".".into())),
    };
    let wanted = if args.select.is_all() { &offered } else { &args.select };
    let layout = layout.select(wanted).map_err(|err| Misuse(err.to_string()))?;
    if streams && layout.only_file().is_none() {
        let how = "select one with -s, --list shows them with their numbers";
        return Err(Misuse(format!("-o - is for one file: {how}")).into());
    }
    Ok(Place { layout, streams, temporary })
}

/// Whether the data goes to standard output.
pub fn is_stream(args: &Args) -> bool {
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
