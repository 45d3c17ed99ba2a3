//! What waits for slow readers, all sockets together. Each socket has a bound of its own, and the less is left of the memory of
//! all, the lower it is: so whoever lets most wait is cut off first, and there is always some left for the others. (In switches
//! this is a dynamic threshold: no queue is longer than a part of what is free.)

use std::sync::atomic::{AtomicUsize, Ordering};

/// A queue has no more than this part of what is free.
const PART_OF_FREE: usize = 4;

/// The bytes of many queues together.
#[derive(Debug)]
pub struct Backlog {
    most: usize,
    used: AtomicUsize,
}

impl Backlog {
    /// Nothing waits; so many bytes may.
    #[must_use]
    pub const fn new(most: usize) -> Backlog {
        Backlog { most, used: AtomicUsize::new(0) }
    }

    /// Takes more bytes into a queue that has so many, and may have so many at most. `false` if they do not fit.
    pub fn takes(&self, bytes: usize, queued: usize, most_queued: usize) -> bool {
        let free = self.most.saturating_sub(self.used());
        // A queue that is empty takes whatever fits: the largest answer is a small part of all.
        let most = most_queued.min(free / PART_OF_FREE);
        if queued + bytes > most && (queued > 0 || bytes > most_queued.min(free)) {
            return false;
        }
        self.used.fetch_add(bytes, Ordering::Relaxed);
        true
    }

    /// Bytes have left a queue.
    pub fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// How many bytes wait.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_lets_most_wait_is_refused_first_and_there_is_some_left_for_others() {
        let all = Backlog::new(1_000);
        let mut greedy = vec![0; 20];
        loop {
            let mut has_taken = false;
            for queue in &mut greedy {
                if all.takes(1, *queue, 400) {
                    *queue += 1;
                    has_taken = true;
                }
            }
            if !has_taken {
                break;
            }
        }
        let fair = 1_000 / (20 + PART_OF_FREE);
        assert!(greedy.iter().all(|queue| queue.abs_diff(fair) <= 1), "{greedy:?}");
        let left = 1_000 - all.used();
        assert!(left >= fair * (PART_OF_FREE - 1) && all.takes(fair - 1, 0, 400), "{left}");
        all.give_back(fair - 1 + greedy.iter().sum::<usize>());
        assert_eq!(all.used(), 0);
        assert!(all.takes(250, 0, 400) && !all.takes(250, 250, 400) && !all.takes(401, 0, 400));
    }
}
