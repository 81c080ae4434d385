//! The default gateway: the router that stands between us and the world.
//!
//! Linux tells it in `/proc/net/route`. Other systems tell it in ways of their own, which are not
//! spoken here: no port is mapped there.
//!
//! Layer: hands.

use std::net::Ipv4Addr;

/// The gateway of the default route with the lowest metric, if there is one.
pub fn default_gateway() -> Option<Ipv4Addr> {
    parse(&std::fs::read_to_string("/proc/net/route").ok()?)
}

/// ```text
/// Iface  Destination  Gateway   Flags  RefCnt  Use  Metric  Mask …
/// eth0   00000000     0101A8C0  0003   0       0    100     00000000
/// ```
/// Addresses are hexadecimal numbers in the machine's own byte order.
fn parse(table: &str) -> Option<Ipv4Addr> {
    let route = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, "00000000", gateway, _, _, _, metric, "00000000", ..] = fields[..] else {
            return None;
        };
        let gateway = u32::from_str_radix(gateway, 16).ok()?;
        let address = Ipv4Addr::from(gateway.to_ne_bytes());
        (gateway != 0).then_some((metric.parse::<u32>().ok()?, address))
    };
    table.lines().filter_map(route).min().map(|(_, address)| address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_route_with_the_lowest_metric() {
        let hex = |a, b, c, d| format!("{:08X}", u32::from_ne_bytes([a, b, c, d]));
        let table = format!(
            "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\n\
             eth1\t00000000\t{}\t0003\t0\t0\t600\t00000000\t0\t0\t0\n\
             eth0\t00000000\t{}\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
             eth0\t{}\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n",
            hex(10, 0, 0, 1),
            hex(192, 168, 1, 1),
            hex(192, 168, 1, 0),
        );
        assert_eq!(parse(&table), Some(Ipv4Addr::new(192, 168, 1, 1)));
        assert_eq!(parse("Iface\tDestination\n"), None);
        assert_eq!(parse(""), None);
    }
}
