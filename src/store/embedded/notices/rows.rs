//! Rows of notifications that have a time, or that are over.

use serde::{Deserialize, Serialize};

use crate::domain::notification::{Notice, Notification, Over};
use crate::domain::{Timestamp, UserId};
use crate::store::embedded::engine::codec::{IdRow, decode, encode};
use crate::store::embedded::engine::failure::Outcome;
use crate::store::embedded::inbox::rows::{decode_notification, encode_notification, ending_code, ending_of};

#[derive(Serialize, Deserialize)]
struct OverRow<'a> {
    ending: u8,
    at: u64,
    #[serde(borrow)]
    by: IdRow<'a>,
    change: u64,
}

#[derive(Serialize, Deserialize)]
struct NoticeRow<'a> {
    /// The row of the notification, as it is or will be in the inboxes.
    content: &'a [u8],
    #[serde(borrow)]
    by: Option<IdRow<'a>>,
    made_at: u64,
    until: Option<u64>,
    sent: Option<u64>,
    #[serde(borrow)]
    over: Option<OverRow<'a>>,
}

pub(in crate::store::embedded) fn encode_notice<'b>(notice: &Notice, buffer: &'b mut Vec<u8>) -> Outcome<&'b [u8]> {
    let mut content = Vec::new();
    let content = encode_notification(&notice.notification(), &mut content)?;
    let row = NoticeRow {
        content,
        by: notice.by.as_ref().map(|by| by.id().into()),
        made_at: notice.made_at.0,
        until: notice.until.map(|until| until.0),
        sent: notice.sent,
        over: notice.over.as_ref().map(|over| OverRow {
            ending: ending_code(over.ending),
            at: over.at.0,
            by: over.by.id().into(),
            change: over.change,
        }),
    };
    encode(&row, buffer)
}

pub(in crate::store::embedded) fn decode_notice(bytes: &[u8], id: u64) -> Outcome<Notice> {
    let row: NoticeRow<'_> = decode(bytes)?;
    let content = decode_notification(row.content, id, false)?;
    let over = row.over.map(|over| {
        Ok::<_, crate::store::embedded::engine::failure::Failure>(Over {
            ending: ending_of(over.ending)?,
            at: Timestamp(over.at),
            by: over.by.user(),
            change: over.change,
        })
    });
    Ok(Notice {
        id,
        audience: content.audience,
        body: content.body,
        by: row.by.map(IdRow::user),
        made_at: Timestamp(row.made_at),
        at: content.at,
        until: row.until.map(Timestamp),
        sent: row.sent,
        over: over.transpose()?,
    })
}

/// A notification of the inboxes that has no time of its own, as administrators see it.
pub(in crate::store::embedded) fn plain(one: Notification) -> Notice {
    Notice {
        id: one.id,
        audience: one.audience,
        body: one.body,
        by: None::<UserId>,
        made_at: one.at,
        at: one.at,
        until: None,
        sent: Some(one.id),
        over: None,
    }
}
