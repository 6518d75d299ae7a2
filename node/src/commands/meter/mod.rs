//! `commonwatt meter …`: finding, reading and checking meters.

pub mod args;
mod check;
mod commission;
mod profiles;
mod raw;
mod reach;
mod read;
pub mod register;
mod scan;
mod serve;
mod table;
mod trial;

use self::args::MeterCommand;
use super::{CommandError, block_on, start_log};
use crate::cli::{Exit, Output};

/// Does what is asked of a meter.
///
/// # Errors
/// [`CommandError`].
pub(super) fn meter(command: MeterCommand, output: Output) -> Result<Exit, CommandError> {
    // What fails is told by the command itself; the log only adds what nobody asked for.
    start_log("error")?;
    match command {
        MeterCommand::Profiles(args) => profiles::profiles(&args, output),
        MeterCommand::Check(args) => check::check(&args, output),
        MeterCommand::Scan(args) => block_on(scan::scan(args, output))?,
        MeterCommand::Read(args) => block_on(read::read(args, output))?,
        MeterCommand::Test(args) => block_on(trial::test(args, output))?,
        MeterCommand::Raw(args) => block_on(raw::raw(args, output))?,
        MeterCommand::Commission(args) => block_on(commission::commission(args, output))?,
        MeterCommand::Register(args) => block_on(register::register(*args, output))?,
        MeterCommand::Serve(args) => block_on(serve::serve(args))?,
    }
}
