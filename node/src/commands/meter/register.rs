//! `commonwatt meter register`: another meter for a home or the transformer, or the same one after a reset.
//!
//! Two parties answer for it: member and operator for a home's meter, operator and auditor for the root meter. Where both
//! keys are at hand one call does everything. Otherwise the first party writes a half-signed file (`--sign-only`), the
//! second reads what it says (`--show`) and adds its signature (`--countersign`).

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use api::{Client, Member, RegisteredMeter};
use clap::Args;
use ed25519_dalek::SigningKey;
use energy::{HomeId, MeterSerial, WattHours};
use ledger::codec::{Decode, Encode};
use ledger::{
    Body, Chain, ENTRY_BYTES_MAX, Entry, Genesis, MeterExchange, MeterRegistration, PublicKey, Registers,
    SignedEntry,
};
use serde_json::json;

use crate::cli::{Exit, Output, StatusArgs};
use crate::commands::hand_in::{self, Role, Roles};
use crate::commands::{CommandError, files, out, status};
use crate::config::Config;
use crate::genesis_file;
use crate::identity::{Identity, fresh_salt};

/// How often the node is asked whether the registration is final.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// No half-signed file is longer: two digits a byte, and a line end.
const FILE_BYTES_MAX: u64 = 2 * ENTRY_BYTES_MAX as u64 + 2;

/// No profile file is longer, in bytes.
const PROFILE_BYTES_MAX: u64 = 1 << 20;

/// Which meter takes the place of which, and who signs.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  A new meter at a home, both keys on this machine:
    commonwatt meter register --config /var/lib/commonwatt/commonwatt.toml --operator-key roles/operator.key \\
      --serial 21990001 --profile eastron-sdm630 --closing 4711080,815020 --opening 0,0
  The same with the operator elsewhere:
    commonwatt meter register --config commonwatt.toml --serial 21990001 --profile eastron-sdm630 \\
      --closing 4711080,815020 --opening 0,0 --sign-only exchange.txt
    commonwatt meter register --show exchange.txt
    commonwatt meter register --countersign exchange.txt --operator-key operator.key --genesis genesis.toml \\
      --connect http://127.0.0.1:8480 --token-file api.token
  The same meter, its registers reset to zero:
    commonwatt meter register --config commonwatt.toml --operator-key operator.key --closing 4711080,815020 --opening 0,0
  The meter at the transformer:
    commonwatt meter register --root --config commonwatt.toml --operator-key operator.key --auditor-key auditor.key \\
      --serial 9000001 --closing 98000000,120000 --opening 0,0

With --closing and --opening no Wh is lost. Without them the new meter's first reading is a baseline only.")]
pub struct RegisterArgs {
    /// Serial number of the new meter; the present one if not said: a reset.
    #[arg(long, value_name = "SERIAL", value_parser = MeterSerial::new)]
    pub serial: Option<MeterSerial>,
    /// Its device profile, or the TOML file of one; the present one if not said.
    #[arg(long, value_name = "NAME|FILE.toml")]
    pub profile: Option<String>,
    /// What the old meter showed last, Wh.
    #[arg(long, value_name = "IMPORT,EXPORT", value_parser = registers, requires = "opening")]
    pub closing: Option<Registers>,
    /// What the new meter shows first, Wh.
    #[arg(long, value_name = "IMPORT,EXPORT", value_parser = registers, requires = "closing")]
    pub opening: Option<Registers>,
    /// The meter at the transformer instead of a home's.
    #[arg(long)]
    pub root: bool,
    /// Key file of the operator.
    #[arg(long, value_name = "FILE")]
    pub operator_key: Option<PathBuf>,
    /// Key file of the auditor, for the root meter.
    #[arg(long, value_name = "FILE")]
    pub auditor_key: Option<PathBuf>,
    /// Writes the registration with the first signature into a new file, and hands in nothing.
    #[arg(long, value_name = "FILE")]
    pub sign_only: Option<PathBuf>,
    /// Adds the second signature to such a file and hands it in.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["sign_only", "serial", "profile", "closing", "opening", "root"]
    )]
    pub countersign: Option<PathBuf>,
    /// Prints what such a file says.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["countersign", "sign_only", "serial", "profile", "closing", "opening", "root"]
    )]
    pub show: Option<PathBuf>,
    /// Configuration file of the home's node: names the keys, the genesis and the API.
    #[arg(long, value_name = "FILE", required_unless_present_any = ["countersign", "show"])]
    pub config: Option<PathBuf>,
    /// Genesis of the community, if no --config names it.
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    pub genesis: Option<PathBuf>,
    /// Address of a node's API, if no --config names it.
    #[arg(long, value_name = "URL", requires = "token_file", conflicts_with = "config")]
    pub connect: Option<String>,
    /// File that holds the token of that API.
    #[arg(long, value_name = "FILE", requires = "connect")]
    pub token_file: Option<PathBuf>,
    /// How long to wait until the registration is final, seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub wait: u64,
}

/// Makes, signs, shows or hands in a registration.
///
/// # Errors
/// [`CommandError`]: keys, files or arguments that cannot be used, or a node that refuses or does not answer.
pub async fn register(args: RegisterArgs, output: Output) -> Result<Exit, CommandError> {
    if let Some(path) = &args.show {
        print(&Registration::of(&read(path)?)?, None, output);
        return Ok(Exit::Ok);
    }
    let genesis = genesis(&args)?;
    let client = client(&args)?;
    let member = client.member().await.map_err(|error| status::refused(&error))?;
    let chain = Chain { recovery: member.recovery, ..genesis.chain() };
    if let Some(path) = &args.countersign {
        let signed = countersigned(read(path)?, (&genesis, &chain), &args)?;
        return hand_in(signed, &chain, &args, output).await;
    }
    let signed = first_signed(&args, &genesis, &member)?;
    match &args.sign_only {
        Some(path) => {
            files::create(path, &format!("{}\n", hex::encode(signed.to_bytes())))?;
            print(&Registration::of(&signed)?, None, output);
            out::note(&format!(
                "{} now needs the {}: commonwatt meter register --countersign {}",
                path.display(),
                if args.root { "auditor" } else { "operator" },
                path.display()
            ));
            Ok(Exit::Ok)
        }
        None => {
            let signed = countersigned(signed, (&genesis, &chain), &args)?;
            hand_in(signed, &chain, &args, output).await
        }
    }
}

/// `IMPORT,EXPORT` in Wh.
fn registers(text: &str) -> Result<Registers, String> {
    let wrong = || format!("{text:?} is not two registers in Wh: IMPORT,EXPORT, e.g. 4711080,815020");
    let (import, export) = text.split_once(',').ok_or_else(wrong)?;
    let wh = |text: &str| text.trim().parse().map(WattHours::new).map_err(|_| wrong());
    Ok(Registers { import: wh(import)?, export: wh(export)? })
}

fn usage(message: &str) -> CommandError {
    CommandError::Other { exit: Exit::Usage, message: message.to_owned() }
}

fn genesis(args: &RegisterArgs) -> Result<Genesis, CommandError> {
    let path = match (&args.config, &args.genesis) {
        (Some(config), _) => Config::load(config)?.genesis,
        (None, Some(genesis)) => genesis.clone(),
        (None, None) => {
            return Err(usage("--genesis FILE or --config FILE is needed: signatures are for one community"));
        }
    };
    Ok(genesis_file::load(&path)?)
}

fn client(args: &RegisterArgs) -> Result<Client, CommandError> {
    if args.config.is_none() && args.connect.is_none() {
        return Err(usage(
            "--connect URL with --token-file FILE, or --config FILE, says which node to hand it to",
        ));
    }
    let (config, connect, token_file) = (args.config.clone(), args.connect.clone(), args.token_file.clone());
    let (url, token) = status::address(&StatusArgs { connect, token_file, config, page: false })?;
    Client::new(&url, &token).map_err(|error| status::refused(&error))
}

/// The registration with its author's signature: the member's, or the operator's for the root meter.
fn first_signed(
    args: &RegisterArgs,
    genesis: &Genesis,
    member: &Member,
) -> Result<SignedEntry, CommandError> {
    let chain = Chain { recovery: member.recovery, ..genesis.chain() };
    if member.chain != chain.id.hex() {
        let message = format!("the node serves chain {}, the genesis is of {}", member.chain, chain.id.hex());
        return Err(CommandError::config(message));
    }
    let (key, number, home, present) = if args.root {
        let present = member.root_meter.as_ref();
        let present = present.ok_or_else(|| CommandError::failed("this community has no root meter"))?;
        (role_key(&Roles::of(genesis).operator, args)?, member.next_operator_number, None, present)
    } else {
        let (key, home) = member_key(args)?;
        if home.as_str() != member.home {
            let message = format!("the node serves home {}, the configuration is of {home}", member.home);
            return Err(CommandError::config(message));
        }
        (key, member.next_number, Some(home), &member.meter)
    };
    let exchange =
        args.closing.zip(args.opening).map(|(closing, opening)| MeterExchange { closing, opening });
    let body = Body::MeterRegistration { home, meter: next_meter(args, present)?, exchange };
    let entry = Entry { signer: PublicKey::of(&key), number, salt: fresh_salt()?, body };
    Ok(entry.sign(&chain, &key))
}

fn member_key(args: &RegisterArgs) -> Result<(SigningKey, HomeId), CommandError> {
    let path = args.config.as_deref().ok_or_else(|| usage("--config FILE says whose meter it is"))?;
    let config = Config::load(path)?;
    Ok((Identity::load(&config.data_dir)?.member().clone(), config.home))
}

/// The meter that follows `present`: with its epoch, and whatever else was not said.
fn next_meter(args: &RegisterArgs, present: &RegisteredMeter) -> Result<MeterRegistration, CommandError> {
    let strange = || CommandError::failed("the node says of the present meter what no meter can be");
    let serial = match &args.serial {
        Some(serial) => serial.clone(),
        None => MeterSerial::new(&present.serial).map_err(|_| strange())?,
    };
    let (profile_hash, quantum) = match &args.profile {
        Some(name) => profile(name)?,
        None => {
            let mut hash = [0; 32];
            hex::decode_to_slice(&present.profile_hash, &mut hash).map_err(|_| strange())?;
            (hash, WattHours::new(present.quantum_wh))
        }
    };
    let epoch = present.epoch.checked_add(1).ok_or_else(strange)?;
    Ok(MeterRegistration { serial, epoch, profile_hash, quantum })
}

/// Hash and quantum of a built-in profile or of one in a file.
fn profile(name: &str) -> Result<([u8; 32], WattHours), CommandError> {
    if name.ends_with(".toml") {
        let text = files::read_text(Path::new(name), PROFILE_BYTES_MAX)?;
        let profile = meter::Profile::parse(&text)
            .map_err(|error| CommandError::config(format!("{name} cannot be used: {error}")))?;
        return Ok((profile.hash(), profile.quantum()));
    }
    let profile = meter::Profile::by_name(name).ok_or_else(|| {
        CommandError::config(format!("there is no profile {name}; `commonwatt meter profiles` lists them"))
    })?;
    Ok((profile.hash(), profile.quantum()))
}

/// The role's key from its file, if it is the one of this community.
fn role_key(role: &Role, args: &RegisterArgs) -> Result<SigningKey, CommandError> {
    let name = role.name;
    let path = if name == "operator" { &args.operator_key } else { &args.auditor_key };
    let path = path.as_deref().ok_or_else(|| {
        usage(&format!(
            "--{name}-key FILE is missing; if the {name} is somebody else, write a half-signed file with --sign-only FILE"
        ))
    })?;
    hand_in::role_key(path, role)
}

/// Adds the signature that is missing: the operator's, for the root meter the auditor's.
fn countersigned(
    signed: SignedEntry,
    (genesis, chain): (&Genesis, &Chain),
    args: &RegisterArgs,
) -> Result<SignedEntry, CommandError> {
    let second = match &Registration::of(&signed)?.home {
        Some(_) => Roles::of(genesis).operator,
        None => Roles::of(genesis).auditor,
    };
    let key = role_key(&second, args)?;
    Ok(signed.countersign(chain, &key))
}

fn read(path: &Path) -> Result<SignedEntry, CommandError> {
    let wrong =
        || CommandError::config(format!("{} is no half-signed registration of a meter", path.display()));
    let text = files::read_text(path, FILE_BYTES_MAX)?;
    let bytes = hex::decode(text.trim()).map_err(|_| wrong())?;
    SignedEntry::from_bytes(&bytes).map_err(|_| wrong())
}

/// What a registration says.
struct Registration {
    home: Option<HomeId>,
    meter: MeterRegistration,
    exchange: Option<MeterExchange>,
}

impl Registration {
    fn of(signed: &SignedEntry) -> Result<Self, CommandError> {
        match &signed.unchecked().body {
            Body::MeterRegistration { home, meter, exchange } => {
                Ok(Self { home: home.clone(), meter: meter.clone(), exchange: *exchange })
            }
            other => Err(CommandError::config(format!(
                "the file holds a {} entry, not the registration of a meter",
                other.kind()
            ))),
        }
    }

    /// The meter on the ledger, as the node that serves `member` sees it; `None` if it serves another home.
    fn standing<'a>(&self, member: &'a Member) -> Option<&'a RegisteredMeter> {
        match &self.home {
            None => member.root_meter.as_ref(),
            Some(home) => (home.as_str() == member.home).then_some(&member.meter),
        }
    }

    /// True if `standing` is the meter registered here.
    fn is(&self, standing: &RegisteredMeter) -> bool {
        let MeterRegistration { serial, epoch, profile_hash, quantum } = &self.meter;
        let RegisteredMeter { serial: its_serial, epoch: its_epoch, quantum_wh, profile_hash: its_hash } =
            standing;
        serial.as_str() == its_serial
            && epoch == its_epoch
            && quantum.get() == *quantum_wh
            && hex::encode(profile_hash) == its_hash.to_ascii_lowercase()
    }

    /// Why the ledger cannot take it any more, if `standing` is there.
    fn overtaken(&self, standing: &RegisteredMeter) -> Option<CommandError> {
        let RegisteredMeter { serial, epoch, .. } = standing;
        (*epoch >= self.meter.epoch).then(|| {
            let what = if self.is(standing) {
                "this very meter is registered"
            } else {
                "another registration stands"
            };
            CommandError::failed(format!(
                "epoch {} is taken: {what} (serial {serial}, epoch {epoch}); if it is not right, make a new \
                 registration, which takes the next epoch",
                self.meter.epoch
            ))
        })
    }
}

/// Hands the entry to the node and waits until it is final, as far as that node can tell.
async fn hand_in(
    signed: SignedEntry,
    chain: &Chain,
    args: &RegisterArgs,
    output: Output,
) -> Result<Exit, CommandError> {
    let registration = Registration::of(&signed)?;
    let verified = signed.verify(chain).map_err(|error| {
        CommandError::config(format!(
            "{error}; the file may be of another community or was changed: make it again"
        ))
    })?;
    let client = client(args)?;
    let member = client.member().await.map_err(|error| status::refused(&error))?;
    if let Some(error) = registration.standing(&member).and_then(|standing| registration.overtaken(standing))
    {
        return Err(error);
    }
    client.submit(verified.bytes().to_vec()).await.map_err(|error| status::refused(&error))?;
    let ended = wait(&client, &registration, Duration::from_secs(args.wait)).await?;
    print(&registration, Some(ended), output);
    match ended {
        Ended::Final => Ok(Exit::Ok),
        Ended::Unseen => {
            out::note(
                "handed in; this node serves another home, so it cannot tell when the registration is final: \
                 `commonwatt meter register` at the home's own node can",
            );
            Ok(Exit::Ok)
        }
        Ended::Waiting => Err(CommandError::Other {
            exit: Exit::NotReady,
            message: format!(
                "handed in, but not final after {} s: either fewer than two thirds of the delegates are online, or the \
                 ledger refused it; the node's log says which (look for the number of the entry, closing registers \
                 below the last reading, or a serial number in use)",
                args.wait
            ),
        }),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Final,
    Waiting,
    /// The node does not know the home's meter.
    Unseen,
}

async fn wait(client: &Client, registration: &Registration, limit: Duration) -> Result<Ended, CommandError> {
    let started = Instant::now();
    loop {
        let member = client.member().await.map_err(|error| status::refused(&error))?;
        let Some(standing) = registration.standing(&member) else { return Ok(Ended::Unseen) };
        if registration.is(standing) {
            return Ok(Ended::Final);
        }
        match registration.overtaken(standing) {
            Some(error) => return Err(error),
            None if started.elapsed() >= limit => return Ok(Ended::Waiting),
            None => tokio::time::sleep(ASK_EVERY).await,
        }
    }
}

fn print(registration: &Registration, ended: Option<Ended>, output: Output) {
    let Registration { home, meter, exchange } = registration;
    let whose = home.as_ref().map_or("root meter", HomeId::as_str);
    if output == Output::Json {
        let pair = |of: Registers| json!({ "import_wh": of.import.get(), "export_wh": of.export.get() });
        out::json(&json!({
            "schema_version": 1,
            "home": home.as_ref().map(HomeId::as_str),
            "serial": meter.serial.as_str(),
            "epoch": meter.epoch,
            "profile_hash": hex::encode(meter.profile_hash),
            "quantum_wh": meter.quantum.get(),
            "closing": exchange.map(|of| pair(of.closing)),
            "opening": exchange.map(|of| pair(of.opening)),
            "final": ended.map(|ended| ended == Ended::Final),
        }));
        return;
    }
    let pair = |of: Option<Registers>| {
        of.map_or("not known".to_owned(), |of| format!("import {}, export {}", of.import, of.export))
    };
    for (name, value) in [
        ("whose", whose.to_owned()),
        ("serial", meter.serial.to_string()),
        ("epoch", meter.epoch.to_string()),
        ("profile", hex::encode(meter.profile_hash)),
        ("counts in", format!("steps of {}", meter.quantum)),
        ("old closes", pair(exchange.map(|of| of.closing))),
        ("new opens", pair(exchange.map(|of| of.opening))),
        ("state", ended.map_or("not handed in", Ended::word).to_owned()),
    ] {
        out::line(&format!("{name:<11} {value}"));
    }
}

impl Ended {
    const fn word(self) -> &'static str {
        match self {
            Self::Final => "final",
            Self::Waiting => "handed in, not final yet",
            Self::Unseen => "handed in",
        }
    }
}

#[cfg(test)]
#[path = "register/tests.rs"]
mod tests;
