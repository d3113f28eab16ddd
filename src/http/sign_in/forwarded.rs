//! Where a request comes from when proxies stand between.
//!
//! A header is written by whoever likes to. Only what a trusted proxy (`http.trusted_proxies`) added is believed: from
//! the right of `X-Forwarded-For`, as long as the one that added an entry is trusted itself. Whoever is reached first that
//! is not, is the client. RFC 7239's `Forwarded` is not read: proxies write the other one unless told otherwise, and two
//! headers that contradict each other would be one more thing to get wrong.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderName};
use ipnet::IpNet;

use crate::limits::FORWARDED_HOPS_MAX;

pub(super) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The client's address, as far as it can be believed.
pub(super) fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut client = peer;
    // Several headers are one list; the nearest hop is the last of the last.
    let texts = headers.get_all(X_FORWARDED_FOR).iter().map(|value| value.to_str().unwrap_or_default());
    let mut hops: Vec<&str> = texts.flat_map(|text| text.split(',')).collect();
    for _ in 0..FORWARDED_HOPS_MAX {
        if !is_trusted(&client) {
            break;
        }
        // What can't be read ends the chain: the one that sent it is the last that we know.
        let Some(hop) = hops.pop().and_then(address) else { break };
        client = hop;
    }
    client
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    Some(bare.parse().ok().or_else(with_port)?.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn seen(peer: &str, headers: &[&str], trusted: &[&str]) -> String {
        let mut map = HeaderMap::new();
        for value in headers {
            map.append(X_FORWARDED_FOR, HeaderValue::from_str(value).unwrap());
        }
        let trusted: Vec<IpNet> = trusted.iter().map(|text| text.parse().unwrap()).collect();
        client(peer.parse().unwrap(), &map, &trusted).to_string()
    }

    #[test]
    fn nobody_is_believed_but_trusted_proxies() {
        assert_eq!(seen("192.0.2.9", &["198.51.100.1"], &[]), "192.0.2.9");
        assert_eq!(seen("192.0.2.9", &["198.51.100.1"], &["127.0.0.0/8"]), "192.0.2.9");
        assert_eq!(seen("127.0.0.1", &["198.51.100.1"], &["127.0.0.0/8"]), "198.51.100.1");
    }

    #[test]
    fn what_a_client_wrote_itself_stands_to_the_left_and_is_passed_over() {
        let proxies = ["127.0.0.0/8", "10.0.0.0/8", "fd00::/8"];
        assert_eq!(seen("127.0.0.1", &["1.1.1.1, 198.51.100.1"], &proxies), "198.51.100.1");
        assert_eq!(seen("127.0.0.1", &["1.1.1.1", "198.51.100.1, 10.0.0.3"], &proxies), "198.51.100.1");
        assert_eq!(seen("127.0.0.1", &["[2001:db8::1]:443, fd00::2"], &proxies), "2001:db8::1");
    }

    #[test]
    fn a_chain_that_ends_ends_at_the_last_that_is_known() {
        let proxies = ["127.0.0.0/8", "10.0.0.0/8"];
        assert_eq!(seen("127.0.0.1", &[], &proxies), "127.0.0.1");
        assert_eq!(seen("127.0.0.1", &["10.0.0.1"], &proxies), "10.0.0.1");
        for broken in ["", "unknown", "198.51.100.1, ", "198.51.100.1, _hidden", "1.2.3.4.5"] {
            assert_eq!(seen("127.0.0.1", &[broken], &proxies), "127.0.0.1", "{broken:?}");
        }
        let long = vec!["127.0.0.1"; 100_000].join(",");
        assert_eq!(seen("127.0.0.1", &[&long], &proxies), "127.0.0.1");
    }
}
