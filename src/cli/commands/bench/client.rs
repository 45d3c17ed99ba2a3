//! One client of the bench: a WebSocket that speaks just enough Socket.IO to cost little, and a request of HTTP.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::header::{AUTHORIZATION, HOST};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use crate::cli::client::connect::{Stream, Trust, connect};
use crate::cli::commands::bench::target::Target;

/// How long a client waits for an answer while it connects.
const PATIENCE: Duration = Duration::from_secs(30);
/// The largest answer of HTTP that is read.
const MOST: usize = 16 << 20;

/// A signed-in WebSocket.
pub(super) struct Client {
    socket: WebSocketStream<Box<dyn Stream>>,
}

/// An error of the library as one of input and output.
fn failed(error: impl std::fmt::Display) -> io::Error {
    io::Error::other(error.to_string())
}

impl Client {
    /// Connects and signs in as the n-th user.
    ///
    /// # Errors
    /// Why it is not signed in.
    pub(super) async fn open(target: &Target, n: usize) -> io::Result<Client> {
        match tokio::time::timeout(PATIENCE, Client::sign_in(target, n)).await {
            Ok(client) => client,
            Err(_) => Err(failed(format!("it was not signed in within {} s", PATIENCE.as_secs()))),
        }
    }

    async fn sign_in(target: &Target, n: usize) -> io::Result<Client> {
        let connected = connect(&target.config, &target.url, target.trust()).await.map_err(failed)?;
        let scheme = if connected.tls.is_some() { "wss" } else { "ws" };
        let address = format!("{scheme}://{}{}?EIO=4&transport=websocket", connected.host, target.path);
        let (socket, _) = tokio_tungstenite::client_async(address, connected.stream).await.map_err(failed)?;
        let mut client = Client { socket };
        let opened = client.text().await?;
        if !opened.starts_with('0') {
            return Err(failed(format!("this is not Socket.IO: {opened}")));
        }
        client.send(format!("40{{\"token\":\"{}\"}}", target.token(n)?)).await?;
        loop {
            let said = client.text().await?;
            if said.starts_with("42[\"authenticated\"") {
                return Ok(client);
            }
            if said.starts_with("44") || said.starts_with("42[\"auth_error\"") {
                return Err(failed(format!("it was refused: {said}")));
            }
        }
    }

    /// Sends a packet.
    ///
    /// # Errors
    /// If the connection has ended.
    pub(super) async fn send(&mut self, packet: String) -> io::Result<()> {
        self.socket.send(Message::text(packet)).await.map_err(failed)
    }

    /// The next packet that is no ping; pings are answered.
    ///
    /// # Errors
    /// If the connection has ended.
    pub(super) async fn text(&mut self) -> io::Result<Utf8Bytes> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) if text.as_str() == "2" => self.send("3".to_owned()).await?,
                Some(Ok(Message::Text(text))) => return Ok(text),
                Some(Ok(Message::Close(frame))) => {
                    let why = frame.map_or_else(|| "without a code".to_owned(), |frame| frame.code.to_string());
                    return Err(failed(format!("the server has closed the connection: {why}")));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(failed(error)),
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }

    /// Asks for something and waits for the answer; what comes meanwhile is dropped.
    ///
    /// # Errors
    /// If the connection has ended, or if it is refused.
    pub(super) async fn ask(&mut self, id: u64, event: &str, payload: &str) -> io::Result<()> {
        self.send(format!("42{id}[\"{event}\",{payload}]")).await?;
        let answer = format!("43{id}[");
        loop {
            let said = self.text().await?;
            if said.starts_with(&answer) {
                return if said.contains("\"ok\":true") { Ok(()) } else { Err(failed(format!("{event}: {said}"))) };
            }
        }
    }
}

/// A connection of HTTP that is kept.
pub(super) struct Requests {
    sender: http1::SendRequest<Empty<Bytes>>,
    host: String,
    connection: tokio::task::JoinHandle<hyper::Result<()>>,
}

impl Requests {
    /// Connects.
    ///
    /// # Errors
    /// Why not.
    pub(super) async fn open(target: &Target) -> anyhow::Result<Requests> {
        let connected = connect(&target.config, &target.url, target.trust()).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(connected.stream)).await?;
        Ok(Requests { sender, host: connected.host, connection: tokio::spawn(connection) })
    }

    /// The body of a good answer.
    ///
    /// # Errors
    /// If the connection has ended, or another status than 200.
    pub(super) async fn get(&mut self, path: &str, token: &str) -> io::Result<Bytes> {
        self.sender.ready().await.map_err(failed)?;
        let request = Request::get(path)
            .header(HOST, &self.host)
            .header(AUTHORIZATION, format!("Bearer {token}"))
            .body(Empty::new())
            .map_err(failed)?;
        let answer = self.sender.send_request(request).await.map_err(failed)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MOST).collect().await.map_err(failed)?.to_bytes();
        match status {
            StatusCode::OK => Ok(body),
            _ => Err(failed(format!("status {status}: {}", String::from_utf8_lossy(&body)))),
        }
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Target {
    /// Which certificates are trusted.
    pub(super) fn trust(&self) -> Trust<'_> {
        Trust { cacert: self.cacert.as_deref(), identity: None, is_unverified: false }
    }
}
