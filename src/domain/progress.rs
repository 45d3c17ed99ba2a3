//! Lesson progress: what a device reports, what is known, and how the two are merged. The merge never goes back: it takes
//! the higher progress and the further status, and adds the times, so reports may come in any order.

use serde::{Deserialize, Serialize};

use super::{Fingerprint, LessonId, Timestamp, UserId};

/// The most seconds that one report may add: a day.
pub const MAX_TIME_SPENT: u32 = 86_400;

/// A share of a lesson, 0 to 100. Whole numbers are written without a fraction.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default)]
pub struct Percent(f64);

impl Percent {
    /// All of it.
    pub const FULL: Percent = Percent(100.0);

    /// Checks a share: finite, 0 to 100.
    #[must_use]
    pub fn new(value: f64) -> Option<Percent> {
        // `+ 0.0` turns a negative zero into zero.
        (value.is_finite() && (0.0..=100.0).contains(&value)).then_some(Percent(value + 0.0))
    }

    /// The share as a number from 0 to 100.
    #[must_use]
    pub fn value(self) -> f64 {
        self.0
    }
}

impl Serialize for Percent {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.fract() == 0.0 {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 100, whole")]
            return serializer.serialize_u64(self.0 as u64);
        }
        serializer.serialize_f64(self.0)
    }
}

#[cfg(test)]
impl schemars::JsonSchema for Percent {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Percent".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "number", "minimum": 0, "maximum": 100 })
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Percent::new(f64::deserialize(deserializer)?)
            .ok_or_else(|| serde::de::Error::custom("must be a number from 0 to 100"))
    }
}

/// How far a learner is with a lesson.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "LessonStatus"))]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Nothing done.
    NotStarted,
    /// Begun.
    InProgress,
    /// Done; it stays done.
    Completed,
}

impl Status {
    /// What a share says when the device does not.
    #[must_use]
    pub fn of(progress: Percent) -> Status {
        if progress >= Percent::FULL {
            Status::Completed
        } else if progress.value() > 0.0 {
            Status::InProgress
        } else {
            Status::NotStarted
        }
    }
}

/// One report of a device.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    /// The lesson.
    pub lesson: LessonId,
    /// How much of it is done.
    pub progress: Percent,
    /// Seconds since the last report, at most [`MAX_TIME_SPENT`].
    pub time_spent: u32,
    /// The course it belongs to.
    pub course: Option<LessonId>,
    /// The module it belongs to.
    pub module: Option<LessonId>,
    /// The status, if the device says so.
    pub status: Option<Status>,
    /// Makes the report idempotent per user for 24 hours.
    pub sync_id: Option<String>,
    /// The version that the device last saw.
    pub base_version: Option<u64>,
}

impl Update {
    /// What two reports of somebody's progress must share to be the same request.
    #[must_use]
    pub fn fingerprint(&self, user: &UserId) -> Fingerprint {
        let id = |id: &Option<LessonId>| id.as_ref().map_or_else(String::new, |id| format!("={id}"));
        Fingerprint::of(&[
            &user.canonical(),
            &self.lesson.canonical(),
            &self.progress.value().to_string(),
            &self.time_spent.to_string(),
            &id(&self.course),
            &id(&self.module),
            match self.status {
                None => "",
                Some(Status::NotStarted) => "not_started",
                Some(Status::InProgress) => "in_progress",
                Some(Status::Completed) => "completed",
            },
        ])
    }
}

/// What is known of one user's lesson.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// The user.
    pub user: UserId,
    /// The lesson.
    pub lesson: LessonId,
    /// The highest share reported.
    pub progress: Percent,
    /// All seconds reported.
    pub time_spent: u64,
    /// The furthest status reported.
    pub status: Status,
    /// 1, 2, 3, ... per user and lesson.
    pub version: u64,
    /// The course, as last given.
    pub course: Option<LessonId>,
    /// The module, as last given.
    pub module: Option<LessonId>,
    /// When the last report came.
    pub updated_at: Timestamp,
    /// When it was first completed.
    pub completed_at: Option<Timestamp>,
}

/// Merges a report into what is known and gives the next version. The lesson keeps the JSON type of the report.
#[must_use]
pub fn merge(user: &UserId, current: Option<&Progress>, update: &Update, now: Timestamp) -> Progress {
    let reported = update.status.unwrap_or_else(|| Status::of(update.progress)).max(Status::of(update.progress));
    let status = current.map_or(reported, |c| c.status.max(reported));
    let progress =
        current.map_or(update.progress, |c| if c.progress > update.progress { c.progress } else { update.progress });
    let completed_at = current.and_then(|c| c.completed_at).or_else(|| (status == Status::Completed).then_some(now));
    Progress {
        user: user.clone(),
        lesson: update.lesson.clone(),
        progress,
        time_spent: current
            .map_or(0, |c| c.time_spent)
            .saturating_add(u64::from(update.time_spent))
            .min(super::MAX_SAFE_INTEGER),
        status,
        version: current.map_or(0, |c| c.version).saturating_add(1),
        course: update.course.clone().or_else(|| current.and_then(|c| c.course.clone())),
        module: update.module.clone().or_else(|| current.and_then(|c| c.module.clone())),
        updated_at: now,
        completed_at,
    }
}

/// Whether a report was made on an older version than the stored one (`merged: true` in its answer).
#[must_use]
pub fn is_merged(current: Option<&Progress>, update: &Update) -> bool {
    matches!((update.base_version, current), (Some(base), Some(current)) if base < current.version)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn update(progress: f64, time_spent: u32, status: Option<Status>) -> Update {
        Update {
            lesson: LessonId::parse("42").unwrap(),
            progress: Percent::new(progress).unwrap(),
            time_spent,
            course: None,
            module: None,
            status,
            sync_id: None,
            base_version: None,
        }
    }

    fn updates() -> impl Strategy<Value = Vec<Update>> {
        let status = prop_oneof![
            Just(None),
            Just(Some(Status::NotStarted)),
            Just(Some(Status::InProgress)),
            Just(Some(Status::Completed))
        ];
        prop::collection::vec((0u8..=100, 0u32..=MAX_TIME_SPENT, status), 1..12)
            .prop_map(|list| list.into_iter().map(|(p, t, s)| update(f64::from(p), t, s)).collect())
    }

    fn fold(updates: &[Update]) -> Progress {
        let user = UserId::parse("7").unwrap();
        let mut current: Option<Progress> = None;
        for (i, one) in updates.iter().enumerate() {
            current = Some(merge(&user, current.as_ref(), one, Timestamp(i as u64)));
        }
        current.unwrap()
    }

    proptest! {
        #[test]
        fn the_order_of_reports_does_not_matter(list in updates(), seed in any::<u64>()) {
            let mut shuffled = list.clone();
            let len = shuffled.len() as u64;
            for i in 0..shuffled.len() {
                let j = (seed.rotate_left(i as u32) % len) as usize;
                shuffled.swap(i, j);
            }
            let (a, b) = (fold(&list), fold(&shuffled));
            prop_assert_eq!((a.progress, a.time_spent, a.status, a.version), (b.progress, b.time_spent, b.status, b.version));
        }

        #[test]
        fn a_report_never_takes_anything_back(list in updates()) {
            let user = UserId::parse("7").unwrap();
            let mut current: Option<Progress> = None;
            for one in &list {
                let next = merge(&user, current.as_ref(), one, Timestamp(1));
                if let Some(before) = &current {
                    prop_assert!(next.progress >= before.progress);
                    prop_assert!(next.status >= before.status);
                    prop_assert!(next.time_spent >= before.time_spent);
                    prop_assert_eq!(next.version, before.version + 1);
                    prop_assert!(before.completed_at.is_none() || next.completed_at == before.completed_at);
                }
                current = Some(next);
            }
        }
    }

    #[test]
    fn a_full_share_is_completed_whatever_the_device_says() {
        let done = fold(&[update(100.0, 1, Some(Status::InProgress)), update(10.0, 1, Some(Status::NotStarted))]);
        assert_eq!(done.status, Status::Completed);
        assert_eq!(done.completed_at, Some(Timestamp(0)));
    }

    #[test]
    fn a_share_says_what_it_is_and_reads_back() {
        let share = |value| Percent::new(value).unwrap();
        let shown = [(0.0, Status::NotStarted), (0.5, Status::InProgress), (99.9, Status::InProgress)];
        for (value, status) in shown.into_iter().chain([(100.0, Status::Completed)]) {
            assert_eq!(Status::of(share(value)), status, "{value}");
        }
        assert_eq!(serde_json::from_str::<Percent>("33.5").unwrap(), share(33.5));
    }

    #[test]
    fn shares_outside_0_to_100_are_refused() {
        for bad in ["-1", "101", "null", "\"75\"", "1e400", "-0.0001"] {
            assert!(serde_json::from_str::<Percent>(bad).is_err(), "{bad}");
        }
        assert_eq!(serde_json::to_string(&Percent::new(75.0).unwrap()).unwrap(), "75");
        assert_eq!(serde_json::to_string(&Percent::new(33.5).unwrap()).unwrap(), "33.5");
        assert_eq!(serde_json::to_string(&Percent::new(-0.0).unwrap()).unwrap(), "0");
    }
}
