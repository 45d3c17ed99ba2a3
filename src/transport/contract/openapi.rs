//! `openapi.yaml` (OpenAPI 3.1).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::{Info, Ordered, Schemas, compare, done};
use crate::domain::RoomId;
use crate::domain::privacy::Certificate;
use crate::domain::webhook::HookEvent;
use crate::protocol::admin::access::{
    BanView, BlockChanged, ConnectionView, Diagnosis, Disconnected, ListRequest, Listed, MemberChanged, MemberRequest,
    MuteChanged, MuteRequest, MuteView, NumberedRequest, ReasonRequest, RevocationPreview, RevokeRequest, Revoked,
    RoomDetails, RoomPatchRequest, RoomRequest, RoomWithMembers, UnmuteRequest, UserDetails,
};
use crate::protocol::admin::data::{
    AuditFound, AuditPage, AuditSearch, AuditView, BackupKept, ErasurePreview, HoldRequest, HoldView, Holds,
    LastBackup, MessageRemoved, ReportRequest, Tables, TranscriptRequest,
};
use crate::protocol::admin::notices::{NoticeListRequest, NoticeView, ReaderListRequest, Readers, Recalled};
use crate::protocol::admin::webhooks::{HookList, HookListRequest, HookReplayRequest, HookTested, HooksReplayed};
use crate::protocol::answer::{
    BatchSynced, BroadcastSent, Found, History, InboxMarked, Joined, MessageDeleted, MessageEdited, MessagePosted,
    NotificationItems, PresenceItems, ProgressItems, ProgressVersions, ReadUpTo, RoomAnswer, RoomList, SyncedView,
};
use crate::protocol::http::{Health, Polled, Status};
use crate::protocol::order::{
    AllReports, ChatLock, ChatMute, ChatReport, ChatReports, ChatResolve, ChatSlow, ChatUnmute, ReportList, ReportMade,
    ResolveRequest, ResolvedFields, RoomStateAnswer,
};
use crate::protocol::request::{
    Broadcast, ChatEdit, ChatHistory, ChatJoin, ChatMessage, ChatRooms, ChatSearch, ChatTyping, MessageRef,
    NotificationContent, NotificationList, NotificationRead, NotificationTarget, PresenceList, ProgressGet,
    ProgressHistory, ProgressSync,
};
use crate::protocol::view::{MessageView, Session, VersionedMessage};
use crate::protocol::webhook::{
    EntryAnswer, EntryQuestion, GAP, GapView, NotificationsRead, SightingView, TEST, TestView, UserProgress,
};
use crate::transport::http::routes::{ARCHIVE, JSON, JSON_LINES, ROUTES, Route};

#[derive(Serialize)]
struct Document {
    openapi: &'static str,
    info: Info,
    servers: Value,
    security: Value,
    tags: Value,
    paths: Ordered<Ordered<Operation>>,
    webhooks: Ordered<Value>,
    components: Components,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Components {
    security_schemes: Value,
    responses: Value,
    schemas: BTreeMap<String, Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Operation {
    operation_id: String,
    summary: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    tags: [&'static str; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    security: Option<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parameters: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_body: Option<Value>,
    responses: Ordered<Value>,
}

/// The tags, in the order of the documentation.
const TAGS: [(&str, &str); 9] = [
    ("health", "Whether the server works, and its figures."),
    ("broadcast", "What a back end sends. Docs: `docs/http.md`."),
    ("session", "Who asks."),
    ("chat", "Rooms and messages, as the events of `asyncapi.yaml`."),
    ("progress", "Progress of lessons."),
    ("inbox", "The notifications of one user."),
    ("events", "Everything that happens, by long poll."),
    ("administration", "For administrators and their tools. Every change is in the audit log."),
    ("files", "Pages and files for browsers."),
];

struct Book<'s> {
    schemas: &'s mut Schemas,
    paths: Vec<(String, Vec<(String, Operation)>)>,
}

/// One row under construction.
struct Row<'b, 's> {
    book: &'b mut Book<'s>,
    path: &'static str,
    method: &'static str,
}

impl<'s> Book<'s> {
    /// A row of the table of routes: `GET /api/v1/session`.
    fn row<'b>(
        &'b mut self,
        tag: &'static str,
        method: &'static str,
        path: &'static str,
        summary: &'static str,
    ) -> Row<'b, 's> {
        let route = ROUTES.iter().find(|route| route.path == path && route.methods.contains(&method));
        let route = route.unwrap_or_else(|| panic!("there is no {method} {path} in the table of routes"));
        let names = path_names(path);
        let parameters = names.iter().map(|name| path_parameter(self.schemas, name)).collect();
        let operation = Operation {
            operation_id: operation_id(method, path),
            summary,
            description: rights(route, method),
            tags: [tag],
            security: is_open(path).then(|| json!([])),
            parameters,
            request_body: None,
            responses: Ordered(Vec::new()),
        };
        if self.paths.iter().all(|(known, _)| known != path) {
            self.paths.push((path.to_owned(), Vec::new()));
        }
        let (_, operations) = self.paths.iter_mut().find(|(known, _)| known == path).unwrap();
        operations.push((method.to_lowercase(), operation));
        Row { book: self, path, method }
    }
}

impl Row<'_, '_> {
    fn operation(&mut self) -> &mut Operation {
        let (_, operations) = self.book.paths.iter_mut().find(|(path, _)| path == self.path).unwrap();
        let method = self.method.to_lowercase();
        &mut operations.iter_mut().find(|(known, _)| *known == method).unwrap().1
    }

    fn says(mut self, words: &str) -> Self {
        let operation = self.operation();
        if !operation.description.is_empty() {
            operation.description.push(' ');
        }
        operation.description.push_str(words);
        self
    }

    /// The fields of a request that are in the query: those that are not in the path.
    fn query<T: JsonSchema>(self) -> Self {
        self.query_without::<T>(&[])
    }

    /// The same but for fields that are said otherwise.
    fn query_without<T: JsonSchema>(mut self, others: &[&str]) -> Self {
        let names: Vec<&str> = path_names(self.path).into_iter().chain(others.iter().copied()).collect();
        let schema = self.book.schemas.read_without::<T>(&names);
        let properties = schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
        for (name, mut schema) in properties {
            let description = schema.as_object_mut().and_then(|fields| fields.remove("description"));
            let schema = not_null(schema);
            let mut parameter = json!({ "name": name, "in": "query", "schema": schema });
            if let (Some(description), Some(fields)) = (description, parameter.as_object_mut()) {
                fields.insert("description".to_owned(), description);
            }
            self.operation().parameters.push(parameter);
        }
        self
    }

    fn parameter(mut self, place: &str, name: &str, description: &str, schema: Value) -> Self {
        let parameter = json!({ "name": name, "in": place, "description": description, "schema": schema });
        self.operation().parameters.push(parameter);
        self
    }

    /// The fields of a request that are in the body: those that are not in the path. `is_needed`: there must be one.
    fn body<T: JsonSchema>(self, is_needed: bool) -> Self {
        let names = path_names(self.path);
        let schema = self.book.schemas.read_without::<T>(&names);
        self.body_of(schema, is_needed)
    }

    fn body_of(mut self, schema: Value, is_needed: bool) -> Self {
        self.operation().request_body =
            Some(json!({ "required": is_needed, "content": { JSON: { "schema": schema } } }));
        self
    }

    /// `{ ok: true, ... }`.
    fn answers<T: JsonSchema>(self) -> Self {
        let schema = self.book.schemas.answer::<T>();
        self.gives("200", "Done.", JSON, schema)
    }

    /// Nothing but `{ ok: true }`.
    fn done(self) -> Self {
        self.gives("200", "Done.", JSON, done())
    }

    fn gives(mut self, status: &str, description: &str, content_type: &str, schema: Value) -> Self {
        let response = json!({ "description": description, "content": { content_type: { "schema": schema } } });
        self.operation().responses.0.push((status.to_owned(), response));
        self
    }

    /// There may be nothing at this address.
    fn or_none(self, why: &str) {
        self.gives("404", why, JSON, json!({ "$ref": "#/components/schemas/Refusal" }));
    }

    /// What every route of JSON may answer besides.
    fn or_refuses(mut self) {
        let response = json!({ "$ref": "#/components/responses/Refused" });
        self.operation().responses.0.push(("default".to_owned(), response));
    }
}

/// What a path has in braces.
fn path_names(path: &'static str) -> Vec<&'static str> {
    path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}')).collect()
}

fn path_parameter(schemas: &mut Schemas, name: &str) -> Value {
    use crate::domain::{LessonId, RoomId, UserId};
    let (schema, description) = match name {
        "roomId" => (schemas.read::<RoomId>(), "The room."),
        "userId" => (schemas.read::<UserId>(), "The user."),
        "lessonId" => (schemas.read::<LessonId>(), "The lesson."),
        "messageId" => (json!({ "type": "integer", "minimum": 0 }), "The message."),
        "reportId" => (json!({ "type": "integer", "minimum": 0 }), "The report."),
        "notificationId" => (json!({ "type": "integer", "minimum": 0 }), "The notification."),
        "kind" => (json!({ "enum": ["user", "room"] }), "What the hold is of."),
        "id" => (json!({ "type": "string" }), "The user or the room."),
        "file" => (json!({ "type": "string" }), "The name of the file."),
        other => panic!("say what {{{other}}} is"),
    };
    json!({ "name": name, "in": "path", "required": true, "description": description, "schema": schema })
}

/// `getApiV1RoomsByRoomIdMessages`.
fn operation_id(method: &str, path: &str) -> String {
    let words = path.split('/').filter(|word| !word.is_empty() && *word != "api" && *word != "v1").map(|word| {
        let (by, word) = word.strip_prefix('{').map_or(("", word), |word| ("By", word.trim_end_matches('}')));
        let mut letters = word.chars();
        let first = letters.next().unwrap_or_default().to_uppercase();
        format!("{by}{first}{}", letters.as_str()).replace(|letter: char| !letter.is_ascii_alphanumeric(), "")
    });
    let id = format!("{}{}", method.to_lowercase(), words.collect::<String>());
    if path == "/" { format!("{id}Page") } else { id }
}

fn is_open(path: &str) -> bool {
    !path.starts_with("/api/v1/") && path != "/metrics"
}

fn rights(route: &Route, method: &str) -> String {
    let method = http::Method::from_bytes(method.as_bytes()).unwrap();
    let role = |scope: crate::domain::Scope| match scope {
        crate::domain::Scope::Admin => "Rights: role `admin` or scope `admin`.".to_owned(),
        scope => format!("Rights: role `admin`, or scope `{}`.", scope.as_str()),
    };
    route.needs(&method).map(role).unwrap_or_default()
}

/// A parameter is there or not; it is never null.
fn not_null(mut schema: Value) -> Value {
    if let Some(fields) = schema.as_object_mut() {
        fields.remove("default");
        if let Some(Value::Array(types)) = fields.get_mut("type") {
            types.retain(|one| one != "null");
            if let [one] = types.as_slice() {
                let one = one.clone();
                fields.insert("type".to_owned(), one);
            }
        }
        if let Some(Value::Array(several)) = fields.get_mut("anyOf") {
            several.retain(|one| one.get("type").is_none_or(|kind| kind != "null"));
            if let [one] = several.as_slice() {
                return one.clone();
            }
        }
    }
    schema
}

fn text() -> Value {
    json!({ "type": "string" })
}

fn count() -> Value {
    json!({ "type": "integer", "minimum": 0 })
}

fn flag() -> Value {
    json!({ "type": "boolean" })
}

const KEY: &str =
    "The caller's own key for this request, 1 to 64 characters: the same request again with the same key is done once.";

fn fill(book: &mut Book<'_>) {
    for (path, summary) in [("/healthz", "Whether the process answers"), ("/readyz", "Whether requests are taken")] {
        book.row("health", "GET", path, summary).gives("200", "Yes.", "text/plain", text()).gives(
            "503",
            "No, and why not.",
            "text/plain",
            text(),
        );
    }
    let health = book.schemas.written::<Health>();
    book.row("health", "GET", "/api/health", "Health as JSON")
        .gives("200", "It is ready.", JSON, health.clone())
        .gives("503", "It is not.", JSON, health);
    book.row("health", "GET", "/metrics", "Figures for Prometheus")
        .gives("200", "The figures.", "text/plain", text())
        .or_refuses();

    book.row("broadcast", "POST", "/api/v1/broadcast", "Send an event to users, a role, a room or everybody")
        .says("`chat:message`, `chat:message-edited`, `chat:message-deleted` and `notification:new` are stored.")
        .parameter("header", "Idempotency-Key", KEY, text())
        .body::<Broadcast>(true)
        .answers::<BroadcastSent>()
        .or_refuses();
    let (target, content) = (book.schemas.read::<NotificationTarget>(), book.schemas.read::<NotificationContent>());
    book.row("broadcast", "POST", "/api/v1/notifications", "Send or schedule a notification")
        .parameter("header", "Idempotency-Key", KEY, text())
        .body_of(json!({ "allOf": [target, content] }), true)
        .answers::<BroadcastSent>()
        .or_refuses();

    book.row("session", "GET", "/api/v1/session", "Who the caller is").answers::<Session<'static>>().or_refuses();
    of_chat(book);
    of_order(book);
    of_webhooks(book);
    of_progress(book);
    of_inbox(book);
    let rooms = json!({ "type": "array", "maxItems": 100, "items": text() });
    let resync = json!({
        "type": "object", "required": ["ok", "error", "cursor"],
        "properties": {
            "ok": { "const": false }, "error": { "$ref": "#/components/schemas/ApiError" },
            "cursor": { "type": "string", "description": "Where to go on after the state was read anew." }
        }
    });
    book.row("events", "GET", "/api/v1/events", "What has happened since a cursor")
        .says("The events are those of `asyncapi.yaml`, each with its name and its payload.")
        .parameter("query", "cursor", "The cursor of the answer before; without it, from now on.", text())
        .parameter("query", "wait", "How many seconds to wait for something, at most 30.", count())
        .parameter("query", "room", "A room whose events are wanted; several times for several.", rooms)
        .parameter("query", "rooms", "The same, separated by commas.", text())
        .answers::<Polled<'static>>()
        .gives("410", "The cursor is not of the present data.", JSON, resync)
        .or_refuses();
    of_administration(book);
    of_people(book);
    of_rooms(book);
    book.row("files", "GET", "/sdk/{file}", "A file of the client SDK")
        .gives("200", "It.", "text/javascript", text())
        .or_none("There is none of this name.");
    book.row("files", "GET", "/", "The connection check")
        .says("It is off with `server.welcome = false`.")
        .gives("200", "The page.", "text/html", text())
        .or_none("It is switched off.");
    book.row("files", "GET", "/console/{file}", "A file of the pages")
        .gives("200", "It.", "text/css", text())
        .or_none("There is none of this name.");
    book.row("files", "GET", "/docs/{file}", "This contract: `openapi.yaml` and `asyncapi.yaml`")
        .gives("200", "It.", "application/yaml", text())
        .or_none("There is none of this name.");
}

fn of_chat(book: &mut Book<'_>) {
    let one = "/api/v1/rooms/{roomId}/messages/{messageId}";
    let all = "/api/v1/rooms/{roomId}/messages";
    let room = book.schemas.read::<RoomId>();
    book.row("chat", "GET", "/api/v1/search", "Messages by their words")
        .parameter("query", "room", "Only in this room; in all of the user's list without it.", room)
        .query_without::<ChatSearch>(&["roomId"])
        .answers::<Found>()
        .or_refuses();
    book.row("chat", "GET", "/api/v1/rooms", "The caller's rooms")
        .query::<ChatRooms>()
        .answers::<RoomList>()
        .or_refuses();
    book.row("chat", "POST", "/api/v1/rooms/{roomId}/join", "Take part in a room")
        .body::<ChatJoin>(false)
        .answers::<Joined>()
        .or_refuses();
    book.row("chat", "POST", "/api/v1/rooms/{roomId}/leave", "Take part in a room no longer")
        .answers::<RoomAnswer>()
        .or_refuses();
    book.row("chat", "GET", all, "A page of messages").query::<ChatHistory>().answers::<History>().or_refuses();
    book.row("chat", "POST", all, "Post a message").body::<ChatMessage>(true).answers::<MessagePosted>().or_refuses();
    book.row("chat", "PATCH", one, "Edit a message").body::<ChatEdit>(true).answers::<MessageEdited>().or_refuses();
    book.row("chat", "DELETE", one, "Delete a message").answers::<MessageDeleted>().or_refuses();
    book.row("chat", "POST", "/api/v1/rooms/{roomId}/typing", "Begin or end typing")
        .body::<ChatTyping>(true)
        .done()
        .or_refuses();
    book.row("chat", "POST", "/api/v1/rooms/{roomId}/read", "Move the read mark")
        .body::<MessageRef>(true)
        .answers::<ReadUpTo>()
        .or_refuses();
    book.row("chat", "GET", "/api/v1/rooms/{roomId}/presence", "Who is in a room")
        .query::<PresenceList>()
        .answers::<PresenceItems>()
        .or_refuses();
}

fn of_webhooks(book: &mut Book<'_>) {
    let tag = "administration";
    book.row(tag, "GET", "/api/v1/admin/webhooks", "How webhooks stand, and the dead letters")
        .query::<HookListRequest>()
        .answers::<HookList>()
        .or_refuses();
    book.row(tag, "POST", "/api/v1/admin/webhooks/test", "Send a webhook of type `test` now")
        .answers::<HookTested>()
        .or_refuses();
    book.row(tag, "POST", "/api/v1/admin/webhooks/replay", "Send dead letters again")
        .body::<HookReplayRequest>(true)
        .answers::<HooksReplayed>()
        .or_refuses();
}

fn of_order(book: &mut Book<'_>) {
    book.row("chat", "POST", "/api/v1/rooms/{roomId}/mute", "Let somebody read and not write in a room, for a time")
        .body::<ChatMute>(true)
        .answers::<MuteChanged>()
        .or_refuses();
    book.row("chat", "POST", "/api/v1/rooms/{roomId}/unmute", "Let somebody write again")
        .body::<ChatUnmute>(true)
        .answers::<MuteChanged>()
        .or_refuses();
    book.row("chat", "POST", "/api/v1/rooms/{roomId}/lock", "Lock or unlock a room")
        .body::<ChatLock>(true)
        .answers::<RoomStateAnswer>()
        .or_refuses();
    book.row("chat", "POST", "/api/v1/rooms/{roomId}/slow", "Let everybody write once in so many seconds")
        .body::<ChatSlow>(true)
        .answers::<RoomStateAnswer>()
        .or_refuses();
    book.row("chat", "POST", "/api/v1/rooms/{roomId}/messages/{messageId}/report", "Report a message")
        .body::<ChatReport>(true)
        .answers::<ReportMade>()
        .or_refuses();
    book.row("chat", "GET", "/api/v1/rooms/{roomId}/reports", "The reports of a room")
        .query::<ChatReports>()
        .answers::<ReportList>()
        .or_refuses();
    book.row("chat", "POST", "/api/v1/rooms/{roomId}/reports/{reportId}/resolve", "Resolve a report")
        .body::<ChatResolve>(false)
        .answers::<ResolvedFields<'static>>()
        .or_refuses();
    book.row("administration", "GET", "/api/v1/admin/reports", "The reports of all rooms")
        .query::<AllReports>()
        .answers::<ReportList>()
        .or_refuses();
    book.row("administration", "POST", "/api/v1/admin/reports/{reportId}/resolve", "Resolve a report of any room")
        .body::<ResolveRequest>(false)
        .answers::<ResolvedFields<'static>>()
        .or_refuses();
}

fn of_progress(book: &mut Book<'_>) {
    let path = "/api/v1/progress";
    book.row("progress", "GET", path, "What is known").query::<ProgressGet>().answers::<ProgressItems>().or_refuses();
    let report = book.schemas.read::<ProgressSync>();
    let body = json!({ "oneOf": [report, { "type": "array", "maxItems": 500, "items": report }] });
    let (one, many) = (book.schemas.answer::<SyncedView<'static>>(), book.schemas.answer::<BatchSynced>());
    book.row("progress", "POST", path, "Report progress, one lesson or several")
        .parameter(
            "query",
            "userId",
            "Whose progress it is, from a back end.",
            json!({ "$ref": "#/components/schemas/UserId" }),
        )
        .body_of(body, true)
        .gives(
            "200",
            "The state behind the report; of several, one answer each.",
            JSON,
            json!({ "anyOf": [one, many] }),
        )
        .or_refuses();
    book.row("progress", "GET", "/api/v1/progress/{lessonId}/history", "The versions of a lesson")
        .query::<ProgressHistory>()
        .answers::<ProgressVersions>()
        .or_refuses();
}

fn of_inbox(book: &mut Book<'_>) {
    book.row("inbox", "GET", "/api/v1/notifications", "A part of the inbox")
        .query::<NotificationList>()
        .answers::<NotificationItems>()
        .or_refuses();
    book.row("inbox", "POST", "/api/v1/notifications/read", "Mark as read")
        .body::<NotificationRead>(true)
        .answers::<InboxMarked>()
        .or_refuses();
    book.row("inbox", "DELETE", "/api/v1/notifications/{notificationId}", "Remove from the inbox")
        .answers::<InboxMarked>()
        .or_refuses();
}

fn of_administration(book: &mut Book<'_>) {
    let tag = "administration";
    book.row(tag, "GET", "/api/v1/admin/status", "How the server is").answers::<Status>().or_refuses();
    book.row(tag, "GET", "/api/v1/admin/connections", "Live sockets")
        .query::<NumberedRequest>()
        .answers::<Listed<ConnectionView>>()
        .or_refuses();
    let (page, found) = (book.schemas.answer::<AuditPage>(), book.schemas.answer::<AuditFound>());
    book.row(tag, "GET", "/api/v1/admin/audit", "The audit log, or a search in it")
        .parameter("query", "after", "Records behind this number.", count())
        .parameter("query", "limit", "At most so many; 100 without it, at most 1,000.", count())
        .parameter("query", "export", "The reading is itself recorded.", flag())
        .query::<AuditSearch>()
        .gives("200", "A page, ascending; of a search, descending.", JSON, json!({ "anyOf": [page, found] }))
        .or_refuses();
    book.row(tag, "POST", "/api/v1/admin/audit", "Record what was done without the server")
        .body::<ReportRequest>(true)
        .answers::<AuditView>()
        .or_refuses();
    book.row(tag, "GET", "/api/v1/admin/backup", "A backup of this moment")
        .gives("200", "It.", ARCHIVE, text())
        .or_refuses();
    book.row(tag, "POST", "/api/v1/admin/backup", "Tell that a backup was kept")
        .body::<BackupKept>(true)
        .answers::<LastBackup>()
        .or_refuses();
    book.row(tag, "GET", "/api/v1/admin/tables", "What the database holds").answers::<Tables>().or_refuses();
    book.row(tag, "GET", "/api/v1/admin/messages/{messageId}", "One message")
        .parameter("query", "versions", "With what it said before it was changed under a legal hold.", flag())
        .answers::<VersionedMessage<'static>>()
        .or_refuses();
    book.row(tag, "POST", "/api/v1/admin/messages/{messageId}/delete", "Delete a message, whoever wrote it")
        .body::<ReasonRequest>(false)
        .answers::<MessageRemoved>()
        .or_refuses();
    book.row(tag, "GET", "/api/v1/admin/notifications", "Notifications of everybody")
        .query::<NoticeListRequest>()
        .answers::<Listed<NoticeView>>()
        .or_refuses();
    book.row(tag, "GET", "/api/v1/admin/notifications/{notificationId}/readers", "Who has read a notification")
        .query::<ReaderListRequest>()
        .answers::<Readers>()
        .or_refuses();
    book.row(tag, "POST", "/api/v1/admin/notifications/{notificationId}/recall", "Take a notification back")
        .body::<ReasonRequest>(false)
        .answers::<Recalled>()
        .or_refuses();
    book.row(tag, "GET", "/api/v1/admin/mutes", "The mutes that stand").answers::<Listed<MuteView>>().or_refuses();
    let (revoked, preview) = (book.schemas.answer::<Revoked>(), book.schemas.answer::<RevocationPreview>());
    book.row(tag, "POST", "/api/v1/admin/tokens/revoke", "Revoke tokens")
        .body::<RevokeRequest>(true)
        .gives("200", "The revocation, or what it would do.", JSON, json!({ "anyOf": [revoked, preview] }))
        .or_refuses();
    book.row(tag, "GET", "/api/v1/admin/tokens/revoked", "What is revoked").answers::<Listed<BanView>>().or_refuses();
    book.row(tag, "POST", "/api/v1/admin/holds", "Set a legal hold")
        .body::<HoldRequest>(true)
        .answers::<HoldView>()
        .or_refuses();
    book.row(tag, "GET", "/api/v1/admin/holds", "The legal holds").answers::<Holds>().or_refuses();
    book.row(tag, "DELETE", "/api/v1/admin/holds/{kind}/{id}", "Release a legal hold")
        .parameter("query", "number", "Which, where several stand.", count())
        .answers::<HoldView>()
        .or_refuses();
}

fn of_people(book: &mut Book<'_>) {
    let tag = "administration";
    let one = "/api/v1/admin/users/{userId}";
    book.row(tag, "GET", "/api/v1/admin/users", "Users")
        .query::<ListRequest>()
        .answers::<Listed<UserDetails>>()
        .or_refuses();
    book.row(tag, "GET", one, "One user").answers::<UserDetails>().or_refuses();
    let (erased, preview) = (book.schemas.answer::<Certificate>(), book.schemas.answer::<ErasurePreview>());
    book.row(tag, "DELETE", one, "Erase what is stored of a user")
        .parameter("query", "consent", "The user wants it: the retention floor does not stand against it.", flag())
        .parameter("query", "dryRun", "Only tell what it would erase.", flag())
        .gives("200", "The certificate, or what it would erase.", JSON, json!({ "anyOf": [erased, preview] }))
        .or_refuses();
    book.row(tag, "GET", "/api/v1/admin/users/{userId}/export", "Everything that is stored of a user")
        .gives("200", "One JSON document, as a stream.", JSON, json!({ "type": "object" }))
        .or_refuses();
    book.row(tag, "GET", "/api/v1/admin/users/{userId}/erasure", "The certificate of an erasure")
        .answers::<Certificate>()
        .or_refuses();
    book.row(tag, "GET", "/api/v1/admin/users/{userId}/diagnosis", "Why a user is or is not served")
        .answers::<Diagnosis>()
        .or_refuses();
    for (path, summary) in [
        ("/api/v1/admin/users/{userId}/block", "Block a user"),
        ("/api/v1/admin/users/{userId}/unblock", "Let a user in again"),
    ] {
        book.row(tag, "POST", path, summary).body::<ReasonRequest>(false).answers::<BlockChanged>().or_refuses();
    }
    book.row(tag, "POST", "/api/v1/admin/users/{userId}/disconnect", "Close the sockets of a user")
        .answers::<Disconnected>()
        .or_refuses();
    book.row(tag, "POST", "/api/v1/admin/users/{userId}/mute", "Let a user read and not write for a time")
        .body::<MuteRequest>(true)
        .answers::<MuteChanged>()
        .or_refuses();
    book.row(tag, "POST", "/api/v1/admin/users/{userId}/unmute", "Let a user write again")
        .body::<UnmuteRequest>(false)
        .answers::<MuteChanged>()
        .or_refuses();
}

fn of_rooms(book: &mut Book<'_>) {
    let tag = "administration";
    let one = "/api/v1/admin/rooms/{roomId}";
    let member = "/api/v1/admin/rooms/{roomId}/members/{userId}";
    book.row(tag, "GET", "/api/v1/admin/rooms", "Rooms")
        .query::<ListRequest>()
        .answers::<Listed<RoomDetails>>()
        .or_refuses();
    book.row(tag, "POST", "/api/v1/admin/rooms", "Register a room")
        .body::<RoomRequest>(true)
        .answers::<RoomDetails>()
        .or_refuses();
    book.row(tag, "GET", one, "A room and its members")
        .query::<NumberedRequest>()
        .answers::<RoomWithMembers>()
        .or_refuses();
    book.row(tag, "PATCH", one, "Change a room").body::<RoomPatchRequest>(true).answers::<RoomDetails>().or_refuses();
    book.row(tag, "DELETE", one, "Delete a room and its messages").answers::<RoomDetails>().or_refuses();
    book.row(tag, "GET", "/api/v1/admin/rooms/{roomId}/export", "The transcript of a room")
        .query::<TranscriptRequest>()
        .gives("200", "A JSON object a line, or with `format=html` a page.", JSON_LINES, text())
        .or_refuses();
    book.row(tag, "PUT", member, "Admit a user to a room")
        .body::<MemberRequest>(false)
        .answers::<MemberChanged>()
        .or_refuses();
    book.row(tag, "DELETE", member, "Take a user out of a room").answers::<MemberChanged>().or_refuses();
}

/// What the platform is told and asked (`webhooks.url`, `chat.authorize_url`).
fn webhooks(schemas: &mut Schemas) -> Vec<(String, Value)> {
    let told = |data: Value, kind: &str, summary: &str| {
        let body = json!({
            "type": "object", "required": ["type", "timestamp", "data"],
            "properties": {
                "type": { "const": kind }, "timestamp": { "type": "string", "format": "date-time", "description": "When it happened." }, "data": data
            }
        });
        let header = |name: &str, description: &str| json!({ "name": name, "in": "header", "required": true, "description": description, "schema": text() });
        json!({
            "post": {
                "operationId": format!("webhook{}", kind.split('.').map(|word| word[..1].to_uppercase() + &word[1..]).collect::<String>()),
                "summary": summary, "security": [],
                "parameters": [
                    header("webhook-id", "The same each time that it is sent."), header("webhook-timestamp", "When it is sent, in seconds."),
                    header("webhook-signature", "By the Standard Webhooks specification.")
                ],
                "requestBody": { "required": true, "content": { JSON: { "schema": body } } },
                "responses": { "2XX": { "description": "It is taken." }, "410": { "description": "No more are wanted." }, "default": { "description": "It is sent again later." } }
            }
        })
    };
    let mut all = Vec::new();
    for event in HookEvent::ALL {
        let (data, summary) = match event {
            HookEvent::MessageCreated => (schemas.written::<MessageView<'static>>(), "A message was stored"),
            HookEvent::MessageEdited => (schemas.written::<MessageView<'static>>(), "A message was changed"),
            HookEvent::MessageDeleted => (schemas.written::<MessageView<'static>>(), "A message was deleted"),
            HookEvent::ProgressUpdated => (schemas.written::<UserProgress<'static>>(), "A lesson has a new version"),
            HookEvent::NotificationRead => {
                (schemas.written::<NotificationsRead<'static>>(), "Somebody has read notifications")
            }
            HookEvent::UserOnline => (schemas.written::<SightingView<'static>>(), "Somebody is here"),
            HookEvent::UserOffline => (schemas.written::<SightingView<'static>>(), "Somebody has gone"),
            HookEvent::RoomJoined => (schemas.written::<SightingView<'static>>(), "Somebody is in a room"),
            HookEvent::RoomLeft => (schemas.written::<SightingView<'static>>(), "Somebody has left a room"),
        };
        all.push((event.as_str().to_owned(), told(data, event.as_str(), summary)));
    }
    all.push((
        GAP.to_owned(),
        told(schemas.written::<GapView>(), GAP, "Changes that are not told one by one, as too many waited"),
    ));
    all.push((TEST.to_owned(), told(schemas.written::<TestView<'static>>(), TEST, "A test of the receiver")));
    let (question, answer) = (schemas.written::<EntryQuestion<'static>>(), schemas.read::<EntryAnswer>());
    all.push((
        "authorize".to_owned(),
        json!({
            "post": {
                "operationId": "authorizeEntry", "summary": "Who wants to enter which room (`chat.authorize_url`)", "security": [],
                "requestBody": { "required": true, "content": { JSON: { "schema": question } } },
                "responses": { "200": { "description": "Whether they may, and as what.", "content": { JSON: { "schema": answer } } } }
            }
        }),
    ));
    all
}

#[test]
fn the_file_has_every_route_as_the_types_say() {
    let mut schemas = Schemas::new();
    schemas.written::<crate::protocol::ApiError>();
    let mut book = Book { schemas: &mut schemas, paths: Vec::new() };
    fill(&mut book);
    let paths = book.paths;
    // Every row of the table of routes, and in its order.
    let mut ordered = Vec::new();
    for route in &ROUTES {
        let (path, operations) = paths
            .iter()
            .find(|(path, _)| path == route.path)
            .unwrap_or_else(|| panic!("openapi.rs says nothing of {}", route.path));
        let mut said: Vec<String> = operations.iter().map(|(method, _)| method.to_uppercase()).collect();
        let mut known: Vec<String> = route.methods.iter().map(|method| (*method).to_owned()).collect();
        said.sort();
        known.sort();
        assert_eq!(said, known, "{path}");
        ordered.push(path.clone());
    }
    let webhooks = webhooks(&mut schemas);
    let mut paths: Vec<_> = paths.into_iter().map(|(path, operations)| (path, Ordered(operations))).collect();
    paths.sort_by_key(|(path, _)| ordered.iter().position(|one| one == path));
    let tags: Vec<Value> =
        TAGS.iter().map(|(name, description)| json!({ "name": name, "description": description })).collect();
    let document = Document {
        openapi: "3.1.1",
        info: Info::of(
            "academy-rt",
            "The HTTP API: everything that the events do, by polling; the broadcast service; administration. Every answer of JSON has \
             `ok`; times are milliseconds since the Unix epoch; ids keep the JSON type that they were given.",
        ),
        servers: json!([{ "url": "/", "description": "The server that serves this file." }]),
        security: json!([{ "bearer": [] }]),
        tags: Value::Array(tags),
        paths: Ordered(paths),
        webhooks: Ordered(webhooks),
        components: Components {
            security_schemes: json!({
                "bearer": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "A token of the platform's." }
            }),
            responses: json!({
                "Refused": {
                    "description": "The request is refused: `error.code` says why, `error.message` what to do. The status is that of the code.",
                    "content": { JSON: { "schema": { "$ref": "#/components/schemas/Refusal" } } }
                }
            }),
            schemas: schemas.all(),
        },
    };
    compare("openapi.yaml", &document);
}
