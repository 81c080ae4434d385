//! Where a download of a test happens.

use std::path::PathBuf;

use super::fixture::{Fixture, Folder};
use super::run::Run;

/// A torrent on disk, and an empty folder for its data.
pub struct Place {
    _folder: Folder,
    pub torrent: PathBuf,
    pub data: PathBuf,
}

impl Place {
    pub fn new(fixture: &Fixture) -> Place {
        Place::with_trackers(fixture, &[])
    }

    pub fn with_trackers(fixture: &Fixture, tiers: &[&[&str]]) -> Place {
        let folder = Folder::new("download");
        let torrent = folder.file("a.torrent", &fixture.torrent(tiers));
        let data = folder.folder("data");
        Place { _folder: folder, torrent, data }
    }

    pub fn get(&self) -> Run {
        Run::get(&self.torrent, &self.data)
    }
}
