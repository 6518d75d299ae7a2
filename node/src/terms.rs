//! The keys of a home's terms as a delegate, and its candidacies.
//!
//! For every term a node stands with keys it made for that term alone. They are on the disk before anybody hears of them, they
//! do not follow from the seed and are in no backup, and once their term is over they are destroyed. Whether a key may vote is
//! for the ledger and the replica; this module makes keys, stands with them, and reports who contradicted itself.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use energy::HomeId;
use ledger::codec::Encode as _;
use ledger::{Body, Chain, Entry, Evidence, Ledger, PublicKey, SeatOffer, SignedEntry, Stream, TermKeys};

use crate::identity::{CONSENSUS_FILE, IdentityError, fresh_salt, load_or_create_key, make_private_dir};

/// The folder of the keys, in the data folder.
const FOLDER: &str = "terms";
/// A candidacy that no block has taken after so many is signed again.
const PATIENCE_BLOCKS: u64 = 60;

/// A home's keys for one term.
struct Term {
    consensus: SigningKey,
    cosigner: SigningKey,
}

impl Term {
    fn keys(&self) -> TermKeys {
        TermKeys { consensus: PublicKey::of(&self.consensus), cosigner: PublicKey::of(&self.cosigner) }
    }
}

/// What a node does about its terms after a block.
#[derive(Default)]
pub struct Steps {
    /// A key that was made just now, for the replica.
    pub new_key: Option<SigningKey>,
    /// Entries to send.
    pub entries: Vec<Vec<u8>>,
}

/// The keys of a home's terms.
pub struct Terms {
    folder: PathBuf,
    home: HomeId,
    member: SigningKey,
    terms: BTreeMap<u32, Term>,
    /// The term for which a candidacy was sent last, and the height then.
    sent: Option<(u32, u64)>,
    /// The largest number that was signed here.
    signed: u64,
    /// The rule version that was signalled last, and the height then.
    signalled: Option<(u16, u64)>,
}

impl Terms {
    /// Loads the keys in the data folder of `home`, whose entries `member` signs.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn open(data_dir: &Path, home: &HomeId, member: &SigningKey) -> Result<Self, IdentityError> {
        let folder = data_dir.join(FOLDER);
        make_private_dir(&folder)?;
        let mut terms = Self {
            home: home.clone(),
            member: member.clone(),
            terms: BTreeMap::new(),
            sent: None,
            signed: 0,
            signalled: None,
            folder,
        };
        for term in terms.stored()? {
            terms.load(term)?;
        }
        Ok(terms)
    }

    /// The consensus keys, of older terms first.
    #[must_use]
    pub fn consensus_keys(&self) -> Vec<SigningKey> {
        self.terms.values().map(|term| term.consensus.clone()).collect()
    }

    /// True for a consensus key that is kept here.
    #[must_use]
    pub fn holds(&self, key: &PublicKey) -> bool {
        self.terms.values().any(|term| PublicKey::of(&term.consensus) == *key)
    }

    /// Destroys the keys of terms that are over, and stands for the coming one unless that is done, or the member said that it
    /// does not want to, or may not.
    ///
    /// # Errors
    /// [`IdentityError`]: a key cannot be made, kept or destroyed.
    pub fn after_block(&mut self, ledger: &Ledger) -> Result<Steps, IdentityError> {
        let seated = ledger.last_delegates().term();
        self.destroy_before(seated)?;
        if seated > 0 {
            self.destroy_founding()?;
        }
        let term = ledger.coming_term();
        let mut steps = Steps::default();
        let is_member = ledger.member(&self.home).is_some_and(|member| {
            member.admission.keys.member == PublicKey::of(&self.member) && ledger.leaves(&self.home).is_none()
        });
        if is_member {
            steps.entries.extend(self.signal(ledger)?.map(|signed| signed.to_bytes()));
        }
        if !is_member || ledger.has_opted_out(&self.home) || ledger.barred_until(&self.home).is_some() {
            return Ok(steps);
        }
        let registered = ledger.candidacy(&self.home, term);
        let known = self.terms.get(&term).map(Term::keys);
        let waits = self
            .sent
            .is_some_and(|(sent, at)| sent == term && ledger.height() < at.saturating_add(PATIENCE_BLOCKS));
        if known.is_none() && !waits {
            self.load(term)?;
            steps.new_key = self.terms.get(&term).map(|term| term.consensus.clone());
        }
        // A command may have made the keys and stood with them.
        let stands = registered.is_some() && self.terms.get(&term).map(Term::keys) == registered;
        if !stands && !waits {
            steps.entries.extend(self.candidacy(ledger, term)?.map(|signed| signed.to_bytes()));
            self.sent = Some((term, ledger.height()));
        }
        Ok(steps)
    }

    /// Says which rules this program has, where the community does not know: it can run later ones than those in force, or an
    /// earlier program said more than this one keeps.
    fn signal(&mut self, ledger: &Ledger) -> Result<Option<SignedEntry>, IdentityError> {
        let (known, said) = (ledger.known_rules(), ledger.signalled(&self.home));
        let is_news = known > ledger.rule_version() || said.is_some_and(|said| said > known);
        let waits = self.signalled.is_some_and(|(version, at)| {
            version == known && ledger.height() < at.saturating_add(PATIENCE_BLOCKS)
        });
        if !is_news || said == Some(known) || waits {
            return Ok(None);
        }
        self.signalled = Some((known, ledger.height()));
        let body = Body::RuleSignal { home: self.home.clone(), version: known };
        let entry = self.entry(ledger, body)?;
        Ok(Some(entry.sign(ledger.chain(), &self.member)))
    }

    /// A candidacy for the coming term of a member that has thought better of not standing. Its node takes the keys up after the
    /// next block.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn stand(&mut self, ledger: &Ledger) -> Result<Option<SignedEntry>, IdentityError> {
        let term = ledger.coming_term();
        self.load(term)?;
        self.candidacy(ledger, term)
    }

    /// Offers to hold a seat after the recovery of this number, with keys that are on the disk, and gives the consensus key for
    /// the replica.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn offer(
        &mut self,
        ledger: &Ledger,
        number: u32,
    ) -> Result<Option<(SeatOffer, SigningKey)>, IdentityError> {
        let term = ledger.coming_term();
        self.load(term)?;
        let chain = Chain { recovery: number, ..*ledger.chain() };
        Ok(self.terms.get(&term).map(|of| {
            let offer = SeatOffer::sign(&chain, self.home.clone(), &self.member, &of.consensus, &of.cosigner);
            (offer, of.consensus.clone())
        }))
    }

    /// The home's member key.
    #[must_use]
    pub const fn member(&self) -> &SigningKey {
        &self.member
    }

    /// Signs that a delegate contradicted itself; `None` if the ledger would not take it.
    ///
    /// # Errors
    /// [`IdentityError::Randomness`].
    pub fn report(&mut self, ledger: &Ledger, evidence: &Evidence) -> Result<Option<Vec<u8>>, IdentityError> {
        if ledger.is_convicted(evidence.culprit()) {
            return Ok(None);
        }
        let entry = self.entry(ledger, Body::Misbehaviour(evidence.clone()))?;
        Ok(Some(entry.sign(ledger.chain(), &self.member).to_bytes()))
    }

    fn candidacy(&mut self, ledger: &Ledger, term: u32) -> Result<Option<SignedEntry>, IdentityError> {
        let Some(keys) = self.terms.get(&term).map(Term::keys) else { return Ok(None) };
        let body = Body::Candidacy { home: self.home.clone(), term, keys: Some(keys) };
        let entry = self.entry(ledger, body)?;
        let chain = ledger.chain();
        let mut signed = entry.sign(chain, &self.member);
        if let Some(of) = self.terms.get(&term) {
            signed = signed.countersign(chain, &of.consensus).countersign(chain, &of.cosigner);
        }
        Ok(Some(signed))
    }

    fn entry(&mut self, ledger: &Ledger, body: Body) -> Result<Entry, IdentityError> {
        let signer = PublicKey::of(&self.member);
        let number = ledger.last_number(&signer, Stream::Delegates).max(self.signed).saturating_add(1);
        self.signed = number;
        Ok(Entry { signer, number, salt: fresh_salt()?, body })
    }

    /// Loads the keys of a term; makes them, durably, if there are none.
    fn load(&mut self, term: u32) -> Result<(), IdentityError> {
        let [consensus, cosigner] = self.paths(term);
        let keys =
            Term { consensus: load_or_create_key(&consensus)?, cosigner: load_or_create_key(&cosigner)? };
        self.terms.insert(term, keys);
        Ok(())
    }

    fn destroy_before(&mut self, seated: u32) -> Result<(), IdentityError> {
        let over: Vec<u32> = self.terms.range(..seated).map(|(term, _)| *term).collect();
        for term in over {
            for path in self.paths(term) {
                fs::remove_file(&path).or_else(gone).map_err(|cause| IdentityError::Io {
                    action: "destroy",
                    path: path.clone(),
                    cause,
                })?;
            }
            self.terms.remove(&term);
        }
        Ok(())
    }

    /// The key that `init` made for the founding is of the first term, whether it ever held a seat or not.
    fn destroy_founding(&self) -> Result<(), IdentityError> {
        let Some(data_dir) = self.folder.parent() else { return Ok(()) };
        let path = data_dir.join(CONSENSUS_FILE);
        fs::remove_file(&path).or_else(gone).map_err(|cause| IdentityError::Io {
            action: "destroy",
            path,
            cause,
        })
    }

    fn paths(&self, term: u32) -> [PathBuf; 2] {
        [self.folder.join(format!("{term}.key")), self.folder.join(format!("{term}.cosigner.key"))]
    }

    /// The terms of which there are keys on the disk.
    fn stored(&self) -> Result<Vec<u32>, IdentityError> {
        let fault =
            |cause| IdentityError::Io { action: "list the keys in", path: self.folder.clone(), cause };
        let mut terms = Vec::new();
        for file in fs::read_dir(&self.folder).map_err(fault)? {
            let name = file.map_err(fault)?.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(".key")).map(str::parse);
            if let Some(Ok(term)) = number {
                terms.push(term);
            }
        }
        terms.sort_unstable();
        Ok(terms)
    }
}

fn gone(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use ledger::codec::Decode as _;

    use super::*;
    use crate::identity::Identity;
    use crate::store::fixture::{genesis, home};

    /// A founding home's identity and ledger.
    fn founder(folder: &Path) -> (Identity, Ledger) {
        let identity = Identity::create(folder).unwrap();
        let mut genesis = genesis();
        genesis.members[0].admission.keys = identity.keys();
        genesis.delegates[0].key = identity.consensus_public().unwrap();
        (identity, Ledger::genesis(&genesis).unwrap())
    }

    fn take(ledger: &Ledger, entries: &[Vec<u8>]) -> Ledger {
        let verified =
            |bytes: &Vec<u8>| SignedEntry::from_bytes(bytes).unwrap().verify(ledger.chain()).unwrap();
        let entries: Vec<_> = entries.iter().map(verified).collect();
        let proposed = ledger.propose(ledger.head_time().plus_ms(60_000), &entries).unwrap();
        assert_eq!(proposed.refused, []);
        proposed.executed.ledger
    }

    #[test]
    fn a_node_stands_for_the_coming_term_once_with_keys_that_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (identity, ledger) = founder(folder.path());
        let open = || Terms::open(folder.path(), &home(1), identity.member()).unwrap();
        let mut terms = open();
        let steps = terms.after_block(&ledger).unwrap();
        let key = PublicKey::of(&steps.new_key.unwrap());
        assert!(terms.holds(&key));
        assert!(terms.after_block(&ledger).unwrap().entries.is_empty(), "it waits for a block");
        let stands = take(&ledger, &steps.entries);
        assert_eq!(stands.candidacy(&home(1), 1).unwrap().consensus, key);
        assert!(terms.after_block(&stands).unwrap().entries.is_empty(), "it stands");
        // A restart before the block: the same key is registered.
        let mut again = open();
        assert_eq!(again.consensus_keys().len(), 1);
        let steps = again.after_block(&ledger).unwrap();
        assert!(steps.new_key.is_none());
        assert_eq!(take(&ledger, &steps.entries).candidacy(&home(1), 1).unwrap().consensus, key);
    }

    #[test]
    fn a_candidacy_that_no_block_took_is_signed_again() {
        let folder = tempfile::tempdir().unwrap();
        let (identity, mut ledger) = founder(folder.path());
        let mut terms = Terms::open(folder.path(), &home(1), identity.member()).unwrap();
        let lost = terms.after_block(&ledger).unwrap().entries;
        for _ in 0..PATIENCE_BLOCKS {
            assert!(terms.after_block(&ledger).unwrap().entries.is_empty());
            ledger = take(&ledger, &[]);
        }
        let again = terms.after_block(&ledger).unwrap();
        assert!(again.new_key.is_none() && again.entries != lost);
        take(&ledger, &again.entries);
    }

    #[test]
    fn keys_are_destroyed_once_their_term_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let (identity, ledger) = founder(folder.path());
        let mut terms = Terms::open(folder.path(), &home(1), identity.member()).unwrap();
        for term in [1, 2, 5] {
            terms.load(term).unwrap();
        }
        terms.destroy_before(2).unwrap();
        assert_eq!(terms.stored().unwrap(), [2, 5]);
        assert_eq!(terms.consensus_keys().len(), 2);
        assert_eq!(fs::read_dir(folder.path().join(FOLDER)).unwrap().count(), 4);
        // A set that stays keeps its keys, whatever the epoch.
        terms.after_block(&ledger).unwrap();
        assert_eq!(terms.stored().unwrap(), [1, 2, 5]);
    }

    #[test]
    fn the_founding_key_is_destroyed_and_the_node_starts_without_it() {
        let folder = tempfile::tempdir().unwrap();
        let (identity, ledger) = founder(folder.path());
        let mut terms = Terms::open(folder.path(), &home(1), identity.member()).unwrap();
        terms.after_block(&ledger).unwrap();
        assert!(folder.path().join(CONSENSUS_FILE).exists(), "its term is seated");
        terms.destroy_founding().unwrap();
        terms.destroy_founding().unwrap();
        let again = Identity::load(folder.path()).unwrap();
        assert_eq!((again.keys(), again.consensus_public()), (identity.keys(), None));
    }

    #[test]
    fn an_offer_for_a_recovery_is_signed_by_the_member_and_by_keys_that_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (identity, ledger) = founder(folder.path());
        let mut terms = Terms::open(folder.path(), &home(1), identity.member()).unwrap();
        let (offer, key) = terms.offer(&ledger, 1).unwrap().unwrap();
        let chain = Chain { recovery: 1, ..*ledger.chain() };
        assert!(offer.holds(&chain, &identity.keys().member));
        assert!(!offer.holds(ledger.chain(), &identity.keys().member));
        assert_eq!(offer.keys.consensus, PublicKey::of(&key));
        let again = Terms::open(folder.path(), &home(1), identity.member()).unwrap();
        assert!(again.holds(&offer.keys.consensus));
    }

    #[test]
    fn a_program_with_later_rules_signals_them_once_and_an_older_one_takes_that_back() {
        let folder = tempfile::tempdir().unwrap();
        let (identity, ledger) = founder(folder.path());
        let mut terms = Terms::open(folder.path(), &home(1), identity.member()).unwrap();
        assert_eq!(terms.after_block(&ledger).unwrap().entries.len(), 1, "a candidacy alone");
        let newer = ledger.clone().knowing(ledger::RULE_VERSION + 1);
        let mut terms = Terms::open(folder.path(), &home(1), identity.member()).unwrap();
        let entries = terms.after_block(&newer).unwrap().entries;
        assert_eq!(entries.len(), 2);
        assert!(terms.after_block(&newer).unwrap().entries.is_empty(), "it waits for a block");
        let signalled = take(&newer, &entries);
        assert_eq!(signalled.signalled(&home(1)), Some(ledger::RULE_VERSION + 1));
        assert!(terms.after_block(&signalled).unwrap().entries.is_empty());
        let older = signalled.knowing(ledger::RULE_VERSION);
        let back = terms.after_block(&older).unwrap().entries;
        assert_eq!(take(&older, &back).signalled(&home(1)), Some(ledger::RULE_VERSION));
    }

    #[test]
    fn who_opted_out_does_not_stand() {
        let folder = tempfile::tempdir().unwrap();
        let (identity, ledger) = founder(folder.path());
        let mut terms = Terms::open(folder.path(), &home(1), identity.member()).unwrap();
        let body = Body::Candidacy { home: home(1), term: 1, keys: None };
        let out = terms.entry(&ledger, body).unwrap().sign(ledger.chain(), identity.member());
        let ledger = take(&ledger, &[out.to_bytes()]);
        let steps = terms.after_block(&ledger).unwrap();
        assert!(steps.new_key.is_none() && steps.entries.is_empty());
        assert_eq!(terms.stored().unwrap(), Vec::<u32>::new());
    }
}
