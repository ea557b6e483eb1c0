//! What a specification says, in the form that is compared and written down.

/// One version of a wire.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Module {
    /// One per direction, in the order of the files.
    pub unions: Vec<Union>,
    /// The messages' fields, in the order of first use.
    pub structs: Vec<Struct>,
    /// The closed lists of texts, in the order of first use.
    pub enums: Vec<Enum>,
    /// The forms of frames that are no JSON, in the order of the files.
    pub layouts: Vec<Layout>,
    /// The constants, in the order of the file.
    pub constants: Vec<Constant>,
}

/// The messages of one direction.
#[derive(Clone, Debug, PartialEq)]
pub struct Union {
    /// Name of the type, from the schema's `title`.
    pub name: String,
    /// What it is, from the schema's `description`.
    pub description: String,
    /// Key of the object that every message is wrapped in; `None`: not wrapped.
    pub envelope: Option<String>,
    /// Name of the [`Constant`] that says how long a message may be; `None`: not bounded here.
    pub max_bytes: Option<String>,
    /// Key of the field that tells the messages apart.
    pub tag: String,
    /// The messages.
    pub variants: Vec<Variant>,
}

/// One message of a direction.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    /// Value of the tag.
    pub kind: String,
    /// What the message is, from the description of the tag.
    pub description: String,
    /// Name of the [`Struct`] with the other fields.
    pub fields: String,
}

/// The fields of a message, its tag left out.
#[derive(Clone, Debug, PartialEq)]
pub struct Struct {
    /// Name of the type, from its key in `$defs`.
    pub name: String,
    /// What it is.
    pub description: String,
    /// The fields, in the order in which they are written.
    pub fields: Vec<Field>,
    /// Whether fields that are not named are kept.
    pub extra: bool,
}

/// One field.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// Its key.
    pub name: String,
    /// What it is.
    pub description: String,
    /// Whether it must be present.
    pub required: bool,
    /// Whether it may be null.
    pub nullable: bool,
    /// What it holds otherwise.
    pub shape: Shape,
}

/// What a field holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// A text.
    Text {
        /// Bounds of its length in characters.
        length: Bounds,
        /// Whether it must not be shown.
        secret: bool,
        /// Whether it is base64 of bytes.
        base64: bool,
        /// Whether it is a UUID in lower case.
        uuid: bool,
    },
    /// One of the texts of the [`Enum`] of this name.
    Choice(String),
    /// An object, whatever it holds.
    Object,
    /// Any value.
    Any,
    /// An integer.
    Integer {
        /// Bounds of its value.
        range: Bounds,
        /// Whether other spellings of an integer are read, too.
        lax: bool,
    },
    /// True or false.
    Boolean,
}

/// A closed list of texts.
#[derive(Clone, Debug, PartialEq)]
pub struct Enum {
    /// Name of the type, from its key in `$defs`.
    pub name: String,
    /// What it is.
    pub description: String,
    /// The texts, and what each means.
    pub texts: Vec<(String, String)>,
}

/// The form of a frame that is no JSON: integers one after the other, and a rest.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    /// Name of the module, from the name of the file.
    pub name: String,
    /// What the frame is.
    pub description: String,
    /// The integers, most significant byte first, in their order.
    pub fields: Vec<LayoutField>,
    /// Name of the rest.
    pub rest: String,
    /// What the rest is.
    pub rest_description: String,
}

impl Layout {
    /// How many bytes come before the rest.
    #[must_use]
    pub fn header_bytes(&self) -> usize {
        self.fields.iter().map(|field| field.bytes).sum()
    }
}

/// One integer of a [`Layout`].
#[derive(Clone, Debug, PartialEq)]
pub struct LayoutField {
    /// Its name.
    pub name: String,
    /// What it is.
    pub description: String,
    /// How many bytes it takes: 1, 2, 4 or 8.
    pub bytes: usize,
}

/// Inclusive bounds, either of which may be missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// The smallest allowed.
    pub min: Option<i64>,
    /// The largest allowed.
    pub max: Option<i64>,
}

impl Bounds {
    /// Whether there are none.
    #[must_use]
    pub fn is_open(self) -> bool {
        self == Self::default()
    }
}

/// One constant.
#[derive(Clone, Debug, PartialEq)]
pub struct Constant {
    /// Its name, in capitals.
    pub name: String,
    /// What it is.
    pub description: String,
    /// The clause of the prose that it belongs to.
    pub clause: String,
    /// Its value.
    pub value: Value,
}

/// The value of a constant, by its unit.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A text.
    Text(String),
    /// Several texts.
    Texts(Vec<String>),
    /// A number of bytes.
    Bytes(u64),
    /// A number of other things.
    Count(u64),
    /// A number of bytes of a stream, or a place in it.
    Offset(u64),
    /// A TCP port.
    Port(u16),
    /// A WebSocket close code.
    CloseCode(u16),
    /// A time in seconds.
    Seconds(u64),
    /// A time in milliseconds.
    Milliseconds(u64),
}

/// A kind as the name of a type: `initiate_connection` becomes `InitiateConnection`.
pub(crate) fn camel(kind: &str) -> String {
    let mut name = String::new();
    for word in kind.split(|c: char| !c.is_ascii_alphanumeric()) {
        let mut letters = word.chars();
        name.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        name.push_str(letters.as_str());
    }
    name
}
