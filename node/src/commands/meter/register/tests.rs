//! The command against a served API behind which a ledger really takes, or refuses, what is handed in.

use std::path::Path;
use std::sync::{Arc, Mutex};

use clap::Parser;
use energy::{Balance, ClockQuality, Interval, Mtu, NodeId, Price, Quality, Reading, TakenAt, Timestamp};
use ledger::{
    Admission, Caps, Delegate, Forward, GenesisMember, Ledger, Roles, RootMeter, Salt, TariffPoint,
    VerifiedEntry,
};
use market::{NodeSpec, SupplierLeg};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;
use crate::http::{About, HttpState, Language, Live, TokenHash, member_of, serve};
use crate::identity;
use crate::zone::Zone;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: RegisterArgs,
}

/// A home's folder, its community's keys and genesis, and a node over a ledger of two readings.
struct Street {
    folder: TempDir,
    ledger: Arc<Mutex<Ledger>>,
    genesis: Genesis,
}

impl Street {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let identity = Identity::create(&folder.path().join("h001")).unwrap();
        let genesis = genesis_of(folder.path(), &identity, "Lane");
        std::fs::write(folder.path().join("genesis.toml"), genesis_file::render(&genesis)).unwrap();
        let mut ledger = Ledger::genesis(&genesis).unwrap();
        let entries = [home_reading(&ledger, &identity), root_reading(&ledger, folder.path())];
        let time = genesis.start.plus_ms(1_000);
        ledger = ledger.propose(time, &entries).unwrap().executed.ledger;
        assert!(ledger.member(&home()).unwrap().meter.is_some());
        let street = Self { folder, ledger: Arc::new(Mutex::new(ledger)), genesis };
        street.serve(&identity).await;
        street
    }

    /// A node's API; whatever it is handed becomes a block if the ledger takes it.
    async fn serve(&self, identity: &Identity) {
        let start = self.genesis.start;
        let live = Live::new(About {
            name: "Lane".to_owned(),
            home: home(),
            chain: self.genesis.chain().id.0,
            currency: "CNY".to_owned(),
            mtu: Mtu::Min15,
            speed: 1,
            market_time: Box::new(move || start),
        });
        live.set_member(member_of(&self.ledger.lock().unwrap(), &home()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = format!(
            "home = \"h001\"\ndata_dir = \"h001\"\ngenesis = \"genesis.toml\"\n[api]\nlisten = \"{}\"\n",
            listener.local_addr().unwrap()
        );
        std::fs::write(self.path("node.toml"), config).unwrap();
        std::fs::write(self.path("url"), format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let (submit, mut entries) = mpsc::channel(8);
        let state = HttpState {
            engine: None,
            live: Arc::clone(&live),
            database: self.path("none.db").into(),
            home: home(),
            token: TokenHash::of(identity.api_token()),
            submit: Some(submit),
            desk: None,
            household: None,
            language: Language::English,
            hosts: Vec::new(),
            zone: Zone::UTC,
        };
        tokio::spawn(serve(listener, state, std::future::pending()));
        let ledger = Arc::clone(&self.ledger);
        tokio::spawn(async move {
            while let Some(bytes) = entries.recv().await {
                let mut ledger = ledger.lock().unwrap();
                let signed = SignedEntry::from_bytes(&bytes).unwrap();
                let entry = signed.verify(ledger.chain()).unwrap();
                let time = ledger.head_time().plus_ms(1_000);
                *ledger = ledger.propose(time, &[entry]).unwrap().executed.ledger;
                live.set_member(member_of(&ledger, &home()));
            }
        });
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Calls the command; `@name` stands for a file of the folder.
    async fn call(&self, line: &str) -> Result<Exit, CommandError> {
        let words = line.split_whitespace().map(|word| match word.strip_prefix('@') {
            Some(name) => self.path(name),
            None => word.to_owned(),
        });
        let args = Line::try_parse_from(std::iter::once("register".to_owned()).chain(words)).unwrap().args;
        register(args, Output::Text).await
    }

    async fn refusal(&self, line: &str) -> (Exit, String) {
        let error = self.call(line).await.unwrap_err();
        (error.exit(), error.to_string())
    }

    fn registered(&self) -> MeterRegistration {
        self.ledger.lock().unwrap().member(&home()).unwrap().admission.meter.clone()
    }

    /// Import and export registers from which the home's next reading counts.
    fn begins(&self) -> Option<(u64, u64)> {
        let ledger = self.ledger.lock().unwrap();
        ledger.member(&home()).unwrap().meter.map(|at| (at.import_register.get(), at.export_register.get()))
    }
}

fn home() -> HomeId {
    HomeId::new("h001").unwrap()
}

fn start() -> Timestamp {
    Timestamp::parse("2026-06-01T00:00:00Z").unwrap()
}

fn role(folder: &Path, name: &str) -> SigningKey {
    identity::load_or_create_key(&folder.join(format!("{name}.key"))).unwrap()
}

fn genesis_of(folder: &Path, identity: &Identity, name: &str) -> Genesis {
    let public = |name: &str| PublicKey::of(&role(folder, name));
    let meter = MeterRegistration {
        serial: MeterSerial::new("OLD-1").unwrap(),
        epoch: 0,
        profile_hash: [7; 32],
        quantum: WattHours::new(10),
    };
    let node = NodeId::new("grid").unwrap();
    let spec = |id: &NodeId| NodeSpec {
        id: id.clone(),
        parent: None,
        fee_up: Price::ZERO,
        fee_down: Price::ZERO,
        up: None,
        down: None,
    };
    Genesis {
        name: name.to_owned(),
        mtu: Mtu::Min15,
        currency: "CNY".to_owned(),
        start: start(),
        clock: None,
        due_after_ms: 900_000,
        forward: Forward::Off,
        market: ledger::MarketTerms::default(),
        supplier_leg: SupplierLeg::Ledger,
        supplier_credit: Balance::new(1_000_000_000_000),
        network: vec![spec(&node)],
        tariff: TariffPoint { import_price: Price::new(250_000), export_price: Price::new(80_000) },
        caps: Caps {
            price_min: Price::ZERO,
            price_max: Price::new(1_000_000),
            transfer_max: Balance::new(1_000_000_000_000),
        },
        roles: Roles {
            operator: public("operator"),
            treasurer: public("treasurer"),
            auditor: public("auditor"),
            trustee: None,
            metering_operator: None,
        },
        root_meter: Some(RootMeter {
            key: public("root-meter"),
            serial: MeterSerial::new("ROOT-1").unwrap(),
            profile_hash: [7; 32],
            quantum: WattHours::new(100),
        }),
        members: vec![GenesisMember {
            admission: Admission {
                home: home(),
                owner: "one".to_owned(),
                node,
                size: ledger::ConnectionSize::default(),
                keys: identity.keys(),
                meter,
            },
            participation: ledger::Participation::default(),
            deposit: Balance::new(1_000_000_000),
        }],
        delegates: vec![Delegate { key: identity.consensus_public().unwrap(), home: home() }],
        stake: ledger::Stake::Membership,
        replicas: ledger::Replicas::All,
    }
}

fn reading(serial: &str, quantum: u64) -> Reading {
    let interval = Interval::containing(start(), Mtu::Min15).previous().unwrap();
    Reading {
        serial: MeterSerial::new(serial).unwrap(),
        meter_epoch: 0,
        interval,
        import_register: WattHours::new(4_000),
        export_register: WattHours::new(700),
        raw_registers: vec![],
        quantum: WattHours::new(quantum),
        profile_hash: [7; 32],
        quality: Quality::Good,
        clock_quality: ClockQuality::Synced,
        taken_at: TakenAt { time: interval.end(), monotonic_ms: 0, boot_id: [0; 16] },
        record_number: 1,
        previous_hash: [0; 32],
    }
}

fn sign(ledger: &Ledger, key: &SigningKey, body: Body) -> VerifiedEntry {
    let entry = Entry { signer: PublicKey::of(key), number: 1, salt: Salt([1; 16]), body };
    entry.sign(ledger.chain(), key).verify(ledger.chain()).unwrap()
}

fn home_reading(ledger: &Ledger, identity: &Identity) -> VerifiedEntry {
    sign(ledger, identity.reading(), Body::Reading { home: Some(home()), reading: reading("OLD-1", 10) })
}

fn root_reading(ledger: &Ledger, folder: &Path) -> VerifiedEntry {
    sign(ledger, &role(folder, "root-meter"), Body::Reading { home: None, reading: reading("ROOT-1", 100) })
}

#[tokio::test]
async fn with_both_keys_one_call_registers_the_meter_and_waits_until_it_is_final() {
    let street = Street::start().await;
    let line = "--config @node.toml --operator-key @operator.key --serial NEW-1 --profile abb-b23 \
                --closing 4250,700 --opening 30,0";
    assert_eq!(street.call(line).await.unwrap(), Exit::Ok);
    let meter = street.registered();
    let profile = meter::Profile::by_name("abb-b23").unwrap();
    assert_eq!((meter.serial.as_str(), meter.epoch), ("NEW-1", 1));
    assert_eq!((meter.profile_hash, meter.quantum), (profile.hash(), profile.quantum()));
    assert_eq!(street.begins(), Some((30, 0)), "the next reading counts from where the new meter began");
    let again = "--config @node.toml --operator-key @operator.key --closing 40,0 --opening 0,0";
    assert_eq!(street.call(again).await.unwrap(), Exit::Ok, "a reset of the same meter");
    assert_eq!((street.registered().serial.as_str(), street.registered().epoch), ("NEW-1", 2));
}

#[tokio::test]
async fn home_and_operator_sign_one_after_the_other_through_a_file() {
    let street = Street::start().await;
    let line = "--config @node.toml --serial NEW-1 --closing 4250,700 --opening 0,0 --sign-only @half.txt";
    assert_eq!(street.call(line).await.unwrap(), Exit::Ok);
    assert_eq!(street.registered().epoch, 0, "nothing is handed in yet");
    assert_eq!(street.call("--show @half.txt").await.unwrap(), Exit::Ok);
    let token = std::fs::read_to_string(street.path("h001/api.token")).unwrap();
    std::fs::write(street.path("token"), token).unwrap();
    let url = std::fs::read_to_string(street.path("url")).unwrap();
    let second =
        format!("--countersign @half.txt --genesis @genesis.toml --connect {url} --token-file @token");
    let (exit, told) = street.refusal(&second).await;
    assert_eq!(exit, Exit::Usage);
    assert!(told.contains("--operator-key FILE is missing"), "{told}");
    assert_eq!(street.call(&format!("{second} --operator-key @operator.key")).await.unwrap(), Exit::Ok);
    assert_eq!((street.registered().serial.as_str(), street.registered().epoch), ("NEW-1", 1));
    assert_eq!(street.begins(), Some((0, 0)));
}

#[tokio::test]
async fn the_root_meter_is_registered_by_operator_and_auditor() {
    let street = Street::start().await;
    let line = "--root --config @node.toml --operator-key @operator.key --serial ROOT-2 --closing 4100,700 \
                --opening 0,0";
    let (exit, told) = street.refusal(line).await;
    assert_eq!(exit, Exit::Usage);
    assert!(told.contains("--auditor-key FILE is missing"), "{told}");
    assert_eq!(street.call(&format!("{line} --auditor-key @auditor.key")).await.unwrap(), Exit::Ok);
    let ledger = street.ledger.lock().unwrap();
    assert_eq!(ledger.root_meter().map(|meter| (meter.serial.as_str(), meter.epoch)), Some(("ROOT-2", 1)));
}

#[tokio::test]
async fn another_key_than_the_operators_is_named_before_anything_is_handed_in() {
    let street = Street::start().await;
    let line = "--config @node.toml --operator-key @treasurer.key --closing 4250,700 --opening 0,0";
    let (exit, told) = street.refusal(line).await;
    assert_eq!(exit, Exit::Config);
    assert!(told.contains("treasurer.key does not hold the key of this community's operator"), "{told}");
    let missing = street.refusal(&line.replace("@treasurer.key", "@absent.key")).await.1;
    assert!(missing.contains("absent.key is missing"), "{missing}");
    assert!(!Path::new(&street.path("absent.key")).exists(), "a mistyped path makes no new key");
    assert_eq!(street.registered().epoch, 0);
}

#[tokio::test]
async fn a_half_signed_file_of_another_community_or_changed_on_its_way_is_refused() {
    let street = Street::start().await;
    let line = "--config @node.toml --serial NEW-1 --closing 4250,700 --opening 0,0 --sign-only @half.txt";
    street.call(line).await.unwrap();
    let text = std::fs::read_to_string(street.path("half.txt")).unwrap();
    let mut entry = SignedEntry::from_bytes(&hex::decode(text.trim()).unwrap()).unwrap().to_bytes();
    // The last byte of the closing import register: 4 250 becomes 4 251.
    let place = entry.windows(8).position(|bytes| bytes == 4_250_u64.to_be_bytes()).unwrap();
    entry[place + 7] ^= 1;
    std::fs::write(street.path("changed.txt"), hex::encode(entry)).unwrap();
    let second = "--config @node.toml --operator-key @operator.key --countersign";
    let (exit, told) = street.refusal(&format!("{second} @changed.txt")).await;
    assert_eq!(exit, Exit::Config);
    assert!(told.contains("forged") && told.contains("make it again"), "{told}");
    std::fs::write(street.path("noise.txt"), "no hexadecimal digits").unwrap();
    let (exit, told) = street.refusal(&format!("{second} @noise.txt")).await;
    assert_eq!(exit, Exit::Config);
    assert!(told.contains("is no half-signed registration of a meter"), "{told}");
    let other = Street::start().await;
    std::fs::copy(street.path("half.txt"), other.path("foreign.txt")).unwrap();
    let (_, told) = other.refusal(&format!("{second} @foreign.txt")).await;
    assert!(told.contains("another community"), "{told}");
}

#[tokio::test]
async fn what_the_ledger_refuses_is_not_called_final() {
    let street = Street::start().await;
    let line = "--config @node.toml --operator-key @operator.key --closing 3999,700 --opening 0,0 --wait 1";
    let (exit, told) = street.refusal(line).await;
    assert_eq!(exit, Exit::NotReady);
    assert!(told.contains("closing registers below the last reading"), "{told}");
    assert_eq!(street.registered().epoch, 0);
}

#[test]
fn registers_are_two_numbers_and_stand_in_pairs() {
    assert_eq!(registers("12, 0").unwrap().import, WattHours::new(12));
    for wrong in ["12", "12,x", "-1,0", "1.5,0", ""] {
        assert!(registers(wrong).unwrap_err().contains("IMPORT,EXPORT"), "{wrong}");
    }
    let parse =
        |words: &[&str]| Line::try_parse_from([&["register", "--config", "x"], words].concat()).is_ok();
    assert!(parse(&["--closing", "1,1", "--opening", "0,0"]) && parse(&[]));
    assert!(!parse(&["--closing", "1,1"]) && !parse(&["--opening", "1,1"]));
}

#[tokio::test]
async fn a_profile_that_is_not_there_is_named() {
    let street = Street::start().await;
    let (exit, told) = street.refusal("--config @node.toml --profile nobody --sign-only @half.txt").await;
    assert_eq!(exit, Exit::Config);
    assert!(told.contains("no profile nobody") && told.contains("meter profiles"), "{told}");
}

#[tokio::test]
async fn a_registration_whose_epoch_is_taken_is_refused_and_the_one_that_stands_is_named() {
    let street = Street::start().await;
    for (serial, file) in [("NEW-1", "@first.txt"), ("NEW-2", "@second.txt")] {
        let line = format!("--config @node.toml --serial {serial} --closing 4250,700 --opening 0,0");
        street.call(&format!("{line} --sign-only {file}")).await.unwrap();
    }
    let second = "--config @node.toml --operator-key @operator.key --countersign";
    assert_eq!(street.call(&format!("{second} @first.txt")).await.unwrap(), Exit::Ok);
    let (exit, told) = street.refusal(&format!("{second} @second.txt")).await;
    assert_eq!(exit, Exit::Failed);
    assert!(told.contains("another registration stands (serial NEW-1, epoch 1)"), "{told}");
    let (exit, told) = street.refusal(&format!("{second} @first.txt")).await;
    assert_eq!(exit, Exit::Failed);
    assert!(told.contains("this very meter is registered (serial NEW-1, epoch 1)"), "{told}");
    assert_eq!((street.registered().serial.as_str(), street.registered().epoch), ("NEW-1", 1));
}

#[test]
fn only_the_meter_that_was_registered_is_called_final() {
    let meter = MeterRegistration {
        serial: MeterSerial::new("NEW-1").unwrap(),
        epoch: 4,
        profile_hash: [7; 32],
        quantum: WattHours::new(10),
    };
    let registration = Registration { home: Some(home()), meter, exchange: None };
    let standing = |serial: &str, epoch, hash: [u8; 32], quantum_wh| {
        let (serial, profile_hash) = (serial.to_owned(), hex::encode(hash));
        let meter = RegisteredMeter { serial, epoch, quantum_wh, profile_hash };
        (registration.is(&meter), registration.overtaken(&meter).is_some())
    };
    assert_eq!(standing("NEW-1", 4, [7; 32], 10), (true, true));
    assert_eq!(standing("NEW-1", 3, [7; 32], 10), (false, false), "not yet");
    for other in [
        standing("NEW-2", 4, [7; 32], 10),
        standing("NEW-1", 4, [8; 32], 10),
        standing("NEW-1", 4, [7; 32], 1),
        standing("NEW-1", 5, [7; 32], 10),
    ] {
        assert_eq!(other, (false, true));
    }
}
