//! The run once more on a terminal, as fast as can be watched: one row for each peer.
//!
//! ```text
//!   9.4 s  swarm                                            the last of 8 will be done at 18.1 s
//!       #: all pieces of a part, : half or more, . some; → gives to, the most first
//! S   [###############] 100 % down           - up 512.0 KiB/s → 1 4 7
//! 1   [##..#:###.: .##]  61 % down   1.2 MiB/s up 498.3 KiB/s → 2 3
//! ```
//!
//! Layer: programs. Draws on standard error; ends with the run, or with Ctrl-C.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::{Duration, Instant};

use super::Played;
use super::record::Moment;
use crate::bitfield::Bitfield;
use crate::order;
use crate::terminal;
use crate::units::size;

/// How long a replay takes, whatever time passed in it.
const TAKES: Duration = Duration::from_secs(10);

/// Pictures a second.
const HZ: u32 = 10;

/// So much of the past makes a rate.
const WINDOW: Duration = Duration::from_secs(1);

/// More rows than this would not fit most terminals; the rest is counted.
const ROWS_MAX: usize = 40;

/// What a picture is made of: the record up to some moment.
struct Scene<'a> {
    run: &'a Played,
    /// The next moment that has not been taken in.
    next: usize,
    have: Vec<Bitfield>,
    here: Vec<bool>,
}

/// Plays the record of a run.
pub fn replay(run: &Played) {
    let end = run.world.record.end();
    let pieces = run.world.geometry.pieces();
    let nodes = &run.world.nodes;
    let mut scene = Scene {
        run,
        next: 0,
        have: nodes.iter().map(|node| node.nature.start(pieces)).collect(),
        here: vec![false; nodes.len()],
    };
    let frames = TAKES.as_millis() as u32 * HZ / 1000;
    let began = Instant::now();
    for frame in 0..=frames {
        let at = end * frame / frames;
        let picture = scene.picture(at);
        let lines = picture.lines().count();
        let _ = std::io::stderr().write_all(terminal::for_locale(&picture).as_bytes());
        if frame < frames {
            // The picture's time is its own: drawing it late makes the next one no later.
            let due = began + TAKES * frame / frames + Duration::from_secs(1) / HZ;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let _ = write!(std::io::stderr(), "\x1b[{lines}A");
        }
    }
}

impl Scene<'_> {
    /// The picture at a moment no earlier than the last one, each line ending the old one's rest.
    fn picture(&mut self, at: Duration) -> String {
        let record = &self.run.world.record;
        let from = record.moments.partition_point(|(when, _)| *when + WINDOW < at);
        while let Some((when, moment)) = record.moments.get(self.next)
            && *when <= at
        {
            match moment {
                Moment::Joined { node } => self.here[*node] = true,
                Moment::Left { node } => self.here[*node] = false,
                Moment::Stored { node, piece } => drop(self.have[*node].insert(*piece)),
                _ => {}
            }
            self.next += 1;
        }
        let n = self.run.world.nodes.len();
        let mut flow = vec![vec![0u64; n]; n];
        for (_, moment) in &record.moments[from.min(self.next)..self.next] {
            if let Moment::Block { from, to, bytes } = moment {
                flow[*from][*to] += u64::from(*bytes);
            }
        }
        let width = terminal::width().saturating_sub(1);
        let legend =
            "      #: all pieces of a part, : half or more, . some; → gives to, the most first";
        let mut lines = vec![self.head(at), legend.to_owned()];
        lines.extend((0..n.min(ROWS_MAX)).map(|node| self.row(node, &flow, width)));
        if ROWS_MAX < n {
            lines.push(format!("and {} more", n - ROWS_MAX));
        }
        lines.iter().fold(String::new(), |mut text, line| {
            let _ = writeln!(text, "{}\x1b[K", terminal::fit(line, width));
            text
        })
    }

    fn head(&self, at: Duration) -> String {
        let done = self.have.iter().filter(|have| have.is_full()).count();
        let of = self.have.len();
        format!("{:6.1} s  {}: {done} of {of} have everything", at.as_secs_f64(), self.run.label)
    }

    fn row(&self, node: usize, flow: &[Vec<u64>], width: usize) -> String {
        let names = &self.run.world.names;
        if !self.here[node] {
            return format!("{:<4}not here", names[node]);
        }
        let have = &self.have[node];
        let percent = u64::from(have.count()) * 100 / u64::from(have.len().max(1));
        let rate =
            |bytes: u64| if bytes == 0 { "-".to_owned() } else { format!("{}/s", size(bytes)) };
        let down = flow.iter().map(|row| row[node]).sum();
        let up = flow[node].iter().sum();
        let mut to: Vec<usize> = (0..flow.len()).filter(|&to| flow[node][to] != 0).collect();
        order::sort_by_key(&mut to, |&to| std::cmp::Reverse(flow[node][to]));
        let to: Vec<&str> = to.into_iter().map(|to| names[to].as_str()).collect();
        let arrow = if to.is_empty() { String::new() } else { format!("→ {}", to.join(" ")) };
        // At 80 characters the names of seven or so to whom it gives still fit behind it.
        let cells = (width / 5).clamp(8, 60);
        format!(
            "{:<4}[{}] {percent:3} % down {:>11} up {:>11} {arrow}",
            names[node],
            map(have, cells),
            rate(down),
            rate(up)
        )
    }
}

/// The pieces in so many cells: `#` all of a cell's, `:` half or more, `.` some.
fn map(have: &Bitfield, cells: usize) -> String {
    let pieces = have.len() as usize;
    let cell = |i: usize| {
        let range = i * pieces / cells..((i + 1) * pieces / cells).max(i * pieces / cells + 1);
        let of = range.len();
        let count = range.filter(|&piece| piece < pieces && have.contains(piece as u32)).count();
        match count {
            0 => ' ',
            count if count == of => '#',
            count if of <= 2 * count => ':',
            _ => '.',
        }
    };
    (0..cells).map(cell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_shows_how_much_of_each_part_is_there() {
        assert_eq!(map(&Bitfield::with(8, [0, 1, 2]), 4), "#:  ");
        assert_eq!(map(&Bitfield::with(16, [0, 4, 5]), 4), ".:  ");
        assert_eq!(map(&Bitfield::full(3), 6), "######");
        assert_eq!(map(&Bitfield::new(1), 3), "   ");
    }
}
