//! Ways to change an input: bytes without meaning, bencode, lines of text.

use fastrand::Rng;

/// Numbers at the edges of what fields can hold, and some that are no numbers.
const NUMBERS: [&str; 20] = [
    "0",
    "-1",
    "1",
    "20",
    "16384",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999999",
    "00",
    "-0",
    "",
    "1073741824",
    "1073741825",
];

/// Keys that mean something somewhere.
const KEYS: [&str; 30] = [
    "info",
    "name",
    "pieces",
    "piece length",
    "length",
    "files",
    "path",
    "announce",
    "announce-list",
    "url-list",
    "private",
    "attr",
    "symlink path",
    "name.utf-8",
    "path.utf-8",
    "peers",
    "peers6",
    "interval",
    "min interval",
    "failure reason",
    "retry in",
    "tracker id",
    "external ip",
    "nodes",
    "complete",
    "warning message",
    "bitfield",
    "version",
    "ip",
    "port",
];

/// Text that somebody may trust too much.
const STRINGS: [&[u8]; 22] = [
    b"",
    b"..",
    b".",
    b"../..",
    b"/",
    b"a/b",
    b"\\",
    b"\0",
    b"\x1b[31m",
    b"\xff\xfe",
    b"CON",
    b"nul.txt",
    b"a ",
    b"a.",
    b"~",
    b"A",
    b"a",
    "\u{202e}\u{e9}".as_bytes(),
    b"e\xcc\x81",
    b"http://[::1]:1/announce",
    b"udp://t.example:80/a",
    &[b'x'; 300],
];

/// The bytes that give bencode its shape.
const SHAPE: &[u8] = b"dlie:0123456789-";

/// Bytes, whatever they mean.
pub fn bytes(rng: &mut Rng, base: &[u8], other: &[u8]) -> Vec<u8> {
    let mut out = base.to_vec();
    for _ in 0..times(rng) {
        change_bytes(rng, &mut out, other);
    }
    out
}

/// Bytes that are mostly bencode.
pub fn bencode(rng: &mut Rng, base: &[u8], other: &[u8]) -> Vec<u8> {
    let mut out = base.to_vec();
    for _ in 0..times(rng) {
        match rng.u8(..10) {
            0..=2 => change_number(rng, &mut out),
            3 => change_length(rng, &mut out),
            4 => change_key(rng, &mut out),
            5..=7 => change_string(rng, &mut out),
            8 => {
                for _ in 0..rng.usize(1..4) {
                    let byte = SHAPE[rng.usize(..SHAPE.len())];
                    set(rng, &mut out, byte);
                }
            }
            _ => change_bytes(rng, &mut out, other),
        }
    }
    out
}

/// Text of which parts are repeated, exchanged with hostile ones, or cut.
pub fn text(rng: &mut Rng, base: &[u8], other: &[u8]) -> Vec<u8> {
    let mut out = base.to_vec();
    for _ in 0..times(rng) {
        let at = rng.usize(..=out.len());
        match rng.u8(..6) {
            0 | 1 => put(&mut out, at, STRINGS[rng.usize(..STRINGS.len())], 0),
            2 => put(&mut out, at, NUMBERS[rng.usize(..NUMBERS.len())].as_bytes(), 1),
            3 => {
                let mark = b"&=%:/?#[]@,-. \n+;"[rng.usize(..17)];
                put(&mut out, at, &[mark], rng.usize(..2));
            }
            _ => change_bytes(rng, &mut out, other),
        }
    }
    out
}

/// New bytes every now and then, else changed ones: for inputs that are choices.
pub fn choices(rng: &mut Rng, base: &[u8], other: &[u8]) -> Vec<u8> {
    if rng.bool() {
        return bytes(rng, base, other);
    }
    let len = [20, 100, 400, 2_000][rng.usize(..4)];
    (0..rng.usize(..len)).map(|_| rng.u8(..)).collect()
}

fn times(rng: &mut Rng) -> usize {
    [1, 1, 1, 2, 4][rng.usize(..5)]
}

fn change_bytes(rng: &mut Rng, out: &mut Vec<u8>, other: &[u8]) {
    if out.is_empty() {
        return out.extend_from_slice(other);
    }
    let at = rng.usize(..out.len());
    let len = [1, 2, 5, 20, 100][rng.usize(..5)].min(out.len() - at);
    match rng.u8(..8) {
        0 => out[at] ^= 1 << rng.u8(..8),
        1 => out[at] = rng.u8(..),
        2 => out[at] = [0, 1, 0x7f, 0x80, 0xff][rng.usize(..5)],
        3 => out.truncate(at),
        4 => drop(out.drain(at..at + len)),
        5 => {
            let part = out[at..at + len].repeat([1, 2, 50][rng.usize(..3)]);
            put(out, at, &part, 0);
        }
        6 => {
            let word = [0, 1, 0x7fff_ffff, 0x8000_0000, u32::MAX, 16_384][rng.usize(..6)];
            put(out, at, &u32::to_be_bytes(word), 4);
        }
        _ if other.is_empty() => {}
        _ => {
            out.truncate(at);
            out.extend_from_slice(&other[rng.usize(..other.len())..]);
        }
    }
}

/// Puts bytes in the place of `old` others.
fn put(out: &mut Vec<u8>, at: usize, bytes: &[u8], old: usize) {
    let end = (at + old).min(out.len());
    out.splice(at..end, bytes.iter().copied());
}

fn set(rng: &mut Rng, out: &mut [u8], byte: u8) {
    if !out.is_empty() {
        out[rng.usize(..out.len())] = byte;
    }
}

/// The places of `i…e`.
fn change_number(rng: &mut Rng, out: &mut Vec<u8>) {
    let is_number = |at: usize| {
        let digits = out[at + 1..].iter().take_while(|b| b.is_ascii_digit() || **b == b'-').count();
        (out[at] == b'i' && digits != 0 && out.get(at + 1 + digits) == Some(&b'e'))
            .then_some((at + 1, digits))
    };
    let found: Vec<(usize, usize)> = (0..out.len()).filter_map(is_number).collect();
    if let Some(&(at, len)) = rng.choice(&found) {
        put(out, at, NUMBERS[rng.usize(..NUMBERS.len())].as_bytes(), len);
    }
}

/// A string in the input: where its length begins, where its bytes begin, how many they are.
fn strings(out: &[u8]) -> Vec<(usize, usize, usize)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < out.len() {
        let digits = out[at..].iter().take(8).take_while(|byte| byte.is_ascii_digit()).count();
        let colon = at + digits;
        if digits == 0 || out.get(colon) != Some(&b':') {
            at += digits.max(1);
            continue;
        }
        let len = out[at..colon].iter().fold(0, |n, b| n * 10 + usize::from(b - b'0'));
        found.push((at, colon + 1, len.min(out.len() - colon - 1)));
        at = colon + 1 + len;
    }
    found
}

fn change_length(rng: &mut Rng, out: &mut Vec<u8>) {
    if let Some(&(at, begins, len)) = rng.choice(strings(out)).as_ref() {
        let near = [len.saturating_sub(1), len + 1, len + 20, len.saturating_sub(20)];
        let new = match rng.bool() {
            true => NUMBERS[rng.usize(..NUMBERS.len())].to_owned(),
            false => near[rng.usize(..4)].to_string(),
        };
        put(out, at, new.as_bytes(), begins - 1 - at);
    }
}

fn change_key(rng: &mut Rng, out: &mut Vec<u8>) {
    let all = strings(out);
    let is_key = |&&(_, at, len): &&(usize, usize, usize)| {
        KEYS.iter().any(|key| key.as_bytes() == &out[at..at + len])
    };
    let keys: Vec<_> = all.iter().filter(is_key).copied().collect();
    if let Some(&(at, begins, len)) = rng.choice(&keys) {
        let new = KEYS[rng.usize(..KEYS.len())];
        put(out, at, format!("{}:{new}", new.len()).as_bytes(), begins + len - at);
    }
}

/// Another string, well-formed, in the place of one; sometimes in front of it, as one more value.
fn change_string(rng: &mut Rng, out: &mut Vec<u8>) {
    if let Some((at, begins, len)) = rng.choice(strings(out)) {
        let new = match rng.u8(..3) {
            // What hashes and lists of addresses are judged by is their length.
            0 => vec![rng.u8(..); [19, 20, 21, 40, 60, 6, 12, 18, 7][rng.usize(..9)]],
            _ => STRINGS[rng.usize(..STRINGS.len())].to_vec(),
        };
        let mut value = format!("{}:", new.len()).into_bytes();
        value.extend_from_slice(&new);
        let old = if rng.u8(..4) == 0 { 0 } else { begins + len - at };
        put(out, at, &value, old);
    }
}
