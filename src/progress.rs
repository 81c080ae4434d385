//! What a download looks like while it runs, and any hashing that takes its time.
//!
//! On a terminal one live line, which says as much as there is room for:
//!
//! ```text
//! [##########>         ]  52%  4.4/8.5 MiB  down 855.0 KiB/s  3 of 12 peers  33/60 pieces  5 s left
//!  52%  down 855.0 KiB/s  5 s left
//! ```
//!
//! Elsewhere whole lines: one every ten seconds, and one for each event that matters. When nothing
//! moves, the line says why. With `--quiet` nothing at all.
//!
//! Layer: programs. Owns the line on standard error.

use std::time::{Duration, Instant};

use crate::printable::printable;
use crate::swarm::Status;
use crate::terminal::{self, Live, eprint_line};
use crate::units;

/// How often a line is printed where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// The same for the search for metadata, where it gets on.
const SEARCHING_EVERY: Duration = Duration::from_secs(2);

/// A bar is at least so long, and at most: longer ones say no more.
const BAR_MIN: usize = 10;
const BAR_MAX: usize = 40;

/// Lines of a map of pieces on a terminal, and its letters elsewhere.
const MAP_LINES: usize = 3;
const MAP_LEN: usize = 100;

/// A name is not shown in fewer columns.
const NAME_MIN: usize = 12;

pub struct Progress {
    look: Look,
    /// The torrent's, for the live line; empty until it is known.
    name: String,
    /// The map of pieces, for above the live line; empty: there is none.
    map: String,
    legend: Vec<String>,
    /// When the last whole line was printed, and the reason it gave for standing still.
    last: Instant,
    last_reason: Option<String>,
}

enum Look {
    Quiet,
    Lines,
    Live(Live),
}

impl Progress {
    /// `live` allows the live line where standard error is a terminal.
    pub fn new(quiet: bool, live: bool) -> Progress {
        let look = match quiet {
            true => Look::Quiet,
            false => Live::new().filter(|_| live).map_or(Look::Lines, Look::Live),
        };
        Progress {
            look,
            name: String::new(),
            map: String::new(),
            legend: Vec::new(),
            last: Instant::now(),
            last_reason: None,
        }
    }

    /// The name to be shown where there is room for it.
    pub fn name(&mut self, name: &str) {
        self.name = terminal::isolated(&printable(name));
    }

    /// How many letters a map of the pieces may have; 0: nobody would see it.
    pub fn map_len(&self) -> usize {
        match self.look {
            Look::Quiet => 0,
            Look::Lines => MAP_LEN,
            Look::Live(_) => MAP_LINES * terminal::width().saturating_sub(1),
        }
    }

    /// How long a line may be: on a terminal as it is wide, elsewhere enough for all there is.
    pub fn columns(&self) -> usize {
        if let Look::Live(_) = self.look { terminal::width() } else { 200 }
    }

    /// A map of the pieces, to be shown with the next line.
    pub fn map(&mut self, map: String) {
        self.map = map;
    }

    /// What explains the map: shown before the first that is drawn.
    pub fn legend(&mut self, lines: Vec<String>) {
        self.legend = lines;
    }

    fn explain_map(&mut self) {
        if !self.map.is_empty() {
            std::mem::take(&mut self.legend).iter().for_each(|line| self.say(line));
        }
    }

    /// An event: a line of its own, above the live one.
    pub fn say(&mut self, line: &str) {
        self.put(&printable(line));
    }

    /// As [`say`](Self::say), of a line that is printable.
    pub fn put(&mut self, line: &str) {
        match &mut self.look {
            Look::Quiet => {}
            Look::Lines => eprint_line(line),
            Look::Live(live) => live.above(line),
        }
    }

    /// The download as it stands.
    pub fn status(&mut self, status: &Status) {
        if let Look::Live(_) = self.look {
            self.explain_map();
        }
        if let Look::Live(live) = &mut self.look {
            return live.draw(|width| {
                let mut lines = folded(&self.map, width);
                lines.push(live_line(status, &self.name, width));
                lines.join("\n")
            });
        }
        let reason = status.stuck.as_ref().map(ToString::to_string);
        let news = reason.is_some() && reason != self.last_reason;
        if LINE_EVERY <= self.last.elapsed() || (news && self.last_reason.is_none()) {
            self.last = Instant::now();
            self.last_reason = reason;
            self.explain_map();
            if !self.map.is_empty() {
                self.say(&self.map.clone());
            }
            self.say(&whole_line(status));
        }
    }

    /// The search for the metadata of a magnet link, in words.
    pub fn searching(&mut self, line: &str) {
        if let Look::Live(live) = &mut self.look {
            return live.draw(|_| line.to_owned());
        }
        let news = self.last_reason.as_deref() != Some(line);
        let since = self.last.elapsed();
        if LINE_EVERY <= since || (news && SEARCHING_EVERY <= since) {
            self.last = Instant::now();
            self.last_reason = Some(line.to_owned());
            self.say(line);
        }
    }

    /// Hashing, such as "checking what is there": bytes, of so many.
    pub fn hashing(&mut self, what: &str, done: u64, total: u64) {
        let line = || {
            let (percent, done, total) =
                (percent(done, total), units::size(done), units::size(total));
            format!("{what}: {percent}% of {total}, {done} done")
        };
        if let Look::Live(live) = &mut self.look {
            live.draw(|width| {
                let text = line();
                let room = width.saturating_sub(text.len() + 2).min(BAR_MAX);
                if room < BAR_MIN { text } else { format!("{}  {text}", bar_of(done, total, room)) }
            });
        } else if LINE_EVERY <= self.last.elapsed() {
            self.last = Instant::now();
            self.say(&line());
        }
    }

    /// Takes the live line away, for the last words.
    pub fn finish(&mut self) {
        if let Look::Live(_) = self.look {
            self.look = Look::Lines;
        }
    }
}

fn percent(done: u64, total: u64) -> u64 {
    // A torrent without a byte is complete; and nothing short of all is called 100 %.
    u64::try_from(u128::from(done) * 100 / u128::from(total.max(1))).unwrap_or(100)
}

/// A bar of so many columns.
fn bar_of(done: u64, total: u64, columns: usize) -> String {
    let width = columns.saturating_sub(2);
    let full = (u128::from(done) * width as u128 / u128::from(total.max(1))) as usize;
    let tip = if full < width { ">" } else { "" };
    format!("[{:<width$}]", "#".repeat(full) + tip)
}

/// Bytes a second as people read them.
pub fn rate(bytes_per_second: f64) -> String {
    format!("{}/s", units::size(bytes_per_second as u64))
}

/// A time as people say it: `5 s`, `3 min 20 s`, `2 h 10 min`, `3 d 4 h`.
pub fn time(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        86_400..31_536_000 => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
        _ => "over a year".to_owned(),
    }
}

/// A map in as many lines as it takes.
fn folded(map: &str, width: usize) -> Vec<String> {
    let lines = map.as_bytes().chunks(width.max(1)).map(String::from_utf8_lossy);
    lines.map(|line| line.into_owned()).collect()
}

/// `4.4/8.5 MiB`, `980.0 KiB/1.2 GiB`.
fn sizes(done: u64, total: u64) -> String {
    let (done, total) = (units::size(done), units::size(total));
    let unit = total.split(' ').next_back().unwrap_or_default();
    format!("{}/{total}", done.strip_suffix(unit).map_or(&*done, str::trim_end))
}

/// What fits into so many columns: what matters most first, in the order in which it is read.
fn live_line(status: &Status, name: &str, width: usize) -> String {
    let seeding = status.have == status.pieces;
    let (done, total) = (status.done_bytes, status.total_bytes);
    let sizes = sizes(done, total);
    let known = status.known.max(status.connected);
    let peers = format!(
        "{} of {}{}",
        status.connected,
        units::count(known as u64, "peer"),
        web_seeds(status)
    );
    let pieces = format!("{}/{}", status.have, units::count(status.pieces.into(), "piece"));
    let left = status.eta.map_or(String::new(), |eta| format!("{} left", time(eta)));
    let percent = format!("{:3}%", percent(done, total));
    let (down, up) = (rate(status.download_rate), rate(status.upload_rate));
    let (down, up) = (format!("down {down}"), format!("up {up}"));
    // As they are read, each with its place in the order in which they are given room.
    let mut parts: Vec<(u8, String)> = match &status.stuck {
        _ if seeding => vec![(0, seed_line(status))],
        Some(why) => vec![(0, percent), (2, sizes), (3, peers), (1, why.to_string())],
        None => {
            vec![(0, percent), (3, sizes), (1, down), (5, up), (4, peers), (6, pieces), (2, left)]
        }
    };
    parts.retain(|(_, text)| !text.is_empty());
    let mut room = width;
    for rank in 0..=6 {
        if let Some(at) = parts.iter().position(|(r, _)| *r == rank) {
            let needed = terminal::columns(&parts[at].1) + if rank == 0 { 0 } else { 2 };
            match room.checked_sub(needed) {
                Some(rest) => room = rest,
                // A reason is worth its beginning; a half number is worth nothing.
                None if rank == 1 && status.stuck.is_some() && NAME_MIN < room => {
                    parts[at].1 = terminal::fit(&parts[at].1, room - 2);
                    room = 0;
                }
                None if rank == 0 => room = 0,
                None => _ = parts.remove(at),
            }
        }
    }
    let mut line = parts.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join("  ");
    if BAR_MIN + 2 <= room && !seeding {
        let bar = (room - 2).min(BAR_MAX);
        line = format!("{}  {line}", bar_of(done, total, bar));
        room -= bar + 2;
    }
    if NAME_MIN + 2 <= room && !name.is_empty() {
        line = format!("{line}  {}", terminal::fit(name, room - 2));
    }
    line
}

/// Complete: what goes out, to how many, and how much it has been.
fn seed_line(status: &Status) -> String {
    let ratio = status.uploaded as f64 / status.total_bytes.max(1) as f64;
    format!(
        "seeding: up {}, {}, uploaded {}, ratio {ratio:.2}",
        rate(status.upload_rate),
        units::count(status.connected as u64, "peer"),
        units::size(status.uploaded)
    )
}

fn web_seeds(status: &Status) -> String {
    match status.web_seeds {
        0 => String::new(),
        1 => ", 1 web seed".to_owned(),
        n => format!(", {n} web seeds"),
    }
}

fn whole_line(status: &Status) -> String {
    if status.have == status.pieces {
        return seed_line(status);
    }
    let mut line = format!(
        "{}%: {} of {}, {} of {} verified, down {}, up {}, {} of {} connected{}",
        percent(status.done_bytes, status.total_bytes),
        units::size(status.done_bytes),
        units::size(status.total_bytes),
        status.have,
        units::count(status.pieces.into(), "piece"),
        rate(status.download_rate),
        rate(status.upload_rate),
        status.connected,
        units::count(status.known.max(status.connected) as u64, "peer"),
        web_seeds(status),
    );
    match (&status.stuck, status.eta) {
        (Some(reason), _) => line += &format!("; {reason}"),
        (None, Some(eta)) => line += &format!(", {} left", time(eta)),
        (None, None) => {}
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::Stuck;

    fn status() -> Status {
        Status {
            have: 33,
            pieces: 60,
            done_bytes: 4 << 20,
            total_bytes: 8 << 20,
            download_rate: 875_520.0,
            upload_rate: 0.0,
            connected: 3,
            unchoking: 2,
            dialling: 0,
            known: 12,
            eta: Some(Duration::from_secs(65)),
            downloaded: 0,
            wasted: 0,
            uploaded: 0,
            web_seeds: 0,
            web_seed_bytes: 0,
            corrupt: 0,
            stuck: None,
        }
    }

    #[track_caller]
    fn check(status: &Status, width: usize, expected: &str) {
        let line = live_line(status, "日本語.iso", width);
        assert_eq!(line, expected);
        assert!(terminal::columns(&line) <= width);
    }

    #[test]
    fn a_live_line_says_what_there_is_room_for() {
        let mut status = status();
        check(&status, 20, " 50%  1 min 5 s left");
        check(&status, 24, " 50%  down 855.0 KiB/s");
        check(&status, 39, " 50%  down 855.0 KiB/s  1 min 5 s left");
        check(
            &status,
            79,
            " 50%  4.0/8.0 MiB  down 855.0 KiB/s  up 0 B/s  3 of 12 peers  1 min 5 s left",
        );
        check(
            &status,
            199,
            "[###################>                  ]   50%  4.0/8.0 MiB  down 855.0 KiB/s  up 0 B/s  \
             3 of 12 peers  33/60 pieces  1 min 5 s left  日本語.iso",
        );
        status.stuck = Some(Stuck::AllChoke { peers: 3 });
        check(&status, 39, " 50%  all 3 peers choke us; waiting fo…");
        status.have = 60;
        check(&status, 79, "seeding: up 0 B/s, 3 peers, uploaded 0 B, ratio 0.00  日本語.iso");
    }

    #[test]
    fn whole_lines() {
        let mut status = status();
        status.stuck = Some(Stuck::AllChoke { peers: 3 });
        assert_eq!(
            whole_line(&status),
            "50%: 4.0 MiB of 8.0 MiB, 33 of 60 pieces verified, down 855.0 KiB/s, up 0 B/s, 3 of 12 peers \
             connected; all 3 peers choke us; waiting for a turn"
        );
    }

    #[test]
    fn the_ends_of_the_scale() {
        assert_eq!(bar_of(0, 0, 22), "[>                   ]");
        assert_eq!(bar_of(7, 7, 22), "[####################]");
        assert_eq!((percent(u64::MAX - 1, u64::MAX), percent(0, 0)), (99, 0));
        assert_eq!(time(Duration::MAX), "over a year");
        assert_eq!(time(Duration::from_secs(90_000)), "1 d 1 h");
    }
}
