//! The machine-readable contract: `openapi.yaml` has every route, `asyncapi.yaml` every event with its answer. Both are made of the
//! types that decode and encode, of the table of routes and of the list of events, by the tests of this module: what is checked in
//! under `assets/contract` is compared with what the types say, and `UPDATE_DOCS=1` writes it anew. The server serves these files.

mod asyncapi;
mod openapi;

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

/// A map in the order in which it was written.
struct Ordered<T>(Vec<(String, T)>);

impl<T: Serialize> Serialize for Ordered<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

/// What both documents say of themselves.
#[derive(Serialize)]
struct Info {
    title: &'static str,
    version: &'static str,
    description: &'static str,
    license: Value,
}

impl Info {
    fn of(title: &'static str, description: &'static str) -> Info {
        Info {
            title,
            version: env!("CARGO_PKG_VERSION"),
            description,
            license: json!({ "name": env!("CARGO_PKG_LICENSE") }),
        }
    }
}

/// The schemas of what is read and of what is written: a field with a default need not be sent, and is always answered.
struct Schemas {
    read: SchemaGenerator,
    written: SchemaGenerator,
}

impl Schemas {
    fn new() -> Schemas {
        let settings =
            || SchemaSettings::draft2020_12().with(|settings| settings.definitions_path = "/components/schemas".into());
        Schemas {
            read: settings().for_deserialize().into_generator(),
            written: settings().for_serialize().into_generator(),
        }
    }

    /// A reference to what is read.
    fn read<T: JsonSchema>(&mut self) -> Value {
        tidied(self.read.subschema_for::<T>())
    }

    /// A reference to what is written.
    fn written<T: JsonSchema>(&mut self) -> Value {
        tidied(self.written.subschema_for::<T>())
    }

    /// What is read, in place, without the fields that come another way.
    fn read_without<T: JsonSchema>(&mut self, elsewhere: &[&str]) -> Value {
        let mut schema = tidied(T::json_schema(&mut self.read));
        if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
            properties.retain(|name, _| !elsewhere.contains(&name.as_str()));
        }
        if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
            required.retain(|name| !elsewhere.iter().any(|other| name == other));
        }
        schema
    }

    /// `{ ok: true, ... }` around an answer.
    fn answer<T: JsonSchema>(&mut self) -> Value {
        let body = self.written::<T>();
        let mut answer = done();
        answer["allOf"] = json!([body]);
        answer
    }

    /// All that was referred to, by name.
    fn all(mut self) -> BTreeMap<String, Value> {
        let mut all = BTreeMap::new();
        let read = self.read.take_definitions(true);
        for (name, schema) in read.into_iter().chain(self.written.take_definitions(true)) {
            let schema = tidied_value(schema);
            let other = all.insert(name.clone(), schema.clone());
            assert!(
                other.as_ref().is_none_or(|other| *other == schema),
                "two schemas are called {name}: rename one\n{other:?}\n{schema}"
            );
        }
        all.insert(
            "Refusal".to_owned(),
            json!({
                "type": "object", "description": "What a refused request is answered.", "required": ["ok", "error"],
                "properties": { "ok": { "const": false }, "error": { "$ref": "#/components/schemas/ApiError" } }
            }),
        );
        all
    }
}

/// `{ ok: true }`.
fn done() -> Value {
    json!({ "type": "object", "required": ["ok"], "properties": { "ok": { "const": true } } })
}

fn tidied(schema: Schema) -> Value {
    tidied_value(schema.to_value())
}

/// Numbers have no format here, and words for programmers of the server are words for everybody.
fn tidied_value(mut schema: Value) -> Value {
    tidy(&mut schema);
    schema
}

fn tidy(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if fields
                .get("format")
                .and_then(Value::as_str)
                .is_some_and(|format| format.starts_with("uint") || format == "double")
            {
                fields.remove("format");
            }
            if let Some(Value::String(words)) = fields.get_mut("description") {
                *words = words.replace("[`", "`").replace("`]", "`").replace('\n', " ");
            }
            fields.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

/// Compares a document with the file that is checked in, or writes it.
fn compare(name: &str, document: &impl Serialize) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("assets/contract").join(name);
    let text = format!(
        "# The machine-readable contract of academy-rt. It is made of the types of the program: UPDATE_DOCS=1 cargo test --lib contract\n{}",
        serde_saphyr::to_string(document).unwrap()
    );
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        return std::fs::write(path, text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == text, "assets/contract/{name} is not what the types say: UPDATE_DOCS=1 cargo test --lib contract");
}
