//! The PROXY protocol, versions 1 and 2: the line or the header that a proxy writes before the first byte of a connection,
//! with the address of who has connected to it.

use std::io;
use std::net::IpAddr;

use ppp::v1::Addresses as Addresses1;
use ppp::v2::{Addresses as Addresses2, Command};
use tokio::io::{AsyncRead, AsyncReadExt};

/// What a header of version 2 begins with, and a line of version 1.
const SIGNATURE: &[u8] = ppp::v2::PROTOCOL_PREFIX;
const LINE: &[u8] = b"PROXY ";
/// The head of a header of version 2, which says how much follows; a line of version 1 has more than that many bytes.
const HEAD: usize = SIGNATURE.len() + 4;
/// A line has no more bytes, and a header: addresses and what a proxy tells besides, for example of a certificate.
const MOST_LINE: usize = 107;
const MOST_HEADER: usize = 4_096;

/// Why a connection does not begin as it should.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// It begins with something else.
    #[error("it does not begin with a header of the PROXY protocol")]
    Missing,
    /// There is one, and it is broken.
    #[error("its header of the PROXY protocol is broken: {0}")]
    Broken(String),
    /// It is longer than anybody needs.
    #[error("its header of the PROXY protocol is longer than {MOST_HEADER} bytes")]
    TooLong,
    /// The connection ended.
    #[error("it ended within its header of the PROXY protocol: {0}")]
    Ended(#[from] io::Error),
}

/// Whether bytes at the beginning of a connection are those of the protocol, as far as they go.
#[must_use]
pub fn is_one(begin: &[u8]) -> bool {
    begin.starts_with(SIGNATURE) || begin.starts_with(LINE)
}

/// How many bytes more are needed at least; 0 if the header is whole. Nothing behind it is ever asked for.
///
/// # Errors
/// The bytes are not the beginning of a header.
pub fn wanted(read: &[u8]) -> Result<usize, ProxyError> {
    // The shortest line has 15 bytes, and the signature 12.
    let first = read.get(..SIGNATURE.len());
    let begin = first.unwrap_or(read);
    let is_header = begin == SIGNATURE || (first.is_none() && SIGNATURE.starts_with(begin));
    let is_line = begin.starts_with(LINE) || (first.is_none() && LINE.starts_with(begin));
    if !is_header && !is_line {
        return Err(ProxyError::Missing);
    }
    if first.is_none() {
        return Ok(SIGNATURE.len() - read.len());
    }
    if is_line {
        return match read.last() {
            Some(b'\n') => Ok(0),
            _ if read.len() >= MOST_LINE => Err(ProxyError::Broken("its line does not end".to_owned())),
            _ => Ok(1),
        };
    }
    let Some([.., high, low]) = read.get(..HEAD) else { return Ok(HEAD - read.len()) };
    let whole = HEAD + usize::from(u16::from_be_bytes([*high, *low]));
    if whole > MOST_HEADER {
        return Err(ProxyError::TooLong);
    }
    Ok(whole.saturating_sub(read.len()))
}

/// Who a whole header says has connected; `None` if it is the proxy itself (`LOCAL`, a check of health), or not an address of
/// the internet (`UNKNOWN`).
///
/// # Errors
/// It is broken.
pub fn source(header: &[u8]) -> Result<Option<IpAddr>, ProxyError> {
    let address = if header.starts_with(SIGNATURE) {
        let read = ppp::v2::Header::try_from(header).map_err(|error| ProxyError::Broken(error.to_string()))?;
        match (read.command, read.addresses) {
            (Command::Local, _) | (_, Addresses2::Unspecified | Addresses2::Unix(_)) => None,
            (Command::Proxy, Addresses2::IPv4(addresses)) => Some(IpAddr::V4(addresses.source_address)),
            (Command::Proxy, Addresses2::IPv6(addresses)) => Some(IpAddr::V6(addresses.source_address)),
        }
    } else {
        let read = ppp::v1::Header::try_from(header).map_err(|error| ProxyError::Broken(error.to_string()))?;
        match read.addresses {
            Addresses1::Unknown => None,
            Addresses1::Tcp4(addresses) => Some(IpAddr::V4(addresses.source_address)),
            Addresses1::Tcp6(addresses) => Some(IpAddr::V6(addresses.source_address)),
        }
    };
    Ok(address.map(|address| address.to_canonical()))
}

/// Reads the header, and not a byte behind it.
///
/// # Errors
/// There is none, or it is broken. Who calls bounds the time.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<IpAddr>, ProxyError> {
    let mut header = Vec::new();
    loop {
        let more = wanted(&header)?;
        if more == 0 {
            return source(&header);
        }
        let begin = header.len();
        header.resize(begin + more, 0);
        stream.read_exact(header.get_mut(begin..).unwrap_or_default()).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read, and what is left for who comes next.
    async fn read_all(bytes: &[u8]) -> (Result<Option<String>, String>, usize) {
        let mut rest = bytes;
        let read = read(&mut rest).await;
        (read.map(|found| found.map(|address| address.to_string())).map_err(|error| error.to_string()), rest.len())
    }

    fn header(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family], &length, payload].concat()
    }

    #[tokio::test]
    async fn a_header_says_who_it_is_and_what_follows_is_left_as_it_is() {
        let v4 = [203, 0, 113, 9, 10, 0, 0, 1, 0xc3, 0x50, 0x01, 0xbb];
        let mapped: Vec<u8> = [[0; 10].as_slice(), &[255, 255, 203, 0, 113, 9], &[0; 16], &[0, 1, 0, 2]].concat();
        let with_more = [v4.as_slice(), &[0x02, 0, 3, b'a', b'b', b'c']].concat();
        for (bytes, who) in [
            (b"PROXY TCP4 203.0.113.9 10.0.0.1 50000 443\r\n".to_vec(), Some("203.0.113.9")),
            (b"PROXY TCP6 2001:db8::9 2001:db8::1 50000 443\r\n".to_vec(), Some("2001:db8::9")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), None),
            (header(0x21, 0x11, &v4), Some("203.0.113.9")),
            (header(0x21, 0x11, &with_more), Some("203.0.113.9")),
            (header(0x21, 0x21, &mapped), Some("203.0.113.9")),
            (header(0x20, 0x00, &[]), None),
            (header(0x20, 0x11, &v4), None),
            (header(0x21, 0x31, &[0; 216]), None),
        ] {
            let behind = [bytes.as_slice(), b"GET / HTTP/1.1\r\n"].concat();
            let (read, left) = read_all(&behind).await;
            assert_eq!((read, left), (Ok(who.map(str::to_owned)), 16), "{}", String::from_utf8_lossy(&bytes));
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused_at_its_first_bytes() {
        for (bytes, says) in [
            (b"GET /healthz HTTP/1.1\r\n\r\n".to_vec(), "does not begin with"),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00".to_vec(), "does not begin with"),
            (b"proxy TCP4 1.1.1.1 2.2.2.2 1 2\r\n".to_vec(), "does not begin with"),
            (b"PROXY TCP4 1.1.1.1\r\n".to_vec(), "is broken"),
            (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 99999\r\n".to_vec(), "is broken"),
            (b"PROXY TCP4 evil 2.2.2.2 1 2\r\n".to_vec(), "is broken"),
            ([LINE, &[b'x'; 500]].concat(), "its line does not end"),
            (header(0x21, 0x11, &[1, 2, 3]), "is broken"),
            (header(0x31, 0x11, &[0; 12]), "is broken"),
            (header(0x21, 0x11, &[0; 5_000]), "longer than"),
            (b"PROXY TCP4 1.1.".to_vec(), "ended within"),
            (Vec::new(), "ended within"),
        ] {
            let (read, _) = read_all(&bytes).await;
            let error = read.expect_err(&String::from_utf8_lossy(&bytes));
            assert!(error.contains(says), "{error}: {}", String::from_utf8_lossy(&bytes));
        }
        assert!(is_one(SIGNATURE) && is_one(b"PROXY TCP4") && !is_one(b"GET / HTTP/1") && !is_one(b"PROX"));
    }
}
