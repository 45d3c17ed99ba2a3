//! Moments as people and file names write them.

use crate::domain::Timestamp;

/// A moment as it stands in file names: `20261123T171055Z`.
#[must_use]
pub fn stamp(at: Timestamp) -> String {
    let millis = i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
    let moment = jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX);
    moment.strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// A moment with its milliseconds, as RFC 3339 has it: `2026-11-23T17:10:55.042Z`.
#[must_use]
pub fn exact(at: Timestamp) -> String {
    calendar(at).strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// A moment for people: `2026-11-23 17:10:55 UTC`.
#[must_use]
pub fn moment(at: Timestamp) -> String {
    calendar(at).strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// A moment as people write it: `2026-11-23T17:10:55Z`, another offset from UTC, or milliseconds since the Unix epoch.
#[must_use]
pub fn at_moment(text: &str) -> Option<Timestamp> {
    if let Ok(millis) = text.parse::<u64>() {
        return Some(Timestamp(millis));
    }
    let at = text.parse::<jiff::Timestamp>().ok()?;
    u64::try_from(at.as_millisecond()).ok().map(Timestamp)
}

/// A day as people write it.
#[must_use]
pub fn day(at: Timestamp) -> String {
    calendar(at).strftime("%Y-%m-%d").to_string()
}

fn calendar(at: Timestamp) -> jiff::Timestamp {
    let millis = i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX)
}
