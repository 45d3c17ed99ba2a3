//! Why somebody was refused lately, for who asks the server about them: the last few refusals of each user, in memory alone.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::domain::UserId;

/// So many users are kept; the one whose last refusal is the oldest gives way.
const USERS: usize = 1_000;
/// So many refusals of each.
const EACH: usize = 10;
/// A longer text is cut.
const MOST_CHARS: usize = 300;
/// Whose a token was is looked up so often within [`WINDOW`] at most: it checks the signature once more.
const LOOKS: u32 = 50;
/// How long a count of them lasts.
const WINDOW: Duration = Duration::from_secs(1);

/// A refusal, and how often it came behind each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// When it came last.
    pub at: Instant,
    /// The request, without what it said.
    pub what: String,
    /// The code of the error.
    pub code: &'static str,
    /// Its message.
    pub message: String,
    /// From where it came.
    pub origin: String,
    /// How often.
    pub times: u64,
}

/// The refusals.
#[derive(Debug, Default)]
pub struct RefusedUsers {
    users: Mutex<HashMap<UserId, VecDeque<Refusal>>>,
    looks: Mutex<Option<(Instant, u32)>>,
}

impl RefusedUsers {
    /// Somebody was refused.
    pub fn note(&self, user: &UserId, (what, code, message): (&str, &'static str, &str), origin: &str, now: Instant) {
        let mut users = self.users.lock();
        let known = users.get_mut(user);
        // A flood of the same refusal copies nothing.
        if let Some(last) = known.and_then(VecDeque::back_mut).filter(|last| last.what == what && last.code == code) {
            (last.at, last.times) = (now, last.times.saturating_add(1));
            return;
        }
        if !users.contains_key(user) && users.len() >= USERS {
            let last = |refusals: &VecDeque<Refusal>| refusals.back().map(|refusal| refusal.at);
            let oldest = users.iter().min_by_key(|(_, refusals)| last(refusals)).map(|(user, _)| user.clone());
            oldest.and_then(|oldest| users.remove(&oldest));
        }
        let refusals = users.entry(user.clone()).or_default();
        if refusals.len() >= EACH {
            refusals.pop_front();
        }
        let cut = |text: &str| text.chars().take(MOST_CHARS).collect();
        let (what, message, origin) = (cut(what), cut(message), cut(origin));
        refusals.push_back(Refusal { at: now, what, code, message, origin, times: 1 });
    }

    /// Whether it may be looked up whose a refused token was.
    pub fn may_look(&self, now: Instant) -> bool {
        let mut looks = self.looks.lock();
        let (since, count) =
            looks.filter(|(since, _)| now.saturating_duration_since(*since) < WINDOW).unwrap_or((now, 0));
        *looks = Some((since, count.saturating_add(1)));
        count < LOOKS
    }

    /// What is known of somebody, the newest first.
    #[must_use]
    pub fn of(&self, user: &UserId) -> Vec<Refusal> {
        self.users.lock().get(user).map(|refusals| refusals.iter().rev().cloned().collect()).unwrap_or_default()
    }

    /// The newest refusal of each of those who were refused last, at most so many.
    #[must_use]
    pub fn latest(&self, most: usize) -> Vec<(UserId, Refusal)> {
        let users = self.users.lock();
        let mut last: Vec<_> = users.iter().filter_map(|(user, refusals)| Some((user, refusals.back()?))).collect();
        last.sort_by_key(|(_, refusal)| std::cmp::Reverse(refusal.at));
        last.into_iter().take(most).map(|(user, refusal)| (user.clone(), refusal.clone())).collect()
    }

    /// They have been erased.
    pub fn forget(&self, user: &UserId) {
        self.users.lock().remove(user);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(id: usize) -> UserId {
        UserId::parse(&id.to_string()).unwrap()
    }

    #[test]
    fn the_last_few_of_each_are_kept_and_of_so_many_users() {
        let (refused, now) = (RefusedUsers::default(), Instant::now());
        let note = |id, what: &str, at| refused.note(&user(id), (what, "rate_limited", "too many"), "10.0.0.1", at);
        for n in 1..=5 {
            note(1, "chat:message", now + Duration::from_secs(n));
        }
        let all = refused.of(&user(1));
        assert_eq!((all.len(), all[0].times, all[0].at), (1, 5, now + Duration::from_secs(5)));
        for n in 0..20 {
            note(1, &format!("request {n} {}", "x".repeat(1_000)), now + Duration::from_secs(10));
        }
        let all = refused.of(&user(1));
        assert!(all.len() == EACH && all[0].what.starts_with("request 19 ") && all[0].what.len() == MOST_CHARS);
        for id in 2..=USERS + 1 {
            note(id, "chat:join", now + Duration::from_secs(20));
        }
        assert!(refused.of(&user(1)).is_empty() && refused.of(&user(USERS + 1)).len() == 1);
        assert_eq!(refused.latest(1).len(), 1);
        refused.forget(&user(2));
        assert!(refused.of(&user(2)).is_empty());
    }

    #[test]
    fn tokens_are_looked_at_so_often_a_second() {
        let (refused, now) = (RefusedUsers::default(), Instant::now());
        assert_eq!((0..1_000).filter(|_| refused.may_look(now)).count(), LOOKS as usize);
        assert!(refused.may_look(now + WINDOW));
    }
}
