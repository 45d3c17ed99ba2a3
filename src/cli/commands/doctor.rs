//! `doctor`: what is wrong with this installation, and how to mend it. Each check is a function that gives findings; it changes
//! nothing, and goes on when one of them cannot be made.

mod bundle;
mod machine;
mod network;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use http::Method;
use serde::Serialize;
use serde_json::{Value, json};

use crate::archive::moments::day;
use crate::config::{Config, TlsMode};
use crate::domain::problem::Problem;
use crate::domain::{Clock, SystemClock, Timestamp};
use crate::observability::certificate::{CertificateFacts, Validity};
use crate::server::preflight;
use crate::server::tls::self_signed;

use crate::cli::Global;
use crate::cli::client::connect::Trust;
use crate::cli::client::{Call, ServerArgs, call};
use crate::cli::exit::{Exit, Failure};

/// A backup that is older is worth a word: one was to come every night.
const BACKUP_OLD: Duration = Duration::from_secs(2 * 24 * 60 * 60);

/// Find out what is wrong with this installation, and how to mend it
///
/// Nothing is changed. Exit status 3 if something is wrong; warnings alone give 0.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// The server; --url is the public address, as clients use it
    #[command(flatten)]
    server: ServerArgs,
    /// Write a support bundle, with every secret masked
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// As it should be.
    Good,
    /// It works, and should be looked at.
    Warning,
    /// It does not work.
    Problem,
}

/// What one check has found.
#[derive(Debug, Serialize)]
struct Finding {
    level: Level,
    /// What was looked at.
    check: &'static str,
    /// What was found.
    what: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Finding {
    fn good(check: &'static str, what: impl Into<String>) -> Finding {
        Finding { level: Level::Good, check, what: what.into(), remedy: None }
    }

    fn warning(check: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { level: Level::Warning, check, what: what.into(), remedy: Some(remedy.into()) }
    }

    fn problem(check: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { level: Level::Problem, check, what: what.into(), remedy: Some(remedy.into()) }
    }

    fn failed(check: &'static str, error: &Problem) -> Finding {
        Finding::problem(check, format!("{}: {}", error.what, error.why), error.remedy.clone())
    }
}

/// Looks at everything.
///
/// # Errors
/// If the bundle cannot be written; what is wrong is a finding.
pub fn run(global: &Global, args: &DoctorArgs) -> anyhow::Result<Exit> {
    let flags = crate::cli::data_dir_flag(args.server.data_dir())?;
    let (config, problems) = global.examine(flags)?;
    let now = SystemClock.now();
    let mut findings = Vec::new();
    if problems.is_empty() {
        findings.push(Finding::good("configuration", "it is good"));
    }
    for problem in &problems {
        findings.push(Finding::problem("configuration", problem.to_string(), "Correct it there."));
    }
    let checked = preflight::check(&config, now);
    for error in &checked.problems {
        findings.push(Finding::failed("start", error));
    }
    for warning in &checked.warnings {
        findings.push(Finding::warning("start", warning.clone(), "Mend it as it says."));
    }
    findings.extend(checked.tls.as_ref().and_then(|tls| tls.leaf()).map(|leaf| certificate_end(leaf, &config, now)));
    findings.extend(machine::keys(&config));
    findings.extend(checked.keys.iter().flat_map(|keys| machine::token_keys(keys, now)));
    findings.push(machine::clock(&config, now));
    findings.extend(machine::disk(&config));

    // A server that is reached says the rest of itself; without one, what would keep it from starting is looked for.
    let server_args = args.server.that_answers();
    let status = call(global, &server_args, Call::new(Method::GET, "/api/v1/admin/status", None));
    match &status {
        Ok(status) => findings.extend(server(status)),
        Err(error) => findings.extend(absent(&config, error)),
    }
    findings.push(machine::descriptors(status.as_ref().ok()));
    findings.extend(machine::memory(&config));
    findings.push(backup(status.as_ref().ok(), now));
    findings.extend(proxy(&config, status.as_ref().ok()));
    match (args.server.url(), own_address(status.as_ref().ok())) {
        (Some(public), _) => findings.extend(network::look(&config, public, args.server.trust())?),
        // The certificate is for the names that clients use; here it is looked at above.
        (None, Some(own)) => {
            findings.extend(network::look(&config, &own, Trust { is_unverified: true, ..Trust::default() })?)
        }
        (None, None) => {}
    }

    let is_bad = findings.iter().any(|finding| finding.level == Level::Problem);
    let mut answer = json!({ "ok": !is_bad, "findings": findings });
    if let Some(path) = &args.bundle {
        bundle::write(global, &server_args, &config, &answer, path)?;
        if let Some(answer) = answer.as_object_mut() {
            answer.insert("bundle".to_owned(), json!(path));
        }
    }
    global.print(&answer, || words(&findings, args.bundle.as_deref()))?;
    Ok(if is_bad { Exit::Found } else { Exit::Done })
}

fn certificate_end(leaf: &CertificateFacts, config: &Config, now: Timestamp) -> Finding {
    let (names, end) = (leaf.names.join(", "), day(leaf.not_after));
    let remedy = if config.tls.mode == TlsMode::SelfSigned {
        "The server renews its own certificate by itself while it runs: start it."
    } else {
        "Put a new certificate in its place: it is taken without a restart."
    };
    let unknown =
        self_signed::host_name().filter(|host| !leaf.is_for(host) && leaf.names.iter().all(|name| name == "localhost"));
    match (leaf.validity(now), unknown) {
        (Validity::Expired | Validity::NotYet, _) => {
            Finding::problem("certificate", format!("for {names}: good until {end}, and not now"), remedy)
        }
        (Validity::VerySoon, _) => Finding::problem("certificate", format!("for {names}: it ends on {end}"), remedy),
        (Validity::Soon, _) => Finding::warning("certificate", format!("for {names}: it ends on {end}"), remedy),
        (Validity::Good, Some(host)) => Finding::warning(
            "certificate",
            format!("it is not for this machine's name, {host}"),
            "Make one for the names that clients use.",
        ),
        (Validity::Good, None) => Finding::good("certificate", format!("for {names}, until {end}")),
    }
}

/// What a running server says of itself.
fn server(status: &Value) -> Vec<Finding> {
    let word = |name: &str| status.get(name).and_then(Value::as_str).unwrap_or_default();
    let mut findings = Vec::new();
    let (running, installed) = (word("version"), env!("CARGO_PKG_VERSION"));
    findings.push(if running == installed {
        Finding::good("server", format!("version {running} runs"))
    } else {
        let what = format!("version {running} runs, and {installed} is installed");
        Finding::warning("server", what, "Restart it: systemctl restart academy-rt.")
    });
    if status.get("ready").and_then(Value::as_bool) != Some(true) {
        let remedy = "Mend the reason; it takes requests again by itself.";
        findings.push(Finding::problem("server", format!("it takes no requests: {}", word("reason")), remedy));
    }
    if let Some(error) = status.get("configError").and_then(Value::as_str) {
        let what = format!("the last reload was refused, and the old configuration is in force: {error}");
        findings.push(Finding::problem("server", what, "Correct the file, and reload again."));
    }
    if let Some(error) = status.get("keysError").and_then(Value::as_str) {
        let what = format!("keys have changed and are not used, the old ones are in force: {error}");
        findings.push(Finding::problem("server", what, "Correct the file: it is taken within some seconds."));
    }
    findings
}

/// No server answers: is that all, or would none start either?
fn absent(config: &Config, error: &anyhow::Error) -> Vec<Finding> {
    let failure = error.downcast_ref::<Failure>();
    let remedy = failure.map_or("Start it, and look again.", |failure| failure.problem.remedy.as_str());
    let mut findings = vec![Finding::problem("server", error.to_string(), remedy)];
    findings.extend(machine::store_lock(config));
    match preflight::address(config) {
        Ok(()) => findings.push(Finding::good("port", format!("{} is free", config.server.listen))),
        Err(error) => findings.push(Finding::failed("port", &error)),
    }
    findings
}

fn backup(status: Option<&Value>, now: Timestamp) -> Finding {
    let remedy = "Make one (academy-rt backup FILE), and let the timer make them: systemctl enable --now academy-rt-backup.timer.";
    let Some(status) = status else {
        return Finding::warning("backup", "not known: no server answers", "Start it, and look again.");
    };
    match status.pointer("/store/lastBackup/at").and_then(Value::as_u64).map(Timestamp) {
        None => Finding::warning("backup", "there was never one", remedy),
        Some(at) if at.until(now) > BACKUP_OLD => {
            Finding::warning("backup", format!("the last one is of {}", day(at)), remedy)
        }
        Some(at) => Finding::good("backup", format!("the last one is of {}", day(at))),
    }
}

/// What a proxy in front tells the server.
fn proxy(config: &Config, status: Option<&Value>) -> Vec<Finding> {
    if !config.server.behind_proxy {
        return Vec::new();
    }
    let mut findings = Vec::new();
    if config.server.trusted_proxies.is_empty() {
        let remedy = "List the proxies' addresses as server.trusted_proxies.";
        findings.push(Finding::warning(
            "proxy",
            "whoever connects is believed to be the proxy (server.trusted_proxies is empty)",
            remedy,
        ));
    }
    // Over --url the server has seen this command through the proxy.
    let seen = status.and_then(|status| status.get("seenFrom")).and_then(Value::as_str);
    if let Some(seen) = seen.and_then(|seen| seen.parse::<std::net::IpAddr>().ok()) {
        let is_proxy = config.server.trusted_proxies.contains(&seen) || seen.is_loopback();
        findings.push(if is_proxy {
            let remedy =
                "Let the proxy set X-Forwarded-For to the client's address: all clients share one limit otherwise.";
            Finding::warning("proxy", format!("this command was seen as the proxy itself ({seen})"), remedy)
        } else {
            Finding::good("proxy", format!("it passes on the clients' addresses (this one: {seen})"))
        });
    }
    findings
}

/// Where the running server can be tried from here.
fn own_address(status: Option<&Value>) -> Option<String> {
    let address = status?.pointer("/addresses/0")?.as_str()?;
    // All addresses of the machine are one of them.
    Some(address.replace("://0.0.0.0:", "://127.0.0.1:").replace("://[::]:", "://[::1]:"))
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

fn words(findings: &[Finding], bundle: Option<&std::path::Path>) -> String {
    let mut text = String::new();
    for finding in findings {
        let mark = match finding.level {
            Level::Good => "ok      ",
            Level::Warning => "WARNING ",
            Level::Problem => "PROBLEM ",
        };
        text.push_str(&format!("{mark} {:<14} {}\n", finding.check, finding.what));
        if let Some(remedy) = &finding.remedy {
            text.push_str(&format!("{:24}-> {remedy}\n", ""));
        }
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    match (count(Level::Problem), count(Level::Warning)) {
        (0, 0) => text.push_str("\nEverything is well."),
        (problems, warnings) => {
            text.push_str(&format!("\n{}, {}.", counted(problems, "problem"), counted(warnings, "warning")));
        }
    }
    if let Some(path) = bundle {
        text.push_str(&format!(
            "\nSupport bundle: {}. Secrets are masked in it; look at it before you send it.",
            path.display()
        ));
    }
    text
}
