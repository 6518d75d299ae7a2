//! The short run, as part of every test run: what `cargo xtask faults street --short` and one kind of router of
//! `cargo xtask faults nat` do. Needs root, iproute2, socat, nftables and a C compiler; without them it fails and says so.
#![expect(clippy::panic, clippy::print_stdout, reason = "a test that cannot do its work must fail")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use faults::nat::{self, Router};
use faults::report::{self, Plan};
use faults::scenario;

/// Each needs the machine to itself.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The program, built from the sources that are tested.
fn program() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--locked", "--quiet", "--package", "node", "--bin", "commonwatt"])
        .current_dir(&root)
        .status();
    assert!(built.is_ok_and(|status| status.success()), "the program cannot be built");
    // Beside the folder of this test: target/debug/deps.
    let own = std::env::current_exe().unwrap_or_else(|error| panic!("where is this test? {error}"));
    own.ancestors()
        .nth(2)
        .map(|folder| folder.join("commonwatt"))
        .filter(|program| program.exists())
        .unwrap_or_else(|| panic!("the program is not beside {}", own.display()))
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

#[test]
fn a_parted_a_killed_and_a_full_street_keep_what_they_acknowledged() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let plan = Plan {
        program: program(),
        folder: folder("faults-street"),
        seed: 1,
        scenarios: scenario::SHORT.map(str::to_owned).to_vec(),
        // The thirty seconds of the promise are for the long run on a machine that does nothing else.
        resume_within: Duration::from_secs(120),
    };
    let report =
        report::run(&plan, &mut |line| println!("{line}")).unwrap_or_else(|error| panic!("{error:#}"));
    println!("{}", report::summary(&report));
    assert!(report.found.acknowledged_orders > 0 && report.found.acknowledged_in_books > 0, "{report:?}");
    assert!(report.packets[2] > 0, "nothing was cut off: {report:?}");
}

#[test]
fn homes_behind_two_routers_meet_through_relays_and_outlive_the_loss_of_each() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let meeting = nat::meet(&program(), &folder("faults-nat"), Router::RandomPorts)
        .unwrap_or_else(|error| panic!("{error:#}"));
    println!("{}", nat::summary(&nat::Report { meetings: vec![meeting.clone()] }));
    assert_eq!(meeting.relayed_after_loss, [true, true], "nobody can guess the ports of these routers");
}
