//! The rules of the house that a compiler does not hold: which way dependencies run, how files begin and how
//! long they get, where a secret may be read, how a kind is added. Each rule is shown to see a breach first.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use e2e::parts::repository;

/// Lines above the inline tests of a file.
const FILE_WALL: usize = 400;
/// Lines of a function, its signature and braces included.
const FUNCTION_WALL: usize = 70;

struct Source {
    /// From the root of the repository, with `/`.
    path: String,
    text: String,
    for_tests: bool,
}

impl Source {
    /// The text above the inline tests.
    fn production(&self) -> &str {
        let begins = ["\n#[cfg(test)]\nmod ", "\n#[cfg(test)]\npub(super) mod "];
        let at = begins.iter().find_map(|begin| self.text.find(begin)).or_else(|| {
            // An expectation may stand between the two.
            self.text.match_indices("\n#[cfg(test)]\n#[").map(|(at, _)| at).find(|at| {
                let rest = self.text[at + 14..]
                    .lines()
                    .find(|line| !line.starts_with("#[") && !line.starts_with([' ', ')']));
                let module = |line: &str| line.trim_start_matches("pub(super) ").starts_with("mod ");
                rest.is_some_and(|line| module(line) && line.ends_with('{'))
            })
        });
        &self.text[..at.map_or(self.text.len(), |at| at + 1)]
    }

    /// The files of the modules that it declares, and whether only tests compile them.
    fn declared(&self) -> Vec<(String, bool)> {
        let (folder, name) = self.path.rsplit_once('/').unwrap_or(("", &self.path));
        let own = name.trim_end_matches(".rs");
        let below =
            if ["mod", "lib", "main"].contains(&own) { folder.to_owned() } else { format!("{folder}/{own}") };
        let (mut found, mut attributes) = (Vec::new(), Vec::new());
        for line in self.text.lines().map(str::trim) {
            if line.starts_with("#[") {
                attributes.push(line);
                continue;
            }
            let module = line.strip_suffix(';').and_then(|line| line.rsplit_once("mod "));
            if let Some((_, module)) = module.filter(|_| !line.starts_with("//")) {
                // What a fuzzer calls as well is in no release either.
                let tests = ["#[cfg(test)]", "#[cfg(any(test, fuzzing))]"];
                let for_tests = self.for_tests || attributes.iter().any(|one| tests.contains(one));
                let named =
                    attributes.iter().find_map(|a| a.strip_prefix("#[path = \"")?.strip_suffix("\"]"));
                found.extend(named.map(|file| (format!("{folder}/{file}"), for_tests)));
                found.push((format!("{below}/{module}.rs"), for_tests));
                found.push((format!("{below}/{module}/mod.rs"), for_tests));
            }
            attributes.clear();
        }
        found
    }

    /// Whether only tests compile it.
    fn is_test(&self) -> bool {
        self.for_tests
    }
}

fn sources() -> Vec<Source> {
    let root = repository();
    let mut found = Vec::new();
    for member in ["proto", "broker", "launcher", "tests"] {
        collect(&root, &root.join(member), &mut found);
    }
    assert!(found.len() > 20, "the sources were not found");
    found.sort_by(|a, b| a.path.cmp(&b.path));
    // Until nothing more is found: a module of a module for tests is one too.
    loop {
        let tests: BTreeSet<String> =
            found.iter().flat_map(Source::declared).filter_map(|(path, test)| test.then_some(path)).collect();
        let mut changed = false;
        for source in found.iter_mut().filter(|source| !source.for_tests && tests.contains(&source.path)) {
            source.for_tests = true;
            changed = true;
        }
        if !changed {
            return found;
        }
    }
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(root, &path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let path = path.strip_prefix(root).unwrap().display().to_string();
            let for_tests = path.starts_with("tests/") || path.starts_with("launcher/tests/");
            found.push(Source { path, text, for_tests });
        }
    }
}

/// Runs a rule over every source. `breach` must be caught by the rule, so that it is known to see.
#[track_caller]
fn rule(breach: &Source, check: impl Fn(&Source, &mut Vec<String>)) {
    let mut seen = Vec::new();
    check(breach, &mut seen);
    assert!(!seen.is_empty(), "the rule does not see the breach that was made for it");
    let mut breaches = Vec::new();
    for source in sources() {
        check(&source, &mut breaches);
    }
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

fn source(path: &str, text: &str) -> Source {
    Source { path: path.into(), text: text.into(), for_tests: path.starts_with("tests/") }
}

#[test]
fn a_file_begins_by_saying_what_it_owns() {
    rule(&source("broker/src/x.rs", "use std::fs;\n"), |source, breaches| {
        let words = source.text.lines().next().and_then(|line| line.strip_prefix("//! ")).unwrap_or_default();
        if words.split_whitespace().count() < 3 {
            breaches.push(format!("{}: does not begin with `//!` and a sentence", source.path));
        }
    });
}

#[test]
fn no_file_is_longer_than_the_wall() {
    rule(&source("broker/src/x.rs", &"//! x\n".repeat(FILE_WALL + 1)), |source, breaches| {
        let lines = source.production().lines().count();
        if lines > FILE_WALL && (!source.is_test() || source.path.starts_with("tests/src/")) {
            breaches.push(format!("{}: {lines} lines above its tests; the wall is {FILE_WALL}", source.path));
        }
    });
}

#[test]
fn no_function_is_longer_than_the_wall() {
    let long = format!("fn long() {{\n{}}}\n", "    step();\n".repeat(FUNCTION_WALL));
    rule(&source("broker/src/x.rs", &long), |source, breaches| {
        for (name, length) in functions(source.production()) {
            if length > FUNCTION_WALL {
                breaches.push(format!(
                    "{}: fn {name} has {length} lines; the wall is {FUNCTION_WALL}",
                    source.path
                ));
            }
        }
    });
}

/// Functions with their lengths. rustfmt puts the closing brace at the indentation of the signature.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let Some(name) = function_name(code) else { continue };
        let close = format!("{}}}", &line[..line.len() - code.len()]);
        if code.ends_with('}') || code.ends_with(';') {
            continue;
        }
        let end = lines[at..].iter().position(|line| *line == close);
        found.push((name, end.map_or(0, |length| length + 1)));
    }
    found
}

fn function_name(code: &str) -> Option<String> {
    let mut words = code.split_whitespace();
    loop {
        match words.next()? {
            "fn" => {
                let rest = words.next()?;
                let end = rest.find(['(', '<']).unwrap_or(rest.len());
                return Some(rest[..end].to_owned());
            }
            "const" | "async" | "unsafe" | "extern" | "\"C\"" => {}
            word if word.starts_with("pub") => {}
            _ => return None,
        }
    }
}

/// What a module of the broker may name besides itself, from the bottom up. A module that is not listed fails.
fn broker_floors() -> BTreeMap<&'static str, &'static [&'static str]> {
    BTreeMap::from([
        ("lib", &[][..]),
        ("main", &[]),
        // What knows nothing of the broker: any floor may stand on it.
        ("clock", &[]),
        ("harden", &[]),
        ("wipe", &[]),
        ("inherit", &[]),
        ("durable", &[]),
        ("fault", &["clock"]),
        ("config", &["clock"]),
        ("policy", &["config"]),
        // Its events carry the words of a decision.
        ("audit", &["policy", "config", "clock"]),
        ("package", &["audit", "config", "clock"]),
        ("provider", &["policy", "audit", "config", "clock"]),
        ("lease", &["provider", "policy", "audit", "config", "clock"]),
        ("session", &["lease", "package", "provider", "policy", "audit", "config", "clock"]),
        // Knows the bus; of sessions only what a login session is (`session::login`).
        ("logind", &["session"]),
        ("watch", &["logind", "session", "lease", "provider", "policy", "audit", "config", "clock"]),
        ("api", &["session", "lease", "package", "provider", "policy", "audit", "config", "clock"]),
        (
            "app",
            &[
                "api", "watch", "logind", "session", "lease", "package", "provider", "policy", "audit",
                "config", "clock", "harden",
            ],
        ),
        (
            "cli",
            &[
                "app", "api", "watch", "logind", "session", "lease", "package", "provider", "policy",
                "audit", "config", "clock", "harden",
            ],
        ),
    ])
}

/// The modules of its own crate that a source names: `crate::x`, and `super::x` from the module's own file.
fn named_modules(source: &Source) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for line in source.production().lines().filter(|line| !line.trim_start().starts_with("//")) {
        for rest in line.split("crate::").skip(1) {
            let head = rest.strip_prefix('{').unwrap_or(rest);
            for part in if rest.starts_with('{') { head.split(',').collect() } else { vec![head] } {
                let word: String =
                    part.trim().chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
                names.insert(word);
            }
        }
    }
    names.remove("");
    names
}

#[test]
fn dependencies_run_downwards_inside_the_broker() {
    let floors = broker_floors();
    let breach = source("broker/src/policy/mod.rs", "use crate::lease::Journal;\n");
    rule(&breach, |source, breaches| {
        let Some(inside) = source.path.strip_prefix("broker/src/") else { return };
        let module = inside.split('/').next().unwrap_or_default().trim_end_matches(".rs");
        let Some(allowed) = floors.get(module) else {
            breaches
                .push(format!("{}: module `{module}` is not on any floor; add it to this test", source.path));
            return;
        };
        if module == "lib" || source.is_test() {
            return;
        }
        for name in named_modules(source) {
            let foundation = ["durable", "wipe", "inherit", "harden", "fault"].contains(&name.as_str());
            if floors.contains_key(name.as_str())
                && name != module
                && !foundation
                && !allowed.contains(&name.as_str())
            {
                breaches.push(format!("{}: `{module}` must not name `{name}`", source.path));
            }
        }
    });
}

/// Words that a part of the tree must not contain, outside tests and comments.
const NEVER: &[(&str, &[&str], &str)] = &[
    (
        "proto/",
        &["tokio", "std::fs", "std::net", "SystemTime", "Instant"],
        "proto has no I/O, no async, no clock",
    ),
    ("broker/", &["mcp_run"], "broker and launcher never import each other"),
    ("launcher/", &["mcp_broker::"], "broker and launcher never import each other"),
    ("launcher/", &["tokio"], "the launcher's relay works on the pipes themselves"),
    (
        "launcher/src/proxy/redact/",
        &["std::io", "std::fs", "crate::client", "crate::spawn", "crate::say", "ToBroker"],
        "the search for secrets gives none away",
    ),
    ("broker/src/policy/", &["tokio", "std::fs", "std::net", "async fn"], "policy is pure"),
    ("broker/src/audit/", &["Secret", "Zeroizing"], "audit cannot name a secret"),
    (
        "broker/src/provider/",
        &["axum", "crate::session", "crate::api"],
        "a provider knows neither sessions nor the API",
    ),
    ("tests/src/", &["mcp_broker::", "mcp_run::"], "the harness judges from outside"),
];

#[test]
fn what_must_not_be_named_is_not() {
    rule(&source("broker/src/audit/x.rs", "use mcp_broker_proto::Secret;\n"), |source, breaches| {
        for (prefix, words, why) in NEVER.iter().filter(|(prefix, ..)| source.path.starts_with(prefix)) {
            if source.is_test() && *prefix != "tests/src/" {
                continue;
            }
            for (number, line) in code_lines(source) {
                for word in words.iter().filter(|word| has_word(line, word)) {
                    breaches.push(format!("{}:{number}: `{word}` below {prefix}: {why}", source.path));
                }
            }
        }
    });
}

/// The lines of production code without their comments.
fn code_lines(source: &Source) -> impl Iterator<Item = (usize, &str)> {
    source.production().lines().enumerate().filter_map(|(at, line)| {
        let code = line.split("//").next().unwrap_or_default();
        (!code.trim().is_empty()).then_some((at + 1, code))
    })
}

fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let inside = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !inside(line[..at].chars().next_back())
            && (word.ends_with(':') || !inside(line[at + word.len()..].chars().next()))
    })
}

/// The way of a secret: whoever else reads one has to be put here, where a reviewer sees it.
const MAY_EXPOSE: &[&str] = &[
    "proto/src/",
    "broker/src/provider/",
    "broker/src/lease/",
    "broker/src/api/",
    "broker/src/cli/approve/deliver.rs",
    "broker/src/cli/approve/ticket.rs",
    "launcher/src/client",
    "launcher/src/desk",
    "launcher/src/inject",
    "launcher/src/spawn",
];

/// The relay passes tickets on and lets what servers say be searched; what is in a ticket it never sees.
#[test]
fn the_relay_reaches_no_secret_but_through_its_search() {
    const TYPES: &[&str] = &["Secret", "IssuedCredential", "Zeroizing", "ChildPlan"];
    const USES: &[&str] = &[".expose(", ".credentials", ".environment."];
    for breach in ["let a = &ticket.credentials;\n", "use zeroize::Zeroizing;\n"] {
        rule(&source("launcher/src/proxy/talk/x.rs", breach), |source, breaches| {
            let inside = source.path.starts_with("launcher/src/proxy/") && !source.is_test();
            let search = source.path.starts_with("launcher/src/proxy/redact/");
            for (number, code) in code_lines(source).filter(|_| inside && !search) {
                let named = TYPES.iter().filter(|word| has_word(code, word));
                for word in named.chain(USES.iter().filter(|word| code.contains(**word))) {
                    breaches.push(format!("{}:{number}: `{word}` in the relay", source.path));
                }
            }
        });
    }
}

#[test]
fn a_secret_is_exposed_on_its_way_only_and_says_to_whom() {
    rule(&source("broker/src/audit/x.rs", "value.expose(|v| v.len());\n"), |source, breaches| {
        if source.is_test() {
            return;
        }
        let lines: Vec<&str> = source.production().lines().collect();
        for (number, _) in code_lines(source).filter(|(_, code)| code.contains(".expose(")) {
            if !MAY_EXPOSE.iter().any(|prefix| source.path.starts_with(prefix)) {
                breaches.push(format!("{}:{number}: a secret is exposed off its way", source.path));
            }
            // The line belongs to the statement, which may begin a few lines above its call.
            let above = &lines[number.saturating_sub(6)..number];
            if !above.iter().any(|line| line.trim_start().starts_with("// EXPOSE: ")) {
                breaches.push(format!("{}:{number}: no `// EXPOSE:` line above it", source.path));
            }
        }
    });
}

#[test]
fn nothing_panics_outside_tests() {
    const WORDS: &[&str] = &[".unwrap()", ".expect(", "panic!(", "todo!(", "unimplemented!(", "dbg!("];
    rule(&source("broker/src/x.rs", "let x = y.unwrap();\n"), |source, breaches| {
        if source.is_test() {
            return;
        }
        for (number, code) in code_lines(source) {
            for word in WORDS.iter().filter(|word| code.contains(**word)) {
                breaches.push(format!("{}:{number}: `{word}` outside tests", source.path));
            }
        }
    });
}

/// Unsafe code is confined to few files, each of which says so here.
const MAY_BE_UNSAFE: &[&str] = &[
    "proto/src/wipe.rs",
    "broker/src/inherit.rs",
    "broker/src/cli/approve/apart.rs",
    "launcher/src/spawn/sys.rs",
    "tests/src/",
    "tests/tests/",
];

#[test]
fn unsafe_code_is_confined_and_explained() {
    rule(&source("broker/src/policy/x.rs", "let x = unsafe { y() };\n"), |source, breaches| {
        let lines: Vec<&str> = source.production().lines().collect();
        for (number, code) in code_lines(source) {
            let opens =
                code.contains("unsafe {") || code.contains("unsafe extern") || code.contains("unsafe impl");
            if !opens || code.contains("\"") {
                continue;
            }
            if !MAY_BE_UNSAFE.iter().any(|prefix| source.path.starts_with(prefix)) {
                breaches.push(format!(
                    "{}:{number}: unsafe code in a file that is not listed for it",
                    source.path
                ));
            }
            let above = &lines[number.saturating_sub(8)..number];
            if !above.iter().any(|line| line.trim_start().starts_with("// SAFETY: ")) {
                breaches.push(format!("{}:{number}: no `// SAFETY:` line above it", source.path));
            }
        }
    });
}

#[test]
fn main_is_three_lines_over_a_library() {
    for program in ["broker", "launcher"] {
        let text = fs::read_to_string(repository().join(program).join("src/main.rs")).unwrap();
        let code = text.lines().filter(|line| !line.starts_with("//!") && !line.trim().is_empty()).count();
        assert!(code <= 5, "{program}/src/main.rs has {code} lines of code");
        assert!(text.contains("::main("), "{program}/src/main.rs does not call the library's main");
    }
}

/// A table of kinds: `pub const KINDS: &[…] = &[a::KIND, b::KIND];`, or the same with another last word.
fn tables(source: &Source) -> Vec<(String, BTreeSet<String>)> {
    let text = source.production();
    let mut found = Vec::new();
    for (at, _) in text.match_indices("const KINDS: ") {
        let rest = &text[at..];
        let Some(list) = rest
            .split_once('=')
            .and_then(|(_, rest)| rest.split_once("&[")?.1.split_once("];"))
            .map(|(list, _)| list)
        else {
            continue;
        };
        let modules = list
            .split(',')
            .filter_map(|entry| Some(entry.trim().trim_start_matches('&').split_once("::")?.0.to_owned()));
        found.push((source.path.clone(), modules.collect()));
    }
    found
}

/// A new kind is one file and one line: whatever lies in such a folder and has a `KIND` is in its table, and
/// no other file lists the kinds.
#[test]
fn a_kind_is_one_file_and_one_line() {
    let all = sources();
    let tables: Vec<_> = all.iter().filter(|source| !source.is_test()).flat_map(tables).collect();
    assert!(
        tables.iter().any(|(path, kinds)| path == "broker/src/provider/mod.rs" && kinds.contains("vault"))
    );
    for (path, kinds) in &tables {
        let folder =
            path.strip_suffix("mod.rs").unwrap_or_else(|| panic!("{path}: a table of kinds lives in mod.rs"));
        let offered: BTreeSet<String> = all
            .iter()
            .filter_map(|source| {
                let inside = source.path.strip_prefix(folder)?;
                let module = inside.strip_suffix("/mod.rs").or_else(|| inside.strip_suffix(".rs"))?;
                let is_kind = source.production().contains("const KIND: ");
                (is_kind && !module.contains('/') && module != "mod").then(|| module.to_owned())
            })
            .collect();
        assert_eq!(&offered, kinds, "{path}: the folder's kinds and its table differ");
    }
    let names = [
        "\"vault\"",
        "\"sealed\"",
        "\"aws-sts\"",
        "\"postgres\"",
        "\"github-app\"",
        "\"jwt\"",
        "\"token-exchange\"",
    ];
    // The sealed provider's own command is about that provider alone.
    let own = ["broker/src/provider/", "broker/src/cli/secret"];
    let others = all.iter().filter(|source| source.path.starts_with("broker/src/") && !source.is_test());
    for source in others.filter(|source| !own.iter().any(|prefix| source.path.starts_with(prefix))) {
        for (number, code) in code_lines(source) {
            let named = names.iter().any(|name| code.contains(name));
            assert!(!named, "{}:{number}: a provider kind is named outside its folder", source.path);
        }
    }
}

/// The check of a rule is itself a few lines that can be wrong.
#[test]
fn the_checks_read_code_as_meant() {
    let parent = source("broker/src/a/mod.rs", "#[cfg(test)]\nmod tests;\nmod b;\n");
    assert!(parent.declared().contains(&("broker/src/a/tests.rs".into(), true)));
    assert!(parent.declared().contains(&("broker/src/a/b.rs".into(), false)));
    let text = "//! A file of tests.\nfn a() {\n}\n\n#[cfg(test)]\n#[expect(clippy::unwrap_used, reason = \"x\")]\nmod tests {\n    x.unwrap();\n}\n";
    assert!(!source("a.rs", text).production().contains("unwrap()"));
    assert_eq!(
        functions("    pub(crate) async fn f<T>(\n        x: T,\n    ) {\n        y();\n    }\n"),
        [("f".into(), 5)]
    );
    assert_eq!(functions("fn one() {}\nfn two();\n"), []);
    assert!(has_word("use tokio::fs;", "tokio") && !has_word("let tokiox = 1;", "tokio"));
    let named = named_modules(&source(
        "a.rs",
        "use crate::{lease::Journal, clock};\nlet x = crate::policy::decide();\n",
    ));
    assert_eq!(named.into_iter().collect::<Vec<_>>(), ["clock", "lease", "policy"]);
}

/// A file of tests that the program does not name is compiled by nobody, and runs nowhere.
#[test]
fn every_file_of_tests_is_run() {
    let main = fs::read_to_string(repository().join("tests/tests/main.rs")).unwrap();
    let named: BTreeSet<_> =
        main.lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';')).collect();
    let files = fs::read_dir(repository().join("tests/tests")).unwrap().map(|entry| entry.unwrap().path());
    let there: BTreeSet<_> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|name| name != "main")
        .collect();
    assert_eq!(named, there.iter().map(String::as_str).collect());
}

/// The tests end with the program's own words: an ignored test must say why.
#[test]
fn no_test_is_switched_off() {
    let word = concat!("#[", "ignore");
    rule(&source("broker/src/x.rs", &format!("{word}]\nfn x() {{}}\n")), |source, breaches| {
        if source.text.lines().any(|line| line.trim_start().starts_with(word)) {
            breaches.push(format!("{}: a test is switched off", source.path));
        }
    });
}

#[test]
fn shared_files_name_no_registry_and_no_machine() {
    let root = repository();
    let locks = ["tests/parts/npm/package-lock.json", "tests/parts/npm-oidc/package-lock.json"];
    let mut paths: Vec<PathBuf> =
        locks.into_iter().chain(["tests/run", ".ci/run", "Cargo.lock"]).map(|p| root.join(p)).collect();
    paths.extend(fs::read_dir(root.join("tests/parts/python")).unwrap().flatten().map(|entry| entry.path()));
    for path in paths {
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for word in ["\"resolved\"", "--index-url", "--extra-index-url", "find-links"] {
            assert!(!text.contains(word), "{}: `{word}` binds it to one machine's registry", path.display());
        }
    }
}
