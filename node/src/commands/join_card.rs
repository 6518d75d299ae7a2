//! The join card: what a home hands to those who found the community. Public, but worth checking in person: whoever
//! swaps a card takes the home's place.

use std::path::Path;

use energy::{HomeId, MeterSerial, NodeId, WattHours};
use ledger::{Admission, MemberKeys, MeterRegistration, PublicKey, TEXT_MAX};
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use serde::{Deserialize, Serialize};

use super::{CommandError, files};
use crate::identity::Identity;
use crate::network::peer_id_of;

/// No join card is longer, in bytes.
const CARD_BYTES_MAX: u64 = 16 << 10;
/// Version of the format.
const VERSION: u32 = 1;

/// A join card as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JoinCard {
    /// Version of this format.
    version: u32,
    /// Id of the home.
    pub(super) home: String,
    /// Who owns it.
    pub(super) owner: String,
    /// Node of the network where it is connected, if the home knows it.
    pub(super) node: Option<String>,
    /// Public keys of the member.
    pub(super) keys: CardKeys,
    /// Public key it votes with if it is a delegate.
    pub(super) consensus_key: String,
    /// Its meter.
    pub(super) meter: CardMeter,
    /// Address at which other members reach it, with its peer id.
    pub(super) peer: Option<String>,
}

/// Public keys, 64 hexadecimal digits each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CardKeys {
    member: String,
    reading: String,
    network: String,
}

/// The meter, as far as the home knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CardMeter {
    /// Serial number.
    pub(super) serial: Option<String>,
    /// Device profile, by name.
    pub(super) profile: String,
    /// SHA-256 of the profile.
    profile_hash: String,
    /// Smallest step of its registers, Wh.
    quantum_wh: u64,
}

impl JoinCard {
    /// An empty card of the home that holds `identity`.
    pub(super) fn new(home: &HomeId, identity: &Identity, profile: &meter::Profile) -> Self {
        let keys = identity.keys();
        Self {
            version: VERSION,
            home: home.to_string(),
            owner: home.to_string(),
            node: None,
            keys: CardKeys {
                member: keys.member.hex(),
                reading: keys.reading.hex(),
                network: keys.network.hex(),
            },
            consensus_key: identity.consensus_public().map(|key| key.hex()).unwrap_or_default(),
            meter: CardMeter::of(profile, None),
            peer: None,
        }
    }

    /// Reads the card at `path`.
    ///
    /// # Errors
    /// [`CommandError`] naming the file, and line and column where it is not a card.
    pub(super) fn load(path: &Path) -> Result<Self, CommandError> {
        Self::parse(&path.display().to_string(), &files::read_text(path, CARD_BYTES_MAX)?)
    }

    /// Reads a card that is already in memory; `name` is what errors call it.
    ///
    /// # Errors
    /// See [`JoinCard::load`].
    pub(crate) fn parse(name: &str, text: &str) -> Result<Self, CommandError> {
        let card: Self = files::parse_json(name, text, "a join card")?;
        if card.version != VERSION {
            let message =
                format!("{name} is a join card of version {}; this program reads {VERSION}", card.version);
            return Err(CommandError::config(message));
        }
        Ok(card)
    }

    /// What a genesis says of this home. `node` is used where the card names none.
    ///
    /// # Errors
    /// What is missing or cannot be.
    pub(crate) fn admission(&self, node: Option<NodeId>) -> Result<Admission, CommandError> {
        let wrong = |what: String| CommandError::config(format!("the join card of {}: {what}", self.home));
        let home = HomeId::new(&self.home).map_err(|error| wrong(error.to_string()))?;
        if self.owner.len() > TEXT_MAX {
            return Err(wrong(format!("the owner's name is longer than {TEXT_MAX} bytes")));
        }
        let node = match (&self.node, node) {
            (Some(id), _) => NodeId::new(id).map_err(|error| wrong(error.to_string()))?,
            (None, Some(node)) => node,
            (None, None) => {
                return Err(wrong(
                    "it names no network node and the network file has no home of this id".to_owned(),
                ));
            }
        };
        let key = |name: &str, text: &str| {
            PublicKey::from_hex(text)
                .ok_or_else(|| wrong(format!("the {name} key is not 64 hexadecimal digits")))
        };
        let keys = MemberKeys {
            member: key("member", &self.keys.member)?,
            reading: key("reading", &self.keys.reading)?,
            network: key("network", &self.keys.network)?,
        };
        Ok(Admission {
            home,
            owner: self.owner.clone(),
            node,
            size: ledger::ConnectionSize::default(),
            keys,
            meter: self.meter.registration().map_err(wrong)?,
        })
    }

    /// The home and its keys.
    ///
    /// # Errors
    /// What is missing or cannot be.
    pub(super) fn keys(&self) -> Result<(HomeId, MemberKeys), CommandError> {
        let root = NodeId::new("none").ok();
        let Admission { home, keys, .. } = self.admission(root)?;
        Ok((home, keys))
    }

    /// The consensus key.
    ///
    /// # Errors
    /// If it is none.
    pub(super) fn delegate_key(&self) -> Result<PublicKey, CommandError> {
        PublicKey::from_hex(&self.consensus_key).ok_or_else(|| {
            CommandError::config(format!(
                "the join card of {}: the consensus key is not 64 hexadecimal digits",
                self.home
            ))
        })
    }

    /// Says where the node is reached.
    ///
    /// # Errors
    /// If `address` is no TCP address.
    pub(super) fn set_address(
        &mut self,
        address: &Multiaddr,
        network: &PublicKey,
    ) -> Result<(), CommandError> {
        if !address.iter().any(|part| matches!(part, Protocol::Tcp(_))) {
            let message =
                format!("--address {address} is no TCP address; write e.g. /ip4/192.168.1.10/tcp/8470");
            return Err(CommandError::Other { exit: crate::cli::Exit::Usage, message });
        }
        let own: Multiaddr = address.iter().filter(|part| !matches!(part, Protocol::P2p(_))).collect();
        let id =
            peer_id_of(network).ok_or_else(|| CommandError::failed("the network key is no Ed25519 key"))?;
        self.peer = Some(own.with(Protocol::P2p(id)).to_string());
        Ok(())
    }
}

impl CardMeter {
    /// A meter with this profile.
    pub(super) fn of(profile: &meter::Profile, serial: Option<&MeterSerial>) -> Self {
        Self {
            serial: serial.map(ToString::to_string),
            profile: profile.name().to_owned(),
            profile_hash: hex::encode(profile.hash()),
            quantum_wh: profile.quantum().get(),
        }
    }

    fn registration(&self) -> Result<MeterRegistration, String> {
        let serial = self
            .serial
            .as_deref()
            .ok_or("it has no meter serial; run `commonwatt init` again with --meter-serial")?;
        let mut profile_hash = [0; 32];
        hex::decode_to_slice(&self.profile_hash, &mut profile_hash)
            .map_err(|_| "the profile hash is not 64 hexadecimal digits".to_owned())?;
        Ok(MeterRegistration {
            serial: MeterSerial::new(serial).map_err(|error| error.to_string())?,
            epoch: 0,
            profile_hash,
            quantum: WattHours::new(self.quantum_wh),
        })
    }
}
