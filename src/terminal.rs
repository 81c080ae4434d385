//! Standard error as a person sees it: whole lines, and on a terminal a live line (or some) below.
//!
//! ```text
//! whole line
//! whole line
//! [#####>      ]  52%  …        drawn over itself, never longer than the terminal is wide
//! ```
//!
//! What strangers wrote is made printable before it comes here. Here it is made to fit: a character
//! takes no column, one or two (UAX #11), a terminal of an ASCII locale gets ASCII. No colour is used,
//! so there is none to turn off; a terminal that cannot move its cursor (`TERM=dumb`) gets whole lines.
//!
//! Layer: programs. Owns the live line on standard error.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

/// How often the live line is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// As `eprintln!`, but a closed or full standard error is no reason to panic.
pub fn eprint_line(line: &str) {
    let plain = stderr().is_terminal().then(|| for_locale(line));
    write(&format!("{}\n", plain.as_deref().unwrap_or(line)));
}

/// In one call, so that lines of several threads do not mix.
fn write(text: &str) {
    let _ = stderr().write_all(text.as_bytes());
}

/// The live line. Taken away when it is dropped.
pub struct Live {
    /// How many columns each of the lines takes that are shown.
    shown: Vec<usize>,
    due: Instant,
}

impl Live {
    /// `None` where standard error is no terminal that a line can be drawn over on.
    pub fn new() -> Option<Live> {
        let term = std::env::var_os("TERM").is_none_or(|term| term != "dumb" && !term.is_empty());
        (term && stderr().is_terminal()).then(|| Live { shown: Vec::new(), due: Instant::now() })
    }

    /// Draws a line, or some, made for so many columns, unless one was drawn a moment ago.
    pub fn draw(&mut self, line: impl FnOnce(usize) -> String) {
        let now = Instant::now();
        if self.due <= now {
            self.due = now + DRAW_EVERY;
            // The last column is left alone: a full line moves some cursors to the next one.
            let width = width().saturating_sub(1);
            // Twice: an escape takes more columns, and the mark of a cut is not ASCII.
            let fitted = |line: &str| for_locale(&fit(&for_locale(line), width)) + "\x1b[K";
            let lines: Vec<String> = line(width).lines().map(fitted).collect();
            let back = self.to_the_first();
            // `fitted` adds the escape, which takes none.
            let text = |line: &String| columns(line.trim_end_matches("\x1b[K"));
            self.shown = lines.iter().map(text).collect();
            write(&format!("{back}{}\x1b[J", lines.join("\n\r")));
        }
    }

    /// Prints a whole line above the live one.
    pub fn above(&mut self, line: &str) {
        self.clear();
        self.due = Instant::now();
        eprint_line(line);
    }

    pub fn clear(&mut self) {
        if !self.shown.is_empty() {
            write(&format!("{}\x1b[J", self.to_the_first()));
            self.shown.clear();
        }
    }

    /// How the cursor gets to the first of the lines.
    fn to_the_first(&self) -> String {
        match rows(&self.shown, width()) {
            0 | 1 => "\r".to_owned(),
            rows => format!("\r\x1b[{}A", rows - 1),
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.clear();
    }
}

/// The rows that lines of so many columns take: a terminal that was made narrower has wrapped them.
fn rows(lines: &[usize], width: usize) -> usize {
    lines.iter().map(|columns| columns.div_ceil(width).max(1)).sum()
}

/// The columns of the terminal; 80 where there is none.
pub fn width() -> usize {
    console::Term::stderr().size_checked().map_or(80, |(_, columns)| usize::from(columns).max(1))
}

/// Whether the locale says that text is UTF-8: the first of these variables that is set counts.
fn is_utf8() -> bool {
    let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).unwrap_or_default();
    let locale = locale.to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

/// A line for a terminal of the user's locale.
pub fn for_locale(line: &str) -> String {
    if line.is_ascii() || is_utf8() { line.to_owned() } else { ascii(line) }
}

fn ascii(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    for c in line.chars() {
        match c {
            // As many columns as it was.
            '…' => plain.push('.'),
            '→' => plain.push_str("->"),
            '←' => plain.push_str("<-"),
            c if c.is_ascii() => plain.push(c),
            c => plain.extend(c.escape_unicode()),
        }
    }
    plain
}

/// The beginning of a line that fits into so many columns, with `…` where it was cut.
pub fn fit(line: &str, columns: usize) -> String {
    let mut used = 0;
    // Where to cut, if the rest does not fit.
    let mut cut = 0;
    for (at, c) in line.char_indices() {
        used += columns_of(c);
        if columns < used {
            return format!("{}{}", &line[..cut], if columns == 0 { "" } else { "…" });
        }
        if used < columns {
            cut = at + c.len_utf8();
        }
    }
    line.to_owned()
}

/// How many columns a text takes.
pub fn columns(text: &str) -> usize {
    text.chars().map(columns_of).sum()
}

/// 0 for marks that sit on the character before them, 2 for East Asian wide characters and emoji.
fn columns_of(c: char) -> usize {
    match c {
        '\u{300}'..='\u{36f}'
        | '\u{483}'..='\u{489}'
        | '\u{591}'..='\u{5bd}'
        | '\u{610}'..='\u{61a}'
        | '\u{64b}'..='\u{65f}'
        | '\u{93c}'
        | '\u{941}'..='\u{948}'
        | '\u{94d}'
        | '\u{e31}'
        | '\u{e34}'..='\u{e3a}'
        | '\u{e47}'..='\u{e4e}'
        | '\u{1ab0}'..='\u{1aff}'
        | '\u{1dc0}'..='\u{1dff}'
        | '\u{200b}'..='\u{200f}'
        | '\u{20d0}'..='\u{20ff}'
        | '\u{3099}'..='\u{309a}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{fe20}'..='\u{fe2f}'
        | '\u{e0100}'..='\u{e01ef}' => 0,
        '\u{1100}'..='\u{115f}'
        | '\u{231a}'..='\u{231b}'
        | '\u{23e9}'..='\u{23ec}'
        | '\u{2614}'..='\u{2615}'
        | '\u{2648}'..='\u{2653}'
        | '\u{26aa}'..='\u{26ab}'
        | '\u{2705}'
        | '\u{2728}'
        | '\u{274c}'
        | '\u{2753}'..='\u{2757}'
        | '\u{2e80}'..='\u{303e}'
        | '\u{3041}'..='\u{a4cf}'
        | '\u{a960}'..='\u{a97f}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{16fe0}'..='\u{18cff}'
        | '\u{1b000}'..='\u{1b2ff}'
        | '\u{1f18e}'
        | '\u{1f191}'..='\u{1f19a}'
        | '\u{1f200}'..='\u{1f265}'
        | '\u{1f300}'..='\u{1f64f}'
        | '\u{1f680}'..='\u{1f6ff}'
        | '\u{1f7e0}'..='\u{1f7eb}'
        | '\u{1f900}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

/// A name with letters that are written from right to left, kept from turning what is around it:
/// between two left-to-right marks (UAX #9), which take no column.
pub fn isolated(name: &str) -> String {
    let turns = |c| matches!(c, '\u{590}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{fefc}' | '\u{10800}'..='\u{10fff}' | '\u{1e800}'..='\u{1efff}');
    match stderr().is_terminal() && name.chars().any(turns) {
        true => format!("\u{200e}{name}\u{200e}"),
        false => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wide_is_cut_where_it_ends() {
        let check = |text: &str, width: usize, expected: &str| {
            let cut = fit(text, width);
            assert_eq!(cut, expected);
            assert!(columns(&cut) <= width, "{cut}");
        };
        check("abc", 3, "abc");
        check("abcd", 3, "ab…");
        check("日本語", 6, "日本語");
        check("日本語", 5, "日本…");
        check("日本語", 4, "日…");
        check("e\u{301}e\u{301}e\u{301}", 2, "e\u{301}…");
        check("日本語", 0, "");
        check("", 0, "");
    }

    #[test]
    fn what_was_drawn_wider_has_become_several_rows() {
        assert_eq!([80, 79, 40, 39, 26].map(|width| rows(&[79, 0, 40], width)), [3, 3, 4, 6, 7]);
        assert_eq!(rows(&[], 80), 0);
    }

    #[test]
    fn an_ascii_terminal_gets_ascii() {
        assert_eq!(ascii("é → 日…"), "\\u{e9} -> \\u{65e5}.");
    }
}
