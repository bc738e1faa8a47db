//! Defaults, what init wrote, the file, variables and flags, each over the one before.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::{Config, FIELDS, Field, Kind, nearest};
use crate::daemon::Failure;
use crate::daemon::escape::escaped;

/// A file above this is no configuration.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Variables that start with `KRAFT_` and belong to something else than a field.
const OTHER_VARIABLES: &[&str] = &[
    "KRAFT_DATA",
    "KRAFT_CONFIG",
    "KRAFT_NODES",
    "KRAFT_SEED",
    "KRAFT_REWRITE",
];

/// Who set a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody.
    Default,
    /// `kraftd init`.
    Init,
    /// A line of the file.
    File(PathBuf, usize),
    /// A variable.
    Variable(String),
    /// A flag.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Init => f.write_str("init"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(name) => write!(f, "--{name}"),
        }
    }
}

/// What each layer says, lowest first. Everything that the process reads from its surroundings comes in here.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    /// What init wrote: fields and text forms.
    pub init: Vec<(&'static str, String)>,
    /// The file that was named, which must exist.
    pub file: Option<PathBuf>,
    /// The file that is read if none was named and it exists.
    pub file_default: Option<PathBuf>,
    /// The environment, or the part of it that starts with `KRAFT_`.
    pub variables: Vec<(OsString, OsString)>,
    /// Flags: fields and text forms.
    pub flags: Vec<(&'static str, String)>,
}

/// What the layers come to.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// Who set each, in the order of [`FIELDS`].
    pub sources: Vec<Source>,
    /// What is odd and does no harm.
    pub warnings: Vec<String>,
}

impl Loaded {
    /// The values as a TOML file that would set them, each with its source.
    #[must_use]
    pub fn show(&self) -> String {
        let lines: Vec<_> = FIELDS.iter().map(|field| field.toml(&self.config)).collect();
        let width = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0).min(60);
        let mut text = String::new();
        for (line, source) in lines.iter().zip(&self.sources) {
            text.push_str(&format!("{line:width$}  # {source}\n"));
        }
        text
    }

    /// Checks the values against each other.
    ///
    /// # Errors
    ///
    /// A sentence with cause, source and cure.
    pub fn validate(&self) -> Result<(), Failure> {
        self.config
            .validate()
            .map_err(|(name, sentence)| match self.source(name) {
                Source::Default => Failure::config(sentence),
                source => Failure::config(format!("{source}: {sentence}")),
            })
    }

    /// Who set the field called `name`.
    #[must_use]
    pub fn source(&self, name: &str) -> &Source {
        let place = FIELDS.iter().position(|field| field.name == name);
        place.map_or(&Source::Default, |place| &self.sources[place])
    }

    fn set(&mut self, field: &Field, text: &str, source: Source) -> Result<(), Failure> {
        field.set(&mut self.config, text).map_err(|why| {
            let cure = field.default().map(|default| format!("; the default is {default}"));
            let cure = cure.unwrap_or_default();
            Failure::config(format!(
                "{source}: {} = \"{}\" is {why}{cure}",
                field.name,
                escaped(text)
            ))
        })?;
        if let Some(place) = FIELDS.iter().position(|other| other.name == field.name) {
            self.sources[place] = source;
        }
        Ok(())
    }
}

/// Puts the layers over each other.
///
/// # Errors
///
/// A file that cannot be read, an unknown key, a value of the wrong form, or one that contradicts what init wrote.
pub fn load(layers: &Layers) -> Result<Loaded, Failure> {
    let file = read_file(layers)?;
    load_over(
        layers,
        file.as_ref().map(|(path, text)| (path.as_path(), text.as_str())),
    )
}

/// The same with `text` as what the file at `path` says; nothing is read.
///
/// # Errors
///
/// As [`load`], of what is read already.
pub fn load_text(layers: &Layers, path: &Path, text: &str) -> Result<Loaded, Failure> {
    load_over(layers, Some((path, text)))
}

fn load_over(layers: &Layers, file: Option<(&Path, &str)>) -> Result<Loaded, Failure> {
    let mut loaded = Loaded {
        config: Config::default(),
        sources: vec![Source::Default; FIELDS.len()],
        warnings: Vec::new(),
    };
    for (name, text) in &layers.init {
        loaded.set(field(name), text, Source::Init)?;
    }
    let written = (!layers.init.is_empty()).then(|| loaded.config.clone());

    if let Some((path, text)) = file {
        apply_file(&mut loaded, path, text)?;
    }
    apply_variables(&mut loaded, &layers.variables)?;
    for (name, text) in &layers.flags {
        let field = field(name);
        loaded.set(field, text, Source::Flag(field.flag()))?;
    }

    if let Some(written) = written {
        check_identity(&written, &loaded)?;
    }
    Ok(loaded)
}

fn field(name: &str) -> &'static Field {
    Field::named(name).expect("init and flags are made of the table")
}

/// What init wrote is what the log in the folder belongs to. Another node's log must not be taken for this one's.
fn check_identity(written: &Config, loaded: &Loaded) -> Result<(), Failure> {
    let config = &loaded.config;
    let clash = |name: &str, here: &str, there: &str| {
        Failure::config(format!(
            "{}: {name} is {there}, but the data folder was written by init for {name} {here}: correct the one, or name \
             the right folder with --data",
            loaded.source(name)
        ))
    };
    if config.cluster != written.cluster {
        return Err(clash("cluster", &written.cluster, &escaped(&config.cluster)));
    }
    if config.id != written.id {
        return Err(clash("id", &written.id.to_string(), &config.id.to_string()));
    }
    if !config.peers.ids().eq(written.peers.ids()) {
        return Err(clash("peers", &written.peers.to_string(), &config.peers.to_string()));
    }
    Ok(())
}

fn read_file(layers: &Layers) -> Result<Option<(PathBuf, String)>, Failure> {
    let (path, must_exist) = match (&layers.file, &layers.file_default) {
        (Some(path), _) => (path, true),
        (None, Some(path)) => (path, false),
        (None, None) => return Ok(None),
    };
    match read_bounded(path) {
        Ok(text) => Ok(Some((path.clone(), text))),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !must_exist => Ok(None),
        Err(error) => Err(Failure::config(format!(
            "configuration file {}: {error}; name a readable file with --config",
            path.display()
        ))),
    }
}

fn read_bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let read = File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if read as u64 > FILE_BYTES_MAX {
        let message = format!("above {FILE_BYTES_MAX} bytes, so it is no configuration");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(text)
}

fn apply_file(loaded: &mut Loaded, path: &Path, text: &str) -> Result<(), Failure> {
    let line_of = |at: usize| {
        1 + text.as_bytes()[..at.min(text.len())]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count()
    };
    let table = DeTable::parse(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_of(span.start));
        Failure::config(format!(
            "{}:{line}: {}; correct the line",
            path.display(),
            escaped(error.message())
        ))
    })?;
    // In the order of lines, so that the first mistake is the one that is told.
    let mut rows: Vec<_> = table.get_ref().iter().collect();
    rows.sort_by_key(|(key, _)| key.span().start);
    for (key, value) in rows {
        let source = Source::File(path.to_owned(), line_of(key.span().start));
        let name: &str = key.get_ref();
        let Some(field) = Field::named(name) else {
            return Err(unknown(&source, "key", name, FIELDS.iter().map(|field| field.name)));
        };
        let Some(form) = text_form(field.kind, value.get_ref()) else {
            return Err(Failure::config(format!(
                "{source}: {name} is of the wrong type: write a value such as {}",
                example(field)
            )));
        };
        loaded.set(field, &form, source)?;
    }
    Ok(())
}

fn example(field: &Field) -> String {
    match field.kind {
        Kind::Members => "{ 1 = \"10.0.0.1:4001\", 2 = \"10.0.0.2:4001\" }".to_owned(),
        _ => field.toml(&Config::default()),
    }
}

/// What a value of the file would be as a flag.
fn text_form(kind: Kind, value: &DeValue<'_>) -> Option<String> {
    match (kind, value) {
        // Hexadecimal and the like are TOML's, and mean the same.
        (Kind::Integer, DeValue::Integer(number)) => {
            let digits = number.as_str();
            Some(
                i64::from_str_radix(digits, number.radix())
                    .map_or_else(|_| digits.to_owned(), |value| value.to_string()),
            )
        }
        (Kind::Boolean, DeValue::Boolean(switch)) => Some(switch.to_string()),
        (Kind::String | Kind::Members, DeValue::String(text)) => Some(text.clone().into_owned()),
        (Kind::Members, DeValue::Array(parts)) => {
            let parts: Option<Vec<_>> = parts.iter().map(|part| part.get_ref().as_str()).collect();
            Some(parts?.join(","))
        }
        (Kind::Members, DeValue::Table(table)) => {
            let part = |(id, at): (&toml::Spanned<_>, &toml::Spanned<DeValue<'_>>)| -> Option<String> {
                let id: &std::borrow::Cow<'_, str> = id.get_ref();
                Some(format!("{id}={}", at.get_ref().as_str()?))
            };
            let parts: Option<Vec<_>> = table.iter().map(part).collect();
            Some(parts?.join(","))
        }
        _ => None,
    }
}

fn apply_variables(loaded: &mut Loaded, variables: &[(OsString, OsString)]) -> Result<(), Failure> {
    let known: Vec<_> = FIELDS.iter().map(|field| (field.variable(), field)).collect();
    for (name, value) in variables {
        let name = name.to_string_lossy();
        if !name.starts_with("KRAFT_") || OTHER_VARIABLES.contains(&&*name) {
            continue;
        }
        let source = Source::Variable(name.to_string());
        let Some((_, field)) = known.iter().find(|(variable, _)| *variable == name) else {
            let names = known
                .iter()
                .map(|(variable, _)| variable.as_str())
                .chain(OTHER_VARIABLES.iter().copied());
            if nearest(&name, names.clone()).is_some() {
                return Err(unknown(&source, "variable", &name, names));
            }
            // A service called kraft makes a container platform set KRAFT_SERVICE_HOST and the like for everyone.
            loaded
                .warnings
                .push(format!("variable {} is of no use to kraftd", escaped(&name)));
            continue;
        };
        let Some(text) = value.to_str() else {
            return Err(Failure::config(format!("{source} is not UTF-8; correct the variable")));
        };
        loaded.set(field, text, source)?;
    }
    Ok(())
}

fn unknown<'a>(source: &Source, what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> Failure {
    let cure = match nearest(name, known) {
        Some(near) => format!("did you mean {near}?"),
        None => "`kraftd config show` lists all".to_owned(),
    };
    let place = match source {
        Source::File(..) => format!("{source}: "),
        _ => String::new(),
    };
    Failure::config(format!("{place}unknown {what} {}: {cure}", escaped(name)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn init() -> Vec<(&'static str, String)> {
        let written = [
            ("cluster", "c"),
            ("id", "1"),
            ("peers", "1=a:1,2=b:1"),
            ("listen", "a:1"),
            ("client", "a:2"),
        ];
        written.iter().map(|(name, text)| (*name, (*text).to_owned())).collect()
    }

    fn with_file(text: &str) -> Result<Loaded, Failure> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("kraftd.toml");
        fs::write(&path, text).expect("a file");
        let layers = Layers {
            init: init(),
            file: Some(path),
            ..Layers::default()
        };
        load(&layers)
    }

    #[track_caller]
    fn refused(text: &str, parts: &[&str]) {
        let failure = with_file(text).expect_err("a refusal");
        for part in parts {
            assert!(failure.message.contains(part), "{text:?}: {failure}");
        }
        assert!(!failure.message.contains('\n'), "{failure}");
    }

    #[test]
    fn each_layer_lies_over_the_one_before() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("kraftd.toml");
        fs::write(&path, "# mine\nheartbeat_ms = 10\nlog_level = \"warn\"\n").expect("a file");
        let mut layers = Layers {
            init: init(),
            file_default: Some(path.clone()),
            ..Layers::default()
        };
        let source = |layers: &Layers, name: &str| {
            let loaded = load(layers).expect("a configuration");
            (
                Field::named(name).expect("a field").show(&loaded.config),
                loaded.source(name).clone(),
            )
        };
        assert_eq!(source(&layers, "pre_vote"), ("true".to_owned(), Source::Default));
        assert_eq!(source(&layers, "id"), ("1".to_owned(), Source::Init));
        assert_eq!(
            source(&layers, "heartbeat_ms"),
            ("10".to_owned(), Source::File(path, 2))
        );
        layers.variables.push(("KRAFT_HEARTBEAT_MS".into(), "20".into()));
        assert_eq!(
            source(&layers, "heartbeat_ms"),
            ("20".to_owned(), Source::Variable("KRAFT_HEARTBEAT_MS".to_owned()))
        );
        layers.flags.push(("heartbeat_ms", "30".to_owned()));
        assert_eq!(
            source(&layers, "heartbeat_ms"),
            ("30".to_owned(), Source::Flag("heartbeat-ms".to_owned()))
        );
    }

    #[test]
    fn what_is_shown_is_a_file_that_sets_the_same() {
        let mut layers = Layers {
            init: init(),
            ..Layers::default()
        };
        layers.flags.push(("protocol", "a\"b\\c\u{7}".to_owned()));
        layers.flags.push(("backend", "uring,epoll".to_owned()));
        layers.flags.push(("spin", "50us".to_owned()));
        let loaded = load(&layers).expect("a configuration");
        let again = with_file(&loaded.show()).expect("the same again");
        assert_eq!(again.config, loaded.config);
    }

    #[test]
    fn a_file_is_refused_with_its_line() {
        refused(
            "\nheartbeet_ms = 10\n",
            &["kraftd.toml:2: unknown key heartbeet_ms: did you mean heartbeat_ms?"],
        );
        refused("[raft]\nheartbeat_ms = 10\n", &[":1: unknown key raft"]);
        refused(
            "heartbeat_ms = \"10\"\n",
            &[":1: heartbeat_ms is of the wrong type", "heartbeat_ms = 50"],
        );
        refused(
            "heartbeat_ms = -10\n",
            &[
                "heartbeat_ms = \"-10\" is no whole number of milliseconds",
                "default is 50",
            ],
        );
        refused("heartbeat_ms = 10\nheartbeat_ms = 20\n", &[":2: ", "duplicate"]);
        refused("heartbeat_ms = \n", &[":1: "]);
        refused("peers = [1, 2]\n", &["peers is of the wrong type"]);
        refused("\u{0}", &[":1: "]);
        refused(&"[".repeat(100_000), &[":1: "]);
        refused(&format!("a = {}", "[".repeat(100_000)), &[":1: "]);
        refused(&"# much\n".repeat(200_000), &["above 1048576 bytes"]);
    }

    #[test]
    fn a_file_may_write_members_in_three_ways() {
        for text in [
            "\"1=x:1,2=y:1\"",
            "[\"1=x:1\", \"2=y:1\"]",
            "{ 1 = \"x:1\", 2 = \"y:1\" }",
        ] {
            let loaded = with_file(&format!("peers = {text}\n")).expect("members");
            assert_eq!(
                Field::named("peers").expect("a field").show(&loaded.config),
                "1=x:1,2=y:1"
            );
        }
    }

    #[test]
    fn a_named_file_must_exist_and_a_default_one_need_not() {
        let path = PathBuf::from("/nonexistent/kraftd.toml");
        let named = Layers {
            file: Some(path.clone()),
            ..Layers::default()
        };
        let failure = load(&named).expect_err("a refusal");
        assert!(failure.message.contains("--config"), "{failure}");
        let default = Layers {
            file_default: Some(path),
            ..Layers::default()
        };
        load(&default).expect("defaults");
    }

    #[test]
    fn a_folder_of_another_node_or_cluster_is_refused() {
        for (name, text, part) in [
            (
                "cluster",
                "other",
                "--cluster: cluster is other, but the data folder was written by init for cluster c",
            ),
            (
                "id",
                "2",
                "--id: id is 2, but the data folder was written by init for id 1",
            ),
            (
                "peers",
                "1=a:1",
                "--peers: peers is 1=a:1, but the data folder was written by init for peers 1=a:1,2=b:1",
            ),
        ] {
            let layers = Layers {
                init: init(),
                flags: vec![(name, text.to_owned())],
                ..Layers::default()
            };
            let failure = load(&layers).expect_err("a refusal");
            assert!(failure.message.contains(part), "{failure}");
        }
    }

    #[test]
    fn a_misspelt_variable_is_refused_and_a_foreign_one_told() {
        let with = |name: &str, value: &str| {
            let layers = Layers {
                variables: vec![(name.into(), value.into())],
                ..Layers::default()
            };
            load(&layers)
        };
        let failure = with("KRAFT_HEARTBEAT", "1").expect_err("a refusal");
        assert_eq!(
            failure.message,
            "unknown variable KRAFT_HEARTBEAT: did you mean KRAFT_HEARTBEAT_MS?"
        );
        let foreign = with("KRAFT_SERVICE_PORT_4001_TCP", "1").expect("a warning");
        assert_eq!(
            foreign.warnings,
            ["variable KRAFT_SERVICE_PORT_4001_TCP is of no use to kraftd"]
        );
        assert!(with("KRAFT_NODES", "x").expect("silence").warnings.is_empty());
        let failure = with("KRAFT_PRE_VOTE", "\u{1b}[31m").expect_err("a refusal");
        assert!(
            failure
                .message
                .contains(r#"KRAFT_PRE_VOTE: pre_vote = "\u{1b}[31m" is neither"#),
            "{failure}"
        );
    }
}
