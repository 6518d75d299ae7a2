//! The closing object of a run: what everything came to, per home and in all.
//!
//! Money is in n (10⁻⁹ of the currency), energy in Wh. A **cost** is what a home paid, net of what it received; its **net**
//! adds the wear of its battery and takes off what is stored at the end: in the battery and ahead in heat, as far as the home
//! would otherwise take it from its supplier within two days of the last week, at what that charges on average; what a battery holds beyond
//! that, at the middle of the supplier's prices; in both cases less the wear of giving it. So an empty battery or a cold
//! house is no saving, and a battery that was filled on Sunday night for Monday is no loss.

use std::fmt;

use serde::Serialize;

use crate::dataset::CURRENCY;

/// What one way of living came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Way {
    /// Paid less received, n.
    pub cost_n: i64,
    /// Cost with the battery's wear, less what is stored at the end, n.
    pub net_n: i64,
    /// Taken from the network, Wh.
    pub import_wh: u64,
    /// Given to the network, Wh.
    pub export_wh: u64,
    /// Of the import, from neighbours, Wh.
    pub bought_wh: u64,
    /// Of the export, to neighbours, Wh.
    pub sold_wh: u64,
    /// Sun given up, Wh.
    pub curtailed_wh: u64,
    /// In the battery and ahead in heat at the end, Wh.
    pub stored_wh: u64,
}

impl Way {
    /// Adds another home's.
    pub(crate) fn add(&mut self, other: &Self) {
        self.cost_n += other.cost_n;
        self.net_n += other.net_n;
        self.import_wh += other.import_wh;
        self.export_wh += other.export_wh;
        self.bought_wh += other.bought_wh;
        self.sold_wh += other.sold_wh;
        self.curtailed_wh += other.curtailed_wh;
        self.stored_wh += other.stored_wh;
    }

    /// Of the surplus, what neighbours took, in thousandths.
    #[must_use]
    pub fn local_permille(&self) -> u64 {
        permille(self.sold_wh, self.export_wh)
    }
}

fn permille(part: u64, whole: u64) -> u64 {
    (part * 1000).checked_div(whole).unwrap_or_default()
}

/// One home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HomeReport {
    /// Its id.
    pub home: String,
    /// Where it hangs.
    pub node: String,
    /// Its devices: of battery, vehicle, heat and sun.
    pub devices: Vec<&'static str>,
    /// What its agent is about; `None` where it has none.
    pub goal: Option<&'static str>,
    /// Alone with its supplier, devices unplanned.
    pub alone: Way,
    /// With neighbours, devices unplanned.
    pub neighbours: Way,
    /// In this run, as the ledger settled it: with agents if there are any.
    pub run: Way,
    /// Its sun, Wh.
    pub generation_wh: u64,
    /// Of its sun in this run, what it did not give away, in thousandths.
    pub self_consumption_permille: u64,
    /// Sold forward in this run, Wh.
    pub forward_sold_wh: u64,
    /// Bought forward in this run, Wh.
    pub forward_bought_wh: u64,
    /// Vehicles that left charged as asked.
    pub deadlines_met: u32,
    /// Vehicles that did not.
    pub deadlines_missed: u32,
}

/// Homes without an agent, and what forward trading among the others does to them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Passive {
    /// How many.
    pub homes: usize,
    /// What they paid in this run, n.
    pub cost_n: i64,
    /// What the same meters would have come to without forward positions, n.
    pub cost_without_forward_n: i64,
    /// How much more that is, in thousandths of the latter.
    pub worse_permille: i64,
}

/// What must hold, and whether it did. That the ledger's invariants held after every block needs no field: a run in
/// which one does not ends with an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checks {
    /// Intervals of homes without a position that came out worse than with the supplier alone: 0.
    pub intervals_worse_off: u64,
    /// Homes with an agent whose net is above that of the supplier alone, unplanned.
    pub homes_worse_off: Vec<String>,
    /// Balances are deposits and what was settled, and every metered Wh was settled once.
    pub books_agree: bool,
    /// Vehicles that left charged as asked.
    pub deadlines_met: u32,
    /// Vehicles that did not.
    pub deadlines_missed: u32,
    /// Entries that the ledger refused.
    pub refused: u64,
    /// Why it refused the first ones.
    pub reasons: Vec<String>,
    /// Blocks of the chain.
    pub blocks: u64,
    /// Orders that agents sent.
    pub orders: u64,
    /// Root of the transparency tree: one run, one hash.
    pub hash: String,
}

impl Checks {
    /// True if what must hold in every run did: nobody worse off by matching, books that agree, every vehicle charged.
    #[must_use]
    pub const fn hold(&self) -> bool {
        self.intervals_worse_off == 0 && self.books_agree && self.deadlines_missed == 0
    }
}

/// From so many quarter-hours on, four weeks, no home with an agent may come out worse than alone with its supplier: a
/// shorter run can end in the middle of what a plan was for.
const LONG_INTERVALS: usize = 28 * 96;

impl Report {
    /// True if what must hold in this run did: [`Checks::hold`], and in a run of four weeks no home came out worse with its
    /// agent than alone with its supplier.
    #[must_use]
    pub fn hold(&self) -> bool {
        self.checks.hold() && (self.made.intervals < LONG_INTERVALS || self.checks.homes_worse_off.is_empty())
    }
}

/// How well agents foresaw over the last fortnight: mean absolute error of a home 1, 6 and 24 hours ahead, Wh per hour, so W.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Foresight {
    /// Homes whose forecasts could be measured.
    pub homes: usize,
    /// Of load.
    pub load_w: [u64; 3],
    /// Of them, with sun.
    pub homes_with_sun: usize,
    /// Of sun, while there is any.
    pub sun_w: [u64; 3],
}

/// One week against what perfect foresight of everything could have made of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct OptimumWeek {
    /// From 1.
    pub week: usize,
    /// What the community paid in this run, with wear, n.
    pub run_n: i64,
    /// The least it could have paid between the same states of its devices, n.
    pub run_optimum_n: i64,
    /// What it would have paid without agents, with wear, n.
    pub unplanned_n: i64,
    /// The least between the states that leaves, n.
    pub unplanned_optimum_n: i64,
}

impl OptimumWeek {
    /// Of what planning could have saved, what this run did not, in thousandths.
    #[must_use]
    pub fn missed_permille(&self) -> Option<i64> {
        let (missed, possible) =
            (self.run_n - self.run_optimum_n, self.unplanned_n - self.unplanned_optimum_n);
        (missed * 1000).checked_div(possible)
    }

    /// How much more this run cost than the optimum, in thousandths of the optimum.
    #[must_use]
    pub fn above_permille(&self) -> Option<i64> {
        ((self.run_n - self.run_optimum_n) * 1000).checked_div(self.run_optimum_n.abs())
    }

    /// The same without agents.
    #[must_use]
    pub fn unplanned_above_permille(&self) -> Option<i64> {
        let above = (self.unplanned_n - self.unplanned_optimum_n) * 1000;
        above.checked_div(self.unplanned_optimum_n.abs())
    }
}

/// What a run was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Made {
    /// Homes.
    pub homes: usize,
    /// Of them, with an agent.
    pub agents: usize,
    /// The first interval.
    pub first: String,
    /// How many intervals.
    pub intervals: usize,
    /// The season's word.
    pub season: &'static str,
    /// The tariff's word.
    pub tariff: &'static str,
    /// The word for forward trading.
    pub forward: &'static str,
    /// Whether the recorded batteries stood there.
    pub batteries: bool,
    /// Of keys.
    pub seed: u64,
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// What it was made of.
    pub made: Made,
    /// Every home, in the order of the recording.
    pub homes: Vec<HomeReport>,
    /// All homes, each alone with its supplier, devices unplanned.
    pub alone: Way,
    /// All homes with neighbours, devices unplanned.
    pub neighbours: Way,
    /// All homes in this run.
    pub run: Way,
    /// Of the surplus without agents, what neighbours took, in thousandths.
    pub local_permille_neighbours: u64,
    /// Of the surplus in this run, what neighbours took, in thousandths.
    pub local_permille_run: u64,
    /// All sun, Wh.
    pub generation_wh: u64,
    /// Of all sun, what the community used itself without agents, in thousandths.
    pub used_here_permille_neighbours: u64,
    /// The same in this run.
    pub used_here_permille_run: u64,
    /// Traded forward and delivered, Wh.
    pub forward_wh: u64,
    /// Homes without an agent.
    pub passive: Passive,
    /// What must hold.
    pub checks: Checks,
    /// How well agents foresaw; `None` without any.
    pub foresight: Option<Foresight>,
    /// Week by week against the optimum, where that was asked for.
    pub optimum: Vec<OptimumWeek>,
    /// How long the run took, s; filled in by who has a clock.
    pub wall_s: f64,
}

/// Money for people: with two decimals, half away from zero.
fn money(n: i64) -> String {
    let cents = (n.unsigned_abs() + 5_000_000) / 10_000_000;
    let sign = if n < 0 && cents > 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", cents / 100, cents % 100)
}

/// Energy for people: kWh with one decimal.
fn kwh(wh: u64) -> String {
    let tenths = (wh + 50) / 100;
    format!("{}.{}", tenths / 10, tenths % 10)
}

fn percent(permille: u64) -> String {
    format!("{}.{} %", permille / 10, permille % 10)
}

fn signed_percent(permille: Option<i64>) -> String {
    permille.map_or_else(
        || "-".to_owned(),
        |permille| {
            let sign = if permille < 0 { "-" } else { "" };
            format!("{sign}{}", percent(permille.unsigned_abs()))
        },
    )
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_homes(f)?;
        self.write_ways(f)?;
        self.write_checks(f)?;
        self.write_optimum(f)
    }
}

impl Report {
    fn write_homes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let run = if self.made.agents > 0 { "with agents" } else { "on ledger" };
        writeln!(
            f,
            "{:<6} {:<20} {:>9} {:>10} {:>11} {:>8} {:>8} {:>8} {:>8} {:>9}",
            "home", "devices", "alone", "neighbours", run, "import", "export", "bought", "sold", "own sun"
        )?;
        for home in &self.homes {
            let own =
                if home.generation_wh == 0 { String::new() } else { percent(home.self_consumption_permille) };
            writeln!(
                f,
                "{:<6} {:<20} {:>9} {:>10} {:>11} {:>8} {:>8} {:>8} {:>8} {:>9}",
                home.home,
                home.devices.join(" "),
                money(home.alone.net_n),
                money(home.neighbours.net_n),
                money(home.run.net_n),
                kwh(home.run.import_wh),
                kwh(home.run.export_wh),
                kwh(home.run.bought_wh),
                kwh(home.run.sold_wh),
                own
            )?;
        }
        writeln!(f, "costs in {CURRENCY} with battery wear, less what is stored at the end; energy in kWh\n")
    }

    fn write_ways(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Made { homes, agents, first, intervals, season, tariff, forward, .. } = &self.made;
        writeln!(
            f,
            "{homes} homes ({agents} with an agent), {intervals} intervals of {season} from {first}, tariff {tariff}, forward {forward}"
        )?;
        writeln!(
            f,
            "{:<24} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}",
            "all homes", "net", "paid", "import", "export", "local", "curtailed"
        )?;
        for (name, way) in [
            ("supplier alone", &self.alone),
            ("with neighbours", &self.neighbours),
            (if *agents > 0 { "with agents" } else { "on the ledger" }, &self.run),
        ] {
            writeln!(
                f,
                "{name:<24} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}",
                money(way.net_n),
                money(way.cost_n),
                kwh(way.import_wh),
                kwh(way.export_wh),
                kwh(way.bought_wh),
                kwh(way.curtailed_wh)
            )?;
        }
        writeln!(
            f,
            "of the surplus, neighbours took {} without agents and {} in this run; of all sun the community used {} and {}",
            percent(self.local_permille_neighbours),
            percent(self.local_permille_run),
            percent(self.used_here_permille_neighbours),
            percent(self.used_here_permille_run)
        )
    }

    fn write_checks(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Checks { deadlines_met, deadlines_missed, blocks, orders, refused, .. } = &self.checks;
        if self.made.forward != "off" {
            writeln!(
                f,
                "traded forward {} kWh in {orders} orders ({refused} refused); {} homes without an agent paid {} instead of {} without it ({})",
                kwh(self.forward_wh),
                self.passive.homes,
                money(self.passive.cost_n),
                money(self.passive.cost_without_forward_n),
                signed_percent(Some(self.passive.worse_permille))
            )?;
        }
        if let Some(foresight) = &self.foresight {
            let ([load, load_6, load_24], [sun, sun_6, sun_24]) = (foresight.load_w, foresight.sun_w);
            writeln!(
                f,
                "forecasts of a home were off by (1 h, 6 h, 24 h ahead) {load}, {load_6}, {load_24} W of load and {sun}, {sun_6}, {sun_24} W of sun"
            )?;
        }
        writeln!(
            f,
            "vehicles charged in time {deadlines_met}, too late {deadlines_missed}; worse off than with the supplier alone: {} intervals, {} homes",
            self.checks.intervals_worse_off,
            self.checks.homes_worse_off.len()
        )?;
        if !self.checks.homes_worse_off.is_empty() {
            let homes = self.checks.homes_worse_off.join(" ");
            writeln!(f, "WARNING: worse off with an agent than alone with the supplier: {homes}")?;
        }
        let books = if self.checks.books_agree { "the books agree" } else { "THE BOOKS DO NOT AGREE" };
        writeln!(
            f,
            "{blocks} blocks in {:.1} s, invariants held after each, {books}, hash {}",
            self.wall_s, self.checks.hash
        )
    }

    fn write_optimum(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for week in &self.optimum {
            writeln!(
                f,
                "week {}: {} against {} at best ({} above); unplanned {} against {} ({} above); of what planning could save it missed {}",
                week.week,
                money(week.run_n),
                money(week.run_optimum_n),
                signed_percent(week.above_permille()),
                money(week.unplanned_n),
                money(week.unplanned_optimum_n),
                signed_percent(week.unplanned_above_permille()),
                signed_percent(week.missed_permille())
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run of so many intervals that went well but for one home.
    fn report(intervals: usize) -> Report {
        let made = Made {
            homes: 1,
            agents: 1,
            first: String::new(),
            intervals,
            season: "summer",
            tariff: "flat",
            forward: "off",
            batteries: false,
            seed: 1,
        };
        let checks = Checks {
            intervals_worse_off: 0,
            homes_worse_off: vec!["h007".to_owned()],
            books_agree: true,
            deadlines_met: 1,
            deadlines_missed: 0,
            refused: 0,
            reasons: vec![],
            blocks: 1,
            orders: 0,
            hash: String::new(),
        };
        let [alone, neighbours, run] = [Way::default(); 3];
        Report {
            made,
            homes: vec![],
            alone,
            neighbours,
            run,
            local_permille_neighbours: 0,
            local_permille_run: 0,
            generation_wh: 0,
            used_here_permille_neighbours: 0,
            used_here_permille_run: 0,
            forward_wh: 0,
            passive: Passive::default(),
            checks,
            foresight: None,
            optimum: vec![],
            wall_s: 0.0,
        }
    }

    #[test]
    fn a_home_that_its_agent_left_worse_off_is_named_and_fails_a_long_run() {
        let (short, long) = (report(LONG_INTERVALS - 1), report(LONG_INTERVALS));
        assert!(short.hold() && short.to_string().contains("alone with the supplier: h007"));
        assert!(!long.hold() && long.to_string().contains("alone with the supplier: h007"));
        let mut well = report(LONG_INTERVALS);
        well.checks.homes_worse_off.clear();
        assert!(well.hold() && !well.to_string().contains("WARNING"));
    }
}
