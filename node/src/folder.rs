//! Where several nodes in one process keep their files.

use std::path::{Path, PathBuf};

/// A folder of the user's, or a private one that is removed at the end.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    temporary: bool,
}

impl Folder {
    /// `wanted`, which must be empty or not exist, or a new one in the system's temporary folder, named after `purpose`.
    ///
    /// # Errors
    /// If it is in use, or cannot be made private.
    pub fn new(purpose: &str, wanted: Option<&Path>) -> anyhow::Result<Self> {
        let temporary = wanted.is_none();
        let path = match wanted {
            Some(path) => path.to_owned(),
            None => std::env::temp_dir().join(format!("commonwatt-{purpose}-{}", std::process::id())),
        };
        if std::fs::read_dir(&path).is_ok_and(|mut files| files.next().is_some()) {
            anyhow::bail!("{} is not empty; name a new folder", path.display());
        }
        crate::identity::make_private_dir(&path)?;
        Ok(Self { path, temporary })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.temporary {
            // A leftover in the system's temporary folder is no reason to fail at the end.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
