use proptest::prelude::*;

use super::*;

const POLL: Duration = Duration::from_secs(1);

/// A meter on a living grid, watched every second.
struct Rig {
    watch: Watch,
    start: Instant,
    second: u64,
}

impl Rig {
    fn new() -> Self {
        Self { watch: Watch::new(POLL), start: Instant::now(), second: 0 }
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_secs(self.second)
    }

    fn counted(&self, import: u64, export: u64, quantum: u64) -> Counted {
        let wh = |wh| Some(WattHours::new(wh));
        Counted { import: wh(import), export: wh(export), quantum: WattHours::new(quantum), at: self.now() }
    }

    /// Power for so many seconds; with `alive`, the voltage wanders as it does.
    fn power(&mut self, power_w: i64, seconds: u64, alive: bool) {
        for _ in 0..seconds {
            self.second += 1;
            let voltage = 230_000 + if alive { u32::try_from(self.second % 17).unwrap() } else { 0 };
            self.watch.live(Moment {
                power_w,
                voltage_mv: [Some(voltage), None, None],
                frequency_mhz: Some(50_000),
                at: self.now(),
            });
        }
    }

    /// A quarter of an hour in which power adds up to 250 Wh per kW and the registers grow as said.
    fn quarter(
        &mut self,
        power_w: i64,
        import: u64,
        export: u64,
        quantum: u64,
    ) -> Result<Option<Check>, Mismatch> {
        self.power(power_w, 1, true);
        let _ = self.watch.close_interval(self.counted(1_000, 1_000, quantum));
        self.power(power_w, 900, true);
        self.watch.close_interval(self.counted(1_000 + import, 1_000 + export, quantum))
    }
}

#[test]
fn a_value_grows_stale_after_three_polls_and_is_never_shown_again() {
    let mut rig = Rig::new();
    assert_eq!((rig.watch.condition(rig.now()), rig.watch.power_w(rig.now())), (Condition::Starting, None));
    rig.power(420, 5, true);
    let after = |seconds| rig.now() + Duration::from_secs(seconds);
    assert_eq!((rig.watch.condition(after(3)), rig.watch.power_w(after(3))), (Condition::Good, Some(420)));
    assert_eq!(rig.watch.condition(after(4)), Condition::Stale(Duration::from_secs(4)));
    assert_eq!(rig.watch.condition(after(61)), Condition::Offline(Duration::from_secs(61)));
    assert_eq!((rig.watch.power_w(after(4)), rig.watch.power_w(after(61))), (None, None));
    assert!(rig.watch.condition(after(61)).to_string().contains("check its power, its cable"));
}

#[test]
fn counters_that_miss_what_power_adds_up_to_in_a_quarter_of_an_hour_are_frozen() {
    let mut rig = Rig::new();
    for _ in 0..90 {
        rig.power(2_000, 10, true);
        rig.watch.energy(rig.counted(5_000, 0, 1));
    }
    assert_eq!(rig.watch.condition(rig.now()), Condition::Good, "14 min 50 s");
    rig.power(2_000, 20, true);
    rig.watch.energy(rig.counted(5_000, 0, 1));
    let Condition::Frozen(Freeze::Counters { integrated, .. }) = rig.watch.condition(rig.now()) else {
        panic!("not frozen")
    };
    assert!((490..=520).contains(&integrated.get()), "{integrated}");
    assert_eq!(rig.watch.power_w(rig.now()), Some(2_000), "power itself is alive");
    rig.watch.energy(rig.counted(5_510, 0, 1));
    assert_eq!(rig.watch.condition(rig.now()), Condition::Good);
}

#[test]
fn a_coarse_counter_may_stand_still_while_little_flows() {
    let mut rig = Rig::new();
    for _ in 0..120 {
        rig.power(400, 10, true);
        rig.watch.energy(rig.counted(5_000, 0, 100));
    }
    assert_eq!(rig.watch.condition(rig.now()), Condition::Good, "133 Wh are less than two steps of 100 Wh");
}

#[test]
fn a_generation_meter_does_not_freeze_by_what_it_draws_at_night() {
    let mut rig = Rig::new();
    for _ in 0..120 {
        rig.power(300, 10, true);
        rig.watch.energy(Counted { import: None, ..rig.counted(0, 5_000, 1) });
    }
    assert_eq!(rig.watch.condition(rig.now()), Condition::Good);
}

#[test]
fn registers_identical_to_the_bit_for_a_minute_while_power_flows_are_frozen() {
    let mut rig = Rig::new();
    for _ in 0..7 {
        rig.watch.energy(rig.counted(5_000, 0, 1));
        rig.power(800, 10, false);
    }
    let condition = rig.watch.condition(rig.now());
    assert_eq!(condition, Condition::Frozen(Freeze::Everything { since: Duration::from_secs(69) }));
    assert!(condition.to_string().contains("a gateway probably repeats old values"), "{condition}");
    assert_eq!(rig.watch.power_w(rig.now()), None);
    rig.power(801, 1, false);
    assert_eq!(rig.watch.condition(rig.now()), Condition::Good);

    let mut moving = Rig::new();
    for step in 0..7 {
        moving.watch.energy(moving.counted(5_000 + step, 0, 1));
        moving.power(800, 10, false);
    }
    assert_eq!(moving.watch.condition(moving.now()), Condition::Good, "its counters move");
    let mut idle = Rig::new();
    idle.power(0, 90, false);
    assert_eq!(idle.watch.condition(idle.now()), Condition::Good, "nothing flows");
}

#[test]
fn registers_that_agree_with_power_pass_within_two_steps_or_three_percent() {
    for (power_w, import, export, quantum) in [
        (4_000, 1_000, 0, 1),
        (4_000, 1_029, 0, 1),
        (-4_000, 0, 971, 1),
        (400, 100, 0, 100),
        (40, 200, 0, 100),
    ] {
        let check = Rig::new().quarter(power_w, import, export, quantum).unwrap().unwrap();
        assert_eq!(check.integrated_wh, power_w / 4);
    }
    assert!(Rig::new().quarter(4_000, 1_035, 0, 1).is_err());
}

#[test]
fn a_mismatch_says_both_figures_and_what_it_probably_is() {
    for (power_w, import, export, likely) in [
        (4_000, 0, 1_000, Likely::SwappedSign),
        (-4_000, 1_000, 0, Likely::SwappedSign),
        (4_000, 0, 0, Likely::CountersStandStill),
        (4_000, 100, 0, Likely::Scale(10)),
        (400, 100_000, 0, Likely::Scale(1_000)),
        (4_000, 25, 0, Likely::Transformer(40)),
        (4_000, 666, 0, Likely::Unknown),
    ] {
        let mismatch = Rig::new().quarter(power_w, import, export, 1).unwrap_err();
        assert_eq!(mismatch.likely, likely, "{mismatch}");
    }
    let text = Rig::new().quarter(4_000, 0, 1_000, 1).unwrap_err().to_string();
    assert_eq!(
        text,
        "over the last 900 s the energy registers say -1000 Wh and the power adds up to 1000 Wh: the same amount in the \
         other direction, so power or registers have the wrong sign; turn the current transformer round or choose the \
         profile with the other sign, then switch on a kettle: import must rise"
    );
}

#[test]
fn power_is_no_check_where_it_was_not_known_and_no_energy_across_a_silence() {
    let mut rig = Rig::new();
    rig.power(4_000, 1, true);
    let _ = rig.watch.close_interval(rig.counted(0, 0, 1));
    rig.power(4_000, 300, true);
    rig.second += 600;
    rig.power(4_000, 1, true);
    let estimate = rig.watch.estimate();
    assert_eq!((estimate.import.get(), estimate.known), (333, Duration::from_secs(300)));
    assert_eq!(rig.watch.close_interval(rig.counted(0, 0, 1)), Ok(None));
}

#[test]
fn a_line_through_zero_is_energy_in_both_directions() {
    let mut integral = Integral::default();
    // From 3 kW import to 1 kW export in 8 s: 6 s of triangle below 3 kW, 2 s below 1 kW.
    integral.add(3_000, -1_000, Duration::from_secs(8));
    assert_eq!((integral.import / 2, integral.export / 2), (9_000_000, 1_000_000));
}

proptest! {
    #[test]
    fn the_integral_of_a_line_does_not_depend_on_where_it_is_cut(
        from in -20_000i64..20_000,
        slope in -50i64..50,
        first in 1u64..5_000,
        second in 1u64..5_000,
    ) {
        let at = |ms: u64| from + slope * i64::try_from(ms).unwrap();
        let (mut whole, mut cut) = (Integral::default(), Integral::default());
        whole.add(from, at(first + second), Duration::from_millis(first + second));
        cut.add(from, at(first), Duration::from_millis(first));
        cut.add(at(first), at(first + second), Duration::from_millis(second));
        // Only the triangles are divided, and those are rounded down.
        prop_assert!(whole.import.abs_diff(cut.import) <= 2 && whole.export.abs_diff(cut.export) <= 2);
        prop_assert_eq!(whole.known_ms, cut.known_ms);
    }
}
