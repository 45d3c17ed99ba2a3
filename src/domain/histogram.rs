//! How long things take: a histogram with fixed bounds, which many threads count in without waiting for each other.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper bounds, in microseconds: from 1 ms to 10 s.
pub const BOUNDS_US: [u64; 13] = [
    1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000, 5_000_000, 10_000_000,
];

/// Durations, counted by the bounds of [`BOUNDS_US`].
#[derive(Debug, Default)]
pub struct Histogram {
    counts: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

/// A histogram at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Durations {
    /// How many were within each bound and beyond the one before; the last: beyond all bounds.
    pub counts: [u64; BOUNDS_US.len() + 1],
    /// All of them together, in microseconds.
    pub sum_us: u64,
}

impl Histogram {
    /// Counts one.
    pub fn record(&self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let place = BOUNDS_US.iter().position(|bound| us <= *bound).unwrap_or(BOUNDS_US.len());
        if let Some(count) = self.counts.get(place) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// What was counted so far.
    #[must_use]
    pub fn read(&self) -> Durations {
        Durations {
            counts: std::array::from_fn(|place| {
                self.counts.get(place).map_or(0, |count| count.load(Ordering::Relaxed))
            }),
            sum_us: self.sum_us.load(Ordering::Relaxed),
        }
    }
}

impl Durations {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The bound that a part of them (0.99: all but one in a hundred) is within; `None` of nothing, or if it is beyond all.
    #[must_use]
    pub fn within(&self, part: f64) -> Option<Duration> {
        let wanted = (self.count() as f64 * part).ceil() as u64;
        let mut seen = 0;
        BOUNDS_US.iter().zip(self.counts).find_map(|(bound, count)| {
            seen += count;
            (wanted > 0 && seen >= wanted).then(|| Duration::from_micros(*bound))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_counted_by_their_bounds() {
        let histogram = Histogram::default();
        assert_eq!(histogram.read().within(0.5), None);
        for ms in [0, 1, 2, 3, 4, 5, 6, 7, 8, 20_000] {
            histogram.record(Duration::from_millis(ms));
        }
        let read = histogram.read();
        assert_eq!((read.count(), read.sum_us), (10, 20_036_000));
        assert_eq!(read.within(0.2), Some(Duration::from_millis(1)));
        assert_eq!(read.within(0.9), Some(Duration::from_millis(10)));
        assert_eq!(read.within(1.0), None, "beyond all bounds");
    }
}
