//! Where the audit log is forwarded to, and how that is written.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// The forms that a target can have, for whoever has written another one.
const FORMS: &str = "must be tls://HOST:PORT, tcp://127.0.0.1:PORT, file:/PATH or journald:";

/// Where the audit log is forwarded to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForwardTarget {
    /// Syslog over TLS (RFC 5425).
    Tls {
        /// The receiver's name or address; its certificate must be for it.
        host: String,
        /// Its port.
        port: u16,
    },
    /// Syslog over TCP without TLS (RFC 6587), with octet counting: to this machine alone.
    Tcp(SocketAddr),
    /// A file, one JSON object a line.
    File(PathBuf),
    /// The journal of this machine, one JSON object an entry.
    Journald,
}

impl fmt::Display for ForwardTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ForwardTarget::Tls { host, port } if host.contains(':') => write!(f, "tls://[{host}]:{port}"),
            ForwardTarget::Tls { host, port } => write!(f, "tls://{host}:{port}"),
            ForwardTarget::Tcp(address) => write!(f, "tcp://{address}"),
            ForwardTarget::File(path) => write!(f, "file:{}", path.display()),
            ForwardTarget::Journald => f.write_str("journald:"),
        }
    }
}

impl FromStr for ForwardTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<ForwardTarget, String> {
        if let Some(rest) = text.strip_prefix("tls://") {
            let (host, port) = host_and_port(rest)?;
            return Ok(ForwardTarget::Tls { host, port });
        }
        if let Some(rest) = text.strip_prefix("tcp://") {
            let (host, port) = host_and_port(rest)?;
            let ip = if host == "localhost" { Ok(IpAddr::from([127, 0, 0, 1])) } else { host.parse::<IpAddr>() };
            return match ip {
                Ok(ip) if ip.is_loopback() => Ok(ForwardTarget::Tcp(SocketAddr::new(ip, port))),
                _ => Err(format!(
                    "must not send the audit log over the network without TLS: write tls://{rest}, or tcp:// with an \
                     address of this machine, for example tcp://127.0.0.1:{port}"
                )),
            };
        }
        if let Some(path) = text.strip_prefix("file:") {
            // file:///var/log/x is the same as file:/var/log/x.
            let path = path.strip_prefix("//").unwrap_or(path);
            let is_file = path.starts_with('/') && !path.ends_with('/') && !path.contains('\0');
            return match is_file {
                true => Ok(ForwardTarget::File(PathBuf::from(path))),
                false => {
                    Err("must name a file by its whole path, for example file:/var/log/academy-rt/audit.jsonl"
                        .to_owned())
                }
            };
        }
        match text {
            "journald:" | "journald" => Ok(ForwardTarget::Journald),
            _ => Err(FORMS.to_owned()),
        }
    }
}

fn host_and_port(text: &str) -> Result<(String, u16), String> {
    let wrong = || format!("{FORMS}; '{text}' is no HOST:PORT");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = Some(port).filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    let port = port.and_then(|port| port.parse::<u16>().ok()).filter(|port| *port != 0).ok_or_else(wrong)?;
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) if address.parse::<std::net::Ipv6Addr>().is_ok() => address,
        Some(_) => return Err(wrong()),
        None => host,
    };
    let is_v6 = host.parse::<std::net::Ipv6Addr>().is_ok();
    let is_name = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    if is_v6 || is_name { Ok((host.to_owned(), port)) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_reads_back_as_it_is_written() {
        for text in [
            "tls://siem.example.org:6514",
            "tls://[2001:db8::1]:6514",
            "tcp://127.0.0.1:514",
            "file:/var/log/a.jsonl",
            "journald:",
        ] {
            assert_eq!(text.parse::<ForwardTarget>().unwrap().to_string(), text);
        }
        assert_eq!("tcp://localhost:514".parse::<ForwardTarget>().unwrap().to_string(), "tcp://127.0.0.1:514");
        assert_eq!("file:///a".parse::<ForwardTarget>().unwrap().to_string(), "file:/a");
    }

    #[test]
    fn what_is_no_target_is_refused_with_words() {
        for (text, says) in [
            ("siem.example.org:6514", "must be tls://HOST:PORT"),
            ("udp://siem.example.org:514", "must be tls://HOST:PORT"),
            ("tls://siem.example.org", "no HOST:PORT"),
            ("tls://siem.example.org:0", "no HOST:PORT"),
            ("tls://user@siem.example.org:6514", "no HOST:PORT"),
            ("tls://siem.example.org:6514/x", "no HOST:PORT"),
            ("tcp://10.0.0.5:514", "without TLS: write tls://10.0.0.5:514"),
            ("tcp://siem.example.org:514", "without TLS"),
            ("file:audit.jsonl", "whole path"),
            ("file:/var/log/", "whole path"),
        ] {
            let error = text.parse::<ForwardTarget>().unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
