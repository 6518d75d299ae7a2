//! One replica on a bench: the test plays its disk, its clock and all other delegates.

use consensus::log::{Record, encode_frame, read_records};
use consensus::message::{Message, Outline, SignedProposal, SignedVote};
use consensus::{Commit, Effect, Evidence, Input, Now, Replica, ReplicaConfig, Timeouts, Timer};
use energy::Timestamp;
use ledger::codec::{Decode as _, Encode as _};
use ledger::{
    Block, BlockId, Certificate, Chain, Executed, Forward, Genesis, Ledger, Proposed, PublicKey, Signature,
    SignedEntry, UnverifiedBlock, VerifiedEntry, VoteKind, vote_signing_bytes,
};

use crate::street::{self, Purpose};

/// How many delegates there are; two more homes only follow.
pub const DELEGATES: usize = 4;

pub struct Bench {
    pub genesis: Genesis,
    pub replica: Replica,
    pub me: usize,
    pub market: Timestamp,
    pub wall_ms: u64,
    /// What is on the disk for certain.
    pub log: Vec<u8>,
    /// Every effect so far.
    pub effects: Vec<Effect>,
}

/// The number of the home that proposes.
pub fn proposer(genesis: &Genesis, height: u64, round: u32) -> usize {
    let delegates = genesis.delegate_set().expect("a valid set");
    let seat = usize::try_from((height + u64::from(round)) % delegates.len() as u64).expect("a small number");
    let home = &delegates.as_slice()[seat].home;
    (0..DELEGATES).find(|number| street::home(*number) == *home).expect("a delegate")
}

/// The log of a node that stopped in good order before `height`.
pub fn clean_log(genesis: &Genesis, number: usize, height: u64) -> Vec<u8> {
    let key = PublicKey::of(&street::key(Purpose::Term, number));
    encode_frame(&[Record::Opened { chain: genesis.chain(), key }, Record::CleanStop(height)])
}

pub fn genesis() -> Genesis {
    street::genesis(DELEGATES + 2, DELEGATES)
}

/// The certificate that three of the founding delegates make for a block.
fn certificate(ledger: &Ledger, height: u64, round: u32, block: BlockId) -> Certificate {
    let message = vote_signing_bytes(ledger.chain(), VoteKind::Precommit, height, round, Some(&block));
    let mut signatures: Vec<_> = (0..3)
        .map(|number| {
            let key = street::key(Purpose::Term, number);
            let seat = ledger.delegates().seat_of(&PublicKey::of(&key)).expect("a seat");
            (u8::try_from(seat).expect("a small number"), Signature::sign(&key, &message))
        })
        .collect();
    signatures.sort_by_key(|(seat, _)| *seat);
    Certificate { height, round, block, signatures }
}

/// Why the last block is final; at the chain's start there is none.
fn certificate_of_head(ledger: &Ledger) -> Option<Certificate> {
    (ledger.height() > 0).then(|| certificate(ledger, ledger.height(), 0, ledger.head()))
}

impl Bench {
    /// Home `me` with this log, at genesis.
    pub fn with_log(me: usize, log: &[u8]) -> Self {
        let genesis = genesis();
        let ledger = Ledger::genesis(&genesis).expect("a valid genesis");
        Self::at(genesis, ledger, me, log)
    }

    pub fn at(genesis: Genesis, ledger: Ledger, me: usize, log: &[u8]) -> Self {
        let config = ReplicaConfig {
            home: street::home(me),
            // The first follower has a key for a seat it may win one day, the second has none.
            term_keys: (me <= DELEGATES).then(|| street::key(Purpose::Term, me)).into_iter().collect(),
            last_certificate: certificate_of_head(&ledger),
            timeouts: Timeouts::default(),
            min_block_interval_ms: 1000,
            speed: 1,
        };
        let market = ledger.head_time().plus_ms(1000);
        let replica = Replica::new(config, ledger, log).expect("a valid configuration");
        let mut bench =
            Self { genesis, replica, me, market, wall_ms: 1_000_000, log: log.to_vec(), effects: Vec::new() };
        bench.step(Input::Start);
        bench
    }

    /// A delegate that may vote at once and does not propose in the first three rounds of height 1.
    pub fn validator() -> Self {
        let genesis = genesis();
        let me = proposer(&genesis, 1, 3);
        let log = clean_log(&genesis, me, 1);
        Self::with_log(me, &log)
    }

    /// As [`Bench::validator`], a minute before the first interval's deadline.
    pub fn validator_before_deadline() -> Self {
        let genesis = genesis();
        let ledger = Ledger::genesis(&genesis).expect("a valid genesis");
        let until = ledger.next_deadline().minus_ms(60_000);
        Self::validator_at(genesis, until)
    }

    /// As [`Bench::validator`], with forward trading, a minute before the first gate.
    pub fn validator_before_gate() -> Self {
        let genesis = Genesis { forward: Forward::Auction, ..genesis() };
        let until = street::first_gate().minus_ms(60_000);
        Self::validator_at(genesis, until)
    }

    fn validator_at(genesis: Genesis, until: Timestamp) -> Self {
        let mut ledger = Ledger::genesis(&genesis).expect("a valid genesis");
        while ledger.head_time() < until {
            let time = ledger.head_time().plus_ms(ledger::HEARTBEAT_MS).min(until);
            ledger = ledger.propose(time, &[]).expect("a heartbeat").executed.ledger;
        }
        let height = ledger.height() + 1;
        let me = proposer(&genesis, height, 3);
        let log = clean_log(&genesis, me, height);
        Self::at(genesis, ledger, me, &log)
    }

    /// The height being decided.
    pub fn height(&self) -> u64 {
        self.replica.height() + 1
    }

    /// The other delegates.
    pub fn others(&self) -> Vec<usize> {
        (0..DELEGATES).filter(|number| *number != self.me).collect()
    }

    pub fn chain(&self) -> Chain {
        self.genesis.chain()
    }

    pub fn step(&mut self, input: Input) {
        let now = Now { market: self.market, wall_ms: self.wall_ms };
        for effect in self.replica.step(now, input) {
            match &effect {
                Effect::AppendLog(bytes) => self.log.extend(bytes),
                Effect::TrimLog(bytes) => self.log.clone_from(bytes),
                _ => {}
            }
            self.effects.push(effect);
        }
    }

    pub fn pass(&mut self, ms: u64) {
        self.wall_ms += ms;
        self.market = self.market.plus_ms(ms);
    }

    /// Lets the pace timer run out.
    pub fn pace(&mut self) {
        self.step(Input::Timer(Timer::Pace));
    }

    pub fn hear(&mut self, from: usize, message: &Message) {
        self.step(Input::Message { from: street::home(from), bytes: message.to_bytes() });
    }

    pub fn hear_votes(
        &mut self,
        from: &[usize],
        kind: VoteKind,
        height: u64,
        round: u32,
        block: Option<BlockId>,
    ) {
        for number in from {
            let vote = self.vote(*number, kind, height, round, block);
            self.hear(*number, &Message::Vote(vote));
        }
    }

    pub fn vote(
        &self,
        number: usize,
        kind: VoteKind,
        height: u64,
        round: u32,
        block: Option<BlockId>,
    ) -> SignedVote {
        let key = street::key(Purpose::Term, number);
        let voter = PublicKey::of(&key);
        let mut vote = SignedVote { kind, height, round, block, voter, signature: Signature([0; 64]) };
        vote.signature = Signature::sign(&key, &vote.signing_bytes(&self.chain()));
        vote
    }

    pub fn proposal(
        &self,
        height: u64,
        round: u32,
        block: &Block,
        valid_round: Option<u32>,
    ) -> (usize, Message) {
        let number = proposer(&self.genesis, height, round);
        let key = street::key(Purpose::Term, number);
        let mut proposal = SignedProposal {
            height,
            round,
            block: block.id(),
            valid_round,
            proposer: PublicKey::of(&key),
            signature: Signature([0; 64]),
        };
        proposal.signature = Signature::sign(&key, &proposal.signing_bytes(&self.chain()));
        (number, Message::Proposal(proposal, block.to_bytes()))
    }

    /// As [`Bench::proposal`], with the block's outline.
    pub fn outline(&self, height: u64, round: u32, block: &Block) -> (usize, Message) {
        let (number, message) = self.proposal(height, round, block, None);
        let Message::Proposal(proposal, _) = message else { panic!("a proposal") };
        (number, Message::Outline(proposal, Box::new(Outline::of(block))))
    }

    pub fn propose(&mut self, round: u32, block: &Block, valid_round: Option<u32>) {
        let (from, message) = self.proposal(self.replica.height() + 1, round, block, valid_round);
        self.hear(from, &message);
    }

    /// The next block on the replica's ledger.
    pub fn build(&self, time: Timestamp, entries: &[VerifiedEntry]) -> Executed {
        self.propose_from(time, entries).executed
    }

    /// The next block on the replica's ledger, and what it had to leave out.
    pub fn propose_from(&self, time: Timestamp, entries: &[VerifiedEntry]) -> Proposed {
        let ledger = self.replica.ledger();
        let last_commit = certificate_of_head(ledger);
        ledger.propose_after(last_commit.as_ref(), time, entries).expect("a block")
    }

    pub fn verified(&self, bytes: &[u8]) -> VerifiedEntry {
        SignedEntry::from_bytes(bytes).expect("an entry").verify(&self.chain()).expect("signed")
    }

    /// The certificate that three delegates make for a block.
    pub fn certificate(&self, height: u64, round: u32, block: BlockId) -> Certificate {
        certificate(self.replica.ledger(), height, round, block)
    }

    /// All messages sent to the delegates so far.
    pub fn said(&self) -> Vec<Message> {
        let said = self.effects.iter().filter_map(|effect| match effect {
            Effect::ToDelegates(bytes) => Some(Message::from_bytes(bytes).expect("readable")),
            _ => None,
        });
        said.collect()
    }

    /// The blocks it proposed or was given whole or in parts, as its log holds them.
    pub fn logged_blocks(&self) -> Vec<UnverifiedBlock> {
        let records = read_records(&self.log).records.into_iter();
        let bodies = records.filter_map(|record| match record {
            Record::Body(bytes) => Some(UnverifiedBlock::from_bytes(&bytes).expect("a block")),
            _ => None,
        });
        bodies.collect()
    }

    /// All messages sent to one home so far.
    pub fn sent_to(&self, number: usize) -> Vec<Message> {
        let sent = self.effects.iter().filter_map(|effect| match effect {
            Effect::SendTo { to, bytes } if *to == street::home(number) => {
                Some(Message::from_bytes(bytes).expect("readable"))
            }
            _ => None,
        });
        sent.collect()
    }

    /// What the replica voted: `None` if nothing, `Some(None)` for nil.
    pub fn voted(&self, kind: VoteKind, height: u64, round: u32) -> Option<Option<BlockId>> {
        self.said().into_iter().find_map(|message| match message {
            Message::Vote(vote) if (vote.kind, vote.height, vote.round) == (kind, height, round) => {
                Some(vote.block)
            }
            _ => None,
        })
    }

    pub fn commits(&self) -> Vec<&Commit> {
        let commits = self.effects.iter().filter_map(|effect| match effect {
            Effect::Commit(commit) => Some(&**commit),
            _ => None,
        });
        commits.collect()
    }

    pub fn evidence(&self) -> Vec<&Evidence> {
        let evidence = self.effects.iter().filter_map(|effect| match effect {
            Effect::Evidence(evidence) => Some(&**evidence),
            _ => None,
        });
        evidence.collect()
    }

    pub fn notes(&self) -> String {
        let notes = self.effects.iter().filter_map(|effect| match effect {
            Effect::Note { text } => Some(text.as_str()),
            Effect::Halt { reason } | Effect::Refused { reason, .. } => Some(reason.as_str()),
            _ => None,
        });
        notes.collect::<Vec<_>>().join("\n")
    }
}
