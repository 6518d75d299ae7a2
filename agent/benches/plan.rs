//! Time of one plan of 48 hours, on one core: homes with a battery, and homes with everything.
//!
//! Each measurement goes through sixty-four homes (`tests/plan/homes.rs`), so that no tariff or size is the one measured.

use std::hint::black_box;

use agent::plan;
use criterion::{Criterion, criterion_group, criterion_main};

#[path = "../tests/plan/homes.rs"]
mod homes;

use homes::{Home, Kit, home};

fn planned(homes: &[Home]) -> usize {
    let plan = |home: &Home| plan(&home.devices, &home.wishes, &home.standing, home.from, &home.ahead);
    homes.iter().map(|home| black_box(plan(home)).steps.len()).sum()
}

fn plans(criterion: &mut Criterion) {
    let kits = [("64 batteries", Kit::BATTERY), ("64 homes with battery, vehicle and heat", Kit::ALL)];
    let mut group = criterion.benchmark_group("plan");
    for (name, kit) in kits {
        let homes: Vec<Home> = (0..64).map(|seed| home(seed, kit, agent::HORIZON)).collect();
        group.bench_function(name, |bencher| bencher.iter(|| planned(black_box(&homes))));
    }
    group.finish();
}

criterion_group!(benches, plans);
criterion_main!(benches);
