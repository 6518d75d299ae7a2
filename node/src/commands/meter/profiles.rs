//! `commonwatt meter profiles`: which device models are known.

use meter::{Netting, Profile};
use serde_json::{Value, json};

use super::args::ProfilesArgs;
use super::reach;
use super::table::table;
use crate::cli::{Exit, Output};
use crate::commands::{CommandError, out};

/// Lists every profile, or shows the one named.
///
/// # Errors
/// [`CommandError`] if the folder cannot be used or there is no such profile.
pub(super) fn profiles(args: &ProfilesArgs, output: Output) -> Result<Exit, CommandError> {
    let catalog = reach::catalog(args.folder.as_deref())?;
    if let Some(name) = &args.name {
        let profile = reach::find(&catalog, name)?;
        match output {
            Output::Json => out::json(&as_json(&profile)),
            Output::Text => show(&profile).iter().for_each(|line| out::line(line)),
        }
        return Ok(Exit::Ok);
    }
    match output {
        Output::Json => {
            let profiles: Vec<Value> = catalog.iter().map(|profile| as_json(profile)).collect();
            out::json(&json!({ "schema_version": 1, "profiles": profiles }));
        }
        Output::Text => {
            let rows: Vec<[String; 6]> = catalog.iter().map(|profile| row(profile)).collect();
            let head = ["NAME", "STEP", "SERIAL", "LINE", "TCP", "DEVICE"];
            table(head, &rows).iter().for_each(|line| out::line(line));
            out::note("\n`commonwatt meter profiles NAME` shows where a register table comes from.");
        }
    }
    Ok(Exit::Ok)
}

fn row(profile: &Profile) -> [String; 6] {
    let bus = profile.bus();
    let line = bus.line.map_or("-".to_owned(), |line| line.to_string());
    let serial = if profile.has_serial() { "read" } else { "nameplate" };
    let tcp = format!("{} unit {}", bus.port, bus.unit);
    let step = profile.quantum().to_string();
    [profile.name().to_owned(), step, serial.to_owned(), line, tcp, profile.device().to_owned()]
}

fn netting(profile: &Profile) -> &'static str {
    match profile.netting() {
        Netting::Vector => "phases are added first, then counted",
        Netting::PerPhase => "each phase counts for itself",
        Netting::Unknown => "not known, or a setting of the device",
    }
}

fn show(profile: &Profile) -> Vec<String> {
    let bus = profile.bus();
    let serial =
        if profile.has_serial() { "read from the meter" } else { "typed from the nameplate (`serial`)" };
    let line = bus.line.map_or("none".to_owned(), |line| line.to_string());
    let single =
        if bus.single_client { "; it serves one client only: see `commonwatt meter serve`" } else { "" };
    let mut lines = vec![
        format!("name     {}", profile.name()),
        format!("device   {}", profile.device()),
        format!("source   {}", profile.source()),
        format!("sha-256  {}", hex::encode(profile.hash())),
        format!("step     {}", profile.quantum()),
        format!("rollover {}", profile.modulus().map_or("none".to_owned(), |it| format!("at {it}"))),
        format!("phases   {}", netting(profile)),
        format!("serial   {serial}"),
        format!("bus      serial line {line}; TCP port {}, unit {}{single}", bus.port, bus.unit),
        String::new(),
    ];
    let rows: Vec<[String; 4]> = profile
        .quantities()
        .iter()
        .map(|it| {
            let registers = format!("{:#06x} ({} words)", it.register, it.registers);
            [it.obis.to_owned(), it.name.to_owned(), it.function.to_string(), registers]
        })
        .collect();
    lines.extend(table(["OBIS", "QUANTITY", "FUNCTION", "REGISTER"], &rows));
    lines.extend(
        profile
            .sunspec_model()
            .map(|model| format!("\nRegisters count from the header of SunSpec model {model}.")),
    );
    lines
}

fn as_json(profile: &Profile) -> Value {
    let bus = profile.bus();
    let quantities: Vec<Value> = profile
        .quantities()
        .iter()
        .map(|it| json!({ "name": it.name, "obis": it.obis, "function": it.function, "register": it.register, "registers": it.registers }))
        .collect();
    json!({
        "name": profile.name(),
        "device": profile.device(),
        "source": profile.source(),
        "sha256": hex::encode(profile.hash()),
        "quantum_wh": profile.quantum().get(),
        "modulus_wh": profile.modulus().map(energy::WattHours::get),
        "netting": profile.netting().name(),
        "has_serial": profile.has_serial(),
        "sunspec_model": profile.sunspec_model(),
        "bus": {
            "line": bus.line.map(|line| line.to_string()),
            "port": bus.port,
            "unit": bus.unit,
            "timeout_ms": u64::try_from(bus.timeout.as_millis()).unwrap_or(u64::MAX),
            "single_client": bus.single_client,
        },
        "quantities": quantities,
    })
}
