//! The questions of a day: who did what in the audit log, who is here, why somebody is not served.

use serde_json::Value;

use crate::backup::{academy, good};
use crate::connections::signed_in;
use crate::harness::{Appliance, until, words};

#[test]
fn the_audit_log_is_searched_by_time_person_action_and_target() {
    let server = Appliance::start();
    let (root, other) = (server.token("1", "admin"), server.token("2", "admin"));
    let block = |token: &str, user: &str, reason: &str| {
        let body = format!("{{\"reason\":\"{reason}\"}}");
        assert_eq!(server.call(token, "POST", &format!("/api/v1/admin/users/{user}/block"), &body).0, 200);
    };
    block(&root, "70", "first of all");
    // More than one page of the search lies between.
    for n in 0..1_050 {
        let body = format!("{{\"action\":\"backup\",\"target\":\"night {n}\",\"outcome\":\"done\"}}");
        assert_eq!(server.call(&root, "POST", "/api/v1/admin/audit", &body).0, 200);
    }
    block(&other, "71", "second");
    assert_eq!(server.call(&other, "POST", "/api/v1/admin/users/71/unblock", "{}").0, 200);

    let data = server.data();
    let list = |args: &[&str]| good(&academy(&data, &[&["audit", "list"], args].concat()));
    let lines = |text: &str| text.lines().filter(|line| line.contains(" from ")).map(str::to_owned).collect::<Vec<_>>();
    let users = lines(&list(&["--action", "user"]));
    assert_eq!(users.len(), 3, "{users:?}");
    assert!(
        users[0].contains("user.block (user 70): done: first of all") && users[2].contains("user.unblock (user 71)")
    );
    assert_eq!(lines(&list(&["--action", "user.block"])).len(), 2);
    assert!(list(&["--action", "use"]).contains("no record fits"), "a part of a word is no group");
    assert_eq!(lines(&list(&["--action", "user", "--target", "USER 71"])).len(), 2);
    assert!(lines(&list(&["--action", "user.block", "--by", "127.0.0.1", "--since", "1h"])).len() == 2);
    assert_eq!(lines(&list(&["--target", "user 7", "--limit", "2"])).len(), 2);
    assert!(list(&["--target", "user 7", "--limit", "2"]).starts_with("there may be older ones"));
    assert!(list(&["--until", "1h"]).contains("no record fits"));
    assert!(list(&["--since", "2100-01-01T00:00:00Z"]).contains("no record fits"));
    for (args, told) in [
        (["--since", "yesterday", "--by", "1"], "Write an age such as 7d"),
        (["--after", "3", "--by", "1"], "cannot be used with"),
    ] {
        let refused = academy(&data, &[&["audit", "list"], &args[..]].concat());
        assert!(refused.status.code() == Some(2) && words(&refused).contains(told), "{}", words(&refused));
    }

    // Page by page over HTTP: each record once, the newest first.
    let (mut before, mut seen) = (String::new(), Vec::new());
    loop {
        let (status, page) =
            server.call(&root, "GET", &format!("/api/v1/admin/audit?target=night&limit=400{before}"), "");
        assert_eq!(status, 200, "{page}");
        seen.extend(page["items"].as_array().unwrap().iter().map(|one| one["number"].as_u64().unwrap()));
        let Some(next) = page["next"].as_u64() else { break };
        before = format!("&before={next}");
    }
    assert_eq!(seen.len(), 1_050);
    assert!(seen.windows(2).all(|two| two[0] > two[1]));
    for query in ["by=1&after=3", "by=1&export=true", "since=soon", "before=-1"] {
        let (status, answer) = server.call(&root, "GET", &format!("/api/v1/admin/audit?{query}"), "");
        assert_eq!((status, &answer["error"]["code"]), (400, &"invalid_payload".into()), "{query}");
    }
    assert_eq!(server.call(&server.token("7", "learner"), "GET", "/api/v1/admin/audit?by=1", "").0, 403);
    // Without a server, too.
    let dir = server.end();
    assert_eq!(lines(&list(&["--action", "user"])).len(), 3);
    drop(dir);
}

#[test]
fn who_is_online_is_listed_page_by_page() {
    let server = Appliance::start();
    let (root, data) = (server.token("1", "admin"), server.data());
    assert_eq!(server.call(&server.token("9", "learner"), "GET", "/api/v1/session", "").0, 200);
    let online = || good(&academy(&data, &["user", "list", "--online"]));
    assert!(online().contains("no user is online"), "{}", online());
    let _here: Vec<_> = ["7", "8", "10"].map(|user| signed_in(server.port, &server.token(user, "learner"))).into();
    until("three are here", || online().lines().count() == 3);
    assert!(!online().contains("never connected") && online().contains("1 connections"));
    let (mut after, mut seen) = (String::new(), Vec::new());
    loop {
        let (_, page) = server.call(&root, "GET", &format!("/api/v1/admin/users?online=true&limit=1{after}"), "");
        seen.extend(page["items"].as_array().unwrap().iter().map(|one| one["userId"].as_u64().unwrap()));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(seen, [10, 7, 8], "in the order of their ids as text");
    let (_, none) = server.call(&root, "GET", "/api/v1/admin/users?online=true&text=nobody", "");
    assert_eq!(none["items"], Value::Array(Vec::new()));
    assert_eq!(server.call(&root, "GET", "/api/v1/admin/users?online=perhaps", "").0, 400);
}

#[test]
fn why_somebody_is_not_served_is_told_with_what_to_do() {
    let env = [
        ("ACADEMY_RT_LIMITS_JOINS_PER_SECOND", "1"),
        ("ACADEMY_RT_LIMITS_MESSAGES_PER_SECOND", "1"),
        ("ACADEMY_RT_LIMITS_MESSAGE_BURST", "1"),
    ];
    let server = Appliance::start_in(tempfile::tempdir().unwrap(), &env);
    let (root, ann, data) = (server.token("1", "admin"), server.token("7", "learner"), server.data());
    let told = || good(&academy(&data, &["user", "diagnose", "7"]));
    assert!(told().contains("nobody has come with this ID") && told().contains("nothing was refused"), "{}", told());
    let here = signed_in(server.port, &ann);
    until("the socket is seen", || told().contains("connection 1: websocket from 127.0.0.1"));
    let say = || server.call(&ann, "POST", "/api/v1/rooms/french/messages", "{\"content\":\"a secret\"}").0;
    until("a message is one too many", || say() == 429);
    let words = told();
    assert!(words.contains("POST /api/v1/rooms/french/messages from 127.0.0.1, 1 times: rate_limited"), "{words}");
    assert!(!words.contains("a secret"));
    let (_, status) = server.call(&root, "GET", "/api/v1/admin/status", "");
    assert_eq!(
        (&status["busiestRooms"][0]["roomId"], &status["refusedUsers"][0]["userId"]),
        (&"french".into(), &7.into())
    );
    let screen = good(&academy(&data, &["status"]));
    assert!(screen.contains("busiest      french (1 messages a minute, 0 sockets)"), "{screen}");
    assert!(screen.contains("refused last user 7 (POST /api/v1/rooms/french/messages, rate_limited)"), "{screen}");
    drop(here);
    assert_eq!(server.call(&root, "POST", "/api/v1/admin/users/7/block", "{\"reason\":\"case 12\"}").0, 200);
    assert_eq!(server.call(&ann, "GET", "/api/v1/session", "").0, 403);
    until("the socket has gone", || told().contains("not connected by Socket.IO"));
    let words = told();
    assert!(words.contains("BLOCKED since ") && words.contains(" by 1; academy-rt user unblock"), "{words}");
    assert!(words.contains("done: case 12 (record "), "{words}");
    assert!(words.contains("refused ") && words.contains("sign-in from 127.0.0.1, 1 times: user_blocked"), "{words}");
    // As JSON it has the shape of every answer.
    let json = academy(&data, &["--output", "json", "user", "diagnose", "7"]);
    let answer: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&answer["ok"], &answer["bans"][0]["kind"]), (&true.into(), &"block".into()));
    assert_eq!(server.call(&server.token("8", "learner"), "GET", "/api/v1/admin/users/7/diagnosis", "").0, 403);
    // Who is erased is forgotten here as well.
    assert_eq!(server.call(&root, "DELETE", "/api/v1/admin/users/7?consent=true", "").0, 200);
    until("nothing is known", || told().contains("nothing was refused"));
}

/// The commands whose standard output is a stream of data and no answer: with an error, its last line is one.
const STREAMS: [&str; 5] = ["serve", "completions", "man", "config default", "history"];

/// Each command as it is run beside a server and as it is run behind it, in the order in which they are run; `FILE` is a new name each
/// time, `BACKUP` a backup.
const COMMANDS: [&str; 67] = [
    "bench idle --clients 3 --seconds 1",
    "sdk FILE",
    "init --non-interactive --dir FILE --host localhost",
    "token issue --user 7",
    "token verify TOKEN",
    "token revoke --user 9",
    "token revoked",
    "key new FILE",
    "key list",
    "key rotate",
    "key retire KEY",
    "broadcast tick {} --all",
    "notify --user 7 --title T --message M",
    "notify --user 7 --title T --message M --at +2h --until +3h",
    "notify list --state scheduled",
    "notify readers NOTICE",
    "notify recall NOTICE",
    "backup FILE",
    "backup verify BACKUP",
    "room list",
    "room create staff",
    "room show staff",
    "room set staff --name Staff",
    "room lock staff",
    "room unlock staff",
    "room slow staff 30s",
    "room import CSV",
    "room export staff --file FILE",
    "message show MESSAGE",
    "report list",
    "report resolve REPORT",
    "message delete MESSAGE --yes",
    "room member add staff 7",
    "room member remove staff 7",
    "room delete staff --yes",
    "user list",
    "user show 7",
    "user diagnose 7",
    "user block 9",
    "user unblock 9",
    "user mute 9 --for 1h",
    "user unmute 9",
    "user disconnect 9",
    "user export 7 --file FILE",
    "webhook secret FILE",
    "webhook list",
    "webhook test",
    "webhook replay --all",
    "hold set --user 7 --reason why",
    "hold list",
    "hold release --user 7",
    "user erase 7 --yes",
    "user certificate 7",
    "audit list",
    "audit list --by nobody",
    "audit export FILE",
    "audit verify",
    "status",
    "doctor",
    "config check",
    "config show",
    "db stats",
    "db check",
    "db compact",
    "db upgrade",
    "restore BACKUP",
    "restore --undo",
];

fn leaves(command: &clap::Command, path: &str, all: &mut Vec<String>) {
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        let path = format!("{path} {}", sub.get_name()).trim().to_owned();
        let is_group = sub.get_subcommands().any(|sub| sub.get_name() != "help");
        if !is_group || !sub.is_subcommand_required_set() {
            all.push(path.clone());
        }
        leaves(sub, &path, all);
    }
}

#[test]
fn every_command_answers_programs_in_one_shape_also_with_an_error() {
    let mut all = Vec::new();
    leaves(&academy_rt::cli::command(), "", &mut all);
    for command in &all {
        let is_tried = COMMANDS.iter().any(|tried| *tried == command || tried.starts_with(&format!("{command} ")));
        assert!(is_tried || STREAMS.contains(&command.as_str()), "write how '{command}' is run");
    }
    let answer_of = |output: &std::process::Output, what: &str| -> Value {
        let text = String::from_utf8(output.stdout.clone()).unwrap();
        let answer: Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{what}: {error}: {}", words(output)));
        assert_eq!(answer["ok"].as_bool(), Some(output.status.success()), "{what}: {}", words(output));
        if answer["ok"] == false && output.status.code() != Some(3) {
            let told = ["code", "message", "why", "remedy"]
                .map(|name| answer["error"][name].as_str().unwrap_or_default().is_empty());
            assert_eq!(told, [false; 4], "{what}: {text}");
        }
        answer
    };
    let server = crate::backup::lived_in();
    let (data, scratch) = (server.data(), tempfile::tempdir().unwrap());
    let backup = scratch.path().join("whole.backup");
    good(&academy(&data, &["backup", backup.to_str().unwrap()]));
    let token = server.token("7", "learner");
    let csv = scratch.path().join("rooms.csv");
    std::fs::write(&csv, "roomId,userId\nimported,7\n").unwrap();
    let message = server.say(&token, "french", "one message").to_string();
    let report = format!("/api/v1/rooms/french/messages/{message}/report");
    let report = server.call(&token, "POST", &report, r#"{"reason":"why"}"#).1["reportId"].to_string();
    let kid = |data: &std::path::Path| {
        let answer = answer_of(&academy(data, &["--output", "json", "key", "list"]), "key list");
        answer["keys"][0]["kids"][0].as_str().unwrap_or("none").to_owned()
    };
    let run_all = |server: Option<&Appliance>| {
        let mut wrong = Vec::new();
        for (n, command) in COMMANDS.iter().enumerate() {
            let is_offline =
                ["db check", "db compact", "db upgrade", "restore"].iter().any(|one| command.starts_with(one));
            let file = scratch.path().join(format!("{n}-{}", server.is_some())).to_str().unwrap().to_owned();
            let kid = if command.contains("KEY") { kid(&data) } else { String::new() };
            let args = command.split(' ').map(|arg| match arg {
                "FILE" => file.clone(),
                "BACKUP" => backup.to_str().unwrap().to_owned(),
                "TOKEN" => token.clone(),
                "CSV" => csv.to_str().unwrap().to_owned(),
                "MESSAGE" => message.clone(),
                "REPORT" => report.clone(),
                "NOTICE" => {
                    let list = academy(&data, &["--output", "json", "notify", "list", "--state", "scheduled"]);
                    answer_of(&list, "notify list")["items"][0]["id"].to_string()
                }
                "KEY" => kid.clone(),
                other => other.to_owned(),
            });
            let args: Vec<String> = ["--output".to_owned(), "json".to_owned()].into_iter().chain(args).collect();
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let output = match command.split(' ').next() {
                // These take no data directory.
                Some("init") | Some("config") => {
                    crate::harness::run(&args, &[("ACADEMY_RT_STORAGE_DATA_DIR", data.to_str().unwrap())])
                }
                _ if ["backup verify", "bench", "key new", "sdk", "webhook secret"]
                    .iter()
                    .any(|one| command.starts_with(one)) =>
                {
                    crate::harness::run(&args, &[])
                }
                _ => academy(&data, &args),
            };
            let answer = answer_of(&output, command);
            // Beside a server everything goes that needs none to be stopped, and the other way round.
            let goes = if server.is_some() { !is_offline } else { is_offline };
            let may_find = ["doctor", "key ", "token verify", "config check", "webhook test"]
                .iter()
                .any(|one| command.starts_with(one));
            if answer["ok"] != true && goes && !may_find {
                wrong.push(format!("{command}: {}", words(&output)));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    };
    run_all(Some(&server));
    let dir = server.end();
    run_all(None);
    // A refusal has the server's code, wrong usage its own.
    let gone = answer_of(&academy(&data, &["--output", "json", "user", "show", "nobody"]), "user show");
    assert_eq!(gone["error"]["code"], "not_found");
    for args in [
        &["--output", "json", "user", "shoe"][..],
        &["--output=json", "room", "create"],
        &["audit", "list", "--since", "x", "--output", "json"],
    ] {
        let output = crate::harness::run(args, &[]);
        assert_eq!(
            (&answer_of(&output, args[2])["error"]["code"], output.status.code()),
            (&"usage".into(), Some(2)),
            "{args:?}"
        );
    }
    drop(dir);
}

/// A name that is no text in UTF-8.
fn no_text(dir: &std::path::Path, name: &str) -> std::ffi::OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut bytes = dir.join(name).as_os_str().as_bytes().to_vec();
    bytes.extend([0xff, 0xfe]);
    std::ffi::OsString::from_vec(bytes)
}

#[test]
fn names_that_are_no_text_and_outputs_that_take_nothing_are_told_and_nothing_panics() {
    let server = crate::backup::lived_in();
    let (data, scratch) = (server.data(), tempfile::tempdir().unwrap());
    let data = data.to_str().unwrap();
    let command = |args: &[&str]| crate::harness::command(args, &[("JWT_SECRET", crate::harness::SECRET)]);
    let commands: [&[&str]; 15] = [
        &["backup", "NAME", "--data-dir", data],
        &["--output", "json", "backup", "NAME2", "--data-dir", data],
        &["backup", "verify", "NAME"],
        &["restore", "NAME"],
        &["--output", "json", "user", "export", "7", "--data-dir", data, "--file", "NAME"],
        &["--output", "json", "audit", "export", "--data-dir", data, "NAME"],
        &["--output", "json", "room", "export", "french", "--data-dir", data, "--file", "NAME"],
        &["audit", "verify", "NAME"],
        &["--output", "json", "doctor", "--data-dir", data, "--bundle", "NAME"],
        &["--output", "json", "key", "new", "NAME"],
        &["status", "--data-dir", "NAME"],
        &["status", "--config", "NAME"],
        &["init", "--non-interactive", "--dir", "NAME"],
        &["--output", "json", "no-such-command", "NAME"],
        &["token", "verify", "NAME"],
    ];
    for (n, args) in commands.iter().enumerate() {
        let is_made = n < 2 || args.contains(&"export") || args.contains(&"doctor");
        let name = if args.contains(&"verify") { "0" } else { &n.to_string() };
        let mut command = command(&[]);
        command.args(
            args.iter().map(|arg| if arg.starts_with("NAME") { no_text(scratch.path(), name) } else { arg.into() }),
        );
        let output = command.output().unwrap();
        assert!(!words(&output).contains("panicked"), "{args:?}: {}", words(&output));
        assert!(matches!(output.status.code(), Some(0..=3)), "{args:?}: {}", words(&output));
        // What takes any name is done; what cannot keep it says so and leaves nothing.
        let path = std::path::PathBuf::from(no_text(scratch.path(), name));
        assert_eq!(path.exists(), is_made || name == "0", "{args:?}: {}", words(&output));
        if args.contains(&"json") {
            let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert!(answer["ok"].is_boolean(), "{args:?}");
        }
    }
    // An output that is full is an error of its own, whatever writes to it.
    for args in [
        &["status", "--data-dir", data][..],
        &["--output", "json", "user", "list", "--data-dir", data],
        &["user", "export", "7", "--data-dir", data],
        &["audit", "export", "--data-dir", data],
        &["history", "french", "--data-dir", data],
        &["config", "default"],
        &["completions", "bash"],
        &["--help"],
    ] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = command(args).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {}", words(&output));
        assert!(
            args == ["--help"] || words(&output).contains("No space left on device"),
            "{args:?}: {}",
            words(&output)
        );
        assert!(!words(&output).contains("the reason is unknown"), "{args:?}: {}", words(&output));
    }
}
