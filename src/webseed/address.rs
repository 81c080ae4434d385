//! Where a web seed has a torrent's files (BEP 19).
//!
//! ```text
//! one file       http://host/disk.iso                    the URL itself
//!                http://host/images/                     URL + name
//! a folder       http://host/shows[/]                    URL + / + name + / + path of the file
//! ```
//!
//! Each component is escaped by itself, as the torrent has it and not as it is called on disk, where
//! names are made safe.
//!
//! Layer: hands, but pure.

use std::collections::HashMap;

use ureq::http::Uri;

use crate::bencode::{self, Dict, Value};
use crate::metainfo::Metainfo;
use crate::percent;
use crate::web::{self, escape_stray};

/// The longest URL of a file. HTTP servers refuse lines of more than 8 KiB.
const URL_LEN_MAX: usize = 8000;

/// The names of a torrent's files where they differ from those on disk.
#[derive(Debug, Default)]
pub struct Names {
    root: Option<Vec<u8>>,
    files: HashMap<usize, Vec<Vec<u8>>>,
}

impl Names {
    pub fn of(torrent: &Metainfo) -> Names {
        let mut names = Names::default();
        let Ok(document) = bencode::decode(&torrent.info) else { return names };
        let Some(info) = document.root().dict() else { return names };
        let root = info.bytes("name.utf-8").or_else(|| info.bytes("name")).unwrap_or_default();
        names.root = Some(root.to_vec()).filter(|raw| differs(raw, &torrent.name));
        let files = info.list("files").into_iter().flat_map(|list| list.iter());
        for (i, (file, ours)) in files.zip(&torrent.files).enumerate() {
            let Some(raw) = file.dict().and_then(raw_path) else { continue };
            let pairs = raw.iter().zip(&ours.path);
            if raw.len() == ours.path.len() && pairs.clone().any(|(raw, ours)| differs(raw, ours)) {
                let name = |(raw, ours): (&&[u8], &String)| match differs(raw, ours) {
                    true => raw.to_vec(),
                    false => ours.clone().into_bytes(),
                };
                names.files.insert(i, pairs.map(name).collect());
            }
        }
        names
    }
}

fn raw_path(file: Dict<'_>) -> Option<Vec<&[u8]>> {
    let list = file.list("path.utf-8").or_else(|| file.list("path"))?;
    list.iter().map(Value::bytes).collect()
}

/// Whether a server would know a file by another name than ours. What climbs is no name.
fn differs(raw: &[u8], ours: &str) -> bool {
    raw != ours.as_bytes() && !matches!(raw, b"" | b"." | b"..")
}

/// A web seed's URL.
#[derive(Debug, Clone)]
pub struct Address {
    /// Up to the query, and the query with its `?`.
    path: String,
    query: String,
}

impl Address {
    /// The error says why it is of no use.
    pub fn parse(url: &str) -> Result<Address, String> {
        let url = escape_stray(url.trim());
        let url = url.split('#').next().unwrap_or_default();
        let at = url.find('?').unwrap_or(url.len());
        let uri: Uri = url.parse().map_err(|_| "it is no URL".to_owned())?;
        web::check(&uri)?;
        let host = uri.host().unwrap_or_default();
        if web::bare(host).is_empty() {
            return Err("it names no host".to_owned());
        }
        Ok(Address { path: url[..at].to_owned(), query: url[at..].to_owned() })
    }

    /// The URL of one file.
    pub fn of_file(&self, torrent: &Metainfo, names: &Names, file: usize) -> Result<Uri, String> {
        let mut url = self.path.clone();
        let root = names.root.as_deref().unwrap_or(torrent.name.as_bytes());
        if !torrent.single {
            if !url.ends_with('/') {
                url.push('/');
            }
            url += &percent::encode(root);
            let mut add = |part: &[u8]| {
                url.push('/');
                url += &percent::encode(part);
            };
            match names.files.get(&file) {
                Some(raw) => raw.iter().for_each(|part| add(part)),
                None => torrent.files[file].path.iter().for_each(|part| add(part.as_bytes())),
            }
        } else if url.ends_with('/') && self.query.is_empty() {
            url += &percent::encode(root);
        }
        url += &self.query;
        if URL_LEN_MAX < url.len() {
            return Err(format!("a URL of {} bytes, the limit is {URL_LEN_MAX}", url.len()));
        }
        url.parse().map_err(|_| "its files have no URL".to_owned())
    }
}

/// What may be asked for inside this network: a service there may be given a path to read, but
/// nothing to do.
pub fn check_inside(uri: &Uri) -> Result<(), String> {
    match uri.query() {
        Some(_) => Err("a web seed inside this network may have no query".to_owned()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A torrent with these files, or with none for a single one.
    fn torrent(name: &[u8], paths: &[&[&[u8]]]) -> Metainfo {
        let string = |bytes: &[u8]| [format!("{}:", bytes.len()).as_bytes(), bytes].concat();
        let mut info = b"d".to_vec();
        if paths.is_empty() {
            info.extend(b"6:lengthi1e");
        } else {
            info.extend(b"5:filesl");
            for path in paths {
                let parts: Vec<u8> = path.iter().flat_map(|part| string(part)).collect();
                info.extend([b"d6:lengthi1e4:pathl".as_slice(), &parts, b"ee"].concat());
            }
            info.push(b'e');
        }
        let pieces = [b"12:piece lengthi16384e6:pieces".as_slice(), &string(&[0; 20])].concat();
        info.extend([b"4:name".as_slice(), &string(name), &pieces, b"e"].concat());
        Metainfo::from_info(&info).expect("a torrent")
    }

    #[track_caller]
    fn check_url(url: &str, torrent: &Metainfo, file: usize, expected: &str) {
        let address = Address::parse(url).expect("usable");
        let found = address.of_file(torrent, &Names::of(torrent), file).expect("a URL");
        assert_eq!(found.to_string(), expected);
    }

    #[test]
    fn one_file() {
        let t = torrent("a b+ü.iso".as_bytes(), &[]);
        check_url("http://h/x.iso", &t, 0, "http://h/x.iso");
        check_url("http://h/x y.iso?k=1#z", &t, 0, "http://h/x%20y.iso?k=1");
        check_url("http://h/dir/", &t, 0, "http://h/dir/a%20b%2B%C3%BC.iso");
        check_url("http://h/get/?file=1", &t, 0, "http://h/get/?file=1");
        check_url("http://u:p@h:81/", &t, 0, "http://u:p@h:81/a%20b%2B%C3%BC.iso");
    }

    #[test]
    fn a_folder() {
        let t = torrent(b"my show", &[&[b"s1", b"#1 100%?.mkv"], &[b"z"]]);
        check_url("http://h/d", &t, 0, "http://h/d/my%20show/s1/%231%20100%25%3F.mkv");
        check_url("http://h/d/?k", &t, 1, "http://h/d/my%20show/z?k");
        check_url("http://h", &t, 1, "http://h/my%20show/z");
    }

    #[test]
    fn names_as_the_torrent_has_them_and_none_that_climbs() {
        let t = torrent(b"a\tb", &[&[b"..", b"c/d"], &[b"\xff"], &[b"e"]]);
        check_url("http://h/", &t, 1, "http://h/a%09b/%FF");
        check_url("http://h/", &t, 2, "http://h/a%09b/e");
        let climbing = Address::parse("http://h/").unwrap().of_file(&t, &Names::of(&t), 0).unwrap();
        assert!(!climbing.to_string().contains("/../"), "{climbing}");
    }

    #[test]
    fn addresses_of_no_use() {
        for url in ["", "x", "ftp://h/x", "file:///etc/passwd", "http://h:0/", "http://[]/"] {
            assert!(Address::parse(url).is_err(), "{url}");
        }
        let uri = |text: &str| text.parse::<Uri>().unwrap();
        assert!(check_inside(&uri("http://127.0.0.1/x?delete=1")).is_err());
        assert!(check_inside(&uri("http://10.0.0.1/x")).is_ok());
    }
}
