//! What the process says of itself, for the status and the health of a server that runs.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::archive::continuous::recorder::{Recorder, Standing};
use crate::config::Config;
use crate::domain::{Clock, SystemClock};
use crate::observability::certificate::{Validity, links};
use crate::observability::forwarding::Forwarding;
use crate::observability::process;
use crate::protocol::http::CertificateStatus;
use crate::server::audit_forward::Forwarder;
use crate::server::tls::Tls;
use crate::transport::http::Process;

/// What the process says of itself.
#[derive(Debug)]
pub(super) struct State {
    pub(super) started: Instant,
    pub(super) listening: Vec<SocketAddr>,
    pub(super) addresses: Vec<String>,
    pub(super) websocket_enabled: AtomicBool,
    pub(super) welcome: AtomicBool,
    pub(super) draining: AtomicBool,
    pub(super) data_dir: PathBuf,
    pub(super) tls: Option<Arc<Tls>>,
    /// The continuous backup, if there is one.
    pub(super) continuous: Option<Arc<Recorder>>,
    /// The forwarding of the audit log, if there is one.
    pub(super) forwarder: Option<Arc<Forwarder>>,
    /// Why the last reload was refused.
    pub(super) config_error: Mutex<Option<String>>,
    /// Why a certificate that has changed is not used.
    pub(super) certificate_error: Mutex<Option<String>>,
    /// Why keys that have changed are not used.
    pub(super) keys_error: Mutex<Option<String>>,
}

impl State {
    /// A process that serves from now on.
    pub(super) fn new(
        config: &Config,
        listening: Vec<SocketAddr>,
        tls: Option<Arc<Tls>>,
        continuous: Option<Arc<Recorder>>,
        forwarder: Option<Arc<Forwarder>>,
    ) -> State {
        let scheme = if tls.is_some() { "https" } else { "http" };
        State {
            started: Instant::now(),
            addresses: listening.iter().map(|address| format!("{scheme}://{address}")).collect(),
            listening,
            websocket_enabled: AtomicBool::new(config.server.websocket_enabled),
            welcome: AtomicBool::new(config.server.welcome),
            draining: AtomicBool::new(false),
            data_dir: config.storage.data_dir.clone(),
            tls,
            continuous,
            forwarder,
            config_error: Mutex::default(),
            certificate_error: Mutex::default(),
            keys_error: Mutex::default(),
        }
    }
}

impl Process for State {
    fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    fn addresses(&self) -> Vec<String> {
        self.addresses.clone()
    }

    fn websocket_enabled(&self) -> bool {
        self.websocket_enabled.load(Ordering::Acquire)
    }

    fn has_welcome(&self) -> bool {
        self.welcome.load(Ordering::Acquire)
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    fn certificate(&self) -> Option<CertificateStatus> {
        let material = self.tls.as_ref()?.material();
        let (leaf, first_end, now) = (material.leaf()?, material.first_end()?, SystemClock.now());
        Some(CertificateStatus {
            names: leaf.names.clone(),
            not_before: links(&material.chain).map(|facts| facts.not_before).max()?,
            not_after: first_end.not_after,
            days_left: first_end.days_left(now),
            is_valid: !matches!(material.validity(now), Validity::Expired | Validity::NotYet),
            ends_first: (first_end != leaf).then(|| first_end.subject.clone()),
            self_signed: leaf.is_self_issued,
        })
    }

    fn config_error(&self) -> Option<String> {
        self.config_error.lock().clone()
    }

    fn certificate_error(&self) -> Option<String> {
        self.certificate_error.lock().clone()
    }

    fn keys_error(&self) -> Option<String> {
        self.keys_error.lock().clone()
    }

    fn continuous(&self) -> Option<Standing> {
        self.continuous.as_ref().map(|recorder| recorder.standing())
    }

    fn forwarding(&self) -> Option<Forwarding> {
        self.forwarder.as_ref().map(|forwarder| forwarder.standing())
    }

    fn free_bytes(&self) -> Option<u64> {
        process::free_bytes(&self.data_dir)
    }
}
