//! The meters of all homes: simulated ones, served from here, which no fault of the network touches.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use energy::MeterSerial;
use meter::simulator::SimulatedMeter;

use crate::street::{Home, MTU_MINUTES, SPEED, wall_ms};

/// Registers are latched this long before a boundary, ms of wall time: every node reads at or after it.
const LATCH_MS: u64 = 40;
/// What the first home's registers grow by in one interval, Wh, and how much more each further home's.
const FIRST_WH: u64 = 130;
const FURTHER_WH: u64 = 61;

/// The meters, until dropped.
pub struct Meters {
    addresses: Vec<SocketAddr>,
    stop: Arc<AtomicBool>,
    turning: Option<JoinHandle<()>>,
    _runtime: tokio::runtime::Runtime,
}

impl Meters {
    /// Serves a meter for each home at `at`, whose registers turn at each boundary of market time.
    ///
    /// # Errors
    /// If no port can be had.
    pub fn serve(at: IpAddr, homes: u8, wall_origin: u64) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let (mut meters, mut addresses) = (Vec::new(), Vec::new());
        for home in 1..=homes {
            let meter = SimulatedMeter::new(MeterSerial::new(&(5000 + u32::from(home)).to_string())?);
            let listener = runtime.block_on(tokio::net::TcpListener::bind((at, 0)))?;
            addresses.push(listener.local_addr()?);
            runtime.spawn(meter.clone().serve(listener, std::future::pending()));
            meters.push(meter);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let turning = std::thread::spawn(move || turn(&meters, wall_origin, &stopped));
        Ok(Self { addresses, stop, turning: Some(turning), _runtime: runtime })
    }

    /// Where a home's meter answers.
    ///
    /// # Panics
    /// If there is no such home.
    #[must_use]
    pub fn address(&self, home: Home) -> SocketAddr {
        self.addresses[usize::from(home) - 1]
    }
}

impl Drop for Meters {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(turning) = self.turning.take() {
            // A panic of the thread has been printed.
            let _ = turning.join();
        }
    }
}

/// Even homes export, odd ones import, each at a rate of its own.
fn turn(meters: &[SimulatedMeter], wall_origin: u64, stop: &AtomicBool) {
    let interval_ms = u64::from(MTU_MINUTES) * 60_000 / u64::from(SPEED);
    let mut turned = None;
    while !stop.load(Ordering::Relaxed) {
        let boundary = (wall_ms() + LATCH_MS).saturating_sub(wall_origin) / interval_ms;
        if turned != Some(boundary) {
            turned = Some(boundary);
            for (place, meter) in (0u64..).zip(meters) {
                let quarters = 4 * (1_000 + boundary * (FIRST_WH + FURTHER_WH * place));
                if place % 2 == 0 {
                    meter.set(quarters, 400, 1_500);
                } else {
                    meter.set(400, quarters, -1_500);
                }
            }
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
