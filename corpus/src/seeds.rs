//! Real encodings of every kind, made by the code as it is: what fuzzing begins with, and a test by themselves.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use consensus::log::{Judged, Record, TimeoutKind, encode_frame, new_log};
use consensus::message::{Message, Polka, RoundCertificate, RoundVote};
use ledger::codec::Encode;
use ledger::{
    BlockId, Certificate, Checkpoint, Executed, Hash32, PublicKey, SeatOffer, SetChange, Signature,
    SignedCheckpoint, SignedProposal, SignedVote, Statement, VoteKind,
};
use node::store::joined::Package;

use crate::acts::Acts;
use crate::chain::blocks_of;
use crate::{Choices, keys, outside, street};

/// Inputs of a target to begin with; none for a target whose every input is as good as another.
#[must_use]
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    match target {
        "entries" => entries(),
        "blocks" => of_blocks(&BLOCKS),
        "messages" => messages(&BLOCKS),
        "log" => logs(&BLOCKS),
        "snapshot" => snapshots(&BLOCKS),
        "modbus" => frames(),
        "profile" => profiles(),
        "texts" => outside::written(),
        "frames" => packages(&BLOCKS),
        _ => (0..8).map(|seed| noise(seed, 600)).collect(),
    }
}

/// Pseudo-random bytes from a seed: SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
#[must_use]
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut byte = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).to_be_bytes()[0]
    };
    (0..length).map(|_| byte()).collect()
}

static BLOCKS: LazyLock<Vec<Executed>> =
    LazyLock::new(|| (0..6).flat_map(|seed| blocks_of(&noise(seed, 900))).collect());

/// One entry of each kind.
fn entries() -> Vec<Vec<u8>> {
    let (bytes, ledger) = (noise(1, 12_000), street::ledger());
    let (mut choices, mut acts) = (Choices::new(&bytes), Acts::new(ledger.genesis_terms()));
    let mut kinds = BTreeMap::new();
    while choices.more() {
        if let Some(entry) = acts.entry(&mut choices, &ledger) {
            kinds.entry(entry.entry().body.kind()).or_insert_with(|| entry.bytes().to_vec());
        }
    }
    kinds.into_values().collect()
}

fn certificate(blocks: &[Executed]) -> Certificate {
    blocks.iter().find_map(|executed| executed.block.last_commit.clone()).unwrap()
}

fn of_blocks(blocks: &[Executed]) -> Vec<Vec<u8>> {
    let mut of = vec![
        street::ledger().delegates().to_bytes(),
        certificate(blocks).to_bytes(),
        blocks[0].block.header.to_bytes(),
    ];
    of.extend(vouched(blocks));
    let short = blocks.iter().map(|executed| executed.block.to_bytes()).filter(|bytes| bytes.len() < 2_000);
    of.extend(short.take(6));
    let mut kinds = Vec::new();
    for outcome in blocks.iter().flat_map(|executed| &executed.outcomes) {
        let kind = std::mem::discriminant(outcome);
        if !kinds.contains(&kind) {
            kinds.push(kind);
            of.push(outcome.to_bytes());
        }
    }
    of
}

/// What light clients, recoveries and people who vouch hand over.
fn vouched(blocks: &[Executed]) -> Vec<Vec<u8>> {
    let (ledger, chain) = (street::ledger(), street::chain());
    let (header, delegates) = (blocks[0].block.header.clone(), ledger.delegates().clone());
    let (height, block) = (header.height, header.id());
    let key = keys::signing(keys::OPERATOR);
    let checkpoint = Checkpoint { chain, height, block, time: header.time, delegates: delegates.hash() };
    let home = delegates.as_slice()[0].home.clone();
    vec![
        SeatOffer::sign(&chain, home, &key, &key, &key).to_bytes(),
        SignedCheckpoint::unsigned(checkpoint).sign(&key).to_bytes(),
        SetChange { header, certificate: certificate(blocks), delegates }.to_bytes(),
    ]
}

const KEY: PublicKey = PublicKey([3; 32]);
const SIGNATURE: Signature = Signature([9; 64]);
const BLOCK: BlockId = BlockId(Hash32([7; 32]));

fn vote() -> SignedVote {
    let kind = VoteKind::Precommit;
    SignedVote { kind, height: 7, round: 2, block: Some(BLOCK), voter: KEY, signature: SIGNATURE }
}

fn proposal() -> SignedProposal {
    let (proposer, signature) = (KEY, SIGNATURE);
    SignedProposal { height: 7, round: 2, block: BLOCK, valid_round: Some(1), proposer, signature }
}

fn polka() -> Polka {
    Polka { height: 7, round: 1, block: BLOCK, signatures: vec![(KEY, SIGNATURE); 3] }
}

fn messages(blocks: &[Executed]) -> Vec<Vec<u8>> {
    let round_vote = RoundVote { kind: VoteKind::Prevote, block: None, voter: KEY, signature: SIGNATURE };
    let round = RoundCertificate { height: 7, round: 2, skip: true, votes: vec![round_vote; 3] };
    let short = blocks.iter().map(|executed| executed.block.to_bytes()).find(|bytes| bytes.len() < 2_000);
    let (block, proof) = (short.unwrap(), certificate(blocks));
    let messages = [
        Message::Vote(vote()),
        Message::Proposal(proposal(), block.clone()),
        Message::Polka(polka()),
        Message::Round(round),
        Message::SyncRequest { from_height: 3, max_bytes: 9 },
        Message::SyncResponse(vec![(block.clone(), proof.clone()), (vec![], proof.clone())]),
        Message::Status { height: 12 },
        Message::RecoverRequest { height: 12, key: KEY },
        Message::RecoverResponse {
            height: 13,
            statements: vec![Statement::Vote(vote()), Statement::Proposal(proposal())],
        },
        Message::Entries(entries().into_iter().take(3).collect()),
        Message::Final(block, proof),
    ];
    messages.iter().map(Message::to_bytes).collect()
}

fn logs(blocks: &[Executed]) -> Vec<Vec<u8>> {
    let verdict = Judged { round: 1, valid_round: Some(0), proposer: KEY, block: BLOCK, valid: true };
    let records = [
        Record::Asking { chain: street::chain(), key: KEY },
        Record::Height(7),
        Record::Body(blocks[0].block.to_bytes()),
        Record::Vote(vote()),
        Record::Proposal(proposal()),
        Record::Judged(verdict),
        Record::Polka(polka()),
        Record::Timeout { kind: TimeoutKind::Precommit, round: 2 },
        Record::Pinned(Statement::Vote(vote())),
        Record::CleanStop(7),
    ];
    let opened = new_log(street::chain(), KEY);
    let frames: Vec<u8> =
        records.iter().flat_map(|record| encode_frame(std::slice::from_ref(record))).collect();
    let mut all = vec![[opened.clone(), frames].concat(), [opened, encode_frame(&records)].concat()];
    all.extend(records.iter().map(Encode::to_bytes));
    // Payloads behind what is cut and flipped, as the target frames them.
    let framed = records
        .iter()
        .map(Encode::to_bytes)
        .filter(|payload| payload.len() < 256)
        .flat_map(|payload| [&[u8::try_from(payload.len()).unwrap(), 0], &payload[..]].concat());
    all.push([2, 0, 200, 17].into_iter().chain(framed).collect());
    all
}

fn snapshots(blocks: &[Executed]) -> Vec<Vec<u8>> {
    let first = street::ledger().snapshot();
    let last = street::ledger().propose(street::ledger().head_time().plus_ms(2_000_000), &[]).unwrap();
    let after = last.executed.ledger.snapshot();
    let another = blocks[blocks.len() / 2].ledger.snapshot();
    // Without the chain's name too, which the target puts before it.
    let named = street::chain().to_bytes().len();
    vec![first[named..].to_vec(), after[named..].to_vec(), first, another]
}

/// Direct frames, a question for a recent state and a part of the answer, and such states.
fn packages(blocks: &[Executed]) -> Vec<Vec<u8>> {
    let framed =
        |message: Vec<u8>| [&u32::try_from(message.len()).unwrap().to_be_bytes()[..], &message].concat();
    let words: Vec<u8> = messages(blocks).into_iter().flat_map(framed).collect();
    let question = [&b"cwj1"[..], &7_u64.to_be_bytes(), &0_u32.to_be_bytes()].concat();
    let mut all = vec![words, question];
    for (executed, next) in
        blocks.iter().zip(&blocks[1..]).filter(|(_, next)| next.block.last_commit.is_some())
    {
        let header = executed.block.header.clone();
        let Some(certificate) = next.block.last_commit.clone().filter(|it| it.height == header.height) else {
            continue;
        };
        let snapshot = executed.ledger.snapshot();
        all.push(
            Package {
                changes: vec![],
                header,
                certificate,
                snapshot,
                is_view: false,
                tiles: vec![],
                leaves: vec![],
            }
            .to_bytes(),
        );
    }
    all.truncate(5);
    let part = [&9_u64.to_be_bytes()[..], &1000_u64.to_be_bytes(), all.last().unwrap()].concat();
    all.push(part);
    all
}

/// A read and a write in both framings, an answer, a refusal; and a block of registers.
fn frames() -> Vec<Vec<u8>> {
    let tcp = vec![0x12, 0x34, 0, 0, 0, 6, 9, 4, 0, 0x48, 0, 4];
    let answer = vec![0, 7, 0, 0, 0, 7, 9, 3, 4, 0x02, 0x2b, 0, 0x64];
    let refusal = vec![0, 7, 0, 0, 0, 3, 9, 0x83, 2];
    // Unit 1, holding register 0 to 9 (the example of many manuals), with its checksum.
    let rtu = vec![0x01, 0x03, 0x00, 0x00, 0x00, 0x0a, 0xc5, 0xcd];
    let twice = [&[0xff], &rtu[..], &rtu].concat();
    let block = (0..120u8).collect();
    vec![tcp, answer, refusal, rtu, twice, block]
}

fn profiles() -> Vec<Vec<u8>> {
    let written = [
        include_str!("../../meter/profiles/eastron-sdm630.toml"),
        include_str!("../../meter/profiles/chint-dtsu666.toml"),
        include_str!("../../meter/profiles/carlo-gavazzi-em24-rs485.toml"),
        include_str!("../../meter/profiles/deye-hybrid-3p.toml"),
        "[fe80::1]:502",
        "9600 8N1",
    ];
    written.map(|text| text.as_bytes().to_vec()).to_vec()
}
