//! `piecemeal show TORRENT`: what a torrent or a magnet link holds, for people or as JSON.
//!
//! Files are numbered from 1 in the torrent's order, and pad files and symlinks have numbers too,
//! although they are not listed among the files: so a number means the same to every client.
//!
//! Layer: programs.

use anyhow::Result;

use super::Exit;
use super::fetch;
use super::flags::Args;
use super::input::{self, Input};
use super::output::Output;
use crate::json::{self, Object};
use crate::magnet::Magnet;
use crate::metainfo::{File, Metainfo};
use crate::printable::printable;

pub fn run(args: &Args) -> Result<Exit> {
    let Some(operand) = super::one_operand(args) else { return Ok(Exit::Usage) };
    let input = match input::load(operand, &args.dialler())? {
        Input::Magnet(_) if args.fetch => match fetch::load(args, operand)? {
            Ok(torrent) => Input::Torrent(Box::new(torrent)),
            Err(exit) => return Ok(exit),
        },
        input => input,
    };
    let mut out = Output::new();
    match (&input, args.json) {
        (Input::Torrent(torrent), true) => out.line(torrent_json(torrent, args.piece_hashes))?,
        (Input::Torrent(torrent), false) => torrent_text(&mut out, torrent, args.piece_hashes)?,
        (Input::Magnet(magnet), true) => out.line(magnet_json(magnet))?,
        (Input::Magnet(magnet), false) => magnet_text(&mut out, magnet)?,
    }
    out.finish()?;
    Ok(Exit::Done)
}

/// The torrent's files that will be on disk, with their numbers.
fn numbered_files(torrent: &Metainfo) -> impl Iterator<Item = (usize, &File)> {
    (1..).zip(&torrent.files).filter(|(_, file)| file.is_stored())
}

/// A file's path below the torrent's folder; of a single file its name.
fn display_path(torrent: &Metainfo, file: &File) -> String {
    if torrent.single { torrent.name.clone() } else { file.path.join("/") }
}

fn torrent_json(torrent: &Metainfo, piece_hashes: bool) -> String {
    let file = |numbered| file_json(torrent, numbered).done();
    let links = torrent.files.iter().filter_map(|file| Some((file, file.symlink.as_ref()?)));
    let link = |(file, target): (&File, &Vec<String>)| {
        Object::new().str("path", &file.path.join("/")).str("target", &target.join("/")).done()
    };
    let mut object = Object::new()
        .str("name", &torrent.name)
        .str("info_hash", &torrent.info_hash.to_string())
        .num("total_length", torrent.stored_length())
        .num("piece_length", torrent.geometry.piece_length())
        .num("pieces", torrent.geometry.pieces())
        .bool("private", torrent.private)
        .raw("trackers", &json::array(torrent.trackers.iter().map(json::strings)))
        .raw("web_seeds", &json::strings(&torrent.web_seeds))
        .raw("files", &json::array(numbered_files(torrent).map(file)))
        .raw("symlinks", &json::array(links.map(link)))
        .str("magnet", &torrent.magnet())
        .str_or_null("comment", torrent.comment.as_deref())
        .str_or_null("created_by", torrent.created_by.as_deref())
        .num_or_null("creation_date", torrent.creation_date)
        .raw("nodes", &json::strings(torrent.nodes.iter().map(ToString::to_string)));
    if piece_hashes {
        let hashes = torrent.piece_hashes.as_slice().iter().map(ToString::to_string);
        object = object.raw("piece_hashes", &json::strings(hashes));
    }
    object.done()
}

fn magnet_json(magnet: &Magnet) -> String {
    let peers = magnet.peers.iter().map(ToString::to_string);
    let mut object = Object::new()
        .str_or_null("name", magnet.name.as_deref())
        .str("info_hash", &magnet.info_hash.to_string());
    for unknown in ["total_length", "piece_length", "pieces", "private"] {
        object = object.null(unknown);
    }
    let tiers = magnet.trackers.iter().map(|url| json::strings([url]));
    let object = object
        .raw("trackers", &json::array(tiers))
        .raw("web_seeds", &json::strings(&magnet.web_seeds))
        .null("files")
        .str("magnet", &magnet.to_string())
        .raw("peers", &json::strings(peers));
    let numbers = |ranges: &Vec<std::ops::RangeInclusive<u32>>| {
        json::array(ranges.iter().cloned().flatten().map(|number| number.to_string()))
    };
    match &magnet.select {
        // Counted from 0, as in the link.
        Some(ranges) => object.raw("so", &numbers(ranges)),
        None => object.null("so"),
    }
    .done()
}

fn torrent_text(out: &mut Output, torrent: &Metainfo, piece_hashes: bool) -> Result<()> {
    let geometry = &torrent.geometry;
    out.line(format!("Name: {}", printable(&torrent.name)))?;
    out.line(format!("Info Hash: {}", torrent.info_hash))?;
    let length = torrent.stored_length();
    out.line(format!("Length: {length}{}", in_words(length)))?;
    let piece_length = geometry.piece_length();
    out.line(format!("Piece Length: {piece_length}{}", in_words(piece_length.into())))?;
    out.line(format!("Pieces: {}", geometry.pieces()))?;
    if torrent.private {
        out.line("Private: yes, peers come from its trackers only")?;
    }
    for (tier, urls) in (1..).zip(&torrent.trackers) {
        for url in urls {
            let tier =
                if torrent.trackers.len() == 1 { String::new() } else { format!(" (tier {tier})") };
            out.line(format!("Tracker URL: {}{tier}", printable(url)))?;
        }
    }
    web_seeds_text(out, &torrent.web_seeds)?;
    for node in &torrent.nodes {
        out.line(format!("DHT Node: {}", printable(&node.to_string())))?;
    }
    for (label, text) in [("Comment", &torrent.comment), ("Created By", &torrent.created_by)] {
        if let Some(text) = text {
            out.line(format!("{label}: {}", printable(text)))?;
        }
    }
    if let Some(seconds) = torrent.creation_date {
        out.line(format!("Created: {}", utc(seconds)))?;
    }
    out.line(format!("Magnet: {}", torrent.magnet()))?;
    out.line("Files:")?;
    files_text(out, torrent)?;
    if piece_hashes {
        out.line("Piece Hashes:")?;
        torrent.piece_hashes.as_slice().iter().try_for_each(|hash| out.line(hash.to_string()))?;
    }
    Ok(())
}

/// `get --list`: the files that can be selected.
pub fn list(torrent: &Metainfo, json: bool) -> Result<Exit> {
    let mut out = Output::new();
    match json {
        true => numbered_files(torrent).try_for_each(|f| out.line(file_json(torrent, f).done()))?,
        false => files_text(&mut out, torrent)?,
    }
    out.finish()?;
    Ok(Exit::Done)
}

fn file_json(torrent: &Metainfo, (number, file): (usize, &File)) -> Object {
    Object::new()
        .str("path", &display_path(torrent, file))
        .num("length", file.length)
        .num("number", number as u64)
}

fn files_text(out: &mut Output, torrent: &Metainfo) -> Result<()> {
    let digits = torrent.files.len().to_string().len();
    for (number, file) in numbered_files(torrent) {
        let path = printable(&display_path(torrent, file));
        out.line(format!("{number:>digits$}  {path}  {}{}", file.length, in_words(file.length)))?;
    }
    for (number, file) in (1..).zip(&torrent.files) {
        if let Some(target) = &file.symlink {
            let (path, target) = (file.path.join("/"), target.join("/"));
            let (path, target) = (printable(&path), printable(&target));
            out.line(format!("{number:>digits$}  {path} -> {target}  (a symlink, not created)"))?;
        }
    }
    Ok(())
}

fn magnet_text(out: &mut Output, magnet: &Magnet) -> Result<()> {
    if let Some(name) = &magnet.name {
        out.line(format!("Name: {}", printable(name)))?;
    }
    out.line(format!("Info Hash: {}", magnet.info_hash))?;
    for url in &magnet.trackers {
        out.line(format!("Tracker URL: {}", printable(url)))?;
    }
    web_seeds_text(out, &magnet.web_seeds)?;
    for peer in &magnet.peers {
        out.line(format!("Peer: {}", printable(&peer.to_string())))?;
    }
    if let Some(ranges) = &magnet.select {
        // The link counts from 0, people and --select-file from 1.
        let one_based =
            |range: &std::ops::RangeInclusive<u32>| match (range.start() + 1, range.end() + 1) {
                (first, last) if first == last => first.to_string(),
                (first, last) => format!("{first}-{last}"),
            };
        let numbers: Vec<String> = ranges.iter().map(one_based).collect();
        out.line(format!("Files wanted: {}", numbers.join(",")))?;
    }
    out.line(format!("Magnet: {magnet}"))
}

fn web_seeds_text(out: &mut Output, urls: &[String]) -> Result<()> {
    urls.iter().try_for_each(|url| out.line(format!("Web Seed: {}", printable(url))))
}

/// ` (4.0 MiB)`, or nothing for less than 1 KiB.
fn in_words(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while 1000.0 <= value && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if bytes < 1024 { String::new() } else { format!(" ({value:.1} {})", UNITS[unit]) }
}

/// Seconds since 1970 as a date and time. (Days to dates after Howard Hinnant's `civil_from_days`:
/// years that begin in March put the leap day last.)
fn utc(seconds: i64) -> String {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days since 0000-03-01, in eras of 400 years.
    let (era, day) = ((days + 719_468).div_euclid(146_097), (days + 719_468).rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = year + era * 400 + carry;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (seconds, date) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_359_599_503, "2013-01-31 02:31:43 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(utc(seconds), date);
        }
        assert!(utc(i64::MAX).ends_with(" UTC"));
    }

    #[test]
    fn sizes() {
        let all = [0, 1023, 1024, 16_384, 1_023_999, 5_490_455_272, u64::MAX].map(in_words);
        let expected =
            ["", "", " (1.0 KiB)", " (16.0 KiB)", " (1000.0 KiB)", " (5.1 GiB)", " (16.0 EiB)"];
        assert_eq!(all, expected);
    }
}
