//! What `--hex` reads: hexadecimal digits, plain or as a dump of `xxd`, `hexdump` or `od` shows them.
//!
//! ```text
//! 00000000: 0000 000d 0600 0000  ....            xxd
//! 00000000  00 00 00 0d 06 00 00 00  |....|      hexdump -C
//! 0000000 0000 0d00 0006 0000                    hexdump: words, their bytes swapped
//! 0000000 00 00 00 0d 06 00 00 00                od -tx1
//! ```
//!
//! Layer: programs.

use anyhow::{Result, bail};

/// The bytes. `None`: that is no hexadecimal input.
pub fn bytes(text: &[u8]) -> Option<Vec<u8>> {
    digits(text).or_else(|| dump(text))
}

/// Why some text is none of it.
pub fn why_not(text: &[u8]) -> Result<()> {
    if text.split(|byte| *byte == b'\n').any(|line| line.trim_ascii() == b"*") {
        bail!("a line * stands for lines left out: let the dump show all (hexdump -v, od -v)");
    }
    let digit = |byte: &u8| byte.is_ascii_hexdigit() || is_between(*byte);
    match text.iter().position(|byte| !digit(byte)) {
        Some(at) => {
            bail!("at byte {at}: expected a hexadecimal digit, found '{}'", text[at].escape_ascii())
        }
        None => bail!("expected an even number of hexadecimal digits"),
    }
}

/// What may stand between hexadecimal digits.
fn is_between(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == b':'
}

pub fn digits(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut high = None;
    for &byte in text.iter().filter(|byte| !is_between(**byte)) {
        let digit = char::from(byte).to_digit(16)? as u8;
        match high.take() {
            None => high = Some(digit),
            Some(high) => bytes.push(high << 4 | digit),
        }
    }
    (high.is_none() && !bytes.is_empty()).then_some(bytes)
}

/// Lines that each begin with an offset.
fn dump(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let mut bytes = Vec::new();
    let mut rest = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let (offset, shown) = line.split_once(' ').unwrap_or((line, ""));
        let is_xxd = offset.ends_with(':');
        let number = offset.trim_end_matches(':');
        if number.len() < 7 || !number.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        if shown.trim().is_empty() {
            // The last line says how long it all is: an odd byte has been made a word.
            rest.push(number);
            continue;
        }
        // What stands behind is the same as text.
        let shown = match is_xxd {
            true => shown.split("  ").next().unwrap_or_default(),
            false => shown.split('|').next().unwrap_or_default(),
        };
        for group in shown.split_ascii_whitespace() {
            let mut group_bytes =
                digits(group.as_bytes()).filter(|_| matches!(group.len(), 2..=8))?;
            if !is_xxd && group.len() == 4 {
                group_bytes.reverse();
            }
            bytes.append(&mut group_bytes);
        }
    }
    if let Some(len) = rest.last()
        && let Ok(len) = usize::from_str_radix(len, 16)
        && len + 1 == bytes.len()
    {
        bytes.pop();
    }
    (!bytes.is_empty()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dumps_of_the_usual_tools() {
        for text in [
            "00000000: 0000 000d 0600 0000 0100 0040 0000 0040  .......1...@...@\n00000010: 00     .\n",
            "00000000  00 00 00 0d 06 00 00 00  01 00 00 40 00 00 00 40  |.a 1..@|\n\
             00000010  00                   |.|\n00000011\n",
            "0000000 0000 0d00 0006 0000 0001 4000 0000 4000\n0000010 0000\n0000011\n",
            "0000000 00 00 00 0d 06 00 00 00 01 00 00 40 00 00 00 40\n0000020 00\n0000021\n",
            "0000000d06000000010000 4000000040 00",
        ] {
            let expected = b"\0\0\0\x0d\x06\0\0\0\x01\0\0\x40\0\0\0\x40\0";
            assert_eq!(bytes(text.as_bytes()).as_deref(), Some(&expected[..]), "{text}");
        }
        for text in ["", "hello there friend", "00000000: zz", "*\n", "0000000 00\n*\n0000040\n"] {
            assert_eq!(bytes(text.as_bytes()), None, "{text}");
            assert!(why_not(text.as_bytes()).is_err());
        }
    }
}
