//! The device's side: which commands it takes, and what it does when none holds.

use std::fmt;

use energy::Timestamp;

use super::{ChannelId, Command, Control, Kind, LIFETIME_MAX_MS, Signed, Verified};

/// Why a command was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// It is for another device, or another home's.
    #[error("it is for another channel; look who sends here, and how this device was paired")]
    ForeignChannel,
    /// Someone else signs here.
    #[error(
        "it is signed by a key that was not paired with this device; pair it again if the key was changed"
    )]
    WrongSigner,
    /// The signature is not the signer's over these bytes.
    #[error("its signature is false: it was changed on the way or forged")]
    BadSignature,
    /// Seen before, or overtaken by a later one.
    #[error(
        "its number {sequence} is not above {last}, the last taken: a repetition, or overtaken on the way"
    )]
    Replayed {
        /// Its number.
        sequence: u64,
        /// The last taken.
        last: u64,
    },
    /// Too late.
    #[error("it ended at {expires}; it was late, or a clock is wrong")]
    Expired {
        /// When it ended.
        expires: Timestamp,
    },
    /// It would bind the device too long.
    #[error("it would hold until {expires}, more than two hours; a clock may be wrong")]
    TooLong {
        /// When it would end.
        expires: Timestamp,
    },
    /// A battery cannot be told what is meant for a charger.
    #[error("it is for a {}, and this is a {}", .meant.word(), .here.word())]
    WrongDevice {
        /// What it is for.
        meant: Kind,
        /// What this is.
        here: Kind,
    },
    /// More than the device can do.
    #[error("{watts} W are more than the {rated} W of this device; correct its rating in the configuration")]
    BeyondRating {
        /// What it asks for.
        watts: u32,
        /// What the device can do.
        rated: u32,
    },
}

/// What became of a command, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Verdict {
    /// When.
    pub at: Timestamp,
    /// The command, as it was received.
    pub command: Command,
    /// Why it was not taken; `None`: it was.
    pub refused: Option<Refusal>,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Command { sequence, expires, control, .. } = &self.command;
        match &self.refused {
            None => write!(f, "command {sequence} taken: {control} until {expires}"),
            Some(refusal) => write!(f, "command {sequence} ({control}) refused: {refusal}"),
        }
    }
}

/// What a device knows of itself and of who may command it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pairing {
    /// Its channel.
    pub channel: ChannelId,
    /// The only key that may sign.
    pub signer: [u8; 32],
    /// What it is.
    pub kind: Kind,
    /// The most it can be told, W.
    pub rated_w: u32,
    /// What it does when no command holds.
    pub fallback: Control,
}

/// The device's side: takes commands or refuses them, and knows what to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acceptor {
    pairing: Pairing,
    last: u64,
    standing: Option<(Control, Timestamp)>,
}

impl Acceptor {
    /// A device that took commands up to `last` (0: none). The caller keeps that number through restarts: without it an old command
    /// could be replayed.
    #[must_use]
    pub const fn new(pairing: Pairing, last: u64) -> Self {
        Self { pairing, last, standing: None }
    }

    /// The number of the last command taken: to be stored before the device acts on it.
    #[must_use]
    pub const fn last(&self) -> u64 {
        self.last
    }

    /// Takes or refuses a verified command. What is refused changes nothing.
    pub fn accept(&mut self, verified: &Verified, now: Timestamp) -> Verdict {
        let command = verified.0;
        let refused = self.refusal(&command, now);
        if refused.is_none() {
            self.last = command.sequence;
            self.standing = Some((command.control, command.expires));
        }
        Verdict { at: now, command, refused }
    }

    /// Checks the signature and takes or refuses the command: one verdict either way. Channel and signer are looked at first,
    /// so strangers cost no signature check.
    pub fn hear(
        &mut self,
        signed: &Signed,
        now: Timestamp,
        check: impl FnOnce(&[u8; 32], &[u8], &[u8; 64]) -> bool,
    ) -> Verdict {
        let refused = self.stranger(&signed.command);
        match refused.map_or_else(|| signed.verify(check), Err) {
            Ok(verified) => self.accept(&verified, now),
            Err(refusal) => Verdict { at: now, command: signed.command, refused: Some(refusal) },
        }
    }

    fn stranger(&self, command: &Command) -> Option<Refusal> {
        if command.channel != self.pairing.channel {
            return Some(Refusal::ForeignChannel);
        }
        (command.signer != self.pairing.signer).then_some(Refusal::WrongSigner)
    }

    fn refusal(&self, command: &Command, now: Timestamp) -> Option<Refusal> {
        let Command { sequence, expires, control, .. } = *command;
        let (here, rated) = (self.pairing.kind, self.pairing.rated_w);
        let checks = [
            self.stranger(command),
            (sequence <= self.last).then_some(Refusal::Replayed { sequence, last: self.last }),
            (expires <= now).then_some(Refusal::Expired { expires }),
            (expires.ms_since(now) > LIFETIME_MAX_MS).then_some(Refusal::TooLong { expires }),
            (control.kind() != here).then_some(Refusal::WrongDevice { meant: control.kind(), here }),
            (control.watts() > rated).then_some(Refusal::BeyondRating { watts: control.watts(), rated }),
        ];
        checks.into_iter().flatten().next()
    }

    /// What the device does at `now`: the last command while it holds, else the safe default.
    #[must_use]
    pub fn control(&self, now: Timestamp) -> Control {
        match self.standing {
            Some((control, expires)) if now < expires => control,
            _ => self.pairing.fallback,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_ms(1_465_776_000_000);
    const KEY: [u8; 32] = [7; 32];
    const PAIRING: Pairing = Pairing {
        channel: ChannelId([1; 32]),
        signer: KEY,
        kind: Kind::Battery,
        rated_w: 5_000,
        fallback: Control::Release(Kind::Battery),
    };

    fn command(sequence: u64) -> Command {
        let expires = NOW.plus_ms(900_000);
        Command { channel: PAIRING.channel, sequence, expires, signer: KEY, control: Control::Charge(3_000) }
    }

    /// Not a signature scheme, only a check that can succeed and fail: the first bytes say which message was meant.
    fn stand_in(key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
        signature[..32] == *key && signature[32..] == message[24..56]
    }

    fn signed(command: Command) -> Signed {
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&command.signer);
        signature[32..].copy_from_slice(&command.canonical()[24..56]);
        Signed { command, signature }
    }

    fn refused(acceptor: &mut Acceptor, command: Command) -> Option<Refusal> {
        acceptor.hear(&signed(command), NOW, stand_in).refused
    }

    #[test]
    fn a_command_in_order_is_taken_and_logged() {
        let mut device = Acceptor::new(PAIRING, 0);
        assert_eq!(device.control(NOW), Control::Release(Kind::Battery));
        let verdict = device.hear(&signed(command(1)), NOW, stand_in);
        assert_eq!(
            verdict.to_string(),
            "command 1 taken: charge the battery with 3000 W until 2016-06-13T00:15:00Z"
        );
        assert_eq!((device.control(NOW), device.last()), (Control::Charge(3_000), 1));
    }

    #[test]
    fn a_repeated_or_overtaken_command_is_refused() {
        let mut device = Acceptor::new(PAIRING, 0);
        assert_eq!(refused(&mut device, command(5)), None);
        for sequence in [5, 4, 0] {
            assert_eq!(
                refused(&mut device, command(sequence)),
                Some(Refusal::Replayed { sequence, last: 5 })
            );
        }
    }

    #[test]
    fn a_restart_does_not_open_the_door_to_old_commands() {
        let mut device = Acceptor::new(PAIRING, 0);
        assert_eq!(refused(&mut device, command(5)), None);
        let mut restarted = Acceptor::new(PAIRING, device.last());
        assert_eq!(refused(&mut restarted, command(5)), Some(Refusal::Replayed { sequence: 5, last: 5 }));
        assert_eq!(restarted.control(NOW), PAIRING.fallback, "until the next command");
    }

    #[test]
    fn an_expired_command_is_refused() {
        let mut device = Acceptor::new(PAIRING, 0);
        let late = Command { expires: NOW, ..command(1) };
        assert_eq!(refused(&mut device, late), Some(Refusal::Expired { expires: NOW }));
    }

    #[test]
    fn no_command_binds_a_device_for_days() {
        let mut device = Acceptor::new(PAIRING, 0);
        let expires = NOW.plus_ms(LIFETIME_MAX_MS + 1);
        assert_eq!(
            refused(&mut device, Command { expires, ..command(1) }),
            Some(Refusal::TooLong { expires })
        );
    }

    #[test]
    fn a_command_for_another_channel_is_refused_before_its_signature_is_looked_at() {
        let mut device = Acceptor::new(PAIRING, 0);
        let foreign = signed(Command { channel: ChannelId([2; 32]), ..command(1) });
        let verdict = device.hear(&foreign, NOW, |_, _, _| panic!("must not be checked"));
        assert_eq!(verdict.refused, Some(Refusal::ForeignChannel));
        let verified = foreign.verify(stand_in).unwrap();
        assert_eq!(
            device.accept(&verified, NOW).refused,
            Some(Refusal::ForeignChannel),
            "verified elsewhere"
        );
    }

    #[test]
    fn only_the_paired_key_commands() {
        let mut device = Acceptor::new(PAIRING, 0);
        let other = Command { signer: [8; 32], ..command(1) };
        assert_eq!(refused(&mut device, other), Some(Refusal::WrongSigner));
    }

    #[test]
    fn a_false_signature_is_refused() {
        let mut device = Acceptor::new(PAIRING, 0);
        let forged = Signed { signature: [0; 64], ..signed(command(1)) };
        let verdict = device.hear(&forged, NOW, stand_in);
        assert_eq!(verdict.refused, Some(Refusal::BadSignature));
        assert_eq!(forged.verify(stand_in), Err(Refusal::BadSignature));
        assert_eq!((device.last(), device.control(NOW)), (0, PAIRING.fallback), "nothing changed");
    }

    #[test]
    fn a_device_refuses_what_is_for_another_kind_or_beyond_its_rating() {
        let mut device = Acceptor::new(PAIRING, 0);
        let vehicle = Command { control: Control::Vehicle(1_000), ..command(1) };
        let wrong = Refusal::WrongDevice { meant: Kind::Charger, here: Kind::Battery };
        assert_eq!(refused(&mut device, vehicle), Some(wrong));
        assert_eq!(wrong.to_string(), "it is for a charger, and this is a battery");
        let strong = Command { control: Control::Discharge(5_001), ..command(1) };
        assert_eq!(refused(&mut device, strong), Some(Refusal::BeyondRating { watts: 5_001, rated: 5_000 }));
    }

    #[test]
    fn after_its_last_command_a_device_falls_back_to_its_safe_default() {
        let mut device = Acceptor::new(PAIRING, 0);
        assert_eq!(refused(&mut device, command(1)), None);
        let end = command(1).expires;
        assert_eq!(device.control(end.minus_ms(1)), Control::Charge(3_000));
        assert_eq!(device.control(end), Control::Release(Kind::Battery));
    }

    #[test]
    fn a_refused_command_leaves_the_one_before_in_force() {
        let mut device = Acceptor::new(PAIRING, 0);
        assert_eq!(refused(&mut device, command(1)), None);
        assert!(refused(&mut device, Command { control: Control::Charge(6_000), ..command(2) }).is_some());
        assert_eq!((device.control(NOW), device.last()), (Control::Charge(3_000), 1));
    }
}
