//! The server that is measured: one at an address, or one that the command starts for itself.

use std::io;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::auth::sources::SigningKey;
use crate::auth::{Grant, issue, secret};
use crate::cli::exit::Failure;
use crate::cli::scratch::Scratch;
use crate::config::Config;
use crate::domain::{Clock, SystemClock, UserId};

/// How long the tokens of the bench are good.
const TOKEN_LASTS: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a server of its own may take to start.
const START: Duration = Duration::from_secs(30);
/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(50);
/// The limits that would refuse what a single machine sends in the place of hundreds.
const LIMITS: [&str; 8] = [
    "MESSAGES_PER_SECOND",
    "TYPING_PER_SECOND",
    "SYNCS_PER_SECOND",
    "JOINS_PER_SECOND",
    "CONNECTS_PER_SECOND",
    "SOCKETS_PER_USER",
    "BUDGET_PER_SECOND",
    "STORED_PER_DAY",
];

/// How the users of the bench sign in.
pub(super) enum Tokens {
    /// With tokens that are signed for them.
    Signed(Box<SigningKey>),
    /// With these, each in turn.
    Given(Vec<String>),
}

/// The server that is measured.
pub(super) struct Target {
    /// The configuration of this machine, for trusted certificates.
    pub(super) config: Config,
    /// Where it is: `https://host:port`.
    pub(super) url: String,
    /// A certificate that is trusted instead of the system's.
    pub(super) cacert: Option<PathBuf>,
    pub(super) tokens: Tokens,
    /// The path of Socket.IO there: `/ws/`.
    pub(super) path: String,
    /// Its process, if it is on this machine.
    pub(super) pid: Option<u32>,
}

impl Target {
    /// The token of the n-th user.
    ///
    /// # Errors
    /// If it cannot be signed, or if there is none.
    pub(super) fn token(&self, n: usize) -> io::Result<String> {
        match &self.tokens {
            Tokens::Signed(key) => self.signed(key, n, None),
            Tokens::Given(tokens) => {
                let token = n.checked_rem(tokens.len()).and_then(|n| tokens.get(n));
                token.cloned().ok_or_else(|| io::Error::other("there is no token"))
            }
        }
    }

    /// A token that may read the figures of the server, if one can be signed.
    pub(super) fn observer(&self) -> Option<String> {
        match &self.tokens {
            Tokens::Signed(key) => self.signed(key, 0, Some("metrics")).ok(),
            Tokens::Given(_) => None,
        }
    }

    fn signed(&self, key: &SigningKey, n: usize, scope: Option<&str>) -> io::Result<String> {
        let now = SystemClock.now();
        let grant = Grant {
            user: UserId::parse(&format!("bench-{n}")).map_err(|error| io::Error::other(error.to_string()))?,
            name: Some(format!("Bench {n}")),
            role: scope.is_none().then(|| "learner".to_owned()),
            scope: scope.map(str::to_owned),
            token_id: None,
            issuer: self.config.auth.issuer.clone(),
            audience: self.config.auth.audience.clone(),
            issued_at_secs: now.as_secs(),
            expires_at_secs: now.plus(TOKEN_LASTS).as_secs(),
        };
        issue(key, &grant).map_err(|error| io::Error::other(error.to_string()))
    }
}

/// A server of the command's own, with data that go with it. It is ended when its value is dropped.
pub(super) struct OwnServer {
    child: Child,
    scratch: Scratch,
    port: u16,
    is_tls: bool,
}

impl OwnServer {
    /// Starts one, with its data in a new directory below `dir`. The limits a user are
    /// lifted: a few hundred connections stand for thousands of people.
    ///
    /// # Errors
    /// Why it does not start.
    pub(super) fn start(dir: Option<&Path>, is_tls: bool) -> anyhow::Result<(OwnServer, Tokens)> {
        let scratch = dir.map_or_else(|| Scratch::make("bench"), |dir| Scratch::make_in(dir, "bench"))?;
        let key = secret::random().context("no secret can be made")?;
        // The system gives a port that is free now.
        let port = TcpListener::bind(("127.0.0.1", 0)).and_then(|port| port.local_addr())?.port();
        let program = std::env::current_exe().context("the program does not know where it is")?;
        let log = std::fs::File::create(scratch.path().join("log"))?;
        let mut command = Command::new(program);
        command.env_clear().env("JWT_SECRET", key.expose()).env("ACADEMY_RT_STORAGE_MIN_FREE", "0");
        for limit in LIMITS {
            command.env(format!("ACADEMY_RT_LIMITS_{limit}"), "0");
        }
        // What this machine has configured is for its own server: its backup, its audit log, its proxy.
        let config = scratch.path().join("academy-rt.toml");
        std::fs::write(&config, "")?;
        command.arg("--config").arg(config);
        command.arg("serve").arg("--listen").arg(format!("127.0.0.1:{port}"));
        command.arg("--data-dir").arg(scratch.path().join("data")).current_dir(scratch.path());
        if !is_tls {
            command.arg("--no-tls");
        }
        // ^C at a terminal is for the command, which ends its server itself.
        command.process_group(0);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let child = child.context("the server cannot be started")?;
        let server = OwnServer { child, scratch, port, is_tls };
        let origin = crate::auth::keys::KeyOrigin::Given;
        Ok((server, Tokens::Signed(Box::new(SigningKey { secret: key, kid: None, origin }))))
    }

    /// Waits until it takes connections.
    ///
    /// # Errors
    /// The last that it has said, if it does not.
    pub(super) async fn is_up(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            if tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
                return Ok(());
            }
            let ended = self.child.try_wait()?;
            if ended.is_some() || begun.elapsed() > START {
                let remedy = "Put that right, or measure a server that is running with --url.";
                return Err(Failure::new("the server for the bench has not started", self.last_words(), remedy).into());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Refuses to believe what was measured of a server that has ended.
    ///
    /// # Errors
    /// The last that it has said.
    pub(super) fn is_still_up(&mut self) -> Result<(), Failure> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            _ => Err(Failure::new("the server has ended while it was measured", self.last_words(), "Report this.")),
        }
    }

    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(self.scratch.path().join("log")).unwrap_or_default();
        log.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it has said nothing").to_owned()
    }

    /// Where it is, and the certificate to be trusted.
    pub(super) fn address(&self) -> (String, Option<PathBuf>) {
        let port = self.port;
        match self.is_tls {
            true => (format!("https://localhost:{port}"), Some(self.scratch.path().join("data/tls/cert.pem"))),
            false => (format!("http://127.0.0.1:{port}"), None),
        }
    }

    /// Its process.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The directory of its data.
    pub(super) fn place(&self) -> &Path {
        self.scratch.path()
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        // Nobody wants its data.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
