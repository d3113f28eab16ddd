//! Writes the seeds made by hand into the corpora.

use std::fs;
use std::path::Path;

fn main() {
    for (target, _) in fleetpulse_fuzz::TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
        fs::create_dir_all(&folder).expect("the corpus folder can be made");
        for (name, bytes) in fleetpulse_fuzz::seeds::of(target) {
            fs::write(folder.join(name), bytes).expect("a seed can be written");
        }
    }
}
