//! The table of configuration keys. A row is the only definition of a key: its name, its help text, its default and its parser.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use crate::domain::origin::Origin;
use crate::domain::webhook::{Endpoint, HookEvent, HookEvents};
use crate::domain::{IdType, nearest};

use super::{Config, ForwardedHeader, LogFormat, Reject, Secret, TlsMode, TlsProfile, TlsVersion, units};

/// What waits longer than this for company is waited for by people.
const LONGEST_COMMIT_DELAY: std::time::Duration = std::time::Duration::from_millis(100);

/// One key.
#[derive(Debug)]
pub struct Key {
    /// The dotted name: `server.listen`.
    pub name: &'static str,
    /// The help text, one line.
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
    /// The help text, marked with `(restart)` if a new value waits for a restart.
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
    fixed(key("server.path", "\"/ws\"", "URL path of Socket.IO.", |c, v| {
        if !v.starts_with('/') || v.len() < 2 || v.ends_with('/') || v.contains(['?', '#', ' ']) {
            return Err("must begin with / and have a name, for example /ws".to_owned());
        }
        c.server.path = v.to_owned();
        Ok(())
    })),
    fixed(key("server.api_path", "\"/api/v1\"", "URL path of the HTTP API, where another API has /api/v1.", |c, v| {
        c.server.api_path = api_path(v)?;
        Ok(())
    })),
    key(
        "server.websocket_enabled",
        "true",
        "Whether Socket.IO is enabled; without it, clients use the HTTP API and its long polling.",
        |c, v| flag(&mut c.server.websocket_enabled, v),
    ),
    key(
        "server.compression",
        "true",
        "Whether answers to polls of Socket.IO are compressed (gzip) for clients that take it: chat alone.",
        |c, v| flag(&mut c.server.compression, v),
    ),
    key(
        "server.welcome",
        "true",
        "Whether there is a page at / that checks the connection of the browser that opens it.",
        |c, v| flag(&mut c.server.welcome, v),
    ),
    key(
        "server.cors_origins",
        "[]",
        "Origins of other sites whose pages may use the server from a browser.",
        |c, v| {
            let origin = |text: &String| {
                Origin::parse(text).ok_or_else(|| {
                    format!("'{text}' is not an origin; write https://portal.example.org without a path")
                })
            };
            c.server.cors_origins = list(v).iter().map(origin).collect::<Result<_, _>>()?;
            Ok(())
        },
    ),
    key(
        "server.behind_proxy",
        "false",
        "Whether a proxy in front of the server terminates TLS; then the server accepts plain HTTP.",
        |c, v| flag(&mut c.server.behind_proxy, v),
    ),
    key(
        "server.trusted_proxies",
        "[]",
        "Addresses or networks (10.0.0.0/8) of the proxies that are believed; none: those on this machine.",
        |c, v| {
            let parsed: Result<_, _> = list(v).iter().map(|text| network(text)).collect();
            c.server.trusted_proxies = parsed?;
            Ok(())
        },
    ),
    key(
        "server.forwarded_header",
        "\"x-forwarded-for\"",
        "Header in which the proxies give the client's address: x-forwarded-for or forwarded (RFC 7239).",
        |c, v| {
            c.server.forwarded_header = match v {
                "x-forwarded-for" => ForwardedHeader::XForwardedFor,
                "forwarded" => ForwardedHeader::Forwarded,
                _ => return Err("must be x-forwarded-for or forwarded".to_owned()),
            };
            Ok(())
        },
    ),
    key(
        "server.proxy_protocol",
        "false",
        "Whether connections of the trusted proxies begin with the PROXY protocol (version 1 or 2), before any TLS.",
        |c, v| flag(&mut c.server.proxy_protocol, v),
    ),
    key("server.drain", "\"10s\"", "How long the server waits for running requests when it stops.", |c, v| {
        c.server.drain = units::duration(v)?;
        Ok(())
    }),
    key(
        "tls.mode",
        "\"self-signed\"",
        "Source of the certificate: files, self-signed or off (no TLS). A change to or from off waits for a restart.",
        |c, v| {
            c.tls.mode = match v {
                "files" => TlsMode::Files,
                "self-signed" => TlsMode::SelfSigned,
                "off" => TlsMode::Off,
                _ => return Err("must be files, self-signed or off".to_owned()),
            };
            Ok(())
        },
    ),
    key("tls.cert", "", "File with the certificate chain in PEM, for mode files.", |c, v| path(&mut c.tls.cert, v)),
    key("tls.key", "", "File with the private key in PEM, for mode files.", |c, v| path(&mut c.tls.key, v)),
    key("tls.min_version", "\"1.2\"", "Oldest TLS version that the server accepts: 1.2 or 1.3.", |c, v| {
        c.tls.min_version = match v {
            "1.2" => TlsVersion::V1_2,
            "1.3" => TlsVersion::V1_3,
            _ => return Err("must be 1.2 or 1.3".to_owned()),
        };
        Ok(())
    }),
    key(
        "tls.profile",
        "\"default\"",
        "Cipher suites: default, or itsp.40.062 for those of the Canadian guidance ITSP.40.062.",
        |c, v| {
            c.tls.profile = match v {
                "default" => TlsProfile::Default,
                "itsp.40.062" => TlsProfile::Itsp40062,
                _ => return Err("must be default or itsp.40.062".to_owned()),
            };
            Ok(())
        },
    ),
    key(
        "tls.hsts",
        "\"365d\"",
        "Age of Strict-Transport-Security, with which browsers use only HTTPS for this host name, on all ports; sent with mode files; off: not sent.",
        |c, v| age(&mut c.tls.hsts, v),
    ),
    key(
        "tls.client_ca",
        "",
        "File with the authorities of client certificates in PEM; if set, the rights of administrators and service tokens require a client certificate over the network.",
        |c, v| path(&mut c.tls.client_ca, v),
    ),
    key(
        "tls.client_crl",
        "",
        "File with the revocation lists of all authorities of client certificates, in PEM or DER; reread when it changes.",
        |c, v| path(&mut c.tls.client_crl, v),
    ),
    Key {
        name: "auth.jwt_secret",
        help: "Shared secret of HS256, HS384 and HS512 tokens; only in the environment.",
        default: "",
        is_secret: true,
        is_live: false,
        set: |c, v| {
            c.auth.jwt_secret = Some(Secret::new(v));
            Ok(())
        },
    },
    key(
        "auth.jwt_secret_file",
        "",
        "File with the shared secret; without it, the server creates a secret in the data directory.",
        |c, v| path(&mut c.auth.jwt_secret_file, v),
    ),
    key(
        "auth.public_keys",
        "[]",
        "Files with public keys that verify tokens, in PEM: RSA, P-256, P-384 or Ed25519; the server reads them again when they change.",
        |c, v| {
            c.auth.public_keys = list(v).into_iter().map(Into::into).collect();
            Ok(())
        },
    ),
    key(
        "auth.jwks_file",
        "",
        "File with a JWKS whose keys verify tokens; the server reads it again when it changes.",
        |c, v| path(&mut c.auth.jwks_file, v),
    ),
    key("auth.issuer", "", "Required issuer (iss) of tokens; empty: any.", |c, v| text(&mut c.auth.issuer, v)),
    key("auth.audience", "", "Required audience (aud) of tokens; empty: any.", |c, v| text(&mut c.auth.audience, v)),
    key("auth.leeway", "\"30s\"", "Allowed clock difference when the times of a token are checked.", |c, v| {
        c.auth.leeway = units::duration(v)?;
        Ok(())
    }),
    key("auth.require_exp", "true", "Whether a token must have an expiry time (exp).", |c, v| {
        flag(&mut c.auth.require_exp, v)
    }),
    key(
        "auth.cookie_name",
        "",
        "Name of a cookie that may contain the token, for pages of allowed origins.",
        |c, v| text(&mut c.auth.cookie_name, v),
    ),
    key(
        "auth.role_map",
        "[\"admin=admin\", \"owner=admin\", \"superadmin=admin\", \"hr=hr\", \"hr_admin=hr\", \"hr_manager=hr\", \
         \"coach=coach\", \"learner=learner\", \"user=learner\"]",
        "Roles in tokens and the roles that they get here: CLAIM=admin|hr|coach|learner.",
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
    key(
        "auth.reject",
        "\"event\"",
        "How Socket.IO refuses an invalid token: event (the event auth_error) or connect_error.",
        |c, v| {
            c.auth.reject = match v {
                "event" => Reject::Event,
                "connect_error" => Reject::ConnectError,
                _ => return Err("must be event or connect_error".to_owned()),
            };
            Ok(())
        },
    ),
    fixed(key(
        "auth.id_type",
        "\"first\"",
        "JSON type of the ID of a user in all events: first (that of the first token), number or string. An ID that is no whole number is a string.",
        |c, v| {
            c.auth.id_type = match v {
                "first" => IdType::First,
                "number" => IdType::Number,
                "string" => IdType::Text,
                _ => return Err("must be first, number or string".to_owned()),
            };
            Ok(())
        },
    )),
    fixed(key("storage.data_dir", "\"./academy-rt-data\"", "Directory of all stored data.", |c, v| {
        if v.is_empty() {
            return Err("must be a directory".to_owned());
        }
        c.storage.data_dir = v.into();
        Ok(())
    })),
    fixed(key("storage.cache", "\"64MiB\"", "Memory for the page cache of the database.", |c, v| {
        c.storage.cache = bytes(v)?;
        Ok(())
    })),
    fixed(key(
        "storage.commit_delay",
        "\"2ms\"",
        "Time that a write waits at most for others to share its commit, under load; 0s: none, at most 100ms.",
        |c, v| {
            let delay = units::duration(v)?;
            if delay > LONGEST_COMMIT_DELAY {
                return Err("must be at most 100ms".to_owned());
            }
            c.storage.commit_delay = delay;
            Ok(())
        },
    )),
    fixed(key(
        "storage.min_free",
        "\"auto\"",
        "Minimum free disk space for writes; auto: the larger of 512MB and 5 % of the disk; 0: no minimum.",
        |c, v| {
            c.storage.min_free = if v == "auto" { None } else { Some(units::size(v)?) };
            Ok(())
        },
    )),
    fixed(key(
        "storage.min_free_admin",
        "\"auto\"",
        "Minimum free disk space for blocks, revocations, erasures, removals and purges; auto: a quarter of min_free.",
        |c, v| {
            c.storage.min_free_admin = if v == "auto" { None } else { Some(units::size(v)?) };
            Ok(())
        },
    )),
    key("chat.open_rooms", "true", "Whether every user may join a room that is not registered.", |c, v| {
        flag(&mut c.chat.open_rooms, v)
    }),
    key(
        "chat.authorize_url",
        "",
        "URL of the platform that decides who may enter which room: https://, or http:// on this machine; empty: this server alone decides.",
        |c, v| endpoint(&mut c.chat.authorize_url, v),
    ),
    key(
        "chat.authorize_cache",
        "\"60s\"",
        "How long an answer of the platform holds; 0s: it is asked each time.",
        |c, v| {
            c.chat.authorize_cache = units::duration(v)?;
            Ok(())
        },
    ),
    key("chat.authorize_timeout", "\"3s\"", "How long the platform may take to decide.", |c, v| {
        timeout(&mut c.chat.authorize_timeout, v)
    }),
    key(
        "chat.authorize_fail",
        "\"closed\"",
        "What holds while the platform does not decide: closed (nobody enters) or open (the rules of this server alone).",
        |c, v| {
            c.chat.authorize_fails_open = match v {
                "closed" => false,
                "open" => true,
                _ => return Err("must be closed or open".to_owned()),
            };
            Ok(())
        },
    ),
    fixed(key(
        "search.enabled",
        "true",
        "Whether messages can be searched for; an index of their words is kept beside the database.",
        |c, v| flag(&mut c.search.enabled, v),
    )),
    key("limits.messages_per_second", "10", "Chat messages per second and user; 0: no limit.", |c, v| {
        count(&mut c.limits.messages_per_second, v)
    }),
    key("limits.message_burst", "30", "Chat messages that a user may send at once after a pause.", |c, v| {
        count(&mut c.limits.message_burst, v)
    }),
    key("limits.typing_per_second", "5", "Typing events per second and user; 0: no limit.", |c, v| {
        count(&mut c.limits.typing_per_second, v)
    }),
    key("limits.syncs_per_second", "10", "Progress reports per second and user; 0: no limit.", |c, v| {
        count(&mut c.limits.syncs_per_second, v)
    }),
    key("limits.joins_per_second", "20", "Room joins per second and user; 0: no limit.", |c, v| {
        count(&mut c.limits.joins_per_second, v)
    }),
    key(
        "limits.budget_per_second",
        "1000",
        "Work that the requests of a user may cause per second, in points of 0.1 ms; 0: no limit.",
        |c, v| count(&mut c.limits.budget_per_second, v),
    ),
    key("limits.budget_burst", "3000", "Points that a user may use at once after a pause.", |c, v| {
        count(&mut c.limits.budget_burst, v)
    }),
    key("limits.stored_per_day", "\"64MiB\"", "Data that a user may store per day; 0: no limit.", |c, v| {
        c.limits.stored_per_day = units::size(v)?;
        Ok(())
    }),
    key(
        "limits.rooms_per_day",
        "1000",
        "Chat rooms that a user may create per day by a message; 0: no limit.",
        |c, v| count(&mut c.limits.rooms_per_day, v),
    ),
    key("limits.reports_per_day", "50", "Messages that a user may report per day; 0: no limit.", |c, v| {
        count(&mut c.limits.reports_per_day, v)
    }),
    key(
        "limits.sign_in_records_per_day",
        "5000",
        "Records of refused sign-ins in the audit log per day; one more tells of the rest. 0: no limit.",
        |c, v| count(&mut c.limits.sign_in_records_per_day, v),
    ),
    fixed(key("limits.lessons_per_user", "20000", "Lessons of a user with stored progress; 0: no limit.", |c, v| {
        count(&mut c.limits.lessons_per_user, v)
    })),
    key(
        "limits.connects_per_second",
        "50",
        "New sockets per second and client address (IPv6: per /64); 0: no limit.",
        |c, v| count(&mut c.limits.connects_per_second, v),
    ),
    key("limits.sockets_per_user", "20", "Open sockets per user; 0: no limit.", |c, v| {
        count(&mut c.limits.sockets_per_user, v)
    }),
    key(
        "limits.rooms_per_socket",
        "1000",
        "Chat rooms that a socket may be in at the same time; 0: no limit.",
        |c, v| count(&mut c.limits.rooms_per_socket, v),
    ),
    key(
        "limits.sockets_per_address",
        "0",
        "Open sockets per client address (IPv6: per /64), which a whole office may share; 0: no limit.",
        |c, v| count(&mut c.limits.sockets_per_address, v),
    ),
    key("limits.polls_per_user", "20", "Long polls of a user that may wait at the same time; 0: no limit.", |c, v| {
        count(&mut c.limits.polls_per_user, v)
    }),
    fixed(key("limits.payload", "\"1MB\"", "Largest message or request body of a client.", |c, v| {
        c.limits.payload = bytes(v)?;
        if c.limits.payload < 1_024 { Err("must be at least 1KiB".to_owned()) } else { Ok(()) }
    })),
    key("limits.message_chars", "4000", "Maximum length of a chat message, in characters.", |c, v| {
        count(&mut c.limits.message_chars, v)?;
        if c.limits.message_chars == 0 { Err("must be at least 1".to_owned()) } else { Ok(()) }
    }),
    fixed(key(
        "limits.send_queue",
        "4096",
        "Packets that may wait for a slow client; with more, the server closes its socket.",
        |c, v| {
            count(&mut c.limits.send_queue, v)?;
            if c.limits.send_queue < 64 { Err("must be at least 64".to_owned()) } else { Ok(()) }
        },
    )),
    fixed(key("limits.handshake", "\"10s\"", "Time limit for a TLS handshake.", |c, v| {
        timeout(&mut c.limits.handshake, v)
    })),
    fixed(key(
        "limits.request_head",
        "\"15s\"",
        "Time limit for the headers of a request, from its first byte on.",
        |c, v| timeout(&mut c.limits.request_head, v),
    )),
    fixed(key(
        "limits.keep_alive",
        "\"75s\"",
        "Time limit between two requests of a connection; at most 15s where nobody has signed in.",
        |c, v| timeout(&mut c.limits.keep_alive, v),
    )),
    fixed(key(
        "limits.request_body",
        "\"20s\"",
        "Time limit for the body of a request, plus one second for each 16 KiB received.",
        |c, v| timeout(&mut c.limits.request_body, v),
    )),
    fixed(key("limits.sign_in", "\"10s\"", "Time limit for the sign-in of a Socket.IO connection.", |c, v| {
        timeout(&mut c.limits.sign_in, v)
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
        "Connections per client address (IPv6: per /64) that have not sent a request yet; 0: no limit.",
        |c, v| count(&mut c.limits.newcomers_per_address, v),
    )),
    fixed(key(
        "retention.progress_versions",
        "50",
        "Number of versions that are kept of the progress in a lesson.",
        |c, v| {
            count(&mut c.retention.progress_versions, v)?;
            if c.retention.progress_versions == 0 { Err("must be at least 1".to_owned()) } else { Ok(()) }
        },
    )),
    key(
        "retention.chat",
        "\"off\"",
        "The server purges chat messages older than this, for example 730d; off: never.",
        |c, v| age(&mut c.retention.chat, v),
    ),
    key(
        "retention.notifications",
        "\"off\"",
        "The server purges notifications older than this; off: never.",
        |c, v| age(&mut c.retention.notifications, v),
    ),
    key(
        "retention.audit",
        "\"off\"",
        "The server purges records of the audit log older than this; off: never.",
        |c, v| age(&mut c.retention.audit, v),
    ),
    key(
        "retention.floor",
        "\"off\"",
        "Minimum retention: data younger than this are never purged, and erased only with consent; off: none.",
        |c, v| {
            let mut floor = None;
            age(&mut floor, v)?;
            c.retention.floor = floor.unwrap_or_default();
            Ok(())
        },
    ),
    fixed(key(
        "backup.continuous",
        "",
        "Directory for the continuous backup, on another disk or a share; it must exist. Empty: no continuous backup.",
        |c, v| path(&mut c.backup.continuous, v),
    )),
    fixed(key(
        "backup.continuous_keep",
        "\"7d\"",
        "How far back a restore from the continuous backup can go, at least.",
        |c, v| timeout(&mut c.backup.continuous_keep, v),
    )),
    fixed(key(
        "backup.continuous_recipients",
        "[]",
        "Age recipients (age1...) that the continuous backup is encrypted for; empty: it is not encrypted.",
        |c, v| {
            c.backup.continuous_recipients = list(v);
            Ok(())
        },
    )),
    fixed(key(
        "audit.forward",
        "",
        "Where the audit log is forwarded to: tls://HOST:PORT (syslog, RFC 5424 and 5425), tcp://127.0.0.1:PORT, file:/PATH (JSON lines) or journald:. Empty: nowhere.",
        |c, v| {
            c.audit.forward = if v.is_empty() { None } else { Some(v.parse()?) };
            Ok(())
        },
    )),
    fixed(key(
        "audit.forward_ca",
        "",
        "File with the authorities that sign the receiver's certificate, in PEM, for tls://; empty: those of the system.",
        |c, v| path(&mut c.audit.forward_ca, v),
    )),
    fixed(key(
        "audit.forward_cert",
        "",
        "File with a client certificate for the receiver, with its chain, in PEM, for tls://; empty: none.",
        |c, v| path(&mut c.audit.forward_cert, v),
    )),
    fixed(key("audit.forward_key", "", "File with the private key of that certificate, in PEM.", |c, v| {
        path(&mut c.audit.forward_key, v)
    })),
    key(
        "audit.forward_backlog",
        "1000000",
        "Records that retention.audit keeps for a receiver that has not taken them, however old; with more, the oldest go.",
        |c, v| count(&mut c.audit.forward_backlog, v),
    ),
    key(
        "webhooks.url",
        "",
        "URL of the platform that is told what happens here: https://, or http:// on this machine; empty: nobody is told.",
        |c, v| endpoint(&mut c.webhooks.url, v),
    ),
    key(
        "webhooks.secret_file",
        "",
        "File with the secrets that calls to the platform are signed with (whsec_...), one a line; all of them sign; a reload reads it again.",
        |c, v| path(&mut c.webhooks.secret_file, v),
    ),
    key(
        "webhooks.events",
        "[\"message.created\", \"message.edited\", \"message.deleted\", \"progress.updated\", \"notification.read\", \
         \"user.online\", \"user.offline\", \"room.joined\", \"room.left\"]",
        "What the platform is told of.",
        |c, v| {
            let mut events = Vec::new();
            for name in list(v) {
                let names = HookEvent::ALL.iter().map(|event| event.as_str());
                let event = HookEvent::ALL.iter().find(|event| event.as_str() == name).ok_or_else(|| {
                    let advice = nearest(&name, names.clone())
                        .map_or_else(|| names.collect::<Vec<_>>().join(", "), |name| format!("did you mean {name}?"));
                    format!("'{name}' is no event: {advice}")
                })?;
                events.push(*event);
            }
            if events.is_empty() {
                return Err("must name an event; to tell nothing, leave webhooks.url empty".to_owned());
            }
            c.webhooks.events = HookEvents::of(&events);
            Ok(())
        },
    ),
    key("webhooks.timeout", "\"10s\"", "How long the platform may take to answer one webhook.", |c, v| {
        timeout(&mut c.webhooks.timeout, v)
    }),
    key("webhooks.give_up", "\"3d\"", "How long one webhook is tried until it becomes a dead letter.", |c, v| {
        timeout(&mut c.webhooks.give_up, v)
    }),
    key(
        "webhooks.ca_file",
        "",
        "File with the authorities that sign the platform's certificate, in PEM; empty: those of the system.",
        |c, v| path(&mut c.webhooks.ca_file, v),
    ),
    key(
        "webhooks.outbox",
        "1000000",
        "Webhooks that wait at most; with more, the platform is told of a gap and reads again.",
        |c, v| {
            count(&mut c.webhooks.outbox, v)?;
            if c.webhooks.outbox < 10 { Err("must be at least 10".to_owned()) } else { Ok(()) }
        },
    ),
    key(
        "log.format",
        "\"auto\"",
        "Format of log lines: text, json, journal or auto (text on a terminal, journal under systemd, else json).",
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
    key("log.level", "\"info\"", "Lowest level that is logged: error, warn, info, debug or trace.", |c, v| {
        if !["error", "warn", "info", "debug", "trace"].contains(&v) {
            return Err("must be error, warn, info, debug or trace".to_owned());
        }
        c.log.level = v.to_owned();
        Ok(())
    }),
    fixed(key(
        "metrics.listen",
        "",
        "Separate address and port for /metrics, without a token; empty: none.",
        |c, v| {
            if v.is_empty() {
                c.metrics.listen = None;
                return Ok(());
            }
            let parsed = v.parse().map_err(|_| "must be ADDRESS:PORT, for example 127.0.0.1:9464".to_owned())?;
            c.metrics.listen = Some(parsed);
            Ok(())
        },
    )),
];

fn into<T: FromStr>(place: &mut T, value: &str, allowed: &str) -> Result<(), String> {
    *place = value.parse().map_err(|_| allowed.to_owned())?;
    Ok(())
}

fn count<T: FromStr>(place: &mut T, value: &str) -> Result<(), String> {
    into(place, value, "must be a whole number, 0 or more")
}

fn timeout(place: &mut std::time::Duration, value: &str) -> Result<(), String> {
    *place = units::duration(value)?;
    if place.is_zero() { Err("must be longer than 0s".to_owned()) } else { Ok(()) }
}

fn age(place: &mut Option<std::time::Duration>, value: &str) -> Result<(), String> {
    *place = match value {
        "off" | "" => None,
        text => {
            let age = units::duration(text).map_err(|_| "must be a duration such as 90d or 24h, or off".to_owned())?;
            if age.is_zero() {
                return Err("must be longer than 0s, or off".to_owned());
            }
            Some(age)
        }
    };
    Ok(())
}

fn api_path(value: &str) -> Result<String, String> {
    let is_segment = |segment: &str| {
        !segment.is_empty()
            && !matches!(segment, "." | "..")
            && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
    };
    let is_path = value.strip_prefix('/').is_some_and(|rest| rest.split('/').all(is_segment));
    if !is_path {
        return Err("must begin with / and have a name of letters and digits, for example /realtime/v1".to_owned());
    }
    match value {
        "/sdk" | "/healthz" | "/readyz" | "/metrics" => {
            Err(format!("must not be {value}, which is something else here"))
        }
        _ => Ok(value.to_owned()),
    }
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

fn endpoint(place: &mut Option<Endpoint>, value: &str) -> Result<(), String> {
    *place = if value.is_empty() { None } else { Some(value.parse()?) };
    Ok(())
}

fn bytes(value: &str) -> Result<usize, String> {
    usize::try_from(units::size(value)?).map_err(|_| "is too large for this system".to_owned())
}

fn list(value: &str) -> Vec<String> {
    value.split(',').map(str::trim).filter(|item| !item.is_empty()).map(ToOwned::to_owned).collect()
}

/// A network, or an address alone.
fn network(text: &str) -> Result<IpNet, String> {
    let net = match text.parse::<IpAddr>() {
        Ok(address) => Ok(IpNet::from(address.to_canonical())),
        Err(_) => text.parse::<IpNet>().map(|net| net.trunc()),
    };
    net.map_err(|_| format!("'{text}' is no address and no network; write 10.0.0.5 or 10.0.0.0/8"))
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
         # to set a key, remove the # and change the value. Command-line options and ACADEMY_RT_* variables override this file.\n\
         # A reload (systemctl reload academy-rt, or SIGHUP) applies new values; keys marked (restart) need a restart.\n",
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
