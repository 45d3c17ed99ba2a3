//! Resolves host names with `/etc/hosts` and DNS, as `/etc/resolv.conf` says.
//!
//! It does not use the C library, which loads the modules of `/etc/nsswitch.conf`: in a static program, a module of another
//! version of the library ends the process.

use std::io;
use std::net::{IpAddr, SocketAddr};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::ResolverConfig;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use tokio::net::TcpStream;

/// A connection to a host, given by name or address.
///
/// # Errors
/// If the name is unknown, or no address accepts the connection.
pub async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return TcpStream::connect((address, port)).await;
    }
    let addresses: Vec<SocketAddr> =
        lookup(host).await?.into_iter().map(|address| SocketAddr::new(address, port)).collect();
    TcpStream::connect(addresses.as_slice()).await
}

/// The addresses of a name.
///
/// # Errors
/// If the name is unknown.
pub(super) async fn lookup(host: &str) -> io::Result<Vec<IpAddr>> {
    let found = resolver()?.lookup_ip(host).await.map_err(|error| {
        // The resolver's own message is hard to understand without knowledge of DNS.
        let why = if error.is_no_records_found() || error.is_nx_domain() {
            format!("neither /etc/hosts nor DNS knows the name {host}")
        } else {
            format!("the name {host} could not be looked up: {error}")
        };
        io::Error::new(io::ErrorKind::NotFound, why)
    })?;
    Ok(found.iter().collect())
}

fn resolver() -> io::Result<TokioResolver> {
    // Without /etc/resolv.conf there is no DNS; /etc/hosts is read all the same.
    let builder = TokioResolver::builder_tokio().unwrap_or_else(|_| {
        TokioResolver::builder_with_config(ResolverConfig::default(), TokioRuntimeProvider::default())
    });
    builder.build().map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_and_names_lead_to_who_listens() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in ["127.0.0.1", "localhost"] {
            let stream = connect(host, port).await.unwrap();
            assert_eq!(stream.peer_addr().unwrap().port(), port);
        }
    }

    #[tokio::test]
    async fn what_is_no_name_is_said_so() {
        let error = connect("two..dots", 1).await.unwrap_err();
        assert!(error.to_string().contains("the name two..dots could not be looked up"), "{error}");
    }
}
