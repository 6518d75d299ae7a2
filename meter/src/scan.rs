//! Finding meters: the bus settings, the units on it, which profile fits each, and its serial number.
//!
//! The order of tries decides how long it takes: the line settings and unit ids that meters leave the factory with come
//! first, and the first good frame ends the search for the line. Questions to absent units are the slow part, so waits are
//! short there; an answer that comes after its wait still names its unit ([`wire`]).

mod identify;
mod models;
mod prober;
pub(crate) mod wire;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use identify::{Fit, FoundUnit};

use self::identify::identify;
use self::prober::{Outcome, Prober};
use self::wire::Question;
use crate::endpoint::{Endpoint, HostPort, Line, Parity};
use crate::error::MeterError;
use crate::profile::Profile;

/// Line settings that meters come with, the most common first (research of their manuals: Eastron 9600 8N1 and 2400 8N1,
/// ABB 19200 8E1, Acrel 1200 to 19200, Carlo Gavazzi 9600 8N1, Schneider 19200 8E1, some Chint 9600 8N2).
pub const LINES: [Line; 10] = [
    line(9_600, Parity::None, 1),
    line(19_200, Parity::Even, 1),
    line(2_400, Parity::None, 1),
    line(9_600, Parity::Even, 1),
    line(19_200, Parity::None, 1),
    line(115_200, Parity::None, 1),
    line(38_400, Parity::None, 1),
    line(4_800, Parity::None, 1),
    line(9_600, Parity::None, 2),
    line(1_200, Parity::None, 1),
];
/// TCP ports of inverters and gateways: Modbus, SolarEdge, and the serial servers of Elfin, Waveshare and USR.
pub const PORTS: [u16; 5] = [502, 1502, 8899, 4196, 20108];

/// Unit ids that serial meters come with, tried on every line first.
const FIRST_SERIAL: [u8; 6] = [1, 2, 3, 10, 17, 100];
/// Unit ids that are tried on every line next.
const NEXT_SERIAL: [u8; 12] = [4, 5, 6, 7, 8, 9, 11, 12, 20, 30, 200, 247];
/// Unit ids on TCP: the device itself, and what inverters call themselves and their meters (`GoodWe` 247, SMA 3, Fronius
/// 200 and 240, Victron 100).
const FIRST_TCP: [u8; 8] = [1, 255, 3, 247, 200, 240, 100, 2];
/// Nobody's unit id: a device that answers to it answers to any.
const DECOY: u8 = 173;

/// Questions that any meter answers, if only with an exception: function and address, two registers.
const QUESTIONS: [(u8, u16); 2] = [(4, 0), (3, 0)];
/// Questions for devices that say nothing where they have no register: voltages of ABB and Schneider, the `SunSpec`
/// marker. Only for a few units, the most likely ones.
const MORE_QUESTIONS: [(u8, u16); 3] = [(3, 0x5B00), (3, 40_000), (3, 0x0BD3)];
const MORE_UNITS: usize = 6;
/// Wait for a unit that is expected, and for one that is not, beyond the time on the line. Meters take 10 to 100 ms.
const WAIT_SERIAL: Duration = Duration::from_millis(200);
const WAIT_SWEEP: Duration = Duration::from_millis(80);
/// Gateways answer for an absent unit after about a second; asking on before would only fill their queue.
const WAIT_TCP: Duration = Duration::from_millis(1_200);
const WAIT_TCP_FIRST: Duration = Duration::from_millis(500);
/// Some devices (Huawei) hear nothing within the first second of a connection.
const CONNECT_PAUSE: Duration = Duration::from_millis(1_200);
/// Wait for an answer of a unit that is there.
const WAIT_THERE: Duration = Duration::from_millis(600);
const WAIT_THERE_TCP: Duration = Duration::from_secs(2);
/// Part of the time that the search for units leaves for telling what they are, in percent.
const IDENTIFY_PERCENT: u32 = 35;

const fn line(baud: u32, parity: Parity, stop_bits: u8) -> Line {
    Line { baud, parity, stop_bits }
}

/// Where to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A serial port of this machine.
    Serial(PathBuf),
    /// A host, on one TCP port or on all of [`PORTS`].
    Network {
        /// Name or address.
        host: String,
        /// TCP port.
        port: Option<u16>,
    },
}

/// What to look for, and how long.
#[derive(Debug, Clone)]
pub struct ScanConfig {
    /// Where.
    pub place: Place,
    /// Line settings of a serial port in the order to try; [`LINES`] unless the user knows more.
    pub lines: Vec<Line>,
    /// Unit ids that may be there.
    pub units: Vec<u8>,
    /// The whole scan takes no longer, apart from the answer it is waiting for.
    pub budget: Duration,
}

impl ScanConfig {
    /// Everything that is usual at `place`, within 55 s.
    #[must_use]
    pub fn new(place: Place) -> Self {
        let units = (1..=247).chain([255]).collect();
        Self { place, lines: LINES.to_vec(), units, budget: Duration::from_secs(55) }
    }
}

/// What a scan is doing, for a person who waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Looking for any unit here.
    Trying(Endpoint),
    /// A unit answered here: the settings are right.
    Answered(Endpoint),
    /// Asking every other unit id.
    Sweeping {
        /// How many.
        units: usize,
    },
    /// Trying every profile on this unit.
    Identifying(u8),
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trying(endpoint) => write!(f, "trying {endpoint}"),
            Self::Answered(endpoint) => write!(f, "a unit answers at {endpoint}"),
            Self::Sweeping { units } => write!(f, "asking {units} further unit ids"),
            Self::Identifying(unit) => write!(f, "finding out what unit {unit} is"),
        }
    }
}

/// What a scan found.
#[derive(Debug, Clone)]
pub struct ScanReport {
    /// The bus that answered; `None` if none did.
    pub endpoint: Option<Endpoint>,
    /// Everything on it.
    pub units: Vec<FoundUnit>,
    /// Unit ids that time did not suffice for.
    pub untried: Vec<u8>,
    /// What else was noticed, in sentences with cause and next step.
    pub notes: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

/// Scans as `config` says, trying `profiles` on every unit found.
///
/// # Errors
/// [`MeterError`] if the port or host cannot be opened. Finding nothing is no error: the report then says why, as far as
/// it was noticed.
pub async fn scan(
    config: &ScanConfig,
    profiles: &[Arc<Profile>],
    progress: impl FnMut(Progress),
) -> Result<ScanReport, MeterError> {
    let started = Instant::now();
    let mut scan = Scan {
        config,
        progress,
        deadline: started + config.budget,
        search_end: started + config.budget / 100 * (100 - IDENTIFY_PERCENT),
        heard_noise: false,
        heard_echo: false,
        closed: 0,
        notes: Vec::new(),
    };
    let mut report = match scan.find_bus().await? {
        Some(prober) => scan.survey(prober, profiles).await,
        None => ScanReport {
            endpoint: None,
            units: Vec::new(),
            untried: Vec::new(),
            notes: Vec::new(),
            took: Duration::ZERO,
        },
    };
    scan.explain(report.endpoint.is_some());
    report.notes = scan.notes;
    report.took = started.elapsed();
    Ok(report)
}

struct Scan<'a, P> {
    config: &'a ScanConfig,
    progress: P,
    deadline: Instant,
    /// From here on nothing new is looked for.
    search_end: Instant,
    heard_noise: bool,
    heard_echo: bool,
    closed: u32,
    notes: Vec<String>,
}

impl<P: FnMut(Progress)> Scan<'_, P> {
    async fn find_bus(&mut self) -> Result<Option<Prober>, MeterError> {
        match &self.config.place {
            Place::Serial(path) => self.find_line(path).await,
            Place::Network { host, port } => {
                let ports = port.map_or(PORTS.to_vec(), |port| vec![port]);
                self.find_port(host, &ports).await
            }
        }
    }

    async fn find_line(&mut self, path: &std::path::Path) -> Result<Option<Prober>, MeterError> {
        let rest: Vec<u8> =
            self.config.units.iter().copied().filter(|unit| !FIRST_SERIAL.contains(unit)).collect();
        let few = self.config.units.len() <= NEXT_SERIAL.len();
        let next = if few { rest } else { self.wanted(&NEXT_SERIAL) };
        let first = self.wanted(&FIRST_SERIAL);
        let rounds = [(first.clone(), &QUESTIONS[..]), (next, &QUESTIONS[..]), (first, &MORE_QUESTIONS[..])];
        for (units, questions) in rounds {
            for line in &self.config.lines {
                if units.is_empty() || Instant::now() >= self.search_end {
                    break;
                }
                let endpoint = Endpoint::Serial { path: path.to_owned(), line: *line };
                let mut prober = self.open(&endpoint).await?;
                if self.any_answers(&mut prober, &units, questions, WAIT_SERIAL).await {
                    return Ok(Some(prober));
                }
            }
        }
        Ok(None)
    }

    async fn find_port(&mut self, host: &str, ports: &[u16]) -> Result<Option<Prober>, MeterError> {
        let mut failed = None;
        let mut opened = false;
        for port in ports {
            let at = HostPort { host: host.to_owned(), port: *port };
            match self.find_framing(&at).await {
                Ok(Some(prober)) => return Ok(Some(prober)),
                Ok(None) => opened = true,
                // The first port is the one to speak about: the others are guesses.
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        match failed {
            Some(error) if !opened => Err(error),
            _ => Ok(None),
        }
    }

    async fn find_framing(&mut self, at: &HostPort) -> Result<Option<Prober>, MeterError> {
        let first = self.wanted(&FIRST_TCP);
        let mut prober = self.open(&Endpoint::Tcp(at.clone())).await?;
        if self.any_answers(&mut prober, &first, &[(3, 0)], WAIT_TCP_FIRST).await {
            return Ok(Some(prober));
        }
        drop(prober);
        let mut prober = self.open(&Endpoint::RtuOverTcp(at.clone())).await?;
        let units = self.wanted(&FIRST_SERIAL);
        for questions in [&QUESTIONS[..], &MORE_QUESTIONS[..]] {
            if self.any_answers(&mut prober, &units, questions, WAIT_SERIAL).await {
                return Ok(Some(prober));
            }
        }
        drop(prober);
        let mut prober = self.open(&Endpoint::Tcp(at.clone())).await?;
        tokio::time::sleep(CONNECT_PAUSE).await;
        let first: Vec<u8> = first.into_iter().take(3).collect();
        let answers = self.any_answers(&mut prober, &first, &[(3, 0), (4, 0)], WAIT_THERE_TCP).await;
        Ok(answers.then_some(prober))
    }

    async fn open(&mut self, endpoint: &Endpoint) -> Result<Prober, MeterError> {
        (self.progress)(Progress::Trying(endpoint.clone()));
        Prober::open(endpoint).await
    }

    /// Those of `units` that are to be looked for, in this order.
    fn wanted(&self, units: &[u8]) -> Vec<u8> {
        units.iter().copied().filter(|unit| self.config.units.contains(unit)).collect()
    }

    /// True as soon as any unit answers.
    async fn any_answers(
        &mut self,
        prober: &mut Prober,
        units: &[u8],
        questions: &[(u8, u16)],
        wait: Duration,
    ) -> bool {
        for unit in units {
            for question in questions {
                if Instant::now() >= self.search_end {
                    return false;
                }
                self.probe(prober, *unit, *question, wait).await;
                if !prober.heard().is_empty() {
                    (self.progress)(Progress::Answered(prober.endpoint().clone()));
                    return true;
                }
            }
        }
        false
    }

    async fn probe(&mut self, prober: &mut Prober, unit: u8, (function, address): (u8, u16), wait: Duration) {
        let question = Question { unit, function, address, count: 2 };
        match prober.ask(question, wait).await {
            Outcome::Noise => {
                self.heard_noise = true;
                prober.settle().await;
            }
            Outcome::Closed => {
                self.closed += 1;
                prober.reopen().await;
            }
            Outcome::Words(_) | Outcome::Exception(_) | Outcome::Silent | Outcome::Echo => {}
        }
        self.heard_echo |= prober.echoes();
    }

    /// Every unit on the bus that was found, and what it is.
    async fn survey(&mut self, mut prober: Prober, profiles: &[Arc<Profile>]) -> ScanReport {
        let untried =
            if self.answers_to_any(&mut prober).await { Vec::new() } else { self.sweep(&mut prober).await };
        let wait = if matches!(prober.endpoint(), Endpoint::Tcp(_)) { WAIT_THERE_TCP } else { WAIT_THERE };
        let mut units = Vec::new();
        for unit in prober.heard().clone() {
            if unit != DECOY || self.config.units == [DECOY] {
                (self.progress)(Progress::Identifying(unit));
                units.extend(identify(&mut prober, unit, profiles, wait, self.deadline).await);
            }
        }
        let endpoint = Some(prober.endpoint().clone());
        ScanReport { endpoint, units, untried, notes: Vec::new(), took: Duration::ZERO }
    }

    /// True if the device takes any unit id for its own: then it is one device, not 247.
    async fn answers_to_any(&mut self, prober: &mut Prober) -> bool {
        if prober.heard().contains(&DECOY) {
            return false;
        }
        let wait = if matches!(prober.endpoint(), Endpoint::Tcp(_)) { WAIT_TCP } else { WAIT_SERIAL };
        self.probe(prober, DECOY, QUESTIONS[1], wait).await;
        let any = prober.heard().contains(&DECOY);
        if any {
            prober.forget(DECOY);
            self.notes.push(
                "this device answers to every unit id; the first that answered is shown, and any other works too"
                    .to_owned(),
            );
        }
        any
    }

    /// Asks every unit that is left; those that time did not suffice for come back.
    async fn sweep(&mut self, prober: &mut Prober) -> Vec<u8> {
        let tcp = matches!(prober.endpoint(), Endpoint::Tcp(_));
        let first: &[u8] = if tcp { &FIRST_TCP } else { &FIRST_SERIAL };
        let rest = self.config.units.iter().copied().filter(|unit| !first.contains(unit));
        let units: Vec<u8> = self.wanted(first).into_iter().chain(rest).collect();
        (self.progress)(Progress::Sweeping { units: units.len() - prober.heard().len().min(units.len()) });
        let mut untried = Vec::new();
        for unit in &units {
            if prober.heard().contains(unit) {
                continue;
            }
            if Instant::now() >= self.search_end {
                untried.push(*unit);
            } else if tcp {
                self.probe(prober, *unit, QUESTIONS[1], WAIT_TCP).await;
            } else if first.contains(unit) {
                self.probe(prober, *unit, QUESTIONS[0], WAIT_SERIAL).await;
                self.probe(prober, *unit, QUESTIONS[1], WAIT_SERIAL).await;
            } else {
                self.probe(prober, *unit, QUESTIONS[0], WAIT_SWEEP).await;
            }
        }
        prober.listen(WAIT_SERIAL).await;
        self.ask_more(prober, &units).await;
        untried
    }

    /// Asks the most likely units that were not heard for registers that some of them must have.
    async fn ask_more(&mut self, prober: &mut Prober, units: &[u8]) {
        let silent = units.iter().filter(|unit| !prober.heard().contains(unit));
        let silent: Vec<u8> = silent.copied().take(MORE_UNITS).collect();
        for unit in silent {
            for question in MORE_QUESTIONS {
                if Instant::now() < self.search_end && !prober.heard().contains(&unit) {
                    self.probe(prober, unit, question, WAIT_SERIAL).await;
                }
            }
        }
    }

    /// What was noticed, and what to do about it.
    fn explain(&mut self, found: bool) {
        if self.heard_echo {
            self.notes.push(
                "our own questions came back: the RS485 adapter hears what it sends; switch its echo off (or use an \
                 adapter with automatic direction control), for meters cannot be read through it reliably"
                    .to_owned(),
            );
        }
        if !found && self.heard_noise {
            self.notes.push(
                "bytes came that are no Modbus frame: another baud rate or parity than those tried (see --baud), wires \
                 A and B swapped, or a second master on the bus"
                    .to_owned(),
            );
        }
        if !found && self.closed > 0 {
            self.notes.push(
                "the other side closed the connection: another program may hold the only connection it allows; stop \
                 that program, or restart the device"
                    .to_owned(),
            );
        }
        if !found && !self.heard_noise && !self.heard_echo && self.closed == 0 {
            self.notes.push(match self.config.place {
                Place::Serial(_) => "nothing answered: check that the meter has power, that A and B are not swapped, \
                     that Modbus is switched on in its menu, and its baud rate and unit id there (then say them with \
                     --baud and --units)"
                    .to_owned(),
                Place::Network { .. } => "nothing answered as Modbus: switch Modbus TCP on in the device, and check its \
                     port and unit id in its menu (then say them with --address HOST:PORT and --units)"
                    .to_owned(),
            });
        }
    }
}
