//! Answering the questions of homes that do not hold all bodies: each gets its own part and no other's.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use energy::HomeId;
use ledger::{Genesis, HomeView, Ledger, PublicKey, Replicas, VIEW_BYTES_MAX};

use super::{Answer, Ask, BLOCKS_BYTES, BLOCKS_MAX};
use crate::http::Live;
use crate::network::Reply;
use crate::store::{StoreError, blocks_for_home};

/// Answers from what this node holds. Cheap to clone.
#[derive(Clone)]
pub struct Giving {
    database: PathBuf,
    genesis: Arc<Genesis>,
    live: Arc<Live>,
}

impl Giving {
    /// Gives what is in the ledger database at `database`, of which `live` knows the last block.
    #[must_use]
    pub fn new(database: &Path, genesis: &Genesis, live: Arc<Live>) -> Self {
        Self { database: database.to_owned(), genesis: Arc::new(genesis.clone()), live }
    }

    /// True if the question is of this kind.
    #[must_use]
    pub fn is_asked(bytes: &[u8]) -> bool {
        Ask::from_bytes(bytes).is_some()
    }

    /// True if the member with this network key holds all bodies, by the last block here.
    #[must_use]
    pub fn may_hold_all(&self, from: &PublicKey) -> bool {
        if self.genesis.replicas == Replicas::All {
            return true;
        }
        let Some(ledger) = self.live.ledger() else { return false };
        home_of(&ledger, from).is_some_and(|home| ledger.holds_bodies(&home))
    }

    /// What the home with this network key may know of the state after the last block here.
    #[must_use]
    pub fn view_of(&self, from: &PublicKey) -> Option<(HomeView, Arc<Ledger>)> {
        let ledger = self.live.ledger().filter(|ledger| !ledger.is_view())?;
        let home = home_of(&ledger, from)?;
        Some((HomeView::of(&ledger, &home), ledger))
    }

    /// Answers a member on a thread of its own. Who holds no bodies refuses, and who asks and is no member is refused.
    pub fn answer(&self, from: PublicKey, bytes: &[u8], reply: Reply) {
        let Some(ask) = Ask::from_bytes(bytes) else { return };
        let Some(ledger) = self.live.ledger().filter(|ledger| !ledger.is_view()) else { return };
        let Some(home) = home_of(&ledger, &from) else { return };
        let giving = self.clone();
        tokio::task::spawn_blocking(move || match giving.make(&ledger, &home, &ask) {
            Ok(answer) => reply.send(answer.to_bytes()),
            Err(error) => tracing::warn!(%error, %home, "a question of a home is not answered"),
        });
    }

    fn make(&self, ledger: &Ledger, home: &HomeId, ask: &Ask) -> Result<Answer, StoreError> {
        let height = ledger.height();
        let until = height.min(ask.from_height.saturating_add(BLOCKS_MAX as u64).saturating_sub(1));
        let range = (ask.from_height, until);
        let given = blocks_for_home(&self.database, &self.genesis, range, home, BLOCKS_BYTES)?;
        let gone = given.is_none();
        let blocks = given.unwrap_or_default();
        let last = blocks.last().map_or(ask.from_height.saturating_sub(1), |block| block.header.height);
        let is_news = !gone && last == height && ask.view_height != height;
        let view = is_news.then(|| HomeView::of(ledger, home).to_bytes(&ask.known));
        let view = view.filter(|view| {
            let fits = view.len() <= VIEW_BYTES_MAX;
            if !fits {
                tracing::error!(bytes = view.len(), "what is public of the state is too long to be given");
            }
            fits
        });
        Ok(Answer { height, gone, blocks, view })
    }
}

fn home_of(ledger: &Ledger, key: &PublicKey) -> Option<HomeId> {
    let members = ledger.members();
    let found = members.into_iter().find(|(_, member)| member.admission.keys.network == *key)?;
    Some(found.0.clone())
}
