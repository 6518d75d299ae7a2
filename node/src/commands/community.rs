//! `commonwatt community`: what operator, metering operator and members do at the edge of the ledger.

use clap::Subcommand;

use super::CommandError;
use super::hand_in::CountersignArgs;
use crate::cli::{Exit, Output};

pub mod admit;
pub mod agree;
pub mod allocation;
pub mod limits;
mod limits_file;
pub mod readings;
mod readings_file;
pub mod when;

/// What to do for a community.
#[derive(Debug, Subcommand)]
pub enum CommunityCommand {
    /// What trading may send over edges, and what connections may carry.
    #[command(subcommand)]
    Limits(limits::LimitsCommand),
    /// Gives a home a supply contract of its own, or takes it back; member and operator sign.
    Contract(agree::ContractArgs),
    /// Changes a home's part in sharing by keys; member and operator sign.
    Participation(agree::ParticipationArgs),
    /// Admits a home; operator and delegates sign.
    Admit(admit::AdmitArgs),
    /// Gives a home new keys; its member signs with the present one.
    Rotate(admit::RotateArgs),
    /// Takes a home out of the community; member and operator sign.
    Leave(agree::LeaveArgs),
    /// Adds a signature to an admission, contract, participation or departure that somebody else began, and hands it in.
    #[command(after_help = agree::COUNTERSIGN_EXAMPLES)]
    Countersign(CountersignArgs),
    /// What the metering operator metered.
    #[command(subcommand)]
    Readings(readings::ReadingsCommand),
    /// Shows what of each meter's energy was shared, for the distribution operator.
    Allocation(allocation::AllocationArgs),
}

/// Does what the command line says.
///
/// # Errors
/// [`CommandError`]: files, keys or times that cannot be used, what the ledger would refuse, or a node that does not
/// answer.
pub(super) fn community(command: &CommunityCommand, output: Output) -> Result<Exit, CommandError> {
    match command {
        CommunityCommand::Limits(limits::LimitsCommand::Publish(args)) => {
            super::block_on(limits::publish(args, output))?
        }
        CommunityCommand::Limits(limits::LimitsCommand::Show(args)) => limits::show(args, output),
        CommunityCommand::Contract(args) => super::block_on(agree::contract(args, output))?,
        CommunityCommand::Participation(args) => super::block_on(agree::participation(args, output))?,
        CommunityCommand::Admit(args) => super::block_on(admit::admit(args, output))?,
        CommunityCommand::Rotate(args) => super::block_on(admit::rotate(args, output))?,
        CommunityCommand::Leave(args) => super::block_on(agree::leave(args, output))?,
        CommunityCommand::Countersign(args) => super::block_on(agree::countersign(args, output))?,
        CommunityCommand::Readings(readings::ReadingsCommand::Import(args)) => {
            super::block_on(readings::import(args, output))?
        }
        CommunityCommand::Allocation(args) => allocation::allocation(args, output),
    }
}
