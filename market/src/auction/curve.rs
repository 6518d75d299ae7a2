//! Which steps are used: curves merged from the leaves to the root, then shared out.
//!
//! A subtree's curve is a sorted run of [`Step`]s on one stack; a parent finds its children's runs on top of it and
//! merges them with its own orders in place. A step remembers its **origin**, so that using it at the root, or cutting
//! it off at an edge on the way, settles the order at once and nothing has to be solved again on the way down.
//!
//! Only a group of equal steps (same price and class) that is divided somewhere needs more: by the root's balance, by an
//! edge limit, or by zero where fees part the importing from the exporting side. Such a group becomes a [`Split`]: one
//! new origin whose pieces travel on in its place. When the root is settled, each split knows how much of it was used
//! and shares that among its members down the tree. Later splits hold pieces of earlier ones, never the reverse, so
//! they are shared out backwards.
//!
//! Nodes joined by edges without fee and limit form a **region** with one curve: merging them one by one would change
//! nothing, since such an edge neither shifts nor cuts, and rationing walks the real tree anyway.

use std::hint::select_unpredictable;
use std::ops::Range;

use energy::WattHours;

use super::sort::{Keyed, merge_runs, sort};
use super::{Desk, Order, Side};
use crate::Network;
use crate::network::RankedNode;
use crate::ration::pro_rata;

/// The most orders of one auction: origins of orders and splits share 32 bits.
pub(super) const ORDERS_MAX: usize = 1 << 28;

/// Added energy on the way to a price, in units of (price, class): four times the price plus the class.
///
/// Classes make local trade come before the supplier at equal prices, so the traded volume is the greatest.
const fn key(price: i64, class: i64) -> i64 {
    // Prices and sums of fees stay below 2⁵⁸ (PRICE_MAX, NODES_MAX).
    price.wrapping_mul(4).wrapping_add(class)
}

/// The classes' part of a key.
const CLASSES: i64 = 3;
const LOCAL_SELL: i64 = 0;
const EXPORT_GIVEN_UP: i64 = 1;
const SUPPLIER_IMPORT: i64 = 2;
const BUY_GIVEN_UP: i64 = 3;

/// What the auction uses of every step.
pub(super) struct Used {
    /// By order: what a seller sells, what a buyer gives up.
    pub(super) orders: Vec<u64>,
    /// What the supplier delivers.
    pub(super) import: u64,
    /// What the supplier gives up of the most it takes.
    pub(super) export_given_up: u64,
}

/// Wh of one step, in as few bytes as all steps of an auction need: merging moves every step many times.
trait Width: Copy {
    /// `energy`, which must fit.
    fn narrow(energy: u64) -> Self;
    fn wide(self) -> u64;
}

impl Width for u32 {
    fn narrow(energy: u64) -> Self {
        energy.try_into().unwrap_or(Self::MAX)
    }

    fn wide(self) -> u64 {
        self.into()
    }
}

impl Width for u64 {
    fn narrow(energy: u64) -> Self {
        energy
    }

    fn wide(self) -> u64 {
        self
    }
}

/// Net export rises by `quantity` once the price passes `key`.
#[derive(Debug, Clone, Copy)]
struct Step<W> {
    key: i64,
    quantity: W,
    origin: u32,
}

impl<W: Width> Step<W> {
    fn new(key: i64, quantity: u64, origin: u32) -> Self {
        Self { key, quantity: W::narrow(quantity), origin }
    }
}

impl<W: Width> Keyed for Step<W> {
    fn key(&self) -> i64 {
        self.key
    }
}

/// A divided group of equal steps below one node.
struct Split {
    rank: u32,
    members: Range<usize>,
}

/// A subtree's curve: where its run begins on the stack, and how much it imports when no step is used.
struct Run {
    start: usize,
    base: u64,
}

/// The auction's input. `total` is the energy of all orders, `ranks` are the orders' nodes, `places` their places by id (`None`: as given).
pub(super) struct Input<'a, Id> {
    pub(super) network: &'a Network,
    pub(super) orders: &'a [Order<Id>],
    pub(super) total: WattHours,
    pub(super) ranks: &'a [u32],
    pub(super) places: Option<&'a [u32]>,
    pub(super) desk: Option<&'a Desk>,
}

/// Finds what is used of every order.
pub(super) fn solve<Id>(input: &Input<'_, Id>) -> Used {
    // No step is larger than all orders together and one: see the supplier's.
    if input.total.get() < u64::from(u32::MAX) {
        solve_in::<u32, Id>(input)
    } else {
        solve_in::<u64, Id>(input)
    }
}

fn solve_in<W: Width, Id>(input: &Input<'_, Id>) -> Used {
    let Input { network, orders, ranks, places, desk, .. } = *input;
    let regions = Regions::of(network);
    let desk_steps = desk.map_or([None; 2], |desk| desk_steps(desk, orders.len()));
    // One allocation with room to sort, to merge and for the curves; crossing its edge, a curve may grow by one piece.
    let count = orders.len().saturating_add(desk_steps.iter().flatten().count());
    let room = count.saturating_add(regions.tops.len());
    let mut steps: Vec<Step<W>> = Vec::with_capacity(room.saturating_mul(3));
    steps.extend(orders.iter().zip(0u32..).map(|(order, origin)| order_step(order, origin)));
    steps.extend(desk_steps.into_iter().flatten());
    steps.resize(room.saturating_mul(2), Step::new(0, 0, 0));
    let (mut sorted, mut other) = steps.split_at_mut(room);
    let (mut spare, mut dealt) = (0, room);
    if sort(sorted.get_mut(..count).unwrap_or_default(), other.get_mut(..count).unwrap_or_default()) {
        std::mem::swap(&mut sorted, &mut other);
        std::mem::swap(&mut spare, &mut dealt);
    }
    let mut own = Own::gather(&regions, ranks, sorted.get(..count).unwrap_or_default(), other, dealt);
    own.add_base(0, desk.map_or(0, |desk| desk.export_limit));
    let spare = spare..spare.saturating_add(room);
    let mut curves = Curves::new(orders.len(), regions.tops.len(), steps, spare);
    curves.raise(network, &regions, &own);
    curves.share_out(&Sharing { network, ranks, places });
    curves.finish(orders.len())
}

/// The network with its free edges contracted. Regions are numbered by the rank of their top node.
struct Regions {
    /// Rank of each region's node nearest to the root.
    tops: Vec<u32>,
    /// Region of each rank.
    of_rank: Vec<u32>,
    /// How many regions hang below each region.
    children: Vec<u32>,
}

impl Regions {
    fn of(network: &Network) -> Self {
        let mut regions = Self { tops: vec![], of_rank: Vec::with_capacity(network.len()), children: vec![] };
        for (rank, node) in (0u32..).zip(network.nodes()) {
            let above = regions.of_rank.get(node.parent as usize).copied();
            match above {
                Some(above) if node.is_free() => regions.of_rank.push(above),
                _ => regions.begin(rank, above),
            }
        }
        regions
    }

    fn begin(&mut self, rank: u32, above: Option<u32>) {
        if let Some(count) = above.and_then(|above| self.children.get_mut(above as usize)) {
            *count = count.saturating_add(1);
        }
        self.of_rank.push(u32::try_from(self.tops.len()).unwrap_or(u32::MAX));
        self.tops.push(rank);
        self.children.push(0);
    }

    fn region(&self, rank: u32) -> usize {
        self.of_rank.get(rank as usize).map_or(0, |region| *region as usize)
    }
}

/// Where every region's own steps are, in order of their keys, one region after another.
struct Own {
    /// Where the root region's begin.
    first: usize,
    /// Where each region's steps end, from there; they begin where the region before ends.
    ends: Vec<usize>,
    /// What each region's own buyers take when none gives up.
    bases: Vec<u64>,
}

impl Own {
    /// Deals the `sorted` steps out to their regions' places in `room`, which begins at `first`. Those of the supplier
    /// belong to the root's.
    fn gather<W: Width>(
        regions: &Regions,
        ranks: &[u32],
        sorted: &[Step<W>],
        room: &mut [Step<W>],
        first: usize,
    ) -> Self {
        let mut own = Self { first, ends: vec![0; regions.tops.len()], bases: vec![0; regions.tops.len()] };
        for rank in ranks {
            own.count(regions.region(*rank), 1);
        }
        own.count(0, sorted.len().saturating_sub(ranks.len()));
        let mut total = 0usize;
        for end in &mut own.ends {
            // Until filled, an end is the place of the region's first step.
            (*end, total) = (total, total.saturating_add(*end));
        }
        for step in sorted {
            let region = ranks.get(step.origin as usize).map_or(0, |rank| regions.region(*rank));
            own.add(region, *step, room);
        }
        own
    }

    fn count(&mut self, region: usize, steps: usize) {
        if let Some(end) = self.ends.get_mut(region) {
            *end = end.saturating_add(steps);
        }
    }

    fn add<W: Width>(&mut self, region: usize, step: Step<W>, room: &mut [Step<W>]) {
        if let Some(end) = self.ends.get_mut(region) {
            if let Some(slot) = room.get_mut(*end) {
                *slot = step;
            }
            *end = end.saturating_add(1);
        }
        let buys = step.key & CLASSES == BUY_GIVEN_UP;
        self.add_base(region, select_unpredictable(buys, step.quantity.wide(), 0));
    }

    fn add_base(&mut self, region: usize, quantity: u64) {
        if let Some(base) = self.bases.get_mut(region) {
            *base = base.saturating_add(quantity);
        }
    }

    /// Where a region's steps are.
    fn steps(&self, region: usize) -> Range<usize> {
        let end_of = |region: usize| self.ends.get(region).copied().unwrap_or(0).saturating_add(self.first);
        region.checked_sub(1).map_or(self.first, end_of)..end_of(region)
    }

    fn base(&self, region: usize) -> u64 {
        self.bases.get(region).copied().unwrap_or(0)
    }
}

fn order_step<W: Width, Id>(order: &Order<Id>, origin: u32) -> Step<W> {
    let class = match order.side {
        Side::Sell => LOCAL_SELL,
        Side::Buy => BUY_GIVEN_UP,
    };
    Step::new(key(order.price.get(), class), order.quantity.get(), origin)
}

/// The supplier's steps; a limit of 0 leaves none. Their origins follow the orders'.
fn desk_steps<W: Width>(desk: &Desk, orders: usize) -> [Option<Step<W>>; 2] {
    let origin = u32::try_from(orders).unwrap_or(u32::MAX);
    let import = Step::new(key(desk.import_price, SUPPLIER_IMPORT), desk.import_limit, origin);
    let given_up = key(desk.export_price, EXPORT_GIVEN_UP);
    let export = Step::new(given_up, desk.export_limit, origin.saturating_add(1));
    [import, export].map(|step: Step<W>| (step.quantity.wide() > 0).then_some(step))
}

/// The stack of curves, and what was used so far.
struct Curves<W> {
    /// Regions' own steps and as many spare ones, to merge in; then the stack.
    steps: Vec<Step<W>>,
    /// Where the spare ones are.
    spare: Range<usize>,
    runs: Vec<Run>,
    /// Where the runs to merge begin.
    starts: Vec<usize>,
    /// By origin: orders, then import, export given up, then splits.
    used: Vec<u64>,
    splits: Vec<Split>,
    /// The splits' members.
    members: Vec<Step<W>>,
}

/// Orders and the supplier's two steps come before the splits among the origins.
const DESK_ORIGINS: usize = 2;

impl<W: Width> Curves<W> {
    fn new(orders: usize, regions: usize, steps: Vec<Step<W>>, spare: Range<usize>) -> Self {
        let origins = orders.saturating_add(DESK_ORIGINS);
        // An edge splits at most at its two limits and at zero.
        let mut used = Vec::with_capacity(origins.saturating_add(regions.saturating_mul(3)));
        used.resize(origins, 0);
        Self { steps, spare, runs: vec![], starts: vec![], used, splits: vec![], members: vec![] }
    }

    /// Builds every region's curve, children first, and settles the root's.
    fn raise(&mut self, network: &Network, regions: &Regions, own: &Own) {
        for (region, top) in regions.tops.iter().enumerate().rev() {
            let mut run = self.merge(regions, region, own);
            if region == 0 {
                self.use_below(0, run.start, run.base);
            } else {
                self.cross(*top, &network.ranked(*top), &mut run);
                self.runs.push(run);
            }
        }
    }

    /// Puts a region's own steps on top of its children's and merges them all.
    fn merge(&mut self, regions: &Regions, region: usize, own: &Own) -> Run {
        let mut run = Run { start: self.steps.len(), base: own.base(region) };
        self.starts.clear();
        self.starts.push(self.steps.len());
        for _ in 0..regions.children.get(region).copied().unwrap_or(0) {
            let Some(child) = self.runs.pop() else { break };
            run = Run { start: child.start, base: run.base.saturating_add(child.base) };
            self.starts.push(child.start);
        }
        self.steps.extend_from_within(own.steps(region));
        self.starts.reverse();
        self.starts.iter_mut().for_each(|start| *start = start.saturating_sub(run.start));
        let (below, curves) = self.steps.split_at_mut(run.start);
        merge_runs(curves, &mut self.starts, below.get_mut(self.spare.clone()).unwrap_or_default());
        run
    }

    fn run_mut(&mut self, start: usize) -> &mut [Step<W>] {
        self.steps.get_mut(start..).unwrap_or_default()
    }

    /// Takes the topmost curve across the edge above it: cuts off what exceeds the limits, adds and takes off fees.
    fn cross(&mut self, rank: u32, edge: &RankedNode, run: &mut Run) {
        if let Some(up) = edge.up {
            let end = self.divide(rank, run.start, run.base.saturating_add(up));
            self.steps.truncate(end);
        }
        if let Some(down) = edge.down
            && let Some(forced) = run.base.checked_sub(down)
        {
            // Below this the parent cannot deliver: these steps are used whatever the price.
            self.use_below(rank, run.start, forced);
            run.base = down;
        }
        let (up, down) = (key(edge.fee_up, 0), key(edge.fee_down, 0));
        if up != 0 || down != 0 {
            let zero = self.divide(rank, run.start, run.base);
            let (importing, exporting) = self.run_mut(run.start).split_at_mut(zero.saturating_sub(run.start));
            // Keys never leave 64 bits (see `key`), and nothing else is done as often.
            importing.iter_mut().for_each(|step| step.key = step.key.wrapping_sub(down));
            exporting.iter_mut().for_each(|step| step.key = step.key.wrapping_add(up));
        }
    }

    /// Takes the lowest `quantity` off the curve that begins at `start`, as used.
    fn use_below(&mut self, rank: u32, start: usize, quantity: u64) {
        if quantity == 0 {
            return;
        }
        let end = self.divide(rank, start, quantity);
        for step in self.steps.drain(start..end) {
            if let Some(used) = self.used.get_mut(step.origin as usize) {
                *used = used.saturating_add(step.quantity.wide());
            }
        }
    }

    /// Makes a boundary between steps after the lowest `quantity` of the curve that begins at `start`, and returns where
    /// it is; the end of the curve if it is shorter.
    fn divide(&mut self, rank: u32, start: usize, quantity: u64) -> usize {
        let mut left = quantity;
        let run = self.steps.get(start..).unwrap_or_default();
        let crossed = run.iter().position(|step| match left.checked_sub(step.quantity.wide()) {
            Some(rest) => {
                left = rest;
                false
            }
            None => true,
        });
        match crossed {
            None => self.steps.len(),
            Some(offset) => self.divide_step(rank, start, start.saturating_add(offset), left),
        }
    }

    /// Divides the curve `inside` Wh (less than all) into the step at `at`.
    fn divide_step(&mut self, rank: u32, start: usize, at: usize, inside: u64) -> usize {
        let Some(step) = self.steps.get(at).copied() else { return at };
        let same = |other: &&Step<W>| other.key == step.key;
        let (before, after) = self.steps.split_at_checked(at).unwrap_or_default();
        let before = before.get(start..).unwrap_or_default().iter().rev().take_while(same).count();
        let group = at.saturating_sub(before)..at.saturating_add(after.iter().take_while(same).count());
        if inside == 0 && before == 0 {
            return at;
        }
        let members = self.steps.get(group.clone()).unwrap_or_default();
        if members.iter().any(|member| member.origin != step.origin) {
            return self.split(rank, group, at, inside);
        }
        if inside == 0 {
            return at;
        }
        // One origin: its pieces need no sharing.
        if let Some(rest) = self.steps.get_mut(at) {
            rest.quantity = W::narrow(step.quantity.wide().saturating_sub(inside));
        }
        self.steps.insert(at, Step { quantity: W::narrow(inside), ..step });
        at.saturating_add(1)
    }

    /// Replaces a group of several origins by two pieces of one new origin; the second begins `inside` Wh into the step
    /// at `at`.
    fn split(&mut self, rank: u32, group: Range<usize>, at: usize, inside: u64) -> usize {
        let sum =
            |steps: &[Step<W>]| steps.iter().fold(0u64, |sum, step| sum.saturating_add(step.quantity.wide()));
        let members = self.steps.get(group.clone()).unwrap_or_default();
        let lower = sum(self.steps.get(group.start..at).unwrap_or_default()).saturating_add(inside);
        let upper = sum(members).saturating_sub(lower);
        let key = members.first().map_or(0, |member| member.key);
        let first_member = self.members.len();
        self.members.extend_from_slice(members);
        self.splits.push(Split { rank, members: first_member..self.members.len() });
        let origin = u32::try_from(self.used.len()).unwrap_or(u32::MAX);
        self.used.push(0);
        let piece = |quantity| Step::new(key, quantity, origin);
        let boundary = group.start.saturating_add(1);
        self.steps.splice(group, [piece(lower), piece(upper)]);
        boundary
    }

    /// Shares what was used of each split among its members, later splits first.
    fn share_out(&mut self, sharing: &Sharing<'_>) {
        let first_split = self.used.len().saturating_sub(self.splits.len());
        for (place, split) in self.splits.iter().enumerate().rev() {
            let amount = self.used.get(first_split.saturating_add(place)).copied().unwrap_or(0);
            let Some(members) = self.members.get_mut(split.members.clone()) else { continue };
            let rank_of = |step: &Step<W>| sharing.rank_of(step.origin, first_split, &self.splits);
            members.sort_unstable_by_key(|step| (rank_of(step), sharing.place_of(step.origin)));
            let claim = |step: &Step<W>| Claim {
                rank: rank_of(step),
                origin: step.origin,
                energy: step.quantity.wide(),
            };
            let claims: Vec<Claim> = members.iter().map(claim).collect();
            share(sharing.network, split.rank, &claims, amount, &mut self.used);
        }
    }

    fn finish(mut self, orders: usize) -> Used {
        let at = |offset: usize| self.used.get(orders.saturating_add(offset)).copied().unwrap_or(0);
        let (import, export_given_up) = (at(0), at(1));
        self.used.truncate(orders);
        Used { orders: self.used, import, export_given_up }
    }
}

/// What sharing needs to know about origins.
struct Sharing<'a> {
    network: &'a Network,
    ranks: &'a [u32],
    places: Option<&'a [u32]>,
}

impl Sharing<'_> {
    /// The rank of an origin's node: an order's, a split's, or the root for the supplier.
    fn rank_of(&self, origin: u32, first_split: usize, splits: &[Split]) -> u32 {
        let origin = origin as usize;
        let split = || splits.get(origin.checked_sub(first_split)?).map(|split| split.rank);
        self.ranks.get(origin).copied().or_else(split).unwrap_or(0)
    }

    /// The place of an order among all ids.
    fn place_of(&self, origin: u32) -> u32 {
        self.places.and_then(|places| places.get(origin as usize)).copied().unwrap_or(origin)
    }
}

/// A member of a split with the rank of its node.
struct Claim {
    rank: u32,
    origin: u32,
    energy: u64,
}

/// Shares `amount` among `claims` in the subtree of `rank`, adding to `used`. Claims are sorted by rank: first the node's
/// own, then each child's subtree in order of ids.
fn share(network: &Network, rank: u32, claims: &[Claim], amount: u64, used: &mut [u64]) {
    let mut open = vec![(rank, claims, amount)];
    let (mut parts, mut quantities, mut shares) = (vec![], vec![], vec![]);
    while let Some((rank, claims, amount)) = open.pop() {
        if amount == 0 {
            continue;
        }
        if let [claim] = claims {
            if let Some(used) = used.get_mut(claim.origin as usize) {
                *used = used.saturating_add(amount);
            }
            continue;
        }
        parts_of(network, rank, claims, &mut parts);
        quantities.clear();
        quantities.extend(parts.iter().map(|(_, part)| {
            part.iter().fold(0u64, |sum: u64, claim: &Claim| sum.saturating_add(claim.energy))
        }));
        pro_rata(amount, &quantities, |place| place, &mut shares);
        open.extend(parts.iter().zip(&shares).map(|((rank, part), share)| (*rank, *part, *share)));
    }
}

/// The parts among which a node rations: each claim of its own alone, then all claims of each child's subtree.
fn parts_of<'a>(network: &Network, rank: u32, claims: &'a [Claim], parts: &mut Vec<(u32, &'a [Claim])>) {
    parts.clear();
    let (own, below) = claims.split_at(claims.partition_point(|claim| claim.rank == rank));
    parts.extend(own.chunks(1).map(|claim| (rank, claim)));
    let (mut rest, mut child) = (below, rank.saturating_add(1));
    while let Some(first) = rest.first() {
        let mut end = network.subtree(child).end;
        while end <= first.rank && end > child {
            child = end;
            end = network.subtree(child).end;
        }
        let (inside, after) = rest.split_at(rest.partition_point(|claim| claim.rank < end).max(1));
        parts.push((child, inside));
        rest = after;
    }
}
