//! Rules for Markdown: what it points to has to be there.
//!
//! Owns: links, anchors, names of tests, commands and metrics. Does not know: what a page says.
//! Flow: all files → every page's links and code blocks → offences.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use super::File;

/// Where commands are declared, and where metrics are.
const COMMANDS: [&str; 6] = [
    "crates/tidings-server/src/cli.rs",
    "crates/tidings-server/src/door.rs",
    "crates/tidings-server/src/jobs/flags.rs",
    "crates/tidings-server/src/auth/flags.rs",
    "crates/tidings-server/src/auth/commands/key.rs",
    "crates/tidings-server/src/auth/commands/token.rs",
];
const CHORES: &str = "xtask/src/main.rs";
const METRICS: &str = "crates/tidings/src/metrics.rs";
const METRICS_PAGE: &str = "docs/metrics.md";

pub(super) fn offences(files: &[File]) -> Vec<String> {
    let mut offences = Vec::new();
    for page in files.iter().filter(|file| file.path.ends_with(".md")) {
        for (number, line) in prose(&page.text) {
            for (text, target) in links(line) {
                if let Err(why) = follow(files, page, text, target) {
                    offences.push(format!("{}:{number}: {target}: {why}", page.path));
                }
            }
        }
        offences.extend(commands(files, page));
    }
    offences.extend(metrics(files));
    offences
}

/// The lines that are not code, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_code = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let is_fence = line.trim_start().starts_with("```");
        in_code ^= is_fence;
        (!in_code && !is_fence).then_some((index + 1, line))
    })
}

/// `[text](target)`, each.
fn links(line: &str) -> impl Iterator<Item = (&str, &str)> {
    line.match_indices("](").filter_map(|(middle, _)| {
        let (before, after) = (line.get(..middle)?, line.get(middle + 2..)?);
        Some((before.get(before.rfind('[')? + 1..)?, after.split_once(')')?.0))
    })
}

fn follow(files: &[File], page: &File, text: &str, target: &str) -> Result<(), String> {
    if target.contains("://") {
        return Ok(());
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path = if path.is_empty() { page.path.clone() } else { resolve(&page.path, path) };
    if !Path::new(&path).exists() && !files.iter().any(|file| file.path == path) {
        return Err("there is no such file".into());
    }
    let Some(file) = files.iter().find(|file| file.path == path) else { return Ok(()) };
    if !anchor.is_empty() && !prose(&file.text).any(|(_, line)| heading(line).as_deref() == Some(anchor)) {
        return Err("there is no such heading".into());
    }
    // A link to Rust whose text is a name in code says that the file has it.
    match text.strip_prefix('`').and_then(|name| name.strip_suffix('`')) {
        Some(name)
            if path.ends_with(".rs") && !name.contains(['/', '.', ' ']) && !file.text.contains(name) =>
        {
            Err(format!("the file has no {name}"))
        }
        _ => Ok(()),
    }
}

fn resolve(page: &str, target: &str) -> String {
    let joined = Path::new(page).parent().unwrap_or(Path::new("")).join(target);
    let mut path = PathBuf::new();
    for part in joined.components() {
        match part {
            Component::ParentDir => drop(path.pop()),
            part => path.push(part),
        }
    }
    path.to_string_lossy().into_owned()
}

/// A heading's anchor, as forges make it.
fn heading(line: &str) -> Option<String> {
    let text = line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#'))?;
    let kept = text.trim().to_lowercase();
    Some(
        kept.chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
            .collect::<String>()
            .replace(' ', "-"),
    )
}

/// Commands and flags that a page's shell blocks use have to exist.
fn commands(files: &[File], page: &File) -> Vec<String> {
    let text = |path: &str| files.iter().find(|file| file.path == path).map_or("", |file| &file.text);
    let (declared, chores) = (COMMANDS.map(text).concat(), text(CHORES));
    let mut offences = Vec::new();
    for line in shell(&page.text) {
        let mut words = line.split_whitespace();
        let chore = line.split_once("cargo xtask ").and_then(|(_, rest)| rest.split_whitespace().next());
        if let Some(chore) = chore.filter(|chore| !chores.contains(&format!("\"{chore}\" =>"))) {
            offences.push(format!("{}: there is no cargo xtask {chore}", page.path));
        }
        let ours = line.split_once("cargo run --release -- ").map(|(_, rest)| rest);
        let ours = ours.or_else(|| line.strip_prefix("tidings ").filter(|_| words.next() == Some("tidings")));
        let Some(ours) = ours else { continue };
        let name = ours.split_whitespace().next().unwrap_or_default();
        let variant = name.chars().take(1).flat_map(char::to_uppercase).chain(name.chars().skip(1));
        if !declared.contains(&format!("    {}(", variant.collect::<String>())) {
            offences.push(format!("{}: there is no tidings {name}", page.path));
        }
        let flags = ours.split(['=', ' ', '`']).filter(|word| word.starts_with("--") && word.len() > 2);
        for flag in flags.filter(|flag| !declared.contains(&field(flag))) {
            offences.push(format!("{}: tidings {name} has no {flag}", page.path));
        }
    }
    offences
}

fn field(flag: &str) -> String {
    match flag {
        "--final" => "is_final:".into(),
        _ => format!(" {}:", flag.trim_start_matches('-').replace('-', "_")),
    }
}

/// The lines of a page's shell blocks.
fn shell(text: &str) -> impl Iterator<Item = &str> {
    let mut in_shell = false;
    text.lines().filter(move |line| {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            in_shell = !in_shell && matches!(language.trim(), "sh" | "bash");
            return false;
        }
        in_shell
    })
}

/// The page of the metrics lists all of them and no other.
fn metrics(files: &[File]) -> Vec<String> {
    let text = |path: &str| files.iter().find(|file| file.path == path).map_or("", |file| &file.text);
    let code: BTreeSet<String> = text(METRICS)
        .split("(r, \"")
        .skip(1)
        .chain(text(METRICS).split("register_with_unit(\"").skip(1))
        .filter_map(|rest| Some(format!("tidings_{}", rest.split_once('"')?.0)))
        .collect();
    let page: BTreeSet<String> = text(METRICS_PAGE)
        .lines()
        .filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned()))
        .map(|name| name.trim_end_matches("_total").trim_end_matches("_seconds").to_owned())
        .collect();
    code.symmetric_difference(&page)
        .map(|name| format!("{METRICS_PAGE}: {name} is not on both sides"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::file;
    use super::*;

    #[test]
    fn links_lead_to_files_headings_and_tests() {
        let page = |line: &str| {
            let files = [
                file("docs/a.md", &format!("# The *one* idea: cursors\n{line}\n")),
                file("src/b.rs", "fn it_holds() {}\n"),
                file(COMMANDS[0], "    Serve(ServeFlags),\n    pub(crate) dev: bool,\n"),
                file(CHORES, "        \"test\" => test::run(&rest),\n"),
            ];
            offences(&files).len()
        };
        for good in [
            "[x](../src/b.rs)",
            "[`it_holds`](../src/b.rs)",
            "[x](#the-one-idea-cursors)",
            "[x](https://a.example)",
            "```\n[x](nowhere)\n```",
            "```sh\ntidings serve --dev\ncargo xtask test\n```",
        ] {
            assert_eq!(page(good), 0, "{good}");
        }
        for bad in [
            "[x](b.rs)",
            "[`it_fails`](../src/b.rs)",
            "[x](#another)",
            "```sh\ntidings dance\n```",
            "```sh\ntidings serve --prod\n```",
            "```sh\ncargo xtask dance\n```",
        ] {
            assert_eq!(page(bad), 1, "{bad}");
        }
    }

    #[test]
    fn metrics_are_in_the_code_and_on_the_page() {
        let of = |code: &str, page: &str| metrics(&[file(METRICS, code), file(METRICS_PAGE, page)]).len();
        assert_eq!(of("gauge(r, \"a\", \"A\")", "| `tidings_a` | A |"), 0);
        assert_eq!(of("gauge(r, \"a\", \"A\")", "| `tidings_b` | B |"), 2);
    }
}
