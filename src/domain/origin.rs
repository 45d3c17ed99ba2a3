//! The origin of a page (RFC 6454) in one spelling, so that two are compared by what they are.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// The schemes of the pages that are served over HTTP, with their default ports.
const HTTP: [(&str, u16); 2] = [("https", 443), ("http", 80)];
/// Those of the pages that are packed into an app.
const APPS: [&str; 3] = ["capacitor", "ionic", "tauri"];
/// A name in DNS has 253 characters at most.
const MOST_CHARS: usize = 300;

/// An origin: scheme and host in lower case, the host in punycode and without a dot at its end, no default port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin(String);

impl Origin {
    /// Reads `SCHEME://HOST` or `SCHEME://HOST:PORT`. `None` for anything else: a path, a user, a pattern, `null`, another
    /// scheme.
    #[must_use]
    pub fn parse(text: &str) -> Option<Origin> {
        let (scheme, authority) = text.split_once("://").filter(|_| text.len() <= MOST_CHARS)?;
        let scheme = scheme.to_ascii_lowercase();
        if APPS.contains(&scheme.as_str()) {
            let (host, port) = host_and_port(authority)?;
            let port = port.map_or(String::new(), |port| format!(":{port}"));
            return Some(Origin(format!("{scheme}://{host}{port}")));
        }
        let (_, default) = HTTP.iter().find(|(known, _)| *known == scheme)?;
        let (host, port) = host_and_port(authority)?;
        let port = port.filter(|port| port != default).map_or(String::new(), |port| format!(":{port}"));
        Some(Origin(format!("{scheme}://{host}{port}")))
    }

    /// Whether it is the server's own, by the Host that it was asked for (RFC 9110, 7.2). A server that has TLS has no pages
    /// without it: whoever sits in between could make one.
    #[must_use]
    pub fn is_own(&self, host: &str, has_tls: bool) -> bool {
        let Some((scheme, _)) = self.0.split_once("://") else { return false };
        let may_be = scheme == "https" || (scheme == "http" && !has_tls);
        may_be && Origin::parse(&format!("{scheme}://{host}")).as_ref() == Some(self)
    }

    /// Whether it is one of this machine: `localhost`, a name below it, or a loopback address (RFC 6761, 6.3).
    #[must_use]
    pub fn is_of_this_machine(&self) -> bool {
        let Some((_, Some((host, _)))) =
            self.0.split_once("://").map(|(scheme, authority)| (scheme, host_and_port(authority)))
        else {
            return false;
        };
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        host == "localhost" || host.ends_with(".localhost") || address.is_ok_and(|address| address.is_loopback())
    }

    /// It, in its one spelling.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn host_and_port(authority: &str) -> Option<(String, Option<u16>)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (inside, port) = rest.split_once(']')?;
        let address: Ipv6Addr = inside.parse().ok()?;
        return Some((format!("[{address}]"), port_behind(port)?));
    }
    let (host, port) = match authority.find(':') {
        Some(at) => authority.split_at(at),
        None => (authority, ""),
    };
    // What a browser forbids in the host of a URL, and the star of a pattern.
    if host.contains(|char: char| char.is_ascii_control() || " #%/<>?@[\\]^|*,\"'`{}".contains(char)) {
        return None;
    }
    let host = idna::domain_to_ascii(host).ok()?;
    let host = host.strip_suffix('.').unwrap_or(&host);
    (!host.is_empty()).then_some(())?;
    Some((host.to_owned(), port_behind(port)?))
}

/// What stands behind a host: nothing, or a colon and a port.
fn port_behind(text: &str) -> Option<Option<u16>> {
    let Some(digits) = text.strip_prefix(':') else { return text.is_empty().then_some(None) };
    let is_number = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    is_number.then(|| digits.parse().ok())?.map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelt(text: &str) -> Option<String> {
        Origin::parse(text).map(|origin| origin.to_string())
    }

    #[test]
    fn an_origin_has_one_spelling() {
        for (text, one) in [
            ("https://Portal.Example.CA", "https://portal.example.ca"),
            ("HTTPS://portal.example.ca:443", "https://portal.example.ca"),
            ("https://portal.example.ca.", "https://portal.example.ca"),
            ("http://portal.example.ca:80", "http://portal.example.ca"),
            ("http://portal.example.ca:443", "http://portal.example.ca:443"),
            ("https://portal.example.ca:8443", "https://portal.example.ca:8443"),
            ("https://école.example", "https://xn--cole-9oa.example"),
            ("https://ÉCOLE.example", "https://xn--cole-9oa.example"),
            ("https://[2001:DB8:0::1]:443", "https://[2001:db8::1]"),
            ("https://under_score.example", "https://under_score.example"),
            ("capacitor://localhost", "capacitor://localhost"),
            ("Tauri://localhost", "tauri://localhost"),
            ("ionic://localhost:8080", "ionic://localhost:8080"),
        ] {
            assert_eq!(spelt(text).as_deref(), Some(one), "{text}");
            assert_eq!(spelt(one).as_deref(), Some(one), "{one} is its own spelling");
        }
        for text in [
            "",
            "*",
            "null",
            "https://",
            "https://*",
            "https://*.example.ca",
            "https://portal.example.ca/",
            "portal.example.ca",
            "https://a.example@evil.example",
            "https://a.example https://b.example",
            "https://a.example,https://b.example",
            "https://a.example:",
            "https://a.example:x",
            "https://a.example:99999",
            "https://a.example:+1",
            "https://[::1",
            "https://[x]",
            "https://.",
            "https://a.example?x",
            "https://a.example#x",
            "https://a%2eexample",
            "file://",
            "file://localhost",
            "data:",
            "javascript://a.example",
            "ftp://a.example",
            "https://a\u{0}b",
            "https://a.example\n",
        ] {
            assert_eq!(spelt(text), None, "{text}");
        }
    }

    #[test]
    fn an_origin_is_the_servers_own_by_name_and_scheme() {
        let is_own =
            |origin: &str, host, has_tls| Origin::parse(origin).is_some_and(|origin| origin.is_own(host, has_tls));
        assert!(is_own("https://rt.example.ca", "rt.example.ca", true));
        assert!(is_own("https://rt.example.ca", "rt.example.ca:443", true), "a client may write the default port");
        assert!(is_own("https://rt.example.ca", "RT.example.ca.", true));
        assert!(is_own("https://RT.example.ca:8443", "rt.example.ca:8443", true));
        assert!(is_own("http://127.0.0.1:8080", "127.0.0.1:8080", false));
        assert!(is_own("http://[::1]:8080", "[0:0::1]:8080", false));
        assert!(is_own("https://rt.example.ca", "rt.example.ca", false), "a proxy in front has TLS");
        assert!(!is_own("http://rt.example.ca", "rt.example.ca", true), "somebody in between has made it");
        assert!(!is_own("http://rt.example.ca", "rt.example.ca:443", false));
        for (origin, host) in [
            ("https://rt.example.ca.evil.example", "rt.example.ca"),
            ("https://rt.example.ca:8443", "rt.example.ca"),
            ("https://", ""),
            ("://rt.example.ca", "rt.example.ca"),
            ("file://rt.example.ca", "rt.example.ca"),
            ("capacitor://localhost", "localhost"),
            ("javascript://rt.example.ca", "rt.example.ca"),
            ("null", "null"),
            ("rt.example.ca", "rt.example.ca"),
        ] {
            assert!(!is_own(origin, host, false), "{origin} {host}");
        }
    }
}
