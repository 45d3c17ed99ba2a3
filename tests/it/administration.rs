//! What administrators do with data, through the front door: exports, erasures, holds, purges by age, the audit trail.

use std::fs;
use std::io::{Read, Write};

use academy_rt::domain::UserId;
use redb::{ReadableDatabase, ReadableTable, TableDefinition};
use serde_json::Value;

use crate::backup::{academy, failed, good, lived_in};
use crate::harness::{Appliance, until};
use crate::store::Desk;

#[test]
fn what_is_erased_is_gone_from_the_file_once_it_is_compacted() {
    let server = lived_in();
    let (data, ann, root) = (server.data(), server.token("7", "learner"), server.token("1", "admin"));
    assert_eq!(server.call(&ann, "GET", "/api/v1/session", "").0, 200);
    let secret = "the-very-secret-of-ann-that-nobody-else-says";
    for n in 0..50 {
        server.say(&ann, "french", &format!("{secret} {n}"));
    }
    let (status, all) = server.call(&ann, "GET", "/api/v1/admin/users/7/export", "");
    assert_eq!((status, &all["error"]["code"]), (403, &"forbidden".into()));
    for _ in 0..2 {
        let body = "{\"target\":{\"users\":[7]},\"title\":\"T\",\"message\":\"M\"}";
        assert_eq!(server.call(&root, "POST", "/api/v1/notifications", body).0, 200);
    }
    let (_, inbox) = server.call(&ann, "GET", "/api/v1/notifications", "");
    let middle = inbox["items"][1]["id"].as_u64().unwrap();
    assert_eq!(server.call(&ann, "DELETE", &format!("/api/v1/notifications/{middle}"), "").0, 200);
    let export = server.dir.path().join("ann.json");
    good(&academy(&data, &["user", "export", "7", "--file", export.to_str().unwrap()]));
    let all: Value = serde_json::from_slice(&fs::read(&export).unwrap()).unwrap();
    assert_eq!((all["messages"].as_array().unwrap().len(), &all["user"]["name"]), (70, &"Name".into()));
    assert_eq!(all["progress"].as_array().unwrap().len(), 1);
    // Each part is one list, whatever has become of its items.
    let text = fs::read_to_string(&export).unwrap();
    assert_eq!(text.matches("\"notifications\":").count(), 1);
    let deleted: Vec<_> = all["notifications"].as_array().unwrap().iter().map(|one| one["deleted"].clone()).collect();
    assert_eq!(deleted, [false, true, false]);
    failed(&academy(&data, &["user", "export", "7", "--file", export.to_str().unwrap()]));

    let json = academy(&data, &["--output", "json", "user", "erase", "7", "--yes"]);
    let certificate: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(certificate["counts"]["messages"], 70);
    // The hash is of the document without it, and is in the trail.
    let hash = certificate["hash"].as_str().unwrap();
    let text = String::from_utf8(json.stdout).unwrap();
    assert!(!text.contains(secret));
    let trail = good(&academy(&data, &["audit", "list"]));
    assert!(trail.contains(&format!("certificate {hash}")) && trail.contains("user.export (user 7): done"), "{trail}");
    let (_, page) = server.call(&root, "GET", "/api/v1/rooms/french/messages?limit=200", "");
    let messages = page["messages"].as_array().unwrap();
    assert!(messages.len() == 70 && messages.iter().all(|one| one["content"] == "" && one["senderId"] == "erased"));
    assert!(failed(&academy(&data, &["user", "export", "7"])).contains("nothing is stored"));
    // Asked again, it is the same document.
    let again = academy(&data, &["--output", "json", "user", "erase", "7", "--yes"]);
    assert_eq!(serde_json::from_slice::<Value>(&again.stdout).unwrap(), certificate);
    assert!(failed(&academy(&data, &["user", "erase", "system", "--yes"])).contains("not a person"));
    let _dir = server.end();

    let raw = |what: &str| {
        let bytes = fs::read(data.join("academy.redb")).unwrap();
        bytes.windows(what.len()).filter(|window| *window == what.as_bytes()).count()
    };
    assert!(raw(secret) > 0, "the old pages are in the file before it is compacted");
    assert!(good(&academy(&data, &["db", "compact"])).contains("compacted"));
    assert_eq!(raw(secret), 0, "and gone from it afterwards");
    assert!(raw("hello 3") > 0, "what others wrote is there");
    assert!(good(&academy(&data, &["db", "check"])).contains("is sound"));
}

#[test]
fn a_hold_and_the_floor_stand_against_an_erasure() {
    let server = Appliance::start_in(tempfile::tempdir().unwrap(), &[("ACADEMY_RT_RETENTION_FLOOR", "30d")]);
    let (data, ann, root) = (server.data(), server.token("7", "learner"), server.token("1", "admin"));
    server.say(&ann, "french", "x");
    good(&academy(&data, &["hold", "set", "--room", "french", "--reason", "case 12"]));
    assert!(good(&academy(&data, &["hold", "list"])).contains("room french"));
    let text = failed(&academy(&data, &["user", "erase", "7", "--consent", "--yes"]));
    assert!(text.contains("legal hold"), "{text}");
    good(&academy(&data, &["hold", "release", "--room", "french"]));
    assert!(failed(&academy(&data, &["hold", "release", "--room", "french"])).contains("not_found"));
    let text = failed(&academy(&data, &["user", "erase", "7", "--yes"]));
    assert!(text.contains("retention.floor") && text.contains("--consent"), "{text}");
    let (status, _) = server.call(&root, "DELETE", "/api/v1/admin/users/7?consent=true", "");
    assert_eq!(status, 200);
    let trail = good(&academy(&data, &["audit", "list"]));
    for part in
        ["refused: legal hold", "refused: below the retention floor", "hold.release", "from 127.0.0.1: user.erase"]
    {
        assert!(trail.contains(part), "{part} is not in {trail}");
    }
    for (bad, field) in
        [("{}", "reason"), ("{\"reason\":\"x\"}", "userId"), ("{\"userId\":7,\"roomId\":1,\"reason\":\"x\"}", "userId")]
    {
        let (status, answer) = server.call(&root, "POST", "/api/v1/admin/holds", bad);
        assert_eq!((status, answer["error"]["field"].as_str()), (400, Some(field)), "{bad}: {answer}");
    }
    for (method, path) in
        [("GET", "/api/v1/admin/holds"), ("GET", "/api/v1/admin/audit"), ("DELETE", "/api/v1/admin/users/1")]
    {
        assert_eq!(server.call(&ann, method, path, "").0, 403, "{method} {path}");
    }
}

#[test]
fn old_data_are_purged_beside_the_traffic_and_held_ones_stay() {
    let server = Appliance::start_in(
        tempfile::tempdir().unwrap(),
        &[("ACADEMY_RT_RETENTION_CHAT", "2s"), ("ACADEMY_RT_RETENTION_NOTIFICATIONS", "2s")],
    );
    let (ann, root) = (server.token("7", "learner"), server.token("1", "admin"));
    let hold = "{\"roomId\":\"kept\",\"reason\":\"case\"}";
    assert_eq!(server.call(&root, "POST", "/api/v1/admin/holds", hold).0, 200);
    for n in 0..30 {
        server.say(&ann, "old", &format!("{n}"));
    }
    server.say(&ann, "kept", "stays");
    let body = "{\"target\":{\"users\":[7]},\"title\":\"T\",\"message\":\"M\"}";
    assert_eq!(server.call(&root, "POST", "/api/v1/notifications", body).0, 200);
    let count = |path: &str, list: &str| server.call(&ann, "GET", path, "").1[list].as_array().unwrap().len();
    assert_eq!(count("/api/v1/rooms/old/messages", "messages"), 30);
    until("old messages go", || count("/api/v1/rooms/old/messages", "messages") == 0);
    until("old notifications go", || count("/api/v1/notifications", "items") == 0);
    assert_eq!(count("/api/v1/rooms/kept/messages", "messages"), 1);
    let (_, page) = server.call(&ann, "POST", "/api/v1/rooms/old/messages", "{\"content\":\"next\"}");
    assert_eq!(page["seq"], 31, "the room goes on where it was");
    let (data, _dir) = (server.data(), server.end());
    assert!(good(&academy(&data, &["db", "check"])).contains("is sound"));
    assert!(good(&academy(&data, &["audit", "list"])).contains("retention.purge (chat): done: "));
}

#[test]
fn refused_sign_ins_are_in_the_trail_together() {
    let server = Appliance::start();
    for _ in 0..25 {
        assert_eq!(server.call("nonsense", "GET", "/api/v1/session", "").0, 401);
    }
    let data = server.data();
    until("they are recorded", || {
        let trail = good(&academy(&data, &["audit", "list"]));
        trail.contains("unknown user from 127.0.0.1: sign_in: refused: token_malformed")
    });
    let trail = good(&academy(&data, &["audit", "list"]));
    assert!(trail.matches("sign_in").count() <= 10, "one record for many: {trail}");
}

#[test]
fn strangers_have_a_record_a_network_and_a_day_has_so_many_of_them() {
    let env = [("ACADEMY_RT_LIMITS_SIGN_IN_RECORDS_PER_DAY", "2"), ("ACADEMY_RT_SERVER_BEHIND_PROXY", "true")];
    let server = Appliance::start_in(tempfile::tempdir().unwrap(), &env);
    let learner = server.token("7", "learner");
    let try_from = |address: &str, token: &str| {
        let head = format!(
            "GET /api/v1/session HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Forwarded-For: {address}\r\n\
             Authorization: Bearer {token}\r\n\r\n"
        );
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
        std::io::read_to_string(stream).unwrap()
    };
    // A whole /64 is one network, whatever it sends.
    for n in 0..300 {
        let token = if n % 3 == 0 { "nonsense" } else { "bm9u.c2Vu.c2U" };
        assert!(try_from(&format!("2001:db8:1:2::{n:x}"), token).starts_with("HTTP/1.1 401 "));
    }
    let admin = server.token("1", "admin");
    let outcomes = || {
        let (_, page) = server.call(&admin, "GET", "/api/v1/admin/audit?limit=100", "");
        let is_refused = |one: &&Value| one["outcome"].as_str().unwrap().starts_with("refused");
        let items = page["items"].as_array().unwrap().iter().filter(is_refused);
        items
            .map(|one| format!("{}: {}", one["origin"].as_str().unwrap(), one["outcome"].as_str().unwrap()))
            .collect::<Vec<_>>()
    };
    until("they are recorded", || !outcomes().is_empty());
    for n in 0..20 {
        try_from(&format!("192.0.2.{n}"), "nonsense");
    }
    // What is beyond is counted, and shown.
    let beyond = || server.call(&admin, "GET", "/api/v1/admin/status", "").1["refusedBeyondRecords"].as_u64().unwrap();
    until("the day has as many records as it may have", || beyond() == 19);
    until("the last one that may be is stored", || outcomes().len() == 2);
    let recorded = outcomes();
    assert!(recorded[0].starts_with("2001:db8:1:2::/64: refused: token_malformed, "), "{recorded:?}");
    // What people do is recorded all the same.
    assert_eq!(server.call(&admin, "POST", "/api/v1/admin/users/9/block", "{}").0, 200);
    assert_eq!(server.call(&learner, "GET", "/api/v1/session", "").0, 200);
    let data = server.data();
    let trail = good(&academy(&data, &["audit", "list"]));
    assert!(trail.contains("user.block"), "{trail}");
    // And none is lost when the server stops.
    let (data, _dir) = (server.data(), server.end());
    let trail = good(&academy(&data, &["audit", "list"]));
    assert!(trail.contains("from many networks: sign_in: refused: token_malformed, 19 times"), "{trail}");
}

#[test]
fn a_broken_chain_is_found_and_located() {
    let server = lived_in();
    let data = server.data();
    for n in 0..6 {
        good(&academy(&data, &["hold", "set", "--room", &format!("r{n}"), "--reason", "case"]));
    }
    let export = server.dir.path().join("trail.jsonl");
    good(&academy(&data, &["audit", "export", export.to_str().unwrap()]));
    let _dir = server.end();
    let verify = |file: &std::path::Path| academy(&data, &["audit", "verify", file.to_str().unwrap()]);
    let lines: Vec<String> = fs::read_to_string(&export).unwrap().lines().map(ToOwned::to_owned).collect();
    // Between the lines with the beginning and the end is one for each record; sign-ins are recorded whenever they are due.
    let last = lines.len() - 2;
    let at = lines.iter().position(|line| line.contains("case")).unwrap();
    assert!(good(&verify(&export)).contains(&format!("the chain is intact: {last} records")));
    let tampered = export.with_extension("bad");
    let mut cases: Vec<(Vec<String>, String)> = Vec::new();
    let mut changed = lines.clone();
    changed[at] = changed[at].replace("case", "none");
    cases.push((changed, format!("record {at} was changed, or does not follow")));
    let mut removed = lines.clone();
    removed.remove(at + 1);
    cases.push((removed, format!("record {} follows record {at}", at + 2)));
    let mut short = lines.clone();
    short.remove(last);
    let says = format!("the chain ends at record {}, and should end at record {last}", last - 1);
    cases.push((short, says));
    for (lines, says) in cases {
        fs::write(&tampered, lines.join("\n")).unwrap();
        let output = verify(&tampered);
        assert_eq!(output.status.code(), Some(3));
        assert!(crate::harness::words(&output).contains(&says), "{}", crate::harness::words(&output));
    }
    fs::write(&tampered, "not json").unwrap();
    failed(&verify(&tampered));

    // Somebody changes the database itself.
    let database = redb::Database::open(data.join("academy.redb")).unwrap();
    let table = TableDefinition::<&[u8; 8], &[u8]>::new("audit");
    let key = (at as u64).to_be_bytes();
    let mut row =
        database.begin_read().unwrap().open_table(table).unwrap().get(&key).unwrap().unwrap().value().to_vec();
    let place = row.windows(4).position(|window| window == b"case").unwrap();
    row[place] = b'C';
    let tx = database.begin_write().unwrap();
    tx.open_table(table).unwrap().insert(&key, row.as_slice()).unwrap();
    tx.commit().unwrap();
    drop(database);
    for args in [&["audit", "verify"][..], &["db", "check"]] {
        let output = academy(&data, args);
        let text = crate::harness::words(&output);
        assert_eq!(output.status.code(), Some(3), "{text}");
        assert!(text.contains(&format!("record {at} was changed, or does not follow")), "{text}");
    }
}

#[test]
fn contradictions_in_the_database_are_listed() {
    let server = lived_in();
    let data = server.data();
    let _dir = server.end();
    assert!(good(&academy(&data, &["db", "stats"])).contains("messages"));
    let database = redb::Database::open(data.join("academy.redb")).unwrap();
    let tx = database.begin_write().unwrap();
    {
        let mut table = tx.open_table(TableDefinition::<&[u8; 8], &[u8]>::new("messages")).unwrap();
        let key = *table.first().unwrap().unwrap().0.value();
        table.remove(&key).unwrap();
    }
    tx.commit().unwrap();
    drop(database);
    let output = academy(&data, &["--output", "json", "db", "check"]);
    assert_eq!(output.status.code(), Some(3));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(json["ok"] == false && json["found"][0].as_str().unwrap().contains("the log"), "{json}");
    let nowhere = tempfile::tempdir().unwrap().path().join("none");
    for args in [&["db", "check"][..], &["db", "stats"], &["db", "compact"], &["db", "upgrade"], &["hold", "list"]] {
        assert!(failed(&academy(&nowhere, args)).contains("there is no store"), "{args:?}");
    }
}

#[test]
fn a_check_of_a_file_that_does_not_open_has_found_something() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("academy.redb");
    let server = lived_in();
    let data = server.data();
    let _dir = server.end();
    let whole = std::fs::read(data.join("academy.redb")).unwrap();
    let mut torn = whole.clone();
    torn[..64].fill(0);
    for content in [b"nonsense, and longer than nothing".to_vec(), Vec::new(), whole[..whole.len() / 3].to_vec(), torn]
    {
        std::fs::write(&file, content).unwrap();
        let output = academy(dir.path(), &["--output", "json", "db", "check"]);
        assert_eq!(output.status.code(), Some(3), "{}", crate::harness::words(&output));
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(json["ok"] == false && json["found"][0].as_str().unwrap().contains("does not open"), "{json}");
        let output = academy(dir.path(), &["db", "check"]);
        assert!(crate::harness::words(&output).contains("Restore a backup"), "{output:?}");
    }
}

#[test]
fn data_that_are_read_only_are_checked_and_backed_up() {
    let server = lived_in();
    let data = server.data();
    let file = server.dir.path().join("first.backup");
    good(&academy(&data, &["backup", file.to_str().unwrap()]));
    let dir = server.end();
    let mounted = crate::backup::Mounted::tmpfs(&dir.path().join("medium"), "64m");
    for name in ["academy.redb", "backup.key"] {
        std::fs::copy(data.join(name), mounted.0.join(name)).unwrap();
    }
    mounted.read_only();
    let text = good(&academy(&mounted.0, &["db", "check"]));
    assert!(text.contains("is sound") && text.contains("is read-only"), "{text}");
    assert!(good(&academy(&mounted.0, &["db", "stats"])).contains("messages"));
    let file = dir.path().join("a.backup");
    let text = good(&academy(&mounted.0, &["backup", file.to_str().unwrap()]));
    assert!(text.contains("is read-only") && text.contains("no record of it"), "{text}");
    let text = good(&academy(&data, &["backup", "verify", file.to_str().unwrap()]));
    assert!(text.contains("authentic") && text.contains("40 messages"), "{text}");
}

#[test]
fn an_erasure_that_was_cut_short_is_finished_at_the_next_start() {
    let server = lived_in();
    let data = server.data();
    let dir = server.end();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Desk::of_today(&data);
        let seven = UserId::parse("7").unwrap();
        store.begin_erasure(seven.clone()).await.unwrap();
        assert!(!store.erase(seven, 3).await.unwrap().is_finished);
        store.close().await.unwrap();
    });
    let server = Appliance::start_in(dir, &[]);
    let root = server.token("1", "admin");
    until("it is finished", || {
        let (_, page) = server.call(&root, "GET", "/api/v1/rooms/french/messages?limit=200", "");
        page["messages"].as_array().unwrap().iter().all(|one| one["senderId"] == "erased")
    });
    until("it is recorded", || good(&academy(&data, &["audit", "list"])).contains("user.erase (user 7): done: "));
}

#[test]
fn who_loses_a_room_is_told_which() {
    let server = Appliance::start();
    let admin = server.token("1", "admin");
    let room = r#"{"roomId":"staff","private":true,"members":[7]}"#;
    assert!(server.call(&admin, "POST", "/api/v1/admin/rooms", room).0 < 300);
    let learner = server.token("7", "learner");
    let mut socket = crate::connections::signed_in(server.port, &learner);
    socket.write_all(&crate::connections::frame(r#"420["chat:join",{"roomId":"staff"}]"#)).unwrap();
    let mut hear = |part: &str| {
        let (mut heard, mut some) = (String::new(), [0; 1_024]);
        while !heard.contains(part) {
            let length = socket.read(&mut some).unwrap();
            assert!(length > 0, "{heard}");
            heard.push_str(&String::from_utf8_lossy(&some[..length]));
        }
        heard
    };
    hear("430[");
    assert_eq!(server.call(&admin, "DELETE", "/api/v1/admin/rooms/staff/members/7", "").0, 200);
    let said = hear("any more");
    assert!(said.contains(r#"["request:error",{"event":"chat:join","roomId":"staff","code":"forbidden""#), "{said}");
    // A poll of several rooms says which one it is.
    let (status, answer) = server.call(&learner, "GET", "/api/v1/events?room=open&room=staff", "");
    assert_eq!((status, &answer["error"]["field"]), (403, &"room".into()), "{answer}");
    assert!(answer["error"]["message"].as_str().unwrap().contains("staff"), "{answer}");
}

#[test]
fn who_comes_while_the_server_stops_is_told_when_to_come_again() {
    let server = Appliance::start();
    // It is there before the stop, and has not asked yet.
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
    until("it is accepted", || {
        let status = server.get("/api/health");
        status.contains("200")
    });
    let pid = rustix::process::Pid::from_raw(server.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    until("it stops", || std::net::TcpStream::connect(("127.0.0.1", server.port)).is_err());
    stream.write_all(b"GET /ws/?EIO=4&transport=polling HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("\"unavailable\""), "{answer}");
    assert!(answer.contains("\"retryAfterMs\":1000") && answer.to_lowercase().contains("retry-after: 1"), "{answer}");
}

/// Who lacks a right is told so, and not what is wrong with the rest of a request that they may not make.
#[test]
fn rights_are_looked_at_before_the_body_and_the_query() {
    let server = Appliance::start_in(tempfile::tempdir().unwrap(), &[("ACADEMY_RT_LIMITS_MESSAGES_PER_SECOND", "0")]);
    let learner = server.token("7", "learner");
    let mut seen = 0;
    for route in academy_rt::transport::http::routes::ROUTES {
        let is_for_all = !route.path.starts_with("/api/v1/admin/") && route.path != "/api/v1/broadcast";
        for method in route.methods.iter().filter(|_| !is_for_all) {
            let path = route.path.replace(['{', '}'], "");
            for (path, body) in [(path.clone(), "{ no JSON"), (format!("{path}?limit=no&none=such"), "")] {
                let answer = loop {
                    let answer = server.call(&learner, method, &path, body);
                    // So many requests are more than a person makes.
                    if answer.0 != 429 {
                        break answer;
                    }
                    std::thread::sleep(std::time::Duration::from_millis(50));
                };
                assert!(answer.0 == 403, "{method} {path}: {answer:?}");
                seen += 1;
            }
        }
    }
    assert!(seen > 60, "{seen}");
    let answer = server.call(&learner, "POST", "/api/v1/notifications", "{ no JSON");
    assert_eq!(answer.0, 403, "{answer:?}");
    let admin = server.token("1", "admin");
    assert_eq!(server.call(&admin, "POST", "/api/v1/admin/rooms", "{ no JSON").0, 400);
}
