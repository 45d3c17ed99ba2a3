//! Answers that are too large for memory: made piece by piece, and sent in bounded pieces. Who takes them slowly holds the maker
//! up for so long and no longer; who goes away ends it. What ends early never looks as if it were whole.

use std::fmt::Display;
use std::future::Future;
use std::io::{self, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use crate::config::capacity::{self, Pace};
use crate::observability::counters::Counters;
use crate::store::StoreError;

/// The answers that are being streamed out: who stops the server waits for them.
#[derive(Debug, Clone)]
pub struct Streams {
    tasks: TaskTracker,
    /// Whose limiter bounds what is logged of answers that end early.
    counters: Arc<Counters>,
}

impl Streams {
    /// Of a server that counts there.
    pub(super) fn new(counters: Arc<Counters>) -> Streams {
        Streams { tasks: TaskTracker::new(), counters }
    }

    /// Makes an answer on a task of its own.
    pub(super) fn spawn(&self, make: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(make);
    }

    /// Tells the log of an answer that has ended early: what it was, for whom, why, and what to do. Whoever hangs up again and
    /// again does not fill it.
    pub(super) fn tell_incomplete(&self, what: &str, for_whom: &str, why: &dyn Display) {
        if self.counters.log_limiter.may_log("incomplete") {
            tracing::warn!(
                "{what} for {for_whom} was not sent completely: {why}. What has arrived is not whole: ask for it again"
            );
        }
    }

    /// Resolves when no answer is being sent any more.
    pub(super) async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// The receiving end: a stream of pieces. It ends with an error unless its maker has said that the answer is whole.
#[derive(Debug)]
pub struct ByteStream {
    first: Option<Bytes>,
    pieces: mpsc::Receiver<Bytes>,
    is_whole: Arc<AtomicBool>,
    has_ended: bool,
}

/// A new stream: so many pieces wait in it, and its receiver takes them at this pace, or it ends.
#[must_use]
pub(super) fn stream(pieces: usize, pace: Pace) -> (ByteStream, PieceSender, Ending) {
    let (sender, pieces) = mpsc::channel(pieces);
    let is_whole = Arc::new(AtomicBool::new(false));
    let ending = Ending { is_whole: is_whole.clone(), _open: sender.clone() };
    let stream = ByteStream { first: None, pieces, is_whole, has_ended: false };
    (stream, PieceSender { sender, pace }, ending)
}

impl ByteStream {
    /// Waits for the first piece. `false` if the maker has ended without one.
    pub(super) async fn begins(&mut self) -> bool {
        self.first = self.pieces.recv().await;
        self.first.is_some()
    }
}

impl futures_util::Stream for ByteStream {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(piece) = self.first.take() {
            return Poll::Ready(Some(Ok(piece)));
        }
        match ready!(self.pieces.poll_recv(context)) {
            Some(piece) => Poll::Ready(Some(Ok(piece))),
            None if self.has_ended || self.is_whole.load(Ordering::Acquire) => Poll::Ready(None),
            None => {
                self.has_ended = true;
                Poll::Ready(Some(Err(io::Error::other("the answer is not complete"))))
            }
        }
    }
}

/// Why an answer has ended early. What a receiver has done is not called a failure of the store, which only passes it on.
pub(super) fn why_incomplete(error: &StoreError) -> String {
    match error {
        StoreError::Unavailable(why) => why.clone(),
        other => other.to_string(),
    }
}

/// The maker's word that the answer is whole. The stream does not end before it is dropped.
#[derive(Debug)]
pub(super) struct Ending {
    is_whole: Arc<AtomicBool>,
    _open: mpsc::Sender<Bytes>,
}

impl Ending {
    /// Everything has been sent.
    pub(super) fn whole(self) {
        self.is_whole.store(true, Ordering::Release);
    }
}

/// The sending end.
#[derive(Debug)]
pub(super) struct PieceSender {
    sender: mpsc::Sender<Bytes>,
    pace: Pace,
}

impl PieceSender {
    /// Sends a piece behind the others, as soon as there is room.
    ///
    /// # Errors
    /// `BrokenPipe` if the receiver has gone, `TimedOut` if it takes too little.
    pub(super) async fn send(&mut self, piece: Bytes) -> io::Result<()> {
        let (bytes, begun) = (piece.len(), Instant::now());
        match tokio::time::timeout(self.pace.left(), self.sender.send(piece)).await {
            Ok(Ok(())) => {
                self.pace.note(bytes, begun.elapsed());
                Ok(())
            }
            Ok(Err(_)) => Err(io::Error::new(io::ErrorKind::BrokenPipe, "the receiver has gone")),
            Err(_) => {
                let why = format!("the receiver takes too little: {} is the least", self.pace.in_words());
                Err(io::Error::new(io::ErrorKind::TimedOut, why))
            }
        }
    }
}

/// The sending end for threads that may block.
#[derive(Debug)]
pub(super) struct PieceWriter {
    sender: PieceSender,
    runtime: Handle,
    piece: Vec<u8>,
}

impl PieceWriter {
    /// Writes into a stream whose receiver is a task of this runtime.
    pub(super) fn new(sender: PieceSender) -> PieceWriter {
        PieceWriter { sender, runtime: Handle::current(), piece: Vec::new() }
    }

    fn send(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = Bytes::from(std::mem::take(&mut self.piece));
        self.runtime.block_on(self.sender.send(piece))
    }
}

impl Write for PieceWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= capacity::PIECE_BYTES {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
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
    use std::time::Duration;

    use futures_util::StreamExt;

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

    const SOON: Pace = Pace::new(Duration::from_secs(1), 1_000);

    #[tokio::test]
    async fn a_receiver_that_takes_too_little_is_given_up_and_learns_that_it_lacks_something() {
        let (mut stream, mut sender, ending) = stream(1, SOON);
        sender.send(Bytes::from_static(b"one")).await.unwrap();
        let begun = Instant::now();
        let given_up = sender.send(Bytes::from_static(b"two")).await.unwrap_err();
        assert_eq!((given_up.kind(), begun.elapsed().as_secs()), (io::ErrorKind::TimedOut, 1));
        drop((sender, ending));
        assert_eq!(stream.next().await.unwrap().unwrap(), "one");
        assert!(stream.next().await.unwrap().is_err(), "it looks whole");
        assert!(stream.next().await.is_none());
    }

    #[tokio::test]
    async fn a_stream_is_whole_when_its_maker_says_so() {
        let (mut stream, mut sender, ending) = stream(1, SOON);
        sender.send(Bytes::from_static(b"one")).await.unwrap();
        drop(sender);
        ending.whole();
        assert_eq!(stream.next().await.unwrap().unwrap(), "one");
        assert!(stream.next().await.is_none());
    }
}
