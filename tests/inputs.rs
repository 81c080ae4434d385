//! What the program takes as TORRENT and as FILE: the real binary on files, standard input,
//! addresses and links; good ones and hostile ones.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;

use piecemeal::bencode::{self, Dictionary};

const BINARY: &str = env!("CARGO_BIN_EXE_piecemeal");

/// A torrent of one 5-byte file.
fn torrent(name: &str) -> Vec<u8> {
    let info = Dictionary::new()
        .int("length", 5)
        .bytes("name", name)
        .int("piece length", 16_384)
        .bytes("pieces", [7; 20]);
    Dictionary::new().dict("info", info).done()
}

/// Runs the program with something on its standard input.
fn run(args: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(BINARY)
        .args(args)
        .env_remove("http_proxy")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that refuses its arguments does not read: then nobody takes these bytes.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

#[track_caller]
fn accepted(args: &[&str], input: &[u8]) -> String {
    let output = run(args, input);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""), "{args:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Refused with exit code 1 and one line that has all these words.
#[track_caller]
fn refused(args: &[&str], input: &[u8], words: &[&str]) {
    let output = run(args, input);
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b""[..]), "{line}");
    assert!(line.starts_with("piecemeal: ") && line.matches('\n').count() == 1, "{line}");
    for word in words {
        assert!(line.contains(word), "{word} is not in {line}");
    }
}

fn testdata(name: &str) -> String {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "testdata", name].iter().collect();
    path.to_str().unwrap().to_owned()
}

/// A server on loopback that gives each connection the next of these answers; its address.
fn server(answers: Vec<Vec<u8>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for answer in answers {
            let (mut socket, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && socket.read(&mut byte).is_ok_and(|n| n == 1) {
                request.push(byte[0]);
            }
            // The client may have seen enough before the end.
            let _ = socket.write_all(&answer);
        }
    });
    format!("http://{address}/x.torrent")
}

fn answer(head: &str, body: &[u8]) -> Vec<u8> {
    let len = body.len();
    let head = format!("HTTP/1.1 {head}\r\nConnection: close\r\nContent-Length: {len}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

#[test]
fn the_golden_torrent_is_shown_as_before() {
    let read = |name: &str| std::fs::read_to_string(testdata(name)).unwrap();
    let path = testdata("tree.torrent");
    assert_eq!(accepted(&["show", "--piece-hashes", &path], b""), read("tree.show.txt"));
    assert_eq!(accepted(&["show", "--json", &path], b""), read("tree.show.json"));
    assert_eq!(accepted(&["decode", &path], b""), read("tree.decode.json"));
    assert_eq!(accepted(&["decode", &testdata("stream.hex")], b""), read("stream.decode.txt"));
    assert_eq!(accepted(&["decode", &testdata("run.trace")], b""), read("run.decode.txt"));
}

#[test]
fn what_is_no_bencode_is_explained() {
    let handshake =
        b"\x13BitTorrent protocol\0\0\0\0\0\x10\0\x05hhhhhhhhhhhhhhhhhhhh-TR4060-abcdefghijkl";
    let text = accepted(&["decode", "-"], handshake);
    let bit = "      25  10                     extension protocol: reserved[5] & 0x10  [BEP 10]\n";
    assert!(text.contains(bit), "{text}");
    let json = accepted(&["decode", "--json", "000000050400000102"], b"");
    let start = "{\"kind\":\"messages\",\"bytes\":9,\"fields\":[{\"at\":0,\"len\":9,";
    assert!(json.starts_with(start) && json.ends_with("\"hex\":\"00000102\"}]}]}\n"), "{json}");
    // All the bytes, however many.
    let long = [&[0, 0, 0, 209, 5][..], &[0xaa; 208]].concat();
    assert!(accepted(&["decode", "--json", "-"], &long).contains(&"aa".repeat(208)));
    let magnet = "magnet:?xt=urn:btih:c12fe1c06bba254a9dc9f519b335aa7c1367a88a";
    assert!(accepted(&["decode", magnet], b"").contains("exact topic"));
    assert!(
        accepted(&["decode", "--explain", "i5e"], b"").contains("value: 5  [BEP 3, bencoding]")
    );
    assert!(accepted(&["decode", "--hex", "69 35 65"], b"").starts_with("5\n"));
    let words = ["standard input: as messages, at byte 0", "a length of 1, found 2 (BEP 3"];
    refused(&["decode", "--as", "messages", "-"], b"\0\0\0\x02\x01\0", &words);
    refused(&["decode", "--hex", "-"], b"00 0g", &["at byte 4: expected a hexadecimal digit"]);
    refused(&["decode", "-"], &handshake[..50], &["expected a handshake of 68 bytes, found 50"]);
    assert_eq!(run(&["decode", "--as", "soup", "x"], b"").status.code(), Some(2));
    let broken = run(&["decode", "-v", "--as", "messages", "-"], b"\0\0\0\x01\x01\0\0\0\x02\x01");
    assert!(String::from_utf8(broken.stdout).unwrap().contains("unchoke"), "what was before");
    assert_eq!(broken.status.code(), Some(1));
}

#[test]
fn dumps_are_read_and_what_is_nothing_is_told_apart() {
    for dump in [
        "00000000: 0000 000d 0600 0000 0100 0040 0000 0040  .......1...@...@\n00000010: 00  .\n",
        "00000000  00 00 00 0d 06 00 00 00  01 00 00 40 00 00 00 40  |...|\n00000010  00  |.|\n",
    ] {
        let text = accepted(&["decode", "--hex", "-"], dump.as_bytes());
        assert!(text.contains("request: message 1"), "{text}");
    }
    let text = accepted(&["decode", "--as", "messages", "0000000101"], b"");
    assert!(text.contains("unchoke: message 1"), "{text}");
    refused(&["decode", "i007e"], b"", &["i007e: no file has this name", "leading zero (BEP 3)"]);
    refused(&["decode", "abcd"], b"", &["2 bytes of hexadecimal digits need --hex"]);
    refused(&["decode", "-"], b"hello", &["found 'h'", "--as says what it is: bencode, tracker"]);
    refused(&["decode", "-"], b"i5ei6e", &["at byte 3: the value ends here, and 3 more bytes"]);
    let odd = run(&["decode", "d1:b0:1:a0:e"], b"");
    assert_eq!((odd.status.code(), &odd.stdout[..]), (Some(0), &b"{\"b\":\"\",\"a\":\"\"}\n"[..]));
    let warned = String::from_utf8(odd.stderr).unwrap();
    assert!(warned.contains("the key a is out of order (BEP 3"), "{warned}");
}

#[test]
fn standard_input_and_bencode_itself() {
    assert!(accepted(&["show", "-"], &torrent("a")).contains("\nLength: 5\n"));
    assert_eq!(accepted(&["decode", "-"], b"i5e\n"), "5\n");
    assert_eq!(accepted(&["decode", "5:hello"], b""), "\"hello\"\n");
    refused(&["show", "-"], b"", &["standard input", "at byte 0"]);
    refused(&["decode", "5:hell"], b"", &["5:hell", "no file has this name"]);
    refused(&["decode", "-"], b"li1ei007ee", &["at byte 4", "leading zero (BEP 3)"]);
}

#[test]
fn addresses() {
    let good = answer("200 OK", &torrent("from-the-web"));
    assert!(accepted(&["show", &server(vec![good.clone()])], b"").contains("from-the-web"));
    let elsewhere = server(vec![good]);
    let redirect = answer(&format!("302 Found\r\nLocation: {elsewhere}"), b"");
    assert!(accepted(&["show", &server(vec![redirect])], b"").contains("from-the-web"));

    refused(&["show", &server(vec![answer("404 Not Found", b"")])], b"", &["x.torrent", "404"]);
    let round = answer("302 Found\r\nLocation: /x.torrent", b"");
    refused(&["show", &server(vec![round; 9])], b"", &["more than 5 redirects"]);
    let to_file = answer("302 Found\r\nLocation: file:///etc/passwd", b"");
    refused(&["show", &server(vec![to_file])], b"", &["x.torrent"]);
    let page = answer("200 OK", b"<html>");
    refused(&["show", &server(vec![page])], b"", &["x.torrent", "found '<'"]);
    let mut flood = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n".to_vec();
    flood.resize((64 << 20) + 1000, b'x');
    refused(&["show", &server(vec![flood])], b"", &["x.torrent", "67108864"]);
}

#[test]
fn what_is_no_torrent_is_refused_in_one_line() {
    refused(&["show", "/dev/zero"], b"", &["/dev/zero", "67108864"]);
    refused(&["show", "/"], b"", &["a folder"]);
    refused(&["show", "no\nsuch\x1b.torrent"], b"", &["no\\u{a}such\\u{1b}.torrent"]);
    refused(&["show", ""], b"", &["empty"]);
    refused(&["show", "magnet:?xt=urn:btih:12"], b"", &["info hash 12"]);
    let deep = [b"d4:info".to_vec(), vec![b'l'; 1_000_000]].concat();
    refused(&["show", "-"], &deep, &["at byte 106", "100 levels"]);
    let v2 = Dictionary::new().dict("info", Dictionary::new().int("meta version", 2)).done();
    refused(&["show", "-"], &v2, &["BitTorrent v2", "BEP 52"]);
    assert_eq!(run(&["show"], b"").status.code(), Some(2));
    assert_eq!(run(&["show", "a", "b"], b"").status.code(), Some(2));
}

#[test]
fn names_from_strangers_reach_neither_terminal_nor_disk() {
    let text = accepted(&["show", "-"], &torrent("../\x1b[2J\u{202e}x"));
    assert!(text.starts_with("Name: ..__[2J_x\n"), "{text}");
    assert!(!text.contains('\x1b') && !text.contains('\u{202e}'));
}

#[test]
fn a_hundred_thousand_files_are_listed_quickly_and_apart() {
    let file = |i: u32| {
        let path = [
            bencode::bytes(format!("{}", i % 99).as_bytes()),
            bencode::bytes(format!("{i}").as_bytes()),
        ];
        Dictionary::new().int("length", 1).list("path", path).done()
    };
    let info = Dictionary::new()
        .list("files", (0..100_000).map(file))
        .bytes("name", "many")
        .int("piece length", 1 << 24)
        .bytes("pieces", [7; 20]);
    let bytes = Dictionary::new().dict("info", info).done();
    let torrent = piecemeal::metainfo::Metainfo::from_bytes(&bytes).unwrap();
    let mut paths: Vec<_> = torrent.files.iter().map(|file| &file.path).collect();
    paths.sort_unstable();
    paths.dedup();
    assert_eq!(paths.len(), 100_000);
}

#[test]
fn a_peer_that_hangs_up_is_told_from_one_that_is_quiet() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let peer = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut handshake = [0; 68];
        std::io::Read::read_exact(&mut socket, &mut handshake).unwrap();
    });
    let words = [addr.as_str(), "it hung up", "68 bytes, found 0 and the end"];
    refused(&["handshake", &testdata("tree.torrent"), &addr], b"", &words);
    peer.join().unwrap();
}
