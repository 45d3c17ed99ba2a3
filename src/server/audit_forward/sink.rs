//! Where records of the audit log go: a receiver of syslog over TLS or TCP, a file, or the journal. What each of them takes is
//! known at different times, which is said here.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixDatagram};
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;

use crate::config::{Audit, ForwardTarget};
use crate::domain::audit::AuditRecord;
use crate::domain::problem::Problem;

use crate::server::audit_forward::format;
use crate::server::dns;
use crate::server::tls::outgoing;

/// A connection is made within this, with its TLS.
const CONNECT: Duration = Duration::from_secs(10);
/// A page is taken within this.
const SEND: Duration = Duration::from_secs(30);
/// A connection whose other end does not say that it has received what was sent is ended by the kernel after so long.
pub(super) const UNHEARD: Duration = Duration::from_secs(10);
/// Where the journal listens.
const JOURNAL: &str = "/run/systemd/journal/socket";
/// So much of a file is looked at for the end of its last whole line.
const TAIL: u64 = 1 << 20;

pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Where records go.
pub(super) enum Sink {
    /// A connection: what is sent on it is known to be taken when it has lived on for a while, or was closed in order.
    Connection { stream: Box<dyn Stream>, host: String },
    /// A file: what is synced is taken. It is opened for each page, so that a rotated one needs no signal. A write that hangs
    /// keeps the lock, so that there is never a second one.
    File { path: PathBuf, lock: Arc<Mutex<()>> },
    /// The journal: what its socket accepts is taken.
    Journal(UnixDatagram),
}

impl Sink {
    /// Opens it.
    ///
    /// # Errors
    /// Why it cannot be reached, and what to do.
    pub(super) async fn open(target: &ForwardTarget, audit: &Audit, lock: &Arc<Mutex<()>>) -> Result<Sink, Problem> {
        match target {
            ForwardTarget::Tls { host, port } => {
                let files = audit.clone();
                let client = tokio::task::spawn_blocking(move || tls_client(&files)).await;
                let client = client.map_err(|error| unreachable(target, error))??;
                let connected = async {
                    let stream = connected(dns::connect(host, *port).await?)?;
                    let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
                    TlsConnector::from(client).connect(name, stream).await
                };
                Ok(Sink::over(in_time(CONNECT, connected).await.map_err(|error| unreachable(target, error))?))
            }
            ForwardTarget::Tcp(address) => {
                let opened = in_time(CONNECT, async { connected(TcpStream::connect(address).await?) }).await;
                Ok(Sink::over(opened.map_err(|error| unreachable(target, error))?))
            }
            ForwardTarget::File(path) => Ok(Sink::File { path: path.clone(), lock: lock.clone() }),
            ForwardTarget::Journald => {
                let opened = UnixDatagram::unbound().and_then(|socket| socket.connect(JOURNAL).map(|()| socket));
                opened.map(Sink::Journal).map_err(|error| unreachable(target, error))
            }
        }
    }

    fn over(stream: impl Stream + 'static) -> Sink {
        Sink::Connection { stream: Box::new(stream), host: format::host_name() }
    }

    /// Whether what was sent is not known to be taken at once.
    pub(super) fn is_connection(&self) -> bool {
        matches!(self, Sink::Connection { .. })
    }

    /// Sends a page.
    ///
    /// # Errors
    /// Why not; some of it may have arrived.
    pub(super) async fn send(&mut self, records: &[AuditRecord]) -> io::Result<()> {
        match self {
            Sink::Connection { stream, host } => {
                let bytes: Vec<u8> = records.iter().flat_map(|record| format::syslog(record, host)).collect();
                in_time(SEND, async {
                    stream.write_all(&bytes).await?;
                    stream.flush().await
                })
                .await
            }
            Sink::File { path, lock } => {
                let mut lines = String::new();
                for record in records {
                    lines.push_str(&format::json(record)?);
                    lines.push('\n');
                }
                let hangs = || io::Error::new(io::ErrorKind::WouldBlock, "an earlier write has not come back yet");
                let turn = lock.clone().try_lock_owned().map_err(|_| hangs())?;
                let path = path.clone();
                let written = tokio::task::spawn_blocking(move || {
                    let written = append(&path, lines.as_bytes());
                    drop(turn);
                    written
                });
                in_time(SEND, async { written.await.map_err(io::Error::other)? }).await
            }
            Sink::Journal(socket) => {
                for record in records {
                    let entry = format::journal(record)?;
                    in_time(SEND, async { socket.send(entry.as_bytes()).await }).await?;
                }
                Ok(())
            }
        }
    }

    /// Resolves when the other end has gone; never for what has no connection. It may be given up and called again.
    pub(super) async fn gone(&mut self) -> io::Error {
        let Sink::Connection { stream, .. } = self else { return std::future::pending().await };
        let mut answer = [0; 256];
        loop {
            match stream.read(&mut answer).await {
                Ok(0) => return io::Error::new(io::ErrorKind::UnexpectedEof, "the receiver has closed the connection"),
                // A receiver of syslog has nothing to say.
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    }

    /// Closes a connection in order. `true` if the other end has then closed its own: it has read all that was sent.
    pub(super) async fn close(&mut self) -> bool {
        let Sink::Connection { stream, .. } = self else { return true };
        if stream.shutdown().await.is_err() {
            return false;
        }
        let mut answer = [0; 256];
        loop {
            match stream.read(&mut answer).await {
                Ok(0) => return true,
                Ok(_) => {}
                // It has read all and closed without the farewell of TLS.
                Err(error) => return error.kind() == io::ErrorKind::UnexpectedEof,
            }
        }
    }
}

fn connected(stream: TcpStream) -> io::Result<TcpStream> {
    let millis = u32::try_from(UNHEARD.as_millis()).unwrap_or(u32::MAX);
    rustix::net::sockopt::set_tcp_user_timeout(&stream, millis)?;
    rustix::net::sockopt::set_socket_keepalive(&stream, true)?;
    rustix::net::sockopt::set_tcp_keepidle(&stream, Duration::from_secs(15))?;
    rustix::net::sockopt::set_tcp_keepintvl(&stream, Duration::from_secs(5))?;
    Ok(stream)
}

async fn in_time<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("nothing happened for {} s", limit.as_secs())))
    })
}

fn unreachable(target: &ForwardTarget, error: impl ToString) -> Problem {
    let remedy = match target {
        ForwardTarget::Tls { .. } => {
            "Check that the receiver runs, that the firewall lets this machine through, and that the receiver's certificate \
             is for the host in audit.forward and signed by an authority in audit.forward_ca."
        }
        ForwardTarget::Tcp(_) => "Check that the receiver runs and listens there.",
        ForwardTarget::File(_) => {
            "Check that the directory is there, that the user of the server may write to it, and that its disk has space."
        }
        ForwardTarget::Journald => "Check that systemd-journald runs.",
    };
    Problem::new(format!("the audit log cannot be forwarded to {target}"), error, remedy)
}

/// What a failure of a target is told as.
pub(super) fn failed(target: &ForwardTarget, error: &io::Error) -> Problem {
    unreachable(target, error)
}

/// What does TLS with the receiver: the authorities that it is checked by, and the client certificate. Reads files.
///
/// # Errors
/// Which file cannot be used, and why.
pub(super) fn tls_client(audit: &Audit) -> Result<Arc<ClientConfig>, Problem> {
    let roots = outgoing::configured_roots(audit.forward_ca.as_deref(), "audit.forward_ca", "the receiver's")?;
    let client =
        outgoing::client(roots).map_err(|error| Problem::new("TLS is not available", error, "Report this."))?;
    let client = match (&audit.forward_cert, &audit.forward_key) {
        (Some(cert), Some(key)) => outgoing::with_identity(client, cert, key).map_err(|why| {
            let what =
                format!("the client certificate {} and its key {} cannot be used", cert.display(), key.display());
            Problem::new(what, why, "Correct audit.forward_cert and audit.forward_key: both are in PEM.")
        })?,
        _ => client.with_no_client_auth(),
    };
    Ok(Arc::new(client))
}

/// Appends lines to a file and syncs it: all of them, or none if the disk is full. A line that a crash has torn is cut off first:
/// its record comes again.
fn append(path: &Path, lines: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o640).open(path)?;
    let length = end_of_lines(&mut file)?;
    let written = file.write_all(lines).and_then(|()| file.sync_data());
    if written.is_err() {
        // Half a page. Where it cannot be taken back, a torn line goes with the next page.
        drop(file.set_len(length));
    }
    written
}

/// Cuts off what stands behind the last whole line; gives the length that is left.
fn end_of_lines(file: &mut File) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let from = length.saturating_sub(TAIL);
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    file.take(TAIL).read_to_end(&mut tail)?;
    let whole = match tail.iter().rposition(|byte| *byte == b'\n') {
        Some(last) => from + last as u64 + 1,
        None if from == 0 => 0,
        None => return Err(io::Error::new(io::ErrorKind::InvalidData, "the file does not end with lines of text")),
    };
    if whole < length {
        file.set_len(whole)?;
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_line_goes_before_the_next_ones_come() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        append(&path, b"{1}\n{2}\n").unwrap();
        let mut torn = OpenOptions::new().append(true).open(&path).unwrap();
        torn.write_all(b"{3").unwrap();
        append(&path, b"{3}\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{1}\n{2}\n{3}\n");
        // Another file in its place is written to, as after a rotation.
        std::fs::rename(&path, dir.path().join("audit.jsonl.1")).unwrap();
        append(&path, b"{4}\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{4}\n");
    }

    #[test]
    fn a_full_disk_is_told() {
        let error = append(Path::new("/dev/full"), b"{1}\n").unwrap_err();
        assert!(error.to_string().contains("No space left"), "{error}");
    }
}
