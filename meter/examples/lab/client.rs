//! The client under test, as a home uses it: two meters and a reader of plain registers on one bus.

use std::sync::Arc;
use std::time::Duration;

use meter::{Bus, BusConfig, Endpoint, HostPort, Line, Meter, MeterError, Profile};

use crate::peers::Place;

/// Shorter than more than half of the late answers are late.
const TIMEOUT: Duration = Duration::from_millis(200);
/// Longest wait for plain registers.
const DEADLINE: Duration = Duration::from_secs(2);
/// The model whose registers `fault_server.py` has.
const PROFILE: &str = "abb-b23";

#[derive(Debug, Clone)]
pub struct Client {
    bus: Bus,
    meters: [Meter; 2],
}

impl Client {
    pub fn at(place: &Place) -> Self {
        let bus = bus(place);
        let profile = Profile::by_name(PROFILE).expect("a built-in profile");
        let meter = |unit| Meter::on(&bus, unit, Arc::clone(&profile), None);
        let meters = [meter(1), meter(2)];
        Self { bus, meters }
    }

    /// The meter of unit 1 or 2.
    pub fn meter(&self, unit: u8) -> &Meter {
        &self.meters[usize::from(unit - 1)]
    }

    pub async fn raw(
        &self,
        unit: u8,
        function: u8,
        address: u16,
        count: u16,
    ) -> Result<Vec<u16>, MeterError> {
        self.bus.read_raw(unit, function, address, count, DEADLINE).await
    }
}

pub fn bus(place: &Place) -> Bus {
    let local = |port| HostPort { host: "127.0.0.1".to_owned(), port };
    let endpoint = match place {
        Place::Tcp(port) => Endpoint::Tcp(local(*port)),
        Place::RtuTcp(port) => Endpoint::RtuOverTcp(local(*port)),
        Place::Serial { client, .. } => Endpoint::Serial { path: client.clone(), line: Line::default() },
    };
    Bus::open(BusConfig { timeout: TIMEOUT, ..BusConfig::new(endpoint) })
}
