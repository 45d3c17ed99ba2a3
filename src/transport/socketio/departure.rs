//! What happens when a namespace ends, in line: the library hears of a client that leaves and comes again in one breath.

use std::sync::Arc;

use socketioxide::adapter::LocalAdapter;
use socketioxide::handler::DisconnectHandler;
use socketioxide::socket::{DisconnectReason, Socket};

use crate::transport::socketio::SocketIoTransport;
use crate::transport::socketio::mailbox::InOrder;
use crate::transport::socketio::socket::Link;

/// Called when the namespace of a socket ends, however that comes.
#[derive(Debug)]
pub struct Departure {
    link: Arc<Link>,
    transport: Arc<SocketIoTransport>,
}

impl Departure {
    /// Of a socket that is about to sign in.
    #[must_use]
    pub fn of(link: Arc<Link>, transport: Arc<SocketIoTransport>) -> Departure {
        Departure { link, transport }
    }
}

impl DisconnectHandler<LocalAdapter, InOrder> for Departure {
    /// Runs inside the library's read loop, synchronously, and `defer` with it, which takes the socket out of the namespace. The
    /// library's own handlers do that in a task behind them: a packet `40` right behind a `41` finds the socket there still, and is
    /// passed over as one too many.
    fn call_with_defer(
        &self,
        socket: Arc<Socket<LocalAdapter>>,
        reason: DisconnectReason,
        defer: fn(Arc<Socket<LocalAdapter>>),
    ) {
        // What is said to it from now on is not for whoever signs in next on its connection, who finds its place free.
        self.transport.leave(&self.link);
        if reason == DisconnectReason::ClientNSDisconnect {
            self.link.leave_session(self.transport.limits.sign_in);
        }
        // Whose namespace alone has ended may say more on the session.
        if !matches!(reason, DisconnectReason::ClientNSDisconnect | DisconnectReason::ServerNSDisconnect) {
            self.transport.directory.sessions.forget(&self.link.session);
        }
        let (socket_number, transport) = (self.link.number, self.transport.clone());
        self.transport.tasks().spawn(async move { transport.app.presence.depart(socket_number).await });
        defer(socket);
    }
}
