//! The settings of the services from the configuration. A reload can change them.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use tokio::sync::Notify;

use crate::config::{Audit, Chat, Config, Limits, Retention};
use crate::domain::chat::RoomPolicy;
use crate::domain::visible;
use crate::protocol::error::{ApiError, ErrorCode};

/// The parts of the configuration that the services go by.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The rules of rooms.
    pub chat: Chat,
    /// Rates and counts.
    pub limits: Limits,
    /// What is purged by its age.
    pub retention: Retention,
    /// Whether the rights of administrators and service tokens need a client certificate over the network.
    pub needs_certificate: bool,
    /// Where the audit log is forwarded to.
    pub audit: Audit,
    /// A backup rests so many times as long as it works, for those who write meanwhile; 0 where there is nobody.
    pub backup_rests: u32,
}

impl Settings {
    /// What a configuration says.
    #[must_use]
    pub fn new(config: &Config, backup_rests: u32) -> Settings {
        Settings {
            chat: config.chat.clone(),
            limits: config.limits.clone(),
            retention: config.retention.clone(),
            needs_certificate: config.tls.client_ca.is_some(),
            audit: config.audit.clone(),
            backup_rests,
        }
    }
}

/// The settings in force. A reload replaces them as a whole.
#[derive(Debug)]
pub struct LiveSettings {
    current: ArcSwap<Settings>,
    calendar: Notify,
}

impl LiveSettings {
    /// These are in force.
    #[must_use]
    pub fn new(settings: Settings) -> LiveSettings {
        LiveSettings { current: ArcSwap::from_pointee(settings), calendar: Notify::new() }
    }

    /// The settings in force at this moment.
    #[must_use]
    pub fn get(&self) -> Guard<Arc<Settings>> {
        self.current.load()
    }

    /// Goes by other settings from now on.
    pub fn replace(&self, settings: Settings) {
        self.current.store(Arc::new(settings));
        self.wake_calendar();
    }

    /// What goes by the calendar looks again now, and not only at its next turn.
    pub(super) fn wake_calendar(&self) {
        self.calendar.notify_one();
    }

    /// Resolves when the calendar is to look again.
    pub(super) async fn calendar_woken(&self) {
        self.calendar.notified().await;
    }

    /// Who may enter a room that nobody has registered.
    pub(super) fn policy(&self) -> RoomPolicy {
        RoomPolicy { open_rooms: self.get().chat.open_rooms }
    }

    /// Whether this can be the content of a message: at least one character that is no white space, and at most
    /// `limits.message_chars`.
    ///
    /// # Errors
    /// `too_large`, `invalid_payload`.
    pub(super) fn check_content(&self, content: &str) -> Result<(), ApiError> {
        let most = self.get().limits.message_chars;
        if content.chars().take(most + 1).count() > most {
            return Err(ApiError {
                field: Some("content".to_owned()),
                ..ApiError::new(ErrorCode::TooLarge, format!("content may have at most {most} characters"))
            });
        }
        if !visible::shows_something(content) {
            return Err(ApiError::field("content", "content must have at least one character that can be seen"));
        }
        Ok(())
    }
}
