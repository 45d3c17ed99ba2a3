//! Where a request came from, in the extensions of the request: what the outer service knows of the connection, for the
//! audit log and for who is let in.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use crate::domain::UserId;
use crate::transport::memory::Turn;

/// The request came over the control socket: whoever can open it is the administrator. With the local user's number, if the
/// system says it.
#[derive(Debug, Clone, Copy)]
pub struct OverControlSocket(pub Option<u32>);

/// The request came from this address.
#[derive(Debug, Clone, Copy)]
pub struct ClientAddress(pub IpAddr);

/// Who has sent the request, once they have signed in, and the memory that is kept for the answer. The transport that looks at
/// the token writes it, and whoever counts the request reads it.
#[derive(Debug, Clone, Default)]
pub struct SignedIn(Arc<Noted>);

#[derive(Debug, Default)]
struct Noted {
    user: OnceLock<UserId>,
    answer: Mutex<Option<Turn>>,
}

impl SignedIn {
    /// The token was good, and this is who it is.
    pub fn note(&self, user: &UserId) {
        // A request has one sender; the first word stands.
        let _ = self.0.user.set(user.clone());
    }

    /// Who it is; `None` as long as nobody has signed in.
    #[must_use]
    pub fn user(&self) -> Option<&UserId> {
        self.0.user.get()
    }

    /// There is memory for the answer.
    pub fn keep_for_answer(&self, turn: Turn) {
        *self.0.answer.lock() = Some(turn);
    }

    /// The memory that was kept for the answer.
    #[must_use]
    pub fn take_answer(&self) -> Option<Turn> {
        self.0.answer.lock().take()
    }
}

/// What an address is counted as: itself, or with IPv6, of which a user has a whole /64, that network.
#[must_use]
pub fn network_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => {
                let [a, b, c, d, ..] = v6.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
        },
    }
}

/// Who is behind the proxy that has connected: the last address in `X-Forwarded-For` (of all its lines, in their order) that
/// no trusted proxy has. Without a list, the last one: what the proxy that connects has seen itself. `None` if there is no
/// such address; what is no address is passed over.
#[must_use]
pub fn forwarded_for<'a>(lines: impl Iterator<Item = &'a str>, trusted: &[IpAddr]) -> Option<IpAddr> {
    let addresses = lines.flat_map(|line| line.split(',')).filter_map(|text| text.trim().parse::<IpAddr>().ok());
    addresses.map(|address| address.to_canonical()).filter(|address| !trusted.contains(address)).last()
}

/// Whether the origin of a page (RFC 6454) is the server's own, by the Host that it was asked for (RFC 9110, 7.2). A server
/// that has TLS has no pages without it: whoever sits in between could make one.
#[must_use]
pub fn is_own(origin: &str, host: &str, has_tls: bool) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let may_be = scheme == "https" || (scheme == "http" && !has_tls);
    may_be && !authority.is_empty() && authority.eq_ignore_ascii_case(host)
}

/// In words.
#[must_use]
pub fn describe(control: Option<OverControlSocket>, address: Option<ClientAddress>) -> String {
    match (control, address) {
        (Some(OverControlSocket(Some(user))), _) => format!("control socket, local user {user}"),
        (Some(OverControlSocket(None)), _) => "control socket".to_owned(),
        (None, Some(ClientAddress(address))) => address.to_string(),
        (None, None) => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn who_is_behind_a_proxy_is_what_the_trusted_ones_have_seen() {
        let forwarded = |lines: &[&str], trusted: &[&str]| {
            let trusted: Vec<IpAddr> = trusted.iter().map(|text| address(text)).collect();
            forwarded_for(lines.iter().copied(), &trusted).map(|found| found.to_string())
        };
        let seen = |text: &str| Some(text.to_owned());
        assert_eq!(forwarded(&["6.6.6.6, 203.0.113.9"], &[]), seen("203.0.113.9"), "the first is what a client claims");
        assert_eq!(forwarded(&["6.6.6.6", "203.0.113.9"], &[]), seen("203.0.113.9"));
        assert_eq!(forwarded(&["6.6.6.6, 203.0.113.9, 10.0.0.2"], &["10.0.0.2", "10.0.0.1"]), seen("203.0.113.9"));
        assert_eq!(forwarded(&["10.0.0.2, 10.0.0.1"], &["10.0.0.2", "10.0.0.1"]), None);
        assert_eq!(forwarded(&["2001:db8::1 , unknown, \"[::1]\""], &[]), seen("2001:db8::1"));
        assert_eq!(forwarded(&["203.0.113.9, ::ffff:10.0.0.2"], &["10.0.0.2"]), seen("203.0.113.9"));
        assert_eq!(forwarded(&["", ",,", "nonsense"], &[]), None);
        assert_eq!(forwarded(&[], &[]), None);
    }

    #[test]
    fn an_origin_is_the_servers_own_by_name_and_scheme() {
        assert!(is_own("https://rt.example.ca", "rt.example.ca", true));
        assert!(is_own("https://RT.example.ca:8443", "rt.example.ca:8443", true));
        assert!(is_own("http://127.0.0.1:8080", "127.0.0.1:8080", false));
        assert!(is_own("https://rt.example.ca", "rt.example.ca", false), "a proxy in front has TLS");
        assert!(!is_own("http://rt.example.ca", "rt.example.ca", true), "somebody in between has made it");
        for (origin, host) in [
            ("https://rt.example.ca.evil.example", "rt.example.ca"),
            ("https://rt.example.ca:8443", "rt.example.ca"),
            ("https://", ""),
            ("://rt.example.ca", "rt.example.ca"),
            ("file://rt.example.ca", "rt.example.ca"),
            ("javascript://rt.example.ca", "rt.example.ca"),
            ("null", "null"),
            ("rt.example.ca", "rt.example.ca"),
        ] {
            assert!(!is_own(origin, host, false), "{origin} {host}");
        }
    }
}
