//! Messages drawn from the specification.

use codec::message::{Message, decode, encode};
use codec::v1::{AgentToRelay, ClientToRelay, RelayToAgent, RelayToClient};
use codec::v2::Control;
use generator::ir::{Bounds, Field, Module, Shape, Union};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::Union as OneOf;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value, json};

use crate::made_up::Order;
use crate::{schema, specification, validator};

#[test]
fn agent_to_relay() {
    check::<AgentToRelay>("spec/v1", "agent-to-relay");
}

#[test]
fn relay_to_agent() {
    check::<RelayToAgent>("spec/v1", "relay-to-agent");
}

#[test]
fn client_to_relay() {
    check::<ClientToRelay>("spec/v1", "client-to-relay");
}

#[test]
fn relay_to_client() {
    check::<RelayToClient>("spec/v1", "relay-to-client");
}

#[test]
fn control() {
    check::<Control>("spec/v2", "control");
}

#[test]
fn another_specification() {
    check::<Order>("codec/tests/made_up", "two-way");
}

/// Draws messages and near-misses of one direction; the schema and the codec agree on each.
fn check<M: Message>(folder: &str, file: &str) {
    let module = specification(folder);
    let union = module
        .unions
        .iter()
        .find(|union| union.name == M::NAME)
        .expect("the direction is specified");
    let validator = validator(&schema(&format!("{folder}/{file}.schema.json")));
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });

    runner
        .run(&message(&module, union), |drawn| {
            let text = drawn.to_string();
            prop_assert!(validator.is_valid(&drawn), "{}", text);
            let read = decode::<M>(&text)
                .map_err(|error| TestCaseError::fail(format!("{error}: {text}")))?;
            prop_assert_eq!(encode(&read), text);
            Ok(())
        })
        .unwrap();

    runner
        .run(&near_miss(&module, union), |(spoiled, how)| {
            prop_assert!(!validator.is_valid(&spoiled), "the schema accepts {}: {}", how, spoiled);
            prop_assert!(
                decode::<M>(&spoiled.to_string()).is_err(),
                "the codec accepts {}: {}",
                how,
                spoiled
            );
            Ok(())
        })
        .unwrap();
}

/// A message of the direction, with its fields in their order.
pub(crate) fn message(module: &Module, union: &Union) -> OneOf<BoxedStrategy<Value>> {
    OneOf::new(union.variants.iter().map(|variant| {
        let fields = module
            .structs
            .iter()
            .find(|s| s.name == variant.fields)
            .expect("the struct is specified");
        let names: Vec<String> = fields.fields.iter().map(|field| field.name.clone()).collect();
        let values: Vec<_> = fields.fields.iter().map(|field| presence(module, field)).collect();
        let taken: Vec<String> = names.iter().chain([&union.tag]).cloned().collect();
        let extra = if fields.extra {
            prop::collection::vec((".{0,6}", anything()), 0..4).boxed()
        } else {
            Just(vec![]).boxed()
        };
        let (tag, kind, envelope) =
            (union.tag.clone(), variant.kind.clone(), union.envelope.clone());
        (values, extra)
            .prop_map(move |(values, extra)| {
                let mut members = Map::new();
                members.insert(tag.clone(), kind.clone().into());
                members.extend(
                    names
                        .iter()
                        .cloned()
                        .zip(values)
                        .filter_map(|(name, value)| Some((name, value?))),
                );
                members.extend(extra.into_iter().filter(|(key, _)| !taken.contains(key)));
                wrapped(envelope.as_deref(), members.into())
            })
            .boxed()
    }))
}

fn wrapped(envelope: Option<&str>, inner: Value) -> Value {
    match envelope {
        Some(key) => json!({ key: inner }),
        None => inner,
    }
}

/// A value of a field, or nothing if it may be absent.
fn presence(module: &Module, field: &Field) -> BoxedStrategy<Option<Value>> {
    let present = value(module, field).prop_map(Some);
    if field.required {
        present.boxed()
    } else {
        prop_oneof![1 => Just(None), 3 => present].boxed()
    }
}

fn value(module: &Module, field: &Field) -> BoxedStrategy<Value> {
    let value = match &field.shape {
        Shape::Any => anything(),
        Shape::Object => prop::collection::vec((".{0,6}", anything()), 0..4)
            .prop_map(|members| Value::from(members.into_iter().collect::<Map<_, _>>()))
            .boxed(),
        Shape::Choice(name) => {
            let list =
                module.enums.iter().find(|e| e.name == *name).expect("the list is specified");
            let texts: Vec<Value> =
                list.texts.iter().map(|(text, _)| text.as_str().into()).collect();
            select(texts).boxed()
        }
        Shape::Text { uuid: true, .. } => {
            "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}".prop_map(Value::from).boxed()
        }
        Shape::Boolean => any::<bool>().prop_map(Value::from).boxed(),
        Shape::Text { length, .. } => {
            let min = length.min.unwrap_or(0);
            let max = length.max.unwrap_or(min + 12);
            let sizes = usize::try_from(min).unwrap()..=usize::try_from(max).unwrap();
            prop::collection::vec(any::<char>(), sizes)
                .prop_map(|c| c.into_iter().collect::<String>().into())
                .boxed()
        }
        Shape::Integer { range, .. } => {
            let (min, max) = (range.min.unwrap_or(i64::MIN), range.max.unwrap_or(i64::MAX));
            prop_oneof![Just(min), Just(max), min..=max].prop_map(Value::from).boxed()
        }
    };
    if field.nullable { prop_oneof![1 => Just(Value::Null), 3 => value].boxed() } else { value }
}

/// JSON that is written as it is read: no numbers beyond 64 bits.
fn anything() -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i32>().prop_map(|n| Value::from(f64::from(n) / 8.0)),
        ".{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((".{0,4}", inner), 0..4)
                .prop_map(|members| Value::from(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
    .boxed()
}

/// A message with one thing wrong, and which.
pub(crate) fn near_miss(module: &Module, union: &Union) -> BoxedStrategy<(Value, String)> {
    let module = module.clone();
    let direction = union.clone();
    message(&module, union)
        .prop_flat_map(move |drawn| {
            let (tag, envelope) = (&direction.tag, direction.envelope.as_deref());
            let inner = envelope.map_or(&drawn, |key| &drawn[key]).clone();
            let variant = direction
                .variants
                .iter()
                .find(|v| inner[tag] == v.kind.as_str())
                .expect("the kind is known");
            let fields = module
                .structs
                .iter()
                .find(|s| s.name == variant.fields)
                .expect("the struct is specified");
            let mut spoiled = Vec::new();
            let mut spoil = |how: String, change: &dyn Fn(&mut Map<String, Value>)| {
                let mut members = inner.as_object().cloned().unwrap_or_default();
                change(&mut members);
                spoiled.push((wrapped(envelope, members.into()), how));
            };
            spoil("no kind".into(), &|m| _ = m.shift_remove(tag));
            for kind in [
                json!(null),
                json!(7),
                json!([inner[tag]]),
                json!(""),
                json!("START"),
                json!("nonsense"),
            ] {
                spoil(format!("kind {kind}"), &|m| _ = m.insert(tag.clone(), kind.clone()));
            }
            for field in &fields.fields {
                if field.required {
                    spoil(format!("no {}", field.name), &|m| _ = m.shift_remove(&field.name));
                }
                for value in unfit(field) {
                    spoil(format!("{} is {value}", field.name), &|m| {
                        _ = m.insert(field.name.clone(), value.clone())
                    });
                }
            }
            if envelope.is_some() {
                spoiled.push((inner.clone(), "no envelope".into()));
                spoiled.push((json!({ "Inner": inner }), "another envelope".into()));
                spoiled.push((wrapped(envelope, json!([inner])), "a list".into()));
                spoiled.push((wrapped(envelope, inner.to_string().into()), "a text".into()));
            }
            spoiled.push((json!([drawn]), "a list around it".into()));
            select(spoiled)
        })
        .boxed()
}

/// Values that a field must not have.
fn unfit(field: &Field) -> Vec<Value> {
    if field.shape == Shape::Any {
        return vec![];
    }
    let mut values = vec![json!([]), json!([0]), json!(0.5)];
    if field.shape != Shape::Object {
        values.push(json!({}));
    }
    if !field.nullable {
        values.push(Value::Null);
    }
    match &field.shape {
        Shape::Any => {}
        Shape::Object => values.extend([json!(1), json!("{}")]),
        Shape::Choice(_) => values.extend([json!(1), json!(""), json!("nonsense"), json!("Agent")]),
        Shape::Text { uuid: true, .. } => values.extend([
            json!(1),
            json!(""),
            json!("5c0a3f0e-7a52-4b7e-9d1c-3f6f6a1b2c3"),
            json!("5c0a3f0e-7a52-4b7e-9d1c-3f6f6a1b2c3d "),
            json!("5C0A3F0E-7A52-4B7E-9D1C-3F6F6A1B2C3D"),
            json!("5c0a3f0e7a52-4b7e-9d1c-3f6f6a1b2c3d4"),
            json!("5c0a3f0e-7a52-4b7e-9d1c-3f6f6a1b2cé"),
            json!("{5c0a3f0e-7a52-4b7e-9d1c-3f6f6a1b2c3d}"),
        ]),
        Shape::Text { length, .. } => {
            values.extend([json!(1), json!(true)]);
            values.extend(
                beyond(*length)
                    .into_iter()
                    .filter_map(|n| usize::try_from(n).ok())
                    .map(|n| "é".repeat(n).into()),
            );
        }
        Shape::Boolean => values.extend([json!(1), json!("true")]),
        Shape::Integer { lax: true, .. } => values.push(json!("x")),
        Shape::Integer { range, .. } => {
            values.extend([json!("1"), json!(true)]);
            values.extend(beyond(*range).into_iter().map(Value::from));
        }
    }
    values
}

/// The integers just outside.
fn beyond(bounds: Bounds) -> Vec<i64> {
    let below = bounds.min.and_then(|min| min.checked_sub(1));
    let above = bounds.max.and_then(|max| max.checked_add(1));
    below.into_iter().chain(above).collect()
}
