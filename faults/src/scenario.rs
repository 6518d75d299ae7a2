//! What goes wrong, one thing after the other, and what must happen then.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use crate::load::Load;
use crate::look;
use crate::random::Random;
use crate::shell::run;
use crate::street::{Home, SPEED, Street, tail};
use crate::wire::Rules;

/// A block that was decided before a fault may be stored so long after it.
const IN_FLIGHT: Duration = Duration::from_secs(4);
/// A chain that should go on is waited for this long, however slow the machine.
const PATIENCE: Duration = Duration::from_secs(240);
/// How often heights are looked at.
const LOOK: Duration = Duration::from_millis(100);
/// A node whose disk is full has stopped within this, if it stops.
const FULL_PATIENCE: Duration = Duration::from_secs(60);
/// A node that has said why it ends is gone within this.
const ENDING: Duration = Duration::from_secs(3);
/// Size of a small disk. A few minutes of a chain fit many times.
const DISK: &str = "48m";

/// One thing that goes wrong.
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What happens, in one sentence.
    pub about: &'static str,
    play: fn(&mut Trial<'_>) -> anyhow::Result<()>,
}

/// Everything that can go wrong.
pub const ALL: [Scenario; 16] = [
    Scenario { name: "calm", about: "50 ms each way, 1 % loss, and nothing else", play: calm },
    Scenario { name: "halves", about: "four and three; neither is enough", play: halves },
    Scenario { name: "thirds", about: "three, three and one", play: thirds },
    Scenario { name: "islands", about: "every node alone", play: islands },
    Scenario { name: "one-way", about: "three nodes hear nobody, and everybody hears them", play: one_way },
    Scenario {
        name: "rough",
        about: "10 % loss, 80 to 240 ms each way, packets overtake one another",
        play: rough,
    },
    Scenario { name: "kill-two", about: "SIGKILL of two: the other five go on", play: kill_two },
    Scenario {
        name: "kill-three",
        about: "SIGKILL of three at once: nothing is final until they are back",
        play: kill_three,
    },
    Scenario { name: "power-cut", about: "SIGKILL of all at once", play: power_cut },
    Scenario { name: "stop-two", about: "SIGSTOP of two: the other five go on", play: stop_two },
    Scenario { name: "stop-three", about: "SIGSTOP of three, SIGCONT after half a minute", play: stop_three },
    Scenario {
        name: "clock-jumps",
        about: "two clocks leap five minutes, one ahead and one back",
        play: clock_jumps,
    },
    Scenario {
        name: "clocks-apart",
        about: "three clocks are wrong by 20 s ahead, 20 s behind, 5 min ahead",
        play: clocks_apart,
    },
    Scenario {
        name: "disk-full",
        about: "one disk is full; freed after the node has said so",
        play: disk_full,
    },
    Scenario { name: "disks-full", about: "three disks are full at once", play: disks_full },
    Scenario {
        name: "disk-slow",
        about: "every write that is waited for takes 400 ms longer at three nodes",
        play: disk_slow,
    },
];

/// Those of the short run: one partition, one crash of too many, one full disk.
pub const SHORT: [&str; 3] = ["halves", "kill-three", "disk-full"];

/// The scenario of this name.
///
/// # Errors
/// If there is none; says which there are.
pub fn named(name: &str) -> anyhow::Result<&'static Scenario> {
    match ALL.iter().find(|scenario| scenario.name == name) {
        Some(scenario) => Ok(scenario),
        None => bail!("there is no scenario {name:?}; there are {}", ALL.map(|it| it.name).join(", ")),
    }
}

/// What came of one scenario.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Outcome {
    /// Its name.
    pub name: String,
    /// How long things were wrong, ms.
    pub fault_ms: u64,
    /// Blocks that became final meanwhile, at the node that got furthest.
    pub blocks_meanwhile: u64,
    /// From the end of the fault to the first new block anywhere, ms.
    pub resumed_ms: u64,
    /// From the end of the fault until every node had that block, ms.
    pub level_ms: u64,
    /// Orders acknowledged since the run began.
    pub acknowledged: usize,
    /// What there is to know besides.
    pub notes: Vec<String>,
}

/// A street in which something is about to go wrong.
pub struct Trial<'a> {
    street: &'a mut Street,
    load: &'a Load,
    random: &'a mut Random,
    /// A chain must have gone on within this.
    resume_within: Duration,
    outcome: Outcome,
    wrong_since: Instant,
    height_before: u64,
}

/// What must happen while something is wrong.
#[derive(Clone, Copy, PartialEq)]
enum Chain {
    GoesOn,
    Stands,
    /// Either; where too many are hindered but none is cut off.
    MayStand,
}

/// Lets one scenario happen.
///
/// # Errors
/// What should have happened and did not.
pub fn play(
    scenario: &Scenario,
    (street, load): (&mut Street, &Load),
    random: &mut Random,
    resume_within: Duration,
) -> anyhow::Result<Outcome> {
    let height_before = top(street);
    let outcome = Outcome { name: scenario.name.to_owned(), ..Outcome::default() };
    let wrong_since = Instant::now();
    let mut trial = Trial { street, load, random, resume_within, outcome, wrong_since, height_before };
    (scenario.play)(&mut trial)?;
    trial.outcome.acknowledged = trial.load.acknowledged();
    Ok(trial.outcome)
}

/// Waits until all nodes run and have so many blocks.
///
/// # Errors
/// If that takes too long.
pub fn wait_for_blocks(street: &Street, blocks: u64) -> anyhow::Result<()> {
    let until = Instant::now() + PATIENCE;
    while street.heights().iter().any(|height| *height < blocks) {
        ensure!(
            Instant::now() < until,
            "no {blocks} blocks within {PATIENCE:?}: heights {:?}",
            street.heights()
        );
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// Waits until the first node has settled so many intervals more.
///
/// # Errors
/// If that takes too long.
pub fn wait_until_settling(street: &Street, intervals: u64) -> anyhow::Result<()> {
    let folder = &street.house(1)?.folder;
    let enough = look::settled(folder) + intervals;
    let until = Instant::now() + PATIENCE;
    while look::settled(folder) < enough {
        ensure!(Instant::now() < until, "{} intervals are settled, no more", look::settled(folder));
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// Waits until all nodes have the same last block.
///
/// # Errors
/// If that takes too long.
pub fn wait_until_level(street: &Street) -> anyhow::Result<u64> {
    let until = Instant::now() + PATIENCE;
    loop {
        let heights = street.heights();
        let (low, high) = (heights.iter().min().copied(), heights.iter().max().copied());
        if low == high {
            return Ok(high.unwrap_or(0));
        }
        ensure!(Instant::now() < until, "nodes are not level after {PATIENCE:?}: {heights:?}");
        std::thread::sleep(LOOK);
    }
}

fn top(street: &Street) -> u64 {
    street.heights().into_iter().max().unwrap_or(0)
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Trial<'_> {
    fn rules(&self, rules: Rules) {
        self.street.lan.wire().set(rules);
    }

    fn some(&mut self, count: usize) -> Vec<Home> {
        let homes = self.random.some_of(count, self.street.lan.nodes());
        self.note(format!("nodes {homes:?}"));
        homes
    }

    fn note(&mut self, text: String) {
        self.outcome.notes.push(text);
    }

    /// Things are wrong from now on.
    fn begins(&mut self) {
        self.height_before = top(self.street);
        self.wrong_since = Instant::now();
    }

    /// Lets time pass while things are wrong, and looks whether the chain does what it must.
    fn meanwhile(&mut self, seconds: u64, chain: Chain) -> anyhow::Result<()> {
        std::thread::sleep(IN_FLIGHT);
        let from = top(self.street);
        let until = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < until {
            std::thread::sleep(LOOK);
            let now = top(self.street);
            ensure!(
                chain != Chain::Stands || now == from,
                "a block was decided by too few: height {now} after {from}"
            );
        }
        let patient = Instant::now() + PATIENCE;
        while chain == Chain::GoesOn && top(self.street) == from {
            ensure!(Instant::now() < patient, "the chain stands at {from}, and enough delegates are there");
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Everything is right again from now on: the chain must go on, and everybody catch up.
    fn healed(&mut self) -> anyhow::Result<()> {
        let healed = Instant::now();
        let height = top(self.street);
        self.outcome.fault_ms = ms(self.wrong_since.elapsed());
        self.outcome.blocks_meanwhile = height.saturating_sub(self.height_before);
        self.outcome.resumed_ms = self.wait_for(healed, |heights| heights.iter().any(|it| *it > height))?;
        self.outcome.level_ms = self.wait_for(healed, |heights| heights.iter().all(|it| *it > height))?;
        let late = Duration::from_millis(self.outcome.level_ms);
        ensure!(late <= self.resume_within, "the chain went on {late:?} after everything was right again");
        Ok(())
    }

    fn wait_for(&self, since: Instant, holds: impl Fn(&[u64]) -> bool) -> anyhow::Result<u64> {
        loop {
            let heights = self.street.heights();
            if holds(&heights) {
                return Ok(ms(since.elapsed()));
            }
            ensure!(
                since.elapsed() < PATIENCE,
                "the chain does not go on within {PATIENCE:?}: heights {heights:?}"
            );
            std::thread::sleep(LOOK);
        }
    }

    fn parted(&mut self, groups: &[&[Home]], seconds: u64) -> anyhow::Result<()> {
        self.begins();
        self.rules(Rules::parted(groups, self.street.lan.nodes()));
        self.meanwhile(seconds, Chain::Stands)?;
        self.rules(Rules::usual());
        self.healed()
    }

    fn killed(&mut self, count: usize, seconds: u64, chain: Chain) -> anyhow::Result<()> {
        let homes = self.some(count);
        self.begins();
        for home in &homes {
            self.street.kill(*home)?;
        }
        self.meanwhile(seconds, chain)?;
        for home in &homes {
            self.street.start(*home)?;
        }
        self.healed()
    }

    fn stopped(&mut self, count: usize, seconds: u64, chain: Chain) -> anyhow::Result<()> {
        let homes = self.some(count);
        self.begins();
        for home in &homes {
            self.street.signal(*home, "STOP")?;
        }
        self.meanwhile(seconds, chain)?;
        for home in &homes {
            self.street.signal(*home, "CONT")?;
        }
        self.healed()
    }

    fn clocks(&mut self, off_by: &[i64], seconds: u64, chain: Chain) -> anyhow::Result<()> {
        let homes = self.some(off_by.len());
        self.begins();
        for (home, off_by) in homes.iter().zip(off_by) {
            self.street.house(*home)?.orders.shift_clock(*off_by)?;
        }
        self.check_clocks(&homes, off_by)?;
        self.meanwhile(seconds, chain)?;
        for home in &homes {
            self.street.house(*home)?.orders.shift_clock(0)?;
        }
        self.healed()
    }

    /// The nodes really show the time that they were told.
    fn check_clocks(&mut self, homes: &[Home], off_by: &[i64]) -> anyhow::Result<()> {
        let right = self.street.homes().find(|home| !homes.contains(home)).context("no clock is right")?;
        for (home, off_by) in homes.iter().zip(off_by) {
            let (wrong, right) = (self.street.market_ms(*home)?, self.street.market_ms(right)?);
            let seconds = (wrong - right) / (1000 * i64::from(SPEED));
            ensure!(
                (seconds - off_by).abs() <= 10,
                "the clock of h{home} is off by {seconds} s, not {off_by}"
            );
        }
        self.note(format!("clocks off by {off_by:?} s"));
        Ok(())
    }

    fn full(&mut self, count: usize, chain: Chain) -> anyhow::Result<()> {
        let homes = self.some(count);
        let mut disks = Vec::new();
        for home in &homes {
            disks.push(self.onto_small_disk(*home)?);
        }
        self.healed()?;
        self.begins();
        for disk in &disks {
            disk.fill()?;
        }
        for home in &homes {
            self.wait_until_full(*home)?;
            // As whatever looks after the process would.
            self.start_if_ended(*home)?;
        }
        self.meanwhile(10, chain)?;
        for disk in &disks {
            disk.free()?;
        }
        for home in &homes {
            self.start_if_ended(*home)?;
        }
        self.healed()?;
        for (home, disk) in homes.iter().zip(disks) {
            self.off_small_disk(*home, disk)?;
        }
        Ok(())
    }

    /// Moves a node's data folder to a disk of [`DISK`].
    fn onto_small_disk(&mut self, home: Home) -> anyhow::Result<SmallDisk> {
        self.end_cleanly(home)?;
        let disk = SmallDisk::mount(&self.street.house(home)?.folder)?;
        self.street.start(home)?;
        Ok(disk)
    }

    fn off_small_disk(&mut self, home: Home, disk: SmallDisk) -> anyhow::Result<()> {
        self.end_cleanly(home)?;
        disk.unmount()?;
        self.street.start(home)
    }

    fn end_cleanly(&mut self, home: Home) -> anyhow::Result<()> {
        self.street.signal(home, "TERM")?;
        let until = Instant::now() + FULL_PATIENCE;
        while self.street.ended(home)?.is_none() {
            ensure!(Instant::now() < until, "h{home} did not stop");
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Starts a node that has ended, or does so within a moment.
    fn start_if_ended(&mut self, home: Home) -> anyhow::Result<()> {
        std::thread::sleep(ENDING);
        if self.street.runs(home) && self.street.ended(home)?.is_none() {
            return Ok(());
        }
        self.street.start(home)
    }

    /// A node whose disk is full says so, whether it ends or waits.
    fn wait_until_full(&mut self, home: Home) -> anyhow::Result<()> {
        let until = Instant::now() + FULL_PATIENCE;
        loop {
            let said = self.street.log(home)?.lines().rev().find(|line| says_full(line)).map(str::to_owned);
            if let Some(status) = self.street.ended(home)? {
                let Some(said) = said else {
                    bail!(
                        "h{home} ended with {status} and does not say why:\n{}",
                        tail(&self.street.log(home)?)
                    );
                };
                self.note(format!("h{home} ended with {status}: {}", shortened(&said)));
                return Ok(());
            }
            if let Some(said) = said {
                self.note(format!("h{home} waits: {}", shortened(&said)));
                return Ok(());
            }
            ensure!(Instant::now() < until, "h{home} does not notice that its disk is full");
            std::thread::sleep(LOOK);
        }
    }
}

/// What SQLite and the system call a full disk.
fn says_full(line: &str) -> bool {
    let line = line.to_lowercase();
    line.contains("disk is full") || line.contains("no space left") || line.contains("disk full")
}

/// A line of a log without the time before it.
fn shortened(line: &str) -> String {
    let text = line.split_once(' ').map_or(line, |(_, rest)| rest).trim();
    text.chars().filter(|it| !it.is_control()).take(240).collect()
}

/// A tmpfs in place of a data folder.
struct SmallDisk {
    folder: PathBuf,
    beside: PathBuf,
    mounted: bool,
}

impl SmallDisk {
    fn mount(folder: &Path) -> anyhow::Result<Self> {
        let beside = folder.with_extension("before");
        fs::rename(folder, &beside)?;
        fs::create_dir(folder)?;
        let disk = Self { folder: folder.to_owned(), beside, mounted: true };
        let size = format!("size={DISK},mode=0700");
        run(
            "mount",
            &["-t".into(), "tmpfs".into(), "-o".into(), size.into(), "tmpfs".into(), disk.folder.clone()],
        )?;
        copy(&disk.beside, &disk.folder)?;
        Ok(disk)
    }

    fn fill(&self) -> anyhow::Result<()> {
        use std::io::Write as _;
        let mut file = fs::File::create(self.folder.join("fill"))?;
        for size in [1 << 20, 1 << 12, 1] {
            let block = vec![7; size];
            while file.write_all(&block).is_ok() {}
        }
        Ok(())
    }

    fn free(&self) -> anyhow::Result<()> {
        Ok(fs::remove_file(self.folder.join("fill"))?)
    }

    fn unmount(mut self) -> anyhow::Result<()> {
        let back = self.folder.with_extension("after");
        fs::create_dir(&back)?;
        copy(&self.folder, &back)?;
        run("umount", &[&self.folder])?;
        self.mounted = false;
        fs::remove_dir(&self.folder)?;
        fs::rename(&back, &self.folder)?;
        Ok(fs::remove_dir_all(&self.beside)?)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if self.mounted {
            // Something has failed already, and is told; a mount must not be left behind.
            let _ = run("umount", &["-l".as_ref(), self.folder.as_os_str()]);
        }
    }
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    run("cp", &["-a".into(), from.join("."), to.to_owned()]).map(drop)
}

fn calm(trial: &mut Trial<'_>) -> anyhow::Result<()> {
    trial.begins();
    trial.meanwhile(20, Chain::GoesOn)?;
    trial.healed()
}

fn halves(trial: &mut Trial<'_>) -> anyhow::Result<()> {
    trial.parted(&[&[1, 2, 3, 4], &[5, 6, 7]], 20)
}

fn thirds(trial: &mut Trial<'_>) -> anyhow::Result<()> {
    trial.parted(&[&[1, 4, 7], &[2, 3, 6], &[5]], 30)
}

fn islands(trial: &mut Trial<'_>) -> anyhow::Result<()> {
    trial.parted(&[], 40)
}

fn one_way(trial: &mut Trial<'_>) -> anyhow::Result<()> {
    let deaf = trial.some(3);
    trial.begins();
    let mut rules = Rules::usual();
    for to in deaf {
        rules.cut.extend(trial.street.homes().filter(|from| *from != to).map(|from| (from, to)));
    }
    trial.rules(rules);
    // TCP needs both ways: what was sent before still arrives, then the deaf are as good as gone.
    trial.meanwhile(30, Chain::MayStand)?;
    trial.rules(Rules::usual());
    trial.healed()
}

fn rough(trial: &mut Trial<'_>) -> anyhow::Result<()> {
    trial.begins();
    trial.rules(Rules {
        delay: Duration::from_millis(80),
        jitter: Duration::from_millis(160),
        loss_permille: 100,
        ..Rules::default()
    });
    trial.meanwhile(30, Chain::MayStand)?;
    trial.rules(Rules::usual());
    trial.healed()
}

fn kill_two(trial: &mut Trial<'_>) -> anyhow::Result<()> {
    trial.killed(2, 10, Chain::GoesOn)
}

fn kill_three(trial: &mut Trial<'_>) -> anyhow::Result<()> {
    trial.killed(3, 15, Chain::Stands)
}

fn power_cut(trial: &mut Trial<'_>) -> anyhow::Result<()> {
    trial.killed(7, 5, Chain::Stands)
}

fn stop_two(trial: &mut Trial<'_>) -> anyhow::Result<()> {
    trial.stopped(2, 15, Chain::GoesOn)
}

fn stop_three(trial: &mut Trial<'_>) -> anyhow::Result<()> {
    trial.stopped(3, 30, Chain::Stands)
}

fn clock_jumps(trial: &mut Trial<'_>) -> anyhow::Result<()> {
    trial.clocks(&[300, -300], 30, Chain::GoesOn)
}

fn clocks_apart(trial: &mut Trial<'_>) -> anyhow::Result<()> {
    trial.clocks(&[20, -20, 300], 30, Chain::MayStand)
}

fn disk_full(trial: &mut Trial<'_>) -> anyhow::Result<()> {
    trial.full(1, Chain::GoesOn)
}

fn disks_full(trial: &mut Trial<'_>) -> anyhow::Result<()> {
    // A node can vote as long as the last page of its log has room, and that is right: what it said is on the disk.
    trial.full(3, Chain::MayStand)
}

fn disk_slow(trial: &mut Trial<'_>) -> anyhow::Result<()> {
    let homes = trial.some(3);
    trial.begins();
    let slow = |trial: &Trial<'_>, by| -> anyhow::Result<()> {
        for home in &homes {
            trial.street.house(*home)?.orders.slow_disk(Duration::from_millis(by))?;
        }
        Ok(())
    };
    slow(trial, 400)?;
    trial.meanwhile(30, Chain::GoesOn)?;
    slow(trial, 0)?;
    trial.healed()
}
