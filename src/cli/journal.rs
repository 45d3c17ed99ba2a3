//! Log lines in the journal. Who reads it with `journalctl -u` sees MESSAGE alone, and the fields only when asking for them: so the
//! message has the value of each field that it does not say already, in the form of the text format.

use std::fmt::{Debug, Write as _};

use tracing::field::{Field, Value, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// The field with the words of a line.
const MESSAGE: &str = "message";

/// Log lines as journal entries with fields (`journalctl F_REASON=token_expired`), which are in the message, too. `None` if there is
/// no journal.
pub fn layer<S>() -> Option<impl Layer<S>>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let layer = tracing_journald::layer().ok()?;
    let priorities =
        PriorityMappings { info: Priority::Informational, debug: Priority::Debug, ..PriorityMappings::new() };
    let layer = layer.with_syslog_identifier("academy-rt".to_owned()).with_priority_mappings(priorities);
    Some(WithFieldsInMessage(layer))
}

/// Gives each event on with its fields, and with what its message does not say of them behind the message.
struct WithFieldsInMessage<L>(L);

impl<S, L> Layer<S> for WithFieldsInMessage<L>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    L: Layer<S>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        self.0.on_new_span(attributes, id, context);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        self.0.on_record(id, values, context);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut said = Values::default();
        event.record(&mut said);
        let Some(message) = said.message() else { return self.0.on_event(event, context) };
        let metadata = event.metadata();
        // One for each field of this kind of line, in their order.
        let fields = metadata.fields().iter();
        let values: Vec<Option<&dyn Value>> = fields
            .map(|field| if field.name() == MESSAGE { Some(&message as &dyn Value) } else { said.of(&field) })
            .collect();
        let values = metadata.fields().value_set_all(&values);
        let whole = match event.parent() {
            Some(parent) => Event::new_child_of(parent.clone(), metadata, &values),
            None => Event::new(metadata, &values),
        };
        self.0.on_event(&whole, context);
    }
}

/// The values of a line: as they are, and as the text format has them.
#[derive(Default)]
struct Values(Vec<(Field, String, String)>);

impl Values {
    fn of(&self, field: &Field) -> Option<&dyn Value> {
        let value = self.0.iter().find(|(of, ..)| of == field)?;
        Some(&value.1)
    }

    /// The message with what it lacks; nothing if it lacks nothing.
    fn message(&self) -> Option<String> {
        let is_message = |field: &Field| field.name() == MESSAGE;
        let own = self.0.iter().find(|(field, ..)| is_message(field)).map_or("", |(_, value, _)| value.as_str());
        let mut message = own.to_owned();
        for (field, value, shown) in &self.0 {
            // What the adapter of another library says of its place in the code is no value.
            if is_message(field) || field.name().starts_with("log.") || says(own, value) {
                continue;
            }
            let space = if message.is_empty() { "" } else { " " };
            // Writing to a string does not fail.
            let _ = write!(message, "{space}{}={shown}", field.name());
        }
        (message.len() > own.len()).then_some(message)
    }
}

impl Visit for Values {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.push((field.clone(), value.to_owned(), format!("{value:?}")));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let value = format!("{value:?}");
        // A line is one line.
        let shown = value.replace(char::is_control, " ");
        self.0.push((field.clone(), value, shown));
    }
}

/// Whether a text has a value, and not as a part of another word or number.
fn says(text: &str, value: &str) -> bool {
    let is_within = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric());
    let (starts, ends) =
        (value.chars().next().is_some_and(char::is_alphanumeric), value.ends_with(char::is_alphanumeric));
    value.is_empty()
        || text.match_indices(value).any(|(at, found)| {
            let before = text.get(..at).and_then(|text| text.chars().next_back());
            let behind = text.get(at + found.len()..).and_then(|text| text.chars().next());
            !(starts && is_within(before) || ends && is_within(behind))
        })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// What an inner layer is given of each line.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<BTreeMap<&'static str, String>>>>);

    impl<S: Subscriber> Layer<S> for Kept {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let mut values = Values::default();
            event.record(&mut values);
            self.0.lock().push(values.0.into_iter().map(|(field, value, _)| (field.name(), value)).collect());
        }
    }

    #[test]
    fn a_message_has_the_values_that_it_does_not_say_and_the_fields_stay() {
        let kept = Kept::default();
        let subscriber = tracing_subscriber::registry().with(WithFieldsInMessage(kept.clone()));
        tracing::subscriber::with_default(subscriber, || {
            let (error, room) = ("no\nroom", "lobby");
            tracing::warn!(%error, of = "CN=x \"y\"", left = 5, "15 are left of {room}");
            tracing::info!(reason = "rate_limited", left = 5, "refused: rate_limited, 5 left");
            tracing::info!("nothing more");
            tracing::info!(alone = true);
        });
        let lines = kept.0.lock().clone();
        assert_eq!(lines[0]["message"], "15 are left of lobby error=no room of=\"CN=x \\\"y\\\"\" left=5");
        assert_eq!((lines[0]["error"].as_str(), lines[0]["left"].as_str()), ("no\nroom", "5"));
        assert_eq!(lines[0]["of"], "CN=x \"y\"");
        assert_eq!(lines[1]["message"], "refused: rate_limited, 5 left");
        assert_eq!(lines[1]["reason"], "rate_limited");
        assert_eq!(lines[2]["message"], "nothing more");
        assert_eq!(lines[3], BTreeMap::from([("alone", "true".to_owned())]));
    }
}
