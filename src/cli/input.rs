//! What TORRENT on the command line names: a file, standard input, an address, a magnet link.
//!
//! A stranger may have prepared each of them, so nothing is read past the limit of a torrent:
//! a device without an end, a 3 GiB file and a server that never stops all end in one line.
//!
//! Layer: programs.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use ureq::RequestBuilder;
use ureq::typestate::WithoutBody;

use crate::dial::Dialler;
use crate::hash::Sha1;
use crate::magnet::Magnet;
use crate::metainfo::{Metainfo, TORRENT_LEN_MAX};
use crate::web;
use crate::web::client::{Client, Failure};

/// How long a connection to a server may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// How long all of a transfer may take: a torrent of 64 MiB at 1 MiB/s.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(60);

/// How much of an operand an error message repeats, in characters: paths may be 4,096 bytes long,
/// and links longer.
const SHOWN_MAX: usize = 256;

/// What was loaded.
#[derive(Debug)]
pub enum Input {
    Torrent(Box<Metainfo>),
    Magnet(Magnet),
}

impl Input {
    pub fn info_hash(&self) -> Sha1 {
        match self {
            Input::Torrent(torrent) => torrent.info_hash,
            Input::Magnet(magnet) => magnet.info_hash,
        }
    }
}

/// Loads what a TORRENT operand names; an address by `dialler`.
pub fn load(operand: &OsStr, dialler: &Dialler) -> Result<Input> {
    if let Some(link) = operand.to_str().filter(|text| Magnet::is_link(text)) {
        return Ok(Input::Magnet(Magnet::parse(link)?));
    }
    let bytes = read(operand, dialler)?;
    let torrent = Metainfo::from_bytes(&bytes).with_context(|| shown(operand))?;
    Ok(Input::Torrent(Box::new(torrent)))
}

/// Reads what an operand names, as bytes; errors name the operand.
pub fn read(operand: &OsStr, dialler: &Dialler) -> Result<Vec<u8>> {
    if operand.is_empty() {
        bail!("the name of the torrent is empty");
    }
    let bytes = match operand.to_str() {
        Some("-") => limited(std::io::stdin().lock()),
        Some(url) if has_scheme(url, "http") || has_scheme(url, "https") => download(url, dialler),
        _ => read_file(Path::new(operand)),
    };
    bytes.with_context(|| shown(operand))
}

/// An operand as error messages name it; of a long one the end, where the file's name is.
pub fn shown(operand: &OsStr) -> String {
    let text = operand.to_string_lossy();
    if text == "-" {
        return "standard input".to_owned();
    }
    match text.char_indices().rev().nth(SHOWN_MAX) {
        Some((start, _)) => format!("…{}", &text[start..]),
        None => text.into_owned(),
    }
}

fn has_scheme(url: &str, scheme: &str) -> bool {
    url.split_once("://").is_some_and(|(start, _)| start.eq_ignore_ascii_case(scheme))
}

fn read_file(path: &Path) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(|err| anyhow!(web::io_text(&err)))?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        bail!("a folder, and not a file");
    }
    if (TORRENT_LEN_MAX as u64) < metadata.len() {
        bail!("{} bytes, the limit is {TORRENT_LEN_MAX}", metadata.len());
    }
    limited(file)
}

/// All of a stream, which may not be longer than a torrent.
fn limited(source: impl Read) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(TORRENT_LEN_MAX as u64 + 1).read_to_end(&mut bytes)?;
    if TORRENT_LEN_MAX < bytes.len() {
        bail!("more than {TORRENT_LEN_MAX} bytes, the limit");
    }
    Ok(bytes)
}

fn download(url: &str, dialler: &Dialler) -> Result<Vec<u8>> {
    let config = web::config(dialler.proxy.as_ref()).timeout_connect(Some(CONNECT_TIMEOUT));
    let deadline = Instant::now() + TRANSFER_TIMEOUT;
    let in_time = |request: RequestBuilder<WithoutBody>| {
        let left = deadline.saturating_duration_since(Instant::now());
        request.config().timeout_global(Some(left)).build()
    };
    let uri = web::escape_stray(url).parse().context("it is no web address")?;
    // The user may ask for anything anywhere; a redirect still gets nobody inside.
    let found = Client::new(config, dialler).get(uri, None, |_| Ok(()), &in_time);
    let mut response = found
        .map_err(|failure| match failure {
            Failure::Forbidden(why) => anyhow!(why),
            Failure::Call(err) => anyhow!(web::explain(err, CONNECT_TIMEOUT, TRANSFER_TIMEOUT)),
        })?
        .response;
    if !response.status().is_success() {
        // A status code alone says little.
        bail!("the server answered with status {}", response.status().as_u16());
    }
    limited(response.body_mut().as_reader())
}
