//! README.md as a source of truth: what it tells a newcomer to run is what CI runs.

use std::fs;

use crate::command::Failure;

/// The one `cargo test` command of README.md.
///
/// # Errors
///
/// README.md cannot be read, or has none or several.
pub(crate) fn test_command() -> Result<String, Failure> {
    let text = fs::read_to_string("README.md").map_err(|error| Failure::new(format!("README.md: {error}")))?;
    let mut commands = shell_lines(&text)
        .into_iter()
        .filter(|line| line.starts_with("cargo test"));
    match (commands.next(), commands.next()) {
        (Some(command), None) => Ok(command),
        (None, _) => Err(Failure::new(
            "README.md: no shell block has a line that begins with `cargo test`",
        )),
        (Some(first), Some(second)) => Err(Failure::new(format!(
            "README.md: two test commands, `{first}` and `{second}`; CI runs the one that newcomers run"
        ))),
    }
}

/// The lines of all fenced blocks of language `sh`, without comments.
fn shell_lines(text: &str) -> Vec<String> {
    fenced(text, "sh")
        .iter()
        .flat_map(|block| block.lines())
        .map(|line| line.split(" #").next().unwrap_or_default().trim().to_owned())
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect()
}

/// The fenced blocks of a language, in order.
pub(crate) fn fenced(text: &str, language: &str) -> Vec<String> {
    let opening = format!("```{language}");
    let mut blocks = Vec::new();
    let mut block: Option<String> = None;
    for line in text.lines() {
        match &mut block {
            None if line.trim_end() == opening => block = Some(String::new()),
            None => {}
            Some(_) if line.trim_end() == "```" => blocks.extend(block.take()),
            Some(lines) => {
                lines.push_str(line);
                lines.push('\n');
            }
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_stand_in_shell_blocks_alone() {
        let text = "cargo test in prose\n```sh\ncargo run   # a demo\n# cargo test --old\ncargo test --workspace\n```\n\
                    ```rust\ncargo test in rust\n```\n";
        assert_eq!(shell_lines(text), ["cargo run", "cargo test --workspace"]);
        assert_eq!(fenced(text, "rust"), ["cargo test in rust\n"]);
    }
}
