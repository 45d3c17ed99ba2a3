//! `status`: shows the state of the running server, once or repeatedly.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use clap::Args;
use http::Method;
use serde_json::Value;

use crate::archive::moments::{day, moment};
use crate::domain::Timestamp;

use crate::cli::client::{Call, ServerArgs, call, listing, runtime};
use crate::cli::commands::webhook;
use crate::cli::exit::{self, Exit, Failure};
use crate::cli::{Global, Output};

/// Clears the terminal.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Show the state of the running server
///
/// The exit status is 3 if the server does not accept requests.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// The server to use
    #[command(flatten)]
    server: ServerArgs,
    /// Repeat every SECONDS seconds until Ctrl-C [default: 2]
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2", value_parser = clap::value_parser!(u64).range(1..=3_600))]
    watch: Option<u64>,
}

/// Runs the command.
///
/// # Errors
/// If no server answers.
pub fn run(global: &Global, args: &StatusArgs) -> anyhow::Result<Exit> {
    let ask = || call(global, &args.server, Call::new(Method::GET, "/api/v1/admin/status", None));
    let answer = ask()?;
    if let Some(seconds) = args.watch {
        return watch(global, Duration::from_secs(seconds), answer, ask);
    }
    let is_ready = answer.get("ready").and_then(Value::as_bool).unwrap_or_default();
    let mut answer = answer;
    if let Some(ok) = answer.get_mut("ok") {
        *ok = is_ready.into();
    }
    global.print(&answer, || text(&answer))?;
    Ok(if is_ready { Exit::Done } else { Exit::Found })
}

/// Shows a screen on a terminal, else one line per sample. If the server stops, the command keeps asking.
fn watch(
    global: &Global,
    pause: Duration,
    first: Value,
    ask: impl Fn() -> anyhow::Result<Value>,
) -> anyhow::Result<Exit> {
    let is_screen = io::stdout().is_terminal() && global.output == Output::Text;
    let runtime = runtime()?;
    let mut answer = Ok(first);
    loop {
        let shown = match (&answer, global.output) {
            (Ok(answer), Output::Json) => answer.to_string(),
            (Ok(answer), Output::Text) if is_screen => format!("{CLEAR}{}\n\nPress Ctrl-C to quit.", text(answer)),
            (Ok(answer), Output::Text) => line(answer),
            (Err(error), Output::Json) => exit::in_json(error),
            (Err(error), Output::Text) => {
                let clear = if is_screen { CLEAR } else { "" };
                format!("{clear}{error:#}; asking again every {} s", pause.as_secs())
            }
        };
        let mut stdout = io::stdout().lock();
        match writeln!(stdout, "{shown}").and_then(|()| stdout.flush()) {
            // The reader has closed the pipe.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Exit::Done),
            written => written
                .map_err(|error| Failure::new("the status cannot be written", error, "Check standard output."))?,
        }
        drop(stdout);
        // The timer is made inside the runtime.
        runtime.block_on(async { tokio::time::sleep(pause).await });
        answer = ask();
    }
}

/// Fields of an answer, by JSON pointer.
struct Said<'a>(&'a Value);

impl Said<'_> {
    fn number(&self, pointer: &str) -> u64 {
        self.0.pointer(pointer).and_then(Value::as_u64).unwrap_or_default()
    }

    fn part(&self, pointer: &str) -> f64 {
        self.0.pointer(pointer).and_then(Value::as_f64).unwrap_or_default()
    }

    fn word(&self, pointer: &str) -> &str {
        self.0.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    fn mib(&self, pointer: &str) -> f64 {
        self.part(pointer) / f64::from(1 << 20)
    }

    fn health(&self) -> String {
        match self.0.get("ready").and_then(Value::as_bool) {
            Some(true) => "ready".to_owned(),
            _ => format!("NOT READY: {}", self.word("/reason")),
        }
    }

    fn within(&self, pointer: &str) -> String {
        match (self.0.pointer(pointer).and_then(Value::as_u64), self.number("/store/commits")) {
            (Some(ms), _) => format!("within {ms} ms"),
            (None, 0) => "unknown yet".to_owned(),
            (None, _) => "over 10 s".to_owned(),
        }
    }

    fn certificate(&self) -> String {
        let names = self.0.pointer("/certificate/names").and_then(Value::as_array);
        let Some(names) = names else { return "none, TLS is off".to_owned() };
        let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
        let (end, days) = (Timestamp(self.number("/certificate/notAfter")), self.number("/certificate/daysLeft"));
        let is_valid = self.0.pointer("/certificate/valid").and_then(Value::as_bool).unwrap_or(true);
        let alarm = match (is_valid, days) {
            (false, _) => "  NOT VALID NOW: clients refuse it",
            (true, ..30) => "  RENEW IT",
            _ => "",
        };
        let ends_first = match self.word("/certificate/endsFirst") {
            "" => String::new(),
            subject => format!(", when that of '{subject}' in its chain ends"),
        };
        let own =
            if self.0.pointer("/certificate/selfSigned") == Some(&Value::Bool(true)) { ", self-signed" } else { "" };
        format!("for {} until {} ({days} days){ends_first}{own}{alarm}", names.join(", "), day(end))
    }

    fn keys(&self) -> String {
        let keys = listing::items(self.0, "keys");
        let endings = keys.iter().filter_map(|key| {
            let until = key.get("until").and_then(Value::as_u64).map(Timestamp)?;
            let kid = key.pointer("/kids/0").and_then(Value::as_str).unwrap_or_default();
            Some(format!("; {kid} until {}", moment(until)))
        });
        format!("{} in use{}", keys.len(), endings.collect::<String>())
    }

    /// Names that strangers have given, the most frequent three.
    fn seen(&self, pointer: &str) -> String {
        let names = self.0.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let one = |seen: &Value| {
            let name = seen.get("name").and_then(Value::as_str).unwrap_or_default();
            format!("{name} ({} times)", seen.get("requests").and_then(Value::as_u64).unwrap_or_default())
        };
        let mut shown: Vec<String> = names.iter().take(3).map(one).collect();
        if names.len() > shown.len() {
            shown.push(format!("{} more", names.len() - shown.len()));
        }
        shown.join(", ")
    }

    fn busiest(&self) -> String {
        let one = |room: &Value| {
            let (id, messages) = (listing::text(room, "roomId"), listing::number(room, "messages"));
            format!("{id} ({messages} messages a minute, {} sockets)", listing::number(room, "sockets"))
        };
        listing::items(self.0, "busiestRooms").iter().map(one).collect::<Vec<_>>().join(", ")
    }

    fn refused(&self) -> String {
        let one = |refused: &Value| {
            let text = |name| listing::text(refused, name);
            format!("user {} ({}, {})", text("userId"), text("request"), text("code"))
        };
        listing::items(self.0, "refusedUsers").iter().map(one).collect::<Vec<_>>().join(", ")
    }

    /// Of the continuous backup.
    fn continuous(&self) -> String {
        let directory = self.word("/directory");
        match self.0.pointer("/problem").and_then(Value::as_str) {
            Some(problem) => format!("FAILS, {:.0} s behind: {problem}", self.part("/lagSeconds")),
            None => format!("{:.1} s behind, in {directory}; {} gaps", self.part("/lagSeconds"), self.number("/gaps")),
        }
    }

    /// Of the forwarding of the audit log.
    fn forwarding(&self) -> String {
        let (target, waiting) = (self.word("/target"), self.number("/waiting"));
        match self.0.pointer("/problem").and_then(Value::as_str) {
            Some(problem) => format!("FAILS, {waiting} records wait for {} s: {problem}", self.number("/lagSeconds")),
            None => format!("up to record {} to {target}; {waiting} wait", self.number("/sent")),
        }
    }

    /// Of the index of search.
    fn search(&self) -> String {
        let (messages, mib) = (self.number("/messages"), self.mib("/bytes"));
        if let Some(problem) = self.0.pointer("/problem").and_then(Value::as_str) {
            return format!("INCOMPLETE: {problem}");
        }
        match self.0.pointer("/isComplete").and_then(Value::as_bool) {
            Some(true) => format!("{messages} messages, {mib:.1} MiB"),
            _ if self.word("/state") == "unused" => "not used yet".to_owned(),
            _ => format!("{}, {messages} messages so far, {mib:.1} MiB", self.word("/state")),
        }
    }

    fn backup(&self) -> String {
        match self.0.pointer("/store/lastBackup/at").and_then(Value::as_u64) {
            Some(at) => format!("{} ({:.1} MiB)", moment(Timestamp(at)), self.mib("/store/lastBackup/bytes")),
            None => "none yet; make one with academy-rt backup FILE".to_owned(),
        }
    }
}

/// The whole screen.
fn text(answer: &Value) -> String {
    let said = Said(answer);
    let number = |pointer: &str| said.number(pointer);
    let uptime = number("/uptimeSeconds");
    let realtime = if answer.get("websocketEnabled").and_then(Value::as_bool) == Some(true) { "on" } else { "off" };
    let mut lines = vec![format!("academy-rt {}  {}", said.word("/version"), said.health())];
    let mut row = |name: &str, words: String| lines.push(format!("  {name:<12} {words}"));
    row("address", said.word("/addresses/0").to_owned());
    row("up", format!("{} h {} min", uptime / 3_600, uptime % 3_600 / 60));
    row("Socket.IO", realtime.to_owned());
    row(
        "sockets",
        format!(
            "{} ({} WebSocket, {} polling): {} admin, {} hr, {} coach, {} learner, {} without a role",
            number("/sockets/total"),
            number("/sockets/websocket"),
            number("/sockets/polling"),
            number("/sockets/roles/admin"),
            number("/sockets/roles/hr"),
            number("/sockets/roles/coach"),
            number("/sockets/roles/learner"),
            number("/sockets/roles/none"),
        ),
    );
    row(
        "users",
        format!(
            "{} online in {} rooms, {} long polls, {} connections of {}{}",
            number("/users"),
            number("/rooms"),
            number("/pollsWaiting"),
            number("/connections"),
            number("/connectionsLimit"),
            match number("/connectionsTurnedAway") {
                0 => String::new(),
                many => format!(", {many} TURNED AWAY for want of descriptors"),
            }
        ),
    );
    row(
        "per second",
        format!(
            "{:.1} messages, {:.1} events sent, {:.1} requests (mean of the last minute)",
            said.part("/rates/messages"),
            said.part("/rates/deliveries"),
            said.part("/rates/requests")
        ),
    );
    row("sent", format!("{} events; {} slow clients disconnected", number("/deliveries"), number("/slowReaders")));
    row(
        "refused",
        format!(
            "{} sign-ins{}, {} requests beyond a limit",
            number("/refusedSignIns"),
            match number("/refusedBeyondRecords") {
                0 => String::new(),
                many => format!(" ({many} of today WITHOUT AN AUDIT RECORD of their own: too many)"),
            },
            number("/rateLimited")
        ),
    );
    row(
        "quotas",
        format!(
            "users refused today: {} by stored bytes, {} by new rooms, {} by lessons, {} by reports",
            number("/quotas/stored/usersToday"),
            number("/quotas/newRooms/usersToday"),
            number("/quotas/lessons/usersToday"),
            number("/quotas/reports/usersToday"),
        ),
    );
    row(
        "store",
        format!(
            "{:.1} MiB, {} writes in {} commits, {} waiting",
            said.mib("/store/fileBytes"),
            number("/store/writes"),
            number("/store/commits"),
            number("/store/queued")
        ),
    );
    row("commits", format!("50 % {}, 99 % {}", said.within("/store/commitP50Ms"), said.within("/store/commitP99Ms")));
    row(
        "disk",
        format!(
            "{:.0} MiB free; the server refuses writes below {:.0} MiB",
            said.mib("/store/freeBytes"),
            said.mib("/store/minFreeBytes")
        ),
    );
    row(
        "process",
        format!(
            "{:.1} MiB memory, {} of {} descriptors, {:.1} s processor time",
            said.mib("/process/residentBytes"),
            number("/process/openFds"),
            number("/process/maxFds"),
            said.part("/process/cpuSeconds")
        ),
    );
    for (name, words) in [("busiest", said.busiest()), ("refused last", said.refused())] {
        if !words.is_empty() {
            row(name, words);
        }
    }
    row("certificate", said.certificate());
    row("keys", said.keys());
    row("last backup", said.backup());
    if let Some(continuous) = answer.get("continuousBackup") {
        row("continuous", Said(continuous).continuous());
    }
    if let Some(forward) = answer.get("auditForward") {
        row("audit forward", Said(forward).forwarding());
    }
    if let Some(webhooks) = answer.get("webhooks") {
        row("webhooks", webhook::standing(webhooks));
    }
    if let Some(search) = answer.get("search") {
        row("search", Said(search).search());
    }
    for (name, pointer, what) in [
        ("PROXIES", "/untrustedProxies", "not in server.trusted_proxies"),
        ("ORIGINS", "/refusedOrigins", "not in server.cors_origins"),
    ] {
        let seen = said.seen(pointer);
        if !seen.is_empty() {
            row(name, format!("refused, {what}: {seen}"));
        }
    }
    for (pointer, what) in [
        ("/unreachable/oldClients", "of Socket.IO 2 or older"),
        ("/unreachable/lostUpgrades", "without the header Upgrade: a proxy in front must pass it on"),
        ("/unreachable/unsigned", "that did not sign in within limits.sign_in"),
    ] {
        let many = number(pointer);
        if many > 0 {
            row("UNREACHED", format!("{many} clients {what}"));
        }
    }
    if let Some(error) = answer.get("certificateError").and_then(Value::as_str) {
        row("CERTIFICATE", format!("REFUSED, the old one stays in use: {error}"));
    }
    if let Some(error) = answer.get("keysError").and_then(Value::as_str) {
        row("KEYS", format!("REFUSED, the old keys stay in use: {error}"));
    }
    if let Some(error) = answer.get("configError").and_then(Value::as_str) {
        row("RELOAD", format!("REFUSED, the old configuration stays in use: {error}"));
    }
    lines.join("\n")
}

/// One sample.
fn line(answer: &Value) -> String {
    let said = Said(answer);
    format!(
        "{}  {} sockets  {} users  {:.1} messages/s  {:.1} events/s  {:.1} requests/s  {} queued  commits 99 % {}  {:.1} MiB",
        said.health(),
        said.number("/sockets/total"),
        said.number("/users"),
        said.part("/rates/messages"),
        said.part("/rates/deliveries"),
        said.part("/rates/requests"),
        said.number("/store/queued"),
        said.within("/store/commitP99Ms"),
        said.mib("/process/residentBytes"),
    )
}
