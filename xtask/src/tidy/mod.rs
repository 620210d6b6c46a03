//! `cargo xtask test tidy`: rules of this repository that neither the compiler nor clippy knows.
//!
//! Owns: which files are looked at, and the report. Does not know: the rules; each kind of file has a module.
//! Flow: the working copy → `(path, text)` → offences, each with its place → all of them, or nothing.

mod manifests;

mod markdown;

mod sources;

use std::path::Path;

use anyhow::{Context, Result, bail};

/// Folders that others or chance made.
const SKIPPED: &[&str] =
    &["target", "node_modules", "tidings-data", "tidings-demo", "corpus", "regressions", "artifacts"];

/// Folders with a dot that are ours; others belong to tools.
const DOTTED: &[&str] = &[".ci", ".cargo"];

/// Files whose text is somebody else's, or is compared byte by byte.
const FOREIGN: &[&str] = &["Cargo.lock", "LICENSE-APACHE", "package-lock.json"];

/// A text file of the repository.
#[derive(Debug)]
pub(crate) struct File {
    /// From the root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// Fails with every offence.
pub(crate) fn run() -> Result<()> {
    let mut files = Vec::new();
    collect(Path::new("."), &mut files)?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let mut offences: Vec<String> = files.iter().flat_map(sources::offences).collect();
    offences.extend(markdown::offences(&files));
    offences.extend(manifests::offences(&files)?);
    if offences.is_empty() {
        println!("{} files are tidy", files.len());
        return Ok(());
    }
    offences.iter().for_each(|offence| println!("{offence}"));
    bail!("{} offences", offences.len());
}

fn collect(folder: &Path, files: &mut Vec<File>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if SKIPPED.contains(&name.as_str()) || (name.starts_with('.') && !DOTTED.contains(&name.as_str())) {
            continue;
        }
        if path.is_dir() {
            collect(&path, files)?;
        } else if !FOREIGN.contains(&name.as_str())
            && let Ok(text) = String::from_utf8(std::fs::read(&path)?)
        {
            files.push(File { path: path.to_string_lossy().trim_start_matches("./").to_owned(), text });
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) fn file(path: &str, text: &str) -> File {
    File { path: path.to_owned(), text: text.to_owned() }
}
