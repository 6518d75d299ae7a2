//! What comes from meters, and from those who read ours: frames, blocks of registers, counters, profiles.

use energy::{ClockQuality, MeterSerial, TakenAt, Timestamp, WattHours};
use meter::{Counter, CounterLimits, EnergyRegisters, Look, Memory, Profile, trial};

use crate::Choices;

/// No register of a sample that is believed counts further, Wh.
const REGISTER_WH_MAX: u64 = 1_000_000_000_000;

thread_local! {
    /// Frames are read from streams, and with time-outs.
    static RUNTIME: tokio::runtime::Runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
}

/// Modbus frames of both directions and both framings, and blocks of every built-in profile.
pub fn modbus(bytes: &[u8]) {
    for rtu in [false, true] {
        for cut in RUNTIME.with(|runtime| runtime.block_on(trial::requests_in(rtu, bytes))) {
            judge_request(rtu, &cut);
        }
        if let Some(heard) = trial::heard_in(rtu, bytes) {
            assert!(matches!(heard.function, 3 | 4) && heard.end <= bytes.len());
            assert!(heard.result.is_err() || heard.result.is_ok_and(|words| words.len() <= 127));
        }
    }
    let mut choices = Choices::new(bytes);
    let profiles = Profile::builtin();
    let profile = &profiles[choices.one_of(profiles.len())];
    let words: Vec<u16> =
        choices.rest().chunks_exact(2).map(|it| u16::from_be_bytes([it[0], it[1]])).collect();
    let (energy, _) = trial::blocks_of(profile, &words);
    for register in energy.into_iter().flatten().flatten() {
        assert!(register <= REGISTER_WH_MAX, "{register} Wh is believed");
    }
}

/// What was cut out of a stream is a request by itself; its answer is heard as one of that unit.
fn judge_request(rtu: bool, cut: &trial::Cut) {
    let again = RUNTIME.with(|runtime| runtime.block_on(trial::requests_in(true, &cut.rtu)));
    if let Ok((_, _, count)) = cut.read {
        assert_eq!(again.len(), 1);
        assert_eq!((&again[0].rtu, again[0].read), (&cut.rtu, cut.read));
        let heard = trial::heard_in(rtu, &cut.answer).unwrap();
        assert_eq!((heard.unit, heard.end), (cut.unit, cut.answer.len()));
        assert_eq!(heard.result, Ok(vec![0; usize::from(count)]));
    }
}

/// Registers over time: published ones never fall within one series, a rollover apart, and a restart changes nothing.
pub fn counter(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(memory) = Memory::parse(text)
    {
        let again = Memory::parse(&memory.to_text().unwrap()).unwrap();
        assert_eq!(again, memory);
    }
    let mut choices = Choices::new(bytes);
    let power_max_w = choices.pick(&[None, Some(25_000), Some(0), Some(u64::MAX)]);
    let limits = CounterLimits { power_max_w, speed: choices.pick(&[1, 60, u32::MAX]) };
    let mut counter = Counter::new(limits);
    let mut look = first_look();
    let mut last: Option<(u64, EnergyRegisters)> = None;
    while choices.more() {
        next_look(&mut choices, &mut look);
        let before = counter.series();
        if let Ok(accepted) = counter.observe(look.clone()) {
            let now = (counter.series(), accepted.registers);
            if let Some((series, was)) = last.filter(|(series, _)| *series == now.0 && before == now.0) {
                let rose = was.import <= now.1.import && was.export <= now.1.export;
                assert!(rose, "registers of series {series} fell: {was:?}, then {:?}", now.1);
            }
            last = Some(now);
        }
        if choices.one_in(32) {
            restart(&mut counter, limits);
            last = None;
        }
        if choices.one_in(8) {
            counter.registered(&look.serial);
            last = None;
        }
        assert!(counter.published_series() <= counter.series());
    }
}

/// A counter goes on from its memory as it would have without the stop, but for how it counts its series.
fn restart(counter: &mut Counter, limits: CounterLimits) {
    let memory = counter.memory(0);
    let Ok(text) = memory.to_text() else { return };
    let read = Memory::parse(&text).unwrap();
    assert_eq!(read, memory);
    *counter = Counter::from_memory(limits, read);
}

fn first_look() -> Look {
    Look {
        serial: MeterSerial::new("M-1").unwrap(),
        registers: EnergyRegisters { import: WattHours::new(1_000), export: WattHours::new(500) },
        quantum: WattHours::new(1),
        modulus: None,
        at: TakenAt { time: Timestamp::from_unix_ms(1_780_000_000_000), monotonic_ms: 0, boot_id: [0; 16] },
        clock: ClockQuality::Synced,
    }
}

/// The same meter a little later, mostly.
fn next_look(choices: &mut Choices<'_>, look: &mut Look) {
    let rise = |choices: &mut Choices<'_>, register: WattHours| {
        let small = u64::from(choices.byte());
        let value = register.get();
        WattHours::new(match choices.one_of(10) {
            0..=5 => value.saturating_add(small),
            6 => value.saturating_sub(small),
            7 => small,
            8 => value.saturating_add(small << 32),
            _ => choices.number(),
        })
    };
    look.registers.import = rise(choices, look.registers.import);
    look.registers.export = rise(choices, look.registers.export);
    let pause = choices.pick(&[1_000, 5_000, 31_000, 60_001, 900_000, 86_400_000 * 400, 0]);
    look.at.monotonic_ms = look.at.monotonic_ms.saturating_add(pause);
    look.at.time = look.at.time.plus_ms(pause);
    match choices.one_of(24) {
        0 => look.serial = MeterSerial::new(choices.pick(&["M-1", "M-2"])).unwrap(),
        1 => look.at.boot_id = [choices.byte(); 16],
        2 => look.clock = choices.pick(&[ClockQuality::Synced, ClockQuality::Unsynced]),
        3 => look.at.time = Timestamp::from_unix_ms(choices.number()),
        4 => {
            look.modulus =
                choices.pick(&[None, Some(1_000_000), Some(0), Some(u64::MAX)]).map(WattHours::new);
        }
        5 => look.quantum = WattHours::new(choices.pick(&[1, 0, 1_000, u64::MAX])),
        6 => look.at.monotonic_ms = choices.number(),
        _ => {}
    }
}

/// Device profiles as people write them.
pub fn profile(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Profile::parse(text) {
        Ok(profile) => {
            let again = Profile::parse(text).unwrap();
            assert_eq!((again.hash(), again.name()), (profile.hash(), profile.name()));
            let words = [0x1234; 125];
            let _ = trial::blocks_of(&profile, &words);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if let Ok(address) = text.parse::<meter::HostPort>() {
        assert_eq!(
            address.to_string().parse().as_ref(),
            Ok(&address),
            "an address reads back as it is shown"
        );
    }
    if let Ok(line) = text.parse::<meter::Line>() {
        assert_eq!(line.to_string().parse().as_ref(), Ok(&line));
    }
}
