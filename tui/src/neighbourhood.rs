//! Which nodes are shown, and the tokens that open them.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use api::Client;
use serde::{Deserialize, Serialize};

use crate::{Args, TuiError};

/// The most nodes one console shows.
const NODES_MAX: usize = 1_000;

/// The longest file that is read: a thousand nodes with long names.
const FILE_MAX: u64 = 1 << 20;

/// One node in a neighbourhood file.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Neighbour {
    /// The home it serves.
    pub home: String,
    /// Address of its API.
    pub url: String,
    /// The token that opens it.
    pub token: String,
}

impl fmt::Debug for Neighbour {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Neighbour").field("home", &self.home).field("url", &self.url).finish_non_exhaustive()
    }
}

/// Writes a neighbourhood file that only its owner can read, replacing an earlier one.
///
/// # Errors
/// [`io::Error`] if it cannot be written.
pub fn write_neighbourhood(path: &Path, neighbours: &[Neighbour]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let fresh = path.with_extension("new");
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = options.open(&fresh)?;
    file.write_all(&serde_json::to_vec_pretty(neighbours)?)?;
    std::fs::rename(&fresh, path)
}

/// A node to ask.
#[derive(Debug, Clone)]
pub struct Target {
    /// What it is called until it says its home itself.
    pub label: String,
    /// How to ask it.
    pub client: Client,
}

/// The nodes that `args` name.
pub fn targets(args: &Args) -> Result<Vec<Target>, TuiError> {
    if args.connect.len() != args.token_file.len() {
        let (nodes, tokens) = (args.connect.len(), args.token_file.len());
        return Err(TuiError::Usage(format!("{nodes} --connect need as many --token-file, not {tokens}")));
    }
    let mut neighbours = Vec::new();
    for (url, path) in args.connect.iter().zip(&args.token_file) {
        neighbours.push(Neighbour { home: url.clone(), url: url.clone(), token: secret(path)? });
    }
    if let Some(path) = &args.neighbourhood {
        let listed: Vec<Neighbour> =
            serde_json::from_str(&secret(path)?).map_err(|error| unusable(path, error.to_string()))?;
        neighbours.extend(listed);
    }
    match neighbours.len() {
        0 => Err(TuiError::Usage(
            "name a node with --connect and --token-file, or give --neighbourhood".to_owned(),
        )),
        1..=NODES_MAX => neighbours.iter().map(target).collect(),
        many => Err(TuiError::Usage(format!("{many} nodes are more than the {NODES_MAX} one console shows"))),
    }
}

fn target(neighbour: &Neighbour) -> Result<Target, TuiError> {
    let client =
        Client::new(&neighbour.url, &neighbour.token).map_err(|error| TuiError::Usage(error.to_string()))?;
    let label = neighbour.home.trim_start_matches("http://").to_owned();
    Ok(Target { label, client })
}

/// The content of a file that nobody but its owner may read.
fn secret(path: &Path) -> Result<String, TuiError> {
    let file = File::open(path).map_err(|error| unusable(path, error.to_string()))?;
    check_private(path, &file)?;
    let mut text = String::new();
    file.take(FILE_MAX + 1).read_to_string(&mut text).map_err(|error| unusable(path, error.to_string()))?;
    if text.len() as u64 > FILE_MAX {
        return Err(unusable(path, format!("longer than {FILE_MAX} bytes; is it the right file?")));
    }
    Ok(text)
}

#[cfg(unix)]
fn check_private(path: &Path, file: &File) -> Result<(), TuiError> {
    use std::os::unix::fs::PermissionsExt;
    let mode = file.metadata().map_err(|error| unusable(path, error.to_string()))?.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(unusable(path, "holds a token and can be read by others; run `chmod 600` on it"))
}

#[cfg(not(unix))]
fn check_private(_: &Path, _: &File) -> Result<(), TuiError> {
    Ok(())
}

fn unusable(path: &Path, reason: impl Into<String>) -> TuiError {
    TuiError::File { path: path.display().to_string(), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Size;

    fn args(neighbourhood: &Path) -> Args {
        let size = Size { columns: 80, rows: 24 };
        let neighbourhood = Some(neighbourhood.to_owned());
        Args { connect: Vec::new(), token_file: Vec::new(), neighbourhood, market: false, once: true, size }
    }

    #[test]
    fn a_written_neighbourhood_is_private_and_can_be_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("neighbourhood.json");
        let neighbour =
            Neighbour { home: "h001".into(), url: "http://127.0.0.1:8480".into(), token: "secret".into() };
        assert!(!format!("{neighbour:?}").contains("secret"));
        for _ in 0..2 {
            write_neighbourhood(&path, std::slice::from_ref(&neighbour)).unwrap();
        }
        let targets = targets(&args(&path)).unwrap();
        assert_eq!((targets[0].label.as_str(), targets[0].client.base()), ("h001", "http://127.0.0.1:8480"));
    }

    #[cfg(unix)]
    #[test]
    fn a_token_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n.json");
        write_neighbourhood(&path, &[]).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = targets(&args(&path)).unwrap_err();
        assert!(error.to_string().contains("chmod 600"), "{error}");
        assert_eq!(error.exit_code(), 78);
    }

    #[test]
    fn what_is_missing_or_wrong_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n.json");
        assert_eq!(targets(&args(&path)).unwrap_err().exit_code(), 78, "no such file");
        write_neighbourhood(&path, &[]).unwrap();
        assert_eq!(targets(&args(&path)).unwrap_err().exit_code(), 2, "no node");
        let mut unpaired = args(&path);
        unpaired.connect.push("http://127.0.0.1:1".into());
        let error = targets(&unpaired).unwrap_err();
        assert_eq!(error.to_string(), "1 --connect need as many --token-file, not 0");
    }
}
