//! The extension protocol (BEP 10): what two clients can do beyond BEP 3, agreed on by name.
//!
//! ```text
//! | length | 20 | 0  | d 1:m d 11:ut_metadata i1e 6:ut_pex i2e e 1:v … e |    the extended handshake
//! | length | 20 | id | payload |                                             any other message
//!
//! m              which id to send for which extension; 0 switches it off
//! v              name and version of the client        p        the port it listens at
//! reqq           how many requests it takes at a time  yourip   4 or 16 bytes: how it sees us
//! metadata_size  bytes of the info dictionary (BEP 9)  upload_only  1: it fetches nothing (BEP 21)
//! ```
//!
//! An id belongs to whoever *receives* the message: a peer is sent the ids of its own `m`, and sends
//! ours. A later handshake changes what it names and leaves the rest. `ipv4` and `ipv6` are ignored:
//! a peer's word for an address is what PEX is for.
//!
//! ```text
//! lt_donthave   u32 piece: it is not there any more (BEP 54)
//! upload_only   u8: 1 fetches nothing, 0 fetches again
//! ```
//!
//! Layer: values.

use std::net::IpAddr;

use super::{Violation, violation};
use crate::bencode::{self, Dict, Dictionary};
use crate::geometry::PieceIndex;
use crate::printable::clipped;
use crate::wire::metadata::{METADATA_LEN_MAX, Metadata};
use crate::wire::pex::Pex;

/// The id of the extended handshake itself.
pub const HANDSHAKE: u8 = 0;

/// What we call ourselves, to peers as to servers.
pub const CLIENT: &str = concat!("piecemeal ", env!("CARGO_PKG_VERSION"));

/// A client's name is shown in tables: so many characters of it.
const CLIENT_LEN_MAX: usize = 48;

/// An extension that we speak. The number is the id by which we want to be sent its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extension {
    /// BEP 9.
    Metadata = 1,
    /// BEP 11.
    Pex = 2,
    /// BEP 54.
    DontHave = 3,
    /// BEP 21, as a message.
    UploadOnly = 4,
}

impl Extension {
    pub const ALL: [Extension; 4] =
        [Extension::Metadata, Extension::Pex, Extension::DontHave, Extension::UploadOnly];

    /// Its key in `m`.
    pub fn name(self) -> &'static str {
        match self {
            Extension::Metadata => "ut_metadata",
            Extension::Pex => "ut_pex",
            Extension::DontHave => "lt_donthave",
            Extension::UploadOnly => "upload_only",
        }
    }

    /// The extension whose messages we are sent under this id.
    pub fn of_our_id(id: u8) -> Option<Extension> {
        Extension::ALL.into_iter().find(|extension| *extension as u8 == id)
    }
}

/// What our own handshake says beyond what is always so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offer {
    /// Where we listen; 0: nowhere.
    pub port: u16,
    /// Bytes of metadata that we can serve; 0: we have none.
    pub metadata_size: u32,
    /// Whether peers may tell us of others (BEP 11).
    pub pex: bool,
}

impl Offer {
    /// The payload of our handshake with a peer at this address, which may have so many requests
    /// waiting. With `upload_only` it is told that we fetch nothing.
    pub fn to_bytes(self, peer: IpAddr, reqq: usize, upload_only: bool) -> Vec<u8> {
        let spoken = |extension: &Extension| self.pex || *extension != Extension::Pex;
        let ids = Extension::ALL.into_iter().filter(spoken);
        let ids = ids.fold(Dictionary::new(), |m, x| m.int(x.name(), x as i64));
        let mut handshake = Dictionary::new()
            .dict("m", ids)
            .bytes("v", CLIENT)
            .int("reqq", reqq as i64)
            .bytes("yourip", ip_bytes(peer));
        if self.port != 0 {
            handshake = handshake.int("p", i64::from(self.port));
        }
        if self.metadata_size != 0 {
            handshake = handshake.int("metadata_size", i64::from(self.metadata_size));
        }
        if upload_only {
            handshake = handshake.int("upload_only", 1);
        }
        handshake.done()
    }
}

fn ip_bytes(ip: IpAddr) -> Vec<u8> {
    match ip.to_canonical() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// What a peer has said in its extended handshakes. What it has not said, or said so that it makes
/// no sense, is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extended {
    /// Its ids, in the order of [`Extension::ALL`].
    ids: [Option<u8>; Extension::ALL.len()],
    /// Printable, and not long.
    pub client: Option<String>,
    pub port: Option<u16>,
    /// At least 1.
    pub reqq: Option<u32>,
    pub your_ip: Option<IpAddr>,
    /// Within 1 to [`METADATA_LEN_MAX`].
    pub metadata_size: Option<u32>,
    pub upload_only: Option<bool>,
}

impl Extended {
    /// Reads the payload of a handshake. What is no dictionary breaks the protocol; a field that
    /// makes no sense is skipped. Bytes after the dictionary are ignored.
    pub fn parse(payload: &[u8]) -> Result<Extended, Violation> {
        let document = match bencode::decode_prefix(payload) {
            Ok((document, _)) => document,
            Err(err) => return violation(format!("extended handshake: {err} (BEP 10)")),
        };
        let Some(root) = document.root().dict() else {
            return violation("an extended handshake that is no dictionary (BEP 10)".to_owned());
        };
        let id_of = |m: Dict, x: Extension| m.int(x.name()).and_then(|id| u8::try_from(id).ok());
        let in_range = |key, max| root.int(key).filter(|n| (1..=max).contains(n));
        let size = in_range("metadata_size", METADATA_LEN_MAX as i64);
        let client = root.bytes("v").map(String::from_utf8_lossy);
        Ok(Extended {
            ids: Extension::ALL.map(|x| root.dict("m").and_then(|m| id_of(m, x))),
            client: client.map(|v| clipped(v.trim(), CLIENT_LEN_MAX)).filter(|v| !v.is_empty()),
            port: in_range("p", i64::from(u16::MAX)).map(|port| port as u16),
            reqq: in_range("reqq", i64::MAX).map(|n| n.min(i64::from(u32::MAX)) as u32),
            your_ip: root.bytes("yourip").and_then(ip),
            metadata_size: size.map(|size| size as u32),
            upload_only: root.int("upload_only").map(|flag| flag != 0),
        })
    }

    /// Takes what a later handshake says.
    pub fn update(&mut self, newer: Extended) {
        for (id, new) in self.ids.iter_mut().zip(newer.ids) {
            *id = new.or(*id);
        }
        self.client = newer.client.or(self.client.take());
        self.port = newer.port.or(self.port);
        self.reqq = newer.reqq.or(self.reqq);
        self.your_ip = newer.your_ip.or(self.your_ip);
        self.metadata_size = newer.metadata_size.or(self.metadata_size);
        self.upload_only = newer.upload_only.or(self.upload_only);
    }

    /// The id under which the peer wants this extension's messages, if it wants them.
    pub fn id(&self, extension: Extension) -> Option<u8> {
        self.ids[extension as usize - 1].filter(|&id| id != 0)
    }
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// What a message of an extension says and means, for a trace. An id means something only to whom it
/// is sent, and a capture does not say who told it: so it is known by what is in it.
pub fn explained(id: u8, payload: &[u8]) -> String {
    let dictionary = bencode::decode_prefix(payload).ok();
    let dictionary = dictionary.as_ref().and_then(|(document, _)| document.root().dict());
    let has = |key: &str| dictionary.is_some_and(|root| root.get(key).is_some());
    match (id, payload) {
        (HANDSHAKE, _) => explained_handshake(payload, dictionary),
        (_, _) if has("msg_type") => Metadata::parse(payload).map(|message| message.explained()),
        (_, _) if has("added") || has("added6") || has("dropped") || has("dropped6") => {
            Pex::parse(payload).map(|message| message.explained())
        }
        (_, [_, _, _, _]) => dont_have(payload)
            .map(|piece| format!("lt_donthave, piece {piece}: it is not here any more (BEP 54)")),
        (_, [0]) => Ok("upload_only 0: I fetch again (BEP 21)".to_owned()),
        (_, [_]) => Ok("upload_only 1: I fetch nothing (BEP 21)".to_owned()),
        _ => Ok("a message of an extension that we do not speak".to_owned()),
    }
    .unwrap_or_else(|violation| violation.to_string())
}

/// The names in `m` that a trace shows.
const NAMES_SHOWN: usize = 20;

fn explained_handshake(payload: &[u8], dictionary: Option<Dict>) -> Result<String, Violation> {
    let Extended { client, port, reqq, your_ip, metadata_size, upload_only, .. } =
        Extended::parse(payload)?;
    let mut said = vec!["handshake".to_owned()];
    said.extend(client);
    said.extend(port.map(|port| format!("listens at port {port}")));
    said.extend(reqq.map(|n| format!("takes {n} requests at a time")));
    said.extend(metadata_size.map(|n| format!("has {n} bytes of metadata")));
    said.extend(upload_only.filter(|&only| only).map(|_| "fetches nothing".to_owned()));
    said.extend(your_ip.map(|ip| format!("sees you as {ip}")));
    let ids = dictionary.and_then(|root| root.dict("m"));
    let ids = ids.into_iter().flat_map(|m| m.iter()).take(NAMES_SHOWN);
    let ids = ids.map(|(name, id)| (String::from_utf8_lossy(name), id.int().unwrap_or(0)));
    let ids: Vec<_> = ids.map(|(name, id)| format!("{} = {id}", clipped(&name, 24))).collect();
    let (said, ids) = (said.join(", "), ids.join(", "));
    Ok(format!("{said}: what I speak beyond BEP 3, and my ids for it: {ids} (BEP 10)"))
}

/// The payload of `lt_donthave` (BEP 54): the piece that is not there any more.
pub fn dont_have(payload: &[u8]) -> Result<PieceIndex, Violation> {
    match payload.try_into() {
        Ok(bytes) => Ok(u32::from_be_bytes(bytes)),
        Err(_) => violation(format!("lt_donthave of {} bytes, not 4 (BEP 54)", payload.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_says_what_a_message_means() {
        let offer = Offer { port: 6881, metadata_size: 40_000, pex: true };
        let shaken = offer.to_bytes(IpAddr::from([10, 0, 0, 7]), 512, true);
        let pex = Pex { added: vec![(([10, 0, 0, 8], 9).into(), 0x12)], dropped: Vec::new() };
        let data = Metadata::Data { piece: 2, total_size: 40_000, bytes: b"d1:m" };
        for (id, payload, told) in [
            (0, &shaken[..], "listens at port 6881, takes 512 requests at a time, has 40000 bytes"),
            (0, &shaken, "fetches nothing, sees you as 10.0.0.7"),
            (0, &shaken, "lt_donthave = 3, upload_only = 4, ut_metadata = 1, ut_pex = 2"),
            (9, &pex.to_bytes(), "1 added (10.0.0.8:9 fetches nothing reachable), 0 dropped"),
            (9, &data.to_bytes(), "data, metadata piece 2 of 3, 4 of 40000 bytes"),
            (9, &Metadata::Request { piece: 1 }.to_bytes(), "request of metadata piece 1: send"),
            (9, &Metadata::Reject { piece: 1 }.to_bytes(), "reject of metadata piece 1: I do not"),
            (9, &[0, 0, 1, 1], "lt_donthave, piece 257"),
            (9, &[1], "I fetch nothing"),
            (9, b"hello", "that we do not speak"),
            (0, b"hello", "extended handshake: "),
            (9, b"d8:msg_typei1ee", "without piece"),
        ] {
            let text = explained(id, payload);
            assert!(text.contains(told), "no {told:?} in {text:?}");
        }
    }

    #[test]
    fn ours_says_what_we_offer() {
        let peer = IpAddr::from([10, 0, 0, 7]);
        let bytes = Offer::default().to_bytes(peer, 512, false);
        assert_eq!(
            String::from_utf8_lossy(&bytes).replace("\n\0\0\u{7}", "<ip>"),
            "d1:md11:lt_donthavei3e11:upload_onlyi4e11:ut_metadatai1ee4:reqqi512e\
             1:v15:piecemeal 0.1.06:yourip4:<ip>e"
        );
        let offer = Offer { port: 6881, metadata_size: 40_000, pex: true };
        let said = Extended::parse(&offer.to_bytes("::1".parse().unwrap(), 7, true)).unwrap();
        assert_eq!((said.port, said.reqq, said.metadata_size), (Some(6881), Some(7), Some(40_000)));
        assert_eq!((said.upload_only, said.your_ip), (Some(true), "::1".parse().ok()));
        for extension in Extension::ALL {
            assert_eq!(said.id(extension).and_then(Extension::of_our_id), Some(extension));
        }
        assert_eq!((Extension::of_our_id(0), Extension::of_our_id(5)), (None, None));
    }

    #[test]
    fn what_makes_no_sense_is_skipped_and_what_is_no_dictionary_refused() {
        let nothing = Extended::default();
        for odd in [
            "de",
            "d1:mi3ee",
            "d1:mlee",
            "d1:m0:e",
            "d1:md6:ut_pexi256e11:ut_metadatai-1e11:lt_donthave1:3ee",
            "d13:metadata_sizei0ee",
            "d13:metadata_sizei-1ee",
            "d13:metadata_sizei2147483648ee",
            "d13:metadata_sizei9223372036854775807ee",
            "d1:pi0e4:reqqi0e1:vi3e6:yourip3:abce",
            "d1:pi65536e4:reqqi-5e1:v2:  11:upload_only1:1e",
        ] {
            assert_eq!(Extended::parse(odd.as_bytes()), Ok(nothing.clone()), "{odd}");
        }
        let deep = [b"d1:m".to_vec(), b"l".repeat(50_000)].concat();
        for bad in [&b""[..], b"i3e", b"le", b"4:spam", b"d", b"\xff\xff", &deep] {
            assert!(Extended::parse(bad).is_err());
        }
        let long = bencode::bytes(&[b"\x1b[31m", &[b'x'; 90][..]].concat());
        let long = Extended::parse(&Dictionary::new().raw("v", long).done());
        let client = long.unwrap().client.unwrap();
        assert!(client.starts_with("\\u{1b}[31m") && client.chars().count() <= CLIENT_LEN_MAX + 1);
    }

    #[test]
    fn a_later_handshake_changes_what_it_names() {
        let mut said = Extended::parse(b"d1:md11:ut_metadatai3e6:ut_pexi1ee1:v1:ae").unwrap();
        assert_eq!(said.id(Extension::Pex), Some(1));
        said.update(Extended::parse(b"d1:md6:ut_pexi0ee13:metadata_sizei9ee").unwrap());
        assert_eq!((said.id(Extension::Pex), said.id(Extension::Metadata)), (None, Some(3)));
        assert_eq!((said.client.as_deref(), said.metadata_size), (Some("a"), Some(9)));
        assert_eq!(dont_have(b"\0\0\x01\x02"), Ok(258));
        assert!(dont_have(b"\0\0\x01").is_err() && dont_have(b"").is_err());
    }
}
