//! A community of real nodes, founded with the commands that people use, one in each namespace.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use energy::Timestamp;

use crate::lan::Lan;
use crate::look;
use crate::meters::Meters;
use crate::shell::{inside, run};
use crate::shim::{Orders, Shim};

/// Market seconds per second: an interval of five minutes lasts ten seconds.
pub const SPEED: u32 = 30;
/// Where market time starts.
pub const ORIGIN: &str = "2016-06-13T08:00:00Z";
/// Length of an interval, minutes.
pub const MTU_MINUTES: u32 = 5;
/// Founding and starting take about so long: the first interval should not pass before all nodes run, ms of wall time.
const HEAD_START_MS: u64 = 12_000;
/// What each home has paid in, n.
const DEPOSIT: u64 = 1_000_000_000_000;
/// How far below zero the supplier's account may go, n.
const SUPPLIER_CREDIT: u64 = 10_000_000_000_000;
/// How long a node may take to end after it was asked to.
const STOP_PATIENCE: Duration = Duration::from_secs(60);
/// Port of each API.
const API_PORT: u16 = 8480;
/// The network: one feeder, with fees.
const NETWORK: &str = r#"{"nodes": [
    {"id": "grid", "parent": null},
    {"id": "lv", "parent": "grid", "fee_down": 40000},
    {"id": "f1", "parent": "lv", "fee_down": 10000}]}"#;

/// One home's node.
pub struct House {
    /// Its id.
    pub name: String,
    /// Its data folder.
    pub folder: PathBuf,
    /// What its clock and its disk are told.
    pub orders: Orders,
    process: Option<Child>,
    starts: u32,
}

/// The community.
pub struct Street {
    /// Its network.
    pub lan: Lan,
    program: PathBuf,
    folder: PathBuf,
    shim: Shim,
    houses: Vec<House>,
    meters: Option<Meters>,
}

/// The number of each home.
pub type Home = u8;

impl Street {
    /// Founds a community of `homes`, all of them delegates, and starts its nodes.
    ///
    /// # Errors
    /// What could not be done, and what is missing for it.
    pub fn found(program: &Path, folder: &Path, homes: u8, seed: u64) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        let lan = Lan::new(homes, seed)?;
        let shim = Shim::compile(folder)?;
        let (folder, program) = (folder.to_owned(), program.to_owned());
        let mut street = Self { lan, program, folder, shim, houses: Vec::new(), meters: None };
        let wall_origin = wall_ms() + HEAD_START_MS;
        let meters = Meters::serve(street.lan.outside(), homes, wall_origin)?;
        for home in 1..=homes {
            street.make_home(home, meters.address(home))?;
        }
        street.meters = Some(meters);
        street.make_genesis(wall_origin)?;
        for home in 1..=homes {
            street.join(home)?;
            street.start(home)?;
        }
        Ok(street)
    }

    fn make_home(&mut self, home: Home, meter: SocketAddr) -> anyhow::Result<()> {
        let name = format!("h{home}");
        let folder = self.folder.join(&name);
        let (lane, api) = (Lan::lane(home), SocketAddr::new(self.lan.look(home), API_PORT));
        let words = format!(
            "init --home {name} --node f1 --meter-serial {} --meter-address {meter} --address /ip4/{lane}/tcp/8470 \
             --api-listen {api} --data-dir",
            5000 + u32::from(home)
        );
        run(&self.program, &with_path(&words, &folder))?;
        let path = folder.join("commonwatt.toml");
        // Neighbours meet on the wire alone, where things go wrong, and never on the network that looks on.
        let text = fs::read_to_string(&path)?;
        let listens = text.replace("/ip4/0.0.0.0/tcp/8470", &format!("/ip4/{lane}/tcp/8470"));
        ensure!(listens != text, "the sample configuration listens elsewhere than it did");
        fs::write(&path, listens)?;
        let orders = Orders::create(&self.folder.join(format!("{name}.orders")))?;
        self.houses.push(House { name, folder, orders, process: None, starts: 0 });
        Ok(())
    }

    /// `init --found`, then what it has no option for: a demo's clock, and trading ahead.
    fn make_genesis(&self, wall_origin: u64) -> anyhow::Result<()> {
        let network = self.folder.join("network.json");
        fs::write(&network, NETWORK)?;
        let names: Vec<&str> = self.houses.iter().map(|house| house.name.as_str()).collect();
        let words = format!(
            "init --found --name Faults --tariff 250000,80000 --mtu {MTU_MINUTES} --deposit {DEPOSIT} --supplier-credit \
             {SUPPLIER_CREDIT} --start {ORIGIN} --delegates {} --network",
            names.join(",")
        );
        let mut arguments = with_path(&words, &network);
        for house in &self.houses {
            arguments.extend(["--card".into(), house.folder.join("join.json")]);
        }
        arguments.extend(["--out".into(), self.genesis()]);
        run(&self.program, &arguments)?;
        let text = fs::read_to_string(self.genesis())?;
        let trading = text.replace("forward = \"off\"", "forward = \"posted\"");
        ensure!(trading != text, "the genesis does not say forward = \"off\" any more");
        let wall = Timestamp::from_unix_ms(wall_origin);
        let clock = format!(
            "\n[clock]\norigin = \"{ORIGIN}\"\nwall_origin = \"{wall}\"\nspeed = {SPEED}\nassurance_every = 288\n\
             epoch_every = 288\n"
        );
        fs::write(self.genesis(), trading + &clock)?;
        Ok(())
    }

    fn join(&self, home: Home) -> anyhow::Result<()> {
        let house = self.house(home)?;
        let mut arguments = with_path("init --data-dir", &house.folder);
        arguments.extend(["--join".into(), self.genesis()]);
        for other in &self.houses {
            arguments.extend(["--card".into(), other.folder.join("join.json")]);
        }
        run(&self.program, &arguments).map(drop)
    }

    /// The genesis file that all share.
    #[must_use]
    pub fn genesis(&self) -> PathBuf {
        self.folder.join("genesis.toml")
    }

    /// The program under test.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// One home.
    ///
    /// # Errors
    /// If there is none of this number.
    pub fn house(&self, home: Home) -> anyhow::Result<&House> {
        let place = usize::from(home).checked_sub(1);
        place.and_then(|place| self.houses.get(place)).with_context(|| format!("there is no home {home}"))
    }

    fn house_mut(&mut self, home: Home) -> anyhow::Result<&mut House> {
        let place = usize::from(home).checked_sub(1);
        place.and_then(|place| self.houses.get_mut(place)).with_context(|| format!("there is no home {home}"))
    }

    /// All homes.
    #[must_use]
    pub fn houses(&self) -> &[House] {
        &self.houses
    }

    /// The numbers of all homes.
    pub fn homes(&self) -> impl Iterator<Item = Home> + use<> {
        1..=self.lan.nodes()
    }

    /// A client of a home's API.
    ///
    /// # Errors
    /// If the home has no token.
    pub fn client(&self, home: Home) -> anyhow::Result<api::Client> {
        let token = fs::read_to_string(self.house(home)?.folder.join("api.token"))?;
        let address = SocketAddr::new(self.lan.look(home), API_PORT);
        Ok(api::Client::new(&format!("http://{address}"), token.trim())?)
    }

    /// Starts a node that does not run.
    ///
    /// # Errors
    /// If it runs, or cannot be started.
    pub fn start(&mut self, home: Home) -> anyhow::Result<()> {
        let space = self.lan.space(home);
        let orders = self.folder.join(format!("h{home}.orders"));
        let environment = self.shim.environment(&orders);
        let program = self.program.clone();
        let house = self.house_mut(home)?;
        ensure!(house.process.is_none(), "{} runs already", house.name);
        house.starts += 1;
        // Beside the data folder: that one may be full.
        let log = File::create(house.folder.with_extension(format!("{}.log", house.starts)))?;
        let child = inside(&space, program)
            .args(["run", "--config"])
            .arg(house.folder.join("commonwatt.toml"))
            .envs(environment)
            .env("COMMONWATT_LOG", "info,node=debug")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        house.process = Some(child);
        Ok(())
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// If the node does not run.
    pub fn kill(&mut self, home: Home) -> anyhow::Result<()> {
        let house = self.house_mut(home)?;
        let mut child = house.process.take().with_context(|| format!("{} does not run", house.name))?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Another signal, by its name.
    ///
    /// # Errors
    /// If the node does not run.
    pub fn signal(&self, home: Home, signal: &str) -> anyhow::Result<()> {
        let house = self.house(home)?;
        let child = house.process.as_ref().with_context(|| format!("{} does not run", house.name))?;
        run("kill", &[format!("-{signal}"), child.id().to_string()]).map(drop)
    }

    /// True if the node's process runs.
    #[must_use]
    pub fn runs(&self, home: Home) -> bool {
        self.house(home).is_ok_and(|house| house.process.is_some())
    }

    /// How the node ended by itself, once it has.
    ///
    /// # Errors
    /// If it does not run, or not even its state is known.
    pub fn ended(&mut self, home: Home) -> anyhow::Result<Option<ExitStatus>> {
        let house = self.house_mut(home)?;
        let child = house.process.as_mut().with_context(|| format!("{} does not run", house.name))?;
        let ended = child.try_wait()?;
        if ended.is_some() {
            house.process = None;
        }
        Ok(ended)
    }

    /// The log of a node's last start.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn log(&self, home: Home) -> anyhow::Result<String> {
        let house = self.house(home)?;
        Ok(fs::read_to_string(house.folder.with_extension(format!("{}.log", house.starts)))?)
    }

    /// The logs of all starts of a node, one after the other.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn logs(&self, home: Home) -> anyhow::Result<String> {
        let house = self.house(home)?;
        let mut text = String::new();
        for start in 1..=house.starts {
            text += &fs::read_to_string(house.folder.with_extension(format!("{start}.log")))?;
        }
        Ok(text)
    }

    /// SIGTERM to all that run; each must end cleanly.
    ///
    /// # Errors
    /// Which did not.
    pub fn stop_all(&mut self) -> anyhow::Result<()> {
        let running: Vec<Home> = self.homes().filter(|home| self.runs(*home)).collect();
        for home in &running {
            self.signal(*home, "TERM")?;
        }
        let until = Instant::now() + STOP_PATIENCE;
        for home in running {
            let status = loop {
                match self.ended(home)? {
                    Some(status) => break status,
                    None if Instant::now() > until => bail!("h{home} did not stop within {STOP_PATIENCE:?}"),
                    None => std::thread::sleep(Duration::from_millis(50)),
                }
            };
            ensure!(status.success(), "h{home} ended with {status}:\n{}", tail(&self.log(home)?));
        }
        Ok(())
    }

    /// What a node's clock shows of market time, ms since 1970.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn market_ms(&self, home: Home) -> anyhow::Result<i64> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = self.client(home)?;
        Ok(i64::try_from(runtime.block_on(client.status())?.market_time.unix_ms())?)
    }

    /// Height of a node's last stored block; zero while it cannot be read.
    #[must_use]
    pub fn height(&self, home: Home) -> u64 {
        self.house(home).map_or(0, |house| look::height(&house.folder))
    }

    /// The heights of all homes.
    #[must_use]
    pub fn heights(&self) -> Vec<u64> {
        self.homes().map(|home| self.height(home)).collect()
    }
}

impl Drop for Street {
    fn drop(&mut self) {
        for house in &mut self.houses {
            if let Some(mut child) = house.process.take() {
                // It may have ended meanwhile.
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

/// The last lines of a log, for whoever reads why something failed.
#[must_use]
pub fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines.get(lines.len().saturating_sub(12)..).unwrap_or_default().join("\n")
}

/// This machine's clock, ms since 1970.
#[must_use]
pub fn wall_ms() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "the nodes under test share this machine's clock")]
    let now = SystemTime::now();
    u64::try_from(now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

/// The words of a line, then a path that may hold spaces.
fn with_path(words: &str, path: &Path) -> Vec<PathBuf> {
    words.split_whitespace().map(PathBuf::from).chain([path.to_owned()]).collect()
}
