//! Writing JSON (RFC 8259), one value at a time. Reading it is not needed here.
//!
//! ```
//! use piecemeal::json::Object;
//! let line = Object::new().str("name", "a\"b").num("length", 3).null("magnet").done();
//! assert_eq!(line, r#"{"name":"a\"b","length":3,"magnet":null}"#);
//! ```
//!
//! Layer: values.

use std::fmt::{Display, Write};

use crate::printable::must_be_escaped;

/// A JSON string, quoted. What may not reach a terminal is escaped ([`must_be_escaped`]), so a
/// line of JSON can be printed to one.
pub fn string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // None of them is so far out that it would take two escapes.
            c if must_be_escaped(c) => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A JSON array of values that are JSON already.
pub fn array<I: IntoIterator<Item = String>>(values: I) -> String {
    let mut out = String::from("[");
    for (i, value) in values.into_iter().enumerate() {
        if i != 0 {
            out.push(',');
        }
        out.push_str(&value);
    }
    out.push(']');
    out
}

/// A JSON array of strings.
pub fn strings<S: AsRef<str>>(texts: impl IntoIterator<Item = S>) -> String {
    array(texts.into_iter().map(|text| string(text.as_ref())))
}

/// A JSON object, built field by field, in the order they are given.
#[derive(Default)]
pub struct Object(String);

impl Object {
    pub fn new() -> Object {
        Object::default()
    }

    /// A field whose value is JSON already.
    pub fn raw(mut self, key: &str, value: &str) -> Object {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        self.0.push_str(&string(key));
        self.0.push(':');
        self.0.push_str(value);
        self
    }

    pub fn str(self, key: &str, value: &str) -> Object {
        self.raw(key, &string(value))
    }

    /// An integer. (JSON knows no NaN: use [`Object::raw`] for a formatted fraction.)
    pub fn num(self, key: &str, value: impl Into<i128> + Display) -> Object {
        self.raw(key, &value.to_string())
    }

    pub fn bool(self, key: &str, value: bool) -> Object {
        self.raw(key, if value { "true" } else { "false" })
    }

    pub fn null(self, key: &str) -> Object {
        self.raw(key, "null")
    }

    /// A string, or `null`.
    pub fn str_or_null(self, key: &str, value: Option<&str>) -> Object {
        match value {
            Some(text) => self.str(key, text),
            None => self.null(key),
        }
    }

    /// An integer, or `null`.
    pub fn num_or_null(self, key: &str, value: Option<impl Into<i128> + Display>) -> Object {
        match value {
            Some(number) => self.num(key, number),
            None => self.null(key),
        }
    }

    pub fn done(mut self) -> String {
        self.0.push_str(if self.0.is_empty() { "{}" } else { "}" });
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_moves_a_terminal_is_left() {
        assert_eq!(string("\x1b\u{7f}\u{9b}\"\\\n"), r#""\u001b\u007f\u009b\"\\\n""#);
        for c in (0..=0xffff).filter_map(char::from_u32).filter(|c| must_be_escaped(*c)) {
            assert!(string(&c.to_string()).is_ascii(), "{}", c.escape_unicode());
        }
        assert_eq!(Object::new().done(), "{}");
        assert_eq!(strings(["a", "b"]), r#"["a","b"]"#);
        assert_eq!(array([]), "[]");
    }
}
