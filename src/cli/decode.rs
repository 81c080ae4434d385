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

mod dump;

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
use crate::bencode::{self, DEPTH_MAX, Kind as Form, Rule, Value};
use crate::dial::Dialler;
use crate::explain::{KINDS, Kind, Line, explain, hex, leftover};
use crate::json::{self, Object};
use crate::magnet::Magnet;
use crate::printable::{clipped, printable};

/// So many bytes of a line of the tree are shown as hexadecimal digits; in JSON all.
const HEX_TEXT: usize = 8;

/// Shorter digits than these (in bytes) are not taken for hexadecimal input unasked.
const HEX_LEAST: usize = 8;

pub fn run(args: &Args) -> Result<Exit> {
    let Some(operand) = super::one_operand(args) else { return Ok(Exit::Usage) };
    // Who says what it is, and it is no bencode, need not say that it is in digits.
    let as_digits = args.hex || args.decode_as.is_some_and(|kind| !kind.is_bencode());
    let literal = literal(operand, as_digits);
    if let (None, Some(why)) = (literal, neither(operand)) {
        bail!("{}: {why}", input::shown(operand));
    }
    let bytes = match literal {
        Some(bytes) => bytes.to_vec(),
        None => input::read(operand, &Dialler::default())?,
    };
    let named = || input::shown(operand);
    let asked = args.hex || literal.is_some_and(|text| as_digits && dump::digits(text).is_some());
    let bytes = from_hex(bytes, asked).with_context(named)?;
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
        let hint = hint(args, &bytes);
        checked.map_err(|err| anyhow!("{}: as {name}, {err}{hint}", named()))?;
        return Ok(Exit::Done);
    }
    let (text, odd) = to_json(&bytes)
        .map_err(|err| anyhow!("{err:#}{}", hint(args, &bytes)))
        .with_context(named)?;
    if let Some(odd) = odd.filter(|_| !args.quiet) {
        eprintln!("piecemeal: {}: {odd}", named());
    }
    out.line(text)?;
    out.finish()?;
    Ok(Exit::Done)
}

/// What is said besides of input that could not be told to be anything.
fn hint(args: &Args, bytes: &[u8]) -> String {
    if args.decode_as.is_some() || bencode::decode(bytes).is_ok() {
        return String::new();
    }
    match bencode::decode_prefix(bytes) {
        Err(err) if err.at == 0 => {
            let names: Vec<&str> = KINDS.iter().map(|(name, _)| *name).collect();
            format!("; --as says what it is: {}", names.join(", "))
        }
        _ => String::new(),
    }
}

/// The operand itself, if it is a value and not the name of a file.
fn literal(operand: &OsStr, hex: bool) -> Option<&[u8]> {
    let bytes = operand.as_encoded_bytes();
    if operand.to_str().is_some_and(Magnet::is_link) {
        return Some(bytes);
    }
    let digits = dump::digits(bytes).is_some_and(|bytes| hex || HEX_LEAST <= bytes.len());
    let is_value = digits || bencode::decode(bytes).is_ok();
    (is_value && !is_file(operand)).then_some(bytes)
}

fn is_file(operand: &OsStr) -> bool {
    Path::new(operand).symlink_metadata().is_ok()
}

/// Why an operand that names no file is no value either.
fn neither(operand: &OsStr) -> Option<String> {
    let text = operand.to_str().filter(|text| *text != "-" && !text.contains("://"))?;
    if is_file(operand) || text.is_empty() {
        return None;
    }
    let why = match (dump::digits(text.as_bytes()), bencode::decode(text.as_bytes())) {
        (Some(bytes), _) => format!("{} bytes of hexadecimal digits need --hex", bytes.len()),
        (None, Err(err)) if !matches!(err.rule, Rule::Start(_)) => format!("as bencode, {err}"),
        _ => "it is neither bencode nor hexadecimal digits".to_owned(),
    };
    Some(format!("no file has this name, and {why}"))
}

/// What hexadecimal digits stand for, if that is what the input is, and is meant to be.
fn from_hex(input: Vec<u8>, asked: bool) -> Result<Vec<u8>> {
    match dump::bytes(&input) {
        Some(bytes) if asked => Ok(bytes),
        Some(bytes) if HEX_LEAST <= bytes.len() && bencode::decode(&input).is_err() => Ok(bytes),
        None if asked => dump::why_not(&input).map(|()| input),
        _ => Ok(input),
    }
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
    // The bytes of what has parts are those of its parts.
    let leaf = |(at, len): (usize, usize)| {
        let raw = bytes.get(at..at + len).unwrap_or_default();
        format!(",\"hex\":\"{}\"}}", hex(raw, raw.len()))
    };
    let (mut result, mut open) = (Ok(()), None);
    let _ = explain(bytes, kind, all, &mut |line: Line| {
        let joint = match open {
            None => String::new(),
            Some((last, _)) if last < line.depth => ",\"fields\":[".to_owned(),
            Some((last, place)) => format!("{}{},", leaf(place), "]}".repeat(last - line.depth)),
        };
        open = Some((line.depth, (line.at, line.raw.len())));
        let object = Object::new()
            .num("at", line.at as u64)
            .num("len", line.raw.len() as u64)
            .str("name", line.name.trim())
            .str("meaning", &line.meaning)
            .str("rule", line.rule)
            .done();
        if result.is_ok() {
            result = out.bytes((joint + object.trim_end_matches('}')).as_bytes());
        }
    });
    result?;
    let end = open.map_or(String::new(), |(last, place)| leaf(place) + &"]}".repeat(last));
    out.line(end + "]}")
}

/// The JSON, and what is not as it should be and does no harm.
fn to_json(input: &[u8]) -> Result<(String, Option<String>)> {
    let (document, len) = bencode::decode_prefix(input)?;
    if !input[len..].trim_ascii().is_empty() {
        bail!("at byte {len}: {}", leftover(&input[len..]));
    }
    let (mut text, mut odd) = (String::with_capacity(input.len()), None);
    write_value(&mut text, document.root(), 0, &mut odd)?;
    Ok((text, odd))
}

/// Writes one value. It calls itself at most as deep as the decoder lets values nest.
fn write_value(
    text: &mut String,
    value: Value,
    depth: usize,
    odd: &mut Option<String>,
) -> Result<()> {
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
                write_value(text, item, depth + 1, odd)?;
            }
            text.push(']');
        }
        Form::Dict(dict) => {
            let mut seen = HashSet::new();
            let mut last = None;
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
                if Some(key) < last && odd.is_none() {
                    let (at, name) = (item.at(), clipped(&name, 60));
                    *odd = Some(format!(
                        "before byte {at}: the key {name} is out of order (BEP 3: sorted)"
                    ));
                }
                last = Some(key);
                text.push_str(if i == 0 { "" } else { "," });
                let _ = write!(text, "{}:", json::string(&name));
                write_value(text, item, depth + 1, odd)?;
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
        let actual = to_json(bencode).map_or_else(|err| format!("{err:#}"), |(text, _)| text);
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
        check(
            b"i1egarbage",
            "at byte 3: the value ends here, and 7 more bytes follow: \"garbage\"",
        );
        check(b"d1:ai1e1:ai2ee", "at byte 10: a second value of the key a");
        check(b"li1ei007ee", "at byte 4: an integer with a leading zero (BEP 3)");
    }
}
