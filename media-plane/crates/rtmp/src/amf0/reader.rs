//! AMF0 in: bounded in depth and number of values, and never believing a length it has not seen the bytes of.

use super::{Property, Value, marker};

/// Nesting that is followed; encoders use 3.
const MAX_DEPTH: usize = 16;
/// Values per message; `onMetaData` has about 30.
const MAX_VALUES: usize = 1024;

/// Why bytes are not AMF0 that is read here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmfError {
    /// The bytes end inside a value.
    #[error("a value is cut short")]
    Truncated,
    /// Nested deeper than 16.
    #[error("values are nested deeper than {MAX_DEPTH}")]
    TooDeep,
    /// More than 1024 values in one message.
    #[error("more than {MAX_VALUES} values in one message")]
    TooMany,
    /// A string that is not UTF-8, where that matters.
    #[error("a string is not utf-8")]
    NotUtf8,
    /// A marker that AMF0 reserves, or the switch to AMF3.
    #[error("type marker {0:#04x} is not supported")]
    Marker(u8),
}

/// How to take strings that are not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    /// An error: names decide who may publish what.
    Strict,
    /// Replacement characters: metadata is a hint, and some encoders write it in local encodings.
    Lossy,
}

/// Reads the values of one message.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    text: Text,
    values_left: usize,
}

impl<'a> Reader<'a> {
    /// Over the body of a command or data message.
    pub fn new(body: &'a [u8], text: Text) -> Self {
        Self { rest: body, text, values_left: MAX_VALUES }
    }

    /// The next value; `None` at the end.
    ///
    /// # Errors
    /// After an error the rest of the message cannot be read.
    pub fn read(&mut self) -> Result<Option<Value>, AmfError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        self.value(0).map(Some)
    }

    fn value(&mut self, depth: usize) -> Result<Value, AmfError> {
        if depth > MAX_DEPTH {
            return Err(AmfError::TooDeep);
        }
        self.values_left = self.values_left.checked_sub(1).ok_or(AmfError::TooMany)?;
        let [found] = self.array()?;
        Ok(match found {
            marker::NUMBER => Value::Number(f64::from_be_bytes(self.array()?)),
            marker::BOOLEAN => {
                let [flag] = self.array()?;
                Value::Boolean(flag != 0)
            }
            marker::STRING => Value::String(self.short_string()?),
            marker::LONG_STRING | marker::XML => {
                let length = u32::from_be_bytes(self.array()?);
                Value::String(self.string(length as usize)?)
            }
            marker::OBJECT => Value::Object(self.properties(depth)?),
            marker::TYPED_OBJECT => {
                self.short_string()?;
                Value::Object(self.properties(depth)?)
            }
            marker::ECMA_ARRAY => {
                self.array::<4>()?;
                Value::EcmaArray(self.properties(depth)?)
            }
            marker::STRICT_ARRAY => {
                let count = u32::from_be_bytes(self.array()?);
                let mut items = Vec::new();
                for _ in 0..count {
                    items.push(self.value(depth + 1)?);
                }
                Value::StrictArray(items)
            }
            marker::DATE => {
                let millis = f64::from_be_bytes(self.array()?);
                self.array::<2>()?;
                Value::Date(millis)
            }
            marker::NULL => Value::Null,
            marker::UNDEFINED | marker::UNSUPPORTED => Value::Undefined,
            marker::REFERENCE => Value::Reference(u16::from_be_bytes(self.array()?)),
            other => return Err(AmfError::Marker(other)),
        })
    }

    fn properties(&mut self, depth: usize) -> Result<Vec<Property>, AmfError> {
        let mut properties = Vec::new();
        loop {
            if self.text == Text::Lossy && self.rest.is_empty() {
                // Some encoders forget the end marker of the metadata's last array.
                return Ok(properties);
            }
            let name = self.short_string()?;
            if name.is_empty() && self.rest.first() == Some(&marker::OBJECT_END) {
                self.array::<1>()?;
                return Ok(properties);
            }
            let value = self.value(depth + 1)?;
            properties.push((name, value));
        }
    }

    fn short_string(&mut self) -> Result<String, AmfError> {
        let length = u16::from_be_bytes(self.array()?);
        self.string(usize::from(length))
    }

    fn string(&mut self, length: usize) -> Result<String, AmfError> {
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(AmfError::Truncated)?;
        self.rest = rest;
        match self.text {
            Text::Strict => std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| AmfError::NotUtf8),
            Text::Lossy => Ok(String::from_utf8_lossy(bytes).into_owned()),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], AmfError> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>().ok_or(AmfError::Truncated)?;
        self.rest = rest;
        Ok(*bytes)
    }
}
