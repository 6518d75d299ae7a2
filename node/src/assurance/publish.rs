//! What is said on the ledger about meters: a home's evidence of a day, and at the transformer the statement about all.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use energy::{ClockQuality, HomeId, Interval};
use ledger::{AssuranceStatement, Body, Finding, Ledger, MeterAssurance, MeterEvidence};
use meter::assurance::{LossModel, Place, PvDeclaration, assess};
use meter::{Catalog, LiveSample};
use tokio::sync::mpsc;

use super::{
    Collector, Community, DayEvidence, EvidenceRow, Gathering, HomeRow, ReadingRow, Sampling, due_homes,
    feeders, statements, window_start,
};
use crate::clock::Clock;
use crate::engine::EngineHandle;
use crate::http::Live;
use crate::meters::MeterPanel;
use crate::store::StoreError;
use crate::store::series::{SeriesRow, StoredEvidence, StoredReading, series};

/// How often the assessor looks whether a statement is due, wall time.
const CHECK_EVERY: Duration = Duration::from_secs(30);
/// The same on an accelerated chain.
const CHECK_EVERY_DEMO: Duration = Duration::from_millis(500);
/// A statement that is not final so long after it was handed over, wall time, is lost or was refused, and made again.
const RESTATE_AFTER: Duration = Duration::from_secs(300);
/// The same on an accelerated chain.
const RESTATE_AFTER_DEMO: Duration = Duration::from_secs(10);

/// Gathers a home's evidence from what its devices show anyway, and hands it over once a day.
pub struct Gatherer {
    home: HomeId,
    collector: Collector,
    clock: Arc<dyn Clock>,
    panel: Arc<MeterPanel>,
    entries: mpsc::Sender<Body>,
}

impl Gatherer {
    /// A gatherer for `home`, whose devices are on `panel` and read every `every`; what it finds goes to `entries`.
    #[must_use]
    pub fn new(
        home: HomeId,
        pv: Option<PvDeclaration>,
        clock: Arc<dyn Clock>,
        panel: Arc<MeterPanel>,
        (mtu, every): (energy::Mtu, Duration),
        entries: mpsc::Sender<Body>,
    ) -> Self {
        let every_ms = u64::try_from(every.as_millis()).unwrap_or(u64::MAX);
        let sampling = Sampling { mtu, every_ms, speed: clock.speed() };
        Self { home, collector: Collector::new(sampling, pv), clock, panel, entries }
    }

    /// Takes one sample of the meter at the connection point, and what inverter and PV meter showed last.
    pub fn take(&mut self, sample: &LiveSample) {
        let (now, quality) = (self.clock.market(), self.clock.quality());
        let finished = self.collector.voltage(now, quality, sample.voltage_mv);
        self.say(finished);
        if let Some(generation) = self.panel.generation() {
            let finished = self.collector.generation(
                now,
                quality,
                generation.inverter,
                generation.meter,
                generation.quantum,
            );
            self.say(finished);
        }
    }

    /// Gives the day that has ended meanwhile, for a time in which the meter is silent.
    pub fn look_at_the_clock(&mut self) {
        if self.clock.quality() != ClockQuality::Unsynced {
            let finished = self.collector.finish(self.clock.market());
            self.say(finished);
        }
    }

    fn say(&self, day: Option<DayEvidence>) {
        let Some(DayEvidence { from, voltage_dv, pv, inverter_permille }) = day else { return };
        let evidence = MeterEvidence {
            home: self.home.clone(),
            from,
            voltage_dv,
            pv: pv.map(|pv| ledger::PvDeclaration { peak_w: pv.peak_w, storage: pv.storage }),
            inverter_permille,
        };
        if self.entries.try_send(Body::MeterEvidence(evidence)).is_err() {
            tracing::warn!("the evidence of a day is lost: too much waits to be signed");
        }
    }
}

/// The assessor beside the transformer's meter.
pub struct Assessor {
    /// Where final readings and evidence are.
    pub database: PathBuf,
    /// Knows the ledger.
    pub engine: EngineHandle,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where the community is, if anybody said.
    pub place: Option<Place>,
    /// Which profiles can tell a serial number.
    pub catalog: Catalog,
    /// Takes what is to be signed with the root meter's key.
    pub entries: mpsc::Sender<Body>,
    /// Tells when the node stops.
    pub live: Arc<Live>,
}

impl Assessor {
    /// States the levels of all meters whenever a statement is due, until the node stops.
    pub async fn run(self) {
        let (every, again) = match self.clock.speed() {
            1 => (CHECK_EVERY, RESTATE_AFTER),
            _ => (CHECK_EVERY_DEMO, RESTATE_AFTER_DEMO),
        };
        let mut said: Option<(Interval, Instant)> = None;
        while !self.live.is_closed() {
            tokio::time::sleep(every).await;
            let Some(ledger) = self.engine.ledger().await else { return };
            let Some((until, homes)) = statement_due(&ledger) else { continue };
            // What was handed over may not be final yet.
            if said.is_some_and(|(last, at)| last == until && at.elapsed() < again) {
                continue;
            }
            match self.state(*ledger, until, homes).await {
                Ok(()) => said = Some((until, Instant::now())),
                Err(error) => tracing::warn!(%error, "the meters could not be assessed; tried again"),
            }
        }
    }

    async fn state(
        &self,
        ledger: Ledger,
        until: Interval,
        homes: BTreeSet<HomeId>,
    ) -> Result<(), AssessError> {
        let (path, place, catalog) = (self.database.clone(), self.place, self.catalog.clone());
        let bodies =
            tokio::task::spawn_blocking(move || assessed(&path, &ledger, (until, &homes), place, &catalog));
        for body in bodies.await?? {
            self.entries.send(body).await.map_err(|_| AssessError::Stopping)?;
        }
        Ok(())
    }
}

/// Why nothing was stated.
#[derive(Debug, thiserror::Error)]
enum AssessError {
    #[error(transparent)]
    Database(#[from] StoreError),
    #[error("the node is stopping")]
    Stopping,
    #[error("the assessment broke off: {0}")]
    Broken(#[from] tokio::task::JoinError),
}

/// What is due by the ledger's own rule.
fn statement_due(ledger: &Ledger) -> Option<(Interval, BTreeSet<HomeId>)> {
    let settled = ledger.next_to_settle().previous()?;
    let first = Interval::containing(ledger.genesis_terms().start, settled.mtu());
    let members = ledger.members();
    let stated = members.iter().map(|(home, _)| (*home, ledger.last_stated(home)));
    due_homes(stated, (first, settled), ledger.assurance_every())
}

fn assessed(
    path: &std::path::Path,
    ledger: &Ledger,
    (until, due): (Interval, &BTreeSet<HomeId>),
    place: Option<Place>,
    catalog: &Catalog,
) -> Result<Vec<Body>, AssessError> {
    let terms = ledger.genesis_terms();
    let mut rows = Gathering::new(until, &homes(ledger, catalog), &feeders(&terms.network));
    series(path, terms, window_start(until), until, |row| match row {
        SeriesRow::Reading(row) => rows.reading(&reading(row)),
        SeriesRow::Evidence(row) => rows.day(&day(row)),
    })?;
    let mut assessment = assess(&rows.finish(Community { losses: LossModel::default(), place }));
    assessment.meters.retain(|meter| due.contains(&meter.home));
    let groups = statements(assessment, |found| ledger.assurance_ceiling(&on_ledger(found), until));
    let body = |group: Vec<meter::assurance::MeterAssurance>| {
        let meters = group.iter().map(on_ledger).collect();
        Body::AssuranceStatement(AssuranceStatement { until, meters })
    };
    Ok(groups.into_iter().map(body).collect())
}

/// Every member; its meter is identified if its profile is known and has a register for the serial number.
fn homes(ledger: &Ledger, catalog: &Catalog) -> Vec<HomeRow> {
    let says_its_serial =
        |hash: [u8; 32]| catalog.iter().any(|profile| profile.hash() == hash && profile.has_serial());
    let row = |(home, member): (&HomeId, &ledger::Member)| HomeRow {
        home: home.clone(),
        node: member.admission.node.clone(),
        identified: says_its_serial(member.admission.meter.profile_hash),
        quantum: member.admission.meter.quantum,
    };
    ledger.members().into_iter().map(row).collect()
}

fn on_ledger(found: &meter::assurance::MeterAssurance) -> MeterAssurance {
    let finding = |finding: meter::assurance::Finding| match finding {
        meter::assurance::Finding::NotApplicable => Finding::NotApplicable,
        meter::assurance::Finding::Unknown => Finding::Unknown,
        meter::assurance::Finding::Consistent { figure } => Finding::Consistent { figure },
        meter::assurance::Finding::Contradicts { figure } => Finding::Contradicts { figure },
    };
    MeterAssurance {
        home: found.home.clone(),
        level: found.level,
        transformer: finding(found.transformer),
        pv: finding(found.pv),
        inverter: finding(found.inverter),
        voltage: finding(found.voltage),
    }
}

fn reading(row: StoredReading) -> ReadingRow {
    let StoredReading { home, interval, epoch, import, export, quantum, quality, clock_quality } = row;
    ReadingRow { home, interval, epoch, import, export, quantum, quality, clock_quality }
}

fn day(StoredEvidence { given, evidence }: StoredEvidence) -> EvidenceRow {
    let MeterEvidence { home, from, voltage_dv, pv, inverter_permille } = evidence;
    let pv = pv.map(|pv| PvDeclaration { peak_w: pv.peak_w, storage: pv.storage });
    EvidenceRow { home, from, given, voltage_dv, pv, inverter_permille }
}
