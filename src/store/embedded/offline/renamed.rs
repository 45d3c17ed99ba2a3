//! What has become of ids whose normal form is another text (format 8). Most of them just got it. Where it was somebody else's
//! already, they have a name of their own since. `meta` keeps which: a token that has the text of before is still that person's,
//! and a restore must find whom an erasure, a hold or a ban of before was about.

use std::collections::BTreeMap;

use redb::ReadableTable;
use serde::{Deserialize, Serialize};

use crate::domain::access::{Ban, Banned};
use crate::domain::privacy::{Hold, Subject};
use crate::domain::{Id, LessonId, RoomId, UserId, normal_form};
use crate::store::embedded::engine::codec::{encode, get_value};
use crate::store::embedded::engine::failure::Outcome;
use crate::store::embedded::engine::schema::{Row, Tables, meta};

/// Ids that have another text since, by the one that they had, and lessons that are another one's now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store::embedded) struct Renamed {
    pub(in crate::store::embedded) users: BTreeMap<String, String>,
    pub(in crate::store::embedded) rooms: BTreeMap<String, String>,
    /// By their texts: the normal form has the progress of both since.
    pub(in crate::store::embedded) lessons: BTreeMap<String, String>,
    /// By their numbers.
    pub(in crate::store::embedded) merged: BTreeMap<u64, u64>,
}

impl Renamed {
    /// `None` if no id has had another text than it has now.
    pub(in crate::store::embedded) fn read(meta: &impl ReadableTable<&'static str, Row>) -> Outcome<Option<Renamed>> {
        get_value(meta, meta::RENAMED)
    }

    pub(in crate::store::embedded) fn put(&self, tables: &mut Tables<'_>) -> Outcome<()> {
        tables.meta.write()?.insert(meta::RENAMED, encode(self, &mut Vec::new())?)?;
        Ok(())
    }

    /// What an id of a user that was stored is now; `None` if it is what it was.
    pub(in crate::store::embedded) fn user(&self, user: &UserId) -> Option<UserId> {
        now(&self.users, user.id()).map(UserId::stored)
    }

    /// As [`Renamed::user`].
    pub(in crate::store::embedded) fn room(&self, room: &RoomId) -> Option<RoomId> {
        now(&self.rooms, room.id()).map(RoomId::stored)
    }

    /// As [`Renamed::user`].
    pub(in crate::store::embedded) fn lesson(lesson: &LessonId) -> Option<LessonId> {
        now(&BTreeMap::new(), lesson.id()).map(LessonId::stored)
    }

    /// A user who is named in words.
    pub(in crate::store::embedded) fn name(&self, user: &str) -> Option<String> {
        text(&self.users, user)
    }

    /// A ban as it stands now.
    pub(in crate::store::embedded) fn ban(&self, banned: &Banned) -> Banned {
        let mut ban = banned.ban.clone().on(|user| self.user(&user).unwrap_or(user));
        if let Ban::Mute { room: Some(room), .. } = &mut ban
            && let Some(now) = self.room(room)
        {
            *room = now;
        }
        let by = self.name(&banned.by).unwrap_or_else(|| banned.by.clone());
        Banned { ban, by, ..banned.clone() }
    }

    /// A hold as it stands now.
    pub(in crate::store::embedded) fn hold(&self, hold: &Hold) -> Hold {
        let subject = match &hold.subject {
            Subject::User(user) => Subject::User(self.user(user).unwrap_or_else(|| user.clone())),
            Subject::Room(room) => Subject::Room(self.room(room).unwrap_or_else(|| room.clone())),
        };
        Hold { subject, by: self.name(&hold.by).unwrap_or_else(|| hold.by.clone()), ..hold.clone() }
    }

    /// The users who have not just got their normal form, because it was somebody else's: by the texts of before.
    pub(in crate::store::embedded) fn users_of_their_own(&self) -> Vec<(String, UserId)> {
        let own = self.users.iter().filter(|(old, new)| normal_form(old) != **new);
        own.map(|(old, new)| (old.clone(), UserId::stored(Id::Text(new.as_str().into())))).collect()
    }

    /// The names that another life of the same store has given, noted in a file that is not migrated yet.
    pub(in crate::store::embedded) fn put_given(&self, tables: &mut Tables<'_>) -> Outcome<()> {
        tables.meta.write()?.insert(meta::NAMES_GIVEN, encode(self, &mut Vec::new())?)?;
        Ok(())
    }

    pub(in crate::store::embedded) fn read_given(meta: &impl ReadableTable<&'static str, Row>) -> Outcome<Renamed> {
        Ok(get_value(meta, meta::NAMES_GIVEN)?.unwrap_or_default())
    }

    /// In words, for the log and the audit log: what got another name, and why.
    pub(in crate::store::embedded) fn words(&self) -> Vec<String> {
        let named = |what: &str, map: &BTreeMap<String, String>, words| {
            let lines: Vec<String> = map
                .iter()
                .filter(|(old, new)| what == "lesson" || normal_form(old) != **new)
                .map(|(old, new)| format!("{what} {}: {} {words} {new}", normal_form(old), escaped(old)))
                .collect();
            lines
        };
        let mut all = named("room", &self.rooms, "was a room of its own, and is now");
        all.extend(named("user", &self.users, "was a user of its own, and is now"));
        all.extend(named("lesson", &self.lessons, "was a lesson of its own, and its progress is that of"));
        all
    }
}

/// A text with what is not ASCII in it as escapes: the two look the same.
fn escaped(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii() { c.to_string() } else { c.escape_unicode().to_string() }).collect()
}

/// Whether a text is an id's no longer.
pub(in crate::store::embedded) fn is_older(text: &str) -> bool {
    normal_form(text) != text
}

fn text(renamed: &BTreeMap<String, String>, old: &str) -> Option<String> {
    if !is_older(old) {
        return None;
    }
    Some(renamed.get(old).cloned().unwrap_or_else(|| normal_form(old).into_owned()))
}

fn now(renamed: &BTreeMap<String, String>, id: &Id) -> Option<Id> {
    match id {
        Id::Number(_) => None,
        Id::Text(old) => text(renamed, old).map(|new| Id::Text(new.into())),
    }
}

/// The normal form of a text of at most so many characters, or, if that is taken, with `-2`, `-3` … behind it.
pub(in crate::store::embedded) fn free_name(
    old: &str,
    most: usize,
    mut is_taken: impl FnMut(&str) -> Outcome<bool>,
) -> Outcome<String> {
    let form = normal_form(old).into_owned();
    if form.chars().count() <= most && !is_taken(&form)? {
        return Ok(form);
    }
    let mut number = 2_u64;
    loop {
        let end = format!("-{number}");
        let begin: String = form.chars().take(most.saturating_sub(end.len())).collect();
        let name = begin + &end;
        if !is_taken(&name)? {
            return Ok(name);
        }
        number += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_normal_form_or_the_next_that_is_free() {
        let name = |old: &str, taken: &[&str]| free_name(old, 6, |name| Ok(taken.contains(&name))).unwrap();
        assert_eq!(name("cafe\u{301}", &[]), "café");
        assert_eq!(name("cafe\u{301}", &["café"]), "café-2");
        assert_eq!(name("cafe\u{301}", &["café", "café-2"]), "café-3");
        // Never longer than an id may be.
        assert_eq!(name("abcde\u{301}f", &["abcdéf"]), "abcd-2");
        assert_eq!(name("\u{958}\u{958}\u{958}\u{958}", &[]), "\u{915}\u{93c}\u{915}\u{93c}-2");
    }

    #[test]
    fn what_shuts_somebody_out_shuts_out_nobody_else() {
        let users =
            [("jose\u{301}", "josé-2"), ("zoe\u{301}", "zoé")].map(|(old, new)| (old.to_owned(), new.to_owned()));
        let renamed = Renamed { users: users.into(), ..Renamed::default() };
        let user = |text: &str| UserId::stored(Id::Text(text.into()));
        let at = crate::domain::Timestamp(1);
        let banned = |ban| Banned { ban, before: at, until: None, by: "zoe\u{301}".to_owned(), at };
        let on = |ban| {
            let now = renamed.ban(&banned(ban));
            (now.ban, now.by)
        };
        let by = || "zoé".to_owned();
        assert_eq!(on(Ban::User(user("jose\u{301}"))), (Ban::User(user("josé-2")), by()));
        assert_eq!(on(Ban::User(user("zoe\u{301}"))), (Ban::User(user("zoé")), by()));
        assert_eq!(on(Ban::User(user("josé"))), (Ban::User(user("josé")), by()));
        assert_eq!(on(Ban::Token("e\u{301}".to_owned())), (Ban::Token("e\u{301}".to_owned()), by()));
        assert_eq!(renamed.users_of_their_own(), [("jose\u{301}".to_owned(), user("josé-2"))]);
        assert_eq!(renamed.words().len(), 1, "{:?}", renamed.words());
    }
}
