//! Whether the system gives this process the threads that it needs. The runtime panics where it does not, and then waits for
//! ever for those that it has: so it is asked first.

use std::sync::mpsc;
use std::thread;

use crate::domain::panics::MORE_THREADS;
use crate::domain::problem::Problem;

/// Starts so many threads for a moment.
///
/// # Errors
/// If the system gives fewer.
pub fn refuse_too_few(count: usize) -> Result<(), Problem> {
    let mut started = Vec::with_capacity(count);
    let mut failed = None;
    for _ in 0..count {
        let (end, ended) = mpsc::channel::<()>();
        match thread::Builder::new().spawn(move || ended.recv().is_ok()) {
            Ok(thread) => started.push((end, thread)),
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    let given = started.len();
    for (end, thread) in started {
        drop(end);
        // It does nothing that could panic.
        drop(thread.join());
    }
    failed.map_or(Ok(()), |error| {
        let why = format!("the system gives {given} of {count}: {error}");
        Err(Problem::new("the threads of the program cannot be started", why, MORE_THREADS))
    })
}
