//! `academy-rt-peer URL TRANSPORT ROOM`, with a token in `TOKEN`: signs in, joins the room with the last message that it has, does so
//! again whenever it has come back, and says on a line each what it hears. It ends with its standard input.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rust_socketio::{ClientBuilder, Event, Payload, RawClient, TransportType};
use serde_json::{Value, json};

fn say(what: &str, value: &Value) {
    println!("{}", json!({ "what": what, "value": value }));
}

fn first(payload: Payload) -> Value {
    match payload {
        Payload::Text(values) => values.into_iter().next().unwrap_or(Value::Null),
        _ => Value::Null,
    }
}

/// The answer to a request is a list of what was answered.
fn answer(payload: Payload) -> Value {
    match first(payload) {
        Value::Array(values) => values.into_iter().next().unwrap_or(Value::Null),
        value => value,
    }
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let [_, url, transport, room] = args.as_slice() else { panic!("academy-rt-peer URL TRANSPORT ROOM") };
    let transport = match transport.as_str() {
        "websocket" => TransportType::Websocket,
        "polling" => TransportType::Polling,
        _ => TransportType::Any,
    };
    let (last, room) = (Arc::new(AtomicU64::new(0)), room.clone());
    let note = |last: &AtomicU64, message: &Value| {
        last.fetch_max(message["id"].as_u64().unwrap_or_default(), Ordering::Relaxed);
        say("message", &message["content"]);
    };
    let seen = last.clone();
    let joins = move |payload: Payload, client: RawClient| {
        say("authenticated", &first(payload)["userId"]);
        let last = last.clone();
        let asked = json!({ "roomId": room, "after": last.load(Ordering::Relaxed) });
        let sent = client.emit_with_ack("chat:join", asked, Duration::from_secs(10), move |payload, _| {
            let joined = answer(payload);
            for message in joined["messages"].as_array().into_iter().flatten() {
                note(&last, message);
            }
            say("joined", &joined["ok"]);
        });
        if let Err(error) = sent {
            say("failed", &json!(error.to_string()));
        }
    };
    let client = ClientBuilder::new(url.as_str())
        .transport_type(transport)
        .auth(json!({ "token": std::env::var("TOKEN").unwrap_or_default() }))
        .reconnect(true)
        .reconnect_on_disconnect(true)
        .reconnect_delay(50, 200)
        .on("authenticated", joins)
        .on("chat:message", move |payload, _| note(&seen, &first(payload)))
        .on("auth_error", |payload, _| say("auth_error", &first(payload)["code"]))
        .on(Event::Close, |_, _| say("closed", &Value::Null))
        .on(Event::Error, |payload, _| say("error", &json!(format!("{payload:?}"))))
        .connect();
    let client = match client {
        Ok(client) => client,
        Err(error) => panic!("{error}"),
    };
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    let _ = client.disconnect();
    std::process::exit(0);
}
