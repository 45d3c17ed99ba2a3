//! Where a request came from, in the extensions of the request: what the outer service knows of the connection, for the
//! audit log and for who is let in.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use crate::domain::UserId;
use crate::observability::local_person;
use crate::transport::memory::Turn;

/// In a request over the control socket: for whom the command acts, in its own words. A command that runs as the
/// administrator of the machine knows it, and the server need not see other processes.
pub const BEHIND_COMMAND: &str = "x-academy-rt-person";

/// The request came over the control socket: whoever can open it is the administrator. Or over that of the readers, whose
/// requests are those that [`Route::is_for_readers`] lets pass.
///
/// [`Route::is_for_readers`]: crate::transport::http::routes::Route::is_for_readers
#[derive(Debug, Clone)]
pub struct OverControlSocket {
    /// The local user, if the system says it.
    pub user: Option<u32>,
    /// For whom they act, if the system or the command says it.
    pub behind: Option<String>,
    /// Whether it is the socket of those who may only read.
    pub reads_only: bool,
}

impl OverControlSocket {
    /// In words: which socket, and whose process is at its other end.
    #[must_use]
    pub fn describe(&self) -> String {
        let socket = if self.reads_only { "readers' socket" } else { "control socket" };
        match self.user {
            Some(user) => format!("{socket}, {}", local_person::in_words(user, self.behind.as_deref())),
            None => socket.to_owned(),
        }
    }
}

/// The request came over a connection whose other end has shown a client certificate of an authority in `tls.client_ca`.
#[derive(Debug, Clone, Copy)]
pub struct Certified;

/// The request came from this address.
#[derive(Debug, Clone, Copy)]
pub struct ClientAddress(pub IpAddr);

/// Who has sent the request, once they have signed in, and the memory that is kept for the answer. The transport that looks at
/// the token writes it, and whoever counts the request reads it.
#[derive(Debug, Clone, Default)]
pub struct SignedIn(Arc<Noted>);

#[derive(Debug, Default)]
struct Noted {
    user: OnceLock<UserId>,
    answer: Mutex<Option<Turn>>,
}

impl SignedIn {
    /// The token was good, and this is who it is.
    pub fn note(&self, user: &UserId) {
        // A request has one sender; the first word stands.
        let _ = self.0.user.set(user.clone());
    }

    /// Who it is; `None` as long as nobody has signed in.
    #[must_use]
    pub fn user(&self) -> Option<&UserId> {
        self.0.user.get()
    }

    /// There is memory for the answer.
    pub fn keep_for_answer(&self, turn: Turn) {
        *self.0.answer.lock() = Some(turn);
    }

    /// The memory that was kept for the answer.
    #[must_use]
    pub fn take_answer(&self) -> Option<Turn> {
        self.0.answer.lock().take()
    }
}

/// What an address is counted as: itself, or with IPv6, of which a user has a whole /64, that network.
#[must_use]
pub fn network_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => {
                let [a, b, c, d, ..] = v6.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
        },
    }
}

/// In words.
#[must_use]
pub fn describe(control: Option<&OverControlSocket>, address: Option<ClientAddress>) -> String {
    match (control, address) {
        (Some(control), _) => control.describe(),
        (None, Some(ClientAddress(address))) => address.to_string(),
        (None, None) => "unknown".to_owned(),
    }
}

/// The network that a request came from, in words: what refused sign-ins are gathered by.
#[must_use]
pub fn describe_network(control: Option<&OverControlSocket>, address: Option<ClientAddress>) -> String {
    match (control, address.map(|ClientAddress(address)| network_of(address))) {
        (None, Some(IpAddr::V6(network))) => format!("{network}/64"),
        (None, Some(IpAddr::V4(address))) => address.to_string(),
        _ => describe(control, address),
    }
}
