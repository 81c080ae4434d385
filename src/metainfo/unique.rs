//! Two files never land on one path, and no file is also a folder.
//!
//! The files are entered into a tree of names, folders first. A file whose place is taken gets a
//! number: `a.txt`, `a.1.txt`, `a.2.txt`. That depends on the torrent alone, so every run, and every
//! client of this kind, names the files alike; and a file that is there under its own name keeps it.
//! Pad files and symlinks never reach the disk and take no place.
//!
//! The work is linear in the number of files, and a torrent that needs many new names is refused:
//! it was made to do harm.
//!
//! Layer: values.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::files::File;
use super::{Error, path, wrong};

/// Whether `A` and `a` are one file where this program runs.
pub(super) const DISK_FOLDS_CASE: bool = cfg!(any(windows, target_os = "macos"));

/// How many files may need another name. An honest torrent has none; libtorrent gives up after 500
/// attempts, which is about 30 files of one name.
const RENAMES_MAX: usize = 100;

/// The number of a folder in the tree; 0 is the torrent's own.
type FolderId = u32;

#[derive(Clone, Copy, PartialEq)]
enum Node {
    Folder(FolderId),
    File,
}

/// Renames the files whose place is taken.
pub(super) fn keep_apart(files: &mut [File], fold_case: bool) -> Result<(), Error> {
    for (index, name) in renames(files, fold_case)? {
        if let Some(last) = files[index].path.last_mut() {
            *last = name;
        }
    }
    Ok(())
}

/// Which files need another name, by index, and the name.
fn renames(files: &[File], fold_case: bool) -> Result<Vec<(usize, String)>, Error> {
    let key = |name| if fold_case { Cow::Owned(folded(name)) } else { Cow::Borrowed(name) };
    let mut tree: HashMap<(FolderId, Cow<str>), Node> = HashMap::new();
    let mut folders: FolderId = 0;
    let mut parents = Vec::with_capacity(files.len());
    for file in files {
        let mut folder = 0;
        let stored = file.is_stored().then_some(&file.path);
        for name in stored.and_then(|path| path.split_last()).map_or(&[][..], |(_, rest)| rest) {
            let node = tree.entry((folder, key(name))).or_insert_with(|| {
                folders += 1;
                Node::Folder(folders)
            });
            // Only folders are in the tree as yet.
            if let Node::Folder(id) = node {
                folder = *id;
            }
        }
        parents.push(folder);
    }
    let mut homeless = Vec::new();
    for (index, (file, &parent)) in files.iter().zip(&parents).enumerate() {
        if let Some(name) = file.path.last().filter(|_| file.is_stored()) {
            match tree.entry((parent, key(name))) {
                Entry::Vacant(place) => _ = place.insert(Node::File),
                Entry::Occupied(_) => homeless.push((index, parent, name)),
            }
        }
    }
    if RENAMES_MAX < homeless.len() {
        let count = homeless.len();
        return Err(wrong(format!("{count} files have a taken path, the limit is {RENAMES_MAX}")));
    }
    // The next number to try, for each folder and name: never one that was tried before.
    let mut next: HashMap<(FolderId, (&str, &str)), u32> = HashMap::new();
    let mut renamed = Vec::new();
    for (index, parent, name) in homeless {
        let parts = path::numbered_parts(name);
        let number = next.entry((parent, parts)).or_insert(1);
        loop {
            let candidate = path::numbered(parts, *number);
            *number += 1;
            let place = if fold_case { folded(&candidate) } else { candidate.clone() };
            if let Entry::Vacant(place) = tree.entry((parent, Cow::Owned(place))) {
                place.insert(Node::File);
                renamed.push((index, candidate));
                break;
            }
        }
    }
    Ok(renamed)
}

/// A name as a disk compares it that does not tell upper from lower case.
fn folded(name: &str) -> String {
    name.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> File {
        let path = path.split('/').map(str::to_owned).collect();
        File { path, offset: 0, length: 1, pad: false, executable: false, symlink: None }
    }

    #[track_caller]
    fn check(before: &[&str], fold_case: bool, after: &[&str]) {
        let mut files: Vec<File> = before.iter().map(|path| file(path)).collect();
        keep_apart(&mut files, fold_case).unwrap();
        let paths: Vec<String> = files.iter().map(|file| file.path.join("/")).collect();
        assert_eq!(paths, after);
    }

    #[test]
    fn doubles_get_numbers_and_own_names_stay() {
        check(&["d/a.txt", "d/a.txt", "a.txt"], false, &["d/a.txt", "d/a.1.txt", "a.txt"]);
        check(&["a", "a", "a.1", "a"], false, &["a", "a.2", "a.1", "a.3"]);
    }

    #[test]
    fn a_file_that_is_also_a_folder_gives_way() {
        check(&["a", "a/b"], false, &["a.1", "a/b"]);
        check(&["a/b", "a", "a.1/c"], false, &["a/b", "a.2", "a.1/c"]);
    }

    #[test]
    fn case_matters_only_where_the_disk_says_so() {
        check(&["A", "a", "É/x", "é"], false, &["A", "a", "É/x", "é"]);
        check(&["A", "a", "É/x", "é"], true, &["A", "a.1", "É/x", "é.1"]);
    }

    #[test]
    fn pads_and_links_take_no_place() {
        let mut files = [file("b"), file("b/c"), file("p"), file("p")];
        files[0].symlink = Some(vec![]);
        files[3].pad = true;
        keep_apart(&mut files, false).unwrap();
        assert_eq!(files[1].path, ["b", "c"]);
        assert_eq!([&files[0].path, &files[2].path, &files[3].path], [&["b"], &["p"], &["p"]]);
    }

    #[test]
    fn a_flood_of_doubles_is_refused_and_a_hundred_are_told_apart() {
        let long = "x".repeat(path::COMPONENT_LEN_MAX - 1);
        let mut files: Vec<File> =
            (0..RENAMES_MAX + 9).map(|i| file(&format!("{long}{}", i % 9))).collect();
        keep_apart(&mut files, false).unwrap();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files.dedup_by(|a, b| a.path == b.path);
        assert_eq!(files.len(), RENAMES_MAX + 9);
        let mut flood: Vec<File> = (0..RENAMES_MAX + 2).map(|_| file("a")).collect();
        assert!(keep_apart(&mut flood, false).is_err());
    }
}
