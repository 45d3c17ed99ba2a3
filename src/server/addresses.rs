//! Addresses and places: what the server listens on, and where it keeps things.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use tokio::net::{TcpListener, TcpSocket, UnixListener};

use crate::config::trusted_file::{Trust, Untrusted};
use crate::config::{Config, TlsMode};

use crate::domain::problem::Problem;
use crate::observability::local_person;

/// What is made in a directory with this bit has the group of the directory.
const SET_GROUP_ID: u32 = 0o2000;

/// Plain HTTP shows tokens to the network: it is for the machine itself, or for a proxy that terminates TLS.
pub(super) fn refuse_plain_http_outside(config: &Config, address: SocketAddr) -> Result<(), Problem> {
    if config.tls.mode == TlsMode::Off && !address.ip().is_loopback() && !config.server.behind_proxy {
        return Err(Problem::new(
            format!("plain HTTP is refused on {address}"),
            "tokens and messages would cross the network unencrypted",
            "Enable TLS, listen on 127.0.0.1, or set server.behind_proxy = true if a proxy in front terminates TLS.",
        ));
    }
    Ok(())
}

/// The same for all addresses that a server will listen on.
pub(super) fn refuse_plain_http(config: &Config, passed: &[std::net::TcpListener]) -> Result<(), Problem> {
    let addresses: Vec<SocketAddr> = passed.iter().filter_map(|listener| listener.local_addr().ok()).collect();
    let configured = [config.server.listen];
    let addresses = if addresses.is_empty() { configured.as_slice() } else { addresses.as_slice() };
    addresses.iter().try_for_each(|address| refuse_plain_http_outside(config, *address))
}

/// What `serve --dev` gives away is for this machine: whoever can reach it may have any token.
pub(super) fn refuse_dev_outside(config: &Config, passed: &[std::net::TcpListener]) -> Result<(), Problem> {
    let mut addresses: Vec<SocketAddr> = passed.iter().filter_map(|listener| listener.local_addr().ok()).collect();
    addresses.push(config.server.listen);
    let reached = addresses
        .iter()
        .find(|address| !address.ip().is_loopback())
        .map(|address| format!("it would listen on {address}"));
    let passed_on = config.server.behind_proxy || config.server.proxy_protocol;
    let why =
        reached.or_else(|| passed_on.then(|| "a proxy would pass others on to it (server.behind_proxy)".to_owned()));
    match why.filter(|_| config.is_dev) {
        None => Ok(()),
        Some(why) => Err(Problem::new(
            "serve --dev is for this machine alone",
            format!("{why}, and whoever reaches it may have a token of anybody"),
            "Leave out --dev, or listen on 127.0.0.1 without a proxy.",
        )),
    }
}

/// Makes the data directory, or takes the one that is there: one that nobody else can change or put another one in the place of.
pub(super) fn make_private_dir(path: &Path) -> Result<(), Problem> {
    let failed = |error: io::Error| {
        Problem::new(
            format!("the data directory {} cannot be used", path.display()),
            error,
            "Give another one with --data-dir, or make this one writable for the user that runs the server.",
        )
    };
    refuse_untrusted_dir(path, &Trust::own())?;
    if !path.exists() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
    }
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_dir() {
        return Err(failed(io::Error::new(io::ErrorKind::NotADirectory, "it is not a directory")));
    }
    Ok(())
}

/// Whoever can change the data directory, or what is above it, has the secret and the store.
pub(super) fn refuse_untrusted_dir(path: &Path, trust: &Trust) -> Result<(), Problem> {
    trust.check(path).map_err(|error| {
        let remedy = match error {
            // The data directory of the service, most often: nothing is wrong with it.
            Untrusted::Owner { uid, .. } if rustix::process::geteuid().is_root() => {
                let user = local_person::name_of(uid).unwrap_or_else(|| format!("'#{uid}'"));
                format!(
                    "If that is the user of the service, start the service (systemctl start academy-rt), or the server as that user \
                     (runuser -u {user} -- academy-rt serve ...). Otherwise check that the contents are still yours, and use another directory with \
                     --data-dir, or give this one to root: chown -R root {}.",
                    path.display()
                )
            }
            _ => format!("{} Or use another directory with --data-dir.", error.remedy()),
        };
        Problem::new(format!("the data directory {} cannot be used", path.display()), error, remedy)
    })
}

/// The sockets to listen on: those that the service manager has opened, else one of the configuration's address.
///
/// # Errors
/// Why an address cannot be had.
pub(super) async fn listeners(
    config: &Config,
    passed: Vec<std::net::TcpListener>,
) -> Result<Vec<TcpListener>, Problem> {
    if passed.is_empty() {
        return Ok(vec![bind(config.server.listen).await?]);
    }
    let taken = passed.into_iter().map(|listener| {
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    });
    taken.collect::<io::Result<_>>().map_err(|error| {
        Problem::new("a socket of the service manager cannot be used", error, "Check academy-rt.socket.")
    })
}

/// So many connections may wait to be accepted; the kernel makes no more of it than its `net.core.somaxconn` permits. One that
/// comes beyond them is not answered, and asks again a second later: a herd that returns at once must have its place.
const BACKLOG: u32 = 65_535;

pub(super) async fn bind(address: SocketAddr) -> Result<TcpListener, Problem> {
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A restart takes the port although connections of before still fade away on it.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listen().map_err(|error| refused(address, &error))
}

/// Why an address cannot be had, and what to do.
pub(super) fn refused(address: SocketAddr, error: &io::Error) -> Problem {
    let what = format!("cannot listen on {address}");
    match error.kind() {
        io::ErrorKind::AddrInUse => Problem::new(
            what,
            "another program listens on it",
            "Stop that program, or choose another port with --listen ADDR:PORT.",
        ),
        io::ErrorKind::PermissionDenied => Problem::new(
            what,
            "ports below 1024 are privileged",
            "Choose a port of 1024 or higher with --listen, or let systemd open the port.",
        ),
        io::ErrorKind::AddrNotAvailable => Problem::new(
            what,
            "this machine does not have that address",
            "Use an address of this machine, or 0.0.0.0 for all of them.",
        ),
        _ => Problem::new(what, error, "Choose another address with --listen ADDR:PORT."),
    }
}

/// The store's lock is held by now: a socket that is there already was left behind by a process that is gone.
pub(super) fn bind_control(path: &Path) -> Result<UnixListener, Problem> {
    let failed = |error: io::Error| {
        Problem::new(
            format!("the control socket {} cannot be created", path.display()),
            error,
            "Make its directory writable. If its path is longer than 107 bytes, choose a shorter --data-dir.",
        )
    };
    bind_local(path).map_err(failed)
}

fn bind_local(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

/// The socket of those who may only read, if an administrator has made its directory. The directory's set-group-ID bit gives the
/// socket its group: a server without privileges could not.
///
/// # Errors
/// Why there is none, although there is a directory.
pub(super) fn bind_readers(path: &Path) -> Result<Option<UnixListener>, Problem> {
    let Some(dir) = path.parent() else { return Ok(None) };
    let found = match std::fs::symlink_metadata(dir) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(no_readers(path, error)),
    };
    if !found.is_dir() {
        return Err(no_readers(path, format!("{} is no directory", dir.display())));
    }
    // Whoever can put another socket in its place can tell readers what they like.
    Trust::own().check(dir).map_err(|error| no_readers(path, error))?;
    if found.mode() & SET_GROUP_ID == 0 {
        let why = format!("{} has no set-group-ID bit, so that the socket would have another group", dir.display());
        return Err(no_readers(path, why));
    }
    bind_local(path).map(Some).map_err(|error| no_readers(path, error))
}

fn no_readers(path: &Path, why: impl ToString) -> Problem {
    Problem::new(
        format!("nobody can read over {}: it is not there", path.display()),
        why.to_string(),
        format!(
            "Give its directory to the user of the server and the group of the readers, with mode 2750: \
             install -d -m 2750 -o USER -g GROUP {}. With the packages: systemd-tmpfiles --create academy-rt.conf, then restart the service.",
            path.parent().unwrap_or(path).display()
        ),
    )
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn as_many_as_come_at_once_wait_to_be_accepted_and_none_of_them_sends_its_syn_again() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let most = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
        // Nobody accepts: whoever finds the queue full is not answered, and would wait for longer than this.
        let herd = most.trim().parse::<usize>().unwrap().min(400);
        let waiting = (0..herd).map(|_| TcpStream::connect_timeout(&address, Duration::from_secs(20)));
        let waiting: Vec<_> = waiting.take_while(Result::is_ok).collect();
        assert_eq!(waiting.len(), herd);
    }
}
