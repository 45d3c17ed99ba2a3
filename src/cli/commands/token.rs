//! `token`: issues and verifies tokens offline, with the configured keys. Revocations are in [`revoke`](super::revoke).

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::json;

use crate::archive::moments::moment;
use crate::auth::sources::{self, LoadedKeys};
use crate::auth::{Grant, Verifier, issue};
use crate::config::{Config, units};
use crate::domain::audit::action;
use crate::domain::{Clock, Scope, SystemClock, UserId};

use crate::cli::Global;
use crate::cli::client::{ServerArgs, report};
use crate::cli::commands::revoke;
use crate::cli::commands::revoke::{RevokeArgs, RevokedArgs};
use crate::cli::data_dir_flag;
use crate::cli::exit::{Exit, Failure};

/// Commands for tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Issue a test or service token
    Issue(IssueArgs),
    /// Verify a token and show its contents
    Verify(VerifyArgs),
    /// Revoke tokens before they expire
    Revoke(RevokeArgs),
    /// Show all revocations and blocks in force
    Revoked(RevokedArgs),
}

/// Issue a test or service token. Standard output contains only the token.
#[derive(Debug, Args)]
pub struct IssueArgs {
    /// ID of the user: a number or a string
    #[arg(long, value_name = "ID", value_parser = user)]
    user: UserId,
    /// Role: admin, hr, coach, learner, or another one from auth.role_map
    #[arg(long)]
    role: Option<String>,
    /// Display name
    #[arg(long)]
    name: Option<String>,
    /// How long the token is valid: 30s, 15m, 24h, 7d
    #[arg(long, default_value = "1h", value_parser = ttl)]
    ttl: Duration,
    /// Scopes of a service: broadcast, notify, progress, rooms, users, metrics, admin; separate several with spaces
    #[arg(long, value_parser = scopes)]
    scope: Option<String>,
    /// ID of the token (jti)
    #[arg(long)]
    jti: Option<String>,
    /// Data directory of the server
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// Verify a token and show its contents. The exit status is 3 if the server would refuse it.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The token; with - or without an argument, it is read from standard input
    #[arg(default_value = "-")]
    token: String,
    /// Data directory of the server
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

fn user(text: &str) -> Result<UserId, String> {
    UserId::parse(text).map_err(|error| error.to_string())
}

fn ttl(text: &str) -> Result<Duration, String> {
    // Times in a token are whole seconds: a shorter token would be expired when it is issued.
    match units::duration(text)? {
        ttl if ttl < Duration::from_secs(1) => Err("must be at least 1s".to_owned()),
        ttl => Ok(ttl),
    }
}

fn scopes(text: &str) -> Result<String, String> {
    for word in text.split_whitespace() {
        if Scope::parse(word).is_none() {
            let known: Vec<&str> = Scope::ALL.into_iter().map(Scope::as_str).collect();
            return Err(format!("'{word}' is not a scope; use {}", known.join(", ")));
        }
    }
    Ok(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Runs the command.
///
/// # Errors
/// If there is no usable secret, or the server refuses the request.
pub fn run(global: &Global, command: TokenCommand) -> anyhow::Result<Exit> {
    match command {
        TokenCommand::Issue(args) => run_issue(global, args),
        TokenCommand::Verify(args) => run_verify(global, args),
        TokenCommand::Revoke(args) => revoke::revoke(global, &args),
        TokenCommand::Revoked(args) => revoke::revoked(global, &args),
    }
}

/// The keys of the server with this configuration. If there is no secret, this fails: only the server creates one.
pub(super) fn load_keys(config: &Config) -> Result<LoadedKeys, Failure> {
    Ok(sources::load(config, config.credentials_dir.as_deref())?)
}

fn run_issue(global: &Global, args: IssueArgs) -> anyhow::Result<Exit> {
    let config = global.load(data_dir_flag(args.data_dir.as_deref())?)?;
    let keys = load_keys(&config)?;
    if let Some(role) = &args.role
        && !config.auth.role_map.iter().any(|(claim, _)| claim == role)
    {
        let known: Vec<&str> = config.auth.role_map.iter().map(|(claim, _)| claim.as_str()).collect();
        let why = format!("'{role}' is not in auth.role_map");
        return Err(Failure::usage("the role is unknown", why, format!("Use one of: {}.", known.join(", "))).into());
    }
    let now = SystemClock.now();
    let grant = Grant {
        user: args.user,
        name: args.name,
        role: args.role,
        scope: args.scope,
        token_id: args.jti,
        issuer: config.auth.issuer.clone(),
        audience: config.auth.audience.clone(),
        issued_at_secs: now.as_secs(),
        expires_at_secs: now.plus(args.ttl).as_secs(),
    };
    let token = issue(&keys.signing, &grant)?;
    let until = moment(now.plus(args.ttl));
    let with = |name: &str, value: Option<&String>| value.map(|value| format!(", {name} {value}")).unwrap_or_default();
    let outcome = format!(
        "done: valid until {until}{}{}{}",
        with("role", grant.role.as_ref()),
        with("scope", grant.scope.as_ref()),
        with("jti", grant.token_id.as_ref())
    );
    let server = ServerArgs::local(args.data_dir.as_deref());
    report(global, &server, action::TOKEN_ISSUE, &format!("user {}", grant.user), &outcome)?;
    global.print(&json!({ "token": token, "expiresAt": now.plus(args.ttl) }), || token.clone())?;
    Ok(Exit::Done)
}

fn run_verify(global: &Global, args: VerifyArgs) -> anyhow::Result<Exit> {
    let config = global.load(data_dir_flag(args.data_dir.as_deref())?)?;
    let keys = load_keys(&config)?;
    let token = if args.token == "-" {
        let mut text = String::new();
        std::io::stdin().take(64 * 1024).read_to_string(&mut text).context("standard input cannot be read")?;
        text
    } else {
        args.token
    };
    match Verifier::with_keys(&config.auth, keys.keys).verify(&token, SystemClock.now()) {
        Ok(actor) => {
            let roles: Vec<&str> = actor.roles.iter().map(|role| role.as_str()).collect();
            let scopes: Vec<&str> = actor.scopes.iter().map(|scope| scope.as_str()).collect();
            let body = json!({
                "ok": true, "userId": actor.user, "name": actor.name, "roles": roles, "scopes": scopes,
                "jti": actor.token_id, "issuedAt": actor.issued_at, "expiresAt": actor.expires_at,
            });
            global.print(&body, || {
                let left = actor
                    .expires_at
                    .map_or("never".to_owned(), |end| format!("in {} s", SystemClock.now().until(end).as_secs()));
                let shown = |list: &[&str]| if list.is_empty() { "none".to_owned() } else { list.join(", ") };
                format!(
                    "the token is valid\n  user:   {}\n  name:   {}\n  roles:  {}\n  scopes: {}\n  jti:    {}\n  expires: {left}",
                    actor.user,
                    actor.name,
                    shown(&roles),
                    shown(&scopes),
                    actor.token_id.as_deref().unwrap_or("none: it can only be revoked together with all tokens of its user"),
                )
            })?;
            Ok(Exit::Done)
        }
        Err(error) => {
            let error = crate::transport::socketio::identity::token_error(&error);
            let body = json!({ "ok": false, "error": { "code": error.code, "message": error.message } });
            global.print(&body, || {
                format!("the server would refuse the token\n  {}: {}", error.code.as_str(), error.message)
            })?;
            Ok(Exit::Found)
        }
    }
}
