//! AMF0 out.

use super::{Property, Value, marker};

/// Writes the values of one message.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// With nothing in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// The bytes.
    pub fn finish(self) -> Vec<u8> {
        self.out
    }

    /// Appends a number.
    pub fn number(mut self, number: f64) -> Self {
        self.out.push(marker::NUMBER);
        self.out.extend_from_slice(&number.to_be_bytes());
        self
    }

    /// Appends a string; a long one if it needs to be.
    pub fn string(mut self, string: &str) -> Self {
        if u16::try_from(string.len()).is_ok() {
            self.out.push(marker::STRING);
            self.name(string);
        } else {
            self.out.push(marker::LONG_STRING);
            self.count(string.len());
            self.out.extend_from_slice(string.as_bytes());
        }
        self
    }

    /// Appends null.
    pub fn null(mut self) -> Self {
        self.out.push(marker::NULL);
        self
    }

    /// Appends any value.
    pub fn value(mut self, value: &Value) -> Self {
        match value {
            Value::Number(number) => return self.number(*number),
            Value::String(string) => return self.string(string),
            Value::Boolean(flag) => self.out.extend_from_slice(&[marker::BOOLEAN, u8::from(*flag)]),
            Value::Object(properties) => {
                self.out.push(marker::OBJECT);
                return self.properties(properties);
            }
            Value::EcmaArray(properties) => {
                self.out.push(marker::ECMA_ARRAY);
                self.count(properties.len());
                return self.properties(properties);
            }
            Value::StrictArray(items) => {
                self.out.push(marker::STRICT_ARRAY);
                self.count(items.len());
                return items.iter().fold(self, Self::value);
            }
            Value::Date(millis) => {
                self.out.push(marker::DATE);
                self.out.extend_from_slice(&millis.to_be_bytes());
                self.out.extend_from_slice(&[0, 0]);
            }
            Value::Null => self.out.push(marker::NULL),
            Value::Undefined => self.out.push(marker::UNDEFINED),
            Value::Reference(index) => {
                self.out.push(marker::REFERENCE);
                self.out.extend_from_slice(&index.to_be_bytes());
            }
        }
        self
    }

    fn properties(self, properties: &[Property]) -> Self {
        let mut writer = properties.iter().fold(self, |mut writer, (name, value)| {
            writer.name(name);
            writer.value(value)
        });
        writer.out.extend_from_slice(&[0, 0, marker::OBJECT_END]);
        writer
    }

    /// A string of at most 65 535 bytes without its marker; longer names do not occur, they would be cut.
    fn name(&mut self, name: &str) {
        let length = u16::try_from(name.len()).unwrap_or(u16::MAX);
        self.out.extend_from_slice(&length.to_be_bytes());
        self.out.extend(name.bytes().take(usize::from(length)));
    }

    fn count(&mut self, count: usize) {
        self.out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
    }
}
