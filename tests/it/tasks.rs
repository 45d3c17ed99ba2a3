//! The server's own tasks: one that ends unexpectedly is a failure of the server, told and ended as a failed store is; a stop
//! never waits for ever. The faults are asked of the debug binary by a signal.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Appliance, until};

fn raise(appliance: &Appliance, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(appliance.id()).unwrap()).unwrap(), signal).unwrap();
}

/// A server one of whose tasks panics when it is told to.
fn with_fault_in(task: &str) -> Appliance {
    Appliance::start_in(tempfile::tempdir().unwrap(), &[("TEST_FAULT_IN_TASK", task)])
}

#[test]
fn a_task_that_ends_unexpectedly_ends_the_server_with_its_name_and_nothing_acknowledged_is_lost() {
    let all = [
        "pump",
        "announcements",
        "housekeeping",
        "calendar",
        "watch",
        "accept",
        "control",
        "reload",
        "follow-up",
        "watchdog",
        "search",
    ];
    for task in all {
        let appliance = with_fault_in(task);
        let token = appliance.token("7", "learner");
        for n in 0..5 {
            appliance.say(&token, "r", &format!("m{n}"));
        }
        let begun = Instant::now();
        raise(&appliance, Signal::USR2);
        let (code, said, dir) = appliance.ended();
        assert_eq!(code, Some(1), "{task}: {said}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{task}: it took {:?}", begun.elapsed());
        assert!(said.contains(&format!("its task '{task}' ended: it panicked")), "{task}: {said}");
        let again = Appliance::start_in(dir, &[]);
        let token = again.token("7", "learner");
        let (_, page) = again.call(&token, "GET", "/api/v1/rooms/r/messages", "");
        assert_eq!(page["messages"].as_array().unwrap().len(), 5, "{task}");
        assert!(again.stop().success());
    }
}

#[test]
fn a_stop_does_not_wait_for_a_pump_that_is_gone_while_the_writer_waits_for_it() {
    let appliance = with_fault_in("pump");
    let admin = appliance.token("1", "admin");
    // More than the feed takes without a pump: the writer waits for it, and whoever writes is told to come again.
    let posting: Vec<_> = (0..4)
        .map(|n| {
            let (port, admin) = (appliance.port, admin.clone());
            std::thread::spawn(move || flood(port, &admin, n))
        })
        .collect();
    until("something is stored", || {
        appliance.get("/metrics").contains("academy_rt_") || !appliance.get("/readyz").is_empty()
    });
    raise(&appliance, Signal::USR2);
    let begun = Instant::now();
    let (code, said, _dir) = appliance.ended();
    assert_eq!(code, Some(1), "{said}");
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    for one in posting {
        one.join().unwrap();
    }
}

/// Posts until the server does not answer any more.
fn flood(port: u16, token: &str, n: usize) {
    use std::io::{Read, Write};
    let body = format!(r#"{{"content":"{}"}}"#, "x".repeat(3_000));
    for _ in 0..2_000 {
        let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", port)) else { return };
        let request = format!(
            "POST /api/v1/rooms/flood-{n}/messages HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut answer = Vec::new();
        if stream.write_all(request.as_bytes()).is_err()
            || stream.read_to_end(&mut answer).is_err()
            || answer.is_empty()
        {
            return;
        }
    }
}
