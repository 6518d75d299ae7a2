//! Two homes behind two routers that let nobody in, and two relays of different owners on the public side.
//!
//! Each home has the same private address, as homes do; their routers translate with nftables and drop what was not
//! asked for. Everything else is the program's: keys, founding, joining, votes, status.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use crate::look;
use crate::shell::{call, inside, run};

/// How long something may take that must happen at last.
const PATIENCE: Duration = Duration::from_secs(180);
/// How often a node is asked.
const LOOK: Duration = Duration::from_millis(500);
/// The traffic of a relay is counted for so long.
const COUNTED: Duration = Duration::from_secs(60);
/// How long the two homes may take to meet directly after they met at all.
const PUNCH_PATIENCE: Duration = Duration::from_secs(20);
const PORT: u16 = 8470;
const NETWORK: &str = r#"{"nodes": [{"id": "grid", "parent": null}, {"id": "f1", "parent": "grid"}]}"#;
/// Relays and homes, each with its last number on the public side: of a home, its router's.
const HOMES: [(&str, u8); 4] = [("r1", 11), ("r2", 12), ("a", 101), ("b", 102)];

/// How routers choose the public port of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Router {
    /// The port that the home uses, as most routers do: both ends can guess it.
    KeepsPorts,
    /// Any other for each connection: nobody can.
    RandomPorts,
}

/// What came of it with one kind of router.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Meeting {
    /// The routers.
    pub router: Router,
    /// From the start of the nodes until the two homes were connected, ms.
    pub met_ms: u64,
    /// True if they then met without a relay.
    pub direct: bool,
    /// From the loss of each relay until a vote of each home was final again, ms.
    pub final_ms: Vec<u64>,
    /// Whether they were connected through a relay while only the other one was left, or directly.
    pub relayed_after_loss: Vec<bool>,
    /// What one idle relay sends and receives in a day, going by a while, bytes; absent if it was not counted.
    pub relay_bytes_a_day: Option<u64>,
    /// Height of the common chain.
    pub height: u64,
}

/// What came of both.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Report {
    /// Each kind of router.
    pub meetings: Vec<Meeting>,
}

/// Lets the homes meet behind both kinds of routers.
///
/// # Errors
/// What should have happened and did not.
pub fn run_all(program: &Path, folder: &Path) -> anyhow::Result<Report> {
    let routers = [Router::KeepsPorts, Router::RandomPorts];
    let meet = |router: Router| {
        let folder = folder.join(format!("{router:?}"));
        meet(program, &folder, router, Some(COUNTED))
            .with_context(|| format!("{router:?}: logs are in {}", folder.display()))
    };
    Ok(Report { meetings: routers.into_iter().map(meet).collect::<Result<_, _>>()? })
}

/// Lets the homes meet behind one kind of routers, lose each relay in turn, and stop; the traffic of a relay is counted for
/// so long, if at all.
///
/// # Errors
/// What should have happened and did not.
pub fn meet(
    program: &Path,
    folder: &Path,
    router: Router,
    counted: Option<Duration>,
) -> anyhow::Result<Meeting> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    let mut town = Town::build(program, folder, router)?;
    town.found()?;
    let began = Instant::now();
    for (name, _) in HOMES {
        town.start(name)?;
    }
    town.until("the two homes are connected", |town| Ok(town.connected("a", 3)? && town.connected("b", 3)?))?;
    let met_ms = ms(began.elapsed());
    town.until("both relays take connections", |town| {
        Ok(town.reserved("a")? == 2 && town.reserved("b")? == 2)
    })?;
    let direct = town.meet_directly()?;
    let punches = router == Router::KeepsPorts;
    ensure!(!direct || punches, "the homes met directly although nobody can guess their ports");
    town.vote("a", "r1")?;
    town.vote("b", "r2")?;
    let relay_bytes_a_day = counted.map(|counted| town.count_bytes("r1", counted)).transpose()?;
    let (mut final_ms, mut relayed_after_loss) = (Vec::new(), Vec::new());
    for (lost, choice) in [("r1", "r2"), ("r2", "r1")] {
        town.kill(lost)?;
        let since = Instant::now();
        // Of four delegates three are left, and each of them is needed.
        town.vote("a", choice)?;
        town.vote("b", choice)?;
        final_ms.push(ms(since.elapsed()));
        town.until("the homes are connected without it", |town| {
            Ok(town.connected("a", 2)? && town.connected("b", 2)?)
        })?;
        relayed_after_loss.push(town.relayed("a")?.contains(&"b".to_owned()));
        town.start(lost)?;
        town.until("all are connected again", |town| Ok(town.connected("a", 3)? && town.connected("b", 3)?))?;
    }
    let height = town.stop()?;
    Ok(Meeting { router, met_ms, direct, final_ms, relayed_after_loss, relay_bytes_a_day, height })
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

struct House {
    name: &'static str,
    folder: PathBuf,
    process: Option<Child>,
    starts: u32,
}

/// The namespaces of relays, routers and homes. Taken down when dropped.
struct Town {
    name: String,
    program: PathBuf,
    folder: PathBuf,
    houses: Vec<House>,
}

impl Town {
    fn build(program: &Path, folder: &Path, router: Router) -> anyhow::Result<Self> {
        ensure!(call("id", "-u")?.trim() == "0", "network namespaces need root");
        call("nft", "--version").context("routers are made of nftables")?;
        let houses = HOMES.iter().map(|(name, _)| {
            let folder = folder.join(name);
            House { name, folder, process: None, starts: 0 }
        });
        let town = Self {
            name: format!("cn{}", std::process::id() % 100_000),
            program: program.to_owned(),
            folder: folder.to_owned(),
            houses: houses.collect(),
        };
        call("ip", &format!("link add {}i type bridge", town.name))?;
        call("ip", &format!("link set {}i up", town.name))?;
        for (name, number) in HOMES {
            call("ip", &format!("netns add {}", town.space(name)))?;
            call("ip", &format!("-n {} link set lo up", town.space(name)))?;
            if is_relay(name) {
                town.connect(&town.space(name), number)?;
            } else {
                town.put_behind_router(name, number, router)?;
            }
        }
        Ok(town)
    }

    fn space(&self, name: &str) -> String {
        format!("{}{name}", self.name)
    }

    /// Gives a namespace an address on the public side.
    fn connect(&self, space: &str, number: u8) -> anyhow::Result<()> {
        let bridge = format!("{}i", self.name);
        call("ip", &format!("link add {bridge}{number} type veth peer name wan netns {space}"))?;
        call("ip", &format!("link set {bridge}{number} master {bridge} up"))?;
        call("ip", &format!("-n {space} addr add 203.0.113.{number}/24 dev wan"))?;
        call("ip", &format!("-n {space} link set wan up"))?;
        Ok(())
    }

    fn put_behind_router(&self, name: &str, number: u8, router: Router) -> anyhow::Result<()> {
        let (home, space) = (self.space(name), format!("{}w", self.space(name)));
        call("ip", &format!("netns add {space}"))?;
        call("ip", &format!("-n {space} link set lo up"))?;
        self.connect(&space, number)?;
        call("ip", &format!("-n {space} link add lan type veth peer name eth netns {home}"))?;
        for (space, device, address) in [(&space, "lan", "192.168.1.1/24"), (&home, "eth", "192.168.1.10/24")]
        {
            call("ip", &format!("-n {space} addr add {address} dev {device}"))?;
            call("ip", &format!("-n {space} link set {device} up"))?;
        }
        call("ip", &format!("-n {home} route add default via 192.168.1.1"))?;
        let translate = match router {
            Router::KeepsPorts => "masquerade",
            Router::RandomPorts => "masquerade fully-random",
        };
        let rules = format!(
            "table ip router {{
               chain translate {{ type nat hook postrouting priority 100; oifname wan {translate}; }}
               chain own {{ type filter hook input priority 0; iifname wan ct state != {{ established, related }} drop; }}
               chain pass {{ type filter hook forward priority 0; iifname wan ct state != {{ established, related }} drop; }}
             }}"
        );
        let path = self.folder.join(format!("{name}.nft"));
        fs::write(&path, rules)?;
        let forward = "echo 1 > /proc/sys/net/ipv4/ip_forward";
        ensure!(inside(&space, "sh").args(["-c", forward]).status()?.success(), "{space} does not route");
        let output = inside(&space, "nft").arg("-f").arg(&path).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "the kernel refuses to translate addresses: {said}");
        Ok(())
    }

    fn house(&mut self, name: &str) -> anyhow::Result<&mut House> {
        self.houses
            .iter_mut()
            .find(|house| house.name == name)
            .with_context(|| format!("there is no home {name}"))
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// `init`, `init --found`, `init --join`, and the relays into the configurations.
    fn found(&self) -> anyhow::Result<()> {
        for (place, (name, number)) in (0u32..).zip(HOMES) {
            let mut arguments =
                words(&format!("init --home {name} --node f1 --meter-serial {} --data-dir", 7000 + place));
            arguments.push(self.folder(name));
            if is_relay(name) {
                arguments.extend(words(&format!("--address /ip4/203.0.113.{number}/tcp/{PORT}")));
            }
            run(&self.program, &arguments)?;
        }
        let (network, genesis) = (self.folder.join("network.json"), self.folder.join("genesis.toml"));
        fs::write(&network, NETWORK)?;
        let card = |name: &str| ["--card".into(), self.folder(name).join("join.json")];
        let cards = HOMES.iter().flat_map(|(name, _)| card(name));
        // A home behind a router has no address that others could be told of.
        let told = HOMES.iter().filter(|(name, _)| is_relay(name)).flat_map(|(name, _)| card(name));
        let mut arguments =
            words("init --found --name Town --tariff 250000,80000 --deposit 1000000000 --network");
        arguments.extend([network, "--out".into(), genesis.clone()].into_iter().chain(cards));
        run(&self.program, &arguments)?;
        for (name, _) in HOMES {
            let mut arguments = words("init --data-dir");
            arguments.extend(
                [self.folder(name), "--join".into(), genesis.clone()].into_iter().chain(told.clone()),
            );
            run(&self.program, &arguments)?;
            self.configure(name)?;
        }
        Ok(())
    }

    /// A relay says that it is one; a home names both.
    fn configure(&self, name: &str) -> anyhow::Result<()> {
        let path = self.folder(name).join("commonwatt.toml");
        let text = fs::read_to_string(&path)?;
        let (sample, said) = if is_relay(name) {
            ("#relay = true", "relay = true".to_owned())
        } else {
            let relays = [self.peer("r1")?, self.peer("r2")?];
            ("#relays = []", format!("relays = {relays:?}"))
        };
        ensure!(text.contains(sample), "the sample configuration has no {sample}");
        Ok(fs::write(&path, text.replace(sample, &said))?)
    }

    /// The address on a relay's join card.
    fn peer(&self, name: &str) -> anyhow::Result<String> {
        let card: Value = serde_json::from_str(&fs::read_to_string(self.folder(name).join("join.json"))?)?;
        card["peer"]
            .as_str()
            .map(str::to_owned)
            .with_context(|| format!("the card of {name} has no address: {card}"))
    }

    fn start(&mut self, name: &str) -> anyhow::Result<()> {
        let (space, program) = (self.space(name), self.program.clone());
        let house = self.house(name)?;
        house.starts += 1;
        let log = File::create(house.folder.with_extension(format!("{}.log", house.starts)))?;
        let mut command = inside(&space, program);
        command.args(["run", "--config"]).arg(house.folder.join("commonwatt.toml"));
        command
            .env("COMMONWATT_LOG", "info,node=debug")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        house.process = Some(command.spawn()?);
        Ok(())
    }

    fn kill(&mut self, name: &str) -> anyhow::Result<()> {
        let mut child = self.house(name)?.process.take().with_context(|| format!("{name} does not run"))?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// A command of the program on a home's own machine.
    fn ask(&self, name: &str, line: &str) -> anyhow::Result<(bool, String)> {
        let mut command = inside(&self.space(name), &self.program);
        let output = command
            .args(line.split(' '))
            .arg("--config")
            .arg(self.folder(name).join("commonwatt.toml"))
            .output()?;
        let said =
            String::from_utf8_lossy(if output.stdout.is_empty() { &output.stderr } else { &output.stdout });
        Ok((output.status.success(), said.into_owned()))
    }

    /// What `status` shows; nothing while the node does not answer.
    fn status(&self, name: &str) -> anyhow::Result<Value> {
        let (_, text) = self.ask(name, "status --output json")?;
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    fn connected(&self, name: &str, peers: u64) -> anyhow::Result<bool> {
        Ok(self.status(name)?["peers"].as_u64() >= Some(peers))
    }

    /// At how many relays a home has a place.
    fn reserved(&self, name: &str) -> anyhow::Result<usize> {
        let status = self.status(name)?;
        let relays = status["relaying"]["relays"].as_array().cloned().unwrap_or_default();
        Ok(relays.iter().filter(|relay| relay["reserved"] == true).count())
    }

    /// The homes that this one reaches through a relay.
    fn relayed(&self, name: &str) -> anyhow::Result<Vec<String>> {
        let status = self.status(name)?;
        let relayed =
            status["relayed"].as_array().with_context(|| format!("{name} does not answer: {status}"))?;
        Ok(relayed.iter().filter_map(|home| home.as_str().map(str::to_owned)).collect())
    }

    /// Waits a while for the two homes to let go of the relay; true if they did, at both ends.
    fn meet_directly(&self) -> anyhow::Result<bool> {
        let until = Instant::now() + PUNCH_PATIENCE;
        while Instant::now() < until {
            if self.relayed("a")?.is_empty() && self.relayed("b")?.is_empty() {
                return Ok(true);
            }
            std::thread::sleep(LOOK);
        }
        Ok(false)
    }

    /// A vote of a home, which the command waits for to be final; again until it is.
    fn vote(&self, name: &str, choice: &str) -> anyhow::Result<()> {
        let line = format!("ledger vote --approve {choice} --wait 60");
        let until = Instant::now() + PATIENCE;
        loop {
            match self.ask(name, &line)? {
                (true, _) => return Ok(()),
                (false, said) if Instant::now() > until => bail!("the vote of {name} is not final: {said}"),
                (false, _) => std::thread::sleep(LOOK),
            }
        }
    }

    fn until(&self, what: &str, holds: impl Fn(&Self) -> anyhow::Result<bool>) -> anyhow::Result<()> {
        let until = Instant::now() + PATIENCE;
        while !holds(self)? {
            ensure!(Instant::now() < until, "not within {PATIENCE:?}: {what}");
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// What a node sends and receives in a day, going by a while.
    fn count_bytes(&self, name: &str, counted: Duration) -> anyhow::Result<u64> {
        let before = self.bytes(name)?;
        std::thread::sleep(counted);
        let passed = self.bytes(name)?.saturating_sub(before);
        Ok(passed.saturating_mul(86_400) / counted.as_secs().max(1))
    }

    fn bytes(&self, name: &str) -> anyhow::Result<u64> {
        let text = call("ip", &format!("-n {} -j -s link show dev wan", self.space(name)))?;
        let shown: Value = serde_json::from_str(&text)?;
        let count = |way: &str| shown[0]["stats64"][way]["bytes"].as_u64();
        count("rx").zip(count("tx")).map(|(rx, tx)| rx + tx).with_context(|| format!("no counters: {text}"))
    }

    /// Stops all nodes when they are level, and compares and verifies what they hold.
    fn stop(&mut self) -> anyhow::Result<u64> {
        let heights = |town: &Self| HOMES.map(|(name, _)| look::height(&town.folder(name)));
        self.until("all have the same last block", |town| {
            Ok(heights(town).iter().all(|it| *it == heights(town)[0]))
        })?;
        for house in &mut self.houses {
            let Some(mut child) = house.process.take() else { continue };
            run("kill", &["-TERM".to_owned(), child.id().to_string()])?;
            let status = child.wait()?;
            ensure!(status.success(), "{} ended with {status}", house.name);
        }
        let common = heights(self).into_iter().min().unwrap_or(0);
        let mut head = None;
        for (name, _) in HOMES {
            let db = look::open(&self.folder(name), "ledger.db")?;
            let id: Vec<u8> =
                db.query_row(&format!("SELECT id FROM block WHERE height = {common}"), [], |row| row.get(0))?;
            ensure!(*head.get_or_insert_with(|| id.clone()) == id, "{name} has another block {common}");
            let mut arguments = words("ledger verify --data-dir");
            arguments.extend([self.folder(name), "--genesis".into(), self.folder.join("genesis.toml")]);
            run(&self.program, &arguments)?;
        }
        Ok(common)
    }
}

impl Drop for Town {
    fn drop(&mut self) {
        for house in &mut self.houses {
            if let Some(mut child) = house.process.take() {
                // It may have ended meanwhile.
                let _ = child.kill();
                let _ = child.wait();
            }
        }
        for (name, number) in HOMES {
            // What was never made cannot be taken away.
            let _ = call("ip", &format!("link del {}i{number}", self.name));
            let _ = call("ip", &format!("netns del {}w", self.space(name)));
            let _ = call("ip", &format!("netns del {}", self.space(name)));
        }
        let _ = call("ip", &format!("link del {}i", self.name));
    }
}

fn is_relay(name: &str) -> bool {
    name.starts_with('r')
}

fn words(line: &str) -> Vec<PathBuf> {
    line.split_whitespace().map(PathBuf::from).collect()
}

/// The report for people.
#[must_use]
pub fn summary(report: &Report) -> String {
    let line = |it: &Meeting| {
        let router = match it.router {
            Router::KeepsPorts => "routers keep ports",
            Router::RandomPorts => "routers draw ports",
        };
        let way = if it.direct { "then directly" } else { "and stay with a relay" };
        format!(
            "{router}: connected after {} ms, {way}; votes final {:?} ms after the loss of each relay (relayed: {:?}); an \
             idle relay moves {} MB a day; {} blocks",
            it.met_ms,
            it.final_ms,
            it.relayed_after_loss,
            it.relay_bytes_a_day.map_or(0, |bytes| bytes / 1_000_000),
            it.height
        )
    };
    report.meetings.iter().map(line).collect::<Vec<_>>().join("\n")
}
