//! Devices controlled over Modbus, held against pymodbus: from the configuration file to the registers of a third-party
//! server. Built with the feature `control-modbus` only; `cargo xtask test` runs it.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use agent::{Control, Kind, Refusal, Session};
use ed25519_dalek::SigningKey;
use energy::{ClockQuality, HomeId, Mtu, Timestamp, WattHours};
use ledger::{Chain, Hash32, PublicKey};
use node::clock::Clock;
use node::config::Config;
use node::config::document::Document;
use node::household::device::{Channel, Counted, Device, DeviceState};
use node::household::modbus::devices;
use node::store::household::HouseholdDb;
use node::zone::Zone;

/// Midnight, UTC.
const NOW: Timestamp = Timestamp::from_unix_ms(1_465_776_000_000);
const QUARTER_MS: u64 = 900_000;
/// Between two looks, as the keeper's loop does.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Enough on a busy machine for everything that is expected to happen.
const AMPLE: Duration = Duration::from_secs(60);
/// Where the server of `device_server.py sunspec` has the storage model: marker, common model and inverter come before.
const STORAGE: u16 = 40_000 + 2 + 68 + 52;

/// The pymodbus server of `device_server.py`.
struct Peer {
    process: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    port: u16,
    arguments: Vec<String>,
}

impl Peer {
    fn start(arguments: &str) -> Self {
        Self::start_with(arguments.split_whitespace().map(str::to_owned).collect())
    }

    fn start_with(arguments: Vec<String>) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/device_server.py");
        let mut process = Command::new(python())
            .arg(script)
            .args(&arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python starts");
        let stdin = process.stdin.take().expect("piped");
        let mut lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        let line = lines.next().expect("the server says its port; `cargo xtask setup` installs it").unwrap();
        let port = line.strip_prefix("PORT ").and_then(|port| port.parse().ok()).expect("a port");
        Self { process, stdin, lines, port, arguments }
    }

    fn command(&mut self, command: &str) -> String {
        writeln!(self.stdin, "{command}").unwrap();
        self.lines.next().expect("the server answers").unwrap()
    }

    fn get(&mut self, register: u16, count: u16) -> Vec<u16> {
        let line = self.command(&format!("get {register} {count}"));
        line.split_whitespace().map(|word| word.parse().unwrap()).collect()
    }

    fn set(&mut self, register: u16, words: &[u16]) {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        assert_eq!(self.command(&format!("set {register} {}", words.join(" "))), "ok");
    }

    /// Every write since this was asked last, in order.
    fn writes(&mut self) -> Vec<String> {
        let line = self.command("writes");
        line.split(';').filter(|write| !write.is_empty()).map(str::to_owned).collect()
    }

    /// A power cut.
    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// The device comes back where it was, and has forgotten everything.
    fn revive(&mut self) {
        let port = ["--port".to_owned(), self.port.to_string()];
        let arguments = self.arguments.iter().cloned().chain(port).collect();
        *self = Self::start_with(arguments);
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Already ended is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The Python of the virtual environment that holds pymodbus.
fn python() -> PathBuf {
    let given = std::env::var_os("COMMONWATT_PYTHON").map(PathBuf::from);
    let python = given.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/python"));
    assert!(
        python.exists(),
        "{} does not exist; run `cargo xtask setup`, which makes the virtual environment with pymodbus, or set \
         COMMONWATT_PYTHON",
        python.display()
    );
    python
}

struct Midnight;

impl Clock for Midnight {
    fn market(&self) -> Timestamp {
        NOW
    }

    fn speed(&self) -> u32 {
        1
    }

    fn quality(&self) -> ClockQuality {
        ClockQuality::Synced
    }
}

/// The devices of a configuration file that has these sections.
fn devices_of(sections: &str) -> Vec<Box<dyn Device>> {
    let text = format!("home = \"h001\"\ndata_dir = \"data\"\n{sections}");
    let read = Config::read(&Document::of_text(Path::new("commonwatt.toml"), &text));
    let config = read.unwrap_or_else(|report| panic!("{report}"));
    let clock: Arc<dyn Clock> = Arc::new(Midnight);
    devices(&config.household, Mtu::Min15, Zone::UTC, &clock)
}

fn device_of(sections: &str) -> Box<dyn Device> {
    let mut devices = devices_of(sections);
    assert_eq!(devices.len(), 1);
    devices.remove(0)
}

fn sunspec(port: u16, more: &str) -> String {
    format!(
        "[device.battery]\ncontrol = \"modbus\"\ncapacity_wh = 10000\ncharge_w = 5120\ndischarge_w = 5000\n\
         [device.battery.modbus]\naddress = \"127.0.0.1:{port}\"\nmap = \"sunspec\"\n{more}"
    )
}

/// A battery whose set-point is two registers, low half first, and discharges above zero.
fn battery(port: u16, more: &str) -> String {
    format!(
        "[device.battery]\ncontrol = \"modbus\"\ncapacity_wh = 8000\ncharge_w = 3000\ndischarge_w = 4000\n\
         [device.battery.modbus]\naddress = \"127.0.0.1:{port}\"\nmap = \"registers\"\n{more}\n\
         [device.battery.modbus.power]\nregister = 110\nkind = \"i32\"\nwords = \"low-first\"\npositive = \"discharge\"\n\
         [device.battery.modbus.mode]\nregister = 112\ncommand = 4\nrelease = 1\n\
         [device.battery.modbus.level]\nregister = 120\nfunction = 4\nfull = 1000\n\
         [device.battery.modbus.taken]\nregister = 130\nkind = \"u32\"\nunit = \"kWh\"\ndecimals = 2\n\
         [device.battery.modbus.given]\nregister = 132\nkind = \"u32\"\nunit = \"kWh\"\ndecimals = 2\n"
    )
}

fn charger(port: u16) -> String {
    format!(
        "[device.charger]\ncontrol = \"modbus\"\npower_w = 11040\ncapacity_wh = 60000\n\
         [device.charger.modbus]\naddress = \"127.0.0.1:{port}\"\nmap = \"registers\"\n\
         [device.charger.modbus.power]\nregister = 140\nunit = \"A\"\nphases = 3\nleast = 6\nmost = 16\n\
         [device.charger.modbus.connected]\nregister = 141\nvalues = [2, 3]\n\
         [device.charger.modbus.taken]\nregister = 142\nkind = \"u32\"\n"
    )
}

/// A device with its line: commands are signed, checked and logged.
struct Home {
    channel: Channel,
    db: HouseholdDb,
    key: SigningKey,
    _folder: tempfile::TempDir,
}

impl Home {
    fn of(device: Box<dyn Device>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let chain = Chain { id: Hash32([3; 32]), recovery: 0 };
        let db = HouseholdDb::open(&folder.path().join("household.db"), &chain).unwrap();
        let key = SigningKey::from_bytes(&[7; 32]);
        let home = HomeId::new("h001").unwrap();
        let channel = Channel::open(device, &home, PublicKey::of(&key), &db).unwrap();
        Self { channel, db, key, _folder: folder }
    }

    /// Commands the device for a quarter-hour.
    async fn command(&mut self, control: Control) -> Result<Option<Refusal>, String> {
        let signed = self.channel.command(control, NOW.plus_ms(QUARTER_MS), &self.key);
        let heard = self.channel.hear(&signed, NOW, &mut self.db).await;
        heard.map(|verdict| verdict.refused).map_err(|error| error.to_string())
    }

    async fn must(&mut self, control: Control) {
        assert_eq!(self.command(control).await.unwrap_or_else(|error| panic!("{error}")), None);
    }

    async fn fails(&mut self, control: Control) -> String {
        self.command(control).await.unwrap_err()
    }
}

fn signed(word: i16) -> u16 {
    word.cast_unsigned()
}

fn at(offset: u16, values: &str) -> String {
    format!("{}={values}", STORAGE + offset)
}

#[tokio::test]
async fn a_sunspec_battery_is_held_in_the_window_that_each_command_means() {
    let mut peer = Peer::start("sunspec");
    let mut home = Home::of(device_of(&sunspec(peer.port, "")));
    // Giving at most, taking at most, in hundredths of a percent of 5 120 W; 5 000 W are 97.65 %.
    for (control, giving, taking) in [
        (Control::Charge(2_560), -5_000, 5_000),
        (Control::Discharge(2_560), 5_000, -5_000),
        (Control::ChargeAtLeast(1_280), -2_500, 10_000),
        (Control::ChargeAtMost(0), 9_765, 0),
        (Control::DischargeAtLeast(5_000), 9_765, -9_765),
        (Control::DischargeAtMost(999), 1_951, 10_000),
        (Control::Charge(5_120), -10_000, 10_000),
    ] {
        home.must(control).await;
        let block = peer.get(STORAGE, 16);
        assert_eq!((block[12], block[13]), (signed(giving), signed(taking)), "{control}");
        assert_eq!((block[5], block[15]), (3, 300), "both limits hold, and end by themselves");
    }
    peer.writes();
    home.must(Control::Charge(512)).await;
    let rates = format!("{},1000", signed(-1_000));
    assert_eq!(peer.writes(), [at(15, "300"), at(12, &rates), at(5, "3")], "the revert time comes first");
    home.channel.settle(NOW.plus_ms(QUARTER_MS)).await.unwrap();
    assert_eq!(peer.writes(), [at(5, "0"), at(12, "10000,10000"), at(15, "0")], "the command ended");
    home.channel.release().await.unwrap();
    assert!(peer.writes().is_empty(), "what is left to itself is left alone");
}

#[tokio::test]
async fn a_revert_time_of_somebody_else_is_put_back_and_one_of_an_earlier_run_is_taken_away() {
    for (before, after) in [(3_600, 3_600), (300, 0)] {
        let mut peer = Peer::start(&format!("sunspec --revert {before}"));
        let mut home = Home::of(device_of(&sunspec(peer.port, "")));
        home.must(Control::Charge(100)).await;
        home.channel.release().await.unwrap();
        assert_eq!(peer.get(STORAGE + 15, 1), [after]);
    }
}

#[tokio::test]
async fn an_inverter_without_a_revert_time_is_told_nothing_unless_that_is_accepted() {
    let mut peer = Peer::start(&format!("sunspec --fixed {}", STORAGE + 15));
    let mut home = Home::of(device_of(&sunspec(peer.port, "")));
    let error = home.fails(Control::Charge(1_000)).await;
    assert!(error.contains("does not keep a revert time") && error.contains("revert_s = 0"), "{error}");
    assert_eq!(peer.writes(), [at(15, "300")]);
    let mut home = Home::of(device_of(&sunspec(peer.port, "revert_s = 0\n")));
    home.must(Control::Charge(512)).await;
    assert_eq!(peer.writes(), [at(12, &format!("{},1000", signed(-1_000))), at(5, "3")]);
}

#[tokio::test]
async fn what_an_inverter_does_not_keep_is_no_success() {
    let mut peer = Peer::start(&format!("sunspec --fixed {}", STORAGE + 5));
    let mut home = Home::of(device_of(&sunspec(peer.port, "")));
    let error = home.fails(Control::Charge(1_000)).await;
    assert!(error.contains(&format!("register {}: [3] became [0]", STORAGE + 5)), "{error}");
    assert_eq!((home.channel.told(), home.channel.failures()), (None, 1), "it is told again");
    assert_eq!(peer.get(STORAGE + 15, 1), [300], "what was written ends by itself");
}

#[tokio::test]
async fn the_state_of_charge_is_read_wherever_the_map_begins_and_never_made_up() {
    for base in [40_000, 0, 50_000] {
        let peer = Peer::start(&format!("sunspec --base {base}"));
        let mut battery = device_of(&sunspec(peer.port, ""));
        let stored = DeviceState::Battery { stored: WattHours::new(5_550) };
        assert_eq!(battery.state().await.unwrap(), stored);
    }
    for (charge, says) in [(0xFFFF_u16, "has no value"), (10_001, "only 0 to 100 can be")] {
        let peer = Peer::start(&format!("sunspec --charge {charge}"));
        let error = device_of(&sunspec(peer.port, "")).state().await.unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    for (arguments, says) in [("sunspec --no-storage", "no SunSpec model 124"), ("plain", "no SunSpec map")] {
        let peer = Peer::start(arguments);
        let error = device_of(&sunspec(peer.port, "")).state().await.unwrap_err().to_string();
        assert!(
            error.starts_with("the battery cannot be asked: 127.0.0.1:") && error.contains(says),
            "{error}"
        );
    }
}

#[tokio::test]
async fn nothing_is_written_for_a_command_that_is_replayed_late_forged_or_beyond_the_rating() {
    let mut peer = Peer::start("sunspec");
    let mut home = Home::of(device_of(&sunspec(peer.port, "")));
    home.must(Control::Charge(1_000)).await;
    let (now, late) = (NOW, NOW.plus_ms(QUARTER_MS));
    let taken = home.channel.command(Control::Charge(2_000), late, &home.key);
    assert_eq!(home.channel.hear(&taken, now, &mut home.db).await.unwrap().refused, None);
    peer.writes();
    let mut forged = home.channel.command(Control::Charge(2_000), late, &home.key);
    forged.command.control = Control::Charge(5_000);
    let expired = home.channel.command(Control::Charge(500), now, &home.key);
    let beyond = home.channel.command(Control::Charge(5_121), late, &home.key);
    for signed in [taken, forged, expired, beyond] {
        assert!(home.channel.hear(&signed, now, &mut home.db).await.unwrap().refused.is_some());
    }
    // The channel knows one rating; the device knows that it gives less than it takes.
    let error = home.fails(Control::Discharge(5_100)).await;
    assert!(error.contains("5100 W are more than the 5000 W"), "{error}");
    assert!(peer.writes().is_empty());
    let log = home.db.verdicts(&home.channel.id(), 9).unwrap();
    assert_eq!(log.iter().filter(|verdict| verdict.refused.is_some()).count(), 4);
}

#[tokio::test]
async fn an_inverter_smaller_than_the_configuration_says_is_not_told_more_than_it_can() {
    let mut peer = Peer::start("sunspec --w-cha-max 4000 --w-cha-max-sf 0");
    let mut home = Home::of(device_of(&sunspec(peer.port, "")));
    let error = home.fails(Control::Charge(4_001)).await;
    assert!(error.contains("4001 W are more than the 4000 W") && error.contains("WChaMax"), "{error}");
    assert!(peer.writes().is_empty());
    home.must(Control::ChargeAtLeast(4_000)).await;
    assert_eq!(peer.get(STORAGE + 12, 2), [signed(-10_000), 10_000]);
}

#[tokio::test]
async fn a_device_that_goes_away_is_reported_and_told_anew_when_it_is_back() {
    let mut peer = Peer::start("sunspec");
    let mut home = Home::of(device_of(&sunspec(peer.port, "")));
    home.must(Control::Charge(1_000)).await;
    peer.kill();
    let error = home.fails(Control::Charge(2_560)).await;
    let place = format!("the battery cannot be told: 127.0.0.1:{} cannot be reached", peer.port);
    assert!(error.starts_with(&place) && error.contains("look whether the device is on"), "{error}");
    assert!(home.channel.state().await.is_err());
    peer.revive();
    // The first wait is a second; the loop asks all the time.
    let told = async {
        while home.channel.told().is_none() {
            home.channel.settle(NOW).await.unwrap();
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(AMPLE, told).await.expect("it is told again");
    assert_eq!(peer.get(STORAGE + 12, 2), [signed(-5_000), 5_000]);
    assert_eq!(home.channel.state().await.unwrap(), DeviceState::Battery { stored: WattHours::new(5_550) });
}

#[tokio::test]
async fn a_battery_of_registers_is_told_by_its_own_sign_and_order_of_words() {
    let mut peer = Peer::start("plain --set 112=1 --set 120=655 --set 131=12345 --set 133=4");
    let mut home = Home::of(device_of(&battery(peer.port, "")));
    home.must(Control::ChargeAtLeast(3_000)).await;
    // -3 000 in two's complement, low half first.
    assert_eq!(peer.writes(), [format!("110={},65535", signed(-3_000)), "112=4".to_owned()]);
    home.must(Control::DischargeAtLeast(4_000)).await;
    assert_eq!(peer.writes(), ["110=4000,0"], "a register that holds it already is spared");
    let error = home.fails(Control::Charge(3_001)).await;
    assert!(error.contains("3001 W are more than the 3000 W"), "{error}");
    assert!(peer.writes().is_empty());
    home.channel.release().await.unwrap();
    assert_eq!(peer.writes(), ["112=1", "110=0,0"], "who decides comes first");
    let stored = WattHours::new(8_000 * 655 / 1_000);
    assert_eq!(home.channel.state().await.unwrap(), DeviceState::Battery { stored });
    let counted = Counted { taken: WattHours::new(123_450), given: WattHours::new(40) };
    assert_eq!(home.channel.counted().await.unwrap(), Some(counted));
    peer.set(120, &[0xFFFF]);
    let error = home.channel.state().await.unwrap_err().to_string();
    assert!(error.contains("has no value in register 120"), "{error}");
    peer.set(120, &[1_001]);
    assert!(home.channel.state().await.unwrap_err().to_string().contains("only 0 to 1000 can be"));
}

#[tokio::test]
async fn a_watchdog_is_fed_with_every_command_and_every_repetition() {
    let mut peer = Peer::start("plain");
    let more = "repeat_s = 1\nwatchdog = { register = 115, value = 60 }";
    let mut home = Home::of(device_of(&battery(peer.port, more)));
    let all = ["115=60", "110=1000,0", "112=4"];
    home.must(Control::Discharge(1_000)).await;
    assert_eq!(peer.writes(), all);
    let repeated = async {
        loop {
            home.channel.settle(NOW).await.unwrap();
            let writes = peer.writes();
            if !writes.is_empty() {
                break writes;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let repeated = tokio::time::timeout(AMPLE, repeated).await.expect("it is repeated");
    assert_eq!(repeated, all, "equal or not, a device that forgets is told again");
}

#[tokio::test]
async fn a_register_that_does_not_keep_its_value_is_reported_and_one_that_cannot_be_read_need_not() {
    let mut peer = Peer::start("plain --fixed 110 --fixed 111");
    let mut home = Home::of(device_of(&battery(peer.port, "")));
    let error = home.fails(Control::Charge(100)).await;
    let place = format!("register 110: [{}, 65535] became [0, 0]", signed(-100));
    assert!(error.contains(&place) && error.contains("verify = false"), "{error}");
    let mut home = Home::of(device_of(&battery(peer.port, "verify = false")));
    peer.writes();
    home.must(Control::Charge(100)).await;
    assert_eq!(peer.writes(), [format!("110={},65535", signed(-100)), "112=4".to_owned()]);
}

#[tokio::test]
async fn a_charger_in_amperes_is_never_told_more_than_the_command_and_knows_its_vehicle() {
    let mut peer = Peer::start("plain --set 141=2 --set 143=5000");
    let mut home = Home::of(device_of(&charger(peer.port)));
    for (watts, amperes) in [(11_040, 16), (8_000, 11), (4_140, 6)] {
        home.must(Control::Vehicle(watts)).await;
        assert_eq!(peer.get(140, 1), [amperes], "{watts} W");
    }
    home.must(Control::Vehicle(4_000)).await;
    assert_eq!(peer.get(140, 1), [0], "less than 6 A is a pause");
    home.channel.release().await.unwrap();
    assert_eq!(peer.get(140, 1), [16], "left to itself it charges at once");
    // 60 kWh from 20 to 80 %, ready by seven.
    let mut needed = 36_000;
    for counter in [5_000, 12_000] {
        peer.set(142, &[0, counter]);
        needed -= u64::from(counter) - 5_000;
        let DeviceState::Charger { session: Some(session) } = home.channel.state().await.unwrap() else {
            panic!("a vehicle is there")
        };
        let Session { needed: left, minimum, deadline } = session;
        assert_eq!((left, minimum), (WattHours::new(needed), WattHours::ZERO));
        assert_eq!(deadline.start(), NOW.plus_ms(28 * QUARTER_MS));
    }
    peer.set(141, &[1]);
    assert_eq!(home.channel.state().await.unwrap(), DeviceState::Charger { session: None });
}

#[tokio::test]
async fn a_home_may_have_several_devices_and_heat_says_how_warm_it_is() {
    let peer = Peer::start("plain --set 150=475 --set 120=500");
    let heat = format!(
        "[device.heat]\ncontrol = \"modbus\"\npower_w = 3000\nstore_wh = 6000\n\
         [device.heat.modbus]\naddress = \"127.0.0.1:{}\"\nmap = \"registers\"\n\
         [device.heat.modbus.mode]\nregister = 151\ncommand = 3\noff = 1\nrelease = 2\n\
         [device.heat.modbus.level]\nregister = 150\nkind = \"i16\"\nempty = 450\nfull = 550\n",
        peer.port
    );
    let mut devices = devices_of(&format!("{}{}{heat}", battery(peer.port, ""), charger(peer.port)));
    let kinds: Vec<Kind> = devices.iter().map(|device| device.kind()).collect();
    assert_eq!(kinds, [Kind::Battery, Kind::Charger, Kind::Heat]);
    let ahead = WattHours::new(1_500);
    assert_eq!(devices[2].state().await.unwrap(), DeviceState::Heat { ahead });
    devices[2].set(Control::Heat(2_000)).await.unwrap();
    let mut peer = peer;
    assert_eq!(peer.writes(), ["151=3"]);
    assert!(devices[2].set(Control::Charge(1)).await.is_err());
    assert!(peer.writes().is_empty(), "what is for a battery is not for heat");
}

#[test]
fn a_home_is_controlled_as_a_whole_or_not_at_all() {
    let heat = "[device.heat]\npower_w = 3000\nstore_wh = 6000\n";
    let text = format!("home = \"h001\"\ndata_dir = \"d\"\n{}{heat}", charger(502));
    let report = Config::read(&Document::of_text(Path::new("c.toml"), &text)).unwrap_err().to_string();
    for part in ["not controlled while another is", "c.toml:22:1", "remove this section"] {
        assert!(report.contains(part), "{part:?} is not in\n{report}");
    }
}
