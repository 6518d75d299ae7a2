//! A client without guards, on the same crate as ours: it keeps its connection after a time-out and believes what comes.
//! If the servers cannot make it believe wrong values, they prove nothing about a client that has guards.

use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_modbus::client::{Client, Context, rtu};
use tokio_modbus::{Request, Response, Slave};
use tokio_serial::SerialPortBuilderExt;

use crate::check;
use crate::lot::Lot;
use crate::peers::Place;
use crate::soak::{PACE, PLAIN_END, small};
use crate::tally::Tally;

const TIMEOUT: Duration = Duration::from_millis(200);

/// Reads registers through `place` for `length`, six at a time.
pub async fn read(place: &Place, length: Duration, seed: u64) -> anyhow::Result<Tally> {
    let (mut tally, mut lot, until) = (Tally::default(), Lot::new(seed), Instant::now() + length);
    let mut context = connect(place).await?;
    while Instant::now() < until {
        let address = small(lot.below(PLAIN_END));
        match timeout(TIMEOUT, context.call(Request::ReadHoldingRegisters(address, 6))).await {
            Ok(Ok(Ok(Response::ReadHoldingRegisters(words)))) => {
                let right = check::plain(1, address, 6, &words).is_ok();
                *(if right { &mut tally.right } else { &mut tally.wrong }) += 1;
            }
            Ok(Err(_)) => {
                tally.absent += 1;
                // A port is opened exclusively: closed before it is opened again.
                drop(context);
                context = connect(place).await?;
            }
            _ => tally.absent += 1,
        }
        sleep(PACE).await;
    }
    Ok(tally)
}

async fn connect(place: &Place) -> anyhow::Result<Context> {
    Ok(match place {
        Place::Serial { client, .. } => {
            let line = tokio_serial::new(client.to_string_lossy(), 9_600).open_native_async()?;
            rtu::attach_slave(line, Slave(1))
        }
        Place::Tcp(port) | Place::RtuTcp(port) => {
            rtu::attach_slave(TcpStream::connect(("127.0.0.1", *port)).await?, Slave(1))
        }
    })
}
