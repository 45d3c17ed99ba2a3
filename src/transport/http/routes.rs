//! Every address of the HTTP API and the methods that it takes: what `Allow` says, and what a HEAD of it does. The documents
//! have a heading for each row, and a test compares the two.

use ::http::{HeaderValue, Method};

use crate::domain::Scope;

/// What a HEAD does where a GET would wait, leave a record or begin much work: it looks at who asks, and no more. What the GET
/// would give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadAlone(pub &'static str);

/// An address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Its path; a segment in braces stands for anything.
    pub path: &'static str,
    /// Its methods, without HEAD and OPTIONS.
    pub methods: &'static [&'static str],
    /// What a HEAD does in place of a GET; `None`: what the GET does, without the body.
    head: Option<HeadAlone>,
    /// Whether its GET is for those who may only read.
    is_read: bool,
}

/// What a backup is, over HTTP.
pub const ARCHIVE: &str = "application/vnd.academy-rt.backup";
/// What a transcript is, unless a page is asked for.
pub const JSON_LINES: &str = "application/jsonl";
/// What most answers are.
pub const JSON: &str = "application/json";

const fn row(path: &'static str, methods: &'static [&'static str]) -> Route {
    Route { path, methods, head: None, is_read: false }
}

/// The GET is for those who may only read, too.
const fn read(route: Route) -> Route {
    Route { is_read: true, ..route }
}

const fn costly(path: &'static str, methods: &'static [&'static str], content_type: &'static str) -> Route {
    Route { path, methods, head: Some(HeadAlone(content_type)), is_read: false }
}

/// All of them. The first row that fits is the one that counts: what is spelt out stands before what stands for anything.
pub const ROUTES: [Route; 66] = [
    read(row("/healthz", &["GET"])),
    read(row("/readyz", &["GET"])),
    read(row("/api/health", &["GET"])),
    read(row("/metrics", &["GET"])),
    row("/api/v1/broadcast", &["POST"]),
    row("/api/v1/notifications", &["GET", "POST"]),
    row("/api/v1/session", &["GET"]),
    row("/api/v1/search", &["GET"]),
    row("/api/v1/rooms", &["GET"]),
    row("/api/v1/rooms/{roomId}/join", &["POST"]),
    row("/api/v1/rooms/{roomId}/leave", &["POST"]),
    row("/api/v1/rooms/{roomId}/messages", &["GET", "POST"]),
    row("/api/v1/rooms/{roomId}/messages/{messageId}", &["PATCH", "DELETE"]),
    row("/api/v1/rooms/{roomId}/messages/{messageId}/report", &["POST"]),
    row("/api/v1/rooms/{roomId}/mute", &["POST"]),
    row("/api/v1/rooms/{roomId}/unmute", &["POST"]),
    row("/api/v1/rooms/{roomId}/lock", &["POST"]),
    row("/api/v1/rooms/{roomId}/slow", &["POST"]),
    row("/api/v1/rooms/{roomId}/reports", &["GET"]),
    row("/api/v1/rooms/{roomId}/reports/{reportId}/resolve", &["POST"]),
    row("/api/v1/rooms/{roomId}/typing", &["POST"]),
    row("/api/v1/rooms/{roomId}/read", &["POST"]),
    row("/api/v1/rooms/{roomId}/presence", &["GET"]),
    row("/api/v1/progress", &["GET", "POST"]),
    row("/api/v1/progress/{lessonId}/history", &["GET"]),
    row("/api/v1/notifications/read", &["POST"]),
    row("/api/v1/notifications/{notificationId}", &["DELETE"]),
    costly("/api/v1/events", &["GET"], JSON),
    read(row("/api/v1/admin/status", &["GET"])),
    read(row("/api/v1/admin/connections", &["GET"])),
    read(costly("/api/v1/admin/audit", &["GET", "POST"], JSON)),
    costly("/api/v1/admin/backup", &["GET", "POST"], ARCHIVE),
    costly("/api/v1/admin/tables", &["GET"], JSON),
    row("/api/v1/admin/rooms", &["GET", "POST"]),
    row("/api/v1/admin/rooms/{roomId}", &["GET", "PATCH", "DELETE"]),
    costly("/api/v1/admin/rooms/{roomId}/export", &["GET"], JSON_LINES),
    row("/api/v1/admin/rooms/{roomId}/members/{userId}", &["PUT", "DELETE"]),
    costly("/api/v1/admin/messages/{messageId}", &["GET"], JSON),
    row("/api/v1/admin/messages/{messageId}/delete", &["POST"]),
    costly("/api/v1/admin/reports", &["GET"], JSON),
    row("/api/v1/admin/reports/{reportId}/resolve", &["POST"]),
    row("/api/v1/admin/notifications", &["GET"]),
    row("/api/v1/admin/notifications/{notificationId}/readers", &["GET"]),
    row("/api/v1/admin/notifications/{notificationId}/recall", &["POST"]),
    read(row("/api/v1/admin/users", &["GET"])),
    read(row("/api/v1/admin/users/{userId}", &["GET", "DELETE"])),
    costly("/api/v1/admin/users/{userId}/export", &["GET"], JSON),
    row("/api/v1/admin/users/{userId}/erasure", &["GET"]),
    read(row("/api/v1/admin/users/{userId}/diagnosis", &["GET"])),
    row("/api/v1/admin/users/{userId}/block", &["POST"]),
    row("/api/v1/admin/users/{userId}/unblock", &["POST"]),
    row("/api/v1/admin/users/{userId}/disconnect", &["POST"]),
    row("/api/v1/admin/users/{userId}/mute", &["POST"]),
    row("/api/v1/admin/users/{userId}/unmute", &["POST"]),
    read(row("/api/v1/admin/mutes", &["GET"])),
    row("/api/v1/admin/tokens/revoke", &["POST"]),
    read(row("/api/v1/admin/tokens/revoked", &["GET"])),
    row("/api/v1/admin/holds", &["GET", "POST"]),
    row("/api/v1/admin/holds/{kind}/{id}", &["DELETE"]),
    row("/api/v1/admin/webhooks", &["GET"]),
    row("/api/v1/admin/webhooks/test", &["POST"]),
    row("/api/v1/admin/webhooks/replay", &["POST"]),
    row("/sdk/{file}", &["GET"]),
    row("/docs/{file}", &["GET"]),
    row("/", &["GET"]),
    row("/console/{file}", &["GET"]),
];

impl Route {
    /// The address of a path, if there is one.
    #[must_use]
    pub fn find(path: &str) -> Option<&'static Route> {
        ROUTES.iter().find(|route| route.fits(path))
    }

    fn fits(&self, path: &str) -> bool {
        // The routes take a slash at the end as well.
        let mut given = path.strip_suffix('/').unwrap_or(path).split('/');
        let mut own = self.path.strip_suffix('/').unwrap_or(self.path).split('/');
        loop {
            match (own.next(), given.next()) {
                (None, None) => return true,
                (Some(own), Some(given)) if own == given || (own.starts_with('{') && !given.is_empty()) => {}
                _ => return false,
            }
        }
    }

    /// Whether it takes a method; HEAD wherever it takes GET.
    #[must_use]
    pub fn takes(&self, method: &Method) -> bool {
        let method = if *method == Method::HEAD { "GET" } else { method.as_str() };
        self.methods.contains(&method)
    }

    /// What somebody needs at the least, looked at before anything of a request is read: who lacks it is not told what is wrong
    /// with the rest. A service may ask for more.
    #[must_use]
    pub fn needs(&self, method: &Method) -> Option<Scope> {
        let Some(administration) = self.path.strip_prefix("/api/v1/admin/") else {
            return match (self.path, method) {
                ("/api/v1/broadcast", _) => Some(Scope::Broadcast),
                ("/api/v1/notifications", &Method::POST) => Some(Scope::Notify),
                ("/metrics", _) => Some(Scope::Metrics),
                _ => None,
            };
        };
        Some(match administration.split('/').next() {
            Some("rooms") if administration != "rooms/{roomId}/export" => Scope::Rooms,
            Some("users" | "mutes" | "tokens") => Scope::Users,
            _ => Scope::Admin,
        })
    }

    /// Whether those who may only read may ask for this. What is no row is not for them, so that a new one is not by itself.
    #[must_use]
    pub fn is_for_readers(method: &Method, path: &str) -> bool {
        matches!(*method, Method::GET | Method::HEAD) && Route::find(path).is_some_and(|route| route.is_read)
    }

    /// What a HEAD does in place of a GET.
    #[must_use]
    pub fn head(&self) -> Option<HeadAlone> {
        self.head
    }

    /// What `Allow` says (RFC 9110, 10.2.1).
    #[must_use]
    pub fn allow(&self) -> HeaderValue {
        let mut methods = self.methods.to_vec();
        if methods.contains(&"GET") {
            methods.push("HEAD");
        }
        methods.push("OPTIONS");
        HeaderValue::try_from(methods.join(", ")).unwrap_or(HeaderValue::from_static(""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_the_row_that_spells_it_out_first() {
        let found = |path: &str| Route::find(path).map(|route| route.path);
        assert_eq!(found("/api/v1/notifications/read"), Some("/api/v1/notifications/read"));
        assert_eq!(found("/api/v1/notifications/7"), Some("/api/v1/notifications/{notificationId}"));
        assert_eq!(found("/api/v1/rooms/caf%C3%A9/join/"), Some("/api/v1/rooms/{roomId}/join"));
        assert_eq!(found("/"), Some("/"));
        for path in ["//", "/healthz/x", "/api/v1/rooms//join", "/api/v1/notifications//", "//healthz", "/HEALTHZ"] {
            assert_eq!(found(path), None, "{path}");
        }
        for (index, route) in ROUTES.iter().enumerate() {
            let filled = route.path.replace(['{', '}'], "");
            assert_eq!(Route::find(&filled), ROUTES.get(index), "{filled}");
        }
    }

    #[test]
    fn head_is_taken_wherever_get_is() {
        let route = |path| Route::find(path).unwrap();
        assert_eq!(route("/healthz").allow(), "GET, HEAD, OPTIONS");
        assert!(route("/healthz").takes(&Method::HEAD) && !route("/healthz").takes(&Method::POST));
        assert_eq!(route("/api/v1/broadcast").allow(), "POST, OPTIONS");
        assert!(!route("/api/v1/broadcast").takes(&Method::HEAD));
    }
}
