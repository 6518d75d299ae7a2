//! `commonwatt meter commission`: the kettle check on a real meter, and its record.

use std::io::BufRead;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use energy::{Timestamp, WattHours};
use meter::commission::{DisplayVerdict, Kettle, SAMPLES_MIN, Verdict};
use meter::{EnergySample, LiveSample, Meter, MeterError};
use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;

use super::args::{CommissionArgs, parse_kwh};
use super::reach::{Reached, reach, refused, told};
use super::table::kwh;
use crate::cli::{Exit, Output};
use crate::clock::{Clock, SystemClock};
use crate::commands::{CommandError, files, out};

/// Longest wait for one block.
const DEADLINE: Duration = Duration::from_secs(5);
/// Pause between two reads of power.
const EVERY: Duration = Duration::from_millis(500);
/// Reads before the kettle.
const BASE_SAMPLES: usize = 10;
/// The record in the data folder of the home.
const RECORD_FILE: &str = "commissioning.json";
/// The longest answer a person may type.
const ANSWER_MAX: u64 = 64;

/// Measures, asks for the kettle, measures again, and says what that means.
///
/// # Errors
/// [`CommandError`] if the meter cannot be read or the record cannot be written.
pub(super) async fn commission(args: CommissionArgs, output: Output) -> Result<Exit, CommandError> {
    let reached = reach(&args.reach)?;
    let settings = &reached.meter;
    let kettle = args.watts.map_or_else(Kettle::default, Kettle::of_watts);
    let meter = Meter::spawn(settings.meter());
    let before = meter.read_energy(DEADLINE).await.map_err(|error| refused(&error))?;
    out::note(&format!(
        "meter {} answers ({} at {})",
        before.serial,
        settings.profile.name(),
        settings.endpoint
    ));
    let display = ask_display(&args, &before)?;
    let check = measure(&args, &kettle, &meter).await?;
    let after = meter.read_energy(DEADLINE).await.map_err(|error| refused(&error))?;
    let result = CheckResult::new(&kettle, check, [before, after], display);
    let record = result.json(&reached);
    match output {
        Output::Json => out::json(&record),
        Output::Text => result.lines().iter().for_each(|line| out::line(line)),
    }
    if let Some(path) = record_path(&args, &reached) {
        files::replace(&path, &format!("{record:#}\n"))?;
        out::note(&format!("recorded in {}", path.display()));
    }
    Ok(if result.passed() { Exit::Ok } else { Exit::Exceptions })
}

fn record_path(args: &CommissionArgs, reached: &Reached) -> Option<PathBuf> {
    let of_home = || reached.config.as_ref().map(|config| config.data_dir.join(RECORD_FILE));
    args.record.clone().or_else(of_home)
}

/// What the display shows as import and export, Wh, as far as anybody said so.
fn ask_display(args: &CommissionArgs, registers: &EnergySample) -> Result<[Option<u64>; 2], CommandError> {
    let mut display = [args.display_import, args.display_export];
    if args.yes {
        return Ok(display);
    }
    let names = [("import (1.8.0)", registers.import), ("export (2.8.0)", registers.export)];
    for (shown, (name, register)) in display.iter_mut().zip(names) {
        if shown.is_some() || register.is_none() {
            continue;
        }
        out::note(&format!("What does the meter's display show as {name}, in kWh? Empty to skip."));
        let answer = typed()?;
        if !answer.is_empty() {
            let wh =
                parse_kwh(&answer).map_err(|message| CommandError::Other { exit: Exit::Usage, message })?;
            *shown = Some(wh);
        }
    }
    Ok(display)
}

/// One line from the person at the terminal; empty at the end of the input.
fn typed() -> Result<String, CommandError> {
    let mut line = String::new();
    let mut input = std::io::Read::take(std::io::stdin().lock(), ANSWER_MAX);
    input
        .read_line(&mut line)
        .map_err(|error| CommandError::failed(format!("cannot read the answer: {error}")))?;
    Ok(line.trim().to_owned())
}

/// Power before and after the switch.
#[derive(Default)]
struct Measured {
    before: Vec<LiveSample>,
    after: Vec<LiveSample>,
    /// From the first sample that shows the kettle, as far as it was seen.
    failures: usize,
}

impl Measured {
    fn judge(&self, kettle: &Kettle) -> Verdict {
        let powers = |samples: &[LiveSample]| samples.iter().map(|live| live.power_w).collect::<Vec<_>>();
        let mut all = self.before.iter().chain(&self.after);
        let moved = all.next().is_none_or(|first| all.any(|live| live.raw != first.raw));
        kettle.judge(&powers(&self.before), &powers(&self.after), moved)
    }
}

async fn measure(args: &CommissionArgs, kettle: &Kettle, meter: &Meter) -> Result<Measured, CommandError> {
    let mut measured = Measured::default();
    out::note("measuring what the house draws now; please switch nothing …");
    let mut last = None;
    let mut ticks = ticks();
    let base_end = Instant::now() + EVERY * 4 * u32::try_from(BASE_SAMPLES).unwrap_or(u32::MAX);
    while measured.before.len() < BASE_SAMPLES && Instant::now() < base_end {
        ticks.tick().await;
        take(meter, &mut measured.before, &mut measured.failures, &mut last).await;
    }
    if let (true, Some(error)) = (measured.before.is_empty(), last) {
        return Err(refused(&error));
    }
    call_for_kettle(args, kettle)?;
    // Whatever was switched while the person read the question belongs to neither side.
    let end = Instant::now() + Duration::from_secs(args.seconds);
    let mut ticks = self::ticks();
    while Instant::now() < end {
        ticks.tick().await;
        take(meter, &mut measured.after, &mut measured.failures, &mut None).await;
        let settled = measured.after.len() >= SAMPLES_MIN;
        if settled && matches!(measured.judge(kettle), Verdict::Passed { .. } | Verdict::Swapped { .. }) {
            break;
        }
    }
    Ok(measured)
}

fn ticks() -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}

async fn take(
    meter: &Meter,
    samples: &mut Vec<LiveSample>,
    failures: &mut usize,
    last: &mut Option<MeterError>,
) {
    match meter.read_live(DEADLINE).await {
        Ok(sample) => samples.push(sample),
        Err(error) => {
            out::note(&format!("no value: {}", told(&error)));
            *failures += 1;
            *last = Some(error);
        }
    }
}

fn call_for_kettle(args: &CommissionArgs, kettle: &Kettle) -> Result<(), CommandError> {
    let (low, high) = (kettle.range_w().start().to_owned(), kettle.range_w().end().to_owned());
    if args.yes {
        out::note(&format!("switch the kettle ({low} to {high} W) on now"));
        return Ok(());
    }
    out::note(&format!("Fill the kettle ({low} to {high} W), switch it on, then press Enter."));
    typed().map(drop)
}

/// Everything the check found.
struct CheckResult {
    verdict: Verdict,
    display: Option<DisplayVerdict>,
    display_wh: [Option<u64>; 2],
    samples: [EnergySample; 2],
    measured: Measured,
    at: Timestamp,
}

impl CheckResult {
    fn new(
        kettle: &Kettle,
        measured: Measured,
        samples: [EnergySample; 2],
        display_wh: [Option<u64>; 2],
    ) -> Self {
        let [before, after] = &samples;
        let mut verdict = measured.judge(kettle);
        let [import, export] = [rise(before.import, after.import), rise(before.export, after.export)];
        if let Verdict::Passed { rose_w } = verdict {
            let on = measured
                .after
                .first()
                .map_or(Duration::ZERO, |first| after.middle.saturating_duration_since(first.middle));
            let kettle_wh = u64::from(rose_w) * on.as_secs() / 3600;
            let registers = kettle.judge_registers(import, export, kettle_wh, after.quantum.get());
            verdict = registers.unwrap_or(verdict);
        }
        let registers = [before.import, before.export].map(|it| it.map(WattHours::get));
        let display = DisplayVerdict::of(display_wh, registers, before.quantum.get());
        Self { verdict, display, display_wh, samples, measured, at: SystemClock::new(None).market() }
    }

    fn passed(&self) -> bool {
        self.verdict.passed() && self.display.is_none_or(|display| display == DisplayVerdict::Agrees)
    }

    fn lines(&self) -> Vec<String> {
        let mark = |well: bool| if well { "[ok]" } else { "[!!]" };
        let mut lines = vec![format!("{} {}", mark(self.verdict.passed()), self.verdict)];
        lines.extend(self.display.map(|it| format!("{} {it}", mark(it == DisplayVerdict::Agrees))));
        let [_, after] = &self.samples;
        let register =
            |name: &str, wh: Option<WattHours>| wh.map(|wh| format!("{name} {} kWh", kwh(wh.get())));
        let registers = [register("import", after.import), register("export", after.export)];
        let registers: Vec<String> = registers.into_iter().flatten().collect();
        lines.push(format!(
            "meter {} now says {}: compare with its display",
            after.serial,
            registers.join(", ")
        ));
        lines
    }

    fn json(&self, reached: &Reached) -> Value {
        let settings = &reached.meter;
        let [before, after] = &self.samples;
        let registers = |sample: &EnergySample| {
            json!({
                "import_wh": sample.import.map(WattHours::get),
                "export_wh": sample.export.map(WattHours::get),
                "raw": sample.raw.iter().map(|word| format!("{word:04x}")).collect::<Vec<_>>().join(" "),
            })
        };
        let powers = |samples: &[LiveSample]| samples.iter().map(|live| live.power_w).collect::<Vec<_>>();
        json!({
            "schema_version": 1,
            "time": self.at.to_string(),
            "passed": self.passed(),
            "verdict": self.verdict.word(),
            "text": self.verdict.to_string(),
            "display": {
                "import_wh": self.display_wh[0],
                "export_wh": self.display_wh[1],
                "text": self.display.map(|display| display.to_string()),
            },
            "serial": after.serial.to_string(),
            "profile": settings.profile.name(),
            "profile_sha256": hex::encode(after.profile_hash),
            "endpoint": settings.endpoint.to_string(),
            "unit": settings.unit,
            "quantum_wh": after.quantum.get(),
            "registers_before": registers(before),
            "registers_after": registers(after),
            "power_before_w": powers(&self.measured.before),
            "power_after_w": powers(&self.measured.after),
            "failed_reads": self.measured.failures,
        })
    }
}

fn rise(before: Option<WattHours>, after: Option<WattHours>) -> u64 {
    let wh = |register: Option<WattHours>| register.map_or(0, WattHours::get);
    wh(after).saturating_sub(wh(before))
}
