//! A street of real processes on loopback, with simulated meters in this one.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use energy::{Balance, HomeId, Interval, MeterSerial, Mtu, NodeId, Price, Timestamp, WattHours};
use ledger::{
    Admission, Caps, Delegate, DemoClock, Forward, Genesis, GenesisMember, MeterRegistration, PublicKey,
    Roles, TariffPoint,
};
use market::{NodeSpec, SupplierLeg};
use meter::Profile;
use meter::simulator::SimulatedMeter;
use node::genesis_file;
use node::identity::{self, Identity};
use rusqlite::{Connection, OpenFlags};

/// How fast market time goes, and how long its intervals are.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Market seconds per second.
    speed: u32,
    mtu: Mtu,
}

/// An interval of five minutes lasts five seconds.
const USUAL: Pace = Pace { speed: 60, mtu: Mtu::Min5 };
/// An interval of an hour lasts a second, a day 24 of them.
pub const FAST: Pace = Pace { speed: 3_600, mtu: Mtu::Min60 };
/// Where market time starts.
const ORIGIN: &str = "2016-06-13T08:00:00Z";
/// Time for processes to start before the first interval begins, in ms of wall time.
const HEAD_START_MS: u64 = 4_000;
/// Registers are latched this long before a boundary, in ms of wall time.
const LATCH_MS: u64 = 20;

/// The program under test.
pub fn program() -> &'static str {
    env!("CARGO_BIN_EXE_commonwatt")
}

/// An empty folder that is kept for looking at after a failure.
pub fn fresh_folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder).unwrap();
    }
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// `commonwatt ledger verify` on a home's folder.
pub fn verify(home: &Path) -> Output {
    let genesis = home.join("genesis.toml");
    let mut command = Command::new(program());
    command.args(["ledger", "verify", "--data-dir"]).arg(home);
    command.arg("--genesis").arg(if genesis.exists() { genesis } else { home.join("../genesis.toml") });
    command.output().unwrap()
}

struct House {
    name: String,
    folder: PathBuf,
    process: Option<Child>,
    meter: SimulatedMeter,
    api: u16,
    starts: u32,
}

/// The street.
pub struct Street {
    houses: Vec<House>,
    pace: Pace,
    meters_stop: Arc<AtomicBool>,
    meters: Option<JoinHandle<()>>,
    runtime: tokio::runtime::Runtime,
}

impl Street {
    /// Starts `homes` nodes, the first `seats` of them delegates.
    pub fn start(name: &str, homes: usize, seats: usize) -> Self {
        Self::with_devices(name, homes, seats, ("UTC", ""))
    }

    /// The same; clocks of the first home are in `zone`, and it has `devices`.
    pub fn with_devices(name: &str, homes: usize, seats: usize, devices: (&str, &str)) -> Self {
        Self::made(name, (homes, homes, seats), devices, USUAL, |_| ())
    }

    /// The same at another pace.
    pub fn at_pace(name: &str, homes: usize, seats: usize, pace: Pace) -> Self {
        Self::made(name, (homes, homes, seats), ("UTC", ""), pace, |_| ())
    }

    /// The same; one more house than the genesis knows stands there, and its node does not run.
    pub fn with_a_newcomer(name: &str, homes: usize, seats: usize) -> Self {
        Self::made(name, (homes + 1, homes, seats), ("UTC", ""), USUAL, |_| ())
    }

    /// A street whose genesis `change` has altered.
    pub fn with_genesis(
        name: &str,
        (homes, seats): (usize, usize),
        pace: Pace,
        change: impl FnOnce(&mut Genesis),
    ) -> Self {
        Self::made(name, (homes, homes, seats), ("UTC", ""), pace, change)
    }

    fn made(
        name: &str,
        (homes, founders, seats): (usize, usize, usize),
        (zone, devices): (&str, &str),
        pace: Pace,
        change: impl FnOnce(&mut Genesis),
    ) -> Self {
        let folder = fresh_folder(name);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let wall_origin = unix_ms() + HEAD_START_MS;
        let mut houses = Vec::new();
        let mut parts = Vec::new();
        for position in 1..=homes {
            let name = format!("h{position}");
            let folder = folder.join(&name);
            let identity = Identity::create(&folder).unwrap();
            let serial = MeterSerial::new(&(5000 + position).to_string()).unwrap();
            let (meter, meter_address) = simulated(&runtime, &serial);
            parts.push((name.clone(), identity, serial, meter_address, free_port()));
            houses.push(House { name, folder, process: None, meter, api: free_port(), starts: 0 });
        }
        let mut genesis = genesis(&folder, &parts[..founders], seats, (wall_origin, pace));
        change(&mut genesis);
        fs::write(folder.join("genesis.toml"), genesis_file::render(&genesis)).unwrap();
        let peers: Vec<String> =
            parts.iter().map(|(_, identity, _, _, port)| peer(identity, *port)).collect();
        for (house, (_, _, _, meter, port)) in houses.iter().zip(&parts) {
            let devices = if house.name == "h1" { devices } else { "" };
            let config = config((&house.name, house.api), *meter, *port, &peers);
            let config = format!("zone = {zone:?}\n{config}{devices}");
            fs::write(house.folder.join("commonwatt.toml"), config).unwrap();
        }
        let meters_stop = Arc::new(AtomicBool::new(false));
        let latched = houses.iter().map(|house| house.meter.clone()).collect();
        let meters = Some(turn_meters(latched, (wall_origin, pace), meters_stop.clone()));
        let mut street = Self { houses, pace, meters_stop, meters, runtime };
        for position in 0..founders {
            street.restart(position, &[]);
        }
        street
    }

    /// Starts a node that does not run.
    pub fn restart(&mut self, position: usize, environment: &[(&str, &str)]) {
        let house = &mut self.houses[position];
        assert!(house.process.is_none());
        house.starts += 1;
        let log = File::create(house.folder.join(format!("stderr-{}.log", house.starts))).unwrap();
        let child = Command::new(program())
            .args(["run", "--config"])
            .arg(house.folder.join("commonwatt.toml"))
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        house.process = Some(child);
    }

    /// SIGKILL.
    pub fn kill(&mut self, position: usize) {
        let mut child = self.houses[position].process.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Its card is gone, with ledger, logs, journal and every key but the seed, of which there is a backup.
    pub fn lose_card(&mut self, position: usize) {
        self.kill(position);
        for file in fs::read_dir(&self.houses[position].folder).unwrap().map(|file| file.unwrap().path()) {
            let name = file.file_name().unwrap().to_str().unwrap().to_owned();
            let kept = ["seed.key", "api.token", "commonwatt.toml"].contains(&name.as_str());
            if file.is_dir() {
                fs::remove_dir_all(file).unwrap();
            } else if !kept && !name.starts_with("stderr") {
                fs::remove_file(file).unwrap();
            }
        }
    }

    /// The join card of a home, made by `commonwatt init` beside the keys it has.
    pub fn make_card(&self, position: usize) -> String {
        let House { name, folder, .. } = &self.houses[position];
        let serial = (5001 + position).to_string();
        let output = Command::new(program())
            .args(["init", "--home", name, "--node", "f1", "--meter-serial", &serial, "--data-dir"])
            .arg(folder)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        folder.join("join.json").to_str().unwrap().to_owned()
    }

    /// Runs the program with the configuration of a home, in the folder of the street.
    pub fn command(&self, position: usize, arguments: &[&str]) -> Output {
        let folder = &self.houses[position].folder;
        let mut command = Command::new(program());
        command.args(arguments).arg("--config").arg(folder.join("commonwatt.toml"));
        command.current_dir(folder.parent().unwrap()).output().unwrap()
    }

    /// The same; what it prints, when it ends well.
    pub fn say(&self, position: usize, arguments: &[&str]) -> String {
        let output = self.command(position, arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?} ended with {}: {errors}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs several commands side by side; each must end well.
    pub fn say_at_once(&self, commands: &[(usize, &[&str])]) {
        let start = |(position, arguments): &(usize, &[&str])| {
            let folder = &self.houses[*position].folder;
            let mut command = Command::new(program());
            command.args(*arguments).arg("--config").arg(folder.join("commonwatt.toml"));
            let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            (*position, piped)
        };
        let started: Vec<_> = commands.iter().map(start).collect();
        for (position, child) in started {
            let output = child.wait_with_output().unwrap();
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "h{}: ended with {}: {errors}", position + 1, output.status);
        }
    }

    /// How many intervals of a home are settled with a reading, as one node knows it.
    pub fn settled_with_reading(&self, position: usize, home: &str) -> u64 {
        let sql = format!(
            "SELECT count(*) FROM settlement WHERE home = '{home}' AND kind = 'settled' AND import_wh IS NOT NULL"
        );
        self.count(position, &sql)
    }

    /// Waits until something holds.
    pub fn wait_until(&self, patience: Duration, what: &str, done: impl Fn(&Self) -> bool) {
        self.wait(patience, || done(self), what);
    }

    /// Waits for a node to end by itself.
    pub fn wait_until_dead(&mut self, position: usize, patience: Duration) {
        let mut child = self.houses[position].process.take().unwrap();
        let until = Instant::now() + patience;
        while child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < until, "{} did not end", self.houses[position].name);
            sleep(Duration::from_millis(50));
        }
    }

    /// A meter answers nobody while unplugged.
    pub fn unplug(&self, position: usize, unplugged: bool) {
        let _inside = self.runtime.enter();
        self.houses[position].meter.unplug(unplugged);
    }

    /// SIGTERM to all; each must end cleanly.
    pub fn stop_all(&mut self) {
        for house in &mut self.houses {
            let Some(mut child) = house.process.take() else { continue };
            let pid = child.id().to_string();
            assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
            let until = Instant::now() + Duration::from_secs(15);
            let status = loop {
                if let Some(status) = child.try_wait().unwrap() {
                    break status;
                }
                assert!(Instant::now() < until, "{} did not stop within 15 s", house.name);
                sleep(Duration::from_millis(50));
            };
            assert!(status.success(), "{} ended with {status}: see {}", house.name, house.folder.display());
        }
    }

    /// The folder of a home.
    pub fn folder(&self, position: usize) -> &Path {
        &self.houses[position].folder
    }

    /// What the API of a home says of its account, n.
    pub fn shown_balance(&self, position: usize) -> Option<i64> {
        let House { folder, api, .. } = &self.houses[position];
        let token = fs::read_to_string(folder.join("api.token")).unwrap();
        let client = api::Client::new(&format!("http://127.0.0.1:{api}"), token.trim()).unwrap();
        self.runtime.block_on(client.balance()).ok().map(|balance| balance.balance_n)
    }

    /// The ledger database of a home.
    pub fn db(&self, position: usize) -> Option<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        let db = Connection::open_with_flags(self.houses[position].folder.join("ledger.db"), flags).ok()?;
        db.busy_timeout(Duration::from_secs(5)).unwrap();
        Some(db)
    }

    /// A count in the ledger database of a home; 0 where it has none yet.
    pub fn count(&self, position: usize, sql: &str) -> u64 {
        let found = self.db(position).and_then(|db| db.query_row(sql, [], |row| row.get::<_, i64>(0)).ok());
        u64::try_from(found.unwrap_or(0)).unwrap()
    }

    /// Height of a node's last block.
    pub fn height(&self, position: usize) -> u64 {
        self.count(position, "SELECT coalesce(max(height), 0) FROM block")
    }

    /// How many intervals a node has settled.
    pub fn settled(&self, position: usize) -> u64 {
        self.count(position, "SELECT count(*) FROM interval")
    }

    /// Waits until the first node has settled so many intervals.
    pub fn wait_until_settled(&self, intervals: u64, patience: Duration) {
        self.wait(patience, || self.settled(0) >= intervals, &format!("{intervals} intervals settled"));
    }

    /// Waits until all nodes that run are within two blocks of each other.
    pub fn wait_until_level(&self, patience: Duration) {
        let level = || {
            let heights: Vec<_> = (0..self.houses.len()).map(|position| self.height(position)).collect();
            heights.iter().max().unwrap() - heights.iter().min().unwrap() <= 2
        };
        self.wait(patience, level, "all nodes level");
    }

    fn wait(&self, patience: Duration, done: impl Fn() -> bool, what: &str) {
        let until = Instant::now() + patience;
        while !done() {
            let heights: Vec<_> = (0..self.houses.len()).map(|position| self.height(position)).collect();
            assert!(
                Instant::now() < until,
                "not within {patience:?}: {what}; heights {heights:?}, settled {}; logs in {}",
                self.settled(0),
                self.houses[0].folder.display()
            );
            sleep(Duration::from_millis(200));
        }
    }

    /// What the agent of a home shows over the API; `None` before its first plan.
    pub fn household(&self, position: usize) -> Option<api::Household> {
        let House { folder, api, .. } = &self.houses[position];
        let token = fs::read_to_string(folder.join("api.token")).unwrap();
        let client = api::Client::new(&format!("http://127.0.0.1:{api}"), token.trim()).unwrap();
        self.runtime.block_on(client.household()).ok()
    }

    /// Waits until what the agent of a home shows is as wanted.
    pub fn wait_until_household(
        &self,
        position: usize,
        patience: Duration,
        what: &str,
        wanted: impl Fn(&api::Household) -> bool,
    ) -> api::Household {
        let shown = RefCell::new(None);
        let look = || self.household(position).filter(&wanted);
        self.wait(
            patience,
            || {
                *shown.borrow_mut() = look();
                shown.borrow().is_some()
            },
            what,
        );
        shown.into_inner().unwrap()
    }

    /// What became of every command to a home's devices: what was asked, and why it was refused.
    pub fn commands(&self, position: usize) -> Vec<(String, Option<String>)> {
        let db = Connection::open(self.houses[position].folder.join("household.db")).unwrap();
        let mut statement = db.prepare("SELECT control, refused FROM verdict ORDER BY number").unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.map(Result::unwrap).collect()
    }

    /// All accounts together hold what they held at the start, no member is below zero, and the chain replays to the same.
    pub fn assert_money_conserved(&self, position: usize) {
        let db = self.db(position).unwrap();
        let sums =
            "SELECT sum(opening_n), sum(balance_n), min(CASE WHEN name LIKE 'home:%' THEN balance_n END),
            sum(abs(balance_n - opening_n)) FROM account";
        let (opening, now, least, moved): (i64, i64, i64, i64) =
            db.query_row(sums, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))).unwrap();
        assert_eq!(now, opening);
        assert!(least >= 0 && moved > 0, "{least} {moved}");
        let output = verify(&self.houses[position].folder);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// No two nodes hold different blocks at one height.
    pub fn assert_same_chain(&self) {
        let mut chain: BTreeMap<i64, (Vec<u8>, String)> = BTreeMap::new();
        for (position, house) in self.houses.iter().enumerate() {
            let db = self.db(position).unwrap();
            let mut statement = db.prepare("SELECT height, id FROM block").unwrap();
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
            for (height, id) in rows.map(Result::unwrap) {
                let first = chain.entry(height).or_insert((id, house.name.clone()));
                let id: Vec<u8> = db
                    .query_row("SELECT id FROM block WHERE height = ?1", [height], |row| row.get(0))
                    .unwrap();
                assert_eq!(first.0, id, "{} and {} differ at height {height}", first.1, house.name);
            }
        }
        assert!(chain.len() > 5);
    }

    /// The settled intervals follow one another from the first on.
    pub fn assert_no_interval_missed(&self, position: usize) {
        let db = self.db(position).unwrap();
        let mut statement = db.prepare("SELECT start_ms FROM interval ORDER BY start_ms").unwrap();
        let starts: Vec<i64> =
            statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        let origin = i64::try_from(Timestamp::parse(ORIGIN).unwrap().unix_ms()).unwrap();
        let length = i64::try_from(self.pace.mtu.ms()).unwrap();
        for (number, start) in starts.iter().enumerate() {
            assert_eq!(
                *start,
                origin + i64::try_from(number).unwrap() * length,
                "interval {number} is missing"
            );
        }
    }

    /// Nobody's log tells of two statements of one delegate that exclude one another, nor of a halt.
    pub fn assert_nobody_contradicted_themselves(&self) {
        for house in &self.houses {
            for start in 1..=house.starts {
                let log = fs::read_to_string(house.folder.join(format!("stderr-{start}.log"))).unwrap();
                for bad in ["contradicted itself", "stops taking part", "panicked"] {
                    assert!(!log.contains(bad), "{} says {bad:?}:\n{log}", house.name);
                }
            }
        }
    }

    /// These homes have a reading in every settled interval.
    pub fn assert_never_without_a_reading(&self, position: usize, homes: &[&str]) {
        let db = self.db(position).unwrap();
        for home in homes {
            let sql =
                "SELECT count(*) FROM settlement WHERE home = ?1 AND kind = 'settled' AND import_wh IS NULL";
            let without: i64 = db.query_row(sql, [home], |row| row.get(0)).unwrap();
            assert_eq!(without, 0, "{home} was settled without a reading");
        }
    }

    /// A home was settled without a reading, and a later reading settled what it had missed.
    pub fn assert_gap_closed(&self, position: usize, home: &str) {
        let db = self.db(position).unwrap();
        let count = |sql: &str| db.query_row(sql, [home], |row| row.get::<_, i64>(0)).unwrap();
        let missing = count(
            "SELECT count(*) FROM settlement WHERE home = ?1 AND kind = 'settled' AND import_wh IS NULL",
        );
        let late = count("SELECT count(*) FROM settlement WHERE home = ?1 AND kind = 'late'");
        assert!(missing > 0, "the meter was unplugged, yet no interval was without a reading");
        assert!(late >= missing, "{missing} intervals were missing, {late} settled late");
    }

    /// What is settled of each home is what its registers grew by: each watt-hour once.
    pub fn assert_energy_adds_up(&self, position: usize) {
        let db = self.db(position).unwrap();
        for house in &self.houses {
            // Up to the last reading whose whole lump was due when the street stopped.
            let until = "(SELECT max(interval_ms) FROM reading WHERE home = ?1
                AND interval_ms <= (SELECT max(start_ms) FROM interval))";
            let pair = |sql: String| -> (i64, i64) {
                db.query_row(&sql, [&house.name], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
            };
            let grown = pair(format!(
                "SELECT max(import_register_wh) - min(import_register_wh),
                 max(export_register_wh) - min(export_register_wh)
                 FROM reading WHERE home = ?1 AND interval_ms <= {until}"
            ));
            let settled = pair(format!(
                "SELECT sum(import_wh), sum(export_wh) FROM settlement
                 WHERE home = ?1 AND interval_ms <= {until}"
            ));
            assert_eq!(settled, grown, "{}: settled against the registers", house.name);
            assert!(grown.0 + grown.1 > 0);
        }
    }
}

impl Drop for Street {
    fn drop(&mut self) {
        for house in &mut self.houses {
            if let Some(mut child) = house.process.take() {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
        self.meters_stop.store(true, Ordering::Relaxed);
        if let Some(meters) = self.meters.take() {
            let _ = meters.join();
        }
    }
}

fn unix_ms() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "the processes under test share this machine's clock")]
    let now = SystemTime::now();
    u64::try_from(now.duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

fn free_port() -> u16 {
    StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn simulated(runtime: &tokio::runtime::Runtime, serial: &MeterSerial) -> (SimulatedMeter, SocketAddr) {
    let meter = SimulatedMeter::new(serial.clone());
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(meter.clone().serve(listener, std::future::pending()));
    (meter, address)
}

/// Turns all registers at every boundary: even houses export, odd ones import, each at a rate of its own.
fn turn_meters(
    meters: Vec<SimulatedMeter>,
    (wall_origin, pace): (u64, Pace),
    stop: Arc<AtomicBool>,
) -> JoinHandle<()> {
    let interval_ms = pace.mtu.ms() / u64::from(pace.speed);
    std::thread::spawn(move || {
        let mut turned = None;
        while !stop.load(Ordering::Relaxed) {
            let boundary = (unix_ms() + LATCH_MS).saturating_sub(wall_origin) / interval_ms;
            if turned != Some(boundary) {
                turned = Some(boundary);
                for (position, meter) in meters.iter().enumerate() {
                    let rate = 130 + 61 * u64::try_from(position).unwrap();
                    let total = 4 * (1_000 + boundary * rate);
                    if position % 2 == 0 {
                        meter.set(total, 400, 1_500);
                    } else {
                        meter.set(400, total, -1_500);
                    }
                }
            }
            sleep(Duration::from_millis(2));
        }
    })
}

type Parts = (String, Identity, MeterSerial, SocketAddr, u16);

fn genesis(folder: &Path, parts: &[Parts], seats: usize, (wall_origin, pace): (u64, Pace)) -> Genesis {
    let profile = &Profile::builtin()[0];
    let key = |name: &str| PublicKey::of(&identity::load_or_create_key(&folder.join(name)).unwrap());
    let node = |id: &str, parent: Option<&str>, fee_down: i64| NodeSpec {
        id: NodeId::new(id).unwrap(),
        parent: parent.map(|parent| NodeId::new(parent).unwrap()),
        fee_up: Price::ZERO,
        fee_down: Price::new(fee_down),
        up: None,
        down: None,
    };
    let home = |name: &str| HomeId::new(name).unwrap();
    let start = Interval::parse(ORIGIN, pace.mtu).unwrap().start();
    let genesis = Genesis {
        name: "Process test".to_owned(),
        mtu: pace.mtu,
        currency: "CNY".to_owned(),
        start,
        clock: Some(DemoClock {
            origin: start,
            wall_origin: Timestamp::from_unix_ms(wall_origin),
            speed: pace.speed,
            assurance_every: pace.mtu.per_day(),
            epoch_every: pace.mtu.per_day(),
        }),
        due_after_ms: 900_000,
        forward: Forward::Off,
        market: ledger::MarketTerms::default(),
        supplier_leg: SupplierLeg::Ledger,
        supplier_credit: Balance::new(1_000_000_000_000),
        network: vec![
            node("grid", None, 0),
            node("lv", Some("grid"), 40_000),
            node("f1", Some("lv"), 10_000),
        ],
        tariff: TariffPoint { import_price: Price::new(250_000), export_price: Price::new(80_000) },
        caps: Caps {
            price_min: Price::ZERO,
            price_max: Price::new(1_000_000),
            transfer_max: Balance::new(100_000_000_000),
        },
        roles: Roles {
            operator: key("operator.key"),
            treasurer: key("treasurer.key"),
            auditor: key("auditor.key"),
            trustee: None,
            metering_operator: None,
        },
        root_meter: None,
        members: parts
            .iter()
            .map(|(name, identity, serial, _, _)| GenesisMember {
                admission: Admission {
                    home: home(name),
                    owner: name.clone(),
                    node: NodeId::new("f1").unwrap(),
                    size: ledger::ConnectionSize::default(),
                    keys: identity.keys(),
                    meter: MeterRegistration {
                        serial: serial.clone(),
                        epoch: 0,
                        profile_hash: profile.hash(),
                        quantum: WattHours::new(1),
                    },
                },
                participation: ledger::Participation::default(),
                deposit: Balance::new(100_000_000_000),
            })
            .collect(),
        delegates: parts
            .iter()
            .take(seats)
            .map(|(name, identity, ..)| Delegate {
                key: identity.consensus_public().unwrap(),
                home: home(name),
            })
            .collect(),
        stake: ledger::Stake::Membership,
        replicas: ledger::Replicas::All,
    };
    genesis.validate().unwrap();
    genesis
}

fn peer(identity: &Identity, port: u16) -> String {
    let id = node::network::peer_id_of(&PublicKey::of(identity.network())).unwrap();
    format!("/ip4/127.0.0.1/tcp/{port}/p2p/{id}")
}

fn config((name, api): (&str, u16), meter: SocketAddr, port: u16, peers: &[String]) -> String {
    let peers: Vec<_> = peers.iter().filter(|peer| !peer.contains(&format!("/tcp/{port}/"))).collect();
    format!(
        "home = {name:?}\ndata_dir = \".\"\ngenesis = \"../genesis.toml\"\n\
         [api]\nlisten = \"127.0.0.1:{api}\"\n\
         [network]\nlisten = [\"/ip4/127.0.0.1/tcp/{port}\"]\npeers = {peers:?}\n\
         [meter]\naddress = \"{meter}\"\nunit = 1\nprofile = {:?}\ntimeout_ms = 500\n\
         [consensus]\nmin_block_interval_ms = 200\npropose_timeout_ms = 1500\nvote_timeout_ms = 500\n\
         rebroadcast_ms = 1500\n\
         [log]\nlevel = \"info\"\n",
        Profile::builtin()[0].name()
    )
}
