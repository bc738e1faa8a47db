//! A run's folder: `results.json`, and `latency/` with a HdrHistogram log a row.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use super::{LatencyLog, Record, SCHEMA, SCHEMA_MIN};

const RESULTS: &str = "results.json";
const LATENCY: &str = "latency";

/// Makes the folder, before hours are spent on what could not be kept.
///
/// # Errors
///
/// It cannot be made, or holds the results of another run.
pub(crate) fn create(folder: &Path) -> io::Result<()> {
    let results = folder.join(RESULTS);
    if results.exists() {
        let text = format!(
            "{} is there already: choose another folder, or remove it",
            results.display()
        );
        return Err(io::Error::new(ErrorKind::AlreadyExists, text));
    }
    let latency = folder.join(LATENCY);
    fs::create_dir_all(&latency).map_err(|error| named(&latency, &error))
}

/// Writes a run into its folder.
///
/// # Errors
///
/// The system's; the text names the file.
pub(crate) fn write(folder: &Path, record: &Record, logs: &[LatencyLog]) -> io::Result<()> {
    for log in logs {
        let path = folder.join(LATENCY).join(log.file_name());
        fs::write(&path, log.text()).map_err(|error| named(&path, &error))?;
    }
    // Last and at once: a folder that has it has all.
    let path = folder.join(RESULTS);
    let partial = folder.join("results.json.partial");
    let text = serde_json::to_string(record)?;
    fs::write(&partial, text + "\n").map_err(|error| named(&partial, &error))?;
    fs::rename(&partial, &path).map_err(|error| named(&path, &error))
}

/// Reads a run from its folder, or from a document by itself.
///
/// # Errors
///
/// It is not there, or it was written by a version that differs in what it means.
pub(crate) fn read(at: &Path) -> io::Result<Record> {
    let path = if at.is_dir() { at.join(RESULTS) } else { at.to_owned() };
    let text = fs::read_to_string(&path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => named(&path, &"there is no run; `kraft-bench run --out DIR` leaves one"),
        _ => named(&path, &error),
    })?;
    let document: serde_json::Value = serde_json::from_str(&text).map_err(|error| named(&path, &error))?;
    match document.get("schema").and_then(serde_json::Value::as_u64) {
        Some(schema) if (u64::from(SCHEMA_MIN)..=u64::from(SCHEMA)).contains(&schema) => {}
        Some(schema) => {
            let text = format!(
                "has schema {schema}, this program reads {SCHEMA_MIN} to {SCHEMA}: use the version that wrote it"
            );
            return Err(named(&path, &text));
        }
        None => return Err(named(&path, &"is no document of kraft-bench: it has no schema")),
    }
    serde_json::from_value(document).map_err(|error| named(&path, &error))
}

fn named(path: &Path, what: &dyn std::fmt::Display) -> io::Error {
    io::Error::other(format!("{}: {what}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::sample;

    /// A folder of its own that is removed in the end.
    struct Folder(std::path::PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("kraft-bench-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_run_is_read_as_it_was_written_and_never_overwritten() {
        let folder = Folder::new("written");
        create(&folder.0).expect("nothing is there");
        write(&folder.0, &sample(), &[]).expect("there is room");
        let back = read(&folder.0).expect("it was written");
        assert_eq!(back.cells[0].name, "echo 64Bx64");
        assert!(create(&folder.0).is_err_and(|error| error.to_string().contains("is there already")));
    }

    #[test]
    fn documents_of_the_schema_before_are_read() {
        let folder = Folder::new("schema");
        fs::create_dir_all(&folder.0).expect("there is room");
        let text = serde_json::to_string(&sample()).expect("all of it is JSON");
        let old = text.replacen(&format!("\"schema\":{SCHEMA}"), "\"schema\":1", 1);
        assert_ne!(text, old);
        fs::write(folder.0.join(RESULTS), old).expect("there is room");
        assert_eq!(read(&folder.0).expect("it is known").schema, 1);
    }

    #[test]
    fn what_is_no_run_is_refused_by_its_name() {
        let folder = Folder::new("refused");
        let absent = read(&folder.0.join("absent")).expect_err("it is not there");
        assert!(absent.to_string().contains("absent: there is no run"), "{absent}");
        fs::create_dir_all(&folder.0).expect("there is room");
        for (text, expected) in [
            ("{\"schema\":99}", "has schema 99"),
            ("{}", "it has no schema"),
            ("not JSON", "expected"),
        ] {
            fs::write(folder.0.join(RESULTS), text).expect("there is room");
            let error = read(&folder.0).expect_err("it is no run");
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
