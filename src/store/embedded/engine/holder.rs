//! Who holds a lock: what a server or command waited for in vain may be another program's.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Whoever has locked one of these files or directories, in words: as the kernel lists locks (proc(5)). It lists neither those of
/// other machines nor whose a lock is that has no process of its own.
pub(in crate::store::embedded) fn of(paths: &[&Path]) -> String {
    let unknown = || "another academy-rt, or by another program that has locked it".to_owned();
    let Ok(locks) = fs::read_to_string("/proc/locks") else { return unknown() };
    let inodes: Vec<u64> = paths.iter().filter_map(|path| fs::metadata(path).ok()).map(|found| found.ino()).collect();
    let own = std::process::id().to_string();
    let mut pids = locks.lines().filter_map(|line| locked_by(line, &inodes)).filter(|pid| *pid != own);
    pids.next().map_or_else(unknown, |pid| in_words(pid, "has locked it"))
}

fn in_words(pid: &str, does: &str) -> String {
    match fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(program) if program.trim() == "academy-rt" => format!("another academy-rt (process {pid})"),
        Ok(program) => format!("{} (process {pid}), which {does}", program.trim().escape_debug()),
        Err(_) => format!("process {pid}, which {does}"),
    }
}

/// Whoever else has a file open, in words: all that can be known where files have no locks. Processes that this one may not look
/// into, and those of other machines, are not seen.
pub(in crate::store::embedded) fn has_open(path: &Path) -> Option<String> {
    let wanted = fs::metadata(path).ok()?;
    let own = std::process::id();
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()).filter(|pid| *pid != own) else {
            continue;
        };
        let Ok(open) = fs::read_dir(process.path().join("fd")) else { continue };
        for file in open.flatten() {
            // By its name first: to look at any file of any process could take long.
            let is_named = fs::read_link(file.path()).is_ok_and(|link| link.file_name() == path.file_name());
            let is_it = |found: fs::Metadata| (found.dev(), found.ino()) == (wanted.dev(), wanted.ino());
            if is_named && fs::metadata(file.path()).is_ok_and(is_it) {
                return Some(in_words(&pid.to_string(), "has it open"));
            }
        }
    }
    None
}

/// The process of a line of /proc/locks, if it is about one of these inodes: `1: FLOCK  ADVISORY  WRITE 708 08:01:15 0 EOF`.
fn locked_by<'a>(line: &'a str, inodes: &[u64]) -> Option<&'a str> {
    // One that waits for a lock has it not.
    let mut parts = line.split_whitespace().skip(1).filter(|_| !line.contains("->"));
    let pid = parts.nth(3)?;
    let inode = parts.next()?.rsplit(':').next()?.parse().ok()?;
    (inodes.contains(&inode) && pid.parse::<u32>().is_ok_and(|pid| pid > 0)).then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_kernel_names_the_process_and_the_inode() {
        let line = "1: FLOCK  ADVISORY  WRITE 708 08:01:15 0 EOF";
        assert_eq!(locked_by(line, &[15]), Some("708"));
        assert_eq!(locked_by(line, &[16]), None);
        assert_eq!(locked_by("1: -> FLOCK  ADVISORY  WRITE 708 08:01:15 0 EOF", &[15]), None);
        assert_eq!(locked_by("2: OFDLCK ADVISORY  WRITE -1 08:01:15 0 EOF", &[15]), None);
        assert_eq!(locked_by("nonsense", &[15]), None);
    }
}
