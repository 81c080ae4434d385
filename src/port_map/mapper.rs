//! When to ask a router for what, and what its answers mean.
//!
//! ```text
//! ask ─► 250 ms ─► ask ─► 500 ms ─► ask … 7 times, the first three in PCP, then in NAT-PMP
//!  └─ open ─► after half of the lifetime: ask again         └─ no answer: again after half an hour
//! ```
//!
//! Layer: hands. Pure: the time is an argument. Owned by the thread of [`port_map`](super).

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use super::packet::{Answer, Nonce, Protocol, Request, Transport};

/// What we ask for, in seconds (RFC 6886 recommends two hours).
const LIFETIME: u32 = 7200;

/// A router may grant less, but is not asked more often than each minute.
const RENEW_MIN: Duration = Duration::from_secs(60);

/// The first pause; it doubles.
const PAUSE: Duration = Duration::from_millis(250);

const TRIES_MAX: u32 = 7;

/// So many of them in PCP, unless the router says that it does not speak it.
const PCP_TRIES: u32 = 3;

/// When a router that was silent, or refused, is asked again: another may be there by then.
const SULK: Duration = Duration::from_secs(1800);

/// What became of the wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// This port of ours can be reached from outside, under that number.
    Open { transport: Transport, port: u16, outside: u16, protocol: Protocol },
    /// The router refuses, from the beginning or from now on.
    Refused { protocol: Protocol, result: u16 },
    /// It does not answer, or does so no more.
    Silent,
}

/// The state of both ports. Owned by one thread.
pub struct Mapper {
    client: Ipv4Addr,
    nonce: Nonce,
    port: u16,
    /// What the router is known to speak.
    protocol: Option<Protocol>,
    wishes: [Wish; 2],
}

struct Wish {
    transport: Transport,
    tries: u32,
    next: Instant,
    /// The number outside, while it is open.
    outside: Option<u16>,
}

impl Wish {
    /// Whether it was refused, and its time has not come again.
    fn sulks(&self, now: Instant) -> bool {
        self.tries == 0 && now < self.next && self.outside.is_none()
    }
}

impl Mapper {
    pub fn new(port: u16, client: Ipv4Addr, nonce: Nonce, now: Instant) -> Mapper {
        let wishes = [Transport::Tcp, Transport::Udp].map(|transport| Wish {
            transport,
            tries: 0,
            next: now,
            outside: None,
        });
        Mapper { client, nonce, port, protocol: None, wishes }
    }

    /// The number under which our TCP port can be dialled from outside, while it can.
    pub fn outside(&self) -> Option<u16> {
        self.wishes[0].outside
    }

    /// When something is due.
    pub fn deadline(&self) -> Instant {
        self.wishes[0].next.min(self.wishes[1].next)
    }

    /// The packets to send now, and that the router never answered, once.
    pub fn due(&mut self, now: Instant) -> (Vec<Vec<u8>>, Option<News>) {
        let (mut packets, mut news) = (Vec::new(), None);
        for at in 0..self.wishes.len() {
            let wish = &mut self.wishes[at];
            if now < wish.next {
                continue;
            }
            if TRIES_MAX <= wish.tries {
                (wish.tries, wish.next, wish.outside) = (0, now + SULK, None);
                if at == 0 {
                    news = Some(News::Silent);
                }
                continue;
            }
            let guess = if wish.tries < PCP_TRIES { Protocol::Pcp } else { Protocol::NatPmp };
            wish.next = now + PAUSE * (1 << wish.tries);
            wish.tries += 1;
            let protocol = self.protocol.unwrap_or(guess);
            packets.push(self.request(at, LIFETIME).to_bytes(protocol));
        }
        (packets, news)
    }

    fn request(&self, at: usize, lifetime: u32) -> Request {
        let Wish { transport, outside, .. } = self.wishes[at];
        let wanted = if lifetime == 0 { 0 } else { outside.unwrap_or(self.port) };
        let (port, client, nonce) = (self.port, self.client, self.nonce);
        Request { transport, port, wanted, lifetime, client, nonce }
    }

    /// A packet from the router. Nothing that does not answer us has a meaning.
    pub fn heard(&mut self, bytes: &[u8], now: Instant) -> Option<News> {
        match Answer::from_bytes(bytes)? {
            Answer::Speaks(protocol) => {
                if self.protocol.replace(protocol) != Some(protocol) {
                    self.wishes.iter_mut().for_each(|wish| (wish.tries, wish.next) = (0, now));
                }
                None
            }
            Answer::Refused { transport, protocol, result } => {
                // It says so of each port; once is enough.
                let known = self.wishes.iter().any(|wish| wish.sulks(now));
                let mut lost = false;
                for wish in &mut self.wishes {
                    if transport.is_none_or(|transport| transport == wish.transport) {
                        lost |= wish.outside.is_some();
                        (wish.tries, wish.next, wish.outside) = (0, now + SULK, None);
                    }
                }
                (lost || !known).then_some(News::Refused { protocol, result })
            }
            Answer::Open { transport, port, outside, lifetime, nonce } => {
                let foreign = nonce.is_some_and(|nonce| nonce != self.nonce);
                if foreign || port != self.port || outside == 0 || lifetime == 0 {
                    return None;
                }
                let protocol = if nonce.is_some() { Protocol::Pcp } else { Protocol::NatPmp };
                self.protocol = Some(protocol);
                let wish = self.wishes.iter_mut().find(|wish| wish.transport == transport)?;
                let half = Duration::from_secs(u64::from(lifetime.min(LIFETIME) / 2));
                (wish.tries, wish.next) = (0, now + half.max(RENEW_MIN));
                let known = wish.outside.replace(outside) == Some(outside);
                (!known).then_some(News::Open { transport, port, outside, protocol })
            }
        }
    }

    /// The packets that take back what is open.
    pub fn farewell(&self) -> Vec<Vec<u8>> {
        let Some(protocol) = self.protocol else { return Vec::new() };
        let open = (0..self.wishes.len()).filter(|&at| self.wishes[at].outside.is_some());
        open.map(|at| self.request(at, 0).to_bytes(protocol)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapper(now: Instant) -> Mapper {
        Mapper::new(6881, Ipv4Addr::new(192, 168, 1, 7), [1; 12], now)
    }

    /// What a NAT-PMP router answers to a request.
    fn open(request: &[u8], outside: u16) -> Vec<u8> {
        let mut answer = vec![0, 128 + request[1], 0, 0, 0, 0, 0, 1];
        answer.extend(&request[4..6]);
        answer.extend(outside.to_be_bytes());
        answer.extend(&request[8..12]);
        answer
    }

    #[test]
    fn a_silent_router_is_asked_seven_times_in_two_languages_and_then_left_alone() {
        let start = Instant::now();
        let mut mapper = mapper(start);
        let (mut versions, mut now) = (Vec::new(), start);
        loop {
            let (packets, news) = mapper.due(now);
            versions.extend(packets.iter().map(|packet| packet[0]));
            if news == Some(News::Silent) {
                break;
            }
            now = mapper.deadline();
        }
        assert_eq!(versions, [2, 2, 2, 2, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(now - start, PAUSE * 127);
        assert_eq!(mapper.deadline() - now, SULK);
        assert!(mapper.farewell().is_empty());
    }

    #[test]
    fn what_an_old_router_opens_is_renewed_at_half_time_and_taken_back() {
        let now = Instant::now();
        let mut mapper = mapper(now);
        mapper.due(now);
        assert_eq!(mapper.heard(b"\0\x81\0\x01\0\0\0\0", now), None);
        let (packets, _) = mapper.due(now);
        assert_eq!(
            packets.iter().map(|packet| packet[..2].to_vec()).collect::<Vec<_>>(),
            [[0, 2], [0, 1]]
        );
        let (transport, port, protocol) = (Transport::Tcp, 6881, Protocol::NatPmp);
        let news = mapper.heard(&open(&packets[0], 7000), now);
        assert_eq!(news, Some(News::Open { transport, port, outside: 7000, protocol }));
        assert!(mapper.heard(&open(&packets[1], 6881), now).is_some());
        assert_eq!(mapper.deadline(), now + Duration::from_secs(3600));
        let (renewal, _) = mapper.due(now + Duration::from_secs(3600));
        assert_eq!(renewal[0][6..8], 7000u16.to_be_bytes());
        // The same again is no news.
        assert_eq!(mapper.heard(&open(&renewal[0], 7000), now), None);
        let last: Vec<_> = mapper.farewell().iter().map(|packet| packet[6..].to_vec()).collect();
        assert_eq!(last, [[0; 6], [0; 6]]);
    }

    /// It is not reachable any more, and when it is again that is news, be it under the same number.
    #[test]
    fn what_a_router_does_not_renew_is_lost() {
        let start = Instant::now();
        for refused in [true, false] {
            let (mut mapper, mut now) = (mapper(start), start);
            mapper.due(now);
            mapper.heard(b"\0\x81\0\x01\0\0\0\0", now);
            let (packets, _) = mapper.due(now);
            assert!(mapper.heard(&open(&packets[0], 7000), now).is_some());
            assert!(mapper.heard(&open(&packets[1], 7001), now).is_some());
            // That the other port is refused does not change it.
            mapper.heard(b"\0\x81\0\x02\0\0\0\0", now);
            assert_eq!(mapper.outside(), Some(7000));
            now = mapper.deadline();
            let mut news = None;
            while news.is_none() {
                let (packets, silent) = mapper.due(now);
                news = silent;
                if refused && !packets.is_empty() {
                    news = mapper.heard(b"\0\x82\0\x02\0\0\0\0", now);
                }
                now = mapper.deadline();
            }
            assert_eq!((news == Some(News::Silent), mapper.outside()), (!refused, None));
            assert!(mapper.heard(&open(&packets[0], 7000), now).is_some());
            assert_eq!(mapper.outside(), Some(7000));
        }
    }

    #[test]
    fn answers_to_others_and_nonsense_mean_nothing() {
        let now = Instant::now();
        let mut mapper = mapper(now);
        let (packets, _) = mapper.due(now);
        let mut foreign = packets[0].clone();
        foreign[1] = 129;
        foreign[24] ^= 1;
        assert_eq!(mapper.heard(&foreign, now), None);
        assert_eq!(mapper.heard(b"\0\x82\0\0\0\0\0\0\0\x01\0\x01\0\0\x0e\x10", now), None);
        assert_eq!(mapper.heard(b"", now), None);
        assert!(mapper.farewell().is_empty());
        let refused = Some(News::Refused { protocol: Protocol::NatPmp, result: 2 });
        assert_eq!(mapper.heard(b"\0\x82\0\x02\0\0\0\0", now), refused);
        assert_eq!(mapper.heard(b"\0\x81\0\x02\0\0\0\0", now), None);
        assert_eq!(mapper.deadline(), now + SULK);
    }
}
