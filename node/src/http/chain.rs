//! `GET /api/v1/ledger/holdings` and `/api/v1/ledger/proof`: what this node holds of the chain, and proofs of what is this
//! home's own or public.

use api::{ChainProof, Holdings, SCHEMA_VERSION};
use axum::Json;
use axum::extract::State;
use ledger::codec::{Decode, Encode};
use ledger::{EntryId, Ledger};
use serde::Deserialize;

use super::Served;
use super::routes::{Answer, ApiError, Asked, asked};
use crate::store::proof::{ProofError, Reader, Wanted, prove};
use crate::store::{Gone, holdings};

/// What is to be proven: one of the two.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProofQuery {
    entry: Option<String>,
    leaf: Option<u64>,
}

pub(super) async fn holdings_of_node(State(served): State<Served>) -> Answer<Holdings> {
    let live = &served.state.live;
    let ledger = live.ledger().ok_or(ApiError::Busy("the ledger is not loaded yet"))?;
    let (gone, snapshots) = served.database.ask(holdings).await?;
    let mut held = of(&ledger, gone, snapshots);
    held.waiting = live.waiting();
    held.checkpoint = live.checkpoint();
    Ok(Json(held))
}

fn of(ledger: &Ledger, gone: Gone, snapshots: Vec<u64>) -> Holdings {
    Holdings {
        schema_version: SCHEMA_VERSION,
        bodies_from: gone.bodies + 1,
        certificates_from: gone.certificates + 1,
        joined: gone.joined,
        snapshots,
        rule_version: ledger.rule_version(),
        coming_rules: ledger.coming_rules(),
        known_rules: ledger.known_rules(),
        checkpoint: None,
        waiting: None,
    }
}

pub(super) async fn proof(State(served): State<Served>, query: Asked<ProofQuery>) -> Answer<ChainProof> {
    let wanted = wanted(query)?;
    let live = &served.state.live;
    let ledger = live.ledger().ok_or(ApiError::Busy("the ledger is not loaded yet"))?;
    let (path, home) = (served.state.database.clone(), served.state.home.clone());
    let asked = tokio::task::spawn_blocking(move || {
        prove(&path, ledger.genesis_terms(), wanted, Reader::Home(&home))
    });
    let proof = match asked.await {
        Ok(Ok(proof)) => proof,
        Ok(Err(ProofError::Store(error))) => {
            tracing::error!(%error, "a proof cannot be made");
            return Err(ApiError::Busy("the ledger database does not answer; the node's log says why"));
        }
        Ok(Err(ProofError::Unknown)) => return Err(ApiError::Absent("no final block here holds it")),
        Ok(Err(ProofError::Gone { .. })) => {
            return Err(ApiError::Absent("what it stands for is no longer stored here"));
        }
        Ok(Err(ProofError::NotOwn)) => {
            return Err(ApiError::Absent("it is about another home, and only that home can prove it"));
        }
        Err(_) => return Err(ApiError::Busy("the node is stopping")),
    };
    Ok(Json(ChainProof {
        schema_version: SCHEMA_VERSION,
        leaf: proof.position,
        height: proof.header.height,
        proof: hex::encode(proof.to_bytes()),
    }))
}

fn wanted(query: Asked<ProofQuery>) -> Result<Wanted, ApiError> {
    let bad = || {
        ApiError::BadRequest("name an entry by 64 hexadecimal digits, or a leaf by its position".to_owned())
    };
    let query = asked(query)?;
    match (query.entry, query.leaf) {
        (Some(entry), None) => {
            let bytes = hex::decode(entry).map_err(|_| bad())?;
            EntryId::from_bytes(&bytes).map(Wanted::Entry).map_err(|_| bad())
        }
        (None, Some(leaf)) => Ok(Wanted::Leaf(leaf)),
        _ => Err(bad()),
    }
}
