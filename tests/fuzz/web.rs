//! Targets: what web seeds say in headers (BEP 19, RFC 9110).

use std::time::Duration;

use piecemeal::webseed::address::Address;
use piecemeal::webseed::answer::{content_range, retry_after};

/// Two lines: a header, and the date that an answer gives.
pub fn headers() -> Vec<Vec<u8>> {
    [
        "bytes 0-16383/1048576",
        "bytes 18446744073709551614-18446744073709551615/*",
        "120",
        "Mon, 07 Nov 1994 08:49:38 GMT\nSun, 06 Nov 1994 08:49:37 GMT",
        "http://user:word@[::1]:8080/a b/?x=y#z",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// A range lies inside its file, a pause is after its date, an address has a host.
pub fn header(input: &[u8]) -> bool {
    let text = String::from_utf8_lossy(input);
    let (first, second) = text.split_once('\n').map_or((&*text, None), |(a, b)| (a, Some(b)));
    let range = content_range(first);
    if let Some((range, total)) = &range {
        assert!(range.start < range.end && total.is_none_or(|total| range.end <= total));
    }
    let pause = retry_after(first, second);
    // The year 10,000 is 8,030 years after the first date that is read.
    let limit = Duration::from_secs(8_031 * 366 * 86_400);
    assert!(pause.is_none_or(|pause| second.is_none() || pause <= limit || number(first)));
    let address = Address::parse(first);
    assert!(address.is_err() || first.to_ascii_lowercase().contains("http"));
    range.is_some() || pause.is_some() || address.is_ok()
}

fn number(text: &str) -> bool {
    text.trim().bytes().all(|byte| byte.is_ascii_digit())
}
