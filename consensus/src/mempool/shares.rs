//! Who has how much of the pool's room.

use std::collections::{BTreeMap, BTreeSet};

use energy::HomeId;
use ledger::{Body, Entry, EntryId, Ledger, PublicKey, Stream};

use super::Waiting;

/// The most bytes of others' entries kept: minutes of the busiest load, far below a small node's memory.
const POOL_BYTES_MAX: usize = 16 << 20;

/// What an entry is worth when there is too little room: the first is kept longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// Votes, candidacies, evidence: what the chain itself lives on.
    Delegates,
    /// Readings: energy that was metered and must be settled.
    Readings,
    /// Members, meters, money, tariffs, limits.
    Rest,
    /// Orders and cancels: who sends none is supplied all the same.
    Orders,
}

impl Class {
    pub const fn of(entry: &Entry) -> Self {
        match entry.body.stream() {
            Stream::Delegates => Self::Delegates,
            Stream::Readings => Self::Readings,
            Stream::Rest => Self::Rest,
            Stream::Orders => Self::Orders,
        }
    }

    /// The most others' entries kept of one member. Readings: a home that was away two weeks has 1 344 of them. The rest is
    /// held to 64 an hour by the ledger, so that more than some hours of it cannot wait for long.
    const fn max_of_member(self) -> usize {
        match self {
            Self::Delegates => 64,
            Self::Readings => 1536,
            Self::Rest | Self::Orders => 512,
        }
    }
}

/// Who answers for an entry: the home whose key signed it, or a key that is no home's, such as a role's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    Member(HomeId),
    Key(PublicKey),
}

/// Whose share of the room an entry takes. A home named by an entry that another key signed has no part in it.
pub(super) fn owner_of(ledger: &Ledger, entry: &Entry) -> Owner {
    let is_its_own = |home: &&HomeId| {
        let keys = ledger.member(home).map(|member| member.admission.keys);
        keys.is_some_and(|keys| [keys.member, keys.reading].contains(&entry.signer))
    };
    home_of(&entry.body)
        .filter(is_its_own)
        .map_or(Owner::Key(entry.signer), |home| Owner::Member(home.clone()))
}

/// The home that an entry is about, where homes sign such entries themselves.
fn home_of(body: &Body) -> Option<&HomeId> {
    match body {
        Body::Reading { home, .. } => home.as_ref(),
        Body::Order(order) => Some(&order.home),
        Body::MeterEvidence(evidence) => Some(&evidence.home),
        Body::StandingLimits { home, .. }
        | Body::OwnContract { home, .. }
        | Body::KeyRotation { home, .. }
        | Body::Cancel { home, .. }
        | Body::ParticipationChange { home, .. }
        | Body::Departure { home, .. }
        | Body::Vote { home, .. }
        | Body::Candidacy { home, .. } => Some(home),
        _ => None,
    }
}

/// The part of one member.
#[derive(Debug, Default)]
struct Share {
    bytes: usize,
    /// What it has waiting, the first to give way last.
    entries: BTreeSet<(Class, u64, EntryId)>,
    by_class: BTreeMap<Class, usize>,
}

/// Others' entries by member.
#[derive(Debug, Default)]
pub(super) struct Shares {
    bytes: usize,
    by_owner: BTreeMap<Owner, Share>,
}

impl Shares {
    /// True if the member has as many entries of this class as it may.
    pub fn is_full(&self, owner: &Owner, class: Class) -> bool {
        let count = self.by_owner.get(owner).and_then(|share| share.by_class.get(&class));
        count.is_some_and(|count| *count >= class.max_of_member())
    }

    pub const fn has_room(&self, bytes: usize) -> bool {
        self.bytes + bytes <= POOL_BYTES_MAX
    }

    /// What gives way to an entry of this member, class and length: the newest of the least worth; among members who have
    /// such, of who has most. Nothing gives way to its like unless its member has more than the newcomer's would.
    pub fn gives_way(&self, owner: &Owner, class: Class, bytes: usize) -> Option<EntryId> {
        let last = |share: &Share| share.entries.last().map(|(class, _, id)| (*class, share.bytes, *id));
        let (least, held, id) = self.by_owner.values().filter_map(last).max()?;
        let mine = self.by_owner.get(owner).map_or(0, |share| share.bytes);
        (least > class || (least == class && held > mine + bytes)).then_some(id)
    }

    pub fn add(&mut self, waiting: &Waiting) {
        let bytes = waiting.entry.bytes().len();
        self.bytes += bytes;
        let share = self.by_owner.entry(waiting.owner.clone()).or_default();
        share.bytes += bytes;
        share.entries.insert((waiting.class, waiting.arrival, waiting.entry.id()));
        *share.by_class.entry(waiting.class).or_default() += 1;
    }

    pub fn remove(&mut self, waiting: &Waiting) {
        let bytes = waiting.entry.bytes().len();
        let Some(share) = self.by_owner.get_mut(&waiting.owner) else { return };
        self.bytes -= bytes;
        share.bytes -= bytes;
        share.entries.remove(&(waiting.class, waiting.arrival, waiting.entry.id()));
        if let Some(count) = share.by_class.get_mut(&waiting.class) {
            *count -= 1;
        }
        if share.entries.is_empty() {
            self.by_owner.remove(&waiting.owner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mempool::Origin;
    use ed25519_dalek::SigningKey;
    use ledger::{Ballot, Chain, Hash32, Salt};

    /// An entry of a home, of a class.
    fn waiting(home: &str, class: Class, arrival: u64) -> Waiting {
        let key = SigningKey::from_bytes(&Hash32::of(&[home.as_bytes()]).0);
        let chain = Chain { id: Hash32::ZERO, recovery: 0 };
        let home = HomeId::new(home).unwrap();
        let body = Body::Vote { home: home.clone(), ballot: Ballot::Approve(Default::default()) };
        let entry = Entry { signer: PublicKey::of(&key), number: arrival, salt: Salt([0; 16]), body };
        Waiting {
            entry: entry.sign(&chain, &key).verify(&chain).unwrap(),
            origin: Origin::Peer(home.clone()),
            seen_ms: 0,
            relay_ms: 0,
            arrival,
            class,
            owner: Owner::Member(home),
            includable: true,
        }
    }

    fn filled(entries: &[Waiting]) -> Shares {
        let mut shares = Shares::default();
        entries.iter().for_each(|entry| shares.add(entry));
        shares
    }

    fn member(home: &str) -> Owner {
        Owner::Member(HomeId::new(home).unwrap())
    }

    #[test]
    fn who_has_most_gives_way_to_who_has_less_and_never_the_other_way_round() {
        let many: Vec<_> = (0..9).map(|arrival| waiting("h1", Class::Orders, arrival)).collect();
        let few = [waiting("h2", Class::Orders, 20)];
        let shares = filled(&[&many[..], &few].concat());
        let bytes = few[0].entry.bytes().len();
        assert_eq!(shares.gives_way(&member("h3"), Class::Orders, bytes), Some(many[8].entry.id()));
        assert_eq!(shares.gives_way(&member("h2"), Class::Orders, bytes), Some(many[8].entry.id()));
        assert_eq!(shares.gives_way(&member("h1"), Class::Orders, bytes), None);
    }

    #[test]
    fn orders_give_way_to_readings_and_to_what_concerns_delegates_and_they_to_no_order() {
        let order = waiting("h1", Class::Orders, 1);
        let readings: Vec<_> = (2..9).map(|arrival| waiting("h2", Class::Readings, arrival)).collect();
        let shares = filled(&[std::slice::from_ref(&order), &readings[..]].concat());
        for class in [Class::Delegates, Class::Readings, Class::Rest] {
            assert_eq!(shares.gives_way(&member("h2"), class, 200), Some(order.entry.id()));
        }
        let without = filled(&readings);
        assert_eq!(without.gives_way(&member("h3"), Class::Orders, 200), None);
        assert_eq!(without.gives_way(&member("h3"), Class::Delegates, 200), Some(readings[6].entry.id()));
    }

    #[test]
    fn what_is_taken_out_leaves_nothing_behind() {
        let entries: Vec<_> = (0..3).map(|arrival| waiting("h1", Class::Rest, arrival)).collect();
        let mut shares = filled(&entries);
        assert!(!shares.has_room(POOL_BYTES_MAX));
        entries.iter().for_each(|entry| shares.remove(entry));
        assert!(shares.has_room(POOL_BYTES_MAX));
        assert!(shares.by_owner.is_empty());
    }

    #[test]
    fn a_member_has_so_many_of_a_kind_and_still_room_for_its_vote() {
        let orders: Vec<_> = (0..512).map(|arrival| waiting("h1", Class::Orders, arrival)).collect();
        let shares = filled(&orders);
        assert!(shares.is_full(&member("h1"), Class::Orders));
        assert!(!shares.is_full(&member("h1"), Class::Delegates));
        assert!(!shares.is_full(&member("h2"), Class::Orders));
    }
}
