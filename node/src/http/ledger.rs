//! `GET /api/v1/ledger/head`, `/ledger/block`, `/ledger/missed` and `POST /api/v1/ledger/recovery`.
//!
//! Blocks are shown by kinds and ids of their entries, never by bodies; delegates by seats and keys, never by homes.

use api::{
    EntryName, LedgerBlock, LedgerHead, Missed, MissedBlock, MissedSeat, RecoveryAnswer, RecoveryRequest,
    RecoveryStep, SCHEMA_VERSION, Time,
};
use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use energy::Timestamp;
use ledger::codec::{Decode, Encode, Reader};
use ledger::{Certificate, HEARTBEAT_MS, Hash32, Header, Ledger, PublicKey, SeatOffer, UnverifiedBlock};
use rusqlite::{Connection, OptionalExtension, params};
use serde::Deserialize;

use super::Served;
use super::routes::{Answer, ApiError, Asked, asked};
use crate::recovery::{Refusal, Step};

/// The longest request: a block of the greatest length, in hexadecimal, and what stands around it.
pub(super) const RECOVERY_BYTES_MAX: usize = 2 * ledger::BLOCK_BYTES_MAX + 4096;
/// Blocks that are looked at for one answer at the most, the newest.
const BLOCKS_MAX: i64 = 20_000;
/// Rows of one answer at the most.
const ROWS_MAX: usize = 100;
/// A block's header and the certificate after it are shorter, in bytes: 31 signatures take 2 KiB.
const HEAD_BYTES: i64 = 4096;
/// A block comes late if the one before it is so much older, in market ms: the heartbeat and a tenth.
const LATE_MS: u64 = HEARTBEAT_MS + HEARTBEAT_MS / 10;
/// How far back is looked if nobody says, ms.
const USUAL_MS: u64 = 86_400_000;

fn present(served: &Served) -> Result<std::sync::Arc<Ledger>, ApiError> {
    served.state.live.ledger().ok_or(ApiError::Busy("the ledger is not loaded yet"))
}

/// `GET /api/v1/ledger/head`
pub(super) async fn head(State(served): State<Served>) -> Answer<LedgerHead> {
    let ledger = present(&served)?;
    Ok(Json(head_of(&ledger, served.state.live.snapshot().syncing)))
}

fn head_of(ledger: &Ledger, syncing: bool) -> LedgerHead {
    let interval = ledger.head_interval();
    let members = ledger.members().into_iter().filter(|(_, member)| member.is_member_in(interval)).count();
    LedgerHead {
        schema_version: SCHEMA_VERSION,
        chain: ledger.chain().id.hex(),
        recovery: ledger.chain().recovery,
        height: ledger.height(),
        id: ledger.head().to_string(),
        time: Time(ledger.head_time()),
        tree_size: ledger.tree_size(),
        tree_root: ledger.tree_root().hex(),
        state_root: ledger.state_root().hex(),
        epoch: ledger.epoch().number,
        term: ledger.delegates().term(),
        members: u32::try_from(members).unwrap_or(u32::MAX),
        bank_short: ledger.bank_shortfall().is_some(),
        syncing,
    }
}

/// Which block.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BlockQuery {
    height: u64,
}

/// `GET /api/v1/ledger/block`
pub(super) async fn block(State(served): State<Served>, query: Asked<BlockQuery>) -> Answer<LedgerBlock> {
    let height = asked(query)?.height;
    let row = served.database.ask(move |db| stored(db, height)).await?;
    let absent = "this node holds no block of that height: it is not final yet, or no longer kept";
    row.and_then(|row| shown(&row)).map(Json).ok_or(ApiError::Absent(absent))
}

/// A block as it is stored.
struct Row {
    block: Vec<u8>,
    certificate: Vec<u8>,
    finality_ms: i64,
}

fn stored(connection: &Connection, height: u64) -> rusqlite::Result<Option<Row>> {
    let Ok(height) = i64::try_from(height) else { return Ok(None) };
    let mut query =
        connection.prepare_cached("SELECT entries, certificate, finality_ms FROM block WHERE height = ?1")?;
    let row = |row: &rusqlite::Row<'_>| {
        Ok(Row { block: row.get(0)?, certificate: row.get(1)?, finality_ms: row.get(2)? })
    };
    query.query_row([height], row).optional()
}

fn shown(row: &Row) -> Option<LedgerBlock> {
    let block = UnverifiedBlock::from_bytes(&row.block).ok()?;
    let certificate = Certificate::from_bytes(&row.certificate).ok()?;
    let header = &block.header;
    let name = |signed: &ledger::SignedEntry| EntryName {
        id: Hash32::of(&[b"commonwatt/entry/v1", &signed.to_bytes()]).hex(),
        kind: signed.unchecked().body.kind().to_owned(),
    };
    Some(LedgerBlock {
        schema_version: SCHEMA_VERSION,
        height: header.height,
        id: header.id().to_string(),
        parent: header.parent.to_string(),
        time: Time(header.time),
        recovery: header.chain.recovery,
        is_recovery: block.recovery.is_some(),
        rule_version: header.rule_version,
        tree_size: header.tree_size,
        tree_root: header.tree_root.hex(),
        state_root: header.state_root.hex(),
        delegates: header.delegates.hex(),
        next_delegates: header.next_delegates.hex(),
        round: certificate.round,
        signed: certificate.signatures.iter().map(|(seat, _)| *seat).collect(),
        finality_ms: u64::try_from(row.finality_ms).unwrap_or_default(),
        entries: block.entries.iter().map(name).collect(),
    })
}

/// Which time.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MissedQuery {
    from: Option<String>,
    until: Option<String>,
}

/// `GET /api/v1/ledger/missed`
pub(super) async fn missed(State(served): State<Served>, query: Asked<MissedQuery>) -> Answer<Missed> {
    let MissedQuery { from, until } = asked(query)?;
    let time = |text: String| {
        Timestamp::parse(&text).map_err(|_| {
            let shown: String = text.chars().take(40).collect();
            ApiError::BadRequest(format!("{shown:?} is not a time such as 2026-06-13T08:00:00Z"))
        })
    };
    let now = served.state.live.market_time();
    let until = until.map(time).transpose()?.unwrap_or(now);
    let from = from.map(time).transpose()?.unwrap_or_else(|| until.minus_ms(USUAL_MS));
    let ledger = present(&served)?;
    let rows = served.database.ask(move |db| decided(db, from, until)).await?;
    let own = ledger.delegates().of_home(&served.state.home).map(|seat| seat.key);
    let mut missed = missed_of(&ledger, own, &rows, (from, until));
    missed.notes = served.state.live.notes_between(from, until);
    Ok(Json(missed))
}

/// Header of a block and the certificate that counts.
type Decided = (Header, Certificate);

/// The blocks between two times and the one before them, oldest first. Who signed a block is what the next one says: that holds
/// the signatures which came after the decision, too, and a seat is lost by it. Of the newest block, and where the next one's
/// body is gone, it is who was there when this node decided.
fn decided(connection: &Connection, from: Timestamp, until: Timestamp) -> rusqlite::Result<Vec<Decided>> {
    let ms = |time: Timestamp| i64::try_from(time.unix_ms()).unwrap_or(i64::MAX);
    let mut query = connection.prepare_cached(
        "SELECT header, certificate, (SELECT substr(next.entries, 1, ?4) FROM block AS next WHERE next.height = \
         block.height + 1) FROM block WHERE time_ms <= ?2 AND height >= \
         coalesce((SELECT max(height) FROM block WHERE time_ms < ?1), 0) ORDER BY height DESC LIMIT ?3",
    )?;
    let bytes = |row: &rusqlite::Row<'_>| {
        Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?, row.get::<_, Option<Vec<u8>>>(2)?))
    };
    let rows = query.query_map(params![ms(from), ms(until), BLOCKS_MAX, HEAD_BYTES], bytes)?;
    let mut found = Vec::new();
    for row in rows {
        let (header, certificate, next) = row?;
        let later = next.as_deref().and_then(certificate_of_parent);
        if let Ok(header) = Header::from_bytes(&header)
            && let Some(certificate) = later.or_else(|| Certificate::from_bytes(&certificate).ok())
        {
            found.push((header, certificate));
        }
    }
    found.reverse();
    Ok(found)
}

/// The certificate of the block before, which a block's bytes begin with after the header.
fn certificate_of_parent(block: &[u8]) -> Option<Certificate> {
    let mut reader = Reader::new(block);
    Header::decode(&mut reader).ok()?;
    Option::<Certificate>::decode(&mut reader).ok()?
}

fn missed_of(
    ledger: &Ledger,
    own: Option<PublicKey>,
    rows: &[Decided],
    (from, until): (Timestamp, Timestamp),
) -> Missed {
    let set = ledger.delegates();
    let present = set.hash();
    let mut seats: Vec<MissedSeat> = (0u8..)
        .zip(set.as_slice())
        .map(|(seat, of)| MissedSeat {
            seat,
            key: of.key.hex(),
            own: Some(of.key) == own,
            blocks: 0,
            missed: 0,
        })
        .collect();
    let (mut blocks, mut with_failed_rounds, mut late, mut shown) = (0, 0, 0, Vec::new());
    let mut before: Option<Timestamp> = None;
    for (header, certificate) in rows {
        let after_ms = before.map_or(0, |before| header.time.ms_since(before));
        before = Some(header.time);
        if header.time < from {
            continue;
        }
        blocks += 1;
        let is_late = after_ms > LATE_MS;
        with_failed_rounds += u32::from(certificate.round > 0);
        late += u32::from(is_late);
        let is_present = header.delegates == present && !certificate.signatures.is_empty();
        let signed = |seat: u8| certificate.signatures.iter().any(|(signer, _)| *signer == seat);
        let unsigned: Vec<u8> = match is_present {
            true => seats.iter().map(|row| row.seat).filter(|seat| !signed(*seat)).collect(),
            false => Vec::new(),
        };
        for row in seats.iter_mut().filter(|_| is_present) {
            row.blocks += 1;
            row.missed += u32::from(unsigned.contains(&row.seat));
        }
        if is_late || certificate.round > 0 {
            let (height, time) = (header.height, Time(header.time));
            shown.push(MissedBlock { height, time, after_ms, failed_rounds: certificate.round, unsigned });
        }
    }
    shown.reverse();
    shown.truncate(ROWS_MAX);
    Missed {
        schema_version: SCHEMA_VERSION,
        from: Time(from),
        until: Time(until),
        blocks,
        with_failed_rounds,
        late,
        rows: shown,
        seats,
        notes: Vec::new(),
    }
}

/// `POST /api/v1/ledger/recovery`
pub(super) async fn recovery(
    State(served): State<Served>,
    request: Result<Json<RecoveryRequest>, JsonRejection>,
) -> Result<(StatusCode, Json<RecoveryAnswer>), ApiError> {
    let Json(request) = request.map_err(|rejection| match rejection {
        JsonRejection::MissingJsonContentType(_) => ApiError::NotJson,
        other => ApiError::BadRequest(other.body_text()),
    })?;
    let step = step_of(request)?;
    let engine =
        served.state.engine.as_ref().ok_or(ApiError::Busy("this node takes no part in recoveries"))?;
    let bytes = engine.recovery(step).await.map_err(refused)?;
    let answer = RecoveryAnswer { schema_version: SCHEMA_VERSION, bytes: hex::encode(bytes) };
    Ok((StatusCode::ACCEPTED, Json(answer)))
}

fn step_of(request: RecoveryRequest) -> Result<Step, ApiError> {
    let bad = |what: &str| ApiError::BadRequest(what.to_owned());
    let block = |block: Option<String>| {
        let text = block.ok_or_else(|| bad("block is missing: the recovery block, hexadecimal"))?;
        hex::decode(text).map_err(|_| bad("block is not hexadecimal"))
    };
    Ok(match request.step {
        RecoveryStep::Offer => Step::Offer(request.number),
        RecoveryStep::Propose => {
            let offer = |text: &String| {
                let bytes = hex::decode(text).map_err(|_| bad("an offer is not hexadecimal"))?;
                SeatOffer::from_bytes(&bytes)
                    .map_err(|error| ApiError::BadRequest(format!("an offer: {error}")))
            };
            Step::Propose(request.number, request.offers.iter().map(offer).collect::<Result<_, _>>()?)
        }
        RecoveryStep::Attest => Step::Attest(block(request.block)?),
        RecoveryStep::Publish => Step::Publish(block(request.block)?),
    })
}

fn refused(refusal: Refusal) -> ApiError {
    match refusal {
        Refusal::Refused(what) => ApiError::BadRequest(what),
        Refusal::NotNow(what) => ApiError::Busy(what),
        Refusal::Disk(_) | Refusal::Keys(_) => {
            tracing::error!(error = %refusal, "a step of a recovery failed");
            ApiError::Busy("the node cannot keep what this step needs; its log says why")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Durability;
    use crate::store::fixture::{Street, genesis, home, store};
    use crate::store::ledger_db::LedgerDb;

    fn street() -> (tempfile::TempDir, Street, Connection) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        let mut db = LedgerDb::open(&path, Durability::Full, &genesis(), &home(1)).unwrap();
        let mut street = Street::new();
        store(&mut db, &street.run(3));
        let connection = Connection::open(&path).unwrap();
        (folder, street, connection)
    }

    #[test]
    fn a_block_is_shown_by_kinds_and_ids_and_never_by_what_it_says() {
        let (_folder, street, db) = street();
        let height = street.ledger.height();
        let mut kinds = std::collections::BTreeSet::new();
        for at in 1..=height {
            let block = shown(&stored(&db, at).unwrap().unwrap()).unwrap();
            assert_eq!(block.height, at);
            let text = serde_json::to_string(&block).unwrap();
            assert!(!text.contains("\"h1\"") && !text.contains("owner"), "{text}");
            kinds.extend(block.entries.iter().map(|entry| entry.kind.clone()));
            for entry in &block.entries {
                let id = hex::decode(&entry.id).unwrap();
                let held: i64 =
                    db.query_row("SELECT height FROM entry WHERE id = ?1", [id], |row| row.get(0)).unwrap();
                assert_eq!(u64::try_from(held), Ok(at));
            }
        }
        assert!(kinds.contains("reading"), "{kinds:?}");
        assert!(stored(&db, height + 1).unwrap().is_none());
        assert!(stored(&db, u64::MAX).unwrap().is_none());
    }

    #[test]
    fn who_signed_a_block_is_what_the_next_one_says_of_it() {
        let (folder, street, db) = street();
        let until = street.ledger.head_time();
        let before = decided(&db, Timestamp::EPOCH, until).unwrap();
        let mut later = before[0].1.clone();
        later.signatures.truncate(1);
        let next = [before[1].0.to_bytes(), Some(later.clone()).to_bytes(), vec![7; 90]].concat();
        let writer = Connection::open(folder.path().join("ledger.db")).unwrap();
        writer.execute("UPDATE block SET entries = ?1 WHERE height = 2", [&next]).unwrap();
        let after = decided(&db, Timestamp::EPOCH, until).unwrap();
        assert_eq!(after[0], (before[0].0.clone(), later));
        assert_eq!(after[1..], before[1..]);
        // A body that is gone says nothing.
        writer.execute("UPDATE block SET entries = x'' WHERE height = 2", []).unwrap();
        assert_eq!(decided(&db, Timestamp::EPOCH, until).unwrap(), before);
    }

    #[test]
    fn what_was_missed_counts_seats_rounds_and_pauses_of_the_time_asked_for() {
        let (_folder, street, db) = street();
        let ledger = &street.ledger;
        let until = ledger.head_time();
        let rows = decided(&db, Timestamp::EPOCH, until).unwrap();
        assert_eq!(rows.len() as u64, ledger.height());
        let all = missed_of(ledger, None, &rows, (Timestamp::EPOCH, until));
        assert_eq!(u64::from(all.blocks), ledger.height());
        assert_eq!(all.seats.len(), 4);
        let unsigned: u32 = all.seats.iter().map(|seat| seat.missed).sum();
        let signed: usize = rows.iter().map(|(_, certificate)| certificate.signatures.len()).sum();
        assert_eq!(unsigned as usize + signed, rows.len() * 4);
        // Only the last block, and the pause before it.
        let last = decided(&db, until, until).unwrap();
        assert_eq!(last.len(), 2, "the one before tells how long it took");
        let one = missed_of(ledger, None, &last, (until, until));
        assert_eq!(one.blocks, 1);
        let mut slow = last;
        slow[0].0.time = until.minus_ms(LATE_MS + 1);
        slow[1].1.round = 2;
        let slow = missed_of(ledger, None, &slow, (until, until));
        assert_eq!((slow.late, slow.with_failed_rounds, slow.rows.len()), (1, 1, 1));
        assert_eq!((slow.rows[0].failed_rounds, slow.rows[0].after_ms), (2, LATE_MS + 1));
    }

    #[test]
    fn the_head_is_that_of_the_ledger() {
        let (_folder, street, _) = street();
        let head = head_of(&street.ledger, false);
        assert_eq!((head.height, head.recovery), (street.ledger.height(), 0));
        assert_eq!(head.id, street.ledger.head().to_string());
        assert!(head.members >= 4);
    }
}
