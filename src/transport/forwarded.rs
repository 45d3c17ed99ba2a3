//! Who is behind a proxy, by the header that it writes: `X-Forwarded-For`, or `Forwarded` (RFC 7239). Both are read from the
//! right, where the proxies that are trusted have written; what a client has written stands left of that.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::ForwardedHeader;

/// Whether an address is one of the proxies. Without a list, those on this machine are.
#[must_use]
pub fn is_trusted(address: &IpAddr, trusted: &[IpNet]) -> bool {
    if trusted.is_empty() { address.is_loopback() } else { trusted.iter().any(|net| net.contains(address)) }
}

/// A network as it is written in a configuration: an address alone without the length of its prefix.
#[must_use]
pub fn spelt(net: &IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() }
}

/// The list of trusted proxies with one more, as it is written in a configuration.
#[must_use]
pub fn list_with(trusted: &[IpNet], more: &str) -> String {
    let mut all: Vec<String> = trusted.iter().map(spelt).collect();
    all.push(more.to_owned());
    format!("trusted_proxies = {all:?}")
}

/// Who is behind the trusted proxy that has connected from `direct`: the first address from the right that no trusted proxy
/// has. What is no address ends the search at the proxy that has written it; if all are trusted, it is the leftmost.
/// `lines` are the values of the header in their order.
#[must_use]
pub fn client_of<'a>(
    direct: IpAddr,
    header: ForwardedHeader,
    lines: impl DoubleEndedIterator<Item = &'a [u8]>,
    is_trusted: impl Fn(&IpAddr) -> bool,
) -> IpAddr {
    let mut hop = direct;
    for line in lines.rev() {
        // Bytes that are no text are nobody's address.
        let Ok(line) = std::str::from_utf8(line) else { return hop };
        for element in FromRight::new(line, ',').map(str::trim) {
            // An empty element of a list means nothing (RFC 9110, 5.6.1).
            if element.is_empty() {
                continue;
            }
            let written = match header {
                ForwardedHeader::XForwardedFor => address(unquoted(element)),
                ForwardedHeader::Forwarded => node(element),
            };
            let Some(written) = written else { return hop };
            if !is_trusted(&written) {
                return written;
            }
            hop = written;
        }
    }
    hop
}

/// The parts of a text between separators that are not inside quotes, the last one first: a quote that a client has left open
/// is left of what the proxies have added, and changes nothing there.
struct FromRight<'a> {
    rest: Option<&'a str>,
    separator: char,
}

impl<'a> FromRight<'a> {
    fn new(text: &'a str, separator: char) -> FromRight<'a> {
        FromRight { rest: Some(text), separator }
    }
}

impl<'a> Iterator for FromRight<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let rest = self.rest?;
        let mut is_quoted = false;
        for (at, char) in rest.char_indices().rev() {
            if char == '"' {
                is_quoted = !is_quoted;
            } else if char == self.separator && !is_quoted {
                self.rest = rest.get(..at);
                return rest.get(at + char.len_utf8()..);
            }
        }
        self.rest = None;
        Some(rest)
    }
}

/// The address in the `for` of an element of `Forwarded`.
fn node(element: &str) -> Option<IpAddr> {
    let mut found = None;
    for pair in FromRight::new(element, ';') {
        let (name, value) = pair.split_once('=')?;
        if name.trim().eq_ignore_ascii_case("for") {
            // Two of them are none: it is not known which one a proxy has meant.
            if found.replace(value.trim()).is_some() {
                return None;
            }
        }
    }
    address(unquoted(found?))
}

fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}

/// An address, with a port or without one: `10.0.0.1`, `10.0.0.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
fn address(text: &str) -> Option<IpAddr> {
    let address = if let Some(rest) = text.strip_prefix('[') {
        let (inside, port) = rest.split_once(']')?;
        let is_whole = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        IpAddr::V6(is_whole.then(|| inside.parse().ok())??)
    } else if let Ok(address) = text.parse() {
        address
    } else {
        let (host, port) = text.rsplit_once(':')?;
        IpAddr::V4(is_port(port).then(|| host.parse().ok())??)
    };
    Some(address.to_canonical())
}

/// A port, or a word that stands for one (RFC 7239, 6.2).
fn is_port(text: &str) -> bool {
    match text.strip_prefix('_') {
        Some(word) => {
            !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        }
        None => (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIRECT: &str = "10.0.0.1";

    fn seen(header: ForwardedHeader, lines: &[&str]) -> String {
        let trusted: Vec<IpNet> = ["10.0.0.0/8", "2001:db8:ffff::/48"].map(|net| net.parse().unwrap()).to_vec();
        let lines = lines.iter().map(|line| line.as_bytes());
        client_of(DIRECT.parse().unwrap(), header, lines, |address| is_trusted(address, &trusted)).to_string()
    }

    #[test]
    fn without_a_list_this_machine_is_trusted_alone() {
        let is = |text: &str, trusted: &[&str]| {
            let trusted: Vec<IpNet> = trusted.iter().map(|net| net.parse().unwrap()).collect();
            is_trusted(&text.parse().unwrap(), &trusted)
        };
        assert!(is("127.0.0.1", &[]) && is("127.9.9.9", &[]) && is("::1", &[]));
        assert!(!is("10.0.0.1", &[]) && !is("2001:db8::1", &[]));
        assert!(is("10.1.2.3", &["10.0.0.0/8"]) && !is("127.0.0.1", &["10.0.0.0/8"]));
        assert!(is("2001:db8::1", &["10.0.0.0/8", "2001:db8::/32"]) && !is("2001:db9::1", &["2001:db8::/32"]));
    }

    #[test]
    fn who_is_behind_a_proxy_is_what_the_trusted_ones_have_seen() {
        let seen = |lines: &[&str]| seen(ForwardedHeader::XForwardedFor, lines);
        assert_eq!(seen(&["6.6.6.6, 203.0.113.9"]), "203.0.113.9", "the first is what a client claims");
        assert_eq!(seen(&["6.6.6.6", "203.0.113.9"]), "203.0.113.9");
        assert_eq!(seen(&["6.6.6.6, 203.0.113.9, 10.0.0.2"]), "203.0.113.9");
        assert_eq!(seen(&["203.0.113.9:50123"]), "203.0.113.9");
        assert_eq!(seen(&["2001:db8::1"]), "2001:db8::1");
        assert_eq!(seen(&["[2001:db8::1]:50123, [2001:db8:ffff::2]"]), "2001:db8::1");
        assert_eq!(seen(&["\"[2001:db8::1]\""]), "2001:db8::1");
        assert_eq!(seen(&["203.0.113.9, ::ffff:10.0.0.2"]), "203.0.113.9");
        // What is no address ends the search at the proxy right of it.
        assert_eq!(seen(&["203.0.113.9, unknown"]), DIRECT);
        assert_eq!(seen(&["203.0.113.9, unknown, 10.0.0.3, 10.0.0.2"]), "10.0.0.3");
        for nonsense in [
            "nonsense",
            "203.0.113.9:",
            "203.0.113.9:x",
            "[::1",
            "[::1]x",
            "fe80::1%eth0",
            "1.2.3",
            "203.0.113.9 10.0.0.2",
            "_hidden",
        ] {
            assert_eq!(seen(&[&format!("203.0.113.9, {nonsense}")]), DIRECT, "{nonsense}");
        }
        // All are trusted: the leftmost.
        assert_eq!(seen(&["10.0.0.3, 10.0.0.2"]), "10.0.0.3");
        assert_eq!(seen(&["", ",, ,"]), DIRECT);
        assert_eq!(seen(&["203.0.113.9,, "]), "203.0.113.9");
        assert_eq!(seen(&[]), DIRECT);
    }

    #[test]
    fn forwarded_is_read_as_rfc_7239_has_it() {
        let seen = |lines: &[&str]| seen(ForwardedHeader::Forwarded, lines);
        assert_eq!(seen(&["for=192.0.2.60;proto=http;by=203.0.113.43"]), "192.0.2.60");
        assert_eq!(seen(&["For=\"[2001:db8:cafe::17]:4711\""]), "2001:db8:cafe::17");
        assert_eq!(seen(&["proto=https; FOR = \"192.0.2.43:47011\" ;host=\"a,b;c\", for=10.0.0.2"]), "192.0.2.43");
        assert_eq!(seen(&["for=\"192.0.2.43:_port\"", "for=\"[2001:db8:ffff::1]\""]), "192.0.2.43");
        assert_eq!(seen(&["for=6.6.6.6, for=192.0.2.43"]), "192.0.2.43");
        for nonsense in [
            "for=unknown",
            "for=_gazonk",
            "proto=https",
            "for=1.1.1.1;for=2.2.2.2",
            "for",
            "",
            "for=",
            "for=\"1.1.1.1",
            "192.0.2.43",
        ] {
            assert_eq!(seen(&[&format!("for=192.0.2.43, proto=http;{nonsense}")]), DIRECT, "{nonsense}");
        }
        // A quote that a client has left open swallows nothing.
        assert_eq!(seen(&["for=\"6.6.6.6, for=192.0.2.43"]), "192.0.2.43");
    }

    proptest! {
        #[test]
        fn whatever_a_client_writes_the_proxies_say_where_it_is(
            claim in "\\PC{0,60}", is_one_line: bool, client: [u8; 4], hops in prop::collection::vec(any::<u16>(), 0..4), port: Option<u16>,
        ) {
            let client = IpAddr::from(client);
            prop_assume!(!client.is_loopback() && !client.to_string().starts_with("10."));
            let port = port.map_or(String::new(), |port| format!(":{port}"));
            for header in [ForwardedHeader::XForwardedFor, ForwardedHeader::Forwarded] {
                let written = |address: String| match header {
                    ForwardedHeader::XForwardedFor => format!("{address}{port}"),
                    ForwardedHeader::Forwarded => format!("proto=https;for=\"{address}{port}\""),
                };
                let mut added = vec![written(client.to_string())];
                added.extend(hops.iter().map(|hop| written(format!("10.0.{}.{}", hop >> 8, hop & 255))));
                let added = added.join(", ");
                let line = format!("{claim}, {added}");
                let lines: Vec<&str> = if is_one_line { vec![&line] } else { vec![&claim, &added] };
                prop_assert_eq!(seen(header, &lines), client.to_string());
            }
        }
    }
}
