//! The keys of one home, made on its device and never leaving it.
//!
//! One 256-bit seed (`seed.key`) from the operating system's randomness; the keys of the member are derived from it by
//! label: SHA-256(`commonwatt/key/<label>/v1` ‖ seed) is the Ed25519 seed of the labels `network`, `member`,
//! `reading` and the secret of `sealing`. So one backup restores a member. The consensus key (`consensus.key`) is random
//! by itself: it belongs to this device and this term, and a restored backup must not vote with it.
//! `api.token` lets programs of the household ask the node's API.
//!
//! Key files hold 64 hexadecimal digits, mode 0600. They appear whole or not at all and are never overwritten.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use energy::HomeId;
use ledger::{Genesis, Hash32, MemberKeys, PublicKey, Salt};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// File of the seed in the data folder.
pub const SEED_FILE: &str = "seed.key";
/// File of the consensus key of this term.
pub const CONSENSUS_FILE: &str = "consensus.key";
/// File of the token for the API.
pub const TOKEN_FILE: &str = "api.token";

type Secret = Zeroizing<[u8; 32]>;

/// Why there are no keys to work with.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file system said no.
    #[error("cannot {action} {}: {cause}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// No such key file.
    #[error("{} is missing; `commonwatt init` makes the keys of a new home, a backup brings back those of an old one", path.display())]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// Others can read the key.
    #[error("{} can be read by others (mode {mode:03o}); run `chmod 600 {}` and consider the key known", path.display(), path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not what a key file holds.
    #[error("{} does not hold a key: expected 64 hexadecimal digits; restore it from a backup", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// A new seed beside old keys would silently be another member.
    #[error("{} is missing but other keys of this home are there; restore it from a backup, or use an empty folder for a new home", path.display())]
    SeedLost {
        /// Where it should be.
        path: PathBuf,
    },
    /// The operating system has no randomness.
    #[error("no randomness from the operating system: {0}")]
    Randomness(getrandom::Error),
}

/// Why this identity cannot act for a home on a chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// The home is not among the members.
    #[error(
        "home {home} is not a member in this genesis; members are {members}; if it was admitted since, say --admitted"
    )]
    NotAMember {
        /// The home.
        home: HomeId,
        /// Those who are, shortened.
        members: String,
    },
    /// A key of this device is not the one the members agreed on.
    #[error(
        "wrong key: the {which} key of home {home} is {here} on this device but {agreed} in the genesis; use the \
         data folder the join card was made in, or have the genesis made again with this card; if the keys were \
         changed on the ledger since, say --admitted"
    )]
    WrongKey {
        /// `member`, `reading`, `network` or `consensus`.
        which: &'static str,
        /// The home.
        home: HomeId,
        /// Public key of this device.
        here: PublicKey,
        /// Public key in the genesis.
        agreed: PublicKey,
    },
}

/// The keys of one home. Wiped from memory when dropped, never printed.
pub struct Identity {
    network: SigningKey,
    member: SigningKey,
    reading: SigningKey,
    sealing: Secret,
    /// Of the founding; destroyed once another term is seated.
    consensus: Option<SigningKey>,
    token: Zeroizing<String>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("keys", &self.keys()).finish_non_exhaustive()
    }
}

impl Identity {
    /// Makes the keys and the token in `dir` that are not there yet, then loads them all.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn create(dir: &Path) -> Result<Self, IdentityError> {
        make_private_dir(dir)?;
        let seed = dir.join(SEED_FILE);
        // The seed is made first, so it is never absent where another key is present.
        if !seed.exists() && [CONSENSUS_FILE, TOKEN_FILE].iter().any(|name| dir.join(name).exists()) {
            return Err(IdentityError::SeedLost { path: seed });
        }
        for name in [SEED_FILE, CONSENSUS_FILE, TOKEN_FILE] {
            create_secret(&dir.join(name))?;
        }
        Self::load(dir)
    }

    /// Loads the keys in `dir`.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn load(dir: &Path) -> Result<Self, IdentityError> {
        let seed = load_secret(&dir.join(SEED_FILE))?;
        let token = load_secret(&dir.join(TOKEN_FILE))?;
        Ok(Self {
            network: SigningKey::from_bytes(&derive(&seed, "network")),
            member: SigningKey::from_bytes(&derive(&seed, "member")),
            reading: SigningKey::from_bytes(&derive(&seed, "reading")),
            sealing: derive(&seed, "sealing"),
            consensus: founding_key(&dir.join(CONSENSUS_FILE))?,
            token: Zeroizing::new(hex::encode(token.as_slice())),
        })
    }

    /// The public keys the ledger knows the member by.
    #[must_use]
    pub fn keys(&self) -> MemberKeys {
        MemberKeys {
            member: PublicKey::of(&self.member),
            reading: PublicKey::of(&self.reading),
            network: PublicKey::of(&self.network),
        }
    }

    /// The public consensus key for the founding; `None` once it is destroyed.
    #[must_use]
    pub fn consensus_public(&self) -> Option<PublicKey> {
        self.consensus.as_ref().map(PublicKey::of)
    }

    /// The node's peer-to-peer identity.
    #[must_use]
    pub const fn network(&self) -> &SigningKey {
        &self.network
    }

    /// Signs what the household decides.
    #[must_use]
    pub const fn member(&self) -> &SigningKey {
        &self.member
    }

    /// Signs readings.
    #[must_use]
    pub const fn reading(&self) -> &SigningKey {
        &self.reading
    }

    /// Signs votes and proposals of the first term; `None` once it is destroyed.
    #[must_use]
    pub const fn consensus(&self) -> Option<&SigningKey> {
        self.consensus.as_ref()
    }

    /// Encrypts what this home keeps sealed at rest.
    #[must_use]
    pub fn sealing(&self) -> &[u8; 32] {
        &self.sealing
    }

    /// The bearer token of the API.
    #[must_use]
    pub fn api_token(&self) -> &str {
        &self.token
    }

    /// Checks that this device holds the keys which the genesis names for `home`.
    ///
    /// # Errors
    /// [`MembershipError`], naming the first key that differs.
    pub fn check_member(&self, genesis: &Genesis, home: &HomeId) -> Result<(), MembershipError> {
        let Some(member) = genesis.members.iter().find(|member| member.admission.home == *home) else {
            return Err(MembershipError::NotAMember { home: home.clone(), members: list_homes(genesis) });
        };
        let (here, agreed) = (self.keys(), member.admission.keys);
        let delegate = genesis.delegates.iter().find(|delegate| delegate.home == *home);
        let agreed_key = delegate.map(|delegate| delegate.key);
        // Once it is destroyed there is nothing to compare.
        let own = self.consensus_public().or(agreed_key);
        let pairs = [
            ("member", here.member, agreed.member),
            ("reading", here.reading, agreed.reading),
            ("network", here.network, agreed.network),
        ];
        let consensus = own.zip(agreed_key).map(|(own, agreed)| ("consensus", own, agreed));
        match pairs.into_iter().chain(consensus).find(|(_, here, agreed)| here != agreed) {
            None => Ok(()),
            Some((which, here, agreed)) => {
                Err(MembershipError::WrongKey { which, home: home.clone(), here, agreed })
            }
        }
    }
}

fn list_homes(genesis: &Genesis) -> String {
    let names = genesis.members.iter().take(20).map(|member| member.admission.home.as_str());
    let rest = if genesis.members.len() > 20 { ", …" } else { "" };
    format!("{}{rest}", names.collect::<Vec<_>>().join(", "))
}

/// 16 fresh random bytes to hide a sealed leaf with.
///
/// # Errors
/// [`IdentityError::Randomness`].
pub fn fresh_salt() -> Result<Salt, IdentityError> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).map_err(IdentityError::Randomness)?;
    Ok(Salt(salt))
}

/// What the API compares a token by: SHA-256 of its text.
#[must_use]
pub fn token_hash(token: &str) -> Hash32 {
    Hash32::of(&[token.as_bytes()])
}

/// Loads the key file at `path`, or makes it if it is absent: roles and the root meter have such files.
///
/// # Errors
/// [`IdentityError`].
pub fn load_or_create_key(path: &Path) -> Result<SigningKey, IdentityError> {
    create_secret(path)?;
    load_key(path)
}

/// Loads the key file at `path`.
///
/// # Errors
/// [`IdentityError`].
pub fn load_key(path: &Path) -> Result<SigningKey, IdentityError> {
    Ok(SigningKey::from_bytes(&*load_secret(path)?))
}

/// Makes `dir` and what is above it, readable by its owner only.
///
/// # Errors
/// [`IdentityError::Io`].
pub fn make_private_dir(dir: &Path) -> Result<(), IdentityError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(io_error("create the folder", dir))
}

/// The consensus key that `init` made, unless it was destroyed after its term.
fn founding_key(path: &Path) -> Result<Option<SigningKey>, IdentityError> {
    match load_key(path) {
        Ok(key) => Ok(Some(key)),
        Err(IdentityError::Missing { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn derive(seed: &Secret, label: &str) -> Secret {
    let mut hasher = Sha256::new();
    hasher.update(b"commonwatt/key/");
    hasher.update(label.as_bytes());
    hasher.update(b"/v1");
    hasher.update(seed.as_slice());
    Zeroizing::new(hasher.finalize().into())
}

fn io_error<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> IdentityError + 'a {
    move |cause| IdentityError::Io { action, path: path.to_owned(), cause }
}

/// A new random secret at `path`; an existing one stays as it is.
fn create_secret(path: &Path) -> Result<(), IdentityError> {
    if path.exists() {
        return Ok(());
    }
    let mut secret = Zeroizing::new([0; 32]);
    getrandom::fill(secret.as_mut_slice()).map_err(IdentityError::Randomness)?;
    let mut text = Zeroizing::new(hex::encode(secret.as_slice()));
    text.push('\n');
    create_private(path, text.as_bytes()).map_err(io_error("create", path))
}

/// A new file of mode 0600 that appears whole or not at all. If another process was faster its file stays.
fn create_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = write_temporary(path, bytes)?;
    // A link, unlike a rename, never replaces what is there.
    let linked = match fs::hard_link(&temporary, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    };
    fs::remove_file(&temporary)?;
    linked?;
    File::open(folder_of(path))?.sync_all()
}

/// Writes a file that only its owner reads (mode 0600); an existing one is replaced whole or not at all.
///
/// # Errors
/// What the file system says.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = write_temporary(path, bytes)?;
    fs::rename(&temporary, path)?;
    File::open(folder_of(path))?.sync_all()
}

/// A synced file of mode 0600 beside `path`, under a name nobody else has.
fn write_temporary(path: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
    let mut suffix = [0; 8];
    getrandom::fill(&mut suffix).map_err(io::Error::other)?;
    let temporary = folder_of(path).join(format!(".{}.tmp", hex::encode(suffix)));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if let Err(error) = written {
        // Half a secret helps nobody; that it cannot be removed either adds nothing to the error.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    Ok(temporary)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn load_secret(path: &Path) -> Result<Secret, IdentityError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(IdentityError::Missing { path: path.to_owned() });
        }
        Err(error) => return Err(io_error("open", path)(error)),
    };
    let metadata = file.metadata().map_err(io_error("examine", path))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(IdentityError::Exposed { path: path.to_owned(), mode });
    }
    // 64 digits and a line end; one more byte to see that something follows.
    let mut text = Zeroizing::new(Vec::with_capacity(67));
    (&file).take(67).read_to_end(&mut text).map_err(io_error("read", path))?;
    let mut secret = Zeroizing::new([0; 32]);
    match hex::decode_to_slice(text.trim_ascii_end(), secret.as_mut_slice()) {
        Ok(()) => Ok(secret),
        Err(_) => Err(IdentityError::Malformed { path: path.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_made_once_stay_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let first = Identity::create(dir.path()).unwrap();
        let again = Identity::create(dir.path()).unwrap();
        let loaded = Identity::load(dir.path()).unwrap();
        for other in [&again, &loaded] {
            assert_eq!(other.keys(), first.keys());
            assert_eq!(other.consensus_public(), first.consensus_public());
            assert_eq!(other.api_token(), first.api_token());
        }
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert_eq!(left.len(), 3, "no temporary file stays: {left:?}");
    }

    #[test]
    fn every_label_gives_another_key_and_the_derivation_is_pinned() {
        let seed = Zeroizing::new([7; 32]);
        let keys: std::collections::BTreeSet<[u8; 32]> =
            ["network", "member", "reading", "sealing"].map(|label| *derive(&seed, label)).into();
        assert_eq!(keys.len(), 4);
        let by_hand = Hash32::of(&[b"commonwatt/key/member/v1", &[7; 32]]);
        assert_eq!(*derive(&seed, "member"), by_hand.0);
    }

    #[test]
    fn the_consensus_key_does_not_follow_from_the_seed() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = Identity::create(one.path()).unwrap();
        fs::copy(one.path().join(SEED_FILE), two.path().join(SEED_FILE)).unwrap();
        let restored = Identity::create(two.path()).unwrap();
        assert_eq!(restored.keys(), first.keys());
        assert_ne!(restored.consensus_public(), first.consensus_public());
    }

    #[test]
    fn a_key_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        Identity::create(dir.path()).unwrap();
        let seed = dir.path().join(SEED_FILE);
        assert_eq!(fs::metadata(&seed).unwrap().permissions().mode() & 0o777, 0o600);
        for mode in [0o640, 0o604] {
            fs::set_permissions(&seed, fs::Permissions::from_mode(mode)).unwrap();
            let error = Identity::load(dir.path()).unwrap_err();
            assert!(matches!(error, IdentityError::Exposed { mode: seen, .. } if seen == mode), "{error}");
        }
    }

    #[test]
    fn a_damaged_or_missing_key_is_named_and_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        Identity::create(dir.path()).unwrap();
        let seed = dir.path().join(SEED_FILE);
        for damaged in ["", "abc", &"0".repeat(63), &"0".repeat(65), &"g".repeat(64), &"00".repeat(40)] {
            fs::write(&seed, damaged).unwrap();
            let error = Identity::create(dir.path()).unwrap_err();
            assert!(matches!(error, IdentityError::Malformed { .. }), "{damaged:?}: {error}");
        }
        fs::remove_file(&seed).unwrap();
        assert!(matches!(Identity::load(dir.path()).unwrap_err(), IdentityError::Missing { .. }));
        assert!(matches!(Identity::create(dir.path()).unwrap_err(), IdentityError::SeedLost { .. }));
        assert!(!seed.exists());
    }

    #[test]
    fn no_secret_is_printed() {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity::create(dir.path()).unwrap();
        let printed = format!("{identity:?}");
        let seed = fs::read_to_string(dir.path().join(SEED_FILE)).unwrap();
        assert!(!printed.contains(seed.trim()) && !printed.contains(identity.api_token()));
        assert!(printed.contains(&identity.keys().member.hex()));
    }
}
