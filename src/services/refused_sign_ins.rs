//! Refused sign-ins on their way into the audit log. Strangers cause them, as many as they like: they are gathered by network and
//! minute, and a day has so many records of them. What is beyond is counted, and one record tells of it when the day ends.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::domain::Timestamp;
use crate::domain::audit::{AuditEntry, action};

/// The first refusals of a network are recorded so long after the first of them,
const FIRST: Duration = Duration::from_secs(5);
/// and what follows, so long after the record before.
const AGAIN: Duration = Duration::from_secs(60);
/// So many networks are told apart; those of more are counted together.
const NETWORKS: usize = 256;
/// So many records that the store did not take are kept.
const KEPT: usize = 4 * NETWORKS;

const MANY: &str = "many networks";

/// Refused sign-ins that are not yet recorded.
#[derive(Debug, Default)]
pub(super) struct RefusedSignIns(Mutex<Gathered>);

#[derive(Debug, Default)]
struct Gathered {
    networks: HashMap<String, OfNetwork>,
    /// Those of more networks than are told apart.
    others: OfNetwork,
    /// Those of this day that have no record of their own any more.
    beyond: OfNetwork,
    day: u64,
    /// How many records the day has.
    records: u32,
    /// Records that the store did not take; at most [`KEPT`].
    kept: Vec<AuditEntry>,
}

#[derive(Debug, Default)]
struct OfNetwork {
    /// When they are recorded; until then nothing else of the network is.
    due: Option<Instant>,
    /// When the first of them was refused.
    since: Timestamp,
    /// How often, by the code of the refusal.
    counts: BTreeMap<&'static str, u64>,
}

impl OfNetwork {
    fn add(&mut self, code: &'static str, count: u64, at: Timestamp, due: Instant) {
        if self.counts.is_empty() {
            self.since = at;
        }
        self.due.get_or_insert(due);
        *self.counts.entry(code).or_default() += count;
    }

    fn is_due(&self, now: Instant) -> bool {
        self.due.is_none_or(|due| due <= now)
    }

    fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// The record of them all, and none is left; the next one comes [`AGAIN`] later.
    fn record(&mut self, origin: &str, now: Instant) -> Option<AuditEntry> {
        if self.counts.is_empty() {
            return None;
        }
        let counts = std::mem::take(&mut self.counts);
        self.due = Some(now + AGAIN);
        let words = counts.into_iter().map(|(code, count)| match count {
            1 => code.to_owned(),
            count => format!("{code}, {count} times"),
        });
        Some(AuditEntry {
            at: self.since,
            actor: String::new(),
            origin: origin.to_owned(),
            action: action::SIGN_IN.to_owned(),
            target: String::new(),
            outcome: format!("refused: {}", words.collect::<Vec<_>>().join("; ")),
        })
    }

    /// Takes the counts of another one.
    fn absorb(&mut self, other: &mut OfNetwork, now: Instant) {
        let since = other.since;
        for (code, count) in std::mem::take(&mut other.counts) {
            self.add(code, count, since, now);
        }
    }
}

impl RefusedSignIns {
    /// One more, of a network.
    pub(super) fn add(&self, network: &str, code: &'static str, at: Timestamp, now: Instant) {
        let gathered = &mut *self.0.lock();
        let place = if let Some(known) = gathered.networks.get_mut(network) {
            known
        } else if gathered.networks.len() < NETWORKS {
            gathered.networks.entry(network.to_owned()).or_default()
        } else {
            &mut gathered.others
        };
        place.add(code, 1, at, now + FIRST);
    }

    /// The records that are due, in the order of their times: no more than `most` of a day (0: no bound). `is_end`: whether
    /// there is no later time to record what waits.
    pub(super) fn take(&self, most: u32, at: Timestamp, now: Instant, is_end: bool) -> Vec<AuditEntry> {
        let gathered = &mut *self.0.lock();
        let mut entries = std::mem::take(&mut gathered.kept);
        if gathered.day != at.day() || is_end {
            entries.extend(gathered.beyond.record(MANY, now));
            (gathered.day, gathered.records) = (at.day(), 0);
            gathered.beyond = OfNetwork::default();
        }
        let Gathered { networks, others, beyond, records, .. } = gathered;
        let all = networks.iter_mut().map(|(name, one)| (name.as_str(), one)).chain([(MANY, others)]);
        for (name, one) in all.filter(|(_, one)| is_end || one.is_due(now)) {
            if most > 0 && *records >= most && !is_end {
                if beyond.counts.is_empty() && !one.counts.is_empty() {
                    tracing::warn!(
                        records = most,
                        "the audit trail has as many records of refused sign-ins as a day may have; further ones of today are \
                         counted in one record at its end"
                    );
                }
                beyond.absorb(one, now);
                one.due = Some(now);
            } else if let Some(entry) = one.record(name, now) {
                *records += 1;
                entries.push(entry);
            }
        }
        networks.retain(|_, one| !one.counts.is_empty() || !one.is_due(now));
        entries.sort_by_key(|entry| entry.at);
        entries
    }

    /// Keeps records for later. If there are too many, the oldest stay, because they show how it began, and the rest is only logged.
    pub(super) fn keep(&self, mut entries: Vec<AuditEntry>) {
        if entries.len() > KEPT {
            tracing::error!(lost = entries.len() - KEPT, "dropped records of refused sign-ins: the store accepts none");
            entries.truncate(KEPT);
        }
        self.0.lock().kept = entries;
    }

    /// How many of today's have no record of their own, because the day has as many as it may have.
    pub(super) fn beyond(&self) -> u64 {
        self.0.lock().beyond.total()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Timestamp = Timestamp(1_000 * 86_400_000 + 43_200_000);

    fn told(entries: &[AuditEntry]) -> Vec<(&str, &str)> {
        entries.iter().map(|entry| (entry.origin.as_str(), entry.outcome.as_str())).collect()
    }

    #[test]
    fn a_network_has_one_record_a_minute_whatever_it_tries() {
        let (refused, start) = (RefusedSignIns::default(), Instant::now());
        let mut records = Vec::new();
        for second in 0..180 {
            let (at, now) = (NOON.plus(Duration::from_secs(second)), start + Duration::from_secs(second));
            for _ in 0..100 {
                refused.add("10.0.0.1", "token_invalid", at, now);
            }
            records.extend(refused.take(0, at, now, false));
        }
        let first = ("10.0.0.1", "refused: token_invalid, 600 times");
        let next = ("10.0.0.1", "refused: token_invalid, 6000 times");
        assert_eq!(told(&records), [first, next, next]);
        assert_eq!(records[1].at, NOON.plus(Duration::from_secs(6)), "it says since when");
        let end = (NOON.plus(Duration::from_secs(180)), start + Duration::from_secs(180));
        assert_eq!(told(&refused.take(0, end.0, end.1, true)), [("10.0.0.1", "refused: token_invalid, 5400 times")]);
        assert!(refused.take(0, end.0, end.1 + AGAIN, false).is_empty());
        assert!(refused.0.lock().networks.is_empty(), "who is quiet is forgotten");
    }

    #[test]
    fn a_record_tells_each_code_and_more_networks_than_are_told_apart_have_one() {
        let (refused, now) = (RefusedSignIns::default(), Instant::now());
        for n in 0..NETWORKS + 5 {
            refused.add(&format!("10.0.{}.{}", n / 256, n % 256), "token_expired", NOON, now);
        }
        refused.add("10.0.0.0", "token_expired", NOON, now);
        refused.add("10.0.0.0", "token_malformed", NOON, now);
        let records = refused.take(0, NOON, now + FIRST, false);
        assert_eq!(records.len(), NETWORKS + 1);
        assert!(told(&records).contains(&("10.0.0.0", "refused: token_expired, 2 times; token_malformed")));
        assert!(told(&records).contains(&(MANY, "refused: token_expired, 5 times")));
    }

    #[test]
    fn a_day_has_so_many_records_and_one_more_tells_of_the_rest() {
        let (refused, now) = (RefusedSignIns::default(), Instant::now());
        for n in 0..10 {
            refused.add(&format!("10.0.0.{n}"), "token_expired", NOON, now);
        }
        assert_eq!(refused.take(4, NOON, now + FIRST, false).len(), 4);
        assert_eq!(refused.beyond(), 6);
        refused.add("10.0.1.1", "token_malformed", NOON, now + FIRST);
        let later = now + 2 * FIRST;
        assert!(refused.take(4, NOON, later, false).is_empty());
        assert_eq!(refused.beyond(), 7, "none is lost");
        let tomorrow = NOON.plus(Duration::from_secs(86_400));
        refused.add("10.0.1.2", "token_expired", tomorrow, later);
        let records = refused.take(4, tomorrow, later + FIRST, false);
        assert_eq!(
            told(&records),
            [(MANY, "refused: token_expired, 6 times; token_malformed"), ("10.0.1.2", "refused: token_expired")]
        );
        assert_eq!(refused.beyond(), 0);
    }
}
