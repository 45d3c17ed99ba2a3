//! The settings of the services from the configuration. A reload can change them.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use tokio::sync::Notify;

use crate::config::{Audit, Chat, Config, Limits, Retention, Webhooks};
use crate::domain::chat::RoomPolicy;
use crate::domain::{IdType, Role, nearest, visible};
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
    /// What the roles of tokens are here.
    pub role_map: Vec<(String, Role)>,
    /// Which JSON type the id of a user has.
    pub id_type: IdType,
    /// What the platform is told of.
    pub webhooks: Webhooks,
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
            role_map: config.auth.role_map.clone(),
            id_type: config.auth.id_type,
            webhooks: config.webhooks.clone(),
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

    /// The role that a word means: one of the four, or what `auth.role_map` makes of it.
    ///
    /// # Errors
    /// `invalid_payload`, with the word that is nearest.
    pub(super) fn role(&self, field: &str, word: &str) -> Result<Role, ApiError> {
        let settings = self.get();
        let mapped = || settings.role_map.iter().find(|(claim, _)| claim == word).map(|(_, role)| *role);
        if let Some(role) = word.parse().ok().or_else(mapped) {
            return Ok(role);
        }
        let claims = settings.role_map.iter().map(|(claim, _)| claim.as_str());
        let mut known: Vec<&str> = Role::ALL.map(Role::as_str).to_vec();
        known.extend(claims.filter(|claim| Role::ALL.iter().all(|role| role.as_str() != *claim)));
        let written: String = word.chars().take(40).collect();
        let advice = match nearest(&written, known.iter().copied()) {
            Some(name) => format!("did you mean '{name}'?"),
            None => format!("use one of {}", known.join(", ")),
        };
        Err(ApiError::field(field, format!("'{written}' is no role here; {advice}")))
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
