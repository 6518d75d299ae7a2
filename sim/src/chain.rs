//! The community's ledger in a run: its genesis, its keys, its blocks at market time.

use ed25519_dalek::SigningKey;
use energy::{
    Balance, ClockQuality, HomeId, Interval, MeterSerial, Mtu, Price, Quality, Reading, TakenAt, Timestamp,
    WattHours,
};
use ledger::{
    Admission, Body, Caps, Chain, ConnectionSize, Delegate, Entry, EntryError, EntryId, Genesis,
    GenesisMember, Ledger, MarketTerms, MemberKeys, MeterRegistration, Outcome, Participation, PublicKey,
    Roles, Salt, SignedEntry, TariffPoint, VerifiedEntry, reading_hash,
};
use market::{NodeSpec, SupplierLeg};

use crate::SimError;
use crate::dataset::CURRENCY;
use crate::home::{Flow, Household};
use crate::options::{Forward, Options};

/// What each home pays in: more than any fortnight costs, so that money is never what holds trade up.
pub(crate) const DEPOSIT: Balance = Balance::new(1_000_000_000_000_000);
/// How far the supplier's account may go below zero: as far as a ledger allows.
const SUPPLIER_CREDIT: Balance = ledger::SUPPLIER_CREDIT_MAX;
/// No price of a run lies beyond this.
const PRICE_CAP: i64 = 1_000_000;
/// Delegates of a run; there is no vote, so one would do.
const DELEGATES: usize = 4;
/// Readings of the interval that ended, and orders, come in a block so long after an interval's start, ms.
pub(crate) const READINGS_AFTER_MS: u64 = 30_000;
/// The gate of the next interval closes in a block so long after an interval's start, ms.
pub(crate) const GATE_AFTER_MS: u64 = 600_000;
/// A block that could not take all is followed by the next one after so long, ms.
const NEXT_BLOCK_MS: u64 = 1_000;

/// What a key is for; the first byte of its seed.
#[derive(Debug, Clone, Copy)]
enum Use {
    Member = 1,
    Reading = 2,
    Network = 3,
    Consensus = 4,
    Operator = 5,
    Treasurer = 6,
    Auditor = 7,
}

/// The key of a use and home of a run: a secret to nobody.
fn key(of: Use, number: usize, seed: u64) -> SigningKey {
    let mut bytes = [0; 32];
    bytes[0] = of as u8;
    bytes[1..9].copy_from_slice(&(number as u64).to_be_bytes());
    bytes[9..17].copy_from_slice(&seed.to_be_bytes());
    SigningKey::from_bytes(&bytes)
}

/// Signs entries with one key.
#[derive(Debug, Clone)]
pub(crate) struct Signer {
    key: SigningKey,
    public: PublicKey,
    chain: Chain,
    salt: [u8; 8],
    number: u64,
}

impl Signer {
    fn new(of: Use, number: usize, seed: u64, chain: Chain) -> Self {
        let key = key(of, number, seed);
        // Salts only have to differ here: what they would hide, the report prints.
        let salt = (seed ^ ((number as u64) << 8) ^ of as u64).to_be_bytes();
        Self { public: PublicKey::of(&key), key, chain, salt, number: 0 }
    }

    fn signed(&mut self, body: Body) -> SignedEntry {
        self.number += 1;
        let mut salt = [0; 16];
        salt[..8].copy_from_slice(&self.salt);
        salt[8..].copy_from_slice(&self.number.to_be_bytes());
        let entry = Entry { signer: self.public, number: self.number, salt: Salt(salt), body };
        entry.sign(&self.chain, &self.key)
    }

    /// An entry as it arrives at a delegate: signed here, its signature checked there.
    pub(crate) fn entry(&mut self, body: Body) -> Result<VerifiedEntry, SimError> {
        Ok(self.signed(body).verify(&self.chain)?)
    }
}

/// One home's side of the chain: its meter with its journal, and its keys.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    home: HomeId,
    reading: Signer,
    member: Signer,
    registration: MeterRegistration,
    import: u64,
    export: u64,
    record: u64,
    previous: [u8; 32],
}

impl Member {
    /// What a flow adds to the meter's registers.
    pub(crate) fn count(&mut self, flow: Flow) {
        self.import += flow.import;
        self.export += flow.export;
    }

    /// What the meter counted in all.
    pub(crate) const fn counted(&self) -> Flow {
        Flow { import: self.import, export: self.export }
    }

    /// The signed reading at the end of `interval`.
    pub(crate) fn read(&mut self, interval: Interval) -> Result<VerifiedEntry, SimError> {
        self.record += 1;
        let reading = Reading {
            serial: self.registration.serial.clone(),
            meter_epoch: self.registration.epoch,
            interval,
            import_register: WattHours::new(self.import),
            export_register: WattHours::new(self.export),
            raw_registers: Vec::new(),
            quantum: self.registration.quantum,
            profile_hash: self.registration.profile_hash,
            quality: Quality::Good,
            clock_quality: ClockQuality::Synced,
            taken_at: TakenAt { time: interval.end(), monotonic_ms: 0, boot_id: [0; 16] },
            record_number: self.record,
            previous_hash: self.previous,
        };
        self.previous = reading_hash(&reading);
        self.reading.entry(Body::Reading { home: Some(self.home.clone()), reading })
    }

    /// An entry of the household's own.
    pub(crate) fn say(&mut self, body: Body) -> Result<VerifiedEntry, SimError> {
        self.member.entry(body)
    }
}

/// What came of a block, or of several at one time.
#[derive(Debug, Default)]
pub(crate) struct Came {
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) refused: Vec<(EntryId, EntryError)>,
}

/// The ledger of a run.
#[derive(Debug)]
pub(crate) struct Community {
    pub(crate) ledger: Ledger,
    pub(crate) blocks: u64,
    operator: Signer,
    auditor: SigningKey,
}

impl Community {
    /// Founds the community of `homes`, all of them members from the start, and hands out their keys.
    pub(crate) fn found(
        options: &Options,
        homes: &[Household],
        network: &[NodeSpec],
        first: Interval,
    ) -> Result<(Self, Vec<Member>), SimError> {
        let genesis = genesis(options, homes, network, first)?;
        let ledger = Ledger::genesis(&genesis)?;
        let chain = *ledger.chain();
        let members = genesis.members.into_iter().enumerate().map(|(number, member)| Member {
            home: member.admission.home,
            reading: Signer::new(Use::Reading, number, options.seed, chain),
            member: Signer::new(Use::Member, number, options.seed, chain),
            registration: member.admission.meter,
            import: 0,
            export: 0,
            record: 0,
            previous: [0; 32],
        });
        let members = members.collect();
        let operator = Signer::new(Use::Operator, 0, options.seed, chain);
        let auditor = key(Use::Auditor, 0, options.seed);
        Ok((Self { ledger, blocks: 0, operator, auditor }, members))
    }

    /// The supplier's prices from an interval on, with the auditor's signature beside the operator's: the first day's come
    /// at short notice.
    pub(crate) fn tariff(
        &mut self,
        from: Interval,
        points: Vec<TariffPoint>,
    ) -> Result<VerifiedEntry, SimError> {
        let chain = *self.ledger.chain();
        let signed = self.operator.signed(Body::TariffSeries { from, points });
        Ok(signed.countersign(&chain, &self.auditor).verify(&chain)?)
    }

    /// Puts `entries` into blocks from `time` on. Proposing one checks the ledger's invariants after it and fails where one
    /// does not hold.
    pub(crate) fn block(&mut self, time: Timestamp, entries: &[VerifiedEntry]) -> Result<Came, SimError> {
        let (mut came, mut rest, mut time) = (Came::default(), entries, time);
        loop {
            let proposed = self.ledger.propose(time, rest).map_err(SimError::block(time))?;
            let executed = proposed.executed;
            let done = executed.block.entries.len() + proposed.refused.len();
            came.outcomes.extend(executed.outcomes);
            came.refused.extend(proposed.refused);
            self.ledger = executed.ledger;
            self.blocks += 1;
            rest = rest.get(done..).unwrap_or_default();
            if rest.is_empty() {
                return Ok(came);
            }
            time = time.plus_ms(NEXT_BLOCK_MS);
        }
    }
}

fn genesis(
    options: &Options,
    homes: &[Household],
    network: &[NodeSpec],
    first: Interval,
) -> Result<Genesis, SimError> {
    let public = |of, number| PublicKey::of(&key(of, number, options.seed));
    let members = homes.iter().enumerate().map(|(number, household)| {
        let home = &household.home;
        let keys = MemberKeys {
            member: public(Use::Member, number),
            reading: public(Use::Reading, number),
            network: public(Use::Network, number),
        };
        let meter = MeterRegistration {
            serial: MeterSerial::new(&format!("S-{}", home.id))?,
            epoch: 0,
            profile_hash: [0; 32],
            quantum: WattHours::new(1),
        };
        let (id, owner, node) = (home.id.clone(), home.id.to_string(), home.node.clone());
        let size = ConnectionSize { import: household.connection, export: household.connection };
        let admission = Admission { home: id, owner, node, keys, meter, size };
        Ok(GenesisMember { admission, deposit: DEPOSIT, participation: Participation::default() })
    });
    let delegates = homes.iter().take(DELEGATES).enumerate().map(|(number, household)| Delegate {
        key: public(Use::Consensus, number),
        home: household.home.id.clone(),
    });
    Ok(Genesis {
        name: "Simulated street".to_owned(),
        mtu: Mtu::Min15,
        currency: CURRENCY.to_owned(),
        start: first.start(),
        clock: None,
        due_after_ms: Mtu::Min15.ms(),
        forward: match options.forward {
            Forward::Off => ledger::Forward::Off,
            Forward::Posted => ledger::Forward::Posted,
            Forward::Auction => ledger::Forward::Auction,
        },
        market: MarketTerms::default(),
        supplier_leg: SupplierLeg::Ledger,
        supplier_credit: SUPPLIER_CREDIT,
        network: network.to_vec(),
        tariff: options.tariff.at(options.season, first),
        caps: Caps {
            price_min: Price::new(-PRICE_CAP),
            price_max: Price::new(PRICE_CAP),
            transfer_max: DEPOSIT,
        },
        roles: Roles {
            operator: public(Use::Operator, 0),
            treasurer: public(Use::Treasurer, 0),
            auditor: public(Use::Auditor, 0),
            trustee: None,
            metering_operator: None,
        },
        root_meter: None,
        members: members.collect::<Result<_, energy::IdError>>()?,
        delegates: delegates.collect(),
        stake: ledger::Stake::Membership,
        replicas: ledger::Replicas::All,
    })
}
