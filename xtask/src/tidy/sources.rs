//! Rules for the text of every file, and for Rust.
//!
//! Owns: the length of files, the three lines of a module's doc, words that must not be there. Does not know: links.
//! Flow: one file → its offences.

use super::File;

/// Lines of a Rust file without its tests: longer ones hold more than one concept.
const LINES_MAX: usize = 600;

/// What a module says of itself.
const DOC_LINES: &[&str] = &["Owns:", "Does not know:", "Flow:"];

/// What must not be written anywhere, in halves so that this file may hold it, and why.
const BANNED: &[(&str, &str, &str)] = &[
    ("TO", "DO", "do it, or open an issue"),
    ("FIX", "ME", "fix it, or open an issue"),
    ("index.crates", ".io", "registries are the user's own settings"),
    ("static.crates", ".io", "registries are the user's own settings"),
    ("registry.npm", "js.org", "registries are the user's own settings"),
    ("pypi", ".org", "registries are the user's own settings"),
    ("/wo", "rk/", "a path of somebody's machine"),
    ("/ro", "ot/", "a path of somebody's machine"),
    ("/ho", "me/", "a path of somebody's machine"),
    ("/tm", "p/wt", "a path of somebody's machine"),
];

pub(super) fn offences(file: &File) -> Vec<String> {
    let mut offences = Vec::new();
    for (number, line) in file.text.lines().enumerate() {
        for (half, rest, why) in BANNED {
            if line.contains(&format!("{half}{rest}")) {
                offences.push(format!("{}:{}: {half}{rest}: {why}", file.path, number + 1));
            }
        }
    }
    if file.path.ends_with(".rs") {
        let lines = lines_without_tests(&file.text);
        if lines > LINES_MAX && !is_test(&file.path) {
            offences.push(format!("{}: {lines} lines without tests; split at {LINES_MAX}", file.path));
        }
        if is_module_root(&file.path) {
            let doc: Vec<&str> = file.text.lines().take_while(|line| line.starts_with("//!")).collect();
            for wanted in DOC_LINES.iter().filter(|wanted| !doc.iter().any(|line| line.contains(**wanted))) {
                offences.push(format!("{}: the module's doc has no {wanted:?}", file.path));
            }
        }
    }
    offences
}

fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs")
}

fn is_module_root(path: &str) -> bool {
    !is_test(path) && ["/mod.rs", "/lib.rs", "/main.rs"].iter().any(|name| path.ends_with(name))
}

/// Tests stand last in a file.
fn lines_without_tests(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let tests = lines.windows(2).position(|pair| {
        matches!(pair, [attribute, module]
            if *attribute == "#[cfg(test)]" && module.starts_with("mod ") && module.ends_with('{'))
    });
    tests.unwrap_or(lines.len())
}

#[cfg(test)]
mod tests {
    use super::super::file;
    use super::*;

    #[test]
    fn long_files_are_found_and_their_tests_are_not_counted() {
        let short = "//!\n".repeat(600);
        assert!(offences(&file("a/b.rs", &short)).is_empty());
        assert_eq!(offences(&file("a/b.rs", &format!("{short}//\n"))).len(), 1);
        let with_tests = format!("{short}#[cfg(test)]\nmod tests {{\n{short}}}\n");
        assert!(offences(&file("a/b.rs", &with_tests)).is_empty());
    }

    #[test]
    fn a_module_says_what_it_owns_and_does_not_know() {
        let whole = "//! A.\n//!\n//! Owns: b. Does not know: c.\n//! Flow: d.\n";
        assert!(offences(&file("a/mod.rs", whole)).is_empty());
        assert_eq!(offences(&file("a/mod.rs", "//! A.\n//! Owns: b.\n")).len(), 2);
        assert!(offences(&file("a/b.rs", "//! A.\n")).is_empty());
    }

    #[test]
    fn banned_words_are_found_with_their_line() {
        let [half, rest] = ["TO", "DO"];
        let found = offences(&file("a.md", &format!("fine\n{half}{rest}: later\n")));
        assert!(found.first().is_some_and(|offence| offence.starts_with("a.md:2:")), "{found:?}");
    }
}
