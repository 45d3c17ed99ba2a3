//! Reload: on SIGHUP the configuration is read again, checked as a whole, and taken; or the old one stays in force, and the
//! log says why. Certificates and keys are taken when their files change, too. Live connections are never touched by it, but for one
//! case: Socket.IO is switched off.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use parking_lot::Mutex;
use signal_hook::consts::SIGHUP;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::Origin;
use signal_hook_tokio::SignalsInfo;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::auth::Verifier;
use crate::config::{Config, KEYS, TlsMode};
use crate::domain::audit::action;
use crate::domain::{Clock, Timestamp};
use crate::observability::certificate::Validity;
use crate::observability::clock_watch::ClockWatch;
use crate::observability::local_person;
use crate::services::{App, Settings};
use crate::transport::socketio::SocketIoTransport;

use super::tls::{self, Material, Tls};
use super::{BACKUP_RESTS, Launcher, State, systemd};
use crate::domain::problem::Problem;
use crate::server::file_watcher::WatchedFiles;
use crate::server::listener::Connections;
use crate::server::middleware::{Middleware, MiddlewareSettings};
use crate::server::platform::Link;
use crate::server::{addresses, key_files};

/// How often the files of the certificate and of the keys are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// How often the end of the certificate is looked at.
const DAILY: Duration = Duration::from_secs(24 * 60 * 60);
/// When Socket.IO is switched off, sockets are closed over so long a time: they all come back by polling.
const SPREAD: Duration = Duration::from_secs(3);

/// Everything that a reload reaches.
pub(super) struct Reloader {
    pub(super) launcher: Arc<dyn Launcher>,
    pub(super) app: Arc<App>,
    pub(super) verifier: Arc<Verifier>,
    pub(super) middleware: Arc<Middleware>,
    pub(super) sockets: Arc<SocketIoTransport>,
    pub(super) connections: Arc<Connections>,
    pub(super) state: Arc<State>,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) platform: Arc<Link>,
    /// What is in force; of keys that wait for a restart, what was last read.
    pub(super) config: Mutex<Arc<Config>>,
    /// The files that the keys in force were read from.
    pub(super) key_files: Mutex<Arc<WatchedFiles>>,
}

/// Signals that ask for a reload, with who sent them.
pub(super) type Hangups = SignalsInfo<WithOrigin>;

/// The signal that asks for a reload.
///
/// # Errors
/// If it cannot be handled.
pub(super) fn hangup() -> Result<Hangups, Problem> {
    SignalsInfo::new([SIGHUP]).map_err(|error| Problem::new("signals cannot be handled", error, "Report this."))
}

impl Reloader {
    /// The configuration in force.
    pub(super) fn config(&self) -> Arc<Config> {
        self.config.lock().clone()
    }

    /// Reloads when asked, uses changed certificates and keys, and warns before they expire, until it is asked to stop.
    pub(super) async fn look_after(&self, mut hangup: Hangups, stop: CancellationToken) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut days = interval(DAILY);
        let mut clocks = ClockWatch::new(self.clock.now(), Instant::now().into_std());
        // What was said of a file that cannot be used, until it says something else.
        let (mut said, mut said_of_keys) = (String::new(), String::new());
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                received = hangup.next() => match received {
                    Some(origin) => self.reload(&asker(&origin), &stop).await,
                    None => return,
                },
                _ = looks.tick() => {
                    self.launcher.tell_left_out_lines();
                    self.take_changed_certificate(&mut said).await;
                    self.take_changed_keys(&mut said_of_keys).await;
                    // What was good by one clock may not be so by another one.
                    if clocks.look(self.clock.now(), Instant::now().into_std()).is_some() {
                        self.look_at_the_end().await;
                    }
                }
                _ = days.tick() => self.look_at_the_end().await,
            }
        }
    }

    async fn reload(&self, asker: &str, stop: &CancellationToken) {
        systemd::reloading();
        let began = Instant::now();
        let taken = self.take(asker).await;
        let error = taken.as_ref().err().map(ToString::to_string);
        *self.state.config_error.lock() = error;
        match taken {
            Ok(waiting) => {
                let took_ms = began.elapsed().as_millis();
                if waiting.is_empty() {
                    tracing::info!(took_ms, "reloaded: the new configuration is in force; asked for by {asker}");
                } else {
                    let waiting = waiting.join(", ");
                    tracing::warn!(
                        took_ms,
                        "reloaded; these keys take effect at the next restart: {waiting}; asked for by {asker}"
                    );
                }
                systemd::ready(self.state.addresses.first().map_or("", String::as_str));
            }
            Err(error) => {
                tracing::error!(
                    "not reloaded; the previous configuration remains in force: {error} Asked for by {asker}."
                );
                systemd::kept(&error.to_string());
            }
        }
        if !self.config().server.websocket_enabled {
            self.sockets.dismiss(SPREAD, stop).await;
        }
    }

    /// Takes the new configuration, whole or not at all; gives the changed keys that wait for a restart.
    async fn take(&self, asker: &str) -> Result<Vec<&'static str>, Problem> {
        let old = self.config();
        let new = self.launcher.reread()?;
        for address in &self.state.listening {
            addresses::refuse_plain_http_outside(&new, *address)?;
        }
        // Reads files: not on a thread that serves.
        let (config, now) = (new.clone(), self.clock.now());
        let (loaded, material, platform) = tokio::task::spawn_blocking(move || {
            (key_files::load(&config), tls::load(&config, now), Link::prepare(&config))
        })
        .await
        .map_err(|error| Problem::new("the reload did not end", error, "Try again."))?;
        let ((loaded, watched), material, platform) = (loaded?, material?, platform?);
        if let (Some(tls), Some(material)) = (&self.tls, &material) {
            material.may_replace(&tls.material(), now)?;
        }
        // Everything is good: from here on nothing can fail.
        if let (Some(tls), Some(material)) = (&self.tls, material) {
            log_warnings(&material);
            self.put_certificate(tls, material);
        }
        let key_changes = self.put_keys(&new.auth, loaded, watched);
        self.app.rates.replace(&new.limits);
        let mut settings = Settings::new(&new, BACKUP_RESTS);
        // Purges wait for the receiver that records are forwarded to, which a restart alone changes.
        settings.audit.forward = self.app.settings.get().audit.forward.clone();
        self.app.settings.replace(settings);
        self.app.webhooks.plan();
        self.platform.replace(platform);
        self.middleware.resettle(MiddlewareSettings::new(&new));
        self.state.websocket_enabled.store(new.server.websocket_enabled, Ordering::Release);
        self.state.welcome.store(new.server.welcome, Ordering::Release);
        self.launcher.reconfigure_log(&new);
        if old.tls.client_ca.is_none() && new.tls.client_ca.is_some() {
            self.sockets.dismiss_the_uncertified();
        }
        // Who is in a room that they could not join any more is out of it.
        if old.chat.open_rooms && !new.chat.open_rooms {
            self.app.rooms.recheck_all().await;
        }
        let (waiting, changes) = (waiting_for_restart(&old, &new), changes(&old, &new));
        *self.config.lock() = Arc::new(new);
        if let Some(changes) = key_changes {
            self.app.audit.record_keys(changes).await;
        }
        if !changes.is_empty() {
            let outcome = format!("done: {}", changes.join("; "));
            self.app.uses.record_of_server(action::RELOAD, asker, &outcome).await;
        }
        Ok(waiting)
    }

    /// Takes a certificate whose files have changed. While they do not fit each other yet, the old one stays.
    async fn take_changed_certificate(&self, said: &mut String) {
        let Some(tls) = &self.tls else { return };
        let current = tls.material();
        let is_outdated = tokio::task::spawn_blocking({
            let current = current.clone();
            move || current.is_outdated()
        });
        let is_outdated = is_outdated.await.unwrap_or_default();
        let error = if is_outdated { self.renew_certificate(tls, &current).await.err() } else { None };
        let words = error.map(|error| error.to_string()).unwrap_or_default();
        if !words.is_empty() && *said != words {
            tracing::error!("the changed certificate is not used; the previous one remains in force: {words}");
        }
        *self.state.certificate_error.lock() = Some(words.clone()).filter(|words| !words.is_empty());
        *said = words;
        // What a client certificate has opened lasts as long as that does.
        self.cut_uncertified(tls, Some(self.clock.now()));
    }

    async fn look_at_the_end(&self) {
        self.take_certificate_that_ends().await;
        self.warn_of_the_end();
    }

    /// A certificate of the server's own is made again in time, and when the clock shows that it was made by a wrong one.
    async fn take_certificate_that_ends(&self) {
        let Some(tls) = &self.tls else { return };
        let current = tls.material();
        if current.validity(self.clock.now()) != Validity::Good
            && self.config().tls.mode == TlsMode::SelfSigned
            && let Err(error) = self.renew_certificate(tls, &current).await
        {
            tracing::error!("the certificate was not renewed: {error}");
        }
    }

    async fn renew_certificate(&self, tls: &Tls, current: &Material) -> Result<(), Problem> {
        let (config, now) = (self.config(), self.clock.now());
        let loaded = tokio::task::spawn_blocking(move || tls::load(&config, now)).await;
        let loaded = loaded.map_err(|error| Problem::new("the certificate was not read", error, "Try again."))?;
        let Some(material) = loaded? else { return Ok(()) };
        material.may_replace(current, now)?;
        log_warnings(&material);
        self.put_certificate(tls, material);
        tracing::info!(tls = %tls.summary(), "new connections use a new certificate");
        Ok(())
    }

    /// New connections get another certificate. What was opened with a client certificate that is not good by the new authorities and
    /// revocation lists ends.
    fn put_certificate(&self, tls: &Tls, material: Material) {
        tls.replace(material);
        self.cut_uncertified(tls, None);
    }

    /// Ends what was opened with a client certificate that is not good any more: of all, or of those that are over at a moment.
    fn cut_uncertified(&self, tls: &Tls, over_at: Option<Timestamp>) {
        let (material, now) = (tls.material(), self.clock.now());
        let ended = self.connections.cut_uncertified(over_at, |chain| material.why_not(chain, now));
        if ended > 0 {
            tracing::warn!(
                "closed {ended} connections whose client certificate is not good any more (tls.client_ca, tls.client_crl)"
            );
        }
    }

    fn warn_of_the_end(&self) {
        let Some(tls) = &self.tls else { return };
        let (material, now) = (tls.material(), self.clock.now());
        for warning in material.authority_warnings(now) {
            tracing::error!("{warning}");
        }
        if let Some(warning) = material.revocation_warning(now) {
            tracing::error!("{warning}");
        }
        let Some(first) = material.first_end() else { return };
        let (days_left, of) = (first.days_left(now), first.subject.as_str());
        match material.validity(now) {
            Validity::Soon => {
                tracing::warn!(days_left, of, "the TLS certificate expires soon; replace it")
            }
            Validity::VerySoon | Validity::Expired => {
                tracing::error!(
                    days_left,
                    of,
                    "the TLS certificate expires within days or has expired, and clients will refuse it; replace it"
                );
            }
            Validity::NotYet => {
                let faults = tls::time_faults(&material.chain, now).join("; ");
                tracing::error!("the TLS certificate is not valid yet, and clients refuse it: {faults}");
            }
            Validity::Good => {}
        }
    }
}

/// Who has sent a signal, in words: the local user, who has signed in as whom if the kernel says it, and the process while it is
/// there. A sender in another container has no number here.
fn asker(origin: &Origin) -> String {
    let Some(process) = origin.process.as_ref().filter(|process| process.pid > 0) else {
        return "unknown (SIGHUP)".to_owned();
    };
    let (pid, user) = (process.pid, process.uid);
    let login = local_person::login_of(&pid.to_string()).filter(|login| *login != user).map(local_person::named);
    let who = local_person::in_words(user, login.as_deref());
    let program = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok();
    match program.as_deref().and_then(local_person::clean) {
        Some(program) => format!("{who} (SIGHUP by {program}, process {pid})"),
        None => format!("{who} (SIGHUP by process {pid})"),
    }
}

fn log_warnings(material: &Material) {
    for warning in &material.warnings {
        tracing::warn!("{warning}");
    }
}

/// So many characters of a value are said of it.
const VALUE_CHARS: usize = 100;

/// What another configuration has changed, in words for the audit log. Of a secret only that it is another one.
fn changes(old: &Config, new: &Config) -> Vec<String> {
    let shown = |value: String| match value.chars().count() {
        0 => "nothing".to_owned(),
        count if count > VALUE_CHARS => format!("{}...", value.chars().take(VALUE_CHARS).collect::<String>()),
        _ => value,
    };
    let differ = KEYS.iter().filter(|key| old.value(key) != new.value(key));
    let words = differ.map(|key| {
        let when = if key.is_live { "" } else { " from the next start on" };
        match key.is_secret {
            true => format!("{} is another one{when}", key.name),
            false => format!("{} is {}{when} (was {})", key.name, shown(new.value(key)), shown(old.value(key))),
        }
    });
    words.collect()
}

/// The keys whose values differ, and that are not taken before a restart.
fn waiting_for_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let is_off = |config: &Config| config.tls.mode == TlsMode::Off;
    let mut waiting: Vec<&'static str> = Vec::new();
    for key in KEYS.iter().filter(|key| !key.is_live) {
        if old.value(key) != new.value(key) {
            waiting.push(key.name);
        }
    }
    if is_off(old) != is_off(new) {
        waiting.push("tls.mode");
    }
    waiting
}
