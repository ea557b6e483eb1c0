//! Reads the subset of JSON Schema that specifications are written in, and refuses everything else.
//!
//! `spec/profile.schema.json` describes the same subset as a schema. This module is stricter where a schema cannot
//! be: names must fit together across files, tags must be unique, bounds must be in order.

use serde_json::{Map, Value};

use crate::Error;
use crate::ir::{
    self, Bounds, Constant, Enum, Field, Layout, LayoutField, Module, Shape, Struct, Union, Variant,
};

/// Adds the messages of one schema file to `module`.
///
/// # Errors
///
/// [`Error::Profile`] for the first construct that is outside the subset or contradicts another file.
pub fn schema(file: &str, json: &Value, module: &mut Module) -> Result<(), Error> {
    let root = Node { file, pointer: String::new(), value: json };
    let dialect = root.get("$schema")?;
    if dialect.text()? != DIALECT {
        return dialect.fail(format!("must be {DIALECT}"));
    }
    let name = root.get("title")?.type_name()?;
    let description = root.get("description")?.text()?;
    let definitions = root.get("$defs")?;
    let (envelope, choices) = if root.find("oneOf").is_some() {
        root.only(&["$schema", "title", "description", "x-max-bytes", "oneOf", "$defs"])?;
        (None, root.get("oneOf")?)
    } else {
        root.only(&[
            "$schema",
            "title",
            "description",
            "x-max-bytes",
            "type",
            "properties",
            "required",
            "$defs",
        ])?;
        root.expect_object_type()?;
        let properties = root.get("properties")?;
        let mut members = properties.members()?;
        let (Some((key, inner)), None) = (members.pop(), members.pop()) else {
            return properties.fail("an envelope has exactly one property".into());
        };
        if root.get("required")?.texts()? != [key.as_str()] {
            return root.get("required")?.fail("an envelope requires its one property".into());
        }
        inner.only(&["oneOf"])?;
        (Some(key), inner.get("oneOf")?)
    };

    let max_bytes = match root.find("x-max-bytes") {
        None => None,
        Some(node) => {
            let name = node.text()?;
            let fits = |c: &Constant| c.name == name && matches!(c.value, ir::Value::Bytes(_));
            if !module.constants.iter().any(fits) {
                return node.fail(format!("there is no constant {name} that counts bytes"));
            }
            Some(name)
        }
    };

    let mut tag: Option<String> = None;
    let mut variants: Vec<Variant> = Vec::new();
    let mut enums: Vec<Enum> = Vec::new();
    for choice in choices.items()? {
        choice.only(&["$ref"])?;
        let reference = choice.get("$ref")?;
        let target = reference.text()?;
        let Some(definition) =
            target.strip_prefix("#/$defs/").and_then(|name| definitions.find(name))
        else {
            return reference.fail(format!("there is no definition {target}"));
        };
        let message = message(&target["#/$defs/".len()..], &definition, &definitions, &mut enums)?;
        if tag.get_or_insert_with(|| message.tag.clone()) != &message.tag {
            return definition
                .fail("the messages of one direction share the key that tells them apart".into());
        }
        // The types of the variants are told apart by less than the kinds are.
        if variants.iter().any(|v| ir::camel(&v.kind) == ir::camel(&message.kind)) {
            return definition.fail(format!("the kind {:?} occurs twice", message.kind));
        }
        variants.push(Variant {
            kind: message.kind,
            description: message.description,
            fields: message.fields.name.clone(),
        });
        if module.unions.iter().any(|u| u.name == message.fields.name) {
            return definition.fail(format!("the name {} is taken", message.fields.name));
        }
        match module.structs.iter().find(|s| s.name == message.fields.name) {
            None => module.structs.push(message.fields),
            Some(known) if *known == message.fields => {}
            Some(_) => {
                return definition
                    .fail("differs from the definition of the same name in another file".into());
            }
        }
    }
    let Some(tag) = tag else {
        return choices.fail("there must be a message".into());
    };
    for (key, definition) in definitions.members()? {
        if !variants.iter().any(|v| v.fields == key) && !enums.iter().any(|e| e.name == key) {
            return definition.fail("is not used".into());
        }
    }
    for choice in enums {
        let node = definitions.get(&choice.name)?;
        if module.structs.iter().any(|s| s.name == choice.name) {
            return node.fail(format!("the name {} is taken", choice.name));
        }
        match module.enums.iter().find(|e| e.name == choice.name) {
            None => module.enums.push(choice),
            Some(known) if *known == choice => {}
            Some(_) => {
                return node
                    .fail("differs from the definition of the same name in another file".into());
            }
        }
    }
    let taken = module.unions.iter().any(|u| u.name == name)
        || module.structs.iter().any(|s| s.name == name)
        || module.enums.iter().any(|e| e.name == name);
    if taken {
        return root.get("title")?.fail(format!("the name {name} is taken"));
    }
    module.unions.push(Union { name, description, envelope, max_bytes, tag, variants });
    Ok(())
}

/// The constants of a file.
///
/// # Errors
///
/// [`Error::Profile`] for the first construct that is outside the subset.
pub fn constants(file: &str, json: &Value) -> Result<Vec<Constant>, Error> {
    let root = Node { file, pointer: String::new(), value: json };
    root.only(&["title", "description", "constants"])?;
    root.get("title")?.text()?;
    root.get("description")?.text()?;
    let mut constants: Vec<Constant> = Vec::new();
    for node in root.get("constants")?.items()? {
        node.only(&["name", "value", "unit", "description", "clause"])?;
        let name = node.get("name")?.text()?;
        let letters = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        if !name.starts_with(|c: char| c.is_ascii_uppercase()) || !name.chars().all(letters) {
            return node.get("name")?.fail("must be written in capitals".into());
        }
        if constants.iter().any(|c| c.name == name) {
            return node.get("name")?.fail(format!("the name {name} is taken"));
        }
        constants.push(Constant {
            name,
            description: node.get("description")?.text()?,
            clause: node.get("clause")?.text()?,
            value: constant_value(&node)?,
        });
    }
    Ok(constants)
}

/// The form of the frames of a file; `name` is what the module will be called.
///
/// # Errors
///
/// [`Error::Profile`] for the first construct that is outside the form.
pub fn layout(file: &str, name: &str, json: &Value) -> Result<Layout, Error> {
    let root = Node { file, pointer: String::new(), value: json };
    if !is_field_name(name) {
        return root.fail("the name of a layout must be in snake case and no Rust keyword".into());
    }
    root.only(&["title", "description", "byteOrder", "fields", "rest"])?;
    root.get("title")?.text()?;
    let order = root.get("byteOrder")?;
    if order.text()? != "big-endian" {
        return order.fail("must be \"big-endian\"".into());
    }
    let mut fields: Vec<LayoutField> = Vec::new();
    for node in root.get("fields")?.items()? {
        node.only(&["name", "type", "description"])?;
        let name = node.get("name")?.text()?;
        if !is_field_name(&name) {
            return node.get("name")?.fail("must be in snake case and no Rust keyword".into());
        }
        if fields.iter().any(|field| field.name == name) {
            return node.get("name")?.fail(format!("the name {name} is taken"));
        }
        let bytes = match node.get("type")?.text()?.as_str() {
            "u8" => 1,
            "u16" => 2,
            "u32" => 4,
            "u64" => 8,
            other => {
                return node.get("type")?.fail(format!("there is no type {other:?} in a layout"));
            }
        };
        fields.push(LayoutField { name, description: node.get("description")?.text()?, bytes });
    }
    if fields.is_empty() {
        return root.get("fields")?.fail("there must be a field".into());
    }
    let rest = root.get("rest")?;
    rest.only(&["name", "description"])?;
    let rest_name = rest.get("name")?;
    if !is_field_name(&rest_name.text()?) {
        return rest_name.fail("must be in snake case and no Rust keyword".into());
    }
    Ok(Layout {
        name: name.to_owned(),
        description: root.get("description")?.text()?,
        fields,
        rest: rest_name.text()?,
        rest_description: rest.get("description")?.text()?,
    })
}

/// Value and unit of a constant.
fn constant_value(node: &Node<'_>) -> Result<ir::Value, Error> {
    let value = node.get("value")?;
    let small = |value: &Node<'_>| match u16::try_from(value.unsigned()?) {
        Ok(number) => Ok(number),
        Err(_) => value.fail("must be below 65536".into()),
    };
    Ok(match node.get("unit")?.text()?.as_str() {
        "text" => ir::Value::Text(value.text()?),
        "texts" => ir::Value::Texts(value.texts()?),
        "bytes" => ir::Value::Bytes(value.unsigned()?),
        "count" => ir::Value::Count(value.unsigned()?),
        "offset" => ir::Value::Offset(value.unsigned()?),
        "port" => ir::Value::Port(small(&value)?),
        "close-code" => ir::Value::CloseCode(small(&value)?),
        "seconds" => ir::Value::Seconds(value.unsigned()?),
        "milliseconds" => ir::Value::Milliseconds(value.unsigned()?),
        other => {
            return node.get("unit")?.fail(format!("there is no unit {other:?}"));
        }
    })
}

/// A definition in `$defs`, taken apart.
struct Message {
    tag: String,
    kind: String,
    description: String,
    fields: Struct,
}

/// Reads the definition of one message; lists that its properties choose from are added to `enums`.
fn message(
    name: &str,
    node: &Node<'_>,
    definitions: &Node<'_>,
    enums: &mut Vec<Enum>,
) -> Result<Message, Error> {
    node.only(&["description", "type", "properties", "required", "additionalProperties"])?;
    node.expect_object_type()?;
    if !is_type_name(name) {
        return node
            .fail("the name of a definition must be in camel case with a capital first".into());
    }
    let required_node = node.get("required")?;
    let required = required_node.texts()?;
    let properties = node.get("properties")?;
    let mut tag = None;
    let mut fields = Vec::new();
    for (index, (key, property)) in properties.members()?.into_iter().enumerate() {
        if property.find("const").is_some() {
            property.only(&["const", "description"])?;
            if index != 0 || !required.contains(&key) {
                return property.fail("the constant property comes first and is required".into());
            }
            let kind = property.get("const")?;
            if !is_kind(&kind.text()?) {
                return kind
                    .fail("must be words of ASCII letters and digits, a letter first".into());
            }
            tag = Some((key, kind.text()?, property.get("description")?.text()?));
        } else {
            let field = if property.find("$ref").is_some() {
                choice(&key, &property, required.contains(&key), definitions, enums)?
            } else {
                field(&key, &property, required.contains(&key))?
            };
            fields.push(field);
        }
    }
    let Some((tag, kind, description)) = tag else {
        return properties.fail("there must be a constant property that names the message".into());
    };
    let in_order = std::iter::once(&tag)
        .chain(fields.iter().filter(|f: &&Field| f.required).map(|f| &f.name))
        .eq(required.iter());
    if !in_order {
        return required_node.fail("must list properties, each once, in their order".into());
    }
    let extra = match node.find("additionalProperties") {
        None => false,
        Some(node) if node.value == &Value::Bool(true) => true,
        Some(node) => return node.fail("can only be true (kept) or left out (ignored)".into()),
    };
    let description_of_fields = node.get("description")?.text()?;
    let fields =
        Struct { name: name.to_owned(), description: description_of_fields, fields, extra };
    if extra && fields.fields.iter().any(|f| f.name == "extra") {
        return properties.fail("`extra` is the name of what is kept".into());
    }
    Ok(Message { tag, kind, description, fields })
}

/// Reads one property of a message that refers to a closed list of texts, and that list.
fn choice(
    name: &str,
    node: &Node<'_>,
    required: bool,
    definitions: &Node<'_>,
    enums: &mut Vec<Enum>,
) -> Result<Field, Error> {
    check_field_name(name, node)?;
    node.only(&["description", "$ref"])?;
    let reference = node.get("$ref")?;
    let target = reference.text()?;
    let name_of_list = target.strip_prefix("#/$defs/").unwrap_or_default();
    let Some(definition) = definitions.find(name_of_list) else {
        return reference.fail(format!("there is no definition {target}"));
    };
    if !enums.iter().any(|known| known.name == name_of_list) {
        enums.push(list(name_of_list, &definition)?);
    }
    Ok(Field {
        name: name.to_owned(),
        description: node.get("description")?.text()?,
        required,
        nullable: false,
        shape: Shape::Choice(name_of_list.to_owned()),
    })
}

/// Reads the definition of a closed list of texts.
fn list(name: &str, node: &Node<'_>) -> Result<Enum, Error> {
    if !is_type_name(name) {
        return node
            .fail("the name of a definition must be in camel case with a capital first".into());
    }
    node.only(&["description", "oneOf"])?;
    let mut texts: Vec<(String, String)> = Vec::new();
    for item in node.get("oneOf")?.items()? {
        item.only(&["const", "description"])?;
        let text = item.get("const")?.text()?;
        if !is_field_name(&text) {
            return item.get("const")?.fail("must be in snake case and no Rust keyword".into());
        }
        if texts.iter().any(|(known, _)| *known == text) {
            return item.get("const")?.fail(format!("the text {text:?} occurs twice"));
        }
        texts.push((text, item.get("description")?.text()?));
    }
    if texts.is_empty() {
        return node.get("oneOf")?.fail("there must be a text".into());
    }
    Ok(Enum { name: name.to_owned(), description: node.get("description")?.text()?, texts })
}

fn check_field_name(name: &str, node: &Node<'_>) -> Result<(), Error> {
    if is_field_name(name) {
        return Ok(());
    }
    node.fail("the name of a property must be in snake case and no Rust keyword".into())
}

/// Reads one property of a message.
fn field(name: &str, node: &Node<'_>, required: bool) -> Result<Field, Error> {
    check_field_name(name, node)?;
    let description = node.get("description")?.text()?;
    if node.object()?.len() == 1 {
        let name = name.to_owned();
        return Ok(Field { name, description, required, nullable: false, shape: Shape::Any });
    }
    let (kind, nullable) = match node.get("type")?.value {
        Value::String(kind) => (kind.clone(), false),
        Value::Array(_) => match node.get("type")?.texts()?.as_slice() {
            [kind, null] if null == "null" => (kind.clone(), true),
            _ => {
                return node.get("type")?.fail("a list of types is one type and \"null\"".into());
            }
        },
        _ => {
            return node
                .get("type")?
                .fail("must be a type, or a list of one type and \"null\"".into());
        }
    };
    let shape = match kind.as_str() {
        "string" => {
            node.only(&[
                "description",
                "type",
                "minLength",
                "maxLength",
                "writeOnly",
                "contentEncoding",
                "pattern",
            ])?;
            let length = node.bounds("minLength", "maxLength")?;
            if length.min.is_some_and(|n| n < 0) || length.max.is_some_and(|n| n < 0) {
                return node.fail("a length is not negative".into());
            }
            let secret = node.flag("writeOnly", &Value::Bool(true))?;
            let base64 = node.flag("contentEncoding", &Value::String("base64".into()))?;
            let uuid = node.flag("pattern", &Value::String(UUID.into()))?;
            if secret && (base64 || uuid || !length.is_open()) {
                return node.fail("a secret has neither bounds nor an encoding".into());
            }
            if uuid && (base64 || nullable || !length.is_open()) {
                return node.fail("a text with a pattern has no other bounds".into());
            }
            Shape::Text { length, secret, base64, uuid }
        }
        "integer" => {
            node.only(&["description", "type", "minimum", "maximum", "x-reading"])?;
            let range = node.bounds("minimum", "maximum")?;
            let lax = node.flag("x-reading", &Value::String("lax-integer".into()))?;
            if lax && (nullable || !required || !range.is_open()) {
                return node
                    .fail("an integer that is read laxly is required and has no bounds".into());
            }
            Shape::Integer { range, lax }
        }
        "boolean" => {
            node.only(&["description", "type"])?;
            Shape::Boolean
        }
        "object" if !nullable => {
            node.only(&["description", "type", "additionalProperties"])?;
            if !node.flag("additionalProperties", &Value::Bool(true))? {
                return node.fail("an object in a message may hold anything, and says so".into());
            }
            Shape::Object
        }
        other => {
            return node.get("type")?.fail(format!("there is no type {other:?} in the profile"));
        }
    };
    Ok(Field { name: name.to_owned(), description, required, nullable, shape })
}

fn is_type_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.chars().all(|c| c.is_ascii_alphanumeric())
        && !TAKEN.contains(&name)
}

/// Whether a kind can name a variant: words joined by whatever is neither letter nor digit.
fn is_kind(kind: &str) -> bool {
    kind.starts_with(|c: char| c.is_ascii_alphabetic())
        && kind.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
        && ir::camel(kind) != "Self"
}

fn is_field_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && syn::parse_str::<syn::Ident>(name).is_ok()
}

/// A place in a file.
struct Node<'a> {
    file: &'a str,
    pointer: String,
    value: &'a Value,
}

impl<'a> Node<'a> {
    fn fail<T>(&self, problem: String) -> Result<T, Error> {
        Err(Error::Profile { file: self.file.to_owned(), pointer: self.pointer.clone(), problem })
    }

    fn child(&self, key: &str, value: &'a Value) -> Self {
        let key = key.replace('~', "~0").replace('/', "~1");
        Self { file: self.file, pointer: format!("{}/{key}", self.pointer), value }
    }

    fn object(&self) -> Result<&'a Map<String, Value>, Error> {
        match self.value {
            Value::Object(map) => Ok(map),
            _ => self.fail("must be an object".into()),
        }
    }

    /// Refuses keys other than `keys`.
    fn only(&self, keys: &[&str]) -> Result<(), Error> {
        for (key, value) in self.object()? {
            if !keys.contains(&key.as_str()) {
                return self.child(key, value).fail("is not part of the profile here".into());
            }
        }
        Ok(())
    }

    fn find(&self, key: &str) -> Option<Self> {
        self.value.get(key).map(|value| self.child(key, value))
    }

    fn get(&self, key: &str) -> Result<Self, Error> {
        match self.find(key) {
            Some(node) => Ok(node),
            None => self.fail(format!("{key:?} is missing")),
        }
    }

    fn members(&self) -> Result<Vec<(String, Self)>, Error> {
        Ok(self
            .object()?
            .iter()
            .map(|(key, value)| (key.clone(), self.child(key, value)))
            .collect())
    }

    fn items(&self) -> Result<Vec<Self>, Error> {
        match self.value {
            Value::Array(items) => Ok(items
                .iter()
                .enumerate()
                .map(|(i, value)| self.child(&i.to_string(), value))
                .collect()),
            _ => self.fail("must be a list".into()),
        }
    }

    fn text(&self) -> Result<String, Error> {
        match self.value {
            Value::String(text) if !text.is_empty() => Ok(text.clone()),
            _ => self.fail("must be a text that is not empty".into()),
        }
    }

    fn texts(&self) -> Result<Vec<String>, Error> {
        self.items()?.iter().map(Node::text).collect()
    }

    fn type_name(&self) -> Result<String, Error> {
        match self.text()? {
            name if is_type_name(&name) => Ok(name),
            _ => self.fail("must be in camel case with a capital first".into()),
        }
    }

    fn unsigned(&self) -> Result<u64, Error> {
        match self.value.as_u64() {
            Some(number) => Ok(number),
            None => self.fail("must be an integer from 0 to 2^64 - 1".into()),
        }
    }

    /// Whether `key` is there, with the one value it may have.
    fn flag(&self, key: &str, value: &Value) -> Result<bool, Error> {
        match self.find(key) {
            None => Ok(false),
            Some(node) if node.value == value => Ok(true),
            Some(node) => node.fail(format!("can only be {value}")),
        }
    }

    fn bounds(&self, min: &str, max: &str) -> Result<Bounds, Error> {
        let bound = |key| match self.find(key) {
            None => Ok(None),
            Some(node) => match node.value.as_i64() {
                Some(number) => Ok(Some(number)),
                None => node.fail("must be an integer below 2^63".into()),
            },
        };
        let bounds = Bounds { min: bound(min)?, max: bound(max)? };
        match (bounds.min, bounds.max) {
            (Some(min), Some(max)) if min > max => self.fail("the bounds leave nothing".into()),
            _ => Ok(bounds),
        }
    }

    fn expect_object_type(&self) -> Result<(), Error> {
        let node = self.get("type")?;
        if node.text()? == "object" { Ok(()) } else { node.fail("must be \"object\"".into()) }
    }
}

/// The one pattern that a text may have: a UUID in lower case.
pub(crate) const UUID: &str = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$";

/// Names that generated code uses for other things.
const TAKEN: &[&str] = &[
    "Deserialize",
    "Duration",
    "Err",
    "FieldError",
    "Fields",
    "Map",
    "Message",
    "None",
    "Ok",
    "Option",
    "Result",
    "Secret",
    "Self",
    "Serialize",
    "Some",
    "String",
    "Value",
];

/// The dialect of JSON Schema.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";
