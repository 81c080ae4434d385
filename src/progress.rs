//! What a download looks like while it runs.
//!
//! On a terminal one live line, redrawn at most ten times a second:
//!
//! ```text
//! [##########>         ]  52%  4.4/8.5 MiB  down 855.0 KiB/s  3 of 12 peers  33/60 pieces  5 s left
//! ```
//!
//! Elsewhere whole lines: one every ten seconds, and one for each event that matters. When nothing
//! moves, the line says why. With `--quiet` nothing at all.
//!
//! Layer: programs. Owns the line on standard error.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::printable::printable;
use crate::swarm::Status;
use crate::units;

/// How often a line is printed where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// The same for the search for metadata, where it gets on.
const SEARCHING_EVERY: Duration = Duration::from_secs(2);

/// Redraws a second.
const HZ: u8 = 10;

const BAR_WIDTH: u64 = 20;

pub struct Progress {
    look: Look,
    /// When the last whole line was printed, and the reason it gave for standing still.
    last: Instant,
    last_reason: Option<String>,
}

enum Look {
    Quiet,
    Lines,
    Live(ProgressBar),
}

impl Progress {
    /// `live` allows the live line where standard error is a terminal.
    pub fn new(quiet: bool, live: bool) -> Progress {
        let look = match (quiet, live && std::io::stderr().is_terminal()) {
            (true, _) => Look::Quiet,
            (false, false) => Look::Lines,
            (false, true) => {
                let target = ProgressDrawTarget::stderr_with_hz(HZ);
                let style = ProgressStyle::with_template("{wide_msg}").expect("a valid template");
                Look::Live(ProgressBar::with_draw_target(None, target).with_style(style))
            }
        };
        Progress { look, last: Instant::now(), last_reason: None }
    }

    /// An event: a line of its own, above the live one.
    pub fn say(&mut self, line: &str) {
        let line = printable(line);
        match &self.look {
            Look::Quiet => {}
            Look::Lines => crate::cli::eprint_line(&line),
            Look::Live(bar) => bar.println(line),
        }
    }

    /// The download as it stands.
    pub fn status(&mut self, status: &Status) {
        if let Look::Live(bar) = &self.look {
            return bar.set_message(live_line(status));
        }
        let reason = status.stuck.as_ref().map(ToString::to_string);
        let news = reason.is_some() && reason != self.last_reason;
        if LINE_EVERY <= self.last.elapsed() || (news && self.last_reason.is_none()) {
            self.last = Instant::now();
            self.last_reason = reason;
            self.say(&whole_line(status));
        }
    }

    /// The search for the metadata of a magnet link, in words.
    pub fn searching(&mut self, line: &str) {
        let news = self.last_reason.as_deref() != Some(line);
        if let Look::Live(bar) = &self.look {
            bar.set_message(line.to_owned());
        } else if SEARCHING_EVERY <= self.last.elapsed() && news
            || LINE_EVERY <= self.last.elapsed()
        {
            self.last = Instant::now();
            self.last_reason = Some(line.to_owned());
            self.say(line);
        }
    }

    /// A check of what is on disk: bytes, of so many.
    pub fn checking(&mut self, done: u64, total: u64) {
        let percent = percent(done, total);
        let line = format!(
            "checking what is there: {percent}% of {}, {} done",
            units::size(total),
            units::size(done)
        );
        if let Look::Live(bar) = &self.look {
            bar.set_message(format!("{} {line}", bar_of(done, total)));
        } else if LINE_EVERY <= self.last.elapsed() {
            self.last = Instant::now();
            self.say(&line);
        }
    }

    /// Takes the live line away, for the last words.
    pub fn finish(&mut self) {
        if let Look::Live(bar) = &self.look {
            bar.finish_and_clear();
            self.look = Look::Lines;
        }
    }
}

fn percent(done: u64, total: u64) -> u64 {
    // A torrent without a byte is complete; and nothing short of all is called 100 %.
    u64::try_from(u128::from(done) * 100 / u128::from(total.max(1))).unwrap_or(100)
}

fn bar_of(done: u64, total: u64) -> String {
    let full = u128::from(done) * u128::from(BAR_WIDTH) / u128::from(total.max(1));
    let full = full as usize;
    let tip = if full < BAR_WIDTH as usize { ">" } else { "" };
    format!("[{:<width$}]", "#".repeat(full) + tip, width = BAR_WIDTH as usize)
}

fn rate(bytes_per_second: f64) -> String {
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

fn live_line(status: &Status) -> String {
    if status.have == status.pieces {
        return seed_line(status);
    }
    let head = format!(
        "{} {:3}%  {}/{}",
        bar_of(status.done_bytes, status.total_bytes),
        percent(status.done_bytes, status.total_bytes),
        units::size(status.done_bytes),
        units::size(status.total_bytes),
    );
    let peers = format!("{} of {} peers", status.connected, status.known.max(status.connected));
    match &status.stuck {
        Some(reason) => format!("{head}  {peers}  {reason}"),
        None => {
            let eta = status.eta.map_or(String::new(), |eta| format!("  {} left", time(eta)));
            format!(
                "{head}  down {}  up {}  {peers}  {}/{} pieces{eta}",
                rate(status.download_rate),
                rate(status.upload_rate),
                status.have,
                status.pieces
            )
        }
    }
}

/// Complete: what goes out, to how many, and how much it has been.
fn seed_line(status: &Status) -> String {
    let ratio = status.uploaded as f64 / status.total_bytes.max(1) as f64;
    format!(
        "seeding: up {}, {} peers, uploaded {}, ratio {ratio:.2}",
        rate(status.upload_rate),
        status.connected,
        units::size(status.uploaded)
    )
}

fn whole_line(status: &Status) -> String {
    if status.have == status.pieces {
        return seed_line(status);
    }
    let mut line = format!(
        "{}%: {} of {}, {} of {} pieces verified, down {}, up {}, {} of {} peers connected",
        percent(status.done_bytes, status.total_bytes),
        units::size(status.done_bytes),
        units::size(status.total_bytes),
        status.have,
        status.pieces,
        rate(status.download_rate),
        rate(status.upload_rate),
        status.connected,
        status.known.max(status.connected),
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
            corrupt: 0,
            stuck: None,
        }
    }

    #[test]
    fn the_lines() {
        let mut status = status();
        assert_eq!(
            live_line(&status),
            "[##########>         ]  50%  4.0 MiB/8.0 MiB  down 855.0 KiB/s  up 0 B/s  \
             3 of 12 peers  \
             33/60 pieces  1 min 5 s left"
        );
        status.stuck = Some(Stuck::AllChoke { peers: 3 });
        assert_eq!(
            whole_line(&status),
            "50%: 4.0 MiB of 8.0 MiB, 33 of 60 pieces verified, down 855.0 KiB/s, up 0 B/s, 3 of 12 peers \
             connected; all 3 peers choke us; waiting for a turn"
        );
    }

    #[test]
    fn the_ends_of_the_scale() {
        assert_eq!(bar_of(0, 0), "[>                   ]");
        assert_eq!(bar_of(7, 7), "[####################]");
        assert_eq!((percent(u64::MAX - 1, u64::MAX), percent(0, 0)), (99, 0));
        assert_eq!(time(Duration::MAX), "over a year");
        assert_eq!(time(Duration::from_secs(90_000)), "1 d 1 h");
    }
}
