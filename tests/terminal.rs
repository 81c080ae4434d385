//! What is drawn on a terminal: a real pseudoterminal of a given width, read as it is written.

mod support;

use std::fs::File;
use std::io::Read;
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::{Command, Stdio};

use support::fixture::Recipe;
use support::own_ip;
use support::place::Place;
use support::run::binary;
use support::seeder::{Seed, Seeder};

const NAME: &str = "日本語 שלום e\u{301} \u{1f600}.bin";

/// A terminal of so many columns: the end that is read, and the one that is written.
fn terminal(columns: u16) -> (File, OwnedFd) {
    let size = libc::winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let (mut ours, mut theirs) = (0, 0);
    let none: *mut u8 = std::ptr::null_mut();
    // SAFETY: the pointers are to locals that live through the call, or null as it allows; the
    // descriptors that it gives are owned by nobody else.
    unsafe {
        let made = libc::openpty(&mut ours, &mut theirs, none.cast(), none.cast(), &size);
        assert_eq!(made, 0, "{}", std::io::Error::last_os_error());
        (File::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs))
    }
}

/// Downloads half a MiB in about a second with standard error on a terminal; what was drawn there.
fn drawn(columns: u16, environment: &[(&str, &str)], more: &[&str]) -> String {
    let fixture = Recipe::file(NAME, 512 << 10).piece_length(16 << 10).make();
    let place = Place::new(&fixture);
    let seeder: Seeder = Seed::default().rate(512 << 10).at(own_ip()).start(&fixture);
    let (mut ours, theirs) = terminal(columns);
    let mut command = Command::new(binary());
    command.arg("get").arg(&place.torrent).arg("-d").arg(&place.data);
    command.args(["--no-tracker", "--no-port-map", "--no-lsd", "--no-dht", "--listen"]);
    command.arg(own_ip().to_string()).arg("--peer").arg(seeder.addr.to_string()).args(more);
    command.env_remove("LC_ALL").env_remove("LC_CTYPE").env("LANG", "C.UTF-8").env("TERM", "xterm");
    command.envs(environment.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(theirs);
    let mut child = command.spawn().expect("it starts");
    // The command holds the other end, and reading ends only when nobody does.
    drop(command);
    let mut bytes = Vec::new();
    // A terminal whose other end is closed is an error on Linux.
    let _ = ours.read_to_end(&mut bytes);
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    fixture.assert_in(&place.data);
    String::from_utf8(bytes).expect("UTF-8")
}

/// The live lines: what was drawn over itself.
fn live_lines(drawn: &str) -> Vec<&str> {
    let parts = drawn.split(['\r', '\n']);
    parts
        .filter_map(|part| part.strip_suffix("\x1b[K").or(part.strip_suffix("\x1b[K\x1b[J")))
        .collect()
}

#[test]
fn the_live_line_fits_the_terminal() {
    for columns in [40, 80, 200] {
        for more in [&[][..], &["-v"]] {
            let drawn = drawn(columns, &[], more);
            let lines = live_lines(&drawn);
            assert!(3 < lines.len(), "{drawn:?}");
            for line in &lines {
                let width = piecemeal::terminal::columns(line);
                assert!(width < usize::from(columns), "{width} of {columns}: {line:?}");
            }
            let told = |text: &str| lines.iter().any(|line| line.contains(text));
            assert!(told("%") && told("down "), "{lines:?}");
            let named = lines.iter().any(|line| line.contains("down") && line.contains("日本語"));
            assert_eq!(named, columns == 200, "{lines:?}");
            assert_eq!(told("*"), !more.is_empty(), "the map: {lines:?}");
            // Only these move the cursor; the last words stand alone.
            let rest = ["\x1b[K", "\x1b[J", "\x1b[1A", "\x1b[2A", "\x1b[3A"];
            let rest = rest.iter().fold(drawn.clone(), |text, code| text.replace(code, ""));
            assert!(!rest.contains('\x1b'), "{rest:?}");
            assert!(drawn.trim_end().rsplit(['\r', '\n']).next().unwrap().contains("complete"));
        }
    }
}

#[test]
fn a_dumb_terminal_gets_whole_lines_and_an_ascii_one_ascii() {
    let plain = drawn(80, &[("TERM", "dumb")], &[]);
    assert!(!plain.contains('\x1b') && plain.contains("complete"), "{plain:?}");
    let ascii = drawn(200, &[("LC_ALL", "C")], &["-v"]);
    assert!(ascii.is_ascii() && ascii.contains("complete"), "{ascii:?}");
    let quiet = drawn(80, &[], &["-q"]);
    assert_eq!(quiet, "");
}
