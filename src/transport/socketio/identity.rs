//! Who a token says one is, on each transport by the same look: its signature and times, then whether they are shut out.

use crate::auth::{TokenError, Verifier};
use crate::domain::Actor;
use crate::protocol::error::{ApiError, ErrorCode};
use crate::services::App;
use crate::transport::origin::{self, ClientAddress, OverControlSocket};
use crate::transport::refusals;

/// Who a token says one is, if it is good and they are let in. Where `tls.client_ca` is set, what makes an administrator or a
/// service token is left out of who comes over the network without a client certificate (`is_certified`): here, and so on every
/// way in.
///
/// # Errors
/// What a client sees of why not.
pub(crate) fn identify(
    verifier: &Verifier,
    app: &App,
    token: Option<&str>,
    is_certified: bool,
) -> Result<Actor, ApiError> {
    let token = token.ok_or(TokenError::Missing);
    let actor = token.and_then(|token| verifier.verify(token, app.store.now())).map_err(|error| token_error(&error))?;
    let actor = app.live.known(actor)?;
    app.live.require_access(&actor)?;
    let actor = app.live.settled(actor);
    Ok(if is_certified || !app.settings.get().needs_certificate { actor } else { actor.without_trust() })
}

/// Notes that somebody was not let in: in the audit log, and with whose token it was in the log.
pub(crate) fn note_refused(
    verifier: &Verifier,
    app: &App,
    token: Option<&str>,
    (control, address): (Option<&OverControlSocket>, Option<ClientAddress>),
    error: &ApiError,
) {
    let whose = || token.and_then(|token| verifier.whose(token, app.store.now()));
    refusals::sign_in_refused(app.live.counters(), whose, &origin::describe(control, address), error);
    app.audit.note_refused_sign_in(error, &origin::describe_network(control, address));
}

/// What a client sees of a token that is not good.
#[must_use]
pub fn token_error(error: &TokenError) -> ApiError {
    let code = match error {
        TokenError::Missing => ErrorCode::TokenMissing,
        TokenError::Malformed => ErrorCode::TokenMalformed,
        TokenError::Invalid(_) => ErrorCode::TokenInvalid,
        TokenError::Expired => ErrorCode::TokenExpired,
        TokenError::NotYetValid(_) => ErrorCode::TokenNotYetValid,
    };
    ApiError::new(code, error.to_string())
}

/// A socket whose token is not good; as text it is what `connect_error` carries in its message.
#[derive(Debug, Clone)]
pub(super) struct Refused(pub(super) ApiError);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&serde_json::to_string(&self.0).unwrap_or_default())
    }
}
