//! Payloads and the torrents made of them (BEP 3, 12, 27, 47), the same for every run.
//!
//! The info dictionary is written by hand, its keys in order:
//! `files | length`, `name`, `piece length`, `pieces`, `private`.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Requests are for this many bytes; the last one of a piece may be shorter (BEP 3).
pub const BLOCK_LEN: usize = 16 * 1024;

/// What a torrent is to be made of.
#[derive(Clone)]
pub struct Recipe {
    name: String,
    /// `None`: a single file, without the list of files.
    files: Option<Vec<(String, usize, bool)>>,
    length: usize,
    piece_length: usize,
    seed: u64,
    private: bool,
}

impl Recipe {
    pub fn file(name: &str, length: usize) -> Recipe {
        let name = name.to_owned();
        Recipe { name, files: None, length, piece_length: 64 << 10, seed: 1, private: false }
    }

    pub fn tree(name: &str) -> Recipe {
        Recipe { files: Some(Vec::new()), ..Recipe::file(name, 0) }
    }

    /// One more file; its path has `/` between the components.
    pub fn with(mut self, path: &str, length: usize) -> Recipe {
        self.length += length;
        self.files.as_mut().expect("a tree").push((path.to_owned(), length, false));
        self
    }

    /// A pad file (BEP 47) up to the next piece, so that the next file begins with one.
    pub fn pad(mut self) -> Recipe {
        let length = self.length.next_multiple_of(self.piece_length) - self.length;
        self.length += length;
        let path = format!(".pad/{length}");
        self.files.as_mut().expect("a tree").push((path, length, true));
        self
    }

    pub fn piece_length(self, piece_length: usize) -> Recipe {
        Recipe { piece_length, ..self }
    }

    pub fn seed(self, seed: u64) -> Recipe {
        Recipe { seed, ..self }
    }

    pub fn private(self) -> Recipe {
        Recipe { private: true, ..self }
    }

    pub fn make(self) -> Fixture {
        let single = self.files.is_none();
        let list = self.files.clone().unwrap_or_else(|| vec![(String::new(), self.length, false)]);
        let mut data = vec![0; self.length];
        let mut rng = fastrand::Rng::with_seed(self.seed);
        let (mut files, mut at) = (Vec::new(), 0);
        for (path, length, pad) in list {
            if !pad {
                rng.fill(&mut data[at..at + length]);
            }
            files.push(File { path, range: at..at + length, pad });
            at += length;
        }
        let start = Instant::now();
        let pieces: Vec<u8> = data
            .chunks(self.piece_length)
            .flat_map(|piece| sha1_smol::Sha1::from(piece).digest().bytes())
            .collect();
        let hashing = start.elapsed();
        let info = info_dictionary(&self, &files, &pieces);
        Fixture {
            name: self.name,
            single,
            files,
            piece_length: self.piece_length,
            info_hash: sha1_smol::Sha1::from(&info).digest().bytes(),
            info,
            data: Arc::new(data),
            hashing,
        }
    }
}

fn info_dictionary(recipe: &Recipe, files: &[File], pieces: &[u8]) -> Vec<u8> {
    let mut info = b"d".to_vec();
    match &recipe.files {
        None => info.extend(format!("6:lengthi{}e", recipe.length).bytes()),
        Some(_) => {
            info.extend(b"5:filesl");
            for file in files {
                let attr = if file.pad { "4:attr1:p" } else { "" };
                info.extend(format!("d{attr}6:lengthi{}e4:pathl", file.range.len()).bytes());
                file.path.split('/').for_each(|part| string(&mut info, part.as_bytes()));
                info.extend(b"ee");
            }
            info.push(b'e');
        }
    }
    info.extend(b"4:name");
    string(&mut info, recipe.name.as_bytes());
    info.extend(format!("12:piece lengthi{}e6:pieces", recipe.piece_length).bytes());
    string(&mut info, pieces);
    if recipe.private {
        info.extend(b"7:privatei1e");
    }
    info.push(b'e');
    info
}

/// Appends a bencoded string.
pub fn string(to: &mut Vec<u8>, bytes: &[u8]) {
    to.extend(format!("{}:", bytes.len()).bytes());
    to.extend(bytes);
}

pub struct File {
    /// Below the torrent's name; empty for a single file.
    pub path: String,
    /// Its place in the payload.
    pub range: Range<usize>,
    pub pad: bool,
}

/// A payload and what its torrent says of it.
pub struct Fixture {
    pub name: String,
    pub single: bool,
    pub files: Vec<File>,
    pub piece_length: usize,
    pub info_hash: [u8; 20],
    pub info: Vec<u8>,
    /// All files one after the other.
    pub data: Arc<Vec<u8>>,
    /// How long the SHA-1 of all pieces took, one after the other.
    pub hashing: Duration,
}

impl Fixture {
    pub fn pieces(&self) -> usize {
        self.data.len().div_ceil(self.piece_length)
    }

    pub fn piece_range(&self, piece: usize) -> Range<usize> {
        let start = piece * self.piece_length;
        start..(start + self.piece_length).min(self.data.len())
    }

    pub fn blocks(&self) -> usize {
        (0..self.pieces()).map(|piece| self.piece_range(piece).len().div_ceil(BLOCK_LEN)).sum()
    }

    /// The .torrent, with these tiers of trackers (BEP 12).
    pub fn torrent(&self, tiers: &[&[&str]]) -> Vec<u8> {
        let mut torrent = b"d".to_vec();
        if let Some(first) = tiers.first().and_then(|tier| tier.first()) {
            torrent.extend(b"8:announce");
            string(&mut torrent, first.as_bytes());
            torrent.extend(b"13:announce-listl");
            for tier in tiers {
                torrent.push(b'l');
                tier.iter().for_each(|url| string(&mut torrent, url.as_bytes()));
                torrent.push(b'e');
            }
            torrent.push(b'e');
        }
        torrent.extend(b"4:info");
        torrent.extend(&self.info);
        torrent.push(b'e');
        torrent
    }

    /// Where a download to `dir` puts a file.
    pub fn path_of(&self, file: &File, dir: &Path) -> PathBuf {
        let root = dir.join(&self.name);
        if self.single { root } else { root.join(&file.path) }
    }

    /// Writes the payload as a finished download would leave it.
    pub fn write_to(&self, dir: &Path) {
        for file in self.files.iter().filter(|file| !file.pad) {
            let path = self.path_of(file, dir);
            fs::create_dir_all(path.parent().expect("below dir")).expect("folder");
            fs::write(&path, &self.data[file.range.clone()]).expect("payload");
        }
    }

    /// Compares what is below `dir` with the payload: every file, every byte, and nothing else.
    pub fn difference(&self, dir: &Path) -> Result<(), String> {
        for file in &self.files {
            let path = self.path_of(file, dir);
            if file.pad {
                match path.exists() {
                    true => return Err(format!("pad file {} was written", path.display())),
                    false => continue,
                }
            }
            let found = fs::read(&path).map_err(|err| format!("{}: {err}", path.display()))?;
            let wanted = &self.data[file.range.clone()];
            if found.len() != wanted.len() {
                let (found, wanted) = (found.len(), wanted.len());
                return Err(format!("{}: {found} bytes, not {wanted}", path.display()));
            }
            if let Some(at) = found.iter().zip(wanted).position(|(a, b)| a != b) {
                return Err(format!("{}: byte {at} differs", path.display()));
            }
        }
        let expected = self.files.iter().filter(|file| !file.pad).count();
        let found = files_below(dir);
        match found.len() == expected {
            true => Ok(()),
            false => Err(format!("{expected} files expected, found {found:?}")),
        }
    }

    /// As [`difference`](Self::difference), for a test.
    #[track_caller]
    pub fn assert_in(&self, dir: &Path) {
        if let Err(difference) = self.difference(dir) {
            panic!("{difference}");
        }
    }
}

/// Every file below a folder.
pub fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                true => folders.push(entry.path()),
                false => found.push(entry.path()),
            }
        }
    }
    found.sort();
    found
}

/// A folder of one test, gone with it.
pub struct Folder(pub PathBuf);

impl Folder {
    /// On the disk where the build is: a real one, where `/tmp` may be memory.
    pub fn new(name: &str) -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let base = option_env!("CARGO_TARGET_TMPDIR").map(PathBuf::from);
        let base = base.filter(|base| base.is_dir()).unwrap_or_else(std::env::temp_dir);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = base.join(format!("{name}-{}-{n}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("folder");
        Folder(path)
    }

    /// Writes a file into it; its path.
    pub fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).expect("file");
        path
    }

    /// A folder in it.
    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(&path).expect("folder");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // One that failed may be looked at.
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}
