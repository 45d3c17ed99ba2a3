//! What a socket asks, in the order in which it asks. The library would run two events of one socket side by side; here they
//! go through one bounded queue a socket, and only posts behind each other are under way together (the store's writer keeps
//! their order). The queue's task lives as long as there is something in it: an idle socket has none.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use parking_lot::Mutex;
use serde_json::value::RawValue;
use socketioxide::adapter::LocalAdapter;
use socketioxide::extract::AckSender;
use socketioxide::handler::{FromMessageParts, MessageHandler};
use socketioxide::socket::Socket;
use socketioxide_core::{Str, Value};
use std::time::Duration;

use crate::config::capacity;
use crate::protocol::answer::Failed;
use crate::protocol::error::{ApiError, ErrorCode};
use crate::protocol::event::ServerEvent;
use crate::protocol::request::ClientEvent;
use crate::services::limits::budget::RequestKind;

use crate::transport::socketio::SocketIoTransport;
use crate::transport::socketio::engine::connection::Refused;
use crate::transport::socketio::socket::{Ack, Link};

/// The most requests of one socket that wait.
const MAX_WAITING: usize = 1_024;
/// The most posts of one socket that are under way together.
const MAX_POSTS: usize = 64;

/// One request as it came.
pub struct Request {
    text: Str,
    is_binary: bool,
    ack: Option<Ack>,
}

/// The work of one socket.
enum Work {
    /// The socket has connected with a good token.
    Arrive,
    /// An event.
    Request(Request),
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Work>,
    bytes: usize,
    is_worked: bool,
}

/// The queue of one socket. The library calls it for each event.
#[derive(Clone)]
pub struct Mailbox {
    link: Arc<Link>,
    transport: Arc<SocketIoTransport>,
    queue: Arc<Mutex<Queue>>,
}

/// Tells the library's blanket implementations apart from ours.
#[derive(Debug)]
pub struct InOrder;

impl MessageHandler<LocalAdapter, InOrder> for Mailbox {
    /// Runs inside the library's read loop, synchronously: this is what keeps the order.
    fn call(&self, socket: Arc<Socket<LocalAdapter>>, mut value: Value, ack_id: Option<i64>) {
        let ack = ack_id.and_then(|id| {
            let sender = AckSender::from_message_parts(&socket, &mut value, &ack_id).ok()?;
            Some(Ack { id, sender })
        });
        let request = match value {
            Value::Str(text, parts) => Request { text, is_binary: parts.is_some_and(|p| !p.is_empty()), ack },
            Value::Bytes(_) => Request { text: Str::from(""), is_binary: true, ack },
        };
        self.push(request);
    }
}

impl Mailbox {
    /// An empty queue.
    pub fn new(link: Arc<Link>, transport: Arc<SocketIoTransport>) -> Mailbox {
        Mailbox { link, transport, queue: Arc::default() }
    }

    fn lock(&self) -> parking_lot::MutexGuard<'_, Queue> {
        self.queue.lock()
    }

    /// Begins the work with the socket's arrival, before any event of it.
    pub fn arrive(&self) {
        self.lock().waiting.push_front(Work::Arrive);
        self.wake();
    }

    fn push(&self, request: Request) {
        let mut queue = self.lock();
        let len = request.text.len();
        let all = &self.transport.requests;
        if queue.waiting.len() >= MAX_WAITING || !all.takes(len, queue.bytes, capacity::REQUESTS_BYTES) {
            drop(queue);
            let error = ApiError::rate_limited(
                Duration::from_secs(1),
                "too many requests wait; send the next ones when these are answered",
            );
            let name = Event::read(&request).map_or_else(|_| String::new(), |event| event.name.to_owned());
            refuse(&self.link, &name, request.ack, &error);
            return;
        }
        queue.bytes += len;
        queue.waiting.push_back(Work::Request(request));
        drop(queue);
        self.wake();
    }

    fn wake(&self) {
        let mut queue = self.lock();
        if !queue.is_worked && !queue.waiting.is_empty() {
            queue.is_worked = true;
            drop(queue);
            let this = self.clone();
            self.transport.directory.sessions.tasks().spawn(async move { this.work().await });
        }
    }

    fn next(&self) -> Option<Work> {
        let mut queue = self.lock();
        let work = queue.waiting.pop_front();
        if let Some(Work::Request(request)) = &work {
            queue.bytes -= request.text.len();
            self.transport.requests.give_back(request.text.len());
        }
        work
    }

    /// Gives whether there is nothing to do, and from then on nobody does it.
    fn rest(&self) -> bool {
        let mut queue = self.lock();
        if queue.waiting.is_empty() {
            *queue = Queue::default();
            return true;
        }
        false
    }

    async fn work(&self) {
        let mut posts: FuturesOrdered<Pin<Box<dyn Future<Output = ()> + Send + '_>>> = FuturesOrdered::new();
        loop {
            if self.link.is_gone() {
                let mut queue = self.lock();
                self.transport.requests.give_back(queue.bytes);
                *queue = Queue::default();
                return;
            }
            match self.next() {
                None if !posts.is_empty() => {
                    posts.next().await;
                }
                None => {
                    if self.rest() {
                        return;
                    }
                }
                Some(Work::Arrive) => self.transport.arrive(&self.link).await,
                Some(Work::Request(request)) => match self.read(&request) {
                    Err((name, error)) => refuse(&self.link, &name, request.ack, &error),
                    Ok((ClientEvent::ChatMessage, payload)) => {
                        let payload = payload.to_owned();
                        let mut post: Pin<Box<dyn Future<Output = ()> + Send + '_>> = Box::pin(async move {
                            self.transport.handle(&self.link, ClientEvent::ChatMessage, &payload, request.ack).await;
                        });
                        // Polled once here: it has its place in the store's queue before the next one begins.
                        if futures_util::poll!(&mut post).is_pending() {
                            posts.push_back(post);
                        }
                        if posts.len() >= MAX_POSTS {
                            posts.next().await;
                        }
                    }
                    Ok((event, payload)) => {
                        while posts.next().await.is_some() {}
                        let payload = payload.to_owned();
                        self.transport.handle(&self.link, event, &payload, request.ack).await;
                    }
                },
            }
        }
    }

    /// What a request asks for, paid from the budget of whoever asks; or the name of its event and why it is refused.
    fn read<'a>(&self, request: &'a Request) -> Result<(ClientEvent, &'a str), (String, ApiError)> {
        let event = Event::read(request);
        let known = event.as_ref().ok().and_then(|event| ClientEvent::parse(event.name));
        let kind = known.map_or(RequestKind::Unknown, RequestKind::Event);
        let name = |event: &Event<'_>| event.name.chars().take(64).collect::<String>();
        let paid = self.transport.app.rates.charge(&self.link.actor(), kind, request.text.len() as u64);
        match (event, known, paid) {
            (Ok(event), _, Err(error)) => Err((name(&event), error)),
            (Err(_), _, Err(error)) | (Err(error), ..) => Err((String::new(), error)),
            (Ok(event), Some(known), Ok(())) => Ok((known, event.payload)),
            (Ok(event), None, Ok(())) => {
                let name = name(&event);
                let message = format!("'{name}' is not an event of this server");
                Err((name, ApiError::new(ErrorCode::InvalidPayload, message)))
            }
        }
    }
}

/// Answers that a request failed: by its ack, or as an event if it has none.
pub fn refuse(link: &Link, event: &str, ack: Option<Ack>, error: &ApiError) {
    link.note_refused_request(event, error);
    link.note_refusal(if error.code == ErrorCode::RateLimited { Refused::TooMany } else { Refused::Wrong });
    match ack {
        Some(ack) => link.answer(ack, &Failed::new(error)),
        None => link.emit(&ServerEvent::RequestError { event, error, room: None }),
    }
}

/// The name and the first argument of an event.
struct Event<'a> {
    name: &'a str,
    payload: &'a str,
}

impl<'a> Event<'a> {
    fn read(request: &'a Request) -> Result<Event<'a>, ApiError> {
        if request.is_binary {
            return Err(ApiError::new(ErrorCode::InvalidPayload, "binary data is not taken; send JSON"));
        }
        let parts: Vec<&'a RawValue> = serde_json::from_str(&request.text)
            .map_err(|_| ApiError::new(ErrorCode::InvalidPayload, "the event is not valid JSON"))?;
        let name = parts
            .first()
            .and_then(|name| serde_json::from_str::<&str>(name.get()).ok())
            .unwrap_or("(a name that needs escapes)");
        // An event without an argument asks for nothing in particular; `emit(event, undefined)` sends null.
        let payload = parts.get(1).map_or("{}", |payload| payload.get());
        let payload = if payload == "null" { "{}" } else { payload };
        Ok(Event { name, payload })
    }
}
