//! The words of the pages, in English and French side by side: one that lacks either does not compile. A name in braces stands
//! for a value that the page fills in.

/// A language of the pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    English,
    French,
}

impl Language {
    /// Its tag (BCP 47).
    pub(super) fn tag(self) -> &'static str {
        match self {
            Language::English => "en",
            Language::French => "fr",
        }
    }

    /// What it calls itself.
    pub(super) fn name(self) -> &'static str {
        match self {
            Language::English => "English",
            Language::French => "Français",
        }
    }

    /// The other one.
    pub(super) fn other(self) -> Language {
        match self {
            Language::English => Language::French,
            Language::French => Language::English,
        }
    }

    fn of_tag(tag: &str) -> Option<Language> {
        // A region, as in fr-CA, makes no difference here.
        match tag.split('-').next()?.trim().to_ascii_lowercase().as_str() {
            "en" => Some(Language::English),
            "fr" => Some(Language::French),
            _ => None,
        }
    }

    /// What the query asks for (`lang=fr`), else what the browser prefers by its `Accept-Language` (RFC 9110, 12.5.4), else
    /// English.
    pub(super) fn negotiate(query: &str, accepted: &str) -> Language {
        let mut asked = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "lang");
        if let Some(asked) = asked.find_map(|(_, tag)| Language::of_tag(&tag)) {
            return asked;
        }
        let mut best = (0.0, Language::English);
        for range in accepted.split(',') {
            let mut parts = range.split(';');
            let language = parts.next().and_then(Language::of_tag);
            let weight = parts.find_map(|part| part.trim().strip_prefix("q=")?.parse::<f32>().ok()).unwrap_or(1.0);
            // Of equal weight the first one counts.
            if let Some(language) = language.filter(|_| weight > best.0) {
                best = (weight, language);
            }
        }
        best.1
    }
}

/// A text in both languages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text {
    en: &'static str,
    fr: &'static str,
}

const fn text(en: &'static str, fr: &'static str) -> Text {
    Text { en, fr }
}

impl Text {
    /// The text in one of them.
    pub(super) fn to(self, language: &Language) -> &'static str {
        match language {
            Language::English => self.en,
            Language::French => self.fr,
        }
    }
}

/// How good an outcome is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Mark {
    Good,
    Fair,
    Bad,
    Skipped,
}

impl Mark {
    /// Its name in the style sheet.
    pub(super) fn name(self) -> &'static str {
        match self {
            Mark::Good => "good",
            Mark::Fair => "fair",
            Mark::Bad => "bad",
            Mark::Skipped => "skipped",
        }
    }

    /// Its word for people.
    pub(super) fn word(self) -> Text {
        match self {
            Mark::Good => text("OK", "OK"),
            Mark::Fair => text("Take note", "À noter"),
            Mark::Bad => text("Problem", "Problème"),
            Mark::Skipped => text("Not tried", "Non essayé"),
        }
    }
}

/// What may come out of a check.
#[derive(Debug)]
pub(super) struct Outcome {
    /// The name that the script gives it.
    pub(super) when: &'static str,
    /// How good it is.
    pub(super) mark: Mark,
    /// What it means, and what to do.
    pub(super) text: Text,
}

const fn outcome(when: &'static str, mark: Mark, en: &'static str, fr: &'static str) -> Outcome {
    Outcome { when, mark, text: text(en, fr) }
}

/// One thing that is tried.
#[derive(Debug)]
pub(super) struct Check {
    /// The name that the script gives it.
    pub(super) id: &'static str,
    /// Its name for people.
    pub(super) name: Text,
    /// All that may come out of it.
    pub(super) outcomes: &'static [Outcome],
}

/// The words of the connection check.
#[derive(Debug)]
pub(super) struct CheckWords {
    pub(super) title: Text,
    pub(super) purpose: Text,
    pub(super) needs_script: Text,
    pub(super) running: Text,
    pub(super) waiting: Text,
    pub(super) again: Text,
    pub(super) copy: Text,
    pub(super) copied: Text,
    pub(super) not_copied: Text,
    pub(super) for_the_administrator: Text,
    pub(super) verdicts: &'static [Outcome],
    pub(super) checks: &'static [Check],
}

/// The words of the connection check.
pub(super) const CHECK: CheckWords = CheckWords {
    title: text("Connection check", "Vérification de la connexion"),
    purpose: text(
        "This page tries each way by which the learning platform reaches this server, from this browser and on this network.",
        "Cette page essaie chacune des voies par lesquelles la plateforme d’apprentissage joint ce serveur, depuis ce navigateur et sur ce réseau.",
    ),
    needs_script: text(
        "The server answers. To check the rest, allow scripts on this page.",
        "Le serveur répond. Pour vérifier le reste, autorisez les scripts sur cette page.",
    ),
    running: text(
        "The check is running. It takes a few seconds. If nothing changes within a minute, the files below /console/ do not get through to this browser.",
        "La vérification est en cours. Elle prend quelques secondes. Si rien ne change en une minute, les fichiers sous /console/ ne parviennent pas à ce navigateur.",
    ),
    waiting: text("Not tried yet.", "Pas encore essayé."),
    again: text("Check again", "Vérifier de nouveau"),
    copy: text("Copy the result", "Copier le résultat"),
    copied: text("The result is copied.", "Le résultat est copié."),
    not_copied: text(
        "This browser does not allow copying here. Select the text of the page instead.",
        "Ce navigateur ne permet pas de copier ici. Sélectionnez plutôt le texte de la page.",
    ),
    for_the_administrator: text(
        "Administrators: server.welcome = false in the configuration takes this page away.",
        "Pour l’administration : server.welcome = false dans la configuration retire cette page.",
    ),
    verdicts: &[
        outcome(
            "websocket",
            Mark::Good,
            "The platform uses WebSocket here, the fastest way.",
            "La plateforme utilise ici WebSocket, la voie la plus rapide.",
        ),
        outcome(
            "polling",
            Mark::Fair,
            "The platform works here. WebSocket does not get through, so it uses HTTP polling: everything arrives, a little later.",
            "La plateforme fonctionne ici. WebSocket ne passe pas; elle utilise donc l’interrogation HTTP : tout arrive, un peu plus tard.",
        ),
        outcome(
            "http",
            Mark::Fair,
            "The platform works here by plain HTTP requests, if its pages use the SDK. Socket.IO does not get through.",
            "La plateforme fonctionne ici par de simples requêtes HTTP, si ses pages utilisent le SDK. Socket.IO ne passe pas.",
        ),
        outcome(
            "off",
            Mark::Fair,
            "Real-time connections are switched off on this server. The platform works by plain HTTP requests, if its pages use the SDK.",
            "Les connexions en temps réel sont désactivées sur ce serveur. La plateforme fonctionne par de simples requêtes HTTP, si ses pages utilisent le SDK.",
        ),
        outcome(
            "none",
            Mark::Bad,
            "The platform does not work here. The first problem in the list says what to do.",
            "La plateforme ne fonctionne pas ici. Le premier problème de la liste indique quoi faire.",
        ),
    ],
    checks: &[
        Check {
            id: "server",
            name: text("Server", "Serveur"),
            outcomes: &[
                outcome(
                    "good",
                    Mark::Good,
                    "academy-rt {version} answered within {ms} ms.",
                    "academy-rt {version} a répondu en {ms} ms.",
                ),
                outcome(
                    "other",
                    Mark::Bad,
                    "Something else answered in its place (status {status}). The proxy or portal on the way has to pass everything below {base} on to academy-rt.",
                    "Autre chose a répondu à sa place (code {status}). Le mandataire ou le portail qui se trouve sur le chemin doit transmettre à academy-rt tout ce qui est sous {base}.",
                ),
                outcome(
                    "failed",
                    Mark::Bad,
                    "There was no answer. Check whether this device is still on the network, and whether the server is running.",
                    "Il n’y a pas eu de réponse. Vérifiez que cet appareil est toujours sur le réseau et que le serveur est en marche.",
                ),
            ],
        },
        Check {
            id: "encryption",
            name: text("Encryption", "Chiffrement"),
            outcomes: &[
                outcome(
                    "good",
                    Mark::Good,
                    "The connection is encrypted, and this browser has accepted the certificate.",
                    "La connexion est chiffrée, et ce navigateur a accepté le certificat.",
                ),
                outcome(
                    "local",
                    Mark::Fair,
                    "The connection is not encrypted. It does not leave this machine, so nobody else can read it.",
                    "La connexion n’est pas chiffrée. Elle ne quitte pas cette machine; personne d’autre ne peut donc la lire.",
                ),
                outcome(
                    "plain",
                    Mark::Bad,
                    "The connection is not encrypted: anybody on the way can read messages and tokens. Open this page by its https:// address.",
                    "La connexion n’est pas chiffrée : n’importe qui sur le chemin peut lire les messages et les jetons. Ouvrez cette page par son adresse https://.",
                ),
            ],
        },
        Check {
            id: "clock",
            name: text("Clock", "Horloge"),
            outcomes: &[
                outcome(
                    "good",
                    Mark::Good,
                    "This device and the server agree on the time.",
                    "Cet appareil et le serveur sont à la même heure.",
                ),
                outcome(
                    "off",
                    Mark::Fair,
                    "This device and the server differ by {seconds} seconds. Tokens may be refused as expired or as not yet valid: set the clock that is wrong.",
                    "Cet appareil et le serveur diffèrent de {seconds} secondes. Des jetons peuvent être refusés parce qu’ils seraient expirés ou pas encore valides : réglez l’horloge qui se trompe.",
                ),
                outcome(
                    "unknown",
                    Mark::Skipped,
                    "No answer of the server said what time it is there.",
                    "Aucune réponse du serveur n’a dit quelle heure il y est.",
                ),
            ],
        },
        Check {
            id: "api",
            name: text("HTTP requests", "Requêtes HTTP"),
            outcomes: &[
                outcome(
                    "good",
                    Mark::Good,
                    "Requests below {apiPath} get through, within {ms} ms.",
                    "Les requêtes sous {apiPath} passent, en {ms} ms.",
                ),
                outcome(
                    "other",
                    Mark::Bad,
                    "Requests below {apiPath} do not reach the server (status {status}). The proxy on the way has to pass them on.",
                    "Les requêtes sous {apiPath} n’atteignent pas le serveur (code {status}). Le mandataire qui se trouve sur le chemin doit les transmettre.",
                ),
                outcome(
                    "failed",
                    Mark::Bad,
                    "Requests below {apiPath} have no answer: something on the way cuts them off.",
                    "Les requêtes sous {apiPath} restent sans réponse : quelque chose les coupe sur le chemin.",
                ),
            ],
        },
        Check {
            id: "origin",
            name: text("Address of the page", "Adresse de la page"),
            outcomes: &[
                outcome(
                    "good",
                    Mark::Good,
                    "The server takes connections of pages at {origin}.",
                    "Le serveur accepte les connexions des pages de {origin}.",
                ),
                outcome(
                    "refused",
                    Mark::Bad,
                    "The server refuses connections of pages at {origin}. A proxy on the way must pass on the header Host as the browser sent it; otherwise add {origin} to server.cors_origins.",
                    "Le serveur refuse les connexions des pages de {origin}. Un mandataire sur le chemin doit transmettre l’en-tête Host tel que le navigateur l’a envoyé; sinon, ajoutez {origin} à server.cors_origins.",
                ),
                outcome(
                    "unknown",
                    Mark::Fair,
                    "The request that asks for it (OPTIONS) does not get through. Pages at another address than the server’s need it: the proxy on the way has to pass it on.",
                    "La requête qui le demande (OPTIONS) ne passe pas. Les pages situées à une autre adresse que celle du serveur en ont besoin : le mandataire qui se trouve sur le chemin doit la transmettre.",
                ),
            ],
        },
        Check {
            id: "polling",
            name: text("Socket.IO by HTTP polling", "Socket.IO par interrogation HTTP"),
            outcomes: &[
                outcome("good", Mark::Good, "It works, within {ms} ms.", "Cela fonctionne, en {ms} ms."),
                outcome(
                    "off",
                    Mark::Skipped,
                    "Real-time connections are switched off on this server (server.websocket_enabled).",
                    "Les connexions en temps réel sont désactivées sur ce serveur (server.websocket_enabled).",
                ),
                outcome(
                    "busy",
                    Mark::Fair,
                    "The server takes no more new connections of this network for the moment. Check again in a minute.",
                    "Le serveur n’accepte pas d’autres connexions de ce réseau pour le moment. Vérifiez de nouveau dans une minute.",
                ),
                outcome(
                    "refused",
                    Mark::Bad,
                    "The server refuses it because of the address of this page, see above.",
                    "Le serveur la refuse à cause de l’adresse de cette page, voir ci-dessus.",
                ),
                outcome(
                    "other",
                    Mark::Bad,
                    "Requests to {path} do not reach the server (status {status}). The proxy on the way has to pass them on.",
                    "Les requêtes vers {path} n’atteignent pas le serveur (code {status}). Le mandataire qui se trouve sur le chemin doit les transmettre.",
                ),
                outcome(
                    "failed",
                    Mark::Bad,
                    "Requests to {path} have no answer: something on the way cuts them off.",
                    "Les requêtes vers {path} restent sans réponse : quelque chose les coupe sur le chemin.",
                ),
            ],
        },
        Check {
            id: "websocket",
            name: text("WebSocket", "WebSocket"),
            outcomes: &[
                outcome("good", Mark::Good, "It works, within {ms} ms.", "Cela fonctionne, en {ms} ms."),
                outcome(
                    "blocked",
                    Mark::Fair,
                    "It does not get through: a proxy or firewall on the way refuses it. A proxy that is to let it through passes on the headers Upgrade and Connection.",
                    "Il ne passe pas : un mandataire ou un pare-feu le refuse sur le chemin. Un mandataire qui doit le laisser passer transmet les en-têtes Upgrade et Connection.",
                ),
                outcome(
                    "silent",
                    Mark::Fair,
                    "It is accepted, and then nothing comes through: a device on the way inspects connections and holds this one back. Whoever runs the network can exempt this server.",
                    "Il est accepté, puis rien ne passe : un appareil sur le chemin inspecte les connexions et retient celle-ci. Les responsables du réseau peuvent en exempter ce serveur.",
                ),
                outcome(
                    "off",
                    Mark::Skipped,
                    "Real-time connections are switched off on this server.",
                    "Les connexions en temps réel sont désactivées sur ce serveur.",
                ),
            ],
        },
        Check {
            id: "upgrade",
            name: text("From polling to WebSocket", "De l’interrogation à WebSocket"),
            outcomes: &[
                outcome(
                    "good",
                    Mark::Good,
                    "A connection that begins with polling moves on to WebSocket, within {ms} ms.",
                    "Une connexion qui commence par l’interrogation passe à WebSocket, en {ms} ms.",
                ),
                outcome(
                    "failed",
                    Mark::Fair,
                    "A connection that begins with polling stays with polling.",
                    "Une connexion qui commence par l’interrogation en reste à l’interrogation.",
                ),
                outcome(
                    "skipped",
                    Mark::Skipped,
                    "It needs both polling and WebSocket.",
                    "Il y faut l’interrogation et WebSocket.",
                ),
            ],
        },
        Check {
            id: "stock",
            name: text("Stock socket.io-client", "socket.io-client d’origine"),
            outcomes: &[
                outcome(
                    "any",
                    Mark::Good,
                    "It connects, with any value of its option transports.",
                    "Il se connecte, quelle que soit la valeur de son option transports.",
                ),
                outcome(
                    "polling",
                    Mark::Fair,
                    "It connects with its defaults. With transports: ['websocket', 'polling'] it never falls back to polling by itself: leave the option out, or set tryAllTransports: true beside it.",
                    "Il se connecte avec ses valeurs par défaut. Avec transports: ['websocket', 'polling'], il ne revient jamais de lui-même à l’interrogation : omettez l’option, ou ajoutez-y tryAllTransports: true.",
                ),
                outcome(
                    "websocket",
                    Mark::Fair,
                    "It connects with transports: ['websocket'] alone.",
                    "Il se connecte uniquement avec transports: ['websocket'].",
                ),
                outcome("none", Mark::Bad, "It cannot connect here.", "Il ne peut pas se connecter ici."),
            ],
        },
        Check {
            id: "sdk",
            name: text("SDK of academy-rt", "SDK d’academy-rt"),
            outcomes: &[
                outcome(
                    "websocket",
                    Mark::Good,
                    "It loads from this server, and uses WebSocket here.",
                    "Il se charge depuis ce serveur, et utilise ici WebSocket.",
                ),
                outcome(
                    "polling",
                    Mark::Good,
                    "It loads from this server, and uses HTTP polling here.",
                    "Il se charge depuis ce serveur, et utilise ici l’interrogation HTTP.",
                ),
                outcome(
                    "http",
                    Mark::Good,
                    "It loads from this server, and uses plain HTTP requests here.",
                    "Il se charge depuis ce serveur, et utilise ici de simples requêtes HTTP.",
                ),
                outcome(
                    "none",
                    Mark::Bad,
                    "It loads from this server, and has no way to connect here.",
                    "Il se charge depuis ce serveur, et n’a ici aucun moyen de se connecter.",
                ),
                outcome(
                    "failed",
                    Mark::Fair,
                    "It does not load from {sdk}. A page that loads it from there needs the proxy on the way to pass it on.",
                    "Il ne se charge pas depuis {sdk}. Pour une page qui le charge de là, le mandataire qui se trouve sur le chemin doit le transmettre.",
                ),
            ],
        },
    ],
};

/// The words of the page of `serve --dev`.
pub(super) struct DevWords {
    pub(super) title: Text,
    pub(super) purpose: Text,
    pub(super) needs_script: Text,
    pub(super) connected: Text,
    pub(super) away: Text,
    pub(super) leave: Text,
    pub(super) come_back: Text,
    pub(super) progress: Text,
    pub(super) notify: Text,
    pub(super) messages: Text,
    pub(super) types: Text,
    pub(super) message: Text,
    pub(super) send: Text,
    pub(super) inspector: Text,
    pub(super) inspected: Text,
    pub(super) pause: Text,
    pub(super) clear: Text,
    pub(super) filter: Text,
    pub(super) sent: Text,
    pub(super) told: Text,
    pub(super) answered: Text,
    pub(super) own: Text,
    pub(super) own_page: Text,
    pub(super) not_for_production: Text,
}

pub(super) const DEV: DevWords = DevWords {
    title: text("Two people in one room", "Deux personnes dans un salon"),
    purpose: text(
        "Ann and Ben use the stock client, socket.io-client. Write as either of them, and see below what goes over the wire.",
        "Ann et Ben utilisent le client standard, socket.io-client. Écrivez au nom de l’une ou de l’autre, et voyez plus bas ce qui circule.",
    ),
    needs_script: text("This page needs JavaScript.", "Cette page a besoin de JavaScript."),
    connected: text("connected", "en ligne"),
    away: text("not connected", "hors ligne"),
    leave: text("Disconnect", "Se déconnecter"),
    come_back: text("Connect", "Se connecter"),
    progress: text("Report progress", "Signaler un progrès"),
    notify: text("Notify", "Notifier"),
    messages: text("Messages", "Messages"),
    types: text("{name} is typing…", "{name} écrit…"),
    message: text("Message", "Message"),
    send: text("Send", "Envoyer"),
    inspector: text("Events", "Événements"),
    inspected: text(
        "The newest are first. Open one to see what it says.",
        "Les plus récents sont en premier. Ouvrez-en un pour voir ce qu’il contient.",
    ),
    pause: text("Pause", "Pause"),
    clear: text("Clear", "Effacer"),
    filter: text("Show only what has this text", "N’afficher que ce qui contient ce texte"),
    sent: text("sends", "envoie"),
    told: text("receives", "reçoit"),
    answered: text("is answered:", "a pour réponse :"),
    own: text("Your own page", "Votre propre page"),
    own_page: text(
        "Pages of this machine may connect, on any port. This is all that one needs:",
        "Les pages de cette machine peuvent se connecter, sur n’importe quel port. Voici tout ce qu’il faut :",
    ),
    not_for_production: text(
        "This page, its tokens and the leave for all pages of this machine are there with serve --dev alone.",
        "Cette page, ses jetons et l’accès de toutes les pages de cette machine n’existent qu’avec serve --dev.",
    ),
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_is_what_is_asked_for_else_what_the_browser_prefers_else_english() {
        for (query, accepted, language) in [
            ("", "", Language::English),
            ("", "fr-CA,fr;q=0.9,en;q=0.8", Language::French),
            ("", "en-CA,fr;q=0.9", Language::English),
            ("", "de, fr;q=0.2, en;q=0.1", Language::French),
            ("", "fr;q=0, en;q=0.1", Language::English),
            ("", "fr;q=x", Language::French),
            ("", "*", Language::English),
            ("lang=fr", "en", Language::French),
            ("lang=EN-ca", "fr", Language::English),
            ("lang=de", "fr", Language::French),
            ("lang=%66r&x", "en", Language::French),
            ("language=fr", "en", Language::English),
        ] {
            assert_eq!(Language::negotiate(query, accepted), language, "{query} {accepted}");
        }
    }

    /// The names of values in a text, in the order of their letters.
    fn values(text: &str) -> Vec<&str> {
        let mut names: Vec<&str> = text.split('{').skip(1).filter_map(|rest| rest.split('}').next()).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn both_languages_fill_in_the_same_values_and_no_text_stands_for_both() {
        let outcomes = CHECK.checks.iter().flat_map(|check| check.outcomes).chain(CHECK.verdicts);
        for Outcome { text, .. } in outcomes {
            assert_eq!(values(text.en), values(text.fr), "{}", text.en);
            assert!(!text.en.is_empty() && !text.fr.is_empty() && text.en != text.fr, "{}", text.en);
        }
    }

    #[test]
    fn each_outcome_has_a_name_of_its_own() {
        for outcomes in CHECK.checks.iter().map(|check| check.outcomes).chain([CHECK.verdicts]) {
            let mut names: Vec<&str> = outcomes.iter().map(|outcome| outcome.when).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), outcomes.len());
        }
    }
}
