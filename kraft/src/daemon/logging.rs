//! Lines to stderr, one an event, as text or JSON.
//!
//! Code logs through the crate `log`, with fields: `log::warn!(kind = "goaway", peer = 2; "turned away")`. The field
//! `kind` bounds how many lines of its kind are written: a flood gives ten, then one a second, and then says how many
//! were left out. Texts of others are escaped and cut.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use log::kv::{self, Key, Value, VisitSource, VisitValue};
use log::{Level, LevelFilter, Log, Metadata, Record};

use super::Failure;
use super::escape::escaped;
use super::log_writer::LogWriter;
use super::rate::{Rates, Verdict};

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `2026-01-31T12:00:00.000Z WARN turned away peer=2`
    Text,
    /// `{"time":"2026-01-31T12:00:00.000Z","level":"warn","message":"turned away","peer":2}`
    Json,
}

/// The field that names the kind of a line.
const KIND: &str = "kind";

/// Bytes of a line's message. Ours are short; a system's error that quotes a path may not be.
const MESSAGE_CHARS_MAX: usize = 1024;

static LOGGER: OnceLock<Logger<LogWriter>> = OnceLock::new();

/// Makes lines of `level` and above go to stderr. Once a process.
///
/// `on_suppressed` is called when a line was left out of which nothing has told; call [`tell_suppressed`] a little
/// later.
///
/// # Errors
///
/// The process logs elsewhere already.
pub fn start(
    level: LevelFilter,
    format: Format,
    on_suppressed: impl Fn() + Send + Sync + 'static,
) -> Result<(), Failure> {
    let tell_lost = match format {
        Format::Text => |lost| lost_line(Format::Text, lost),
        Format::Json => |lost| lost_line(Format::Json, lost),
    };
    let out = LogWriter::start(io::stderr(), tell_lost)
        .map_err(|error| Failure::new(format!("a thread for the log: {error}; raise the limit of threads")))?;
    let logger = LOGGER.get_or_init(|| Logger::new(format, out, Box::new(on_suppressed)));
    log::set_logger(logger)
        .map_err(|_| Failure::new("logging is set up already: start kraftd in a process of its own"))?;
    log::set_max_level(level);
    Ok(())
}

/// Whether lines go through [`start`]'s logger.
#[must_use]
pub fn is_started() -> bool {
    LOGGER.get().is_some()
}

/// Writes how many lines were left out since the last one of their kind.
pub fn tell_suppressed() {
    if let Some(logger) = LOGGER.get() {
        logger.tell_suppressed(SystemTime::now());
    }
}

/// How many lines were left out since the start.
#[must_use]
pub fn suppressed_total() -> u64 {
    LOGGER.get().map_or(0, |logger| logger.state().suppressed)
}

fn lost_line(format: Format, lost: u64) -> String {
    let message = "lines were lost, since nobody read them";
    let mut line = Line::new(format, SystemTime::now(), Level::Warn, message);
    line.number("lost", lost);
    line.end()
}

struct Logger<W> {
    format: Format,
    origin: Instant,
    on_suppressed: Box<dyn Fn() + Send + Sync>,
    state: Mutex<State<W>>,
}

struct State<W> {
    out: W,
    rates: Rates,
    suppressed: u64,
}

impl<W: Write + Send> Logger<W> {
    fn new(format: Format, out: W, on_suppressed: Box<dyn Fn() + Send + Sync>) -> Self {
        let state = State {
            out,
            rates: Rates::default(),
            suppressed: 0,
        };
        Self {
            format,
            origin: Instant::now(),
            on_suppressed,
            state: Mutex::new(state),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State<W>> {
        // A panic while a line was written leaves nothing half done that matters here.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, record: &Record<'_>, wall: SystemTime, now: Duration) {
        let mut line = Line::new(self.format, wall, record.level(), &record.args().to_string());
        // No field of ours fails to format itself.
        let _ = record.key_values().visit(&mut line);
        let mut state = self.state();
        if let Some(kind) = &line.kind {
            match state.rates.judge(kind, now) {
                Verdict::Write { suppressed: 0 } => {}
                Verdict::Write { suppressed } => line.number("suppressed", suppressed),
                Verdict::Suppress => {
                    state.suppressed += 1;
                    drop(state);
                    (self.on_suppressed)();
                    return;
                }
            }
        }
        // When stderr is gone there is nobody to tell.
        let _ = state.out.write_all(line.end().as_bytes());
    }

    fn tell_suppressed(&self, wall: SystemTime) {
        let mut state = self.state();
        for (kind, count) in state.rates.take_suppressed() {
            let mut line = Line::new(
                self.format,
                wall,
                Level::Warn,
                &format!("{count} more lines suppressed"),
            );
            line.text(KIND, &kind);
            line.number("suppressed", count);
            let _ = state.out.write_all(line.end().as_bytes());
        }
    }
}

impl<W: Write + Send> Log for Logger<W> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.write(record, SystemTime::now(), self.origin.elapsed());
        }
    }

    fn flush(&self) {
        let _ = self.state().out.flush();
    }
}

/// A line that grows field by field.
struct Line {
    format: Format,
    text: String,
    kind: Option<String>,
}

impl Line {
    fn new(format: Format, wall: SystemTime, level: Level, message: &str) -> Self {
        let time = humantime::format_rfc3339_millis(wall);
        let mut text = String::with_capacity(192);
        match format {
            // A `String` takes what is written.
            Format::Text => {
                let _ = write!(text, "{time} {level:5} ");
                push_message(&mut text, message);
            }
            Format::Json => {
                let _ = write!(
                    text,
                    "{{\"time\":\"{time}\",\"level\":\"{}\",\"message\":",
                    level.as_str().to_ascii_lowercase()
                );
                push_json_string(&mut text, message);
            }
        }
        Self {
            format,
            text,
            kind: None,
        }
    }

    fn key(&mut self, key: &str) {
        match self.format {
            Format::Text => {
                self.text.push(' ');
                self.text.push_str(key);
                self.text.push('=');
            }
            Format::Json => {
                self.text.push(',');
                push_json_string(&mut self.text, key);
                self.text.push(':');
            }
        }
    }

    fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        let value = escaped(value);
        match self.format {
            Format::Json => push_json_string(&mut self.text, &value),
            Format::Text if value.is_empty() || value.contains([' ', '=', '"']) => {
                self.text.push('"');
                self.text.push_str(&value.replace('"', "\\u{22}"));
                self.text.push('"');
            }
            Format::Text => self.text.push_str(&value),
        }
    }

    fn number(&mut self, key: &str, value: impl std::fmt::Display) {
        self.key(key);
        let _ = write!(self.text, "{value}");
    }

    fn end(mut self) -> String {
        if self.format == Format::Json {
            self.text.push('}');
        }
        self.text.push('\n');
        self.text
    }
}

impl<'kvs> VisitSource<'kvs> for Line {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        if key.as_str() == KIND {
            self.kind = Some(value.to_string());
        }
        value.visit(FieldOf {
            line: self,
            key: key.as_str(),
        })
    }
}

struct FieldOf<'a> {
    line: &'a mut Line,
    key: &'a str,
}

impl<'v> VisitValue<'v> for FieldOf<'_> {
    fn visit_any(&mut self, value: Value<'_>) -> Result<(), kv::Error> {
        self.line.text(self.key, &value.to_string());
        Ok(())
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), kv::Error> {
        self.line.number(self.key, value);
        Ok(())
    }

    fn visit_i64(&mut self, value: i64) -> Result<(), kv::Error> {
        self.line.number(self.key, value);
        Ok(())
    }

    fn visit_bool(&mut self, value: bool) -> Result<(), kv::Error> {
        self.line.number(self.key, value);
        Ok(())
    }

    fn visit_str(&mut self, value: &str) -> Result<(), kv::Error> {
        self.line.text(self.key, value);
        Ok(())
    }
}

fn push_message(text: &mut String, message: &str) {
    for (count, c) in message.chars().enumerate() {
        if count == MESSAGE_CHARS_MAX {
            text.push('…');
            break;
        }
        if c.is_control() {
            text.extend(c.escape_unicode());
        } else {
            text.push(c);
        }
    }
}

/// RFC 8259 §7: quotation mark, backslash and control characters must be escaped.
pub(super) fn push_json_string(text: &mut String, value: &str) {
    text.push('"');
    for (count, c) in value.chars().enumerate() {
        if count == MESSAGE_CHARS_MAX {
            text.push('…');
            break;
        }
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            c if c.is_control() => {
                let _ = write!(text, "\\u{:04x}", u32::from(c));
            }
            c => text.push(c),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    fn logger(format: Format) -> (Logger<Vec<u8>>, Arc<AtomicU64>) {
        let calls = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&calls);
        let on_suppressed = Box::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        (Logger::new(format, Vec::new(), on_suppressed), calls)
    }

    fn lines<W: AsRef<[u8]> + Write + Send>(logger: &Logger<W>) -> Vec<String> {
        let state = logger.state();
        let text = std::str::from_utf8(state.out.as_ref()).expect("UTF-8");
        text.lines().map(str::to_owned).collect()
    }

    fn write(logger: &Logger<Vec<u8>>, message: &str, fields: &[(&str, Value<'_>)], now: Duration) {
        let args = format_args!("{message}");
        let record = Record::builder()
            .level(Level::Warn)
            .args(args)
            .key_values(&fields)
            .build();
        logger.write(&record, SystemTime::UNIX_EPOCH, now);
    }

    #[test]
    fn a_line_of_text_and_one_of_json() {
        let fields = [
            ("peer", Value::from(2_u64)),
            ("detail", Value::from("two words")),
            ("up", Value::from(true)),
            ("why", Value::from("")),
        ];
        let (text, _) = logger(Format::Text);
        write(&text, "turned away", &fields, Duration::ZERO);
        assert_eq!(
            lines(&text),
            [r#"1970-01-01T00:00:00.000Z WARN  turned away peer=2 detail="two words" up=true why="""#]
        );
        let (json, _) = logger(Format::Json);
        write(&json, "turned \"away\"", &fields, Duration::ZERO);
        assert_eq!(
            lines(&json),
            [
                r#"{"time":"1970-01-01T00:00:00.000Z","level":"warn","message":"turned \"away\"","peer":2,"detail":"two words","up":true,"why":""}"#
            ]
        );
    }

    #[test]
    fn foreign_texts_forge_no_line() {
        let evil = format!(
            "x\n1970-01-01T00:00:00.000Z ERROR fake\u{1b}[2J\" kind=a{}",
            "y".repeat(1 << 20)
        );
        for format in [Format::Text, Format::Json] {
            let (logger, _) = logger(format);
            write(
                &logger,
                &evil,
                &[("detail", Value::from(evil.as_str()))],
                Duration::ZERO,
            );
            let lines = lines(&logger);
            assert_eq!(lines.len(), 1);
            assert!(lines[0].len() < 2048, "{}", lines[0].len());
            assert!(!lines[0].contains(char::is_control));
        }
    }

    #[test]
    fn a_flood_is_bounded_and_counted() {
        let (logger, calls) = logger(Format::Text);
        for _ in 0..1000 {
            write(&logger, "no frame", &[("kind", Value::from("garbage"))], Duration::ZERO);
        }
        write(&logger, "elected", &[("kind", Value::from("role"))], Duration::ZERO);
        assert_eq!(lines(&logger).len(), 11);
        assert_eq!(calls.load(Ordering::Relaxed), 990);
        write(
            &logger,
            "no frame",
            &[("kind", Value::from("garbage"))],
            Duration::from_secs(1),
        );
        assert!(
            lines(&logger)[11].ends_with("no frame kind=garbage suppressed=990"),
            "{:?}",
            lines(&logger)[11]
        );
        write(
            &logger,
            "no frame",
            &[("kind", Value::from("garbage"))],
            Duration::from_secs(1),
        );
        logger.tell_suppressed(SystemTime::UNIX_EPOCH);
        logger.tell_suppressed(SystemTime::UNIX_EPOCH);
        let lines = lines(&logger);
        assert_eq!(lines.len(), 13);
        assert!(
            lines[12].ends_with("1 more lines suppressed kind=garbage suppressed=1"),
            "{:?}",
            lines[12]
        );
        assert_eq!(logger.state().suppressed, 991);
    }
}
