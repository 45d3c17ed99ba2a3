//! A panic that somebody waits for is told as an error: in three sentences, and not as the lines of a backtrace.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    /// How many are waited for on this thread.
    static AWAITED: Cell<u32> = const { Cell::new(0) };
}

/// From here on a panic that is waited for prints nothing by itself. To be called once per process.
pub fn tell_awaited_ones_as_errors() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if AWAITED.try_with(Cell::get).unwrap_or(0) == 0 {
            before(info);
        }
    }));
}

/// Does something that may panic.
///
/// # Errors
/// What the panic said.
pub fn awaited<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    AWAITED.set(AWAITED.get().saturating_add(1));
    let done = catch_unwind(AssertUnwindSafe(work));
    AWAITED.set(AWAITED.get().saturating_sub(1));
    done.map_err(|panic| words(panic.as_ref()))
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("the reason is unknown").to_owned()
}

/// Whether a panic or an error says that the system gives no more threads.
#[must_use]
pub fn is_lack_of_threads(words: &str) -> bool {
    words.contains("OS can't spawn worker thread")
}

/// What to do where the system gives no more threads.
pub const MORE_THREADS: &str = "Allow more threads: TasksMax= of the unit (systemctl edit academy-rt), or ulimit -u of the user, who may have other processes.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_that_is_waited_for_is_an_error_with_its_words() {
        assert_eq!(awaited(|| 7), Ok(7));
        let number = 5;
        assert_eq!(awaited(|| assert!(number < 5, "{number} is too much")), Err("5 is too much".to_owned()));
        assert_eq!(awaited(|| assert!(number < 5, "too much")), Err("too much".to_owned()));
        assert_eq!(AWAITED.get(), 0);
    }
}
