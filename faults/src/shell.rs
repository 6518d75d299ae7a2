//! Running other programs.

use std::ffi::OsStr;
use std::process::Command;

use anyhow::{Context, bail};

/// Runs `program` and returns what it prints.
///
/// # Errors
/// If it cannot be started or fails, with what it said.
pub fn run<I: AsRef<OsStr>>(program: impl AsRef<OsStr>, arguments: &[I]) -> anyhow::Result<String> {
    let name = program.as_ref().to_string_lossy().into_owned();
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("{name} cannot be started; `cargo xtask setup` installs what is needed"))?;
    if !output.status.success() {
        let said: Vec<_> = arguments.iter().map(|it| it.as_ref().to_string_lossy().into_owned()).collect();
        bail!("{name} {} failed: {}", said.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs `program` with the words of `line`, none of which holds a space.
///
/// # Errors
/// As [`run`].
pub fn call(program: &str, line: &str) -> anyhow::Result<String> {
    run(program, &line.split_whitespace().collect::<Vec<_>>())
}

/// `program` in the network namespace `space`, killed when this process ends, however that comes.
#[must_use]
pub fn inside(space: &str, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", space, "setpriv", "--pdeathsig", "KILL"]).arg(program);
    command
}
