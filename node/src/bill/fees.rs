//! Network fees between a home and the nodes above it in any interval: those that were published for it; where none
//! were, the last ordinary ones that were valid at that time of day; else those of the genesis. The same rule as the
//! ledger's, over its published entries, so that bills of any age can be made.

use std::collections::BTreeMap;

use energy::{Interval, NodeId};
use ledger::{FeePoint, Genesis};

use super::items::Distances;

/// Fees of one edge that were published: node, first interval, one point an interval.
pub type Published = (NodeId, Interval, Vec<FeePoint>);

/// The fees on the way of one home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fees {
    /// The edges from the home's node to the root.
    path: Vec<Edge>,
    /// Fees above it count for their own intervals only.
    ordinary_max: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Edge {
    /// By the genesis: toward the root, away from it.
    usual: (i64, i64),
    /// By unit of the day and interval.
    published: BTreeMap<(u32, u64), (i64, i64)>,
}

impl Fees {
    /// The fees on the way from `node` to the root of the genesis' network; `published` in the order of the ledger.
    #[must_use]
    pub fn new(genesis: &Genesis, node: &NodeId, published: &[Published]) -> Self {
        let find = |id: &NodeId| genesis.network.iter().find(|node| node.id == *id);
        let mut path = Vec::new();
        let mut at = find(node);
        // A genesis that was taken has a tree: each step leads nearer to its root.
        while let Some((spec, parent)) = at.and_then(|spec| Some((spec, spec.parent.as_ref()?))) {
            let usual = (spec.fee_up.get(), spec.fee_down.get());
            path.push(Edge { usual, published: points_of(&spec.id, published) });
            at = find(parent);
        }
        Self { path, ordinary_max: genesis.caps.price_max.get() }
    }

    /// What a kWh costs between the home and each node above it in `interval`.
    #[must_use]
    pub fn at(&self, interval: Interval) -> Distances {
        let mut distances = Distances { down: vec![0], up: vec![0] };
        let (mut down, mut up) = (0_i64, 0_i64);
        for edge in &self.path {
            let fee = edge.at(interval, self.ordinary_max);
            (up, down) = (up.saturating_add(fee.0), down.saturating_add(fee.1));
            distances.down.push(down);
            distances.up.push(up);
        }
        distances
    }
}

impl Edge {
    fn at(&self, interval: Interval, ordinary_max: i64) -> (i64, i64) {
        let (slot, index) = (interval.of_day(), interval.index());
        let until_then = self.published.range((slot, 0)..=(slot, index)).rev();
        let holds =
            |((_, at), fee): &(&(u32, u64), &(i64, i64))| *at == index || fee.0.max(fee.1) <= ordinary_max;
        until_then.into_iter().find(holds).map_or(self.usual, |(_, fee)| *fee)
    }
}

fn points_of(node: &NodeId, published: &[Published]) -> BTreeMap<(u32, u64), (i64, i64)> {
    let mut points = BTreeMap::new();
    for (_, from, series) in published.iter().filter(|(of, ..)| of == node) {
        let mut interval = *from;
        for point in series {
            points.insert((interval.of_day(), interval.index()), (point.up.get(), point.down.get()));
            interval = interval.next();
        }
    }
    points
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use energy::{Mtu, Price};

    use super::*;
    use crate::config::document::Document;

    fn at(time: &str) -> Interval {
        Interval::parse(time, Mtu::Min60).unwrap()
    }

    fn point(up: i64, down: i64) -> FeePoint {
        FeePoint { up: Price::new(up), down: Price::new(down) }
    }

    fn genesis() -> Genesis {
        let key =
            |number: u8| hex::encode(ed25519_dalek::SigningKey::from_bytes(&[number; 32]).verifying_key());
        let member = format!(
            "[[member]]\nhome = \"h1\"\nowner = \"o\"\nnode = \"f1\"\nkeys = {{ member = \"{}\", reading = \"{}\", network = \"{}\" }}\n\
             meter = {{ serial = \"m\", profile_hash = \"{}\" }}\n[[delegate]]\nhome = \"h1\"\nkey = \"{}\"\n",
            key(1),
            key(2),
            key(3),
            "07".repeat(32),
            key(4)
        );
        let text = format!(
            "name = \"Lane\"\ncurrency = \"EUR\"\nmtu_minutes = 60\nstart = 2026-10-01T00:00:00Z\n\
             [tariff]\nimport_price = 250000\nexport_price = 80000\n[caps]\nprice_min = 0\nprice_max = 500000\ntransfer_max_n = 0\n\
             [roles]\noperator = \"{}\"\ntreasurer = \"{}\"\nauditor = \"{}\"\n\
             [[node]]\nid = \"grid\"\n[[node]]\nid = \"lv\"\nparent = \"grid\"\nfee_down = 40000\n\
             [[node]]\nid = \"f1\"\nparent = \"lv\"\nfee_down = 10000\nfee_up = 2000\n{member}",
            key(5),
            key(6),
            key(7)
        );
        crate::genesis_file::read(&Document::of_text(Path::new("genesis.toml"), &text)).unwrap()
    }

    #[test]
    fn published_fees_hold_in_their_interval_and_at_that_time_of_later_days() {
        let node = NodeId::new("f1").unwrap();
        let lv = NodeId::new("lv").unwrap();
        let evening = vec![point(0, 90_000), point(0, 600_000)];
        let published = [(lv, at("2026-10-05T17:00:00Z"), evening)];
        let fees = Fees::new(&genesis(), &node, &published);
        let down = |time: &str| fees.at(at(time)).down;
        assert_eq!(down("2026-10-05T16:00:00Z"), [0, 10_000, 50_000], "those of the genesis");
        assert_eq!(down("2026-10-04T17:00:00Z"), [0, 10_000, 50_000], "not published yet");
        assert_eq!(down("2026-10-05T17:00:00Z"), [0, 10_000, 100_000]);
        assert_eq!(down("2026-10-09T17:00:00Z"), [0, 10_000, 100_000], "the last one of that hour");
        assert_eq!(down("2026-10-05T18:00:00Z"), [0, 10_000, 610_000], "countersigned");
        assert_eq!(down("2026-10-06T18:00:00Z"), [0, 10_000, 50_000], "and for that interval only");
        assert_eq!(fees.at(at("2026-10-05T17:00:00Z")).up, [0, 2_000, 2_000]);
    }

    #[test]
    fn the_last_word_on_an_interval_counts() {
        let f1 = NodeId::new("f1").unwrap();
        let from = at("2026-10-05T17:00:00Z");
        let published = [(f1.clone(), from, vec![point(1, 2)]), (f1.clone(), from, vec![point(3, 4)])];
        assert_eq!(
            Fees::new(&genesis(), &f1, &published).at(from),
            Distances { down: vec![0, 4, 40_004], up: vec![0, 3, 3] }
        );
    }
}
