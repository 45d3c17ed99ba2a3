//! What the system must not keep of a process that holds secrets: an image of its memory.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Stdio;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

use crate::harness::{SECRET, command, free_port, until};

/// Somebody who is not root; nothing on the machine is theirs.
const NOBODY: u32 = 65_534;

#[test]
fn a_crash_leaves_no_core_dump_and_no_neighbour_looks_into_the_process() {
    // As on a machine where core dumps are on: the limit is inherited.
    let limit = getrlimit(Resource::Core);
    setrlimit(Resource::Core, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let data = dir.path().join("data");
    let mut serve = command(
        &["serve", "--no-tls", "--listen", &address, "--data-dir", data.to_str().unwrap()],
        &[("JWT_SECRET", SECRET), ("ACADEMY_RT_STORAGE_MIN_FREE", "0")],
    );
    if rustix::process::getuid().is_root() {
        std::os::unix::fs::chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        serve.uid(NOBODY).gid(NOBODY);
    }
    let mut child = serve.current_dir(dir.path()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("the server listens", || std::net::TcpStream::connect(&address).is_ok());

    let of = |file: &str| format!("/proc/{}/{file}", child.id());
    let limits = fs::read_to_string(of("limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
    // Of a process that may not be dumped everything below /proc is root's, its memory and its environment above all.
    for file in ["mem", "environ", "maps", "fd"] {
        assert_eq!(fs::metadata(of(file)).unwrap().uid(), 0, "{file}");
    }
    let status = fs::read_to_string(of("status")).unwrap();
    assert!(status.contains("VmRSS:"), "what it costs can be read by everybody");

    kill_process(Pid::from_child(&child), Signal::ABORT).unwrap();
    let ended = child.wait().unwrap();
    assert_eq!((ended.signal(), ended.core_dumped()), (Some(Signal::ABORT.as_raw()), false));
}
