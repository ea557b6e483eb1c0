//! Writes Rust for what a specification says.

mod layout;

use proc_macro2::{Literal, TokenStream};
use quote::{ToTokens, format_ident, quote};

use crate::ir::{self, Bounds, Constant, Enum, Field, Module, Shape, Struct, Union, Value};
use crate::profile::UUID;

/// The text of the module; `label` names the folder of the specification in its first line.
#[must_use]
pub fn module(label: &str, module: &Module) -> String {
    let unions = module.unions.iter().map(|u| union(u, module));
    let structs = module.structs.iter().map(fields);
    let enums = module.enums.iter().map(list);
    let messages = module.unions.iter().map(message_impl);
    let data = module.structs.iter().filter_map(|s| data_constants(s, module));
    let layouts = module.layouts.iter().map(layout::module);
    let constants = module.constants.iter().map(constant);
    let needs_fmt = module.structs.iter().any(hides) || !module.enums.is_empty();
    let needs_secret = module.structs.iter().any(has_secret);
    let has =
        |shape: &Shape| module.structs.iter().flat_map(|s| &s.fields).any(|f| f.shape == *shape);
    let needs_map = module.structs.iter().any(|s| s.extra) || has(&Shape::Object);
    let needs_value = needs_map || has(&Shape::Any);
    let needs_duration = module
        .constants
        .iter()
        .any(|c| matches!(c.value, Value::Seconds(_) | Value::Milliseconds(_)));
    let fmt = needs_fmt.then(|| {
        quote!(
            use std::fmt;
        )
    });
    let duration = needs_duration.then(|| {
        quote!(
            use std::time::Duration;
        )
    });
    let map = needs_map.then(|| quote!(Map,));
    let value = needs_value.then(|| {
        quote!(
            use serde_json::{#map Value};
        )
    });
    let secret = needs_secret.then(|| {
        quote!(
            use crate::Secret;
        )
    });
    let tokens = quote! {
        #fmt
        #duration
        use serde::{Deserialize, Serialize};
        #value
        #secret
        use crate::fields::{FieldError, Fields};
        use crate::message::Message;
        #(#unions)*
        #(#structs)*
        #(#enums)*
        #(#messages)*
        #(#data)*
        #(#layouts)*
        #(#constants)*
    };
    let file = syn::parse2(tokens).expect("the emitter writes Rust that parses");
    let first = format!(
        "// Written by `cargo run -p generator` from {label}; edit the specification instead.\n\n"
    );
    first + &spaced(&prettyplease::unparse(&file))
}

/// The enum of one direction.
fn union(union: &Union, module: &Module) -> TokenStream {
    let doc = doc(&union.description, 0);
    let name = format_ident!("{}", union.name);
    let tag = &union.tag;
    let eq = equality(
        !union.variants.iter().any(|v| struct_of(module, &v.fields).is_some_and(has_secret)),
    );
    let variants = union.variants.iter().map(|v| {
        let doc = self::doc(&v.description, 4);
        let variant = variant_name(&v.kind);
        let kind = &v.kind;
        let fields = format_ident!("{}", v.fields);
        quote! { #doc #[serde(rename = #kind)] #variant(#fields) }
    });
    quote! {
        #doc
        #[derive(Clone, Debug, #eq Serialize, Deserialize)]
        #[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
        #[serde(tag = #tag)]
        pub enum #name { #(#variants),* }
    }
}

/// The struct of one message.
fn fields(item: &Struct) -> TokenStream {
    let doc = doc(&item.description, 0);
    let name = format_ident!("{}", item.name);
    let eq = equality(!has_secret(item));
    let hidden = hides(item);
    let debug = (!hidden).then(|| quote!(Debug,));
    let default = item.fields.iter().all(|f| !f.required).then(|| quote!(Default,));
    let fields = item.fields.iter().map(field);
    let extra = item.extra.then(|| {
        quote! {
            /// The fields that have no name here, in their order. None of them may have a name of the others.
            #[serde(flatten)]
            pub extra: Map<String, Value>,
        }
    });
    let debug_impl = hidden.then(|| debug_impl(item));
    quote! {
        #doc
        #[derive(Clone, #debug #default #eq Serialize, Deserialize)]
        #[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
        pub struct #name { #(#fields)* #extra }
        #debug_impl
    }
}

/// The enum of a closed list of texts.
fn list(item: &Enum) -> TokenStream {
    let doc = doc(&item.description, 0);
    let name = format_ident!("{}", item.name);
    let texts: Vec<_> = item.texts.iter().map(|(text, _)| text).collect();
    let idents: Vec<_> = texts.iter().map(|text| variant_name(text)).collect();
    let docs = item.texts.iter().map(|(_, description)| self::doc(description, 4));
    quote! {
        #doc
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
        pub enum #name { #(#docs #[serde(rename = #texts)] #idents),* }

        impl #name {
            /// All there are, in the order of the specification.
            pub const ALL: &'static [Self] = &[#(Self::#idents),*];

            /// The text on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { #(Self::#idents => #texts),* }
            }
        }

        impl fmt::Display for #name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    }
}

/// One field of a struct.
fn field(field: &Field) -> TokenStream {
    let doc = doc(&field.description, 4);
    let name = format_ident!("{}", field.name);
    let bare = bare_type(&field.shape);
    let inner = if field.nullable { quote!(Option<#bare>) } else { bare };
    let whole = if field.required { inner.clone() } else { quote!(Option<#inner>) };
    let mut serde = Vec::new();
    if !field.required {
        serde.push(quote!(default));
        serde.push(quote!(skip_serializing_if = "Option::is_none"));
    }
    if let Some(reader) = reader(field) {
        serde.push(quote!(deserialize_with = #reader));
    }
    let serde = (!serde.is_empty()).then(|| quote!(#[serde(#(#serde),*)]));
    let schemars = schemars(field, &inner);
    quote! { #doc #serde #schemars pub #name: #whole, }
}

/// The type of a field that is there and not null.
fn bare_type(shape: &Shape) -> TokenStream {
    match shape {
        Shape::Text { secret: true, .. } => quote!(Secret),
        Shape::Text { .. } => quote!(String),
        Shape::Boolean => quote!(bool),
        Shape::Choice(name) => format_ident!("{name}").to_token_stream(),
        Shape::Object => quote!(Map<String, Value>),
        Shape::Any => quote!(Value),
        Shape::Integer { range, .. } => {
            let name = format_ident!("{}", integer_type(*range).0);
            quote!(#name)
        }
    }
}

/// The smallest integer type for a range, and whether it holds just that range.
fn integer_type(range: Bounds) -> (&'static str, bool) {
    match (range.min, range.max) {
        (None, None) => ("i64", true),
        (Some(min), max) if min >= 0 => {
            let types = [
                ("u8", i64::from(u8::MAX)),
                ("u16", i64::from(u16::MAX)),
                ("u32", i64::from(u32::MAX)),
            ];
            let fitting = max.and_then(|max| types.iter().find(|(_, largest)| max <= *largest));
            match fitting {
                Some((name, largest)) => (name, min == 0 && max == Some(*largest)),
                None => ("u64", min == 0 && max.is_none()),
            }
        }
        _ => ("i64", false),
    }
}

/// The function that reads a field, unless serde's own does.
fn reader(field: &Field) -> Option<String> {
    let bounds = match &field.shape {
        Shape::Integer { lax: true, .. } => return Some("crate::fields::lax_integer".into()),
        Shape::Integer { range, .. } if !integer_type(*range).1 => Some(*range),
        Shape::Text { length, .. } if !length.is_open() => {
            Some(Bounds { min: Some(length.min.unwrap_or(0)), max: length.max })
        }
        _ => None,
    };
    let name = if field.required { "" } else { "optional_" };
    if matches!(field.shape, Shape::Text { uuid: true, .. }) {
        return Some(format!("crate::fields::{name}uuid"));
    }
    if let Some(bounds) = bounds {
        let limit = |value: Option<i64>, open: &str| match value {
            None => format!("{{ i64::{open} }}"),
            Some(number) if number < 0 => format!("{{ {number} }}"),
            Some(number) => number.to_string(),
        };
        let (min, max) = (limit(bounds.min, "MIN"), limit(bounds.max, "MAX"));
        return Some(format!("crate::fields::{name}within::<_, _, {min}, {max}>"));
    }
    match (field.required, field.nullable) {
        (true, true) => Some("crate::fields::nullable".into()),
        (false, _) => Some("crate::fields::optional".into()),
        (true, false) => None,
    }
}

/// What a field's type does not say about its schema.
fn schemars(field: &Field, inner: &TokenStream) -> Option<TokenStream> {
    let mut items = Vec::new();
    if !field.required {
        let inner = inner.to_string().replace(' ', "");
        items.push(quote!(with = #inner));
    }
    let bounds = |bounds: Bounds| {
        // an integer without a suffix is an `i32`
        let literal = |n: i64| match i32::try_from(n) {
            Ok(_) => Literal::i64_unsuffixed(n),
            Err(_) => Literal::i64_suffixed(n),
        };
        let min = bounds.min.map(literal).map(|n| quote!(min = #n));
        let max = bounds.max.map(literal).map(|n| quote!(max = #n));
        let both: Vec<_> = min.into_iter().chain(max).collect();
        quote!(#(#both),*)
    };
    match &field.shape {
        Shape::Text { length, secret, base64, uuid } => {
            if !length.is_open() {
                let bounds = bounds(*length);
                items.push(quote!(length(#bounds)));
            }
            if *secret {
                items.push(quote!(extend("writeOnly" = true)));
            }
            if *base64 {
                items.push(quote!(extend("contentEncoding" = "base64")));
            }
            if *uuid {
                items.push(quote!(extend("pattern" = #UUID)));
            }
        }
        Shape::Integer { range, lax } => {
            if !range.is_open() {
                let bounds = bounds(*range);
                items.push(quote!(range(#bounds)));
            }
            if *lax {
                items.push(quote!(extend("x-reading" = "lax-integer")));
            }
        }
        Shape::Boolean | Shape::Choice(_) | Shape::Object | Shape::Any => {}
    }
    (!items.is_empty()).then(|| quote!(#[cfg_attr(feature = "schemars", schemars(#(#items),*))]))
}

/// `Debug` for a struct with contents that must not be shown.
fn debug_impl(item: &Struct) -> TokenStream {
    let name = format_ident!("{}", item.name);
    let text = &item.name;
    let fields = item.fields.iter().map(|f| {
        let key = &f.name;
        let ident = format_ident!("{key}");
        match f.shape {
            Shape::Text { base64: true, .. } => {
                quote!(.field(#key, &crate::fields::length_of(&self.#ident)))
            }
            Shape::Text { uuid: true, .. } if f.required => {
                quote!(.field(#key, &crate::fields::beginning_of(&self.#ident)))
            }
            Shape::Text { uuid: true, .. } => {
                quote!(.field(#key, &self.#ident.as_deref().map(crate::fields::beginning_of)))
            }
            Shape::Object if f.required => {
                quote!(.field(#key, &crate::fields::keys_of(&self.#ident)))
            }
            Shape::Object => {
                quote!(.field(#key, &self.#ident.as_ref().map(crate::fields::keys_of)))
            }
            Shape::Any if f.required => {
                quote!(.field(#key, &crate::fields::sort_of_value(&self.#ident)))
            }
            Shape::Any => {
                quote!(.field(#key, &self.#ident.as_ref().map(crate::fields::sort_of_value)))
            }
            _ => quote!(.field(#key, &self.#ident)),
        }
    });
    let extra = item.extra.then(|| quote!(.field("extra", &crate::fields::keys_of(&self.extra))));
    quote! {
        impl fmt::Debug for #name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(#text) #(#fields)* #extra .finish()
            }
        }
    }
}

/// The implementation of `Message` for one direction.
fn message_impl(union: &Union) -> TokenStream {
    let name = format_ident!("{}", union.name);
    let text = &union.name;
    let envelope = match &union.envelope {
        None => quote!(None),
        Some(key) => quote!(Some(#key)),
    };
    let max_bytes = union.max_bytes.as_ref().map(|name| {
        let name = format_ident!("{name}");
        quote!(const MAX_BYTES: Option<usize> = Some(#name);)
    });
    let tag = &union.tag;
    let kinds: Vec<_> = union.variants.iter().map(|v| &v.kind).collect();
    let variants: Vec<_> = union.variants.iter().map(|v| variant_name(&v.kind)).collect();
    let structs: Vec<_> = union.variants.iter().map(|v| format_ident!("{}", v.fields)).collect();
    quote! {
        impl Message for #name {
            const NAME: &'static str = #text;
            const ENVELOPE: Option<&'static str> = #envelope;
            #max_bytes
            const TAG: &'static str = #tag;
            const KINDS: &'static [&'static str] = &[#(#kinds),*];

            fn kind(&self) -> &'static str {
                match self { #(Self::#variants(_) => #kinds,)* }
            }

            fn from_fields(kind: &str, fields: Fields) -> Option<Result<Self, FieldError>> {
                Some(match kind {
                    #(#kinds => #structs::deserialize(fields).map(Self::#variants),)*
                    _ => return None,
                })
            }
        }
    }
}

/// The fixed texts around the values of a message that is nothing but texts and one base64 field.
fn data_constants(item: &Struct, module: &Module) -> Option<TokenStream> {
    let plain = |f: &Field| {
        f.required
            && !f.nullable
            && matches!(f.shape, Shape::Text { secret: false, length, .. } if length.is_open())
    };
    let encoded =
        item.fields.iter().filter(|f| matches!(f.shape, Shape::Text { base64: true, .. })).count();
    if item.extra || encoded != 1 || !item.fields.iter().all(plain) {
        return None;
    }
    let (union, variant) = module
        .unions
        .iter()
        .find_map(|u| Some((u, u.variants.iter().find(|v| v.fields == item.name)?)))?;
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let mut pieces = Vec::new();
    let mut piece =
        union.envelope.iter().map(|key| format!("{{{}:", quoted(key))).collect::<String>();
    piece += &format!("{{{}:{}", quoted(&union.tag), quoted(&variant.kind));
    for field in &item.fields {
        piece += &format!(",{}:\"", quoted(&field.name));
        pieces.push(std::mem::replace(&mut piece, "\"".into()));
    }
    piece += if union.envelope.is_some() { "}}" } else { "}" };
    pieces.push(piece);

    let last = pieces.len() - 1;
    let constants = pieces.iter().enumerate().map(|(index, piece)| {
        let (suffix, what) = match index {
            0 => ("PREFIX".into(), "What comes before the first value in the text of a".into()),
            _ if index == last => {
                ("SUFFIX".into(), "What comes after the last value in the text of a".into())
            }
            _ if last == 2 => {
                ("INFIX".into(), "What comes between the two values in the text of a".into())
            }
            _ => (
                format!("INFIX_{index}"),
                format!("What comes after value {index} in the text of a"),
            ),
        };
        let name = format_ident!("{}_{suffix}", screaming(&item.name));
        let doc = doc(&format!("{what} [`{}`].", item.name), 0);
        quote! { #doc pub const #name: &str = #piece; }
    });
    Some(quote! { #(#constants)* })
}

/// Whether a name is one of [`data_constants`].
pub(crate) fn is_data_constant(name: &str, module: &Module) -> bool {
    module.structs.iter().filter(|item| data_constants(item, module).is_some()).any(|item| {
        let rest = name.strip_prefix(&screaming(&item.name)).unwrap_or_default();
        matches!(rest, "_PREFIX" | "_SUFFIX") || rest.starts_with("_INFIX")
    })
}

/// One constant of the specification.
fn constant(constant: &Constant) -> TokenStream {
    let name = format_ident!("{}", constant.name);
    let number = |n: u64| Literal::u64_unsuffixed(n);
    let plain = |n: u64| number(n).to_token_stream();
    let (unit, kind, value) = match &constant.value {
        Value::Text(text) => ("", quote!(&str), quote!(#text)),
        Value::Texts(texts) => ("", quote!(&[&str]), quote!(&[#(#texts),*])),
        Value::Bytes(n) => (" In bytes.", quote!(usize), plain(*n)),
        Value::Count(n) => ("", quote!(usize), plain(*n)),
        Value::Offset(n) => (" In bytes.", quote!(u64), plain(*n)),
        Value::Port(n) => ("", quote!(u16), plain((*n).into())),
        Value::CloseCode(n) => (" A WebSocket close code.", quote!(u16), plain((*n).into())),
        Value::Seconds(n) => {
            let n = number(*n);
            ("", quote!(Duration), quote!(Duration::from_secs(#n)))
        }
        Value::Milliseconds(n) => {
            let n = number(*n);
            ("", quote!(Duration), quote!(Duration::from_millis(#n)))
        }
    };
    let doc = doc(&format!("{}{unit} Clause {}.", constant.description, constant.clause), 0);
    quote! { #doc pub const #name: #kind = #value; }
}

fn equality(comparable: bool) -> Option<TokenStream> {
    comparable.then(|| quote!(PartialEq, Eq,))
}

fn struct_of<'a>(module: &'a Module, name: &str) -> Option<&'a Struct> {
    module.structs.iter().find(|s| s.name == name)
}

fn has_secret(item: &Struct) -> bool {
    item.fields.iter().any(|f| matches!(f.shape, Shape::Text { secret: true, .. }))
}

/// Whether a struct has contents that its `Debug` must not show, or not whole.
fn hides(item: &Struct) -> bool {
    let hidden = |shape: &Shape| match shape {
        Shape::Text { base64, uuid, .. } => *base64 || *uuid,
        Shape::Object | Shape::Any => true,
        _ => false,
    };
    item.extra || item.fields.iter().any(|f| hidden(&f.shape))
}

/// The variant of a kind.
fn variant_name(kind: &str) -> syn::Ident {
    format_ident!("{}", ir::camel(kind))
}

/// `StreamData` becomes `STREAM_DATA`.
fn screaming(name: &str) -> String {
    let mut text = String::new();
    for (index, letter) in name.char_indices() {
        if index > 0 && letter.is_ascii_uppercase() {
            text.push('_');
        }
        text.push(letter.to_ascii_uppercase());
    }
    text
}

/// Doc attributes for a text, cut into lines.
fn doc(text: &str, indent: usize) -> TokenStream {
    let width = 112 - indent;
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(format!(" {word}")),
        }
    }
    quote! { #(#[doc = #lines])* }
}

/// Puts an empty line before every item, those in modules and implementations included.
fn spaced(code: &str) -> String {
    let mut out = String::with_capacity(code.len() + code.len() / 32);
    let mut attached = true;
    let mut in_block = false;
    for line in code.lines() {
        if !line.starts_with([' ', '}']) {
            in_block = line.starts_with("impl ") || line.starts_with("pub mod ");
        }
        let item = if in_block { line.strip_prefix("    ").unwrap_or(line) } else { line };
        let begins = ["///", "#[", "pub ", "impl "].iter().any(|start| item.starts_with(start));
        if begins && !attached {
            out.push('\n');
        }
        out.push_str(line);
        out.push('\n');
        attached = item.starts_with("///")
            || item.starts_with("#[")
            || item == ")]"
            || (in_block && line.ends_with('{') && !line.starts_with(' '));
    }
    out
}
