//! Histories as text, a line an operation, to be written by clients and kept when one fails.
//!
//! `CLIENT BEGIN END KEY ACTION… -> ANSWER…`, parted by single spaces; END is `-` if there was none. Keys and values are
//! their printable characters, other bytes `%XX`, no bytes `%`; `~` is an absent value.

use std::fmt;
use std::io::{self, BufRead, Write};
use std::str::Split;

use super::{Action, Answer, Fate, History, Operation};

/// How much of a line an error quotes, in characters.
const QUOTED: usize = 60;

/// The first line, so that a file of another kind, or a later one, is not taken for a history.
const HEAD: &str = "# kraft history 1";

impl History {
    /// Writes all of it.
    ///
    /// # Errors
    ///
    /// Those of the writer.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{HEAD}")?;
        self.operations
            .iter()
            .try_for_each(|operation| writeln!(out, "{operation}"))
    }

    /// Reads what [`write`](Self::write) wrote. Empty lines and those that begin with `#` say nothing. What was cut
    /// short within a line is refused; behind one, nobody can tell.
    ///
    /// # Errors
    ///
    /// Those of the reader, and [`io::ErrorKind::InvalidData`] with the number of the line that is no operation.
    pub fn read(mut from: impl BufRead) -> io::Result<Self> {
        let mut history = Self::new();
        let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
        let mut text = String::new();
        for number in 1.. {
            text.clear();
            if from.read_line(&mut text)? == 0 && number > 1 {
                break;
            }
            let Some(line) = text.strip_suffix('\n') else {
                return Err(invalid(format!("line {number} has no end: the file was cut short")));
            };
            if number == 1 && line != HEAD {
                return Err(invalid(format!("line 1 is not {HEAD:?}: this is no history")));
            }
            if !line.is_empty() && !line.starts_with('#') {
                let no_operation = || invalid(format!("line {number} is no operation: {}", quoted(line)));
                history.push(parse(line).ok_or_else(no_operation)?);
            }
        }
        Ok(history)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ", self.client, self.begin)?;
        match &self.fate {
            Fate::Answered { end, .. } => write!(f, "{end} ")?,
            Fate::Refused | Fate::Unknown => f.write_str("- ")?,
        }
        write!(f, "{} {} -> ", escaped(&self.key), self.action)?;
        match &self.fate {
            Fate::Answered { answer, .. } => answer.fmt(f),
            Fate::Refused => f.write_str("refused"),
            Fate::Unknown => f.write_str("unknown"),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Get => f.write_str("get"),
            Self::Put(value) => write!(f, "put {}", escaped(value)),
            Self::Delete => f.write_str("delete"),
            Self::CompareAndSet { expected, value } => {
                write!(f, "cas {} {}", optional(expected.as_deref()), escaped(value))
            }
            Self::Increment(by) => write!(f, "increment {by}"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::NotFound => f.write_str("not-found"),
            Self::Value(value) => write!(f, "value {}", escaped(value)),
            Self::Mismatch(value) => write!(f, "mismatch {}", optional(value.as_deref())),
            Self::Number(number) => write!(f, "number {number}"),
            Self::NotANumber => f.write_str("not-a-number"),
            Self::Overflow => f.write_str("overflow"),
            Self::Other => f.write_str("other"),
        }
    }
}

/// Bytes as a word.
pub(super) fn escaped(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "%".to_owned();
    }
    let mut word = String::with_capacity(bytes.len());
    for byte in bytes {
        if byte.is_ascii_graphic() && !b"%~".contains(byte) {
            word.push(char::from(*byte));
        } else {
            word.push_str(&format!("%{byte:02X}"));
        }
    }
    word
}

pub(super) fn optional(value: Option<&[u8]>) -> String {
    value.map_or_else(|| "~".to_owned(), escaped)
}

/// The beginning of a line that may be anything.
fn quoted(line: &str) -> String {
    let mut quoted: String = line.chars().take(QUOTED).flat_map(char::escape_debug).collect();
    if line.chars().nth(QUOTED).is_some() {
        quoted.push_str("...");
    }
    quoted
}

fn parse(line: &str) -> Option<Operation> {
    let mut words = line.split(' ');
    let client = words.next()?.parse().ok()?;
    let begin = words.next()?.parse().ok()?;
    let end = match words.next()? {
        "-" => None,
        end => Some(end.parse().ok()?),
    };
    let key = bytes(words.next()?)?;
    let action = match words.next()? {
        "get" => Action::Get,
        "put" => Action::Put(bytes(words.next()?)?),
        "delete" => Action::Delete,
        "cas" => Action::CompareAndSet {
            expected: optional_bytes(words.next()?)?,
            value: bytes(words.next()?)?,
        },
        "increment" => Action::Increment(words.next()?.parse().ok()?),
        _ => return None,
    };
    if words.next()? != "->" {
        return None;
    }
    let fate = match (words.next()?, end) {
        ("refused", None) => Fate::Refused,
        ("unknown", None) => Fate::Unknown,
        (answer, Some(end)) if begin <= end => Fate::Answered {
            end,
            answer: parse_answer(answer, &mut words)?,
        },
        _ => return None,
    };
    words.next().is_none().then_some(Operation {
        client,
        key,
        action,
        begin,
        fate,
    })
}

fn parse_answer(name: &str, words: &mut Split<'_, char>) -> Option<Answer> {
    Some(match name {
        "done" => Answer::Done,
        "not-found" => Answer::NotFound,
        "value" => Answer::Value(bytes(words.next()?)?),
        "mismatch" => Answer::Mismatch(optional_bytes(words.next()?)?),
        "number" => Answer::Number(words.next()?.parse().ok()?),
        "not-a-number" => Answer::NotANumber,
        "overflow" => Answer::Overflow,
        "other" => Answer::Other,
        _ => return None,
    })
}

fn optional_bytes(word: &str) -> Option<Option<Vec<u8>>> {
    if word == "~" { Some(None) } else { bytes(word).map(Some) }
}

fn bytes(word: &str) -> Option<Vec<u8>> {
    if word == "%" {
        return Some(Vec::new());
    }
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if byte == b'%' {
            let digits = tail
                .get(..2)
                .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
            let digits = std::str::from_utf8(digits).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(byte);
            rest = tail;
        }
    }
    (!bytes.is_empty()).then_some(bytes)
}
