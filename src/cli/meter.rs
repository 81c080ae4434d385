//! Progress of hashing on standard error: one live line on a terminal, a whole line now and then
//! elsewhere, nothing with `--quiet`.
//!
//! Layer: programs.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::eprint_line;
use super::flags::Args;
use crate::units::size;

/// How often the live line is drawn. (indicatif's own limit lets bursts through.)
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// How often a whole line is printed where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// What is told to whoever waits.
pub struct Meter {
    what: &'static str,
    bar: Option<ProgressBar>,
    quiet: bool,
    /// When the next line is due. What takes less than that has none.
    next: Instant,
}

impl Meter {
    /// `what` is done, such as `checking`.
    pub fn new(what: &'static str, args: &Args) -> Meter {
        let live = !args.quiet && std::io::stderr().is_terminal();
        let bar = live.then(|| {
            let target = ProgressDrawTarget::stderr();
            let style = "{prefix} {bar:30} {percent:>3} % of {msg}, {eta} left";
            let style = ProgressStyle::with_template(style);
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::with_draw_target(Some(0), target).with_style(style).with_prefix(what)
        });
        let next = Instant::now() + if live { DRAW_EVERY } else { LINE_EVERY };
        Meter { what, bar, quiet: args.quiet, next }
    }

    pub fn update(&mut self, done: u64, total: u64) {
        let now = Instant::now();
        if self.quiet || now < self.next {
            return;
        }
        if let Some(bar) = &self.bar {
            self.next = now + DRAW_EVERY;
            if bar.length() != Some(total) {
                bar.set_length(total);
                bar.set_message(size(total));
            }
            bar.set_position(done);
        } else {
            self.next = now + LINE_EVERY;
            let percent = (done as f64 / total.max(1) as f64 * 100.0) as u8;
            eprint_line(&format!("{} {percent} % of {}", self.what, size(total)));
        }
    }

    /// Takes the live line away.
    pub fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}
