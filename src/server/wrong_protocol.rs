//! TLS where plain HTTP is spoken, and plain HTTP where TLS is: whoever has taken the wrong one is told which is the right one, in
//! the words of the protocol that they speak.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

/// What a client of plain HTTP is told on a port of TLS.
const USE_HTTPS: &str =
    "This port takes HTTPS only, and this request came over plain HTTP. Use https:// in the address.\n";
/// A TLS record of type handshake (RFC 8446, 5.1), whatever its version.
const TLS_HANDSHAKE: [u8; 2] = [0x16, 0x03];
/// A fatal alert `handshake_failure` (RFC 8446, 6) in a record of its own.
const TLS_ALERT: [u8; 7] = [0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x28];
/// What comes after the answer is read for so long, and so many bytes: a client that is cut off while it sends does not read.
const READ_ON: Duration = Duration::from_millis(500);
const READ_ON_BYTES: u64 = 64 << 10;

/// Whether a connection begins as a request of HTTP does: with a letter. No record of TLS does (they begin with 20 to 24).
///
/// # Errors
/// What the connection says.
pub(super) async fn speaks_http(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    let count = stream.peek(&mut first).await?;
    Ok(count == 1 && first.iter().all(u8::is_ascii_alphabetic))
}

/// Tells a client of plain HTTP to use TLS.
pub(super) async fn answer_in_plain(stream: &mut TcpStream) {
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n{USE_HTTPS}",
        USE_HTTPS.len()
    );
    let told = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        let (mut rest, mut nowhere) = (stream.take(READ_ON_BYTES), tokio::io::sink());
        tokio::io::copy(&mut rest, &mut nowhere).await
    };
    // Who does not listen is not told.
    drop(tokio::time::timeout(READ_ON, told).await);
}

/// A connection on which TLS is not spoken: whoever begins with it gets an alert, and the end.
pub(super) struct NoTls {
    stream: TcpStream,
    /// Whether nothing has come yet.
    is_new: bool,
    speaks_tls: Arc<AtomicBool>,
}

impl NoTls {
    /// A connection on which nothing has been read, and whether it has turned out to be TLS.
    pub(super) fn new(stream: TcpStream) -> (NoTls, Arc<AtomicBool>) {
        let speaks_tls = Arc::new(AtomicBool::new(false));
        (NoTls { stream, is_new: true, speaks_tls: speaks_tls.clone() }, speaks_tls)
    }
}

impl AsyncRead for NoTls {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if !std::mem::replace(&mut self.is_new, false) {
            return Poll::Ready(Ok(()));
        }
        if buffer.filled().get(before..).is_some_and(|come| come.starts_with(&TLS_HANDSHAKE)) {
            self.speaks_tls.store(true, Ordering::Relaxed);
            // Nothing was sent yet: there is room for it.
            drop(self.stream.try_write(&TLS_ALERT));
            buffer.set_filled(before);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for NoTls {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
