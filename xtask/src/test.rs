//! Everything that must hold before a change is good.

use crate::run::run;
use crate::{peers, soak};

/// Set-up, format, lints, tests, a minute of the meters' soak, in this order.
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
    soak::short()?;
    eprintln!("all tests passed");
    Ok(())
}
