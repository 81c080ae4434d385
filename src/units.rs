//! Sizes and counts as people read them.
//!
//! Layer: values.

/// Bytes with a unit of 1024, one decimal: `1.2 GiB`, `16.0 KiB`, `17 B`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // The largest unit that leaves less than 1000 in front of the point.
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while 999.95 <= value && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// So many things: `1 piece`, `2 pieces`.
pub fn count(number: u64, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// Every one of them: `the only piece`, `all 5 pieces`.
pub fn all(number: u64, thing: &str) -> String {
    if number == 1 { format!("the only {thing}") } else { format!("all {}", count(number, thing)) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn counts() {
        assert_eq!([0, 1, 2].map(|n| super::count(n, "peer")), ["0 peers", "1 peer", "2 peers"]);
        assert_eq!([1, 2].map(|n| super::all(n, "piece")), ["the only piece", "all 2 pieces"]);
    }

    #[test]
    fn sizes() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (16_384, "16.0 KiB"),
            (1_048_575, "1.0 MiB"),
            (1_288_490_189, "1.2 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(super::size(bytes), text);
        }
    }
}
