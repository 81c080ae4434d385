//! The addresses we know, where each came from, and when it is worth dialling.
//!
//! * An address is dialled at once when it is new, and again after a pause that doubles with each
//!   failure: [`RETRY_FIRST`], up to [`RETRY_MAX`].
//! * A seed that has met another one leaves it alone for [`REST`].
//! * Only so many dials are on the way at a time ([`HALF_OPEN_MAX`]); a home router counts them.
//! * A banned address is never dialled again in this run.
//! * What strangers tell is bounded: [`ADDRESSES_MAX`] in all, nothing that cannot be dialled. Peers,
//!   the DHT and the local network have shares of it, so that they cannot crowd out what trackers and
//!   the user name. An address counts for the best of those who named it; all are remembered.
//! * Who finds no place takes that of a dead address: one that failed, most often first.
//!
//! Layer: decisions. Pure; owned by the swarm.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::reach::can_be_dialled;

/// The most addresses we remember (libtorrent: 3,000). A tracker tells 200 at most at a time.
const ADDRESSES_MAX: usize = 3_000;

/// Of those, what anybody who finds us may have put there.
const FROM_DHT_MAX: usize = 1_000;
const FROM_PEX_MAX: usize = 1_000;
const FROM_LSD_MAX: usize = 250;

/// Dials on the way at a time. As many as there are connections by default, so that a list of dead
/// addresses costs one time-out and not one for each.
pub const HALF_OPEN_MAX: usize = 50;

/// The pause after the first failure. Short: a peer on this machine may only be starting.
const RETRY_FIRST: Duration = Duration::from_secs(2);

const RETRY_MAX: Duration = Duration::from_secs(600);

/// The pause after a connection in which neither of us had anything to fetch.
const REST: Duration = Duration::from_secs(1_800);

/// Who told us of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// `--peer`, or a magnet link.
    User,
    Tracker,
    /// Somebody on the same network (BEP 14).
    Lsd,
    Dht,
    /// Another peer (BEP 11).
    Pex,
    /// It dialled us.
    Incoming,
}

impl Source {
    /// The word for it in `--from` and in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Source::User => "user",
            Source::Tracker => "tracker",
            Source::Lsd => "lsd",
            Source::Dht => "dht",
            Source::Pex => "pex",
            Source::Incoming => "incoming",
        }
    }

    /// How many addresses that nobody better has named may be kept.
    fn share(self) -> usize {
        match self {
            Source::User | Source::Tracker => ADDRESSES_MAX,
            Source::Lsd => FROM_LSD_MAX,
            Source::Dht => FROM_DHT_MAX,
            Source::Pex | Source::Incoming => FROM_PEX_MAX,
        }
    }
}

/// Who named an address: one or several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sources(u8);

impl Sources {
    const ALL: [Source; 6] = {
        use Source::{Dht, Incoming, Lsd, Pex, Tracker, User};
        [User, Tracker, Lsd, Dht, Pex, Incoming]
    };

    pub fn one(source: Source) -> Sources {
        Sources(1 << source as u8)
    }

    /// True if it was not among them.
    pub fn insert(&mut self, source: Source) -> bool {
        let before = self.0;
        self.0 |= 1 << source as u8;
        before != self.0
    }

    /// Best first.
    pub fn iter(self) -> impl Iterator<Item = Source> {
        Sources::ALL.into_iter().filter(move |&source| self.0 & (1 << source as u8) != 0)
    }

    pub fn best(self) -> Source {
        self.iter().next().unwrap_or(Source::Incoming)
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Source::User => "the command line",
            Source::Tracker => "a tracker",
            Source::Lsd => "the local network",
            Source::Dht => "the DHT",
            Source::Pex => "another peer",
            Source::Incoming => "its own dial",
        })
    }
}

#[derive(Debug)]
struct Entry {
    sources: Sources,
    state: State,
    /// Dials that failed, and connections that were of no use, since the last that was.
    failures: u32,
    /// What the last dial or connection ended with.
    last_error: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// May be dialled from then on.
    Idle(Instant),
    /// A dial is on the way, or a connection is open.
    Busy,
    Banned,
}

#[derive(Default)]
pub struct AddressBook {
    /// In order, so that a run in virtual time repeats.
    entries: BTreeMap<SocketAddr, Entry>,
    /// How many of them count for each source.
    shares: [usize; Sources::ALL.len()],
    /// Addresses from which a proven liar dialled us. Its port there says nothing.
    banned_ips: Vec<IpAddr>,
}

impl AddressBook {
    /// Adds an address; true if it is new and can be dialled. Of a known one it is noted who else
    /// has named it; and who speaks on the local network is there at this moment, whatever became
    /// of earlier dials.
    pub fn add(&mut self, addr: SocketAddr, source: Source, now: Instant) -> bool {
        if !can_be_dialled(addr) {
            return false;
        }
        if let Some(entry) = self.entries.get_mut(&addr) {
            self.shares[entry.sources.best() as usize] -= 1;
            entry.sources.insert(source);
            self.shares[entry.sources.best() as usize] += 1;
            if let (Source::Lsd, State::Idle(from)) = (source, &mut entry.state) {
                *from = now.min(*from);
            }
            return false;
        }
        if !self.make_room(source) {
            return false;
        }
        let (sources, state) = (Sources::one(source), State::Idle(now));
        self.entries.insert(addr, Entry { sources, state, failures: 0, last_error: None });
        self.shares[source as usize] += 1;
        true
    }

    /// Whether there is a place for one more address from this source, after a dead one has given
    /// its own: one of the same source where that has used up its share, else of any. Trackers and
    /// users, in a full book, also take the place of what others named and nobody has tried.
    fn make_room(&mut self, source: Source) -> bool {
        let share_used = source.share() <= self.shares[source as usize];
        let is_full = ADDRESSES_MAX <= self.entries.len();
        if !share_used && !is_full {
            return true;
        }
        let dead = |(_, entry): &(&SocketAddr, &Entry)| {
            let best = entry.sources.best();
            let idle = matches!(entry.state, State::Idle(_));
            let worse = entry.failures != 0 || (is_full && source < Source::Lsd && source < best);
            idle && worse && best != Source::User && (!share_used || best == source)
        };
        let order = |(_, entry): &(&SocketAddr, &Entry)| (entry.failures, entry.sources.best());
        let Some(addr) = self.entries.iter().filter(dead).max_by_key(order).map(|found| *found.0)
        else {
            return false;
        };
        if let Some(entry) = self.entries.remove(&addr) {
            self.shares[entry.sources.best() as usize] -= 1;
        }
        true
    }

    /// Who named an address; `None` if it is not known.
    pub fn sources(&self, addr: SocketAddr) -> Option<Sources> {
        self.entries.get(&addr).map(|entry| entry.sources)
    }

    /// How many addresses are known, the banned ones left out.
    pub fn known(&self) -> usize {
        self.entries.values().filter(|entry| entry.state != State::Banned).count()
    }

    /// Whether an address could be dialled now.
    pub fn has_ready(&self, now: Instant) -> bool {
        self.ready(now).next().is_some()
    }

    /// Whether an address that was never tried could be dialled now.
    pub fn has_untried(&self, now: Instant) -> bool {
        self.ready(now).any(|(_, entry)| entry.failures == 0)
    }

    /// Takes the address to dial next: the one with the fewest failures, those that the user named
    /// before others.
    pub fn next(&mut self, now: Instant) -> Option<(SocketAddr, Source)> {
        let best =
            self.ready(now).min_by_key(|(_, entry)| (entry.failures, entry.sources.best()))?;
        let (addr, source) = (*best.0, best.1.sources.best());
        self.entries.get_mut(&addr)?.state = State::Busy;
        Some((addr, source))
    }

    /// For a trace: why this address comes next. How often it failed, and how many others could.
    pub fn queue(&self, addr: SocketAddr, now: Instant) -> (u32, usize) {
        let failures = self.entries.get(&addr).map_or(0, |entry| entry.failures);
        (failures, self.ready(now).count())
    }

    fn ready(&self, now: Instant) -> impl Iterator<Item = (&SocketAddr, &Entry)> {
        let idle = move |entry: &Entry| matches!(entry.state, State::Idle(from) if from <= now);
        self.entries.iter().filter(move |(_, entry)| idle(entry))
    }

    /// A dial failed, or a connection ended. With `useful` (it sent data) the pause begins anew.
    pub fn failed(&mut self, addr: SocketAddr, why: &str, useful: bool, now: Instant) {
        let Some(entry) = self.entries.get_mut(&addr) else { return };
        if entry.state == State::Banned {
            return;
        }
        entry.failures = if useful { 1 } else { entry.failures.saturating_add(1) };
        entry.last_error = Some(why.to_owned());
        let pause = RETRY_FIRST.saturating_mul(1 << (entry.failures - 1).min(16));
        entry.state = State::Idle(now + pause.min(RETRY_MAX));
    }

    /// A connection ended because neither of us fetches anything (BEP 21). It may, one day.
    pub fn rests(&mut self, addr: SocketAddr, now: Instant) {
        let busy = |entry: &&mut Entry| entry.state == State::Busy;
        if let Some(entry) = self.entries.get_mut(&addr).filter(busy) {
            (entry.failures, entry.state) = (0, State::Idle(now + REST));
        }
    }

    /// The torrent is private: forgets whoever is not known from the user or a tracker (BEP 27).
    pub fn keep_private(&mut self) {
        let ours = |entry: &Entry| matches!(entry.sources.best(), Source::User | Source::Tracker);
        self.entries.retain(|_, entry| ours(entry));
    }

    /// Nobody is connected any more: those that were may be dialled at once.
    pub fn release_all(&mut self, now: Instant) {
        for entry in self.entries.values_mut().filter(|entry| entry.state == State::Busy) {
            entry.state = State::Idle(now);
        }
    }

    /// Never again: it is ourselves, or it sent what it should not.
    pub fn ban(&mut self, addr: SocketAddr) {
        if let Some(entry) = self.entries.get_mut(&addr) {
            entry.state = State::Banned;
        }
    }

    /// As [`ban`](Self::ban), for a peer: one that dialled us is known by its IP address only.
    pub fn ban_peer(&mut self, addr: SocketAddr, incoming: bool) {
        let ip = addr.ip();
        if !incoming {
            self.ban(addr);
        } else if !self.banned_ips.contains(&ip) && self.banned_ips.len() < ADDRESSES_MAX {
            self.banned_ips.push(ip);
        }
    }

    /// Whether one that dials us is welcome.
    pub fn welcomes(&self, ip: IpAddr) -> bool {
        !self.banned_ips.contains(&ip)
    }

    /// How many addresses failed when they were last tried, and what one of them ended with.
    pub fn failures(&self) -> (usize, Option<&str>) {
        let failed = |entry: &&Entry| entry.failures != 0 && entry.state != State::Busy;
        let mut failed = self.entries.values().filter(failed).peekable();
        let example = failed.peek().and_then(|entry| entry.last_error.as_deref());
        (failed.count(), example)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn what_cannot_be_dialled_is_not_kept() {
        let (mut book, now) = (AddressBook::default(), Instant::now());
        for bad in ["10.0.0.1:0", "0.0.0.0:1", "224.0.0.1:1", "255.255.255.255:1", "[::]:1"] {
            assert!(!book.add(addr(bad), Source::Tracker, now), "{bad}");
        }
        assert!(book.add(addr("[::1]:6881"), Source::Tracker, now));
        assert!(!book.add(addr("[::1]:6881"), Source::User, now), "known");
        for n in 0..2 * ADDRESSES_MAX as u32 {
            book.add(SocketAddr::from((n.to_be_bytes(), 1)), Source::Tracker, now);
        }
        assert_eq!(book.known(), ADDRESSES_MAX);
    }

    #[test]
    fn all_who_name_an_address_are_remembered_and_the_best_counts() {
        let (mut book, now) = (AddressBook::default(), Instant::now());
        let a = addr("10.0.0.1:1");
        assert!(book.add(a, Source::Pex, now) && !book.add(a, Source::Tracker, now));
        assert!(!book.add(a, Source::Dht, now) && !book.add(a, Source::Dht, now));
        let sources: Vec<Source> = book.sources(a).unwrap().iter().collect();
        assert_eq!(sources, [Source::Tracker, Source::Dht, Source::Pex]);
        assert_eq!(book.next(now), Some((a, Source::Tracker)));
        assert_eq!((book.shares[Source::Tracker as usize], book.shares.iter().sum()), (1, 1));
    }

    fn numbered(n: u32) -> SocketAddr {
        SocketAddr::from(((0x0a00_0000 + n).to_be_bytes(), 1))
    }

    #[test]
    fn strangers_cannot_crowd_out_trackers_and_users() {
        let (mut book, now) = (AddressBook::default(), Instant::now());
        for (n, source) in [Source::Pex, Source::Dht, Source::Lsd].into_iter().enumerate() {
            (0..1500).for_each(|i| _ = book.add(numbered(n as u32 * 10_000 + i), source, now));
        }
        assert_eq!(book.known(), FROM_PEX_MAX + FROM_DHT_MAX + FROM_LSD_MAX);
        // Trackers fill the rest, and then take the places of those that nobody has tried.
        (0..4_000).for_each(|i| _ = book.add(numbered(50_000 + i), Source::Tracker, now));
        assert_eq!(book.known(), ADDRESSES_MAX);
        assert_eq!(book.shares[Source::Tracker as usize], ADDRESSES_MAX);
        assert!(book.add(addr("192.0.2.1:1"), Source::User, now));
        assert!(!book.add(addr("192.0.2.2:1"), Source::Pex, now));
    }

    #[test]
    fn a_dead_address_gives_its_place_to_a_new_one() {
        let (mut book, now) = (AddressBook::default(), Instant::now());
        (0..1_500).for_each(|i| _ = book.add(numbered(i), Source::Pex, now));
        let (dead, _) = book.next(now).unwrap();
        assert!(!book.add(numbered(20_000), Source::Pex, now), "it may be alive");
        book.failed(dead, "refused", false, now);
        assert!(book.add(numbered(20_000), Source::Pex, now));
        assert!(book.sources(dead).is_none() && !book.add(numbered(20_001), Source::Pex, now));
        assert_eq!(book.known(), FROM_PEX_MAX);
        // Those that the user named stay, dead or not.
        let mut book = AddressBook::default();
        (0..3_500).for_each(|i| _ = book.add(numbered(i), Source::User, now));
        let (dead, _) = book.next(now).unwrap();
        book.failed(dead, "refused", false, now);
        assert!(!book.add(numbered(20_000), Source::Tracker, now) && book.sources(dead).is_some());
    }

    #[test]
    fn the_pause_doubles_and_new_addresses_go_first() {
        let (mut book, now) = (AddressBook::default(), Instant::now());
        let (a, b) = (addr("10.0.0.1:1"), addr("10.0.0.2:1"));
        book.add(a, Source::Tracker, now);
        assert_eq!((book.next(now), book.next(now)), (Some((a, Source::Tracker)), None));
        book.failed(a, "refused", false, now);
        assert!(!book.has_ready(now) && book.has_ready(now + RETRY_FIRST));
        assert_eq!(book.next(now + RETRY_FIRST).map(|next| next.0), Some(a));
        book.failed(a, "refused", false, now);
        assert!(!book.has_ready(now + RETRY_FIRST));
        assert_eq!(book.failures(), (1, Some("refused")));
        book.add(b, Source::Tracker, now);
        assert_eq!(book.next(now + RETRY_MAX).map(|next| next.0), Some(b));
        for _ in 0..100 {
            book.failed(a, "refused", false, now);
        }
        assert!(book.has_ready(now + RETRY_MAX) && !book.has_untried(now + RETRY_MAX));
    }

    #[test]
    fn a_seed_is_left_alone_for_long() {
        let (mut book, now) = (AddressBook::default(), Instant::now());
        let a = addr("10.0.0.1:1");
        book.add(a, Source::Tracker, now);
        book.next(now);
        book.rests(a, now);
        assert!(!book.add(a, Source::Tracker, now + RETRY_MAX) && !book.has_ready(now + RETRY_MAX));
        assert!(book.has_ready(now + REST));
        assert_eq!(book.failures(), (0, None));
    }

    #[test]
    fn who_speaks_on_the_local_network_is_dialled_at_once() {
        let (mut book, now) = (AddressBook::default(), Instant::now());
        let a = addr("10.0.0.1:1");
        for _ in 0..10 {
            book.add(a, Source::Tracker, now);
            assert!(
                !book.has_ready(now) || book.failures().0 == 0,
                "a tracker knows the dead, too"
            );
            book.add(a, Source::Lsd, now);
            assert_eq!(book.next(now), Some((a, Source::Tracker)));
            book.add(a, Source::Lsd, now);
            assert_eq!(book.next(now), None, "it is being dialled");
            book.failed(a, "refused", false, now);
        }
    }

    #[test]
    fn a_banned_address_stays_banned() {
        let (mut book, now) = (AddressBook::default(), Instant::now());
        let a = addr("10.0.0.1:1");
        book.add(a, Source::User, now);
        book.ban(a);
        book.failed(a, "hung up on", false, now);
        assert!(!book.add(a, Source::Tracker, now));
        assert_eq!((book.next(now + RETRY_MAX), book.known()), (None, 0));
        book.ban_peer(a, true);
        assert!(!book.welcomes(a.ip()));
    }
}
