//! Who the members are, by network key and by home.

use std::collections::BTreeMap;

use energy::HomeId;
use ledger::{Ledger, PublicKey};

/// Who the members are, by network key and by home.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Members {
    by_key: BTreeMap<PublicKey, HomeId>,
    by_home: BTreeMap<HomeId, PublicKey>,
}

impl Members {
    /// Those of a ledger.
    pub fn of(ledger: &Ledger) -> Self {
        let pairs = ledger.members();
        let keys = || pairs.iter().map(|(home, member)| ((*home).clone(), member.admission.keys.network));
        Self { by_key: keys().map(|(home, key)| (key, home)).collect(), by_home: keys().collect() }
    }

    /// Whose network key it is.
    pub fn home_of(&self, key: &PublicKey) -> Option<HomeId> {
        self.by_key.get(key).cloned()
    }

    /// The network key of a home.
    pub fn key_of(&self, home: &HomeId) -> Option<PublicKey> {
        self.by_home.get(home).copied()
    }

    /// Every network key.
    pub fn keys(&self) -> Vec<PublicKey> {
        self.by_key.keys().copied().collect()
    }
}
