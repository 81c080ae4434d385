//! `piecemeal get` where something is there already: what a killed or interrupted run left, what is
//! damaged, what is complete, what is another file.
//!
//! What was kept shows in what the seeder served.

mod support;

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, unbounded};

use support::fixture::{Fixture, Recipe, files_below};
use support::own_ip;
use support::peer::{Peer, Wire, handshake, id, message, numbers, peer_id, piece};
use support::place::Place;
use support::run::{LIMIT, Running};
use support::seeder::{Seed, Seeder};
use support::tracker::Tracker;

const MIB: usize = 1 << 20;

fn four_mib() -> Fixture {
    Recipe::file("four.bin", 4 * MIB).piece_length(128 << 10).make()
}

/// A peer that has nothing and listens to what the client says it has: the number of its pieces, as
/// it grows.
fn observer(fixture: &Fixture) -> (Peer, Receiver<usize>) {
    let (sender, counts) = unbounded();
    let info_hash = fixture.info_hash;
    let script = move |mut wire: Wire, n: usize| {
        wire.send(&handshake(&info_hash, &peer_id(b"-OB0001-", n), false))?;
        wire.read_handshake()?;
        let mut count = 0;
        loop {
            match wire.message()? {
                (id::BITFIELD, bits) => {
                    count = bits.iter().map(|byte| byte.count_ones() as usize).sum();
                }
                (id::HAVE, _) => count += 1,
                _ => continue,
            }
            let _ = sender.send(count);
        }
    };
    (Peer::listen(own_ip(), Arc::new(script)), counts)
}

/// Waits until the client has told of so many pieces.
#[track_caller]
fn wait_for_pieces(counts: &Receiver<usize>, wanted: usize) {
    while counts.recv_timeout(LIMIT).expect("news of more pieces") < wanted {}
}

/// Downloads until half of the pieces are verified, and not much more.
fn half_a_download(place: &Place, fixture: &Fixture) -> Running {
    let (observer, counts) = observer(fixture);
    let half = fixture.data.len() as u64 / 2 + fixture.piece_length as u64 * 2;
    // At this pace the observer is there long before the half is.
    let seed = Seed::default().at(own_ip()).rate(8 * MIB as u64).pause_after(half);
    let seeder = seed.start(fixture);
    let running = place.get().peers([seeder.addr, observer.addr]).start();
    wait_for_pieces(&counts, fixture.pieces() / 2);
    running
}

#[test]
fn a_kill_at_half_loses_no_verified_piece() {
    let fixture = four_mib();
    let place = Place::new(&fixture);
    let mut running = half_a_download(&place, &fixture);
    running.kill();
    assert_eq!(running.finish(LIMIT).signal, Some(9));

    let seeder = Seeder::start(&fixture);
    place.get().peers([seeder.addr]).run().expect(0);
    fixture.assert_in(&place.data);
    let verified = fixture.pieces() / 2 * fixture.piece_length;
    let unverified = (fixture.data.len() - verified) as u64;
    assert!(seeder.served() <= unverified, "{} of {unverified} bytes", seeder.served());
    assert!(0 < seeder.served());
}

/// Changes one byte of a file and gives the file its old time back.
fn flip_byte_secretly(path: &Path, at: u64) {
    let mut file = fs::File::options().read(true).write(true).open(path).expect("the file");
    let modified = file.metadata().and_then(|meta| meta.modified()).expect("a time");
    let mut byte = [0];
    file.seek(SeekFrom::Start(at)).expect("a place in the file");
    file.read_exact(&mut byte).expect("a byte");
    file.seek(SeekFrom::Start(at)).expect("a place in the file");
    file.write_all(&[!byte[0]]).expect("written");
    file.set_modified(modified).expect("a time");
}

/// The one file below a folder that is not the payload.
fn resume_files(place: &Place, fixture: &Fixture) -> Vec<PathBuf> {
    let payload: Vec<PathBuf> =
        fixture.files.iter().map(|file| fixture.path_of(file, &place.data)).collect();
    files_below(&place.data).into_iter().filter(|path| !payload.contains(path)).collect()
}

/// The resume file is trusted: that shows by a wrong byte which nobody looks at. With `--check`
/// somebody does.
#[test]
fn an_interrupt_leaves_a_resume_file_that_is_trusted_unless_check_is_given() {
    let fixture = four_mib();
    let place = Place::new(&fixture);
    let mut running = half_a_download(&place, &fixture);
    running.interrupt();
    let end = running.finish(LIMIT).expect(130);
    assert!(end.wall < Duration::from_secs(10), "took {:?}", end.wall);
    assert_eq!(resume_files(&place, &fixture).len(), 1, "{:?}", files_below(&place.data));

    // Somewhere there is a verified piece; a byte in it is changed behind the client's back.
    let path = fixture.path_of(&fixture.files[0], &place.data);
    let on_disk = fs::read(&path).expect("half of the data");
    let right = |piece: &usize| {
        let range = fixture.piece_range(*piece);
        on_disk.get(range.clone()) == Some(&fixture.data[range])
    };
    let piece = (0..fixture.pieces()).find(right).expect("a verified piece");
    let at = fixture.piece_range(piece).start as u64 + 77;
    flip_byte_secretly(&path, at);

    let seeder = Seeder::start(&fixture);
    place.get().peers([seeder.addr]).run().expect(0);
    assert!(!seeder.pieces_served().contains(&piece), "piece {piece} was fetched again");
    assert_eq!(resume_files(&place, &fixture), [] as [PathBuf; 0]);
    let difference = fixture.difference(&place.data).expect_err("nobody should have looked");
    assert!(difference.contains(&format!("byte {at} differs")), "{difference}");

    let seeder = Seeder::start(&fixture);
    place.get().arg("--check").peers([seeder.addr]).run().expect(0);
    fixture.assert_in(&place.data);
    assert_eq!(seeder.pieces_served(), [piece]);
}

#[test]
fn a_file_that_changed_after_an_interrupt_is_checked_again() {
    let fixture = four_mib();
    let place = Place::new(&fixture);
    let mut running = half_a_download(&place, &fixture);
    running.interrupt();
    running.finish(LIMIT).expect(130);
    let path = fixture.path_of(&fixture.files[0], &place.data);
    let mut bytes = fs::read(&path).expect("half of the data");
    bytes.iter_mut().step_by(fixture.piece_length).for_each(|byte| *byte = !*byte);
    fs::write(&path, bytes).expect("written");

    let seeder = Seeder::start(&fixture);
    place.get().peers([seeder.addr]).run().expect(0);
    fixture.assert_in(&place.data);
}

#[test]
fn a_flipped_byte_is_repaired_with_one_piece() {
    let fixture = Recipe::tree("tree").with("a", 300_000).with("b/c", 500_000).make();
    let place = Place::new(&fixture);
    fixture.write_to(&place.data);
    flip_byte_secretly(&place.data.join("tree/b/c"), 250_000);
    let seeder = Seeder::start(&fixture);
    place.get().peers([seeder.addr]).run().expect(0);
    fixture.assert_in(&place.data);
    assert_eq!(seeder.pieces_served(), [550_000 / fixture.piece_length]);
}

#[test]
fn complete_data_needs_nobody() {
    let fixture = Recipe::tree("tree").with("a", 300_000).with("empty", 0).make();
    let seeder = Seeder::start(&fixture);
    let tracker = Tracker::start(&[seeder.addr]);
    let place = Place::with_trackers(&fixture, &[&[&tracker.http(), &tracker.udp()]]);
    fixture.write_to(&place.data);
    let end = place.get().peers([seeder.addr]).run().expect(0);
    assert!(end.stderr.contains("complete"), "{}", end.stderr);
    fixture.assert_in(&place.data);
    assert_eq!((seeder.connections(), tracker.announces()), (0, Vec::new()));
}

/// Whoever made it longer had a reason that we do not know: it is neither cut nor called complete.
#[track_caller]
fn check_longer(first_byte: u8) {
    let fixture = four_mib();
    let (place, seeder) = (Place::new(&fixture), Seeder::start(&fixture));
    let mut longer = [&fixture.data[..], b"more"].concat();
    longer[0] ^= first_byte;
    let path = fixture.path_of(&fixture.files[0], &place.data);
    fs::write(&path, &longer).expect("written");
    let end = place.get().peers([seeder.addr]).run().expect(1);
    assert!(end.stderr.contains("four.bin"), "{}", end.stderr);
    assert_eq!(fs::read(&path).expect("the file"), longer);
}

#[test]
fn a_longer_file_with_other_bytes_is_refused_and_stays_as_it_is() {
    check_longer(1);
}

#[test]
fn a_longer_file_that_begins_with_the_right_bytes_is_not_complete() {
    check_longer(0);
}

#[test]
fn a_shorter_file_with_right_and_wrong_pieces_keeps_the_right_ones() {
    let fixture = four_mib();
    let (place, seeder) = (Place::new(&fixture), Seeder::start(&fixture));
    let mut shorter = fixture.data[..MIB + 1].to_vec();
    shorter[5] ^= 1;
    fs::write(fixture.path_of(&fixture.files[0], &place.data), &shorter).expect("written");
    place.get().peers([seeder.addr]).run().expect(0);
    fixture.assert_in(&place.data);
    let kept = (MIB - fixture.piece_length) as u64;
    assert_eq!(seeder.served(), fixture.data.len() as u64 - kept);
}

/// It has the first half, and the second as soon as the client has nothing more to ask of it: in
/// between it calls `halfway`.
fn in_two_halves(fixture: &Fixture, halfway: impl Fn() + Send + Sync + 'static) -> Peer {
    let (info_hash, data, pieces) = (fixture.info_hash, fixture.data.clone(), fixture.pieces());
    let piece_length = fixture.piece_length;
    let script = move |mut wire: Wire, n: usize| {
        wire.send(&handshake(&info_hash, &peer_id(b"-2H0001-", n), false))?;
        wire.read_handshake()?;
        let half: Vec<u8> = (0..pieces.div_ceil(8))
            .map(|at| 0u8.wrapping_sub(u8::from(at < pieces / 16)))
            .collect();
        wire.send(&message(id::BITFIELD, &half))?;
        wire.send(&message(id::UNCHOKE, b""))?;
        loop {
            match wire.message()? {
                (id::NOT_INTERESTED, _) => {
                    halfway();
                    for piece in pieces / 2..pieces {
                        wire.send(&numbers(id::HAVE, &[piece as u32]))?;
                    }
                }
                (id::REQUEST, fields) => {
                    let (words, _) = fields.as_chunks::<4>();
                    let [index, begin, length] = [0, 1, 2].map(|n| u32::from_be_bytes(words[n]));
                    let start = index as usize * piece_length + begin as usize;
                    wire.send(&piece(index, begin, &data[start..start + length as usize]))?;
                }
                _ => {}
            }
        }
    };
    Peer::listen(own_ip(), Arc::new(script))
}

#[test]
fn a_finished_file_that_is_cut_short_meanwhile_is_not_complete_and_is_mended_by_the_next_run() {
    let fixture = Recipe::tree("two").with("a.bin", MIB).with("b.bin", MIB).make();
    let place = Place::new(&fixture);
    let path = fixture.path_of(&fixture.files[0], &place.data);
    let peer = in_two_halves(&fixture, move || {
        let file = fs::OpenOptions::new().write(true).open(&path).expect("it is finished");
        file.set_len(10).expect("cut short");
    });
    let ended = place.get().peers([peer.addr]).run().expect(1);
    let last = ended.stderr.lines().last().unwrap_or_default();
    assert!(last.contains("a.bin is 10 bytes long"), "{last}");
    assert!(
        resume_files(&place, &fixture).iter().all(|file| fs::metadata(file).unwrap().len() == 0)
    );

    let seeder = Seeder::start(&fixture);
    place.get().peers([seeder.addr]).run().expect(0);
    fixture.assert_in(&place.data);
    assert_eq!(seeder.served(), MIB as u64, "b.bin is kept");
}
