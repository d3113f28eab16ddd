//! What is fuzzed, as plain functions from bytes to "nothing broke": the fuzzer calls them with its inputs,
//! the tests here with the committed corpora, on any toolchain.
//!
//! Each `run` panics when an invariant does not hold; none may panic for any other reason.

pub mod config;
pub mod control_message;
pub mod datagram;
pub mod engine_operations;
pub mod gateway_stream;
pub mod seeds;
pub mod signed_file;
mod world;

/// Every target: name and body.
pub const TARGETS: [(&str, fn(&[u8])); 6] = [
    ("datagram", datagram::run),
    ("gateway_stream", gateway_stream::run),
    ("control_message", control_message::run),
    ("config", config::run),
    ("engine_operations", engine_operations::run),
    ("signed_file", signed_file::run),
];

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    fn corpus(target: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
    }

    fn replay(target: &str) {
        let (_, run) = TARGETS.iter().find(|(name, _)| *name == target).expect("a target");
        let mut files: Vec<PathBuf> =
            fs::read_dir(corpus(target)).expect("a corpus").map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert!(files.len() >= seeds::of(target).len(), "the corpus of {target} is incomplete");
        for file in files {
            // Shown by the test harness when the body panics.
            println!("{}", file.display());
            run(&fs::read(&file).unwrap());
        }
    }

    #[test]
    fn datagram_corpus() {
        replay("datagram");
    }

    #[test]
    fn gateway_stream_corpus() {
        replay("gateway_stream");
    }

    #[test]
    fn control_message_corpus() {
        replay("control_message");
    }

    #[test]
    fn config_corpus() {
        replay("config");
    }

    #[test]
    fn engine_operations_corpus() {
        replay("engine_operations");
    }

    #[test]
    fn signed_file_corpus() {
        replay("signed_file");
    }

    /// The seeds are written by `cargo run --example seeds`; here they are as committed.
    #[test]
    fn seeds_are_in_the_corpora() {
        for (target, _) in TARGETS {
            for (name, bytes) in seeds::of(target) {
                let path = corpus(target).join(&name);
                assert_eq!(fs::read(&path).ok(), Some(bytes), "{}: run the example `seeds`", path.display());
            }
        }
    }

    /// The protocol's own vectors are inputs too, alone and on a stream.
    #[test]
    fn vectors_of_every_schema() {
        let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors");
        let mut read = 0;
        for version in fs::read_dir(vectors).expect("vectors") {
            for file in fs::read_dir(version.unwrap().path()).unwrap() {
                let path = file.unwrap().path();
                if path.extension().is_some_and(|extension| extension == "bin") {
                    let bytes = fs::read(&path).unwrap();
                    datagram::run(&bytes);
                    gateway_stream::run(&gateway_stream::input(&[1, 7, 100], &bytes));
                    read += 1;
                }
            }
        }
        assert!(read >= 5, "{read} vectors");
    }
}
