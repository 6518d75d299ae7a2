//! The soak: our client against servers that nobody here wrote and that misbehave, are killed and frozen. Every value it
//! gives is compared with what the server had between question and answer.

use std::time::{Duration, Instant};

use anyhow::ensure;
use tokio::task::{JoinSet, block_in_place};
use tokio::time::{sleep, timeout};

use crate::check::{self, Asked};
use crate::client::Client;
use crate::lot::Lot;
use crate::naive;
use crate::peers::{Clock, FaultServer, Libmodbus, Place, Running, Wire};
use crate::tally::{Shared, Tally};

/// Longest wait of one caller.
const DEADLINE: Duration = Duration::from_secs(2);
/// Pause of a reader after a value, and after none.
pub const PACE: Duration = Duration::from_millis(10);
const PACE_AFTER_ERROR: Duration = Duration::from_millis(50);
/// In this time a client without guards reads wrong values for certain (about five a second were seen).
const TEETH_SURE: Duration = Duration::from_secs(10);
/// Registers of the fault server whose values name their address: up to here.
pub const PLAIN_END: u64 = 0x4F00;
/// Time for a right value between the traps of libmodbus' server, each of which costs a time-out and a drained line.
const LIBMODBUS_MIN: Duration = Duration::from_secs(4);
/// The longest outage is a quarter of the time for outages, within these.
const SHORT_OUTAGE: Duration = Duration::from_secs(2);
const LONG_OUTAGE: Duration = Duration::from_secs(60);
/// A device that is back and not read after this has not been recovered.
const RECOVERY_GIVEN_UP: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Transport {
    Tcp,
    Rtu,
    RtuTcp,
}

impl Transport {
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Rtu, Self::RtuTcp];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Rtu => "rtu",
            Self::RtuTcp => "rtu-tcp",
        }
    }
}

/// One transport's share of the soak.
#[derive(Debug)]
pub struct Soak<'a> {
    pub transport: Transport,
    pub length: Duration,
    pub seed: u64,
    pub folder: &'a std::path::Path,
    pub libmodbus: &'a Libmodbus,
}

impl Soak<'_> {
    /// Faults for more than half of the time, then libmodbus' server, then outages.
    pub async fn run(&self) -> anyhow::Result<Tally> {
        let mut all = Tally::default();
        let part = |share: f64| self.length.mul_f64(share);
        match self.transport {
            Transport::Tcp => {
                all.add(&self.faults(false, part(0.6)).await?);
                all.add(&self.libmodbus(part(0.1).max(LIBMODBUS_MIN)).await?);
            }
            Transport::Rtu => {
                all.naive = Some(self.teeth(part(0.1)).await?);
                all.add(&self.faults(false, part(0.5)).await?);
                all.add(&self.libmodbus(part(0.1).max(LIBMODBUS_MIN)).await?);
            }
            // Answers that belong to their connection, then a gateway that hands them to the next one.
            Transport::RtuTcp => {
                all.naive = Some(self.teeth(part(0.1)).await?);
                all.add(&self.faults(false, part(0.3)).await?);
                all.add(&self.faults(true, part(0.3)).await?);
            }
        }
        all.add(&self.outages(part(0.3)).await?);
        Ok(all)
    }

    /// What a client without guards reads from the same server.
    async fn teeth(&self, length: Duration) -> anyhow::Result<(u64, u64)> {
        let (rig, server) = block_in_place(|| Rig::with_server(self, false, 1.0))?;
        let naive = naive::read(&rig.place(&server), length, self.seed).await?;
        eprintln!("  without guards: {} right, {} wrong", naive.right, naive.wrong);
        let long = length >= TEETH_SURE;
        ensure!(
            !long || naive.wrong > 0,
            "the servers are harmless: a client without guards read no wrong value"
        );
        Ok((naive.right, naive.wrong))
    }

    /// A server that makes faults by plan and is frozen for a moment now and then.
    async fn faults(&self, gateway: bool, length: Duration) -> anyhow::Result<Tally> {
        let tally = Shared::default();
        let (rig, mut server) = block_in_place(|| Rig::with_server(self, gateway, 1.0))?;
        let readers = readers(&Client::at(&rig.place(&server)), server.clock, self.seed, &tally);
        let (until, mut lot) = (Instant::now() + length, Lot::new(self.seed));
        while Instant::now() < until {
            sleep(lot.pause(1_000, Duration::from_secs(5)).min(until - Instant::now())).await;
            server.running.signal("STOP")?;
            sleep(lot.pause(100, Duration::from_millis(1_200))).await;
            server.running.signal("CONT")?;
        }
        drop(readers);
        let faults = block_in_place(|| server.faults())?;
        tally.with(|tally| {
            for (kind, count) in faults.as_object().into_iter().flatten() {
                *tally.faults.entry(kind.clone()).or_default() += count.as_u64().unwrap_or(0);
            }
        });
        tally.of(if gateway { "faults behind a gateway" } else { "faults" })
    }

    /// libmodbus' unit-test server, which makes its faults by register and ends with every connection.
    async fn libmodbus(&self, length: Duration) -> anyhow::Result<Tally> {
        let tally = Shared::default();
        let rig = block_in_place(|| Rig::empty(self))?;
        let place = rig.place_at(crate::peers::free_port()?);
        let client = Client::at(&place);
        let (until, mut lot) = (Instant::now() + length, Lot::new(self.seed ^ 0x17));
        let mut server = self.libmodbus.start(&place)?;
        while Instant::now() < until {
            if server.has_ended() {
                server = self.libmodbus.start(&place)?;
                sleep(Duration::from_millis(20)).await;
            }
            let (address, count) = lot.one_of(&LIBMODBUS_READS);
            match client.raw(17, 3, address, count).await {
                Ok(words) => _ = tally.value(check::libmodbus(address, count, &words)),
                Err(error) => {
                    tally.absent(&error);
                    sleep(PACE_AFTER_ERROR).await;
                }
            }
        }
        tally.of("libmodbus")
    }

    /// A good server that is killed or frozen at random moments; how soon it is read after its return.
    async fn outages(&self, length: Duration) -> anyhow::Result<Tally> {
        let tally = Shared::default();
        let (mut rig, mut server) = block_in_place(|| Rig::with_server(self, false, 0.0))?;
        let place = rig.place(&server);
        let client = Client::at(&place);
        let mut readers = readers(&client, server.clock, self.seed, &tally);
        let (until, mut lot) = (Instant::now() + length, Lot::new(self.seed ^ 0x0FF));
        let longest = (length / 4).clamp(SHORT_OUTAGE, LONG_OUTAGE);
        for round in 0.. {
            sleep(lot.pause(100, Duration::from_secs(1))).await;
            let away = lot.pause(300, longest);
            let outage = ["killed", "frozen", "unplugged"][round % rig.outages()];
            match outage {
                "frozen" => {
                    server.running.signal("STOP")?;
                    sleep(away).await;
                    server.running.signal("CONT")?;
                }
                _ => {
                    drop(server);
                    if outage == "unplugged" {
                        rig.unplug();
                    }
                    sleep(away).await;
                    drop(readers);
                    server = block_in_place(|| rig.server_at(self, &place))?;
                    readers = self::readers(&client, server.clock, self.seed + round as u64, &tally);
                }
            }
            recover(&client, server.clock, outage, &tally).await?;
            if Instant::now() >= until && round + 1 >= rig.outages() {
                break;
            }
        }
        tally.of("outages")
    }
}

/// Reads of the unit-test server: plain ones of several lengths, and every trap. `UT_REGISTERS_…` in unit-test.h.
const LIBMODBUS_READS: [(u16, u16); 12] = [
    (0x160, 3),
    (0x160, 4),
    (0x161, 3),
    (0x164, 3),
    (0x168, 1),
    (0x160, 16),
    // Always one register short.
    (0x160, 2),
    // Busy, another transaction or unit, half a second late, byte by byte.
    (0x170, 1),
    (0x171, 1),
    (0x172, 3),
    (0x172, 1),
    (0x173, 1),
];

/// What stands between client and server.
struct Rig {
    transport: Transport,
    folder: std::path::PathBuf,
    wire: Option<Wire>,
    gateway: Option<(Running, Place)>,
}

impl Rig {
    fn empty(soak: &Soak<'_>) -> anyhow::Result<Self> {
        let wire = if soak.transport == Transport::Rtu { Some(Wire::lay(soak.folder)?) } else { None };
        Ok(Self { transport: soak.transport, folder: soak.folder.to_owned(), wire, gateway: None })
    }

    fn with_server(soak: &Soak<'_>, gateway: bool, faults: f64) -> anyhow::Result<(Self, FaultServer)> {
        let mut rig = Self::empty(soak)?;
        if gateway {
            let wire = Wire::lay(soak.folder)?;
            rig.gateway = Some(wire.gateway()?);
            rig.wire = Some(wire);
        }
        let place = rig.wire.as_ref().map_or_else(|| rig.place_at(0), Wire::place);
        let server = FaultServer::start(&place, soak.seed, faults)?;
        Ok((rig, server))
    }

    /// Starts the good server where it was.
    fn server_at(&mut self, soak: &Soak<'_>, place: &Place) -> anyhow::Result<FaultServer> {
        if self.transport == Transport::Rtu && self.wire.as_mut().is_none_or(Wire::is_cut) {
            self.wire = Some(Wire::lay(&self.folder)?);
        }
        FaultServer::start(place, soak.seed, 0.0)
    }

    /// Where the client finds `server`.
    fn place(&self, server: &FaultServer) -> Place {
        self.gateway.as_ref().map_or_else(|| self.place_at(server.port), |(_, place)| place.clone())
    }

    fn place_at(&self, port: u16) -> Place {
        match (self.transport, &self.wire) {
            (Transport::Rtu, Some(wire)) => wire.place(),
            (Transport::RtuTcp, _) => Place::RtuTcp(port),
            _ => Place::Tcp(port),
        }
    }

    /// How many kinds of outage there are: only an adapter can be unplugged.
    const fn outages(&self) -> usize {
        if self.wire.is_some() { 3 } else { 2 }
    }

    fn unplug(&mut self) {
        self.wire = None;
    }
}

/// Reads live values until a right one comes.
async fn recover(client: &Client, clock: Clock, outage: &'static str, tally: &Shared) -> anyhow::Result<()> {
    let back = Instant::now();
    while !read_live(client, 1, clock, tally).await {
        ensure!(
            back.elapsed() < RECOVERY_GIVEN_UP,
            "{outage} server not read again after {RECOVERY_GIVEN_UP:?}"
        );
        sleep(PACE_AFTER_ERROR).await;
    }
    tally.recovered(outage, back.elapsed());
    Ok(())
}

/// Two meters and one reader of plain registers, until dropped.
fn readers(client: &Client, clock: Clock, seed: u64, tally: &Shared) -> JoinSet<()> {
    let mut readers = JoinSet::new();
    for unit in [1, 2] {
        readers.spawn(read_meter(
            client.clone(),
            unit,
            clock,
            Lot::new(seed + u64::from(unit)),
            tally.clone(),
        ));
    }
    readers.spawn(read_plain(client.clone(), Lot::new(seed + 3), tally.clone()));
    readers
}

async fn read_meter(client: Client, unit: u8, clock: Clock, mut lot: Lot, tally: Shared) {
    loop {
        let had = if lot.below(2) == 0 {
            read_live(&client, unit, clock, &tally).await
        } else {
            read_energy(&client, unit, clock, &tally).await
        };
        sleep(if had { PACE } else { PACE_AFTER_ERROR }).await;
    }
}

async fn read_live(client: &Client, unit: u8, clock: Clock, tally: &Shared) -> bool {
    let from = Instant::now();
    match client.meter(unit).read_live(DEADLINE).await {
        Ok(sample) => tally.value(check::live(unit, &sample, Asked { clock, from, to: Instant::now() })),
        Err(error) => {
            tally.absent(&error);
            false
        }
    }
}

async fn read_energy(client: &Client, unit: u8, clock: Clock, tally: &Shared) -> bool {
    let from = Instant::now();
    match client.meter(unit).read_energy(DEADLINE).await {
        Ok(sample) => tally.value(check::energy(unit, &sample, Asked { clock, from, to: Instant::now() })),
        Err(error) => {
            tally.absent(&error);
            false
        }
    }
}

/// Reads that never ask for the same registers twice in a row, most of them of equal length: an old answer is a wrong one.
async fn read_plain(client: Client, mut lot: Lot, tally: Shared) {
    loop {
        let (unit, address) = (u8::from(lot.below(2) == 0) + 1, lot.below(PLAIN_END));
        let count = if lot.below(4) == 0 { lot.between(1, 60) } else { 6 };
        let (address, count) = (small(address), small(count));
        match timeout(DEADLINE * 2, client.raw(unit, 3, address, count)).await {
            Ok(Ok(words)) => {
                tally.value(check::plain(unit, address, count, &words));
                sleep(PACE).await;
            }
            Ok(Err(error)) => {
                tally.absent(&error);
                sleep(PACE_AFTER_ERROR).await;
            }
            Err(_) => _ = tally.value(Err("a read did not end with its deadline".to_owned())),
        }
    }
}

/// Register numbers are drawn below 65 536.
pub fn small(number: u64) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}
