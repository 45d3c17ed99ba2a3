//! From an operation as data to the function that applies it, with the record of its act in the same transaction. The table is
//! that of [`crate::store::operations`].

use crate::store::change::Change;
use crate::store::embedded::engine::batch::Batch;
use crate::store::embedded::engine::failure::{Failure, Outcome};
use crate::store::operations::{AnyAnswer, Applied, Write};

macro_rules! dispatch {
    ($($name:ident => |$by:pat_param| $user:expr, $answer:ty, $class:ident, |$op:pat_param| $bytes:expr, |$given:pat_param| $outcome:expr;)*) => {
        /// Does an operation inside a transaction.
        pub(in crate::store::embedded) fn dispatch(operation: AnyOperation, batch: &mut Batch<'_, '_>) -> Outcome<AnyAnswer> {
            match operation {
                $(AnyOperation::$name(operation) => operation.apply(batch).map(AnyAnswer::$name),)*
            }
        }
    };
}

mod table {
    use crate::store::operations::*;

    use crate::store::embedded::engine::batch::{Apply, Batch};
    use crate::store::embedded::engine::failure::Outcome;

    for_each_operation!(dispatch);
}
use table::dispatch;

/// Does a write, with the record of its act in the same transaction.
pub(in crate::store::embedded) fn run(batch: &mut Batch<'_, '_>, write: Write) -> Outcome<Applied<AnyAnswer>> {
    let Write { at, operation, act } = write;
    batch.now = at;
    let before = batch.changes.len();
    let done = dispatch(operation, batch);
    let change = batch.changes.get(before..).and_then(<[Change]>::last).map_or(0, Change::id);
    match (&done, act) {
        (Ok(answer), Some(act)) => {
            if let Some(outcome) = answer.outcome() {
                batch.record(act.entry(at, &outcome))?;
            }
        }
        (Err(Failure::Refused(refusal)), Some(act)) if refusal.is_recorded() => {
            batch.record(act.entry(at, &format!("refused: {refusal}")))?;
        }
        _ => {}
    }
    done.map(|answer| Applied { answer, change })
}
