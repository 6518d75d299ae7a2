//! `commonwatt meter check`: every fault of a device profile, at its place.

use meter::{Catalog, Profile, ProfileFault};
use serde_json::{Value, json};

use super::args::CheckProfileArgs;
use crate::cli::{Exit, Output};
use crate::commands::{CommandError, out};
use crate::config::document::Document;
use crate::config::report::{Fault, Report};

/// No profile is longer, in bytes.
const PROFILE_BYTES_MAX: u64 = 64 * 1024;

/// Parses the file and checks its test vectors.
///
/// # Errors
/// [`CommandError`] if the file cannot be read. A profile with faults is no error here but the answer:
/// [`Exit::Failed`].
pub(super) fn check(args: &CheckProfileArgs, output: Output) -> Result<Exit, CommandError> {
    let document = Document::open(&args.file, PROFILE_BYTES_MAX)?;
    match Profile::parse(document.text()) {
        Ok(profile) => {
            accepted(&profile, output);
            Ok(Exit::Ok)
        }
        Err(error) => {
            refused(&document, error.faults(), output);
            Ok(Exit::Failed)
        }
    }
}

fn accepted(profile: &Profile, output: Output) {
    let taken = Catalog::builtin().get(profile.name()).is_some_and(|own| own.hash() != profile.hash());
    if output == Output::Json {
        out::json(&json!({ "schema_version": 1, "ok": true, "name": profile.name(), "faults": [] }));
    } else {
        out::line(&format!(
            "profile {} is valid: {} quantities, step {}, its test vectors decode to their values",
            profile.name(),
            profile.quantities().len(),
            profile.quantum()
        ));
    }
    if taken {
        out::note(&format!(
            "warning: a profile of the program is called {} too; give this one another name before you put it into the \
             folder of profiles",
            profile.name()
        ));
    }
}

fn refused(document: &Document, faults: &[ProfileFault], output: Output) {
    if output == Output::Json {
        let faults: Vec<Value> = faults.iter().map(|fault| as_json(document.text(), fault)).collect();
        out::json(&json!({ "schema_version": 1, "ok": false, "faults": faults }));
        return;
    }
    let faults = faults.iter().map(|fault| Fault {
        span: fault.span.clone(),
        title: fault.title.clone(),
        label: fault.label.clone(),
        help: fault.help.clone(),
    });
    let report = Report::new(document.path(), document.text(), faults.collect());
    out::note(&report.render(out::stderr_has_color()));
}

fn as_json(text: &str, fault: &ProfileFault) -> Value {
    let before = fault.span.as_ref().and_then(|span| text.get(..span.start));
    let line = before.map(|before| before.matches('\n').count() + 1);
    let column = before.map(|before| before.chars().rev().take_while(|it| *it != '\n').count() + 1);
    json!({ "line": line, "column": column, "title": fault.title, "label": fault.label, "help": fault.help })
}
