//! JSON to be written, never read.

use std::fmt;

/// A value.
#[derive(Clone, Debug)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Integer(u64),
    /// What is not finite is written as `null`.
    Number(f64),
    Text(String),
    Array(Vec<Self>),
    Object(Vec<(&'static str, Self)>),
    /// An object whose names are not known here.
    Map(Vec<(String, Self)>),
}

impl Json {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// The value, or `null`.
    pub(crate) fn or_null<T>(value: Option<T>, make: impl FnOnce(T) -> Self) -> Self {
        value.map_or(Self::Null, make)
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Integer(value) => write!(f, "{value}"),
            Self::Number(value) if value.is_finite() => write!(f, "{value}"),
            Self::Number(_) => f.write_str("null"),
            Self::Text(text) => quoted(f, text),
            Self::Array(values) => {
                f.write_str("[")?;
                for (at, value) in values.iter().enumerate() {
                    f.write_str(if at > 0 { "," } else { "" })?;
                    write!(f, "{value}")?;
                }
                f.write_str("]")
            }
            Self::Object(fields) => object(f, fields.iter().map(|(name, value)| (*name, value))),
            Self::Map(fields) => object(f, fields.iter().map(|(name, value)| (name.as_str(), value))),
        }
    }
}

fn object<'a>(f: &mut fmt::Formatter<'_>, fields: impl Iterator<Item = (&'a str, &'a Json)>) -> fmt::Result {
    f.write_str("{")?;
    for (at, (name, value)) in fields.enumerate() {
        f.write_str(if at > 0 { "," } else { "" })?;
        quoted(f, name)?;
        write!(f, ":{value}")?;
    }
    f.write_str("}")
}

/// RFC 8259, section 7: what must be escaped are the quotation mark, the backslash and the control characters.
fn quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            c if u32::from(c) < 0x20 => write!(f, "\\u{:04x}", u32::from(c))?,
            c => write!(f, "{c}")?,
        }
    }
    f.write_str("\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_rfc_8259_has_them() {
        let value = Json::Object(vec![
            ("name", Json::text("a \"b\"\\\n\u{1}µ")),
            (
                "list",
                Json::Array(vec![Json::Integer(1), Json::Number(0.5), Json::Bool(true)]),
            ),
            ("none", Json::Null),
            ("unknown", Json::Number(f64::NAN)),
        ]);
        let expected = r#"{"name":"a \"b\"\\\n\u0001µ","list":[1,0.5,true],"none":null,"unknown":null}"#;
        assert_eq!(value.to_string(), expected);
    }
}
