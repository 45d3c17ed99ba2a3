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
    pids.next().map_or_else(unknown, |pid| match fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(program) if program.trim() == "academy-rt" => format!("another academy-rt (process {pid})"),
        Ok(program) => format!("{} (process {pid}), which has locked it", program.trim().escape_debug()),
        Err(_) => format!("process {pid}, which has locked it"),
    })
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
