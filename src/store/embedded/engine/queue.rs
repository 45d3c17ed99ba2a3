//! What waits for the writer. Each user has a line of their own, and the server has one; a transaction takes from the lines in
//! turns, and a bounded part from each, so that whoever asks for much waits behind whoever asks for little; what it has taken it
//! does in the order in which it came. A line has a share
//! of the whole: when it is full its user is told that the store is busy, and nobody else is.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::oneshot;

use crate::domain::UserId;
use crate::store::StoreError;
use crate::store::embedded::engine::pace::Pace;
use crate::store::operations::{AnyAnswer, Applied, Write};

/// How many requests of users wait at most; one more is told that the store is busy. The server's own have as many beside them.
pub(in crate::store::embedded) const QUEUE: usize = 8_192;
/// How many bytes of them wait at most, about.
pub(in crate::store::embedded) const QUEUE_BYTES: usize = 64 << 20;
/// One user has so much of both at most.
pub(in crate::store::embedded) const SHARE: usize = 8;
/// How many requests share a transaction at most.
pub(in crate::store::embedded) const BATCH: usize = 1_024;
/// How many bytes of content share a transaction, about.
const BATCH_BYTES: usize = 1 << 20;
/// How many requests of one user are in a transaction at most, and how many bytes, about: others wait no longer than these take.
const TURN: usize = 64;
const TURN_BYTES: usize = 64 << 10;

/// Where the answer to a request goes.
pub(in crate::store::embedded) type Reply = oneshot::Sender<Result<Applied<AnyAnswer>, StoreError>>;

/// A request for the writer.
pub(in crate::store::embedded) enum Command {
    /// Something is to be changed.
    Write(Box<Write>, Reply),
    /// A reader met an error: look after the file.
    Mend,
}

impl Command {
    /// Its bytes, about.
    pub(in crate::store::embedded) fn weight(&self) -> usize {
        match self {
            Command::Write(write, _) => write.operation.weight(),
            Command::Mend => 0,
        }
    }

    /// The user in whose turn it is done; `None` for the server's own.
    pub(in crate::store::embedded) fn user(&self) -> Option<&UserId> {
        match self {
            Command::Write(write, _) => write.operation.user(),
            Command::Mend => None,
        }
    }

    /// Answers with an error.
    pub(in crate::store::embedded) fn refuse(self, error: StoreError) {
        if let Command::Write(_, reply) = self {
            // The receiver may be gone; that is fine.
            drop(reply.send(Err(error)));
        }
    }
}

/// Requests of one user, or the server's own, in the order in which they came.
#[derive(Default)]
struct Line {
    /// Each with its place among all that came.
    commands: VecDeque<(u64, Command)>,
    bytes: usize,
    /// What the transaction that is being gathered has of it.
    taken: usize,
    taken_bytes: usize,
}

impl Line {
    fn add(&mut self, place: u64, command: Command) {
        self.bytes += command.weight();
        self.commands.push_back((place, command));
    }

    /// Whether there is place for so many bytes more. One request that is larger than the bound is taken while nothing else waits.
    fn has_place(&self, bytes: usize, most: usize, most_bytes: usize) -> bool {
        self.commands.len() < most && (self.bytes == 0 || self.bytes + bytes <= most_bytes)
    }

    fn take(&mut self) -> Option<(u64, Command)> {
        let (place, command) = self.commands.pop_front()?;
        let bytes = command.weight();
        self.bytes -= bytes;
        self.taken += 1;
        self.taken_bytes += bytes;
        Some((place, command))
    }
}

#[derive(Default)]
struct Lines {
    /// The server's own and administrators': no user fills it, and it has no share.
    own: Line,
    users: HashMap<UserId, Line>,
    /// The users who wait, in the order of their turns.
    turns: VecDeque<UserId>,
    /// How many have come since the start.
    came: u64,
    /// Since when the oldest of those that wait does so.
    oldest: Option<Instant>,
    /// Whether the writer sleeps for a moment while more come: it need not be woken for each.
    is_gathering: bool,
    /// All requests and bytes of users.
    commands: usize,
    bytes: usize,
    is_closed: bool,
}

/// The lines of everybody.
#[derive(Default)]
pub(in crate::store::embedded) struct Queue {
    lines: Mutex<Lines>,
    came: Condvar,
}

/// What the writer got.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::store::embedded) enum Taken {
    /// At least one request; so long the oldest has waited.
    Some(Duration),
    /// Nothing came in time.
    TimedOut,
    /// Nothing waits, and nothing comes any more.
    Closed,
}

impl Queue {
    /// Puts a request behind those of the same user.
    ///
    /// # Errors
    /// [`StoreError::Busy`] where the user's share or the whole is full; [`StoreError::Closed`].
    pub(in crate::store::embedded) fn push(&self, command: Command) -> Result<(), StoreError> {
        let mut lines = self.lines.lock();
        if lines.is_closed {
            return Err(StoreError::Closed);
        }
        let bytes = command.weight();
        lines.came += 1;
        let place = lines.came;
        match command.user().cloned() {
            None => {
                if !lines.own.has_place(bytes, QUEUE, QUEUE_BYTES) {
                    return Err(StoreError::Busy);
                }
                lines.own.add(place, command);
            }
            Some(user) => {
                if lines.commands >= QUEUE || lines.bytes > 0 && lines.bytes + bytes > QUEUE_BYTES {
                    return Err(StoreError::Busy);
                }
                let line = lines.users.entry(user.clone()).or_default();
                if !line.has_place(bytes, QUEUE / SHARE, QUEUE_BYTES / SHARE) {
                    return Err(StoreError::Busy);
                }
                let is_first = line.commands.is_empty();
                line.add(place, command);
                if is_first {
                    lines.turns.push_back(user);
                }
                lines.commands += 1;
                lines.bytes += bytes;
            }
        }
        if lines.oldest.is_none() {
            lines.oldest = Some(Instant::now());
        }
        let wakes = !lines.is_gathering || lines.is_full();
        drop(lines);
        if wakes {
            self.came.notify_one();
        }
        Ok(())
    }

    /// Waits for requests, until a moment if one is given, then for more of them as `pace` says, and takes a transaction of
    /// them. The commit before ended at `last`.
    pub(in crate::store::embedded) fn take(
        &self,
        commands: &mut Vec<Command>,
        until: Option<Instant>,
        pace: &mut Pace,
        last: Instant,
    ) -> Taken {
        let mut lines = self.lines.lock();
        while lines.own.commands.is_empty() && lines.turns.is_empty() {
            if lines.is_closed {
                return Taken::Closed;
            }
            match until {
                None => self.came.wait(&mut lines),
                Some(until) => {
                    if self.came.wait_until(&mut lines, until).timed_out() {
                        return Taken::TimedOut;
                    }
                }
            }
        }
        let bound = pace.bound(last.elapsed());
        if let Some(oldest) = lines.oldest.filter(|_| !bound.is_zero()) {
            let (half, whole) = (oldest + bound / 2, oldest + bound);
            // Where the commit before took longer, they have waited long enough already, and nothing is learned.
            if Instant::now() < half {
                self.gather(&mut lines, half);
                let early = lines.waiting();
                self.gather(&mut lines, whole);
                let all = lines.waiting();
                pace.learn(all.saturating_sub(early), all);
            } else {
                self.gather(&mut lines, whole);
            }
        }
        let waited = lines.oldest.map_or(Duration::ZERO, |oldest| oldest.elapsed());
        lines.take(commands);
        lines.oldest = (lines.waiting() > 0).then(Instant::now);
        Taken::Some(waited)
    }

    /// Lets more come until a moment, or until a transaction is full, or until nothing comes any more.
    fn gather(&self, lines: &mut MutexGuard<'_, Lines>, until: Instant) {
        lines.is_gathering = true;
        while !lines.is_full() && !lines.is_closed && !self.came.wait_until(lines, until).timed_out() {}
        lines.is_gathering = false;
    }

    /// Takes nothing more; what waits is still done.
    pub(in crate::store::embedded) fn close(&self) {
        self.lines.lock().is_closed = true;
        self.came.notify_all();
    }

    /// Takes nothing more, and drops what waits: there is nobody to do it.
    pub(in crate::store::embedded) fn abandon(&self) {
        let mut lines = self.lines.lock();
        *lines = Lines { is_closed: true, ..Lines::default() };
    }

    /// Whether it takes nothing more.
    pub(in crate::store::embedded) fn is_closed(&self) -> bool {
        self.lines.lock().is_closed
    }

    /// How many requests wait, and how many bytes.
    pub(in crate::store::embedded) fn waiting(&self) -> (usize, usize) {
        let lines = self.lines.lock();
        (lines.waiting(), lines.bytes + lines.own.bytes)
    }
}

impl Lines {
    fn waiting(&self) -> usize {
        self.commands + self.own.commands.len()
    }

    /// Whether a transaction can have no more than what waits.
    fn is_full(&self) -> bool {
        self.waiting() >= BATCH || self.bytes + self.own.bytes >= BATCH_BYTES
    }

    fn take(&mut self, commands: &mut Vec<Command>) {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        let is_full = |taken: &Vec<_>, bytes| taken.len() >= BATCH || bytes >= BATCH_BYTES;
        // One of the server's own to each round of the users': none waits for the other.
        let mut have_had_their_part = Vec::new();
        while !is_full(&taken, bytes) {
            if self.own.commands.is_empty() && self.turns.is_empty() {
                break;
            }
            if let Some((place, command)) = self.own.take() {
                bytes += command.weight();
                taken.push((place, command));
            }
            for _ in 0..self.turns.len() {
                if is_full(&taken, bytes) {
                    break;
                }
                let Some(user) = self.turns.pop_front() else { break };
                let Some(line) = self.users.get_mut(&user) else { continue };
                if let Some((place, command)) = line.take() {
                    let weight = command.weight();
                    bytes += weight;
                    self.commands -= 1;
                    self.bytes -= weight;
                    taken.push((place, command));
                }
                if line.commands.is_empty() {
                    self.users.remove(&user);
                } else if line.taken >= TURN || line.taken_bytes >= TURN_BYTES {
                    have_had_their_part.push(user);
                } else {
                    self.turns.push_back(user);
                }
            }
        }
        taken.sort_unstable_by_key(|(place, _)| *place);
        commands.extend(taken.into_iter().map(|(_, command)| command));
        self.turns.extend(have_had_their_part);
        for user in &self.turns {
            if let Some(line) = self.users.get_mut(user) {
                (line.taken, line.taken_bytes) = (0, 0);
            }
        }
        (self.own.taken, self.own.taken_bytes) = (0, 0);
        // A storm of many users leaves no large map behind.
        if self.users.is_empty() && self.users.capacity() > QUEUE / SHARE {
            self.users = HashMap::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::Timestamp;
    use crate::store::operations::{Left, NoteBackup};

    /// A request of a user, or of the server; the time tells it from others.
    fn command(user: Option<&str>, at: u64) -> Command {
        let operation = match user {
            Some(user) => Left { user: UserId::parse(user).unwrap() }.into(),
            None => NoteBackup { bytes: 1 }.into(),
        };
        Command::Write(Box::new(Write { at: Timestamp(at), operation, act: None }), oneshot::channel().0)
    }

    /// Takes without waiting for more.
    fn take(queue: &Queue, commands: &mut Vec<Command>, until: Option<Instant>) -> Taken {
        queue.take(commands, until, &mut Pace::new(Duration::ZERO), Instant::now())
    }

    fn taken(queue: &Queue) -> Vec<(Option<String>, u64)> {
        let mut commands = Vec::new();
        assert!(matches!(take(queue, &mut commands, None), Taken::Some(_)));
        let of = |command: &Command| match command {
            Command::Write(write, _) => (command.user().map(UserId::canonical), write.at.0),
            Command::Mend => (None, 0),
        };
        commands.iter().map(of).collect()
    }

    #[test]
    fn a_user_has_a_share_and_others_have_theirs() {
        let queue = Queue::default();
        let refused = (0..).find_map(|n| queue.push(command(Some("greedy"), n)).err().map(|error| (n, error)));
        assert_eq!(refused, Some(((QUEUE / SHARE) as u64, StoreError::Busy)));
        queue.push(command(Some("modest"), 0)).unwrap();
        for n in 0..(QUEUE as u64 * 2) {
            drop(queue.push(command(Some(&n.to_string()), 0)));
        }
        assert_eq!(queue.push(command(Some("late"), 0)), Err(StoreError::Busy), "the whole is bounded");
        queue.push(command(None, 0)).unwrap();
        assert_eq!(queue.waiting().0, QUEUE + 1);
    }

    #[test]
    fn who_asks_for_little_waits_behind_one_request_of_who_asks_for_much() {
        let queue = Queue::default();
        for n in 0..1_000 {
            queue.push(command(Some("greedy"), n)).unwrap();
        }
        queue.push(command(Some("modest"), 7)).unwrap();
        queue.push(command(None, 8)).unwrap();
        let first = taken(&queue);
        assert_eq!(first.len(), TURN + 2, "a transaction has a bounded part of each");
        assert_eq!(
            first[TURN - 1..],
            [(Some("greedy".into()), TURN as u64 - 1), (Some("modest".into()), 7), (None, 8)]
        );
        let second = taken(&queue);
        assert_eq!((second[0].1, second.len()), (TURN as u64, TURN), "in the order in which they came");
    }

    #[test]
    fn a_large_request_is_taken_alone_and_makes_a_turn() {
        let queue = Queue::default();
        let large = |at| {
            let members = (0..50_000).map(|n| UserId::parse(&n.to_string()).unwrap()).collect();
            let policy = crate::domain::chat::RoomPolicy { open_rooms: true };
            let room = crate::domain::RoomId::parse("r").unwrap();
            let operation = crate::store::operations::EnlistMembers { room, users: members, policy }.into();
            Command::Write(Box::new(Write { at: Timestamp(at), operation, act: None }), oneshot::channel().0)
        };
        queue.push(large(1)).unwrap();
        queue.push(large(2)).unwrap();
        queue.push(command(Some("modest"), 3)).unwrap();
        let times = |taken: Vec<(Option<String>, u64)>| taken.into_iter().map(|(_, at)| at).collect::<Vec<_>>();
        assert_eq!(times(taken(&queue)), [1], "its bytes fill a transaction");
        assert_eq!(times(taken(&queue)), [2]);
        assert_eq!(times(taken(&queue)), [3]);
        assert_eq!(queue.waiting(), (0, 0));
    }

    #[test]
    fn a_closed_queue_gives_what_waits_and_then_says_so() {
        let queue = Queue::default();
        let mut commands = Vec::new();
        let soon = Instant::now() + Duration::from_millis(1);
        assert_eq!(take(&queue, &mut commands, Some(soon)), Taken::TimedOut);
        queue.push(command(Some("1"), 1)).unwrap();
        queue.close();
        assert_eq!(queue.push(command(Some("1"), 2)), Err(StoreError::Closed));
        assert!(matches!(take(&queue, &mut commands, None), Taken::Some(_)));
        assert_eq!((commands.len(), take(&queue, &mut commands, None)), (1, Taken::Closed));
    }

    #[test]
    fn who_comes_while_others_wait_for_company_is_taken_with_them() {
        // So long that only a test that has failed would wait for it.
        let far = Duration::from_secs(60);
        let queue = Queue::default();
        let mut pace = Pace::new(far);
        let mut commands = Vec::new();
        while pace.bound(Duration::ZERO).is_zero() {}
        queue.push(command(Some("1"), 0)).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !queue.lines.lock().is_gathering {
                    std::thread::yield_now();
                }
                for n in 1..BATCH as u64 {
                    queue.push(command(Some(&(n / 60).to_string()), n)).unwrap();
                }
            });
            let taken = queue.take(&mut commands, None, &mut pace, Instant::now());
            assert!(matches!(taken, Taken::Some(waited) if waited < far), "a full transaction waits for nobody");
        });
        assert_eq!(commands.len(), BATCH);
        // What waits when the queue is closed is not kept waiting.
        queue.push(command(Some("1"), 0)).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !queue.lines.lock().is_gathering {
                    std::thread::yield_now();
                }
                queue.close();
            });
            pace = Pace::new(far);
            while pace.bound(Duration::ZERO).is_zero() {}
            let taken = queue.take(&mut commands, None, &mut pace, Instant::now());
            assert!(matches!(taken, Taken::Some(waited) if waited < far));
        });
    }
}
