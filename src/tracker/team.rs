//! All trackers of a torrent: the handle that a session holds, and what it is told.
//!
//! Every tier is a thread, and all start at once: that is not what BEP 12 says (one tier after the
//! other), but a dead first tier must not delay the others, and peers of two trackers are better
//! than those of one.
//!
//! Layer: hands. The handle's methods never wait, except `stop`, which has a limit.

use std::collections::HashSet;
use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::tier::{Command, Tier};
use super::{Event, Limits, Target, url};
use crate::dial::Dialler;
use crate::hash::Sha1;
use crate::units::count;

/// The most trackers of one torrent that we use: each costs a thread now and then. Lists of hundreds
/// are copied around, most of them dead and the rest knowing the same peers.
pub const TRACKERS_MAX: usize = 64;

/// How many commands may wait for a tier's thread, which takes them at once unless `report` blocks.
const COMMANDS_MAX: usize = 8;

/// Wishes for more peers may fill this much of it: the rest is for `completed` and `stop`.
const WISHES_MAX: usize = 4;

/// Who we are; the same for all trackers during the whole run.
#[derive(Debug, Clone)]
pub struct Me {
    pub info_hash: Sha1,
    pub peer_id: [u8; 20],
    pub port: u16,
    /// See [`Announce::key`](super::Announce::key).
    pub key: u32,
    /// We listen at both families, so that a tracker with both is told over both.
    pub both: bool,
    /// How everything goes out; a proxy carries no UDP.
    pub dialler: Dialler,
}

/// The sums that every announce quotes, in bytes. A notice board: the swarm writes, trackers read,
/// and nobody waits for anybody.
#[derive(Debug, Default)]
pub struct Totals {
    pub uploaded: AtomicU64,
    pub downloaded: AtomicU64,
    pub left: AtomicU64,
    /// Something is left, and nothing of it is wanted.
    pub paused: AtomicBool,
    /// The port that a router has opened for us; 0 while it has not, and ours counts.
    pub outside_port: AtomicU16,
}

impl Totals {
    /// Where we can be dialled: the router's port, or else our own.
    pub fn port(&self, own: u16) -> u16 {
        match self.outside_port.load(Relaxed) {
            0 => own,
            outside => outside,
        }
    }
}

/// What happens at the trackers. URLs are whole here; displayed they are cut down to the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// An announce is on its way.
    Asking { url: String, event: Event, left: u64, numwant: u32, how: &'static str },
    Answered {
        url: String,
        event: Event,
        peers: Vec<SocketAddr>,
        seeders: Option<u32>,
        leechers: Option<u32>,
        interval: Duration,
        warning: Option<String>,
    },
    Failed {
        url: String,
        why: String,
        /// `None` while another tracker of the tier is being asked.
        retry_in: Option<Duration>,
    },
    /// A URL that will not be used at all.
    Ignored { url: String, why: String },
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (Report::Asking { url, .. }
        | Report::Answered { url, .. }
        | Report::Failed { url, .. }
        | Report::Ignored { url, .. }) = self;
        write!(f, "tracker {}", url::place(url))?;
        match self {
            Report::Asking { event, left, numwant, how, .. } => {
                match event {
                    Event::None => f.write_str(": asking")?,
                    event => write!(f, ": saying {event}")?,
                }
                write!(f, "; {left} bytes left, up to {numwant} peers wanted; {how}")
            }
            Report::Answered { peers, seeders, leechers, interval, warning, .. } => {
                write!(f, ": {}", count(peers.len() as u64, "peer"))?;
                if let (Some(seeders), Some(leechers)) = (seeders, leechers) {
                    let seeders = count((*seeders).into(), "seeder");
                    write!(f, " of {seeders} and {}", count((*leechers).into(), "leecher"))?;
                }
                write!(f, ", again in {} s", interval.as_secs())?;
                warning.iter().try_for_each(|warning| write!(f, "; it warns: {warning}"))
            }
            Report::Failed { why, retry_in, .. } => {
                write!(f, ": {why}")?;
                retry_in.iter().try_for_each(|pause| write!(f, "; again in {} s", pause.as_secs()))
            }
            Report::Ignored { why, .. } => write!(f, ": not used: {why}"),
        }
    }
}

/// The trackers at work. Dropping it ends them without a word; [`stop`](Trackers::stop) says goodbye.
pub struct Trackers {
    tiers: Vec<(Sender<Command>, JoinHandle<()>)>,
    /// Hangs up when the last tier's thread has ended.
    ended: Receiver<Infallible>,
    limits: Limits,
}

impl Trackers {
    /// Starts announcing to all tiers. `report` runs on their threads: it must hand on and return.
    /// A report that waits (for room in a channel) holds up its tier, not the others.
    pub fn start(
        tiers: Vec<Vec<String>>,
        me: Me,
        totals: Arc<Totals>,
        report: impl Fn(Report) + Clone + Send + 'static,
    ) -> Trackers {
        Trackers::start_with(Limits::default(), tiers, me, totals, report)
    }

    /// As [`start`](Trackers::start), with other time-outs than usual.
    pub fn start_with(
        limits: Limits,
        tiers: Vec<Vec<String>>,
        me: Me,
        totals: Arc<Totals>,
        report: impl Fn(Report) + Clone + Send + 'static,
    ) -> Trackers {
        // Never carries anything: only its end is of interest.
        let (alive, ended) = bounded(1);
        let mut running = Vec::new();
        for (number, (targets, ignored)) in
            choose(tiers, me.dialler.proxy.is_none()).into_iter().enumerate()
        {
            let (commands, inbox) = bounded(COMMANDS_MAX);
            let tier = Tier::new(targets, ignored, me.clone(), totals.clone(), limits);
            let (report, alive) = (report.clone(), alive.clone());
            let body = move || {
                tier.run(&inbox, &report);
                // Only now: a `stop` that waits for this end may then join without waiting.
                drop(alive);
            };
            let name = format!("tier {number}");
            // Without a thread there is no tier: the others, the DHT and peers that dial us remain.
            if let Ok(thread) = std::thread::Builder::new().name(name).spawn(body) {
                running.push((commands, thread));
            }
        }
        Trackers { tiers: running, ended, limits }
    }

    /// Tells the trackers that the last piece has arrived; to be called once, and not at all where
    /// everything was here from the start.
    pub fn completed(&self) {
        self.tell(|| Command::Completed);
    }

    /// Asks for more peers as soon as the trackers allow it.
    pub fn more_peers(&self) {
        for (commands, _) in &self.tiers {
            if commands.len() < WISHES_MAX {
                let _ = commands.try_send(Command::MorePeers);
            }
        }
    }

    /// Says `stopped` to every tracker that ever answered, to all at once, and waits for them no
    /// longer than [`Limits::farewell`] in all. Threads that hang are left behind; they end by
    /// themselves.
    pub fn stop(self) {
        let deadline = Instant::now() + self.limits.farewell;
        self.tell(|| Command::Stop { deadline });
        if self.ended.recv_deadline(deadline) == Err(RecvTimeoutError::Disconnected) {
            for (_, thread) in self.tiers {
                // It has ended already; a panic in it has been printed where it happened.
                let _ = thread.join();
            }
        }
    }

    fn tell(&self, command: impl Fn() -> Command) {
        for (commands, _) in &self.tiers {
            // Full only if `report` blocks that tier: then there is nothing to be done about it.
            let _ = commands.try_send(command());
        }
    }
}

/// What a tier asks, and what it only reports: (URL, why not).
type Chosen = (Vec<(String, Target)>, Vec<(String, String)>);

/// Leaves out what we cannot use and what is there twice, anywhere in the list.
fn choose(tiers: Vec<Vec<String>>, udp: bool) -> Vec<Chosen> {
    let mut seen = HashSet::new();
    let mut used = 0;
    let mut excess = 0;
    let mut chosen: Vec<Chosen> = Vec::new();
    for urls in tiers {
        let (mut targets, mut ignored) = Chosen::default();
        for url in urls {
            let url = url.trim().to_owned();
            if url.is_empty() || seen.contains(&url) {
                continue;
            }
            if used == TRACKERS_MAX {
                excess += 1;
                continue;
            }
            seen.insert(url.clone());
            match Target::parse(&url) {
                Ok(Target::Udp(_)) if !udp => {
                    ignored.push((url, "the proxy carries no UDP".to_owned()));
                }
                Ok(target) => {
                    used += 1;
                    targets.push((url, target));
                }
                // A million useless URLs would be a million reports.
                Err(e) if ignored.len() < TRACKERS_MAX => ignored.push((url, e.to_string())),
                Err(_) => {}
            }
        }
        if !targets.is_empty() || !ignored.is_empty() {
            chosen.push((targets, ignored));
        }
    }
    merge_useless(&mut chosen);
    if excess != 0
        && let Some((_, ignored)) = chosen.last_mut()
    {
        let why = format!("the limit is {TRACKERS_MAX} trackers");
        ignored.push((format!("{excess} more"), why));
    }
    chosen
}

/// Tiers with nothing to ask need no thread of their own: the first one reports for all of them.
fn merge_useless(chosen: &mut Vec<Chosen>) {
    let mut useless = Vec::new();
    for (targets, ignored) in chosen.iter_mut() {
        if targets.is_empty() {
            useless.append(ignored);
        }
    }
    useless.truncate(TRACKERS_MAX);
    chosen.retain(|(targets, _)| !targets.is_empty());
    match chosen.first_mut() {
        Some((_, ignored)) => ignored.append(&mut useless),
        None if useless.is_empty() => {}
        None => chosen.push((Vec::new(), useless)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(urls: &[&str]) -> Vec<String> {
        urls.iter().map(|url| (*url).to_owned()).collect()
    }

    #[test]
    fn duplicates_and_useless_urls_are_left_out() {
        let chosen = choose(
            vec![
                strings(&["ftp://a/announce", "wss://b"]),
                strings(&["http://c/announce", "http://c/announce ", ""]),
                strings(&["http://c/announce"]),
                strings(&["udp://d:1", "udp://e"]),
            ],
            true,
        );
        let urls = |tier: &Chosen| tier.0.iter().map(|(url, _)| url.clone()).collect::<Vec<_>>();
        assert_eq!(
            chosen.iter().map(urls).collect::<Vec<_>>(),
            [["http://c/announce"], ["udp://d:1"]]
        );
        assert_eq!(chosen[0].1.len(), 2, "{:?}", chosen[0].1);
        assert_eq!(chosen[1].1.len(), 1, "{:?}", chosen[1].1);
        let through_a_proxy = choose(vec![strings(&["udp://d:1", "http://c/announce"])], false);
        assert_eq!(urls(&through_a_proxy[0]), ["http://c/announce"]);
    }

    #[test]
    fn a_list_of_hundreds_is_cut() {
        let many = (0..200).map(|n| vec![format!("udp://t{n}.example:80")]).collect();
        let chosen = choose(many, true);
        assert_eq!(chosen.len(), TRACKERS_MAX);
        assert_eq!(chosen[TRACKERS_MAX - 1].1[0].0, "136 more");
        let only_useless = choose(vec![strings(&["ftp://a/"]); 3], true);
        assert_eq!((only_useless.len(), only_useless[0].1.len()), (1, 1));
        assert!(choose(vec![vec![], vec![]], true).is_empty());
    }

    #[test]
    fn reports_show_no_passkey() {
        let url = "http://t.example/secret/announce".to_owned();
        let why = "no".to_owned();
        let retry_in = Some(Duration::from_secs(5));
        let report = Report::Failed { url, why, retry_in };
        assert_eq!(report.to_string(), "tracker http://t.example: no; again in 5 s");
    }
}
