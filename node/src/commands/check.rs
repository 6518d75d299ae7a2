//! `commonwatt check`: configuration, genesis, keys and the stored ledger, without touching meter or network.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ledger::{Genesis, PublicKey};
use serde_json::json;

use super::{CommandError, out};
use crate::cli::{CheckArgs, Exit, Output};
use crate::config::Config;
use crate::genesis_file;
use crate::identity::{self, Identity, MembershipError};
use crate::store::ledger_db::LedgerDb;

/// What was found.
#[derive(Default)]
struct Findings {
    errors: Vec<CommandError>,
    warnings: Vec<String>,
    facts: Vec<String>,
}

impl Findings {
    /// The value, or its error among the findings.
    fn take<T>(&mut self, found: Result<T, impl Into<CommandError>>) -> Option<T> {
        found.map_err(|error| self.errors.push(error.into())).ok()
    }
}

/// Finds everything that is wrong, prints it, and says whether the node could start.
pub(super) fn check(args: &CheckArgs, output: Output) -> Exit {
    let mut findings = Findings::default();
    if let Some(config) = findings.take(Config::load(&args.config)) {
        findings.facts.push(format!("configuration {} of home {}", args.config.display(), config.home));
        findings.warnings.extend(config.warnings());
        check_home(&config, &mut findings);
    }
    print(&findings, output);
    if findings.errors.is_empty() { Exit::Ok } else { Exit::Config }
}

fn check_home(config: &Config, findings: &mut Findings) {
    let genesis = findings.take(genesis_file::load(&config.genesis));
    let identity = findings.take(Identity::load(&config.data_dir));
    check_folder(&config.data_dir, findings);
    if let Some(genesis) = &genesis {
        let chain = genesis.chain().id.hex();
        findings.facts.push(format!(
            "genesis {} of {}, chain {chain}, {} members",
            config.genesis.display(),
            genesis.name,
            genesis.members.len()
        ));
        check_root_meter(config, genesis, findings);
        check_profile(config, genesis, findings);
    }
    if let (Some(genesis), Some(identity)) = (genesis, identity) {
        check_membership(config, &genesis, &identity, findings);
    }
}

/// The ledger here knows best; before there is one the genesis does, as far as founders go.
fn check_membership(config: &Config, genesis: &Genesis, identity: &Identity, findings: &mut Findings) {
    let path = config.data_dir.join("ledger.db");
    let ledger = path.exists().then(|| LedgerDb::current(&path, genesis).ok()).flatten();
    let keys = ledger.as_ref().and_then(|ledger| Some(ledger.member(&config.home)?.admission.keys));
    if keys == Some(identity.keys()) {
        return findings.facts.push("keys of a member".to_owned());
    }
    match identity.check_member(genesis, &config.home) {
        Ok(()) => {
            let delegate = genesis.delegates.iter().any(|delegate| delegate.home == config.home);
            findings.facts.push(format!("keys of a {}", if delegate { "delegate" } else { "member" }));
        }
        Err(MembershipError::NotAMember { home, .. }) => findings.warnings.push(format!(
            "home {home} is no founder and no member by the ledger here: its node runs, and takes part once it is admitted"
        )),
        Err(error) => findings.errors.push(error.into()),
    }
}

/// The folder holds what must not be read by others, even where each file is protected.
fn check_folder(data_dir: &Path, findings: &mut Findings) {
    let mode = fs::metadata(data_dir).map(|metadata| metadata.permissions().mode() & 0o777);
    if let Ok(mode) = mode
        && mode & 0o077 != 0
    {
        let path = data_dir.display();
        findings
            .warnings
            .push(format!("{path} can be entered by others (mode {mode:03o}); run `chmod 700 {path}`"));
    }
}

fn check_root_meter(config: &Config, genesis: &Genesis, findings: &mut Findings) {
    let Some(settings) = &config.root_meter else { return };
    let Some(key) = findings.take(identity::load_key(&settings.key_file)) else { return };
    let message = match &genesis.root_meter {
        None => "there is a [root_meter] but the genesis has none; remove the section".to_owned(),
        Some(meter) if meter.key != PublicKey::of(&key) => format!(
            "wrong key: {} is {} but the root meter of the genesis has {}",
            settings.key_file.display(),
            PublicKey::of(&key),
            meter.key
        ),
        Some(_) => return,
    };
    findings.errors.push(CommandError::config(message));
}

/// What would keep the configured meters' readings out of the ledger, the first such fault.
///
/// # Errors
/// [`CommandError`].
pub(super) fn check_meters(config: &Config, genesis: &Genesis) -> Result<(), CommandError> {
    let mut findings = Findings::default();
    check_root_meter(config, genesis, &mut findings);
    check_profile(config, genesis, &mut findings);
    findings.errors.into_iter().next().map_or(Ok(()), Err)
}

/// Readings decoded by another profile than the one agreed on would be refused by the ledger.
fn check_profile(config: &Config, genesis: &Genesis, findings: &mut Findings) {
    let member = genesis.members.iter().find(|member| member.admission.home == config.home);
    let (Some(settings), Some(member)) = (&config.meter, member) else { return };
    if settings.profile.hash() != member.admission.meter.profile_hash {
        findings.errors.push(CommandError::config(format!(
            "meter.profile {} is not the one the genesis has for home {}; use the profile of the join card",
            settings.profile.name(),
            config.home
        )));
    }
}

fn print(findings: &Findings, output: Output) {
    if output == Output::Json {
        let errors: Vec<String> = findings.errors.iter().map(ToString::to_string).collect();
        out::json(&json!({
            "schema_version": 1,
            "ok": errors.is_empty(),
            "errors": errors,
            "warnings": findings.warnings,
            "facts": findings.facts,
        }));
        return;
    }
    findings.facts.iter().for_each(|fact| out::line(&format!("[ok]    {fact}")));
    findings.warnings.iter().for_each(|warning| out::note(&format!("[warn]  {warning}")));
    findings.errors.iter().for_each(|error| out::note(&error.render()));
}
