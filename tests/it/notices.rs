//! Notifications with a time, through the front door: scheduled, sent once, over, taken back, and who has read them.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::backup::{academy, failed, good};
use crate::harness::{Appliance, until, words};

fn now() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

fn object(output: &std::process::Output) -> Value {
    good(output);
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A banner in both languages, with more in its body.
fn banner(more: Value) -> String {
    let mut body = json!({
        "target": { "all": true }, "title": "Maintenance", "message": "Tonight at 22:00", "titleFr": "Entretien",
        "messageFr": "Ce soir à 22 h",
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body.to_string()
}

fn inbox(server: &Appliance, token: &str) -> (usize, u64) {
    let (status, page) = server.call(token, "GET", "/api/v1/notifications", "");
    assert_eq!(status, 200, "{page}");
    (page["items"].as_array().unwrap().len(), page["unread"].as_u64().unwrap())
}

/// What somebody has been told since a cursor, of one kind, and where to go on.
fn told(server: &Appliance, token: &str, cursor: &mut String, event: &str) -> Vec<Value> {
    let (_, answer) = server.call(token, "GET", &format!("/api/v1/events?cursor={cursor}"), "");
    *cursor = answer["cursor"].as_str().unwrap().to_owned();
    let events = answer["events"].as_array().unwrap().iter();
    events.filter(|one| one["event"] == event).map(|one| one["payload"].clone()).collect()
}

fn states(server: &Appliance) -> Vec<String> {
    let list = object(&academy(&server.data(), &["--output", "json", "notify", "list"]));
    list["items"].as_array().unwrap().iter().map(|one| one["state"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_banner_comes_at_its_time_in_both_languages_and_goes_when_it_is_over() {
    let server = Appliance::start();
    let (ann, bob, root) = (server.token("7", "learner"), server.token("8", "coach"), server.token("1", "admin"));
    for token in [&ann, &bob] {
        assert_eq!(inbox(&server, token), (0, 0));
    }
    let mut cursor = server.call(&ann, "GET", "/api/v1/events", "").1["cursor"].as_str().unwrap().to_owned();
    let (at, end) = (now() + 1_500, now() + 6_000);
    let (status, answer) =
        server.call(&root, "POST", "/api/v1/notifications", &banner(json!({ "at": at, "until": end })));
    assert_eq!(
        (status, &answer["at"], &answer["until"], &answer["sockets"]),
        (200, &at.into(), &end.into(), &0.into())
    );
    assert_eq!(inbox(&server, &ann), (0, 0), "its time has not come");
    assert_eq!(states(&server), ["scheduled"]);
    until("it has come", || inbox(&server, &ann) == (1, 1));
    assert!(now() >= at);
    let new = told(&server, &ann, &mut cursor, "notification:new");
    assert_eq!(new.len(), 1);
    let new = &new[0];
    // A client of the reference sees what it always saw.
    assert_eq!(
        (&new["title"], &new["message"], &new["read"]),
        (&"Maintenance".into(), &"Tonight at 22:00".into(), &false.into())
    );
    assert_eq!((&new["titleFr"], &new["messageFr"]), (&"Entretien".into(), &"Ce soir à 22 h".into()));
    let translations = json!({
        "en": { "title": "Maintenance", "message": "Tonight at 22:00" },
        "fr": { "title": "Entretien", "message": "Ce soir à 22 h" },
    });
    assert_eq!(new["translations"], translations);
    let read = json!({ "id": new["id"] }).to_string();
    assert_eq!(server.call(&ann, "POST", "/api/v1/notifications/read", &read).0, 200);
    let path = format!("/api/v1/admin/notifications/{}/readers", answer["id"]);
    let (_, readers) = server.call(&root, "GET", &path, "");
    assert_eq!((&readers["notification"]["readBy"], &readers["notification"]["recipients"]), (&1.into(), &2.into()));
    assert!(readers["items"][0]["readAt"].as_u64().unwrap() >= at, "{readers}");
    let unread = server.call(&root, "GET", &format!("{path}?read=false"), "").1;
    assert_eq!((unread["items"].as_array().unwrap().len(), &unread["items"][0]["userId"]), (1, &8.into()));
    let (_, first) = server.call(&root, "GET", &format!("{path}?limit=1"), "");
    let next = first["next"].as_str().unwrap();
    let (_, second) = server.call(&root, "GET", &format!("{path}?limit=1&after={next}"), "");
    assert_eq!((&first["items"][0]["userId"], &second["items"][0]["userId"]), (&7.into(), &8.into()));
    until("it is over", || inbox(&server, &bob) == (0, 0));
    assert!(now() >= end);
    assert_eq!(inbox(&server, &ann), (0, 0));
    assert_eq!(told(&server, &ann, &mut cursor, "notification:gone"), [json!({ "id": new["id"], "reason": "ended" })]);
    assert_eq!(server.call(&root, "GET", &path, "").1["notification"]["state"], "ended");
    let said = good(&academy(&server.data(), &["notify", "readers", &answer["id"].to_string()]));
    assert!(said.contains("Maintenance / Entretien") && said.contains("user 8 (Name): unread"), "{said}");
    let log = good(&academy(&server.data(), &["audit", "list"]));
    assert!(log.contains("notification.schedule (all at ") && log.contains("notification.due"), "{log}");
    let data = server.data();
    let _dir = server.end();
    assert!(good(&academy(&data, &["db", "check"])).contains("is sound"));
}

#[test]
fn what_was_due_while_the_server_was_down_is_sent_once_unless_it_is_over() {
    let server = Appliance::start();
    let (ann, root) = (server.token("7", "learner"), server.token("1", "admin"));
    assert_eq!(inbox(&server, &ann), (0, 0));
    let at = now() + 1_200;
    for more in [json!({ "at": at }), json!({ "at": at, "until": at + 100 })] {
        assert_eq!(server.call(&root, "POST", "/api/v1/notifications", &banner(more)).0, 200);
    }
    good(&academy(&server.data(), &["notify", "--user", "9", "--title", "T", "--message", "M", "--at", "+1h"]));
    let dir = server.kill();
    until("its time is over", || now() > at + 200);
    let server = Appliance::start_in(dir, &[]);
    until("it has come", || inbox(&server, &ann) == (1, 1));
    let dir = server.kill();
    let server = Appliance::start_in(dir, &[]);
    until("the server has looked", || states(&server).len() == 3);
    assert_eq!(inbox(&server, &ann), (1, 1));
    assert_eq!(states(&server), ["scheduled", "missed", "live"], "the newest first");
    let log = good(&academy(&server.data(), &["audit", "list", "--action", "notification.due"]));
    assert_eq!(log.matches("notification.due (").count(), 2, "{log}");
    assert!(log.contains("not sent: its time was over"), "{log}");
}

#[test]
fn what_is_taken_back_leaves_every_inbox_and_is_told() {
    let server = Appliance::start();
    let (ann, root) = (server.token("7", "learner"), server.token("1", "admin"));
    assert_eq!(inbox(&server, &ann), (0, 0));
    let data = server.data();
    let sent =
        object(&academy(&data, &["--output", "json", "notify", "--all", "--title-en", "Wrong", "--message-en", "M"]));
    let id = sent["id"].to_string();
    assert_eq!(inbox(&server, &ann), (1, 1));
    let mut cursor = server.call(&ann, "GET", "/api/v1/events", "").1["cursor"].as_str().unwrap().to_owned();
    let done = good(&academy(&data, &["notify", "recall", &id, "--reason", "wrong date"]));
    assert!(done.contains("taken back; 0 of 1 had read it"), "{done}");
    assert_eq!(inbox(&server, &ann), (0, 0));
    let gone = told(&server, &ann, &mut cursor, "notification:gone");
    assert_eq!(gone, [json!({ "id": sent["id"], "reason": "recalled" })]);
    assert!(failed(&academy(&data, &["notify", "recall", &id])).contains("nothing is left to take back"));
    let log = good(&academy(&data, &["audit", "list"]));
    assert!(log.contains(&format!("notification.recall (notification {id}): done: Wrong: wrong date")), "{log}");
    // What waits is not sent.
    let said = good(&academy(&data, &["notify", "--user", "7", "--title", "Later", "--message", "M", "--at", "+1h"]));
    let waiting = said.split(' ').nth(3).unwrap();
    assert!(said.starts_with("scheduled with ID "), "{said}");
    assert!(good(&academy(&data, &["notify", "recall", waiting])).contains("before it was sent"));
    assert!(good(&academy(&data, &["notify", "list", "--state", "scheduled"])).contains("no notification fits"));
    // The export of the person whom it named has it, with its state; the page of the list goes on.
    let (_, page) = server.call(&root, "GET", "/api/v1/admin/notifications?limit=1", "");
    let next = page["next"].as_str().unwrap();
    let (_, rest) = server.call(&root, "GET", &format!("/api/v1/admin/notifications?before={next}"), "");
    assert_eq!((&page["items"][0]["title"], &rest["items"][0]["title"]), (&"Later".into(), &"Wrong".into()));
    let export = server.try_call(&root, "GET", "/api/v1/admin/users/7/export").unwrap();
    assert!(export.contains("\"state\":\"recalled\""), "{export}");
}

#[test]
fn times_texts_and_rights_that_are_not_good_are_refused() {
    let server = Appliance::start();
    let (ann, root) = (server.token("7", "learner"), server.token("1", "admin"));
    let hour = now() + 3_600_000;
    let refused = |token: &str, body: &str| -> (u16, String, String) {
        let (status, answer) = server.call(token, "POST", "/api/v1/notifications", body);
        let error = &answer["error"];
        (status, error["code"].as_str().unwrap().to_owned(), error["field"].as_str().unwrap_or_default().to_owned())
    };
    let wrong = |field: &str| (400, "invalid_payload".to_owned(), field.to_owned());
    for (more, field) in [
        (json!({ "at": 5 }), "at"),
        (json!({ "at": now() - 1 }), "at"),
        (json!({ "until": now() - 1 }), "until"),
        (json!({ "at": hour, "until": hour }), "until"),
        (json!({ "at": hour, "until": hour - 1 }), "until"),
        (json!({ "at": u64::MAX }), "at"),
        (json!({ "at": hour, "title": "" }), "title"),
        (json!({ "at": hour, "messageFr": "x".repeat(4_001) }), "messageFr"),
        (json!({ "at": hour, "target": { "role": "boss" } }), "target.role"),
        (json!({ "at": hour, "target": { "room": "chat:french" } }), "target"),
    ] {
        assert_eq!(refused(&root, &banner(more.clone())), wrong(field), "{more}");
    }
    for more in [json!({ "at": "soon" }), json!({ "at": -1 }), json!({ "until": 1.5 })] {
        assert_eq!(refused(&root, &banner(more.clone())).0, 400, "{more}");
    }
    assert_eq!(refused(&ann, &banner(json!({ "at": hour }))).1, "forbidden");
    for (method, path, body) in [
        ("GET", "/api/v1/admin/notifications", ""),
        ("GET", "/api/v1/admin/notifications/1/readers", ""),
        ("POST", "/api/v1/admin/notifications/1/recall", "{}"),
    ] {
        assert_eq!(server.call(&ann, method, path, body).0, 403, "{path}");
    }
    for (method, path, body, status) in [
        ("GET", "/api/v1/admin/notifications?state=gone", "", 400),
        ("GET", "/api/v1/admin/notifications?limit=0", "", 400),
        ("GET", "/api/v1/admin/notifications/x/readers", "", 400),
        ("GET", "/api/v1/admin/notifications/99/readers", "", 404),
        ("POST", "/api/v1/admin/notifications/99/recall", "{}", 404),
        ("POST", "/api/v1/admin/notifications/99/recall", "{\"why\":1}", 400),
    ] {
        assert_eq!(server.call(&root, method, path, body).0, status, "{path}");
    }
    let data = server.data();
    for (time, why) in [
        ("yesterday", "is no time"),
        ("2026-12-24", "is no time"),
        ("+2", "is no time"),
        ("2020-01-01 10:00", "at must be in the future"),
    ] {
        let output = academy(&data, &["notify", "--all", "--title", "T", "--message", "M", "--at", time]);
        assert!(!output.status.success() && words(&output).contains(why), "{time}: {}", words(&output));
    }
    for args in [&["notify", "--all", "--message", "M"][..], &["notify", "--title", "T", "--message", "M"]] {
        assert_eq!(academy(&data, args).status.code(), Some(2), "{args:?}");
    }
    // A local time is that of the machine: here it is set.
    let mut local = crate::harness::command(
        &[
            "--output",
            "json",
            "notify",
            "--all",
            "--title",
            "T",
            "--message",
            "M",
            "--at",
            "2027-07-01 12:00",
            "--data-dir",
            data.to_str().unwrap(),
        ],
        &[("TZ", "America/Toronto")],
    );
    let answer = object(&local.output().unwrap());
    assert_eq!(answer["at"], 1_814_457_600_000_u64);
}

#[test]
fn a_target_takes_each_word_that_the_role_map_knows_and_a_time_is_of_the_notifications_alone() {
    let server = Appliance::start();
    let (data, root) = (server.data(), server.token("root", "admin"));
    let hr = server.token("7", "hr_manager");
    assert_eq!(inbox(&server, &hr), (0, 0));
    let sent = good(&academy(&data, &["notify", "--role", "hr_admin", "--title", "t", "--message", "m"]));
    assert!(sent.contains("stored with ID"), "{sent}");
    let target = |role: &str| {
        let body = json!({ "target": { "role": role }, "title": "t", "message": "m" }).to_string();
        server.call(&root, "POST", "/api/v1/notifications", &body)
    };
    assert_eq!((target("hr").0, target("hr_manager").0), (200, 200));
    assert_eq!(inbox(&server, &hr), (3, 3));
    let (status, answer) = target("hr_manger");
    assert_eq!((status, &answer["error"]["field"]), (400, &"target.role".into()));
    assert_eq!(answer["error"]["message"], "'hr_manger' is no role here; did you mean 'hr_manager'?");
    let said = failed(&academy(&data, &["broadcast", "--role", "learners", "e"]));
    assert!(said.contains("did you mean 'learner'?"), "{said}");
    good(&academy(&data, &["broadcast", "--role", "owner", "e"]));
    // What would have had no effect is refused.
    let payload = |more: Value| {
        let mut payload = json!({ "title": "t", "message": "m" });
        payload.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let body = json!({ "target": { "all": true }, "event": "notification:new", "payload": payload }).to_string();
        server.call(&root, "POST", "/api/v1/broadcast", &body)
    };
    for field in ["at", "until"] {
        let (status, answer) = payload(json!({ field: now() + 60_000 }));
        assert_eq!((status, &answer["error"]["field"]), (400, &field.into()), "{answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains("/api/v1/notifications"), "{answer}");
    }
    assert_eq!(payload(json!({ "id": 1, "read": false })).0, 200);
    assert_eq!(inbox(&server, &hr), (4, 4));
}
