//! What a node says of the chain it holds, and which proofs it hands out.

use api::{ClientError, OrderRequest, Side, Time};
use ledger::codec::Decode;
use ledger::{Forward, Proof, ProvenContent, RULE_VERSION};

use super::street::MarketNode;

#[tokio::test]
async fn a_home_gets_proofs_of_its_own_entries_that_hold_with_the_genesis_alone_and_none_of_others() {
    let node = MarketNode::start(Forward::Posted).await;
    let client = node.client();
    let order = OrderRequest {
        request_id: "r1".to_owned(),
        interval: Time(node.interval(4).start()),
        side: Side::Sell,
        price: 100_000,
        quantity_wh: 400,
        replaces: None,
    };
    let own = client.order(&order).await.unwrap().id;
    let theirs = node.order_of(2, 4, market::Side::Buy, 200_000, 300);
    let other = theirs.id().to_string();
    assert_eq!(node.block(2, vec![theirs]).await, []);
    let answer = client.proof(&own).await.unwrap();
    let proof = Proof::from_bytes(&hex::decode(&answer.proof).unwrap()).unwrap();
    let proven = proof.check(&node.genesis).unwrap();
    assert_eq!((answer.leaf, answer.height), (proven.position, proven.height));
    assert!(proven.is_sealed);
    let ProvenContent::Entry(entry) = proven.content else { panic!("no entry") };
    assert_eq!(entry.id().to_string(), own);
    let refused = |error: ClientError| match error {
        ClientError::Refused { problem, .. } => (problem.status, problem.detail),
        other => panic!("{other}"),
    };
    let (status, why) = refused(client.proof(&other).await.unwrap_err());
    assert!(status == 404 && why.contains("another home"), "{status} {why}");
    assert_eq!(refused(client.proof(&"0".repeat(64)).await.unwrap_err()).0, 404);
    assert_eq!(refused(client.proof("zz").await.unwrap_err()).0, 400);
}

#[tokio::test]
async fn a_node_says_what_it_holds_and_by_which_rules_it_goes_on() {
    let node = MarketNode::start(Forward::Off).await;
    let held = node.client().holdings().await.unwrap();
    assert_eq!((held.bodies_from, held.certificates_from, held.joined), (1, 1, 0));
    assert_eq!((held.rule_version, held.known_rules, held.coming_rules), (RULE_VERSION, RULE_VERSION, None));
    assert_eq!((held.waiting, held.checkpoint), (None, None));
    node.live.set_waiting(Some("for a checkpoint".to_owned()), Some(7));
    let held = node.client().holdings().await.unwrap();
    assert_eq!((held.waiting.as_deref(), held.checkpoint), (Some("for a checkpoint"), Some(7)));
}
