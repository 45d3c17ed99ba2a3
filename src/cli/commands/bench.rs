//! `bench`: measures a server at the load that it is offered, and finds how much this machine carries.

mod client;
mod figures;
mod load;
mod picture;
mod target;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use rustix::fs::statfs;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use crate::auth::sources;
use crate::cli::Global;
use crate::cli::client::runtime;
use crate::cli::data_dir_flag;
use crate::cli::exit::{Exit, Failure};
use crate::cli::progress_bar;
use crate::config::Config;
use crate::server::shutdown::Signals;

use figures::{Spread, Usage, Used};
use load::{Chat, Connected, Outcome, Pace};
use picture::Point;
use target::{OwnServer, Target, Tokens};

/// Connections of the bench need descriptors, and so does a server of its own.
const MOST_CONNECTIONS: usize = 20_000;
/// The first rate of a search, and what a message is allowed to lag behind its rate.
const FIRST_RATE: f64 = 100.0;
const KEEPS_UP: f64 = 0.97;
/// A search doubles the rate so often at most, and halves the gap that it has found so often.
const DOUBLINGS: usize = 12;
const HALVINGS: usize = 3;
/// The magic number of tmpfs (linux/magic.h).
const TMPFS: u64 = 0x0102_1994;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// People write in many small chat rooms.
    Chat,
    /// One writes in a room with many people.
    Fanout,
    /// As chat, and as many more people receive by long polling.
    Poll,
    /// People report their progress.
    Progress,
    /// Connections that do nothing.
    Idle,
    /// Connections that are lost and come back, all at once.
    Return,
}

/// Measure a server, or how much this machine carries.
///
/// Without --url, the command starts a server of its own, with data that it removes at the end, and measures that one. Messages are
/// sent on a schedule that does not wait for answers, and latencies count from the moment at which a message was due. The exit
/// status is 3 if a message was lost, came twice or out of order.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// What is measured
    #[arg(value_enum, default_value_t = Scenario::Chat)]
    scenario: Scenario,
    /// Address of the server that is measured; its limits per user hold for the bench as well [default: a server of its own]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// File with trusted certificates for --url, in PEM [default: those of the system, and of the server on this machine]
    #[arg(long, value_name = "FILE", requires = "url")]
    cacert: Option<PathBuf>,
    /// File with tokens of users for --url, one per line [default: tokens signed with the secret of the server on this machine]
    #[arg(long, value_name = "FILE", requires = "url")]
    tokens: Option<PathBuf>,
    /// Path of Socket.IO at --url
    #[arg(long, value_name = "PATH", default_value = "/ws/", requires = "url", value_parser = path)]
    path: String,
    /// Process of the server at --url, if it is on this machine: what it uses is read from /proc, and needs no right to its metrics
    #[arg(long, value_name = "NUMBER", requires = "url", value_parser = clap::value_parser!(u32).range(1..))]
    pid: Option<u32>,
    /// Directory in which the bench's own server has its data: the disk that is measured [default: the one for temporary files]
    #[arg(long, value_name = "DIR", conflicts_with = "url")]
    dir: Option<PathBuf>,
    /// The bench's own server uses TLS
    #[arg(long, conflicts_with = "url")]
    tls: bool,
    /// Messages or reports per second, all together [default: 1000; fanout 40, poll 200]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Messages in flight of each sender, instead of a rate
    #[arg(long, value_name = "NUMBER", conflicts_with = "rate", value_parser = clap::value_parser!(u16).range(1..))]
    in_flight: Option<u16>,
    /// How long it is measured, in seconds
    #[arg(long, value_name = "NUMBER", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=3600))]
    seconds: u16,
    /// Chat rooms [default: 100; fanout 1]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..))]
    rooms: Option<u16>,
    /// People in each room [default: 10; fanout 500]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..))]
    members: Option<u16>,
    /// People who write, spread over the rooms [default: 50; fanout 1]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..))]
    senders: Option<u16>,
    /// Connections of idle and return, users of progress [default: 1000; progress 200]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..))]
    clients: Option<u16>,
    /// Length of a message, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 120, value_parser = clap::value_parser!(u16).range(1..=3500))]
    size: u16,
    /// Raise the rate until 99 % of the acknowledgements take longer than so many milliseconds, and say how many learners the server carries
    #[arg(long, value_name = "MS", conflicts_with = "in_flight", value_parser = clap::value_parser!(u32).range(1..))]
    find: Option<u32>,
    /// Messages that a learner writes per minute, for --find
    #[arg(long, value_name = "NUMBER", default_value_t = 2, requires = "find", value_parser = clap::value_parser!(u32).range(1..))]
    per_learner: u32,
    /// Write a picture of the latencies over the rate (SVG), for --find
    #[arg(long, value_name = "FILE", requires = "find")]
    picture: Option<PathBuf>,
}

/// A path of Socket.IO, as it stands in requests: with a slash at both ends.
fn path(text: &str) -> Result<String, String> {
    let inner = text.trim_matches('/');
    let is_plain = |one: char| one.is_ascii_alphanumeric() || "-._~/".contains(one);
    match inner.chars().all(is_plain) {
        true if inner.is_empty() => Ok("/".to_owned()),
        true => Ok(format!("/{inner}/")),
        false => Err("a path has letters, digits, '-', '.', '_', '~' and '/'".to_owned()),
    }
}

impl BenchArgs {
    /// The people and rooms of a scenario of messages.
    fn chat(&self, pace: Pace) -> Chat {
        let (rooms, members, senders) = match self.scenario {
            Scenario::Fanout => (1, 500, 1),
            _ => (100, 10, 50),
        };
        let of = |given: Option<u16>, default: usize| given.map_or(default, usize::from);
        let (rooms, members) = (of(self.rooms, rooms), of(self.members, members));
        let pollers = if self.scenario == Scenario::Poll { rooms * members } else { 0 };
        let senders = of(self.senders, senders).min(rooms * members);
        let (size, seconds) = (usize::from(self.size), u64::from(self.seconds));
        Chat { rooms, members, senders, size, pace, seconds, pollers }
    }

    fn rate(&self) -> f64 {
        let default = match self.scenario {
            Scenario::Fanout => 40,
            Scenario::Poll => 200,
            _ => 1_000,
        };
        f64::from(self.rate.unwrap_or(default))
    }

    fn pace(&self) -> Pace {
        self.in_flight.map_or(Pace::Rate(self.rate()), |count| Pace::InFlight(usize::from(count)))
    }

    fn clients(&self) -> usize {
        let default = if self.scenario == Scenario::Progress { 200 } else { 1_000 };
        self.clients.map_or(default, usize::from)
    }

    /// How many connections it makes.
    fn connections(&self) -> usize {
        match self.scenario {
            Scenario::Chat | Scenario::Fanout | Scenario::Poll => {
                let chat = self.chat(self.pace());
                chat.rooms * chat.members + chat.pollers
            }
            _ => self.clients(),
        }
    }

    /// What cannot be meant.
    fn refuse_nonsense(&self) -> Result<(), Failure> {
        let is_of_messages = matches!(self.scenario, Scenario::Chat | Scenario::Fanout | Scenario::Poll);
        let has_rate = is_of_messages || self.scenario == Scenario::Progress;
        let wrong = |what: &str, why: &str, remedy: &str| Err(Failure::usage(what, why, remedy));
        if !has_rate && (self.rate.is_some() || self.find.is_some()) {
            return wrong(
                "there is no rate",
                "connections of idle and return say nothing",
                "Leave out --rate and --find.",
            );
        }
        if !is_of_messages && self.in_flight.is_some() {
            return wrong(
                "there is nothing in flight",
                "only chat, fanout and poll send messages",
                "Leave out --in-flight.",
            );
        }
        if is_of_messages && self.clients.is_some() {
            let remedy = "Give --rooms and --members.";
            return wrong("--clients has no meaning here", "chat, fanout and poll have rooms with people", remedy);
        }
        if !is_of_messages && (self.rooms.is_some() || self.members.is_some() || self.senders.is_some()) {
            return wrong("there are no rooms", "only chat, fanout and poll have some", "Give --clients.");
        }
        let connections = self.connections();
        if connections > MOST_CONNECTIONS {
            let why = format!("they are {connections}, and this machine has ports for {MOST_CONNECTIONS}");
            return wrong(
                "these are too many connections",
                &why,
                "Give smaller numbers of --rooms and --members, or of --clients.",
            );
        }
        Ok(())
    }
}

/// Measures.
///
/// # Errors
/// If the server cannot be started or reached, or refuses the users of the bench.
pub fn run(global: &Global, args: &BenchArgs) -> anyhow::Result<Exit> {
    args.refuse_nonsense()?;
    let config = global.load(data_dir_flag(None)?)?;
    crate::observability::process::raise_descriptors();
    if let Some(path) = &args.picture {
        std::fs::write(path, "").with_context(|| format!("{} cannot be written", path.display()))?;
    }
    let runtime = runtime()?;
    // Before there is anything to be left behind.
    let (mut signals, mut hang_up) = {
        let _inside = runtime.enter();
        let hang_up = signal(SignalKind::hangup()).context("signals cannot be handled")?;
        (Signals::new().map_err(Failure::from)?, hang_up)
    };
    let (target, mut own) = find_target(config, args)?;
    let is_in_memory =
        own.as_ref().is_some_and(|own| statfs(own.place()).is_ok_and(|kind| u64::from(kind.f_type as u32) == TMPFS));
    if is_in_memory {
        let words = "the data of the measured server are in memory (tmpfs): give the disk of your data with --dir";
        crate::cli::exit::warn(words)?;
    }
    let target = Arc::new(target);
    let bar = progress_bar::steps(global, "measuring");
    let measured = runtime.block_on(async {
        let measured = async {
            if let Some(own) = &mut own {
                own.is_up().await?;
            }
            measure(&target, args, &|words| bar.set_message(words)).await
        };
        tokio::select! {
            measured = measured => measured,
            () = async { tokio::select! { () = signals.wait() => {}, _ = hang_up.recv() => {} } } => Err(Failure::new("the measurement was stopped", "a signal has come", "Start it again.").into()),
        }
    });
    bar.finish_and_clear();
    if let Some(own) = &mut own {
        own.is_still_up()?;
    }
    let (answer, text, exit) = measured?;
    drop(own);
    let scenario = args.scenario.to_possible_value().map(|value| value.get_name().to_owned());
    let mut whole = json!({ "ok": exit == Exit::Done, "scenario": scenario, "inMemory": is_in_memory });
    if let (Some(whole), Value::Object(answer)) = (whole.as_object_mut(), answer) {
        whole.extend(answer);
    }
    global.print(&whole, || text)?;
    Ok(exit)
}

fn no_secret(error: crate::auth::keys::KeyError) -> Failure {
    let failure = Failure::from(error);
    let why = format!("{}: {}", failure.problem.what, failure.problem.why);
    Failure::new(
        "no tokens can be signed for the bench",
        why,
        "Give tokens of users with --tokens, or the configuration of the server with --config.",
    )
}

fn find_target(config: Config, args: &BenchArgs) -> anyhow::Result<(Target, Option<OwnServer>)> {
    if let Some(url) = &args.url {
        if let Some(pid) = args.pid.filter(|pid| Used::seen(*pid).is_none()) {
            let remedy = "Give the number of the server's process, or leave out --pid.";
            return Err(Failure::usage(format!("there is no process {pid}"), "/proc does not have it", remedy).into());
        }
        let tokens = match &args.tokens {
            None => Tokens::Signed(Box::new(
                sources::load(&config, config.credentials_dir.as_deref()).map_err(no_secret)?.signing,
            )),
            Some(path) => {
                let text =
                    std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
                let tokens: Vec<String> =
                    text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect();
                if tokens.is_empty() {
                    let what = format!("{} has no token", path.display());
                    return Err(Failure::usage(what, "it is empty", "Write one token per line into it.").into());
                }
                Tokens::Given(tokens)
            }
        };
        let (url, cacert, path) = (url.clone(), args.cacert.clone(), args.path.clone());
        return Ok((Target { config, url, cacert, tokens, path, pid: args.pid }, None));
    }
    let (own, tokens) = OwnServer::start(args.dir.as_deref(), args.tls)?;
    let (url, cacert) = own.address();
    // What this machine's server asks of tokens is not what its own one does.
    let (config, path, pid) = (Config::default(), args.path.clone(), Some(own.pid()));
    Ok((Target { config, url, cacert, tokens, path, pid }, Some(own)))
}

/// The answer for programs, for people, and how the command ends.
type Measured = (Value, String, Exit);

async fn measure(target: &Arc<Target>, args: &BenchArgs, step: &(dyn Fn(String) + Sync)) -> anyhow::Result<Measured> {
    let tag = format!("{:x}", crate::domain::Clock::now(&crate::domain::SystemClock).as_millis());
    let connect_failed = |error: anyhow::Error| {
        if error.downcast_ref::<Failure>().is_some() {
            return error;
        }
        let remedy = match error.to_string().contains("rate_limited") {
            true => "Lift the limits of the server for the bench, or give more --tokens.",
            false => "Check the address, the trusted certificates (--cacert) and the tokens (--tokens).",
        };
        anyhow::Error::from(Failure::new("a client of the bench could not do its part", format!("{error:#}"), remedy))
    };
    match args.scenario {
        Scenario::Idle | Scenario::Return => {
            let returns = args.scenario == Scenario::Return;
            step(format!("{} connections", args.clients()));
            let connected = load::connections(target, args.clients(), u64::from(args.seconds), returns).await;
            let connected = connected.map_err(connect_failed)?;
            Ok((connected.json(), in_words(&connected, returns), Exit::Done))
        }
        _ => match args.find {
            Some(bound) => find(target, args, f64::from(bound), &tag, step).await.map_err(connect_failed),
            None => {
                step("one run".to_owned());
                let outcome = once(target, args, args.pace(), &tag).await.map_err(connect_failed)?;
                let exit = if outcome.is_wrong() || outcome.gone > 0 { Exit::Found } else { Exit::Done };
                Ok((outcome.json(), table(args, args.pace(), &outcome), exit))
            }
        },
    }
}

async fn once(target: &Arc<Target>, args: &BenchArgs, pace: Pace, tag: &str) -> anyhow::Result<Outcome> {
    match (args.scenario, pace) {
        (Scenario::Progress, Pace::Rate(rate)) => {
            load::progress(target, args.clients(), rate, u64::from(args.seconds)).await
        }
        _ => load::chat(target, &args.chat(pace), tag).await,
    }
}

/// Raises the rate until the server does not keep up.
async fn find(
    target: &Arc<Target>,
    args: &BenchArgs,
    bound_ms: f64,
    tag: &str,
    step: &(dyn Fn(String) + Sync),
) -> anyhow::Result<Measured> {
    let mut runs: Vec<(f64, Outcome)> = Vec::new();
    let (mut good, mut bad, mut halvings) = (0.0_f64, None::<f64>, 0);
    let mut rate = args.rate.map_or(FIRST_RATE, f64::from);
    for n in 0..DOUBLINGS + HALVINGS {
        step(format!("{rate:.0} a second"));
        let keeps_up = |outcome: &Outcome| {
            !outcome.is_wrong()
                && outcome.refused == 0
                && outcome.ack.p99_ms <= bound_ms
                && outcome.rate() >= rate * KEEPS_UP
        };
        let mut outcome = once(target, args, Pace::Rate(rate), &format!("{tag}-{n}")).await?;
        // Something else may have had the machine for a moment: a rate is too high if it is so twice.
        if !keeps_up(&outcome) && !outcome.is_wrong() {
            step(format!("{rate:.0} a second, once more"));
            let again = once(target, args, Pace::Rate(rate), &format!("{tag}-{n}-again")).await?;
            if again.is_wrong() || keeps_up(&again) || again.ack.p99_ms < outcome.ack.p99_ms {
                outcome = again;
            }
        }
        let (is_wrong, keeps_up) = (outcome.is_wrong(), keeps_up(&outcome));
        runs.push((rate, outcome));
        if is_wrong {
            break;
        }
        match keeps_up {
            true => good = good.max(rate),
            false => bad = Some(bad.map_or(rate, |bad| bad.min(rate))),
        }
        rate = match bad {
            None if n + 1 < DOUBLINGS => rate * 2.0,
            Some(bad) if halvings < HALVINGS && bad - good > good * 0.1 && bad > 1.0 => {
                halvings += 1;
                ((good + bad) / 2.0).round()
            }
            _ => break,
        };
    }
    runs.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    let is_wrong = runs.iter().any(|(_, outcome)| outcome.is_wrong());
    let learners = (good * 60.0 / f64::from(args.per_learner)).floor();
    if let Some(path) = &args.picture {
        let points: Vec<Point> = runs
            .iter()
            .map(|(rate, outcome)| Point { rate: *rate, p50_ms: outcome.ack.p50_ms, p99_ms: outcome.ack.p99_ms })
            .collect();
        let title = format!("{}: latency over the rate", what(args));
        std::fs::write(path, picture::draw(&points, bound_ms, &title))
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    let answer = json!({
        "boundMs": bound_ms, "perSecond": good, "learners": learners, "messagesPerLearnerAndMinute": args.per_learner,
        "runs": runs.iter().map(|(rate, outcome)| json!({ "rate": rate, "outcome": outcome.json() })).collect::<Vec<_>>(),
    });
    let mut text = format!(
        "{}\n\n{:>10} {:>10} {:>10} {:>10} {:>12}\n",
        what(args),
        "a second",
        "done",
        "p50 ms",
        "p99 ms",
        "CPU us each"
    );
    for (rate, outcome) in &runs {
        // Writing into a String does not fail.
        let _ = writeln!(
            text,
            "{rate:>10.0} {:>10.0} {:>10.1} {:>10.1} {:>12}",
            outcome.rate(),
            outcome.ack.p50_ms,
            outcome.ack.p99_ms,
            outcome.usage.map_or("-".to_owned(), |usage| format!("{:.0}", usage.cpu_us(outcome.acknowledged as usize)))
        );
    }
    let _ = match good > 0.0 {
        true => write!(
            text,
            "\n{good:.0} a second are acknowledged within {bound_ms:.0} ms (99 %). That is {learners:.0} learners who write {} messages a minute each.",
            args.per_learner
        ),
        false => write!(text, "\nNo rate was acknowledged within {bound_ms:.0} ms (99 %)."),
    };
    if is_wrong {
        text.push_str("\nMessages were lost, came twice or out of order: see --output json, and report it.");
    }
    Ok((answer, text, if is_wrong { Exit::Found } else { Exit::Done }))
}

fn what(args: &BenchArgs) -> String {
    let chat = args.chat(args.pace());
    match args.scenario {
        Scenario::Progress => format!("progress of {} users", args.clients()),
        Scenario::Idle => format!("{} idle connections", args.clients()),
        Scenario::Return => format!("{} connections that return at once", args.clients()),
        Scenario::Poll => format!(
            "{} rooms of {} by WebSocket and {} by long polling, {} write",
            chat.rooms, chat.members, chat.members, chat.senders
        ),
        Scenario::Chat | Scenario::Fanout => {
            format!("{} of {}, {} write", plural(chat.rooms, "room"), chat.members, chat.senders)
        }
    }
}

fn plural(count: usize, word: &str) -> String {
    if count == 1 { format!("1 {word}") } else { format!("{count} {word}s") }
}

fn spread(spread: &Spread) -> String {
    format!("50 % {:.1} ms   99 % {:.1} ms   most {:.1} ms", spread.p50_ms, spread.p99_ms, spread.max_ms)
}

fn rows(rows: &[(&str, String)]) -> String {
    rows.iter().map(|(name, value)| format!("  {name:<18}{value}")).collect::<Vec<_>>().join("\n")
}

/// What the server has used, or that it has not said.
fn server(usage: Option<&Usage>, words: impl FnOnce(&Usage) -> String) -> String {
    usage.map_or_else(|| "unknown: it has not given its metrics, and --pid was not given".to_owned(), words)
}

fn table(args: &BenchArgs, pace: Pace, outcome: &Outcome) -> String {
    let offered = match pace {
        Pace::Rate(rate) => format!("{rate:.0} a second offered"),
        Pace::InFlight(count) => format!("{count} in flight of each"),
    };
    let mut lines = vec![
        ("acknowledged", format!("{} of {}, {:.0} a second", outcome.acknowledged, outcome.sent, outcome.rate())),
        ("until then", spread(&outcome.ack)),
    ];
    if outcome.refused > 0 {
        lines.push(("refused", format!("{}: {}", outcome.refused, outcome.refusal.as_deref().unwrap_or("no answer"))));
    }
    if args.scenario != Scenario::Progress {
        lines.push((
            "deliveries",
            format!("{}, {:.0} a second", outcome.deliveries, outcome.deliveries as f64 / outcome.seconds),
        ));
        lines.push(("until then", spread(&outcome.delivery)));
        lines.push((
            "lost",
            format!(
                "{}; twice {}; out of order {}; connections that ended {}",
                outcome.lost, outcome.doubled, outcome.disordered, outcome.gone
            ),
        ));
    }
    let (messages, deliveries) = (outcome.acknowledged as usize, outcome.deliveries as usize);
    lines.push((
        "server",
        server(outcome.usage.as_ref(), |usage| {
            let each = match deliveries {
                0 => String::new(),
                _ => format!(" ({:.1} us a delivery)", usage.cpu_us(deliveries)),
            };
            let known = [
                usage.commits_per_second().map(|commits| format!("{commits:.0} commits a second")),
                outcome.per_message(Usage::written).map(|bytes| format!("{:.1} kB written each", bytes / 1e3)),
                Some(format!("{:.0} MiB of memory", usage.memory_mib())),
            ];
            let (cpu, share) = (usage.cpu_us(messages), usage.share() * 100.0);
            let known: Vec<String> = known.into_iter().flatten().collect();
            format!("{cpu:.0} us of processor each{each}; {share:.0} % of one; {}", known.join("; "))
        }),
    ));
    format!("{}, {offered}, {:.1} s\n{}", what(args), outcome.seconds, rows(&lines))
}

fn in_words(connected: &Connected, returns: bool) -> String {
    let usage = connected.connecting.as_ref();
    let mut lines = vec![("signed in", format!("all within {:.2} s", connected.seconds))];
    if returns {
        lines.push(("each within", spread(&connected.signed_in)));
    }
    lines.push(("a connect", server(usage, |usage| format!("{:.0} us of processor", usage.cpu_us(connected.count)))));
    if !returns {
        lines.push((
            "a connection",
            server(usage, |usage| format!("{:.1} KiB of memory", usage.grown(connected.count) / 1_024.0)),
        ));
        if let Some(idle) = connected.idle_cpu() {
            lines.push(("while idle", format!("{idle:.1} us of processor a second each")));
        }
    }
    let what = if returns { "connections that return at once" } else { "idle connections" };
    format!("{} {what}\n{}", connected.count, rows(&lines))
}
