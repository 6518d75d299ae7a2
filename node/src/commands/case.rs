//! `commonwatt clear` and `commonwatt match`: one case file in, one JSON result out.

use serde_json::Value;

use super::{CommandError, files, out};
use crate::case::{self, CaseError};
use crate::cli::{CaseArgs, Exit};

/// No case file is longer, in bytes.
const CASE_BYTES_MAX: u64 = 64 << 20;

/// Clears the auction of a case.
///
/// # Errors
/// [`CommandError`] naming the place in the file.
pub(super) fn clear(args: &CaseArgs) -> Result<Exit, CommandError> {
    compute(args, case::clear_case)
}

/// Matches the neighbours of a case.
///
/// # Errors
/// [`CommandError`] naming the place in the file.
pub(super) fn match_neighbours(args: &CaseArgs) -> Result<Exit, CommandError> {
    compute(args, case::match_case)
}

fn compute(args: &CaseArgs, solve: fn(&str) -> Result<Value, CaseError>) -> Result<Exit, CommandError> {
    let text = files::read_text(&args.case, CASE_BYTES_MAX)?;
    let name = args.case.display();
    let result = solve(&text).map_err(|error| CommandError::failed(format!("{name}: {error}")))?;
    out::json(&result);
    Ok(Exit::Ok)
}
