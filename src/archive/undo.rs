//! Going back from a restore to the data that it set aside.

use std::path::Path;

use crate::domain::audit::{AuditEntry, action};
use crate::store::embedded::offline::carry_forward::Carried;
use crate::store::embedded::offline::migrate;
use crate::store::embedded::offline::rows::{
    NewFile, NewLife, OfflineFile, begin_new_life, newest_format, remove_if_there,
};
use crate::store::rows::Digests;

use crate::archive::files::written;
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
    let held = hold(data_dir)?;
    let asides = set_aside(data_dir).map_err(|error| written("the directory", data_dir, &error))?;
    let Some(aside) = asides.last() else {
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
    let old = OfflineFile::open(aside).map_err(opened)?;
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
    if new.format < newest_format() {
        watch(Step::Migrate);
        migrate::migrate(&mut new, &mut |_| {}).map_err(stored)?;
    }
    watch(Step::Carry);
    let found = new.row_stats().map_err(stored)?;
    // A restore by force may have put another store's data into this place: its ids, erasures, holds and bans are its own.
    let is_same_store = before.store_id == found.store_id;
    let next_id = if is_same_store { before.next_id.max(found.next_id) } else { found.next_id };
    let life = NewLife { epoch: before.epoch.max(found.epoch) + 1, next_id };
    begin_new_life(&new, &life).map_err(stored)?;
    let carried =
        if is_same_store { new.carry_over(&now_there, options.now).map_err(stored)? } else { Carried::default() };
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
    remove_if_there(aside).map_err(|error| written("the file", aside, &error))?;
    Ok(Restored {
        summary: None,
        before: Some(before),
        after,
        carried,
        old_audit,
        authenticity: None,
        cautions: Vec::new(),
        aside: replaced,
    })
}
