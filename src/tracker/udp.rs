//! One announce or scrape over UDP (BEP 15): connect, ask, resend.
//!
//! ```text
//! client ── connect ──────────────► tracker      no answer within 15·2ⁿ s: send again, n grows
//!        ◄─ connection id ─────────              proves that we receive at the address we send from
//!        ── id, announce ──────────►             the id is good for 60 s, then connect again
//!        ◄─ interval, peers ───────
//! ```
//!
//! The socket is connected, so the system drops what comes from any other address, and tells us when
//! the port is closed. What comes from the right address with the wrong transaction is ignored.
//!
//! Layer: hands. Runs on a call thread; owns one socket at a time. The wait is cut into short
//! slices, after each of which it looks whether anybody still wants the answer.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::time::{Duration, Instant};

use super::answer::Family;
use super::packet::{self, Action, Reply};
use super::url::Place;
use super::{Announce, Answer, Error, Leash, Limits, Result, Scrape};
use crate::hash::Sha1;
use crate::order;

/// How long a client may use a connection id after it has received it (BEP 15).
const CONNECTION_LIFETIME: Duration = Duration::from_secs(60);

/// The most addresses of one name that we try: a name with more is a mistake or an attack on others.
const ADDRESSES_MAX: usize = 8;

/// How often a waiting call looks whether it is still wanted.
const SLICE: Duration = Duration::from_millis(50);

/// The longest datagram there is; a list of peers cut short would be a loss.
const DATAGRAM_MAX: usize = 64 * 1024;

/// A connection id and the address that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    address: SocketAddr,
    id: u64,
    since: Instant,
}

impl Connection {
    pub fn family(&self) -> Family {
        Family::of(self.address)
    }

    pub fn is_good(&self) -> bool {
        self.is_good_for(self.address, Instant::now())
    }

    fn is_good_for(&self, address: SocketAddr, now: Instant) -> bool {
        self.address == address && now.duration_since(self.since) < CONNECTION_LIFETIME
    }
}

pub fn announce(
    place: &Place,
    announce: &Announce,
    connection: &mut Option<Connection>,
    only: Option<Family>,
    limits: &Limits,
    leash: &Leash,
) -> Result<Answer> {
    let request = |id, transaction| {
        packet::announce(id, transaction, announce, place.path_and_query.as_bytes())
    };
    let addresses = resolve(place, connection.as_ref(), only)?;
    match converse(&addresses, connection, limits, leash, Action::Announce, &request)? {
        Reply::Announced(answer) => Ok(answer),
        other => Err(packet::unexpected(&other)),
    }
}

pub fn scrape(place: &Place, info_hash: Sha1, limits: &Limits, leash: &Leash) -> Result<Scrape> {
    let request = |id, transaction| packet::scrape(id, transaction, info_hash);
    let addresses = resolve(place, None, None)?;
    match converse(&addresses, &mut None, limits, leash, Action::Scrape, &request)? {
        Reply::Scraped(scrape) => Ok(scrape),
        other => Err(packet::unexpected(&other)),
    }
}

/// Makes the request of a connection id and a transaction id.
type MakeRequest<'a> = &'a dyn Fn(u64, u32) -> Vec<u8>;

/// Asks every address in turn, each time with more patience, until one answers.
fn converse(
    addresses: &[SocketAddr],
    connection: &mut Option<Connection>,
    limits: &Limits,
    leash: &Leash,
    action: Action,
    request: MakeRequest,
) -> Result<Reply> {
    let mut why = String::new();
    for n in 0..limits.udp_tries {
        let wait = limits.udp_first.saturating_mul(1u32.checked_shl(n).unwrap_or(u32::MAX));
        let mut anybody_silent = false;
        for (i, &address) in addresses.iter().enumerate() {
            // Only the last one is waited for at length: another may be alive.
            let is_last = i + 1 == addresses.len();
            let patience = if is_last { wait } else { wait.min(limits.next_address) };
            let mut talk = Talk { address, patience, leash, connection };
            match talk.ask(action, request) {
                Ok(Reply::Error(reason)) => return Err(Error::Refused { reason, retry_in: None }),
                Ok(reply) => return Ok(reply),
                Err(_) if leash.is_cut() => return Err(Error::Abandoned),
                Err(e) if is_silence(&e) => {
                    anybody_silent = true;
                    // Some trackers keep silent about torrents that they do not serve.
                    let is_up = connection.is_some_and(|c| c.is_good_for(address, Instant::now()));
                    let what = if is_up { "no answer for this torrent" } else { "no answer" };
                    why = format!("{what} from {address} within {patience:?}");
                }
                Err(e) => why = format!("{address}: {}", crate::web::io_text(&e)),
            }
        }
        // Where nobody is home, resending is for the tier's timetable; where a packet may have been
        // lost, it is for us.
        if !anybody_silent {
            break;
        }
    }
    Err(Error::Failed(why))
}

/// The addresses of a tracker, in the order of trying: the one that answered last, IPv4, IPv6. IPv4
/// first since a machine may believe that it has IPv6 when nothing comes through.
fn resolve(
    place: &Place,
    last: Option<&Connection>,
    only: Option<Family>,
) -> Result<Vec<SocketAddr>> {
    let found = (place.host.as_str(), place.port).to_socket_addrs();
    let found = found.map_err(|e| Error::Failed(crate::web::io_text(&e)))?;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in found {
        let fits = only.is_none_or(|family| Family::of(address) == family);
        if fits && addresses.len() < ADDRESSES_MAX && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    order::sort_by_key(&mut addresses, |a| {
        (last.is_none_or(|last| last.address != *a), a.is_ipv6())
    });
    if addresses.is_empty() {
        return Err(Error::Failed("its name has no address".to_owned()));
    }
    Ok(addresses)
}

/// One attempt at one address.
struct Talk<'a> {
    address: SocketAddr,
    /// For each packet that we send.
    patience: Duration,
    leash: &'a Leash,
    connection: &'a mut Option<Connection>,
}

impl Talk<'_> {
    fn ask(&mut self, action: Action, request: MakeRequest) -> io::Result<Reply> {
        let socket = self.leash.client.dialler.datagrams(self.address)?;
        if let Some(known) = self.connection.filter(|c| c.is_good_for(self.address, Instant::now()))
        {
            let reply = self.exchange(&socket, action, |t| request(known.id, t))?;
            if !matches!(reply, Reply::Error(_)) {
                return Ok(reply);
            }
            // A tracker that was started anew no longer knows the id: once more, with a fresh one.
            *self.connection = None;
        }
        let id = match self.exchange(&socket, Action::Connect, packet::connect)? {
            Reply::Connected(id) => id,
            other => return Ok(other),
        };
        *self.connection = Some(Connection { address: self.address, id, since: Instant::now() });
        self.exchange(&socket, action, |t| request(id, t))
    }

    /// Sends one request and waits for its answer. `TimedOut` if there is none, or the leash is cut.
    fn exchange(
        &self,
        socket: &UdpSocket,
        action: Action,
        request: impl Fn(u32) -> Vec<u8>,
    ) -> io::Result<Reply> {
        // Drawn anew each time: who cannot see our packets has one chance in 2³² to forge an answer.
        let transaction = fastrand::u32(..);
        socket.send(&request(transaction))?;
        let deadline = Instant::now() + self.patience;
        let mut datagram = vec![0; DATAGRAM_MAX];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.leash.is_cut() {
                return Err(ErrorKind::TimedOut.into());
            }
            socket.set_read_timeout(Some(left.min(SLICE)))?;
            match socket.recv(&mut datagram) {
                Ok(len) => {
                    let datagram = datagram.get(..len).unwrap_or_default();
                    if let Some(reply) = packet::decode(datagram, action, transaction, self.address)
                    {
                        return Ok(reply);
                    }
                }
                Err(e) if is_silence(&e) || e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
}

/// A time-out of a read is `WouldBlock` on some systems and `TimedOut` on others.
fn is_silence(e: &io::Error) -> bool {
    matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_id_is_good_for_a_minute_and_one_address() {
        let address = "192.0.2.1:80".parse().unwrap();
        let since = Instant::now();
        let connection = Connection { address, id: 1, since };
        assert!(connection.is_good_for(address, since + Duration::from_secs(59)));
        assert!(!connection.is_good_for(address, since + Duration::from_secs(60)));
        assert!(!connection.is_good_for("192.0.2.1:81".parse().unwrap(), since));
    }
}
