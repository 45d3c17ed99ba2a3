//! Transcripts of rooms, and rooms from a file, by the command line and over HTTP.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::backup::{academy, failed, good};
use crate::harness::{Appliance, words};

/// The SHA-256 of all lines but the last, as the page and the manual say it is checked.
fn hash_above(file: &std::path::Path) -> String {
    let command = format!("head -n -1 '{}' | sha256sum", file.display());
    let output = std::process::Command::new("sh").args(["-c", &command]).output().unwrap();
    words(&output).split(' ').next().unwrap().to_owned()
}

#[test]
fn a_transcript_has_the_room_of_one_period_with_its_hash_and_a_record() {
    let server = Appliance::start();
    let (data, ann, root) = (server.data(), server.token("7", "learner"), server.token("1", "admin"));
    let body = r#"{"roomId":"staff","name":"</title><script>x</script>","private":true,"members":[7]}"#;
    assert_eq!(server.call(&root, "POST", "/api/v1/admin/rooms", body).0, 200);
    server.say(&ann, "staff", "<img src=x onerror=alert(1)> \u{202e}abc");
    let gone = server.say(&ann, "staff", "to be deleted");
    let kept = server.say(&ann, "staff", "to be changed");
    for n in 0..400 {
        server.say(&ann, "staff", &format!("message {n} {}", "long ".repeat(50)));
    }
    good(&academy(&data, &["hold", "set", "--room", "staff", "--reason", "case 12"]));
    good(&academy(&data, &["message", "delete", &gone.to_string(), "--yes"]));
    let path = format!("/api/v1/rooms/staff/messages/{kept}");
    assert_eq!(server.call(&ann, "PATCH", &path, r#"{"content":"changed"}"#).0, 200);

    let file = |name: &str| server.dir.path().join(name);
    let lines = file("staff.jsonl");
    let said = good(&academy(&data, &["room", "export", "staff", "--file", lines.to_str().unwrap()]));
    assert!(said.contains("the transcript of room staff is in"), "{said}");
    assert_eq!(fs::metadata(&lines).unwrap().permissions().mode() & 0o777, 0o600);
    let read = |file: &std::path::Path| -> Vec<Value> {
        let text = fs::read_to_string(file).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let all = read(&lines);
    assert_eq!(
        (all.len(), &all[0]["record"], &all[0]["roomId"], &all[0]["private"]),
        (405, &"room".into(), &"staff".into(), &true.into())
    );
    assert!(all[0]["exportedBy"].as_str().unwrap().starts_with("system, "), "{}", all[0]);
    let end = all.last().unwrap();
    assert_eq!((&end["messages"], &end["edited"], &end["deleted"]), (&403.into(), &1.into(), &1.into()));
    assert_eq!(end["sha256"], hash_above(&lines));
    assert_eq!(
        (&all[2]["deletedBy"], &all[2]["content"], all[2].get("versions")),
        (&"system".into(), &"".into(), None)
    );
    // There already: it is left alone.
    assert!(
        failed(&academy(&data, &["room", "export", "staff", "--file", lines.to_str().unwrap()]))
            .contains("cannot be written")
    );
    assert_eq!(read(&lines).len(), 405);

    // What a hold keeps, where it is asked for.
    let held = file("held.jsonl");
    good(&academy(&data, &["room", "export", "staff", "--versions", "-f", held.to_str().unwrap()]));
    assert_eq!(read(&held)[2]["versions"][0]["content"], "to be deleted");

    // A page, in either language, by the name of the file.
    let page = file("staff.html");
    good(&academy(&data, &["room", "export", "staff", "--lang", "fr", "-f", page.to_str().unwrap()]));
    let text = fs::read_to_string(&page).unwrap();
    assert!(
        text.starts_with("<!DOCTYPE html>") && text.contains("lang=\"fr\"") && text.ends_with("</html>\n"),
        "{text}"
    );
    assert!(text.contains(&hash_above(&page)) && text.contains("Messages\u{a0}: 403"));
    assert!(text.contains("Supprimé") && text.contains("&lt;img src=x onerror=alert(1)&gt; [U+202E]abc"));
    // In French no mark of two parts follows a letter: in the page's own words a space that breaks no line stands before it.
    let own_words = text.split("<p dir=\"auto\">").enumerate().map(|(nth, part)| match nth {
        0 => part,
        _ => part.split_once("</p>").map_or("", |(_, rest)| rest),
    });
    let own_words: String = own_words.collect::<String>().split_once("</style>").unwrap().1.to_owned();
    let letters: Vec<char> = own_words.chars().collect();
    for three in letters.windows(3) {
        let is_time = three[0].is_ascii_digit() && three[2].is_ascii_digit();
        let is_french = match three[1] {
            ':' => is_time || three[0] == '\u{a0}',
            '?' | '!' => three[0] == '\u{202f}',
            _ => true,
        };
        assert!(is_french, "{three:?} in {own_words}");
    }
    for foreign in ["<script", "<img", "http-equiv=\"refresh", "src=\"", "href=", "\u{202e}", "to be deleted"] {
        assert!(!text.contains(foreign), "{foreign}");
    }

    // A period, on standard output; of a time that is over nothing was said.
    let output = academy(&data, &["room", "export", "staff", "--until", "2020-01-01"]);
    let text = good(&output);
    assert!(text.contains("\"messages\":0") && text.lines().count() == 2, "{text}");
    let from = all[3]["timestamp"].to_string();
    let text = good(&academy(&data, &["room", "export", "staff", "--since", &from]));
    assert!(text.contains("changed") && text.contains("message 399") && !text.contains("onerror"), "{text}");
    let wrong = academy(&data, &["room", "export", "staff", "--since", "yesterday"]);
    assert_eq!(wrong.status.code(), Some(2), "{}", words(&wrong));

    // Over HTTP.
    let export = "/api/v1/admin/rooms/staff/export";
    let answer = server.try_call(&root, "GET", &format!("{export}?format=html&lang=en")).unwrap();
    let (head, _) = answer.split_once("\r\n\r\n").unwrap();
    let head = head.to_ascii_lowercase();
    for part in
        [" 200 ", "content-type: text/html; charset=utf-8", "content-disposition: attachment", "nosniff", "no-store"]
    {
        assert!(head.contains(part), "{part} is not in {head}");
    }
    assert!(answer.contains("Transcript of a chat room") && answer.contains("Exported"));
    for (path, expected) in [
        ("/api/v1/admin/rooms/nowhere/export".to_owned(), (404, "not_found")),
        (format!("{export}?format=pdf"), (400, "invalid_payload")),
        (format!("{export}?lang=de"), (400, "invalid_payload")),
        (format!("{export}?since=5&until=5"), (400, "invalid_payload")),
    ] {
        let (status, answer) = server.call(&root, "GET", &path, "");
        assert_eq!((status, answer["error"]["code"].as_str().unwrap()), expected, "{path}: {answer}");
    }
    assert_eq!(server.call(&ann, "GET", export, "").0, 403);
    let log = good(&academy(&data, &["audit", "list"]));
    assert!(
        log.contains("room.export (room staff): done")
            && log.contains("room.export (room staff, with withheld versions): done"),
        "{log}"
    );
    let _dir = server.end();
    assert!(good(&academy(&data, &["room", "export", "staff"])).contains("message 399"), "without a server, too");
}

#[test]
fn rooms_come_from_a_file_and_a_second_time_nothing_changes() {
    let server = Appliance::start();
    let (data, root) = (server.data(), server.token("1", "admin"));
    let file = server.dir.path().join("rooms.csv");
    let import = |text: &str, more: &[&str]| {
        fs::write(&file, text).unwrap();
        academy(&data, &[&["--output", "json", "room", "import", file.to_str().unwrap()], more].concat())
    };
    let json = |output: &std::process::Output| -> Value { serde_json::from_slice(&output.stdout).unwrap() };
    let rooms = || server.call(&root, "GET", "/api/v1/admin/rooms", "").1["items"].as_array().unwrap().len();

    // One line is wrong: nothing is done, and each is told.
    let bad = "roomId,name,private,userId\na1,A1,true,7\nb1,B1,perhaps,8\n,C1,true,9\n";
    fs::write(&file, bad).unwrap();
    let said = failed(&academy(&data, &["room", "import", file.to_str().unwrap()]));
    assert!(
        said.contains("line 3: private must be")
            && said.contains("line 4: it names no roomId")
            && said.contains("2 lines are wrong"),
        "{said}"
    );
    assert_eq!(rooms(), 0);

    let text = "roomId,name,private,userId,userId\na1,French A1,true,7,8\n5,,,\na1,,,9,7\n";
    let dry = import(text, &["--dry-run"]);
    good(&dry);
    assert_eq!((&json(&dry)["created"], rooms()), (&2.into(), 0));
    let first = import(text, &[]);
    good(&first);
    let answer = json(&first);
    assert_eq!((&answer["ok"], &answer["created"], &answer["rooms"][0]["added"]), (&true.into(), &2.into(), &3.into()));
    let (_, room) = server.call(&root, "GET", "/api/v1/admin/rooms/a1", "");
    assert_eq!((&room["name"], &room["private"], &room["members"]), (&"French A1".into(), &true.into(), &3.into()));
    let records = || good(&academy(&data, &["audit", "list"])).matches(": room.").count();
    let before = records();
    let again = json(&import(text, &[]));
    assert_eq!((&again["unchanged"], &again["created"], &again["changed"]), (&2.into(), &0.into(), &0.into()));
    assert_eq!(records(), before, "nothing was asked for");

    // A role stays, somebody comes, the name changes; who is not in the file stays.
    assert_eq!(server.call(&root, "PUT", "/api/v1/admin/rooms/a1/members/7", r#"{"role":"moderator"}"#).0, 200);
    let changed = json(&import("roomId;name;userId\na1;Français A1;7;10\n", &[]));
    assert_eq!((&changed["changed"], &changed["rooms"][0]["added"]), (&1.into(), &1.into()));
    let (_, room) = server.call(&root, "GET", "/api/v1/admin/rooms/a1", "");
    let role = room["items"].as_array().unwrap().iter().find(|member| member["userId"] == 7).unwrap()["role"].clone();
    assert_eq!(
        (&room["name"], &room["private"], &room["members"], role),
        (&"Français A1".into(), &true.into(), &4.into(), "moderator".into())
    );

    // With the wrong lines skipped, the rest is done, and the exit status says that something was not.
    let kept = import(bad, &["--keep-going"]);
    assert_eq!(kept.status.code(), Some(3), "{}", words(&kept));
    let kept = json(&kept);
    assert_eq!((&kept["ok"], kept["wrong"].as_array().unwrap().len(), &kept["changed"]), (&false.into(), 2, &1.into()));
    let _dir = server.end();
    let offline = import("roomId,userId\noffline,7\n", &[]);
    assert_eq!(json(&offline)["created"], 1, "without a server, too: {}", words(&offline));
}
