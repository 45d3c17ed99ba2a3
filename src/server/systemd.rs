//! The service manager: sockets that it has opened, notifications to it (ready, reloading, stopping), and its watchdog, which is
//! fed only while the writer gets on and the listeners accept. Without systemd all of this does nothing.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr as UnixSocketAddr, UnixDatagram};
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

use crate::services::App;

use super::listener::{Connections, Probed};
use crate::domain::problem::Problem;

/// The sockets that were opened for this process (`LISTEN_FDS`), in their order.
///
/// # Errors
/// If one of them is no TCP listener.
pub(super) fn listeners() -> Result<Vec<TcpListener>, Problem> {
    let mut passed = ListenFd::from_env();
    let mut listeners = Vec::new();
    for index in 0..passed.len() {
        let taken = passed.take_tcp_listener(index).map_err(|error| {
            let remedy = "Each ListenStream= in academy-rt.socket must be a port, or an address with a port.";
            Problem::new("a socket of the service manager cannot be used", error, remedy)
        })?;
        listeners.extend(taken);
    }
    Ok(listeners)
}

/// The service serves.
pub(super) fn ready(url: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(&format!("serving at {url}"))]);
}

/// The configuration is read again; [`ready`] or [`kept`] ends it.
pub(super) fn reloading() {
    // Type=notify-reload (systemd 253) wants to know since when; 252 does not mind.
    match NotifyState::monotonic_usec_now() {
        Ok(since) => notify(&[NotifyState::Reloading, since]),
        Err(_) => notify(&[NotifyState::Reloading]),
    }
}

/// The old configuration stays in force.
pub(super) fn kept(why: &str) {
    let status = format!("serving with the old configuration: {}", why.replace('\n', " "));
    notify(&[NotifyState::Ready, NotifyState::Status(&status)]);
}

/// The service is about to stop.
pub(super) fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Feeds the watchdog (`WatchdogSec=`) until it is asked to stop. The server owns the task.
pub(super) async fn watchdog(app: &App, connections: &Connections, addresses: &[SocketAddr], stop: CancellationToken) {
    // Without a watchdog there is nothing to feed.
    let Some(timeout) = sd_notify::watchdog_enabled() else { return stop.cancelled().await };
    // Twice within its timeout, as sd_watchdog_enabled(3) advises.
    let half = timeout / 2;
    let mut ticks = tokio::time::interval(half.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        match health(app, connections, addresses, half).await {
            Ok(()) => notify(&[NotifyState::Watchdog]),
            Err(why) => tracing::error!(
                why,
                "the server is not healthy: withholding the watchdog signal, so that the service manager restarts it"
            ),
        }
    }
}

async fn health(
    app: &App,
    connections: &Connections,
    addresses: &[SocketAddr],
    timeout: Duration,
) -> Result<(), String> {
    let busy = app.store.status().busy;
    if busy > timeout {
        return Err(format!("the writer has been at one commit for {} s", busy.as_secs()));
    }
    for address in addresses {
        match tokio::time::timeout(timeout, connections.probe(*address)).await {
            Ok(Probed::Accepted) => {}
            // A restart would give nobody more descriptors, nor IPv6: that says nothing of who accepts.
            Ok(Probed::Unable(error)) => tracing::debug!(%address, %error, "this machine cannot probe the address"),
            Err(_) if connections.lacked_descriptors_within(timeout) => {}
            Ok(Probed::Dead(error)) => return Err(format!("no connection to {address}: {error}")),
            Err(_) => return Err(format!("nobody accepts at {address}")),
        }
    }
    Ok(())
}

fn notify(state: &[NotifyState<'_>]) {
    let socket = std::env::var_os("NOTIFY_SOCKET").unwrap_or_default();
    let sent = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => notify_abstract(name, state),
        None => sd_notify::notify(state),
    };
    if let Err(error) = sent {
        tracing::warn!(%error, socket = %socket.display(), "could not notify the service manager");
    }
}

/// To a socket that has a name and no file, as sd_notify(3) has it: the library knows only files.
fn notify_abstract(name: &[u8], state: &[NotifyState<'_>]) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&UnixSocketAddr::from_abstract_name(name)?)?;
    let lines: String = state.iter().map(|line| format!("{line}\n")).collect();
    socket.send(lines.as_bytes()).map(drop)
}
