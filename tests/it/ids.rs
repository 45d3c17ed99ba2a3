//! Ids have one form: whatever spelling of `café` comes in, the normal one (NFC) is found and answered. Stores of before get it, too.

use std::path::Path;

use serde_json::{Value, json};

use crate::backup::{academy, failed, good, names};
use crate::harness::{Appliance, SECRET, run, signed, words};
use crate::migration::of_fixture;

/// The normal form, and the one with the accent as a character of its own.
const CAFE: (&str, &str) = ("caf\u{e9}", "cafe\u{301}");
const JOSE: (&str, &str) = ("jos\u{e9}", "jose\u{301}");
const LECON: (&str, &str) = ("le\u{e7}on", "lec\u{327}on");

/// A segment of a path.
fn segment(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// A token as a platform makes it, which has the id as it is given.
fn token_of(user: &str) -> String {
    let end = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() + 3_600;
    let claims = json!({ "userId": user, "name": "Name", "role": "learner", "exp": end });
    signed(&claims, SECRET)
}

fn contents(page: &Value) -> Vec<&str> {
    page["messages"].as_array().unwrap().iter().map(|one| one["content"].as_str().unwrap()).collect()
}

fn of_ids<'v>(list: &'v Value, key: &str) -> Vec<&'v str> {
    list["items"].as_array().unwrap().iter().map(|one| one[key].as_str().unwrap()).collect()
}

#[test]
fn both_forms_are_one_room_one_user_and_one_lesson_wherever_they_come_in() {
    let server = Appliance::start();
    let call = |token: &str, method: &str, path: &str, body: Value| {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (status, answer) = server.call(token, method, path, &body);
        assert_eq!(status, 200, "{method} {path}: {answer}");
        answer
    };
    let (jose, other) = (token_of(JOSE.0), token_of(JOSE.1));
    let admin = server.token("root", "admin");
    // Tokens: both are one user.
    for token in [&jose, &other] {
        assert_eq!(call(token, "GET", "/api/v1/session", Value::Null)["userId"], JOSE.0);
    }
    // Paths: both are one room, and what is answered is the normal form.
    for (room, text) in [(CAFE.0, "one"), (CAFE.1, "two")] {
        server.say(&jose, &segment(room), text);
    }
    for room in [CAFE.0, CAFE.1] {
        let page = call(&other, "GET", &format!("/api/v1/rooms/{}/messages", segment(room)), Value::Null);
        assert_eq!(contents(&page), ["one", "two"]);
        let told: Vec<_> = page["messages"].as_array().unwrap().iter().map(|one| &one["roomId"]).collect();
        assert_eq!(told, [CAFE.0, CAFE.0]);
        assert!(page["messages"].as_array().unwrap().iter().all(|one| one["senderId"] == JOSE.0));
    }
    // Queries: who polls for one form gets it.
    let from = call(&jose, "GET", "/api/v1/events?wait=0", Value::Null)["cursor"].clone();
    server.say(&other, &segment(CAFE.1), "three");
    let path = format!("/api/v1/events?wait=0&rooms={}&cursor={}", segment(CAFE.1), from.as_str().unwrap());
    let events = call(&jose, "GET", &path, Value::Null);
    let told: Vec<_> = events["events"].as_array().unwrap().iter().map(|one| &one["payload"]["roomId"]).collect();
    assert_eq!(told, [CAFE.0], "{events}");
    // Bodies: one lesson, one course.
    for (lesson, course) in [(LECON.0, CAFE.1), (LECON.1, CAFE.0)] {
        let body = json!({ "lessonId": lesson, "courseId": course, "progress": 40, "timeSpent": 5 });
        let done = call(&jose, "POST", "/api/v1/progress", body);
        assert_eq!((&done["lessonId"], &done["courseId"]), (&LECON.0.into(), &CAFE.0.into()));
    }
    let lessons = call(&other, "GET", &format!("/api/v1/progress?courseId={}", segment(CAFE.1)), Value::Null);
    assert_eq!(of_ids(&lessons, "lessonId"), [LECON.0]);
    assert_eq!((&lessons["items"][0]["timeSpent"], &lessons["items"][0]["syncVersion"]), (&10.into(), &2.into()));
    let history = call(&jose, "GET", &format!("/api/v1/progress/{}/history", segment(LECON.1)), Value::Null);
    assert_eq!(history["versions"].as_array().map(Vec::len), Some(2), "{history}");
    // Targets of a back end, in each of their forms.
    for target in [json!({ "user": JOSE.1 }), json!({ "users": [JOSE.0, JOSE.1] })] {
        call(&admin, "POST", "/api/v1/notifications", json!({ "target": target, "title": "t", "message": "m" }));
    }
    assert_eq!(call(&jose, "GET", "/api/v1/notifications", Value::Null)["unread"], 2);
    let room = format!("chat:{}", CAFE.1);
    let body = json!({ "target": { "room": room }, "event": "chat:message", "payload": { "content": "four", "senderId": JOSE.1 } });
    call(&admin, "POST", "/api/v1/broadcast", body);
    let page = call(&jose, "GET", &format!("/api/v1/rooms/{}/messages?limit=1", segment(CAFE.0)), Value::Null);
    assert_eq!((contents(&page), &page["messages"][0]["senderId"]), (vec!["four"], &JOSE.0.into()));
    // A room that is made a second time, members in a list and a path, and a search.
    let rooms = "/api/v1/admin/rooms";
    let (status, answer) = server.call(&admin, "POST", rooms, &json!({ "roomId": CAFE.1 }).to_string());
    assert_eq!((status, &answer["error"]["code"]), (409, &"conflict".into()));
    call(&admin, "PATCH", &format!("{rooms}/{}", segment(CAFE.1)), json!({ "private": true }));
    assert_eq!(server.call(&jose, "GET", &format!("/api/v1/rooms/{}/messages", segment(CAFE.0)), "").0, 403);
    call(&admin, "PUT", &format!("{rooms}/{}/members/{}", segment(CAFE.1), segment(JOSE.1)), json!({}));
    assert_eq!(server.call(&jose, "GET", &format!("/api/v1/rooms/{}/messages", segment(CAFE.0)), "").0, 200);
    for text in [CAFE.0, CAFE.1, "CAFE\u{301}"] {
        let found = call(&admin, "GET", &format!("{rooms}?text={}", segment(text)), Value::Null);
        assert_eq!(of_ids(&found, "roomId"), [CAFE.0], "{text:?}");
    }
    // A block of one form is one of the other.
    call(&admin, "POST", &format!("/api/v1/admin/users/{}/block", segment(JOSE.1)), json!({}));
    for token in [&jose, &other] {
        assert_eq!(server.call(token, "GET", "/api/v1/session", "").0, 403);
    }
    let found = call(&admin, "GET", &format!("/api/v1/admin/audit?target={}", segment(JOSE.1)), Value::Null);
    assert!(!found["items"].as_array().unwrap().is_empty());
}

#[test]
fn what_cannot_be_seen_is_refused_in_any_form_and_an_emoji_is_not() {
    let server = Appliance::start();
    let ann = server.token("ann", "learner");
    let say = |room: &str| {
        let path = format!("/api/v1/rooms/{}/messages", segment(room));
        server.call(&ann, "POST", &path, r#"{"content":"x"}"#).0
    };
    for bad in ["cafe\u{301}\u{200b}", "cafe\u{34f}\u{301}", "\u{2060}\u{301}e", "\u{1160}e\u{301}"] {
        assert_eq!(say(bad), 400, "{bad:?}");
    }
    for good in ["👩🏽\u{200d}🏫", "👨\u{200d}👩\u{200d}👧e\u{301}", "\u{1112}\u{1161}\u{11ab}"] {
        assert_eq!(say(good), 200, "{good:?}");
    }
    // As long as an id may be is what its normal form is: it can be given back.
    let long = "e\u{301}".repeat(100);
    assert_eq!((say(&long), say(&"e\u{301}".repeat(101)), say(&"\u{958}".repeat(51))), (200, 400, 400));
    let rooms = server.call(&ann, "GET", "/api/v1/rooms", "").1;
    for room in rooms["rooms"].as_array().unwrap() {
        assert_eq!(say(room["roomId"].as_str().unwrap()), 200, "{room}");
    }
}

#[test]
fn the_command_line_and_lists_of_rooms_take_both_forms() {
    let server = Appliance::start();
    let data = server.data();
    let command = |args: &[&str]| good(&academy(&data, args));
    command(&["room", "create", CAFE.1, "--member", JOSE.1]);
    let list = data.join("rooms.csv");
    std::fs::write(&list, format!("roomId,userId\n{},{}\n{},{}\n", CAFE.0, JOSE.0, CAFE.1, "zoe\u{301}")).unwrap();
    command(&["room", "import", list.to_str().unwrap()]);
    for room in [CAFE.0, CAFE.1] {
        let shown: Value = serde_json::from_str(&command(&["--output", "json", "room", "show", room])).unwrap();
        assert_eq!(shown["roomId"], CAFE.0);
        assert_eq!(shown["items"].as_array().map(Vec::len), Some(2), "{shown}");
    }
    let token =
        run(&["token", "issue", "--user", JOSE.1, "--data-dir", data.to_str().unwrap()], &[("JWT_SECRET", SECRET)]);
    let token = words(&token).trim().to_owned();
    assert_eq!(server.call(&token, "GET", "/api/v1/session", "").1["userId"], JOSE.0);
}

/// What a migrated store of format 7 has, in which both forms were people, rooms and lessons of their own.
fn look(server: &Appliance) {
    let admin = server.token("root", "admin");
    let get = |token: &str, path: &str| {
        let (status, answer) = server.call(token, "GET", path, "");
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    };
    // Rooms: both are there, the younger under a name of its own; one that was alone has its normal form.
    let rooms = get(&admin, "/api/v1/admin/rooms");
    assert_eq!(of_ids(&rooms, "roomId"), ["caf\u{e9}", "caf\u{e9}-2", "nuit", "priv\u{e9}", "\u{e9}lan"]);
    // Each is who they were by the token that they have; the name that the upgrade has given is nobody's to claim.
    let (jose, other) = (token_of(JOSE.0), token_of(JOSE.1));
    let (status, refused) = server.call(&token_of("jos\u{e9}-2"), "GET", "/api/v1/session", "");
    assert_eq!((status, &refused["error"]["code"]), (401, &"token_invalid".into()), "{refused}");
    assert!(refused["error"]["message"].as_str().unwrap().contains("give this one another id"), "{refused}");
    assert_eq!(get(&other, "/api/v1/session")["userId"], "jos\u{e9}-2");
    let page = |token: &str, room: &str| get(token, &format!("/api/v1/rooms/{}/messages", segment(room)));
    let elan = page(&jose, "e\u{301}lan");
    assert_eq!(contents(&page(&jose, CAFE.1)), ["composed 1", "composed 2"]);
    assert_eq!(contents(&page(&jose, "caf\u{e9}-2")), ["decomposed 1", "decomposed 2"]);
    assert_eq!(
        (contents(&elan), &elan["messages"][0]["senderId"]),
        (vec!["alone", "to be erased"], &"zo\u{e9}".into())
    );
    // People: nobody has the rights or the words of somebody else.
    let people = get(&admin, "/api/v1/admin/users");
    let expected = ["erased", "jos\u{e9}", "jos\u{e9}-2", "l\u{e9}o", "ren\u{e9}", "root", "zo\u{e9}"];
    let known: Vec<_> = of_ids(&people, "userId").into_iter().filter(|id| *id != "root").collect();
    assert_eq!(known, expected.into_iter().filter(|id| *id != "root").collect::<Vec<_>>());
    let private = page(&other, "prive\u{301}");
    assert_eq!(private["messages"][0]["senderId"], "jos\u{e9}-2");
    let change = |token: &str, room: &str, message: &Value| {
        let path = format!("/api/v1/rooms/{}/messages/{}", segment(room), message["id"]);
        server.call(token, "PATCH", &path, r#"{"content":"mine?"}"#).0
    };
    let of_other = page(&jose, "caf\u{e9}-2")["messages"][0].clone();
    assert_eq!(change(&jose, "caf\u{e9}-2", &of_other), 403, "what somebody else wrote is not theirs");
    // Lessons: what one person has done of both is one; of each its own.
    let lesson = |token: &str| {
        let path = format!("/api/v1/progress?lessonId={}", segment(LECON.1));
        let one = get(token, &path)["items"][0].clone();
        let (id, course) = (one["lessonId"].clone(), one["courseId"].clone());
        (id, course, one["progress"].clone(), one["timeSpent"].clone(), one["syncVersion"].clone())
    };
    let (id, summer) = (Value::from(LECON.0), Value::from("\u{e9}t\u{e9}"));
    assert_eq!(lesson(&jose), (id.clone(), summer, 40.into(), 22.into(), 3.into()));
    assert_eq!(lesson(&other), (id, Value::Null, 100.into(), 60.into(), 1.into()));
    let history = get(&jose, &format!("/api/v1/progress/{}/history", segment(LECON.0)));
    let versions = history["versions"].as_array().unwrap();
    let steps: Vec<_> = versions.iter().map(|one| (one["syncVersion"].as_u64(), one["timeSpent"].as_u64())).collect();
    let mut sorted = steps.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, [(Some(1), Some(10)), (Some(2), Some(15)), (Some(3), Some(22))]);
    // What shut out one form shuts out whoever signs in by it.
    let status = |user: &str| server.call(&token_of(user), "GET", "/api/v1/session", "").0;
    assert_eq!((status("rene\u{301}"), status("ren\u{e9}")), (403, 403));
    let mutes = get(&admin, "/api/v1/admin/mutes");
    let muted: Vec<_> = mutes["items"].as_array().unwrap().iter().map(|one| (&one["userId"], &one["roomId"])).collect();
    assert!(muted.contains(&(&"jos\u{e9}-2".into(), &"caf\u{e9}-2".into())), "{muted:?}");
    assert!(!muted.iter().any(|(user, _)| **user == "jos\u{e9}"), "somebody else's mute is not theirs: {muted:?}");
    assert!(muted.contains(&(&"zo\u{e9}".into(), &Value::Null)), "{muted:?}");
    let revoked = get(&admin, "/api/v1/admin/tokens/revoked");
    let told: Vec<_> = revoked["items"].as_array().unwrap().iter().map(|one| &one["userId"]).collect();
    assert_eq!(told, ["ren\u{e9}", "no\u{e9}"]);
    // Holds: nobody is held for somebody else.
    let holds = get(&admin, "/api/v1/admin/holds");
    let mut held: Vec<String> = holds["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            let subject = one["userId"].as_str().or(one["roomId"].as_str()).unwrap();
            format!("{} {} {subject}", one["number"], one["reason"].as_str().unwrap())
        })
        .collect();
    held.sort();
    assert_eq!(held, ["1 case 1 jos\u{e9}-2", "2 case 2 \u{e9}lan", "3 case 3 caf\u{e9}-2"]);
    // A certificate is found by both, and is what it was.
    let certificate = |user: &str| get(&admin, &format!("/api/v1/admin/users/{}/erasure", segment(user)));
    assert_eq!(certificate("le\u{301}a"), certificate("l\u{e9}a"));
    let hash = certificate("l\u{e9}a")["hash"].as_str().unwrap().to_owned();
    let trail = get(&admin, "/api/v1/admin/audit?action=user.erase");
    assert!(trail.to_string().contains(&hash), "the audit log has the same certificate: {trail}");
    // Notifications reach whom they named.
    let unread = |token: &str| get(token, "/api/v1/notifications")["unread"].as_u64().unwrap();
    assert_eq!((unread(&jose), unread(&other), unread(&server.token("zoe\u{301}", "learner"))), (1, 1, 1));
    let waiting = get(&admin, "/api/v1/admin/notifications");
    assert!(waiting.to_string().contains("zo\u{e9}") && !waiting.to_string().contains('\u{301}'), "{waiting}");
    // A repeat of a request of before is one.
    let path = format!("/api/v1/rooms/{}/messages", segment("caf\u{e9}-2"));
    let again = json!({ "content": "decomposed 1", "clientId": "k1" }).to_string();
    let (status, answer) = server.call(&other, "POST", &path, &again);
    assert_eq!((status, &answer["duplicate"]), (200, &true.into()), "{answer}");
    // The audit log says what has got another name.
    let trail = get(&admin, "/api/v1/admin/audit?action=db.upgrade");
    for name in ["caf\u{e9}-2", "jos\u{e9}-2"] {
        assert!(trail.to_string().contains(name), "{trail}");
    }
}

#[test]
fn a_store_of_before_keeps_everything_in_one_form() {
    let server = Appliance::start_in(of_fixture("format-7-forms"), &[]);
    look(&server);
    let dir = server.end();
    let data = dir.path().join("data");
    assert!(good(&academy(&data, &["db", "check"])).contains("is sound"));
    // The backup from before goes the same way, and what stands now stays.
    let before = data.join("backups").join(&names(&data.join("backups"))[0]);
    let said = good(&academy(&data, &["restore", before.to_str().unwrap()]));
    assert!(said.contains("caf\u{e9}-2") && said.contains("jos\u{e9}-2"), "{said}");
    let server = Appliance::start_in(dir, &[]);
    look(&server);
    let dir = server.end();
    assert!(good(&academy(&dir.path().join("data"), &["db", "check"])).contains("is sound"));
}

#[test]
fn an_upgrade_says_what_has_got_another_name() {
    let dir = of_fixture("format-7-forms");
    let data = dir.path().join("data");
    assert!(failed(&academy(&data, &["db", "check"])).contains("format 7"));
    let said = good(&academy(&data, &["db", "upgrade"]));
    let lines: Vec<_> = said.lines().skip(2).collect();
    let expected = [
        r"room café: cafe\u{301} was a room of its own, and is now café-2",
        r"user josé: jose\u{301} was a user of its own, and is now josé-2",
        r"lesson leçon: lec\u{327}on was a lesson of its own, and its progress is that of leçon",
    ];
    assert_eq!(lines, expected);
    assert!(good(&academy(&data, &["db", "check"])).contains("is sound"));
    let check = |path: &Path| good(&academy(path, &["db", "upgrade"]));
    assert!(check(&data).contains("nothing to do"));
}
