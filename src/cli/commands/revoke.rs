//! `token revoke`, `token revoked`: tokens that end before their time.

use clap::Args;
use http::Method;
use serde_json::{Value, json};

use crate::archive::moments::{at_moment, moment};
use crate::domain::{Timestamp, UserId};

use crate::cli::Global;
use crate::cli::client::listing::{lines, number, text};
use crate::cli::client::{Call, ServerArgs, call};
use crate::cli::commands::user::user_id;
use crate::cli::exit::Exit;

/// Revoke tokens. They are refused from now on, and connections that came with them are closed.
#[derive(Debug, Args)]
pub struct RevokeArgs {
    /// Which tokens
    #[command(flatten)]
    which: WhichArgs,
    /// Of --user and --all: only those issued before this moment, for example 2026-11-23T08:00:00Z [default: now]
    #[arg(long, value_name = "TIME", value_parser = time, conflicts_with = "jti")]
    issued_before: Option<Timestamp>,
    /// Of --jti: when the token ends by itself; the revocation is forgotten then
    #[arg(long, value_name = "TIME", value_parser = time, requires = "jti")]
    expires_at: Option<Timestamp>,
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// Which tokens.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct WhichArgs {
    /// One token, by its jti (`academy-rt token verify` shows it)
    #[arg(long, value_name = "JTI")]
    jti: Option<String>,
    /// All tokens of a user
    #[arg(long, value_name = "ID", value_parser = user_id)]
    user: Option<UserId>,
    /// Everybody's tokens
    #[arg(long)]
    all: bool,
}

/// Show all revocations and blocks that stand.
#[derive(Debug, Args)]
pub struct RevokedArgs {
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

fn time(text: &str) -> Result<Timestamp, String> {
    at_moment(text).ok_or_else(|| "write a time as 2026-11-23T08:00:00Z".to_owned())
}

/// Revokes.
///
/// # Errors
/// What the server refuses.
pub fn revoke(global: &Global, args: &RevokeArgs) -> anyhow::Result<Exit> {
    let WhichArgs { jti, user, all } = &args.which;
    let body = json!({
        "jti": jti, "userId": user, "all": all, "issuedBefore": args.issued_before, "expiresAt": args.expires_at,
    });
    let post = Call::new(Method::POST, "/api/v1/admin/tokens/revoke", Some(body)).offline_too();
    let answer = call(global, &args.server, post)?;
    global.print(&answer, || {
        format!("revoked: {}\n{} connections are closed", line(&answer), number(&answer, "disconnected"))
    })?;
    crate::cli::commands::user::require_durable(&answer)?;
    Ok(Exit::Done)
}

/// Shows what is revoked.
///
/// # Errors
/// What the server refuses.
pub fn revoked(global: &Global, args: &RevokedArgs) -> anyhow::Result<Exit> {
    let get = Call::new(Method::GET, "/api/v1/admin/tokens/revoked", None).offline_too();
    let answer = call(global, &args.server, get)?;
    global.print(&answer, || lines(&answer, "nothing is revoked and nobody is blocked", line))?;
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
