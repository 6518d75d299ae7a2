//! Files that commands read and write.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use serde::de::DeserializeOwned;

use super::CommandError;

/// Reads all of the file at `path`, or of standard input for `-`, up to `bytes_max`.
///
/// # Errors
/// If it cannot be read, is longer or is not UTF-8.
pub(super) fn read_text(path: &Path, bytes_max: u64) -> Result<String, CommandError> {
    let name = path.display();
    let source: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(
            File::open(path).map_err(|error| CommandError::failed(format!("cannot open {name}: {error}")))?,
        )
    };
    let mut bytes = Vec::new();
    let read = source.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|error| CommandError::failed(format!("cannot read {name}: {error}")))?;
    if bytes.len() as u64 > bytes_max {
        return Err(CommandError::failed(format!("{name} is longer than the limit of {bytes_max} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| CommandError::failed(format!("{name} is not UTF-8 text")))
}

/// Reads a JSON file; `what` is what it should be.
///
/// # Errors
/// Naming the file and, where it is not what it should be, line and column.
pub(super) fn read_json<T: DeserializeOwned>(
    path: &Path,
    bytes_max: u64,
    what: &str,
) -> Result<T, CommandError> {
    parse_json(&path.display().to_string(), &read_text(path, bytes_max)?, what)
}

/// Reads JSON that is already in memory; `name` is what errors call it.
///
/// # Errors
/// Where it is not `what` it should be, with line and column.
pub(super) fn parse_json<T: DeserializeOwned>(name: &str, text: &str, what: &str) -> Result<T, CommandError> {
    serde_json::from_str(text).map_err(|error| {
        CommandError::config(format!("{name}:{}:{} is not {what}: {error}", error.line(), error.column()))
    })
}

/// Writes a file that is replaced whole or not at all.
///
/// # Errors
/// If the disk refuses.
pub(super) fn replace(path: &Path, text: &str) -> Result<(), CommandError> {
    let refused =
        |error: io::Error| CommandError::failed(format!("cannot write {}: {error}", path.display()));
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let mut file = File::create(&temporary).map_err(refused)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(refused)?;
    fs::rename(&temporary, path).map_err(refused)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(refused)
}

/// Writes a new file; an existing one is left and refused.
///
/// # Errors
/// If it exists or the disk refuses.
pub(super) fn create(path: &Path, text: &str) -> Result<(), CommandError> {
    let refused =
        |error: io::Error| CommandError::failed(format!("cannot create {}: {error}", path.display()));
    // Claims the name first, so that two runs cannot both believe they made it.
    OpenOptions::new().write(true).create_new(true).open(path).map_err(refused)?;
    replace(path, text)
}
