//! What of a continuous backup goes: what nobody needs to go back to the oldest moment that is kept, and behind an erasure all that
//! was before it. It is judged by what files say of themselves, and only those of one store go.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::domain::Timestamp;

use crate::archive::continuous::segment;
use crate::archive::continuous::segment::{BaseNote, Header, PREFIX, Part};
use crate::archive::retention::mark_of;

/// What a directory has of one store.
#[derive(Default)]
struct Found {
    segments: Vec<(Header, PathBuf)>,
    /// Files of base backups, also of those that nothing goes on from.
    bases: Vec<(String, PathBuf)>,
    notes: HashMap<String, BaseNote>,
}

fn look(dir: &Path, store_id: &str) -> io::Result<Found> {
    let mut found = Found::default();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.starts_with(PREFIX) || !path.symlink_metadata()?.is_file() {
            continue;
        }
        if path.extension().is_some_and(|extension| extension == segment::EXTENSION) {
            let mut notes = Vec::new();
            let scanned = segment::read(&path, &mut |part| {
                if let Part::Base(note) = part {
                    notes.push(note);
                }
                Ok(())
            })?;
            if let Some(scanned) = scanned.filter(|scanned| scanned.header.store_id == store_id) {
                found.segments.push((scanned.header, path));
                found.notes.extend(notes.into_iter().map(|note| (note.name.clone(), note)));
            }
        } else if mark_of(&path)?.is_some_and(|mark| mark.store_id == store_id) {
            found.bases.push((name, path));
        }
    }
    let key = |header: &Header| (header.created_at, header.chain.clone(), header.number);
    found.segments.sort_by_key(|(header, _)| key(header));
    Ok(found)
}

/// Removes files. What could be removed is gone, whatever comes of the others.
fn remove<'p>(paths: impl Iterator<Item = &'p PathBuf>) -> io::Result<()> {
    let mut outcome = Ok(());
    for path in paths {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => outcome = Err(error),
            _ => {}
        }
    }
    outcome
}

/// Removes what is not needed to go back to `kept`: what is before the last base backup of before that moment.
///
/// # Errors
/// What the system said.
pub(super) fn remove_before(dir: &Path, store_id: &str, kept: Timestamp) -> io::Result<()> {
    let found = look(dir, store_id)?;
    // One that nothing goes on from is no way back, and goes with those that are too old.
    let at = |name: &str| found.notes.get(name).map(|note| note.at);
    let Some(from) = found.bases.iter().filter_map(|(name, _)| at(name)).filter(|at| *at <= kept).max() else {
        return Ok(());
    };
    let is_old = |name: &str| at(name).is_none_or(|at| at < from);
    let bases = found.bases.iter().filter(|(name, _)| is_old(name)).map(|(_, path)| path);
    // A segment goes up to where the next one begins.
    let next = found.segments.iter().skip(1);
    let segments = found.segments.iter().zip(next).filter(|(_, (next, _))| next.created_at <= from);
    remove(bases.chain(segments.map(|((_, path), _)| path)))
}

/// Removes all but a base backup and the segments of its chain from that number on, whatever the clock says of the others.
///
/// # Errors
/// What the system said.
pub(super) fn remove_all_but(dir: &Path, base: &BaseNote, segment: &Header) -> io::Result<()> {
    let found = look(dir, &segment.store_id)?;
    let bases = found.bases.iter().filter(|(name, _)| *name != base.name).map(|(_, path)| path);
    let is_before = |header: &Header| header.chain != segment.chain || header.number < segment.number;
    let segments = found.segments.iter().filter(|(header, _)| is_before(header)).map(|(_, path)| path);
    remove(bases.chain(segments))
}

/// Whether there is something of before a moment.
///
/// # Errors
/// What the system said.
pub(super) fn has_before(dir: &Path, store_id: &str, moment: Timestamp) -> io::Result<bool> {
    Ok(look(dir, store_id)?.segments.iter().any(|(header, _)| header.created_at <= moment))
}
