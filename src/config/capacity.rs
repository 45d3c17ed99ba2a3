//! How much of everything there is at once: threads, views of the store, streams, and the bytes that wait for slow readers. It
//! is decided here alone, each size from the others, and what does not fit together does not compile. Nobody configures these:
//! who has more memory raises `storage.cache` and `limits.bodies`.

use std::time::Duration;

/// Reads of the store at once. Each has a thread and a view of the store, for microseconds; more would wait for each other.
pub const READERS: usize = 8;
/// Threads for other work that may block, which reads never take: keys and certificates that are read from their files, and a
/// page of the audit log that is written to a file.
pub const CHORES: usize = 3;
/// Searches in the index of words at once. Each has a thread for milliseconds, two seconds at most; more wait for their turn.
pub const SEARCHES: usize = 2;
/// Searches that are asked for at once, those that wait among them.
pub const SEARCHES_WAITING: usize = 64;
/// Those of one caller.
pub const SEARCHES_EACH: usize = 2;
/// Threads that may block.
pub const BLOCKING_THREADS: usize = READERS + SEARCHES + CHORES;

/// Backups that are streamed at once. Each has a thread and a view of the store of its own for as long as it is streamed.
pub const BACKUPS: usize = 2;
/// Those of one caller.
pub const BACKUPS_EACH: usize = 1;
/// Exports that are streamed at once. Each takes the place of a reader for a page at a time, and holds no view in between.
pub const EXPORTS: usize = 4;
/// Those of one caller.
pub const EXPORTS_EACH: usize = 2;
/// Transcripts of rooms that are streamed at once. Each has a thread and a view of the store of its own, as a backup has: it is of
/// one moment.
pub const TRANSCRIPTS: usize = 2;
/// Those of one caller.
pub const TRANSCRIPTS_EACH: usize = 1;
/// Views of the store at once: those of readers, those of backups and transcripts, and the one that measures the room in the file.
pub const SNAPSHOTS: usize = READERS + BACKUPS + TRANSCRIPTS + 1;

/// The most bytes of one answer that is made in memory.
pub const ANSWER_BYTES: usize = 1 << 20;
/// The most bytes of all answers that are being made, or wait for a reader who is slow.
pub const ANSWERS_BYTES: usize = 24 << 20;
/// One sender has this part of the bytes of all bodies, and of those of all answers.
pub const PART: usize = 8;

/// The most bytes that wait for one socket.
pub const QUEUE_BYTES: usize = 4 << 20;
/// The most bytes that wait for all sockets together and are of one of them: answers.
pub const QUEUES_BYTES: usize = 24 << 20;
/// The most bytes that wait for all sockets together and are of several: each is counted once for each socket that it waits
/// for, and is in memory once.
pub const SHARED_QUEUES_BYTES: usize = 256 << 20;
/// The most bytes of requests of one socket that wait.
pub const REQUESTS_BYTES: usize = 8 << 20;
/// The most bytes of requests of all sockets that wait.
pub const ALL_REQUESTS_BYTES: usize = 64 << 20;

/// The size of a piece of a backup, about.
pub const PIECE_BYTES: usize = 64 << 10;
/// So many pieces of a backup wait.
pub const BACKUP_PIECES: usize = 8;
/// So many pieces of an export wait, each a page.
pub const EXPORT_PIECES: usize = 2;
/// A page of an export is not begun anew behind so many bytes.
pub const EXPORT_PAGE_BYTES: usize = 256 << 10;

/// Who makes others wait for longer than this takes too little: see [`Pace`].
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Whoever is on this machine may write to a disk that takes its time.
pub const LOCAL_PATIENCE: Duration = Duration::from_secs(10 * 60);
/// What an answer is taken at, at least, in bytes a second.
pub const ANSWER_PACE: u64 = 4 << 10;
/// What a backup is taken at, at least: it holds a view of the store, and what is written meanwhile makes the file larger.
pub const BACKUP_PACE: u64 = 256 << 10;

/// Connections to the address of the figures at once.
pub const SCRAPES: usize = 32;

/// Answers to polls that are compressed at once; one more goes out as it is.
pub const COMPRESSORS: usize = 4;
/// What one takes: its window, its tables and what they give.
pub const COMPRESSOR_BYTES: usize = 384 << 10;

/// The memory that is bounded here, in bytes; `storage.cache` and `limits.bodies` come to it, and a share for each connection.
/// Of events that several sockets wait for, the feed has what there is at any one time.
pub const BOUNDED_BYTES: usize = ANSWERS_BYTES
    + QUEUES_BYTES
    + (BACKUPS + TRANSCRIPTS) * BACKUP_PIECES * PIECE_BYTES
    + EXPORTS * (EXPORT_PIECES + 2) * EXPORT_PAGE_BYTES
    + READERS * ANSWER_BYTES
    + COMPRESSORS * COMPRESSOR_BYTES;

const _: () = {
    assert!(EXPORTS < READERS, "exports leave readers to everybody else");
    assert!(
        EXPORTS_EACH < EXPORTS && BACKUPS_EACH < BACKUPS && TRANSCRIPTS_EACH < TRANSCRIPTS,
        "no caller has every place"
    );
    assert!(READERS + SEARCHES < BLOCKING_THREADS, "reads and searches leave threads to the reload");
    assert!(SEARCHES_EACH < SEARCHES_WAITING, "no caller has every place");
    assert!(ANSWERS_BYTES / PART >= 2 * ANSWER_BYTES, "the largest answer fits into the share of one sender, twice");
    assert!(QUEUE_BYTES <= QUEUES_BYTES / 4, "no socket has the memory of all");
    assert!(REQUESTS_BYTES <= ALL_REQUESTS_BYTES / 4, "no socket has the memory of all");
    assert!(BOUNDED_BYTES <= 64 << 20, "slow readers of all kinds together take no more than 64 MiB");
};

/// How little somebody may take of what is made for them. Time counts only while something waits for them; in each
/// [`PATIENCE`] of it they take so many bytes, or are too slow. What a kernel has swallowed at once earns no time.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    patience: Duration,
    bytes: u64,
    waited: Duration,
    taken: u64,
}

impl Pace {
    /// So many bytes a second, looked at over so long.
    #[must_use]
    pub const fn new(patience: Duration, bytes_a_second: u64) -> Pace {
        Pace { patience, bytes: bytes_a_second.saturating_mul(patience.as_secs()), waited: Duration::ZERO, taken: 0 }
    }

    /// So many bytes were taken, for which somebody waited so long.
    pub fn note(&mut self, bytes: usize, waited: Duration) {
        self.waited += waited;
        self.taken += bytes as u64;
        if self.taken >= self.bytes {
            (self.waited, self.taken) = (Duration::ZERO, 0);
        }
    }

    /// What they must take, in words.
    #[must_use]
    pub fn in_words(&self) -> String {
        let seconds = self.patience.as_secs();
        format!("{} KiB in each {seconds} s", self.bytes >> 10)
    }

    /// How long may be waited for the next bytes.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.patience.saturating_sub(self.waited)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_too_little_runs_out_of_time_and_a_full_buffer_earns_none() {
        let mut pace = Pace::new(Duration::from_secs(30), 1_000);
        pace.note(10_000_000, Duration::ZERO);
        assert_eq!(pace.left(), Duration::from_secs(30));
        for _ in 0..29 {
            pace.note(1, Duration::from_secs(1));
        }
        assert_eq!(pace.left(), Duration::from_secs(1));
        pace.note(1, Duration::from_secs(5));
        assert_eq!(pace.left(), Duration::ZERO);
        let mut steady = Pace::new(Duration::from_secs(30), 1_000);
        for _ in 0..1_000 {
            steady.note(1_001, Duration::from_secs(1));
            assert!(steady.left() > Duration::ZERO);
        }
    }
}
