//! Faults: real nodes in network namespaces, built first.

use clap::Args as ClapArgs;

use crate::peers;
use crate::run::run as run_program;

/// What to let go wrong.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  cargo xtask faults street                       everything, about twenty minutes
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
    run_program("cargo", &["build", "--quiet", "--package", "node", "--bin", "commonwatt"])?;
    let mut arguments = vec!["run", "--quiet", "--package", "faults", "--"];
    arguments.extend(args.given.iter().map(String::as_str));
    run_program("cargo", &arguments)
}
