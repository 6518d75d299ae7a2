//! Starting peers and meters.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use meter::{Meter, MeterConfig, Profile};

/// Enough for everything that is expected to succeed, on a busy machine.
pub const AMPLE: Duration = Duration::from_secs(10);

/// A handle to a meter with the named profile, unit 1.
pub fn meter_at(address: SocketAddr, profile: &str, timeout: Duration) -> Meter {
    let profile = Profile::by_name(profile).expect("a built-in profile");
    Meter::spawn(MeterConfig { address, unit: 1, profile, timeout })
}

/// A pymodbus server that ends with this value.
pub struct PymodbusMeter {
    process: Child,
    pub address: SocketAddr,
}

impl PymodbusMeter {
    /// Starts `meter_server.py` with these arguments and waits until it listens.
    pub fn start(arguments: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/meter_server.py");
        let mut process = Command::new(python())
            .arg(script)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python starts");
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("piped")).read_line(&mut line).expect("readable");
        let port = line.trim().strip_prefix("PORT ").and_then(|port| port.parse().ok());
        let port: u16 = port.unwrap_or_else(|| {
            panic!("the pymodbus server did not start (it said {line:?}); run `cargo xtask test`, which installs it")
        });
        Self { process, address: SocketAddr::from(([127, 0, 0, 1], port)) }
    }

    /// Kills the server, as a power cut does.
    pub fn kill(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it ran");
    }
}

impl Drop for PymodbusMeter {
    fn drop(&mut self) {
        // Already ended is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The Python of the virtual environment that holds pymodbus.
fn python() -> PathBuf {
    let given = std::env::var_os("COMMONWATT_PYTHON").map(PathBuf::from);
    let python = given.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/python"));
    assert!(
        python.exists(),
        "{} does not exist; run `cargo xtask test`, which makes the virtual environment with pymodbus, or set \
         COMMONWATT_PYTHON",
        python.display()
    );
    python
}
