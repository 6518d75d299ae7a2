//! The third-party programs that judge ours: Debian packages and a Python virtual environment.

use anyhow::{Context, bail};

use crate::run::{output_of, root, run, succeeds};

/// Debian packages, and a command that succeeds if what each brings is there.
const PACKAGES: [(&str, &str); 8] = [
    ("mbpoll", "command -v mbpoll"),
    ("socat", "command -v socat"),
    ("gcc", "command -v cc"),
    ("iproute2", "command -v ip"),
    ("nftables", "command -v nft"),
    ("pkg-config", "command -v pkg-config"),
    (
        "libmodbus-dev",
        "pkg-config --exists libmodbus && ls /usr/share/doc/libmodbus-dev/examples/unit-test-server.c*",
    ),
    ("python3-venv", "python3 -c 'import ensurepip, venv'"),
];

/// What goes into the virtual environment, pinned.
const PYTHON_PACKAGES: [&str; 4] =
    ["pymodbus==3.16.1", "pyserial==3.5", "pysunspec2==1.3.7", "pymerkle==6.1.0"];

/// Installs what is missing and says so.
///
/// # Errors
/// Where something is missing and cannot be installed, with the command that would.
pub fn install() -> anyhow::Result<()> {
    install_debian()?;
    install_python()
}

fn install_debian() -> anyhow::Result<()> {
    let missing: Vec<&str> = PACKAGES
        .iter()
        .filter(|(_, probe)| !succeeds("sh", &["-c", probe]))
        .map(|(package, _)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    if !succeeds("sh", &["-c", "command -v apt-get"]) {
        bail!(
            "the tests need {names}, as Debian calls them, and there is no apt-get here; install them by hand"
        );
    }
    // Slim images leave documentation out, and the source of libmodbus' test server is part of it.
    let with_examples = "-o Dpkg::Options::=--path-include=/usr/share/doc/libmodbus-dev/examples/*";
    let install = "apt-get install -y --reinstall --no-install-recommends";
    let command = format!("apt-get update && {install} {with_examples} {names}");
    if output_of("id", &["-u"])?.trim() != "0" {
        bail!("the tests need the Debian packages {names}; install them with: sudo sh -c '{command}'");
    }
    eprintln!("installing the Debian packages {names}, which the tests compare with");
    run("sh", &["-c", &format!("export DEBIAN_FRONTEND=noninteractive; {command}")])
}

fn install_python() -> anyhow::Result<()> {
    let environment = root().join(".venv");
    let python = environment.join("bin/python");
    let python = python.to_str().context("the path of the checkout is not UTF-8")?;
    let installed = PYTHON_PACKAGES.iter().all(|package| {
        let (name, version) = package.split_once("==").unwrap_or((package, ""));
        let check = format!("import importlib.metadata as m; assert m.version('{name}') == '{version}'");
        succeeds(python, &["-c", &check])
    });
    if installed {
        return Ok(());
    }
    let packages = PYTHON_PACKAGES.join(" ");
    eprintln!("making the Python environment .venv with {packages}, which the tests compare with");
    let target = environment.to_str().context("the path of the checkout is not UTF-8")?;
    run("python3", &["-m", "venv", "--clear", target]).context(
        "a Python virtual environment is needed; on Debian: apt-get install python3-venv, then run this again",
    )?;
    let mut arguments = vec!["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    arguments.extend(PYTHON_PACKAGES);
    run(python, &arguments)
}
