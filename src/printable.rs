//! Text from strangers, made fit for a terminal.
//!
//! File names, tracker messages and client names come from outside and may hold escape sequences
//! that repaint the screen, or characters that turn the direction of text. Whatever is printed goes
//! through [`printable`]; what is printed as JSON is escaped by [`json`](crate::json) instead.
//!
//! Layer: values.

use std::fmt::Write;

/// The text with control characters (C0, DEL, C1) and direction marks escaped as in Rust source.
pub fn printable(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        if must_be_escaped(c) {
            let _ = write!(clean, "{}", c.escape_unicode());
        } else {
            clean.push(c);
        }
    }
    clean
}

/// As [`printable`], for bytes that should be UTF-8: what is not becomes U+FFFD.
pub fn printable_bytes(bytes: &[u8]) -> String {
    printable(&String::from_utf8_lossy(bytes))
}

/// At most `max` characters of a printable text, with `…` where it was cut.
pub fn clipped(text: &str, max: usize) -> String {
    let clean = printable(text);
    match clean.char_indices().nth(max) {
        Some((cut, _)) => format!("{}…", &clean[..cut]),
        None => clean,
    }
}

/// Whether a character may not reach a terminal as it is: control characters, and marks that reorder
/// or hide what is displayed after them (Unicode's bidi controls, separators, BOM).
pub fn must_be_escaped(c: char) -> bool {
    let turns_text = matches!(
        c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
    );
    c.is_control() || turns_text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_do_not_reach_the_terminal() {
        assert_eq!(
            printable("a\x1b[31mb\n\u{9b}\u{202e}c é 日本"),
            "a\\u{1b}[31mb\\u{a}\\u{9b}\\u{202e}c é 日本"
        );
        // All that have the property Bidi_Control in Unicode.
        let marks = "\u{61c}\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\
                     \u{2068}\u{2069}";
        assert!(printable(marks).is_ascii(), "{}", printable(marks));
        assert_eq!(printable_bytes(b"ok \xff"), "ok \u{fffd}");
        assert_eq!(clipped("日本語", 2), "日本…");
    }
}
