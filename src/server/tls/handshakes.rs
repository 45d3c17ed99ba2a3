//! TLS handshakes, on threads of their own: what a stranger asks of the processor before anything is known of them does not
//! hold up who is in. A flood of handshakes waits in these threads' queue, and in no other (siege.test.mjs). A lower priority of
//! theirs was tried, too: it brings nothing more, and the sandbox of the unit refuses the call.

use std::future::Future;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::available_parallelism;

use rustls::{HandshakeKind, ServerConnection};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinError;
use tokio_rustls::server::TlsStream;
use tokio_util::task::AbortOnDropHandle;

use crate::domain::Clock;
use crate::domain::problem::Problem;
use crate::server::tls::Tls;

/// Makes handshakes.
#[derive(Debug)]
pub struct Handshakes {
    tls: Arc<Tls>,
    clock: Arc<dyn Clock>,
    threads: Threads,
}

impl Handshakes {
    /// Handshakes by this TLS, on half as many threads as there are processors, and one at least.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn new(tls: Arc<Tls>, clock: Arc<dyn Clock>) -> Result<Handshakes, Problem> {
        let threads = Threads::new(available_parallelism().map_or(1, NonZeroUsize::get).div_ceil(2));
        let threads = threads.map_err(|error| {
            let remedy = "Increase the limit of threads: TasksMax= in the unit, or ulimit -u.";
            Problem::new("the threads for TLS cannot be started", error, remedy)
        })?;
        Ok(Handshakes { tls, clock, threads })
    }

    /// Secures a connection. It is given up with the future that waits for it.
    ///
    /// # Errors
    /// The other end speaks no TLS, or none that is taken here; or the server ends.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let accepted = self.threads.run(self.tls.acceptor().accept(stream)).await;
        let stream = accepted.unwrap_or_else(|error| Err(io::Error::other(error)))?;
        self.look_again(stream.get_ref().1)?;
        Ok(stream)
    }

    /// In a session that is taken up nobody shows a certificate: the one that began it counts, and may be over by now.
    fn look_again(&self, connection: &ServerConnection) -> io::Result<()> {
        let Some(chain) = connection.peer_certificates() else { return Ok(()) };
        if connection.handshake_kind() == Some(HandshakeKind::Resumed)
            && let Some(why) = self.tls.material().why_not(chain, self.clock.now())
        {
            let what = "the client certificate of a session that is taken up is not good any more";
            return Err(io::Error::other(format!("{what}: {why}")));
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Threads {
    handle: Handle,
    /// There until it is dropped.
    runtime: Option<Runtime>,
}

impl Threads {
    fn new(count: usize) -> io::Result<Threads> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(count)
            .max_blocking_threads(1)
            .thread_name("academy-rt-tls")
            .build()?;
        Ok(Threads { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    async fn run<T, F>(&self, future: F) -> Result<T, JoinError>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        AbortOnDropHandle::new(self.handle.spawn(future)).await
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Waiting for its threads is not allowed in a task; what they do is given up by those who wait for it.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn what_is_made_there_is_made_on_a_thread_of_its_own() {
        let threads = Threads::new(1).unwrap();
        let name = threads.run(async { std::thread::current().name().map(str::to_owned) }).await.unwrap();
        assert_eq!(name.as_deref(), Some("academy-rt-tls"));
    }

    #[tokio::test]
    async fn a_handshake_is_given_up_with_who_waits_for_it() {
        let threads = Threads::new(1).unwrap();
        let held = Arc::new(());
        let there = held.clone();
        let waiting = threads.run(async move {
            let _there = there;
            pending::<()>().await;
        });
        assert!(tokio::time::timeout(Duration::from_millis(20), waiting).await.is_err());
        while Arc::strong_count(&held) > 1 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_panic_there_ends_nothing_else() {
        let threads = Threads::new(1).unwrap();
        assert!(threads.run(async { panic!("on purpose") }).await.unwrap_err().is_panic());
        assert_eq!(threads.run(async { 1 }).await.unwrap(), 1);
    }
}
