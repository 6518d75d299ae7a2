//! Starting peers and meters.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use energy::MeterSerial;
use meter::{BusConfig, Endpoint, Meter, MeterConfig, Profile};

/// Enough for everything that is expected to succeed, on a busy machine.
pub const AMPLE: Duration = Duration::from_secs(10);

/// A handle to a meter with the named profile, unit 1.
pub fn meter_at(address: SocketAddr, profile: &str, timeout: Duration) -> Meter {
    meter_on(address, 1, Profile::by_name(profile).expect("a built-in profile"), None, timeout)
}

/// A handle to a meter; `nameplate` for models that have no serial number to read.
pub fn meter_on(
    address: SocketAddr,
    unit: u8,
    profile: Arc<Profile>,
    nameplate: Option<MeterSerial>,
    timeout: Duration,
) -> Meter {
    let bus = BusConfig { timeout, ..BusConfig::new(Endpoint::Tcp(address.into())) };
    Meter::spawn(MeterConfig { bus, unit, profile, nameplate })
}

/// A pymodbus server that ends with this value.
pub struct PymodbusMeter {
    process: Child,
    pub address: SocketAddr,
}

impl PymodbusMeter {
    /// Starts `meter_server.py` with these arguments and waits until it listens.
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_script("meter_server.py", arguments)
    }

    /// Starts a script of `tests/peers` that prints its port.
    pub fn start_script(script: &str, arguments: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(script);
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

    /// Freezes the server, or lets it go on: what it was asked meanwhile it answers then.
    pub fn freeze(&self, frozen: bool) {
        let signal = if frozen { "-STOP" } else { "-CONT" };
        let sent = Command::new("kill").args([signal, &self.process.id().to_string()]).status();
        assert!(sent.expect("kill runs").success());
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
pub fn python() -> PathBuf {
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

/// Two pseudo serial ports joined by socat: what is written to one comes out of the other.
pub struct PtyPair {
    socat: Child,
    /// Kept open: a write of a notice to nobody would end it.
    _notices: BufReader<std::process::ChildStderr>,
    folder: PathBuf,
}

impl PtyPair {
    pub fn start() -> Self {
        Self::start_between("pty,raw,echo=0,link={far}")
    }

    /// One port whose other end is the socat address `far`, where `{far}` stands for the path of a second port.
    pub fn start_between(far: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        let name = format!("pty-{}-{number}", std::process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&folder).expect("a folder of our own");
        let (near, other) = (folder.join("near"), folder.join("far"));
        let far = far.replace("{far}", &other.display().to_string());
        let mut socat = Command::new("socat")
            .args(["-d", "-d", &format!("pty,raw,echo=0,link={}", near.display()), &far])
            .stderr(Stdio::piped())
            .spawn()
            .expect("socat is not installed; run `cargo xtask test`, which installs it");
        let mut notices = BufReader::new(socat.stderr.take().expect("piped"));
        // The links are there earlier than the terminals are raw: until then they echo.
        let mut line = String::new();
        while !line.contains("starting data transfer") {
            line.clear();
            let read = notices.read_line(&mut line).expect("readable");
            assert!(read > 0, "socat made no pseudo terminals");
        }
        Self { socat, _notices: notices, folder }
    }

    /// The port that the program under test opens.
    pub fn near(&self) -> PathBuf {
        self.folder.join("near")
    }

    /// The port of its peer.
    pub fn far(&self) -> PathBuf {
        self.folder.join("far")
    }
}

impl Drop for PtyPair {
    fn drop(&mut self) {
        // Already ended is as good.
        let _ = self.socat.kill();
        let _ = self.socat.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// `bytes` with the check sum of an RTU frame (Modbus over Serial Line V1.02, appendix B).
pub fn rtu_frame(bytes: &[u8]) -> Vec<u8> {
    let mut sum = 0xFFFFu16;
    for byte in bytes {
        sum ^= u16::from(*byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 { sum >> 1 ^ 0xA001 } else { sum >> 1 };
        }
    }
    [bytes, &sum.to_le_bytes()].concat()
}
