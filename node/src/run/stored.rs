//! What the disk holds at a start, what a home's part in keeping the ledger makes of it, and the engine that goes on from there.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::Context;
use consensus::{Replica, ReplicaConfig, Timeouts};
use ledger::{HomeView, Ledger, PublicKey};
use tokio::sync::{mpsc, watch};

use super::{NodeSetup, member_keys};
use crate::away::{Away, Head as AwayHead};
use crate::engine::{self, Common, EngineHandle, EngineParts, Progress};
use crate::follow::{self, FollowParts};
use crate::http::Live;
use crate::joining::Beginning;
use crate::metering::Fate;
use crate::network::{NetworkEvent, NetworkHandle};
use crate::recovery::Promises;
use crate::store::Durability;
use crate::store::joined::{Held, Package};
use crate::store::ledger_db::LedgerDb;
use crate::store::log_file::{Found, LogFile};
use crate::store::prune::Retention;
use crate::terms::Terms;

/// Where the fates of entries are told, by the key that signed them.
type Fates = Vec<(PublicKey, mpsc::Sender<Fate>)>;

/// What the disk holds.
pub(super) struct Stored {
    db: LedgerDb,
    pub(super) ledger: Ledger,
    log: LogFile,
    found: Found,
    away: Away,
    /// When a home that is to hold all bodies and got no state to begin with asks for one again.
    hold_from: Instant,
}

impl Stored {
    pub(super) fn open(setup: &NodeSetup) -> anyhow::Result<Self> {
        let path = setup.data_dir.join("ledger.db");
        let mut db = LedgerDb::open(&path, Durability::Full, &setup.genesis, &setup.home)?;
        db.set_retention(Retention::days(setup.storage.bodies_days));
        let ledger = db.load(&setup.genesis)?;
        db.set_durability(engine::durability_of(&ledger, &setup.home))?;
        let (log, found) = LogFile::open(&setup.data_dir)?;
        let head = AwayHead::new(&setup.genesis, ledger.height(), ledger.head_time(), setup.clock.market());
        let own = PublicKey::of(setup.identity.member());
        let away = Away::open(&setup.data_dir, &setup.genesis, own, head);
        let hold_from = Instant::now();
        let mut stored = Self { db, ledger, log, found, away, hold_from };
        if stored.db.is_following() {
            stored.let_go()?;
        } else if !stored.ledger.holds_bodies(&setup.home) {
            stored.cease_to_hold(setup)?;
        }
        Ok(stored)
    }

    /// Ceases to hold other homes' bodies.
    fn cease_to_hold(&mut self, setup: &NodeSetup) -> anyhow::Result<()> {
        let view = HomeView::of(&self.ledger, &setup.home);
        self.db.cease_to_hold(&view)?;
        self.ledger = view.ledger().clone();
        self.let_go()
    }

    /// Lets go of what is left of other homes' bodies; a stop in between is made up for at the next start.
    fn let_go(&mut self) -> anyhow::Result<()> {
        while self.db.gone().bodies < self.db.last_height() {
            self.db.prune()?;
        }
        Ok(())
    }

    /// An empty store of a chain that is more than an epoch old begins with a recent state, if a member gives one; so does a home
    /// that is to hold all bodies, or to hold them no longer. Says who is connected by then.
    pub(super) async fn begin(
        &mut self,
        setup: &NodeSetup,
        network: &NetworkHandle,
        events: &mut mpsc::Receiver<NetworkEvent>,
    ) -> anyhow::Result<BTreeSet<PublicKey>> {
        let Some(why) = self.why_ask(setup) else { return Ok(BTreeSet::new()) };
        tracing::info!(why, "asking the other members for a recent state");
        let beginning = Beginning {
            network,
            events,
            genesis: &setup.genesis,
            home: &setup.home,
            checkpoint: self.away.checkpoint(),
        };
        let (package, connected) = beginning.fetch().await;
        let Some((package, held)) = package else {
            tracing::warn!("no member gave a recent state in time; the node goes on with what it has");
            self.hold_from = Instant::now() + follow::HOLD_AGAIN;
            return Ok(connected);
        };
        self.take_up(setup, &package, held)?;
        self.db.set_durability(engine::durability_of(&self.ledger, &setup.home))?;
        network.set_members(member_keys(&self.ledger));
        Ok(connected)
    }

    /// Why another member is asked for a recent state, if it is.
    fn why_ask(&self, setup: &NodeSetup) -> Option<&'static str> {
        let epoch_ms = setup.genesis.epoch_ms();
        let age_ms = setup.clock.market().ms_since(setup.genesis.start);
        if self.db.last_height() == 0 {
            let is_old = !setup.storage.from_genesis && age_ms > epoch_ms;
            return is_old.then_some("the store is empty");
        }
        let (ledger, home) = (&self.ledger, &setup.home);
        if self.db.is_following() {
            return ledger.holds_bodies(home).then_some("this home is to hold all bodies");
        }
        engine::may_cease(ledger, home).then_some("this home may hold all bodies no longer")
    }

    fn take_up(&mut self, setup: &NodeSetup, package: &Package, held: Held) -> anyhow::Result<()> {
        let height = package.header.height;
        match held {
            held if self.db.last_height() == 0 => {
                self.db.begin_with(package, &held)?;
                tracing::info!(
                    height,
                    "the node begins with the state after this block; bodies of blocks before it were never here"
                );
                self.ledger = held.ledger().clone();
            }
            Held::Whole(ledger) if self.db.is_following() => {
                if self.db.hold_from(package, &ledger)? {
                    tracing::info!(height, "this home holds all bodies from this block on");
                    self.ledger = *ledger;
                } else {
                    self.hold_from = Instant::now() + follow::HOLD_AGAIN;
                }
            }
            Held::View(view) if !self.db.is_following() && !view.ledger().holds_bodies(&setup.home) => {
                tracing::info!("this home holds other homes' bodies no longer");
                self.cease_to_hold(setup)?;
            }
            // Whoever gives thinks otherwise than this node's own state; that is asked again later.
            Held::View(_) | Held::Whole(_) => self.hold_from = Instant::now() + follow::HOLD_AGAIN,
        }
        Ok(())
    }
}

fn replica(setup: &NodeSetup, stored: &Stored, terms: &Terms) -> anyhow::Result<Replica> {
    let consensus = &setup.consensus;
    let founding = setup.identity.consensus().cloned();
    let config = ReplicaConfig {
        home: setup.home.clone(),
        term_keys: founding.into_iter().chain(terms.consensus_keys()).collect(),
        // A recovery is nobody's decision that a certificate could prove.
        last_certificate: stored.db.last_certificate()?.filter(|held| !held.signatures.is_empty()),
        timeouts: Timeouts {
            propose_ms: consensus.propose_timeout_ms,
            prevote_ms: consensus.vote_timeout_ms,
            precommit_ms: consensus.vote_timeout_ms,
            delta_ms: consensus.timeout_delta_ms,
            rebroadcast_ms: consensus.rebroadcast_ms,
        },
        min_block_interval_ms: consensus.min_block_interval_ms,
        speed: setup.clock.speed(),
    };
    Ok(Replica::new(config, stored.ledger.clone(), &log_bytes(&stored.found))?)
}

fn log_bytes(found: &Found) -> Cow<'_, [u8]> {
    match found {
        Found::Nothing => Cow::Borrowed(&[]),
        Found::Records(bytes) => Cow::Borrowed(bytes),
        // There was a log, and what it said is not known: the replica must not take that for a new key.
        Found::Damaged(_) => Cow::Owned(consensus::damaged_log()),
    }
}

/// The way to an engine, how far it is, and its thread.
pub(super) type Started = (EngineHandle, watch::Receiver<Progress>, JoinHandle<()>);

/// Starts the engine of a home that holds all bodies, or of one that does not.
pub(super) fn start_engine(
    setup: &NodeSetup,
    stored: Stored,
    (network, live, fates): (NetworkHandle, Arc<Live>, Fates),
) -> anyhow::Result<Started> {
    let terms = Terms::open(&setup.data_dir, &setup.home, setup.identity.member())?;
    let promises = Promises::open(&setup.data_dir)?;
    if stored.db.is_following() {
        anyhow::ensure!(
            setup.root_meter.is_none(),
            "this node reads the root meter, and its home {} does not hold all bodies: name it in `holders` of the genesis",
            setup.home
        );
        let view = stored.db.view(&setup.genesis)?.context("the ledger database has no view of the state")?;
        let trail = stored.db.trail(&setup.genesis, &setup.home)?;
        let (db, away, hold_from) = (stored.db, stored.away, stored.hold_from);
        let (clock, home) = (setup.clock.clone(), setup.home.clone());
        let common = Common { db, network, clock, live, home, terms, fates, away };
        let genesis = Arc::new(setup.genesis.clone());
        return Ok(follow::spawn(FollowParts { common, genesis, view, trail, promises, hold_from })?);
    }
    let replica = replica(setup, &stored, &terms)?;
    let (db, log, away) = (stored.db, stored.log, stored.away);
    let (clock, home) = (setup.clock.clone(), setup.home.clone());
    let common = Common { db, network, clock, live, home, terms, fates, away };
    Ok(engine::spawn(EngineParts { common, replica, log, promises, started: setup.started })?)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn a_log_that_cannot_be_read_is_handed_over_as_damaged_and_never_as_empty() {
        let damaged = log_bytes(&Found::Damaged(PathBuf::from("consensus-a.damaged"))).into_owned();
        assert_eq!(consensus::read_records(&damaged).damaged_at, Some(0));
        assert!(log_bytes(&Found::Nothing).is_empty());
        assert_eq!(*log_bytes(&Found::Records(vec![1, 2])), [1, 2]);
    }
}
