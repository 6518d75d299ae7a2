//! Starting, freezing and killing the programs that ours is judged by.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

/// How long a peer may take to start on a busy machine.
const START_MAX: Duration = Duration::from_secs(20);
/// An exchange that is quick enough to compare two clocks by, and one that is not.
const QUICK: Duration = Duration::from_micros(200);
const SLOW: Duration = Duration::from_millis(2);
const HANDSHAKES_MAX: usize = 200;
/// Where Debian puts the sources of libmodbus' servers.
const LIBMODBUS_EXAMPLES: &str = "/usr/share/doc/libmodbus-dev/examples";

/// A process that ends with this value.
#[derive(Debug)]
pub struct Running(Child);

impl Running {
    pub fn start(command: &mut Command) -> anyhow::Result<Self> {
        let child = command.spawn().with_context(|| {
            format!("{:?} cannot be started; `cargo xtask setup` installs it", command.get_program())
        })?;
        Ok(Self(child))
    }

    /// What it prints; once.
    pub fn output(&mut self) -> anyhow::Result<ChildStdout> {
        self.0.stdout.take().context("no standard output")
    }

    pub fn has_ended(&mut self) -> bool {
        self.0.try_wait().is_ok_and(|status| status.is_some())
    }

    /// Sends a signal by name, e.g. `STOP`.
    pub fn signal(&self, name: &str) -> anyhow::Result<()> {
        let status = Command::new("kill").args([format!("-{name}"), self.0.id().to_string()]).status()?;
        ensure!(status.success(), "signal {name} could not be sent");
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already ended is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A file of `meter/tests/peers`.
fn peer_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(name)
}

/// `python script` of the environment that holds pymodbus.
pub fn python(script: &str) -> anyhow::Result<Command> {
    let given = std::env::var_os("COMMONWATT_PYTHON").map(PathBuf::from);
    let python = given.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/python"));
    ensure!(
        python.exists(),
        "{} does not exist; run `cargo xtask setup`, or set COMMONWATT_PYTHON",
        python.display()
    );
    let mut command = Command::new(python);
    command.arg(peer_file(script)).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    Ok(command)
}

/// A port that was free a moment ago.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Where a server serves and a client reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Tcp(u16),
    RtuTcp(u16),
    /// The server's and the client's end of a serial line.
    Serial {
        server: PathBuf,
        client: PathBuf,
    },
}

/// The monotonic clock of another process on this machine, as seen from here.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    here: Instant,
    there_ns: u64,
}

impl Clock {
    /// Its reading in ms at `instant`, which is not before the handshake.
    pub fn ms_at(&self, instant: Instant) -> u64 {
        let passed = instant.saturating_duration_since(self.here);
        self.there_ns.saturating_add(u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX)) / 1_000_000
    }
}

/// `fault_server.py`.
#[derive(Debug)]
pub struct FaultServer {
    pub running: Running,
    pub clock: Clock,
    pub port: u16,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl FaultServer {
    /// Starts it at `place` (port 0: any) with `faults` times its plan of faults, and waits until it listens.
    pub fn start(place: &Place, seed: u64, faults: f64) -> anyhow::Result<Self> {
        let mut command = python("fault_server.py")?;
        match place {
            Place::Tcp(port) => command.args(["tcp", "--port", &port.to_string()]),
            Place::RtuTcp(port) => command.args(["rtu-tcp", "--port", &port.to_string()]),
            Place::Serial { server, .. } => command.args(["rtu", "--device"]).arg(server),
        };
        command.args(["--seed", &seed.to_string(), "--faults", &faults.to_string()]);
        let mut running = Running::start(&mut command)?;
        let input = running.0.stdin.take().context("no standard input")?;
        let output = BufReader::new(running.output()?);
        let clock = Clock { here: Instant::now(), there_ns: 0 };
        let mut server = Self { running, clock, port: 0, input, output };
        server.port = server.line("PORT")?.parse()?;
        server.clock = server.handshake()?;
        Ok(server)
    }

    /// The faults so far, by kind.
    pub fn faults(&mut self) -> anyhow::Result<serde_json::Value> {
        writeln!(self.input, "FAULTS")?;
        Ok(serde_json::from_str(&self.line("FAULTS")?)?)
    }

    /// The best of some exchanges: its reading happened within a quick one.
    fn handshake(&mut self) -> anyhow::Result<Clock> {
        let mut best = (Duration::MAX, self.clock);
        for _ in 0..HANDSHAKES_MAX {
            let asked = Instant::now();
            writeln!(self.input, "CLOCK")?;
            let there_ns = self.line("CLOCK")?.parse()?;
            let took = asked.elapsed();
            if took < best.0 {
                best = (took, Clock { here: asked + took / 2, there_ns });
            }
            if best.0 < QUICK {
                break;
            }
        }
        ensure!(best.0 < SLOW, "the machine is too busy to compare two clocks to 1 ms");
        Ok(best.1)
    }

    /// What follows `word` on the next line.
    fn line(&mut self, word: &str) -> anyhow::Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        match line.trim().split_once(' ') {
            Some((first, rest)) if first == word => Ok(rest.to_owned()),
            _ => bail!("the fault server said {line:?} instead of {word}; run `cargo xtask setup`"),
        }
    }
}

/// A serial line: two pseudo terminals joined by socat.
#[derive(Debug)]
pub struct Wire {
    socat: Running,
    server: PathBuf,
    client: PathBuf,
}

impl Wire {
    /// Lays a line with its ends linked in `folder`.
    pub fn lay(folder: &Path) -> anyhow::Result<Self> {
        let (server, client) = (folder.join("server-end"), folder.join("client-end"));
        let end = |path: &Path| format!("pty,raw,echo=0,link={}", path.display());
        let socat = Running::start(Command::new("socat").args([end(&server), end(&client)]))?;
        let wire = Self { socat, server, client };
        wait_for("the serial line", || wire.server.exists() && wire.client.exists())?;
        Ok(wire)
    }

    pub fn place(&self) -> Place {
        Place::Serial { server: self.server.clone(), client: self.client.clone() }
    }

    /// A gateway without a mind of its own at the client's end: whatever the line carries goes to whoever is connected.
    pub fn gateway(&self) -> anyhow::Result<(Running, Place)> {
        let port = free_port()?;
        let listen = format!("TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,nodelay,fork,max-children=1");
        let line = format!("{},raw,echo=0", self.client.display());
        let running =
            Running::start(Command::new("socat").args(["-t", "0.01", &listen, &line]).stderr(Stdio::null()))?;
        Ok((running, Place::RtuTcp(port)))
    }

    pub fn is_cut(&mut self) -> bool {
        self.socat.has_ended()
    }
}

/// One of Debian's libmodbus servers, compiled from its source.
#[derive(Debug, Clone)]
pub struct Libmodbus(PathBuf);

impl Libmodbus {
    pub fn compile(name: &str, folder: &Path) -> anyhow::Result<Self> {
        let (binary, source) = (folder.join(name), Path::new(LIBMODBUS_EXAMPLES).join(format!("{name}.c")));
        cc(&[Path::new("-include"), &peer_file("libmodbus_place.h"), &source, Path::new("-o"), &binary])?;
        Ok(Self(binary))
    }

    /// Starts it at `place`.
    pub fn start(&self, place: &Place) -> anyhow::Result<Running> {
        let mut command = Command::new(&self.0);
        match place {
            Place::Tcp(port) => command.arg("tcp").env("MODBUS_PORT", port.to_string()),
            Place::Serial { server, .. } => command.arg("rtu").env("MODBUS_DEVICE", server),
            Place::RtuTcp(_) => bail!("libmodbus' server speaks no RTU over TCP"),
        };
        Running::start(command.stdout(Stdio::null()).stderr(Stdio::null()))
    }
}

/// Compiles a C file of `meter/tests/peers`.
pub fn compile(source: &str, folder: &Path) -> anyhow::Result<PathBuf> {
    let binary = folder.join(source.trim_end_matches(".c"));
    cc(&[&peer_file(source), Path::new("-o"), &binary])?;
    Ok(binary)
}

fn cc(arguments: &[&Path]) -> anyhow::Result<()> {
    let flags = Command::new("pkg-config").args(["--cflags", "--libs", "libmodbus"]).output()?;
    let flags = String::from_utf8(flags.stdout)?;
    let status = Command::new("cc")
        .arg("-O2")
        .args(arguments)
        .args(flags.split_whitespace())
        .status()
        .context("there is no C compiler; run `cargo xtask setup`")?;
    ensure!(status.success(), "a libmodbus program does not compile; run `cargo xtask setup`");
    Ok(())
}

/// Waits until `holds`.
pub fn wait_for(what: &str, mut holds: impl FnMut() -> bool) -> anyhow::Result<()> {
    let begun = Instant::now();
    while !holds() {
        ensure!(begun.elapsed() < START_MAX, "{what} is not there after {START_MAX:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
