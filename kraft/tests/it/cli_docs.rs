//! The table of fields in the guide is the table in the program.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use kraft::daemon::config::{Config, FIELDS};

const BEGIN: &str = "<!-- fields: ";
const END: &str = "<!-- end of fields -->";

fn table() -> String {
    let defaults = Config::default();
    let mut table = "| key | type | default | |\n|---|---|---|---|\n".to_owned();
    for field in FIELDS {
        let default = match field.show(&defaults) {
            text if text.is_empty() || text == "0" && field.name == "id" => String::new(),
            text => format!("`{text}`"),
        };
        writeln!(
            table,
            "| `{}` | {} | {default} | {} |",
            field.name,
            field.kind,
            field.doc.trim()
        )
        .expect("a String");
    }
    table
}

#[test]
fn the_guide_has_every_field_with_its_default() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations.md");
    let guide = fs::read_to_string(&path).expect("the guide");
    let begin = guide.find(BEGIN).expect("the mark before the table");
    let begin = begin + guide[begin..].find('\n').expect("the end of the mark's line") + 1;
    let end = guide.find(END).expect("the mark after the table");
    let expected = format!("{}\n{}\n{}", &guide[..begin], table(), &guide[end..]);
    if env::var_os("KRAFT_REWRITE").is_some() {
        fs::write(&path, expected).expect("the guide is rewritten");
    } else {
        let rewrite = "KRAFT_REWRITE=1 cargo test -p kraft-raft cli_docs";
        assert!(guide == expected, "docs/operations.md is behind the table: {rewrite}");
    }
}
