//! Which addresses may be dialled (contract, *Network policy*; `reference.md` E.1). A pure decider.

use crate::model::plan::{AllowNetwork, NetworkPlan};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The network policy of a run.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    allow: AllowNetwork,
    nets: Vec<(IpAddr, u8)>,
}

/// Ranges of IANA's special-purpose registry that are no public server, IPv4.
const PRIVATE_V4: &[(Ipv4Addr, u8)] = &[
    (Ipv4Addr::UNSPECIFIED, 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// The same for IPv6, without the ranges that carry an IPv4 address (see [`inner_v4`]).
const PRIVATE_V6: &[(Ipv6Addr, u8)] = &[
    (Ipv6Addr::UNSPECIFIED, 96),
    (Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, 0, 0), 96),
    (Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 64),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
    (Ipv6Addr::new(0x5f00, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8),
];

const LINK_LOCAL_V4: (Ipv4Addr, u8) = (Ipv4Addr::new(169, 254, 0, 0), 16);
const LINK_LOCAL_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10);

impl Policy {
    /// The policy of a plan.
    #[must_use]
    pub fn new(plan: &NetworkPlan) -> Self {
        Self { allow: plan.allow, nets: plan.allow_net.iter().map(|&(ip, len)| widen(ip, len)).collect() }
    }

    /// Whether `ip` may be dialled; `named`: the operator named the host that leads there. Link-local addresses, where
    /// cloud metadata lives, always need `--allow-net`, unless the policy is `any`.
    #[must_use]
    pub fn allows(&self, ip: IpAddr, named: bool) -> bool {
        if self.allow == AllowNetwork::Any {
            return true;
        }
        let inner = effective(ip);
        if self.nets.iter().any(|&(net, len)| within(ip, net, len) || within(inner, net, len)) {
            return true;
        }
        if is_link_local(inner) {
            return false;
        }
        !is_private(inner) || (named && self.allow == AllowNetwork::Named)
    }
}

/// Whether an address is outside the public internet; an address that carries an IPv4 address counts as that one.
#[must_use]
pub fn is_private(ip: IpAddr) -> bool {
    match effective(ip) {
        IpAddr::V4(v4) => PRIVATE_V4.iter().any(|&(net, len)| within_v4(v4, net, len)),
        IpAddr::V6(v6) => PRIVATE_V6.iter().any(|&(net, len)| within_v6(v6, net, len)),
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => within_v4(v4, LINK_LOCAL_V4.0, LINK_LOCAL_V4.1),
        IpAddr::V6(v6) => within_v6(v6, LINK_LOCAL_V6.0, LINK_LOCAL_V6.1),
    }
}

/// `ip`, or the IPv4 address inside it.
fn effective(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(v6) => inner_v4(v6).map_or(ip, IpAddr::V4),
        IpAddr::V4(_) => ip,
    }
}

/// The IPv4 address within a v4-mapped (`::ffff:0:0/96`), NAT64 (`64:ff9b::/96`, and the local `64:ff9b:1::/48`, RFC 6052
/// with its /96 form) or 6to4 (`2002::/16`, RFC 3056) address.
fn inner_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let pair = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match ip.segments() {
        [0, 0, 0, 0, 0, 0xffff, a, b] | [0x64, 0xff9b, 0, 0, 0, 0, a, b] | [0x64, 0xff9b, 1, _, _, _, a, b] | [0x2002, a, b, ..] => {
            Some(pair(a, b))
        }
        _ => None,
    }
}

/// A network given in v4-mapped form as the IPv4 network that it means.
fn widen(ip: IpAddr, len: u8) -> (IpAddr, u8) {
    match ip {
        IpAddr::V6(v6) if len >= 96 => v6.to_ipv4_mapped().map_or((ip, len), |v4| (IpAddr::V4(v4), len - 96)),
        _ => (ip, len),
    }
}

/// Whether `ip` lies in `net/len`; families never match each other.
#[must_use]
pub(super) fn within(ip: IpAddr, net: IpAddr, len: u8) -> bool {
    match (ip, net) {
        (IpAddr::V4(ip), IpAddr::V4(net)) => within_v4(ip, net, len),
        (IpAddr::V6(ip), IpAddr::V6(net)) => within_v6(ip, net, len),
        _ => false,
    }
}

fn within_v4(ip: Ipv4Addr, net: Ipv4Addr, len: u8) -> bool {
    let mask = u32::MAX.checked_shl(32 - u32::from(len.min(32))).unwrap_or(0);
    u32::from(ip) & mask == u32::from(net) & mask
}

fn within_v6(ip: Ipv6Addr, net: Ipv6Addr, len: u8) -> bool {
    let mask = u128::MAX.checked_shl(128 - u32::from(len.min(128))).unwrap_or(0);
    u128::from(ip) & mask == u128::from(net) & mask
}

#[cfg(test)]
mod tests {
    use super::*;
    use url::{Host, Url};

    fn named() -> Policy {
        Policy::default()
    }

    #[test]
    fn every_range_of_the_list_is_private_and_its_neighbours_are_not() {
        for (first, last) in [
            ("0.0.0.0", "0.255.255.255"),
            ("10.0.0.0", "10.255.255.255"),
            ("100.64.0.0", "100.127.255.255"),
            ("127.0.0.0", "127.255.255.255"),
            ("169.254.0.0", "169.254.255.255"),
            ("172.16.0.0", "172.31.255.255"),
            ("192.0.0.0", "192.0.0.255"),
            ("192.0.2.0", "192.0.2.255"),
            ("192.88.99.0", "192.88.99.255"),
            ("192.168.0.0", "192.168.255.255"),
            ("198.18.0.0", "198.19.255.255"),
            ("198.51.100.0", "198.51.100.255"),
            ("203.0.113.0", "203.0.113.255"),
            ("224.0.0.0", "239.255.255.255"),
            ("240.0.0.0", "255.255.255.255"),
            ("::", "::"),
            ("::1", "::1"),
            ("::2", "::ffff:ffff"),
            ("::ffff:0:0:0", "::ffff:0:ffff:ffff"),
            ("::ffff:127.0.0.1", "::ffff:127.0.0.1"),
            ("64:ff9b::10.0.0.1", "64:ff9b::10.0.0.1"),
            ("64:ff9b:1::192.168.0.1", "64:ff9b:1:ffff::192.168.0.1"),
            ("100::", "100::ffff:ffff:ffff:ffff"),
            ("2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("2001:db8::", "2001:db8:ffff::1"),
            ("2002:7f00:1::", "2002:7f00:1::ffff"),
            ("3fff::", "3fff:fff:ffff::1"),
            ("5f00::", "5f00:ffff::1"),
            ("fc00::", "fdff:ffff::1"),
            ("fe80::", "febf:ffff::1"),
            ("fec0::", "feff:ffff::1"),
            ("ff00::", "ffff::1"),
        ] {
            for ip in [first, last] {
                let ip: IpAddr = ip.parse().unwrap();
                assert!(is_private(ip), "{ip}");
                assert!(!named().allows(ip, false), "{ip}");
            }
        }
        for ip in [
            "1.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.0.3.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2002:808:808::1",
            "2001:200::1",
            "2001:db9::1",
            "2606:4700::1111",
            "3fff:1000::1",
        ] {
            let ip: IpAddr = ip.parse().unwrap();
            assert!(!is_private(ip), "{ip}");
            assert!(named().allows(ip, false), "{ip}");
        }
    }

    #[test]
    fn a_named_host_may_be_private_but_never_link_local() {
        let p = named();
        for ip in ["127.0.0.1", "10.1.2.3", "::1", "fd00::1"] {
            assert!(p.allows(ip.parse().unwrap(), true), "{ip}");
        }
        for ip in ["169.254.169.254", "fe80::1", "::ffff:169.254.169.254", "2002:a9fe:a9fe::1", "64:ff9b::a9fe:a9fe"] {
            assert!(!p.allows(ip.parse().unwrap(), true), "{ip}");
        }
        let p = Policy::new(&NetworkPlan { allow_net: vec![("169.254.169.254".parse().unwrap(), 32)], ..NetworkPlan::default() });
        assert!(p.allows("169.254.169.254".parse().unwrap(), false));
        assert!(!p.allows("169.254.169.253".parse().unwrap(), true));
    }

    #[test]
    fn public_needs_allow_net_and_any_checks_nothing() {
        let net = |allow| Policy::new(&NetworkPlan { allow, allow_net: vec![("127.0.0.0".parse().unwrap(), 8)], ..NetworkPlan::default() });
        let p = net(AllowNetwork::Public);
        assert!(p.allows("127.0.0.9".parse().unwrap(), false));
        assert!(p.allows("::ffff:127.0.0.9".parse().unwrap(), false));
        assert!(!p.allows("10.0.0.1".parse().unwrap(), true));
        assert!(net(AllowNetwork::Any).allows("169.254.169.254".parse().unwrap(), false));
    }

    #[test]
    fn odd_spellings_of_loopback_are_literals() {
        for text in [
            "http://0x7f.1/",
            "http://2130706433/",
            "http://017700000001/",
            "http://127.1/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:7f00:1]/",
            "http://127.0.0.1./",
            "http://\u{ff11}27.0.0.1/",
        ] {
            let ip = match Url::parse(text).unwrap().host() {
                Some(Host::Ipv4(ip)) => IpAddr::V4(ip),
                Some(Host::Ipv6(ip)) => IpAddr::V6(ip),
                other => panic!("{text}: {other:?}"),
            };
            assert!(!named().allows(ip, false), "{text}");
        }
    }
}
