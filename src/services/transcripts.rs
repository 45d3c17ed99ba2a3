//! Transcripts of rooms, for requests for access and for courts: all that was said in a room, of one moment, streamed, as JSON
//! Lines or as a page to print. Each ends with a line that has the SHA-256 of all lines before it.

mod page;

use std::io::{self, Write};

use aws_lc_rs::digest::{Context, SHA256};
use serde::Serialize;

use crate::config::capacity::{self, Pace};
use crate::domain::audit::{action, hex};
use crate::domain::chat::{Message, RoomRecord};
use crate::domain::privacy::WithheldVersion;
use crate::domain::{RoomId, Scope, Timestamp};
use crate::protocol::admin::data::{Language, TranscriptFormat, TranscriptRequest};
use crate::protocol::error::{ApiError, ErrorCode};
use crate::protocol::json;
use crate::protocol::view::VersionedMessage;
use crate::services::audit::record_reading;
use crate::services::rooms::room_error;
use crate::services::storage::Storage;
use crate::services::streams::{self, ByteStream, PieceWriter, Streams};
use crate::services::turns::{NoTurn, Turn, Turns};
use crate::services::{Caller, authorize};
use crate::store::{TranscriptQuery, TranscriptSink};

/// What a transcript says of itself.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct About {
    /// Only what was said at this moment or later.
    since: Option<Timestamp>,
    /// Only what was said before this moment.
    until: Option<Timestamp>,
    /// When it was made.
    exported_at: Timestamp,
    /// Who has made it; on the server's own machine with the local user.
    exported_by: String,
}

/// What a transcript has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
struct Counts {
    /// Messages, those that are deleted among them.
    messages: u64,
    /// Those that were changed.
    edited: u64,
    /// Those that were deleted.
    deleted: u64,
}

/// The first line of JSON Lines.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RoomLine<'a> {
    record: &'static str,
    room_id: &'a RoomId,
    name: Option<&'a str>,
    private: bool,
    created_at: Timestamp,
    /// Messages up to this `seq` have gone by their age.
    purged_up_to_seq: u64,
    #[serde(flatten)]
    about: &'a About,
}

#[derive(Serialize)]
struct MessageLine<'a> {
    record: &'static str,
    #[serde(flatten)]
    message: VersionedMessage<'a>,
}

#[derive(Serialize)]
struct EndLine<'a> {
    record: &'static str,
    #[serde(flatten)]
    counts: Counts,
    sha256: &'a str,
}

/// Writes a transcript, and knows the hash of what it has written.
struct Transcript<W: Write> {
    out: W,
    hash: Context,
    format: TranscriptFormat,
    lang: Language,
    about: About,
    counts: Counts,
    /// The turn of whoever asked, until the end.
    _turn: Option<Turn>,
}

impl<W: Write> Transcript<W> {
    fn new(out: W, request: &TranscriptRequest, about: About, turn: Option<Turn>) -> Transcript<W> {
        let (format, lang) = (request.format, request.lang);
        Transcript { out, hash: Context::new(&SHA256), format, lang, about, counts: Counts::default(), _turn: turn }
    }

    fn text(&mut self, text: &[u8]) -> io::Result<()> {
        self.hash.update(text);
        self.out.write_all(text)
    }

    fn line<T: Serialize>(&mut self, value: &T) -> io::Result<()> {
        let mut line = json::to_vec(value)?;
        line.push(b'\n');
        self.text(&line)
    }
}

impl<W: Write + Send> TranscriptSink for Transcript<W> {
    fn begin(&mut self, room: &RoomRecord) -> io::Result<()> {
        let about = self.about.clone();
        match self.format {
            TranscriptFormat::Jsonl => self.line(&RoomLine {
                record: "room",
                room_id: &room.id,
                name: room.name.as_deref(),
                private: room.private,
                created_at: room.created_at,
                purged_up_to_seq: room.purged_seq,
                about: &about,
            }),
            TranscriptFormat::Html => self.text(page::head(self.lang, room, &about).as_bytes()),
        }
    }

    fn message(&mut self, message: &Message, versions: &[WithheldVersion]) -> io::Result<()> {
        self.counts.messages += 1;
        self.counts.edited += u64::from(message.edited_at.is_some());
        self.counts.deleted += u64::from(message.deleted_at.is_some());
        match self.format {
            TranscriptFormat::Jsonl => {
                // A key is its sender's, and is shown to nobody else.
                let message = Message { client_id: None, ..message.clone() };
                self.line(&MessageLine { record: "message", message: VersionedMessage::new(&message, versions) })
            }
            TranscriptFormat::Html => self.text(page::message(self.lang, message, versions).as_bytes()),
        }
    }

    fn end(&mut self) -> io::Result<()> {
        let hash = self.hash.clone().finish();
        let sha256 = hex(hash.as_ref());
        match self.format {
            TranscriptFormat::Jsonl => self.line(&EndLine { record: "end", counts: self.counts, sha256: &sha256 }),
            TranscriptFormat::Html => self.text(page::foot(self.lang, self.counts, &sha256).as_bytes()),
        }?;
        self.out.flush()
    }
}

/// Transcripts, for administrators.
#[derive(Debug, Clone)]
pub struct Transcripts {
    store: Storage,
    /// The transcripts that are being sent.
    streams: Streams,
    /// Their turns: a caller has one at a time.
    turns: Turns,
}

impl Transcripts {
    pub(super) fn new(store: Storage, streams: Streams) -> Transcripts {
        Transcripts { store, streams, turns: Turns::default() }
    }

    /// The transcript of a room, streaming. It is of one moment and holds a view of the store: a receiver that takes too little
    /// ([`capacity::BACKUP_PACE`]) is given up, and what ends early does not look whole.
    ///
    /// # Errors
    /// `invalid_payload`, `forbidden`, `not_found`, `conflict` while the caller has one under way or too many others have,
    /// `unavailable`.
    pub async fn stream(
        &self,
        caller: &Caller,
        room: RoomId,
        request: TranscriptRequest,
    ) -> Result<ByteStream, ApiError> {
        authorize(caller, Scope::Admin)?;
        let TranscriptRequest { since, until, versions, .. } = request;
        if since.zip(until).is_some_and(|(since, until)| since >= until) {
            return Err(ApiError::field("until", "until must be later than since"));
        }
        let record = self.store.room(room).await.map_err(room_error)?.record;
        let turn = self.turns.begin(&caller.actor.user, capacity::TRANSCRIPTS, capacity::TRANSCRIPTS_EACH);
        let turn = turn.map_err(|why| {
            let message = match why {
                NoTurn::Own => "another transcript is being made; try again when it has ended",
                NoTurn::All => "other transcripts are being made; try again when one of them has ended",
            };
            ApiError::new(ErrorCode::Conflict, message)
        })?;
        let withheld = if versions { ", with withheld versions" } else { "" };
        record_reading(&self.store, caller, action::ROOM_EXPORT, format!("room {}{withheld}", record.id)).await?;
        let (mut stream, sender, ending) = streams::stream(
            capacity::BACKUP_PIECES,
            Pace::new(
                if caller.is_local() { capacity::LOCAL_PATIENCE } else { capacity::PATIENCE },
                capacity::BACKUP_PACE,
            ),
        );
        let actor = caller.actor.user.canonical();
        let exported_by = match caller.origin.as_deref().filter(|_| caller.is_local()) {
            Some(origin) => format!("{actor}, {origin}"),
            None => actor,
        };
        let about = About { since, until, exported_at: self.store.now(), exported_by };
        let sink = Transcript::new(PieceWriter::new(sender), &request, about, Some(turn));
        let room_id = record.id.clone();
        let query = TranscriptQuery { room: record.id, since, until, versions };
        let store = self.store.clone();
        let (answer, outcome) = tokio::sync::oneshot::channel();
        let (what, whom) = (format!("a transcript of room {room_id}"), caller.in_words());
        let streams = self.streams.clone();
        self.streams.spawn(async move {
            let sent = store.transcript(query, Box::new(sink)).await;
            match &sent {
                Ok(()) => ending.whole(),
                Err(error) => {
                    streams.tell_incomplete(&what, &whom, &streams::why_incomplete(error));
                    drop(ending);
                }
            }
            // The receiver may be gone; that is fine.
            let _ = answer.send(sent);
        });
        if stream.begins().await {
            return Ok(stream);
        }
        match outcome.await {
            Ok(Err(error)) => Err(room_error(error)),
            _ => Err(ApiError::unavailable()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::UserId;
    use crate::domain::chat::MessageKind;

    /// Closes what it is in, leaves the line, turns the text around, and rings.
    const HOSTILE: &str = "</p><script>alert('x')</script> & \"q\" \u{202e}gnp.exe\u{2066}\u{1b}[2J\u{7}\r\nsecond";

    fn written(format: TranscriptFormat, lang: Language) -> String {
        let request = TranscriptRequest { format, lang, ..TranscriptRequest::default() };
        let about =
            About { since: None, until: Some(Timestamp(9)), exported_at: Timestamp(1), exported_by: HOSTILE.into() };
        let mut out = Vec::new();
        let mut transcript = Transcript::new(&mut out, &request, about, None);
        let room = RoomId::parse("french").unwrap();
        transcript
            .begin(&RoomRecord { name: Some(HOSTILE.into()), ..RoomRecord::new(room.clone(), Timestamp(0)) })
            .unwrap();
        let message = Message {
            id: 1,
            seq: 1,
            room,
            sender: UserId::parse("<b>7").unwrap(),
            sender_name: HOSTILE.into(),
            content: HOSTILE.into(),
            kind: MessageKind::Text,
            reply_to: None,
            client_id: Some("a key".into()),
            at: Timestamp(5),
            edited_at: Some(Timestamp(6)),
            deleted_at: None,
            edited_by: Some(UserId::parse("<i>8").unwrap()),
            deleted_by: None,
        };
        transcript.message(&message, &[]).unwrap();
        let gone = Message { id: 2, seq: 2, content: String::new(), deleted_at: Some(Timestamp(7)), ..message };
        transcript.message(&gone, &[]).unwrap();
        transcript.end().unwrap();
        String::from_utf8(out).unwrap()
    }

    /// What the last line says of all lines before it.
    fn assert_hashed(text: &str) {
        let (before, last) = text.trim_end().rsplit_once('\n').unwrap();
        let mut hash = Context::new(&SHA256);
        hash.update(before.as_bytes());
        hash.update(b"\n");
        let sha256 = hex(hash.finish().as_ref());
        assert!(last.contains(&sha256), "{sha256} is not in {last}");
    }

    #[test]
    fn a_page_takes_nothing_from_names_and_messages_but_their_letters() {
        for (lang, words) in [
            (Language::En, ["lang=\"en\"", "Deleted", "Edited"]),
            (Language::Fr, ["lang=\"fr\"", "Supprimé", "Modifié"]),
        ] {
            let page = written(TranscriptFormat::Html, lang);
            assert!(words.iter().all(|word| page.contains(word)), "{page}");
            assert!(!page.contains("<script") && !page.contains("<b>7") && !page.contains("<i>8"), "{page}");
            assert!(page.contains("&lt;/p&gt;&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &quot;q&quot; [U+202E]gnp.exe[U+2066][U+001B][2J[U+0007]\nsecond"), "{page}");
            assert!(!page.chars().any(|c| (c.is_control() && c != '\n') || json::steers(c)), "{page:?}");
            assert!(!page.contains("a key"));
            assert_hashed(&page);
        }
    }

    #[test]
    fn lines_are_json_each_and_the_last_has_the_counts_and_the_hash() {
        let text = written(TranscriptFormat::Jsonl, Language::En);
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let records: Vec<&str> = lines.iter().map(|line| line["record"].as_str().unwrap()).collect();
        assert_eq!(records, ["room", "message", "message", "end"]);
        assert_eq!((&lines[1]["content"], lines[1].get("clientId")), (&HOSTILE.into(), None));
        let end = &lines[3];
        assert_eq!((&end["messages"], &end["edited"], &end["deleted"]), (&2.into(), &2.into(), &1.into()));
        assert!(!text.chars().any(|c| (c.is_control() && c != '\n') || json::steers(c)), "{text:?}");
        assert_hashed(&text);
    }
}
