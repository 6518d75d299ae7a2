//! The short run, as part of every test run: what `cargo xtask faults street --short` and one kind of router of
//! `cargo xtask faults nat` do. Needs root, iproute2, socat, nftables and a C compiler; without them it fails and says so.
#![expect(clippy::panic, clippy::print_stdout, reason = "a test that cannot do its work must fail")]

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use faults::nat::{self, Router};
use faults::report::{self, Plan};
use faults::scenario;

/// Each needs the machine to itself.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The program: beside the folder of this test, where every test of the workspace has it built.
fn program() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_else(|error| panic!("where is this test? {error}"));
    let beside = own.ancestors().nth(2).map(|folder| folder.join("commonwatt"));
    beside.filter(|program| program.exists()).unwrap_or_else(|| {
        panic!("the program is not two folders above {}; cargo build --package node makes it", own.display())
    })
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
    let meeting = nat::meet(&program(), &folder("faults-nat"), Router::RandomPorts, None)
        .unwrap_or_else(|error| panic!("{error:#}"));
    println!("{}", nat::summary(&nat::Report { meetings: vec![meeting.clone()] }));
    assert_eq!(meeting.relayed_after_loss, [true, true], "nobody can guess the ports of these routers");
}
