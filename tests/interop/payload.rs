//! What is transferred: five torrents, each difficult in its own way, and the comparison that
//! decides whether a download is right.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use piecemeal::hash::Sha1;
use piecemeal::magnet::Magnet;
use sha1_smol::Sha1 as Hasher;

use crate::process::{helper, peers_dir};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Relative paths and contents: the shape of a payload on the disk.
type Tree = BTreeMap<String, Vec<u8>>;

/// Whether a download without the torrent's empty files is complete. Transmission thinks so.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum EmptyFiles {
    MustBe,
    MayLack,
}

pub struct Payload {
    /// What the test calls it.
    pub name: &'static str,
    /// The files, as they lie under a download directory (so with the torrent's name in front).
    tree: Tree,
    /// The padding files (BEP 47) that clients which know nothing of padding look for.
    padding: Tree,
    /// The torrent file without any tracker.
    torrent: Vec<u8>,
    pub info_hash: Sha1,
    pub pieces: usize,
}

impl Payload {
    /// A magnet link with nothing in it but the hash, these trackers and these peers.
    pub fn magnet(&self, trackers: &[String], peers: &[SocketAddr]) -> String {
        let mut magnet = Magnet::new(self.info_hash);
        magnet.trackers = trackers.to_vec();
        magnet.peers =
            peers.iter().map(|peer| peer.to_string().parse().expect("IP:PORT")).collect();
        magnet.to_string()
    }

    /// All of them. Made once for all tests: hashing takes seconds where nothing is optimised.
    pub fn all() -> &'static [Payload] {
        static ALL: OnceLock<Vec<Payload>> = OnceLock::new();
        ALL.get_or_init(Payload::make_all)
    }

    /// The hybrid one is left out where libtorrent, which makes it, is absent.
    fn make_all() -> Vec<Payload> {
        let mut payloads = vec![
            Payload::v1("single", 64 * KIB, &[("single.bin", 5 * MIB + 3)]),
            // No multiple of 16 KiB: the last block of every piece is short.
            Payload::v1("tree", 50_000, TREE),
            Payload::v1("odd-pieces", 50_001, &[("odd pieces.bin", 3_000_000)]),
            Payload::v1("large-pieces", 16 * MIB, &[("large.iso", 2 * MIB * 16 + 5 * MIB + 7)]),
        ];
        let scratch = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hybrid");
        payloads.extend(Payload::hybrid(&scratch));
        let _ = fs::remove_dir_all(&scratch);
        payloads
    }

    /// A torrent of version 1, written here and not by the program under test.
    fn v1(name: &'static str, piece_len: usize, files: &[(&str, usize)]) -> Payload {
        let tree = tree(name, files);
        let data: Vec<u8> = tree_in_order(&tree, files).concat();
        let pieces: Vec<u8> =
            data.chunks(piece_len).flat_map(|p| Hasher::from(p).digest().bytes()).collect();
        let top = files[0].0.split('/').next().unwrap_or_default();
        let mut info = b"d".to_vec();
        if files.len() == 1 {
            info.extend(format!("6:lengthi{}e", data.len()).bytes());
        } else {
            info.extend(b"5:filesl");
            for (path, len) in files {
                info.extend(format!("d6:lengthi{len}e4:pathl").bytes());
                path.split('/').skip(1).for_each(|part| info.extend(bencoded(part)));
                info.extend(b"ee");
            }
            info.extend(b"e");
        }
        info.extend(b"4:name");
        info.extend(bencoded(top));
        info.extend(format!("12:piece lengthi{piece_len}e6:pieces{}:", pieces.len()).bytes());
        info.extend(&pieces);
        info.extend(b"e");
        let torrent = [b"d4:info", &info[..], b"e"].concat();
        Payload::new(name, tree, Tree::new(), torrent, &info)
    }

    /// Version 1 and 2 in one file, with padding so that each file begins with a piece. Its info
    /// hash as a torrent of version 1 is what counts here.
    fn hybrid(scratch: &Path) -> Option<Payload> {
        const PIECE_LEN: usize = 64 * KIB;
        let files = [
            ("hybrid/a.bin", 1_000_000),
            ("hybrid/b/c.bin", 70_000),
            ("hybrid/d.bin", 1),
            ("hybrid/e.bin", 2 * 65_536),
        ];
        let tree = tree("hybrid", &files);
        let out = scratch.join("hybrid.torrent");
        write_tree(&tree, scratch);
        let done = python("seed.py")
            .arg("hybrid")
            .arg(scratch.join("hybrid"))
            .arg(PIECE_LEN.to_string())
            .arg(&out)
            .output();
        done.ok().filter(|done| done.status.success())?;
        let torrent = fs::read(&out).expect("the hybrid torrent");
        let info = span_of_info(&torrent).expect("an info dictionary");
        // A client that knows no padding sees files of zeros in a folder `.pad`.
        let padding = files.iter().filter(|(_, len)| len % PIECE_LEN != 0).map(|(_, len)| {
            let pad = PIECE_LEN - len % PIECE_LEN;
            (format!("hybrid/.pad/{pad}"), vec![0; pad])
        });
        Some(Payload::new("hybrid", tree, padding.collect(), torrent.clone(), &torrent[info]))
    }

    fn new(
        name: &'static str,
        tree: Tree,
        padding: Tree,
        torrent: Vec<u8>,
        info: &[u8],
    ) -> Payload {
        let info_hash = Sha1(Hasher::from(info).digest().bytes());
        let at = find(info, b"6:pieces").expect("an info dictionary has pieces") + 8;
        let digits: String =
            info[at..].iter().take_while(|b| b.is_ascii_digit()).map(|b| char::from(*b)).collect();
        let pieces = digits.parse::<usize>().expect("a length") / 20;
        Payload { name, tree, padding, torrent, info_hash, pieces }
    }

    /// Writes the data, as a seeder wants to find it.
    pub fn write_data(&self, dir: &Path) {
        write_tree(&self.tree, dir);
        write_tree(&self.padding, dir);
    }

    /// Writes the torrent file, with each of `trackers` in a tier of its own.
    pub fn write_torrent(&self, dir: &Path, trackers: &[String]) -> PathBuf {
        let mut torrent = b"d".to_vec();
        if let Some(first) = trackers.first() {
            torrent.extend(b"8:announce");
            torrent.extend(bencoded(first));
            torrent.extend(b"13:announce-listl");
            for tracker in trackers {
                torrent.extend([b"l", &bencoded(tracker)[..], b"e"].concat());
            }
            torrent.extend(b"e");
        }
        // Both keys sort before all that is there, so they are simply put in front of it.
        torrent.extend(&self.torrent[1..]);
        let path = dir.join(format!("{}.torrent", self.name));
        fs::write(&path, torrent).expect("writing a torrent");
        path
    }

    /// What is wrong with a download in `dir`: a file that is missing, a byte that differs.
    pub fn difference(&self, dir: &Path, empty: EmptyFiles) -> Option<String> {
        for (path, expected) in &self.tree {
            let actual = match fs::read(dir.join(path)) {
                Ok(actual) => actual,
                Err(_) if expected.is_empty() && empty == EmptyFiles::MayLack => continue,
                Err(e) => return Some(format!("{path}: {e}")),
            };
            if actual.len() != expected.len() {
                return Some(format!("{path}: {} bytes of {}", actual.len(), expected.len()));
            }
            let differs = actual.iter().zip(expected).position(|(a, b)| a != b);
            if let Some(at) = differs {
                return Some(format!("{path}: byte {at} differs"));
            }
        }
        None
    }

    /// The first file in `dir` that is no part of the payload.
    pub fn stranger(&self, dir: &Path) -> Option<String> {
        let mut todo = vec![dir.to_path_buf()];
        while let Some(folder) = todo.pop() {
            for entry in fs::read_dir(&folder).expect("listing a download").flatten() {
                let path = entry.path();
                if path.is_dir() {
                    todo.push(path);
                    continue;
                }
                let name = path.strip_prefix(dir).expect("inside").to_string_lossy().into_owned();
                if !self.tree.contains_key(&name) {
                    return Some(name);
                }
            }
        }
        None
    }
}

/// Sizes around the block, a piece of 32 KiB and nothing; names that are nested, long and not ASCII.
const TREE: &[(&str, usize)] = &[
    ("tree/empty at the start", 0),
    ("tree/one byte", 1),
    ("tree/short block", 16_383),
    ("tree/long block", 16_385),
    ("tree/piece", 32_768),
    ("tree/nested/in/deep/folders/file.dat", 1_234_567),
    ("tree/nested/empty", 0),
    ("tree/Ünïcödé/файл.txt", 99_999),
    ("tree/Ünïcödé/日本語 🎉.bin", 33),
    ("tree/spaces and 'quotes' & %20", 70_001),
    ("tree/empty at the end", 0),
];

/// Contents that are the same in every run, and that no compression or guess can reproduce.
fn tree(seed: &str, files: &[(&str, usize)]) -> Tree {
    let seed = seed.bytes().fold(7, |sum: u64, byte| sum.wrapping_mul(257) + u64::from(byte));
    let mut random = fastrand::Rng::with_seed(seed);
    let mut contents = |len| {
        let mut data = vec![0; len];
        random.fill(&mut data);
        data
    };
    files.iter().map(|(path, len)| (path.to_string(), contents(*len))).collect()
}

/// The contents in the torrent's order, which is not that of the map.
fn tree_in_order(tree: &Tree, files: &[(&str, usize)]) -> Vec<Vec<u8>> {
    files.iter().map(|(path, _)| tree[*path].clone()).collect()
}

fn write_tree(tree: &Tree, dir: &Path) {
    for (path, data) in tree {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().expect("has a parent")).expect("making a folder");
        fs::write(path, data).expect("writing a payload");
    }
}

fn bencoded(text: &str) -> Vec<u8> {
    format!("{}:{text}", text.len()).into_bytes()
}

/// Where the value of `info` lies in a torrent. Only for what libtorrent wrote a moment ago; it
/// walks the dictionary so that no byte of the hashes can be taken for a key.
fn span_of_info(torrent: &[u8]) -> Option<std::ops::Range<usize>> {
    let mut at = 1;
    loop {
        let key_end = end_of_value(torrent, at)?;
        let value_end = end_of_value(torrent, key_end)?;
        if torrent[at..key_end].ends_with(b":info") {
            return Some(key_end..value_end);
        }
        at = value_end;
    }
}

fn end_of_value(bytes: &[u8], at: usize) -> Option<usize> {
    match bytes.get(at)? {
        b'i' => Some(at + find(&bytes[at..], b"e")? + 1),
        b'l' | b'd' => {
            let mut next = at + 1;
            while *bytes.get(next)? != b'e' {
                next = end_of_value(bytes, next)?;
            }
            Some(next + 1)
        }
        b'0'..=b'9' => {
            let colon = at + find(&bytes[at..], b":")?;
            let len: usize = std::str::from_utf8(&bytes[at..colon]).ok()?.parse().ok()?;
            Some(colon + 1 + len)
        }
        _ => None,
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// Python with the packages of `make peers`, running a helper.
pub fn python(script: &str) -> Command {
    let mut command = Command::new("python3");
    command.env("PYTHONPATH", peers_dir().join("python")).env("PYTHONDONTWRITEBYTECODE", "1");
    command.arg(helper(script));
    command
}

/// The judge of all other tests here: whatever can be wrong with a download, it must see.
#[test]
fn the_comparison_sees_every_kind_of_damage() {
    let payload = Payload::v1("judged", 4, &[("judged/a", 6), ("judged/none", 0)]);
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("judged");
    let _ = fs::remove_dir_all(&dir);
    let file = dir.join("judged/a");
    let difference = |empty| payload.difference(&dir, empty).unwrap_or_default();
    payload.write_data(&dir);
    let right = fs::read(&file).expect("just written");
    assert_eq!(difference(EmptyFiles::MustBe), "");
    assert_eq!(payload.stranger(&dir), None);

    let mut wrong = right.clone();
    wrong[5] ^= 1;
    for (bytes, expected) in [
        (&wrong[..], "judged/a: byte 5 differs"),
        (&right[..5], "judged/a: 5 bytes of 6"),
        (&[&right[..], b"x"].concat(), "judged/a: 7 bytes of 6"),
    ] {
        fs::write(&file, bytes).expect("writing");
        assert_eq!(difference(EmptyFiles::MayLack), expected);
    }
    fs::write(&file, &right).expect("writing");
    fs::remove_file(dir.join("judged/none")).expect("removing");
    assert_eq!(difference(EmptyFiles::MayLack), "");
    assert!(difference(EmptyFiles::MustBe).starts_with("judged/none: "));
    fs::write(dir.join("judged/more"), "").expect("writing");
    assert_eq!(payload.stranger(&dir), Some("judged/more".into()));
    fs::remove_dir_all(&dir).expect("removing");
}
