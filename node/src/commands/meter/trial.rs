//! `commonwatt meter test`: a meter read for a while, and what that says about it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use meter::{Bus, EnergySample, LiveSample, Meter, MeterError};
use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;

use super::args::TestArgs;
use super::reach::{kind_of, reach, refused, told};
use crate::cli::{Exit, Output};
use crate::commands::{CommandError, out};

/// Longest wait for one block.
const DEADLINE: Duration = Duration::from_secs(5);
/// The counters are read at every so many reads of power, and at the start and the end.
const ENERGY_EVERY: u64 = 10;
/// More than this share of reads failing is trouble, in thousandths.
const FAILED_PER_MILLE: usize = 10;
/// A bus in use for more of its time has no room for repeated tries, in thousandths.
const LOAD_PER_MILLE: u32 = 600;
/// So many live samples over so long without any change, with power flowing, are not a living meter.
const FROZEN_SAMPLES: usize = 20;
const FROZEN_AFTER: Duration = Duration::from_secs(30);
/// Deviation of the counters from integrated power that a meter of class B and the sampling allow, in percent.
const DEVIATION_PERCENT: u64 = 3;

/// Reads the meter for the time asked and judges it.
///
/// # Errors
/// [`CommandError`] if it never answered.
pub(super) async fn test(args: TestArgs, output: Output) -> Result<Exit, CommandError> {
    let settings = reach(&args.reach)?.meter;
    let bus = Bus::open(settings.bus());
    let meter = Meter::on(&bus, settings.unit, settings.profile.clone(), settings.nameplate.clone());
    let mut trial = Trial::default();
    out::note(&format!(
        "reading {} at {} for {} s …",
        settings.profile.name(),
        settings.endpoint,
        args.seconds
    ));
    if let Some(error) = trial.run(&args, &meter).await
        && trial.lives.is_empty()
    {
        return Err(refused(&error));
    }
    trial.load_per_mille = bus.report().load_per_mille();
    let findings = trial.findings(Duration::from_millis(args.every_ms));
    let well = findings.iter().all(|finding| finding.ok);
    match output {
        Output::Json => out::json(&trial.json(&findings, well)),
        Output::Text => {
            findings.iter().for_each(|finding| {
                out::line(&format!("[{}] {}", if finding.ok { "ok" } else { "!!" }, finding.text));
            });
            out::line(verdict(well, &findings));
        }
    }
    Ok(if well { Exit::Ok } else { Exit::Exceptions })
}

fn verdict(well: bool, findings: &[Finding]) -> &'static str {
    match (well, findings.iter().any(|finding| finding.about == "registers" && finding.ok)) {
        (true, true) => "verdict: this meter is read well, and its counters agree with its power",
        (true, false) => {
            "verdict: this meter is read well; too little energy flowed to compare its counters, so repeat with a load on"
        }
        (false, _) => "verdict: do not settle on this meter before what is marked !! is put right",
    }
}

/// What was seen in one run.
#[derive(Default)]
struct Trial {
    round_trips: Vec<Duration>,
    lives: Vec<LiveSample>,
    energies: Vec<EnergySample>,
    /// By kind: how often, and the first message.
    failures: BTreeMap<&'static str, (usize, String)>,
    load_per_mille: u32,
}

/// One thing that was judged.
struct Finding {
    about: &'static str,
    ok: bool,
    text: String,
}

impl Trial {
    /// Reads until the time is over or somebody interrupts it. The last failure, if there was one.
    async fn run(&mut self, args: &TestArgs, meter: &Meter) -> Option<MeterError> {
        let mut ticks = tokio::time::interval(Duration::from_millis(args.every_ms));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let end = Instant::now() + Duration::from_secs(args.seconds);
        let mut last = None;
        for number in 0.. {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => break,
                _ = ticks.tick() => {}
            }
            let ends = Instant::now() >= end;
            if number % ENERGY_EVERY == 0 || ends {
                last = self.read_energy(meter).await.or(last);
            }
            last = self.read_live(meter).await.or(last);
            if ends {
                break;
            }
        }
        last
    }

    async fn read_energy(&mut self, meter: &Meter) -> Option<MeterError> {
        match meter.read_energy(DEADLINE).await {
            Ok(sample) => {
                self.round_trips.push(sample.round_trip);
                self.energies.push(sample);
                None
            }
            Err(error) => self.failed(error),
        }
    }

    async fn read_live(&mut self, meter: &Meter) -> Option<MeterError> {
        let asked = Instant::now();
        match meter.read_live(DEADLINE).await {
            Ok(sample) => {
                self.round_trips.push(asked.elapsed());
                self.lives.push(sample);
                None
            }
            Err(error) => self.failed(error),
        }
    }

    fn failed(&mut self, error: MeterError) -> Option<MeterError> {
        let (count, _) = self.failures.entry(kind_of(&error)).or_insert_with(|| (0, told(&error)));
        *count += 1;
        // That it is left alone for a while says nothing new.
        (!matches!(error, MeterError::Resting { .. })).then_some(error)
    }

    fn findings(&self, every: Duration) -> Vec<Finding> {
        let mut findings = vec![self.reads()];
        findings.extend(self.failures.iter().map(|(kind, (count, message))| Finding {
            about: "failure",
            // A few lost answers are part of any bus; a value that cannot be is not.
            ok: !self.too_many_failed()
                && !matches!(*kind, "implausible" | "word_order" | "absent" | "wrong_serial"),
            text: format!("{count} × {kind}: {message}"),
        }));
        findings.push(self.monotone());
        findings.extend(self.frozen());
        findings.push(self.registers_against_power(every));
        findings.push(self.load());
        findings
    }

    fn too_many_failed(&self) -> bool {
        let failed: usize = self.failures.values().map(|(count, _)| count).sum();
        failed * 1000 > (self.round_trips.len() + failed) * FAILED_PER_MILLE
    }

    fn reads(&self) -> Finding {
        let failed: usize = self.failures.values().map(|(count, _)| count).sum();
        let all = self.round_trips.len() + failed;
        let text = format!(
            "{} of {all} reads answered; round trip p50 {} ms, p99 {} ms",
            self.round_trips.len(),
            self.percentile(50).as_millis(),
            self.percentile(99).as_millis()
        );
        Finding { about: "reads", ok: !self.too_many_failed(), text }
    }

    fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.round_trips.clone();
        sorted.sort_unstable();
        let last = sorted.len().saturating_sub(1);
        sorted.get((last * percent).div_ceil(100)).copied().unwrap_or_default()
    }

    fn monotone(&self) -> Finding {
        let fell = self.energies.windows(2).find_map(|pair| {
            let [one, next] = pair else { return None };
            let registers = [("import", one.import, next.import), ("export", one.export, next.export)];
            registers.into_iter().find(|(_, one, next)| next < one)
        });
        let text = match fell {
            None => format!("the counters never fell ({} samples)", self.energies.len()),
            Some((name, one, next)) => format!(
                "the {name} counter fell from {} to {} Wh: a reset, another meter, or a wrong profile; nothing can be \
                 settled on it",
                one.map_or(0, energy::WattHours::get),
                next.map_or(0, energy::WattHours::get)
            ),
        };
        Finding { about: "counters", ok: fell.is_none(), text }
    }

    fn frozen(&self) -> Option<Finding> {
        let first = self.lives.first()?;
        let same = |live: &LiveSample| live.raw == first.raw;
        let long = self.lives.last()?.middle.saturating_duration_since(first.middle) >= FROZEN_AFTER;
        let frozen =
            long && self.lives.len() >= FROZEN_SAMPLES && first.power_w != 0 && self.lives.iter().all(same);
        frozen.then(|| Finding {
            about: "frozen",
            ok: false,
            text: format!(
                "not one register changed in {} reads while {} W flow: the meter or its gateway repeats old values; \
                 restart the gateway or the meter",
                self.lives.len(),
                first.power_w
            ),
        })
    }

    fn load(&self) -> Finding {
        let percent = self.load_per_mille.div_ceil(10);
        if self.load_per_mille <= LOAD_PER_MILLE {
            return Finding {
                about: "load",
                ok: true,
                text: format!("the bus was in use {percent} % of the time"),
            };
        }
        let text = format!(
            "the bus was in use {percent} % of the time: no room for repeated tries; read less often, or raise the baud \
             rate of meter and bus"
        );
        Finding { about: "load", ok: false, text }
    }

    /// What the counters rose by against power times time.
    fn registers_against_power(&self, every: Duration) -> Finding {
        let about = "registers";
        let (Some(first), Some(last)) = (self.energies.first(), self.energies.last()) else {
            return Finding { about, ok: false, text: "the counters could not be read".to_owned() };
        };
        let quantum = last.quantum.get();
        let counted = net(last).saturating_sub(net(first));
        let flowed = integrated_wh(&self.lives, first.middle, last.middle);
        let size = flowed.unsigned_abs();
        let allowed = (size * DEVIATION_PERCENT / 100).max(2 * quantum) + self.edge_wh(every);
        if size.max(counted.unsigned_abs()) <= allowed.max(3 * quantum) {
            let text = format!(
                "too little energy flowed to compare the counters ({flowed} Wh, their step is {quantum} Wh)"
            );
            return Finding { about: "comparison", ok: true, text };
        }
        if counted.abs_diff(flowed) <= allowed {
            let text = format!("the counters moved by {counted} Wh, power says {flowed} Wh: they agree");
            return Finding { about, ok: true, text };
        }
        let why = if counted.saturating_neg().abs_diff(flowed) <= allowed {
            "the sign of power is swapped against the counters: use a profile whose power has `invert`, and prove it with \
             `commonwatt meter commission`"
        } else {
            "likely the ratio of the current transformers or the scale of one of them in the profile"
        };
        Finding {
            about,
            ok: false,
            text: format!("the counters moved by {counted} Wh, power says {flowed} Wh: {why}"),
        }
    }

    /// What may flow unseen between a read of power and a read of the counters.
    fn edge_wh(&self, every: Duration) -> u64 {
        let most = self.lives.iter().map(|live| live.power_w.unsigned_abs()).max().unwrap_or(0);
        let ms = u64::try_from(every.as_millis()).unwrap_or(u64::MAX);
        most.saturating_mul(ms).div_ceil(3_600_000)
    }

    fn json(&self, findings: &[Finding], well: bool) -> Value {
        let failures: BTreeMap<&str, usize> =
            self.failures.iter().map(|(kind, (count, _))| (*kind, *count)).collect();
        let ms = |it: Duration| it.as_secs_f64() * 1000.0;
        json!({
            "schema_version": 1,
            "ok": well,
            "reads": self.round_trips.len(),
            "failures": failures,
            "round_trip_ms": { "p50": ms(self.percentile(50)), "p99": ms(self.percentile(99)) },
            "bus_load_per_mille": self.load_per_mille,
            "findings": findings.iter().map(|it| json!({ "about": it.about, "ok": it.ok, "text": it.text })).collect::<Vec<_>>(),
            "verdict": verdict(well, findings).trim_start_matches("verdict: "),
        })
    }
}

/// Import less export, Wh.
fn net(sample: &EnergySample) -> i64 {
    let wh = |register: Option<energy::WattHours>| {
        register.map_or(0, |wh| i64::try_from(wh.get()).unwrap_or(i64::MAX))
    };
    wh(sample.import).saturating_sub(wh(sample.export))
}

/// Power times time between two instants, by trapezoids; what lies before the first and after the last sample counts as
/// they do. Wh, import positive.
fn integrated_wh(lives: &[LiveSample], from: Instant, to: Instant) -> i64 {
    let inside: Vec<(Instant, i64)> = lives
        .iter()
        .map(|live| (live.middle, live.power_w))
        .filter(|(at, _)| (from..=to).contains(at))
        .collect();
    let (Some((_, first)), Some((_, last))) = (inside.first(), inside.last()) else { return 0 };
    let points = std::iter::once((from, *first)).chain(inside.iter().copied()).chain([(to, *last)]);
    let points: Vec<(Instant, i64)> = points.collect();
    let watt_us: i128 = points
        .windows(2)
        .filter_map(|pair| {
            let [(start, p), (end, q)] = pair else { return None };
            let us = i128::try_from(end.saturating_duration_since(*start).as_micros()).ok()?;
            Some((i128::from(*p) + i128::from(*q)) * us / 2)
        })
        .sum();
    i64::try_from(watt_us / 3_600_000_000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use energy::{MeterSerial, WattHours};
    use meter::Identity;

    fn live(start: Instant, second: u64, power_w: i64) -> LiveSample {
        LiveSample {
            power_w,
            voltage_mv: [Some(230_000), None, None],
            current_ma: [None; 3],
            frequency_mhz: None,
            raw: vec![u16::try_from(second).unwrap()],
            middle: start + Duration::from_secs(second),
        }
    }

    fn energy_at(start: Instant, second: u64, import: u64, export: u64) -> EnergySample {
        EnergySample {
            serial: MeterSerial::new("1").unwrap(),
            identity: Identity::Read,
            import: Some(WattHours::new(import)),
            export: Some(WattHours::new(export)),
            raw: Vec::new(),
            quantum: WattHours::new(1),
            modulus: None,
            profile_hash: [0; 32],
            round_trip: Duration::from_millis(10),
            middle: start + Duration::from_secs(second),
        }
    }

    /// A minute of `power_w` and of counters that moved by `import` and `export`.
    fn minute(power_w: i64, import: u64, export: u64) -> Trial {
        let start = Instant::now();
        Trial {
            round_trips: (1..=100).map(Duration::from_millis).collect(),
            lives: (0..=60).map(|second| live(start, second, power_w)).collect(),
            energies: vec![
                energy_at(start, 0, 1_000, 500),
                energy_at(start, 60, 1_000 + import, 500 + export),
            ],
            ..Trial::default()
        }
    }

    fn judged(trial: &Trial, about: &str) -> (bool, String) {
        let findings = trial.findings(Duration::from_secs(1));
        let found = findings.iter().find(|finding| finding.about == about).expect(about);
        (found.ok, found.text.clone())
    }

    #[test]
    fn counters_that_rise_by_what_power_says_agree() {
        let (ok, text) = judged(&minute(6_000, 100, 0), "registers");
        assert!(ok && text.contains("moved by 100 Wh, power says 100 Wh"), "{text}");
        assert!(judged(&minute(-6_000, 0, 100), "registers").0);
        assert!(judged(&minute(6_000, 100, 0), "reads").1.contains("p50 51 ms, p99 100 ms"));
    }

    #[test]
    fn a_sign_that_is_swapped_against_the_counters_is_told_with_what_to_do() {
        let (ok, text) = judged(&minute(6_000, 0, 100), "registers");
        assert!(!ok && text.contains("the sign of power is swapped") && text.contains("`invert`"), "{text}");
    }

    #[test]
    fn a_wrong_scale_is_told_and_too_little_energy_is_no_verdict() {
        let (ok, text) = judged(&minute(6_000, 10, 0), "registers");
        assert!(!ok && text.contains("ratio of the current transformers"), "{text}");
        let little = minute(60, 1, 0);
        assert!(judged(&little, "comparison").0);
        assert!(verdict(true, &little.findings(Duration::from_secs(1))).contains("repeat with a load on"));
    }

    #[test]
    fn a_counter_that_fell_and_a_frozen_meter_are_told() {
        let mut fell = minute(6_000, 100, 0);
        fell.energies.swap(0, 1);
        assert!(judged(&fell, "counters").1.contains("the import counter fell from 1100 to 1000 Wh"));
        let mut frozen = minute(6_000, 0, 0);
        frozen.lives.iter_mut().for_each(|live| live.raw = vec![7]);
        assert!(judged(&frozen, "frozen").1.contains("repeats old values"));
    }

    #[test]
    fn a_lost_answer_now_and_then_is_no_trouble_and_one_in_ten_is() {
        let mut trial = minute(6_000, 100, 0);
        trial.failures.insert("silent", (1, "did not answer".to_owned()));
        assert!(judged(&trial, "reads").0);
        trial.failures.insert("silent", (12, "did not answer".to_owned()));
        assert!(!judged(&trial, "reads").0 && !judged(&trial, "failure").0);
        let mut impossible = minute(6_000, 100, 0);
        impossible.failures.insert("implausible", (1, "the meter sent an impossible voltage".to_owned()));
        assert!(!judged(&impossible, "failure").0, "once is too often");
    }
}
