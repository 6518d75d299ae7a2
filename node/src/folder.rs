//! Where several nodes in one process keep their files.

use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

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
        let Some(path) = wanted.map(Path::to_owned) else { return Self::temporary(purpose) };
        if std::fs::read_dir(&path).is_ok_and(|mut files| files.next().is_some()) {
            anyhow::bail!("{} is not empty; name a new folder", path.display());
        }
        crate::identity::make_private_dir(&path)?;
        Ok(Self { path, temporary: false })
    }

    /// A folder that nobody had before: keys must not end up where somebody else can read, and what a killed process
    /// of the same number left behind is no reason to fail.
    fn temporary(purpose: &str) -> anyhow::Result<Self> {
        let process = std::process::id();
        for attempt in 0..1000 {
            let path = std::env::temp_dir().join(format!("commonwatt-{purpose}-{process}-{attempt}"));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self { path, temporary: true }),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("cannot create the folder {}", path.display()));
                }
            }
        }
        anyhow::bail!(
            "{} is full of leftovers; remove commonwatt-{purpose}-*",
            std::env::temp_dir().display()
        )
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_folder_is_new_private_and_gone_at_the_end() {
        use std::os::unix::fs::PermissionsExt;
        let (first, second) = (Folder::new("test", None).unwrap(), Folder::new("test", None).unwrap());
        assert_ne!(first.path(), second.path(), "what is there already is not used");
        let mode = std::fs::metadata(first.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        std::fs::write(first.path().join("key"), "secret").unwrap();
        let path = first.path().to_owned();
        drop(first);
        assert!(!path.exists());
    }

    #[test]
    fn a_folder_with_something_in_it_is_refused_and_kept() {
        let kept = tempfile::tempdir().unwrap();
        drop(Folder::new("test", Some(kept.path())).unwrap());
        assert!(kept.path().exists(), "a named folder stays");
        std::fs::write(kept.path().join("seed.key"), "mine").unwrap();
        let refused = Folder::new("test", Some(kept.path())).unwrap_err().to_string();
        assert!(refused.contains("is not empty"), "{refused}");
    }
}
