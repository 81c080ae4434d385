//! What a reader may rely on in every file, and what no compiler checks: size, headers, layers,
//! where `unsafe` may be, what the dependencies are for and how many there are.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Longer files hold more than one thing.
const FILE_LINES_MAX: usize = 500;

/// Longer functions do more than one thing.
const FUNCTION_LINES_MAX: usize = 70;

/// Crates in the tree, with TLS and without.
const CRATES_MAX: usize = 45;
const CRATES_MAX_WITHOUT_TLS: usize = 30;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of ours, its path from the root with `/` in it.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// What is before the tests.
    fn code(&self) -> &str {
        self.text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default()
    }

    /// Lines with their numbers, comments left out.
    fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.code().lines().enumerate();
        lines.map(|(n, line)| (n + 1, line)).filter(|(_, line)| !line.trim().starts_with("//"))
    }

    /// Whether all of it is for tests.
    fn is_test(&self) -> bool {
        let mut parts = self.path.trim_end_matches(".rs").split('/');
        parts.any(|part| part == "tests" || part == "fixture" || part.ends_with("_tests"))
    }
}

fn sources(below: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(below)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(source(&path));
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn source(path: &Path) -> Source {
    let text = fs::read_to_string(path).expect("UTF-8");
    let path = path.strip_prefix(root()).expect("below the root");
    Source { path: path.to_string_lossy().replace('\\', "/"), text }
}

#[track_caller]
fn assert_none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn every_file_says_at_its_top_what_it_is() {
    let silent = |source: &Source| !source.text.starts_with("//! ");
    let all = sources("src").into_iter().chain(sources("tests"));
    let complaints = all.filter(silent).map(|source| format!("{}: no //! header", source.path));
    assert_none(complaints.collect());
}

#[test]
fn no_file_is_long() {
    let all = sources("src").into_iter().chain(sources("tests"));
    let complaints = all.filter_map(|source| {
        let lines = source.code().lines().count();
        // A script of decisions may be as long as it is.
        let script = source.path.starts_with("src/") && source.is_test();
        let too_long = FILE_LINES_MAX < lines && !script;
        let path = source.path;
        too_long.then(|| format!("{path}: {lines} lines, the limit is {FILE_LINES_MAX}"))
    });
    assert_none(complaints.collect());
}

/// rustfmt puts the last brace of a function under its first letter.
#[test]
fn no_function_is_long() {
    let mut complaints = Vec::new();
    for source in sources("src").iter().chain(&sources("tests")) {
        let mut open: Option<(usize, usize, String)> = None;
        for (n, line) in source.text.lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            match &open {
                Some((start, depth, name)) if indent == *depth && line.trim() == "}" => {
                    let lines = n + 1 - start;
                    if FUNCTION_LINES_MAX < lines {
                        let at = format!("{}:{}", source.path, start + 1);
                        complaints.push(format!(
                            "{at}: {name} has {lines} lines, the limit is {FUNCTION_LINES_MAX}"
                        ));
                    }
                    open = None;
                }
                Some(_) => {}
                None => open = function_name(line).map(|name| (n, indent, name)),
            }
        }
    }
    assert_none(complaints);
}

/// The name, where a function of more than a line begins.
fn function_name(line: &str) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "fn")?;
    let modifier = |word: &&str| {
        word.starts_with("pub") || ["const", "unsafe", "extern", "\"C\"", "in"].contains(word)
    };
    let whole = line.ends_with('}') || line.ends_with(';');
    let name = words.get(at + 1)?.split(['(', '<']).next()?;
    (words[..at].iter().all(modifier) && !whole).then(|| name.to_owned())
}

/// The groups of `lib.rs`, lowest first: a comment with the layer's name, then its modules.
fn layers() -> Vec<(String, Vec<String>)> {
    let mut layers: Vec<(String, Vec<String>)> = Vec::new();
    let lib = source(&root().join("src/lib.rs"));
    for line in lib.text.lines() {
        let module = line.strip_prefix("pub mod ").or(line.strip_prefix("mod "));
        if let Some(name) = line.strip_prefix("// ").and_then(|text| text.split_once([':', '.'])) {
            layers.push((name.0.to_lowercase(), Vec::new()));
        } else if let (Some(module), Some(layer)) = (module, layers.last_mut()) {
            layer.1.push(module.trim_end_matches(';').to_owned());
        }
    }
    layers.retain(|(_, modules)| !modules.is_empty());
    layers
}

#[test]
fn imports_go_down_the_layers_only() {
    let layers = layers();
    let names: Vec<&str> = layers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["values", "decisions", "hands", "head", "programs"], "from src/lib.rs");
    let layer_of =
        |module: &str| layers.iter().position(|(_, all)| all.iter().any(|m| m == module));
    let mut complaints = Vec::new();
    for source in sources("src").iter().filter(|source| !source.is_test()) {
        let path = source.path.trim_start_matches("src/").trim_end_matches(".rs");
        let module = path.split('/').next().unwrap_or_default();
        let Some(own) = layer_of(module) else {
            if !["lib", "main"].contains(&module) {
                complaints.push(format!("{}: {module} is in no layer of lib.rs", source.path));
            }
            continue;
        };
        for (n, line) in source.code_lines() {
            for used in line.split("crate::").skip(1) {
                let used = used.split(|c: char| !c.is_alphanumeric() && c != '_').next();
                let used = used.unwrap_or_default();
                if layer_of(used).is_some_and(|layer| own < layer) {
                    let (own, path) = (names[own], &source.path);
                    complaints.push(format!("{path}:{n}: {own} must not know {used}"));
                }
            }
        }
        let stated = source.text.lines().take_while(|line| line.starts_with("//!"));
        let stated = stated.filter_map(|line| line.split_once("Layer: ")).next();
        let right = |(_, after): (&str, &str)| after.starts_with(names[own]);
        if !stated.is_some_and(right) {
            let own = names[own];
            complaints.push(format!("{}: its header does not say \"Layer: {own}\"", source.path));
        }
    }
    assert_none(complaints);
}

#[test]
fn unsafe_is_in_storage_and_hash_only_and_says_why_it_is_safe() {
    let mut complaints = Vec::new();
    for source in sources("src") {
        let allowed =
            ["src/storage", "src/hash"].iter().any(|place| source.path.starts_with(place));
        let lines: Vec<&str> = source.text.lines().collect();
        for (n, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let marks = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"];
            if !marks.iter().any(|mark| code.contains(mark)) {
                continue;
            }
            let at = format!("{}:{}", source.path, n + 1);
            if !allowed {
                complaints.push(format!("{at}: unsafe outside of storage and hash"));
            }
            let before = &lines[n.saturating_sub(8)..n];
            if !before.iter().any(|line| line.contains("SAFETY") || line.contains("# Safety")) {
                complaints.push(format!("{at}: unsafe without a SAFETY sentence"));
            }
        }
    }
    assert_none(complaints);
}

/// State has one owner, facts travel.
#[test]
fn there_is_no_lock() {
    let mut complaints = Vec::new();
    for source in sources("src") {
        for (n, line) in source.code_lines() {
            if let Some(lock) = ["Mutex", "RwLock"].iter().find(|lock| line.contains(*lock)) {
                complaints.push(format!("{}:{n}: {lock}", source.path));
            }
        }
    }
    assert_none(complaints);
}

#[test]
fn every_make_command_in_the_readme_exists() {
    let makefile = fs::read_to_string(root().join("Makefile")).expect("a Makefile");
    let readme = fs::read_to_string(root().join("README.md")).unwrap_or_default();
    let exists =
        |target: &str| makefile.lines().any(|line| line.starts_with(&format!("{target}:")));
    let mut complaints = Vec::new();
    let mut in_block = false;
    for line in readme.lines() {
        in_block ^= line.starts_with("```");
        // In text, only what is marked as code is a command.
        let code = line.split('`').skip(1).step_by(2);
        let commands: Vec<&str> = if in_block { vec![line] } else { code.collect() };
        for command in commands {
            let Some(rest) = command.trim_start_matches("$ ").strip_prefix("make ") else {
                continue;
            };
            let word = |word: &&str| !word.contains('=') && word.starts_with(char::is_lowercase);
            let targets = rest.split(" #").next().unwrap_or_default().split_whitespace();
            let missing = targets.take_while(word).take(1).filter(|target| !exists(target));
            complaints.extend(missing.map(|target| format!("README.md: make {target}")));
        }
    }
    assert_none(complaints);
}

/// Somebody else's machine has other folders.
#[test]
fn no_tracked_file_names_a_path_of_one_machine() {
    let Ok(list) = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output() else {
        return;
    };
    // Taken apart, or this file would name them.
    let paths = [["/wo", "rk/"].concat(), ["/ro", "ot/"].concat(), ["/ho", "me/"].concat()];
    let mut complaints = Vec::new();
    for name in String::from_utf8_lossy(&list.stdout).split_terminator('\0') {
        let Ok(text) = fs::read_to_string(root().join(name)) else { continue };
        for (n, line) in text.lines().enumerate() {
            if let Some(path) = paths.iter().find(|path| line.contains(*path)) {
                complaints.push(format!("{name}:{}: {path}", n + 1));
            }
        }
    }
    assert_none(complaints);
}

#[test]
fn every_dependency_says_what_it_is_for() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("a manifest");
    let mut complaints = Vec::new();
    let mut section = "";
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        } else if section.ends_with("dependencies]") && line.contains('=') {
            let reason = line.split_once(" # ").map_or("", |(_, reason)| reason);
            if reason.len() < 10 {
                complaints.push(format!("Cargo.toml: no reason: {line}"));
            }
        }
    }
    assert_none(complaints);
}

/// How many crates the program is made of, itself not counted.
fn crates(features: &[&str]) -> usize {
    let arguments = ["tree", "-e", "normal", "--offline", "--locked", "--prefix", "none"];
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .args(features)
        .current_dir(root())
        .output()
        .expect("cargo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let name = |line: &str| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    let unique: BTreeSet<String> = text.lines().map(name).filter(|name| !name.is_empty()).collect();
    unique.len() - 1
}

#[test]
fn the_tree_of_dependencies_stays_small() {
    let (with_tls, without) = (crates(&[]), crates(&["--no-default-features"]));
    assert!(with_tls <= CRATES_MAX, "{with_tls} crates, the limit is {CRATES_MAX}");
    let limit = CRATES_MAX_WITHOUT_TLS;
    assert!(without <= limit, "{without} crates without TLS, the limit is {limit}");
    println!("{with_tls} crates with TLS, {without} without");
}

#[test]
fn the_names_of_functions_are_found() {
    let check = |line: &str, name: Option<&str>| {
        assert_eq!(function_name(line).as_deref(), name, "{line}");
    };
    check("    pub(super) fn dial(&mut self) {", Some("dial"));
    check("fn short() -> u8 { 1 }", None);
    check("    fn declared(&self);", None);
    check("    set: fn(&mut Args, Value) -> Result<()>,", None);
    check("pub const fn generic<T>(", Some("generic"));
}

#[test]
fn the_layers_are_found() {
    assert!(layers().iter().flat_map(|(_, modules)| modules).any(|module| module == "swarm"));
    let exists = |module: &String| {
        let file = PathBuf::from(format!("src/{module}.rs"));
        root().join(&file).exists() || root().join(format!("src/{module}/mod.rs")).exists()
    };
    assert!(layers().iter().flat_map(|(_, modules)| modules).all(exists));
}
