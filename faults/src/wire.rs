//! The network between the namespaces, in this process: packets are delayed, lost or cut off on their way.
//!
//! Kernels of small machines come without netem, so each namespace has a TUN device whose packets travel through a Unix
//! socket of datagrams to here (`socat` stands between the two). Real TCP stacks on both sides; what is between them is
//! ours, for each direction of each pair.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::random::Random;

/// Longest packet, with room: devices are set to 1500 bytes.
const PACKET_MAX: usize = 4096;
/// An IPv4 header without options, bytes.
const HEADER: usize = 20;
/// Packets on their way at the most; more are lost, as in a router whose queue is full.
const ON_WAY_MAX: usize = 20_000;
/// How often a packet is offered to a device that has no room, a millisecond apart.
const OFFERS: u32 = 200;

/// What happens to packets.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// From one end to the other.
    pub delay: Duration,
    /// Up to so much more, evenly distributed; packets overtake one another then.
    pub jitter: Duration,
    /// Of a thousand packets, so many are lost.
    pub loss_permille: u64,
    /// From whom to whom nothing passes.
    pub cut: BTreeSet<(u8, u8)>,
}

impl Rules {
    /// 50 ms each way and 1 % loss.
    #[must_use]
    pub fn usual() -> Self {
        Self { delay: Duration::from_millis(50), loss_permille: 10, ..Self::default() }
    }

    /// Nothing passes between these groups; a node that stands in none is alone.
    #[must_use]
    pub fn parted(groups: &[&[u8]], nodes: u8) -> Self {
        let together = |a: u8, b: u8| groups.iter().any(|group| group.contains(&a) && group.contains(&b));
        let pairs = (1..=nodes).flat_map(|a| (1..=nodes).map(move |b| (a, b)));
        Self { cut: pairs.filter(|(a, b)| a != b && !together(*a, *b)).collect(), ..Self::usual() }
    }
}

/// What went through so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Passed {
    /// Packets that arrived here.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Of them lost at random or for want of room.
    pub lost: u64,
    /// Of them cut off.
    pub cut: u64,
}

#[derive(Default)]
struct Shared {
    rules: Mutex<Rules>,
    passed: Mutex<Passed>,
    stop: AtomicBool,
}

/// The network.
pub struct Wire {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Wire {
    /// Opens the socket in `folder` and passes packets on until dropped.
    ///
    /// # Errors
    /// If the socket cannot be made.
    pub fn open(folder: &Path, seed: u64) -> std::io::Result<Self> {
        let socket = UnixDatagram::bind(Self::hub(folder))?;
        socket.set_write_timeout(Some(Duration::from_millis(1)))?;
        let shared = Arc::new(Shared { rules: Mutex::new(Rules::usual()), ..Shared::default() });
        let carrier = Carrier {
            socket,
            folder: folder.to_owned(),
            shared: Arc::clone(&shared),
            random: Random::new(seed),
            on_way: BinaryHeap::new(),
            count: 0,
        };
        let thread = std::thread::Builder::new().name("wire".to_owned()).spawn(move || carrier.run())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// The socket that all devices send to.
    #[must_use]
    pub fn hub(folder: &Path) -> PathBuf {
        folder.join("wire.sock")
    }

    /// The socket of one device.
    #[must_use]
    pub fn socket(folder: &Path, node: u8) -> PathBuf {
        folder.join(format!("device-{node}.sock"))
    }

    /// From now on this holds.
    pub fn set(&self, rules: Rules) {
        *lock(&self.shared.rules) = rules;
    }

    /// What went through so far.
    #[must_use]
    pub fn passed(&self) -> Passed {
        *lock(&self.shared.passed)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed.
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A packet on its way: when it is due, its place among those due then, to whom, how often offered.
type OnWay = Reverse<(Instant, u64, u8, u32, Vec<u8>)>;

struct Carrier {
    socket: UnixDatagram,
    folder: PathBuf,
    shared: Arc<Shared>,
    random: Random,
    on_way: BinaryHeap<OnWay>,
    count: u64,
}

impl Carrier {
    fn run(mut self) {
        let mut buffer = [0; PACKET_MAX];
        while !self.shared.stop.load(Ordering::Relaxed) {
            let longest = Duration::from_millis(50);
            let due =
                self.on_way.peek().map(|Reverse((at, ..))| at.saturating_duration_since(Instant::now()));
            let wait = due.map_or(longest, |due| due.min(longest));
            if !wait.is_zero() && self.socket.set_read_timeout(Some(wait)).is_ok() {
                match self.socket.recv(&mut buffer) {
                    Ok(length) => self.take(buffer.get(..length).unwrap_or_default()),
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                    // The other end of a socket is gone: its node is being taken down.
                    Err(_) => std::thread::sleep(Duration::from_millis(1)),
                }
            }
            self.hand_over();
        }
    }

    fn take(&mut self, packet: &[u8]) {
        let Some((from, to)) = ends(packet) else { return };
        let rules = lock(&self.shared.rules).clone();
        let cut = rules.cut.contains(&(from, to));
        let lost = self.random.below(1000) < rules.loss_permille || self.on_way.len() >= ON_WAY_MAX;
        let mut passed = lock(&self.shared.passed);
        passed.packets += 1;
        passed.bytes += packet.len() as u64;
        passed.cut += u64::from(cut);
        passed.lost += u64::from(lost && !cut);
        drop(passed);
        if !cut && !lost {
            let jitter = u64::try_from(rules.jitter.as_micros()).unwrap_or(u64::MAX);
            let more = Duration::from_micros(self.random.below(jitter.saturating_add(1)));
            self.push(Instant::now() + rules.delay + more, to, 0, packet.to_vec());
        }
    }

    fn push(&mut self, at: Instant, to: u8, offers: u32, packet: Vec<u8>) {
        self.count += 1;
        self.on_way.push(Reverse((at, self.count, to, offers, packet)));
    }

    fn hand_over(&mut self) {
        let now = Instant::now();
        while self.on_way.peek().is_some_and(|Reverse((at, ..))| *at <= now) {
            let Some(Reverse((at, _, to, offers, packet))) = self.on_way.pop() else { return };
            let sent = self.socket.send_to(&packet, Wire::socket(&self.folder, to));
            let full = sent.is_err_and(|it| matches!(it.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
            if full && offers < OFFERS {
                self.push(at + Duration::from_millis(1), to, offers + 1, packet);
            } else if full {
                lock(&self.shared.passed).lost += 1;
            }
        }
    }
}

/// The numbers of sender and receiver of an IPv4 packet: the last part of their addresses.
fn ends(packet: &[u8]) -> Option<(u8, u8)> {
    let header: &[u8; HEADER] = packet.first_chunk()?;
    (header[0] >> 4 == 4).then_some((header[15], header[19]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_hear_themselves_and_nobody_else() {
        let rules = Rules::parted(&[&[1, 2], &[3]], 4);
        let cut = |a, b| rules.cut.contains(&(a, b));
        assert!(!cut(1, 2) && !cut(2, 1));
        for (a, b) in [(1, 3), (3, 1), (2, 3), (1, 4), (4, 3), (3, 4)] {
            assert!(cut(a, b), "{a} {b}");
        }
        assert!(!cut(4, 4));
    }

    #[test]
    fn only_ipv4_packets_have_ends() {
        let mut packet = [0; HEADER];
        (packet[0], packet[15], packet[19]) = (0x45, 3, 7);
        assert_eq!(ends(&packet), Some((3, 7)));
        packet[0] = 0x65;
        assert_eq!((ends(&packet), ends(&packet[..19])), (None, None));
    }
}
