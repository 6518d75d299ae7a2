use std::sync::atomic::{AtomicU32, Ordering};

use energy::{MeterSerial, Mtu, Timestamp};
use meter::simulator::SimulatedMeter;
use meter::{BusConfig, Endpoint, Line, Parity, Profile};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::http::About;

fn live() -> Arc<Live> {
    Live::new(About {
        name: "Lane East".to_owned(),
        home: energy::HomeId::new("h001").unwrap(),
        chain: [7; 32],
        currency: "CNY".to_owned(),
        mtu: Mtu::Min15,
        speed: 1,
        market_time: Box::new(|| Timestamp::EPOCH),
    })
}

fn config(endpoint: Endpoint, profile: &str) -> MeterConfig {
    let profile = Profile::by_name(profile).unwrap();
    MeterConfig { bus: BusConfig::for_profile(endpoint, &profile), unit: 1, profile, nameplate: None }
}

/// A simulated meter with these registers and this power, and how it is reached.
async fn simulated(serial: &str, export_wh: u64, power_w: i64) -> (SimulatedMeter, MeterConfig) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint::Tcp(listener.local_addr().unwrap().into());
    let meter = SimulatedMeter::new(MeterSerial::new(serial).unwrap());
    meter.set(0, export_wh * 4, power_w);
    tokio::spawn(meter.clone().serve(listener, std::future::pending()));
    (meter, config(endpoint, "eastron-sdm630"))
}

fn further(name: &str, role: MeterRole, meter: MeterConfig) -> FurtherMeterSetup {
    FurtherMeterSetup { name: name.to_owned(), role, meter }
}

/// Waits until `done` says so of the panel; twice the time after which a value is no longer fresh.
async fn wait(panel: &MeterPanel, done: impl Fn(&api::Meters) -> bool) -> api::Meters {
    for _ in 0..200 {
        let meters = panel.live.meters();
        if done(&meters) {
            return meters;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("not within twenty seconds: {:?}", panel.live.meters());
}

fn grid_sample(power_w: i64) -> LiveSample {
    LiveSample {
        power_w,
        voltage_mv: [None; 3],
        current_ma: [None; 3],
        frequency_mhz: None,
        raw: Vec::new(),
        middle: Instant::now(),
    }
}

#[tokio::test]
async fn the_house_uses_what_comes_from_grid_panels_and_battery_of_one_moment() {
    let (_grid, grid) = simulated("1", 0, 0).await;
    let (_roof, roof) = simulated("2", 9_000, -5_000).await;
    let (battery_meter, battery) = simulated("3", 0, 800).await;
    let panel = MeterPanel::new(live());
    let place = panel.add_grid(&grid);
    let setups = [further("roof", MeterRole::Pv, roof), further("cellar", MeterRole::Battery, battery)];
    start_further(&panel, &[&grid], &setups);
    let feed = async || loop {
        panel.read_live(place, &grid_sample(-1_000));
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    let look = async {
        let meters = wait(&panel, |meters| meters.flows.is_some()).await;
        let flows = meters.flows.unwrap();
        // 5 kW generated, 1 kW given away, 0.8 kW into the battery.
        assert_eq!((flows.house_w, flows.pv_w, flows.battery_w), (3_200, Some(5_000), Some(-800)));
        assert_eq!(
            meters.items.iter().map(|row| row.role.as_str()).collect::<Vec<_>>(),
            ["grid", "pv", "battery"]
        );
        let meters = wait(&panel, |meters| meters.items[1].serial.is_some()).await;
        let roof = &meters.items[1];
        assert_eq!((roof.serial.as_deref(), roof.identity.as_deref()), (Some("2"), Some("read")));
        assert_eq!((roof.quantum_wh, roof.export_wh, roof.state), (1, Some(9_000), MeterCondition::Good));
        // A battery that is not heard leaves a reason, not a sum without it.
        battery_meter.unplug(true);
        wait(&panel, |meters| meters.flows_missing.contains("the battery meter cellar was last read")).await;
        assert_eq!(panel.live.meters().flows, None);
        let meters = wait(&panel, |meters| meters.items[2].state == MeterCondition::Silent).await;
        assert!(!meters.items[2].detail.is_empty(), "it says why");
    };
    tokio::select! {
        () = feed() => {}
        () = look => {}
    }
}

#[tokio::test]
async fn inverter_and_pv_meter_are_compared_and_counted_once() {
    let (_grid, grid) = simulated("1", 0, 0).await;
    let (_roof, roof) = simulated("2", 9_000, -5_000).await;
    let (_inverter, inverter) = simulated("3", 9_100, -5_060).await;
    let panel = MeterPanel::new(live());
    let place = panel.add_grid(&grid);
    let setups = [further("roof", MeterRole::Pv, roof), further("box", MeterRole::Inverter, inverter)];
    start_further(&panel, &[&grid], &setups);
    wait(&panel, |meters| meters.items[1].export_wh.is_some() && meters.items[2].export_wh.is_some()).await;
    let seen = panel.generation().unwrap();
    assert_eq!((seen.inverter.get(), seen.meter.get(), seen.quantum.get()), (9_100, 9_000, 1));
    panel.read_live(place, &grid_sample(0));
    let meters = wait(&panel, |meters| meters.flows.is_some()).await;
    assert_eq!(
        meters.flows.unwrap().pv_w,
        Some(5_000),
        "the inverter's own figure is not added to its meter's"
    );
}

fn generated(serial: &str, export_wh: u64) -> EnergySample {
    let export = Some(WattHours::new(export_wh));
    EnergySample {
        serial: MeterSerial::new(serial).unwrap(),
        identity: Identity::Read,
        import: None,
        export,
        raw: Vec::new(),
        quantum: WattHours::new(1),
        modulus: None,
        profile_hash: [0; 32],
        round_trip: Duration::ZERO,
        middle: Instant::now(),
    }
}

#[test]
fn a_ratio_is_formed_only_where_there_is_one_inverter_and_one_meter_beside_it() {
    let reached = config(Endpoint::Tcp("127.0.0.1:502".parse().unwrap()), "eastron-sdm630");
    let seen = |meters: &[(&str, MeterRole, u64)]| {
        let panel = MeterPanel::new(live());
        for (name, role, export_wh) in meters {
            let place = panel.add_further(&further(name, *role, reached.clone()), true);
            panel.read_energy(place, &generated(name, *export_wh));
        }
        panel.generation().map(|seen| (seen.inverter.get(), seen.meter.get()))
    };
    let (roof, inverter) = (("roof", MeterRole::Pv, 5_000), ("box", MeterRole::Inverter, 10_000));
    assert_eq!(seen(&[roof]), None);
    assert_eq!(seen(&[roof, inverter]), Some((10_000, 5_000)));
    // The inverter makes what both roofs give: held against the first alone, it would seem to lie twofold.
    assert_eq!(seen(&[roof, inverter, ("garage", MeterRole::Pv, 5_000)]), None);
    assert_eq!(seen(&[roof, inverter, ("box-2", MeterRole::Inverter, 5_000)]), None);
}

#[test]
fn a_slow_line_is_asked_less_often_and_a_fast_one_each_second() {
    let line = |baud| Line { baud, parity: Parity::None, stop_bits: 1 };
    let on =
        |baud| config(Endpoint::Serial { path: "/dev/ttyUSB0".into(), line: line(baud) }, "eastron-sdm630");
    let roofs = |config: &MeterConfig, count| vec![further("roof", MeterRole::Pv, config.clone()); count];
    let every =
        |config: &MeterConfig, meters: usize| poll_every(config, &[config], &roofs(config, meters - 1));
    assert_eq!(every(&on(19_200), 3), Duration::from_secs(1));
    assert_eq!(every(&on(2_400), 1), Duration::from_secs(2), "a whole block takes 0.7 s at 2400 Bd");
    assert!(every(&on(2_400), 3) >= Duration::from_secs(5));
    let tcp = config(Endpoint::Tcp("127.0.0.1:502".parse().unwrap()), "eastron-sdm630");
    assert_eq!(every(&tcp, 3), Duration::from_secs(1));
}

#[test]
fn a_gateway_that_passes_a_line_through_is_asked_as_often_as_the_line_carries_for_all_that_is_read_there() {
    let gateway = Endpoint::RtuOverTcp("192.0.2.1:502".parse().unwrap());
    let meter = config(gateway, "eastron-sdm630");
    let line = meter.profile.bus().line.unwrap();
    let port = config(Endpoint::Serial { path: "/dev/ttyUSB0".into(), line }, "eastron-sdm630");
    for neighbours in 0..8 {
        let every = |config: &MeterConfig| {
            poll_every(config, &[config], &vec![further("roof", MeterRole::Pv, config.clone()); neighbours])
        };
        assert_eq!(every(&meter), every(&port), "{neighbours}");
    }
    let every = |settled: &[&MeterConfig]| {
        poll_every(&meter, settled, &vec![further("roof", MeterRole::Pv, meter.clone()); 3])
    };
    assert!(every(&[&meter]) < every(&[&meter; 4]), "what is settled on is counted, the root meter too");
}

/// A meter that refuses its energy registers and gives its power; how often it was asked for either.
async fn without_energy() -> (Arc<[AtomicU32; 2]>, MeterConfig) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint::Tcp(listener.local_addr().unwrap().into());
    let (asked, config) = (Arc::<[AtomicU32; 2]>::default(), config(endpoint, "eastron-sdm630"));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 12];
            while stream.read_exact(&mut request).await.is_ok() {
                let (function, words) = (request[7], request[11]);
                let is_energy = request[8..10] == [0, 0x48];
                if function == 4 {
                    count[usize::from(!is_energy)].fetch_add(1, Ordering::SeqCst);
                }
                let values = [vec![function, 2 * words], vec![0; 2 * usize::from(words)]].concat();
                let mut body = if is_energy { vec![0x84, 2] } else { values };
                if function == 3 {
                    body[5] = 7;
                } else if !is_energy {
                    // 230 V on each phase, 50 Hz.
                    for (register, value) in [(0, 230_f32), (2, 230.0), (4, 230.0), (70, 50.0)] {
                        let bytes = body.iter_mut().skip(2 + 2 * register).zip(value.to_be_bytes());
                        bytes.for_each(|(byte, of)| *byte = of);
                    }
                }
                let length = u8::try_from(body.len() + 1).unwrap();
                let head = [request[0], request[1], 0, 0, 0, length, request[6]];
                stream.write_all(&[&head[..], &body].concat()).await.unwrap();
            }
        }
    });
    (asked, config)
}

#[tokio::test]
async fn energy_that_is_refused_is_told_beside_living_power_and_not_asked_for_each_time() {
    let (asked, meter) = without_energy().await;
    let panel = MeterPanel::new(live());
    let started = Instant::now();
    start_further(&panel, &[], &[further("roof", MeterRole::Pv, meter)]);
    let powers = || asked[1].load(Ordering::SeqCst);
    let meters = wait(&panel, |meters| powers() >= 4 && meters.items[0].power_w.is_some()).await;
    let energies = asked[0].load(Ordering::SeqCst);
    let allowed = 1 + started.elapsed().as_secs() / ENERGY_AGAIN.as_secs();
    assert!((1..=allowed).contains(&energies.into()), "{energies} of {allowed} at the most");
    let roof = &meters.items[0];
    assert_eq!(roof.state, MeterCondition::Uncertain);
    assert!(roof.detail.contains("refused to read register 0x0048"), "{}", roof.detail);
}

#[tokio::test]
async fn the_root_meter_is_shown_beside_those_of_the_home_and_nothing_of_it_flows_there() {
    let (_root, root) = simulated("9", 0, 50_000).await;
    let (_grid, grid) = simulated("1", 0, 0).await;
    let panel = MeterPanel::new(live());
    let (at_root, at_grid) = (panel.add_root(&root), panel.add_grid(&grid));
    panel.read_live(at_root, &grid_sample(50_000));
    assert_eq!(panel.live.meters().flows, None);
    panel.read_live(at_grid, &grid_sample(300));
    let meters = panel.live.meters();
    assert_eq!((meters.items[0].role.as_str(), meters.items[0].power_w), ("root", Some(50_000)));
    assert!(
        meters.flows_missing.contains("only the meter at its connection point"),
        "{}",
        meters.flows_missing
    );
    panel.lose_power(at_root);
    assert_eq!(panel.live.meters().items[0].power_w, None);
}
