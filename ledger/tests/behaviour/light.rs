//! What can be checked with the genesis alone, and what must not pass.

use ledger::codec::{CodecError, Decode, Encode};
use ledger::{
    Checkpoint, CheckpointError, Content, LightClient, LightError, Outcome, Proof, ProvenContent, SetChange,
    SignedCheckpoint, tree,
};

use crate::fixture::*;
use crate::town::Town;

/// A chain with elections, and of each block why it is final.
struct Told {
    town: Town,
    certificates: Vec<ledger::Certificate>,
}

impl Told {
    fn new() -> Self {
        let mut town = Town::new(8);
        let all = [1, 2, 3, 4, 5, 6, 7, 8];
        let mut entries = town.all_approve(8, &[5, 6, 7]);
        entries.extend(all.map(|number| town.stand(number, 0)));
        let mut told = Self { town, certificates: Vec::new() };
        told.block(&entries);
        for _ in 0..24 {
            let ledger = told.town.ledger();
            let missing: Vec<u8> = all
                .into_iter()
                .filter(|number| ledger.candidacy(&home(*number), ledger.coming_term()).is_none())
                .collect();
            let entries: Vec<_> = missing.into_iter().map(|number| told.town.stand(number, 0)).collect();
            told.block(&entries);
        }
        told
    }

    fn block(&mut self, entries: &[ledger::VerifiedEntry]) {
        self.town.block(entries);
        self.certificates.push(self.town.certificate().unwrap());
    }

    fn changes(&self) -> Vec<SetChange> {
        let blocks = self.town.street.blocks.iter().zip(&self.certificates);
        let last = self.town.ledger().height();
        let changing = blocks.filter(|(executed, _)| {
            let header = &executed.block.header;
            header.height < last && header.delegates != header.next_delegates
        });
        changing
            .map(|(executed, certificate)| SetChange {
                header: executed.block.header.clone(),
                certificate: certificate.clone(),
                delegates: executed.ledger.delegates().clone(),
            })
            .collect()
    }

    /// The proof of a leaf in the tree of the last block.
    fn proof(&self, position: usize) -> Proof {
        let blocks = &self.town.street.blocks;
        let (mut hashes, mut contents) = (Vec::new(), Vec::new());
        for executed in blocks {
            for leaf in &executed.leaves {
                hashes.push(leaf.hash);
                contents.push(match leaf.source {
                    ledger::LeafSource::Entry(at) => {
                        Content::Entry(executed.block.entries[at].bytes().to_vec())
                    }
                    ledger::LeafSource::Outcome(at) => Content::Outcome(executed.outcomes[at].to_bytes()),
                });
            }
        }
        Proof {
            changes: self.changes(),
            header: blocks.last().unwrap().block.header.clone(),
            certificate: self.certificates.last().unwrap().clone(),
            position: position as u64,
            path: tree::inclusion_proof(&hashes, position).unwrap(),
            content: contents[position].clone(),
        }
    }

    fn leaves(&self) -> usize {
        usize::try_from(self.town.ledger().tree_size()).unwrap()
    }
}

#[test]
fn every_leaf_is_proven_by_the_genesis_alone_across_every_change_of_the_delegates() {
    let told = Told::new();
    assert!(told.changes().len() >= 4, "{}", told.changes().len());
    let genesis = &told.town.street.genesis;
    let (mut sealed, mut elections) = (0, 0);
    for position in 0..told.leaves() {
        let proof = told.proof(position);
        assert_eq!(Proof::from_bytes(&proof.to_bytes()).as_ref(), Ok(&proof));
        let proven = proof.check(genesis).unwrap();
        assert_eq!((proven.height, proven.position), (told.town.ledger().height(), position as u64));
        assert_eq!(proven.changes, told.changes().len());
        sealed += usize::from(proven.is_sealed);
        elections += usize::from(matches!(
            proven.content,
            ProvenContent::Outcome(outcome) if matches!(*outcome, Outcome::Election(_))
        ));
    }
    assert!(sealed >= 8 && elections >= 5, "{sealed} sealed, {elections} elections");
}

#[test]
fn roots_and_paths_are_those_of_another_implementation() {
    let told = Told::new();
    let leaves = told.town.street.blocks.iter().flat_map(|executed| &executed.leaves);
    let leaves: Vec<_> = leaves.map(|leaf| leaf.bytes.clone()).collect();
    let mut input: String = leaves.iter().map(|leaf| hex(leaf) + "\n").collect();
    input.push('\n');
    let hashes: Vec<_> = leaves.iter().map(|leaf| tree::leaf_hash(leaf)).collect();
    let mut proofs = 0;
    for executed in &told.town.street.blocks {
        let header = &executed.block.header;
        let size = usize::try_from(header.tree_size).unwrap();
        for position in (0..size).step_by(3) {
            let path = tree::inclusion_proof(&hashes[..size], position).unwrap();
            let path: String = path.iter().map(|hash| format!(" {hash}")).collect();
            input += &format!("{position} {size} {}{path}\n", header.tree_root);
            proofs += 1;
        }
    }
    assert!(proofs > 50);
    assert_eq!(judge(&input), format!("{proofs}\n"));
    // It does look: another root does not pass.
    let other =
        input.replacen(&told.town.street.blocks[0].block.header.tree_root.to_string(), &hex(&[7; 32]), 1);
    assert_eq!(judge(&other), "");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the judge prints; nothing if it finds a fault.
fn judge(input: &str) -> String {
    use std::io::Write;
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut judge = std::process::Command::new(folder.join("../.venv/bin/python"))
        .arg(folder.join("tests/peers/inclusion.py"))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("the Python environment .venv is made by `cargo xtask setup`");
    judge.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    String::from_utf8(judge.wait_with_output().unwrap().stdout).unwrap()
}

#[test]
fn a_proof_changed_in_any_byte_proves_nothing() {
    let told = Told::new();
    let genesis = &told.town.street.genesis;
    let proof = told.proof(3);
    let bytes = proof.to_bytes();
    // A step that is prime to the length of every field, so that each field is hit.
    for at in (0..bytes.len()).step_by(5).chain(bytes.len() - 400..bytes.len()) {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        let checked = Proof::from_bytes(&changed).map_err(LightError::from);
        // A certificate may name more signers than it takes, but a signature that does not hold is none.
        let checked = checked.and_then(|proof| proof.check(genesis));
        assert!(checked.is_err(), "byte {at} of {}", bytes.len());
    }
    for length in [0, 10, 300, bytes.len() - 1] {
        assert!(Proof::from_bytes(&bytes[..length]).is_err(), "{length} bytes");
    }
    let longer = [&bytes[..], &[0]].concat();
    assert_eq!(Proof::from_bytes(&longer), Err(CodecError::Trailing { count: 1 }));
}

#[test]
fn a_light_client_refuses_what_does_not_lead_from_its_genesis() {
    let told = Told::new();
    let (genesis, changes) = (&told.town.street.genesis, told.changes());
    let client = || LightClient::new(genesis).unwrap();
    let skipped = client().follow(&changes[1]).unwrap_err();
    assert!(matches!(skipped, LightError::OtherSet { .. }), "{skipped}");
    let mut twice = client();
    twice.follow(&changes[0]).unwrap();
    assert!(matches!(twice.follow(&changes[0]), Err(LightError::Backwards { .. })));
    let mut other_set = changes[0].clone();
    other_set.delegates = changes[1].delegates.clone();
    assert!(matches!(client().follow(&other_set), Err(LightError::OtherNextSet { .. })));
    let mut few = changes[0].clone();
    few.certificate.signatures.truncate(2);
    assert!(matches!(client().follow(&few), Err(LightError::Certificate { .. })));
    let mut other = genesis.clone();
    other.name = "Other street".to_owned();
    let mut stranger = LightClient::new(&other).unwrap();
    assert!(matches!(stranger.follow(&changes[0]), Err(LightError::OtherChain { .. })));
    // An ordinary block changes no set, and a certificate counts for its own block only.
    let block = &told.town.street.blocks[0].block;
    let no_change = SetChange {
        header: block.header.clone(),
        certificate: told.certificates[0].clone(),
        delegates: client().delegates().clone(),
    };
    assert!(matches!(client().follow(&no_change), Err(LightError::OtherNextSet { height: 1 })));
    assert!(client().trust(block.header.clone(), &told.certificates[0]).is_ok());
    let other_block = client().trust(block.header.clone(), &told.certificates[1]).unwrap_err();
    assert_eq!(other_block, LightError::OtherBlock { height: 1 });
}

#[test]
fn a_recovery_is_followed_only_by_who_knows_of_it_from_elsewhere() {
    let told = Told::new();
    let genesis = &told.town.street.genesis;
    let mut client = LightClient::new(genesis).unwrap();
    let elected = &told.changes()[0];
    let chain = ledger::Chain { recovery: 1, ..genesis.chain() };
    let header = ledger::Header { chain, height: 2, ..elected.header.clone() };
    let certificate = ledger::Certificate::of_recovery(2, header.id());
    let recovery = SetChange { header, certificate, delegates: elected.delegates.clone() };
    assert!(recovery.is_recovery() && !elected.is_recovery());
    assert_eq!(client.follow(&recovery), Err(LightError::Recovered { height: 2 }));
    assert!(matches!(client.follow_recovery(elected), Err(LightError::OtherBlock { .. })));
    let mut other_set = recovery.clone();
    other_set.delegates = client.delegates().clone();
    assert!(matches!(client.follow_recovery(&other_set), Err(LightError::OtherNextSet { height: 2 })));
    client.follow_recovery(&recovery).unwrap();
    assert_eq!((client.height(), client.delegates()), (2, &elected.delegates));
    assert!(client.follow_recovery(&recovery).is_err(), "its number counts once");
    // What the old set signs, or anybody for the chain before, is nothing now.
    let before = client.trust(told.changes()[1].header.clone(), &told.changes()[1].certificate);
    assert!(matches!(before, Err(LightError::Recovered { .. })));
}

#[test]
fn a_snapshot_is_held_against_a_certified_header() {
    let told = Told::new();
    let genesis = &told.town.street.genesis;
    let mut client = LightClient::new(genesis).unwrap();
    told.changes().iter().for_each(|change| client.follow(change).unwrap());
    let blocks = &told.town.street.blocks;
    let last = blocks.last().unwrap();
    let header = client.trust(last.block.header.clone(), told.certificates.last().unwrap()).unwrap();
    assert!(header.is_of(&ledger::Ledger::restore(genesis, &last.ledger.snapshot()).unwrap()));
    assert!(!header.is_of(&blocks[blocks.len() - 2].ledger));
    // What stands outside the state root: height, head and tree.
    let snapshot = last.ledger.snapshot();
    for at in 36..36 + 8 + 32 + 8 + 4 {
        let mut changed = snapshot.clone();
        changed[at] ^= 1;
        let taken = ledger::Ledger::restore(genesis, &changed);
        assert!(!taken.is_ok_and(|ledger| header.is_of(&ledger)), "byte {at}");
    }
}

#[test]
fn a_checkpoint_takes_two_who_may_vouch_for_it() {
    let told = Told::new();
    let genesis = &told.town.street.genesis;
    let checkpoint = Checkpoint::of(told.town.ledger());
    let unsigned = SignedCheckpoint::unsigned(checkpoint);
    let signing = |who: (Use, u8)| key(who).signing();
    let (operator, auditor, own) = (OPERATOR, AUDITOR, (Use::Member, 3));
    let own_key = key(own).public();
    for pair in [[operator, auditor], [operator, own], [auditor, own]] {
        let signed = pair.iter().fold(unsigned.clone(), |file, who| file.sign(&signing(*who)));
        let file = SignedCheckpoint::from_bytes(&signed.to_bytes()).unwrap();
        assert_eq!(file.verify(genesis, &own_key), Ok(checkpoint));
    }
    let stranger = unsigned.clone().sign(&signing(operator)).sign(&signing((Use::Member, 4)));
    assert_eq!(stranger.verify(genesis, &own_key), Err(CheckpointError::TooFew { found: 1 }));
    let twice = unsigned.clone().sign(&signing(operator)).sign(&signing(operator));
    assert_eq!(twice.verify(genesis, &own_key), Err(CheckpointError::TooFew { found: 1 }));
    let bytes = unsigned.sign(&signing(operator)).sign(&signing(auditor)).to_bytes();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let taken = SignedCheckpoint::from_bytes(&changed);
        assert!(!taken.is_ok_and(|file| file.verify(genesis, &own_key).is_ok()), "byte {at}");
    }
}
