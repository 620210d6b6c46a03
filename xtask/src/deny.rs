//! `cargo xtask test deny`: what a build may be made of, as `deny.toml` says.
//!
//! Owns: reading `deny.toml`, and judging bans, versions, duplicates, licences and sources from what cargo itself lists.
//! Does not know: advisories; cargo-deny asks for them, where it is installed and reaches their database.
//! Flow: `deny.toml` and `cargo metadata` → offences; then cargo-deny, or why it was skipped.
//!
//! The same file, without cargo-deny: building that takes longer than everything else here together.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use semver::{Version, VersionReq};
use serde::Deserialize;

use crate::step::{STEP_LIMIT, command};

/// Where every crate of others comes from.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// How cargo-deny says that it has no advisories to compare with.
const NO_DATABASE: &[&str] =
    &["failed to fetch advisory database", "unable to fetch", "failed to load advisory database"];

/// The parts of `deny.toml` that are judged here.
#[derive(Debug, Deserialize)]
struct Rules {
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Debug, Deserialize)]
struct Licenses {
    allow: BTreeSet<String>,
}

#[derive(Debug, Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Ban {
    /// A name, or a name and the versions that are meant: `h2:<0.4.16`.
    #[serde(rename = "crate")]
    what: String,
    reason: String,
    /// One version is fine, two are not.
    #[serde(default)]
    deny_multiple_versions: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    unknown_registry: String,
    unknown_git: String,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    version: Version,
    license: Option<String>,
    /// None for our own.
    source: Option<String>,
}

/// Fails with every offence, of the workspace and of the fuzz targets beside it.
pub(crate) fn run() -> Result<()> {
    let text = std::fs::read_to_string("deny.toml")?;
    let rules: Rules = toml::from_str(&text).context("deny.toml")?;
    let mut offences = Vec::new();
    for manifest in ["Cargo.toml", "fuzz/Cargo.toml"] {
        let packages = packages(manifest)?;
        let found = offences_of(&rules, &packages, manifest == "Cargo.toml");
        println!("{manifest}: {} crates, {} offences", packages.len(), found.len());
        offences.extend(found.into_iter().map(|offence| format!("{manifest}: {offence}")));
    }
    offences.iter().for_each(|offence| println!("{offence}"));
    ensure!(offences.is_empty(), "{} offences", offences.len());
    cargo_deny()
}

fn packages(manifest: &str) -> Result<Vec<Package>> {
    let mut metadata = Command::new("cargo");
    metadata.args([
        "metadata",
        "--format-version",
        "1",
        "--all-features",
        "--locked",
        "--manifest-path",
        manifest,
    ]);
    let output = metadata.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice::<Metadata>(&output.stdout)?.packages)
}

/// What is not fuzzed is shipped, so its licences matter.
fn offences_of(rules: &Rules, packages: &[Package], is_shipped: bool) -> Vec<String> {
    let mut offences = Vec::new();
    let mut versions: BTreeMap<&str, BTreeSet<&Version>> = BTreeMap::new();
    for package in packages {
        let shown = format!("{} {}", package.name, package.version);
        versions.entry(&package.name).or_default().insert(&package.version);
        for ban in rules.bans.deny.iter().filter(|ban| !ban.deny_multiple_versions && ban.is_of(package)) {
            offences.push(format!("{shown} is banned: {}", ban.reason));
        }
        let Some(source) = &package.source else { continue };
        let is_known = source == REGISTRY
            || (source.starts_with("git+") && rules.sources.unknown_git != "deny")
            || (!source.starts_with("git+") && rules.sources.unknown_registry != "deny");
        if !is_known {
            offences.push(format!("{shown} comes from {source}"));
        }
        let license = package.license.as_deref().unwrap_or_default();
        if is_shipped && !allows(license, &rules.licenses.allow) {
            offences.push(format!("{shown} has the licence {license:?}"));
        }
    }
    for ban in rules.bans.deny.iter().filter(|ban| ban.deny_multiple_versions) {
        if let Some(found) = versions.get(ban.name()).filter(|found| found.len() > 1) {
            let found: Vec<String> = found.iter().map(ToString::to_string).collect();
            offences.push(format!("{} is there as {}: {}", ban.name(), found.join(" and "), ban.reason));
        }
    }
    offences
}

impl Ban {
    fn name(&self) -> &str {
        self.what.split(':').next().unwrap_or_default()
    }

    fn is_of(&self, package: &Package) -> bool {
        let versions = self.what.split_once(':').map(|(_, versions)| VersionReq::parse(versions));
        self.name() == package.name
            // Versions that cannot be read would otherwise ban nothing.
            && versions.is_none_or(|versions| versions.is_ok_and(|versions| versions.matches(&package.version)))
    }
}

/// Whether one way to read an SPDX expression needs nothing but allowed licences. `/` is an old `OR`.
fn allows(license: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = license.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    let verdict = any(&mut words, allowed);
    verdict && words.next().is_none()
}

type Words<'a, I> = std::iter::Peekable<I>;

fn any<'a, I: Iterator<Item = &'a str>>(words: &mut Words<'a, I>, allowed: &BTreeSet<String>) -> bool {
    let mut verdict = all(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        verdict |= all(words, allowed);
    }
    verdict
}

fn all<'a, I: Iterator<Item = &'a str>>(words: &mut Words<'a, I>, allowed: &BTreeSet<String>) -> bool {
    let mut verdict = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        verdict &= one(words, allowed);
    }
    verdict
}

fn one<'a, I: Iterator<Item = &'a str>>(words: &mut Words<'a, I>, allowed: &BTreeSet<String>) -> bool {
    if words.next_if_eq(&"(").is_some() {
        let verdict = any(words, allowed);
        return words.next() == Some(")") && verdict;
    }
    let Some(name) = words.next() else { return false };
    match words.next_if_eq(&"WITH") {
        None => allowed.contains(name),
        Some(_) => {
            words.next().is_some_and(|exception| allowed.contains(&format!("{name} WITH {exception}")))
        }
    }
}

/// The same file once more, and advisories, where cargo-deny is installed.
fn cargo_deny() -> Result<()> {
    let is_there =
        Command::new("cargo").args(["deny", "--version"]).output().is_ok_and(|o| o.status.success());
    if !is_there {
        println!("advisories: skipped: cargo-deny is not installed (cargo install --locked cargo-deny)");
        return Ok(());
    }
    let mut rules = Command::new("cargo");
    rules.args([
        "deny",
        "--all-features",
        "--locked",
        "check",
        "--hide-inclusion-graph",
        "bans",
        "licenses",
        "sources",
    ]);
    command(rules, STEP_LIMIT)?;
    let checked =
        Command::new("cargo").args(["deny", "--all-features", "--locked", "check", "advisories"]).output()?;
    let said = String::from_utf8_lossy(&checked.stderr);
    if checked.status.success() {
        println!("advisories: none");
        return Ok(());
    }
    if let Some(why) = said.lines().find(|line| NO_DATABASE.iter().any(|text| line.contains(text))) {
        println!("advisories: skipped: {}", why.trim());
        return Ok(());
    }
    println!("{said}");
    bail!("there are advisories");
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = r#"
        [licenses]
        allow = ["MIT", "Apache-2.0", "Unicode-3.0"]
        [bans]
        deny = [
          { crate = "openssl", reason = "no C" },
          { crate = "h2:<0.4.16", reason = "floods" },
          { crate = "hyper", deny-multiple-versions = true, reason = "two parsers" },
        ]
        [sources]
        unknown-registry = "deny"
        unknown-git = "deny"
    "#;

    fn package(name: &str, version: &str, license: &str, source: &str) -> Package {
        let version = Version::parse(version).unwrap();
        Package { name: name.into(), version, license: Some(license.into()), source: Some(source.into()) }
    }

    #[test]
    fn what_the_rules_forbid_is_found_and_nothing_else() {
        let rules: Rules = toml::from_str(RULES).unwrap();
        let of = |packages: &[Package]| offences_of(&rules, packages, true);
        let fine = [
            package("h2", "0.4.16", "MIT", REGISTRY),
            package("hyper", "1.12.0", "MIT", REGISTRY),
            package("bytes", "1.0.0", "MIT OR GPL-3.0", REGISTRY),
            package("unicode-ident", "1.0.0", "(MIT OR Apache-2.0) AND Unicode-3.0", REGISTRY),
        ];
        assert_eq!(of(&fine), [""; 0]);
        let bad = [
            package("h2", "0.4.15", "MIT", REGISTRY),
            package("openssl", "0.10.0", "Apache-2.0", REGISTRY),
            package("hyper", "0.14.0", "MIT", REGISTRY),
            package("hyper", "1.12.0", "MIT", REGISTRY),
            package("left", "1.0.0", "GPL-3.0", REGISTRY),
            package("pad", "1.0.0", "MIT", "git+https://host.example/pad"),
        ];
        let found = of(&bad);
        for (offence, of) in
            found.iter().zip(["h2 0.4.15", "openssl", "left 1.0.0", "pad 1.0.0", "hyper is there as"])
        {
            assert!(offence.starts_with(of), "{offence}");
        }
        assert_eq!(found.len(), 5, "{found:?}");
    }

    #[test]
    fn licences_are_read_as_expressions() {
        let allowed: BTreeSet<String> = ["MIT", "Apache-2.0"].map(Into::into).into();
        for good in
            ["MIT", "MIT/Apache-2.0", "GPL-2.0 OR MIT", "MIT AND Apache-2.0", "(GPL-2.0 AND X) OR MIT"]
        {
            assert!(allows(good, &allowed), "{good}");
        }
        for bad in ["", "GPL-2.0", "MIT AND GPL-2.0", "Apache-2.0 WITH LLVM-exception", "(MIT", "MIT MIT"] {
            assert!(!allows(bad, &allowed), "{bad}");
        }
    }

    #[test]
    fn the_rules_of_this_repository_can_be_read() {
        let text = include_str!("../../deny.toml");
        let rules: Rules = toml::from_str(text).unwrap();
        for ban in &rules.bans.deny {
            let versions = ban.what.split_once(':').map(|(_, versions)| VersionReq::parse(versions));
            assert!(versions.is_none_or(|versions| versions.is_ok()), "{}", ban.what);
        }
        assert!(rules.bans.deny.iter().any(|ban| ban.deny_multiple_versions && ban.name() == "hyper"));
    }
}
