//! The specification and the types say the same, in both directions.
//!
//! - What `schemars` says of the generated types is, in the generator's own form, what the specification says. The form
//!   leaves out `format` (the width of an integer type; bounds are compared) and how descriptions are cut into lines.
//! - What is encoded fits the schemas, and what fits the schemas is decoded and encoded again as it was.
//! - What nearly fits is refused, by the schemas and by the codec.
//! - The examples are written exactly so, and the counterexamples fail as they say.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "closed_loop/cases.rs"]
mod cases;
#[path = "closed_loop/drawn.rs"]
mod drawn;
#[path = "closed_loop/live.rs"]
mod live;

use std::path::{Path, PathBuf};

use codec::v1::{AgentToRelay, ClientToRelay, Message, RelayToAgent, RelayToClient};
use codec::v2::Control;
use codec::{Secret, fields, message};
use generator::ir;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

#[rustfmt::skip]
#[path = "made_up/generated.rs"]
#[allow(dead_code, unreachable_pub, reason = "what is generated for a crate is more than a test needs")]
mod made_up;

/// The specifications, in the generator's form.
fn specification(folder: &str) -> ir::Module {
    let sources = generator::read(&root().join(folder)).expect("the specification can be read");
    generator::lower(&sources).expect("the specification is within the profile")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The schema file of a direction.
fn schema(file: &str) -> Value {
    let text = std::fs::read_to_string(root().join(file)).expect("the schema can be read");
    serde_json::from_str(&text).expect("the schema is JSON")
}

fn validator(schema: &Value) -> jsonschema::Validator {
    jsonschema::draft202012::new(schema).expect("the schema is a schema")
}

#[test]
fn types_of_v1_say_what_the_specification_says() {
    check_types(
        "spec/v1",
        &[
            described::<AgentToRelay>(),
            described::<ClientToRelay>(),
            described::<RelayToAgent>(),
            described::<RelayToClient>(),
        ],
    );
}

#[test]
fn types_of_v2_say_what_the_specification_says() {
    check_types("spec/v2", &[described::<Control>()]);
}

#[test]
fn types_of_another_specification_say_what_it_says() {
    check_types("codec/tests/made_up", &[described::<made_up::Order>()]);
}

/// Names and values of the constants are needed, since a schema may name one; how long a message may be is all that
/// the types say of them.
fn check_types(folder: &str, described: &[(Value, Option<usize>)]) {
    let constants = std::fs::read_to_string(root().join(folder).join("constants.json"))
        .expect("the constants can be read");
    let mut sources = vec![generator::Source { name: "constants.json".into(), text: constants }];
    let specified = specification(folder);
    for (schema, max_bytes) in described {
        let mut schema = schema.clone();
        let union = specified.unions.iter().find(|union| schema["title"] == union.name.as_str());
        if let Some(name) = union.and_then(|union| union.max_bytes.as_ref()) {
            let constant = specified.constants.iter().find(|constant| constant.name == *name);
            let value = max_bytes.map(|bytes| ir::Value::Bytes(bytes as u64));
            assert_eq!(constant.map(|constant| &constant.value), value.as_ref());
            schema["x-max-bytes"] = name.as_str().into();
        } else {
            assert_eq!(*max_bytes, None);
        }
        let text = schema.to_string();
        sources.push(generator::Source { name: "types.schema.json".into(), text });
    }
    let of_types =
        generator::lower(&sources).expect("the schemas of the types are within the profile");
    assert_eq!(of_types.unions, specified.unions);
    assert_eq!(of_types.structs, specified.structs);
    assert_eq!(of_types.enums, specified.enums);
}

/// The schema of a generated type, brought into the form of the profile, and how long its messages may be.
fn described<M: Message + schemars::JsonSchema>() -> (Value, Option<usize>) {
    let generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let mut schema = generator.into_root_schema_for::<M>().to_value();
    let mut choices = Vec::new();
    for choice in schema["oneOf"].as_array().cloned().unwrap_or_default() {
        let reference = choice["$ref"].as_str().expect("a variant has a struct").to_owned();
        let definition = schema.pointer_mut(&reference[1..]).expect("the struct is defined");
        let tag = json!({ "const": choice["properties"][M::TAG]["const"], "description": choice["description"] });
        let mut properties = Map::new();
        properties.insert(M::TAG.into(), tag);
        properties.extend(definition["properties"].as_object().cloned().unwrap_or_default());
        let mut required = vec![Value::from(M::TAG)];
        required.extend(definition["required"].as_array().cloned().unwrap_or_default());
        definition["properties"] = properties.into();
        definition["required"] = required.into();
        choices.push(json!({ "$ref": reference }));
    }
    normalise(&mut schema);
    let mut described = json!({
        "$schema": schema["$schema"], "title": schema["title"], "description": schema["description"],
        "oneOf": choices, "$defs": schema["$defs"],
    });
    if let Some(key) = M::ENVELOPE {
        described.as_object_mut().map(|members| members.remove("oneOf"));
        described["type"] = "object".into();
        described["properties"] = json!({ key: { "oneOf": choices } });
        described["required"] = json!([key]);
    }
    (described, M::MAX_BYTES)
}

/// Drops what the form leaves out.
fn normalise(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.remove("format");
            // that a constant text is a text goes without saying
            if members.contains_key("const") {
                members.remove("type");
            }
            for (key, value) in members {
                match value {
                    Value::String(text) if key == "description" => {
                        *text = text.split_whitespace().collect::<Vec<_>>().join(" ");
                    }
                    _ => normalise(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(normalise),
        _ => {}
    }
}

/// Every file of a specification fits the profile's own schema.
#[test]
fn files_fit_the_profile() {
    let profile = validator(&schema("spec/profile.schema.json"));
    for folder in ["spec/v1", "spec/v2", "codec/tests/made_up"] {
        for source in generator::read(&root().join(folder)).expect("the specification can be read")
        {
            let json = serde_json::from_str(&source.text).expect("the file is JSON");
            let errors: Vec<String> =
                profile.iter_errors(&json).map(|error| error.to_string()).collect();
            assert!(errors.is_empty(), "{folder}/{}: {errors:?}", source.name);
        }
    }
}

/// What lies outside the profile is refused by the generator, with its place, and by the profile's schema.
#[test]
fn constructs_outside_the_profile_are_refused() {
    let profile = validator(&schema("spec/profile.schema.json"));
    let good = schema("codec/tests/made_up/two-way.schema.json");
    let constants = schema("codec/tests/made_up/constants.json");
    let layout = schema("codec/tests/made_up/tray.layout.json");
    let property = "/$defs/Photo/properties/album";
    let review = |field: &str| format!("/$defs/Review/properties/{field}");
    let (visit, mood, praise) = (review("visit"), review("mood"), review("praise"));
    for (place, value, pointer, in_schema) in [
        ("/$schema", json!("http://json-schema.org/draft-07/schema#"), "/$schema", true),
        ("/title", json!("order"), "/title", true),
        ("/anyOf", json!([]), "/anyOf", true),
        ("/oneOf", json!([]), "/oneOf", true),
        ("/oneOf/0/$ref", json!("other.json#/$defs/Dish"), "/oneOf/0/$ref", true),
        ("/oneOf/0/$ref", json!("#/$defs/Nothing"), "/oneOf/0/$ref", false),
        ("/oneOf/0/title", json!("x"), "/oneOf/0/title", true),
        ("/oneOf/1/$ref", json!("#/$defs/Dish"), "/$defs/Dish", false),
        ("/$defs/Unused", json!(good["$defs"]["Bill"]), "/$defs/Unused", false),
        ("/$defs/Bill/title", json!("x"), "/$defs/Bill/title", true),
        (
            "/$defs/Bill/additionalProperties",
            json!(false),
            "/$defs/Bill/additionalProperties",
            true,
        ),
        ("/$defs/Bill/required", json!(["tip", "what"]), "/$defs/Bill/required", false),
        ("/$defs/Bill/required", json!(["what", "tip", "gone"]), "/$defs/Bill/required", false),
        ("/$defs/Bill/properties/what/const", json!(7), "/$defs/Bill/properties/what/const", true),
        ("/$defs/Bill/properties/what/const", json!("dish"), "/$defs/Bill", false),
        ("/$defs/Bill/properties/what/const", json!("Dish"), "/$defs/Bill", false),
        (
            "/$defs/Bill/properties/what/const",
            json!("self"),
            "/$defs/Bill/properties/what/const",
            false,
        ),
        (
            "/$defs/Bill/properties/what/const",
            json!("\u{e9}"),
            "/$defs/Bill/properties/what/const",
            true,
        ),
        (
            "/$defs/Bill/properties/what/const",
            json!("2nd"),
            "/$defs/Bill/properties/what/const",
            true,
        ),
        ("/title", json!("Self"), "/title", false),
        ("/title", json!("Dish"), "/title", false),
        ("/$defs/Bill/properties/pin/maxLength", json!(3), "/$defs/Bill/properties/pin", true),
        ("/$defs/Bill/properties/tip/minimum", json!(3), "/$defs/Bill/properties/tip", true),
        (
            "/$defs/Bill/properties/tip/x-reading",
            json!("any"),
            "/$defs/Bill/properties/tip/x-reading",
            true,
        ),
        (
            "/$defs/Bill/properties/BAD",
            json!({"type": "string", "description": "x"}),
            "/$defs/Bill/properties/BAD",
            true,
        ),
        (
            "/$defs/Bill/properties/type",
            json!({"type": "string", "description": "x"}),
            "/$defs/Bill/properties/type",
            false,
        ),
        (
            "/$defs/Dish/properties/number/minimum",
            json!(401),
            "/$defs/Dish/properties/number",
            false,
        ),
        (
            "/$defs/Dish/properties/number/minimum",
            json!(0.5),
            "/$defs/Dish/properties/number/minimum",
            true,
        ),
        (
            "/$defs/Dish/properties/number/multipleOf",
            json!(2),
            "/$defs/Dish/properties/number/multipleOf",
            true,
        ),
        (property, json!(true), property, true),
        (property, json!({"type": "string"}), property, true),
        (
            property,
            json!({"type": "number", "description": "x"}),
            "/$defs/Photo/properties/album/type",
            true,
        ),
        (
            property,
            json!({"type": "array", "description": "x"}),
            "/$defs/Photo/properties/album/type",
            true,
        ),
        (
            property,
            json!({"type": ["string", "integer"], "description": "x"}),
            "/$defs/Photo/properties/album/type",
            true,
        ),
        (
            property,
            json!({"enum": ["a"], "description": "x"}),
            "/$defs/Photo/properties/album",
            true,
        ),
        ("/x-max-bytes", json!("GREETING"), "/x-max-bytes", false),
        ("/x-max-bytes", json!(4096), "/x-max-bytes", true),
        ("/$defs/Mood/title", json!("x"), "/$defs/Mood/title", true),
        ("/$defs/Mood/type", json!("string"), "/$defs/Mood/type", true),
        ("/$defs/Mood/oneOf", json!([]), "/$defs/Mood/oneOf", true),
        ("/$defs/Mood/oneOf/1/const", json!("delighted"), "/$defs/Mood/oneOf/1/const", false),
        ("/$defs/Mood/oneOf/1/const", json!("So So"), "/$defs/Mood/oneOf/1/const", true),
        ("/$defs/Mood/oneOf/1/description", json!(""), "/$defs/Mood/oneOf/1/description", true),
        ("/$defs/Mood/oneOf/1/title", json!("x"), "/$defs/Mood/oneOf/1/title", true),
        ("/$defs/Spare", json!(good["$defs"]["Mood"]), "/$defs/Spare", false),
        (&format!("{mood}/$ref"), json!("#/$defs/Nothing"), &format!("{mood}/$ref"), false),
        (&format!("{mood}/$ref"), json!("#/$defs/Bill"), "/$defs/Bill/type", false),
        (&format!("{mood}/type"), json!("string"), &format!("{mood}/type"), true),
        (&format!("{visit}/pattern"), json!("^[0-9]+$"), &format!("{visit}/pattern"), true),
        (&format!("{visit}/maxLength"), json!(36), &visit, true),
        (&format!("{visit}/type"), json!(["string", "null"]), &visit, true),
        (
            &format!("{praise}/additionalProperties"),
            json!(false),
            &format!("{praise}/additionalProperties"),
            true,
        ),
        (&praise, json!({"type": "object", "description": "x"}), &praise, true),
        (&format!("{praise}/properties"), json!({}), &format!("{praise}/properties"), true),
        (
            property,
            json!({"type": "string", "description": ""}),
            "/$defs/Photo/properties/album/description",
            true,
        ),
        (
            property,
            json!({"type": "string", "description": "x", "format": "uuid"}),
            "/$defs/Photo/properties/album/format",
            true,
        ),
        (
            property,
            json!({"type": "string", "description": "x", "default": ""}),
            "/$defs/Photo/properties/album/default",
            true,
        ),
        (
            property,
            json!({"type": "string", "description": "x", "writeOnly": false}),
            "/$defs/Photo/properties/album/writeOnly",
            true,
        ),
    ] {
        let bad = with(&good, place, value);
        assert_refused("two-way.schema.json", &bad, pointer);
        assert_eq!(profile.is_valid(&bad), !in_schema, "{place}");
    }
    for (place, value, pointer, in_schema) in [
        ("/$schema", json!("x"), "/$schema", true),
        ("/byteOrder", json!("little-endian"), "/byteOrder", true),
        ("/fields", json!([]), "/fields", true),
        ("/fields/0/type", json!("u24"), "/fields/0/type", true),
        ("/fields/0/name", json!("Floor"), "/fields/0/name", true),
        ("/fields/0/name", json!("table"), "/fields/1/name", false),
        ("/fields/0/unit", json!("x"), "/fields/0/unit", true),
        ("/rest", json!({ "name": "plates" }), "/rest", true),
        ("/rest/name", json!("the plates"), "/rest/name", true),
        ("/rest/type", json!("bytes"), "/rest/type", true),
    ] {
        let bad = with(&layout, place, value);
        assert_refused("tray.layout.json", &bad, pointer);
        assert_eq!(profile.is_valid(&bad), !in_schema, "{place}");
    }
    let wrapped = schema("spec/v1/relay-to-client.schema.json");
    for (place, value, pointer) in [
        ("/properties/inner/description", json!("x"), "/properties/inner/description"),
        ("/properties/outer", json!({ "oneOf": [] }), "/properties"),
        ("/required", json!(["outer"]), "/required"),
        ("/required", json!([]), "/required"),
        ("/type", json!("array"), "/type"),
        ("/oneOf", json!([]), "/type"),
    ] {
        let bad = with(&wrapped, place, value);
        assert_refused("wrapped.schema.json", &bad, pointer);
        assert_eq!(
            profile.is_valid(&bad),
            place == "/required" && bad["required"] == json!(["outer"]),
            "{place}"
        );
    }
    for (place, value, pointer, in_schema) in [
        ("/more", json!(1), "/more", true),
        ("/constants/0/name", json!("Greeting"), "/constants/0/name", true),
        ("/constants/1/name", json!("GREETING"), "/constants/1/name", false),
        ("/constants/0/value", json!(1), "/constants/0/value", true),
        ("/constants/4/value", json!(65_536), "/constants/4/value", true),
        ("/constants/2/value", json!(-1), "/constants/2/value", true),
        ("/constants/2/unit", json!("miles"), "/constants/2/unit", true),
        ("/constants/2/note", json!("x"), "/constants/2/note", true),
    ] {
        let bad = with(&constants, place, value);
        assert_refused("constants.json", &bad, pointer);
        assert_eq!(profile.is_valid(&bad), !in_schema, "{place}");
    }
}

/// Files that are fine by themselves must also agree with each other.
#[test]
fn contradictions_between_files_are_refused() {
    let good = schema("spec/v1/agent-to-relay.schema.json");
    let other = schema("spec/v1/relay-to-agent.schema.json");
    let sources = |first: &Value, second: &Value| {
        [first, second]
            .map(|json| generator::Source { name: "x.schema.json".into(), text: json.to_string() })
    };
    assert!(generator::lower(&sources(&good, &other)).is_ok());
    assert!(generator::lower(&sources(&good, &good)).is_err());
    // A message cannot have the name of another file's direction, nor a constant that of a text around data.
    let named = with(&other, "/title", json!("StreamData"));
    let error = generator::lower(&sources(&named, &good)).expect_err("the name is taken");
    assert!(error.to_string().starts_with("x.schema.json#/"), "{error}");
    let constants = schema("codec/tests/made_up/constants.json");
    let constants = with(&constants, "/constants/0/name", json!("STREAM_DATA_PREFIX"));
    let [schema, mut constants] = sources(&good, &constants);
    constants.name = "constants.json".into();
    let error = generator::lower(&[constants, schema]).expect_err("the name is taken");
    assert!(error.to_string().starts_with("constants.json#/constants/0/name: "), "{error}");
    let changed = with(&other, "/$defs/StreamData/description", json!("Something else."));
    let error = generator::lower(&sources(&good, &changed)).expect_err("the definitions differ");
    assert!(error.to_string().starts_with("x.schema.json#/$defs/StreamData: "), "{error}");
}

fn with(json: &Value, place: &str, value: Value) -> Value {
    let mut json = json.clone();
    let (parent, key) = place.rsplit_once('/').expect("a pointer has a slash");
    match json.pointer_mut(parent).expect("the place exists") {
        Value::Array(items) => items[key.parse::<usize>().expect("an index")] = value,
        parent => parent[key] = value,
    }
    json
}

fn assert_refused(name: &str, json: &Value, pointer: &str) {
    let source =
        |name: &str, json: &Value| generator::Source { name: name.into(), text: json.to_string() };
    let mut sources = vec![source(name, json)];
    if name == "two-way.schema.json" {
        sources.push(source("constants.json", &schema("codec/tests/made_up/constants.json")));
    }
    let error = generator::lower(&sources).expect_err(pointer).to_string();
    assert!(error.starts_with(&format!("{name}#{pointer}: ")), "{pointer}: {error}");
}
