//! Makes Rust and a descriptor set of `protocols/schema/kraft.proto`: `cargo ci codegen` says whether what is checked in
//! is what this makes, `cargo run -p kraft-codegen` makes it anew.
//!
//! The compiler of the schema is protox, since protoc would have to be installed; the generator is buffa's. The descriptor
//! set is the schema compiled, for languages whose library takes it as it is, and needs no compiler then.

#![forbid(unsafe_code)]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

use buffa::Message;
use buffa_codegen::CodeGenConfig;
use buffa_codegen::generated::descriptor::FileDescriptorSet;

const SCHEMA: &str = "kraft.proto";

/// Where it stands beside the schema, under the ending that the standard has for messages in bytes.
const DESCRIPTORS: &str = "kraft.binpb";

fn main() -> ExitCode {
    let check = match env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => {
            eprintln!("usage: kraft-codegen [--check]");
            return ExitCode::from(2);
        }
    };
    match run(check) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kraft-codegen: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(check: bool) -> Result<(), Box<dyn Error>> {
    let protocols = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = protocols.join("src/protobuf/generated");
    let schema = protocols.join("schema");
    if !check {
        fs::create_dir_all(&folder)?;
    }
    let files = generate(&schema)?;
    for (name, content) in &files {
        keep(check, &folder.join(name), content.as_bytes())?;
    }
    keep(check, &schema.join(DESCRIPTORS), &descriptors(&schema)?)?;
    let strangers = strangers(&folder, &files)?;
    if let Some(path) = strangers.first() {
        return Err(format!("{} comes of no schema: remove it", path.display()).into());
    }
    Ok(())
}

/// Writes a file, or only looks whether this is in it.
fn keep(check: bool, path: &Path, content: &[u8]) -> Result<(), Box<dyn Error>> {
    let failed = |error| format!("{}: {error}", path.display());
    if !check {
        return Ok(fs::write(path, content).map_err(failed)?);
    }
    if fs::read(path).map_err(failed)? != content {
        let why = "is not what protocols/schema/kraft.proto makes: run `cargo run -p kraft-codegen`";
        return Err(format!("{} {why}", path.display()).into());
    }
    Ok(())
}

/// The schema as a `FileDescriptorSet`, without its comments.
fn descriptors(schema: &Path) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut compiler = protox::Compiler::new([schema])?;
    compiler.include_imports(true).open_file(SCHEMA)?;
    Ok(compiler.encode_file_descriptor_set())
}

/// The files of Rust that the schema makes, by name.
fn generate(schema: &Path) -> Result<Vec<(String, String)>, Box<dyn Error>> {
    let mut compiler = protox::Compiler::new([schema])?;
    compiler
        .include_imports(true)
        .include_source_info(true)
        .open_file(SCHEMA)?;
    let set = FileDescriptorSet::decode_from_slice(&compiler.encode_file_descriptor_set())?;
    let mut config = CodeGenConfig::default();
    // What is not known is skipped, not kept: nobody sends a message on that it received.
    config.preserve_unknown_fields = false;
    config.emit_register_fn = false;
    config.generate_with_setters = false;
    config.idiomatic_enum_aliases = false;
    let files = buffa_codegen::generate(&set.file, &[SCHEMA.to_owned()], &config)?;
    let files = files.into_iter();
    Ok(files
        .map(|file| (file.name, without_allowances(&file.content)))
        .collect())
}

/// Leaves out what the generator allows itself: the module that includes it expects its lints, with a reason.
fn without_allowances(content: &str) -> String {
    const START: &str = "#[allow(";
    let mut rest = content;
    let mut kept = String::with_capacity(content.len());
    while let Some((before, after)) = rest.split_once(START) {
        kept.push_str(before.trim_end_matches(' '));
        let (_, after) = after.split_once(")]").expect("attributes end");
        rest = after.strip_prefix('\n').unwrap_or(after);
    }
    kept.push_str(rest);
    kept
}

/// Files of the folder that none of `files` is.
fn strangers(folder: &Path, files: &[(String, String)]) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut strangers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !files.iter().any(|(name, _)| entry.file_name() == name.as_str()) {
            strangers.push(entry.path());
        }
    }
    Ok(strangers)
}
