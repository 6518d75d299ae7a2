//! Why a run could not be made.

use energy::{HomeId, IdError, NodeId, QuantityError, Timestamp};
use ledger::{BlockError, GenesisError, SignatureError};
use market::{MarketError, NetworkError};

/// Why a run could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// Longer than the recording, or nothing at all.
    #[error("a run of {asked} intervals cannot be made: the recording has {available}; ask for fewer weeks")]
    Length {
        /// Intervals asked for.
        asked: usize,
        /// Intervals recorded.
        available: usize,
    },
    /// More homes than recorded, or none.
    #[error("a run of {asked} homes cannot be made: the recording has {available}")]
    Homes {
        /// Asked for.
        asked: usize,
        /// Recorded.
        available: usize,
    },
    /// An agent cannot trade what the ledger does not clear.
    #[error("a home hangs on {0}, which the network does not list; its data set is damaged")]
    UnknownNode(NodeId),
    /// The ledger settled somebody who is not there.
    #[error("the ledger names home {0}, which is not in the run; this is a fault of the program")]
    UnknownHome(HomeId),
    /// The recording begins with time itself.
    #[error("the recording begins before there is an interval to read; its dates are damaged")]
    BeforeTime,
    /// A home of the recording cannot be a member.
    #[error("a home's name cannot be used on a ledger")]
    Id(#[from] IdError),
    /// The network of the recording is no network.
    #[error("the network of the data set cannot be used")]
    Network(#[from] NetworkError),
    /// The community cannot be founded.
    #[error("the community of the run cannot be founded")]
    Genesis(#[from] GenesisError),
    /// An entry of the run's own is not sound.
    #[error("an entry that the run signed does not verify; this is a fault of the program")]
    Signature(#[from] SignatureError),
    /// The ledger could not go on.
    #[error("the ledger stopped at {time}")]
    Block {
        /// Market time.
        time: Timestamp,
        /// Why.
        #[source]
        cause: BlockError,
    },
    /// The market refused an interval.
    #[error("an interval could not be matched")]
    Market(#[from] MarketError),
    /// An amount outside every range.
    #[error("an amount of the run is out of range; the data set's energies are damaged")]
    Quantity(#[from] QuantityError),
    /// The optimum could not be found.
    #[error("the optimum could not be computed: {0}")]
    Optimum(String),
}

impl SimError {
    /// The ledger stopped at a time.
    pub(crate) const fn block(time: Timestamp) -> impl FnOnce(BlockError) -> Self {
        move |cause| Self::Block { time, cause }
    }
}
