//! The rules that the compiler does not check: who imports whom, who may name which library, where time and
//! unsafe code live, how long a file is, and that the libraries are newer than their advisories.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Modules in reading order: each imports only those before it.
const LAYERS: [&str; 16] = [
    "limits", "time", "config", "wire", "live", "health", "fleet", "store", "identity", "ingest", "control",
    "export", "http", "server", "sensor", "cli",
];

/// The other end imports nothing of the server.
const SENSOR_MAY: [&str; 6] = ["limits", "time", "config", "wire", "identity", "sensor"];

/// Libraries and the one module that may name each.
const OWNERS: [(&str, &str); 19] = [
    ("quinn_proto", "ingest"),
    ("quinn_udp", "ingest"),
    ("mio", "ingest"),
    ("quinn", "sensor"),
    ("prometheus", "export"),
    ("axum", "http"),
    ("form_urlencoded", "http"),
    ("hyper", "http"),
    ("hyper_util", "http"),
    ("argon2", "http"),
    ("openidconnect", "http"),
    ("tokio_rustls", "http"),
    ("utoipa", "http"),
    ("tower", "http"),
    ("csv", "http"),
    ("redb", "store"),
    ("clap", "cli"),
    ("rcgen", "identity"),
    ("webpki", "identity"),
];

/// Plain synchronous Rust: no runtime, no file, no socket.
const PURE: [&str; 5] = ["limits", "wire", "live", "health", "fleet"];
const IMPURE: [&str; 8] =
    ["tokio::", "std::fs", "std::net", "std::thread", "quinn", "mio::", "Instant::now", "SystemTime::now"];

/// Files that may hold unsafe code, each with its proof.
const UNSAFE: [&str; 3] =
    ["src/ingest/sendmmsg.rs", "src/ingest/sockopt.rs", "src/sensor/agent/kernel_clock.rs"];

const FILE_LINES_MAX: usize = 600;
/// rustfmt keeps code to 110; what is longer is a text that it does not break.
const LINE_CHARS_MAX: usize = 200;

fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if path.file_name().is_some_and(|name| name != "target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                files.push((path, text));
            }
        }
    }
    assert!(!files.is_empty(), "{folder} has sources");
    files.sort();
    files
}

fn shown(path: &Path) -> String {
    path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().display().to_string()
}

/// `limits` for src/limits.rs, `live` for src/live/slot.rs.
fn module(path: &Path) -> String {
    let inside = shown(path);
    let first = inside.trim_start_matches("src/").split('/').next().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// The code of a file: without comments and without what its unit tests may do.
fn code(text: &str) -> String {
    let production = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let lines = production.lines().map(|line| if line.trim_start().starts_with("//") { "" } else { line });
    lines.collect::<Vec<_>>().join("\n")
}

/// The modules named after `crate::`: one, or those on the outer level of a group in braces.
fn names_after(text: &str) -> Vec<String> {
    let name = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let Some(group) = text.strip_prefix('{') else { return vec![name(text)] };
    let (mut names, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                names.push(name(&group[start..at]));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.push(name(&group[start..at]));
                start = at + 1;
            }
            _ => {}
        }
    }
    names
}

#[test]
fn groups_of_imports_are_seen_through() {
    assert_eq!(names_after("limits::A;"), ["limits"]);
    assert_eq!(names_after("{limits, live::{Slot, Words}, wire::id};"), ["limits", "live", "wire"]);
}

fn is_test_file(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    name == "tests.rs" || name.ends_with("_tests.rs") || shown(path).contains("/tests/")
}

#[test]
fn a_module_imports_only_those_before_it() {
    let place: BTreeMap<&str, usize> =
        LAYERS.iter().enumerate().map(|(place, name)| (*name, place)).collect();
    let mut wrong = Vec::new();
    for (path, text) in sources("src") {
        let own = module(&path);
        if own == "lib" || own == "main" || is_test_file(&path) {
            continue;
        }
        let own_place = *place.get(own.as_str()).unwrap_or_else(|| panic!("{own} is not a layer"));
        let code = code(&text);
        for (at, _) in code.match_indices("crate::") {
            for name in names_after(&code[at + "crate::".len()..]) {
                let Some(&used) = place.get(name.as_str()) else { continue };
                let allowed =
                    if own == "sensor" { SENSOR_MAY.contains(&name.as_str()) } else { used <= own_place };
                if !allowed {
                    let number = code[..at].lines().count();
                    wrong.push(format!("{}:{number}: {own} imports {name}", shown(&path)));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_library_is_named_only_by_its_module() {
    let mut wrong = Vec::new();
    for (path, text) in sources("src") {
        if is_test_file(&path) {
            continue;
        }
        let (own, code) = (module(&path), code(&text));
        for (library, owner) in OWNERS {
            let named = code.lines().enumerate().find(|(_, line)| {
                line.match_indices(&format!("{library}::")).any(|(at, _)| {
                    !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':')
                })
            });
            if let Some((number, _)) = named
                && own != owner
            {
                wrong.push(format!("{}:{}: {library} belongs to {owner}", shown(&path), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_core_is_pure() {
    let mut wrong = Vec::new();
    for (path, text) in sources("src") {
        if !PURE.contains(&module(&path).as_str()) || is_test_file(&path) {
            continue;
        }
        for word in IMPURE {
            if code(&text).contains(word) {
                wrong.push(format!("{}: {word}", shown(&path)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_is_where_it_is_proven() {
    for (path, text) in sources("src") {
        let has =
            code(&text).lines().any(|line| line.contains("unsafe ") || line.contains("expect(unsafe_code"));
        assert!(!has || UNSAFE.contains(&shown(&path).as_str()), "{} has unsafe code", shown(&path));
        if has {
            assert!(text.contains("// SAFETY:"), "{} proves nothing", shown(&path));
        }
    }
}

#[test]
fn files_and_lines_stay_readable() {
    let mut wrong = Vec::new();
    for (path, text) in sources("src").into_iter().chain(sources("tests")).chain(sources("fuzz")) {
        let lines = text.lines().count();
        if lines > FILE_LINES_MAX {
            wrong.push(format!("{}: {lines} lines", shown(&path)));
        }
        for (number, line) in text.lines().enumerate() {
            if line.chars().count() > LINE_CHARS_MAX {
                wrong.push(format!("{}:{}: a long line", shown(&path), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nothing_unfinished_is_left() {
    let banned = ["todo!(", "unimplemented!(", "dbg!(", "#[ignore", "FIXME", "TODO", "XXX"];
    let unbounded = ["unbounded_channel(", "unbounded(", "LinkedList<"];
    for (path, text) in sources("src").into_iter().chain(sources("tests")).chain(sources("fuzz")) {
        if path.ends_with("tests/tidy.rs") {
            continue;
        }
        for word in banned {
            assert!(!text.contains(word), "{} has {word}", shown(&path));
        }
        for word in unbounded {
            assert!(!code(&text).contains(word), "{} has {word}..., which has no bound", shown(&path));
        }
    }
}

/// Tracked text says nothing of the machine that it was written on.
#[test]
fn no_file_names_a_machine() {
    let places = ["/wo", "/ro", "/ho", "/Us"].into_iter().zip(["rk/", "ot/", "me/", "ers/"]);
    let banned: Vec<String> = places.map(|(first, rest)| format!("{first}{rest}")).collect();
    let listed =
        std::process::Command::new("git").arg("ls-files").current_dir(env!("CARGO_MANIFEST_DIR")).output();
    // A source archive without git has nothing tracked.
    let Ok(listed) = listed else { return };
    for name in String::from_utf8_lossy(&listed.stdout).lines() {
        let Ok(text) = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)) else { continue };
        for place in &banned {
            for (at, _) in text.match_indices(place.as_str()) {
                let before = text[..at].chars().next_back();
                let inside_a_longer_path = before.is_some_and(|c| c.is_alphanumeric() || "./_-}".contains(c));
                assert!(inside_a_longer_path, "{name} names {place}");
            }
        }
    }
}

#[test]
fn the_top_level_is_what_it_should_be() {
    let allowed = [
        "Cargo.toml",
        "Cargo.lock",
        "rust-toolchain.toml",
        "README.md",
        "src",
        "benches",
        "fuzz",
        "tests",
        "dashboards",
        "target",
    ];
    for entry in fs::read_dir(env!("CARGO_MANIFEST_DIR")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name.starts_with('.') || allowed.contains(&name.as_str()), "{name} does not belong on top");
    }
}

/// Least versions without a known advisory (RustSec), and libraries that must not come in at all.
#[test]
fn libraries_are_newer_than_their_advisories() {
    let least = [
        ("rkyv", (0, 8, 17)),
        ("quinn-proto", (0, 11, 15)),
        ("crossbeam-channel", (0, 5, 15)),
        ("crossbeam-epoch", (0, 9, 20)),
        ("bytes", (1, 11, 1)),
        ("ring", (0, 17, 12)),
        ("aws-lc-sys", (0, 39, 0)),
        ("rustls-webpki", (0, 103, 13)),
        ("dashmap", (5, 1, 0)),
        ("tokio", (1, 44, 2)),
        ("slab", (0, 4, 11)),
        ("rustls", (0, 23, 18)),
        ("tracing-subscriber", (0, 3, 20)),
        ("time", (0, 3, 47)),
        ("rand", (0, 10, 1)),
        ("zerocopy", (0, 7, 31)),
    ];
    for lock in ["Cargo.lock", "fuzz/Cargo.lock"] {
        check_lock(lock, &least);
    }
}

/// Older lines of a library that got the fix too: from, and the first version that is another line.
type Version = (u64, u64, u64);
const MENDED_LATER: [(&str, Version, Version); 1] = [("rand", (0, 8, 6), (0, 9, 0))];

fn check_lock(name: &str, least: &[(&str, (u64, u64, u64))]) {
    let lock = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap();
    let mut packages = Vec::new();
    for package in lock.split("[[package]]").skip(1) {
        let field = |name: &str| {
            let line = package.lines().find(|line| line.starts_with(&format!("{name} = \"")))?;
            Some(line.split('"').nth(1)?.to_owned())
        };
        packages.push((field("name").unwrap(), field("version").unwrap()));
    }
    assert!(packages.len() > 50, "the lock file was read");
    for (name, version) in packages {
        assert!(name != "protobuf" && name != "openssl-sys", "{name} must not come in");
        let numbers: Vec<u64> =
            version.split(['.', '-', '+']).take(3).map(|part| part.parse().unwrap_or(0)).collect();
        for &(library, bound) in least {
            if name == library {
                let number = (numbers[0], numbers[1], numbers[2]);
                let patched = MENDED_LATER
                    .iter()
                    .any(|&(library, from, to)| name == library && (from..to).contains(&number));
                assert!(number >= bound || patched, "{name} {version} has an advisory");
            }
        }
    }
}
