//! The tasks that the server owns. Each has a name, and its end is noticed: one that ends before the server does is a failure of
//! the server, not a silence.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};

/// What a task does.
pub(super) type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The tasks of a server.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    running: JoinSet<()>,
    names: HashMap<Id, &'static str>,
}

/// A task that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// Its name.
    pub(super) name: &'static str,
    /// How it ended, in words.
    pub(super) why: String,
}

impl Tasks {
    /// Starts a task.
    pub(super) fn own(&mut self, name: &'static str, work: Work) {
        let work = fault::around(name, work);
        let id = self.running.spawn(work).id();
        self.names.insert(id, name);
    }

    /// Waits until one of them ends. It may be given up and called again.
    pub(super) async fn ended(&mut self) -> Ended {
        match self.running.join_next_with_id().await {
            Some(ended) => self.noted(ended),
            // Without tasks none of them ends.
            None => std::future::pending().await,
        }
    }

    fn noted(&mut self, ended: Result<(Id, ()), JoinError>) -> Ended {
        let (id, why) = match ended {
            Ok((id, ())) => (id, "it came to its end".to_owned()),
            Err(error) if error.is_panic() => (error.id(), "it panicked".to_owned()),
            Err(error) => (error.id(), error.to_string()),
        };
        Ended { name: self.names.remove(&id).unwrap_or("unknown"), why }
    }

    /// Waits for tasks that were asked to stop, and aborts those that do not end within the timeout each.
    pub(super) async fn end_all(&mut self, timeout: Duration, which: impl Fn(&str) -> bool) {
        while self.names.values().any(|name| which(name)) {
            match tokio::time::timeout(timeout, self.running.join_next_with_id()).await {
                Ok(Some(ended)) => {
                    let ended = self.noted(ended);
                    tracing::debug!(task = ended.name, why = ended.why, "a task has ended");
                }
                Ok(None) => return,
                Err(_) => {
                    let left: Vec<&str> = self.names.values().copied().filter(|name| which(name)).collect();
                    tracing::warn!(tasks = left.join(", "), "tasks did not end in time; aborting them");
                    self.names.retain(|_, name| !which(name));
                    if self.names.is_empty() {
                        self.running.abort_all();
                    }
                    return;
                }
            }
        }
    }
}

/// Tests of a debug build may let a task fail, to see that it is noticed: `TEST_FAULT_IN_TASK=NAME`, at the signal SIGUSR2.
mod fault {
    use super::Work;

    #[cfg(not(debug_assertions))]
    pub(super) fn around(_name: &'static str, work: Work) -> Work {
        work
    }

    #[cfg(debug_assertions)]
    #[allow(clippy::panic, reason = "a fault that a test asks for")]
    pub(super) fn around(name: &'static str, work: Work) -> Work {
        use tokio::signal::unix::{SignalKind, signal};
        if std::env::var("TEST_FAULT_IN_TASK").ok().as_deref() != Some(name) {
            return work;
        }
        Box::pin(async move {
            let Ok(mut asked) = signal(SignalKind::user_defined2()) else { return work.await };
            tokio::select! {
                () = work => {}
                _ = asked.recv() => panic!("a fault that a test asked for"),
            }
        })
    }
}
