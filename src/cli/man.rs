//! `piecemeal man`: the man page, made from the tables in [`flags`](super::flags), as roff with the
//! macros of man(7):
//!
//! ```text
//! .SH NAME        a section                 .TP   a term on the next line, its text below it
//! \-  \e  \&.     what roff would take for its own: a hyphen it may turn, an escape, a request
//! ```
//!
//! Layer: programs.

use std::fmt::Write;

use super::flags::COMMANDS;
use super::help::{ABOUT, EXITS, HOOK, TORRENT, also, examples, flags_of, value, wrapped};

/// Of this version; mandoc(1) wants one.
const DATE: &str = "2026-11-23";

/// Lines of the source are at most so long, before their escapes.
const LINE: usize = 64;

/// The whole page.
pub fn page() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut page =
        format!(".TH PIECEMEAL 1 {DATE} \"piecemeal {version}\" \"User Commands\"\n.nh\n.ad l\n");
    let _ = write!(page, ".SH NAME\npiecemeal \\- {}\n", roff(ABOUT));
    page += ".SH SYNOPSIS\n.nf\n";
    for command in COMMANDS {
        let usage = format!("{} [options] {}", command.name, command.operand);
        let _ = writeln!(page, "\\fBpiecemeal\\fR {}", roff(usage.trim_end()));
    }
    let _ = writeln!(page, "\\fBpiecemeal\\fR [options] TORRENT\n.fi\n.SH DESCRIPTION");
    paragraph(&mut page, TORRENT);
    page += ".SH COMMANDS\n";
    for command in COMMANDS {
        let title = format!("{} {}", command.name, command.operand);
        let _ = writeln!(page, ".SS {}", roff(title.trim_end()));
        paragraph(&mut page, &format!("{}.", command.help));
        if !command.aliases.is_empty() {
            let _ = writeln!(page, "Also: {}.", command.aliases.join(", "));
        }
        for flag in flags_of(command.name).filter(|flag| !flag.on.is_empty()) {
            self::flag(&mut page, flag);
        }
        page += ".PP\n.nf\n";
        examples(command.name).iter().for_each(|line| _ = writeln!(page, "{}", roff(line)));
        page += ".fi\n";
    }
    page += ".SH OPTIONS OF ALL COMMANDS\n";
    flags_of("").for_each(|flag| self::flag(&mut page, flag));
    for (title, rows) in [("EXIT STATUS", EXITS), ("ENVIRONMENT OF --on-complete", HOOK)] {
        let _ = writeln!(page, ".SH {}", roff(title));
        rows.iter().for_each(|(term, text)| entry(&mut page, term, text));
    }
    page
}

fn flag(page: &mut String, flag: &super::flags::Flag) {
    let short = flag.short.map_or(String::new(), |letter| format!("-{letter}, "));
    let also = match also(flag) {
        also if also.is_empty() => also,
        also => format!(". Also {also}"),
    };
    let term = format!("{short}--{}{}", flag.long, value(flag));
    entry(page, &term, &format!("{}{also}.", flag.help));
}

fn entry(page: &mut String, term: &str, text: &str) {
    let _ = writeln!(page, ".TP\n\\fB{}\\fR", roff(term));
    paragraph(page, text);
}

fn paragraph(page: &mut String, text: &str) {
    wrapped(text, LINE).iter().for_each(|line| _ = writeln!(page, "{}", roff(line)));
}

/// Text as roff takes it for text. What is not ASCII is named by its number.
fn roff(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    if text.starts_with(['.', '\'']) {
        out += "\\&";
    }
    for c in text.chars() {
        match c {
            '\\' => out += "\\e",
            '-' => out += "\\-",
            '\'' => out += "\\(aq",
            '`' => out += "\\(ga",
            '~' => out += "\\(ti",
            '^' => out += "\\(ha",
            c if c.is_ascii() => out.push(c),
            c => _ = write!(out, "\\[u{:04X}]", u32::from(c)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn nothing_is_taken_for_a_request() {
        assert_eq!(super::roff(".a -b 'c' \\ …"), "\\&.a \\-b \\(aqc\\(aq \\e \\[u2026]");
    }
}
