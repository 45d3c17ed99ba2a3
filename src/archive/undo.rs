//! Going back from a restore to the data that it set aside, which stay where they are.
//!
//! What comes back is exactly what was. Only where the data of now are a later life of the same store is something carried over,
//! as in a restore: erasures, holds, blocks and the audit log. Another store's, or those that a copy of this one has had before
//! it took the place, are not this one's.

use std::path::Path;

use crate::domain::Timestamp;
use crate::domain::audit::{AuditEntry, action};
use crate::store::embedded::offline::carry_forward::Carried;
use crate::store::embedded::offline::migrate;
use crate::store::embedded::offline::rows::{NewFile, NewLife, OfflineFile, begin_new_life, newest_format};
use crate::store::rows::Digests;

use crate::archive::files::{rights_in, written};
use crate::archive::format::TableSum;
use crate::archive::kept_audit;
use crate::archive::restore::{
    Both, Making, RestoreOptions, Restored, Step, Watch, compare, entry, hold, open, opened, refuse_unsound, set_aside,
    stored, swap,
};
use crate::domain::problem::Problem;

/// Takes the last restore back: the data that it set aside take the place again, and what is there now is set aside.
///
/// # Errors
/// What does not fit; the data are as they were then.
pub fn undo(data_dir: &Path, options: RestoreOptions<'_>, watch: &mut Watch<'_>) -> Result<Restored, Problem> {
    let _rights = rights_in(data_dir)?;
    let held = hold(data_dir)?;
    let asides = set_aside(data_dir).map_err(|error| written("the directory", data_dir, &error))?;
    let Some(aside) = asides.last().cloned() else {
        return Err(Problem::new(
            "there is no restore to undo",
            format!("{} contains no data that a restore has set aside", data_dir.display()),
            "Give the data directory of the server with --data-dir.",
        ));
    };
    let now_there = open(&held)?;
    let before = now_there.row_stats().map_err(stored)?;
    // A copy is changed, never what was set aside: cut short, both are as they were.
    let making = Making::begin(data_dir)?;
    let old = OfflineFile::open(&aside).map_err(opened)?;
    let mut file = NewFile::create(&making.0).map_err(|error| written("the file", &making.0, &error))?;
    let mut digests = Digests::default();
    let mut both = Both(&mut file, &mut digests);
    let header = old.send_rows(&mut both);
    header.map_err(stored)?;
    let sums: Vec<TableSum> = digests.finish().iter().map(TableSum::from).collect();
    drop(old);
    let mut new = OfflineFile::open(&making.0).map_err(opened)?;
    watch(Step::Compare);
    compare(&new, &sums)?;
    let format = new.format;
    if format < newest_format() {
        watch(Step::Migrate);
        new.take_names_from(&now_there).map_err(stored)?;
        migrate::migrate(&mut new, &mut |_| {}).map_err(stored)?;
    }
    let cautions = new.renamed_since(format).map_err(stored)?;
    watch(Step::Carry);
    let found = new.row_stats().map_err(stored)?;
    let carried = if before.store_id == found.store_id {
        let life = NewLife { epoch: before.epoch.max(found.epoch) + 1, next_id: before.next_id.max(found.next_id) };
        let is_continued = new.is_continued_by(&now_there).map_err(stored)?;
        begin_new_life(&new, &life).map_err(stored)?;
        if is_continued {
            new.carry_over(&now_there, options.now).map_err(stored)?
        } else {
            let taken = now_there.last_record_of(&[action::RESTORE, action::RESTORE_UNDO]).map_err(stored)?;
            let since = taken.unwrap_or(Timestamp(u64::MAX));
            new.carry_over_since(&now_there, since, options.now).map_err(stored)?
        }
    } else {
        // A restore by force had put another store's data into this place: what happened to them did not happen to these,
        // whose life goes on where it was, with what was on its way.
        Carried::default()
    };
    let pending = if carried.is_same_audit_log {
        kept_audit::nothing()
    } else {
        kept_audit::keep_beside(data_dir, &now_there, false, options.now)?
    };
    let name = aside.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let done = AuditEntry { outcome: pending.audit().outcome(), ..entry(options, action::RESTORE_UNDO, &name) };
    new.record(done).map_err(stored)?;
    let after = new.row_stats().map_err(stored)?;
    refuse_unsound(&mut new, watch)?;
    new.close().map_err(stored)?;
    drop(now_there);
    // As in a restore: before the swap.
    let old_audit = pending.keep();
    let replaced = swap(&held, &making.0, options.now, watch)?;
    Ok(Restored {
        summary: None,
        before: Some(before),
        after,
        carried,
        old_audit,
        authenticity: None,
        cautions,
        aside: replaced,
        undone_from: Some(aside),
        replayed: None,
    })
}
