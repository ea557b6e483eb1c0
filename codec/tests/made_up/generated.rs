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
    /// A guest has a word to say.
    #[serde(rename = "review")]
    Review(Review),
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

/// What the guest thinks.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct Review {
    /// Which visit.
    #[serde(deserialize_with = "crate::fields::uuid")]
    #[cfg_attr(
        feature = "schemars",
        schemars(
            extend(
                "pattern" = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
            )
        )
    )]
    pub visit: String,
    /// Another one, for comparison.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::fields::optional_uuid"
    )]
    #[cfg_attr(
        feature = "schemars",
        schemars(
            with = "String",
            extend(
                "pattern" = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
            )
        )
    )]
    pub earlier: Option<String>,
    /// How it was.
    pub mood: Mood,
    /// How it was to be.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::fields::optional"
    )]
    #[cfg_attr(feature = "schemars", schemars(with = "Mood"))]
    pub expected: Option<Mood>,
    /// What was good.
    pub praise: Map<String, Value>,
    /// What was not.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::fields::optional"
    )]
    #[cfg_attr(feature = "schemars", schemars(with = "Map<String,Value>"))]
    pub blame: Option<Map<String, Value>>,
    /// Anything else.
    pub word: Value,
    /// Anything but that.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::fields::optional"
    )]
    #[cfg_attr(feature = "schemars", schemars(with = "Value"))]
    pub aside: Option<Value>,
}

impl fmt::Debug for Review {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Review")
            .field("visit", &crate::fields::beginning_of(&self.visit))
            .field("earlier", &self.earlier.as_deref().map(crate::fields::beginning_of))
            .field("mood", &self.mood)
            .field("expected", &self.expected)
            .field("praise", &crate::fields::keys_of(&self.praise))
            .field("blame", &self.blame.as_ref().map(crate::fields::keys_of))
            .field("word", &crate::fields::sort_of_value(&self.word))
            .field("aside", &self.aside.as_ref().map(crate::fields::sort_of_value))
            .finish()
    }
}

/// How a guest feels.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize
)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub enum Mood {
    /// Comes again.
    #[serde(rename = "delighted")]
    Delighted,
    /// May come again.
    #[serde(rename = "not_quite_sure")]
    NotQuiteSure,
}

impl Mood {
    /// All there are, in the order of the specification.
    pub const ALL: &'static [Self] = &[Self::Delighted, Self::NotQuiteSure];

    /// The text on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delighted => "delighted",
            Self::NotQuiteSure => "not_quite_sure",
        }
    }
}

impl fmt::Display for Mood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Message for Order {
    const NAME: &'static str = "Order";
    const ENVELOPE: Option<&'static str> = None;
    const MAX_BYTES: Option<usize> = Some(PLATE);
    const TAG: &'static str = "what";
    const KINDS: &'static [&'static str] = &["dish", "photo-of-it", "bill", "review"];
    fn kind(&self) -> &'static str {
        match self {
            Self::Dish(_) => "dish",
            Self::PhotoOfIt(_) => "photo-of-it",
            Self::Bill(_) => "bill",
            Self::Review(_) => "review",
        }
    }
    fn from_fields(kind: &str, fields: Fields) -> Option<Result<Self, FieldError>> {
        Some(
            match kind {
                "dish" => Dish::deserialize(fields).map(Self::Dish),
                "photo-of-it" => Photo::deserialize(fields).map(Self::PhotoOfIt),
                "bill" => Bill::deserialize(fields).map(Self::Bill),
                "review" => Review::deserialize(fields).map(Self::Review),
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

/// What is carried to a table.
pub mod tray {
    /// How many bytes come before the rest of the frame.
    pub const HEADER_BYTES: usize = 11;

    /// What comes before the rest of the frame.
    ///
    /// - `floor`: Where.
    /// - `table`: To whom.
    /// - `grams`: How heavy.
    #[must_use]
    pub fn header(floor: u8, table: u16, grams: u64) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[0..1].copy_from_slice(&floor.to_be_bytes());
        header[1..3].copy_from_slice(&table.to_be_bytes());
        header[3..11].copy_from_slice(&grams.to_be_bytes());
        header
    }

    /// Takes a frame apart; `None`: it has no whole header.
    ///
    /// - `floor`: Where.
    /// - `table`: To whom.
    /// - `grams`: How heavy.
    /// - `plates`: What is on it.
    #[must_use]
    pub fn split(frame: &[u8]) -> Option<(u8, u16, u64, &[u8])> {
        let (header, rest) = frame.split_first_chunk::<HEADER_BYTES>()?;
        Some((
            u8::from_be_bytes([header[0]]),
            u16::from_be_bytes([header[1], header[2]]),
            u64::from_be_bytes([
                header[3],
                header[4],
                header[5],
                header[6],
                header[7],
                header[8],
                header[9],
                header[10],
            ]),
            rest,
        ))
    }

    /// Writes another `floor` into a frame. One without a whole header is left as it is.
    pub fn set_floor(frame: &mut [u8], floor: u8) {
        if let Some(header) = frame.first_chunk_mut::<HEADER_BYTES>() {
            header[0..1].copy_from_slice(&floor.to_be_bytes());
        }
    }

    /// Writes another `table` into a frame. One without a whole header is left as it is.
    pub fn set_table(frame: &mut [u8], table: u16) {
        if let Some(header) = frame.first_chunk_mut::<HEADER_BYTES>() {
            header[1..3].copy_from_slice(&table.to_be_bytes());
        }
    }

    /// Writes another `grams` into a frame. One without a whole header is left as it is.
    pub fn set_grams(frame: &mut [u8], grams: u64) {
        if let Some(header) = frame.first_chunk_mut::<HEADER_BYTES>() {
            header[3..11].copy_from_slice(&grams.to_be_bytes());
        }
    }
}

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

/// How deep the soup may be. In bytes. Clause WW-9.
pub const DEPTH: u64 = 9007199254740991;
