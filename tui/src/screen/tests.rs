//! Frames as text, compared with approved ones.

use std::time::{Duration, Instant};

use api::{
    BreachRow, Edge, EdgeEnvelope, Finality, ForwardMode, GateRow, IntervalRow, Latest, LiveInterval,
    MarketRules, MeterCondition, MeterStatus, OpenPosition, OrderTerms, Power, SettlementKind, SettlementRow,
    SettlementTerms, Status, Time, Today,
};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::{Color, Modifier};

use super::draw;
use crate::Size;
use crate::market::Market;
use crate::model::{Answer, Model, Sort};
use crate::terminal::frame;

/// 2016-06-13T12:00:00Z.
const NOON_MS: u64 = 1_465_819_200_000;
const INTERVAL_MS: u64 = 900_000;

fn status(home: &str) -> Status {
    Status {
        schema_version: 1,
        name: "Lane East".into(),
        home: home.into(),
        chain: "07".repeat(32),
        currency: "CNY".into(),
        market_time: Time::from_unix_ms(NOON_MS + 50 * 60_000),
        speed: 720,
        height: 131,
        head_time: Time::from_unix_ms(NOON_MS),
        block_id: "ab".repeat(32),
        round: 0,
        syncing: false,
        delegate: home < "h019",
        delegates: 7,
        interval: LiveInterval {
            start: Time::from_unix_ms(NOON_MS + 3 * INTERVAL_MS),
            end: Time::from_unix_ms(NOON_MS + 4 * INTERVAL_MS),
        },
        last_settled: Some(Time::from_unix_ms(NOON_MS)),
        finality: Some(Finality { p50_ms: 82, p99_ms: 119, blocks: 100 }),
        power: Some(Power { w: 420, age_ms: 1_200 }),
        meter: MeterStatus { state: MeterCondition::Good, detail: String::new() },
        peers: 11,
        notices: Vec::new(),
        version: "0.1.0".into(),
    }
}

fn settlement(sold_wh: u64, bought_wh: u64, amount_n: i64) -> SettlementRow {
    SettlementRow {
        interval_start: Time::from_unix_ms(NOON_MS),
        kind: SettlementKind::Settled,
        height: 128,
        import_wh: Some(bought_wh + 100),
        export_wh: Some(sold_wh),
        forward_wh: 0,
        forward_amount_n: 0,
        sold_wh,
        bought_wh,
        local_amount_n: amount_n,
        supplier_import_wh: 100,
        supplier_export_wh: 0,
        supplier_amount_n: 0,
        amount_n,
        baseline_n: 0,
        saved_n: amount_n,
        claim_n: 0,
        loss_n: 0,
        incentive_n: 0,
        quality: Some("good".into()),
        quantum_wh: 1,
    }
}

fn today(home: &str, saved_n: i64, settlement: SettlementRow) -> Today {
    Today {
        schema_version: 1,
        home: home.into(),
        currency: "CNY".into(),
        day_start: Time::from_unix_ms(NOON_MS - 43_200_000),
        day_end: Time::from_unix_ms(NOON_MS + 43_200_000),
        market_time: Time::from_unix_ms(NOON_MS),
        intervals_settled: 49,
        import_wh: 0,
        export_wh: 0,
        sold_wh: 0,
        bought_wh: 0,
        supplier_import_wh: 0,
        supplier_export_wh: 0,
        earned_n: 0,
        paid_n: 0,
        amount_n: 0,
        baseline_n: 0,
        saved_n,
        incentive_n: 0,
        lines: Vec::new(),
        baseline_lines: Vec::new(),
        latest: Some(Latest { settlement, lines: Vec::new() }),
        series: Vec::new(),
    }
}

fn interval(back: u64, matched_wh: Option<u64>) -> IntervalRow {
    IntervalRow {
        start: Time::from_unix_ms(NOON_MS - back * INTERVAL_MS),
        import_price: 250_000,
        export_price: 80_000,
        local_price: 165_000,
        matched_wh,
        supplier_import_wh: matched_wh.map(|wh| wh / 3),
        supplier_export_wh: matched_wh.map(|wh| wh * 2),
        losses_wh: None,
        homes: 6,
        missing: 0,
        height: 128 - back,
        settled_at: Time::from_unix_ms(NOON_MS),
    }
}

fn answer(status: Status, today: Today) -> Answer {
    Answer {
        status,
        today: Some(today),
        intervals: Some((0..12).map(|back| interval(back, Some(2_400 - back))).collect()),
        market: None,
    }
}

/// Six homes: two as they should be, the others each with something abnormal; asked `ago` before the frame.
fn street(now: Instant, ago: Duration) -> Model {
    let mut model = Model::new(["h001", "h004", "h007", "h010", "h019", "h022"].map(str::to_owned));
    let then = now.checked_sub(ago).unwrap();
    let mut give = |index: usize, home: &str, saved_n, change: &dyn Fn(&mut Status)| {
        let mut status = status(home);
        change(&mut status);
        let amount_n = 44_000_000 - i64::try_from(index).unwrap() * 20_000_000;
        let row = settlement(400 - 60 * index as u64, 37 * index as u64, amount_n);
        model.take(index, Ok(answer(status, today(home, saved_n, row))), then);
    };
    give(0, "h001", 1_480_000_000, &|_| {});
    give(1, "h004", 310_000_000, &|it| it.power = Some(Power { w: -2_310, age_ms: 800 }));
    give(2, "h007", 0, &|it| it.meter.state = MeterCondition::Silent);
    give(3, "h010", 20_000_000, &|it| it.height = 101);
    give(4, "h019", 990_000_000, &|it| (it.syncing, it.power) = (true, None));
    model.take(5, Err("no answer from http://127.0.0.1:8505; is the node running?".into()), now);
    model
}

#[test]
fn the_screen_fits_120_by_36() {
    let now = Instant::now();
    let model = street(now, Duration::from_millis(300));
    insta::assert_snapshot!(frame(&model, Size { columns: 120, rows: 36 }, now).unwrap());
}

#[test]
fn the_screen_fits_80_by_24() {
    let now = Instant::now();
    let model = street(now, Duration::from_millis(300));
    insta::assert_snapshot!(frame(&model, Size { columns: 80, rows: 24 }, now).unwrap());
}

#[test]
fn the_help_explains_every_letter() {
    let now = Instant::now();
    let mut model = street(now, Duration::from_millis(300));
    model.help = true;
    let text = frame(&model, Size { columns: 80, rows: 24 }, now).unwrap();
    for letter in
        ["U no answer", "M meter", "Q meter", "L blocks", "P power", "S syncing", "N no reading", "B carried"]
    {
        assert!(text.contains(letter), "{letter}\n{text}");
    }
}

#[test]
fn a_screen_that_is_too_small_says_so_and_any_size_can_be_drawn() {
    let now = Instant::now();
    let model = street(now, Duration::ZERO);
    let small = frame(&model, Size { columns: 60, rows: 20 }, now).unwrap();
    assert_eq!(small.lines().next(), Some("need 80x24, have 60x20"));
    for (columns, rows) in [(1, 1), (80, 24), (81, 25), (109, 24), (110, 24), (400, 120)] {
        frame(&model, Size { columns, rows }, now).unwrap();
    }
}

fn rules(node: &str, forward: ForwardMode) -> MarketRules {
    let edge = |node: &str, parent: Option<&str>| Edge {
        node: node.into(),
        parent: parent.map(str::to_owned),
        fee_up: 0,
        fee_down: 0,
        up_wh: None,
        down_wh: None,
        own: false,
    };
    MarketRules {
        schema_version: 1,
        home: "h".into(),
        node: node.into(),
        currency: "CNY".into(),
        market_time: Time::from_unix_ms(NOON_MS),
        mtu_minutes: 15,
        forward,
        orders: OrderTerms {
            opens_ms: 172_800_000,
            gate_ms: 300_000,
            freeze_ms: 300_000,
            min_wh: 100,
            open_max: 10,
            changes_max: 20,
            entries_per_hour: 60,
            entries_left: 60,
            envelope_permille: 500,
        },
        first_open: Some(Time::from_unix_ms(NOON_MS + 5 * INTERVAL_MS)),
        settlement: SettlementTerms {
            sharing: "neighbour".into(),
            sharing_price: None,
            unused: None,
            division: None,
            due_after_ms: 900_000,
            supplier_leg: "ledger".into(),
            money: "prepaid".into(),
            credit_n: 0,
            reading_source: "node".into(),
            losses: "recorded".into(),
            price_min: 0,
            price_max: 500_000,
        },
        edges: vec![
            edge("grid", None),
            edge("lv", Some("grid")),
            edge("f1", Some("lv")),
            edge("f2", Some("lv")),
        ],
        import_max_wh: 11_000,
        export_max_wh: 11_000,
        share_permyriad: 0,
        participation_permille: 1_000,
        balance_n: 0,
        reserved_n: 0,
        free_n: 0,
        next: vec![],
    }
}

/// The gate of 13:00 has closed: 1.5 kWh were traded there.
fn gate(index: u64) -> GateRow {
    GateRow {
        interval_start: Time::from_unix_ms(NOON_MS + (4 - index) * INTERVAL_MS),
        void: index == 1,
        volume_wh: (index == 0).then_some(1_500),
        orders: (index != 2).then_some(12),
        price: (index != 2).then_some(165_000),
        prices: vec![],
        own_price: None,
        height: 130 - index,
    }
}

fn market(node: &str, (sold_wh, bought_wh): (u64, u64), breaches: Vec<BreachRow>) -> Box<Market> {
    let position = |back: u64, sold_wh| OpenPosition {
        interval_start: Time::from_unix_ms(NOON_MS + (4 - back) * INTERVAL_MS),
        sold_wh,
        bought_wh,
        amount_n: 0,
        reserve_n: 0,
    };
    let envelope = |node: &str, up_wh| EdgeEnvelope { node: node.into(), up_wh, down_wh: Some(4_000) };
    Box::new(Market {
        rules: rules(node, ForwardMode::Posted),
        positions: vec![position(0, sold_wh), position(1, 9_000)],
        breaches,
        gates: (0..4).map(gate).collect(),
        envelopes: vec![envelope("lv", None), envelope("f1", Some(1_000)), envelope("f2", Some(1_000))],
    })
}

/// Three homes on the first feeder, of which one carried too much, and two on the second.
fn trading_street(now: Instant) -> Model {
    let mut model = street(now, Duration::from_millis(300));
    let breach = BreachRow {
        interval_start: Time::from_unix_ms(NOON_MS),
        import_wh: 3_000,
        export_wh: 0,
        import_max_wh: 1_050,
        export_max_wh: 11_000,
    };
    for (index, node, traded, breaches) in [
        (0, "f1", (1_400, 0), vec![]),
        (1, "f1", (100, 0), vec![breach]),
        (2, "f2", (0, 900), vec![]),
        (3, "f2", (0, 600), vec![]),
        (4, "f1", (0, 0), vec![]),
    ] {
        model.homes[index].market = Some(market(node, traded, breaches));
    }
    model.market = true;
    model
}

#[test]
fn the_forward_market_fits_120_by_36() {
    let now = Instant::now();
    let model = trading_street(now);
    insta::assert_snapshot!(frame(&model, Size { columns: 120, rows: 36 }, now).unwrap());
}

#[test]
fn the_forward_market_fits_80_by_24() {
    let now = Instant::now();
    let model = trading_street(now);
    insta::assert_snapshot!(frame(&model, Size { columns: 80, rows: 24 }, now).unwrap());
}

#[test]
fn positions_are_added_up_along_the_network_and_held_against_the_envelope() {
    let model = trading_street(Instant::now());
    let edges = model.edges();
    let found: Vec<_> = edges.iter().map(|it| (it.node.as_str(), it.up.0, it.down.0, it.is_over())).collect();
    // What one feeder sells the other takes, and nothing crosses the edge above both; f1 may give 1 kWh only.
    assert_eq!(found, [("lv", 0, 0, false), ("f1", 1_500, 0, true), ("f2", 0, 1_500, false)]);
    let frame = |colour| {
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        terminal.draw(|frame| draw(frame, &model, Instant::now(), colour)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let row = (0..24).find(|y| (37..39).map(|x| buffer[(x, *y)].symbol()).collect::<String>() == "f1");
        (buffer[(37, row.unwrap())].fg, buffer[(37, row.unwrap())].modifier)
    };
    assert_eq!(frame(true).0, Color::Red);
    assert!(frame(false).0 == Color::Reset && frame(false).1.contains(Modifier::BOLD));
}

#[test]
fn where_nothing_is_traded_ahead_or_known_yet_the_market_says_so() {
    let now = Instant::now();
    let mut model = street(now, Duration::ZERO);
    model.market = true;
    let small = Size { columns: 80, rows: 24 };
    assert!(frame(&model, small, now).unwrap().contains("not known yet"));
    let mut off = market("f1", (0, 0), vec![]);
    off.rules.forward = ForwardMode::Off;
    model.homes[0].market = Some(off);
    let text = frame(&model, small, now).unwrap();
    assert!(text.contains("nothing is traded ahead here") && !text.contains("165"), "{text}");
    let mut early = market("f1", (0, 0), vec![]);
    early.gates.clear();
    model.homes[0].market = Some(early);
    assert!(frame(&model, small, now).unwrap().contains("no gate closed in the last day"));
}

#[test]
fn before_any_answer_nothing_is_made_up() {
    let model = Model::new(["h001".to_owned()]);
    let text = frame(&model, Size { columns: 80, rows: 24 }, Instant::now()).unwrap();
    assert!(text.contains("no node answers yet") && text.contains("--") && !text.contains("0.000"), "{text}");
}

#[test]
fn the_community_of_fewer_than_five_homes_has_no_totals() {
    let now = Instant::now();
    let mut model = street(now, Duration::ZERO);
    model.intervals = vec![interval(0, None)];
    let text = frame(&model, Size { columns: 80, rows: 24 }, now).unwrap();
    assert!(text.contains("totals only from 5 metered homes up"), "{text}");
}

/// Style of the first cell of the row that shows `home`, and of its name.
fn styles(model: &Model, now: Instant, colour: bool, home: &str) -> (Color, Modifier) {
    let mut terminal = Terminal::new(TestBackend::new(120, 36)).unwrap();
    terminal.draw(|frame| draw(frame, model, now, colour)).unwrap();
    let buffer = terminal.backend().buffer();
    let name = |y: u16| (3..7).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    let y = (4..20).find(|y| name(*y) == home).unwrap();
    (buffer[(1, y)].fg, buffer[(3, y)].modifier)
}

#[test]
fn colour_is_only_for_the_abnormal_and_can_be_switched_off() {
    let now = Instant::now();
    let model = street(now, Duration::ZERO);
    for (home, colour) in
        [("h004", Color::Reset), ("h007", Color::Yellow), ("h019", Color::Cyan), ("h022", Color::Red)]
    {
        assert_eq!(styles(&model, now, true, home).0, colour, "{home}");
        assert_eq!(styles(&model, now, false, home).0, Color::Reset, "{home} without colour");
    }
}

#[test]
fn what_a_node_said_long_ago_is_dimmed() {
    let now = Instant::now();
    let fresh = street(now, Duration::from_secs(1));
    assert!(!styles(&fresh, now, true, "h004").1.contains(Modifier::DIM));
    let old = street(now, Duration::from_secs(6));
    assert!(styles(&old, now, true, "h004").1.contains(Modifier::DIM));
}

#[test]
fn the_abnormal_comes_first_when_sorted_by_state() {
    let now = Instant::now();
    let mut model = street(now, Duration::ZERO);
    model.sort = Sort::State;
    assert_eq!(model.order(now), [5, 2, 3, 4, 0, 1]);
    model.sort = Sort::Saved;
    assert_eq!(model.order(now)[..3], [0, 4, 1]);
    model.sort = Sort::Lag;
    // The unreachable one is furthest behind: nothing is known of it.
    assert_eq!(model.order(now)[..2], [5, 3]);
}
