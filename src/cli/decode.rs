//! `piecemeal decode FILE`: bencode as JSON.
//!
//! ```text
//! integer       a number                       string     a string, if it is UTF-8
//! list          an array                       string     {"$hex": "ff00"}, if it is not
//! dictionary    an object, in the given order  key        "$hex:ff00", if it is not UTF-8
//! ```
//!
//! JSON objects have each key once, so a dictionary that has one twice is an error here, although
//! `show` and `get` take the first. White space after the value is ignored, all else is not.
//!
//! FILE may also be an address or `-`, and where no file has that name, bencode itself:
//! `piecemeal decode 5:hello`.
//!
//! Layer: programs.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::Exit;
use super::flags::Args;
use super::input;
use super::output::Output;
use crate::bencode::{self, DEPTH_MAX, Kind, Value};
use crate::json;
use crate::printable::clipped;

pub fn run(args: &Args) -> Result<Exit> {
    let Some(operand) = super::one_operand(args) else { return Ok(Exit::Usage) };
    let bytes = match literal(operand) {
        Some(bytes) => bytes.to_vec(),
        None => input::read(operand, None)?,
    };
    let text = to_json(&bytes).with_context(|| input::shown(operand))?;
    let mut out = Output::new();
    out.line(text)?;
    out.finish()?;
    Ok(Exit::Done)
}

/// The operand itself, if it is a bencoded value and not the name of a file.
fn literal(operand: &OsStr) -> Option<&[u8]> {
    let bytes = operand.as_encoded_bytes();
    let is_value = bencode::decode(bytes).is_ok();
    (is_value && Path::new(operand).symlink_metadata().is_err()).then_some(bytes)
}

fn to_json(input: &[u8]) -> Result<String> {
    let (document, len) = bencode::decode_prefix(input)?;
    if !input[len..].trim_ascii().is_empty() {
        bencode::decode(input)?;
    }
    let mut text = String::with_capacity(input.len());
    write_value(&mut text, document.root(), 0)?;
    Ok(text)
}

/// Writes one value. It calls itself at most as deep as the decoder lets values nest.
fn write_value(text: &mut String, value: Value, depth: usize) -> Result<()> {
    assert!(depth <= DEPTH_MAX, "the decoder refuses what is deeper");
    match value.kind() {
        Kind::Int(int) => _ = write!(text, "{int}"),
        Kind::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(string) => text.push_str(&json::string(string)),
            Err(_) => _ = write!(text, "{{\"$hex\":\"{}\"}}", hex(bytes)),
        },
        Kind::List(list) => {
            text.push('[');
            for (i, item) in list.iter().enumerate() {
                text.push_str(if i == 0 { "" } else { "," });
                write_value(text, item, depth + 1)?;
            }
            text.push(']');
        }
        Kind::Dict(dict) => {
            let mut seen = HashSet::new();
            text.push('{');
            for (i, (key, item)) in dict.iter().enumerate() {
                let name = match std::str::from_utf8(key) {
                    Ok(name) => name.to_owned(),
                    Err(_) => format!("$hex:{}", hex(key)),
                };
                if !seen.insert(key) {
                    let at = item.at();
                    bail!("at byte {at}: a second value of the key {}", clipped(&name, 60));
                }
                text.push_str(if i == 0 { "" } else { "," });
                let _ = write!(text, "{}:", json::string(&name));
                write_value(text, item, depth + 1)?;
            }
            text.push('}');
        }
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let pair = |byte: &u8| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
    bytes.iter().flat_map(pair).map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bencode: &[u8], expected: &str) {
        let actual = to_json(bencode).unwrap_or_else(|err| format!("{err:#}"));
        assert_eq!(actual, expected);
    }

    #[test]
    fn all_kinds() {
        check(b"lle0:dei-1ee", r#"[[],"",{},-1]"#);
        check(b"d1:bi1e1:ai2ee", r#"{"b":1,"a":2}"#);
        check(b"d2:\xff\xfe2:\x00\xffe", r#"{"$hex:fffe":{"$hex":"00ff"}}"#);
        check("6:日\"\x1b\n".as_bytes(), r#""日\"\u001b\n""#);
        check(b"i5e \r\n", "5");
        check(&[vec![b'l'; 60], vec![b'e'; 60]].concat(), &("[".repeat(60) + &"]".repeat(60)));
    }

    #[test]
    fn errors_name_the_place_and_the_rule() {
        check(b"i1egarbage", "at byte 3: 7 bytes after the value");
        check(b"d1:ai1e1:ai2ee", "at byte 10: a second value of the key a");
        check(b"li1ei007ee", "at byte 4: an integer with a leading zero (BEP 3)");
    }
}
