//! One store against convex costs, exactly: dynamic programming over breakpoints.
//!
//! What changing the store by x Wh costs in one interval is piecewise linear in x; what a level is worth from then on is
//! too. If both are convex, so is the level's worth one interval earlier, and its pieces are those of both, sorted by
//! slope (the infimal convolution of two convex functions). So a level's worth is a short sorted list, an interval is
//! one merge, and nothing is lost to a grid.
//!
//! Where a curve is not convex (energy that costs less to take than to give, or that is paid to be taken), its convex hull
//! stands in on the way back, as if one interval could be split between two ways to act. On the way forward the true curve
//! decides, against those worths: the plan is always one that can be carried out.
//!
//! Only slopes are kept, never values: the least cost is where the sum of two slopes turns positive.

/// A straight piece of a curve: `length` Wh along which each Wh more changes the cost by `slope`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    /// In 1/[`super::slot::SCALE`] µ per kWh.
    pub(super) slope: i64,
    /// In Wh.
    pub(super) length: i64,
}

/// For each interval, what changing the store costs: pieces in ascending order of the change.
#[derive(Debug, Default)]
pub(super) struct Stages {
    pieces: Vec<Piece>,
    /// The lowest change (negative: out of the store), and where the pieces begin.
    begins: Vec<(i64, usize)>,
}

impl Stages {
    pub(super) fn with_capacity(intervals: usize) -> Self {
        Self { pieces: Vec::with_capacity(intervals * 4), begins: Vec::with_capacity(intervals) }
    }

    /// Opens the next interval, in which the store changes by at least `lowest`.
    pub(super) fn begin(&mut self, lowest: i64) {
        self.begins.push((lowest, self.pieces.len()));
    }

    /// The next piece of the interval opened last.
    pub(super) fn piece(&mut self, slope: i64, length: i64) {
        if length > 0 {
            self.pieces.push(Piece { slope, length });
        }
    }

    fn len(&self) -> usize {
        self.begins.len()
    }

    fn stage(&self, interval: usize) -> Option<(i64, &[Piece])> {
        let (lowest, first) = *self.begins.get(interval)?;
        let end = self.begins.get(interval + 1).map_or(self.pieces.len(), |next| next.1);
        Some((lowest, self.pieces.get(first..end)?))
    }
}

/// Between which levels the store stays, what it holds now, and what a Wh left at the end changes the cost by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Store<'a> {
    /// The lowest level at each interval's beginning and, last, at the end; each can be kept by what the stages allow.
    pub(super) lowest: &'a [i64],
    /// The highest level.
    pub(super) highest: i64,
    /// The level now.
    pub(super) level: i64,
    /// Slope beyond the last interval: negative where a level is worth keeping.
    pub(super) afterwards: i64,
}

/// The change of the store in every interval that together cost least.
pub(super) fn cheapest(stages: &Stages, store: &Store<'_>) -> Vec<i64> {
    let worths = Worths::backwards(stages, store);
    let mut level = store.level;
    let mut changes = Vec::with_capacity(stages.len());
    for interval in 0..stages.len() {
        let (Some((lowest, pieces)), Some(span)) = (stages.stage(interval), worths.after(interval)) else {
            break;
        };
        let change = best_change(lowest, pieces, &span, level);
        level += change;
        changes.push(change);
    }
    changes
}

/// The worth of every level at one moment.
#[derive(Debug, Clone, Copy)]
struct Span<'a> {
    lowest: i64,
    highest: i64,
    pieces: &'a [Piece],
}

/// Bounds of one [`Span`] and where its pieces are.
#[derive(Debug, Clone, Copy)]
struct Place {
    lowest: i64,
    highest: i64,
    first: usize,
    end: usize,
}

/// The worths of all levels at all moments, the last one first.
#[derive(Debug)]
struct Worths {
    pieces: Vec<Piece>,
    places: Vec<Place>,
}

impl Worths {
    fn backwards(stages: &Stages, store: &Store<'_>) -> Self {
        let count = stages.len();
        let bottom = |moment: usize| store.lowest.get(moment).copied().unwrap_or(0).min(store.highest);
        let lowest = bottom(count);
        let length = store.highest - lowest;
        let mut worths =
            Self { pieces: Vec::with_capacity(count * 32), places: Vec::with_capacity(count.max(1)) };
        worths.pieces.push(Piece { slope: store.afterwards, length });
        worths.places.push(Place { lowest, highest: store.highest, first: 0, end: 1 });
        let mut hull = Vec::new();
        for interval in (1..count).rev() {
            let Some((least, pieces)) = stages.stage(interval) else { break };
            convex_hull(pieces, &mut hull);
            worths.step_back(least, &hull, bottom(interval), store.highest);
        }
        worths
    }

    /// Adds the worth one interval before the one added last, given what changes cost in between.
    fn step_back(&mut self, least: i64, hull: &[Piece], bottom: i64, top: i64) {
        let Some(next) = self.places.last().copied() else { return };
        let most = least + hull.iter().map(|piece| piece.length).sum::<i64>();
        let reached = next.lowest - most;
        let lowest = reached.max(bottom);
        let highest = (next.highest - least).min(top).max(lowest);
        let (mut skip, mut left) = (lowest - reached, highest - lowest);
        let first = self.pieces.len();
        let (mut old, mut own) = (next.first, hull.len());
        while left > 0 {
            let kept = (old < next.end).then(|| self.pieces.get(old).copied()).flatten();
            let moved = own.checked_sub(1).and_then(|last| hull.get(last)).copied();
            // Seen from the level before, a change counts the other way: its slope turns and so does the order.
            let moved = moved.map(|piece| Piece { slope: -piece.slope, ..piece });
            let piece = match (kept, moved) {
                (Some(kept), Some(moved)) if moved.slope < kept.slope => {
                    own -= 1;
                    moved
                }
                (Some(kept), _) => {
                    old += 1;
                    kept
                }
                (None, Some(moved)) => {
                    own -= 1;
                    moved
                }
                (None, None) => break,
            };
            let skipped = skip.min(piece.length);
            skip -= skipped;
            let length = (piece.length - skipped).min(left);
            left -= length;
            self.push(first, piece.slope, length);
        }
        self.places.push(Place { lowest, highest, first, end: self.pieces.len() });
    }

    fn push(&mut self, first: usize, slope: i64, length: i64) {
        let joins = self.pieces.len() > first;
        match self.pieces.last_mut().filter(|last| joins && last.slope == slope) {
            Some(last) => last.length += length,
            None if length > 0 => self.pieces.push(Piece { slope, length }),
            None => {}
        }
    }

    /// What levels are worth once `interval` is over.
    fn after(&self, interval: usize) -> Option<Span<'_>> {
        let place = self.places.len().checked_sub(interval + 1).and_then(|at| self.places.get(at))?;
        let pieces = self.pieces.get(place.first..place.end)?;
        Some(Span { lowest: place.lowest, highest: place.highest, pieces })
    }
}

/// The change that costs least: its own cost and the worth of the level it leads to. Of equal ones the lowest.
fn best_change(least: i64, pieces: &[Piece], span: &Span<'_>, level: i64) -> i64 {
    let most = least + pieces.iter().map(|piece| piece.length).sum::<i64>();
    let from = least.max(span.lowest - level).min(most);
    let to = most.min(span.highest - level);
    let convex = pieces.is_sorted_by_key(|piece| piece.slope);
    let mut own = Cursor::new(pieces, from - least);
    let mut worth = Cursor::new(span.pieces, level + from - span.lowest);
    let (mut change, mut cost) = (from, 0_i128);
    let mut best = (cost, change);
    while change < to {
        let slope = own.slope() + worth.slope();
        if convex && slope >= 0 {
            break;
        }
        let length = own.left().min(worth.left()).min(to - change);
        change += length;
        cost += i128::from(slope) * i128::from(length);
        if cost < best.0 {
            best = (cost, change);
        }
        own.advance(length);
        worth.advance(length);
    }
    best.1
}

/// A place on a curve, moving up.
struct Cursor<'a> {
    pieces: &'a [Piece],
    /// What was left behind of the first of `pieces`.
    passed: i64,
}

impl<'a> Cursor<'a> {
    fn new(pieces: &'a [Piece], skip: i64) -> Self {
        let mut cursor = Self { pieces, passed: 0 };
        cursor.advance(skip.max(0));
        cursor
    }

    fn slope(&self) -> i64 {
        self.pieces.first().map_or(0, |piece| piece.slope)
    }

    /// What is left of this piece; without end behind the last one.
    fn left(&self) -> i64 {
        self.pieces.first().map_or(i64::MAX, |piece| piece.length - self.passed)
    }

    fn advance(&mut self, length: i64) {
        self.passed += length;
        while let Some((first, rest)) = self.pieces.split_first() {
            if self.passed < first.length {
                break;
            }
            self.passed -= first.length;
            self.pieces = rest;
        }
    }
}

/// The largest convex curve that is nowhere above the given one, from the same first to the same last point: pieces whose
/// slope falls are joined at their mean, rounded down.
pub(super) fn convex_hull(pieces: &[Piece], hull: &mut Vec<Piece>) {
    hull.clear();
    for piece in pieces {
        let mut joined = *piece;
        while let Some(last) = hull.last().filter(|last| last.slope > joined.slope).copied() {
            hull.pop();
            joined = mean(last, joined);
        }
        hull.push(joined);
    }
}

fn mean(a: Piece, b: Piece) -> Piece {
    let length = a.length + b.length;
    let rise = i128::from(a.slope) * i128::from(a.length) + i128::from(b.slope) * i128::from(b.length);
    let slope = i64::try_from(rise.div_euclid(i128::from(length.max(1)))).unwrap_or(a.slope);
    Piece { slope, length }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stages(curves: &[(i64, Vec<(i64, i64)>)]) -> Stages {
        let mut stages = Stages::default();
        for (lowest, pieces) in curves {
            stages.begin(*lowest);
            pieces.iter().for_each(|(slope, length)| stages.piece(*slope, *length));
        }
        stages
    }

    fn cost_of_change(lowest: i64, pieces: &[(i64, i64)], change: i64) -> i64 {
        let mut left = change - lowest;
        let mut cost = 0;
        for (slope, length) in pieces {
            let part = left.min(*length);
            cost += slope * part;
            left -= part;
        }
        cost
    }

    /// Every level at every moment, one Wh apart.
    fn by_hand(curves: &[(i64, Vec<(i64, i64)>)], store: &Store<'_>) -> i64 {
        let levels = 0..=store.highest;
        let mut worth: Vec<Option<i64>> = levels
            .clone()
            .map(|level| (level >= store.lowest[curves.len()]).then_some(store.afterwards * level))
            .collect();
        for (moment, (lowest, pieces)) in curves.iter().enumerate().rev() {
            let most = lowest + pieces.iter().map(|piece| piece.1).sum::<i64>();
            let best = |level: i64| {
                let reached = |change: i64| worth[usize::try_from(level + change).unwrap()];
                (*lowest..=most)
                    .filter(|change| (0..=store.highest).contains(&(level + change)))
                    .filter_map(|change| Some(reached(change)? + cost_of_change(*lowest, pieces, change)))
                    .min()
                    .filter(|_| level >= store.lowest[moment])
            };
            worth = levels.clone().map(best).collect();
        }
        worth[usize::try_from(store.level).unwrap()].unwrap()
    }

    fn paid(curves: &[(i64, Vec<(i64, i64)>)], store: &Store<'_>, changes: &[i64]) -> i64 {
        let mut level = store.level;
        let mut cost = 0;
        for (moment, ((lowest, pieces), change)) in curves.iter().zip(changes).enumerate() {
            let most = lowest + pieces.iter().map(|piece| piece.1).sum::<i64>();
            assert!((*lowest..=most).contains(change));
            level += change;
            assert!((store.lowest[moment + 1]..=store.highest).contains(&level));
            cost += cost_of_change(*lowest, pieces, *change);
        }
        cost + store.afterwards * level
    }

    prop_compose! {
        fn curve(convex: bool)(down in 0_i64..6, mut pieces in prop::collection::vec((-9_i64..30, 0_i64..5), 0..4))
            -> (i64, Vec<(i64, i64)>) {
            if convex {
                pieces.sort_unstable();
            }
            // Standing still must be possible.
            let up = pieces.iter().map(|piece| piece.1).sum::<i64>();
            (-down.min(up), pieces)
        }
    }

    proptest! {
        #[test]
        fn convex_costs_are_planned_exactly(
            curves in prop::collection::vec(curve(true), 1..9),
            highest in 0_i64..20,
            level in 0_i64..20,
            bottom in 0_i64..20,
            afterwards in -20_i64..3,
        ) {
            let level = level.min(highest);
            let lowest = vec![bottom.min(level); curves.len() + 1];
            let store = Store { lowest: &lowest, highest, level, afterwards };
            let changes = cheapest(&stages(&curves), &store);
            prop_assert_eq!(changes.len(), curves.len());
            prop_assert_eq!(paid(&curves, &store, &changes), by_hand(&curves, &store));
        }

        #[test]
        fn costs_that_are_not_convex_give_a_plan_that_can_be_carried_out_and_never_beats_the_best(
            curves in prop::collection::vec(curve(false), 1..9),
            highest in 0_i64..20,
            level in 0_i64..20,
        ) {
            let lowest = vec![0; curves.len() + 1];
            let store = Store { lowest: &lowest, highest, level: level.min(highest), afterwards: -5 };
            let changes = cheapest(&stages(&curves), &store);
            prop_assert!(paid(&curves, &store, &changes) >= by_hand(&curves, &store));
        }
    }

    #[test]
    fn a_floor_that_rises_is_climbed_in_time_at_the_cheapest() {
        // 2 Wh per interval; 3 Wh must be there at the end, the middle interval is cheapest.
        let curves = vec![(0, vec![(9, 2)]), (0, vec![(1, 2)]), (0, vec![(5, 2)])];
        let lowest = [0, 0, 0, 3];
        let store = Store { lowest: &lowest, highest: 10, level: 0, afterwards: 0 };
        assert_eq!(cheapest(&stages(&curves), &store), [0, 2, 1]);
    }

    #[test]
    fn falling_slopes_are_joined_at_their_mean() {
        let mut hull = vec![];
        let piece = |slope, length| Piece { slope, length };
        convex_hull(&[piece(1, 3), piece(10, 4), piece(4, 2), piece(20, 1)], &mut hull);
        assert_eq!(hull, [piece(1, 3), piece(8, 6), piece(20, 1)]);
    }
}
