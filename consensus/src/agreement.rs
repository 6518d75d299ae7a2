//! What a replica needs from an agreement protocol, in our own words, so that the protocol's core stays replaceable.

pub use ledger::Evidence;
use ledger::{BlockId, Certificate, DelegateSet, PublicKey};

use crate::log::{Judged, Record, TimeoutKind};
use crate::message::{Message, Polka, RoundCertificate, SignedProposal, SignedVote, Statement};

/// A timeout of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timeout {
    /// Which.
    pub kind: TimeoutKind,
    /// Of which round.
    pub round: u32,
}

/// Something that happened to the height being decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A vote arrived.
    Vote(SignedVote),
    /// A proposal arrived; the verdict on its block is [`Event::Judged`] and comes first.
    Proposal(SignedProposal),
    /// A polka arrived.
    Polka(Polka),
    /// A round certificate arrived.
    Round(RoundCertificate),
    /// A timeout elapsed.
    Timeout(Timeout),
    /// The block that was asked for by [`Action::NeedValue`].
    Value {
        /// The round it was asked for.
        round: u32,
        /// The block.
        block: BlockId,
    },
    /// The verdict on a proposed block. May turn from invalid to valid, never back.
    Judged(Judged),
}

/// What the protocol asks for, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Must be durable before any later [`Action::Publish`] leaves.
    Log(Record),
    /// Send to all other delegates. A proposal comes without its block.
    Publish(Message),
    /// Start a timeout, or start it again.
    Schedule(Timeout),
    /// Stop a timeout.
    Cancel(Timeout),
    /// Stop all timeouts.
    CancelAll,
    /// This node proposes in this round: build a block.
    NeedValue {
        /// The round.
        round: u32,
    },
    /// Final. Nothing of this height follows but evidence.
    Decided(Certificate),
    /// Somebody signed two things where one is allowed.
    Evidence(Evidence),
    /// Going on could contradict what was said before: stop this node.
    Halt(String),
    /// For the operator's log.
    Note(String),
}

/// A protocol that decides one block a height.
///
/// A height is first entered (statements of its delegates can be checked and kept), then started (now this node votes).
pub trait Agreement {
    /// Turns to a height; what was known of another is forgotten.
    fn enter(&mut self, height: u64, delegates: &DelegateSet);

    /// Binds this node to a statement of its own that does not follow from its log, for this height or a later one.
    fn pin(&mut self, statement: Statement);

    /// Starts the entered height from what its log holds.
    fn start(&mut self, logged: &[Record]) -> Vec<Action>;

    /// Takes an event; nothing happens before the start or after the decision.
    fn handle(&mut self, event: Event) -> Vec<Action>;

    /// Evidence gathered so far; call before another height is entered without a decision of this one here.
    fn take_evidence(&mut self) -> Vec<Evidence>;

    /// True if the statement is of the entered height, by a delegate entitled to make it, and its signature holds. It
    /// is remembered.
    fn is_genuine(&mut self, statement: &Statement) -> bool;

    /// True if more than two thirds are known to have prevoted for the block in one round.
    fn has_polka(&self, block: &BlockId) -> bool;

    /// Who is known to have prevoted for the block, in whatever round.
    fn prevoters(&self, block: &BlockId) -> Vec<PublicKey>;

    /// The round being decided; `None` before the start.
    fn round(&self) -> Option<u32>;

    /// All genuine statements of a delegate at the entered height.
    fn statements_of(&self, key: &PublicKey) -> Vec<Statement>;
}
