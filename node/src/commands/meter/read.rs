//! `commonwatt meter read`: every quantity of a meter, once or again and again.

use std::time::Duration;

use meter::{EnergySample, Identity, LiveSample, Meter, MeterError, Quantity};
use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;

use super::args::ReadArgs;
use super::reach::{kind_of, reach, refused, told};
use super::table::{kwh, table, thousandths};
use crate::cli::{Exit, Output};
use crate::commands::{CommandError, out};
use crate::config::meters::MeterSettings;

/// Longest wait for one block, connecting included.
const DEADLINE: Duration = Duration::from_secs(15);

/// Reads and prints.
///
/// # Errors
/// [`CommandError`] if the meter cannot be read; with `--watch` failures are told and reading goes on.
pub(super) async fn read(args: ReadArgs, output: Output) -> Result<Exit, CommandError> {
    let settings = reach(&args.reach)?.meter;
    let meter = Meter::spawn(settings.meter());
    if args.watch {
        watch(&args, &settings, &meter, output).await;
        return Ok(Exit::Ok);
    }
    let view = View::read(&meter, &settings).await.map_err(|error| refused(&error))?;
    view.print(output);
    Ok(Exit::Ok)
}

/// Reads until somebody interrupts it. What fails is absent, never the last value.
async fn watch(args: &ReadArgs, settings: &MeterSettings, meter: &Meter, output: Output) {
    let mut ticks = tokio::time::interval(Duration::from_secs(args.every));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => return,
            _ = ticks.tick() => {}
        }
        match (View::read(meter, settings).await, output) {
            (Ok(view), Output::Text) => {
                view.print(output);
                out::line("");
            }
            // One object per line, so that programs can take them as they come.
            (Ok(view), Output::Json) => out::line(&view.json().to_string()),
            (Err(error), Output::Text) => out::note(&format!("no value: {}", told(&error))),
            (Err(error), Output::Json) => {
                let error = json!({ "kind": kind_of(&error), "message": told(&error) });
                out::line(&json!({ "schema_version": 1, "error": error }).to_string());
            }
        }
    }
}

/// Everything a meter said at about one instant.
struct View<'a> {
    settings: &'a MeterSettings,
    energy: EnergySample,
    live: LiveSample,
}

/// One value of it.
struct Row<'a> {
    quantity: Quantity<'a>,
    /// In the unit that people use; `None`: the device says that it has no such value.
    shown: Option<String>,
    /// In Wh, W, mV, mA or mHz.
    value: Option<i64>,
    unit: &'static str,
    base_unit: &'static str,
    words: String,
}

impl<'a> View<'a> {
    async fn read(meter: &Meter, settings: &'a MeterSettings) -> Result<Self, MeterError> {
        let energy = meter.read_energy(DEADLINE).await?;
        let live = meter.read_live(DEADLINE).await?;
        Ok(Self { settings, energy, live })
    }

    fn rows(&self) -> Vec<Row<'_>> {
        self.settings.profile.quantities().into_iter().map(|quantity| self.row(quantity)).collect()
    }

    fn row<'b>(&self, quantity: Quantity<'b>) -> Row<'b> {
        let raw = match quantity.name {
            "import" | "export" => &self.energy.raw,
            _ => &self.live.raw,
        };
        let end = quantity.offset + usize::from(quantity.registers);
        let words = raw.get(quantity.offset..end).unwrap_or_default();
        let words: Vec<String> = words.iter().map(|word| format!("{word:04x}")).collect();
        let value = self.value_of(quantity.name);
        let (unit, base_unit, told): (_, _, fn(i64) -> String) = match quantity.name {
            "import" | "export" => ("kWh", "Wh", |wh| kwh(wh.unsigned_abs())),
            name if name.starts_with("voltage") => ("V", "mV", |mv| thousandths(mv, 1)),
            name if name.starts_with("current") => ("A", "mA", |ma| thousandths(ma, 3)),
            "frequency" => ("Hz", "mHz", |mhz| thousandths(mhz, 2)),
            _ => ("W", "W", |w| w.to_string()),
        };
        Row { quantity, shown: value.map(told), value, unit, base_unit, words: words.join(" ") }
    }

    fn value_of(&self, name: &str) -> Option<i64> {
        let wh = |register: Option<energy::WattHours>| register.and_then(|wh| i64::try_from(wh.get()).ok());
        let [u1, u2, u3] = self.live.voltage_mv.map(|mv| mv.map(i64::from));
        let [i1, i2, i3] = self.live.current_ma;
        match name {
            "import" => wh(self.energy.import),
            "export" => wh(self.energy.export),
            "voltage_l1" => u1,
            "voltage_l2" => u2,
            "voltage_l3" => u3,
            "current_l1" => i1,
            "current_l2" => i2,
            "current_l3" => i3,
            "frequency" => self.live.frequency_mhz.map(i64::from),
            _ => Some(self.live.power_w),
        }
    }

    fn print(&self, output: Output) {
        if output == Output::Json {
            out::json(&self.json());
            return;
        }
        let settings = self.settings;
        let weak = match self.energy.identity {
            Identity::Read => "",
            Identity::Nameplate => " (by its nameplate: weak identity)",
        };
        out::line(&format!(
            "meter {}{weak}, {} at {} unit {}",
            self.energy.serial,
            settings.profile.name(),
            settings.endpoint,
            settings.unit
        ));
        let rows: Vec<[String; 6]> = self
            .rows()
            .into_iter()
            .map(|row| {
                let quality = if row.shown.is_some() { "good" } else { "absent" };
                let shown = row.shown.unwrap_or_else(|| "-".to_owned());
                let name = row.quantity.name.to_owned();
                [
                    row.quantity.obis.to_owned(),
                    name,
                    shown,
                    row.unit.to_owned(),
                    quality.to_owned(),
                    row.words,
                ]
            })
            .collect();
        table(["OBIS", "QUANTITY", "VALUE", "UNIT", "QUALITY", "REGISTERS"], &rows)
            .iter()
            .for_each(|line| out::line(line));
        out::line(&format!(
            "step of the counters {}, answered in {} ms",
            self.energy.quantum,
            self.energy.round_trip.as_millis()
        ));
    }

    fn json(&self) -> Value {
        let quantities: Vec<Value> = self
            .rows()
            .into_iter()
            .map(|row| {
                json!({
                    "name": row.quantity.name,
                    "obis": row.quantity.obis,
                    "value": row.value,
                    "unit": row.base_unit,
                    "quality": if row.value.is_some() { "good" } else { "absent" },
                    "registers": row.words,
                })
            })
            .collect();
        json!({
            "schema_version": 1,
            "serial": self.energy.serial.to_string(),
            "identity": match self.energy.identity { Identity::Read => "read", Identity::Nameplate => "nameplate" },
            "profile": self.settings.profile.name(),
            "profile_sha256": hex::encode(self.energy.profile_hash),
            "endpoint": self.settings.endpoint.to_string(),
            "unit": self.settings.unit,
            "quantum_wh": self.energy.quantum.get(),
            "round_trip_ms": u64::try_from(self.energy.round_trip.as_millis()).unwrap_or(u64::MAX),
            "quantities": quantities,
        })
    }
}
