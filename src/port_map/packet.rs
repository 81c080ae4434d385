//! The packets that ask a router for an open port: PCP (RFC 6887) and, for older routers, NAT-PMP
//! (RFC 6886). Both go over UDP to port 5351 of the gateway.
//!
//! ```text
//! PCP      | 2 | 1 (map) | 0 0 | lifetime: u32 | our IP: 16 bytes |                 24 bytes, and
//!          | nonce: 12 | 6 or 17 | 0 0 0 | port: u16 | wanted: u16 | wanted IP: 16 |  36 more
//! answer   | 2 | 129 | 0 | result | lifetime: u32 | epoch: u32 | 0: 12 bytes |  and the same 36
//!
//! NAT-PMP  | 0 | 1 UDP, 2 TCP | 0 0 | port: u16 | wanted: u16 | lifetime: u32 |     12 bytes
//! answer   | 0 | 129 or 130 | result: u16 | epoch: u32 | port | outside | lifetime |  16 bytes
//! ```
//!
//! A lifetime of 0 takes the mapping away. A router that speaks only the other protocol answers in
//! its own, with result 1, "unsupported version".
//!
//! Layer: hands. Bytes only, no socket.

use std::net::Ipv4Addr;

/// What travels through the open port. The numbers are those of IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Tcp = 6,
    Udp = 17,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Pcp,
    NatPmp,
}

/// By this a router knows that a renewal is ours, and we that an answer is to us.
pub type Nonce = [u8; 12];

/// A wish: this port, seen from outside under the same number if possible.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    pub transport: Transport,
    pub port: u16,
    pub wanted: u16,
    /// Seconds; 0 takes the mapping away.
    pub lifetime: u32,
    /// Ours, as the gateway sees it (PCP only).
    pub client: Ipv4Addr,
    pub nonce: Nonce,
}

impl Request {
    pub fn to_bytes(self, protocol: Protocol) -> Vec<u8> {
        match protocol {
            Protocol::Pcp => self.to_pcp(),
            Protocol::NatPmp => {
                let op = if self.transport == Transport::Udp { 1 } else { 2 };
                let mut bytes = vec![0, op, 0, 0];
                bytes.extend(self.port.to_be_bytes());
                bytes.extend(self.wanted.to_be_bytes());
                bytes.extend(self.lifetime.to_be_bytes());
                bytes
            }
        }
    }

    fn to_pcp(self) -> Vec<u8> {
        let mut bytes = vec![2, 1, 0, 0];
        bytes.extend(self.lifetime.to_be_bytes());
        bytes.extend(self.client.to_ipv6_mapped().octets());
        bytes.extend(self.nonce);
        bytes.extend([self.transport as u8, 0, 0, 0]);
        bytes.extend(self.port.to_be_bytes());
        bytes.extend(self.wanted.to_be_bytes());
        // Whatever address it has: the family is what we ask for (RFC 6887, 11.1).
        bytes.extend(Ipv4Addr::UNSPECIFIED.to_ipv6_mapped().octets());
        bytes
    }
}

/// What a router says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Open from now on, for so many seconds.
    Open { transport: Transport, port: u16, outside: u16, lifetime: u32, nonce: Option<Nonce> },
    /// It speaks this protocol, and not the one it was asked in.
    Speaks(Protocol),
    /// No, with the code of its protocol; not every answer of PCP says to which wish.
    Refused { transport: Option<Transport>, protocol: Protocol, result: u16 },
}

impl Answer {
    /// `None`: nothing that a router would say.
    pub fn from_bytes(bytes: &[u8]) -> Option<Answer> {
        let u16_at = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let u32_at = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let pcp_transport = match bytes.get(36) {
            Some(6) => Some(Transport::Tcp),
            Some(17) => Some(Transport::Udp),
            _ => None,
        };
        let pmp_transport = |op| if op == 129 { Transport::Udp } else { Transport::Tcp };
        match *bytes {
            [2, 129 | 128, _, 1, ..] => Some(Answer::Speaks(Protocol::Pcp)),
            [2, 129, _, 0, ..] => {
                let transport = pcp_transport?;
                let nonce = Some(bytes.get(24..36)?.try_into().ok()?);
                let (port, outside) = (u16_at(40)?, u16_at(42)?);
                Some(Answer::Open { transport, port, outside, lifetime: u32_at(4)?, nonce })
            }
            [2, 129, _, result, ..] => {
                let (transport, protocol) = (pcp_transport, Protocol::Pcp);
                Some(Answer::Refused { transport, protocol, result: result.into() })
            }
            [0, 128..=130, 0, 1, ..] => Some(Answer::Speaks(Protocol::NatPmp)),
            [0, op @ (129 | 130), 0, 0, ..] => {
                let transport = pmp_transport(op);
                let (port, outside) = (u16_at(8)?, u16_at(10)?);
                Some(Answer::Open { transport, port, outside, lifetime: u32_at(12)?, nonce: None })
            }
            [0, op @ (129 | 130), ..] => {
                let (transport, protocol) = (Some(pmp_transport(op)), Protocol::NatPmp);
                Some(Answer::Refused { transport, protocol, result: u16_at(2)? })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: Request = Request {
        transport: Transport::Tcp,
        port: 6881,
        wanted: 6881,
        lifetime: 7200,
        client: Ipv4Addr::new(192, 168, 1, 7),
        nonce: [9; 12],
    };

    #[test]
    fn requests_have_the_lengths_of_the_rfcs() {
        let pmp = REQUEST.to_bytes(Protocol::NatPmp);
        assert_eq!(pmp, b"\0\x02\0\0\x1a\xe1\x1a\xe1\0\0\x1c\x20");
        let pcp = REQUEST.to_bytes(Protocol::Pcp);
        assert_eq!(pcp.len(), 60);
        assert_eq!(pcp[..8], *b"\x02\x01\0\0\0\0\x1c\x20");
        assert_eq!(pcp[18..24], [0xff, 0xff, 192, 168, 1, 7]);
        assert_eq!(pcp[36..44], *b"\x06\0\0\0\x1a\xe1\x1a\xe1");
    }

    #[track_caller]
    fn check(bytes: &[u8], expected: Option<Answer>) {
        assert_eq!(Answer::from_bytes(bytes), expected);
    }

    #[test]
    fn answers() {
        let mut pcp = REQUEST.to_bytes(Protocol::Pcp);
        pcp[1] = 129;
        let (transport, port) = (Transport::Tcp, 6881);
        let nonce = Some([9; 12]);
        check(&pcp, Some(Answer::Open { transport, port, outside: 6881, lifetime: 7200, nonce }));
        check(&pcp[..43], None);
        pcp[3] = 8;
        let (protocol, result) = (Protocol::Pcp, 8);
        let refused = |transport| Some(Answer::Refused { transport, protocol, result });
        check(&pcp, refused(Some(transport)));
        check(&pcp[..24], refused(None));
        check(b"\0\x81\0\x01\0\0\0\0", Some(Answer::Speaks(Protocol::NatPmp)));
        check(b"\x02\x80\0\x01\0\0\0\0", Some(Answer::Speaks(Protocol::Pcp)));
        let open = b"\0\x82\0\0\0\0\0\x05\x1a\xe1\x1a\xe2\0\0\x0e\x10";
        let outside = 6882;
        let lifetime = 3600;
        check(open, Some(Answer::Open { transport, port, outside, lifetime, nonce: None }));
        let (protocol, result) = (Protocol::NatPmp, 2);
        let transport = Some(transport);
        check(b"\0\x82\0\x02", Some(Answer::Refused { transport, protocol, result }));
        check(b"", None);
        check(b"\x07\x07\x07\x07", None);
    }
}
