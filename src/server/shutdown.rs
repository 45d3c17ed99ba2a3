//! How the server ends: in phases, each with a limit.

use std::sync::atomic::Ordering;

use crate::domain::problem::Problem;
use crate::server::{END_TIMEOUT, FEED_READER, SEARCH, Server, continuous};
use crate::services::app;

/// The signals that end the server.
pub(crate) struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    /// Handles them from now on, instead of being ended by them.
    pub(crate) fn new() -> Result<Signals, Problem> {
        use tokio::signal::unix::{SignalKind, signal};
        let listen = |kind| signal(kind).map_err(|e| Problem::new("signals cannot be handled", e, "Report this."));
        Ok(Signals { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    /// Resolves at the first of them.
    pub(crate) async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

impl Server {
    /// Ends the server: nothing new is accepted, sockets are notified, running requests are finished within the drain, the store
    /// is committed and closed. A second signal skips the waiting, never the store.
    pub(super) async fn stop(mut self, mut signals: Signals) -> Result<(), Problem> {
        self.state.draining.store(true, Ordering::Release);
        self.app.long_poll.end_all();
        // Who is between two polls has to come once more to hear of it.
        self.sockets.take_leave().await;
        self.draining.cancel();
        let drain = self.reloader.config().server.drain;
        let deadline = tokio::time::Instant::now() + drain;
        let tracker = self.connections.tracker();
        let drained = async {
            self.sockets.let_go(drain / 3).await;
            // Requests that sockets have made are answered before the library ends what is left.
            let tasks = self.sockets.tasks();
            tasks.close();
            let _ = tokio::time::timeout(END_TIMEOUT, tasks.wait()).await;
            if tokio::time::timeout(END_TIMEOUT, self.io.close()).await.is_err() {
                tracing::info!("drain timed out for some sockets; closing them");
            }
            tracker.close();
            tracker.wait().await;
        };
        tokio::select! {
            result = tokio::time::timeout_at(deadline, drained) => {
                if result.is_err() {
                    tracing::warn!(connections = tracker.len(), "drain timed out; closing what is left");
                }
            }
            () = signals.wait() => tracing::warn!("second signal: stopping without waiting for the drain"),
        }
        self.connections.cut_all();
        // The tasks first: the last marks that they record are in the store when it is closed. The pump ends with the feed, and the
        // index of search when nothing is written any more.
        self.stopping.cancel();
        self.tasks.end_all(END_TIMEOUT, |name| name != FEED_READER && name != SEARCH).await;
        if let Some((recorder, _)) = &self.recorder {
            recorder.give_up_base();
        }
        let closed = app::close(&self.app).await;
        if let Some((recorder, ended)) = self.recorder.take() {
            continuous::end(&recorder, ended).await;
        }
        self.tasks.end_all(END_TIMEOUT, |_| true).await;
        // A path that is not there any more is as good.
        for path in self.readers.iter().chain([&self.control]) {
            let _ = std::fs::remove_file(path);
        }
        match closed {
            Ok(()) => {
                tracing::info!("stopped");
                Ok(())
            }
            Err(error) => Err(Problem::new(
                "the store was not closed cleanly",
                error,
                "No acknowledged data are lost: the next start checks the store.",
            )),
        }
    }
}
