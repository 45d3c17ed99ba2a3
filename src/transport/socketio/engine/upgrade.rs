//! The change of a session from polling to a WebSocket, in front of the Engine.IO library. The library takes polls away from a
//! session as soon as an upgrade is asked for, and ends the session with an upgrade that fails. Here the probe is answered and
//! the upgrade packet waited for first, while polling goes on; then the WebSocket is handed over, and the library hears the
//! handshake in one piece. An upgrade that comes to nothing is nothing to the session: only the WebSocket is closed.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONNECTION, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{Response, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::transport::socketio::engine::frame;

/// The longest frame before the upgrade packet: a probe has six bytes, a ping of WebSocket 125 at most.
const LONGEST: usize = 125;
/// What the library is told of the handshake, as a client would: the probe, and the upgrade packet.
const HANDSHAKE: &[u8] = b"\x81\x86\0\0\0\x002probe\x81\x81\0\0\0\x005";
/// What a server answers to a probe: once here, and once more by the library, which nobody needs.
const PROBED: &[u8] = b"\x81\x063probe";

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// The answer that begins a WebSocket, to a request whose head is in order.
#[must_use]
pub fn accept<B>(headers: &HeaderMap, body: B) -> Response<B> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answers = response.headers_mut();
    answers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    answers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Some(key) = headers.get(SEC_WEBSOCKET_KEY)
        && let Ok(accept) = HeaderValue::try_from(derive_accept_key(key.as_bytes()))
    {
        answers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}

/// A frame of a client.
struct Said {
    opcode: u8,
    payload: Vec<u8>,
}

/// Waits until a client has finished its upgrade; `probed` is called when it has probed. Gives what the library reads and writes
/// through from then on.
///
/// # Errors
/// The client has gone, or says something else. Then the WebSocket has been closed.
pub async fn handshake<S>(mut stream: S, probed: impl Fn()) -> io::Result<HandedOver<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut bytes = BytesMut::new();
    loop {
        let said = match next(&mut stream, &mut bytes).await {
            Ok(said) => said,
            Err(error) => {
                let code = if error.kind() == ErrorKind::FileTooLarge { frame::TOO_LARGE } else { frame::PROTOCOL };
                if error.kind() != ErrorKind::UnexpectedEof {
                    close(&mut stream, &frame::close(code)).await;
                }
                return Err(error);
            }
        };
        match (said.opcode, said.payload.as_slice()) {
            (TEXT, b"2probe") => {
                stream.write_all(PROBED).await?;
                stream.flush().await?;
                probed();
            }
            (TEXT, b"5") => return Ok(HandedOver::new(stream, bytes)),
            (PING, payload) => {
                let mut pong = vec![0x80 | PONG, u8::try_from(payload.len()).unwrap_or_default()];
                pong.extend_from_slice(payload);
                stream.write_all(&pong).await?;
                stream.flush().await?;
            }
            (PONG, _) => {}
            (opcode, payload) => {
                let code = payload.first_chunk().filter(|_| opcode == CLOSE).map(|code| u16::from_be_bytes(*code));
                match code {
                    Some(code) => close(&mut stream, &frame::close(code)).await,
                    None => close(&mut stream, frame::CLOSE_BARE).await,
                }
                return Err(ErrorKind::InvalidData.into());
            }
        }
    }
}

async fn close<S: AsyncWrite + Unpin>(stream: &mut S, frame: &[u8]) {
    // It may have gone, or take nothing: it is closed in any case.
    if stream.write_all(frame).await.is_ok() {
        let _ = stream.shutdown().await;
    }
}

/// Closes a WebSocket that nobody waits for.
pub async fn turn_away<S: AsyncWrite + Unpin>(mut stream: S) {
    close(&mut stream, frame::CLOSE_BARE).await;
}

/// The next frame, which is short and whole.
async fn next<S: AsyncRead + Unpin>(stream: &mut S, bytes: &mut BytesMut) -> io::Result<Said> {
    loop {
        if let Some(said) = take(bytes)? {
            return Ok(said);
        }
        let mut part = [0; 512];
        let len = stream.read(&mut part).await?;
        if len == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(part.get(..len).unwrap_or_default());
    }
}

fn take(bytes: &mut BytesMut) -> io::Result<Option<Said>> {
    let &[first, second, ref rest @ ..] = bytes.as_ref() else { return Ok(None) };
    let (opcode, len) = (first & 0x0f, usize::from(second & 0x7f));
    if first & 0xf0 != 0x80 || second & 0x80 == 0 || !matches!(opcode, TEXT | 2 | CLOSE | PING | PONG) {
        return Err(ErrorKind::InvalidData.into());
    }
    if len > LONGEST {
        return Err(ErrorKind::FileTooLarge.into());
    }
    let Some((mask, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
    let Some(masked) = rest.get(..len) else { return Ok(None) };
    let payload = masked.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    bytes.advance(2 + 4 + len);
    Ok(Some(Said { opcode, payload }))
}

/// A WebSocket whose client has finished its upgrade. The library reads the handshake first, then what the client has sent
/// behind it; and its answer to the probe goes nowhere, as the client has one.
#[derive(Debug)]
pub struct HandedOver<S> {
    stream: S,
    first: Bytes,
    /// How much of the library's answer is still to come.
    answer: usize,
}

impl<S> HandedOver<S> {
    fn new(stream: S, behind: BytesMut) -> HandedOver<S> {
        let mut first = BytesMut::from(HANDSHAKE);
        first.extend_from_slice(&behind);
        HandedOver { stream, first: first.freeze(), answer: PROBED.len() }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for HandedOver<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let len = self.first.len().min(buf.remaining());
        let part = self.first.split_to(len);
        buf.put_slice(&part);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for HandedOver<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.answer == 0 {
            return Pin::new(&mut self.stream).poll_write(cx, bytes);
        }
        let len = self.answer.min(bytes.len());
        self.answer -= len;
        Poll::Ready(Ok(len))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn said(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x80 | opcode, 0x80 | u8::try_from(payload.len()).unwrap(), 1, 2, 3, 4];
        bytes.extend(payload.iter().zip([1, 2, 3, 4].iter().cycle()).map(|(byte, mask)| byte ^ mask));
        bytes
    }

    #[tokio::test]
    async fn what_comes_behind_the_upgrade_packet_is_handed_over_however_it_is_cut() {
        let all = [said(TEXT, b"2probe"), said(PING, b"x"), said(TEXT, b"5"), said(TEXT, b"42[]")].concat();
        for cut in [1, 2, 3, 7, all.len()] {
            let (server, mut client) = tokio::io::duplex(1_024);
            let probes = Cell::new(0);
            let speaks = async {
                for part in all.chunks(cut) {
                    client.write_all(part).await.unwrap();
                    tokio::task::yield_now().await;
                }
                let mut heard = vec![0; PROBED.len() + 3];
                client.read_exact(&mut heard).await.unwrap();
                assert_eq!(heard, [PROBED, &[0x8a, 1, b'x'][..]].concat());
                client
            };
            let (handed, mut client) = tokio::join!(handshake(server, || probes.set(probes.get() + 1)), speaks);
            let mut handed = handed.unwrap();
            let mut read = vec![0; HANDSHAKE.len() + said(TEXT, b"42[]").len()];
            handed.read_exact(&mut read).await.unwrap();
            assert_eq!(read, [HANDSHAKE, &said(TEXT, b"42[]")[..]].concat(), "{cut}");
            handed.write_all(&[PROBED, b"behind"].concat()).await.unwrap();
            let mut heard = [0; 6];
            client.read_exact(&mut heard).await.unwrap();
            assert_eq!((&heard, probes.get()), (b"behind", 1));
        }
    }

    #[tokio::test]
    async fn whatever_else_is_said_closes_it_with_a_code_that_fits() {
        let unmasked = vec![0x81, 1, b'5'];
        let large = vec![0x81, 0xfe, 1, 0, 0, 0, 0, 0];
        for (bytes, closing) in [
            (said(TEXT, b"2prob"), frame::CLOSE_BARE.to_vec()),
            (said(2, b"2probe"), frame::CLOSE_BARE.to_vec()),
            (said(CLOSE, &[3, 0xe8]), frame::close(1_000).to_vec()),
            (unmasked, frame::close(frame::PROTOCOL).to_vec()),
            (large, frame::close(frame::TOO_LARGE).to_vec()),
            (Vec::new(), Vec::new()),
        ] {
            let (server, mut client) = tokio::io::duplex(1_024);
            client.write_all(&bytes).await.unwrap();
            client.shutdown().await.unwrap();
            assert!(handshake(server, || {}).await.is_err());
            let mut heard = Vec::new();
            client.read_to_end(&mut heard).await.unwrap();
            assert_eq!(heard, closing, "{bytes:?}");
        }
    }
}
