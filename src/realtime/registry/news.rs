//! Who has come somewhere or gone, for whoever tells it outside: nothing is noted while nobody does.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::domain::{RoomId, UserId};

/// Of so many it is noted what is new; beyond that, that everything may be.
const MOST: usize = 100_000;

/// Somebody, and a room; `None`: here at all.
pub type Whereabouts = (UserId, Option<RoomId>);

/// What is new.
#[derive(Debug, PartialEq, Eq)]
pub enum New {
    /// Of these something may be new: where they are is to be looked at.
    Of(Vec<Whereabouts>),
    /// Of anybody.
    OfAll,
}

/// Who has come or gone since somebody looked.
#[derive(Debug, Default)]
pub(super) struct News {
    is_on: AtomicBool,
    of: Mutex<HashSet<Whereabouts>>,
}

impl News {
    /// Notes what is new from now on, or nothing any more.
    pub(super) fn switch(&self, is_on: bool) {
        self.is_on.store(is_on, Ordering::Release);
        if !is_on {
            *self.of.lock() = HashSet::new();
        }
    }

    pub(super) fn note(&self, user: &UserId, room: Option<&RoomId>) {
        if !self.is_on.load(Ordering::Acquire) {
            return;
        }
        let mut of = self.of.lock();
        // One more than is bearable stands for all.
        if of.len() <= MOST {
            of.insert((user.clone(), room.cloned()));
        }
    }

    pub(super) fn take(&self) -> New {
        let of = std::mem::take(&mut *self.of.lock());
        if of.len() > MOST { New::OfAll } else { New::Of(of.into_iter().collect()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(n: usize) -> UserId {
        UserId::parse(&format!("u{n}")).unwrap()
    }

    #[test]
    fn nothing_is_noted_while_nobody_listens() {
        let news = News::default();
        news.note(&user(1), None);
        assert_eq!(news.take(), New::Of(Vec::new()));
        news.switch(true);
        news.note(&user(1), None);
        news.note(&user(1), None);
        assert_eq!(news.take(), New::Of(vec![(user(1), None)]));
        news.note(&user(1), None);
        news.switch(false);
        assert_eq!(news.take(), New::Of(Vec::new()));
    }

    #[test]
    fn too_much_is_everything() {
        let news = News::default();
        news.switch(true);
        (0..MOST * 2).for_each(|n| news.note(&user(n), None));
        assert_eq!(news.of.lock().len(), MOST + 1);
        assert_eq!(news.take(), New::OfAll);
        assert_eq!(news.take(), New::Of(Vec::new()));
    }
}
