//! `GET /api/v1/ledger/delegates`: seats by their keys, and this home's own part. Which other home holds a seat is not said.

use api::{Delegates, SCHEMA_VERSION, Seat, Time};
use axum::Json;
use axum::extract::State;
use energy::HomeId;
use ledger::Ledger;

use super::Served;
use super::routes::ApiError;

pub(super) async fn delegates(State(served): State<Served>) -> Result<Json<Delegates>, ApiError> {
    let live = &served.state.live;
    let ledger = live.ledger().ok_or(ApiError::Busy("the ledger is not loaded yet"))?;
    Ok(Json(delegates_of(&ledger, &live.about().home)))
}

fn delegates_of(ledger: &Ledger, home: &HomeId) -> Delegates {
    let set = ledger.delegates();
    let seats = set.as_slice().iter().map(|seat| {
        let signed = ledger.signed_lately(&seat.home);
        Seat {
            key: seat.key.hex(),
            blocks: signed.map(|(blocks, _)| blocks),
            signed: signed.map(|(_, signed)| signed),
            own: seat.home == *home,
        }
    });
    let count = |rows: usize| u32::try_from(rows).unwrap_or(u32::MAX);
    Delegates {
        schema_version: SCHEMA_VERSION,
        epoch: ledger.epoch().number,
        next_election: Time(ledger.next_election()),
        term: set.term(),
        faults: set.faults(),
        changed: ledger.seats_changed().0,
        seats: seats.collect(),
        standbys: count(ledger.standbys().len()),
        candidates: count(ledger.candidates().len()),
        stands: ledger.candidacy(home, ledger.coming_term()).is_some(),
        has_stake: ledger.has_stake(home),
        barred_until: ledger.barred_until(home).map(Time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixture::{genesis, home};

    #[test]
    fn seats_are_shown_by_their_keys_and_only_the_own_one_is_marked() {
        let ledger = Ledger::genesis(&genesis()).unwrap();
        let shown = delegates_of(&ledger, &home(1));
        assert_eq!((shown.term, shown.faults, shown.seats.len()), (0, 1, 4));
        assert_eq!(shown.seats.iter().filter(|seat| seat.own).count(), 1);
        assert!(shown.has_stake && !shown.stands && shown.barred_until.is_none());
        let text = serde_json::to_string(&shown).unwrap();
        assert!(!text.contains("\"h2\"") && !text.contains("\"h3\""), "{text}");
    }
}
