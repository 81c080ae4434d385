//! The routing table between two runs: one small file in the user's cache folder.
//!
//! ```text
//! XDG_CACHE_HOME or ~/.cache, macOS ~/Library/Caches, Windows %LOCALAPPDATA%  /piecemeal/dht
//! ```
//!
//! It is worth nothing but a quicker start: a file that cannot be read is as none, and one that
//! cannot be written is not. Of two that write, the later wins; nobody ever reads half a file.
//!
//! Layer: hands. Called by the node's thread, when it starts, now and then, and when it ends.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::dht::{MEMORY_LEN_MAX, Memory};

/// Where it is, if this machine has a place for it.
pub fn path() -> Option<PathBuf> {
    let folder = |variable: &str| {
        let folder = PathBuf::from(std::env::var_os(variable)?);
        // What is relative is to be ignored (XDG Base Directory Specification).
        folder.is_absolute().then_some(folder)
    };
    let usual = || match std::env::consts::OS {
        "windows" => folder("LOCALAPPDATA"),
        "macos" => Some(folder("HOME")?.join("Library/Caches")),
        _ => Some(folder("HOME")?.join(".cache")),
    };
    Some(folder("XDG_CACHE_HOME").or_else(usual)?.join("piecemeal").join("dht"))
}

pub fn load(path: &Path) -> Memory {
    let mut bytes = Vec::new();
    let limit = MEMORY_LEN_MAX as u64 + 1;
    let read = fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes));
    if read.is_ok() { Memory::decode(&bytes) } else { Memory::default() }
}

pub fn save(path: &Path, memory: &Memory) {
    // Somebody who was offline all the time has learnt nothing.
    if memory.nodes.is_empty() {
        return;
    }
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
    let written = folder.and_then(|()| fs::write(&temporary, memory.encode()));
    if written.and_then(|()| fs::rename(&temporary, path)).is_err() {
        let _ = fs::remove_file(&temporary);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::krpc::{Contact, NodeId};

    #[test]
    fn what_is_saved_is_loaded_and_nothing_is_left_beside_it() {
        let folder = std::env::temp_dir().join(format!("piecemeal-cache-{}", std::process::id()));
        let path = folder.join("piecemeal").join("dht");
        assert_eq!(load(&path), Memory::default());
        save(&path, &Memory::default());
        assert!(!path.exists());
        let node = Contact { id: NodeId([1; 20]), addr: ([192, 0, 2, 1], 1).into() };
        let memory = Memory { nodes: vec![node], ips: Vec::new() };
        save(&path, &memory);
        assert_eq!(load(&path), memory);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        fs::write(&path, vec![b'd'; 10 << 20]).unwrap();
        assert_eq!(load(&path), Memory::default());
        fs::remove_dir_all(&folder).unwrap();
    }
}
