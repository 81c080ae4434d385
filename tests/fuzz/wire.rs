//! Targets: the handshake and the peer messages.

use piecemeal::geometry::Span;
use piecemeal::hash::Sha1;
use piecemeal::wire::handshake::{HANDSHAKE_LEN, Handshake, PeerId, Reserved, check_protocol};
use piecemeal::wire::message::{BLOCK_HEADER_LEN, Message, Parsed, parse};

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
