//! `piecemeal decode FILE`: bencode as JSON, and everything that the protocol says, explained.
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
//! FILE may also be an address or `-`, a magnet link, and where no file has that name, bencode or
//! hexadecimal digits: `piecemeal decode 5:hello`.
//!
//! What comes out: bencode as JSON, unless `--explain` or `--as` is given or a terminal is to show a
//! file; all else as a tree ([`explain`](crate::explain)), with `--json` as JSON too.
//!
//! Layer: programs.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fmt::Write;
use std::io::IsTerminal;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};

use super::Exit;
use super::flags::Args;
use super::input;
use super::output::Output;
use crate::bencode::{self, DEPTH_MAX, Kind as Form, Value};
use crate::dial::Dialler;
use crate::explain::{Kind, Line, explain, hex};
use crate::json::{self, Object};
use crate::magnet::Magnet;
use crate::printable::{clipped, printable};

/// So many bytes of a line of the tree are shown as hexadecimal digits, for people and in JSON.
const HEX_TEXT: usize = 8;
const HEX_JSON: usize = 64;

/// Shorter digits than these (in bytes) are not taken for hexadecimal input unasked.
const HEX_LEAST: usize = 8;

pub fn run(args: &Args) -> Result<Exit> {
    let Some(operand) = super::one_operand(args) else { return Ok(Exit::Usage) };
    let literal = literal(operand, args.hex);
    let bytes = match literal {
        Some(bytes) => bytes.to_vec(),
        None => input::read(operand, &Dialler::default())?,
    };
    let named = || input::shown(operand);
    let bytes = from_hex(bytes, args.hex).with_context(named)?;
    let kind = args.decode_as.unwrap_or_else(|| Kind::guess(&bytes));
    let for_eyes = literal.is_none() && !args.json && std::io::stdout().is_terminal();
    let wanted = args.explain || args.verbose != 0 || args.decode_as.is_some() || for_eyes;
    let mut out = Output::new();
    if wanted || !kind.is_bencode() {
        let all = args.explain || args.verbose != 0;
        let checked = explain(&bytes, kind, all, &mut |_| ());
        // Of what is broken, only who asks for more sees what is before the fault.
        if checked.is_ok() || args.verbose != 0 {
            let printed = match args.json {
                true => print_json(&mut out, &bytes, kind, all),
                false => print_tree(&mut out, &bytes, kind, all),
            };
            out.finish()?;
            printed?;
        }
        let name = kind.name();
        checked.map_err(|err| anyhow!("{}: as {name}, {err}", named()))?;
        return Ok(Exit::Done);
    }
    let text = to_json(&bytes).with_context(named)?;
    out.line(text)?;
    out.finish()?;
    Ok(Exit::Done)
}

/// The operand itself, if it is a value and not the name of a file.
fn literal(operand: &OsStr, hex: bool) -> Option<&[u8]> {
    let bytes = operand.as_encoded_bytes();
    if operand.to_str().is_some_and(Magnet::is_link) {
        return Some(bytes);
    }
    let digits = digits(bytes).is_some_and(|bytes| hex || HEX_LEAST <= bytes.len());
    let is_value = digits || bencode::decode(bytes).is_ok();
    (is_value && Path::new(operand).symlink_metadata().is_err()).then_some(bytes)
}

/// What hexadecimal digits stand for, if that is what the input is, and is meant to be.
fn from_hex(input: Vec<u8>, asked: bool) -> Result<Vec<u8>> {
    match digits(&input) {
        Some(bytes) if asked => Ok(bytes),
        Some(bytes) if HEX_LEAST <= bytes.len() && bencode::decode(&input).is_err() => Ok(bytes),
        None if asked => {
            let digit = |byte: &u8| byte.is_ascii_hexdigit() || is_between(*byte);
            match input.iter().position(|byte| !digit(byte)) {
                Some(at) => bail!(
                    "at byte {at}: expected a hexadecimal digit, found '{}'",
                    input[at].escape_ascii()
                ),
                None => bail!("expected an even number of hexadecimal digits"),
            }
        }
        _ => Ok(input),
    }
}

/// What may stand between hexadecimal digits.
fn is_between(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == b':'
}

fn digits(text: &[u8]) -> Option<Vec<u8>> {
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

pub(super) fn print_tree(out: &mut Output, bytes: &[u8], kind: Kind, all: bool) -> Result<()> {
    let mut result = Ok(());
    let done = explain(bytes, kind, all, &mut |line: Line| {
        if result.is_ok() {
            result = out.line(tree_line(&line));
        }
    });
    result?;
    // Here is where it ends.
    done.or_else(|err| out.line(format!("{:>8}  {}", err.at, printable(&err.what))))
}

/// Offset, bytes, indented name and meaning, rule.
fn tree_line(line: &Line) -> String {
    let Line { depth, at, raw, name, meaning, rule } = line;
    let (hex, indent) = (hex(raw, HEX_TEXT), 2 * depth);
    let text = format!("{:indent$}{}: {}", "", printable(name), printable(meaning));
    let rule = if rule.is_empty() { String::new() } else { format!("  [{rule}]") };
    format!("{at:>8}  {hex:<17}  {text}{rule}")
}

/// One object: the kind, how many bytes, and the lines, those that belong to one inside it.
fn print_json(out: &mut Output, bytes: &[u8], kind: Kind, all: bool) -> Result<()> {
    let (name, len) = (json::string(kind.name()), bytes.len());
    out.bytes(format!("{{\"kind\":{name},\"bytes\":{len},\"fields\":[").as_bytes())?;
    let (mut result, mut open) = (Ok(()), None);
    let _ = explain(bytes, kind, all, &mut |line: Line| {
        let joint = match open {
            None => String::new(),
            Some(last) if last < line.depth => ",\"fields\":[".to_owned(),
            Some(last) => format!("}}{},", "]}".repeat(last - line.depth)),
        };
        open = Some(line.depth);
        let object = Object::new()
            .num("at", line.at as u64)
            .num("len", line.raw.len() as u64)
            .str("hex", &hex(line.raw, HEX_JSON))
            .str("name", line.name.trim())
            .str("meaning", &line.meaning)
            .str("rule", line.rule)
            .done();
        if result.is_ok() {
            result = out.bytes((joint + object.trim_end_matches('}')).as_bytes());
        }
    });
    result?;
    let end = open.map_or(String::new(), |last| format!("}}{}", "]}".repeat(last)));
    out.line(end + "]}")
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
        Form::Int(int) => _ = write!(text, "{int}"),
        Form::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(string) => text.push_str(&json::string(string)),
            Err(_) => _ = write!(text, "{{\"$hex\":\"{}\"}}", hex(bytes, usize::MAX)),
        },
        Form::List(list) => {
            text.push('[');
            for (i, item) in list.iter().enumerate() {
                text.push_str(if i == 0 { "" } else { "," });
                write_value(text, item, depth + 1)?;
            }
            text.push(']');
        }
        Form::Dict(dict) => {
            let mut seen = HashSet::new();
            text.push('{');
            for (i, (key, item)) in dict.iter().enumerate() {
                let name = match std::str::from_utf8(key) {
                    Ok(name) => name.to_owned(),
                    Err(_) => format!("$hex:{}", hex(key, usize::MAX)),
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
        check(b"i1egarbage", "at byte 3: expected the end, found 7 more bytes");
        check(b"d1:ai1e1:ai2ee", "at byte 10: a second value of the key a");
        check(b"li1ei007ee", "at byte 4: an integer with a leading zero (BEP 3)");
    }
}
