//! Which files of a torrent are wanted: `--select-file` and a magnet link's `so` (BEP 53).
//!
//! ```text
//! 3      the file that `show` gives the number 3          3-5  -4  7-   ranges, open at an end
//! *.iso  a file, or a folder with all below it, by its name, wherever it is
//! a/**/b a path from the torrent's folder on              /x    a name in that folder only
//!
//! inside a name: * any run, ? one character, [a-z] one of, [!a-z] none of; ** any folders, or none
//! ```
//!
//! Numbers are counted from 1 in the torrent's order; pad files and links have numbers too, as they
//! have for every client, and can never be chosen. A magnet link counts from 0.
//!
//! Layer: values.

use std::fmt;
use std::ops::RangeInclusive;

use crate::metainfo::{File, Metainfo};
use crate::printable::clipped;

/// What was asked for. Nothing asked for: all files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection(Vec<Pick>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pick {
    /// Counted from 1, as the user wrote them.
    Numbers(RangeInclusive<u32>),
    /// Counted from 1; what a link says is not checked, since its maker may have erred.
    Offered(RangeInclusive<u32>),
    Glob(String),
}

/// A selection that selects nothing, or cannot be read. The command line is wrong then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(String);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl Selection {
    /// What a magnet link selects: ranges counted from 0 (BEP 53).
    pub fn offered(ranges: &[RangeInclusive<u32>]) -> Selection {
        let pick = |range: &RangeInclusive<u32>| {
            Pick::Offered(range.start().saturating_add(1)..=range.end().saturating_add(1))
        };
        Selection(ranges.iter().map(pick).collect())
    }

    /// Whether all files are wanted.
    pub fn is_all(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a list as the command line has it: numbers, ranges, globs, with commas between.
    pub fn add(&mut self, list: &str) -> Result<(), Error> {
        for item in list.split(',').map(str::trim) {
            if item.is_empty() {
                return Err(Error(format!("--select-file {}: an empty item", clipped(list, 60))));
            }
            let digits = item.bytes().all(|b| b.is_ascii_digit() || b == b'-');
            self.0.push(match digits {
                true => Pick::Numbers(numbers(item)?),
                false => Pick::Glob(item.to_owned()),
            });
        }
        Ok(())
    }

    /// Which files are chosen: one value for each file of the torrent. An error if that is none, or
    /// if a part of the selection says nothing about this torrent.
    pub fn resolve(&self, torrent: &Metainfo) -> Result<Vec<bool>, Error> {
        let files = &torrent.files;
        if self.is_all() {
            return Ok(files.iter().map(File::is_stored).collect());
        }
        let mut chosen = vec![false; files.len()];
        for pick in &self.0 {
            let mut any = false;
            for (index, file) in files.iter().enumerate().filter(|(_, file)| file.is_stored()) {
                let fits = match pick {
                    Pick::Numbers(range) | Pick::Offered(range) => {
                        u32::try_from(index + 1).is_ok_and(|number| range.contains(&number))
                    }
                    Pick::Glob(glob) if torrent.single => matches(glob, &[&torrent.name]),
                    Pick::Glob(glob) => matches(glob, &file.path),
                };
                chosen[index] |= fits;
                any |= fits;
            }
            if !any && !matches!(pick, Pick::Offered(_)) {
                return Err(Error(format!(
                    "--select-file {pick}: no such file among {}; --list shows them with their numbers",
                    files.iter().filter(|file| file.is_stored()).count()
                )));
            }
        }
        match chosen.contains(&true) {
            true => Ok(chosen),
            false => Err(Error("no file is selected".to_owned())),
        }
    }
}

/// As `--select-file` takes it.
impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for (i, pick) in self.0.iter().enumerate() {
            write!(f, "{}{pick}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl fmt::Display for Pick {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Pick::Numbers(range) | Pick::Offered(range) if range.start() == range.end() => {
                write!(f, "{}", range.start())
            }
            Pick::Numbers(range) | Pick::Offered(range) => match *range.end() {
                u32::MAX => write!(f, "{}-", range.start()),
                end => write!(f, "{}-{end}", range.start()),
            },
            Pick::Glob(glob) => f.write_str(&clipped(glob, 60)),
        }
    }
}

/// `3`, `3-5`, `-5`, `3-`: the first is at least 1, and not behind the last.
fn numbers(item: &str) -> Result<RangeInclusive<u32>, Error> {
    let wrong = || {
        Error(format!(
            "--select-file {}: expected a number from 1, a range such as 2-5, 3- or -4, or a glob",
            clipped(item, 60)
        ))
    };
    let end = |digits: &str, open| match digits {
        "" => Ok(open),
        digits => digits.parse().map_err(|_| wrong()),
    };
    let (first, last) = match item.split_once('-') {
        None => (item, item),
        Some(("", "")) => return Err(wrong()),
        Some(both) => both,
    };
    let range = end(first, 1)?..=end(last, u32::MAX)?;
    if *range.start() == 0 || range.is_empty() { Err(wrong()) } else { Ok(range) }
}

/// Whether a glob means a file with this path, or a folder that it is in.
fn matches(glob: &str, path: &[impl AsRef<str>]) -> bool {
    let mut parts: Vec<&str> = glob.split('/').filter(|part| !part.is_empty()).collect();
    if !glob.trim_end_matches('/').contains('/') {
        parts.insert(0, "**");
    }
    // Which beginnings of the glob fit what has been looked at of the path: no way is tried twice.
    let mut fits = vec![false; parts.len() + 1];
    fits[0] = true;
    for name in path {
        for at in 0..parts.len() {
            fits[at + 1] |= fits[at] && parts[at] == "**";
        }
        for at in (0..parts.len()).rev() {
            fits[at + 1] = match parts[at] {
                "**" => fits[at + 1],
                part => fits[at] && name_matches(part, name.as_ref()),
            };
        }
        fits[0] = false;
        if fits[parts.len()] {
            return true;
        }
    }
    false
}

/// Whether a glob without folders fits a whole name. After a mistake only the last `*` takes one
/// character more, so the time is at most the product of the lengths.
fn name_matches(glob: &str, name: &str) -> bool {
    let (mut glob, mut name) = (glob, name);
    let mut back: Option<(&str, &str)> = None;
    loop {
        if let Some(rest) = glob.strip_prefix('*') {
            back = Some((rest, name));
            glob = rest;
        } else if let Some((rest_of_glob, rest)) = one(glob, name) {
            (glob, name) = (rest_of_glob, rest);
        } else if glob.is_empty() && name.is_empty() {
            return true;
        } else {
            let Some((after_star, tried)) = back else { return false };
            let mut longer = tried.chars();
            if longer.next().is_none() {
                return false;
            }
            (glob, name) = (after_star, longer.as_str());
            back = Some((after_star, name));
        }
    }
}

/// Takes one character of the name with one element of the glob.
fn one<'a>(glob: &'a str, name: &'a str) -> Option<(&'a str, &'a str)> {
    let (mut elements, mut letters) = (glob.chars(), name.chars());
    let (element, letter) = (elements.next()?, letters.next()?);
    let (fits, rest) = match element {
        '?' => (true, elements.as_str()),
        // Without its end it is a bracket like any other letter; `[]a]` has a bracket in it.
        '[' => match elements.as_str().char_indices().skip(1).find(|(_, c)| *c == ']') {
            Some((end, _)) => {
                let set = &elements.as_str()[..end];
                (in_set(set, letter), &elements.as_str()[end + 1..])
            }
            None => (letter == '[', elements.as_str()),
        },
        element => (element == letter, elements.as_str()),
    };
    fits.then_some((rest, letters.as_str()))
}

fn in_set(set: &str, letter: char) -> bool {
    let inside = set.strip_prefix(['!', '^']).filter(|rest| !rest.is_empty());
    let mut rest = inside.unwrap_or(set).chars();
    let mut found = false;
    while let Some(first) = rest.next() {
        let mut ahead = rest.clone();
        match (ahead.next(), ahead.next()) {
            (Some('-'), Some(last)) => {
                found |= (first..=last).contains(&letter);
                rest = ahead;
            }
            _ => found |= first == letter,
        }
    }
    found != inside.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::fixture::torrent;

    const FILES: &[(&str, u64)] = &[
        ("readme.txt", 10),
        ("docs/a.txt", 10),
        (".pad", 10),
        ("docs/img/b.png", 10),
        ("disk.iso", 10),
        ("Über [1].mkv", 10),
    ];

    /// The numbers of the files that a selection chooses, or what is wrong with it.
    fn chosen(lists: &[&str]) -> Result<Vec<usize>, String> {
        let mut selection = Selection::default();
        lists.iter().try_for_each(|list| selection.add(list)).map_err(|err| err.to_string())?;
        let chosen = selection.resolve(&torrent(FILES, 16)).map_err(|err| err.to_string())?;
        Ok((1..).zip(chosen).filter(|(_, chosen)| *chosen).map(|(number, _)| number).collect())
    }

    #[test]
    fn numbers_and_ranges() {
        for (lists, numbers) in [
            (&[][..], &[1, 2, 4, 5, 6][..]),
            (&["1"], &[1]),
            (&["1,4-5"], &[1, 4, 5]),
            (&["4-"], &[4, 5, 6]),
            (&["-2"], &[1, 2]),
            (&["2-4"], &[2, 4]),
            (&["5", "1, 2"], &[1, 2, 5]),
            (&["5-99"], &[5, 6]),
            (&["1-"], &[1, 2, 4, 5, 6]),
        ] {
            assert_eq!(chosen(lists).as_deref(), Ok(numbers), "{lists:?}");
        }
        for wrong in ["0", "-", "3", "7", "7-9", "5-4", "0-2", "1,", "", "99999999999", "1-2-3"] {
            assert!(chosen(&[wrong]).is_err(), "{wrong}");
        }
        let said = chosen(&["1", "7-"]).unwrap_err();
        assert!(said.starts_with("--select-file 7-: no such file among 5"), "{said}");
    }

    #[test]
    fn globs() {
        for (glob, numbers) in [
            ("*.iso", &[5][..]),
            ("*.txt", &[1, 2]),
            ("/*.txt", &[1]),
            ("docs", &[2, 4]),
            ("docs/", &[2, 4]),
            ("docs/*", &[2, 4]),
            ("docs/*.txt", &[2]),
            ("docs/**", &[2, 4]),
            ("**/*.png", &[4]),
            ("docs/**/b.*", &[4]),
            ("img", &[4]),
            ("*", &[1, 2, 4, 5, 6]),
            ("?ber*", &[6]),
            ("*[[]1].mkv", &[6]),
            ("[a-dr]*.[!n-z]*", &[5]),
            ("*[it]*", &[1, 2, 4, 5]),
        ] {
            assert_eq!(chosen(&[glob]).as_deref(), Ok(numbers), "{glob}");
        }
        for none in ["*.ISO", "docs/b.png", "docs/a.txt/x", "x*", "[", "**/docs/x"] {
            assert!(chosen(&[none]).is_err(), "{none}");
        }
    }

    #[test]
    fn a_link_counts_from_0_and_may_be_wrong_about_some() {
        let resolve = |ranges: &[RangeInclusive<u32>]| {
            Selection::offered(ranges).resolve(&torrent(FILES, 16)).map_err(|err| err.to_string())
        };
        assert_eq!(resolve(&[0..=0, 4..=4]), Ok(vec![true, false, false, false, true, false]));
        assert_eq!(resolve(&[5..=u32::MAX, 90..=91]).unwrap().iter().filter(|c| **c).count(), 1);
        assert_eq!(resolve(&[90..=91]), Err("no file is selected".to_owned()));
        assert!(Selection::offered(&[]).is_all());
    }

    #[test]
    fn a_glob_cannot_take_long() {
        let name = "a".repeat(4_000);
        assert!(!name_matches(&("a*".repeat(50) + "b"), &name));
        let path: Vec<String> = (0..2_000).map(|_| "a".to_owned()).collect();
        assert!(!matches(&("**/a/".repeat(50) + "b"), &path));
    }
}
