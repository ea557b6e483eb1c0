// Written by `cargo run -p generator` from codec/tests/made_up; edit the specification instead.

use std::fmt;
use std::time::Duration;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use crate::Secret;
use crate::fields::{FieldError, Fields};
use crate::message::Message;

/// What a guest says to the kitchen, in a specification that exists only to test the generator.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[serde(tag = "what")]
pub enum Order {
    /// A dish is ordered.
    #[serde(rename = "dish")]
    Dish(Dish),
    /// A picture is sent.
    #[serde(rename = "photo-of-it")]
    PhotoOfIt(Photo),
    /// The bill is asked for.
    #[serde(rename = "bill")]
    Bill(Bill),
}

/// Something to cook.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct Dish {
    /// Its number on the card.
    #[serde(deserialize_with = "crate::fields::within::<_, _, 1, 400>")]
    #[cfg_attr(feature = "schemars", schemars(range(min = 1, max = 400)))]
    pub number: u16,
    /// Its name, if the guest knows it.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::fields::optional_within::<_, _, 1, 12>"
    )]
    #[cfg_attr(
        feature = "schemars",
        schemars(with = "String", length(min = 1, max = 12))
    )]
    pub name: Option<String>,
    /// Hours before or after noon.
    #[serde(deserialize_with = "crate::fields::within::<_, _, { -12 }, 12>")]
    #[cfg_attr(feature = "schemars", schemars(range(min = -12, max = 12)))]
    pub offset: i64,
    /// How much of it.
    #[cfg_attr(feature = "schemars", schemars(range(min = 0)))]
    pub grams: u64,
    /// A wish, or none.
    #[serde(deserialize_with = "crate::fields::nullable")]
    pub note: Option<String>,
    /// Whether it is to be warm.
    pub hot: bool,
    /// Where to bring it; null for anywhere.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::fields::optional"
    )]
    #[cfg_attr(
        feature = "schemars",
        schemars(with = "Option<u8>", range(min = 0, max = 255))
    )]
    pub table: Option<Option<u8>>,
    /// The fields that have no name here, in their order. None of them may have a name of the others.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl fmt::Debug for Dish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dish")
            .field("number", &self.number)
            .field("name", &self.name)
            .field("offset", &self.offset)
            .field("grams", &self.grams)
            .field("note", &self.note)
            .field("hot", &self.hot)
            .field("table", &self.table)
            .field("extra", &crate::fields::keys_of(&self.extra))
            .finish()
    }
}

/// A picture of the plate.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct Photo {
    /// Where it belongs.
    pub album: String,
    /// What it shows.
    pub title: String,
    /// The picture.
    #[cfg_attr(feature = "schemars", schemars(extend("contentEncoding" = "base64")))]
    pub bytes: String,
}

impl fmt::Debug for Photo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Photo")
            .field("album", &self.album)
            .field("title", &self.title)
            .field("bytes", &crate::fields::length_of(&self.bytes))
            .finish()
    }
}

/// The guest wants to pay.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct Bill {
    /// The guest's number.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::fields::optional"
    )]
    #[cfg_attr(
        feature = "schemars",
        schemars(with = "Secret", extend("writeOnly" = true))
    )]
    pub pin: Option<Secret>,
    /// Anything that looks like a number.
    #[serde(deserialize_with = "crate::fields::lax_integer")]
    #[cfg_attr(feature = "schemars", schemars(extend("x-reading" = "lax-integer")))]
    pub tip: i64,
}

impl Message for Order {
    const NAME: &'static str = "Order";
    const ENVELOPE: Option<&'static str> = None;
    const TAG: &'static str = "what";
    const KINDS: &'static [&'static str] = &["dish", "photo-of-it", "bill"];
    fn kind(&self) -> &'static str {
        match self {
            Self::Dish(_) => "dish",
            Self::PhotoOfIt(_) => "photo-of-it",
            Self::Bill(_) => "bill",
        }
    }
    fn from_fields(kind: &str, fields: Fields) -> Option<Result<Self, FieldError>> {
        Some(
            match kind {
                "dish" => Dish::deserialize(fields).map(Self::Dish),
                "photo-of-it" => Photo::deserialize(fields).map(Self::PhotoOfIt),
                "bill" => Bill::deserialize(fields).map(Self::Bill),
                _ => return None,
            },
        )
    }
}

/// What comes before the first value in the text of a [`Photo`].
pub const PHOTO_PREFIX: &str = "{\"what\":\"photo-of-it\",\"album\":\"";

/// What comes after value 1 in the text of a [`Photo`].
pub const PHOTO_INFIX_1: &str = "\",\"title\":\"";

/// What comes after value 2 in the text of a [`Photo`].
pub const PHOTO_INFIX_2: &str = "\",\"bytes\":\"";

/// What comes after the last value in the text of a [`Photo`].
pub const PHOTO_SUFFIX: &str = "\"}";

/// What the waiter says. Clause W-1.
pub const GREETING: &str = "say \"when\"";

/// What there is. Clause W-2.
pub const DISHES: &[&str] = &["soup", "fish"];

/// What fits on a plate. In bytes. Clause W-3.
pub const PLATE: usize = 4096;

/// Where to sit. Clause W-4.
pub const TABLES: usize = 12;

/// Where to go in. Clause W-5.
pub const DOOR: u16 = 80;

/// Why not. A WebSocket close code. Clause W-6.
pub const CLOSED: u16 = 4000;

/// How long to wait. Clause W-7.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// How long not to. Clause W-8.
pub const BLINK: Duration = Duration::from_millis(250);
