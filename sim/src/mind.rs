//! The agent of the `agent` crate in a simulated home, as the appliance runs it.
//!
//! It is told what an appliance knows and no more: its own meters and devices, the tariff that is published, its community's
//! totals, what was settled for itself. Recorded time is taken as local time.

use agent::{
    Account, Action, Cleared, Connection, Delivered, HORIZON, Lead, LocalTime, OpenOffer, Paid, Premises,
    Quantity, Roof, Seen, Settled, Terms,
};
use energy::{Mtu, WattHours};
use ledger::{EntryId, Hash32, HomeOutcome, TariffPoint};
use market::{ENTRIES_PER_HOUR, Position, Tariff};

use crate::brain::{Brain, Decision, ForecastErrors, Lived, Moment, Place, Traded, Wish};

/// Recorded time is local time.
const LOCAL: LocalTime = LocalTime { east_s: 0, change: None };
/// An hour, ms.
const HOUR_MS: u64 = 3_600_000;

/// One home's agent, and its orders in the book.
#[derive(Debug)]
pub(crate) struct Mind {
    place: Place,
    mind: agent::Mind,
    open: Vec<OpenOffer>,
    /// What `decide` wanted, until it is known under which names it went out.
    wanted: Vec<Wish>,
    quota: Quota,
}

/// Entries signed in the current hour.
#[derive(Debug, Default)]
struct Quota {
    hour: u64,
    used: u32,
}

impl Mind {
    /// Knows nothing yet.
    pub(crate) fn new(place: Place) -> Self {
        let roof = (place.peak_w > 0).then_some(Roof { peak_w: place.peak_w, site: None });
        let Place { devices, wishes, alike, taste, .. } = place;
        let mind = agent::Mind::new(Premises { mtu: Mtu::Min15, devices, wishes, roof, alike, taste });
        Self { place, mind, open: Vec::new(), wanted: Vec::new(), quota: Quota::default() }
    }

    fn terms(&self, tariff: &TariffPoint) -> Terms {
        let Place { fee_down, fee_up, .. } = self.place;
        let TariffPoint { import_price, export_price } = *tariff;
        Terms {
            tariff: Tariff { import_price, export_price },
            // Prices and fees of a ledger are bounded far inside their type.
            supplier_import: import_price.add(fee_down).unwrap_or(import_price),
            supplier_export: export_price.sub(fee_up).unwrap_or(export_price),
            fee_down: self.place.local_fee_down,
            fee_up: self.place.local_fee_up,
        }
    }

    fn learn(&mut self, moment: &Moment<'_>) {
        if let Some((before, Lived { given, step })) = moment.interval.previous().zip(moment.lived) {
            let seen = Seen {
                import: step.import,
                export: step.export,
                pv: Some(given.pv.saturating_sub(step.curtailed)),
                did: agent::Did {
                    charge: step.charge,
                    discharge: step.discharge,
                    vehicle: step.vehicle,
                    heat: step.heat,
                    curtailed: !step.curtailed.is_zero(),
                },
                heat_need: given.heat,
            };
            self.mind.lived(before, &seen, &LOCAL);
        }
        if let Some(settled) = &moment.settled {
            let own = settled.traded.and_then(|Traded { side, filled, amount, .. }| {
                Cleared::own(side, filled, amount, &self.terms(&settled.tariff))
            });
            let totals = settled.totals.map(|totals| agent::Totals {
                matched: totals.matched,
                supplier_import: totals.supplier_import,
                supplier_export: totals.supplier_export,
                forward: totals.forward.or(own),
            });
            let (bought, sold) = own_exchange(&settled.outcome);
            let delivered = self.delivered(&settled.outcome, &settled.tariff);
            let interval = settled.outcome.interval;
            // Beyond the range of money nothing is counted, and trading stops: that is in its state.
            let paid = settled
                .outcome
                .metered
                .is_some()
                .then(|| Paid { received: settled.outcome.amount, terms: self.terms(&settled.tariff) });
            let _ = self.mind.settled(&Settled { interval, bought, sold, totals, delivered, paid }, &LOCAL);
        }
    }

    /// What a forward position came to, if there was one.
    fn delivered(&self, outcome: &HomeOutcome, tariff: &TariffPoint) -> Option<Delivered> {
        let metered = outcome.metered.filter(|_| outcome.position != Position::default())?;
        Some(Delivered {
            import: metered.import,
            export: metered.export,
            received: outcome.amount,
            terms: self.terms(tariff),
        })
    }

    fn connection(&self, moment: &Moment<'_>) -> Vec<Connection> {
        let free = Connection {
            bought: WattHours::ZERO,
            sold: WattHours::ZERO,
            import_cap: self.place.connection,
            export_cap: self.place.connection,
        };
        let mut connection = vec![free; HORIZON];
        if let Some(first) = connection.first_mut() {
            (first.bought, first.sold) = (moment.position.bought, moment.position.sold);
        }
        connection
    }

    /// What the market lets it do now; `None`: there is none.
    fn account(&mut self, moment: &Moment<'_>) -> Option<Account> {
        self.open.retain(|open| open.interval > moment.interval);
        let hour = moment.now.unix_ms() / HOUR_MS;
        if self.quota.hour != hour {
            self.quota = Quota { hour, used: 0 };
        }
        self.place.trades.then(|| Account {
            free: moment.free,
            maximum: self.place.connection,
            entries_left: ENTRIES_PER_HOUR.saturating_sub(self.quota.used),
            trading: true,
        })
    }
}

fn wish(action: Action) -> Wish {
    let name = |id: [u8; 32]| EntryId(Hash32(id));
    match action {
        Action::Place { interval, side, price, quantity, replaces } => {
            Wish::Place { interval, side, price, quantity, replaces: replaces.map(name) }
        }
        Action::Cancel { id } => Wish::Cancel { order: name(id) },
    }
}

/// What a home bought from and sold to neighbours in a settled interval, forward and after metering.
fn own_exchange(outcome: &HomeOutcome) -> (WattHours, WattHours) {
    let HomeOutcome { position, matched, .. } = outcome;
    let metered = outcome.metered.unwrap_or_default();
    let sum =
        |matched: WattHours, forward: WattHours| WattHours::new(matched.get().saturating_add(forward.get()));
    let bought = sum(matched.bought, position.bought.min(metered.import));
    (bought, sum(matched.sold, position.sold.min(metered.export)))
}

impl Brain for Mind {
    fn decide(&mut self, moment: &Moment<'_>) -> Option<Decision> {
        self.learn(moment);
        let terms: Vec<_> = moment.tariff.iter().map(|point| self.terms(point)).collect();
        let connection = self.connection(moment);
        let account = self.account(moment);
        self.mind.stood(moment.interval, &moment.standing, &LOCAL);
        let decision = self.mind.decide(&agent::Moment {
            now: moment.now,
            interval: moment.interval,
            local: LOCAL,
            standing: &moment.standing,
            terms: &terms,
            connection: &connection,
            bands: &[],
            account: account.as_ref(),
            open: &self.open,
        });
        let (step, expected) = (*decision.plan.steps.first()?, *decision.ahead.first()?);
        let wishes: Vec<_> = decision.actions.into_iter().map(wish).collect();
        self.quota.used += u32::try_from(wishes.len()).unwrap_or(u32::MAX);
        self.wanted.clone_from(&wishes);
        Some(Decision { step, expected, wishes, rests: decision.rests })
    }

    fn sent(&mut self, entries: &[EntryId]) {
        for (wish, id) in std::mem::take(&mut self.wanted).into_iter().zip(entries) {
            match wish {
                Wish::Place { interval, side, price, quantity, replaces } => {
                    let old = replaces.and_then(|old| self.take(old));
                    let changes = old.map_or(0, |old| old.changes.saturating_add(1));
                    let id = id.0.0;
                    self.open.push(OpenOffer { id, interval, side, price, quantity, changes });
                }
                Wish::Cancel { order } => drop(self.take(order)),
            }
        }
    }

    fn refused(&mut self, entry: EntryId) {
        self.take(entry);
    }

    fn errors(&self) -> Option<ForecastErrors> {
        let errors = self.mind.forecaster().errors();
        let [load, sun] = Quantity::ALL
            .map(|quantity| Lead::ALL.map(|lead| errors.of(quantity, lead).map(|error| error.mean_absolute)));
        Some(ForecastErrors { load: all(load)?, sun: all(sun) })
    }
}

fn all(errors: [Option<u64>; 3]) -> Option<[u64; 3]> {
    let [hour, six, day] = errors;
    Some([hour?, six?, day?])
}

impl Mind {
    /// Takes an order out of those that are open.
    fn take(&mut self, id: EntryId) -> Option<OpenOffer> {
        let at = self.open.iter().position(|open| open.id == id.0.0)?;
        Some(self.open.swap_remove(at))
    }
}
