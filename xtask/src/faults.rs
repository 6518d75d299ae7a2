//! Faults: real nodes in network namespaces, built first.

use anyhow::Context;
use clap::Args as ClapArgs;

use crate::peers;
use crate::run::run as run_program;

/// What to let go wrong.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  cargo xtask faults street                       everything, about ten minutes
  cargo xtask faults street --short --seed 7
  cargo xtask faults street --scenario islands --scenario power-cut --output json
  cargo xtask faults nat
  cargo xtask faults list")]
pub struct Args {
    /// `street`, `nat` or `list`, and their options; `street --help` shows them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, default_value = "list")]
    given: Vec<String>,
}

/// Builds the program and the harness, and runs it.
///
/// # Errors
/// If a promise was broken, or something needed is missing.
pub fn run(args: &Args) -> anyhow::Result<()> {
    peers::install()?;
    run_program("cargo", &["build", "--quiet", "--package", "node", "--package", "faults"])?;
    // Both are beside this program, wherever Cargo's target folder is.
    let harness = std::env::current_exe()?.with_file_name("faults");
    let harness = harness.to_str().context("the path of the target folder is not UTF-8")?;
    run_program(harness, &args.given.iter().map(String::as_str).collect::<Vec<_>>())
}
