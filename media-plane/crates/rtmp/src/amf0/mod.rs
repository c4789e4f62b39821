//! AMF0: the values commands and metadata are made of.

mod reader;
mod writer;

pub use reader::{AmfError, Reader, Text};
pub use writer::Writer;

/// Name and value, in the order sent.
pub type Property = (String, Value);

/// One AMF0 value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// 64-bit floating point.
    Number(f64),
    /// Boolean.
    Boolean(bool),
    /// Short or long string, or an XML document.
    String(String),
    /// Anonymous or typed object.
    Object(Vec<Property>),
    /// Associative array; the announced count is not believed.
    EcmaArray(Vec<Property>),
    /// Dense array.
    StrictArray(Vec<Value>),
    /// Milliseconds since the epoch; the time zone is reserved and ignored.
    Date(f64),
    /// Null.
    Null,
    /// Undefined, and the "unsupported" marker.
    Undefined,
    /// Index of an object sent before; not resolved, nothing a publisher sends needs it.
    Reference(u16),
}

impl Value {
    /// The number, if it is one.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// The string, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(string) => Some(string),
            _ => None,
        }
    }

    /// The properties of an object or ECMA array, else none.
    pub fn properties(&self) -> &[Property] {
        match self {
            Self::Object(properties) | Self::EcmaArray(properties) => properties,
            _ => &[],
        }
    }

    /// A property of an object or ECMA array; the first of that name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.properties().iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }
}

/// Markers (AMF0 section 2.1).
mod marker {
    pub(super) const NUMBER: u8 = 0x00;
    pub(super) const BOOLEAN: u8 = 0x01;
    pub(super) const STRING: u8 = 0x02;
    pub(super) const OBJECT: u8 = 0x03;
    pub(super) const NULL: u8 = 0x05;
    pub(super) const UNDEFINED: u8 = 0x06;
    pub(super) const REFERENCE: u8 = 0x07;
    pub(super) const ECMA_ARRAY: u8 = 0x08;
    pub(super) const OBJECT_END: u8 = 0x09;
    pub(super) const STRICT_ARRAY: u8 = 0x0a;
    pub(super) const DATE: u8 = 0x0b;
    pub(super) const LONG_STRING: u8 = 0x0c;
    pub(super) const UNSUPPORTED: u8 = 0x0d;
    pub(super) const XML: u8 = 0x0f;
    pub(super) const TYPED_OBJECT: u8 = 0x10;
}
