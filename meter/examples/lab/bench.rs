//! What the meter layer costs: reads per second and processor time per read, and a hundred meters at two reads a second.
//!
//! Every measurement runs in a process of its own with one thread; the server is another process.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use energy::MeterSerial;
use meter::simulator::SimulatedMeter;
use meter::{Meter, Profile};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::client::{self, Client};
use crate::peers::{self, FaultServer, Libmodbus, Place, Running};

/// Block sizes: one value, a whole SDM630, the most that Modbus allows.
const REGISTERS: [u16; 3] = [2, 76, 125];
/// The fleet, and how often each of it is read.
const METERS: usize = 100;
const FLEET_PACE: Duration = Duration::from_millis(500);
/// Longest wait for one value.
const DEADLINE: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Seconds of each measurement of one client.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Seconds of the measurement of a hundred meters.
    #[arg(long, default_value_t = 30.0)]
    fleet_seconds: f64,
    /// `json`: one object on stdout.
    #[arg(long, default_value = "text")]
    pub output: String,
}

/// Runs all measurements, one after the other.
pub fn run(args: &Args) -> anyhow::Result<Value> {
    let folder = tempfile::tempdir()?;
    let mut bench = Bench {
        seconds: args.seconds.to_string(),
        libmodbus: peers::compile("libmodbus_reader.c", folder.path())?,
        readers: Vec::new(),
    };
    {
        let server = FaultServer::start(&Place::Tcp(0), 0, 0.0)?;
        bench.measure("pymodbus", server.port, 3, &REGISTERS)?;
    }
    {
        let port = peers::free_port()?;
        let bandwidth = Libmodbus::compile("bandwidth-server-many-up", folder.path())?;
        let _server = bandwidth.start(&Place::Tcp(port))?;
        peers::wait_for("the server", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok())?;
        bench.measure("libmodbus", port, 3, &REGISTERS)?;
    }
    {
        let (_street, port) = street(1)?;
        // An SDM630 answers at most 80 at once.
        bench.measure("commonwatt", port.parse()?, 4, &REGISTERS[..2])?;
    }
    let (_street, ports) = street(METERS)?;
    let fleet = ours(&["fleet", &args.fleet_seconds.to_string(), &ports])?;
    Ok(json!({ "readers": bench.readers, "fleet": fleet }))
}

struct Bench {
    seconds: String,
    libmodbus: PathBuf,
    readers: Vec<Value>,
}

impl Bench {
    /// Our client and the peers' on one server, for each block size.
    fn measure(&mut self, server: &str, port: u16, function: u8, sizes: &[u16]) -> anyhow::Result<()> {
        for registers in sizes {
            let (port, function) = (port.to_string(), function.to_string());
            let arguments = [port.as_str(), &function, &registers.to_string(), &self.seconds];
            let all = [
                ("commonwatt", ours(&[&["reader"][..], &arguments].concat())?),
                ("libmodbus", told(Command::new(&self.libmodbus).args(arguments))?),
                ("pymodbus", told(peers::python("pymodbus_reader.py")?.args(arguments))?),
            ];
            for (client, figures) in all {
                self.readers.push(summary(client, server, *registers, &figures)?);
            }
        }
        Ok(())
    }
}

fn summary(client: &str, server: &str, registers: u16, figures: &Value) -> anyhow::Result<Value> {
    let number = |name: &str| figures[name].as_f64().with_context(|| format!("{client} does not say {name}"));
    let reads = number("reads")?;
    Ok(json!({
        "client": client,
        "server": server,
        "registers": registers,
        "reads_per_second": (reads / number("seconds")?).round(),
        "cpu_us_per_read": (number("cpu_us")? / reads * 10.0).round() / 10.0,
        "peak_rss_mib": mib(number("peak_rss_kib")?),
    }))
}

fn mib(kib: f64) -> f64 {
    (kib / 102.4).round() / 10.0
}

/// This program as another process.
fn ours(arguments: &[&str]) -> anyhow::Result<Value> {
    told(Command::new(std::env::current_exe()?).args(arguments))
}

/// The JSON that a program prints.
fn told(command: &mut Command) -> anyhow::Result<Value> {
    let output = command.stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "{:?} failed", command.get_program());
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("{:?} printed no JSON", command.get_program()))
}

/// A process with so many simulated meters, and their ports.
fn street(meters: usize) -> anyhow::Result<(Running, String)> {
    let mut command = Command::new(std::env::current_exe()?);
    let mut street = Running::start(
        command.args(["street", &meters.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped()),
    )?;
    let mut ports = String::new();
    BufReader::new(street.output()?).read_line(&mut ports)?;
    Ok((street, ports.trim().to_owned()))
}

/// Serves simulated meters, each on its port, until standard input ends.
pub async fn serve_street(meters: usize) -> anyhow::Result<String> {
    let mut ports = Vec::new();
    for number in 0..meters {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        ports.push(listener.local_addr()?.port().to_string());
        let meter = SimulatedMeter::new(MeterSerial::new(&(1_000 + number).to_string())?);
        meter.set(4_000_000, 8_000, 500);
        tokio::spawn(meter.serve(listener, std::future::pending()));
    }
    Ok(ports.join(","))
}

/// Waits until standard input ends.
pub async fn input_ends() -> anyhow::Result<()> {
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    Ok(())
}

/// One client that reads as fast as it can.
pub async fn reader(port: u16, function: u8, registers: u16, length: Duration) -> anyhow::Result<Value> {
    let client = Client::at(&Place::Tcp(port));
    client.raw(1, function, 0, registers).await?;
    let (cpu, begun, mut reads) = (cpu_us()?, Instant::now(), 0_u64);
    while begun.elapsed() < length {
        client.raw(1, function, 0, registers).await?;
        reads += 1;
    }
    Ok(json!({
        "reads": reads,
        "seconds": begun.elapsed().as_secs_f64(),
        "cpu_us": cpu_us()? - cpu,
        "peak_rss_kib": peak_rss_kib()?,
    }))
}

/// Meters on `ports`, each read twice a second; nothing may be missed.
pub async fn fleet(ports: &str, length: Duration) -> anyhow::Result<Value> {
    let profile = Profile::by_name("eastron-sdm630").context("a built-in profile")?;
    let ports: Vec<u16> = ports.split(',').map(str::parse).collect::<Result<_, _>>()?;
    let meters: Vec<Meter> = ports
        .iter()
        .map(|port| Meter::on(&client::bus(&Place::Tcp(*port)), 1, Arc::clone(&profile), None))
        .collect();
    let (count, begun) = (meters.len(), Instant::now());
    let mut readers: JoinSet<anyhow::Result<u64>> =
        meters.into_iter().map(|meter| read_at_pace(meter, begun + length)).collect();
    let mut reads = 0;
    while let Some(done) = readers.join_next().await {
        reads += done??;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let cpu_percent = cpu_us()? as f64 / seconds / 10_000.0;
    Ok(json!({
        "meters": count,
        "reads": reads,
        "reads_per_second": (reads as f64 / seconds).round(),
        "cpu_percent_of_a_core": (cpu_percent * 100.0).round() / 100.0,
        "peak_rss_mib": mib(peak_rss_kib()? as f64),
    }))
}

async fn read_at_pace(meter: Meter, until: Instant) -> anyhow::Result<u64> {
    let mut pace = tokio::time::interval(FLEET_PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut reads = 0;
    while Instant::now() < until {
        pace.tick().await;
        meter.read_live(DEADLINE).await?;
        reads += 1;
    }
    Ok(reads)
}

/// Processor time of this process so far, all threads.
fn cpu_us() -> anyhow::Result<u64> {
    let mut nanoseconds = 0;
    for thread in std::fs::read_dir("/proc/self/task")? {
        let text = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        nanoseconds += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
    }
    Ok(nanoseconds / 1_000)
}

/// The most memory this process ever held.
fn peak_rss_kib() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    Ok(peak.and_then(|text| text.trim().strip_suffix(" kB")).context("no VmHWM")?.parse()?)
}
