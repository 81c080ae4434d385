//! What an answer to a request for a range means (RFC 9110).
//!
//! ```text
//! 206  Content-Range: bytes 100-299/1000     the bytes asked for, or the first of them
//! 200                                        the whole file: it ignores ranges
//! 416, 404, 403, other 4xx                   it does not have this file, or not of this length
//! 429, 503  Retry-After: 120, or a date      later
//! ```
//!
//! Layer: hands, but pure.

use std::ops::Range;
use std::time::Duration;

use ureq::http::{HeaderMap, StatusCode};

use crate::printable::clipped;

/// What is to be done with an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Its body has the file's bytes from the start of what was asked for up to here.
    Part {
        end: u64,
    },
    /// Its body is the whole file.
    Whole,
    /// The server does not have the file, or nothing to be used. What it does with one says little of
    /// the others.
    Lacks(String),
    Later(String, Option<Duration>),
}

/// Judges the answer to a request for a range of a file of this length.
pub fn judge(status: StatusCode, headers: &HeaderMap, asked: &Range<u64>, length: u64) -> Verdict {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let encoding = header("content-encoding").unwrap_or("identity");
    let body_length = header("content-length").and_then(|value| value.trim().parse::<u64>().ok());
    let code = status.as_u16();
    match code {
        200 | 206 if !encoding.eq_ignore_ascii_case("identity") => {
            Verdict::Lacks(format!("its answer is encoded: {}", clipped(encoding, 20)))
        }
        200 => match body_length {
            Some(sent) if sent != length => {
                Verdict::Lacks(format!("its file has {sent} bytes, the torrent's {length}"))
            }
            _ => Verdict::Whole,
        },
        206 => {
            let range = header("content-range").unwrap_or_default();
            match content_range(range) {
                Some((sent, total)) if total.is_some_and(|total| total != length) => {
                    let total = total.unwrap_or(sent.end);
                    Verdict::Lacks(format!("its file has {total} bytes, the torrent's {length}"))
                }
                Some((sent, _)) if sent.start == asked.start && sent.end <= asked.end => {
                    match body_length {
                        Some(body) if body != sent.end - sent.start => Verdict::Lacks(format!(
                            "it sends {body} bytes for the range {}",
                            clipped(range, 60)
                        )),
                        _ => Verdict::Part { end: sent.end },
                    }
                }
                _ => Verdict::Lacks(format!(
                    "asked for bytes {}-{} it sends \"{}\"",
                    asked.start,
                    asked.end - 1,
                    clipped(range, 60)
                )),
            }
        }
        408 | 425 | 429 | 500..=599 => {
            let pause = header("retry-after").and_then(|text| retry_after(text, header("date")));
            Verdict::Later(format!("answered {code}"), pause)
        }
        400..=499 => Verdict::Lacks(format!("answered {code}")),
        _ => Verdict::Lacks(format!("answered {code}")),
    }
}

/// `bytes 100-299/1000`: the range, and how long the whole is if it says so.
pub fn content_range(text: &str) -> Option<(Range<u64>, Option<u64>)> {
    let (unit, rest) = text.trim().split_once(' ')?;
    let (range, total) = rest.trim().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let end = number(last)?.checked_add(1)?;
    let range = number(first)?..end;
    let total = if total == "*" { None } else { Some(number(total)?) };
    let valid = unit.eq_ignore_ascii_case("bytes") && range.start < range.end;
    (valid && total.is_none_or(|total| range.end <= total)).then_some((range, total))
}

/// How long to wait: seconds, or a date, which counts from the answer's own `Date`, so that nobody's
/// clock need be right.
pub fn retry_after(text: &str, date: Option<&str>) -> Option<Duration> {
    let text = text.trim();
    let seconds =
        number(text).or_else(|| http_date(text)?.checked_sub(http_date(date?.trim())?))?;
    Some(Duration::from_secs(seconds))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` in seconds since 1970. The two older forms are not read.
fn http_date(text: &str) -> Option<u64> {
    let mut words = text.split_once(", ")?.1.split(' ');
    let (day, month, year) = (number(words.next()?)?, words.next()?, number(words.next()?)?);
    let mut time = words.next()?.split(':').map(number);
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    let months = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let month = months.find(month).filter(|at| at % 3 == 0 && month.len() == 3)? as u64 / 3;
    let sound = (1..=31).contains(&day) && (1970..10_000).contains(&year);
    if words.next() != Some("GMT") || !sound || 23 < hour || 59 < minute || 60 < second {
        return None;
    }
    // A year that begins with March has its leap day at the end.
    let (year, month) = if month < 2 { (year - 1, month + 10) } else { (year, month - 2) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    let since_1970 = days.checked_sub(719_468)?;
    Some(since_1970 * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// Digits only: no sign, no blank.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(code: u16, headers: &[(&'static str, &str)]) -> Verdict {
        let pairs =
            headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        judge(StatusCode::from_u16(code).unwrap(), &pairs.collect(), &(100..300), 1_000)
    }

    #[test]
    fn ranges() {
        let part = |range| judged(206, &[("content-range", range)]);
        assert_eq!(part("bytes 100-299/1000"), Verdict::Part { end: 300 });
        assert_eq!(part("Bytes 100-199/*"), Verdict::Part { end: 200 });
        assert!(matches!(part("bytes 100-299/1001"), Verdict::Lacks(_)));
        for wrong in
            ["", "bytes 0-299/1000", "bytes 100-300/1000", "bytes 299-100/1000", "bytes */1000"]
        {
            assert!(matches!(part(wrong), Verdict::Lacks(_)), "{wrong}");
        }
        let range = ("content-range", "bytes 100-299/1000");
        assert!(matches!(judged(206, &[range, ("content-length", "201")]), Verdict::Lacks(_)));
        assert!(matches!(judged(206, &[range, ("content-encoding", "gzip")]), Verdict::Lacks(_)));
    }

    #[test]
    fn whole_files_and_none() {
        assert_eq!(judged(200, &[]), Verdict::Whole);
        assert_eq!(judged(200, &[("content-length", "1000")]), Verdict::Whole);
        assert!(matches!(judged(200, &[("content-length", "999")]), Verdict::Lacks(_)));
        for code in [400, 403, 404, 410, 416] {
            assert_eq!(judged(code, &[]), Verdict::Lacks(format!("answered {code}")));
        }
        assert!(matches!(judged(304, &[]), Verdict::Lacks(_)));
        assert!(matches!(judged(204, &[]), Verdict::Lacks(_)));
    }

    #[test]
    fn later() {
        let after = |code, value| match judged(code, &[("retry-after", value)]) {
            Verdict::Later(_, pause) => pause.map(|pause| pause.as_secs()),
            other => panic!("{other:?}"),
        };
        assert_eq!(after(503, "120"), Some(120));
        assert_eq!(after(429, " 1 "), Some(1));
        assert_eq!(after(500, "soon"), None);
        assert_eq!(after(503, "-1"), None);
        assert_eq!(after(503, "99999999999999999999"), None);
        let date = Some("Sun, 06 Nov 1994 08:49:37 GMT");
        let pause = retry_after("Mon, 07 Nov 1994 08:49:38 GMT", date);
        assert_eq!(pause, Some(Duration::from_secs(86_401)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:36 GMT", date), None);
    }

    #[test]
    fn dates() {
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(http_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(http_date("Thu, 29 Feb 2024 23:59:59 GMT"), Some(1_709_251_199));
        for wrong in
            ["", "Sun, 06 Nov 1994", "x, 0 Nov 1994 08:49:37 GMT", "x, 1 ovD 1994 0:0:0 GMT"]
        {
            assert_eq!(http_date(wrong), None, "{wrong}");
        }
    }
}
