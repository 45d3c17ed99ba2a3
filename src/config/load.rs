//! Reads the sources in their order and reports errors with their exact place.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::domain::nearest;

use super::{Config, ForwardTarget, Given, KEYS, Key, TlsMode};

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The value was not set.
    Default,
    /// The configuration file.
    File {
        /// Which one.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// The environment.
    Env(String),
    /// The command line.
    Flag(&'static str),
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
            Origin::Env(name) => write!(f, "environment {name}"),
            Origin::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// What is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The file is not TOML.
    #[error("{}:{line}: {reason}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What the parser said.
        reason: String,
    },
    /// There is no such key.
    #[error("{origin}: there is no key '{key}'{}", nearest.as_ref().map(|n| format!("; did you mean '{n}'?")).unwrap_or_default())]
    UnknownKey {
        /// Where it stands.
        origin: Origin,
        /// What was written.
        key: String,
        /// The nearest key there is.
        nearest: Option<String>,
    },
    /// A value is not what it must be.
    #[error("{origin}: {key} {reason}")]
    BadValue {
        /// Where it stands.
        origin: Origin,
        /// The key.
        key: String,
        /// What is allowed. Never the value itself of a secret.
        reason: String,
    },
}

impl ConfigError {
    /// The line of the file that it is about, if it is about one.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        match self {
            ConfigError::Syntax { line, .. }
            | ConfigError::UnknownKey { origin: Origin::File { line, .. }, .. }
            | ConfigError::BadValue { origin: Origin::File { line, .. }, .. } => Some(*line),
            _ => None,
        }
    }
}

/// A file of the configuration.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its text, or why it cannot be read.
    pub text: Result<String, String>,
}

/// What is read, handed in by whoever starts the program.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The files: what a later one sets overrides the earlier ones.
    pub files: Vec<SourceFile>,
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// Values of flags: key, flag, value.
    pub flags: Vec<(&'static str, &'static str, String)>,
}

/// `ACADEMY_RT_*` variables that are not keys.
const OTHER_ENV: [&str; 2] = ["ACADEMY_RT_TOKEN", "ACADEMY_RT_CONFIG"];

/// Names that the academy's platform uses for some keys. `ACADEMY_RT_*` variables override them.
const PLATFORM_ENV: [(&str, &str); 3] = [
    ("WEBSOCKET_ENABLED", "server.websocket_enabled"),
    ("WEBSOCKET_CORS_ORIGIN", "server.cors_origins"),
    ("JWT_SECRET", "auth.jwt_secret"),
];

/// Whether a variable of that name is read from the environment.
#[must_use]
pub fn is_read(name: &str) -> bool {
    name.starts_with("ACADEMY_RT_")
        || name == "PORT"
        || name == "RUNTIME_DIRECTORY"
        || name == "CREDENTIALS_DIRECTORY"
        || PLATFORM_ENV.iter().any(|(platform, _)| *platform == name)
}

/// The effective configuration.
///
/// # Errors
/// The first thing that is wrong, with its place.
pub fn load(sources: &Sources) -> Result<Config, ConfigError> {
    let (config, problems) = examine(sources);
    match problems.into_iter().next() {
        None => Ok(config),
        Some(problem) => Err(problem),
    }
}

/// The configuration as far as it can be read, and everything that is wrong with it: the problems of the files first, in the
/// order of the files and their lines.
#[must_use]
pub fn examine(sources: &Sources) -> (Config, Vec<ConfigError>) {
    let mut config = Config::default();
    let mut problems = Vec::new();
    for file in &sources.files {
        config.files.push(file.path.clone());
        match &file.text {
            Ok(text) => {
                let mut found = Vec::new();
                read_file(&mut config, &file.path, text, &mut found);
                found.sort_by_key(ConfigError::line);
                problems.extend(found);
            }
            Err(reason) => {
                problems.push(ConfigError::Unreadable { path: file.path.clone(), reason: reason.clone() });
            }
        }
    }
    for (name, key) in PLATFORM_ENV {
        if let Some(value) = sources.env.get(name).filter(|value| !value.is_empty()) {
            problems.extend(set(&mut config, key, value, Origin::Env(name.to_owned())).err());
        }
    }
    if let Some(port) = sources.env.get("PORT").filter(|value| !value.is_empty()) {
        let origin = Origin::Env("PORT".to_owned());
        match port.trim().parse::<std::num::NonZeroU16>() {
            Ok(port) => {
                config.server.listen.set_port(port.get());
                let listen = config.server.listen.to_string();
                note(&mut config, "server.listen", origin, listen);
            }
            Err(_) => problems.push(bad(origin, "PORT", "must be a port from 1 to 65535")),
        }
    }
    for (name, value) in sources.env.iter().filter(|(name, _)| name.starts_with("ACADEMY_RT_")) {
        if OTHER_ENV.contains(&name.as_str()) {
            continue;
        }
        let Some(row) = KEYS.iter().find(|row| row.env_name() == *name) else {
            let names: Vec<String> = KEYS.iter().map(Key::env_name).collect();
            problems.push(ConfigError::UnknownKey {
                origin: Origin::Env(name.clone()),
                key: name.clone(),
                nearest: nearest(name, names.iter().map(String::as_str)),
            });
            continue;
        };
        if value.is_empty() {
            config.empty_env.push(name.clone());
            continue;
        }
        problems.extend(set(&mut config, row.name, value, Origin::Env(name.clone())).err());
    }
    let others = OTHER_ENV.into_iter().chain(PLATFORM_ENV.map(|(name, _)| name)).chain(["PORT"]);
    let empty = others.filter(|name| sources.env.get(*name).is_some_and(String::is_empty));
    config.empty_env.extend(empty.map(ToOwned::to_owned));
    for (key, flag, value) in &sources.flags {
        problems.extend(set(&mut config, key, value, Origin::Flag(flag)).err());
    }
    let directory = |name: &str| sources.env.get(name).filter(|value| !value.is_empty());
    config.runtime_dir = directory("RUNTIME_DIRECTORY").and_then(|dirs| dirs.split(':').next()).map(PathBuf::from);
    config.credentials_dir = directory("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    // Combinations are checked only if each value is valid.
    if problems.is_empty() {
        problems.extend(check_whole(&config).err());
    }
    (config, problems)
}

fn bad(origin: Origin, key: &str, reason: &str) -> ConfigError {
    ConfigError::BadValue { origin, key: key.to_owned(), reason: reason.to_owned() }
}

fn check_whole(config: &Config) -> Result<(), ConfigError> {
    let has_files = config.tls.cert.is_some() && config.tls.key.is_some();
    if config.tls.mode == TlsMode::Files && !has_files {
        return Err(bad(config.origin("tls.mode"), "tls.mode", "is files, which needs tls.cert and tls.key; set both"));
    }
    // Files that are set and not used are a mistake: clients would get a certificate that they do not trust.
    let unused =
        [("tls.cert", &config.tls.cert), ("tls.key", &config.tls.key)].into_iter().find(|(_, path)| path.is_some());
    if let (TlsMode::SelfSigned, Some((key, _))) = (config.tls.mode, unused) {
        let reason = "is not used while tls.mode is self-signed; set tls.mode to files, or remove this key";
        return Err(bad(config.origin(key), key, reason));
    }
    if config.tls.client_crl.is_some() && config.tls.client_ca.is_none() {
        let reason = "is not used without tls.client_ca; set tls.client_ca, or remove this key";
        return Err(bad(config.origin("tls.client_crl"), "tls.client_crl", reason));
    }
    let retention = &config.retention;
    let ages = [
        ("retention.chat", retention.chat),
        ("retention.notifications", retention.notifications),
        ("retention.audit", retention.audit),
    ];
    if let Some((key, _)) = ages.into_iter().find(|(_, age)| age.is_some_and(|age| age < retention.floor)) {
        let reason = "must not be shorter than retention.floor";
        return Err(bad(config.origin(key), key, reason));
    }
    let audit = &config.audit;
    let files = [
        ("audit.forward_ca", &audit.forward_ca),
        ("audit.forward_cert", &audit.forward_cert),
        ("audit.forward_key", &audit.forward_key),
    ];
    let is_tls = matches!(audit.forward, Some(ForwardTarget::Tls { .. }));
    if let Some((key, _)) = files.into_iter().find(|(_, path)| path.is_some() && !is_tls) {
        let reason = "is used only where audit.forward begins with tls://; set that, or remove this key";
        return Err(bad(config.origin(key), key, reason));
    }
    let lacks = [
        ("audit.forward_cert", &audit.forward_cert, "audit.forward_key", &audit.forward_key),
        ("audit.forward_key", &audit.forward_key, "audit.forward_cert", &audit.forward_cert),
    ];
    if let Some((key, _, other, _)) = lacks.into_iter().find(|(_, path, _, other)| path.is_some() && other.is_none()) {
        return Err(bad(config.origin(key), key, &format!("needs {other}; set both, or neither")));
    }
    let calls = [("webhooks.url", &config.webhooks.url), ("chat.authorize_url", &config.chat.authorize_url)];
    if let Some((key, _)) = calls.into_iter().find(|(_, url)| url.is_some() && config.webhooks.secret_file.is_none()) {
        let reason = "needs webhooks.secret_file, with which calls to the platform are signed; make one with: academy-rt webhook secret FILE";
        return Err(bad(config.origin(key), key, reason));
    }
    Ok(())
}

fn set(config: &mut Config, key: &str, value: &str, origin: Origin) -> Result<(), ConfigError> {
    let Some(row) = KEYS.iter().find(|row| row.name == key) else {
        let nearest = nearest(key, KEYS.iter().filter(|row| !row.is_secret).map(|row| row.name));
        return Err(ConfigError::UnknownKey { origin, key: key.to_owned(), nearest });
    };
    if row.is_secret && matches!(origin, Origin::File { .. }) {
        let reason =
            "must not be in this file; put the secret into a file of its own and set auth.jwt_secret_file to its path";
        return Err(bad(origin, key, reason));
    }
    // Of a secret only what every program takes for an end of it: another space is part of it for the platform.
    let value = if row.is_secret { value.trim_matches(|c: char| c.is_ascii_whitespace()) } else { value.trim() };
    (row.set)(config, value).map_err(|reason| ConfigError::BadValue {
        origin: origin.clone(),
        key: key.to_owned(),
        reason,
    })?;
    note(config, row.name, origin, if row.is_secret { String::new() } else { value.to_owned() });
    Ok(())
}

fn note(config: &mut Config, key: &'static str, origin: Origin, value: String) {
    config.given.retain(|given| given.key != key);
    config.given.push(Given { key, origin, value });
}

fn read_file(config: &mut Config, path: &Path, text: &str, problems: &mut Vec<ConfigError>) {
    let line_at = |offset: usize| text.get(..offset).unwrap_or(text).matches('\n').count() + 1;
    // What stands beside a typo is read as well: commands find the running server by it.
    let (table, errors) = toml::de::DeTable::parse_recoverable(text);
    let read = problems.len();
    for (section, body) in table.get_ref() {
        let origin = |offset| Origin::File { path: path.to_owned(), line: line_at(offset) };
        let Some(entries) = body.get_ref().as_table() else {
            problems.push(ConfigError::UnknownKey {
                origin: origin(section.span().start),
                key: section.get_ref().to_string(),
                nearest: KEYS.iter().find(|row| row.parts().1 == &**section.get_ref()).map(|row| row.name.to_owned()),
            });
            continue;
        };
        if entries.is_empty() && !KEYS.iter().any(|row| row.parts().0 == &**section.get_ref()) {
            let sections = KEYS.iter().map(|row| row.parts().0);
            problems.push(ConfigError::UnknownKey {
                origin: origin(section.span().start),
                key: format!("[{}]", section.get_ref()),
                nearest: nearest(section.get_ref(), sections),
            });
        }
        for (name, value) in entries {
            let key = format!("{}.{}", section.get_ref(), name.get_ref());
            let origin = origin(name.span().start);
            let takes_list = KEYS.iter().find(|row| row.name == key).is_none_or(Key::is_list);
            match plain(value.get_ref(), takes_list) {
                Ok(text) => problems.extend(set(config, &key, &text, origin).err()),
                Err(reason) => problems.push(bad(origin, &key, reason)),
            }
        }
    }
    // Of a torn file only the tear is told: what seems wrong behind it may be its consequence.
    if let Some(error) = errors.first() {
        problems.truncate(read);
        let line = error.span().map_or(1, |span| line_at(span.start));
        problems.push(ConfigError::Syntax { path: path.to_owned(), line, reason: error.message().to_owned() });
    }
}

/// A value as the text that the environment would have.
fn plain(value: &toml::de::DeValue<'_>, takes_list: bool) -> Result<String, &'static str> {
    use toml::de::DeValue;
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => Ok(decimal(number)),
        DeValue::Float(number) => Ok(number.to_string()),
        DeValue::Boolean(flag) => Ok(flag.to_string()),
        DeValue::Array(_) if !takes_list => Err("must be a single value, not a list"),
        DeValue::Array(items) => {
            let mut texts = Vec::new();
            for item in items.iter() {
                let text = plain(item.get_ref(), false).map_err(|_| "must be a list of strings")?;
                // In the environment a comma ends an item: it must mean the same here.
                if text.contains(',') {
                    return Err("must be a list of strings without commas");
                }
                texts.push(text);
            }
            Ok(texts.join(","))
        }
        DeValue::Table(_) | DeValue::Datetime(_) => {
            Err(if takes_list { "must be a list of strings" } else { "must be a string, a number, true or false" })
        }
    }
}

/// TOML also has 0x10, 0o20 and 0b10000. A number too large for any key stays as it is, and its key refuses it.
fn decimal(number: &toml::de::DeInteger<'_>) -> String {
    i128::from_str_radix(number.as_str(), number.radix()).map_or_else(|_| number.to_string(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys::default_file;

    fn file(text: &str) -> Sources {
        Sources { files: vec![named("a.toml", text)], ..Sources::default() }
    }

    fn named(path: &str, text: &str) -> SourceFile {
        SourceFile { path: path.into(), text: Ok(text.to_owned()) }
    }

    fn env(pairs: &[(&str, &str)]) -> Sources {
        let env = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Sources { env, ..Sources::default() }
    }

    #[test]
    fn a_later_file_wins_key_by_key_and_each_problem_has_its_file() {
        let first =
            "[server]\ncors_origins = [\"https://a.example\"]\ndrain = \"7s\"\n[limits]\nsockets_per_user = 3\n";
        let second = "# more\n[server]\ncors_origins = [\"https://b.example\"]\n";
        let mut sources =
            Sources { files: vec![named("a.toml", first), named("b.toml", second)], ..Sources::default() };
        let config = load(&sources).unwrap();
        assert_eq!(config.server.cors_origins.len(), 1, "a list is replaced, not added to");
        assert_eq!(config.origin("server.cors_origins").to_string(), "b.toml:3");
        assert_eq!(config.origin("server.drain").to_string(), "a.toml:3");
        assert_eq!(config.limits.sockets_per_user, 3);
        assert_eq!(config.files, [Path::new("a.toml"), Path::new("b.toml")]);
        // A combination may be spread over files.
        sources.files =
            vec![named("a.toml", "[tls]\nmode = \"files\"\n"), named("b.toml", "[tls]\ncert = \"c\"\nkey = \"k\"\n")];
        load(&sources).unwrap();
        sources.files = vec![named("a.toml", "\n\n[server]\nlisen = 1\n"), named("b.toml", "[server]\nlisen = 1\n")];
        sources.files.push(SourceFile { path: "c.toml".into(), text: Err("permission denied".into()) });
        let said: Vec<String> = examine(&sources).1.iter().map(ToString::to_string).collect();
        assert!(said[0].starts_with("a.toml:4: ") && said[1].starts_with("b.toml:2: "), "{said:?}");
        assert_eq!(said[2], "c.toml: permission denied");
    }

    #[test]
    fn a_flag_wins_over_the_environment_over_the_file_over_the_default() {
        let mut sources = file("[server]\nlisten = \"127.0.0.1:1\"\n");
        assert_eq!(load(&Sources::default()).unwrap().server.listen.port(), 8443);
        let config = load(&sources).unwrap();
        assert_eq!(config.server.listen.port(), 1);
        assert_eq!(config.origin("server.listen").to_string(), "a.toml:2");
        sources.env.insert("PORT".into(), "2".into());
        assert_eq!(load(&sources).unwrap().server.listen.to_string(), "127.0.0.1:2");
        sources.env.insert("ACADEMY_RT_SERVER_LISTEN".into(), "127.0.0.1:3".into());
        assert_eq!(load(&sources).unwrap().server.listen.port(), 3);
        sources.flags.push(("server.listen", "--listen", "127.0.0.1:4".into()));
        let config = load(&sources).unwrap();
        assert_eq!(config.server.listen.port(), 4);
        assert_eq!(config.origin("server.listen").to_string(), "flag --listen");
    }

    #[test]
    fn an_unknown_key_is_named_with_file_line_and_the_nearest_one() {
        let error = load(&file("[limits]\n\nmesages_per_second = 3\n")).unwrap_err();
        let text = error.to_string();
        assert_eq!(
            text,
            "a.toml:3: there is no key 'limits.mesages_per_second'; did you mean 'limits.messages_per_second'?"
        );
        assert!(load(&file("[limit]\n")).unwrap_err().to_string().contains("did you mean 'limits'"));
        assert!(load(&file("listen = \"x\"\n")).unwrap_err().to_string().contains("server.listen"));
        let text = load(&env(&[("ACADEMY_RT_SERVER_LISTN", "x")])).unwrap_err().to_string();
        assert!(text.contains("ACADEMY_RT_SERVER_LISTEN"), "{text}");
    }

    #[test]
    fn a_bad_value_says_what_is_allowed_and_never_shows_a_secret() {
        for (text, says) in [
            ("[server]\nlisten = \"nowhere\"", "a.toml:2: server.listen must be ADDRESS:PORT"),
            ("[server]\ndrain = 10", "must be a duration"),
            ("[tls]\nmode = \"on\"", "must be files, self-signed or off"),
            ("[tls]\nmode = \"files\"", "needs tls.cert and tls.key"),
            ("[server]\ncors_origins = [\"*\"]", "is not an origin"),
            ("[limits]\nsend_queue = 1", "at least 64"),
            ("[server]\nlisten = {a = 1}", "must be a string"),
            ("[server]\n\nlisten = [\"127.0.0.1:1\"]", "a.toml:3: server.listen must be a single value, not a list"),
            ("[server]\ncors_origins = [[\"https://a.example\"]]", "must be a list of strings"),
            ("[server]\ncors_origins = [\"https://a.example,https://b.example\"]", "without commas"),
            ("[server]\ncors_origins = {a = 1}", "must be a list of strings"),
            (
                "[tls]\ncert = \"c.pem\"\nkey = \"k.pem\"",
                "a.toml:2: tls.cert is not used while tls.mode is self-signed",
            ),
            ("[limits]\nmessage_burst = -1", "must be a whole number"),
            ("[limits]\nmessage_burst = 0xffffffffffffffffffffffffffffffffffff", "must be a whole number"),
            ("[server\n", "a.toml:1"),
        ] {
            let error = load(&file(text)).expect_err(text).to_string();
            assert!(error.contains(says), "{error}");
        }
        let error = load(&file("[auth]\njwt_secret = \"hunter2hunter2hunter2hunter2hunter2\"")).unwrap_err();
        assert!(!error.to_string().contains("hunter2"));
        let config = load(&env(&[("JWT_SECRET", "hunter2hunter2hunter2hunter2hunter2")])).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn numbers_are_read_in_every_notation_of_toml() {
        let config =
            load(&file("[limits]\nsend_queue = 4_097\nmessage_burst = 0x1F\nsockets_per_user = \"7\"")).unwrap();
        let limits = config.limits;
        assert_eq!((limits.send_queue, limits.message_burst, limits.sockets_per_user), (4_097, 31, 7));
    }

    #[test]
    fn tls_may_be_switched_off_over_files_that_are_configured() {
        let mut sources = file("[tls]\nmode = \"files\"\ncert = \"c.pem\"\nkey = \"k.pem\"");
        assert_eq!(load(&sources).unwrap().tls.mode, TlsMode::Files);
        sources.flags.push(("tls.mode", "--no-tls", "off".into()));
        assert_eq!(load(&sources).unwrap().tls.mode, TlsMode::Off);
    }

    #[test]
    fn the_port_of_the_platform_keeps_the_address() {
        let mut sources = file("[server]\nlisten = \"[::1]:1\"");
        sources.env.insert("PORT".into(), "8080".into());
        assert_eq!(load(&sources).unwrap().server.listen.to_string(), "[::1]:8080");
        for bad in ["0", "65536", "-1", "tcp://10.0.0.1:80"] {
            sources.env.insert("PORT".into(), bad.into());
            let error = load(&sources).expect_err(bad).to_string();
            assert!(error.contains("PORT") && error.contains("1 to 65535"), "{error}");
        }
    }

    #[test]
    fn every_key_is_read_from_the_environment_under_its_name() {
        for row in KEYS.iter().filter(|row| row.default.starts_with('"') && row.name != "tls.mode") {
            let value = row.default.trim_matches('"');
            let config = load(&env(&[(&row.env_name(), value)])).expect(row.name);
            assert_eq!(config.origin(row.name), Origin::Env(row.env_name()));
        }
    }

    #[test]
    fn an_empty_variable_is_one_that_is_not_set_whatever_it_is_called() {
        for row in KEYS {
            let config = load(&env(&[(&row.env_name(), "")])).expect(row.name);
            assert_eq!((config.origin(row.name), config.empty_env), (Origin::Default, vec![row.env_name()]));
        }
        let names = ["ACADEMY_RT_CONFIG", "ACADEMY_RT_TOKEN", "JWT_SECRET", "PORT"];
        let mut empty = load(&env(&names.map(|name| (name, "")))).unwrap().empty_env;
        empty.sort();
        assert_eq!(empty, names);
        let mut sources = file("[server]\ncors_origins = [\"https://a.example\"]\n");
        sources.env.insert("ACADEMY_RT_SERVER_CORS_ORIGINS".into(), String::new());
        let config = load(&sources).unwrap();
        let origins: Vec<&str> = config.server.cors_origins.iter().map(|origin| origin.as_str()).collect();
        assert_eq!(origins, ["https://a.example"]);
    }

    #[test]
    fn the_platforms_names_are_read() {
        let config = load(&env(&[
            ("WEBSOCKET_ENABLED", "false"),
            ("WEBSOCKET_CORS_ORIGIN", "https://a.example, https://b.example"),
            ("PORT", "9000"),
        ]))
        .unwrap();
        assert!(!config.server.websocket_enabled);
        let origins: Vec<&str> = config.server.cors_origins.iter().map(|origin| origin.as_str()).collect();
        assert_eq!(origins, ["https://a.example", "https://b.example"]);
        assert_eq!(config.server.listen.port(), 9000);
    }

    #[test]
    fn the_annotated_default_file_is_the_defaults() {
        let text = default_file();
        assert_eq!(
            text,
            include_str!("../../assets/academy-rt.toml"),
            "renew it: cargo run -- man man --config assets/academy-rt.toml"
        );
        let values = text.lines().map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.split_once(" = ").is_some_and(|(key, value)| !key.contains(' ') && value != "\"\"") => {
                rest
            }
            _ => line,
        });
        let uncommented = values.collect::<Vec<_>>().join("\n");
        let (read, default) = (load(&file(&uncommented)).unwrap(), Config::default());
        let plain =
            |config: &Config| format!("{:?}", Config { given: Vec::new(), files: Vec::new(), ..config.clone() });
        assert_eq!(plain(&read), plain(&default));
    }
}
