//! `token revoke` and `token revoked`: revokes tokens before they expire, and lists what is revoked.

use clap::Args;
use http::Method;
use serde_json::{Value, json};

use crate::archive::moments::{at_moment, moment};
use crate::domain::{Timestamp, UserId};

use crate::cli::Global;
use crate::cli::client::listing::{lines, number, text};
use crate::cli::client::{Call, ServerArgs, call};
use crate::cli::commands::user::{print_change, user_id};
use crate::cli::confirm::confirm;
use crate::cli::exit::Exit;

/// Revoke tokens. The server refuses them from now on, and closes the connections that use them.
#[derive(Debug, Args)]
pub struct RevokeArgs {
    /// Which tokens
    #[command(flatten)]
    which: WhichArgs,
    /// With --user or --all: revoke only tokens issued before this time, for example 2026-11-23T08:00:00Z [default: now]
    #[arg(long, value_name = "TIME", value_parser = time, conflicts_with = "jti")]
    issued_before: Option<Timestamp>,
    /// With --jti: expiry time of the token, after which the server removes the revocation
    #[arg(long, value_name = "TIME", value_parser = time, requires = "jti")]
    expires_at: Option<Timestamp>,
    /// With --all: revoke without asking; needed where nobody can be asked
    #[arg(long)]
    yes: bool,
    /// Only show how many connections would be closed
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// Which tokens.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct WhichArgs {
    /// The token with this jti (`academy-rt token verify` shows it)
    #[arg(long, value_name = "JTI")]
    jti: Option<String>,
    /// All tokens of a user
    #[arg(long, value_name = "ID", value_parser = user_id)]
    user: Option<UserId>,
    /// All tokens of all users
    #[arg(long)]
    all: bool,
}

/// Show all revocations and blocks in force.
#[derive(Debug, Args)]
pub struct RevokedArgs {
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

fn time(text: &str) -> Result<Timestamp, String> {
    at_moment(text).ok_or_else(|| "must be a time such as 2026-11-23T08:00:00Z".to_owned())
}

/// Revokes tokens.
///
/// # Errors
/// If the server refuses the request.
pub fn revoke(global: &Global, args: &RevokeArgs) -> anyhow::Result<Exit> {
    let WhichArgs { jti, user, all } = &args.which;
    let body = |is_dry_run: bool| {
        json!({
            "jti": jti, "userId": user, "all": all, "issuedBefore": args.issued_before, "expiresAt": args.expires_at,
            "dryRun": is_dry_run,
        })
    };
    if args.dry_run || (*all && !args.yes) {
        let preview = Call::new(Method::POST, "/api/v1/admin/tokens/revoke", Some(body(true))).offline_too();
        let answer = call(global, &args.server, preview)?;
        let (sockets, people) = (number(&answer, "disconnected"), number(&answer, "users"));
        let whose = if *all { "all tokens of all users" } else { "these tokens" };
        let would = format!("this would revoke {whose} and close {sockets} connections of {people} users");
        if args.dry_run {
            global.print(&answer, || would)?;
            return Ok(Exit::Done);
        }
        let why = format!("{would}; everybody needs a new token then, services too");
        confirm(false, "no tokens are revoked", &why)?;
    }
    let post = Call::new(Method::POST, "/api/v1/admin/tokens/revoke", Some(body(false))).offline_too();
    let answer = call(global, &args.server, post)?;
    print_change(global, &args.server, &answer, || {
        format!("revoked: {}\n{} connections are closed", line(&answer), number(&answer, "disconnected"))
    })
}

/// Lists revocations and blocks.
///
/// # Errors
/// If the server refuses the request.
pub fn revoked(global: &Global, args: &RevokedArgs) -> anyhow::Result<Exit> {
    let get = Call::new(Method::GET, "/api/v1/admin/tokens/revoked", None).offline_too();
    let answer = call(global, &args.server, get)?;
    global.print(&answer, || lines(&answer, "no tokens are revoked and no users are blocked", line))?;
    Ok(Exit::Done)
}

fn line(ban: &Value) -> String {
    let at = |name| moment(Timestamp(number(ban, name)));
    let what = match text(ban, "kind").as_str() {
        "token" => format!("token {}", text(ban, "jti")),
        "user_tokens" => format!("tokens of user {} issued before {}", text(ban, "userId"), at("issuedBefore")),
        "all_tokens" => format!("all tokens issued before {}", at("issuedBefore")),
        _ => format!("user {} (blocked)", text(ban, "userId")),
    };
    let until = if number(ban, "expiresAt") > 0 { format!(", until {}", at("expiresAt")) } else { String::new() };
    format!("{what}: since {}, by {}{until}", at("since"), text(ban, "by"))
}
