//! What the log says of whoever is refused or cut off: one line with who, from where, by which rule, and what to do, in the
//! message itself. A flood of one kind is a few lines a minute and a number. The last few of each user are kept for who asks about them.

use std::time::Instant;

use crate::domain::UserId;
use crate::observability::counters::{Count, Counters};
use crate::protocol::error::{ApiError, ErrorCode};

/// After so many clients that could not connect it is said again.
const UNREACHABLE_EACH: u64 = 100;

/// Whether an error is a refusal by a rule, and not a request that is wrong in itself.
fn is_by_a_rule(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::Forbidden | ErrorCode::RateLimited | ErrorCode::TooLarge | ErrorCode::RealtimeDisabled)
}

/// Of a token it is one of a few sentences. Why somebody is blocked is an administrator's own text, and stays out.
#[must_use]
pub fn why(error: &ApiError) -> &str {
    match error.code {
        ErrorCode::UserBlocked => "an administrator has blocked this user; academy-rt user unblock lets them in again",
        _ => &error.message,
    }
}

/// Whose something was, as far as it is known, and from where it came.
fn by(user: Option<&UserId>, origin: &str) -> String {
    match user {
        Some(user) => format!("user {user} from {origin}"),
        None => format!("somebody unknown from {origin}"),
    }
}

/// A token was not good, or its user is shut out. `whose` says whose it is, if its signature was good: it is asked only for what
/// is logged, and so often a second, since it checks the signature once more.
pub fn sign_in_refused(counters: &Counters, whose: impl FnOnce() -> Option<UserId>, origin: &str, error: &ApiError) {
    let code = error.code.as_str();
    let (may_look, may_log) = (counters.refused_users.may_look(Instant::now()), counters.log_limiter.may_log(code));
    if !may_look && !may_log {
        return;
    }
    let user = whose();
    if let Some(user) = &user {
        counters.refused_users.note(user, ("sign-in", code, why(error)), origin, Instant::now());
    }
    if may_log {
        tracing::info!(reason = code, "refused to sign in {}: {code}: {}", by(user.as_ref(), origin), why(error));
    }
}

/// A request was refused, if it was by a rule. `what` is the request, without what it said.
pub fn request_refused(counters: &Counters, what: &str, user: Option<&UserId>, origin: &str, error: &ApiError) {
    if !is_by_a_rule(error.code) {
        return;
    }
    let code = error.code.as_str();
    if let Some(user) = user {
        counters.refused_users.note(user, (what, code, &error.message), origin, Instant::now());
    }
    if counters.log_limiter.may_log(code) {
        tracing::info!(reason = code, "refused {what} of {}: {code}: {}", by(user, origin), error.message);
    }
}

/// A client could not reach Socket.IO. One line of a kind, then numbers.
pub fn unreachable(counters: &Counters, count: &Count, origin: &str, reason: &'static str, why: &str) {
    let is_first = count.get() == 0;
    count.add();
    if is_first || (count.get().is_multiple_of(UNREACHABLE_EACH) && counters.log_limiter.may_log(reason)) {
        tracing::warn!(reason, so_far = count.get(), "a client from {origin} could not connect: {why}");
    }
}

/// A connection was closed by the server.
pub fn cut_off(counters: &Counters, user: Option<&UserId>, origin: &str, reason: &'static str, why: &str) {
    if let Some(user) = user {
        counters.refused_users.note(user, ("connection", reason, why), origin, Instant::now());
    }
    if counters.log_limiter.may_log(reason) {
        tracing::info!(reason, "closed a connection of {}: {why}", by(user, origin));
    }
}
