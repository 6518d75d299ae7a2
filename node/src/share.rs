//! The home's meter served to other software over Modbus TCP, read-only, through the connection that is there anyway.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use energy::{Interval, Mtu};
use meter::Bus;
use meter::serve::{Quiet, Share, ShareConfig};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::config::meters::MeterSettings;

/// Before an interval ends the device is asked nothing for others for this long: the bounded wait for the last shared
/// question, and for the line to fall quiet if nothing came, are over when the register is due.
const QUIET_BEFORE: Duration = Duration::from_secs(3);
/// The same after it, in which the node reads the register.
const QUIET_AFTER: Duration = Duration::from_secs(2);
/// On a clock so fast that an interval takes less than this there would be no time left for others.
const SCHEDULE_MIN: Duration = Duration::from_secs(20);
/// The least and the most that a shared question may take: less than [`QUIET_BEFORE`], and the time-out of the device as
/// far as possible, since giving up on an answer that comes costs the connection.
const WAIT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(2));

/// A meter that is being shared; that ends with this value.
#[derive(Debug)]
pub struct Sharing {
    /// Where it listens.
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Sharing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A port that is taken and not served yet.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
}

/// Takes the port, before anything is started that would have to be stopped again.
///
/// # Errors
/// If nobody can listen there, with what to do.
pub async fn bind(listen: SocketAddr) -> anyhow::Result<Bound> {
    let listener = TcpListener::bind(listen).await.with_context(|| {
        format!("the meter cannot be shared at {listen}: another program listens there, or the port needs root; choose another `listen`")
    })?;
    let address = listener.local_addr().context("the shared meter has no address")?;
    Ok(Bound { listener, address })
}

/// Serves `meter`. In one process, reading and sharing use one connection to the device; `quiet` keeps it free for the
/// node's own reads.
#[must_use]
pub fn serve(bound: Bound, meter: &MeterSettings, quiet: Option<Quiet>) -> Sharing {
    let Bound { listener, address } = bound;
    let units = BTreeMap::from([(meter.unit, Some(Arc::clone(&meter.profile)))]);
    let deadline = meter.timeout.clamp(WAIT.0, WAIT.1);
    let share =
        Share::new(Bus::open(meter.bus()), ShareConfig { deadline, quiet, ..ShareConfig::new(units) });
    let task = tokio::spawn(async move { share.serve(listener, std::future::pending()).await });
    Sharing { address, task }
}

/// Quiet around the end of every market interval; `None` where a fast clock leaves no time between two.
#[must_use]
pub fn quiet_at_boundaries(clock: Arc<dyn Clock>, mtu: Mtu) -> Option<Quiet> {
    let speed = u64::from(clock.speed().max(1));
    let lasts = Duration::from_millis(mtu.ms() / speed);
    (lasts >= SCHEDULE_MIN).then(|| Quiet::when(move || near_boundary(&*clock, mtu)))
}

fn near_boundary(clock: &dyn Clock, mtu: Mtu) -> bool {
    let now = clock.market();
    let interval = Interval::containing(now, mtu);
    let wall = |market_ms: u64| Duration::from_millis(market_ms / u64::from(clock.speed().max(1)));
    wall(now.ms_since(interval.start())) < QUIET_AFTER || wall(interval.end().ms_since(now)) <= QUIET_BEFORE
}

#[cfg(test)]
mod tests {
    use energy::{ClockQuality, Timestamp};

    use super::*;

    /// A clock that stands.
    struct Standing(u64, u32);

    impl Clock for Standing {
        fn market(&self) -> Timestamp {
            Timestamp::from_unix_ms(self.0)
        }

        fn speed(&self) -> u32 {
            self.1
        }

        fn quality(&self) -> ClockQuality {
            ClockQuality::Synced
        }
    }

    const QUARTER_MS: u64 = 900_000;

    #[test]
    fn others_wait_from_three_seconds_before_the_end_of_an_interval_to_two_after_it() {
        let quiet = |ms: u64| near_boundary(&Standing(7 * QUARTER_MS + ms, 1), Mtu::Min15);
        for (ms, wanted) in [(0, true), (1_999, true), (2_000, false), (450_000, false)] {
            assert_eq!(quiet(ms), wanted, "{ms} ms after");
        }
        for (ms, wanted) in [(3_001, false), (3_000, true), (1, true)] {
            assert_eq!(quiet(QUARTER_MS - ms), wanted, "{ms} ms before");
        }
    }

    #[test]
    fn on_a_fast_clock_seconds_are_those_of_the_wall_and_some_time_is_left_for_others() {
        let quiet = |ms: u64| near_boundary(&Standing(QUARTER_MS + ms, 10), Mtu::Min15);
        assert!(quiet(19_999) && !quiet(20_000) && !quiet(869_990) && quiet(870_000));
        let given = |speed| quiet_at_boundaries(Arc::new(Standing(0, speed)), Mtu::Min15).is_some();
        assert!(given(1) && given(45) && !given(46) && !given(720));
    }

    #[tokio::test]
    async fn a_port_in_use_is_named_with_what_to_do() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let told = bind(taken.local_addr().unwrap()).await.unwrap_err().to_string();
        assert!(told.contains("another program listens there") && told.contains("`listen`"), "{told}");
    }
}
