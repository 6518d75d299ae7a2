//! What energy will probably cost and bring: the supplier's prices, the price among neighbours, and how much of a Wh more
//! they will probably serve or take.
//!
//! **Price.** Among neighbours energy costs M (the middle of the community's two supplier prices) plus the fees of the usual
//! way to this home, and brings M less the fees of the way out of it. Of forward clearings the price counts for the part of
//! local energy that they traded: all of it where a gate is public, else what this home traded itself. Where that is worse than the home's own supplier, the home sits out, as
//! matching does.
//!
//! **Share.** Of the community's past intervals only totals are public: energy matched, taken from and given to the
//! supplier. Surplus S = matched + given, deficit D = matched + taken (and what was traded forward, to both). Matching
//! rations the larger side pro rata, so of a Wh more that this home takes min(1, S / (D + X)) is served, and of one that it
//! gives min(1, D / (S + X)) is taken. The expected share is the mean of that over past days at this time, recent days and the
//! same kind of day counting more, neighbouring quarter-hours smoothed in. While nothing is known (a small community's totals
//! are not public) it is 0: the home plans as with its supplier alone.
//!
//! **Damping.** Every home's agent reads the same totals; if all believed that the same sunny quarter-hour was theirs, they
//! would all charge in it, find it overrun, and flee to another the next day. Three things prevent that:
//! X is what this home moves times the homes thought to move alike ([`Crowd`]), so a share is only promised if it holds when
//! all come; days and quarter-hours are averaged, so one day's crowd moves the expectation a little; and each home sees
//! every share up to [`TASTE_PERMILLE`] smaller by a fixed pattern of its own, so among equal quarter-hours homes spread.

use energy::{Interval, Money, Mtu, Price, WattHours, midpoint_floor};
use market::{Side, Tariff};

use crate::forecast::ring::{Likeness, Ring, Weighted};
use crate::forecast::{Forecast, LocalTime};
use crate::home::{Ahead, HORIZON, Prices};

/// The most by which one home's taste makes a share smaller: at 0.085 per kWh between neighbours and supplier, spreading costs
/// a home at most 0.0043 per kWh.
pub const TASTE_PERMILLE: u32 = 50;

/// How far a community's totals are remembered.
const DAYS: u32 = 28;
/// Which days and times tell about which.
const LIKE: Likeness = Likeness { days: DAYS as u64, half_life_days: 10.0, other_day: 0.4, halo_minutes: 30 };
/// "Neighbours serve nothing" counts as much as a quarter of a day: one lucky day is not believed whole.
const PRIOR_WEIGHT: f64 = 0.25;

/// What a forward clearing brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cleared {
    /// Energy traded in the community; where that is not public, this home's own.
    pub volume: WattHours,
    /// Price before network fees.
    pub price: Price,
}

impl Cleared {
    /// What the home's own order says of a gate that is not public: it received `amount` for `filled` (negative: paid), fees
    /// included. `None` if nothing of it traded.
    #[must_use]
    pub fn own(side: Side, filled: WattHours, amount: Money, terms: &Terms) -> Option<Self> {
        let received = amount.get().checked_div(i128::from(filled.get()))?;
        let received = Price::new(i64::try_from(received).ok()?);
        let price = match side {
            Side::Sell => received.add(terms.fee_up),
            Side::Buy => Price::ZERO.sub(received).and_then(|paid| paid.sub(terms.fee_down)),
        };
        Some(Self { volume: filled, price: price.ok()? })
    }
}

/// The public totals of one settled interval of the community.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Totals {
    /// Shared among neighbours.
    pub matched: WattHours,
    /// Taken from the supplier.
    pub supplier_import: WattHours,
    /// Given to the supplier.
    pub supplier_export: WattHours,
    /// Traded forward before, as far as this home knows.
    pub forward: Option<Cleared>,
}

/// The totals of the last four weeks, as far as they are public.
#[derive(Debug, Clone, PartialEq)]
pub struct Traffic {
    ring: Ring<Totals>,
    /// Whether any of them names a forward clearing.
    forward: bool,
}

impl Traffic {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(mtu: Mtu) -> Self {
        Self { ring: Ring::new(mtu, DAYS), forward: false }
    }

    /// Remembers one interval. `false`: not taken, because it is of another market time unit or older than four weeks before
    /// the newest.
    pub fn record(&mut self, interval: Interval, totals: &Totals, local: &LocalTime) -> bool {
        let taken = self.ring.record(interval, local, *totals);
        self.forward |= taken && totals.forward.is_some();
        taken
    }
}

/// The prices that are known of one interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// The community's tariff, without fees: its middle is the price among neighbours.
    pub tariff: Tariff,
    /// What this home's supplier charges, fees included.
    pub supplier_import: Price,
    /// What it pays, fees taken off.
    pub supplier_export: Price,
    /// Fees on energy from neighbours on its usual way to this home.
    pub fee_down: Price,
    /// Fees on energy to neighbours on its usual way.
    pub fee_up: Price,
}

/// What this home and those like it move about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Crowd {
    /// What this home typically moves into one interval.
    pub energy: WattHours,
    /// How many homes, this one included, are thought to move as much at the same time.
    pub alike: u32,
    /// A number of this home's own, e.g. the first bytes of its id's hash: which of equal times it likes. No effect on a home
    /// alone.
    pub taste: u64,
}

impl Crowd {
    /// X of the module's words, Wh.
    fn moved(&self) -> f64 {
        self.energy.get() as f64 * f64::from(self.alike)
    }

    /// What is left of a share of 1 000 at one time of the day.
    fn tasted(&self, share_permille: u32, of_day: u32) -> u32 {
        if self.alike <= 1 {
            return share_permille;
        }
        // SplitMix64's finaliser (Steele, Lea and Flood 2014): equal inputs, equal outputs, and no pattern to the eye.
        let mut mixed = self.taste ^ (u64::from(of_day) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let off = (mixed ^ (mixed >> 31)) % u64::from(TASTE_PERMILLE * 1_000 + 1);
        let left = 1_000_000 - off;
        u32::try_from(u64::from(share_permille) * left / 1_000_000).unwrap_or(share_permille)
    }
}

/// The expected prices of the intervals from `from`, one for each of `terms` (at most [`HORIZON`]).
#[must_use]
pub fn expect_prices(
    terms: &[Terms],
    traffic: &Traffic,
    crowd: &Crowd,
    from: Interval,
    local: &LocalTime,
) -> Vec<Prices> {
    let terms = terms.get(..HORIZON).unwrap_or(terms);
    let moved = crowd.moved();
    let like = Like { traffic, from, count: terms.len(), local };
    let shares = like.mean(|totals| Some([totals.share(moved, Way::In), totals.share(moved, Way::Out)]));
    let forward = if traffic.forward { Some(Forward::of(&like)) } else { None };
    let mut interval = from;
    let mut prices = Vec::with_capacity(terms.len());
    for (place, terms) in terms.iter().enumerate() {
        let shares = shares.get(place).copied().unwrap_or_default().mean([0.0; 2], PRIOR_WEIGHT);
        let [served, taken] = shares.map(|share| crowd.tasted(permille(share), interval.of_day()));
        let before = forward.as_ref().and_then(|forward| forward.at(place));
        prices.push(landed(terms, before, served, taken));
        interval = interval.next();
    }
    prices
}

/// The prices of a settled interval, with the shares that its totals show. Where totals are not public, neighbours are taken to
/// have served and taken all: the best that could have been.
#[must_use]
pub fn settled_prices(terms: &Terms, totals: Option<&Totals>) -> Prices {
    let share = |way| totals.map_or(1_000, |totals| permille(totals.share(0.0, way)));
    landed(terms, None, share(Way::In), share(Way::Out))
}

/// Where expectations are looked up.
struct Like<'a> {
    traffic: &'a Traffic,
    from: Interval,
    count: usize,
    local: &'a LocalTime,
}

impl Like<'_> {
    fn mean<const N: usize>(&self, pick: impl Fn(&Totals) -> Option<[f64; N]>) -> Vec<Weighted<N>> {
        let (ring, from) = (&self.traffic.ring, self.from);
        if from.mtu() == ring.mtu() {
            ring.pattern(&LIKE, (from.index(), self.count), from.index(), self.local, pick)
        } else {
            vec![Weighted::default(); self.count]
        }
    }
}

/// Which way energy goes at the home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    In,
    Out,
}

impl Totals {
    fn forward_wh(&self) -> f64 {
        self.forward.map_or(0.0, |cleared| cleared.volume.get() as f64)
    }

    /// Of one Wh more that goes this way, the part that neighbours serve or take if `moved` Wh go that way as well.
    fn share(&self, moved: f64, way: Way) -> f64 {
        let local = self.matched.get() as f64 + self.forward_wh();
        let surplus = local + self.supplier_export.get() as f64;
        let deficit = local + self.supplier_import.get() as f64;
        let (needed, there) = match way {
            Way::In => (deficit + moved, surplus),
            Way::Out => (surplus + moved, deficit),
        };
        // Nobody there: the first Wh would be served if anything is left over.
        if needed > 0.0 { (there / needed).min(1.0) } else { f64::from(u8::from(there > 0.0)) }
    }
}

/// What forward clearings brought at each coming time.
struct Forward {
    /// Their mean price, µ/kWh.
    price: Vec<Weighted>,
    /// Their part of all local energy.
    part: Vec<Weighted>,
}

impl Forward {
    fn of(like: &Like<'_>) -> Self {
        let traded = |totals: &Totals| totals.forward.filter(|cleared| !cleared.volume.is_zero());
        let price = like.mean(|totals| traded(totals).map(|cleared| [cleared.price.get() as f64]));
        let part = like.mean(|totals| {
            let local = totals.matched.get() as f64 + totals.forward_wh();
            (local > 0.0).then(|| [totals.forward_wh() / local])
        });
        Self { price, part }
    }

    /// Price (µ/kWh) and part of 1.
    fn at(&self, place: usize) -> Option<(f64, f64)> {
        let price = self.price.get(place).filter(|price| price.weight > 0.0)?;
        let ([price], [part]) = (price.mean([0.0], 0.0), self.part.get(place)?.mean([0.0], 0.0));
        Some((price, part))
    }
}

fn landed(terms: &Terms, forward: Option<(f64, f64)>, served: u32, taken: u32) -> Prices {
    let middle = midpoint_floor(terms.tariff.import_price, terms.tariff.export_price);
    let blend = |matched: Price| match forward {
        Some((price, part)) => to_price(matched.get() as f64 * (1.0 - part) + price * part),
        None => matched,
    };
    let middle = blend(middle);
    let local_import = middle.add(terms.fee_down).unwrap_or(terms.supplier_import);
    let local_export = middle.sub(terms.fee_up).unwrap_or(terms.supplier_export);
    let traded = terms.tariff.import_price >= terms.tariff.export_price;
    let buys = traded && local_import <= terms.supplier_import;
    let sells = traded && local_export >= terms.supplier_export;
    Prices {
        supplier_import: terms.supplier_import,
        supplier_export: terms.supplier_export,
        local_import: if buys { local_import } else { terms.supplier_import },
        local_export: if sells { local_export } else { terms.supplier_export },
        import_permille: if buys { served } else { 0 },
        export_permille: if sells { taken } else { 0 },
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "an expectation; a float that does not fit is cut to the range"
)]
fn to_price(micro: f64) -> Price {
    Price::new(micro.round() as i64)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of 0 to 1; a float that does not fit is cut to the range"
)]
fn permille(share: f64) -> u32 {
    ((share * 1_000.0).round() as u32).min(1_000)
}

/// What is settled already about one coming interval at the home's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Connection {
    /// Bought forward.
    pub bought: WattHours,
    /// Sold forward.
    pub sold: WattHours,
    /// The most it may take with flexible devices on.
    pub import_cap: WattHours,
    /// The most it may give with flexible devices on.
    pub export_cap: WattHours,
}

/// Forecast, prices and connection put together; as long as the shortest of them.
#[must_use]
pub fn ahead(forecast: &Forecast, prices: &[Prices], connection: &[Connection]) -> Vec<Ahead> {
    let known = forecast.steps.iter().zip(prices).zip(connection);
    known
        .map(|((expected, prices), connection)| Ahead {
            load: expected.load,
            pv: expected.pv,
            heat: expected.heat,
            prices: *prices,
            bought: connection.bought,
            sold: connection.sold,
            import_cap: connection.import_cap,
            export_cap: connection.export_cap,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const UTC: LocalTime = LocalTime { east_s: 0, change: None };
    const ALONE: Crowd = Crowd { energy: WattHours::ZERO, alike: 1, taste: 0 };

    fn wh(energy: u64) -> WattHours {
        WattHours::new(energy)
    }

    fn terms() -> Terms {
        Terms {
            tariff: Tariff { import_price: Price::new(250_000), export_price: Price::new(80_000) },
            supplier_import: Price::new(300_000),
            supplier_export: Price::new(80_000),
            fee_down: Price::new(10_000),
            fee_up: Price::ZERO,
        }
    }

    fn totals(matched: u64, import: u64, export: u64) -> Totals {
        Totals {
            matched: wh(matched),
            supplier_import: wh(import),
            supplier_export: wh(export),
            forward: None,
        }
    }

    fn at(index: u64) -> Interval {
        Interval::from_index(index, Mtu::Min15)
    }

    /// Ten days with the same totals at every quarter-hour.
    fn steady(totals: &Totals) -> Traffic {
        let mut traffic = Traffic::new(Mtu::Min15);
        for index in 0..960 {
            assert!(traffic.record(at(index), totals, &UTC));
        }
        traffic
    }

    fn one(traffic: &Traffic, crowd: &Crowd) -> Prices {
        expect_prices(&[terms()], traffic, crowd, at(960), &UTC)[0]
    }

    #[test]
    fn neighbours_cost_the_middle_plus_the_way_to_this_home() {
        let prices = one(&steady(&totals(5_000, 5_000, 0)), &ALONE);
        assert_eq!((prices.local_import.get(), prices.local_export.get()), (175_000, 165_000));
        assert_eq!((prices.supplier_import.get(), prices.supplier_export.get()), (300_000, 80_000));
    }

    #[test]
    fn the_longer_side_is_served_in_part_and_the_shorter_one_whole() {
        // Twice as much wanted as there is: half of a Wh more is served, all of a Wh given is taken.
        let prices = one(&steady(&totals(5_000, 5_000, 0)), &ALONE);
        assert!((470..=500).contains(&prices.import_permille), "{prices:?}");
        assert!((940..=1_000).contains(&prices.export_permille), "{prices:?}");
    }

    #[test]
    fn a_community_that_publishes_nothing_is_planned_without() {
        let prices = one(&Traffic::new(Mtu::Min15), &ALONE);
        assert_eq!((prices.import_permille, prices.export_permille), (0, 0));
    }

    #[test]
    fn a_share_is_promised_only_if_it_holds_when_all_come() {
        // 2 kWh are left over; ten homes that each move 1 kWh would share them.
        let traffic = steady(&totals(3_000, 0, 2_000));
        let (alone, crowd) =
            (Crowd { energy: wh(1_000), ..ALONE }, Crowd { energy: wh(1_000), alike: 10, taste: 7 });
        assert!(one(&traffic, &alone).import_permille > 950);
        let shared = one(&traffic, &crowd).import_permille;
        assert!((350..=385).contains(&shared), "5 of 13 kWh, not {shared}");
    }

    #[test]
    fn one_unusual_day_moves_the_expectation_a_little() {
        let mut traffic = steady(&totals(5_000, 0, 5_000));
        let usual = one(&traffic, &ALONE).import_permille;
        for index in 864..960 {
            assert!(traffic.record(at(index), &totals(0, 5_000, 0), &UTC));
        }
        let after = one(&traffic, &ALONE).import_permille;
        assert!(after < usual && after > usual * 3 / 5, "{usual} {after}");
    }

    #[test]
    fn a_home_whose_supplier_is_better_sits_out() {
        let traffic = steady(&totals(5_000, 5_000, 0));
        let cheap =
            Terms { supplier_import: Price::new(170_000), supplier_export: Price::new(166_000), ..terms() };
        let prices = expect_prices(&[cheap], &traffic, &ALONE, at(960), &UTC)[0];
        assert_eq!((prices.import_permille, prices.export_permille), (0, 0));
        assert_eq!(prices.local_import, prices.supplier_import);
        let tariff = Tariff { import_price: Price::new(-90_000), export_price: Price::new(-50_000) };
        let prices = expect_prices(&[Terms { tariff, ..terms() }], &traffic, &ALONE, at(960), &UTC)[0];
        assert_eq!(
            (prices.import_permille, prices.export_permille),
            (0, 0),
            "import below export: no local trade"
        );
    }

    #[test]
    fn forward_prices_count_for_the_part_they_traded() {
        let forward = Some(Cleared { volume: wh(5_000), price: Price::new(185_000) });
        let prices = one(&steady(&Totals { forward, ..totals(5_000, 10_000, 0) }), &ALONE);
        // Half of local energy at the middle, 165 000, half at 185 000; the way to this home costs 10 000.
        assert_eq!((prices.local_import.get(), prices.local_export.get()), (185_000, 175_000));
        assert!((480..=500).contains(&prices.import_permille), "10 of 20 kWh: {prices:?}");
    }

    #[test]
    fn of_a_gate_that_is_not_public_a_home_knows_the_price_of_its_own_trade() {
        let terms = Terms { fee_up: Price::new(5_000), ..terms() };
        let own = |side, filled, amount| Cleared::own(side, wh(filled), Money::new(amount), &terms);
        let at = |volume, price| Some(Cleared { volume: wh(volume), price: Price::new(price) });
        assert_eq!(own(Side::Buy, 200, -200 * 195_000), at(200, 185_000), "10 000 of it is the way here");
        assert_eq!(own(Side::Sell, 200, 200 * 180_000), at(200, 185_000), "5 000 went for the way out");
        assert_eq!(own(Side::Sell, 0, 0), None);
        assert_eq!(own(Side::Sell, 1, i128::MAX), None);
    }

    #[test]
    fn settled_shares_are_those_of_the_totals_or_the_best_possible() {
        let prices = settled_prices(&terms(), Some(&totals(2_000, 6_000, 0)));
        assert_eq!((prices.import_permille, prices.export_permille), (250, 1_000));
        let prices = settled_prices(&terms(), None);
        assert_eq!((prices.import_permille, prices.export_permille), (1_000, 1_000));
    }

    /// Twenty homes that each charge 1 kWh in four of the 24 hours, day by day, into 5 kWh of sun in each of 16 hours; how
    /// much of what they charged on the last five of thirty days was sun.
    fn sun_used(crowd: impl Fn(u64) -> Crowd) -> f64 {
        let hour = |index| Interval::from_index(index, Mtu::Min60);
        let mut traffic = Traffic::new(Mtu::Min60);
        let (mut sun_kwh, mut charged_kwh) = (0, 0);
        for day in 0..30 {
            let mut charged = [0u64; 24];
            for home in 0..20 {
                let prices = expect_prices(&[terms(); 24], &traffic, &crowd(home), hour(day * 24), &UTC);
                let mut hours: Vec<usize> = (0..24).collect();
                hours.sort_by_key(|hour| (1_000 - prices[*hour].import_permille, *hour));
                hours.iter().take(4).for_each(|hour| charged[*hour] += 1);
            }
            for (of_day, &charged) in charged.iter().enumerate() {
                let sun = if of_day < 16 { 5 } else { 0 };
                let matched = charged.min(sun);
                let totals = totals(matched * 1_000, (charged - matched) * 1_000, (sun - matched) * 1_000);
                assert!(traffic.record(hour(day * 24 + of_day as u64), &totals, &UTC));
                if day >= 25 {
                    (sun_kwh, charged_kwh) = (sun_kwh + matched, charged_kwh + charged);
                }
            }
        }
        sun_kwh as f64 / charged_kwh as f64
    }

    #[test]
    fn agents_that_read_the_same_totals_do_not_all_take_the_same_hour() {
        let energy = wh(1_000);
        let believing = sun_used(|_| Crowd { energy, alike: 1, taste: 0 });
        let damped = sun_used(|home| Crowd { energy, alike: 20, taste: home * 77_777 });
        assert!(believing < 0.4 && damped > 0.7, "of what was charged, sun: {believing}, damped {damped}");
    }
}
