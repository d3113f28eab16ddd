//! A file system of its own, a few megabytes, so that it can be full.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;

/// Mounted in a temporary folder; unmounted when dropped.
pub struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// Mounts one of this size, such as `24m`.
    pub fn mount(size: &str) -> SmallDisk {
        let folder = tempfile::tempdir().expect("a folder");
        let options = format!("size={size},mode=700");
        let arguments = ["-t", "tmpfs", "-o", &options, "tmpfs"];
        let mounted = Command::new("mount").args(arguments).arg(folder.path()).output();
        let mounted = mounted.is_ok_and(|output| output.status.success());
        assert!(mounted, "grant mounting a tmpfs (root; in a container: --privileged)");
        SmallDisk(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).output();
    }
}

/// Takes all room there is.
pub fn fill(path: &Path) -> io::Result<()> {
    let mut file = File::options().create(true).append(true).open(path)?;
    for size in [1 << 20, 4_096, 1] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
    Ok(())
}
