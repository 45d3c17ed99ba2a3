//! Answers that are too large for memory: made on a thread that may block, sent in bounded pieces. Who takes them too slowly
//! holds the maker up; who goes away ends it.

use std::future::Future;
use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

/// The size of a piece, about.
const PIECE_BYTES: usize = 64 << 10;
/// So many pieces wait at most.
const PIECES: usize = 8;

/// The answers that are being streamed out: who stops the server waits for them.
#[derive(Debug, Clone, Default)]
pub struct Streams(TaskTracker);

impl Streams {
    /// Makes an answer on a task of its own.
    pub(super) fn spawn(&self, make: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(make);
    }

    /// Resolves when no answer is being sent any more.
    pub(super) async fn ended(&self) {
        self.0.close();
        self.0.wait().await;
    }
}

/// The receiving end: a stream of pieces. An error in it means that the answer is not complete.
#[derive(Debug)]
pub struct ByteStream {
    first: Option<Bytes>,
    pieces: mpsc::Receiver<io::Result<Bytes>>,
}

impl ByteStream {
    /// Both ends.
    #[must_use]
    pub fn new() -> (ByteStream, PieceWriter) {
        let (sender, pieces) = mpsc::channel(PIECES);
        (ByteStream { first: None, pieces }, PieceWriter { sender, piece: Vec::new() })
    }

    /// The receiving end, and where pieces are put in.
    pub(super) fn pieces() -> (ByteStream, mpsc::Sender<io::Result<Bytes>>) {
        let (sender, pieces) = mpsc::channel(PIECES);
        (ByteStream { first: None, pieces }, sender)
    }

    /// Waits for the first piece. `false` if the maker has ended without one.
    pub(super) async fn begins(&mut self) -> bool {
        match self.pieces.recv().await {
            Some(Ok(piece)) => {
                self.first = Some(piece);
                true
            }
            _ => false,
        }
    }
}

impl futures_util::Stream for ByteStream {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.first.take() {
            Some(piece) => Poll::Ready(Some(Ok(piece))),
            None => self.pieces.poll_recv(context),
        }
    }
}

/// The sending end. For threads that may block.
#[derive(Debug)]
pub struct PieceWriter {
    sender: mpsc::Sender<io::Result<Bytes>>,
    piece: Vec<u8>,
}

impl PieceWriter {
    /// How the other end sees that the answer is incomplete.
    #[must_use]
    pub fn breaker(&self) -> Breaker {
        Breaker(self.sender.clone())
    }

    fn send(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = Bytes::from(std::mem::take(&mut self.piece));
        let sent = self.sender.blocking_send(Ok(piece));
        sent.map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the receiver has gone"))
    }
}

impl Write for PieceWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE_BYTES {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

/// Ends a stream as not complete.
#[derive(Debug)]
pub struct Breaker(mpsc::Sender<io::Result<Bytes>>);

impl Breaker {
    /// Tells why.
    pub async fn fail(self, why: String) {
        // The receiver may be gone; that is fine.
        let _ = self.0.send(Err(io::Error::other(why))).await;
    }
}

/// Writes one JSON object of sections, item by item.
#[derive(Debug)]
pub struct JsonSections<W: Write> {
    out: W,
    section: Option<&'static str>,
    is_begun: bool,
}

impl<W: Write> JsonSections<W> {
    /// Nothing is written before the first item.
    pub fn new(out: W) -> JsonSections<W> {
        JsonSections { out, section: None, is_begun: false }
    }

    /// A member that is no list.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn member<T: Serialize>(&mut self, name: &'static str, value: &T) -> io::Result<()> {
        self.close_section()?;
        self.begin(name)?;
        serde_json::to_writer(&mut self.out, value)?;
        Ok(())
    }

    /// An item of a list. The items of one list follow each other.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn item<T: Serialize>(&mut self, section: &'static str, value: &T) -> io::Result<()> {
        if self.section == Some(section) {
            self.out.write_all(b",\n")?;
        } else {
            self.close_section()?;
            self.begin(section)?;
            self.out.write_all(b"[\n")?;
            self.section = Some(section);
        }
        serde_json::to_writer(&mut self.out, value)?;
        Ok(())
    }

    fn begin(&mut self, name: &'static str) -> io::Result<()> {
        self.out.write_all(if self.is_begun { b",\n" } else { b"{" })?;
        self.is_begun = true;
        serde_json::to_writer(&mut self.out, name)?;
        self.out.write_all(b":")
    }

    fn close_section(&mut self) -> io::Result<()> {
        if self.section.take().is_some() { self.out.write_all(b"]") } else { Ok(()) }
    }

    /// The end of the object.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn end(&mut self) -> io::Result<()> {
        self.close_section()?;
        self.out.write_all(if self.is_begun { b"}\n" } else { b"{}\n" })?;
        self.out.flush()
    }
}

impl JsonSections<Vec<u8>> {
    /// Takes what was written since.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_one_object() {
        let mut out = Vec::new();
        let mut sections = JsonSections::new(&mut out);
        sections.member("a", &1).unwrap();
        sections.item("b", &"x").unwrap();
        sections.item("b", &"y\"").unwrap();
        sections.item("c", &[1, 2]).unwrap();
        sections.end().unwrap();
        let read: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(read, serde_json::json!({"a": 1, "b": ["x", "y\""], "c": [[1, 2]]}));
        let mut out = Vec::new();
        JsonSections::new(&mut out).end().unwrap();
        assert_eq!(out, b"{}\n");
    }
}
