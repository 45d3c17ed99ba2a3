//! Webhooks: what the platform can be told of, and where it is asked.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

macro_rules! events {
    ($($(#[$doc:meta])* $name:ident = $bit:literal, $text:literal;)*) => {
        /// What the platform can be told of. The numbers are stored.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum HookEvent {
            $($(#[$doc])* $name = $bit,)*
        }

        impl HookEvent {
            /// All of them.
            pub const ALL: &'static [HookEvent] = &[$(HookEvent::$name),*];

            /// Its name on the wire and in the configuration.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(HookEvent::$name => $text,)* }
            }

            /// The event of a stored number.
            #[must_use]
            pub fn of(code: u8) -> Option<HookEvent> {
                match code { $($bit => Some(HookEvent::$name),)* _ => None }
            }
        }
    };
}

events! {
    /// A message was stored.
    MessageCreated = 0, "message.created";
    /// A message's content was changed.
    MessageEdited = 1, "message.edited";
    /// A message was deleted.
    MessageDeleted = 2, "message.deleted";
    /// A lesson's progress has a new version.
    ProgressUpdated = 3, "progress.updated";
    /// Somebody has read notifications.
    NotificationRead = 4, "notification.read";
    /// Somebody is here.
    UserOnline = 5, "user.online";
    /// Somebody is not here any more.
    UserOffline = 6, "user.offline";
    /// Somebody is in a room.
    RoomJoined = 7, "room.joined";
    /// Somebody is not in a room any more.
    RoomLeft = 8, "room.left";
}

/// Which events the platform is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HookEvents(u32);

impl HookEvents {
    /// None of them.
    pub const NONE: HookEvents = HookEvents(0);

    /// All of them.
    #[must_use]
    pub fn all() -> HookEvents {
        HookEvents::of(HookEvent::ALL)
    }

    /// These.
    #[must_use]
    pub fn of(events: &[HookEvent]) -> HookEvents {
        HookEvents(events.iter().fold(0, |bits, event| bits | 1 << (*event as u32)))
    }

    /// As one number.
    #[must_use]
    pub fn bits(self) -> u32 {
        self.0
    }

    /// From one number.
    #[must_use]
    pub fn from_bits(bits: u32) -> HookEvents {
        HookEvents(bits & HookEvents::all().0)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether this one is among them.
    #[must_use]
    pub fn has(self, event: HookEvent) -> bool {
        self.0 & 1 << (event as u32) != 0
    }

    /// Whether any of these is among them.
    #[must_use]
    pub fn has_any(self, events: &[HookEvent]) -> bool {
        events.iter().any(|event| self.has(*event))
    }
}

/// The address of a platform that is called: HTTPS, or HTTP on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    text: String,
    host: String,
}

impl Endpoint {
    /// The address as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its host, without the port.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether it is called by HTTPS.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.text.starts_with("https://")
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Endpoint, String> {
        let form = || "must be https://HOST/PATH, for example https://platform.example.org/hooks/academy-rt".to_owned();
        let (scheme, rest) = text.split_once("://").ok_or_else(form)?;
        if text.chars().any(|c| c.is_whitespace() || c.is_control() || !c.is_ascii()) {
            return Err(format!("{}; it may have ASCII characters alone, and no spaces", form()));
        }
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.contains('@') {
            return Err("must not have a user or a password: calls are signed with webhooks.secret_file".to_owned());
        }
        if text.contains('#') {
            return Err("must not have a fragment (#): a server never sees it".to_owned());
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => rest.split_once(']').ok_or_else(form)?,
            None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
        };
        let is_port =
            port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok_and(|n| n > 0));
        if host.is_empty() || !is_port {
            return Err(form());
        }
        match scheme {
            "https" => {}
            "http" if is_this_machine(host) => {}
            "http" => {
                return Err(format!(
                    "must not go over the network without TLS: write https://{rest}, or http:// with a host of this machine \
                     (127.0.0.1, [::1] or localhost)"
                ));
            }
            _ => return Err(form()),
        }
        Ok(Endpoint { text: text.to_owned(), host: host.to_owned() })
    }
}

fn is_this_machine(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_has_a_number_and_a_name_of_its_own() {
        for event in HookEvent::ALL {
            assert_eq!(HookEvent::of(*event as u8), Some(*event));
            assert!(HookEvents::of(&[*event]).has(*event) && HookEvents::all().has(*event));
            assert_eq!(HookEvent::ALL.iter().filter(|other| other.as_str() == event.as_str()).count(), 1);
        }
        assert_eq!(HookEvent::of(HookEvent::ALL.len() as u8), None);
        assert!(HookEvents::NONE.is_empty() && !HookEvents::NONE.has_any(HookEvent::ALL));
        assert_eq!(HookEvents::from_bits(HookEvents::all().bits()), HookEvents::all());
    }

    #[test]
    fn an_endpoint_is_https_or_on_this_machine() {
        for good in [
            "https://platform.example.org/hooks",
            "https://platform.example.org:8443/hooks?a=b",
            "https://[2001:db8::1]:8443/hooks",
            "http://127.0.0.1:3000/hooks",
            "http://[::1]:3000/hooks",
            "http://localhost/hooks",
        ] {
            assert_eq!(good.parse::<Endpoint>().map(|endpoint| endpoint.to_string()), Ok(good.to_owned()));
        }
        for (bad, why) in [
            ("platform.example.org", "must be https://"),
            ("ftp://platform.example.org/", "must be https://"),
            ("https:///hooks", "must be https://"),
            ("https://a:port/hooks", "must be https://"),
            ("https://a:0/hooks", "must be https://"),
            ("http://platform.example.org/hooks", "without TLS"),
            ("http://10.0.0.5/hooks", "without TLS"),
            ("http://localhost.example.org/hooks", "without TLS"),
            ("https://user:pass@platform.example.org/hooks", "user or a password"),
            ("https://platform.example.org/hooks#x", "fragment"),
            ("https://platform.example.org/a b", "no spaces"),
        ] {
            let error = bad.parse::<Endpoint>().unwrap_err();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }
}
