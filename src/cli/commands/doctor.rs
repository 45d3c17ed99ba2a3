//! `doctor`: checks an installation for problems, and says how to fix them. Each check is a function that returns results. No
//! check changes anything, and a check that cannot be made does not stop the others.

mod bundle;
mod machine;
mod network;
mod units;

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use http::Method;
use serde::Serialize;
use serde_json::{Value, json};

use crate::archive::moments::day;
use crate::config::{Config, TlsMode};
use crate::domain::origin::Origin;
use crate::domain::problem::Problem;
use crate::domain::{Clock, SystemClock, Timestamp};
use crate::observability::certificate::Validity;
use crate::server::listener::{is_own_inability, own_addresses};
use crate::server::tls::{self, Material, self_signed};
use crate::server::{audit_forward, preflight};
use crate::transport::forwarded::{is_trusted, list_with};

use crate::cli::Global;
use crate::cli::client::connect::Trust;
use crate::cli::client::{Call, ServerArgs, call, may_only_read, runtime};
use crate::cli::exit::{Exit, Failure};

/// A continuous backup that is further behind is a warning. At its beginning a base backup is made.
const CONTINUOUS_LAG_SECONDS: f64 = 60.0;
/// The same of the forwarding of the audit log.
const FORWARD_LAG_SECONDS: u64 = 60;
/// An older backup is a warning: the timer makes a backup every night.
const BACKUP_OLD: Duration = Duration::from_secs(2 * 24 * 60 * 60);

/// Time limit of a connection to this machine itself.
const PROBE: Duration = Duration::from_secs(5);

/// Check this installation for problems, and say how to fix them
///
/// The command changes nothing. The exit status is 3 if there is a problem, and 0 if there are only warnings.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// The server to check; --url is its public address, as clients use it
    #[command(flatten)]
    server: ServerArgs,
    /// Also write a support bundle to this file, with all secrets masked
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
}

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// Nothing is wrong.
    Good,
    /// It works, but needs attention.
    Warning,
    /// It does not work.
    Problem,
}

/// The result of one check.
#[derive(Debug, Serialize)]
struct CheckResult {
    level: Level,
    /// What was checked.
    check: &'static str,
    /// What was found.
    what: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl CheckResult {
    fn good(check: &'static str, what: impl Into<String>) -> CheckResult {
        CheckResult { level: Level::Good, check, what: what.into(), remedy: None }
    }

    fn warning(check: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> CheckResult {
        CheckResult { level: Level::Warning, check, what: what.into(), remedy: Some(remedy.into()) }
    }

    fn problem(check: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> CheckResult {
        CheckResult { level: Level::Problem, check, what: what.into(), remedy: Some(remedy.into()) }
    }

    fn failed(check: &'static str, error: &Problem) -> CheckResult {
        CheckResult::problem(check, format!("{}: {}", error.what, error.why), error.remedy.clone())
    }
}

/// Makes all checks.
///
/// # Errors
/// If the bundle cannot be written.
pub fn run(global: &Global, args: &DoctorArgs) -> anyhow::Result<Exit> {
    let flags = crate::cli::data_dir_flag(args.server.data_dir())?;
    let (config, wrong) = global.load_to_ask(flags.clone())?;
    let now = SystemClock.now();
    let mut results = Vec::new();
    match (&wrong, global.examine(flags)) {
        (None, _) => results.push(CheckResult::good("configuration", "it is valid")),
        (Some(_), Ok((_, problems))) => {
            for problem in &problems {
                results.push(CheckResult::problem("configuration", problem.to_string(), "Correct it in that place."));
            }
        }
        (Some(failure), Err(_)) => results.push(CheckResult::failed("configuration", &failure.problem)),
    }
    // What this account may not look at is no fault of the server's.
    let is_reader = may_only_read(&config);
    if is_reader {
        results.push(CheckResult::warning(
            "files",
            "this account may only read what the server says of itself: keys, secrets, the certificate and the data directory were not looked at",
            "For these, run doctor as root: sudo academy-rt doctor.",
        ));
    }
    // Of the files only a configuration that is right says which they are.
    let checked =
        if wrong.is_none() && !is_reader { preflight::check(&config, now) } else { preflight::Checked::default() };
    for error in &checked.problems {
        results.push(CheckResult::failed("start", error));
    }
    for warning in &checked.warnings {
        results.push(CheckResult::warning("start", warning.clone(), "Fix it as described."));
    }
    results.extend(checked.tls.as_ref().and_then(|tls| certificate_end(tls, &config, now)));
    if !is_reader {
        results.extend(machine::keys(&config));
    }
    results.extend(checked.keys.iter().flat_map(|keys| machine::token_keys(keys, now)));
    results.push(machine::clock(&config, now));
    results.extend(machine::disk(&config));
    if !is_reader {
        results.extend(machine::syncs(&config));
    }

    // A running server reports its own state. If no server answers, the checks look for what prevents its start.
    let server_args = args.server.that_answers();
    let ask = |args: &ServerArgs| call(global, args, Call::new(Method::GET, "/api/v1/admin/status", None));
    let mut status = ask(&server_args);
    match (&status, server_args.url()) {
        (Ok(status), _) => results.extend(server(status)),
        (Err(error), None) => results.extend(absent(&config, error)),
        // What keeps a server from starting here has nothing to do with an address elsewhere.
        (Err(error), Some(url)) => {
            results.push(CheckResult::problem("server", format!("{url}: {error}"), remedy_of(error)));
            status = ask(&ServerArgs::local(args.server.data_dir()));
            if let Ok(local) = &status {
                results.push(CheckResult::good("server", "the one on this machine answers on its control socket"));
                results.extend(server(local));
            }
        }
    }
    // A server of another data directory is not the service's.
    let units = args.server.data_dir().is_none().then(units::Units::ask).flatten();
    results.extend(units.iter().flat_map(|units| units.look(&config, status.as_ref().ok())));
    results.push(machine::listen_queue());
    results.push(machine::descriptors(status.as_ref().ok()));
    results.extend(machine::memory(&config));
    results.push(backup(status.as_ref().ok(), now));
    results.extend(continuous_backup(status.as_ref().ok()));
    results.extend(forwarding(&config, status.as_ref().ok())?);
    results.extend(webhooks(status.as_ref().ok()));
    results.extend(search(status.as_ref().ok()));
    results.extend(proxy(&config, status.as_ref().ok()));
    results.extend(origins(&config, status.as_ref().ok()));
    // This machine may be one of the proxies, whose connections begin with the PROXY protocol.
    let own = own_address(status.as_ref().ok()).filter(|_| !config.server.proxy_protocol);
    match (args.server.url(), own) {
        (Some(public), _) => results.extend(network::look(&config, public, args.server.trust())?),
        // The certificate is not for this address, and is checked above.
        (None, Some(Err(unable))) => results.push(unable),
        (None, Some(Ok(own))) => {
            results.extend(network::look(&config, &own, Trust { is_unverified: true, ..Trust::default() })?)
        }
        (None, None) => {}
    }

    let is_bad = results.iter().any(|result| result.level == Level::Problem);
    let mut answer = json!({ "ok": !is_bad, "findings": results });
    if let Some(path) = &args.bundle {
        bundle::write(global, &server_args, &config, &answer, path)?;
        if let Some(answer) = answer.as_object_mut() {
            answer.insert("bundle".to_owned(), json!(path.display().to_string()));
        }
    }
    global.print(&answer, || words(&results, args.bundle.as_deref()))?;
    Ok(if is_bad { Exit::Found } else { Exit::Done })
}

fn certificate_end(material: &Material, config: &Config, now: Timestamp) -> Option<CheckResult> {
    let (leaf, first_end) = (material.leaf()?, material.first_end()?);
    let (names, end) = (leaf.names.join(", "), day(first_end.not_after));
    // A chain is good no longer than each certificate in it.
    let which =
        if first_end == leaf { "it".to_owned() } else { format!("the one of '{}' in its chain", first_end.subject) };
    let remedy = if config.tls.mode == TlsMode::SelfSigned {
        "Start the server: it renews its self-signed certificate while it runs."
    } else {
        "Replace the certificate file. The server uses the new one without a restart."
    };
    let unknown =
        self_signed::host_name().filter(|host| !leaf.is_for(host) && leaf.names.iter().all(|name| name == "localhost"));
    Some(match (material.validity(now), unknown) {
        (Validity::Expired | Validity::NotYet, _) => {
            let faults = tls::time_faults(&material.chain, now).join("; ");
            CheckResult::problem("certificate", format!("for {names}: {faults}"), remedy)
        }
        (Validity::VerySoon, _) => {
            CheckResult::problem("certificate", format!("for {names}: {which} expires on {end}"), remedy)
        }
        (Validity::Soon, _) => {
            CheckResult::warning("certificate", format!("for {names}: {which} expires on {end}"), remedy)
        }
        (Validity::Good, Some(host)) => CheckResult::warning(
            "certificate",
            format!("it is not for this machine's name, {host}"),
            "Use a certificate for the names that clients use.",
        ),
        (Validity::Good, None) => CheckResult::good("certificate", format!("for {names}, valid until {end}")),
    })
}

/// The state that a running server reports.
fn server(status: &Value) -> Vec<CheckResult> {
    let word = |name: &str| status.get(name).and_then(Value::as_str).unwrap_or_default();
    let mut results = Vec::new();
    let (running, installed) = (word("version"), env!("CARGO_PKG_VERSION"));
    results.push(if running == installed {
        CheckResult::good("server", format!("version {running} is running"))
    } else {
        let what = format!("version {running} is running, but version {installed} is installed");
        CheckResult::warning("server", what, "Restart the server: systemctl restart academy-rt.")
    });
    if status.get("ready").and_then(Value::as_bool) != Some(true) {
        let remedy = "Fix the cause. The server then accepts requests again by itself.";
        results.push(CheckResult::problem(
            "server",
            format!("it does not accept requests: {}", word("reason")),
            remedy,
        ));
    }
    if let Some(error) = status.get("configError").and_then(Value::as_str) {
        let what = format!("the last reload failed, and the old configuration stays in use: {error}");
        results.push(CheckResult::problem("server", what, "Correct the file and reload again."));
    }
    if let Some(error) = status.get("certificateError").and_then(Value::as_str) {
        let what = format!("a changed certificate cannot be used, and the old one stays in use: {error}");
        let remedy = "Correct the file. The server reads it again within a few seconds.";
        results.push(CheckResult::problem("server", what, remedy));
    }
    if let Some(error) = status.get("keysError").and_then(Value::as_str) {
        let what = format!("changed keys cannot be used, and the old keys stay in use: {error}");
        results.push(CheckResult::problem(
            "server",
            what,
            "Correct the file. The server reads it again within a few seconds.",
        ));
    }
    results
}

fn remedy_of(error: &anyhow::Error) -> &str {
    let failure = error.downcast_ref::<Failure>();
    failure.map_or("Start the server, and run this command again.", |failure| failure.problem.remedy.as_str())
}

/// No server answers: checks whether one could start.
fn absent(config: &Config, error: &anyhow::Error) -> Vec<CheckResult> {
    let mut results = vec![CheckResult::problem("server", error.to_string(), remedy_of(error))];
    let lock = machine::store_lock(config);
    let is_held = lock.as_ref().is_some_and(|found| found.level == Level::Problem);
    results.extend(lock);
    match preflight::address(config) {
        // Whoever has the data open listens there, as likely as not: it is not to be stopped for that.
        Err(error) if is_held => results.push(CheckResult::warning(
            "port",
            format!("{}: {}", error.what, error.why),
            "If the server itself listens there, this is as it should be.",
        )),
        Ok(()) => results.push(CheckResult::good("port", format!("{} is free", config.server.listen))),
        Err(error) => results.push(CheckResult::failed("port", &error)),
    }
    results
}

fn backup(status: Option<&Value>, now: Timestamp) -> CheckResult {
    let remedy = "Make a backup (academy-rt backup FILE), and enable the nightly one: systemctl enable --now academy-rt-backup.timer.";
    let Some(status) = status else {
        return CheckResult::warning(
            "backup",
            "unknown, because no server answers",
            "Start the server, and run this command again.",
        );
    };
    match status.pointer("/store/lastBackup/at").and_then(Value::as_u64).map(Timestamp) {
        None => CheckResult::warning("backup", "no backup was made yet", remedy),
        Some(at) if at.until(now) > BACKUP_OLD => {
            CheckResult::warning("backup", format!("the last one was made on {}", day(at)), remedy)
        }
        Some(at) => CheckResult::good("backup", format!("the last one was made on {}", day(at))),
    }
}

/// Whether the continuous backup works, if there is one.
fn continuous_backup(status: Option<&Value>) -> Option<CheckResult> {
    let continuous = status?.get("continuousBackup")?;
    let lag = continuous.get("lagSeconds").and_then(Value::as_f64).unwrap_or_default();
    let remedy = "Check that the directory of backup.continuous is there and can be written, and that its disk has space and keeps up.";
    if let Some(problem) = continuous.get("problem").and_then(Value::as_str) {
        return Some(CheckResult::problem("continuous backup", problem, remedy));
    }
    if lag > CONTINUOUS_LAG_SECONDS {
        return Some(CheckResult::warning("continuous backup", format!("it is {lag:.0} s behind"), remedy));
    }
    Some(CheckResult::good("continuous backup", format!("it is {lag:.1} s behind")))
}

/// Whether the audit log can be forwarded, if it is to be: from here, and as the server sees it.
fn forwarding(config: &Config, status: Option<&Value>) -> anyhow::Result<Vec<CheckResult>> {
    let Some(target) = &config.audit.forward else { return Ok(Vec::new()) };
    let mut results = Vec::new();
    results.push(match runtime()?.block_on(audit_forward::probe(&config.audit)) {
        Ok(()) => CheckResult::good("audit forward", format!("{target} can be reached")),
        Err(error) => CheckResult::failed("audit forward", &error),
    });
    let Some(forward) = status.and_then(|status| status.get("auditForward")) else { return Ok(results) };
    let number = |name: &str| forward.get(name).and_then(Value::as_u64).unwrap_or_default();
    let behind = format!("{} records wait, the oldest for {} s", number("waiting"), number("lagSeconds"));
    let remedy =
        "academy-rt audit list shows the records; they stay in the audit log until the receiver has taken them.";
    if let Some(problem) = forward.get("problem").and_then(Value::as_str) {
        results.push(CheckResult::problem("audit forward", format!("{behind}: {problem}"), remedy));
    } else if number("lagSeconds") > FORWARD_LAG_SECONDS {
        results.push(CheckResult::warning("audit forward", behind, remedy));
    }
    Ok(results)
}

/// Whether the platform takes webhooks, and says who may enter.
fn webhooks(status: Option<&Value>) -> Vec<CheckResult> {
    let Some(hooks) = status.and_then(|status| status.get("webhooks")) else { return Vec::new() };
    let mut results = Vec::new();
    let number = |name: &str| hooks.get(name).and_then(Value::as_u64).unwrap_or_default();
    let remedy =
        "academy-rt webhook test sends one now and shows the answer. Nothing is lost: what waits is sent again.";
    let (waiting, lag) = (number("waiting"), number("lagSeconds"));
    let behind = format!("{waiting} webhooks wait, the oldest for {lag} s");
    if hooks.get("isGone").and_then(Value::as_bool) == Some(true) {
        let remedy = "Correct webhooks.url and reload the server; or remove it, if the platform is not to be told.";
        results.push(CheckResult::problem(
            "webhooks",
            format!("{behind}: the receiver wants no more (410 Gone)"),
            remedy,
        ));
    } else if let Some(problem) = hooks.get("problem").and_then(Value::as_str) {
        results.push(CheckResult::problem("webhooks", format!("{behind}: {problem}"), remedy));
    } else if lag > FORWARD_LAG_SECONDS {
        results.push(CheckResult::warning("webhooks", behind, remedy));
    } else if hooks.get("url").is_some_and(Value::is_string) {
        results.push(CheckResult::good("webhooks", format!("{} were taken since the start", number("sent"))));
    }
    if waiting > 0 && waiting.saturating_mul(10) >= number("outbox").saturating_mul(8) {
        let what = format!("{waiting} wait of {} that have room (webhooks.outbox)", number("outbox"));
        let remedy = "Beyond that the platform is told of a gap, and has to read again what it missed. Bring the receiver back, or raise webhooks.outbox.";
        results.push(CheckResult::problem("webhook outbox", what, remedy));
    }
    if number("dead") > 0 {
        let what = format!("there are {} dead letters: the platform did not take them for long", number("dead"));
        let remedy = "academy-rt webhook list shows why; academy-rt webhook replay --all sends them again.";
        results.push(CheckResult::warning("dead letters", what, remedy));
    }
    let (asked, undecided) = (number("asked"), number("undecided"));
    if undecided > 0 {
        let what = format!("the platform did not decide {undecided} of {asked} times who may enter a room");
        let remedy = "Look at the receiver of chat.authorize_url; academy-rt's log says what it answered.";
        results.push(CheckResult::warning("join authorisation", what, remedy));
    }
    results
}
/// Whether messages can be searched for, if search is on.
fn search(status: Option<&Value>) -> Option<CheckResult> {
    let search = status?.get("search")?;
    let number = |name: &str| search.get(name).and_then(Value::as_u64).unwrap_or_default();
    let remedy = "The server builds the index again by itself. If this stays, check the disk of the data directory, or stop the server, remove the directory search in it, and start again.";
    if let Some(problem) = search.get("problem").and_then(Value::as_str) {
        return Some(CheckResult::problem("search", problem, remedy));
    }
    let rebuilt = match search.get("rebuilt").and_then(Value::as_str) {
        Some(why) => format!("; it was built anew since the start ({why})"),
        None => String::new(),
    };
    let messages = number("messages");
    if search.get("state").and_then(Value::as_str) == Some("unused") {
        let what = "nobody has looked for anything yet; the first search begins the index";
        return Some(CheckResult::good("search", what));
    }
    if search.get("isComplete").and_then(Value::as_bool) != Some(true) {
        let up_to = number("upTo");
        let behind = format!("the index has {messages} messages up to id {up_to}, and is not complete{rebuilt}");
        return Some(CheckResult::warning("search", behind, remedy));
    }
    Some(CheckResult::good("search", format!("the index is complete, {messages} messages{rebuilt}")))
}

/// Whether a proxy in front passes on client addresses.
fn proxy(config: &Config, status: Option<&Value>) -> Vec<CheckResult> {
    let mut results = Vec::new();
    let server = &config.server;
    if !server.behind_proxy && !server.proxy_protocol {
        return results;
    }
    if server.trusted_proxies.is_empty() {
        results.push(CheckResult::warning(
            "proxy",
            "only a proxy on this machine is believed (server.trusted_proxies is empty)",
            "Set server.trusted_proxies to the addresses of the proxies, or to [\"127.0.0.1\", \"::1\"].",
        ));
    }
    for (name, requests) in seen_names(status, "/untrustedProxies") {
        let line = list_with(&server.trusted_proxies, &name);
        results.push(CheckResult::warning(
            "proxy",
            format!("{name} speaks as a proxy does and is not trusted ({requests} times)"),
            format!(
                "If it is your proxy, write in [server]: {line}. Otherwise, let nobody but the proxy reach the server."
            ),
        ));
    }
    // With --url, the server sees this command through the proxy.
    let seen = status.and_then(|status| status.get("seenFrom")).and_then(Value::as_str);
    if let Some(seen) = seen.and_then(|seen| seen.parse::<std::net::IpAddr>().ok()) {
        results.push(if seen.is_loopback() || is_trusted(&seen, &server.trusted_proxies) {
            let remedy =
                "Configure the proxy to give the address of the client (server.forwarded_header). Otherwise all clients share one limit.";
            CheckResult::warning("proxy", format!("the server sees the address of the proxy ({seen}), not that of this client"), remedy)
        } else {
            CheckResult::good("proxy", format!("it passes on client addresses (this one: {seen})"))
        });
    }
    results
}

/// Pages that were refused.
fn origins(config: &Config, status: Option<&Value>) -> Vec<CheckResult> {
    let found = seen_names(status, "/refusedOrigins").map(|(name, requests)| {
        let what = format!("pages of {name} were refused ({requests} times)");
        let Some(origin) = Origin::parse(&name) else {
            return CheckResult::warning(
                "origins",
                what,
                "It is no origin that can be allowed: serve the page over https.",
            );
        };
        let mut all: Vec<&str> = config.server.cors_origins.iter().map(Origin::as_str).collect();
        all.push(origin.as_str());
        CheckResult::warning(
            "origins",
            what,
            format!("If the page is yours, write in [server]: cors_origins = {all:?}."),
        )
    });
    found.collect()
}

/// What a running server has noticed of strangers: names, and how often.
fn seen_names<'a>(status: Option<&'a Value>, pointer: &str) -> impl Iterator<Item = (String, u64)> + use<'a> {
    let list = status.and_then(|status| status.pointer(pointer)).and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .take(3)
        .filter_map(|seen| Some((seen.get("name")?.as_str()?.to_owned(), seen.get("requests")?.as_u64()?)))
}

/// The address of the running server as seen from this machine. A server that listens on all addresses also listens on the
/// loopback ones: the first of them that this machine can connect to, or else why it can connect to none.
fn own_address(status: Option<&Value>) -> Option<Result<String, CheckResult>> {
    let address = status?.pointer("/addresses/0")?.as_str()?;
    let (scheme, authority) = address.split_once("://")?;
    let Ok(listening) = authority.parse::<SocketAddr>() else { return Some(Ok(address.to_owned())) };
    let mut why = None;
    for ip in own_addresses(listening.ip()) {
        let place = SocketAddr::new(ip, listening.port());
        match TcpStream::connect_timeout(&place, PROBE) {
            Err(error) if is_own_inability(&error) => why = Some(error),
            // Whether somebody answers is looked at next.
            _ => return Some(Ok(format!("{scheme}://{place}"))),
        }
    }
    let why = why.map_or_else(String::new, |error| format!(": {error}"));
    let what = format!("this machine cannot make a connection to {address}{why}. Whether clients can, is unknown");
    let remedy = "Check the server from another machine: academy-rt doctor --url URL.";
    Some(Err(CheckResult::warning("address", what, remedy)))
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

fn words(results: &[CheckResult], bundle: Option<&std::path::Path>) -> String {
    let mut text = String::new();
    for result in results {
        let mark = match result.level {
            Level::Good => "ok      ",
            Level::Warning => "WARNING ",
            Level::Problem => "PROBLEM ",
        };
        text.push_str(&format!("{mark} {:<14} {}\n", result.check, result.what));
        if let Some(remedy) = &result.remedy {
            text.push_str(&format!("{:24}-> {remedy}\n", ""));
        }
    }
    let count = |level| results.iter().filter(|result| result.level == level).count();
    match (count(Level::Problem), count(Level::Warning)) {
        (0, 0) => text.push_str("\nNo problems found."),
        (problems, warnings) => {
            text.push_str(&format!("\n{}, {}.", counted(problems, "problem"), counted(warnings, "warning")));
        }
    }
    if let Some(path) = bundle {
        text.push_str(&format!(
            "\nSupport bundle: {}. Its secrets are masked; check it before you send it.",
            path.display()
        ));
    }
    text
}
