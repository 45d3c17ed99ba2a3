//! Which rooms most is said in: messages of each over about the last minute.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::domain::RoomId;

/// How long a count lasts.
const WINDOW: Duration = Duration::from_secs(60);
/// So many rooms are counted in a window; those that come later in it are not.
const ROOMS: usize = 4_096;

#[derive(Debug)]
struct Windows {
    since: Instant,
    current: HashMap<RoomId, u64>,
    before: HashMap<RoomId, u64>,
}

impl Windows {
    fn turn(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.since);
        if passed < WINDOW {
            return;
        }
        let current = std::mem::take(&mut self.current);
        self.before = if passed < WINDOW * 2 { current } else { HashMap::new() };
        self.since = if passed < WINDOW * 2 { self.since + WINDOW } else { now };
    }
}

/// The counts.
#[derive(Debug)]
pub struct Busiest(Mutex<Windows>);

impl Default for Busiest {
    fn default() -> Busiest {
        Busiest(Mutex::new(Windows { since: Instant::now(), current: HashMap::new(), before: HashMap::new() }))
    }
}

impl Busiest {
    /// A message was stored in a room.
    pub fn note(&self, room: &RoomId, now: Instant) {
        let mut windows = self.0.lock();
        windows.turn(now);
        if let Some(count) = windows.current.get_mut(room) {
            *count += 1;
        } else if windows.current.len() < ROOMS {
            windows.current.insert(room.clone(), 1);
        }
    }

    /// The rooms with the most messages within about the last minute, at most so many, the busiest first. Of the window before, the
    /// part counts that is not older than a minute, as if its messages had come evenly.
    #[must_use]
    pub fn read(&self, most: usize, now: Instant) -> Vec<(RoomId, u64)> {
        let mut windows = self.0.lock();
        windows.turn(now);
        let passed = now.saturating_duration_since(windows.since).as_millis();
        let left = u64::try_from(WINDOW.as_millis().saturating_sub(passed)).unwrap_or(0);
        let part = |count: &u64| count.saturating_mul(left) / 60_000;
        let mut rooms = windows.current.clone();
        for (room, count) in &windows.before {
            *rooms.entry(room.clone()).or_default() += part(count);
        }
        drop(windows);
        let mut rooms: Vec<(RoomId, u64)> = rooms.into_iter().filter(|(_, count)| *count > 0).collect();
        rooms.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.canonical().cmp(&b.0.canonical())));
        rooms.truncate(most);
        rooms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_of_about_a_minute_come_first_and_what_is_over_is_forgotten() {
        let (busiest, start) = (Busiest::default(), Instant::now());
        let room = |name: &str| RoomId::parse(name).unwrap();
        let say = |name: &str, times: usize, at: Instant| (0..times).for_each(|_| busiest.note(&room(name), at));
        say("quiet", 1, start);
        say("loud", 10, start);
        say("lively", 4, start);
        let names =
            |at| busiest.read(2, at).into_iter().map(|(room, count)| (room.canonical(), count)).collect::<Vec<_>>();
        let of = |name: &str, count| (name.to_owned(), count);
        assert_eq!(names(start + Duration::from_secs(1)), [of("loud", 10), of("lively", 4)]);
        say("lively", 8, start + WINDOW + Duration::from_secs(15));
        // About three quarters of the window before are within the last minute.
        let later = names(start + WINDOW + Duration::from_secs(30));
        assert_eq!(later[0].0, "lively");
        assert!((8..=11).contains(&later[0].1) && (4..=6).contains(&later[1].1), "{later:?}");
        assert_eq!(names(start + WINDOW * 5), []);
        (0..ROOMS * 2).for_each(|n| busiest.note(&room(&format!("r{n}")), start + WINDOW * 5));
        assert_eq!(busiest.read(usize::MAX, start + WINDOW * 5).len(), ROOMS);
    }
}
