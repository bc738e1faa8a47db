//! The types that a field may have: how each is read and shown, whatever the source.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use kraft_adapters::Choice;

use crate::daemon::logging;
use kraft_core::host_port::HostPort;

/// The kind of value that a TOML file must use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole number.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// Text.
    String,
    /// Text, a list of texts or a table: `"1=a:1,2=b:2"`, `["1=a:1", "2=b:2"]` or `{ 1 = "a:1", 2 = "b:2" }`.
    Members,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Integer => "integer",
            Self::Boolean => "boolean",
            Self::String => "string",
            Self::Members => "members",
        })
    }
}

/// A type of field. One text form serves flags, variables and the file.
pub(super) trait Value: Sized {
    const KIND: Kind;

    /// What stands for a value in help: `HOST:PORT`.
    const FORM: &'static str;

    /// Reads the text form. The error continues the sentence "… is ".
    fn parse(text: &str) -> Result<Self, String>;

    /// The text form; empty if nothing is set.
    fn show(&self) -> String;
}

impl Value for String {
    const KIND: Kind = Kind::String;
    const FORM: &'static str = "TEXT";

    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn show(&self) -> String {
        self.clone()
    }
}

/// As the process sees it: a relative one is below the folder that it runs in.
impl Value for PathBuf {
    const KIND: Kind = Kind::String;
    const FORM: &'static str = "FILE";

    fn parse(text: &str) -> Result<Self, String> {
        Ok(Self::from(text))
    }

    fn show(&self) -> String {
        // It was made of text.
        self.display().to_string()
    }
}

impl Value for u64 {
    const KIND: Kind = Kind::Integer;
    const FORM: &'static str = "N";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "no whole number from 0 to 2^64-1".to_owned())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for bool {
    const KIND: Kind = Kind::Boolean;
    const FORM: &'static str = "BOOL";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "neither true nor false".to_owned())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// Whole milliseconds: the name of such a field says `_ms`.
impl Value for Duration {
    const KIND: Kind = Kind::Integer;
    const FORM: &'static str = "MS";

    fn parse(text: &str) -> Result<Self, String> {
        let ms: u64 = text.parse().map_err(|_| "no whole number of milliseconds".to_owned())?;
        Ok(Self::from_millis(ms))
    }

    fn show(&self) -> String {
        self.as_millis().to_string()
    }
}

/// A time with its unit, for what may be shorter than a millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl Value for Span {
    const KIND: Kind = Kind::String;
    const FORM: &'static str = "DURATION";

    fn parse(text: &str) -> Result<Self, String> {
        // None needs no unit.
        if text == "0" {
            return Ok(Self(Duration::ZERO));
        }
        humantime::parse_duration(text)
            .map(Self)
            .map_err(|error| format!("no time with its unit, such as 50us or 1ms: {error}"))
    }

    fn show(&self) -> String {
        humantime::format_duration(self.0).to_string()
    }
}

impl Value for Choice {
    const KIND: Kind = Kind::String;
    const FORM: &'static str = "auto|NAME|LIST";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|error| format!("wrong: {error}"))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for logging::Format {
    const KIND: Kind = Kind::String;
    const FORM: &'static str = "FORMAT";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("neither text nor json".to_owned()),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Text => "text".to_owned(),
            Self::Json => "json".to_owned(),
        }
    }
}

impl Value for log::LevelFilter {
    const KIND: Kind = Kind::String;
    const FORM: &'static str = "LEVEL";

    fn parse(text: &str) -> Result<Self, String> {
        let known = ["off", "error", "warn", "info", "debug", "trace"];
        match text.parse() {
            Ok(level) if known.contains(&text) => Ok(level),
            _ => Err(format!("none of {}", known.join(", "))),
        }
    }

    fn show(&self) -> String {
        self.as_str().to_ascii_lowercase()
    }
}

impl Value for HostPort {
    const KIND: Kind = Kind::String;
    const FORM: &'static str = "HOST:PORT";

    fn parse(text: &str) -> Result<Self, String> {
        Self::parse(text).map_err(str::to_owned)
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// Nothing, as the empty text, or something.
impl<T: Value> Value for Option<T> {
    const KIND: Kind = T::KIND;
    const FORM: &'static str = T::FORM;

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            Ok(None)
        } else {
            T::parse(text).map(Some)
        }
    }

    fn show(&self) -> String {
        self.as_ref().map(Value::show).unwrap_or_default()
    }
}

/// The nodes of a cluster and where their peers reach them, ascending by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    all: Vec<(u64, HostPort)>,
    joins: bool,
}

/// What stands in place of the members for a node that waits to be added.
const JOIN: &str = "join";

/// More than this is no cluster but a typing error; a majority of so many answers slower with each.
const MEMBERS_MAX: usize = 31;

impl Members {
    /// Ids and addresses, ascending by id.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &HostPort)> {
        self.all.iter().map(|(id, at)| (*id, at))
    }

    /// Whether there are none, and the node does not wait to be told either.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.all.is_empty() && !self.joins
    }

    /// Whether the node waits to be added to a cluster, whose members it is told then.
    #[must_use]
    pub const fn joins(&self) -> bool {
        self.joins
    }

    /// Where the peers of `id` reach it.
    #[must_use]
    pub fn address(&self, id: u64) -> Option<&HostPort> {
        self.iter().find(|(member, _)| *member == id).map(|(_, at)| at)
    }

    /// The ids, ascending.
    pub fn ids(&self) -> impl Iterator<Item = u64> {
        self.all.iter().map(|(id, _)| *id)
    }
}

impl fmt::Display for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.joins {
            return f.write_str(JOIN);
        }
        for (place, (id, at)) in self.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            write!(f, "{comma}{id}={at}")?;
        }
        Ok(())
    }
}

impl Value for Members {
    const KIND: Kind = Kind::Members;
    const FORM: &'static str = "ID=HOST:PORT,…";

    fn parse(text: &str) -> Result<Self, String> {
        if text.trim() == JOIN {
            return Ok(Self {
                all: Vec::new(),
                joins: true,
            });
        }
        let mut members = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (id, at) = part
                .split_once('=')
                .ok_or("not of the form ID=HOST:PORT,ID=HOST:PORT,…")?;
            let id = match id.trim().parse() {
                Ok(id) if id > 0 => id,
                _ => {
                    return Err(format!(
                        "wrong in \"{}\": an id is a whole number from 1",
                        id.escape_debug()
                    ));
                }
            };
            let at = HostPort::parse(at.trim()).map_err(|why| format!("wrong at id {id}, whose address is {why}"))?;
            if members.iter().any(|(other, _)| *other == id) {
                return Err(format!("wrong: id {id} stands in it twice"));
            }
            if let Some((other, _)) = members.iter().find(|(_, other)| *other == at && at.port() != 0) {
                return Err(format!("wrong: nodes {other} and {id} have the same address {at}"));
            }
            members.push((id, at));
        }
        if members.len() > MEMBERS_MAX {
            return Err(format!(
                "too long: {} nodes are named, {MEMBERS_MAX} are allowed",
                members.len()
            ));
        }
        members.sort_by_key(|(id, _)| *id);
        Ok(Self {
            all: members,
            joins: false,
        })
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check<T: Value>(text: &str, expected: Result<&str, &str>) {
        match (T::parse(text), expected) {
            (Ok(value), Ok(shown)) => assert_eq!(value.show(), shown, "{text:?}"),
            (Err(why), Err(part)) => assert!(why.contains(part), "{text:?}: {why}"),
            (Ok(value), Err(part)) => panic!("{text:?} was read as {}; expected: {part}", value.show()),
            (Err(why), Ok(_)) => panic!("{text:?} was refused: {why}"),
        }
    }

    #[test]
    fn addresses_are_shown_as_they_are_read() {
        check::<HostPort>("10.0.0.1:4001", Ok("10.0.0.1:4001"));
        check::<HostPort>("[::1]:0", Ok("[::1]:0"));
        for wrong in ["", "host", "::1:4001", "a/b:1"] {
            check::<HostPort>(wrong, Err("not of the form HOST:PORT"));
        }
    }

    #[test]
    fn members_are_ids_and_addresses() {
        check::<Members>("2=b:2, 1=a:1,", Ok("1=a:1,2=b:2"));
        check::<Members>("", Ok(""));
        check::<Members>(" join", Ok("join"));
        check::<Members>("1=[::1]:1", Ok("1=[::1]:1"));
        check::<Members>("1=a:1,1=b:1", Err("id 1 stands in it twice"));
        check::<Members>("1=a:1,2=a:1", Err("same address a:1"));
        check::<Members>("1=a:0,2=a:0", Ok("1=a:0,2=a:0"));
        check::<Members>("0=a:1", Err("whole number from 1"));
        check::<Members>("x=a:1", Err("whole number from 1"));
        check::<Members>("1:a:1", Err("ID=HOST:PORT"));
        check::<Members>("1=a", Err("not of the form HOST:PORT"));
        let many: Vec<_> = (1..=32).map(|id| format!("{id}=a:{id}")).collect();
        check::<Members>(&many.join(","), Err("31 are allowed"));
    }

    #[test]
    fn numbers_switches_and_names() {
        check::<u64>("18446744073709551615", Ok("18446744073709551615"));
        check::<u64>("18446744073709551616", Err("whole number"));
        check::<u64>("-1", Err("whole number"));
        check::<u64>("1e3", Err("whole number"));
        check::<Duration>("50", Ok("50"));
        check::<Duration>("50ms", Err("milliseconds"));
        check::<bool>("true", Ok("true"));
        check::<bool>("yes", Err("neither true nor false"));
        check::<log::LevelFilter>("debug", Ok("debug"));
        check::<log::LevelFilter>("loud", Err("none of off, error"));
        check::<logging::Format>("json", Ok("json"));
        check::<logging::Format>("xml", Err("neither text nor json"));
        check::<Option<HostPort>>("", Ok(""));
        check::<Option<HostPort>>("a:1", Ok("a:1"));
    }
}
