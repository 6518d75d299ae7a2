//! What makes a node's clock wrong and its disk slow: a library that is preloaded, compiled here from `shim.c`.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::shell::run;

const SOURCE: &str = include_str!("shim.c");
/// Two numbers of eight bytes.
const ORDERS_BYTES: usize = 16;

/// The compiled library.
#[derive(Debug)]
pub struct Shim {
    library: PathBuf,
}

impl Shim {
    /// Compiles it into `folder`.
    ///
    /// # Errors
    /// Without a C compiler.
    pub fn compile(folder: &Path) -> anyhow::Result<Self> {
        let (source, library) = (folder.join("shim.c"), folder.join("shim.so"));
        fs::write(&source, SOURCE)?;
        let arguments = ["-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o"].map(PathBuf::from);
        let files = [library.clone(), source, PathBuf::from("-ldl")];
        run("cc", &arguments.into_iter().chain(files).collect::<Vec<_>>())?;
        Ok(Self { library })
    }

    /// What a node is started with to obey the orders in `file`.
    #[must_use]
    pub fn environment(&self, file: &Path) -> [(&'static str, PathBuf); 2] {
        [("LD_PRELOAD", self.library.clone()), ("FAULTS_ORDERS", file.to_owned())]
    }
}

/// What one node's clock and disk are told, as it is at this moment.
#[derive(Debug)]
pub struct Orders {
    file: fs::File,
}

impl Orders {
    /// A right clock and a fast disk.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub fn create(path: &Path) -> std::io::Result<Self> {
        fs::write(path, [0; ORDERS_BYTES])?;
        Ok(Self { file: fs::File::options().write(true).open(path)? })
    }

    /// From now on the clock is off by so many seconds.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn shift_clock(&self, seconds: i64) -> std::io::Result<()> {
        self.file.write_all_at(&seconds.saturating_mul(1_000_000_000).to_ne_bytes(), 0)
    }

    /// From now on the disk takes so much longer for each write that is waited for.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn slow_disk(&self, by: Duration) -> std::io::Result<()> {
        let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        self.file.write_all_at(&micros.to_ne_bytes(), 8)
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn seconds(shim: &Shim, orders: &Path) -> i64 {
        let mut date = Command::new("date");
        let output = date.arg("+%s").envs(shim.environment(orders)).output().expect("date runs");
        String::from_utf8_lossy(&output.stdout).trim().parse().expect("date prints seconds")
    }

    #[test]
    fn a_preloaded_program_sees_the_clock_it_is_told() {
        let folder = std::env::temp_dir().join(format!("faults-shim-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let shim = Shim::compile(&folder).expect("cc compiles");
        let path = folder.join("orders");
        let orders = Orders::create(&path).expect("orders");
        let before = seconds(&shim, &path);
        for shift in [86_400, -86_400] {
            orders.shift_clock(shift).expect("written");
            let shifted = seconds(&shim, &path) - before;
            assert!((shift..shift + 3600).contains(&shifted), "{shifted} instead of {shift}");
        }
        fs::remove_dir_all(&folder).expect("removed");
    }
}
