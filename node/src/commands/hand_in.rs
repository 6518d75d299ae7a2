//! What commands share that sign entries: keys of roles, files with signatures, handing entries to a node and waiting
//! until they are final.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use api::{Client, Member};
use clap::Args;
use ed25519_dalek::SigningKey;
use energy::{HomeId, Timestamp};
use ledger::codec::{Decode, Encode};
use ledger::{
    Body, Chain, ENTRY_BYTES_MAX, Entry, Genesis, Ledger, PublicKey, SignedEntry, Stream, VerifiedEntry,
};

use super::{CommandError, files, status};
use crate::cli::{Exit, StatusArgs};
use crate::config::Config;
use crate::genesis_file;
use crate::identity::{self, Identity, fresh_salt};
use crate::store::billing::BillingDb;
use crate::store::ledger_db::LedgerDb;

/// How often the node is asked whether an entry is final.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// No file holds more entries.
const ENTRIES_MAX: u64 = 400;
/// Two digits a byte, and a line end.
const FILE_BYTES_MAX: u64 = ENTRIES_MAX * (2 * ENTRY_BYTES_MAX as u64 + 2);

/// Which community, and which node to hand entries to.
#[derive(Debug, Clone, Args)]
pub struct NodeArgs {
    /// Configuration file of a node: names the genesis and the API.
    #[arg(long, value_name = "FILE")]
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
    /// How long to wait until what was handed in is final, seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub wait: u64,
}

/// What became of entries that were signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// They stand in a file, or nowhere yet.
    Kept,
    /// A node that took them says that their numbers are used. By these entries, unless their author signed others with
    /// the same numbers at the same time; only a ledger tells.
    NumberUsed,
    /// Blocks of the ledger on this machine hold them.
    Final,
}

impl Outcome {
    /// As people read it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Kept => "not handed in",
            Self::NumberUsed => "handed in, number used",
            Self::Final => "final",
        }
    }

    /// True if a block is known to hold them.
    pub fn is_final(self) -> bool {
        self == Self::Final
    }
}

/// A signature on what somebody else began.
#[derive(Debug, Clone, Args)]
pub struct CountersignArgs {
    /// The file that --sign-only wrote.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Copies of the same entry that others signed side by side: their signatures are joined.
    #[arg(long, value_name = "FILE")]
    pub join: Vec<PathBuf>,
    /// Only prints what it says.
    #[arg(long, conflicts_with_all = ["as_member", "sign_also", "sign_only"])]
    pub show: bool,
    /// Signs with the member key of the node that --config names.
    #[arg(long, requires = "config")]
    pub as_member: bool,
    /// Key file of a role that must sign; repeat it for more.
    #[arg(long, value_name = "FILE")]
    pub sign_also: Vec<PathBuf>,
    /// Writes the entry into a new file for one more signature, and hands in nothing.
    #[arg(long, value_name = "FILE")]
    pub sign_only: Option<PathBuf>,
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
}

impl CountersignArgs {
    /// The one entry of the file, which must be of one of `kinds`. Unless it is only shown, somebody must sign.
    pub(super) fn entry(&self, kinds: &[&str]) -> Result<SignedEntry, CommandError> {
        let mut entries = read(&self.file, kinds)?;
        let (Some(signed), true) = (entries.pop(), entries.is_empty()) else {
            return Err(CommandError::config(format!("{} holds more than one entry", self.file.display())));
        };
        if !self.show && !self.as_member && self.sign_also.is_empty() && self.join.is_empty() {
            return Err(usage(
                "--as-member or --sign-also KEY says who signs, --join FILE adds signatures; --show only prints the file",
            ));
        }
        self.join.iter().try_fold(signed, |signed, path| {
            let other = read(path, kinds)?.pop().and_then(|other| signed.joined(other));
            let differs =
                || format!("{} is a copy of another entry than {}", path.display(), self.file.display());
            other.ok_or_else(|| CommandError::config(differs()))
        })
    }

    /// Adds the signatures asked for, each of one of `roles` or of the member whom the entry is about, and writes or hands
    /// it in.
    pub(super) async fn finish(
        &self,
        signed: SignedEntry,
        roles: &[Role],
        genesis: &Genesis,
    ) -> Result<(SignedEntry, Outcome), CommandError> {
        let chain = self.node.chain(genesis).await?;
        let mut signed = with_roles(signed, &self.sign_also, roles, &chain)?;
        if let (true, Some(config)) = (self.as_member, &self.node.config) {
            let key = match &signed.unchecked().body {
                // A delegate signs for somebody else.
                Body::Admission(_) => any_member_key(config)?,
                body => member_key(config, body.home())?,
            };
            signed = signed.countersign(&chain, &key);
        }
        let outcome =
            self.node.end(genesis, std::slice::from_ref(&signed), self.sign_only.as_deref()).await?;
        Ok((signed, outcome))
    }
}

/// Says who must sign next what was written to a file, if it was. `command` adds a signature.
pub(super) fn note_next(sign_only: Option<&Path>, command: &str) {
    if let Some(path) = sign_only {
        let shown = path.display();
        super::out::note(&format!(
            "{shown} is written; whoever must sign too: commonwatt {command} {shown} …"
        ));
    }
}

/// Somebody who answers for the community.
#[derive(Debug, Clone, Copy)]
pub(super) struct Role {
    /// As people say it.
    pub name: &'static str,
    /// Its key by the genesis.
    pub key: PublicKey,
}

/// The roles of a genesis.
#[derive(Debug, Clone, Copy)]
pub(super) struct Roles {
    pub operator: Role,
    pub treasurer: Role,
    pub auditor: Role,
    /// Where law gives metering to one.
    pub metering_operator: Option<Role>,
}

impl Roles {
    pub fn of(genesis: &Genesis) -> Self {
        let role = |name, key| Role { name, key };
        Self {
            operator: role("operator", genesis.roles.operator),
            treasurer: role("treasurer", genesis.roles.treasurer),
            auditor: role("auditor", genesis.roles.auditor),
            metering_operator: genesis.roles.metering_operator.map(|key| role("metering operator", key)),
        }
    }
}

pub(super) fn usage(message: impl Into<String>) -> CommandError {
    CommandError::Other { exit: Exit::Usage, message: message.into() }
}

impl NodeArgs {
    /// The genesis that signatures are for.
    pub(super) fn genesis(&self) -> Result<Genesis, CommandError> {
        let path = match (&self.config, &self.genesis) {
            (Some(config), _) => Config::load(config)?.genesis,
            (None, Some(genesis)) => genesis.clone(),
            (None, None) => {
                return Err(usage(
                    "--genesis FILE or --config FILE is needed: signatures are for one community",
                ));
            }
        };
        Ok(genesis_file::load(&path)?)
    }

    /// What signatures are for: the chain of the genesis, as often recovered as the ledger on this machine or the node says. A
    /// community that was never recovered needs neither.
    pub(super) async fn chain(&self, genesis: &Genesis) -> Result<Chain, CommandError> {
        let recovery = match self.database()? {
            Some(path) => LedgerDb::current(&path, genesis).map_err(super::bill::stored)?.chain().recovery,
            None if self.connect.is_some() => {
                let member = self.client()?.member().await.map_err(|error| status::refused(&error))?;
                member.recovery
            }
            None => 0,
        };
        Ok(Chain { recovery, ..genesis.chain() })
    }

    /// The way to the node.
    fn client(&self) -> Result<Client, CommandError> {
        if self.config.is_none() && self.connect.is_none() {
            return Err(usage(
                "--connect URL with --token-file FILE, or --config FILE, says which node to hand it to; --sign-only FILE \
                 hands in nothing but still needs to know the next number",
            ));
        }
        let (config, connect, token_file) =
            (self.config.clone(), self.connect.clone(), self.token_file.clone());
        let (url, token) = status::address(&StatusArgs { connect, token_file, config, page: false })?;
        Client::new(&url, &token).map_err(|error| status::refused(&error))
    }

    /// The ledger database of the configured node, if it is on this machine.
    pub(super) fn database(&self) -> Result<Option<PathBuf>, CommandError> {
        let Some(config) = &self.config else { return Ok(None) };
        let path = Config::load(config)?.data_dir.join("ledger.db");
        Ok(path.exists().then_some(path))
    }

    /// Asks the node who it is, and checks that it is of the community of `genesis`.
    pub(super) async fn reach<'a>(&self, genesis: &'a Genesis) -> Result<Reached<'a>, CommandError> {
        let client = self.client()?;
        let member = client.member().await.map_err(|error| status::refused(&error))?;
        let chain = genesis.chain().id.hex();
        if member.chain != chain {
            return Err(CommandError::config(format!(
                "the node serves chain {}, the genesis is of {chain}",
                member.chain
            )));
        }
        let database = self.database()?;
        let ledger = database.as_ref().map(|path| LedgerDb::current(path, genesis)).transpose();
        let ledger = ledger.map_err(super::bill::stored)?;
        let chain = Chain { recovery: member.recovery, ..genesis.chain() };
        let wait = Duration::from_secs(self.wait);
        Ok(Reached { genesis, chain, client, member, database, ledger, wait })
    }

    /// As [`Reached::end`], for what was signed without asking the node.
    pub(super) async fn end(
        &self,
        genesis: &Genesis,
        signed: &[SignedEntry],
        sign_only: Option<&Path>,
    ) -> Result<Outcome, CommandError> {
        match sign_only {
            Some(path) => write(path, signed).map(|()| Outcome::Kept),
            None => self.reach(genesis).await?.end(signed, None).await,
        }
    }
}

/// A node that answers.
pub(super) struct Reached<'a> {
    genesis: &'a Genesis,
    /// What signatures are for: the chain of the genesis, as often recovered as the node says.
    pub chain: Chain,
    /// The way to it.
    pub client: Client,
    /// What it said of its home.
    pub member: Member,
    database: Option<PathBuf>,
    /// Its ledger as it was then, if that is on this machine.
    pub ledger: Option<Ledger>,
    wait: Duration,
}

/// Whose numbers an entry counts in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Author<'a> {
    /// Key of its author.
    pub signer: PublicKey,
    /// Which of its numbers.
    pub stream: Stream,
    /// The home it is about.
    pub home: Option<&'a HomeId>,
}

impl<'a> Author<'a> {
    fn of(entry: &'a Entry) -> Self {
        Self { signer: entry.signer, stream: entry.body.stream(), home: entry.body.home() }
    }

    /// The smallest number that its next entry may have, if the node says it: of the operator, the treasurer and its own
    /// home's member.
    fn next_said_by(&self, member: &Member, genesis: &Genesis) -> Option<u64> {
        let roles = &genesis.roles;
        let is_role = |key: PublicKey| self.signer == key && self.stream == Stream::Rest;
        if is_role(roles.operator) {
            return Some(member.next_operator_number);
        }
        if is_role(roles.treasurer) {
            return Some(member.next_treasurer_number);
        }
        let others = [Some(roles.auditor), roles.metering_operator];
        let is_member = self.stream == Stream::Rest && !others.contains(&Some(self.signer));
        let is_own = self.home.is_some_and(|home| home.as_str() == member.home);
        (is_member && is_own).then_some(member.next_number)
    }
}

impl Reached<'_> {
    /// Market time of the node.
    pub(super) async fn market_time(&self) -> Result<Timestamp, CommandError> {
        let status = self.client.status().await.map_err(|error| status::refused(&error))?;
        Ok(status.market_time.0)
    }

    /// The smallest number that the author's next entry may have.
    pub(super) fn next_number(&self, author: Author<'_>) -> Result<u64, CommandError> {
        let said = author.next_said_by(&self.member, self.genesis);
        let read =
            || Some(self.ledger.as_ref()?.last_number(&author.signer, author.stream).saturating_add(1));
        said.or_else(read).ok_or_else(|| self.unknown())
    }

    fn unknown(&self) -> CommandError {
        usage(format!(
            "the node tells only the numbers of home {}, operator and treasurer; --config FILE of a node on this machine \
             tells all of them",
            self.member.home
        ))
    }

    /// Writes what still lacks a signature into a new file, or hands it in and waits until it is final.
    pub(super) async fn end(
        &self,
        signed: &[SignedEntry],
        sign_only: Option<&Path>,
    ) -> Result<Outcome, CommandError> {
        match sign_only {
            Some(path) => write(path, signed).map(|()| Outcome::Kept),
            None => self.hand_in(signed).await,
        }
    }

    /// Hands in one entry after the other and waits for each until it is final. What the ledger of a node on this machine
    /// would refuse is refused before anything is handed in.
    async fn hand_in(&self, entries: &[SignedEntry]) -> Result<Outcome, CommandError> {
        let chain = self.chain;
        let checked = entries.iter().map(|entry| verified(entry.clone(), &chain));
        let entries: Vec<VerifiedEntry> = checked.collect::<Result<_, _>>()?;
        entries.iter().try_for_each(|entry| self.would_be_taken(entry))?;
        let mut member = self.member.clone();
        for entry in &entries {
            self.is_unused(entry, &member)?;
            self.client.submit(entry.bytes().to_vec()).await.map_err(|error| status::refused(&error))?;
            member = self.wait_for(entry).await?;
        }
        Ok(if self.database.is_some() { Outcome::Final } else { Outcome::NumberUsed })
    }

    fn would_be_taken(&self, entry: &VerifiedEntry) -> Result<(), CommandError> {
        self.is_unused(entry, &self.member)?;
        let Some(ledger) = &self.ledger else { return Ok(()) };
        let time = ledger.head_time().plus_ms(1_000);
        ledger
            .check(entry, time)
            .map_err(|error| CommandError::failed(format!("the ledger would refuse it: {error}")))
    }

    fn is_unused(&self, entry: &VerifiedEntry, member: &Member) -> Result<(), CommandError> {
        let author = Author::of(entry.entry());
        let next = match author.next_said_by(member, self.genesis) {
            Some(next) => next,
            None => self.next_number(author)?,
        };
        let number = entry.entry().number;
        if number >= next {
            return Ok(());
        }
        let by = match &self.database {
            Some(path) if self.holds(path, entry)? => "this very entry is on the ledger",
            Some(_) => {
                "another entry has it; this one is not on the ledger, so sign it again if it is still needed"
            }
            None => "this very entry, or another one, is on the ledger; if it is not, sign it again",
        };
        Err(CommandError::failed(format!("number {number} of this signer is used already: {by}")))
    }

    async fn wait_for(&self, entry: &VerifiedEntry) -> Result<Member, CommandError> {
        let started = Instant::now();
        loop {
            let member = self.client.member().await.map_err(|error| status::refused(&error))?;
            if self.is_taken(entry, &member)? {
                return Ok(member);
            }
            if started.elapsed() >= self.wait {
                let message = not_final(entry.entry().body.kind(), self.wait);
                return Err(CommandError::Other { exit: Exit::NotReady, message });
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    /// True once a block holds the entry; where no ledger is on this machine, once the node says that its number is used.
    fn is_taken(&self, entry: &VerifiedEntry, member: &Member) -> Result<bool, CommandError> {
        let said = Author::of(entry.entry()).next_said_by(member, self.genesis);
        let is_used = said.map(|next| next > entry.entry().number);
        let Some(path) = &self.database else { return is_used.ok_or_else(|| self.unknown()) };
        if self.holds(path, entry)? {
            return Ok(true);
        }
        // Of numbers that the node does not tell, its ledger does.
        if is_used == Some(false) { Ok(false) } else { self.is_lost(path, entry).map(|()| false) }
    }

    /// Refuses to wait for an entry whose number the ledger has given to another one.
    fn is_lost(&self, path: &Path, entry: &VerifiedEntry) -> Result<(), CommandError> {
        let ledger = LedgerDb::current(path, self.genesis).map_err(super::bill::stored)?;
        let (signer, stream) = (entry.entry().signer, entry.entry().body.stream());
        // The entry may have been stored since it was looked for. A ledger that has the number without it never takes it.
        if ledger.last_number(&signer, stream) < entry.entry().number || self.holds(path, entry)? {
            return Ok(());
        }
        Err(CommandError::NumberTaken(entry.entry().number))
    }

    fn holds(&self, path: &Path, entry: &VerifiedEntry) -> Result<bool, CommandError> {
        let held = BillingDb::open(path, self.genesis).and_then(|db| db.holds(&entry.id()));
        held.map_err(super::bill::stored)
    }
}

/// What to do about an entry that was handed in, is not final, and may still become so.
fn not_final(kind: &str, waited: Duration) -> String {
    let look = match kind {
        "deposit" | "withdrawal" => {
            "it may still be booked: do not repeat it before `commonwatt money balances` shows that it is not"
        }
        _ => "it may still become so",
    };
    format!(
        "handed in, but not final after {} s; {look}. Either fewer than two thirds of the delegates are online, or the \
         ledger refused it: the node's log says which",
        waited.as_secs()
    )
}

/// The entry with every signature checked.
pub(super) fn verified(entry: SignedEntry, chain: &Chain) -> Result<VerifiedEntry, CommandError> {
    entry.verify(chain).map_err(|error| {
        CommandError::config(format!(
            "{error}; the file may be of another community or was changed: make it again"
        ))
    })
}

/// The key in the file at `path`, if it is that of `role` in this community.
pub(super) fn role_key(path: &Path, role: &Role) -> Result<SigningKey, CommandError> {
    key_of_one(path, std::slice::from_ref(role))
}

/// The key in the file at `path`, which must be that of one of `roles`.
pub(super) fn key_of_one(path: &Path, roles: &[Role]) -> Result<SigningKey, CommandError> {
    let found = identity::load_key(path)?;
    if roles.iter().any(|role| role.key == PublicKey::of(&found)) {
        return Ok(found);
    }
    let names: Vec<&str> = roles.iter().map(|role| role.name).collect();
    Err(CommandError::config(format!(
        "{} does not hold the key of this community's {}",
        path.display(),
        names.join(" or ")
    )))
}

/// Signs `body` as the author's entry of this number.
pub(super) fn sign(
    body: Body,
    number: u64,
    chain: &Chain,
    key: &SigningKey,
) -> Result<SignedEntry, CommandError> {
    let entry = Entry { signer: PublicKey::of(key), number, salt: fresh_salt()?, body };
    let signed = entry.sign(chain, key);
    if signed.to_bytes().len() > ENTRY_BYTES_MAX {
        return Err(CommandError::failed(format!("the entry is longer than {ENTRY_BYTES_MAX} bytes")));
    }
    Ok(signed)
}

/// Adds the signatures of the keys in the files at `keys`, each of which must be that of one of `roles`.
pub(super) fn with_roles(
    signed: SignedEntry,
    keys: &[PathBuf],
    roles: &[Role],
    chain: &Chain,
) -> Result<SignedEntry, CommandError> {
    keys.iter().try_fold(signed, |signed, path| Ok(signed.countersign(chain, &key_of_one(path, roles)?)))
}

/// The member key of the node whose `config` is, which must serve the home that an entry is about.
pub(super) fn member_key(config: &Path, whose: Option<&HomeId>) -> Result<SigningKey, CommandError> {
    let config = Config::load(config)?;
    if whose != Some(&config.home) {
        let whose = whose.map_or("the supplier or the community", HomeId::as_str);
        return Err(CommandError::config(format!(
            "the entry is about {whose}, this node serves {}",
            config.home
        )));
    }
    Ok(Identity::load(&config.data_dir)?.member().clone())
}

/// The member key of the node whose `config` is, whatever home an entry is about.
pub(super) fn any_member_key(config: &Path) -> Result<SigningKey, CommandError> {
    Ok(Identity::load(&Config::load(config)?.data_dir)?.member().clone())
}

/// Writes entries that lack a signature into a new file, a line each.
fn write(path: &Path, entries: &[SignedEntry]) -> Result<(), CommandError> {
    if entries.len() as u64 > ENTRIES_MAX {
        let count = entries.len();
        return Err(usage(format!(
            "one file holds {ENTRIES_MAX} entries, these are {count}: choose fewer days"
        )));
    }
    let lines: Vec<String> =
        entries.iter().map(|entry| format!("{}\n", hex::encode(entry.to_bytes()))).collect();
    files::create(path, &lines.concat())
}

/// Reads such a file; every entry must be of one of `kinds`.
pub(super) fn read(path: &Path, kinds: &[&str]) -> Result<Vec<SignedEntry>, CommandError> {
    let text = files::read_text(path, FILE_BYTES_MAX)?;
    let entry = |(at, line): (usize, &str)| {
        let wrong = || {
            let what = format!("{}:{} is no signed entry", path.display(), at + 1);
            CommandError::config(format!("{what}; make the file again with --sign-only"))
        };
        let bytes = hex::decode(line.trim()).map_err(|_| wrong())?;
        let signed = SignedEntry::from_bytes(&bytes).map_err(|_| wrong())?;
        let kind = signed.unchecked().body.kind();
        if kinds.contains(&kind) {
            return Ok(signed);
        }
        Err(CommandError::config(format!(
            "{}:{} is a {kind} entry; here only {} can be handed in",
            path.display(),
            at + 1,
            kinds.join(", ")
        )))
    };
    let entries: Vec<SignedEntry> = text.lines().enumerate().map(entry).collect::<Result<_, _>>()?;
    if entries.is_empty() {
        return Err(CommandError::config(format!("{} holds no entry", path.display())));
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_moves_money_is_told_not_to_repeat_what_may_still_be_booked() {
        for kind in ["deposit", "withdrawal"] {
            let told = not_final(kind, Duration::from_secs(60));
            assert!(
                told.contains("not final after 60 s") && told.contains("do not repeat it before"),
                "{told}"
            );
        }
        assert!(!not_final("tariff-series", Duration::from_secs(1)).contains("money"));
    }

    #[test]
    fn only_what_a_ledger_holds_is_called_final() {
        let words = [Outcome::Kept, Outcome::NumberUsed, Outcome::Final].map(|it| (it.word(), it.is_final()));
        let expected = [("not handed in", false), ("handed in, number used", false), ("final", true)];
        assert_eq!(words, expected);
    }
}
