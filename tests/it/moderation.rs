//! What administrators do with single messages and with people who write too much, through the front door.

use serde_json::{Value, json};

use crate::backup::{academy, failed, good};
use crate::harness::Appliance;

/// The JSON of a command that went well.
fn object(output: &std::process::Output) -> Value {
    good(output);
    serde_json::from_slice(&output.stdout).unwrap()
}

fn code(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["error"]["code"].as_str().unwrap_or_default())
}

#[test]
fn a_message_is_shown_and_deleted_by_its_id_with_the_reason_in_the_audit_log() {
    let server = Appliance::start();
    let (data, ann, root) = (server.data(), server.token("7", "learner"), server.token("1", "admin"));
    assert_eq!(
        server.call(&root, "POST", "/api/v1/admin/rooms", r#"{"roomId":"staff","private":true,"members":[7]}"#).0,
        200
    );
    let id = server.say(&ann, "staff", "an unkind word");
    let path = format!("/api/v1/admin/messages/{id}");

    let (status, shown) = server.call(&root, "GET", &path, "");
    assert_eq!(
        (status, &shown["ok"], &shown["roomId"], &shown["content"]),
        (200, &true.into(), &"staff".into(), &"an unkind word".into())
    );
    assert!(good(&academy(&data, &["message", "show", &id.to_string()])).contains("an unkind word"));
    assert!(
        good(&academy(&data, &["audit", "list"])).contains("room.read (room staff)"),
        "who looks into a private room is recorded"
    );

    // Only administrators, and whatever the method.
    assert_eq!(code(&server.call(&ann, "GET", &path, "")), (403, "forbidden"));
    assert_eq!(code(&server.call(&ann, "POST", &format!("{path}/delete"), "{}")), (403, "forbidden"));
    assert_eq!(code(&server.call(&root, "GET", "/api/v1/admin/messages/x", "")), (400, "invalid_payload"));
    assert_eq!(code(&server.call(&root, "GET", "/api/v1/admin/messages/999999", "")), (404, "not_found"));
    let long = json!({ "reason": "x".repeat(501) }).to_string();
    assert_eq!(code(&server.call(&root, "POST", &format!("{path}/delete"), &long)), (400, "invalid_payload"));

    // Nobody to ask: nothing is done without --yes.
    let id_text = id.to_string();
    let asked = academy(&data, &["message", "delete", &id_text]);
    assert_eq!(asked.status.code(), Some(2), "{}", crate::harness::words(&asked));
    let dry = object(&academy(&data, &["--output", "json", "message", "delete", &id_text, "--dry-run"]));
    assert_eq!((&dry["ok"], &dry["dryRun"], &dry["senderId"]), (&true.into(), &true.into(), &7.into()));
    assert_eq!(server.call(&root, "GET", &path, "").1["content"], "an unkind word");

    let cursor = server.call(&ann, "GET", "/api/v1/events?rooms=staff", "").1["cursor"].as_str().unwrap().to_owned();
    let done =
        object(&academy(&data, &["--output", "json", "message", "delete", &id_text, "--reason", "ticket 17", "--yes"]));
    assert_eq!(
        (&done["ok"], &done["roomId"], &done["senderId"], &done["deletedBy"], &done["withheld"]),
        (&true.into(), &"staff".into(), &7.into(), &"system".into(), &false.into())
    );
    // The room is told as of any deletion.
    let (_, told) = server.call(&ann, "GET", &format!("/api/v1/events?rooms=staff&cursor={cursor}"), "");
    let event =
        told["events"].as_array().unwrap().iter().find(|event| event["event"] == "chat:message-deleted").unwrap();
    assert_eq!((&event["payload"]["messageId"], &event["payload"]["deletedBy"]), (&id.into(), &"system".into()));
    let (_, page) = server.call(&ann, "GET", "/api/v1/rooms/staff/messages", "");
    assert_eq!((&page["messages"][0]["content"], &page["messages"][0]["deletedBy"]), (&"".into(), &"system".into()));
    let log = good(&academy(&data, &["audit", "list"]));
    assert!(
        log.contains(&format!("message.delete (room staff message {id}): done: written by user 7: ticket 17")),
        "{log}"
    );
    assert_eq!(log.matches("message.delete").count(), 1, "one record: {log}");
    assert!(failed(&academy(&data, &["message", "delete", &id_text, "--yes"])).contains("is deleted already"));
    assert!(good(&academy(&data, &["message", "show", &id_text])).contains("deleted by system"));

    // By HTTP it is the administrator who has asked.
    let id = server.say(&ann, "staff", "another");
    let (status, done) =
        server.call(&root, "POST", &format!("/api/v1/admin/messages/{id}/delete"), r#"{"reason":"x"}"#);
    assert_eq!((status, &done["deletedBy"]), (200, &1.into()));
    // Without a server, too; and with its room the message goes.
    assert_eq!(server.call(&root, "DELETE", "/api/v1/admin/rooms/staff", "").0, 200);
    assert_eq!(code(&server.call(&root, "GET", &format!("/api/v1/admin/messages/{id}"), "")), (404, "not_found"));
    let id = server.say(&ann, "french", "offline").to_string();
    let _dir = server.end();
    assert!(good(&academy(&data, &["message", "show", &id])).contains("offline"));
    good(&academy(&data, &["message", "delete", &id, "--yes"]));
    assert!(good(&academy(&data, &["message", "show", &id])).contains("(deleted)"));
    assert!(good(&academy(&data, &["db", "check"])).contains("is sound"));
}

#[test]
fn what_a_hold_keeps_of_a_deleted_message_is_shown_to_administrators_alone() {
    let server = Appliance::start();
    let (data, ann, root) = (server.data(), server.token("7", "learner"), server.token("1", "admin"));
    let id = server.say(&ann, "french", "evidence").to_string();
    good(&academy(&data, &["hold", "set", "--room", "french", "--reason", "case 12"]));
    let words = good(&academy(&data, &["message", "delete", &id, "--yes", "--reason", "rude"]));
    assert!(words.contains("a legal hold keeps what it said"), "{words}");
    let (_, shown) = server.call(&root, "GET", &format!("/api/v1/admin/messages/{id}?versions=true"), "");
    let version = &shown["versions"][0];
    assert_eq!(
        (&version["content"], &version["change"], &version["by"]),
        (&"evidence".into(), &"deleted".into(), &"system".into())
    );
    assert!(!good(&academy(&data, &["message", "show", &id])).contains("evidence"));
    assert!(good(&academy(&data, &["message", "show", &id, "--versions"])).contains("evidence"));
    assert!(good(&academy(&data, &["audit", "list"])).contains("withheld versions in room french"));
}

#[test]
fn who_is_muted_reads_and_does_not_write_until_it_ends() {
    let server = Appliance::start();
    let (data, ann, bob) = (server.data(), server.token("7", "learner"), server.token("8", "learner"));
    let (root, admin) = (server.token("1", "admin"), server.token("2", "admin"));
    let own = server.say(&ann, "french", "before");
    server.say(&ann, "english", "before");
    let write = |token: &str, room: &str| {
        server.call(token, "POST", &format!("/api/v1/rooms/{room}/messages"), r#"{"content":"x"}"#)
    };
    let edit = || server.call(&ann, "PATCH", &format!("/api/v1/rooms/french/messages/{own}"), r#"{"content":"other"}"#);
    let typing = || server.call(&ann, "POST", "/api/v1/rooms/french/typing", r#"{"isTyping":true}"#);
    let as_ann = || {
        let body = json!({ "target": { "room": "chat:french" }, "event": "chat:message", "payload": { "content": "x", "senderId": 7, "senderName": "Ann" } });
        server.call(&root, "POST", "/api/v1/broadcast", &body.to_string())
    };
    // The first answer comes before the rules: a repetition is no new word.
    let keyed = r#"{"content":"keyed","clientId":"k-1"}"#;
    assert_eq!(server.call(&ann, "POST", "/api/v1/rooms/french/messages", keyed).0, 200);

    let muted = object(&academy(
        &data,
        &["--output", "json", "user", "mute", "7", "--room", "french", "--for", "2h", "--reason", "ticket 17"],
    ));
    assert_eq!(
        (&muted["ok"], &muted["muted"], &muted["roomId"], &muted["by"]),
        (&true.into(), &true.into(), &"french".into(), &"system".into())
    );
    let told = object(&academy(&data, &["--output", "json", "user", "diagnose", "7"]));
    assert_eq!((&told["mutes"][0]["roomId"], &told["mutes"][0]["until"]), (&"french".into(), &muted["until"]));
    let told = good(&academy(&data, &["user", "diagnose", "7"]));
    assert!(told.contains("MUTED in room french, until ") && told.contains("user unmute --room ROOM"), "{told}");
    for (what, answer) in
        [("post", write(&ann, "french")), ("edit", edit()), ("typing", typing()), ("in their name", as_ann())]
    {
        assert_eq!(code(&answer), (403, "forbidden"), "{what}: {}", answer.1);
        let left = answer.1["error"]["retryAfterMs"].as_u64().unwrap();
        assert!(left > 7_000_000 && left <= 7_200_000, "{what}: {left}");
        let message = answer.1["error"]["message"].as_str().unwrap();
        assert!(message.contains("user 7 is muted here for another 2 hours"), "{what}: {message}");
    }
    assert_eq!(server.call(&ann, "POST", "/api/v1/rooms/french/messages", keyed).1["duplicate"], true);
    // They read, others and other rooms are as before, and they may take back what they have said.
    assert_eq!(server.call(&ann, "GET", "/api/v1/rooms/french/messages", "").0, 200);
    assert_eq!(server.call(&ann, "POST", "/api/v1/rooms/french/read", &json!({ "messageId": own }).to_string()).0, 200);
    assert_eq!(server.call(&ann, "POST", "/api/v1/rooms/french/typing", r#"{"isTyping":false}"#).0, 200);
    assert_eq!((write(&bob, "french").0, write(&ann, "english").0), (200, 200));
    assert_eq!(server.call(&ann, "DELETE", &format!("/api/v1/rooms/french/messages/{own}"), "").0, 200);

    // Everywhere is one of its own, for administrators as well; and it is no block and no revocation.
    let everywhere =
        |who: &str, body: &str| server.call(&root, "POST", &format!("/api/v1/admin/users/{who}/mute"), body);
    assert_eq!(everywhere("7", r#"{"seconds":60}"#).0, 200);
    assert_eq!(everywhere("2", r#"{"seconds":60}"#).0, 200);
    assert_eq!((write(&ann, "english").0, write(&admin, "french").0), (403, 403));
    assert_eq!(server.call(&root, "GET", "/api/v1/admin/tokens/revoked", "").1["items"], json!([]));
    assert_eq!(server.call(&ann, "GET", "/api/v1/session", "").0, 200);
    let list = good(&academy(&data, &["user", "list", "--muted"]));
    assert!(list.contains("user 7 in room french, until 2") && list.contains("user 7 everywhere, until 2"), "{list}");

    // What is asked for is checked.
    for (body, field) in [(r#"{"seconds":0}"#, "seconds"), (r#"{"seconds":31622401}"#, "seconds"), ("{}", "seconds")] {
        let (status, answer) = everywhere("7", body);
        assert_eq!((status, &answer["error"]["field"]), (400, &field.into()), "{body}: {answer}");
    }
    assert_eq!(code(&everywhere("7", r#"{"seconds":60,"roomId":"frnech"}"#)), (404, "not_found"));
    assert_eq!(code(&everywhere("system", r#"{"seconds":60}"#)), (400, "invalid_payload"));
    assert_eq!(code(&server.call(&ann, "POST", "/api/v1/admin/users/8/mute", r#"{"seconds":60}"#)), (403, "forbidden"));
    assert_eq!(code(&server.call(&ann, "GET", "/api/v1/admin/mutes", "")), (403, "forbidden"));

    // Over a kill, and without a server.
    let dir = server.kill();
    good(&academy(&data, &["user", "unmute", "7", "--reason", "sorry"]));
    assert!(failed(&academy(&data, &["user", "unmute", "7"])).contains("no such mute stands"));
    let server = Appliance::start_in(dir, &[]);
    let write = |token: &str, room: &str| {
        server.call(token, "POST", &format!("/api/v1/rooms/{room}/messages"), r#"{"content":"x"}"#)
    };
    assert_eq!((write(&ann, "french").0, write(&ann, "english").0), (403, 200));
    // The later word takes the place of the first, and ends by itself.
    good(&academy(&data, &["user", "mute", "7", "--room", "french", "--for", "1s"]));
    crate::harness::until("the mute ends", || write(&ann, "french").0 == 200);
    let log = good(&academy(&data, &["audit", "list"]));
    for part in [
        "user.mute (user 7): done: in room french until 2",
        ": ticket 17",
        "user.unmute (user 7): done: everywhere: sorry",
    ] {
        assert!(log.contains(part), "{part} is not in {log}");
    }
}

#[test]
fn a_mute_goes_with_the_room_and_with_the_user_and_comes_through_a_backup() {
    let server = Appliance::start();
    let (data, ann, root) = (server.data(), server.token("7", "learner"), server.token("1", "admin"));
    server.say(&ann, "french", "x");
    server.say(&ann, "english", "x");
    let mute = |room: &str| {
        let body = json!({ "seconds": 3_600, "roomId": room }).to_string();
        assert_eq!(server.call(&root, "POST", "/api/v1/admin/users/7/mute", &body).0, 200);
    };
    let muted = || server.call(&root, "GET", "/api/v1/admin/mutes", "").1["items"].as_array().unwrap().len();
    mute("french");
    mute("english");
    // The id is another room's at once: nobody is muted in it.
    assert_eq!(server.call(&root, "DELETE", "/api/v1/admin/rooms/english", "").0, 200);
    assert_eq!(muted(), 1);
    server.say(&ann, "english", "the room of that name has begun anew");
    let file = server.dir.path().join("a.backup");
    good(&academy(&data, &["backup", file.to_str().unwrap()]));
    assert_eq!(server.call(&root, "DELETE", "/api/v1/admin/users/7?consent=true", "").0, 200);
    assert_eq!(muted(), 0, "nothing is left of who is erased");
    assert_eq!(server.call(&ann, "POST", "/api/v1/rooms/french/messages", r#"{"content":"x"}"#).0, 200);
    let dir = server.end();
    assert!(good(&academy(&data, &["db", "check"])).contains("is sound"));

    // In another place the backup is all there is.
    let elsewhere = tempfile::tempdir().unwrap();
    let place = elsewhere.path().join("data");
    good(&academy(&place, &["restore", dir.path().join("a.backup").to_str().unwrap()]));
    let server = Appliance::start_in(elsewhere, &[]);
    let answer = server.call(&ann, "POST", "/api/v1/rooms/french/messages", r#"{"content":"x"}"#);
    assert_eq!(code(&answer), (403, "forbidden"), "{}", answer.1);
}

#[test]
fn a_room_is_locked_and_slowed_by_the_command_line_too_beside_a_server_and_without_one() {
    let server = Appliance::start();
    let (data, ann, root) = (server.data(), server.token("7", "learner"), server.token("1", "admin"));
    let write = |server: &Appliance| server.call(&ann, "POST", "/api/v1/rooms/french/messages", r#"{"content":"x"}"#);
    assert_eq!(write(&server).0, 200);
    let cursor = server.call(&ann, "GET", "/api/v1/events?rooms=french", "").1["cursor"].as_str().unwrap().to_owned();
    let locked = object(&academy(&data, &["--output", "json", "room", "lock", "french", "--reason", "exam"]));
    assert_eq!((&locked["locked"], &locked["slowModeSeconds"]), (&true.into(), &0.into()));
    assert_eq!(code(&write(&server)), (403, "forbidden"));
    assert!(
        good(&academy(&data, &["room", "slow", "french", "5m"])).contains("is locked, and is in slow mode (300 s)")
    );
    assert!(good(&academy(&data, &["room", "list"])).contains("LOCKED  SLOW (300 s)"));
    let (_, rooms) = server.call(&root, "GET", "/api/v1/admin/rooms", "");
    assert_eq!((&rooms["items"][0]["locked"], &rooms["items"][0]["slowModeSeconds"]), (&true.into(), &300.into()));
    let (_, told) = server.call(&ann, "GET", &format!("/api/v1/events?rooms=french&cursor={cursor}"), "");
    let states: Vec<_> = told["events"].as_array().unwrap().iter().map(|one| &one["payload"]["locked"]).collect();
    assert_eq!(states, [true, true], "{told}");
    // What is asked for is checked.
    assert!(failed(&academy(&data, &["room", "lock", "frnech"])).contains("there is no such room"));
    assert!(failed(&academy(&data, &["room", "slow", "french", "2h"])).contains("seconds must be 0 to 3600"));
    for wrong in ["500ms", "x", "-5s"] {
        assert_eq!(academy(&data, &["room", "slow", "french", wrong]).status.code(), Some(2), "{wrong}");
    }
    // Without a server, and over its end.
    let dir = server.kill();
    assert!(
        good(&academy(&data, &["room", "unlock", "french", "--reason", "over"]))
            .contains("is not locked, and is in slow")
    );
    let server = Appliance::start_in(dir, &[]);
    assert_eq!(write(&server).0, 200);
    let early = write(&server);
    assert_eq!(code(&early), (429, "rate_limited"));
    assert!(early.1["error"]["retryAfterMs"].as_u64().unwrap() > 290_000, "{}", early.1);
    // A backup has it, too; and a room of the same id that comes after it begins anew.
    let file = server.dir.path().join("a.backup");
    good(&academy(&data, &["backup", file.to_str().unwrap()]));
    assert_eq!(server.call(&root, "DELETE", "/api/v1/admin/rooms/french", "").0, 200);
    assert_eq!((write(&server).0, write(&server).0), (200, 200));
    let log = good(&academy(&data, &["audit", "list"]));
    for part in [
        "room.lock (room french): done: exam",
        "room.slow (room french): done: 300 s",
        "room.unlock (room french): done: over",
    ] {
        assert!(log.contains(part), "{part} is not in {log}");
    }
    let dir = server.end();
    assert!(good(&academy(&data, &["db", "check"])).contains("is sound"));
    let elsewhere = tempfile::tempdir().unwrap();
    let place = elsewhere.path().join("data");
    good(&academy(&place, &["restore", dir.path().join("a.backup").to_str().unwrap()]));
    let server = Appliance::start_in(elsewhere, &[]);
    assert_eq!(code(&write(&server)), (429, "rate_limited"), "who has written just before the backup");
}

#[test]
fn reports_are_listed_and_resolved_by_administrators_exported_and_erased() {
    let server = Appliance::start();
    let (data, ann, bob) = (server.data(), server.token("7", "learner"), server.token("8", "learner"));
    let root = server.token("1", "admin");
    let body = r#"{"roomId":"staff","private":true,"members":[7,8],"moderators":[9]}"#;
    assert_eq!(server.call(&root, "POST", "/api/v1/admin/rooms", body).0, 200);
    let id = server.say(&ann, "staff", "an unkind word");
    let report = |token: &str, reason: &str| {
        let (status, made) = server.call(
            token,
            "POST",
            &format!("/api/v1/rooms/staff/messages/{id}/report"),
            &json!({ "reason": reason }).to_string(),
        );
        assert_eq!(status, 200, "{made}");
        made["reportId"].to_string()
    };
    let first = report(&bob, "it hurts");
    let second = report(&root, "seen by an administrator");
    assert_eq!(
        server.call(&root, "POST", "/api/v1/rooms/staff/mute", r#"{"userId":7,"seconds":3600,"reason":"case 12"}"#).0,
        200
    );
    good(&academy(&data, &["message", "delete", &id.to_string(), "--yes"]));
    let list = good(&academy(&data, &["report", "list", "--room", "staff"]));
    for part in [&first, &second, "an unkind word", "it hurts", "reported by user 8"] {
        assert!(list.contains(part), "{part} is not in {list}");
    }
    let resolved = good(&academy(&data, &["report", "resolve", &first, "--note", "talked to the sender"]));
    assert!(resolved.contains("is resolved") && resolved.contains("resolved by system"), "{resolved}");
    assert!(good(&academy(&data, &["report", "resolve", &first, "--note", "x"])).contains("was resolved before"));
    assert!(failed(&academy(&data, &["report", "resolve", "999999"])).contains("there is no report 999999"));
    let list = object(&academy(&data, &["--output", "json", "report", "list"]));
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    let list = object(&academy(&data, &["--output", "json", "report", "list", "--all"]));
    assert_eq!(list["items"][1]["note"], "talked to the sender");
    for (method, path) in
        [("GET", "/api/v1/admin/reports".to_owned()), ("POST", format!("/api/v1/admin/reports/{second}/resolve"))]
    {
        assert_eq!(code(&server.call(&ann, method, &path, "{}")), (403, "forbidden"), "{path}");
    }
    assert_eq!(code(&server.call(&root, "POST", "/api/v1/admin/reports/x/resolve", "{}")), (400, "invalid_payload"));
    assert_eq!(code(&server.call(&root, "GET", "/api/v1/admin/reports?limit=201", "")), (400, "invalid_payload"));
    // A transcript is of what was said, and no more.
    let transcript = good(&academy(&data, &["room", "export", "staff"]));
    assert!(!transcript.contains("it hurts") && !transcript.contains("unkind"), "{transcript}");

    // Each has in their export what is theirs.
    let export = |who: &str| -> Value { object(&academy(&data, &["user", "export", who])) };
    let of_ann = export("7");
    assert_eq!((&of_ann["mutes"][0]["roomId"], &of_ann["reports"]), (&"staff".into(), &Value::Null));
    let reported = of_ann["reported"].as_array().unwrap();
    assert_eq!((reported.len(), &reported[0]["content"]), (2, &"an unkind word".into()));
    assert!(reported[0]["reportedBy"].is_null() && reported[0]["reason"].is_null(), "{of_ann}");
    let of_bob = export("8");
    assert_eq!((&of_bob["reports"][0]["reason"], &of_bob["reports"][0]["messageId"]), (&"it hurts".into(), &id.into()));
    assert!(of_bob["reports"][0]["content"].is_null() && of_bob["reported"].is_null(), "{of_bob}");

    // A hold keeps them; without one an erasure takes the words of the author out of the reports, too.
    good(&academy(&data, &["hold", "set", "--user", "8", "--reason", "case 12"]));
    assert!(failed(&academy(&data, &["user", "erase", "7", "--yes", "--consent"])).contains("case 12"));
    good(&academy(&data, &["hold", "release", "--user", "8"]));
    good(&academy(&data, &["user", "erase", "7", "--yes", "--consent"]));
    let list = object(&academy(&data, &["--output", "json", "report", "list", "--all"]));
    assert_eq!(list["items"], json!([]));
    assert!(export("8")["reports"].is_null());
    let log = good(&academy(&data, &["audit", "list"]));
    for part in [
        format!("message.report (room staff message {id}): done, report {first}"),
        format!("report.resolve (room staff report {first}): done, report {first}: talked to the sender"),
        "user.mute (user 7): done: in room staff until 2".to_owned(),
    ] {
        assert!(log.contains(&part), "{part} is not in {log}");
    }
    assert!(!log.contains("it hurts"), "what a user has written is not in the audit log: {log}");
    let _dir = server.end();
    let found = good(&academy(&data, &["db", "check"]));
    assert!(found.contains("is sound"), "{found}");
    assert!(good(&academy(&data, &["db", "compact"])).contains("compacted"));
    let bytes = std::fs::read(data.join("academy.redb")).unwrap();
    assert!(!bytes.windows(14).any(|part| part == b"an unkind word"), "it is not in the file any more");
}
