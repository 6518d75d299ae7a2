//! Runs seeds of the simulated neighbourhood: `cargo xtask sim`.
//!
//! Text for people, or with `--output json` one closing object on stdout. A seed that fails is printed with the first rule
//! that broke and the command that runs it again; then the exit code is 1.
#![expect(clippy::print_stdout, reason = "what it found is its output")]
#![expect(clippy::print_stderr, reason = "progress is told beside the output")]

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clap::Parser;
use sim::cluster::{Control, Plan, Report, Totals, replay_command, run, run_told};

/// Runs seeds of a simulated neighbourhood of whole nodes under faults.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask sim", bin_name = "cargo xtask sim")]
struct Args {
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// How many.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// `json`: one object on stdout at the end.
    #[arg(long, default_value = "text")]
    output: String,
    /// Print everything that happens (one seed).
    #[arg(long)]
    trace: bool,
    /// Take a safeguard away, which must make seeds fail: log-off, half-quorum, no-signature-check, no-fdatasync or
    /// lying-disk.
    #[arg(long, value_name = "SAFEGUARD", value_parser = control)]
    without: Option<Control>,
    /// Run every tenth seed twice and compare.
    #[arg(long)]
    twice: bool,
    /// Instead of seeds: 118 homes, 13 delegates, so many days with elections, joins, leaves and two ejections.
    #[arg(long, value_name = "N")]
    days: Option<u64>,
    /// With `--days`: homes with a node of their own.
    #[arg(long, default_value_t = 40)]
    whole: usize,
    /// So many seeds at a time.
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

fn control(word: &str) -> Result<Control, String> {
    let known = Control::ALL.into_iter().find(|control| control.word() == word);
    known.ok_or_else(|| format!("use one of {}", Control::ALL.map(Control::word).join(", ")))
}

fn plan_of(args: &Args, seed: u64) -> Plan {
    match (args.without, args.days) {
        (_, Some(days)) => Plan { seed, ..Plan::days(days, 118, args.whole, 13) },
        (Some(control), _) => Plan::rough(seed, 4, 1).without(control),
        (None, None) => Plan::of(seed),
    }
}

fn main() -> ExitCode {
    let mut args = Args::parse();
    if args.days.is_some() {
        args.seeds = 1;
    }
    let started = Instant::now();
    let mut totals = Totals::default();
    for (plan, report) in run_all(&args) {
        totals.add(&plan, &report);
    }
    let wall_ms = started.elapsed().as_millis();
    if args.output == "json" {
        println!("{}", json(&args, &totals, wall_ms));
    } else {
        print_text(&totals, wall_ms);
    }
    if totals.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs all seeds on as many threads as asked for; what came of them, in their order.
fn run_all(args: &Args) -> Vec<(Plan, Report)> {
    let (next, started) = (AtomicU64::new(0), Instant::now());
    let work = || {
        let mut done = Vec::new();
        loop {
            let count = next.fetch_add(1, Ordering::Relaxed);
            if count >= args.seeds {
                return done;
            }
            done.push(run_one(args, args.from.saturating_add(count)));
            if (count + 1).is_multiple_of(100) {
                eprintln!("{} of {} seeds, {} s", count + 1, args.seeds, started.elapsed().as_secs());
            }
        }
    };
    let mut all: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..args.threads.max(1)).map(|_| scope.spawn(work)).collect();
        // A seed that panics has found a fault of the program; its thread has said where.
        threads.into_iter().flat_map(|thread| thread.join().expect("no seed panics")).collect()
    });
    all.sort_by_key(|(plan, _)| plan.seed);
    all
}

fn run_one(args: &Args, seed: u64) -> (Plan, Report) {
    let plan = plan_of(args, seed);
    let report = if args.trace { tell(plan.clone()) } else { run(plan.clone()) };
    let report = if args.twice && seed.is_multiple_of(10) { again(&plan, report) } else { report };
    if let Some(violation) = &report.violation {
        eprintln!("seed {seed} failed {violation}\n  again: {}", replay_command(seed, args.without));
    }
    if args.days.is_some() {
        let Report { term, ejected, silenced, decided_by, joined, left, trace, .. } = &report;
        eprintln!("term {term}, ejected {ejected:?}, silent {silenced:?}, {joined} joined, {left} left");
        eprintln!("trace {trace}");
        eprintln!("{} homes signed blocks", decided_by.len());
    }
    (plan, report)
}

fn tell(plan: Plan) -> Report {
    let (report, story) = run_told(plan);
    let mut out = std::io::stdout().lock();
    for line in story {
        // Whoever reads may have closed the pipe.
        if writeln!(out, "{line}").is_err() {
            break;
        }
    }
    report
}

/// The same plan must give the same trace.
fn again(plan: &Plan, report: Report) -> Report {
    let second = run(plan.clone());
    if second == report {
        return report;
    }
    let violation = Some(format!("by another trace the second time: {} and {}", report.trace, second.trace));
    Report { violation, ..report }
}

fn print_text(totals: &Totals, wall_ms: u128) {
    println!("{} seeds, {} failed, {} s", totals.seeds, totals.failures.len(), wall_ms / 1000);
    for (name, sum) in &totals.sums {
        println!("  {name:20} {sum}");
    }
    let Totals { liars, provable, convicted, .. } = totals;
    println!(
        "{liars} homes with two faces; {provable} showed both to somebody honest, {convicted} convicted"
    );
    for (name, seeds) in &totals.faults {
        println!("  {name:32} in {seeds} seeds");
    }
}

fn json(args: &Args, totals: &Totals, wall_ms: u128) -> String {
    let failures: Vec<_> = totals
        .failures
        .iter()
        .map(|(seed, violation, trace)| {
            let again = replay_command(*seed, args.without);
            serde_json::json!({ "seed": seed, "violation": violation, "trace": trace, "again": again })
        })
        .collect();
    let seconds = |ms: u128| serde_json::json!(u64::try_from(ms / 1000).unwrap_or(u64::MAX));
    let virtual_ms = totals.sums.get("virtual_ms").copied().unwrap_or_default();
    serde_json::json!({
        "from": args.from,
        "seeds": totals.seeds,
        "failed": failures.len(),
        "failures": failures,
        "virtual_s": virtual_ms / 1000,
        "wall_s": seconds(wall_ms),
        "sums": totals.sums,
        "seeds_with": totals.faults,
        "liars": totals.liars,
        "provable": totals.provable,
        "convicted": totals.convicted,
    })
    .to_string()
}
