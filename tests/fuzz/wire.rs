//! Targets: the handshake, the peer messages, and those of extensions.

use piecemeal::geometry::Span;
use piecemeal::hash::Sha1;
use piecemeal::wire::extended::{Extended, Extension, Offer, dont_have};
use piecemeal::wire::handshake::{HANDSHAKE_LEN, Handshake, PeerId, Reserved, check_protocol};
use piecemeal::wire::message::{BLOCK_HEADER_LEN, Message, Parsed, parse};
use piecemeal::wire::metadata::{METADATA_LEN_MAX, Metadata};
use piecemeal::wire::pex::{ADDED_MAX, Pex};

pub fn handshakes() -> Vec<Vec<u8>> {
    let ids = [b"-TR4060-abcdefghijkl", b"-PM0100-abcdefghijkl", b"M7-9-2--abcdefghijkl"];
    let hello = |id: &[u8; 20]| Handshake {
        reserved: Reserved([0, 0, 0, 0, 0, 0x10, 0, 5]),
        info_hash: Sha1([7; 20]),
        peer_id: PeerId(*id),
    };
    ids.iter().map(|id| hello(id).to_bytes().to_vec()).collect()
}

/// What is taken is written as it came, and its beginnings were taken too.
pub fn handshake(input: &[u8]) -> bool {
    let mut bytes = [0; HANDSHAKE_LEN];
    let len = input.len().min(HANDSHAKE_LEN);
    bytes[..len].copy_from_slice(&input[..len]);
    let _ = check_protocol(input);
    let parsed = Handshake::from_bytes(&bytes);
    for cut in 0..=HANDSHAKE_LEN {
        let taken = check_protocol(&bytes[..cut]).is_ok();
        assert!(taken || parsed.is_err(), "refused after {cut} bytes, taken after all");
    }
    match parsed {
        Ok(hello) => {
            assert_eq!(hello.to_bytes(), bytes);
            let client = hello.peer_id.client();
            assert!(!client.chars().any(char::is_control), "client {client:?}");
            true
        }
        Err(rule) => {
            assert!(!rule.0.chars().any(char::is_control), "{:?}", rule.0);
            false
        }
    }
}

const PIECES: u32 = 20;

/// The first two bytes are no message: see [`message`].
pub fn streams() -> Vec<Vec<u8>> {
    let span = Span { piece: 3, begin: 16_384, length: 50 };
    let messages = [
        Message::Bitfield(vec![0xff, 0xff, 0xf0]),
        Message::Unchoke,
        Message::KeepAlive,
        Message::Have(19),
        Message::Request(span),
        Message::Cancel(span),
        Message::Reject(span),
        Message::Port(6_881),
        Message::AllowedFast(1),
        Message::Suggest(2),
        Message::HaveAll,
        Message::HaveNone,
        Message::Extended(0, b"d1:md11:ut_metadatai1eee".to_vec()),
        Message::Unknown(77),
    ];
    let mut all = vec![3, PIECES as u8];
    messages.iter().for_each(|message| message.encode(&mut all));
    let mut block = vec![17, PIECES as u8];
    for _ in 0..2 {
        Message::Block(span).encode(&mut block);
        block.extend_from_slice(&[9; 50]);
    }
    vec![all, block]
}

/// What lay in a stream: messages with where they end, and whether it broke a rule in the end.
type Heard = (Vec<(Message, usize)>, bool);

/// The same comes out whether the bytes come at once or in pieces, and what comes out is written as
/// it came. The first byte says in how large pieces, the second how many pieces the torrent has.
pub fn message(input: &[u8]) -> bool {
    let [step, pieces, stream @ ..] = input else { return false };
    let pieces = u32::from(*pieces);
    let at_once = hear(stream, stream.len().max(1), pieces);
    assert_eq!(hear(stream, usize::from(*step).max(1), pieces), at_once);
    let mut begin = 0;
    for (message, end) in &at_once.0 {
        let mut written = Vec::new();
        message.encode(&mut written);
        if !matches!(message, Message::Unknown(_)) {
            let head = &stream[begin..*end];
            assert_eq!(head[..written.len().min(head.len())], written, "{message}");
        }
        begin = *end;
    }
    !at_once.1
}

fn hear(stream: &[u8], step: usize, pieces: u32) -> Heard {
    let mut heard = Vec::new();
    let (mut parsed, mut filled) = (0, 0);
    loop {
        match parse(&stream[parsed..filled], pieces) {
            Err(rule) => {
                assert!(!rule.0.chars().any(char::is_control), "{:?}", rule.0);
                return (heard, true);
            }
            Ok(Parsed::Needs(n)) => {
                assert!(filled - parsed < n, "it needs {n} bytes and has {}", filled - parsed);
                assert!(n <= 4 + (64 << 10) + 1, "it needs {n} bytes for {pieces} pieces");
                if filled == stream.len() {
                    return (heard, false);
                }
                filled = (filled + step).min(stream.len());
            }
            Ok(Parsed::Message(message, len)) => {
                assert!(len != 0 && parsed + len <= filled, "{message} of {len} bytes");
                assert!(!message.to_string().chars().any(char::is_control));
                parsed += len;
                heard.push((message, parsed));
            }
            Ok(Parsed::Block(span, at)) => {
                assert_eq!((at.start, at.len()), (BLOCK_HEADER_LEN, span.length as usize));
                assert!(parsed + at.end <= filled && span.length != 0, "{span:?} at {at:?}");
                parsed += at.end;
                heard.push((Message::Block(span), parsed));
            }
        }
    }
}

pub fn extended_handshakes() -> Vec<Vec<u8>> {
    let offer = Offer { port: 6881, metadata_size: 70_000, pex: true };
    let real =
        b"d1:ei0e4:ipv416:\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x0012:complete_agoi1e1:md11:lt_donthavei7e\
        10:share_modei8e11:upload_onlyi3e12:ut_holepunchi4e11:ut_metadatai2e6:ut_pexi1ee\
        13:metadata_sizei31235e4:reqqi500e1:v20:libtorrent/2.0.9.0xx6:yourip4:\x7f\0\0\x01e";
    vec![offer.to_bytes([127, 0, 0, 1].into(), 512, true), real.to_vec()]
}

/// What is taken is within its limits, and a handshake after a handshake changes only what it names.
pub fn extended(input: &[u8]) -> bool {
    let _ = dont_have(input);
    match Extended::parse(input) {
        Ok(said) => {
            assert!(said.client.iter().flat_map(|v| v.chars()).all(|c| !c.is_control()));
            assert!(
                said.metadata_size.is_none_or(|n| (1..=METADATA_LEN_MAX).contains(&(n as usize)))
            );
            assert!(said.reqq != Some(0) && said.port != Some(0));
            assert!(Extension::ALL.into_iter().all(|x| said.id(x) != Some(0)));
            let mut twice = said.clone();
            twice.update(said.clone());
            assert_eq!(twice, said);
            twice.update(Extended::default());
            assert_eq!(twice, said);
            true
        }
        Err(rule) => {
            assert!(!rule.0.chars().any(char::is_control), "{:?}", rule.0);
            false
        }
    }
}

pub fn metadata_messages() -> Vec<Vec<u8>> {
    let data = Metadata::Data { piece: 1, total_size: 16_400, bytes: b"d4:infoi3ee123456" };
    let [request, reject] = [Metadata::Request { piece: 3 }, Metadata::Reject { piece: 0 }];
    [request, data, reject].iter().map(Metadata::to_bytes).collect()
}

/// What is taken is written so that it means the same.
pub fn metadata(input: &[u8]) -> bool {
    match Metadata::parse(input) {
        Ok(Metadata::Unknown) => true,
        Ok(message) => {
            assert_eq!(Metadata::parse(&message.to_bytes()), Ok(message.clone()));
            true
        }
        Err(rule) => {
            assert!(!rule.0.chars().any(char::is_control), "{:?}", rule.0);
            false
        }
    }
}

pub fn exchanges() -> Vec<Vec<u8>> {
    let addrs =
        ["10.0.0.7:6881", "[2001:db8::7]:6881"].map(|text| text.parse().expect("an address"));
    let both = Pex { added: addrs.map(|addr| (addr, 0x12)).to_vec(), dropped: addrs.to_vec() };
    vec![both.to_bytes(), Pex::default().to_bytes()]
}

/// What is taken is within its limits, and is written so that it means the same.
pub fn exchange(input: &[u8]) -> bool {
    match Pex::parse(input) {
        Ok(message) => {
            assert!(message.added.len().max(message.dropped.len()) <= ADDED_MAX);
            assert!(message.added.iter().all(|(addr, _)| addr.port() != 0));
            assert_eq!(Pex::parse(&message.to_bytes()), Ok(message));
            true
        }
        Err(rule) => {
            assert!(!rule.0.chars().any(char::is_control), "{:?}", rule.0);
            false
        }
    }
}
