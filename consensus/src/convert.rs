//! Between the core's types and what travels and is logged.

use ledger::VoteKind;
use malachitebft_core_consensus::{Input, ProposedValue};
use malachitebft_core_types as bft;

use crate::agreement::Timeout;
use crate::context::{Address, Height, Neighbourhood, Proposal, Value, Vote};
use crate::log::{Judged, Record, TimeoutKind};
use crate::message::{Polka, RoundCertificate, RoundVote, SignedProposal, SignedVote};

/// A vote as it travels, from the core's. A vote of the core always names its round.
pub(crate) fn wire_vote(vote: &bft::SignedVote<Neighbourhood>) -> SignedVote {
    SignedVote {
        kind: vote.message.kind,
        height: vote.message.height.0,
        round: vote.message.round.as_u32().unwrap_or(0),
        block: vote.message.block(),
        voter: vote.message.voter.0,
        signature: vote.signature,
    }
}

/// A vote for the core, from what travelled.
pub(crate) fn core_vote(vote: &SignedVote) -> bft::SignedVote<Neighbourhood> {
    let message = Vote {
        kind: vote.kind,
        height: Height(vote.height),
        round: bft::Round::new(vote.round),
        value: vote.block.map_or(bft::NilOrVal::Nil, |block| bft::NilOrVal::Val(Value(block))),
        voter: Address(vote.voter),
    };
    bft::SignedMessage::new(message, vote.signature)
}

/// A proposal as it travels, from the core's.
pub(crate) fn wire_proposal(proposal: &bft::SignedProposal<Neighbourhood>) -> SignedProposal {
    SignedProposal {
        height: proposal.message.height.0,
        round: proposal.message.round.as_u32().unwrap_or(0),
        block: proposal.message.value.0,
        valid_round: proposal.message.valid_round.as_u32(),
        proposer: proposal.message.proposer.0,
        signature: proposal.signature,
    }
}

/// A proposal for the core, from what travelled.
pub(crate) fn core_proposal(proposal: &SignedProposal) -> bft::SignedProposal<Neighbourhood> {
    let message = Proposal {
        height: Height(proposal.height),
        round: bft::Round::new(proposal.round),
        value: Value(proposal.block),
        valid_round: bft::Round::from(proposal.valid_round),
        proposer: Address(proposal.proposer),
    };
    bft::SignedMessage::new(message, proposal.signature)
}

/// A timeout for the core.
pub(crate) fn core_timeout(timeout: Timeout) -> bft::Timeout {
    let round = bft::Round::new(timeout.round);
    match timeout.kind {
        TimeoutKind::Propose => bft::Timeout::propose(round),
        TimeoutKind::Prevote => bft::Timeout::prevote(round),
        TimeoutKind::Precommit => bft::Timeout::precommit(round),
        TimeoutKind::Rebroadcast => bft::Timeout::rebroadcast(round),
    }
}

/// The core's timeout in our words; `None` for the one kind that is never used.
pub(crate) fn wire_timeout(timeout: bft::Timeout) -> Option<Timeout> {
    let kind = match timeout.kind {
        bft::TimeoutKind::Propose => TimeoutKind::Propose,
        bft::TimeoutKind::Prevote => TimeoutKind::Prevote,
        bft::TimeoutKind::Precommit => TimeoutKind::Precommit,
        bft::TimeoutKind::Rebroadcast => TimeoutKind::Rebroadcast,
        // Only with a target time.
        bft::TimeoutKind::FinalizeHeight(_) => return None,
    };
    Some(Timeout { kind, round: timeout.round.as_u32()? })
}

/// A verdict for the core.
pub(crate) fn core_judged(height: u64, judged: &Judged) -> Input<Neighbourhood> {
    let value = ProposedValue {
        height: Height(height),
        round: bft::Round::new(judged.round),
        valid_round: bft::Round::from(judged.valid_round),
        proposer: Address(judged.proposer),
        value: Value(judged.block),
        validity: bft::Validity::from_bool(judged.valid),
    };
    Input::ProposedValue(value, bft::ValueOrigin::Consensus)
}

/// A polka for the core, from what travelled.
pub(crate) fn core_polka(polka: &Polka) -> bft::PolkaCertificate<Neighbourhood> {
    bft::PolkaCertificate {
        height: Height(polka.height),
        round: bft::Round::new(polka.round),
        value_id: Value(polka.block),
        polka_signatures: polka
            .signatures
            .iter()
            .map(|(voter, signature)| bft::PolkaSignature::new(Address(*voter), *signature))
            .collect(),
    }
}

/// A polka as it travels.
pub(crate) fn wire_polka(polka: &bft::PolkaCertificate<Neighbourhood>) -> Polka {
    Polka {
        height: polka.height.0,
        round: polka.round.as_u32().unwrap_or(0),
        block: polka.value_id.0,
        signatures: polka.polka_signatures.iter().map(|vote| (vote.address.0, vote.signature)).collect(),
    }
}

/// A round certificate for the core, from what travelled.
pub(crate) fn core_round(certificate: &RoundCertificate) -> bft::RoundCertificate<Neighbourhood> {
    let votes = certificate.votes.iter().map(|vote| {
        let kind = match vote.kind {
            VoteKind::Prevote => bft::VoteType::Prevote,
            VoteKind::Precommit => bft::VoteType::Precommit,
        };
        let value = vote.block.map_or(bft::NilOrVal::Nil, |block| bft::NilOrVal::Val(Value(block)));
        bft::RoundSignature::new(kind, value, Address(vote.voter), vote.signature)
    });
    bft::RoundCertificate {
        height: Height(certificate.height),
        round: bft::Round::new(certificate.round),
        cert_type: if certificate.skip {
            bft::RoundCertificateType::Skip
        } else {
            bft::RoundCertificateType::Precommit
        },
        round_signatures: votes.collect(),
    }
}

/// A round certificate as it travels.
pub(crate) fn wire_round(certificate: &bft::RoundCertificate<Neighbourhood>) -> RoundCertificate {
    let votes = certificate.round_signatures.iter().map(|vote| RoundVote {
        kind: match vote.vote_type {
            bft::VoteType::Prevote => VoteKind::Prevote,
            bft::VoteType::Precommit => VoteKind::Precommit,
        },
        block: match vote.value_id {
            bft::NilOrVal::Val(value) => Some(value.0),
            bft::NilOrVal::Nil => None,
        },
        voter: vote.address.0,
        signature: vote.signature,
    });
    RoundCertificate {
        height: certificate.height.0,
        round: certificate.round.as_u32().unwrap_or(0),
        skip: certificate.cert_type == bft::RoundCertificateType::Skip,
        votes: votes.collect(),
    }
}

/// What of the core's inputs is logged: all that decides what this node says.
pub(crate) fn wire_record(input: &Input<Neighbourhood>) -> Option<Record> {
    Some(match input {
        Input::Vote(vote) => Record::Vote(wire_vote(vote)),
        Input::Proposal(proposal) => Record::Proposal(wire_proposal(proposal)),
        Input::PolkaCertificate(polka) => Record::Polka(wire_polka(polka)),
        Input::TimeoutElapsed(timeout) => {
            let timeout = wire_timeout(*timeout)?;
            Record::Timeout { kind: timeout.kind, round: timeout.round }
        }
        Input::ProposedValue(value, _) => Record::Judged(Judged {
            round: value.round.as_u32().unwrap_or(0),
            valid_round: value.valid_round.as_u32(),
            proposer: value.proposer.0,
            block: value.value.0,
            valid: value.validity.is_valid(),
        }),
        Input::StartHeight(..)
        | Input::RoundCertificate(_)
        | Input::Propose(_)
        | Input::SyncValueResponse(_) => {
            return None;
        }
    })
}

/// The core's input that a record was made of.
pub(crate) fn core_input(height: u64, record: &Record) -> Option<Input<Neighbourhood>> {
    Some(match record {
        Record::Vote(vote) => Input::Vote(core_vote(vote)),
        Record::Proposal(proposal) => Input::Proposal(core_proposal(proposal)),
        Record::Judged(judged) => core_judged(height, judged),
        Record::Polka(polka) => Input::PolkaCertificate(core_polka(polka)),
        Record::Timeout { kind, round } => {
            Input::TimeoutElapsed(core_timeout(Timeout { kind: *kind, round: *round }))
        }
        Record::Opened { .. }
        | Record::Asking { .. }
        | Record::Height(_)
        | Record::Body(_)
        | Record::Pinned(_)
        | Record::CleanStop(_) => {
            return None;
        }
    })
}
