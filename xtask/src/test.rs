//! Everything that must hold before a change is good.

use crate::run::run;
use crate::{peers, sim, soak};

/// Set-up, format, lints, tests, 200 seeds of the simulated neighbourhood, a minute of the meters' soak, in this order.
///
/// # Errors
/// The first that fails.
pub fn all() -> anyhow::Result<()> {
    peers::install()?;
    run("cargo", &["fmt", "--all", "--check"])?;
    run("cargo", &["clippy", "--workspace", "--all-targets", "--locked", "--quiet", "--", "-D", "warnings"])?;
    run("python3", &["node/tests/peers/recompute_test.py"])?;
    run("python3", &["node/tests/peers/recompute_bill_test.py"])?;
    run("cargo", &["test", "--workspace", "--locked"])?;
    devices_over_modbus()?;
    run("cargo", &["test", "-p", "sim", "--features", "optimum", "--lib", "--locked", "optimum"])?;
    sim::short()?;
    soak::short()?;
    eprintln!("all tests passed");
    Ok(())
}

/// The only build that can write to devices: its lints, and the tests that only it has.
fn devices_over_modbus() -> anyhow::Result<()> {
    let build = ["--package", "node", "--features", "control-modbus", "--locked"];
    let with = |command: &'static str, rest: &[&'static str]| {
        let arguments: Vec<&str> = [&[command], build.as_slice(), rest].concat();
        run("cargo", &arguments)
    };
    with("clippy", &["--all-targets", "--quiet", "--", "-D", "warnings"])?;
    with("test", &["--test", "modbus_devices"])?;
    with("test", &["--lib", "--", "household::modbus", "config::"])
}
