//! A look at a running swarm, drawn: the map of pieces (`-v`) and the table of peers (`-vv`, or
//! SIGUSR1).
//!
//! ```text
//! ###+##*##*13122-     # verified   * on its way   0-9 so many peers have the rarest of the rest
//!                      + half of it verified, if a letter stands for several pieces   - not wanted
//! ```
//!
//! Layer: programs.

use super::help::wrapped;
use crate::picker::Cell;
use crate::progress::rate;
use crate::swarm::{Row, Snapshot, WebSeedRow};
use crate::units::{count, size};

/// Rows of the table at most.
const ROWS_MAX: usize = 30;

/// A terminal this wide has room for every column; one that is narrow for three.
const WIDE: usize = 110;
const NARROW: usize = 70;

/// What the map's letters mean.
pub const LEGEND: &str = "map of pieces: # verified, + half of them, * on its way, 0-9 how many \
     peers have the rarest of the rest (9: or more), - not wanted";

/// What the letters in the table mean.
const FLAGS: &str = "D it sends, d it chokes us, U we send, u we choke it, S it lets us wait, \
     I it dialled us";

/// One letter for each cell; nothing where all is here.
pub fn map(cells: &[Cell]) -> String {
    if cells.iter().all(|cell| cell.have == cell.pieces) {
        return String::new();
    }
    let letter = |cell: &Cell| match cell {
        Cell { pieces, have, .. } if have == pieces => '#',
        Cell { begun: 1.., .. } => '*',
        Cell { pieces, have, .. } if pieces.div_ceil(2) <= *have => '+',
        Cell { rarest: Some(has), .. } => char::from_digit((*has).min(9), 10).unwrap_or('9'),
        _ => '-',
    };
    cells.iter().map(letter).collect()
}

/// The table, made for so many columns.
pub fn table(snapshot: &Snapshot, columns: usize) -> Vec<String> {
    let peers = &snapshot.peers;
    let mut lines = wrapped(&format!("{}; {FLAGS}", count(peers.len() as u64, "peer")), columns);
    let line = |cells: [&str; 8]| {
        let [addr, flags, down, up, has, received, sent, client] = cells;
        let mut line = format!("{addr:<21} {flags:<4} {down:>12}");
        if NARROW <= columns {
            line += &format!(" {up:>12} {has:>4}");
        }
        if WIDE <= columns {
            line += &format!(" {received:>11} {sent:>11}");
        }
        if NARROW <= columns { line + "  " + client } else { line }
    };
    if !peers.is_empty() || !snapshot.web_seeds.is_empty() {
        lines.push(line(["peer", "", "down", "up", "has", "received", "sent", "client"]));
    }
    for Row { addr, client, flags, down, up, received, sent, share } in peers.iter().take(ROWS_MAX)
    {
        let has = format!("{}%", (share * 100.0) as u8);
        let (addr, down, up) = (addr.to_string(), rate(*down), rate(*up));
        let (received, sent) = (size(*received), size(*sent));
        lines.push(line([&addr, flags, &down, &up, &has, &received, &sent, client]));
    }
    if let Some(more @ 1..) = peers.len().checked_sub(ROWS_MAX) {
        lines.push(format!("and {more} more"));
    }
    for WebSeedRow { place, state, down, received, share, trouble } in &snapshot.web_seeds {
        let has = format!("{}%", (share * 100.0) as u8);
        let what = format!("web seed, {}", trouble.as_deref().unwrap_or(&state.replace('_', " ")));
        let cells = [place, "", &rate(*down), "", &has, &size(*received), "", &what];
        let width = if columns < NARROW { columns } else { usize::MAX };
        lines.push(line(cells).chars().take(width).collect());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_says_what_is_worst_in_a_cell() {
        let cell = |pieces, have, begun, rarest| Cell { pieces, have, begun, rarest };
        let cells = [
            cell(2, 2, 0, None),
            cell(2, 1, 1, None),
            cell(2, 0, 1, Some(0)),
            cell(3, 1, 0, Some(0)),
            cell(3, 2, 0, Some(0)),
            cell(2, 0, 0, Some(12)),
            cell(3, 1, 0, None),
        ];
        assert_eq!(map(&cells), "#**0+9-");
        assert_eq!(map(&cells[..1]), "");
    }

    #[test]
    fn the_table_has_the_busiest_and_what_there_is_room_for() {
        let row = Row {
            addr: ([10, 0, 0, 3], 6881).into(),
            client: "libtorrent 2.0".to_owned(),
            flags: "DuI".to_owned(),
            down: 2_097_152.0,
            up: 0.0,
            received: 4 << 20,
            sent: 17,
            share: 0.999,
        };
        let web_seed = WebSeedRow {
            place: "https://m.example".to_owned(),
            state: "busy",
            down: 1_048_576.0,
            received: 3 << 20,
            share: 1.0,
            trouble: None,
        };
        let alone = Snapshot { map: Vec::new(), peers: Vec::new(), web_seeds: vec![web_seed] };
        assert_eq!(
            table(&alone, 80).last().expect("one"),
            "https://m.example             1.0 MiB/s              100%  web seed, busy"
        );
        let (map, peers, web_seeds) = (Vec::new(), vec![row; 40], Vec::new());
        let snapshot = Snapshot { map, peers, web_seeds };
        let lines = table(&snapshot, 80);
        assert_eq!(
            lines[3],
            "10.0.0.3:6881         DuI     2.0 MiB/s        0 B/s  99%  libtorrent 2.0"
        );
        assert_eq!(table(&snapshot, 40)[5], "10.0.0.3:6881         DuI     2.0 MiB/s");
        assert_eq!(lines.last().expect("one"), "and 10 more");
        assert!(
            table(&snapshot, 120)[2].ends_with("  99%     4.0 MiB        17 B  libtorrent 2.0")
        );
    }
}
