//! Names from strangers, made safe: the only place where they become parts of paths.
//!
//! A name becomes *one* component that exists below its folder and nowhere else. The rules, in order:
//!
//! ```text
//! bytes that are not UTF-8            %E9 for each: two names stay two names
//! / \ NUL, control characters, marks  _ for each: no separator, no terminal escape, no
//!   that turn the direction of text     name that reads other than it is
//! nothing, or dots only up to two     _ or __
//! dots and spaces only                spaces become _ : some systems drop both at the end
//! C: at the beginning                 C_
//! CON, NUL, COM1 … (also CON.txt)     _CON: devices on Windows
//! more than 255 bytes                 cut before the extension
//! ```
//!
//! Whatever else is in a name stays: `?` and `:` are ordinary letters of file names. What two names
//! have become the same by this is told apart in `unique`.
//!
//! Layer: values.

use crate::printable::must_be_escaped;

/// The longest name that file systems take, in bytes.
pub const COMPONENT_LEN_MAX: usize = 255;

/// The longest path that Linux takes in one call, in bytes, without its final NUL.
pub const PATH_LEN_MAX: usize = 4095;

/// What a name is cut to that is longer than [`COMPONENT_LEN_MAX`]. It leaves room for a suffix.
const CUT_LEN: usize = 240;

/// The longest extension that is kept when a name is cut, in bytes, with its dot.
const EXTENSION_LEN_MAX: usize = 16;

/// Names that Windows keeps for devices, whatever their extension; also COM1 to COM9, LPT1 to LPT9.
const DEVICES: [&str; 8] = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", "COM", "LPT"];

/// One path component out of a stranger's name.
pub fn component(name: &[u8]) -> String {
    let mut safe = readable(name);
    if safe.chars().all(|c| matches!(c, '.' | ' ')) {
        safe = safe.replace(' ', "_");
        if safe.len() < 3 && !safe.contains('_') {
            safe = "_".repeat(safe.len().max(1));
        }
    }
    if let [drive, b':', ..] = safe.as_bytes()
        && drive.is_ascii_alphabetic()
    {
        safe.replace_range(1..2, "_");
    }
    if is_device(&safe) {
        safe.insert(0, '_');
    }
    if COMPONENT_LEN_MAX < safe.len() {
        let (stem, extension) = split_extension(&safe);
        safe = clip(stem, CUT_LEN - extension.len()).to_owned() + extension;
    }
    safe
}

/// `name.txt` as `name.<number>.txt`, at most [`COMPONENT_LEN_MAX`] bytes: see [`numbered_parts`].
pub fn numbered((stem, extension): (&str, &str), number: u32) -> String {
    format!("{stem}.{number}{extension}")
}

/// What [`numbered`] puts a number between. Where the name is too long for one, its stem is cut.
pub fn numbered_parts(name: &str) -> (&str, &str) {
    // A dot and the ten digits of a u32.
    const NUMBER_LEN: usize = 11;
    let (stem, extension) = split_extension(name);
    (clip(stem, COMPONENT_LEN_MAX - NUMBER_LEN - extension.len()), extension)
}

/// The length of a path if it is over [`PATH_LEN_MAX`], for the error message.
pub fn check_len(path: &[String]) -> Result<(), String> {
    let len = path.iter().map(|part| part.len() + 1).sum::<usize>();
    if PATH_LEN_MAX < len {
        return Err(format!("{len} bytes, the limit is {PATH_LEN_MAX}"));
    }
    Ok(())
}

fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end_matches(' ');
    let (plain, ports) = DEVICES.split_at(6);
    let is = |device: &&str| device.eq_ignore_ascii_case(stem);
    let port = stem.strip_suffix(|c| matches!(c, '1'..='9')).unwrap_or_default();
    let is_port = |device: &&str| device.eq_ignore_ascii_case(port);
    // The longest name in the table has seven letters: most names are done with here.
    stem.len() <= 7 && (plain.iter().any(is) || ports.iter().any(is_port))
}

fn readable(name: &[u8]) -> String {
    let is_plain = |b: &u8| matches!(b, b' '..=b'~') && !matches!(b, b'/' | b'\\');
    if name.iter().all(is_plain) {
        return String::from_utf8_lossy(name).into_owned();
    }
    let mut text = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        let safe = |c: char| {
            let hostile = matches!(c, '/' | '\\') || must_be_escaped(c);
            if hostile { '_' } else { c }
        };
        text.extend(chunk.valid().chars().map(safe));
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("%{byte:02X}")));
    }
    text
}

/// The extension with its dot, if there is a short one, and what is before it.
fn split_extension(name: &str) -> (&str, &str) {
    match name.rfind('.') {
        Some(dot) if dot != 0 && name.len() - dot <= EXTENSION_LEN_MAX => name.split_at(dot),
        _ => (name, ""),
    }
}

/// At most `max` bytes of a text, cut between two characters.
fn clip(text: &str, max: usize) -> &str {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &[u8], expected: &str) {
        assert_eq!(component(name), expected);
    }

    #[test]
    fn ordinary_names_stay() {
        for name in [
            "a",
            "...",
            "~",
            "日本語 🎬 é",
            "e\u{301}",
            ".hidden",
            "a.",
            " a ",
            "ab: c?*|<>\"",
            "temp....abc",
            "CONSOLE",
            "COM10",
            "COM0",
            "COM",
            "👩\u{200d}💻",
            "-rf",
            "$HOME",
            "%41",
        ] {
            check(name.as_bytes(), name);
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_changed() {
        check(b"", "_");
        check(b".", "_");
        check(b"..", "__");
        check(b".. ", ".._");
        check(b"   ", "___");
        check(b"../../etc", ".._.._etc");
        check(b"/etc/passwd", "_etc_passwd");
        check(b"C:\\Windows\\x", "C__Windows_x");
        check(b"a\0b", "a_b");
        check(b"\x1b[31mred\x07", "_[31mred_");
        check("a\u{202e}txt.exe".as_bytes(), "a_txt.exe");
        check(b"con", "_con");
        check(b"NUL.tar.gz", "_NUL.tar.gz");
        check(b"Lpt9.x", "_Lpt9.x");
        check(b"AUX .txt", "_AUX .txt");
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_kept_apart() {
        check(b"caf\xe9.txt", "caf%E9.txt");
        check(b"caf\xe8.txt", "caf%E8.txt");
        check(b"\xc0\xae\xc0\xae\xc0\xafx", "%C0%AE%C0%AE%C0%AFx");
    }

    #[test]
    fn long_names_are_cut_before_the_extension() {
        let longest = "a".repeat(COMPONENT_LEN_MAX);
        check(longest.as_bytes(), &longest);
        check(format!("{longest}.txt").as_bytes(), &format!("{}.txt", &longest[..CUT_LEN - 4]));
        check("é".repeat(128).as_bytes(), &"é".repeat(120));
        let cut = component(&[b'\xff'; 1000]);
        assert_eq!(cut.len(), CUT_LEN);
        let name = numbered(numbered_parts(&longest), u32::MAX);
        assert_eq!(name.len(), COMPONENT_LEN_MAX);
        assert_eq!(numbered(numbered_parts("a.txt"), 1), "a.1.txt");
        assert_eq!(numbered(numbered_parts(".profile"), 2), ".profile.2");
    }
}
