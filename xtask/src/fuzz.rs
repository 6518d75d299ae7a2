//! Fuzzing: every target of `fuzz/`, or one, for so long.

use std::fs;

use anyhow::{Context, bail};
use clap::Args as ClapArgs;

use crate::run::{root, run as run_program, succeeds};

/// What to fuzz, and for how long.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Targets, as their files in fuzz/fuzz_targets are called; all of them unless given.
    targets: Vec<String>,
    /// Seconds for each.
    #[arg(long, default_value_t = 600)]
    seconds: u32,
    /// The most memory a target may take, in MiB.
    #[arg(long, default_value_t = 1024)]
    memory: u32,
}

/// Installs what is missing, then runs one target after the other. Whatever is found is written to fuzz/artifacts.
///
/// # Errors
/// If there is no such target, the tools cannot be installed, or a target found something.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let known = targets()?;
    let wanted = if args.targets.is_empty() { &known } else { &args.targets };
    if let Some(target) = wanted.iter().find(|target| !known.contains(target)) {
        bail!("there is no target {target}; there are {}", known.join(", "));
    }
    install()?;
    let mut found = Vec::new();
    for target in wanted {
        if let Err(error) = one(target, args) {
            eprintln!("{target}: {error}");
            found.push(target.as_str());
        }
    }
    if !found.is_empty() {
        bail!("{} found something, or could not be run; see fuzz/artifacts", found.join(", "));
    }
    eprintln!("{} targets ran for {} s each and found nothing", wanted.len(), args.seconds);
    Ok(())
}

fn targets() -> anyhow::Result<Vec<String>> {
    let folder = root().join("fuzz/fuzz_targets");
    let files = fs::read_dir(&folder).with_context(|| format!("{} cannot be read", folder.display()))?;
    let stem = |file: fs::DirEntry| Some(file.path().file_stem()?.to_string_lossy().into_owned());
    let mut names: Vec<String> = files.filter_map(|file| stem(file.ok()?)).collect();
    names.sort();
    Ok(names)
}

/// The nightly compiler, whose coverage instrumentation libFuzzer needs, and cargo-fuzz.
fn install() -> anyhow::Result<()> {
    if !succeeds("cargo", &["+nightly", "--version"]) {
        run_program("rustup", &["toolchain", "install", "nightly", "--profile", "minimal"])?;
    }
    if !succeeds("cargo", &["fuzz", "--version"]) {
        run_program("cargo", &["install", "cargo-fuzz", "--locked"])?;
    }
    Ok(())
}

/// Begins with real encodings and the kept inputs. Without a sanitizer: our crates forbid unsafe code, and it runs faster.
fn one(target: &str, args: &Args) -> anyhow::Result<()> {
    let (found, kept) = (format!("fuzz/corpus/{target}"), format!("corpus/kept/{target}"));
    let seeds = ["run", "--quiet", "--package", "corpus", "--example", "seeds", "--", target, &found];
    run_program("cargo", &seeds)?;
    let (seconds, memory) =
        (format!("-max_total_time={}", args.seconds), format!("-rss_limit_mb={}", args.memory));
    let fuzz =
        ["+nightly", "fuzz", "run", "--sanitizer", "none", "--fuzz-dir", "fuzz", target, &found, &kept];
    let limits = ["--", &seconds, &memory, "-timeout=20", "-print_final_stats=1"];
    run_program("cargo", &[&fuzz[..], &limits].concat())
}
