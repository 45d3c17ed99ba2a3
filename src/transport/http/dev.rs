//! What `serve --dev` has besides: the page of two people, and tokens for whoever writes a page of their own. All of it is there with
//! this flag alone, on a loopback address, and for names of this machine.

use std::sync::Arc;

use ::http::header::{HOST, HeaderMap, ORIGIN};
use serde::Serialize;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use crate::auth::{Grant, SigningKey, issue};
use crate::domain::origin::Origin;
use crate::domain::{Clock, Scope, UserId};
use crate::protocol::error::{ApiError, ErrorCode};
use crate::transport::console;

use super::{Refusal, answer};

/// How long a token is good for, in seconds.
const TTL_SECS: u64 = 60 * 60;

/// What signs the tokens of a developer.
#[derive(Debug)]
pub struct DevTokens {
    /// The server's own secret.
    pub signing: SigningKey,
    /// The issuer and the audience that the server asks for.
    pub expected: [Option<String>; 2],
    /// The words that are roles.
    pub roles: Vec<String>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Issued {
    token: String,
    expires_in: u64,
}

impl DevTokens {
    /// A token of `user`, `name`, `role` and `scope`, as `token issue` makes it.
    fn token(&self, query: &str) -> Result<Issued, ApiError> {
        let (mut user, mut name, mut role, mut scope) = (None, None, None, None);
        for (key, value) in form_urlencoded::parse(query.as_bytes()).filter(|(_, value)| !value.is_empty()) {
            match &*key {
                "user" => user = Some(UserId::parse(&value)?),
                "name" => name = Some(value.into_owned()),
                "role" if self.roles.iter().any(|known| *known == value) => role = Some(value.into_owned()),
                "role" => return Err(ApiError::field("role", format!("role is one of {}", self.roles.join(", ")))),
                "scope" if value.split(' ').all(|word| Scope::parse(word).is_some()) => {
                    scope = Some(value.into_owned())
                }
                "scope" => {
                    let known: Vec<&str> = Scope::ALL.into_iter().map(Scope::as_str).collect();
                    return Err(ApiError::field(
                        "scope",
                        format!("scope is of {}, separated by spaces", known.join(", ")),
                    ));
                }
                _ => {}
            }
        }
        let user =
            user.ok_or_else(|| ApiError::field("user", "say whose token: dev/token?user=7&name=Ann&role=learner"))?;
        if role.is_none() && scope.is_none() {
            role = Some("learner".to_owned());
        }
        let [issuer, audience] = self.expected.clone();
        let now = self.clock.now().as_secs();
        let grant = Grant {
            user,
            name,
            role,
            scope,
            token_id: None,
            issuer,
            audience,
            issued_at_secs: now,
            expires_at_secs: now.saturating_add(TTL_SECS),
        };
        let token =
            issue(&self.signing, &grant).map_err(|error| ApiError::new(ErrorCode::Internal, error.to_string()))?;
        Ok(Issued { token, expires_in: TTL_SECS })
    }
}

/// Whether a request is for a name of this machine, and of no page of another. A page of another site whose name leads here (DNS
/// rebinding) asks for its own.
fn is_for_this_machine(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let is_own = |text: &str| Origin::parse(text).is_some_and(|origin| origin.is_of_this_machine());
    let is_foreign = headers.get(ORIGIN).is_some_and(|origin| !origin.to_str().is_ok_and(is_own));
    is_own(&format!("http://{host}")) && !is_foreign
}

/// The page, its files and the tokens.
pub(super) fn routes(path: &str, api_path: &str, tokens: &Arc<DevTokens>) -> BoxedFilter<(Response,)> {
    let gate = warp::path("dev").and(warp::header::headers_cloned()).and_then(|headers: HeaderMap| async move {
        let message = "serve --dev is for pages of this machine: open it as localhost or 127.0.0.1";
        match is_for_this_machine(&headers) {
            true => Ok(()),
            false => Err(warp::reject::custom(Refusal(ApiError::new(ErrorCode::Forbidden, message)))),
        }
    });
    let tokens = tokens.clone();
    let token = warp::path!("token")
        .and(warp::get())
        .and(super::query())
        .map(move |query: String| answer(tokens.token(&query)));
    gate.untuple_one().and(token.or(console::dev::routes(path, api_path)).unify()).boxed()
}

#[cfg(test)]
mod tests {
    use ::http::HeaderValue;

    use super::*;

    #[test]
    fn only_names_of_this_machine_are_answered() {
        let is_for = |host: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_static(host));
            is_for_this_machine(&headers)
        };
        for host in [
            "localhost",
            "localhost:8443",
            "LOCALHOST:1",
            "127.0.0.1:8443",
            "127.9.9.9",
            "[::1]:8443",
            "app.localhost:3000",
        ] {
            assert!(is_for(host), "{host}");
        }
        for host in [
            "",
            "example.org",
            "127.0.0.1.example.org",
            "localhost.example.org",
            "10.0.0.1",
            "[::2]",
            "notlocalhost",
            "0.0.0.0",
        ] {
            assert!(!is_for(host), "{host}");
        }
        assert!(!is_for_this_machine(&HeaderMap::new()));
    }
}
