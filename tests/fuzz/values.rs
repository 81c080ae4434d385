//! Targets: bencode, torrents, magnet links, resume files, the command line.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use fastrand::Rng;
use piecemeal::bencode::{self, Dictionary, Kind, Value};
use piecemeal::bitfield::Bitfield;
use piecemeal::cli::flags::{self, COMMANDS, FLAGS};
use piecemeal::hash::{Sha1, sha1};
use piecemeal::magnet::Magnet;
use piecemeal::metainfo::{File, Metainfo};
use piecemeal::resume;
use piecemeal::storage::Layout;

use crate::dice::Dice;
use crate::{engine, mutate};

pub fn bencode_seeds() -> Vec<Vec<u8>> {
    let mut seeds = torrents();
    seeds.push(b"li0ei-1e0:1:ade1:xlld1:ale1:bleeee".to_vec());
    seeds.push(vec![b'l'; 101]);
    seeds.push(b"d1:ai1e1:ai2ee".to_vec());
    seeds
}

/// Each value is where it says it is, and canonical input is encoded as it came.
pub fn bencode(input: &[u8]) -> bool {
    let (document, len) = match bencode::decode_prefix(input) {
        Ok(decoded) => decoded,
        Err(error) => {
            assert!(error.at <= input.len(), "{error}");
            assert!(!error.to_string().chars().any(char::is_control));
            return false;
        }
    };
    assert_eq!(bencode::decode(input).is_ok(), len == input.len());
    let root = document.root();
    assert_eq!(root.raw(), &input[..len]);
    let (written, canonical) = written(root, input);
    if canonical {
        assert_eq!(written, root.raw());
    }
    let again = bencode::decode(&written).expect("what we write is bencode");
    assert_eq!(self::written(again.root(), &written), (written.clone(), true));
    true
}

/// A value encoded anew, and whether it was canonical: keys sorted, none twice.
fn written(value: Value, input: &[u8]) -> (Vec<u8>, bool) {
    let raw = value.raw();
    assert_eq!(&input[value.at()..value.at() + raw.len()], raw);
    match value.kind() {
        Kind::Int(int) => (bencode::int(int), true),
        Kind::Bytes(bytes) => (bencode::bytes(bytes), true),
        Kind::List(list) => {
            assert_eq!(list.is_empty(), raw == b"le");
            let (items, canonical): (Vec<_>, Vec<_>) =
                list.iter().map(|item| written(item, input)).unzip();
            (bencode::list(items), !canonical.contains(&false))
        }
        Kind::Dict(dict) => {
            let mut canonical = true;
            let mut last: Option<&[u8]> = None;
            let mut encoded = Dictionary::new();
            for (key, value) in dict.iter() {
                canonical &= last.is_none_or(|last| last < key);
                last = Some(key);
                let (bytes, inside) = written(value, input);
                canonical &= inside;
                encoded = encoded.raw(key, bytes);
            }
            (encoded.done(), canonical)
        }
    }
}

/// What we write is read, and written again the same.
pub fn bencode_tree(input: &[u8]) -> bool {
    let encoded = tree(&mut Dice::new(input), 0);
    let document = bencode::decode(&encoded).expect("what we write is bencode");
    assert_eq!(written(document.root(), &encoded), (encoded.clone(), true));
    !bencode(&encoded[..encoded.len() - 1])
}

fn tree(dice: &mut Dice, depth: usize) -> Vec<u8> {
    let kinds = if depth < 90 { 6 } else { 2 };
    match dice.below(kinds) {
        0 => bencode::int([0, -1, i64::MIN, i64::MAX, i64::from(dice.word())][dice.below(5)]),
        1 => {
            let len = dice.below(70);
            bencode::bytes(dice.take(len))
        }
        2 | 3 => {
            let len = dice.below(5);
            bencode::list((0..len).map(|_| tree(dice, depth + 1)).collect::<Vec<_>>())
        }
        _ => {
            let mut dictionary = Dictionary::new();
            for _ in 0..dice.below(5) {
                let len = dice.below(4);
                let key = dice.take(len);
                dictionary = dictionary.raw(key, tree(dice, depth + 1));
            }
            dictionary.done()
        }
    }
}

/// Torrents of all shapes, all of them valid.
pub fn torrents() -> Vec<Vec<u8>> {
    let path =
        |parts: &[&str]| bencode::list(parts.iter().map(|part| bencode::bytes(part.as_bytes())));
    let file =
        |length, parts: &[&str]| Dictionary::new().int("length", length).raw("path", path(parts));
    let info = |pieces: usize| {
        Dictionary::new().int("piece length", 16_384).bytes("pieces", vec![b'h'; 20 * pieces])
    };
    let files = [
        file(30_000, &["a", "b.txt"]).bytes("attr", "x"),
        file(2_768, &[".pad", "2768"]).bytes("attr", "p"),
        file(1, &["a", "c"]).raw("path.utf-8", path(&["a", "é"])),
        file(0, &["link"]).bytes("attr", "l").raw("symlink path", path(&["a", "c"])),
        file(0, &["A", "C"]),
    ];
    let tiers = ["http://t.example/announce", "udp://t.example:80"]
        .map(|url| bencode::list([bencode::bytes(url.as_bytes())]));
    let many = info(3).bytes("name", "folder").bytes("name.utf-8", "Ordner").int("private", 1);
    let node = bencode::list([bencode::bytes(b"192.0.2.7"), bencode::int(6_881)]);
    vec![
        Dictionary::new()
            .bytes("announce", "http://t.example/announce")
            .dict("info", info(2).int("length", 20_000).bytes("name", "file"))
            .done(),
        Dictionary::new()
            .list("announce-list", tiers)
            .bytes("comment", "words")
            .int("creation date", 1_700_000_000)
            .dict("info", many.list("files", files.map(Dictionary::done)))
            .list("nodes", [node])
            .bytes("url-list", "http://w.example/a b/")
            .done(),
    ]
}

/// Paths are safe and different, sizes add up, and the magnet link means the same torrent.
pub fn metainfo(input: &[u8]) -> bool {
    let torrent = match Metainfo::from_bytes(input) {
        Ok(torrent) => torrent,
        Err(error) => return error.to_string().is_empty(),
    };
    safe(&torrent.name);
    assert_eq!(torrent.info_hash, sha1(&torrent.info));
    let geometry = torrent.geometry;
    assert_eq!(torrent.piece_hashes.as_slice().len(), geometry.pieces() as usize);
    let mut end = 0;
    for file in &torrent.files {
        assert_eq!(file.offset, end, "{file:?}");
        end += file.length;
    }
    assert_eq!(end, geometry.total_length());
    assert!(torrent.stored_length() <= end);
    let last = geometry.pieces() - 1;
    let lengths = geometry.piece_offset(last) + u64::from(geometry.piece_len(last));
    assert_eq!(lengths, end);
    different(&torrent);
    let magnet = Magnet::parse(&torrent.magnet()).expect("its own magnet link");
    assert_eq!(magnet.info_hash, torrent.info_hash);
    assert_eq!(magnet.trackers, torrent.trackers.concat());
    assert_eq!(magnet.web_seeds, torrent.web_seeds);
    let from_info = Metainfo::from_info(&torrent.info).expect("the same info dictionary");
    assert_eq!((from_info.info_hash, from_info.files), (torrent.info_hash, torrent.files));
    true
}

fn safe(part: &str) {
    let dots = part.is_empty() || part == "." || part == "..";
    let bad = part.contains(['/', '\\', '\0']) || part.chars().any(char::is_control);
    assert!(!dots && !bad && part.len() <= 255, "unsafe part {part:?}");
}

fn different(torrent: &Metainfo) {
    let mut files: HashSet<&[String]> = HashSet::new();
    let mut folders: HashSet<&[String]> = HashSet::new();
    for file in torrent.files.iter().filter(|file| file.is_stored()) {
        assert_eq!(file.path.is_empty(), torrent.single, "{file:?}");
        file.path.iter().for_each(|part| safe(part));
        assert!(files.insert(&file.path), "{file:?} comes twice");
        folders.extend((1..file.path.len()).map(|len| &file.path[..len]));
    }
    assert!(files.is_disjoint(&folders), "a file is a folder too");
}

pub fn magnets() -> Vec<Vec<u8>> {
    [
        "magnet:?xt=urn:btih:0123456789abcdef0123456789ABCDEF01234567&dn=a+name%20&tr=http%3A%2F%2Ft\
         .example%2Fannounce&tr.1=udp://t.example:80&ws=http://w.example/a%20b&x.pe=192.0.2.7:6881\
         &x.pe=[2001:db8::7]:6881&so=0,2,4-6",
        "MAGNET:?xt=urn:btih:ABCDEFGHIJKLMNOPQRSTUVWXYZ234567&amp;dn=..%2F..",
        "magnet:?xt=urn:btmh:1220caf1e1c30e81cb361b9ee167c4aa64228a7fa4fa9f6105232b28ad099f3a302e",
    ]
    .map(|link| link.as_bytes().to_vec())
    .to_vec()
}

/// What is taken is safe, and means the same when it is written and read again.
pub fn magnet(input: &[u8]) -> bool {
    let text = String::from_utf8_lossy(input);
    let magnet = match Magnet::parse(&text) {
        Ok(magnet) => magnet,
        Err(error) => return error.to_string().is_empty(),
    };
    magnet.name.iter().for_each(|name| safe(name));
    if let Some(ranges) = &magnet.select {
        assert!(ranges.is_sorted_by(|a, b| a.end() < b.start()), "{ranges:?}");
        assert!(ranges.iter().all(|range| range.start() <= range.end()), "{ranges:?}");
    }
    let link = magnet.to_string();
    assert_eq!(Magnet::parse(&link), Ok(magnet), "{link}");
    true
}

static PLANTED: OnceLock<Layout> = OnceLock::new();

/// A torrent of two files in a folder of our own, of which only the first one is there.
fn planted() -> &'static Layout {
    PLANTED.get_or_init(|| {
        let mut torrent = Metainfo::from_bytes(&torrents()[0]).expect("a torrent");
        let file = |name: &str, offset, length| File {
            path: vec![name.to_owned()],
            offset,
            length,
            pad: false,
            executable: false,
            symlink: None,
        };
        torrent.info_hash = Sha1([b'h'; 20]);
        torrent.single = false;
        torrent.files = vec![file("here", 0, 10_000), file("missing", 10_000, 10_000)];
        let name = format!("piecemeal-fuzz-{}-{}", std::process::id(), engine::unique());
        let folder: PathBuf = std::env::temp_dir().join(name);
        let layout = Layout::below(Arc::new(torrent), &folder);
        fs::create_dir_all(layout.root()).expect("a temporary folder");
        fs::write(layout.path(0), [7; 10_000]).expect("a file in it");
        layout
    })
}

/// The resume file of that torrent with all pieces noted, also when the second file was there.
pub fn resumes() -> Vec<Vec<u8>> {
    let layout = planted();
    let have = Bitfield::full(layout.geometry().pieces());
    let path = layout.folder().join(layout.resume_name());
    resume::save(layout, &have).expect("a resume file");
    let saved = vec![fs::read(&path).expect("just written")];
    let _ = fs::remove_file(path);
    saved
}

/// It vouches for no piece of a file that is not there.
pub fn resume(input: &[u8]) -> bool {
    let layout = planted();
    let path = layout.folder().join(layout.resume_name());
    fs::create_dir_all(layout.root()).expect("a temporary folder");
    fs::write(&path, input).expect("a resume file");
    let loaded = resume::load(layout);
    let _ = fs::remove_file(&path);
    let Some(resumed) = loaded else { return false };
    let pieces = layout.geometry().pieces();
    assert_eq!((resumed.have.len(), resumed.doubt.len()), (pieces, pieces));
    let both = resumed.have.iter().find(|&piece| resumed.doubt.contains(piece));
    assert_eq!(both, None, "verified and in doubt");
    let missing = layout.pieces_of(1).find(|&piece| resumed.have.contains(piece));
    assert_eq!(missing, None, "it vouches for a piece of a file that is not there");
    true
}

/// Removes what [`planted`] has made.
pub fn clean_up() {
    if let Some(layout) = PLANTED.get() {
        let _ = fs::remove_dir_all(layout.folder());
    }
}

pub fn command_lines() -> Vec<Vec<u8>> {
    [
        "get\n--dir\n/tmp\n-p6881\n--peer=192.0.2.7:1,[::1]:2\nx.torrent",
        "get\n--max-peers\n50\n--stop-timeout=1.5\n--trace=wire\n--listen\n::1\n-vv\n--json\nx",
        "create\n-a\nhttp://t.example/a,udp://t.example:1\n--piece-length\n256K\n-w\nhttp://w/\n.",
        "show\n--piece-hashes\n-h",
    ]
    .map(|line| line.as_bytes().to_vec())
    .to_vec()
}

/// Words are lines. A line is exchanged with a flag or a command of the table, or changed as text.
pub fn mutate_words(rng: &mut Rng, base: &[u8], other: &[u8]) -> Vec<u8> {
    const VALUES: [&str; 16] = [
        "0",
        "1001",
        "65536",
        "-1",
        "1e400",
        "nan",
        "inf",
        "4096M",
        "9iB",
        "K",
        "\u{e9}M",
        "::1",
        "1.2.3.4:99999",
        ",",
        "--",
        "-",
    ];
    let mut words: Vec<Vec<u8>> = base.split(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
    let at = rng.usize(..words.len());
    match rng.u8(..5) {
        0 => words[at] = format!("--{}", FLAGS[rng.usize(..FLAGS.len())].long).into_bytes(),
        1 => {
            let (flag, value) = (&FLAGS[rng.usize(..FLAGS.len())], rng.usize(..VALUES.len()));
            words.insert(at, format!("--{}={}", flag.long, VALUES[value]).into_bytes());
        }
        2 => words[at] = COMMANDS[rng.usize(..COMMANDS.len())].name.as_bytes().to_vec(),
        3 => words.insert(at, VALUES[rng.usize(..VALUES.len())].as_bytes().to_vec()),
        _ => return mutate::text(rng, base, other),
    }
    words.join(&b'\n')
}

/// What is taken is within the limits that the help promises.
pub fn command_line(input: &[u8]) -> bool {
    let words = input.split(|&byte| byte == b'\n').map(os_string);
    let args = match flags::parse(words) {
        Ok(args) => args,
        Err(error) => return format!("{error:#}").is_empty(),
    };
    assert!(args.max_peers.is_none_or(|n| (1..=1_000).contains(&n)), "{:?}", args.max_peers);
    let year = Duration::from_secs(366 * 86_400);
    assert!(args.stop_timeout.is_none_or(|time| time <= year), "{:?}", args.stop_timeout);
    let known = COMMANDS.iter().any(|command| command.name == args.command);
    assert!(known || args.command.is_empty(), "{}", args.command);
    assert!(args.operands.is_empty() || known);
    true
}

#[cfg(unix)]
fn os_string(bytes: &[u8]) -> OsString {
    use std::os::unix::ffi::OsStringExt;
    OsString::from_vec(bytes.to_vec())
}

#[cfg(not(unix))]
fn os_string(bytes: &[u8]) -> OsString {
    String::from_utf8_lossy(bytes).into_owned().into()
}
