//! Examples at the end of each command's help and man page. Each of them parses: the tests see to it.

use clap::Command;

/// Each command with its examples: the words behind `academy-rt`.
const EXAMPLES: [(&str, &[&str]); 66] = [
    (
        "init",
        &[
            "init",
            "init --non-interactive --dir /etc/academy-rt --host rt.example.org --cors-origin https://academy.example.org",
        ],
    ),
    ("serve", &["serve", "serve --listen 127.0.0.1:8443 --data-dir ./data", "serve --dev --no-tls"]),
    (
        "token issue",
        &[
            "token issue --user 7 --role learner --ttl 8h",
            "token issue --user platform --scope 'broadcast notify' --ttl 90d",
        ],
    ),
    (
        "bench",
        &[
            "bench --dir /var/lib/academy-rt",
            "bench --find 50 --picture latency.svg",
            "bench return --clients 2000 --tls",
            "bench fanout --url https://rt.example.org --tokens tokens.txt --rate 20",
            "bench --url http://127.0.0.1:3000 --path /socket.io/ --tokens tokens.txt --pid 4711",
        ],
    ),
    ("token verify", &["token verify < token.txt"]),
    ("token revoke", &["token revoke --user 7", "token revoke --all --dry-run"]),
    ("token revoked", &["token revoked --output json"]),
    ("key new", &["key new keys/es256.pem --alg ES256"]),
    ("key list", &["key list"]),
    ("key rotate", &["key rotate --grace 24h"]),
    ("key retire", &["key retire 3f1c0a9be2d47788"]),
    (
        "broadcast",
        &[
            "broadcast system:notice '{\"text\":\"Bonjour\"}' --all",
            "broadcast lesson:reminder '{\"lessonId\":42}' --role learner",
        ],
    ),
    (
        "notify",
        &[
            "notify --all --title Maintenance --message 'Tonight at 22:00' --title-fr Entretien --message-fr 'Ce soir à 22 h'",
            "notify --user 7 --title 'New lesson' --message 'Lesson 42 is open' --link /lessons/42",
            "notify --all --title Maintenance --message 'Tonight at 22:00' --at '2026-12-24 18:00' --until '2026-12-24 23:30'",
        ],
    ),
    ("notify list", &["notify list", "notify list --state scheduled"]),
    ("notify readers", &["notify readers 1042 --unread"]),
    ("notify recall", &["notify recall 1042 --reason 'wrong date'"]),
    ("backup", &["backup --to /var/backups/academy-rt --keep 14", "backup before-the-upgrade.backup"]),
    ("backup verify", &["backup verify before-the-upgrade.backup --drill"]),
    (
        "restore",
        &[
            "restore before-the-upgrade.backup --dry-run",
            "restore /mnt/share/academy-rt --to 2026-11-23T17:10:55Z",
            "restore --undo",
        ],
    ),
    ("db check", &["db check"]),
    ("db stats", &["db stats --output json"]),
    ("db compact", &["db compact"]),
    ("db upgrade", &["db upgrade"]),
    ("room list", &["room list french"]),
    ("room show", &["room show staff"]),
    ("room create", &["room create staff --name Staff --private --member 7 --moderator 8"]),
    ("room set", &["room set staff --name 'All staff' --open"]),
    ("room import", &["room import rooms.csv --dry-run", "room import rooms.csv --keep-going"]),
    (
        "room export",
        &[
            "room export staff --file staff.html --lang fr",
            "room export staff --since 2026-09-01 --until 2026-10-01 > staff.jsonl",
        ],
    ),
    ("room lock", &["room lock room-123 --reason 'case 12'"]),
    ("room unlock", &["room unlock room-123"]),
    ("room slow", &["room slow room-123 30s", "room slow room-123 0"]),
    ("room delete", &["room delete room-123 --dry-run", "room delete room-123 --yes"]),
    ("room member add", &["room member add staff 7 --moderator"]),
    ("room member remove", &["room member remove staff 7"]),
    ("history", &["history room-123 --limit 20", "history room-123 --follow"]),
    ("message show", &["message show 1234"]),
    ("message delete", &["message delete 1234 --reason 'case 12'"]),
    ("report list", &["report list", "report list --room room-123 --all"]),
    ("report resolve", &["report resolve 1234 --note 'talked to the sender'"]),
    ("user list", &["user list ann", "user list --online --output json"]),
    ("user show", &["user show 7"]),
    ("user diagnose", &["user diagnose 7"]),
    ("user block", &["user block 7 --reason 'case 12'"]),
    ("user unblock", &["user unblock 7"]),
    ("user mute", &["user mute 7 --room room-123 --for 2h --reason 'case 12'"]),
    ("user unmute", &["user unmute 7 --room room-123"]),
    ("user disconnect", &["user disconnect 7"]),
    ("user export", &["user export 7 --file ann.json"]),
    ("user erase", &["user erase 7 --dry-run", "user erase 7 --yes"]),
    ("user certificate", &["user certificate 7 --output json"]),
    ("hold set", &["hold set --room room-123 --reason 'case 12'"]),
    ("hold list", &["hold list"]),
    ("webhook list", &["webhook list"]),
    ("webhook test", &["webhook test"]),
    ("webhook replay", &["webhook replay --all", "webhook replay --id msg_3f1c0a9b_1_1042"]),
    (
        "webhook secret",
        &["webhook secret /etc/academy-rt/webhook-secrets", "webhook secret /etc/academy-rt/webhook-secrets --add"],
    ),
    ("hold release", &["hold release --room room-123 --number 2"]),
    ("audit list", &["audit list --since 7d --by ann --action user", "audit list --target 'room staff' --limit 200"]),
    ("audit export", &["audit export audit.jsonl"]),
    ("audit verify", &["audit verify audit.jsonl"]),
    ("status", &["status", "status --watch 5"]),
    ("doctor", &["doctor", "doctor --url https://rt.example.org --bundle support.tar.gz"]),
    ("config check", &["config check --config /etc/academy-rt/academy-rt.toml"]),
    ("config show", &["config show --output json"]),
    ("completions", &["completions bash > /usr/share/bash-completion/completions/academy-rt"]),
];

/// A command tree with its examples.
#[must_use]
pub fn with_examples(command: Command) -> Command {
    EXAMPLES.iter().fold(command, |command, (path, examples)| add(command, path, examples))
}

fn add(command: Command, path: &str, examples: &[&str]) -> Command {
    match path.split_once(' ') {
        Some((group, rest)) if command.find_subcommand(group).is_some() => {
            command.mut_subcommand(group, |sub| add(sub, rest, examples))
        }
        None if command.find_subcommand(path).is_some() => command.mut_subcommand(path, |sub| {
            let title = if examples.len() == 1 { "Example" } else { "Examples" };
            let lines: Vec<String> = examples.iter().map(|example| format!("  academy-rt {example}")).collect();
            let before = sub.get_after_long_help().map(|text| format!("{text}\n\n")).unwrap_or_default();
            sub.after_long_help(format!("{before}{title}:\n{}", lines.join("\n")))
        }),
        _ => command,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(command: &Command, path: &str, all: &mut Vec<String>) {
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help" && !sub.is_hide_set()) {
            let path = format!("{path} {}", sub.get_name()).trim().to_owned();
            if !sub.has_subcommands() || !sub.is_subcommand_required_set() {
                all.push(path.clone());
            }
            leaves(sub, &path, all);
        }
    }

    /// The words of a line as a shell gives them, up to a redirection.
    fn words(line: &str) -> Vec<String> {
        let (mut words, mut word, mut is_quoted) = (vec!["academy-rt".to_owned()], String::new(), false);
        for char in line.chars() {
            match char {
                '\'' => is_quoted = !is_quoted,
                ' ' if !is_quoted => words.push(std::mem::take(&mut word)),
                _ => word.push(char),
            }
        }
        words.push(word);
        let end = words.iter().position(|word| word == "<" || word == ">").unwrap_or(words.len());
        words.truncate(end);
        words
    }

    #[test]
    fn every_command_has_examples_that_parse() {
        let command = crate::cli::command();
        let mut all = Vec::new();
        leaves(&command, "", &mut all);
        for path in &all {
            let has = EXAMPLES.iter().any(|(known, examples)| known == path && !examples.is_empty());
            assert!(has || path == "config default", "write an example for '{path}'");
        }
        for (path, examples) in EXAMPLES {
            assert!(all.iter().any(|known| known == path), "there is no command '{path}'");
            for example in examples {
                assert!(example.starts_with(path), "{example}");
                let parsed = command.clone().try_get_matches_from(words(example));
                assert!(parsed.is_ok(), "{example}: {}", parsed.unwrap_err());
            }
        }
        let help = command.clone().find_subcommand_mut("backup").unwrap().render_long_help().to_string();
        assert!(help.contains("Examples:\n  academy-rt backup --to "), "{help}");
    }
}
