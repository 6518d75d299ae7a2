//! The two clocks of a node: market time decides, wall time paces.
//!
//! In production they are the same clock. A demo chain's market time runs faster, and in `demo` it can be held at an
//! instant until the neighbourhood is ready to go on: a slow machine is slower, never wrong.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use energy::{ClockQuality, Timestamp};
use ledger::DemoClock;

/// systemd-timesyncd makes this file when it has synchronised the clock (systemd-timesyncd.service(8)).
const TIMESYNCD_SYNCED: &str = "run/systemd/timesync/synchronized";
/// The same for every other time service, made by a unit that waits for it (docs/clock.md). Gone at every boot.
const SYNCED: &str = "run/commonwatt/clock-synchronized";
/// Other time services write how fast the clock drifts once they know it: chronyd within an hour of synchronising
/// (chrony.conf(5), driftfile), ntpd likewise (ntp.conf(5)). Written since boot, it says that they are synchronised.
const DRIFT_FILES: [&str; 4] = [
    "var/lib/chrony/drift",
    "var/lib/chrony/chrony.drift",
    "var/lib/ntpsec/ntp.drift",
    "var/lib/ntp/ntp.drift",
];
/// Small computers say here which board they are (Linux, Documentation/devicetree); others keep time when switched off.
const BOARD: &str = "proc/device-tree/model";
/// Battery-backed clocks; `hctosys` is 1 in the one that the system clock was set from at boot (Linux, rtc.rst).
const BATTERY_CLOCKS: &str = "sys/class/rtc";
/// Seconds since boot.
const UPTIME: &str = "proc/uptime";
/// No node ran before 2026-01-01T00:00:00Z, in ms since the Unix epoch: an earlier clock is not set.
const FIRST_RELEASE_MS: u64 = 1_767_225_600_000;
/// How far behind the newest block a trusted clock may be, ms: delegates' clocks may differ by seconds.
const BEHIND_MAX_MS: u64 = 60_000;
/// How far ahead of a block that was just decided a clock may be that no time service keeps, ms of wall time: proposers
/// write their own time, and a decision takes seconds.
const AHEAD_MAX_MS: u64 = 60_000;
/// The clock was set if it went this much apart from the monotonic clock.
const SET_BY: Duration = Duration::from_secs(10);

/// What a node asks the time of.
pub trait Clock: Send + Sync + 'static {
    /// Market time.
    fn market(&self) -> Timestamp;

    /// Market milliseconds per wall millisecond; 1 in production.
    fn speed(&self) -> u32;

    /// How far this clock can be trusted.
    fn quality(&self) -> ClockQuality;

    /// A block of `time` exists: an earlier clock is wrong. A `fresh` one was decided just now: so is a later clock.
    fn saw_block(&self, _time: Timestamp, _fresh: bool) {}

    /// Wall time until market time `at`, if nothing holds the clock; zero if it has passed.
    fn wall_until(&self, at: Timestamp) -> Duration {
        Duration::from_millis(at.ms_since(self.market()).div_ceil(u64::from(self.speed().max(1))))
    }
}

/// The machine's clock, accelerated where the chain's genesis says so.
#[derive(Debug)]
pub struct SystemClock {
    demo: Option<DemoClock>,
    /// Where the system's files are.
    root: PathBuf,
    started: (Instant, Duration),
    /// True once the clock was seen being set.
    was_set: AtomicBool,
    newest_block_ms: AtomicU64,
    /// True while the last fresh block says that this clock is ahead.
    ahead: AtomicBool,
}

impl SystemClock {
    /// The clock of a chain: `demo` as its genesis has it.
    #[must_use]
    pub fn new(demo: Option<DemoClock>) -> Self {
        Self::of_system(demo, PathBuf::from("/"))
    }

    fn of_system(demo: Option<DemoClock>, root: PathBuf) -> Self {
        Self {
            demo,
            root,
            started: (Instant::now(), since_epoch()),
            was_set: AtomicBool::new(false),
            newest_block_ms: AtomicU64::new(0),
            ahead: AtomicBool::new(false),
        }
    }

    /// What there is to judge the clock by.
    fn evidence(&self) -> Evidence {
        let wall = since_epoch();
        let (started, then) = self.started;
        if wall.abs_diff(then.saturating_add(started.elapsed())) > SET_BY {
            self.was_set.store(true, Ordering::Relaxed);
        }
        let newest = Timestamp::from_unix_ms(self.newest_block_ms.load(Ordering::Relaxed));
        Evidence {
            possible: millis(wall) >= FIRST_RELEASE_MS && newest.ms_since(self.market()) <= BEHIND_MAX_MS,
            disciplined: [TIMESYNCD_SYNCED, SYNCED].iter().any(|file| self.root.join(file).exists())
                || self.drift_known_since_boot(wall),
            ahead: self.ahead.load(Ordering::Relaxed),
            was_set: self.was_set.load(Ordering::Relaxed),
            kept_while_off: !self.root.join(BOARD).exists() || self.set_from_battery(),
        }
    }

    fn drift_known_since_boot(&self, wall: Duration) -> bool {
        let Some(booted) = self.uptime().and_then(|uptime| wall.checked_sub(uptime)) else { return false };
        let written = |file: &&str| {
            let changed = fs::metadata(self.root.join(file)).and_then(|file| file.modified());
            changed
                .ok()
                .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
                .is_some_and(|time| time > booted)
        };
        DRIFT_FILES.iter().any(written)
    }

    fn uptime(&self) -> Option<Duration> {
        let text = fs::read_to_string(self.root.join(UPTIME)).ok()?;
        let seconds = text.split(['.', ' ']).next()?.parse().ok()?;
        Some(Duration::from_secs(seconds))
    }

    fn set_from_battery(&self) -> bool {
        let Ok(clocks) = fs::read_dir(self.root.join(BATTERY_CLOCKS)) else { return false };
        let set =
            |clock: &Path| fs::read_to_string(clock.join("hctosys")).is_ok_and(|text| text.trim() == "1");
        clocks.flatten().any(|clock| set(&clock.path()))
    }
}

impl Clock for SystemClock {
    fn market(&self) -> Timestamp {
        let wall = Timestamp::from_unix_ms(millis(since_epoch()));
        match self.demo {
            None => wall,
            Some(demo) => {
                demo.origin.plus_ms(wall.ms_since(demo.wall_origin).saturating_mul(u64::from(demo.speed)))
            }
        }
    }

    fn speed(&self) -> u32 {
        self.demo.map_or(1, |demo| demo.speed)
    }

    fn quality(&self) -> ClockQuality {
        self.evidence().judge()
    }

    fn saw_block(&self, time: Timestamp, fresh: bool) {
        self.newest_block_ms.fetch_max(time.unix_ms(), Ordering::Relaxed);
        if fresh {
            let most = AHEAD_MAX_MS.saturating_mul(u64::from(self.speed()));
            self.ahead.store(self.market().ms_since(time) > most, Ordering::Relaxed);
        }
    }
}

/// What a machine shows of its clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Evidence {
    /// Neither before the first release of this program nor before a block that exists.
    possible: bool,
    /// A time service says that it is synchronised.
    disciplined: bool,
    /// Later than a block that was just decided.
    ahead: bool,
    /// It was set while this program ran.
    was_set: bool,
    /// It went on while the machine was off, or was set from one that did.
    kept_while_off: bool,
}

impl Evidence {
    /// A board without a battery begins with the time of its last shutdown: until somebody sets it, that is no time.
    const fn judge(self) -> ClockQuality {
        match self {
            Self { possible: false, .. } => ClockQuality::Unsynced,
            Self { disciplined: true, .. } => ClockQuality::Synced,
            Self { ahead: true, .. } => ClockQuality::Unsynced,
            Self { was_set: true, .. } | Self { kept_while_off: true, .. } => ClockQuality::Informative,
            _ => ClockQuality::Unsynced,
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the machine's clock")]
fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// An accelerated clock that stops at a limit until it is told to go on.
#[derive(Debug)]
pub struct HeldClock {
    speed: u32,
    run: Mutex<Run>,
}

#[derive(Debug, Clone, Copy)]
struct Run {
    from: Timestamp,
    since: Instant,
    until: Timestamp,
}

impl HeldClock {
    /// Stands at `origin`.
    #[must_use]
    pub fn new(origin: Timestamp, speed: u32) -> Self {
        Self { speed, run: Mutex::new(Run { from: origin, since: Instant::now(), until: origin }) }
    }

    /// Goes on, at most to `until`.
    pub fn run_until(&self, until: Timestamp) {
        let from = self.market();
        *self.lock() = Run { from, since: Instant::now(), until: until.max(from) };
    }

    fn lock(&self) -> MutexGuard<'_, Run> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for HeldClock {
    fn market(&self) -> Timestamp {
        let run = *self.lock();
        let elapsed = u64::try_from(run.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        run.from.plus_ms(elapsed.saturating_mul(u64::from(self.speed))).min(run.until)
    }

    fn speed(&self) -> u32 {
        self.speed
    }

    /// It is the reference of everybody who uses it.
    fn quality(&self) -> ClockQuality {
        ClockQuality::Synced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A clock on a machine with these files.
    fn clock_with(files: &[(&str, &str)]) -> (tempfile::TempDir, SystemClock) {
        let root = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let clock = SystemClock::of_system(None, root.path().to_owned());
        (root, clock)
    }

    const PI: (&str, &str) = (BOARD, "Raspberry Pi 4 Model B");

    #[test]
    fn a_board_without_a_battery_has_no_time_until_a_time_service_says_so() {
        let quality = |files: &[_]| clock_with(files).1.quality();
        assert_eq!(quality(&[PI]), ClockQuality::Unsynced);
        assert_eq!(quality(&[PI, (TIMESYNCD_SYNCED, "")]), ClockQuality::Synced);
        assert_eq!(quality(&[PI, (SYNCED, "")]), ClockQuality::Synced);
        let chrony = ("var/lib/chrony/drift", "1.2 0.3");
        assert_eq!(quality(&[PI, chrony, (UPTIME, "7200.12 100.00")]), ClockQuality::Synced);
        assert_eq!(quality(&[PI, chrony]), ClockQuality::Unsynced, "written nobody knows when");
        assert_eq!(quality(&[PI, ("sys/class/rtc/rtc0/hctosys", "1\n")]), ClockQuality::Informative);
        assert_eq!(quality(&[PI, ("sys/class/rtc/rtc0/hctosys", "0\n")]), ClockQuality::Unsynced);
        assert_eq!(quality(&[]), ClockQuality::Informative, "a computer with a battery");
    }

    #[test]
    fn a_drift_file_from_before_the_boot_says_nothing() {
        let (root, clock) = clock_with(&[PI, ("var/lib/chrony/drift", "1.2 0.3"), (UPTIME, "60.00 1.00")]);
        let drift = fs::File::open(root.path().join("var/lib/chrony/drift")).unwrap();
        drift.set_modified(UNIX_EPOCH + since_epoch() - Duration::from_secs(3_600)).unwrap();
        assert_eq!(clock.quality(), ClockQuality::Unsynced);
    }

    #[test]
    fn a_clock_that_is_set_while_the_node_runs_has_a_time_from_then_on() {
        let (_root, mut clock) = clock_with(&[PI]);
        assert_eq!(clock.quality(), ClockQuality::Unsynced);
        clock.started.1 -= Duration::from_secs(3_600);
        assert_eq!(clock.quality(), ClockQuality::Informative);
        clock.started.1 += Duration::from_secs(3_600);
        assert_eq!(clock.quality(), ClockQuality::Informative, "it stays set");
    }

    #[test]
    fn a_clock_behind_a_block_that_exists_is_wrong_whoever_vouches_for_it() {
        let (_root, clock) = clock_with(&[(TIMESYNCD_SYNCED, "")]);
        clock.saw_block(clock.market().plus_ms(30_000), false);
        assert_eq!(clock.quality(), ClockQuality::Synced);
        clock.saw_block(clock.market().plus_ms(120_000), true);
        assert_eq!(clock.quality(), ClockQuality::Unsynced);
        clock.saw_block(Timestamp::EPOCH, false);
        assert_eq!(clock.quality(), ClockQuality::Unsynced, "a later block stays known");
    }

    #[test]
    fn a_clock_ahead_of_a_block_just_decided_is_no_time_unless_a_time_service_keeps_it() {
        let after = |files: &[_], behind_ms, fresh| {
            let (_root, clock) = clock_with(files);
            clock.saw_block(clock.market().minus_ms(behind_ms), fresh);
            clock.quality()
        };
        assert_eq!(after(&[], 50_000, true), ClockQuality::Informative);
        assert_eq!(after(&[], 120_000, true), ClockQuality::Unsynced);
        assert_eq!(after(&[], 120_000, false), ClockQuality::Informative, "an old block says nothing");
        assert_eq!(after(&[(TIMESYNCD_SYNCED, "")], 120_000, true), ClockQuality::Synced);
        let (_root, clock) = clock_with(&[]);
        clock.saw_block(clock.market().minus_ms(120_000), true);
        clock.saw_block(clock.market(), true);
        assert_eq!(clock.quality(), ClockQuality::Informative, "until a later block agrees");
    }

    #[test]
    fn a_held_clock_never_passes_its_limit_and_never_goes_back() {
        let origin = Timestamp::from_unix_ms(1_000_000);
        let clock = HeldClock::new(origin, 1_000_000);
        assert_eq!(clock.market(), origin);
        clock.run_until(origin.plus_ms(5_000));
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(clock.market(), origin.plus_ms(5_000));
        clock.run_until(origin);
        assert_eq!(clock.market(), origin.plus_ms(5_000));
    }

    #[test]
    fn waiting_for_market_time_takes_less_wall_time_at_speed() {
        let clock = HeldClock::new(Timestamp::EPOCH, 720);
        assert_eq!(clock.wall_until(Timestamp::from_unix_ms(900_000)), Duration::from_millis(1_250));
    }
}
