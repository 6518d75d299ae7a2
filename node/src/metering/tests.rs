use std::sync::mpsc::Receiver;

use api::{MeterCondition, MeterStatus};
use energy::{MeterSerial, Timestamp, WattHours};
use ledger::codec::Decode;
use ledger::{Hash32, SignedEntry};
use meter::{BusConfig, Endpoint, EnergyRegisters, Look, MeterConfig, Profile};

use super::*;
use crate::clock::HeldClock;
use crate::engine::Command;
use crate::store::fixture::{READING, home, key, reading};

const CHAIN: Chain = Chain { id: Hash32([4; 32]), recovery: 0 };

fn registered_as(epoch: u32, serial: &str) -> RegisteredMeter {
    RegisteredMeter { epoch, serial: MeterSerial::new(serial).unwrap(), profile_hash: [7; 32] }
}

fn metering(folder: &Path) -> (Metering, Receiver<Command>) {
    metering_at(folder, Timestamp::EPOCH)
}

/// A meter's task whose clock stands at `market`.
fn metering_at(folder: &Path, market: Timestamp) -> (Metering, Receiver<Command>) {
    let (engine, inbox) = EngineHandle::for_test();
    // Nothing listens on the discard port.
    let endpoint = Endpoint::Tcp("127.0.0.1:9".parse().unwrap());
    let bus = BusConfig { timeout: Duration::from_millis(1), ..BusConfig::new(endpoint) };
    let profile = Profile::by_name("eastron-sdm630").unwrap();
    let meter = MeterConfig { bus, unit: 1, profile, nameplate: None };
    let parts = MeteringParts {
        owner: MeterOwner {
            home: Some(home(1)),
            key: key(READING, 1),
            registered: Some(registered_as(0, "m1")),
        },
        chain: CHAIN,
        mtu: Mtu::Min15,
        clock: Arc::new(HeldClock::new(market, 1)),
        meter: Meter::spawn(meter),
        limits: CounterLimits::default(),
        live_every: Duration::from_secs(1),
        engine,
        shown: None,
        gatherer: None,
    };
    (Metering::open(parts, &folder.join("journal.db")).unwrap(), inbox)
}

/// A meter's task that was restarted after it recorded 100 Wh of `m1` at the end of interval 100.
fn restarted(folder: &Path, market: Timestamp) -> (Metering, Receiver<Command>) {
    let (mut before, _inbox) = metering_at(folder, market);
    before.record(at(100)).unwrap();
    drop(before);
    metering_at(folder, market)
}

/// Number, record number and previous hash of the reading handed over next, and its entry's name.
fn handed_over(inbox: &Receiver<Command>) -> (u64, u64, [u8; 32], EntryId) {
    let Ok(Command::Submit(bytes)) = inbox.try_recv() else { panic!("nothing was handed over") };
    let entry = SignedEntry::from_bytes(&bytes).unwrap().verify(&CHAIN).unwrap();
    let Body::Reading { reading, .. } = &entry.entry().body else { panic!("no reading") };
    (entry.entry().number, reading.record_number, reading.previous_hash, entry.id())
}

fn at(number: u64) -> Reading {
    reading("m1", Interval::from_index(number, Mtu::Min15), (number, 0), (0, [0; 32]))
}

#[tokio::test]
async fn a_lost_journal_goes_on_after_what_the_ledger_turns_out_to_hold() {
    let folder = tempfile::tempdir().unwrap();
    let (mut metering, inbox) = metering(folder.path());
    metering.record(at(100)).unwrap();
    let (number, record, _, early) = handed_over(&inbox);
    assert_eq!((number, record), (1, 1), "nothing is known yet");
    let before_the_loss = OnLedger { number: 41, rest_number: 0, record: Some((40, [7; 32])) };
    let ids = vec![EntryId(Hash32([8; 32]))];
    metering.settle_fate(Fate::Final { height: 9, ids, on_ledger: before_the_loss });
    metering.record(at(101)).unwrap();
    let (number, record, previous, _) = handed_over(&inbox);
    assert_eq!((number, record, previous), (42, 41, [7; 32]));
    let later = OnLedger { number: 60, rest_number: 0, record: Some((59, [6; 32])) };
    metering.settle_fate(Fate::Refused { id: early, reason: "overtaken".to_owned(), on_ledger: later });
    metering.record(at(102)).unwrap();
    let (number, record, previous, _) = handed_over(&inbox);
    assert_eq!((number, record, previous), (61, 60, [6; 32]));
}

#[tokio::test]
async fn what_becomes_final_in_turn_changes_no_number() {
    let folder = tempfile::tempdir().unwrap();
    let (mut metering, inbox) = metering(folder.path());
    metering.record(at(100)).unwrap();
    let (_, _, _, id) = handed_over(&inbox);
    metering.record(at(101)).unwrap();
    let (second, _, _, open) = handed_over(&inbox);
    let on_ledger = OnLedger { number: 1, rest_number: 0, record: Some((1, [5; 32])) };
    metering.settle_fate(Fate::Final { height: 3, ids: vec![id], on_ledger });
    metering.resubmit().unwrap();
    assert_eq!(handed_over(&inbox).3, open, "only what is not final is handed over again");
    metering.record(at(102)).unwrap();
    assert_eq!(handed_over(&inbox).0, second + 1);
}

/// What meter `serial` shows `ms` after the end of interval `number` (before it, if negative).
fn seen(metering: &Metering, serial: &str, (number, ms): (u64, i64), import: u64) -> Observation {
    let end = Interval::from_index(number, Mtu::Min15).end().unix_ms();
    let time = Timestamp::from_unix_ms(end.checked_add_signed(ms).unwrap());
    let registers = EnergyRegisters { import: WattHours::new(import), export: WattHours::ZERO };
    let look = Look {
        serial: MeterSerial::new(serial).unwrap(),
        registers,
        quantum: WattHours::new(1),
        modulus: None,
        at: TakenAt { time, monotonic_ms: time.unix_ms(), boot_id: metering.boot.1 },
        clock: ClockQuality::Synced,
    };
    Observation { look, raw: vec![3], profile_hash: [7; 32] }
}

/// The reading handed over next.
fn reading_handed_over(inbox: &Receiver<Command>) -> Option<Reading> {
    let Ok(Command::Submit(bytes)) = inbox.try_recv() else { return None };
    let entry = SignedEntry::from_bytes(&bytes).unwrap().verify(&CHAIN).unwrap();
    let Body::Reading { reading, .. } = &entry.entry().body else { panic!("no reading") };
    Some(reading.clone())
}

#[tokio::test]
async fn a_meter_that_is_exchanged_waits_for_its_registration_and_goes_on_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (mut metering, inbox) = restarted(folder.path(), Interval::from_index(103, Mtu::Min15).end());
    for ms in [10_000, 20_000, 30_000] {
        let suspect = seen(&metering, "m2", (100, ms), 3);
        assert_eq!(metering.observe(suspect), Seen::Suspect);
    }
    for (number, import) in [(101, 40), (102, 90)] {
        let unregistered = seen(&metering, "m2", (number, 0), import);
        assert_eq!(metering.observe(unregistered), Seen::Held);
        metering.record_due();
    }
    let MeterStatus { state, detail } = metering.trouble.status();
    assert_eq!(state, MeterCondition::Uncertain);
    assert!(
        detail.starts_with("meter m1 was exchanged for m2")
            && detail.ends_with("commonwatt meter register --serial m2 --closing 100,0 --opening 3,0"),
        "{detail}"
    );
    assert_eq!(reading_handed_over(&inbox), None);
    metering.settle_fate(Fate::Registered(registered_as(1, "m2")));
    assert_eq!(metering.trouble.status().state, MeterCondition::Good);
    for (number, import) in [(101, 40), (102, 90)] {
        let reading = reading_handed_over(&inbox).unwrap();
        assert_eq!((reading.meter_epoch, reading.serial.as_str()), (1, "m2"));
        assert_eq!((reading.interval.index(), reading.import_register.get()), (number, import));
    }
}

#[tokio::test]
async fn a_change_that_waits_for_its_registration_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let market = Interval::from_index(101, Mtu::Min15).end();
    let (mut metering, _inbox) = restarted(folder.path(), market);
    for ms in [10_000, 20_000, 30_000, 40_000] {
        let new = seen(&metering, "m2", (100, ms), 3);
        metering.observe(new);
    }
    let change = metering.tracker.awaiting().cloned();
    assert!(change.is_some());
    metering.memory.save(&metering.tracker.memory());
    drop(metering);
    let (metering, _inbox) = metering_at(folder.path(), market);
    assert_eq!(metering.tracker.awaiting().cloned(), change);
}

#[tokio::test]
async fn a_glitch_at_a_boundary_is_told_and_books_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (mut metering, inbox) = restarted(folder.path(), Interval::from_index(101, Mtu::Min15).end());
    let zero = seen(&metering, "m1", (101, 0), 0);
    assert_eq!(metering.observe(zero), Seen::Suspect);
    metering.record_due();
    assert!(metering.trouble.status().detail.starts_with("the import register fell from 100 Wh to 0 Wh"));
    assert_eq!(reading_handed_over(&inbox), None);
    let back = seen(&metering, "m1", (101, 900), 400);
    assert_eq!(metering.observe(back), Seen::Good);
    metering.record_due();
    assert_eq!(reading_handed_over(&inbox).unwrap().import_register.get(), 400);
    assert_eq!(metering.trouble.status(), MeterStatus { state: MeterCondition::Good, detail: String::new() });
}

#[tokio::test]
async fn samples_of_a_node_without_time_wait_and_say_why() {
    let folder = tempfile::tempdir().unwrap();
    let (mut metering, inbox) = restarted(folder.path(), Interval::from_index(101, Mtu::Min15).end());
    let mut untimed = seen(&metering, "m1", (101, 0), 500);
    untimed.look.clock = ClockQuality::Unsynced;
    untimed.look.at.time = Timestamp::EPOCH;
    untimed.look.at.monotonic_ms = 0;
    assert_eq!(metering.observe(untimed), Seen::Good);
    assert!(metering.trouble.status().detail.starts_with("the clock of this node was not set"));
    // The held clock is trusted; by the monotonic clock the sample was taken just now.
    metering.record_due();
    let reading = reading_handed_over(&inbox).unwrap();
    assert_eq!((reading.import_register.get(), reading.quality), (500, Quality::Good));
    assert_eq!(reading.clock_quality, ClockQuality::Informative);
}

/// What is shown of this meter, and where.
fn shown(metering: &mut Metering, has_home: bool) -> Arc<Live> {
    let live = Live::new(crate::http::About {
        name: "Lane East".to_owned(),
        home: home(1),
        chain: [7; 32],
        currency: "CNY".to_owned(),
        mtu: Mtu::Min15,
        speed: 1,
        market_time: Box::new(|| Timestamp::EPOCH),
    });
    let panel = MeterPanel::new(live.clone());
    let profile = Profile::by_name("eastron-sdm630").unwrap();
    let bus = BusConfig::new(Endpoint::Tcp("127.0.0.1:9".parse().unwrap()));
    let config = MeterConfig { bus, unit: 1, profile, nameplate: None };
    let place = if has_home { panel.add_grid(&config) } else { panel.add_root(&config) };
    let shown = Shown { live: has_home.then(|| live.clone()), panel, place };
    metering.board = Board::new("m".to_owned(), Some(shown.clone()));
    metering.shown = Some(shown);
    live
}

fn power(power_w: i64, frequency_mhz: u32, middle: Instant) -> meter::LiveSample {
    meter::LiveSample {
        power_w,
        voltage_mv: [Some(230_000); 3],
        current_ma: [None; 3],
        frequency_mhz: Some(frequency_mhz),
        raw: Vec::new(),
        middle,
    }
}

fn energy(import: u64, middle: Instant) -> EnergySample {
    EnergySample {
        serial: MeterSerial::new("m1").unwrap(),
        identity: meter::Identity::Read,
        import: Some(WattHours::new(import)),
        export: Some(WattHours::ZERO),
        raw: vec![3],
        quantum: WattHours::new(1),
        modulus: None,
        profile_hash: [7; 32],
        round_trip: Duration::ZERO,
        middle,
    }
}

#[tokio::test]
async fn what_a_gateway_repeats_is_neither_signed_nor_shown_as_power() {
    let folder = tempfile::tempdir().unwrap();
    let market = Interval::from_index(101, Mtu::Min15).end();
    let (mut metering, inbox) = restarted(folder.path(), market);
    let live = shown(&mut metering, true);
    let start = Instant::now();
    let mut sinks = live::Sinks {
        shown: metering.shown.clone().unwrap(),
        board: metering.board.clone(),
        watch: Arc::clone(&metering.watch),
        gatherer: None,
    };
    metering.watch.lock().unwrap().energy(&energy(400, start));
    sinks.take(&power(2_000, 50_000, start));
    assert_eq!(live.snapshot().power.unwrap().w, 2_000);
    for second in 1..=70 {
        metering.watch.lock().unwrap().energy(&energy(400, start + Duration::from_secs(second)));
        sinks.take(&power(2_000, 50_000, start + Duration::from_secs(second)));
    }
    assert_eq!((live.snapshot().power, live.meters().items[0].power_w), (None, None));
    assert_eq!(metering.take(energy(400, start + Duration::from_secs(70))), Seen::Held);
    metering.record_due();
    metering.show();
    assert_eq!(reading_handed_over(&inbox), None);
    let status = live.snapshot().meter;
    assert_eq!(status.state, MeterCondition::Uncertain);
    assert!(status.detail.contains("every register has been the same"), "{}", status.detail);
    // It moves again: shown at once, and believed.
    sinks.take(&power(2_100, 50_010, start + Duration::from_secs(71)));
    assert_eq!(live.snapshot().power.unwrap().w, 2_100);
    assert_ne!(metering.take(energy(401, start + Duration::from_secs(71))), Seen::Held);
}

#[tokio::test]
async fn why_the_ledger_refuses_a_reading_is_shown_until_it_takes_one() {
    let folder = tempfile::tempdir().unwrap();
    let (mut metering, inbox) = metering(folder.path());
    let live = shown(&mut metering, true);
    let on_ledger = OnLedger { number: 0, rest_number: 0, record: None };
    let refuse = |metering: &mut Metering, number, reason: &str| {
        metering.record(at(number)).unwrap();
        let id = handed_over(&inbox).3;
        metering.settle_fate(Fate::Refused { id, reason: reason.to_owned(), on_ledger });
        metering.show();
        live.snapshot().meter
    };
    assert_eq!(refuse(&mut metering, 100, NUMBER_ON_LEDGER).state, MeterCondition::Good);
    let status = refuse(&mut metering, 101, "meter m1 epoch 0 was read with another device profile");
    assert_eq!(status.state, MeterCondition::Uncertain);
    assert!(
        status.detail.ends_with("meter m1 epoch 0 was read with another device profile"),
        "{}",
        status.detail
    );
    metering.settle_fate(Fate::Final { height: 1, ids: Vec::new(), on_ledger });
    metering.show();
    assert_eq!(live.snapshot().meter.state, MeterCondition::Good);
}

#[tokio::test]
async fn the_root_meter_says_how_it_does_in_its_own_row_and_not_for_the_home() {
    let folder = tempfile::tempdir().unwrap();
    let (mut metering, _inbox) = metering(folder.path());
    let live = shown(&mut metering, false);
    let before = live.snapshot().meter;
    assert_eq!(metering.look(false).await, Seen::Nothing);
    metering.show();
    let row = live.meters().items.remove(0);
    assert_eq!((row.role.as_str(), row.state), ("root", MeterCondition::Silent));
    assert!(!row.detail.is_empty());
    assert_eq!(live.snapshot().meter, before);
}

#[tokio::test]
async fn a_task_that_breaks_off_is_shown_and_not_hidden_by_power_that_is_still_read() {
    let folder = tempfile::tempdir().unwrap();
    let (mut metering, _inbox) = metering(folder.path());
    let live = shown(&mut metering, true);
    let board = metering.board.clone();
    let broken = tokio::spawn(async { std::panic::resume_unwind(Box::new("as a defect would")) });
    tell_if_broken(broken, board.clone(), "m".to_owned()).await;
    board.power_answers();
    let status = live.snapshot().meter;
    assert_eq!(
        (status.state, status.detail.as_str()),
        (MeterCondition::Uncertain, "reading stopped; restart the node")
    );
}

#[tokio::test]
async fn a_reading_that_a_fast_clock_put_into_the_future_does_not_stop_those_of_the_present() {
    let folder = tempfile::tempdir().unwrap();
    let (mut metering, inbox) = restarted(folder.path(), Interval::from_index(101, Mtu::Min15).end());
    metering.record(at(140)).unwrap();
    let (early, _, _, _) = handed_over(&inbox);
    let present = seen(&metering, "m1", (101, 0), 400);
    assert_eq!(metering.observe(present), Seen::Good);
    metering.record_due();
    let Ok(Command::Submit(bytes)) = inbox.try_recv() else { panic!("nothing was handed over") };
    let entry = SignedEntry::from_bytes(&bytes).unwrap().verify(&CHAIN).unwrap();
    let Body::Reading { reading, .. } = &entry.entry().body else { panic!("no reading") };
    assert_eq!((reading.interval.index(), reading.import_register.get()), (101, 400));
    assert!(entry.entry().number > early, "it overtakes the early one");
}

#[tokio::test]
async fn a_meter_registered_before_it_is_in_is_read_without_a_second_registration() {
    let folder = tempfile::tempdir().unwrap();
    let (mut metering, inbox) = restarted(folder.path(), Interval::from_index(102, Mtu::Min15).end());
    metering.settle_fate(Fate::Registered(registered_as(1, "m2")));
    let old = seen(&metering, "m1", (101, 0), 400);
    assert_eq!(metering.observe(old), Seen::Held);
    metering.record_due();
    let detail = metering.trouble.status().detail;
    assert!(detail.starts_with("meter m1 answers, but meter m2 is registered"), "{detail}");
    assert_eq!(reading_handed_over(&inbox), None);
    for ms in [-500, 0] {
        let new = seen(&metering, "m2", (102, ms), 3);
        metering.observe(new);
    }
    metering.record_due();
    let reading = reading_handed_over(&inbox).unwrap();
    assert_eq!((reading.meter_epoch, reading.serial.as_str(), reading.import_register.get()), (1, "m2", 3));
    assert_eq!(metering.trouble.status().state, MeterCondition::Good);
}
