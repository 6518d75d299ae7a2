//! Devices that may be commanded, and the line to each: what a command goes through before a device acts on it.

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use agent::{Acceptor, ChannelId, Command, Control, Kind, Pairing, Session, Signed, Verdict};
use ed25519_dalek::SigningKey;
use energy::{HomeId, Timestamp, WattHours};
use ledger::{Hash32, PublicKey, Signature};

use crate::store::StoreError;
use crate::store::household::HouseholdDb;

/// What a device says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceState {
    /// A battery: energy in it.
    Battery {
        /// Wh inside it.
        stored: WattHours,
    },
    /// A charger: the vehicle at it, if one is.
    Charger {
        /// What it still needs.
        session: Option<Session>,
    },
    /// Heat pump or boiler: how far it is ahead of need.
    Heat {
        /// Wh of its own electricity.
        ahead: WattHours,
    },
    /// An inverter says nothing that a plan needs.
    Inverter,
}

/// A device could not be asked or told.
#[derive(Debug, thiserror::Error)]
#[error("the {device} cannot be {what}: {why}")]
pub struct DeviceError {
    /// Which.
    pub device: &'static str,
    /// What was tried: "asked" or "told".
    pub what: &'static str,
    /// What the line to it says.
    pub why: String,
}

/// Energy that passed a device since some time of its own, at the home's side; both only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Into it.
    pub taken: WattHours,
    /// Out of it.
    pub given: WattHours,
}

impl Counted {
    /// What passed since `before`; nothing where it was set back.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            taken: self.taken.saturating_sub(before.taken),
            given: self.given.saturating_sub(before.given),
        }
    }
}

/// What a device answers with.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, DeviceError>> + Send + 'a>>;

/// A device of the home that may be commanded: a battery, a charger, heat, an inverter.
///
/// It is told only what its [`Channel`] took. It goes on doing what it was told last until it is told otherwise.
pub trait Device: Send {
    /// What it is.
    fn kind(&self) -> Kind;

    /// The most it can be told, W.
    fn rated_w(&self) -> u32;

    /// How it stands.
    fn state(&mut self) -> Answer<'_, DeviceState>;

    /// Does this from now on.
    fn set(&mut self, control: Control) -> Answer<'_, ()>;

    /// A device that forgets what it was told, or may have been restarted, is told again this often; `None`: never.
    fn repeat_every(&self) -> Option<Duration> {
        None
    }

    /// What passed it so far; `None`: it does not count, and what it was told is taken for what it did.
    fn counted(&mut self) -> Answer<'_, Option<Counted>> {
        Box::pin(async { Ok(None) })
    }
}

/// The line to one device. Commands come signed, are checked, logged durably, and only then carried out. When the last one
/// ends, the device is told to fall back to what it does without an agent.
pub struct Channel {
    device: Box<dyn Device>,
    acceptor: Acceptor,
    pairing: Pairing,
    /// What the device was told last; `None`: nothing since the start, or the last attempt failed.
    told: Option<Control>,
    /// When that was.
    told_at: Option<Instant>,
    retry: Retry,
}

/// The first wait before a device that did not answer is told again; each further one is twice as long …
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// … up to this.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// When a device that does not answer is told again.
#[derive(Debug, Clone, Copy, Default)]
struct Retry {
    /// Attempts that failed in a row.
    failures: u32,
    /// Not before then.
    after: Option<Instant>,
}

impl Retry {
    fn is_due(&self, now: Instant) -> bool {
        self.after.is_none_or(|after| after <= now)
    }

    fn failed(&mut self, now: Instant) {
        let doubled = RETRY_FIRST.saturating_mul(2_u32.saturating_pow(self.failures));
        self.failures = self.failures.saturating_add(1);
        self.after = Some(now + doubled.min(RETRY_MAX));
    }
}

/// A command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// It could not be logged, so the device was not told.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The device did not take it.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

impl Channel {
    /// The line to `device` of `home`, which only `signer` may command. The last command that it took is known from `db`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(
        device: Box<dyn Device>,
        home: &HomeId,
        signer: PublicKey,
        db: &HouseholdDb,
    ) -> Result<Self, StoreError> {
        let kind = device.kind();
        let channel = channel_of(home, kind);
        let pairing = Pairing {
            channel,
            signer: signer.0,
            kind,
            rated_w: device.rated_w(),
            fallback: Control::Release(kind),
        };
        let acceptor = Acceptor::new(pairing, db.last_taken(&channel)?);
        Ok(Self { device, acceptor, pairing, told: None, told_at: None, retry: Retry::default() })
    }

    /// What the device is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.pairing.kind
    }

    /// Which channel this is.
    #[must_use]
    pub fn id(&self) -> ChannelId {
        self.pairing.channel
    }

    /// How the device stands.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub async fn state(&mut self) -> Result<DeviceState, DeviceError> {
        self.device.state().await
    }

    /// What passed the device so far, if it counts.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub async fn counted(&mut self) -> Result<Option<Counted>, DeviceError> {
        self.device.counted().await
    }

    /// What the device does now, as far as it was told.
    #[must_use]
    pub fn told(&self) -> Option<Control> {
        self.told
    }

    /// The next command of this channel, signed with `key`, that holds until `expires`.
    #[must_use]
    pub fn command(&self, control: Control, expires: Timestamp, key: &SigningKey) -> Signed {
        let command = Command {
            channel: self.pairing.channel,
            sequence: self.acceptor.last().saturating_add(1),
            expires,
            signer: PublicKey::of(key).0,
            control,
        };
        Signed { command, signature: Signature::sign(key, &command.canonical()).0 }
    }

    /// Takes or refuses a command. The verdict is durable before the device acts on it.
    ///
    /// # Errors
    /// [`ChannelError`]: what was taken could not be logged, or the device did not do it. A refusal is no error.
    pub async fn hear(
        &mut self,
        signed: &Signed,
        now: Timestamp,
        db: &mut HouseholdDb,
    ) -> Result<Verdict, ChannelError> {
        let mut acceptor = self.acceptor;
        let verdict = acceptor.hear(signed, now, |key, message, signature| {
            PublicKey(*key).verifies(message, &Signature(*signature))
        });
        db.log(&verdict)?;
        self.acceptor = acceptor;
        match &verdict.refused {
            None => self.tell(now).await?,
            Some(_) => tracing::warn!("{verdict}"),
        }
        Ok(verdict)
    }

    /// Tells the device what holds at `now`, if that is not what it does already: when a command has ended, when the last
    /// attempt failed, or when the device wants to be told again. A device that does not answer is tried again after a second, then ever less often, down to once a minute.
    ///
    /// # Errors
    /// [`DeviceError`] of an attempt.
    pub async fn settle(&mut self, now: Timestamp) -> Result<(), DeviceError> {
        if self.retry.is_due(Instant::now()) { self.tell(now).await } else { Ok(()) }
    }

    /// The same, whatever failed before: a new command is tried at once.
    async fn tell(&mut self, now: Timestamp) -> Result<(), DeviceError> {
        let control = self.acceptor.control(now);
        if self.told == Some(control) && !self.is_to_be_repeated(control) {
            return Ok(());
        }
        self.told = None;
        if let Err(error) = self.device.set(control).await {
            self.retry.failed(Instant::now());
            return Err(error);
        }
        self.told = Some(control);
        self.told_at = Some(Instant::now());
        self.retry = Retry::default();
        Ok(())
    }

    /// A device that was left to itself stays so without being told again.
    fn is_to_be_repeated(&self, control: Control) -> bool {
        let due =
            self.device.repeat_every().zip(self.told_at).is_some_and(|(every, at)| at.elapsed() >= every);
        due && !matches!(control, Control::Release(_))
    }

    /// Attempts to tell the device something that failed in a row.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.retry.failures
    }

    /// Leaves the device to itself: the node stops.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub async fn release(&mut self) -> Result<(), DeviceError> {
        self.told = None;
        self.device.set(self.pairing.fallback).await
    }
}

/// The channel of a home's device: a home has one of each kind.
fn channel_of(home: &HomeId, kind: Kind) -> ChannelId {
    let kind = [kind_code(kind)];
    ChannelId(Hash32::of(&[b"commonwatt/channel/v1", home.as_str().as_bytes(), &kind]).0)
}

const fn kind_code(kind: Kind) -> u8 {
    match kind {
        Kind::Battery => 1,
        Kind::Charger => 2,
        Kind::Heat => 3,
        Kind::Inverter => 4,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use agent::Refusal;
    use ledger::{Chain, Hash32};

    const NOW: Timestamp = Timestamp::from_unix_ms(1_465_776_000_000);
    const QUARTER_MS: u64 = 900_000;

    /// Remembers what it was told; says so if it cannot be reached.
    struct Recorder {
        told: Arc<Mutex<Vec<Control>>>,
        reachable: bool,
        repeat: Option<Duration>,
    }

    impl Device for Recorder {
        fn kind(&self) -> Kind {
            Kind::Battery
        }

        fn rated_w(&self) -> u32 {
            5_000
        }

        fn repeat_every(&self) -> Option<Duration> {
            self.repeat
        }

        fn state(&mut self) -> Answer<'_, DeviceState> {
            Box::pin(async { Ok(DeviceState::Battery { stored: WattHours::ZERO }) })
        }

        fn set(&mut self, control: Control) -> Answer<'_, ()> {
            Box::pin(async move {
                if self.reachable {
                    self.told.lock().unwrap().push(control);
                    return Ok(());
                }
                Err(DeviceError { device: "battery", what: "told", why: "no answer".to_owned() })
            })
        }
    }

    struct Fixture {
        channel: Channel,
        db: HouseholdDb,
        key: SigningKey,
        told: Arc<Mutex<Vec<Control>>>,
        dir: tempfile::TempDir,
    }

    fn open_db(dir: &tempfile::TempDir) -> HouseholdDb {
        let chain = Chain { id: Hash32([3; 32]), recovery: 0 };
        HouseholdDb::open(&dir.path().join("household.db"), &chain).unwrap()
    }

    fn fixture(reachable: bool) -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let (db, key) = (open_db(&dir), SigningKey::from_bytes(&[7; 32]));
        let told = Arc::new(Mutex::new(Vec::new()));
        let device = Box::new(Recorder { told: told.clone(), reachable, repeat: None });
        let home = HomeId::new("h001").unwrap();
        let channel = Channel::open(device, &home, PublicKey::of(&key), &db).unwrap();
        Fixture { channel, db, key, told, dir }
    }

    #[tokio::test]
    async fn a_command_is_logged_and_done_and_ends_in_the_safe_default() {
        let Fixture { mut channel, mut db, key, told, .. } = fixture(true);
        let signed = channel.command(Control::Charge(3_000), NOW.plus_ms(QUARTER_MS), &key);
        assert_eq!(channel.hear(&signed, NOW, &mut db).await.unwrap().refused, None);
        channel.settle(NOW.plus_ms(QUARTER_MS - 1)).await.unwrap();
        assert_eq!(*told.lock().unwrap(), [Control::Charge(3_000)]);
        channel.settle(NOW.plus_ms(QUARTER_MS)).await.unwrap();
        channel.settle(NOW.plus_ms(2 * QUARTER_MS)).await.unwrap();
        assert_eq!(*told.lock().unwrap(), [Control::Charge(3_000), Control::Release(Kind::Battery)]);
        assert_eq!(db.verdicts(&channel.id(), 9).unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_device_that_forgets_is_told_again_until_it_is_left_to_itself() {
        let Fixture { db, key, told, dir, .. } = fixture(true);
        let repeat = Some(Duration::ZERO);
        let device = Box::new(Recorder { told: told.clone(), reachable: true, repeat });
        let home = HomeId::new("h001").unwrap();
        let mut channel = Channel::open(device, &home, PublicKey::of(&key), &db).unwrap();
        drop(db);
        let mut db = open_db(&dir);
        let signed = channel.command(Control::Charge(3_000), NOW.plus_ms(QUARTER_MS), &key);
        channel.hear(&signed, NOW, &mut db).await.unwrap();
        channel.settle(NOW).await.unwrap();
        assert_eq!(*told.lock().unwrap(), [Control::Charge(3_000); 2]);
        channel.settle(NOW.plus_ms(QUARTER_MS)).await.unwrap();
        channel.settle(NOW.plus_ms(QUARTER_MS)).await.unwrap();
        assert_eq!(told.lock().unwrap()[2..], [Control::Release(Kind::Battery)]);
    }

    #[tokio::test]
    async fn a_replayed_command_is_refused_and_logged_even_after_a_restart() {
        let Fixture { mut channel, mut db, key, told, dir } = fixture(true);
        let signed = channel.command(Control::Discharge(1_000), NOW.plus_ms(QUARTER_MS), &key);
        channel.hear(&signed, NOW, &mut db).await.unwrap();
        drop((channel, db));
        let mut db = open_db(&dir);
        let device = Box::new(Recorder { told: told.clone(), reachable: true, repeat: None });
        let home = HomeId::new("h001").unwrap();
        let mut channel = Channel::open(device, &home, PublicKey::of(&key), &db).unwrap();
        let verdict = channel.hear(&signed, NOW, &mut db).await.unwrap();
        assert_eq!(verdict.refused, Some(Refusal::Replayed { sequence: 1, last: 1 }));
        assert_eq!(told.lock().unwrap().len(), 1, "the device was not told again");
        assert!(db.verdicts(&channel.id(), 1).unwrap()[0].refused.is_some());
    }

    #[tokio::test]
    async fn a_forged_an_expired_and_a_strangers_command_do_nothing() {
        let Fixture { mut channel, mut db, key, told, .. } = fixture(true);
        let expires = NOW.plus_ms(QUARTER_MS);
        let genuine = channel.command(Control::Charge(100), expires, &key);
        let mut forged = genuine;
        forged.command.control = Control::Charge(5_000);
        let stranger = channel.command(Control::Charge(100), expires, &SigningKey::from_bytes(&[8; 32]));
        for (signed, now) in [(forged, NOW), (genuine, expires), (stranger, NOW)] {
            assert!(channel.hear(&signed, now, &mut db).await.unwrap().refused.is_some());
        }
        assert!(told.lock().unwrap().is_empty());
        assert_eq!(channel.hear(&genuine, NOW, &mut db).await.unwrap().refused, None);
    }

    #[tokio::test]
    async fn a_device_that_does_not_answer_is_told_again_when_its_wait_is_over() {
        let Fixture { mut channel, mut db, key, .. } = fixture(false);
        let signed = channel.command(Control::Charge(100), NOW.plus_ms(QUARTER_MS), &key);
        let error = channel.hear(&signed, NOW, &mut db).await.unwrap_err();
        assert_eq!(error.to_string(), "the battery cannot be told: no answer");
        assert_eq!(channel.failures(), 1);
        channel.retry.after = Some(Instant::now() + RETRY_MAX);
        channel.settle(NOW).await.expect("it is left in peace for a while");
        assert_eq!(channel.failures(), 1);
        channel.retry.after = Some(Instant::now());
        channel.settle(NOW).await.unwrap_err();
        assert_eq!(channel.failures(), 2);
        let again = channel.command(Control::Charge(200), NOW.plus_ms(QUARTER_MS), &key);
        channel.hear(&again, NOW, &mut db).await.expect_err("a new command is tried at once");
        assert_eq!(channel.failures(), 3);
    }

    #[test]
    fn waits_double_from_a_second_to_a_minute() {
        let (start, mut retry) = (Instant::now(), Retry::default());
        assert!(retry.is_due(start));
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            retry.failed(start);
            let wait = Duration::from_secs(seconds);
            assert!(!retry.is_due(start + wait - Duration::from_nanos(1)) && retry.is_due(start + wait));
        }
        retry.failures = u32::MAX;
        retry.failed(start);
        assert!(retry.is_due(start + RETRY_MAX));
    }
}
