//! The server over HTTP, as programs and browsers meet it.

mod chain;
mod fixture;
mod household;
mod market;
mod street;

use std::time::Duration;

use api::{
    BlockRow, ENDPOINTS, Event, LineKind, MeterCondition, MeterStatus, PROBLEM_MEDIA_TYPE, Problem, Time,
};
use ledger::codec::Encode;
use ledger::{Body, Chain, Entry, Hash32, PublicKey, Salt, StandingLimits};
use reqwest::Response;

use fixture::{BOUGHT_AFTER_NOON, NEIGHBOUR, NOON_MS, Node, SOLD_AT_NOON, Settled, TOKEN, fill};

async fn problem(response: Response) -> Problem {
    assert_eq!(response.headers()["content-type"], PROBLEM_MEDIA_TYPE);
    let status = response.status().as_u16();
    let problem: Problem = response.json().await.unwrap();
    assert_eq!(problem.status, status);
    problem
}

fn block(height: u64) -> Event {
    let time = Time::from_unix_ms(NOON_MS.unsigned_abs());
    Event::Block(BlockRow { height, id: "cd".repeat(32), time, round: 0, entries: 1, finality_ms: 70 })
}

#[tokio::test]
async fn every_documented_address_answers_with_the_token_and_none_without() {
    let node = Node::start().await;
    for endpoint in ENDPOINTS.iter().filter(|endpoint| !endpoint.open) {
        let request = |http: &reqwest::Client| match endpoint.post {
            true => http.post(node.url(endpoint.path)),
            false => http.get(node.url(endpoint.path)),
        };
        for bare in [
            request(&node.http),
            request(&node.http).bearer_auth("wrong"),
            request(&node.http).bearer_auth(""),
        ] {
            let refused = bare.send().await.unwrap();
            assert_eq!(refused.headers()["www-authenticate"], "Bearer", "{}", endpoint.path);
            assert_eq!(problem(refused).await.code(), "unauthorized", "{}", endpoint.path);
        }
        let asking = request(&node.http).bearer_auth(TOKEN);
        let asking = if endpoint.json { asking.json(&serde_json::json!({})) } else { asking };
        let answered = asking.send().await.unwrap();
        if endpoint.post {
            assert_eq!(answered.status(), 400, "an empty body is no entry and no order");
        } else {
            if endpoint.path.ends_with("/household") {
                // This home has no devices; tests::household asks one that has.
                assert_eq!(answered.status(), 404);
                continue;
            }
            if endpoint.path.ends_with("/proof") || endpoint.path.ends_with("/ledger/block") {
                // It must be said what of; tests::chain does, and http::ledger's own tests.
                assert_eq!(answered.status(), 400);
                continue;
            }
            assert_eq!(answered.status(), 200, "{}", endpoint.path);
            let media_type = answered.headers()["content-type"].to_str().unwrap();
            assert!(media_type.starts_with(endpoint.media_type), "{}: {media_type}", endpoint.path);
        }
    }
}

#[tokio::test]
async fn whoever_has_no_token_does_not_learn_which_addresses_exist() {
    let node = Node::start().await;
    let unknown = node.http.get(node.url("/api/v1/nothing")).send().await.unwrap();
    assert_eq!(problem(unknown).await.code(), "unauthorized");
    assert_eq!(problem(node.ask("/api/v1/nothing").send().await.unwrap()).await.code(), "not-found");
}

#[tokio::test]
async fn every_error_is_a_problem() {
    let node = Node::start().await;
    let post = |path: &str, bytes: usize| {
        node.http.post(node.url(path)).bearer_auth(TOKEN).body(vec![0; bytes]).send()
    };
    let cases = [
        (node.ask("/nothing").send().await, 404, "not-found"),
        (post("/api/v1/status", 0).await, 405, "method-not-allowed"),
        (post("/", 0).await, 405, "method-not-allowed"),
        (post("/api/v1/entries", 5_000).await, 413, "too-long"),
        (post("/api/v1/entries", 10).await, 400, "bad-request"),
        (node.ask("/api/v1/blocks?limit=0").send().await, 400, "bad-request"),
        (node.ask("/api/v1/blocks?limit=501").send().await, 400, "bad-request"),
        (node.ask("/api/v1/blocks?limit=many").send().await, 400, "bad-request"),
        (node.ask("/api/v1/blocks?limmit=1").send().await, 400, "bad-request"),
        (node.ask("/api/v1/blocks?cursor=1-2").send().await, 400, "bad-request"),
        (node.ask("/api/v1/settlements?cursor=9").send().await, 400, "bad-request"),
        (node.ask("/api/v1/today?day=13.6.2016").send().await, 400, "bad-request"),
        (node.ask("/api/v1/status").header("host", "evil.example").send().await, 421, "unknown-host"),
    ];
    for (response, status, code) in cases {
        let response = response.unwrap();
        let url = response.url().clone();
        let problem = problem(response).await;
        assert_eq!((problem.status, problem.code()), (status, code), "{url}");
        assert!(!problem.detail.is_empty(), "{url}");
    }
}

#[tokio::test]
async fn a_rebound_host_name_reaches_neither_page_nor_health() {
    let node = Node::start().await;
    for path in ["/", "/healthz", "/assets/page.js"] {
        let foreign = node.http.get(node.url(path)).header("host", "evil.example:80").send().await.unwrap();
        assert_eq!(problem(foreign).await.code(), "unknown-host");
        let own = node.http.get(node.url(path)).header("host", "commonwatt.local:80").send().await.unwrap();
        assert_ne!(own.status(), 421);
    }
}

#[tokio::test]
async fn lists_are_paged_newest_first_without_gap_or_overlap() {
    let node = Node::start().await;
    let client = node.client();
    let (mut heights, mut cursor) = (Vec::new(), None);
    loop {
        let page = client.blocks(10, cursor.as_deref()).await.unwrap();
        heights.extend(page.items.iter().map(|row| row.height));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(heights, (1..=45).rev().collect::<Vec<_>>());
    let first = client.settlements(1, None).await.unwrap();
    let second = client.settlements(1, first.next_cursor.as_deref()).await.unwrap();
    let starts = [&first, &second].map(|page| page.items[0].interval_start.unix_ms());
    assert_eq!(starts, [BOUGHT_AFTER_NOON, SOLD_AT_NOON].map(|it| it.interval_ms.unsigned_abs()));
    assert_eq!(second.next_cursor, None);
}

#[tokio::test]
async fn nothing_of_another_home_is_served() {
    let node = Node::start().await;
    let page = node.page("/?lang=en").await.text().await.unwrap();
    let mut served = vec![("/".to_owned(), page)];
    let gets = ENDPOINTS
        .iter()
        .filter(|it| !it.post && !it.path.ends_with("events") && !it.path.ends_with("openapi.json"));
    for endpoint in gets {
        served.push((
            endpoint.path.to_owned(),
            node.ask(endpoint.path).send().await.unwrap().text().await.unwrap(),
        ));
    }
    assert!(served.len() >= 13, "{}", served.len());
    for (path, text) in served {
        for secret in ["h002", "77777", "77.777", "77377"] {
            assert!(!text.contains(secret), "{path} tells {secret} of {}", NEIGHBOUR.home);
        }
    }
    assert_eq!(node.client().readings(100, None).await.unwrap().items.len(), 2);
}

#[tokio::test]
async fn community_totals_are_served_only_from_five_homes_up() {
    for (homes, total) in [(4, None), (5, Some(4_321))] {
        let folder = tempfile::tempdir().unwrap();
        fill(&folder.path().join("ledger.db"), homes, &[SOLD_AT_NOON]);
        let node = Node::start_in(folder).await;
        let rows = node.client().intervals(10, None).await.unwrap().items;
        assert_eq!((rows[0].matched_wh, rows[0].local_price), (total, 165_000), "{homes} homes");
    }
}

#[tokio::test]
async fn the_own_meters_assurance_is_served_in_full_and_the_others_as_counts() {
    let node = Node::start().await;
    let own = node.client().assurance().await.unwrap();
    assert_eq!(
        (own.home.as_str(), own.level, own.stated_at.unwrap().unix_ms()),
        ("h001", 3, NOON_MS.unsigned_abs())
    );
    assert_eq!(own.homes_by_level, Some(vec![10, 0, 1, 1, 0]), "what nobody stated is level 0");
    let texts: Vec<&str> = own.findings.iter().map(|finding| finding.text.as_str()).collect();
    assert!(texts[0].contains("1.8 %") && texts[3].contains("0.870"), "{texts:?}");
    let evidence = own.evidence.unwrap();
    assert_eq!(evidence.voltage_dv, [Some(0x906), None, Some(0x910)]);
    assert_eq!((evidence.pv_peak_w, evidence.pv_storage), (Some(18), Some(true)));
    let meter = own.meter.unwrap();
    assert_eq!((meter.serial.as_str(), meter.quantum_wh, meter.quality.as_str()), ("SN-h001", 10, "good"));
}

#[tokio::test]
async fn what_was_stated_of_a_meter_is_not_said_of_the_one_that_replaced_it() {
    let node = Node::start().await;
    let db = rusqlite::Connection::open(node.database()).unwrap();
    let register = "INSERT INTO entry VALUES (40, ?2, ?1, 'meter-registration', 'h001')";
    db.execute(register, rusqlite::params![[1_u8; 32], 2]).unwrap();
    assert_eq!(node.client().assurance().await.unwrap().level, 3, "registered before the statement");
    db.execute(register, rusqlite::params![[2_u8; 32], 4]).unwrap();
    let own = node.client().assurance().await.unwrap();
    assert_eq!((own.level, own.stated_at, own.findings.len()), (0, None, 0));
    assert_eq!(own.homes_by_level, Some(vec![11, 0, 1, 0, 0]));
}

#[tokio::test]
async fn a_level_that_was_not_stated_for_three_settled_days_is_no_level() {
    let node = Node::start().await;
    let db = rusqlite::Connection::open(node.database()).unwrap();
    let three_days = i64::try_from(ledger::SILENT_DAYS).unwrap() * 86_400_000;
    let settle = "UPDATE interval SET start_ms = ?1 WHERE start_ms = (SELECT max(start_ms) FROM interval)";
    db.execute(settle, [NOON_MS + three_days - 1]).unwrap();
    assert_eq!(node.client().assurance().await.unwrap().level, 3);
    db.execute(settle, [NOON_MS + three_days]).unwrap();
    let own = node.client().assurance().await.unwrap();
    assert_eq!((own.level, own.meaning.as_str()), (0, api::Assurance::NOT_LATELY));
    assert_eq!(own.stated_at.unwrap().unix_ms(), NOON_MS.unsigned_abs(), "what was stated stays to be seen");
    assert!(!own.findings.is_empty());
    assert_eq!(own.homes_by_level, Some(vec![12, 0, 0, 0, 0]));
    let page = node.page("/?lang=en").await.text().await.unwrap();
    assert!(["level 0 of 4", "not stated lately", "as of 2016-06-13"].iter().all(|it| page.contains(it)));
}

#[tokio::test]
async fn levels_are_counted_only_from_five_homes_up() {
    for (homes, counts) in [(4, None), (5, Some(vec![3, 0, 1, 1, 0]))] {
        let folder = tempfile::tempdir().unwrap();
        fill(&folder.path().join("ledger.db"), homes, &[SOLD_AT_NOON]);
        let node = Node::start_in(folder).await;
        assert_eq!(node.client().assurance().await.unwrap().homes_by_level, counts, "{homes} homes");
    }
}

#[tokio::test]
async fn the_page_says_how_finely_the_meter_counts_and_how_far_it_is_believed() {
    let node = Node::start().await;
    for (path, words) in [
        (
            "/?lang=en",
            [
                "counts in steps of 10 Wh",
                "last reading: good",
                "level 3 of 4",
                "as of 2016-06-13",
                "one more independent finding",
            ],
        ),
        (
            "/?lang=zh-CN",
            [
                "计量步长 10 Wh",
                "最近读数：良好",
                "3 级（最高 4 级）",
                "评定截至 2016-06-13",
                "另一项独立证据相符",
            ],
        ),
    ] {
        let page = node.page(path).await.text().await.unwrap();
        for word in words {
            assert!(page.contains(word), "{word}");
        }
    }
    let rows =
        (node.client().readings(1, None).await.unwrap(), node.client().settlements(1, None).await.unwrap());
    assert_eq!((rows.0.items[0].quantum_wh, rows.1.items[0].quantum_wh), (10, 10));
}

#[tokio::test]
async fn the_lines_of_a_day_are_energy_times_price_and_sum_to_its_amount() {
    let node = Node::start().await;
    let today = node.client().today(true).await.unwrap();
    let line = |kind| {
        let line = today.lines.iter().find(|line| line.kind == kind).unwrap();
        (line.wh, line.price, line.amount_n)
    };
    assert_eq!(line(LineKind::SoldToNeighbours), (Some(400), Some(165_000), 66_000_000));
    assert_eq!(line(LineKind::BoughtFromNeighbours), (Some(200), Some(-165_000), -33_000_000));
    assert_eq!(line(LineKind::FeesToNeighbours), (Some(200), Some(-10_000), -2_000_000));
    assert_eq!(line(LineKind::SoldToSupplier), (Some(100), Some(80_000), 8_000_000));
    assert_eq!(line(LineKind::BoughtFromSupplier), (Some(200), Some(-250_000), -50_000_000));
    for lines in [(&today.lines, today.amount_n), (&today.baseline_lines, today.baseline_n)] {
        assert_eq!(lines.0.iter().map(|line| line.amount_n).sum::<i64>(), lines.1);
        let products = lines
            .0
            .iter()
            .filter_map(|line| Some((i64::try_from(line.wh?).ok()? * line.price?, line.amount_n)));
        assert!(products.into_iter().all(|(product, amount)| product == amount));
    }
    assert_eq!((today.earned_n, today.paid_n), (74_000_000, 95_000_000));
    assert_eq!((today.amount_n, today.baseline_n, today.saved_n), (-21_000_000, -80_000_000, 59_000_000));
    assert_eq!((today.sold_wh, today.bought_wh, today.intervals_settled), (400, 200, 2));
    let latest = today.latest.unwrap();
    assert_eq!(latest.settlement.interval_start.to_string(), "2016-06-13T12:15:00Z");
    assert_eq!(latest.lines.iter().map(|line| line.amount_n).sum::<i64>(), -65_000_000);
}

#[tokio::test]
async fn a_correction_and_a_home_without_reading_still_sum() {
    let missing =
        Settled { metered: None, height: 42, leaf: 420, baseline_n: -65_000_000, ..BOUGHT_AFTER_NOON };
    let corrected = Settled {
        kind: "correction",
        height: 44,
        leaf: 440,
        metered: Some((110, 500)),
        sold_bought: (0, 0),
        local_amount_n: 0,
        supplier_import_export: (10, 0),
        supplier_amount_n: -3_000_001,
        baseline_n: -3_000_001,
        ..SOLD_AT_NOON
    };
    let folder = tempfile::tempdir().unwrap();
    fill(&folder.path().join("ledger.db"), 12, &[SOLD_AT_NOON, missing, corrected]);
    let today = Node::start_in(folder).await.client().today(true).await.unwrap();
    assert_eq!(today.lines.iter().map(|line| line.amount_n).sum::<i64>(), today.amount_n);
    assert_eq!(today.baseline_lines.iter().map(|line| line.amount_n).sum::<i64>(), today.baseline_n);
    let correction = today.lines.iter().find(|line| line.kind == LineKind::Correction).unwrap();
    assert_eq!((correction.wh, correction.amount_n), (None, -3_000_001));
    assert_eq!(today.series.iter().map(|point| point.metered).collect::<Vec<_>>(), [true, false]);
    assert_eq!(today.series[0].amount_n, 44_000_000 - 3_000_001, "the correction is in its interval");
}

#[tokio::test]
async fn the_page_says_in_both_languages_what_the_day_came_to() {
    let node = Node::start().await;
    let english = node.page("/?lang=en").await.text().await.unwrap();
    let chinese = node.page("/?lang=zh-CN").await.text().await.unwrap();
    for (page, words) in [
        (
            &english,
            [
                "Sold 0.40\u{a0}kWh to neighbours, bought 0.20\u{a0}kWh from them.",
                "Saved ¥0.06 against the supplier alone.",
            ],
        ),
        (&chinese, ["卖给邻居 0.40\u{a0}kWh，从邻居买入 0.20\u{a0}kWh。", "比只用供电公司省了 ¥0.06。"]),
    ] {
        // The computation in full: every line, both sums, the difference; and nothing that a name could inject.
        for figure in
            ["0.400 kWh × ¥0.165", "¥0.066", "−¥0.033", "−¥0.021", "−¥0.08", "¥0.059", "−¥0.065", "¥9.00"]
        {
            assert!(page.contains(figure), "{figure}");
        }
        for word in words {
            assert!(page.contains(word), "{word}");
        }
        assert!(page.contains("Lane &lt;East&gt;") && !page.contains("Lane <East>"));
        assert!(page.contains("<svg") && !page.contains("style=\""), "the policy forbids styles in the page");
        assert!(page.len() < 60_000, "{} bytes", page.len());
    }
    assert!(english.contains("lang=\"en\"") && chinese.contains("lang=\"zh-CN\""));
}

#[tokio::test]
async fn the_page_opens_by_its_link_and_remembers_the_browser_but_not_the_token() {
    let node = Node::start().await;
    let bare = node.http.get(node.url("/")).header("accept-language", "en").send().await.unwrap();
    assert_eq!(bare.status(), 401);
    assert!(bare.text().await.unwrap().contains("Open this page with its link"));
    let wrong = node.http.get(node.url("/?token=wrong")).send().await.unwrap();
    assert_eq!((wrong.status().as_u16(), wrong.headers().get("set-cookie")), (401, None));

    let link = node.http.get(node.url(&format!("/?lang=en&token={TOKEN}"))).send().await.unwrap();
    assert_eq!((link.status().as_u16(), link.headers()["location"].to_str().unwrap()), (303, "/?lang=en"));
    let cookie = link.headers()["set-cookie"].to_str().unwrap().to_owned();
    for part in ["commonwatt_h001=", "HttpOnly", "SameSite=Strict"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.contains(TOKEN));

    let cookie = cookie.split(';').next().unwrap();
    let with_cookie = |request: reqwest::RequestBuilder| request.header("cookie", cookie).send();
    let page = with_cookie(node.http.get(node.url("/"))).await.unwrap();
    assert_eq!(page.status(), 200);
    assert!(page.headers()["content-security-policy"].to_str().unwrap().starts_with("default-src 'none'"));
    assert_eq!(page.headers()["cache-control"], "no-store");
    assert_eq!(with_cookie(node.http.get(node.url("/today"))).await.unwrap().status(), 200);
    assert_eq!(
        with_cookie(node.http.get(node.url("/api/v1/status"))).await.unwrap().status(),
        200,
        "it reads"
    );
    let writing = with_cookie(node.http.post(node.url("/api/v1/entries"))).await.unwrap();
    assert_eq!(writing.status(), 401, "but never writes");
    let value = cookie.split_once('=').unwrap().1;
    assert_eq!(
        node.http.get(node.url("/api/v1/status")).bearer_auth(value).send().await.unwrap().status(),
        401
    );
}

#[tokio::test]
async fn the_day_before_is_one_link_away() {
    let node = Node::start().await;
    let page = node.page("/?lang=en").await.text().await.unwrap();
    assert!(page.contains("day=2016-06-12") && !page.contains("rel=\"next\""));
    let before = node.page("/?lang=en&day=2016-06-12").await.text().await.unwrap();
    assert!(
        before.contains("No interval of this day is settled yet.")
            && before.contains("rel=\"next\" href=\"?lang=en&amp;day=2016-06-13\"")
    );
    let nonsense = node.page("/?day=yesterday").await;
    assert_eq!(nonsense.status(), 303, "a mistyped day leads to the running one");
}

#[tokio::test]
async fn after_midnight_the_day_before_stays_until_something_is_settled() {
    let folder = tempfile::tempdir().unwrap();
    fill(&folder.path().join("ledger.db"), 12, &[SOLD_AT_NOON]);
    let node = Node::start_at(folder, "2016-06-14T00:10:00Z").await;
    let page = node.page("/?lang=en").await.text().await.unwrap();
    assert!(page.contains("2016-06-13") && page.contains("Sold 0.40") && !page.contains("Today"), "{page}");
    let asked = node.page("/?lang=en&day=2016-06-14").await.text().await.unwrap();
    assert!(asked.contains("No interval of this day is settled yet.") && asked.contains("Today"));
    assert_eq!(
        node.client().today(true).await.unwrap().intervals_settled,
        0,
        "the API answers what it was asked"
    );
}

#[tokio::test]
async fn power_without_a_value_is_a_dash_and_never_a_zero() {
    let node = Node::start().await;
    let unknown = node.page("/today?lang=en").await.text().await.unwrap();
    assert!(unknown.contains("--") && unknown.contains("not read yet") && !unknown.contains("0.000 kW<"));
    node.live.set_power(Some(-420), std::time::Instant::now());
    let known = node.page("/today?lang=en").await.text().await.unwrap();
    assert!(known.contains("0.420 kW<") && known.contains("feeding the grid"));
    let then = std::time::Instant::now().checked_sub(Duration::from_secs(180)).unwrap();
    node.live.set_power(Some(-420), then);
    let stale = node.page("/today?lang=en").await.text().await.unwrap();
    assert!(!stale.contains("0.420 kW<") && stale.contains("power not known") && stale.contains("3 min ago"));
}

#[tokio::test]
async fn what_flows_in_the_house_is_shown_only_where_several_meters_tell_it() {
    let node = Node::start().await;
    let page = async |tag| node.page(&format!("/today?lang={tag}")).await.text().await.unwrap();
    let mut flows = api::Flows {
        house_w: 3_200,
        rest_w: 3_200,
        grid_w: 3_200,
        pv_w: None,
        battery_w: None,
        ev_w: None,
        heat_pump_w: None,
        window_ms: 0,
    };
    node.live.set_flows(Ok(flows));
    assert!(
        !page("en").await.contains("The house uses"),
        "the meter at the connection point says that already"
    );
    (flows.grid_w, flows.pv_w, flows.battery_w) = (-1_000, Some(5_000), Some(-800));
    node.live.set_flows(Ok(flows));
    assert!(
        page("en").await.contains("3.200 kW<span class=\"small\">solar 5.000 kW · battery takes 0.800 kW")
    );
    assert!(page("zh").await.contains("光伏 5.000 kW · 电池充电 0.800 kW"));
    node.live.set_flows(Err("the pv meter roof was not read yet".to_owned()));
    assert!(!page("en").await.contains("The house uses"), "a sum with a part missing is no sum");
    let meters = node.client().meters().await.unwrap();
    assert_eq!((meters.flows, meters.flows_missing.as_str()), (None, "the pv meter roof was not read yet"));
}

#[tokio::test]
async fn events_arrive_with_numbers_and_resume_after_the_last_one_seen() {
    let node = Node::start().await;
    let mut events = node.client().events(None).await.unwrap();
    node.live.publish(block(46));
    node.live.publish(block(47));
    let wait = Duration::from_secs(5);
    let first = tokio::time::timeout(wait, events.next()).await.unwrap().unwrap().unwrap();
    assert_eq!((first.id, first.event), (1, block(46)));
    drop(events);
    node.live.publish(block(48));
    let mut resumed = node.client().events(Some(first.id)).await.unwrap();
    for (id, height) in [(2, 47), (3, 48)] {
        let event = tokio::time::timeout(wait, resumed.next()).await.unwrap().unwrap().unwrap();
        assert_eq!((event.id, event.event), (id, block(height)));
    }
    assert_eq!(node.client().status().await.unwrap().height, 48);
}

#[tokio::test]
async fn no_more_than_thirty_two_streams_are_open_and_closing_one_makes_room() {
    let node = Node::start().await;
    let mut streams = Vec::new();
    for _ in 0..32 {
        streams.push(node.client().events(None).await.unwrap());
    }
    assert_eq!(problem(node.ask("/api/v1/events").send().await.unwrap()).await.code(), "busy");
    streams.pop();
    let mut attempts = 0;
    while node.ask("/api/v1/events").send().await.unwrap().status() != 200 {
        attempts += 1;
        assert!(attempts < 100, "the place of a closed stream stays taken");
        // The server notices the closed connection when it next writes.
        node.live.publish(block(attempts));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_stopping_node_ends_its_streams_at_once() {
    let mut node = Node::start().await;
    let mut events = node.client().events(None).await.unwrap();
    node.stop.take().unwrap().send(()).unwrap();
    let wait = Duration::from_secs(3);
    assert!(matches!(tokio::time::timeout(wait, events.next()).await.unwrap(), Ok(None)));
    tokio::time::timeout(wait, &mut node.ended).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_signed_entry_reaches_the_engine_as_it_was_sent() {
    let mut node = Node::start().await;
    let key = ed25519_dalek::SigningKey::from_bytes(&[3; 32]);
    let limits = StandingLimits { min_sell: None, max_buy: None };
    let body = Body::StandingLimits { home: energy::HomeId::new("h001").unwrap(), limits };
    let entry = Entry { signer: PublicKey::of(&key), number: 1, salt: Salt([9; 16]), body };
    let bytes = entry.sign(&Chain { id: Hash32([7; 32]), recovery: 0 }, &key).to_bytes();
    let client = node.client();
    assert_eq!(client.submit(bytes.clone()).await.unwrap().bytes, bytes.len() as u64);
    let full = client.submit(bytes.clone()).await.unwrap_err();
    assert!(matches!(&full, api::ClientError::Refused { problem, .. } if problem.code() == "busy"), "{full}");
    assert_eq!(node.entries.recv().await, Some(bytes));
}

#[tokio::test]
async fn readiness_names_what_is_missing_and_health_needs_no_token() {
    let node = Node::start_in(tempfile::tempdir().unwrap()).await;
    assert_eq!(node.http.get(node.url("/healthz")).send().await.unwrap().status(), 200);
    let starting = node.client().ready().await.unwrap();
    assert_eq!(starting.reasons, ["meter: not tried yet", "database: does not answer"]);
    node.live.set_meter(MeterStatus { state: MeterCondition::Silent, detail: String::new() });
    fill(&node.database(), 12, &[]);
    let ready = node.http.get(node.url("/readyz")).send().await.unwrap();
    assert_eq!(ready.status(), 200, "a silent meter is no reason to restart the node");
    node.live.set_meter(MeterStatus { state: MeterCondition::Absent, detail: String::new() });
    let ready = node.http.get(node.url("/readyz")).send().await.unwrap();
    assert_eq!(ready.status(), 200, "a node without a meter is ready too");
    assert!(node.page("/?lang=en").await.text().await.unwrap().contains("none is configured"));
}

#[tokio::test]
async fn without_a_database_the_status_is_told_and_the_rest_says_so() {
    let node = Node::start_in(tempfile::tempdir().unwrap()).await;
    let status = node.client().status().await.unwrap();
    assert_eq!((status.delegates, status.last_settled), (7, None));
    assert_eq!(problem(node.ask("/api/v1/settlements").send().await.unwrap()).await.code(), "database");
    let page = node.page("/?lang=en").await;
    assert_eq!(page.status(), 503);
    assert!(page.text().await.unwrap().contains("its ledger database does not answer"));
}

#[tokio::test]
async fn the_account_is_the_homes_own() {
    let node = Node::start().await;
    node.live.set_obligations(5, 2_000_000_000);
    let balance = node.client().balance().await.unwrap();
    assert_eq!((balance.balance_n, balance.claim_n, balance.free_n), (9_000_000_000, 5, 7_000_000_000));
    assert_eq!((balance.days_left, balance.low), (None, false), "nobody is warned before a price is known");
}

#[tokio::test]
async fn a_balance_under_three_days_is_told_to_programs_and_people() {
    let node = Node::start().await;
    // 400 Wh in two quarter-hours are 19.2 kWh a day; at 0.30 that is 5.76 a day, and the account has 9.
    node.live.set_import_price(Some(300_000));
    let balance = node.client().balance().await.unwrap();
    let lasting = (balance.daily_cost_n, balance.days_left, balance.low);
    assert_eq!(lasting, (Some(5_760_000_000), Some(1), true));
    let page = node.page("/?lang=en").await.text().await.unwrap();
    assert!(page.contains("Days left at recent use: 1") && page.contains("time for a deposit"), "{page}");
    node.live.set_import_price(Some(100_000));
    assert!(!node.client().balance().await.unwrap().low);
    assert!(!node.page("/?lang=en").await.text().await.unwrap().contains("time for a deposit"));
}

#[tokio::test]
async fn the_console_shows_the_home_and_its_last_settled_interval() {
    let node = Node::start().await;
    node.live.publish(block(46));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("neighbourhood.json");
    let neighbour = tui::Neighbour { home: "h001".to_owned(), url: node.url(""), token: TOKEN.to_owned() };
    tui::write_neighbourhood(&path, &[neighbour]).unwrap();
    let size = tui::Size { columns: 120, rows: 36 };
    let args = tui::Args {
        connect: Vec::new(),
        token_file: Vec::new(),
        neighbourhood: Some(path),
        market: true,
        once: true,
        size,
    };
    let frame = tui::frame(&args).await.unwrap();
    let home = frame.lines().find(|line| line.contains("h001")).unwrap();
    // Import, export, sold, bought, amount of 12:15; saved today; height.
    for figure in ["delegate", "0.300", "0.000", "0.200", "-0.0650", "0.06", "46"] {
        assert!(home.contains(figure), "{figure} in {home}");
    }
    assert!(frame.contains("nothing is traded ahead here"), "{frame}");
    let frame = tui::frame(&tui::Args { market: false, ..args }).await.unwrap();
    assert!(frame.contains("12:15") && frame.contains("4.321"), "{frame}");
}
