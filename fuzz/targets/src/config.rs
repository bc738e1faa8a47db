//! What kraftd is told: a file, variables and flags.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use arbitrary::{Result, Unstructured};
use kraft::daemon::config::{FIELDS, Layers, Loaded, load_text};

/// A sentence is no longer than this: what it quotes is cut.
const SENTENCE_MAX: usize = 4096;

pub(crate) fn run(input: &[u8]) {
    let mut u = Unstructured::new(input);
    let _ = try_run(&mut u);
}

fn try_run(u: &mut Unstructured<'_>) -> Result<()> {
    let mut layers = Layers::default();
    if u.arbitrary()? {
        layers.init = ["cluster", "id", "peers", "listen", "client"]
            .into_iter()
            .zip(["c", "1", "1=a:1,2=b:1", "a:1", "a:2"].map(str::to_owned))
            .collect();
    }
    for _ in 0..u.int_in_range(0..=3)? {
        let name = match u.arbitrary()? {
            true => u.choose(FIELDS)?.variable().into_bytes(),
            false => [b"KRAFT_", short(u)?].concat(),
        };
        let value = short(u)?.to_vec();
        layers
            .variables
            .push((OsString::from_vec(name), OsString::from_vec(value)));
    }
    for _ in 0..u.int_in_range(0..=3)? {
        let name = u.choose(FIELDS)?.name;
        layers
            .flags
            .push((name, String::from_utf8_lossy(short(u)?).into_owned()));
    }
    let rest = u.bytes(u.len())?;
    // A file that is not UTF-8 is refused where it is read.
    let Ok(text) = str::from_utf8(rest) else { return Ok(()) };
    match load_text(&layers, Path::new("kraftd.toml"), text) {
        Err(failure) => judge_sentence(&failure.message),
        Ok(loaded) => judge(&loaded),
    }
    Ok(())
}

fn short<'a>(u: &mut Unstructured<'a>) -> Result<&'a [u8]> {
    let length = usize::from(u.arbitrary::<u8>()?) % 32;
    u.bytes(length.min(u.len()))
}

/// One line that ends within bounds.
fn judge_sentence(sentence: &str) {
    assert!(
        !sentence.is_empty() && sentence.len() <= SENTENCE_MAX,
        "{} bytes",
        sentence.len()
    );
    assert!(!sentence.chars().any(char::is_control), "{sentence:?}");
}

/// What is shown is a file that sets the same.
fn judge(loaded: &Loaded) {
    for warning in &loaded.warnings {
        judge_sentence(warning);
    }
    if let Err(failure) = loaded.validate() {
        judge_sentence(&failure.message);
    }
    let shown = loaded.show();
    let again = load_text(&Layers::default(), Path::new("shown.toml"), &shown);
    let again = again.unwrap_or_else(|failure| panic!("{failure}\n{shown}"));
    assert_eq!(again.config, loaded.config, "{shown}");
}
