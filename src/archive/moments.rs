//! Moments as people and file names write them.

use jiff::SignedDuration;
use jiff::civil::DateTime;

use crate::domain::Timestamp;

/// Where time begins, in UTC. All here is counted in UTC by the calendar alone: a time zone would end a day before the calendar does.
const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

/// A moment as it stands in file names: `20261123T171055Z`.
#[must_use]
pub fn stamp(at: Timestamp) -> String {
    in_calendar(at).unwrap_or(DateTime::MAX).strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// A moment with its milliseconds, as RFC 3339 has it: `2026-11-23T17:10:55.042Z`. It has no year behind 9999.
#[must_use]
pub fn exact(at: Timestamp) -> String {
    in_calendar(at).unwrap_or(DateTime::MAX).strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// A moment for people: `2026-11-23 17:10:55 UTC`.
#[must_use]
pub fn moment(at: Timestamp) -> String {
    in_calendar(at).map_or_else(|| LATER.to_owned(), |at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
}

/// A moment as people write it: `2026-11-23T17:10:55Z`, another offset from UTC, or milliseconds since the Unix epoch.
#[must_use]
pub fn at_moment(text: &str) -> Option<Timestamp> {
    if let Ok(millis) = text.parse::<u64>() {
        return Some(Timestamp(millis));
    }
    let millis = match text.parse::<jiff::Timestamp>() {
        Ok(at) => at.as_millisecond().into(),
        // The last day of the calendar.
        Err(_) => text.strip_suffix(['Z', 'z'])?.parse::<DateTime>().ok()?.duration_since(EPOCH).as_millis(),
    };
    u64::try_from(millis).ok().map(Timestamp)
}

/// A day as people write it.
#[must_use]
pub fn day(at: Timestamp) -> String {
    in_calendar(at).map_or_else(|| LATER.to_owned(), |at| at.strftime("%Y-%m-%d").to_string())
}

/// What has no place in the calendar.
const LATER: &str = "later than the year 9999";

fn in_calendar(at: Timestamp) -> Option<DateTime> {
    let millis = i64::try_from(at.as_millis()).ok()?;
    EPOCH.checked_add(SignedDuration::from_millis(millis)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_itself_to_the_end_of_the_calendar_and_no_other_one_behind_it() {
        let last = Timestamp(253_402_300_799_999);
        assert_eq!(moment(Timestamp(0)), "1970-01-01 00:00:00 UTC");
        assert_eq!(moment(last), "9999-12-31 23:59:59 UTC");
        assert_eq!((exact(last).as_str(), stamp(last).as_str()), ("9999-12-31T23:59:59.999Z", "99991231T235959Z"));
        assert_eq!(at_moment("9999-12-31T23:59:59.999Z"), Some(last));
        assert_eq!(at_moment("2026-11-23T18:10:55+01:00"), at_moment("2026-11-23T17:10:55Z"));
        for later in [Timestamp(last.0 + 1), Timestamp(u64::MAX)] {
            assert_eq!((moment(later).as_str(), day(later).as_str()), (LATER, LATER));
            assert_eq!((exact(later), stamp(later)), (exact(last), stamp(last)));
        }
        assert_eq!((at_moment("1969-12-31T00:00:00Z"), at_moment("nonsenseZ")), (None, None));
    }
}
