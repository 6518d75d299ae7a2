//! Every profile there is to choose from: the built-in ones and those of a user's folder.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::profile::{PROFILE_BYTES_MAX, Profile, ProfileError, nearest};

/// Files read from a folder: more is a mistake in the path.
const FILES_MAX: usize = 256;

/// Profiles by name: built in first, then the user's by name.
#[derive(Debug, Clone)]
pub struct Catalog {
    profiles: Vec<Arc<Profile>>,
}

impl Default for Catalog {
    fn default() -> Self {
        Self::builtin()
    }
}

impl Catalog {
    /// The profiles that come with the program.
    #[must_use]
    pub fn builtin() -> Self {
        Self { profiles: Profile::builtin().to_vec() }
    }

    /// The built-in profiles and every `*.toml` of `folder` (not of folders inside it), at most 256 files of 64 KiB.
    ///
    /// # Errors
    /// [`CatalogError`] if the folder cannot be read, or with every file that cannot be used and why. A user's profile
    /// may not take the name of a built-in one or of another file: which of two is meant must never be a guess.
    pub fn with_folder(folder: &Path) -> Result<Self, CatalogError> {
        let mut catalog = Self::builtin();
        let mut faults = Vec::new();
        let mut files: Vec<(String, PathBuf)> = Vec::new();
        for path in toml_files(folder)? {
            match read(&path) {
                Ok(profile) => match catalog.origin_of(profile.name(), &files) {
                    None => {
                        files.push((profile.name().to_owned(), path));
                        catalog.profiles.push(Arc::new(profile));
                    }
                    Some(taken_by) => {
                        let cause = CatalogCause::Taken { name: profile.name().to_owned(), taken_by };
                        faults.push(CatalogFault { path, cause });
                    }
                },
                Err(cause) => faults.push(CatalogFault { path, cause }),
            }
        }
        let built_in = Profile::builtin().len();
        catalog.profiles[built_in..].sort_by(|a, b| a.name().cmp(b.name()));
        if faults.is_empty() { Ok(catalog) } else { Err(CatalogError::Files(faults)) }
    }

    /// The profile of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<Profile>> {
        self.profiles.iter().find(|profile| profile.name() == name).cloned()
    }

    /// All profiles.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Profile>> {
        self.profiles.iter()
    }

    /// The name that `name` was probably meant to be.
    #[must_use]
    pub fn nearest(&self, name: &str) -> Option<&str> {
        nearest(name, self.profiles.iter().map(|profile| profile.name()))
    }

    /// Who has the name already.
    fn origin_of(&self, name: &str, files: &[(String, PathBuf)]) -> Option<String> {
        let file = files.iter().find(|(taken, _)| taken == name).map(|(_, path)| path.display().to_string());
        file.or_else(|| self.get(name).map(|_| "the program itself".to_owned()))
    }
}

/// The `*.toml` of `folder`, by name.
fn toml_files(folder: &Path) -> Result<Vec<PathBuf>, CatalogError> {
    let unreadable = |cause| CatalogError::Folder { path: folder.to_owned(), cause };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
        if files.len() > FILES_MAX {
            return Err(CatalogError::TooMany { path: folder.to_owned() });
        }
    }
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> Result<Profile, CatalogCause> {
    // Opening a pipe would wait for its other end.
    if !std::fs::metadata(path).map_err(CatalogCause::Unreadable)?.is_file() {
        return Err(CatalogCause::NoFile);
    }
    let file = std::fs::File::open(path).map_err(CatalogCause::Unreadable)?;
    let mut bytes = Vec::new();
    let limit = u64::try_from(PROFILE_BYTES_MAX).unwrap_or(u64::MAX);
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(CatalogCause::Unreadable)?;
    if bytes.len() > PROFILE_BYTES_MAX {
        return Err(CatalogCause::TooLong);
    }
    let text = String::from_utf8(bytes)
        .map_err(|error| CatalogCause::NoText { at: error.utf8_error().valid_up_to() })?;
    Profile::parse(&text).map_err(|error| CatalogCause::Profile { text, error })
}

/// A folder of profiles cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The folder cannot be listed.
    #[error("cannot read the folder of profiles {path}: {cause}; check the path and its permissions")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
    /// More profiles than anybody writes.
    #[error("the folder {path} has more than {FILES_MAX} profiles; check that it is the right folder")]
    TooMany {
        /// The folder.
        path: PathBuf,
    },
    /// Files in it cannot be used.
    #[error("{}", listed(.0))]
    Files(Vec<CatalogFault>),
}

/// One file that cannot be used.
#[derive(Debug)]
pub struct CatalogFault {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub cause: CatalogCause,
}

impl fmt::Display for CatalogFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.cause)
    }
}

/// Why a file is not a profile of the catalog.
#[derive(Debug, thiserror::Error)]
pub enum CatalogCause {
    /// The system does not give it.
    #[error("cannot be read: {0}; check its permissions")]
    Unreadable(#[source] std::io::Error),
    /// A folder, a pipe or a device.
    #[error("is not a file")]
    NoFile,
    /// Longer than any real profile.
    #[error("is longer than {PROFILE_BYTES_MAX} bytes, so it is no profile")]
    TooLong,
    /// Not UTF-8.
    #[error("is not UTF-8 text: byte {at} is wrong")]
    NoText {
        /// Position of the first wrong byte.
        at: usize,
    },
    /// The profile has faults.
    #[error("{error}")]
    Profile {
        /// The file's text, for showing the faults in it.
        text: String,
        /// All of them.
        #[source]
        error: ProfileError,
    },
    /// Another profile has this name.
    #[error("the name {name:?} is taken by {taken_by}; give this profile another name")]
    Taken {
        /// The name.
        name: String,
        /// The file that has it, or the program.
        taken_by: String,
    },
}

fn listed(faults: &[CatalogFault]) -> String {
    let lines: Vec<String> = faults.iter().map(CatalogFault::to_string).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = include_str!("../profiles/eastron-sdm630.toml");

    /// A folder of its own that ends with the test.
    struct Folder(PathBuf);

    impl Folder {
        fn new(test: &str) -> Self {
            let path = std::env::temp_dir().join(format!("commonwatt-{test}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn write(&self, name: &str, text: impl AsRef<[u8]>) {
            std::fs::write(self.0.join(name), text).unwrap();
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn named(name: &str) -> String {
        OWN.replacen("eastron-sdm630", name, 1)
    }

    #[test]
    fn a_profile_of_the_users_folder_stands_beside_the_built_in_ones() {
        let folder = Folder::new("own");
        folder.write("b.toml", named("my-meter"));
        folder.write("a.toml", named("your-meter"));
        folder.write("notes.txt", "not a profile");
        let catalog = Catalog::with_folder(&folder.0).unwrap();
        assert_eq!(catalog.iter().count(), Profile::builtin().len() + 2);
        assert_eq!(catalog.get("my-meter").unwrap().device(), Profile::builtin()[0].device());
        assert_eq!(catalog.nearest("my-metre"), Some("my-meter"));
        assert_eq!(catalog.iter().last().unwrap().name(), "your-meter");
        assert!(catalog.get("nobody").is_none() && Catalog::builtin().get("my-meter").is_none());
    }

    #[test]
    fn every_unusable_file_is_named_with_its_reason() {
        let folder = Folder::new("faults");
        folder.write("built-in.toml", OWN);
        folder.write("first.toml", named("twice"));
        folder.write("second.toml", named("twice"));
        folder.write("broken.toml", named("broken").replacen("function = 4", "function = 6", 1));
        folder.write("long.toml", " ".repeat(PROFILE_BYTES_MAX + 1));
        folder.write("binary.toml", [0x66, 0xFF]);
        std::fs::create_dir(folder.0.join("folder.toml")).unwrap();
        let CatalogError::Files(faults) = Catalog::with_folder(&folder.0).unwrap_err() else { panic!() };
        let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
        let expected = [
            ("binary.toml", "is not UTF-8 text: byte 1 is wrong"),
            ("broken.toml", "function 6 does not read registers"),
            ("built-in.toml", "the name \"eastron-sdm630\" is taken by the program itself"),
            ("folder.toml", "is not a file"),
            ("long.toml", "is longer than 65536 bytes"),
            ("second.toml", "first.toml; give this profile another name"),
        ];
        assert_eq!(told.len(), expected.len(), "{told:?}");
        for (told, (file, reason)) in told.iter().zip(expected) {
            assert!(told.contains(file) && told.contains(reason), "{told}");
        }
    }

    #[test]
    fn a_folder_that_is_not_there_or_is_the_wrong_one_is_refused() {
        let missing = Catalog::with_folder(Path::new("/nowhere/profiles")).unwrap_err().to_string();
        assert!(missing.contains("/nowhere/profiles") && missing.contains("check the path"), "{missing}");
        let folder = Folder::new("many");
        for number in 0..=FILES_MAX {
            folder.write(&format!("{number}.toml"), "");
        }
        let error = Catalog::with_folder(&folder.0).unwrap_err();
        assert!(matches!(error, CatalogError::TooMany { .. }), "{error}");
    }
}
