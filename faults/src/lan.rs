//! Seven machines on one: a network namespace each, with an address for its neighbours and one for whoever looks on.
//!
//! Neighbours talk over the [`Wire`]; the API and the meter of a home are reached over a bridge that no fault touches, as
//! they would be inside the house.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::shell::{call, inside};
use crate::wire::Wire;

/// Datagrams that wait at a socket of the wire: Linux says 10, fewer than TCP sends at once.
const WAITING_MAX: u32 = 512;

/// The namespaces and what connects them. Taken down when dropped.
pub struct Lan {
    name: String,
    /// Sockets of the wire: a path of these must be short.
    sockets: PathBuf,
    third: u8,
    nodes: u8,
    bridges: Vec<Child>,
    wire: Wire,
}

impl Lan {
    /// Makes `nodes` namespaces and connects them.
    ///
    /// # Errors
    /// If this process may not, or a tool is missing; says which.
    pub fn new(nodes: u8, seed: u64) -> anyhow::Result<Self> {
        if call("id", "-u")?.trim() != "0" {
            bail!(
                "network namespaces need root; run this as root, or in a container with CAP_SYS_ADMIN and CAP_NET_ADMIN"
            );
        }
        let process = std::process::id();
        // Several of these may run on one machine.
        let third = u8::try_from(process % 250).unwrap_or(0);
        let name = format!("cw{}", process % 100_000);
        let sockets = std::env::temp_dir().join(&name);
        std::fs::create_dir_all(&sockets)?;
        let wire = Wire::open(&sockets, seed).context("the wire cannot be opened")?;
        let mut lan = Self { name, sockets, third, nodes, bridges: Vec::new(), wire };
        lan.make_bridge()?;
        for node in 1..=nodes {
            lan.make_node(node)?;
        }
        Ok(lan)
    }

    fn make_bridge(&self) -> anyhow::Result<()> {
        let (name, third) = (&self.name, self.third);
        call("ip", &format!("link add {name}b type bridge"))?;
        call("ip", &format!("addr add 10.78.{third}.254/24 dev {name}b"))?;
        call("ip", &format!("link set {name}b up"))?;
        Ok(())
    }

    fn make_node(&mut self, node: u8) -> anyhow::Result<()> {
        let (name, third, space) = (self.name.clone(), self.third, self.space(node));
        call("ip", &format!("netns add {space}"))?;
        call("ip", &format!("-n {space} link set lo up"))?;
        call("ip", &format!("link add {name}v{node} type veth peer name look netns {space}"))?;
        call("ip", &format!("link set {name}v{node} master {name}b up"))?;
        call("ip", &format!("-n {space} addr add 10.78.{third}.{node}/24 dev look"))?;
        call("ip", &format!("-n {space} link set look up"))?;
        let queue = format!("echo {WAITING_MAX} > /proc/sys/net/unix/max_dgram_qlen");
        let done = inside(&space, "sh").args(["-c", &queue]).status()?;
        anyhow::ensure!(done.success(), "the length of queues cannot be set in {space}");
        let device = format!("TUN:10.77.0.{node}/24,tun-type=tun,iff-no-pi,iff-up,tun-name=lane");
        let (hub, socket) = (Wire::hub(&self.sockets), Wire::socket(&self.sockets, node));
        let ends = format!("UNIX-SENDTO:{},bind={}", hub.display(), socket.display());
        let bridge =
            inside(&space, "socat").args(["-b", "4096", &device, &ends]).stderr(Stdio::null()).spawn();
        self.bridges.push(bridge.context("socat cannot be started")?);
        self.wait_for_device(&space)
    }

    fn wait_for_device(&self, space: &str) -> anyhow::Result<()> {
        let until = Instant::now() + Duration::from_secs(10);
        while !call("ip", &format!("-n {space} -4 addr show dev lane"))
            .is_ok_and(|it| it.contains("10.77.0."))
        {
            if Instant::now() > until {
                bail!("{space} got no network device; is socat there, and does the kernel have TUN?");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// The namespace of a node.
    #[must_use]
    pub fn space(&self, node: u8) -> String {
        format!("{}n{node}", self.name)
    }

    /// Where neighbours reach a node.
    #[must_use]
    pub fn lane(node: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 77, 0, node))
    }

    /// Where the API of a node listens.
    #[must_use]
    pub fn look(&self, node: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 78, self.third, node))
    }

    /// Where this process is, seen from the nodes.
    #[must_use]
    pub fn outside(&self) -> IpAddr {
        self.look(254)
    }

    /// What happens between neighbours.
    #[must_use]
    pub const fn wire(&self) -> &Wire {
        &self.wire
    }

    /// How many nodes there are.
    #[must_use]
    pub const fn nodes(&self) -> u8 {
        self.nodes
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for bridge in &mut self.bridges {
            // It may have ended already.
            let _ = bridge.kill();
            let _ = bridge.wait();
        }
        let quietly = |line: &str| {
            let quiet = Command::new("ip").args(line.split(' ')).stderr(Stdio::null()).status();
            // What was never made cannot be taken away.
            let _ = quiet;
        };
        for node in 1..=self.nodes {
            quietly(&format!("link del {}v{node}", self.name));
            quietly(&format!("netns del {}", self.space(node)));
        }
        quietly(&format!("link del {}b", self.name));
        // Sockets alone are in there.
        let _ = std::fs::remove_dir_all(&self.sockets);
    }
}
