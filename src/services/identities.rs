//! The JSON types of users' ids, as the store keeps them: settled by the first token of each, or by `auth.id_type` for all; and who
//! has another id than their tokens say.

use std::sync::Arc;

use crate::domain::{Actor, IdType, UserId};
use crate::realtime::live::Live;
use crate::realtime::renamed_users::RenamedUsers;
use crate::realtime::settled_ids::is_number;
use crate::services::settings::LiveSettings;
use crate::services::storage::Storage;
use crate::store::StoreError;
use crate::store::operations::SettleIds;

/// So many people are read at a time.
const PAGE: usize = 10_000;
/// So many share a transaction.
const SLICE: usize = 1_000;

/// Which id each user has, and of which JSON type.
#[derive(Debug, Clone)]
pub struct Identities {
    store: Storage,
    live: Arc<Live>,
    settings: Arc<LiveSettings>,
}

impl Identities {
    pub(super) fn new(store: Storage, live: Arc<Live>, settings: Arc<LiveSettings>) -> Identities {
        Identities { store, live, settings }
    }

    /// Reads what is settled, once, before anybody may connect. What the configuration says of all takes its place.
    ///
    /// # Errors
    /// What kept it from being read.
    pub async fn load(&self) -> Result<(), StoreError> {
        let rule = self.settings.get().id_type;
        let (mut settled, mut others) = (Vec::new(), Vec::new());
        let mut next = Some(0);
        while let Some(after) = next {
            let (ids, more) = self.store.numeric_ids(after, PAGE).await?;
            for (user, is_settled) in ids {
                let wanted = match rule {
                    IdType::First if is_settled => is_number(&user),
                    IdType::First => continue,
                    IdType::Number => true,
                    IdType::Text => false,
                };
                if !is_settled || is_number(&user) != wanted {
                    others.push(user.typed(wanted));
                }
                if rule == IdType::First {
                    settled.push(user);
                }
            }
            next = more;
        }
        self.live.settled_ids.begin(rule, settled);
        let renamed = self.store.renamed_users().await?;
        // It is read once.
        let _ = self.live.renamed_users.set(RenamedUsers::new(renamed));
        for users in others.chunks(SLICE) {
            let settle = SettleIds { users: users.to_vec(), is_anew: true };
            if let Err(error) = self.store.write(settle).await {
                tracing::warn!(%error, "stored ids do not have the type of auth.id_type yet; the next start tries again");
                break;
            }
        }
        Ok(())
    }

    /// Keeps the type that the first token of somebody has settled. Where the store takes nothing it holds until the next start.
    pub async fn keep(&self, actor: &Actor) {
        if !self.live.settled_ids.is_unstored(&actor.user) {
            return;
        }
        let users: Vec<UserId> = vec![actor.user.clone()];
        match self.store.write(SettleIds { users, is_anew: false }).await {
            Ok(()) => self.live.settled_ids.note_stored(&actor.user),
            Err(error) => tracing::debug!(%error, "the type of an id was not stored; the next request tries again"),
        }
    }
}
