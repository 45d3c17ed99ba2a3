//! The table of keys. A row has all that is said of a key anywhere: its name, its help, its default, how it is read.

use std::net::IpAddr;
use std::str::FromStr;

use super::{Config, LogFormat, Reject, Secret, TlsMode, TlsProfile, TlsVersion, units};

/// One key.
#[derive(Debug)]
pub struct Key {
    /// The dotted name: `server.listen`.
    pub name: &'static str,
    /// One line for people.
    pub help: &'static str,
    /// The default as it is written in the file; empty if there is none.
    pub default: &'static str,
    /// Whether it is a secret: never in the file, never shown.
    pub is_secret: bool,
    /// Whether a reload takes a new value; the others wait for a restart.
    pub is_live: bool,
    /// Reads a value into the configuration.
    pub set: fn(&mut Config, &str) -> Result<(), String>,
}

impl Key {
    /// The line of help, with what it takes for a new value to hold.
    #[must_use]
    pub fn description(&self) -> String {
        let when = if self.is_live { "" } else { " (restart)" };
        format!("{}{when}", self.help)
    }

    /// The section and the key in it.
    #[must_use]
    pub fn parts(&self) -> (&'static str, &'static str) {
        self.name.split_once('.').unwrap_or(("", self.name))
    }

    /// Its default as a value: without the quotes of the file, the items of a list separated by commas.
    #[must_use]
    pub fn default_value(&self) -> String {
        let inner = self.default.trim_start_matches('[').trim_end_matches(']');
        let items: Vec<&str> = inner.split(", ").map(|item| item.trim_matches('"')).collect();
        items.join(",")
    }

    /// Whether its value is a list; in the environment the items are separated by commas.
    #[must_use]
    pub fn is_list(&self) -> bool {
        self.default.starts_with('[')
    }

    /// Its name in the environment: `ACADEMY_RT_SERVER_LISTEN`.
    #[must_use]
    pub fn env_name(&self) -> String {
        format!("ACADEMY_RT_{}", self.name.to_ascii_uppercase().replace('.', "_"))
    }
}

/// A key whose new value waits for a restart.
const fn fixed(key: Key) -> Key {
    Key { is_live: false, ..key }
}

const fn key(
    name: &'static str,
    default: &'static str,
    help: &'static str,
    set: fn(&mut Config, &str) -> Result<(), String>,
) -> Key {
    Key { name, help, default, is_secret: false, is_live: true, set }
}

/// All keys, in the order of the file.
pub const KEYS: &[Key] = &[
    fixed(key("server.listen", "\"127.0.0.1:8443\"", "Address and port to listen on.", |c, v| {
        into(&mut c.server.listen, v, "must be ADDRESS:PORT, for example 0.0.0.0:443 or [::]:443")
    })),
    fixed(key("server.path", "\"/ws\"", "Path of Socket.IO.", |c, v| {
        if !v.starts_with('/') || v.len() < 2 || v.ends_with('/') || v.contains(['?', '#', ' ']) {
            return Err("must begin with / and have a name, for example /ws".to_owned());
        }
        c.server.path = v.to_owned();
        Ok(())
    })),
    key("server.websocket_enabled", "true", "Whether Socket.IO is on; off leaves the HTTP API for polling.", |c, v| {
        flag(&mut c.server.websocket_enabled, v)
    }),
    key("server.cors_origins", "[]", "Origins of other sites that may use the server from a browser.", |c, v| {
        let origins = list(v);
        if let Some(bad) = origins.iter().find(|origin| !is_origin(origin)) {
            return Err(format!("'{bad}' is not an origin; write https://portal.example.org without a path"));
        }
        c.server.cors_origins = origins;
        Ok(())
    }),
    key(
        "server.behind_proxy",
        "false",
        "Whether a proxy in front terminates TLS; then plain HTTP is allowed.",
        |c, v| flag(&mut c.server.behind_proxy, v),
    ),
    key("server.trusted_proxies", "[]", "Addresses of proxies whose X-Forwarded-For is believed.", |c, v| {
        let parsed: Result<_, _> =
            list(v).iter().map(|text| text.parse::<IpAddr>().map(|ip| ip.to_canonical())).collect();
        c.server.trusted_proxies = parsed.map_err(|_| "must be a list of IP addresses".to_owned())?;
        Ok(())
    }),
    key("server.drain", "\"10s\"", "How long requests under way may take when the server stops.", |c, v| {
        c.server.drain = units::duration(v)?;
        Ok(())
    }),
    key("tls.mode", "\"self-signed\"", "files, self-signed or off; to and from off waits for a restart.", |c, v| {
        c.tls.mode = match v {
            "files" => TlsMode::Files,
            "self-signed" => TlsMode::SelfSigned,
            "off" => TlsMode::Off,
            _ => return Err("must be files, self-signed or off".to_owned()),
        };
        Ok(())
    }),
    key("tls.cert", "", "Certificate chain, PEM, for mode files.", |c, v| path(&mut c.tls.cert, v)),
    key("tls.key", "", "Private key, PEM, for mode files.", |c, v| path(&mut c.tls.key, v)),
    key("tls.min_version", "\"1.2\"", "Oldest TLS version that is spoken: 1.2 or 1.3.", |c, v| {
        c.tls.min_version = match v {
            "1.2" => TlsVersion::V1_2,
            "1.3" => TlsVersion::V1_3,
            _ => return Err("must be 1.2 or 1.3".to_owned()),
        };
        Ok(())
    }),
    key("tls.profile", "\"default\"", "Cipher suites: default, or itsp.40.062 for the Canadian guidance.", |c, v| {
        c.tls.profile = match v {
            "default" => TlsProfile::Default,
            "itsp.40.062" => TlsProfile::Itsp40062,
            _ => return Err("must be default or itsp.40.062".to_owned()),
        };
        Ok(())
    }),
    key(
        "tls.hsts",
        "\"365d\"",
        "How long browsers shall use HTTPS alone for this host name and all its ports, with mode files; off: not said.",
        |c, v| age(&mut c.tls.hsts, v),
    ),
    key(
        "tls.client_ca",
        "",
        "Authorities of client certificates, PEM; with it the administrators' API asks for one over the network.",
        |c, v| path(&mut c.tls.client_ca, v),
    ),
    Key {
        name: "auth.jwt_secret",
        help: "The shared secret of HS256/384/512 tokens; in the environment alone.",
        default: "",
        is_secret: true,
        is_live: false,
        set: |c, v| {
            c.auth.jwt_secret = Some(Secret::new(v));
            Ok(())
        },
    },
    key("auth.jwt_secret_file", "", "File with the shared secret; made in the data directory without one.", |c, v| {
        path(&mut c.auth.jwt_secret_file, v)
    }),
    key(
        "auth.public_keys",
        "[]",
        "Files with public keys of who signs tokens, PEM: RSA, P-256, P-384, Ed25519; read again when they change.",
        |c, v| {
            c.auth.public_keys = list(v).into_iter().map(Into::into).collect();
            Ok(())
        },
    ),
    key("auth.jwks_file", "", "File with a JWKS of who signs tokens; read again when it changes.", |c, v| {
        path(&mut c.auth.jwks_file, v)
    }),
    key("auth.issuer", "", "The iss that a token must have.", |c, v| text(&mut c.auth.issuer, v)),
    key("auth.audience", "", "The aud that a token must have.", |c, v| text(&mut c.auth.audience, v)),
    key("auth.leeway", "\"30s\"", "How far clocks may differ.", |c, v| {
        c.auth.leeway = units::duration(v)?;
        Ok(())
    }),
    key("auth.require_exp", "true", "Whether a token must have an end.", |c, v| flag(&mut c.auth.require_exp, v)),
    key("auth.cookie_name", "", "Cookie that may hold a token, for pages of allowed origins.", |c, v| {
        text(&mut c.auth.cookie_name, v)
    }),
    key(
        "auth.role_map",
        "[\"admin=admin\", \"owner=admin\", \"superadmin=admin\", \"hr=hr\", \"hr_admin=hr\", \"hr_manager=hr\", \
         \"coach=coach\", \"learner=learner\", \"user=learner\"]",
        "What the roles of tokens are here: CLAIM=admin|hr|coach|learner.",
        |c, v| {
            let mut map = Vec::new();
            for pair in list(v) {
                let (claim, role) = pair
                    .split_once('=')
                    .ok_or_else(|| format!("'{pair}' must be CLAIM=ROLE, for example hr_admin=hr"))?;
                let role = role.trim().parse().map_err(|error: crate::domain::UnknownRole| error.to_string())?;
                map.push((claim.trim().to_owned(), role));
            }
            c.auth.role_map = map;
            Ok(())
        },
    ),
    key("auth.reject", "\"event\"", "How a bad token is refused: event (auth_error) or connect_error.", |c, v| {
        c.auth.reject = match v {
            "event" => Reject::Event,
            "connect_error" => Reject::ConnectError,
            _ => return Err("must be event or connect_error".to_owned()),
        };
        Ok(())
    }),
    fixed(key("storage.data_dir", "\"./academy-rt-data\"", "Where everything is stored.", |c, v| {
        if v.is_empty() {
            return Err("must be a directory".to_owned());
        }
        c.storage.data_dir = v.into();
        Ok(())
    })),
    fixed(key("storage.cache", "\"64MiB\"", "Memory for the store's page cache.", |c, v| {
        c.storage.cache = bytes(v)?;
        Ok(())
    })),
    fixed(key(
        "storage.min_free",
        "\"auto\"",
        "Writes are refused below so much free space; auto: the larger of 512MB and 5 % of the disk; 0: never.",
        |c, v| {
            c.storage.min_free = if v == "auto" { None } else { Some(units::size(v)?) };
            Ok(())
        },
    )),
    fixed(key(
        "storage.min_free_admin",
        "\"auto\"",
        "Blocks, revocations, erasures, removals, purges and their audit records go on down to so much; auto: a quarter.",
        |c, v| {
            c.storage.min_free_admin = if v == "auto" { None } else { Some(units::size(v)?) };
            Ok(())
        },
    )),
    key("chat.open_rooms", "true", "Whether everybody may join a room that nobody has registered.", |c, v| {
        flag(&mut c.chat.open_rooms, v)
    }),
    key("limits.messages_per_second", "10", "Chat messages a second and user; 0: no limit.", |c, v| {
        count(&mut c.limits.messages_per_second, v)
    }),
    key("limits.message_burst", "30", "Messages that may come at once after a rest.", |c, v| {
        count(&mut c.limits.message_burst, v)
    }),
    key("limits.typing_per_second", "5", "Typing signals a second and user; 0: no limit.", |c, v| {
        count(&mut c.limits.typing_per_second, v)
    }),
    key("limits.syncs_per_second", "10", "Progress reports a second and user; 0: no limit.", |c, v| {
        count(&mut c.limits.syncs_per_second, v)
    }),
    key("limits.joins_per_second", "20", "Joins a second and user; 0: no limit.", |c, v| {
        count(&mut c.limits.joins_per_second, v)
    }),
    key("limits.connects_per_second", "50", "New sockets a second and address (IPv6: a /64); 0: no limit.", |c, v| {
        count(&mut c.limits.connects_per_second, v)
    }),
    key("limits.sockets_per_user", "20", "Sockets a user; 0: no limit.", |c, v| {
        count(&mut c.limits.sockets_per_user, v)
    }),
    key(
        "limits.sockets_per_address",
        "0",
        "Sockets an address (IPv6: a /64), which a whole office may share; 0: no limit.",
        |c, v| count(&mut c.limits.sockets_per_address, v),
    ),
    key("limits.polls_per_user", "20", "Polls of a user that wait for events at once; 0: no limit.", |c, v| {
        count(&mut c.limits.polls_per_user, v)
    }),
    fixed(key("limits.payload", "\"1MB\"", "Largest message or body of a client.", |c, v| {
        c.limits.payload = bytes(v)?;
        if c.limits.payload < 1_024 { Err("must be at least 1KiB".to_owned()) } else { Ok(()) }
    })),
    key("limits.message_chars", "4000", "Longest content of a chat message, in characters.", |c, v| {
        count(&mut c.limits.message_chars, v)?;
        if c.limits.message_chars == 0 { Err("must be at least 1".to_owned()) } else { Ok(()) }
    }),
    fixed(key("limits.send_queue", "4096", "Packets that wait for a slow reader before it is cut off.", |c, v| {
        count(&mut c.limits.send_queue, v)?;
        if c.limits.send_queue < 64 { Err("must be at least 64".to_owned()) } else { Ok(()) }
    })),
    fixed(key("limits.handshake", "\"10s\"", "How long a TLS handshake may take.", |c, v| {
        patience(&mut c.limits.handshake, v)
    })),
    fixed(key(
        "limits.request_head",
        "\"15s\"",
        "How long the head of a request may take, from its first byte on.",
        |c, v| patience(&mut c.limits.request_head, v),
    )),
    fixed(key(
        "limits.keep_alive",
        "\"75s\"",
        "How long a connection may idle between two requests; at most 15s where nobody has signed in.",
        |c, v| patience(&mut c.limits.keep_alive, v),
    )),
    fixed(key(
        "limits.request_body",
        "\"20s\"",
        "How long the body of a request may take, and a second more for each 16 KiB that have come.",
        |c, v| patience(&mut c.limits.request_body, v),
    )),
    fixed(key("limits.sign_in", "\"10s\"", "How long a connection of Socket.IO may take to sign in.", |c, v| {
        patience(&mut c.limits.sign_in, v)
    })),
    fixed(key(
        "limits.bodies",
        "\"64MiB\"",
        "Memory for bodies of requests that are read or worked on, all together; one user has an eighth of it.",
        |c, v| {
            c.limits.bodies = bytes(v)?;
            Ok(())
        },
    )),
    fixed(key(
        "limits.connections_per_address",
        "0",
        "Connections of an address (IPv6: a /64), without WebSockets that have signed in; 0: a quarter of the descriptors.",
        |c, v| count(&mut c.limits.connections_per_address, v),
    )),
    fixed(key(
        "limits.newcomers_per_address",
        "4096",
        "Connections of an address (IPv6: a /64) that have not asked for anything yet; 0: no limit.",
        |c, v| count(&mut c.limits.newcomers_per_address, v),
    )),
    fixed(key("retention.progress_versions", "50", "Versions of a lesson's progress that are kept.", |c, v| {
        count(&mut c.retention.progress_versions, v)?;
        if c.retention.progress_versions == 0 { Err("must be at least 1".to_owned()) } else { Ok(()) }
    })),
    key(
        "retention.chat",
        "\"off\"",
        "Chat messages older than this are purged, for example 730d; off: never.",
        |c, v| age(&mut c.retention.chat, v),
    ),
    key("retention.notifications", "\"off\"", "Notifications older than this are purged; off: never.", |c, v| {
        age(&mut c.retention.notifications, v)
    }),
    key("retention.audit", "\"off\"", "Records of the audit trail older than this are purged; off: never.", |c, v| {
        age(&mut c.retention.audit, v)
    }),
    key(
        "retention.floor",
        "\"off\"",
        "What must be kept for so long: no purge may be shorter, no erasure without consent.",
        |c, v| {
            let mut floor = None;
            age(&mut floor, v)?;
            c.retention.floor = floor.unwrap_or_default();
            Ok(())
        },
    ),
    key(
        "log.format",
        "\"auto\"",
        "text, json, journal, or auto: text on a terminal, the journal under systemd, JSON elsewhere.",
        |c, v| {
            c.log.format = match v {
                "auto" => LogFormat::Auto,
                "text" => LogFormat::Text,
                "json" => LogFormat::Json,
                "journal" => LogFormat::Journal,
                _ => return Err("must be auto, text, json or journal".to_owned()),
            };
            Ok(())
        },
    ),
    key("log.level", "\"info\"", "error, warn, info, debug or trace.", |c, v| {
        if !["error", "warn", "info", "debug", "trace"].contains(&v) {
            return Err("must be error, warn, info, debug or trace".to_owned());
        }
        c.log.level = v.to_owned();
        Ok(())
    }),
    fixed(key("metrics.listen", "", "Address and port of its own for /metrics, without a token.", |c, v| {
        if v.is_empty() {
            c.metrics.listen = None;
            return Ok(());
        }
        let parsed = v.parse().map_err(|_| "must be ADDRESS:PORT, for example 127.0.0.1:9464".to_owned())?;
        c.metrics.listen = Some(parsed);
        Ok(())
    })),
];

fn into<T: FromStr>(place: &mut T, value: &str, allowed: &str) -> Result<(), String> {
    *place = value.parse().map_err(|_| allowed.to_owned())?;
    Ok(())
}

fn count<T: FromStr>(place: &mut T, value: &str) -> Result<(), String> {
    into(place, value, "must be a whole number, 0 or more")
}

fn patience(place: &mut std::time::Duration, value: &str) -> Result<(), String> {
    *place = units::duration(value)?;
    if place.is_zero() { Err("must be longer than nothing".to_owned()) } else { Ok(()) }
}

fn age(place: &mut Option<std::time::Duration>, value: &str) -> Result<(), String> {
    *place = match value {
        "off" | "" => None,
        text => {
            let age = units::duration(text).map_err(|_| "must be a duration such as 90d or 24h, or off".to_owned())?;
            if age.is_zero() {
                return Err("must be longer than nothing, or off".to_owned());
            }
            Some(age)
        }
    };
    Ok(())
}

fn flag(place: &mut bool, value: &str) -> Result<(), String> {
    *place = match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => true,
        "false" | "0" | "no" | "off" => false,
        _ => return Err("must be true or false".to_owned()),
    };
    Ok(())
}

fn path(place: &mut Option<std::path::PathBuf>, value: &str) -> Result<(), String> {
    *place = (!value.is_empty()).then(|| value.into());
    Ok(())
}

fn text(place: &mut Option<String>, value: &str) -> Result<(), String> {
    *place = (!value.is_empty()).then(|| value.to_owned());
    Ok(())
}

fn bytes(value: &str) -> Result<usize, String> {
    usize::try_from(units::size(value)?).map_err(|_| "is too large for this machine".to_owned())
}

fn list(value: &str) -> Vec<String> {
    value.split(',').map(str::trim).filter(|item| !item.is_empty()).map(ToOwned::to_owned).collect()
}

fn is_origin(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, host)| {
        matches!(scheme, "http" | "https") && !host.is_empty() && !host.contains(['/', '?', '#', '*', ' '])
    })
}

/// A value as it stands in a file.
#[must_use]
pub fn in_toml(key: &Key, value: &str) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    if key.is_list() {
        let items: Vec<String> = list(value).iter().map(|item| quoted(item)).collect();
        return format!("[{}]", items.join(", "));
    }
    // What the default has without quotes is a number or a flag; as these it was read.
    let is_bare = !key.default.is_empty() && !key.default.starts_with('"');
    let fits = value.parse::<u64>().is_ok() || matches!(value, "true" | "false");
    if is_bare && fits { value.to_owned() } else { quoted(value) }
}

/// The annotated default file.
#[must_use]
pub fn default_file() -> String {
    annotated_file(|_| None)
}

/// The annotated file, in which some keys have a value of their own.
#[must_use]
pub fn annotated_file(value: impl Fn(&Key) -> Option<String>) -> String {
    let mut text = String::from(
        "# academy-rt.toml - every key with its default. A line that begins with # is a comment:\n\
         # remove the # and change the value. Flags and ACADEMY_RT_* in the environment win over this file.\n\
         # A reload (systemctl reload academy-rt, or SIGHUP) takes new values; keys marked (restart) wait for a restart.\n",
    );
    let mut section = "";
    for row in KEYS.iter().filter(|row| !row.is_secret) {
        let (in_section, name) = row.parts();
        if in_section != section {
            section = in_section;
            text.push_str(&format!("\n[{section}]\n"));
        }
        text.push_str(&format!("# {}\n", row.description()));
        match value(row) {
            Some(value) => text.push_str(&format!("{name} = {}\n", in_toml(row, &value))),
            None => {
                let default = if row.default.is_empty() { "\"\"" } else { row.default };
                text.push_str(&format!("# {name} = {default}\n"));
            }
        }
    }
    text
}
