//! Host names and addresses as people write them, in the one spelling that certificates and DNS have: lower case, punycode
//! (RFC 5891), no dot at the end.

use std::net::IpAddr;

/// A name in DNS has 253 characters at most.
const MOST_CHARS: usize = 253;

/// A host in its one spelling; a star may stand for one whole first label of a name that has two more. An address of IPv6 has no
/// brackets.
///
/// # Errors
/// Why it is none, in words.
pub fn spelt(text: &str) -> Result<String, String> {
    let none = || format!("'{text}' is neither a host name nor an address");
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.to_string());
    }
    let (star, name) = match text.strip_prefix("*.") {
        Some(name) => ("*.", name),
        None => ("", text),
    };
    if name.contains('*') {
        return Err(format!("'{text}' has a * that is not its whole first label; write *.example.ca, or each name"));
    }
    let name = idna::domain_to_ascii(name).map_err(|_| none())?;
    let name = name.strip_suffix('.').unwrap_or(&name);
    let is_label = |label: &str| {
        let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (1..=63).contains(&label.len())
            && label.bytes().all(is_inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let labels: Vec<&str> = name.split('.').collect();
    // What ends in a number is an address, or a mistake in one.
    let is_number = labels.last().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    if name.len() > MOST_CHARS || is_number || !labels.iter().all(|label| is_label(label)) {
        return Err(none());
    }
    if !star.is_empty() && labels.len() < 2 {
        return Err(format!("'{text}' is for too much: no client takes a * for a name of two labels"));
    }
    Ok(format!("{star}{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_one_spelling() {
        for (text, one) in [
            ("rt.example.ca", "rt.example.ca"),
            ("RT.Example.CA.", "rt.example.ca"),
            ("école.example", "xn--cole-9oa.example"),
            ("ÉCOLE.example.", "xn--cole-9oa.example"),
            ("*.example.ca", "*.example.ca"),
            ("*.École.example.", "*.xn--cole-9oa.example"),
            ("RT-1", "rt-1"),
            ("under_score.example", "under_score.example"),
            ("192.0.2.7", "192.0.2.7"),
            ("2001:DB8:0::7", "2001:db8::7"),
        ] {
            assert_eq!(spelt(text).as_deref(), Ok(one), "{text}");
            assert_eq!(spelt(one).as_deref(), Ok(one), "{one} is its own spelling");
        }
        for text in [
            "",
            ".",
            "a..b",
            "a b",
            "https://x",
            "x:443",
            "-x",
            "x-.ca",
            "*",
            "*.",
            "*.ca",
            "a*.example.ca",
            "*.*.ca",
            "192.0.2",
            "192.0.2.7.8",
            "[::1]",
        ] {
            assert!(spelt(text).is_err(), "{text}");
        }
    }
}
