//! Keys of tokens while the server runs: taken when their files change. A file that cannot be used leaves all keys as they
//! were, and is reported in the log and in the status until it is fixed. Live sockets keep what they have: a key that is gone
//! ends none of them before its token does.

use std::sync::Arc;

use crate::archive::moments::moment;
use crate::auth::Keys;
use crate::auth::sources::LoadedKeys;
use crate::config::Auth;

use crate::domain::problem::Problem;
use crate::server::file_watcher::WatchedFiles;
use crate::server::key_files;
use crate::server::reload::Reloader;

impl Reloader {
    /// Takes keys whose files have changed. What was said of files that cannot be used is said once.
    pub(super) async fn take_changed_keys(&self, said: &mut String) {
        let watched = self.key_files.lock().clone();
        let is_outdated = tokio::task::spawn_blocking(move || watched.is_outdated()).await.unwrap_or_default();
        let error = if is_outdated { self.renew_keys().await.err() } else { None };
        let words = error.as_ref().map(ToString::to_string).unwrap_or_default();
        if let Some(error) = &error
            && *said != words
        {
            tracing::error!("the changed key files are not used; the previous keys remain in force: {error}");
        }
        *said = words;
        *self.state.keys_error.lock() = error.map(|error| error.to_string());
    }

    async fn renew_keys(&self) -> Result<(), Problem> {
        let config = self.config();
        let auth = config.auth.clone();
        let loaded = tokio::task::spawn_blocking(move || key_files::load(&config)).await;
        let (loaded, watched) =
            loaded.map_err(|error| Problem::new("the keys were not read", error, "Try again."))??;
        if let Some(changes) = self.put_keys(&auth, loaded, watched) {
            self.app.audit.record_keys(changes).await;
        }
        Ok(())
    }

    /// Puts keys in force, and gives what is another one by it, for the audit log.
    pub(super) fn put_keys(&self, auth: &Auth, loaded: LoadedKeys, watched: WatchedFiles) -> Option<String> {
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        let changes = changes(&self.verifier.keys(), &loaded.keys);
        self.verifier.replace(auth, loaded.keys);
        *self.key_files.lock() = Arc::new(watched);
        // A file that was written anew with what was in it before is no news.
        if let Some(changes) = &changes {
            tracing::info!("the keys for tokens have changed: {changes}");
        }
        changes
    }
}

/// What is another one, in words for the log and the audit log; nothing if nothing is.
fn changes(old: &Keys, new: &Keys) -> Option<String> {
    let mut words = Vec::new();
    for key in new.iter() {
        match old.iter().find(|known| known.is_same_key(key)) {
            None => words.push(format!("added {key}")),
            Some(known) if known.until != key.until => words.push(match key.until {
                Some(until) => format!("{key} ends at {}", moment(until)),
                None => format!("{key} has no end any more"),
            }),
            Some(known) if known.kids != key.kids || known.algorithms() != key.algorithms() => {
                words.push(format!("changed {key}"));
            }
            Some(_) => {}
        }
    }
    words.extend(
        old.iter().filter(|key| !new.iter().any(|left| left.is_same_key(key))).map(|key| format!("removed {key}")),
    );
    (!words.is_empty()).then(|| words.join(", "))
}
