//! The real binary for a test: a fresh data directory, a free port, ready when it says so.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The secret of all tests.
pub const SECRET: &str = "a secret of the test suite, long enough";
const DEADLINE: Duration = Duration::from_secs(20);

/// The command with nothing of this environment but what is given.
pub fn command(args: &[&str], env: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_academy-rt"));
    command.args(args).env_clear().envs(env.iter().copied());
    command
}

/// Runs a command to its end.
pub fn run(args: &[&str], env: &[(&str, &str)]) -> Output {
    command(args, env).stdin(Stdio::null()).output().unwrap()
}

/// Standard output and standard error as one text.
pub fn words(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Says that this machine cannot try what a test is for: `tests/run` says so at its end, too.
pub fn not_run(why: &str) {
    println!("NOT RUN: {why}");
}

/// What a script says in a mount namespace of its own: `$0` is the program, behind it come the arguments. It ends with 77 where it
/// may not mount. `None` where this machine has no namespaces for it, or who tests is not root.
pub fn in_mount_namespace(shell: &str, script: &str, args: &[&std::ffi::OsStr]) -> Option<String> {
    let output = Command::new("unshare")
        .args(["-m", shell, "-c", script, env!("CARGO_BIN_EXE_academy-rt")])
        .args(args)
        .env_clear()
        .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
        .output()
        .unwrap();
    let words = words(&output);
    if output.status.code() == Some(77) || words.contains("unshare") {
        not_run("this machine has no mount namespaces for who tests here");
        return None;
    }
    assert_eq!(output.status.code(), Some(0), "{words}");
    Some(words)
}

/// A port that is free now.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A server that runs.
pub struct Appliance {
    child: Child,
    pub dir: tempfile::TempDir,
    pub port: u16,
}

impl Appliance {
    /// Starts one over plain HTTP.
    pub fn start() -> Appliance {
        Appliance::start_in(tempfile::tempdir().unwrap(), &[])
    }

    /// Starts one in a directory, whose data are in `data`, with more in its environment.
    pub fn start_in(dir: tempfile::TempDir, env: &[(&str, &str)]) -> Appliance {
        let port = free_port();
        let data = dir.path().join("data");
        let child = command(
            &["serve", "--no-tls", "--listen", &format!("127.0.0.1:{port}"), "--data-dir", data.to_str().unwrap()],
            &[
                ("JWT_SECRET", SECRET),
                ("ACADEMY_RT_STORAGE_MIN_FREE", "0"),
                ("ACADEMY_RT_LIMITS_MESSAGES_PER_SECOND", "0"),
            ],
        )
        .envs(env.iter().copied())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
        let mut appliance = Appliance { child, dir, port };
        let begun = Instant::now();
        while !appliance.get("/readyz").contains(" 200 ") {
            assert!(appliance.child.try_wait().unwrap().is_none(), "the server ended at its start");
            assert!(begun.elapsed() < DEADLINE, "the server is not ready");
            std::thread::yield_now();
        }
        appliance
    }

    /// Makes a call with a token, and gives the status and the JSON of the answer.
    pub fn call(&self, token: &str, method: &str, path: &str, body: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let json = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (status, serde_json::from_str(json).unwrap_or(Value::Null))
    }

    /// Makes a call of which nothing is known but that it ends.
    pub fn try_call(&self, token: &str, method: &str, path: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// A token that it takes.
    pub fn token(&self, user: &str, role: &str) -> String {
        let data = self.data();
        let args =
            ["token", "issue", "--user", user, "--role", role, "--name", "Name", "--data-dir", data.to_str().unwrap()];
        let output = run(&args, &[("JWT_SECRET", SECRET)]);
        assert!(output.status.success(), "{}", words(&output));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Posts a message and gives its id.
    pub fn say(&self, token: &str, room: &str, content: &str) -> u64 {
        let body = serde_json::json!({ "content": content }).to_string();
        let (status, answer) = self.call(token, "POST", &format!("/api/v1/rooms/{room}/messages"), &body);
        assert_eq!(status, 200, "{answer}");
        answer["id"].as_u64().unwrap()
    }

    /// SIGTERM, and its directory for what comes next.
    pub fn end(mut self) -> tempfile::TempDir {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
        std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap())
    }

    /// SIGKILL, and its directory for what comes next.
    pub fn kill(mut self) -> tempfile::TempDir {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap())
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its data directory.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// What it answers to a GET; empty if it does not.
    pub fn get(&self, path: &str) -> String {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else { return String::new() };
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let mut answer = Vec::new();
        if stream.write_all(request.as_bytes()).is_ok() {
            drop(stream.read_to_end(&mut answer));
        }
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Waits until it ends by itself, and gives how, with what it said on standard error.
    pub fn ended(mut self) -> (Option<i32>, String, tempfile::TempDir) {
        let status = self.child.wait().unwrap();
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (status.code(), said, std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap()))
    }

    /// SIGTERM, and how it ended.
    pub fn stop(mut self) -> ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A token as a platform makes it, with these claims as they are written.
pub fn signed(claims: &Value, secret: &str) -> String {
    let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), claims, &key).unwrap()
}

/// Waits until something holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < DEADLINE, "{what}");
        // As often as a person of patience: who asks without a pause uses up their budget.
        std::thread::sleep(Duration::from_millis(10));
    }
}
