//! A transcript as one page for people and printers: it loads nothing, runs nothing, and takes from names and messages nothing but
//! their letters.

use super::{About, Counts};
use crate::archive::moments::moment;
use crate::domain::UserId;
use crate::domain::chat::{Message, MessageKind, RoomRecord};
use crate::domain::privacy::{VersionEnd, WithheldVersion};
use crate::protocol::admin::data::Language;
use crate::protocol::json::steers;

/// For the screen, and for paper of either size.
const STYLE: &str = "body{font:11pt/1.45 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem;color:#111;background:#fff}\
h1{font-size:1.4rem}dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem}dt{font-weight:600}dd{margin:0;overflow-wrap:anywhere}\
article{border-top:1px solid #bbb;padding:.5rem 0;break-inside:avoid}article h2{font-size:1rem;margin:0}article h2 small{font-weight:400;color:#444}\
p{margin:.25rem 0;white-space:pre-wrap;overflow-wrap:anywhere}.note{color:#444;font-size:.9rem}footer{border-top:2px solid #111;margin-top:1rem}\
code{overflow-wrap:anywhere}@page{margin:18mm 16mm}@media print{body{margin:0;max-width:none;padding:0;font-size:10pt}}";

/// The page's own words.
struct Words {
    lang: &'static str,
    title: &'static str,
    room: &'static str,
    private: &'static str,
    open: &'static str,
    period: &'static str,
    from: &'static str,
    to: &'static str,
    whole: &'static str,
    exported: &'static str,
    by: &'static str,
    purged: &'static str,
    number: &'static str,
    reply: &'static str,
    kinds: [&'static str; 3],
    edited: &'static str,
    deleted: &'static str,
    before_edit: &'static str,
    before_deletion: &'static str,
    count: [&'static str; 3],
    hash: &'static str,
    /// What stands before a colon: in French a space at which no line breaks.
    colon: &'static str,
}

const ENGLISH: Words = Words {
    lang: "en",
    title: "Transcript of a chat room",
    room: "Room",
    private: "private",
    open: "open",
    period: "Period",
    from: "from",
    to: "before",
    whole: "everything that is stored",
    exported: "Exported",
    by: "by",
    purged: "Removed by age: messages up to no.",
    number: "no.",
    reply: "In reply to message",
    kinds: ["image", "file", "system"],
    edited: "Edited",
    deleted: "Deleted",
    before_edit: "Before an edit",
    before_deletion: "Before its deletion",
    count: ["Messages", "edited", "deleted"],
    hash: "SHA-256 of all lines above this one",
    colon: ":",
};

const FRENCH: Words = Words {
    lang: "fr",
    title: "Transcription d’un salon de discussion",
    room: "Salon",
    private: "privé",
    open: "ouvert",
    period: "Période",
    from: "à partir du",
    to: "avant le",
    whole: "tout ce qui est conservé",
    exported: "Exporté",
    by: "par",
    purged: "Retirés en raison de leur âge\u{a0}: messages jusqu’au nº",
    number: "nº",
    reply: "En réponse au message",
    kinds: ["image", "fichier", "système"],
    edited: "Modifié",
    deleted: "Supprimé",
    before_edit: "Avant une modification",
    before_deletion: "Avant sa suppression",
    count: ["Messages", "modifiés", "supprimés"],
    hash: "SHA-256 de toutes les lignes au-dessus de celle-ci",
    colon: "\u{a0}:",
};

fn words(lang: Language) -> &'static Words {
    match lang {
        Language::En => &ENGLISH,
        Language::Fr => &FRENCH,
    }
}

/// Somebody else's text as text: nothing in it is markup, and a character that steers a terminal or turns a text around is shown by
/// its number.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' => out.push('\n'),
            '\r' if letters.peek() == Some(&'\n') => {}
            other if other.is_control() || steers(other) => out.push_str(&format!("[U+{:04X}]", u32::from(other))),
            other => out.push(other),
        }
    }
    out
}

/// The beginning of the page, to the first message.
pub(super) fn head(lang: Language, room: &RoomRecord, about: &About) -> String {
    let w = words(lang);
    let id = escaped(&room.id.canonical());
    let name = room.name.as_deref().map_or_else(String::new, |name| format!(" – <bdi>{}</bdi>", escaped(name)));
    let kind = if room.private { w.private } else { w.open };
    let mut period = Vec::new();
    period.extend(about.since.map(|since| format!("{} {}", w.from, moment(since))));
    period.extend(about.until.map(|until| format!("{} {}", w.to, moment(until))));
    let period = if period.is_empty() { w.whole.to_owned() } else { period.join(", ") };
    let purged = match room.purged_seq {
        0 => String::new(),
        seq => format!("<p class=\"note\">{} {seq}</p>\n", w.purged),
    };
    let (exported, by) = (moment(about.exported_at), escaped(&about.exported_by));
    format!(
        "<!DOCTYPE html>\n<html lang=\"{}\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{} – {id}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <h1>{}</h1>\n<dl>\n<dt>{}</dt><dd><bdi>{id}</bdi>{name} ({kind})</dd>\n<dt>{}</dt><dd>{period}</dd>\n\
         <dt>{}</dt><dd>{exported}, {} <bdi>{by}</bdi></dd>\n</dl>\n{purged}",
        w.lang, w.title, w.title, w.room, w.period, w.exported, w.by,
    )
}

fn by_whom(w: &Words, user: Option<&UserId>) -> String {
    user.map_or_else(String::new, |user| format!(", {} <bdi>{}</bdi>", w.by, escaped(&user.canonical())))
}

/// One message, with what became of it.
pub(super) fn message(lang: Language, message: &Message, versions: &[WithheldVersion]) -> String {
    let w = words(lang);
    let [image, file, system] = w.kinds;
    let kind = match message.kind {
        MessageKind::Text => String::new(),
        MessageKind::Image => format!(", {image}"),
        MessageKind::File => format!(", {file}"),
        MessageKind::System => format!(", {system}"),
    };
    let mut out = format!(
        "<article id=\"m{}\">\n<h2><bdi>{}</bdi> <small>(<bdi>{}</bdi>) {}, {} {}{kind}</small></h2>\n",
        message.id,
        escaped(&message.sender_name),
        escaped(&message.sender.canonical()),
        moment(message.at),
        w.number,
        message.seq,
    );
    if let Some(id) = message.reply_to {
        out.push_str(&format!("<p class=\"note\">{} {id}</p>\n", w.reply));
    }
    if message.deleted_at.is_none() {
        out.push_str(&format!("<p dir=\"auto\">{}</p>\n", escaped(&message.content)));
    }
    for version in versions {
        let label = match version.change {
            VersionEnd::Deleted => w.before_deletion,
            VersionEnd::Edited => w.before_edit,
        };
        let (until, by) = (moment(version.until), by_whom(w, Some(&version.by)));
        let said = escaped(&version.content);
        out.push_str(&format!("<p class=\"note\">{label}, {until}{by}{}</p>\n<p dir=\"auto\">{said}</p>\n", w.colon));
    }
    for (label, at, by) in [
        (w.edited, message.edited_at, message.edited_by.as_ref()),
        (w.deleted, message.deleted_at, message.deleted_by.as_ref()),
    ] {
        if let Some(at) = at {
            out.push_str(&format!("<p class=\"note\">{label} {}{}</p>\n", moment(at), by_whom(w, by)));
        }
    }
    out.push_str("</article>\n");
    out
}

/// The end of the page, in one line: the hash is of all lines above it.
pub(super) fn foot(lang: Language, counts: Counts, sha256: &str) -> String {
    let w = words(lang);
    let ([messages, edited, deleted], colon) = (w.count, w.colon);
    format!(
        "<footer><p>{messages}{colon} {} ({edited}{colon} {}, {deleted}{colon} {})</p><p>{}{colon} <code>{sha256}</code></p></footer></body></html>\n",
        counts.messages, counts.edited, counts.deleted, w.hash,
    )
}
