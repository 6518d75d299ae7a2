//! The market over HTTP: orders from request to fill, every refusal in words, and nothing of a neighbour.

use api::{CancelRequest, ClientError, EntryState, GateState, OrderRequest, OrderState, Problem, Side, Time};
use energy::WattHours;
use ledger::{ConnectionSize, Forward};

use super::fixture::TOKEN;
use super::street::MarketNode;

/// Wh that stand for a neighbour and must never be served.
const THEIRS: u64 = 7_777;

fn request(node: &MarketNode, id: &str, ahead: u64, side: Side, price: i64, wh: u64) -> OrderRequest {
    OrderRequest {
        request_id: id.to_owned(),
        interval: Time(node.interval(ahead).start()),
        side,
        price,
        quantity_wh: wh,
        replaces: None,
    }
}

fn problem(error: ClientError) -> Problem {
    match error {
        ClientError::Refused { problem, .. } => problem,
        other => panic!("{other}"),
    }
}

async fn refusal(node: &MarketNode, order: &OrderRequest) -> Problem {
    problem(node.client().order(order).await.unwrap_err())
}

#[tokio::test]
async fn an_order_goes_from_request_to_fill_and_what_it_brought_is_told() {
    let node = MarketNode::start(Forward::Posted).await;
    let client = node.client();
    let sell = client.order(&request(&node, "r1", 4, Side::Sell, 100_000, 400)).await.unwrap();
    assert_eq!((sell.state, sell.height), (EntryState::Pending, None));
    let book = client.market_book(None).await.unwrap();
    assert_eq!((book.orders.len(), book.pending.len()), (0, 1));
    let theirs = node.order_of(2, 4, market::Side::Buy, 200_000, 300);
    assert_eq!(node.block(2, vec![theirs]).await, []);
    let entry = node.settled("r1").await;
    assert_eq!((entry.state, entry.height), (EntryState::Final, Some(2)));
    let book = client.market_book(Some(Time(node.interval(4).start()))).await.unwrap();
    assert_eq!((book.pending.len(), book.orders[0].id.as_str()), (0, sell.id.as_str()));
    // A sale that is not delivered costs 0.25 and 0.01 of fees, less what it brings.
    assert_eq!((book.orders[0].reserve_n, book.orders[0].changes_left), (400 * 160_000, 8));
    assert_eq!(client.market_rules(1).await.unwrap().reserved_n, 400 * 160_000);
    assert_eq!(client.market_curve(None).await.unwrap().state, GateState::Open);

    node.block(55, vec![]).await;
    let history = client.market_history(1, 10, None).await.unwrap();
    let order = &history.orders[0];
    assert_eq!((order.state, order.filled_wh, order.fill_price), (OrderState::Partly, 300, Some(165_000)));
    assert_eq!((order.amount_n, order.supplier_n), (300 * 165_000, 300 * 80_000));
    assert_eq!((history.totals.gain_n, history.totals.sold_wh), (300 * 85_000, 300));
    assert_eq!((history.totals.orders, history.totals.filled), (1, 1));
    let position = client.market_book(None).await.unwrap().positions[0];
    assert_eq!((position.sold_wh, position.amount_n), (300, 300 * 165_000));
    let curve = client.market_curve(Some(Time(node.interval(4).start()))).await.unwrap();
    let gate = curve.result.unwrap();
    assert_eq!((curve.state, gate.price), (GateState::Cleared, Some(165_000)));
    let envelopes: Vec<_> =
        curve.envelopes.iter().map(|it| (it.node.as_str(), it.up_wh, it.down_wh)).collect();
    assert_eq!(envelopes, [("feeder-1", None, Some(20_000)), ("feeder-2", None, Some(20_000))]);
    assert_eq!((gate.volume_wh, gate.orders), (None, None), "two homes are no community");
}

#[tokio::test]
async fn the_same_request_never_makes_a_second_order_also_after_a_restart() {
    let mut node = MarketNode::start(Forward::Posted).await;
    let wanted = request(&node, "only-once", 4, Side::Sell, 100_000, 400);
    let first = node.client().order(&wanted).await.unwrap();
    assert_eq!(node.client().order(&wanted).await.unwrap(), first);
    let other = OrderRequest { quantity_wh: 401, ..wanted.clone() };
    let used = refusal(&node, &other).await;
    assert_eq!((used.status, used.code()), (409, "request-used"));
    assert_eq!(node.submitted().await, 1);

    node.restart_desk();
    let kept = node.desk.entries(crate::desk::Which::Newest(9)).await.unwrap();
    assert_eq!(kept.len(), 1, "the order is there after a restart");
    while node.submitted().await == 0 {
        tokio::task::yield_now().await;
    }
    node.block(2, vec![]).await;
    assert_eq!(node.settled("only-once").await.state, EntryState::Final);
    let again = node.client().order(&wanted).await.unwrap();
    assert_eq!((again.id, again.height), (first.id, Some(2)));
    let next = node.client().order(&request(&node, "next", 5, Side::Sell, 100_000, 100)).await.unwrap();
    assert_eq!(next.state, EntryState::Pending, "numbers go on above those used");
}

#[tokio::test]
async fn several_orders_are_under_way_at_once_and_count_against_each_other() {
    let node = MarketNode::start(Forward::Posted).await;
    let client = node.client();
    let mut ids = Vec::new();
    for number in 0..4 {
        let order = request(&node, &format!("r{number}"), 4, Side::Sell, 100_000, 400);
        ids.push(client.order(&order).await.unwrap().id);
    }
    let fifth = refusal(&node, &request(&node, "r5", 4, Side::Sell, 100_000, 400)).await;
    assert!(fifth.detail.contains("at most 4 open orders"), "{fifth}");
    let opposite = refusal(&node, &request(&node, "r6", 4, Side::Buy, 100_000, 400)).await;
    assert!(opposite.detail.contains("buys or sells in one interval, not both"), "{opposite}");
    let early =
        OrderRequest { replaces: Some(ids[0].clone()), ..request(&node, "r7", 4, Side::Sell, 100_000, 500) };
    let pending = refusal(&node, &early).await;
    assert_eq!((pending.status, pending.code()), (409, "pending"));
    assert_eq!(node.block(2, vec![]).await, []);
    assert_eq!(client.market_book(None).await.unwrap().orders.len(), 4);
    client.order(&early).await.unwrap();
    let cancel = CancelRequest { request_id: "c1".to_owned(), order: ids[1].clone() };
    assert_eq!(client.cancel(&cancel).await.unwrap().state, EntryState::Pending);
    assert_eq!(node.block(3, vec![]).await, []);
    assert_eq!(node.settled("c1").await.height, Some(3));
    let history = client.market_history(1, 100, None).await.unwrap();
    let states: Vec<_> =
        ids.iter().map(|id| history.orders.iter().find(|order| order.id == *id).unwrap().state).collect();
    assert_eq!(states, [OrderState::Replaced, OrderState::Cancelled, OrderState::Open, OrderState::Open]);
    assert_eq!(client.market_book(None).await.unwrap().orders[0].changes_left, 6);
}

#[tokio::test]
async fn every_reason_to_refuse_reaches_the_user_in_words_and_nothing_is_recorded() {
    let size = ConnectionSize { import: WattHours::new(400_000), export: WattHours::new(20_000) };
    let node = MarketNode::with(|genesis| {
        genesis.forward = Forward::Posted;
        genesis.members[0].admission.size = size;
    })
    .await;
    node.at(40);
    node.block(40, vec![]).await;
    let before = node.state();
    let order = |ahead, side, price, wh| request(&node, "r", ahead, side, price, wh);
    let cases = [
        (order(9, Side::Sell, 100_000, 99), "at least 100 Wh"),
        (order(9, Side::Sell, 100_000, 0), "at least 100 Wh"),
        (order(9, Side::Sell, 79_999, 200), "lies outside"),
        (order(9, Side::Buy, 260_001, 200), "lies outside"),
        (order(9, Side::Sell, 100_000, 20_001), "its connection carries 20000 Wh"),
        (order(9, Side::Buy, 260_000, 400_000), "does not cover"),
        (order(0, Side::Sell, 100_000, 200), "are taken from"),
        (order(2, Side::Sell, 100_000, 200), "are taken from"),
        (order(9 + 48 * 4, Side::Sell, 100_000, 200), "are taken from"),
        (
            OrderRequest { replaces: Some("ab".repeat(32)), ..order(9, Side::Sell, 100_000, 200) },
            "no such open order",
        ),
    ];
    for (order, words) in cases {
        let refused = refusal(&node, &order).await;
        assert_eq!((refused.status, refused.code()), (422, "refused"), "{order:?}: {refused}");
        assert!(refused.detail.contains(words), "{words:?} is not in {refused}");
    }
    let theirs = node.order_of(2, 9, market::Side::Buy, 200_000, 300);
    let foreign = CancelRequest { request_id: "c".to_owned(), order: theirs.id().to_string() };
    let off_grid = OrderRequest {
        interval: Time::from_unix_ms(node.interval(9).start().unix_ms() + 1),
        ..order(9, Side::Sell, 100_000, 200)
    };
    assert_eq!(refusal(&node, &off_grid).await.code(), "bad-request");
    for id in ["", "a b", &"x".repeat(65)] {
        let named = OrderRequest { request_id: id.to_owned(), ..order(9, Side::Sell, 100_000, 200) };
        assert_eq!(refusal(&node, &named).await.code(), "bad-request", "{id:?}");
    }
    assert_eq!((node.state(), node.submitted().await), (before, 0));
    assert_eq!(node.desk.entries(crate::desk::Which::Newest(9)).await.unwrap(), []);
    node.block(41, vec![theirs]).await;
    let refused = problem(node.client().cancel(&foreign).await.unwrap_err());
    assert!(refused.detail.contains("no such open order"), "{refused}");
}

#[tokio::test]
async fn in_the_last_minutes_an_order_only_grows_and_without_forward_trading_there_is_none() {
    let node = MarketNode::start(Forward::Auction).await;
    let client = node.client();
    let id = client.order(&request(&node, "r1", 4, Side::Sell, 100_000, 400)).await.unwrap().id;
    node.block(2, vec![]).await;
    node.at(51);
    let cancel = CancelRequest { request_id: "c1".to_owned(), order: id.clone() };
    let frozen = problem(client.cancel(&cancel).await.unwrap_err());
    assert!(frozen.detail.contains("no cancel in the last 5 minutes"), "{frozen}");
    let smaller =
        OrderRequest { replaces: Some(id.clone()), ..request(&node, "r2", 4, Side::Sell, 100_000, 399) };
    let refused = refusal(&node, &smaller).await;
    assert!(refused.detail.contains("no reduction in the last 5 minutes"), "{refused}");
    let larger = OrderRequest { replaces: Some(id), ..request(&node, "r3", 4, Side::Sell, 100_000, 500) };
    assert_eq!(client.order(&larger).await.unwrap().state, EntryState::Pending);

    let without = MarketNode::start(Forward::Off).await;
    let refused = refusal(&without, &request(&without, "r", 4, Side::Sell, 100_000, 400)).await;
    assert!(refused.detail.contains("forward trading is off"), "{refused}");
    assert_eq!(without.client().market_rules(2).await.unwrap().first_open, None);
}

#[tokio::test]
async fn an_order_that_no_block_took_in_time_is_told_to_be_refused_and_why() {
    let node = MarketNode::start(Forward::Posted).await;
    let client = node.client();
    client.order(&request(&node, "late", 4, Side::Sell, 100_000, 400)).await.unwrap();
    // It gets lost on its way, and the gate closes.
    node.lose_submitted().await;
    node.block(55, vec![]).await;
    let entry = node.settled("late").await;
    assert_eq!((entry.state, entry.height), (EntryState::Refused, None));
    assert!(entry.reason.unwrap().contains("are taken from"));
    assert_eq!(client.market_book(None).await.unwrap().pending, []);
}

#[tokio::test]
async fn a_gate_that_came_too_late_says_so_and_gives_everything_back() {
    let node = MarketNode::start(Forward::Posted).await;
    let client = node.client();
    client.order(&request(&node, "r1", 4, Side::Sell, 100_000, 400)).await.unwrap();
    node.block(2, vec![node.order_of(2, 4, market::Side::Buy, 200_000, 300)]).await;
    node.block(61, vec![]).await;
    let history = client.market_history(1, 10, None).await.unwrap();
    assert_eq!((history.orders[0].state, history.orders[0].filled_wh), (OrderState::Void, 0));
    assert!(history.gates[0].void);
    let curve = client.market_curve(Some(history.orders[0].interval_start)).await.unwrap();
    assert_eq!(curve.state, GateState::Void);
    assert_eq!(client.market_rules(1).await.unwrap().reserved_n, 0);
}

#[tokio::test]
async fn nothing_of_a_neighbours_trading_leaves_the_node() {
    for forward in [Forward::Posted, Forward::Auction] {
        let node = MarketNode::start(forward).await;
        let client = node.client();
        client.order(&request(&node, "r1", 4, Side::Sell, 90_000, 40_000)).await.unwrap();
        let theirs = [
            node.order_of(2, 4, market::Side::Buy, 211_111, THEIRS),
            node.order_of(3, 4, market::Side::Buy, 212_222, THEIRS),
            node.order_of(3, 5, market::Side::Sell, 133_333, THEIRS),
        ];
        let ids: Vec<_> = theirs.iter().map(|entry| entry.id().to_string()).collect();
        assert_eq!(node.block(2, theirs.to_vec()).await, []);
        for minutes in [3, 55, 70] {
            node.block(minutes, vec![]).await;
            for path in [
                "/api/v1/market/rules",
                "/api/v1/market/book",
                "/api/v1/market/book?interval=2016-06-13T23:30:00Z",
                "/api/v1/market/curve?interval=2016-06-13T23:30:00Z",
                "/api/v1/market/curve?interval=2016-06-13T23:45:00Z",
                "/api/v1/market/history?days=31&limit=500",
                "/api/v1/market/entries",
            ] {
                let answer = node.get(path).bearer_auth(TOKEN).send().await.unwrap();
                assert_eq!(answer.status(), 200, "{path}");
                let text = answer.text().await.unwrap();
                for id in &ids {
                    assert!(!text.contains(id), "{id} in {path}: {text}");
                }
                // Any four digits may stand in the name of an own order.
                let said: Vec<_> = text.split('"').filter(|part| part.len() < 64).collect();
                let said = said.join("\"");
                for secret in ["7777", "211111", "212222", "133333", "\"h2\"", "\"h3\""] {
                    assert!(!said.contains(secret), "{secret} in {path}: {text}");
                }
            }
        }
        let history = client.market_history(1, 10, None).await.unwrap();
        let gate = history.gates.iter().find(|gate| gate.interval_start == history.orders[0].interval_start);
        let gate = gate.unwrap();
        assert_eq!((gate.volume_wh, gate.orders, gate.prices.len()), (None, None, 0));
        let knows_own_price = gate.own_price.is_some();
        assert_eq!(knows_own_price, forward == Forward::Auction, "a home knows at what price it traded");
    }
}

#[tokio::test]
async fn only_the_token_in_a_header_and_json_have_an_order_signed() {
    let node = MarketNode::start(Forward::Posted).await;
    let order = request(&node, "r1", 4, Side::Sell, 100_000, 400);
    let link = node.get(&format!("/?token={TOKEN}")).send().await.unwrap();
    let cookie = link.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let path = "/api/v1/market/order";
    let with_cookie = node.post(path).header("cookie", cookie).json(&order).send().await.unwrap();
    assert_eq!(with_cookie.status(), 401, "what a foreign page could make a browser send");
    assert_eq!(node.post(path).json(&order).send().await.unwrap().status(), 401);
    let foreign = node.post(path).bearer_auth(TOKEN).header("host", "evil.example").json(&order);
    assert_eq!(foreign.send().await.unwrap().status(), 421);
    let body = serde_json::to_string(&order).unwrap();
    let form = node.post(path).bearer_auth(TOKEN).header("content-type", "text/plain").body(body.clone());
    assert_eq!(form.send().await.unwrap().status(), 415);
    let json = |body: String| {
        node.post(path).bearer_auth(TOKEN).header("content-type", "application/json").body(body).send()
    };
    assert_eq!(json(body.replace('}', r#","home":"h2"}"#)).await.unwrap().status(), 400);
    assert_eq!(json(body.replace("400", "-400")).await.unwrap().status(), 400);
    assert_eq!(json(" ".repeat(5_000)).await.unwrap().status(), 413);
    assert_eq!(node.submitted().await, 0);
    assert_eq!(json(body).await.unwrap().status(), 202);
}

#[tokio::test]
async fn orders_asked_for_too_often_are_put_off_and_say_for_how_long() {
    let node = MarketNode::start(Forward::Posted).await;
    let bad = request(&node, "r", 4, Side::Sell, 100_000, 1);
    let body = serde_json::to_string(&bad).unwrap();
    let mut last = None;
    for _ in 0..30 {
        let request = node.post("/api/v1/market/order").bearer_auth(TOKEN);
        let request = request.header("content-type", "application/json").body(body.clone());
        last = Some(request.send().await.unwrap());
    }
    let last = last.unwrap();
    assert_eq!(last.status(), 429);
    assert!(last.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
}

#[tokio::test]
async fn nobody_orders_in_the_name_of_the_households_agent() {
    let node = MarketNode::start(Forward::Posted).await;
    let refused = refusal(&node, &request(&node, "agent-1-2-sell", 4, Side::Sell, 100_000, 400)).await;
    assert_eq!((refused.status, node.submitted().await), (400, 0));
}

#[tokio::test]
async fn a_node_that_is_behind_signs_no_order() {
    let node = MarketNode::start(Forward::Posted).await;
    node.live.set_role(crate::http::Role { delegate: true, delegates: 4, syncing: true });
    let refused = refusal(&node, &request(&node, "r1", 4, Side::Sell, 100_000, 400)).await;
    assert_eq!((refused.status, refused.code()), (503, "busy"));
}

#[tokio::test]
async fn the_rules_say_what_this_home_may_do_and_what_the_way_costs() {
    let node = MarketNode::start(Forward::Posted).await;
    let rules = node.client().market_rules(48).await.unwrap();
    assert_eq!((rules.home.as_str(), rules.node.as_str(), rules.mtu_minutes), ("h1", "feeder-1", 15));
    assert_eq!((rules.orders.min_wh, rules.orders.entries_left), (100, 64));
    assert_eq!((rules.free_n, rules.next.len()), (50_000_000_000, 192));
    let next = &rules.next[0];
    assert_eq!((next.lowest, next.highest, next.local_price), (80_000, 260_000, 165_000));
    assert_eq!(rules.first_open, Some(next.start));
    let own: Vec<_> = rules.edges.iter().filter(|edge| edge.own).map(|edge| edge.node.as_str()).collect();
    assert_eq!((own, rules.edges[0].node.as_str()), (vec!["feeder-1"], "grid"));
    for bad in
        ["rules?hours=0", "rules?hours=49", "history?days=32", "history?cursor=x", "book?interval=noon"]
    {
        let answer = node.get(&format!("/api/v1/market/{bad}")).bearer_auth(TOKEN).send().await.unwrap();
        assert_eq!(answer.status(), 400, "{bad}");
    }
}

#[tokio::test]
async fn history_is_paged_without_gap_or_overlap() {
    let node = MarketNode::start(Forward::Posted).await;
    let client = node.client();
    for number in 0..7 {
        let order = request(&node, &format!("r{number}"), 4 + number / 2, Side::Sell, 100_000, 100 + number);
        client.order(&order).await.unwrap();
    }
    assert_eq!(node.block(2, vec![]).await, []);
    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let page = client.market_history(1, 3, cursor.as_deref()).await.unwrap();
        seen.extend(page.orders.iter().map(|order| order.quantity_wh));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen, [106, 105, 104, 103, 102, 101, 100]);
}

#[tokio::test]
async fn the_page_tells_what_was_sold_and_offered_ahead_in_both_languages() {
    let node = MarketNode::start(Forward::Posted).await;
    let client = node.client();
    let empty = node.page("/?lang=en").await;
    assert!(empty.contains("Nothing traded ahead") && empty.contains("The next 24 hours"));
    client.order(&request(&node, "r1", 4, Side::Sell, 100_000, 400)).await.unwrap();
    assert!(node.page("/?lang=en").await.contains("On its way to the ledger."));
    node.block(2, vec![node.order_of(2, 4, market::Side::Buy, 200_000, 300)]).await;
    client.order(&request(&node, "r2", 8, Side::Buy, 190_000, 1_200)).await.unwrap();
    node.block(55, vec![]).await;
    for (path, words) in [
        (
            "/?lang=en",
            [
                "Sold 0.30\u{a0}kWh for 23:30–23:45 at ¥0.165.",
                "Wants 1.20\u{a0}kWh for 00:30–00:45 at ¥0.19 or less. Can be taken back until 00:20.",
                "supplier charges ¥0.26",
                "href=\"/rules?lang=en\"",
            ],
        ),
        (
            "/?lang=zh-CN",
            [
                "已卖出 0.30\u{a0}kWh，23:30–23:45，每千瓦时 ¥0.165。",
                "挂单买入 1.20\u{a0}kWh，00:30–00:45，不高于 ¥0.19。 00:20 前可以撤回。",
                "供电公司收 ¥0.26",
                "href=\"/rules?lang=zh-CN\"",
            ],
        ),
    ] {
        let page = node.page(path).await;
        for word in words {
            assert!(page.contains(word), "{word}");
        }
        assert!(page.len() < 60_000 && !page.contains("style=\""));
    }
}

#[tokio::test]
async fn the_rules_stand_on_a_page_in_plain_words_and_need_the_link() {
    let size = ConnectionSize { import: WattHours::new(10_900), export: WattHours::new(2_500) };
    let node = MarketNode::with(|genesis| {
        genesis.forward = Forward::Auction;
        genesis.members[0].admission.size = size;
    })
    .await;
    assert_eq!(node.get("/rules").send().await.unwrap().status(), 401);
    let english = node.page("/rules?lang=en").await;
    let chinese = node.page("/rules?lang=zh-CN").await;
    for (page, words) in [
        (
            &english,
            [
                "one sealed auction at its gate",
                "from 48 hours before an interval until 5 minutes before it",
                "at least 100 Wh",
                "takes at most 10.90\u{a0}kWh and gives at most 2.50\u{a0}kWh",
                "the supplier charges ¥0.26 and pays ¥0.08 per kWh, grid fees included. Local energy stands at ¥0.165",
                "feeder-1 → grid",
                "settled 15 minutes after its end",
                "at most 50 % of what a line carries",
            ],
        ),
        (
            &chinese,
            [
                "密封竞价",
                "开始前 48 小时起接受挂单，开始前 5 分钟截止",
                "至少 100 Wh",
                "最多从电网取 10.90\u{a0}kWh，送入 2.50\u{a0}kWh",
                "供电公司收 ¥0.26、付 ¥0.08",
                "feeder-1 → grid",
                "结束 15 分钟后结算",
                "容量的 50%",
            ],
        ),
    ] {
        for word in words {
            assert!(page.contains(word), "{word} is not in {page}");
        }
    }
}

/// What `commonwatt market` ends with when it is called like this.
async fn command(node: &MarketNode, line: &str) -> Result<crate::cli::Exit, String> {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, TOKEN).unwrap();
    let place = format!("--connect {} --token-file {}", node.url(), token.display());
    let line = format!("commonwatt market {line} {place}");
    let cli = <crate::cli::Cli as clap::Parser>::try_parse_from(line.split_whitespace()).unwrap();
    let crate::cli::Command::Market(command) = cli.command else { panic!("{line}") };
    let ended = crate::commands::market::market(command, cli.output).await;
    ended.map_err(|error| {
        assert_eq!(error.exit(), crate::cli::Exit::Failed, "{line}");
        error.render()
    })
}

#[tokio::test]
async fn the_command_orders_cancels_and_shows_and_ends_as_it_went() {
    use crate::cli::Exit;
    let node = MarketNode::start(Forward::Posted).await;
    let order = "order --interval 2016-06-13T23:30:00Z --side sell --quantity 400 --price 0.1";
    assert_eq!(command(&node, &format!("{order} --request-id one")).await, Ok(Exit::Ok));
    assert_eq!(
        command(&node, &format!("{order} --request-id one")).await,
        Ok(Exit::Ok),
        "the same once more"
    );
    assert_eq!(node.submitted().await, 1);
    node.block(2, vec![]).await;
    let id = node.settled("one").await.id;
    for show in ["rules", "rules --hours 48", "book", "curve", "history --days 31 --limit 500"] {
        for output in ["text", "json"] {
            let line = format!("{show} --output {output}");
            assert_eq!(command(&node, &line).await, Ok(Exit::Ok), "{line}");
        }
    }
    let below = "order --interval 2016-06-13T23:30:00Z --side sell --quantity 400 --price 0.01";
    let refused = command(&node, below).await.unwrap_err();
    assert!(
        refused.contains("the ledger would refuse the order") && refused.contains("lies outside"),
        "{refused}"
    );
    let larger = format!("{order} --replace {id} --request-id two").replace("400", "500");
    assert_eq!(command(&node, &larger).await, Ok(Exit::Ok));
    node.block(3, vec![]).await;
    assert_eq!(node.settled("two").await.height, Some(3));
    let gone = command(&node, &format!("cancel {id}")).await.unwrap_err();
    assert!(gone.contains("no such open order"), "{gone}");
    let id = node.settled("two").await.id;
    assert_eq!(command(&node, &format!("cancel {id} --request-id three")).await, Ok(Exit::Ok));
    node.block(4, vec![]).await;
    assert_eq!(node.settled("three").await.state, EntryState::Final);
    assert_eq!(node.client().market_book(None).await.unwrap().orders, []);
}

#[tokio::test]
async fn sharing_by_a_key_is_told_with_its_price_and_the_homes_part() {
    let node = MarketNode::with(|genesis| {
        let price = Some(energy::Price::new(120_000));
        genesis.market.sharing = market::Sharing::StaticKey { price, unused: market::Unused::PassedOn };
        genesis.members[0].participation = ledger::Participation { share_permyriad: 1_250, permille: 800 };
    })
    .await;
    let rules = node.client().market_rules(1).await.unwrap();
    let told = &rules.settlement;
    assert_eq!((told.sharing.as_str(), told.sharing_price), ("static-key", Some(120_000)));
    assert_eq!(
        (told.unused.as_deref(), rules.share_permyriad, rules.participation_permille),
        (Some("passed-on"), 1_250, 800)
    );
    let page = node.page("/rules?lang=en").await;
    for words in [
        "agreed share of local generation is 12.50 %, and 80 % of its energy",
        "Local energy stands at ¥0.12",
    ] {
        assert!(page.contains(words), "{words}");
    }
    assert!(node.page("/rules?lang=zh-CN").await.contains("约定的本地发电份额 12.50%"));
}
