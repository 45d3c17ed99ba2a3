//! `status`: the running server at a glance.

use clap::Args;
use http::Method;
use serde_json::Value;

use crate::domain::Timestamp;
use crate::ops::backup;

use super::Global;
use super::client::{Call, ServerArgs, call};
use super::exit::Exit;

/// Show the running server at a glance. Exit status 3 if it takes no requests.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// Asks and shows.
///
/// # Errors
/// If no server answers.
pub fn run(global: &Global, args: StatusArgs) -> anyhow::Result<Exit> {
    let answer = call(global, &args.server, Call::new(Method::GET, "/api/v1/admin/status", None))?;
    global.print(&answer, || text(&answer))?;
    let is_ready = answer.get("ready").and_then(Value::as_bool).unwrap_or_default();
    Ok(if is_ready { Exit::Done } else { Exit::Found })
}

fn text(answer: &Value) -> String {
    let number = |pointer: &str| answer.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
    let word = |pointer: &str| answer.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let uptime = number("/uptimeSeconds");
    let health = match answer.get("ready").and_then(Value::as_bool) {
        Some(true) => "ready".to_owned(),
        _ => format!("NOT READY: {}", word("/reason")),
    };
    let realtime = if answer.get("websocketEnabled").and_then(Value::as_bool) == Some(true) { "on" } else { "off" };
    format!(
        "academy-rt {version}  {health}\n\
         \x20 address     {address}\n\
         \x20 up          {hours} h {minutes} min\n\
         \x20 Socket.IO   {realtime}\n\
         \x20 sockets     {total} ({websocket} WebSocket, {polling} polling), {users} users in {rooms} rooms\n\
         \x20 sent        {deliveries} events; {slow} slow readers cut off\n\
         \x20 store       {mib:.1} MiB, {writes} writes in {commits} commits, {queued} waiting\n\
         \x20 last backup {backup}",
        version = word("/version"),
        address = word("/addresses/0"),
        hours = uptime / 3_600,
        minutes = uptime % 3_600 / 60,
        total = number("/sockets/total"),
        websocket = number("/sockets/websocket"),
        polling = number("/sockets/polling"),
        users = number("/users"),
        rooms = number("/rooms"),
        deliveries = number("/deliveries"),
        slow = number("/slowReaders"),
        mib = number("/store/fileBytes") as f64 / f64::from(1 << 20),
        writes = number("/store/writes"),
        backup = match answer.pointer("/store/lastBackup/at").and_then(Value::as_u64) {
            Some(at) => format!(
                "{} ({:.1} MiB)",
                backup::moment(Timestamp(at)),
                number("/store/lastBackup/bytes") as f64 / f64::from(1 << 20)
            ),
            None => "none yet: academy-rt backup FILE makes one".to_owned(),
        },
        commits = number("/store/commits"),
        queued = number("/store/queued"),
    )
}
