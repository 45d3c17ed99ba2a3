//! An answer that is waited for. The routes hold the request and a state of their own for as long as a handler works, some
//! 10 KiB; so a handler that waits for something to happen gives back what is left to do, and they are let go first.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::transport::http::Response;

type Rest = Pin<Box<dyn Future<Output = Response> + Send>>;

/// What is left to do for an answer, in the extensions of the one that stands for it.
#[derive(Clone)]
pub struct Later(Arc<Mutex<Option<Rest>>>);

impl Later {
    /// An answer that stands for what comes later.
    pub(super) fn response(rest: impl Future<Output = Response> + Send + 'static) -> Response {
        let mut response = Response::default();
        response.extensions_mut().insert(Later(Arc::new(Mutex::new(Some(Box::pin(rest))))));
        response
    }

    /// The rest, once.
    #[must_use]
    pub fn take(&self) -> Option<Pin<Box<dyn Future<Output = Response> + Send>>> {
        self.0.lock().take()
    }
}
