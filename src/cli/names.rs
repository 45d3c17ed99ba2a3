//! Names of servers to addresses, from `/etc/hosts` and by DNS as `/etc/resolv.conf` says.
//!
//! Not by the C library: it loads modules of the machine that `/etc/nsswitch.conf` names, and in our static program one of
//! another version of the library ends the process.

use std::io;
use std::net::{IpAddr, SocketAddr};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::ResolverConfig;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use tokio::net::TcpStream;

/// A connection to a host, given by name or address.
///
/// # Errors
/// If the name is not known, or nobody answers at any of its addresses.
pub async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return TcpStream::connect((address, port)).await;
    }
    let found = resolver()?.lookup_ip(host).await.map_err(|error| {
        // Its own words are for those who know DNS.
        let why = if error.is_no_records_found() || error.is_nx_domain() {
            format!("the name {host} is not known to /etc/hosts or DNS")
        } else {
            format!("the name {host} could not be looked up: {error}")
        };
        io::Error::new(io::ErrorKind::NotFound, why)
    })?;
    let addresses: Vec<SocketAddr> = found.iter().map(|address| SocketAddr::new(address, port)).collect();
    TcpStream::connect(addresses.as_slice()).await
}

fn resolver() -> io::Result<TokioResolver> {
    // Without /etc/resolv.conf there is no DNS; /etc/hosts is read all the same.
    let builder = TokioResolver::builder_tokio().unwrap_or_else(|_| {
        TokioResolver::builder_with_config(ResolverConfig::default(), TokioRuntimeProvider::default())
    });
    builder.build().map_err(io::Error::other)
}
