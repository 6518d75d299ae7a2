//! Allocation results as a table and as JSON. docs/community.md says what each column is.

use serde_json::{Value, json};

use super::{Block, Line, Shared, Total};
use crate::zone::Zone;

/// The columns, in order.
pub const HEADER: [&str; 15] = [
    "row",
    "interval_start",
    "interval_end",
    "local_start",
    "home",
    "meter",
    "status",
    "import_wh",
    "from_community_wh",
    "from_supplier_wh",
    "export_wh",
    "to_community_wh",
    "to_supplier_wh",
    "share_permyriad",
    "participation_permille",
];

/// One row a home and interval, then one with the interval's total.
///
/// # Errors
/// What the writer says; a table in memory has none.
pub fn csv(blocks: &[Block], zone: &Zone) -> Result<String, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(HEADER)?;
    for block in blocks {
        for line in &block.lines {
            writer.write_record(of_line(block, line, zone))?;
        }
        writer.write_record(of_total(block, &block.total(), zone))?;
    }
    let bytes = writer.into_inner().map_err(|error| error.into_error())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn of_line(block: &Block, line: &Line, zone: &Zone) -> Vec<String> {
    let mut row = head("home", block, zone);
    row.extend([line.home.to_string(), inert(&line.meter), line.status.word().to_owned()]);
    row.extend(energies(line.import, line.export));
    row.extend([line.participation.share_permyriad, line.participation.permille].map(|it| it.to_string()));
    row
}

fn of_total(block: &Block, total: &Total, zone: &Zone) -> Vec<String> {
    let mut row = head("total", block, zone);
    row.extend([String::new(), String::new(), total.status.word().to_owned()]);
    row.extend(energies(total.import, total.export));
    row.extend([total.share_permyriad.to_string(), String::new()]);
    row
}

fn head(kind: &str, block: &Block, zone: &Zone) -> Vec<String> {
    let (start, end) = (block.interval.start(), block.interval.end());
    vec![kind.to_owned(), start.to_string(), end.to_string(), zone.rfc3339(start)]
}

fn energies(import: Shared, export: Shared) -> [String; 6] {
    let of = |it: Shared| [it.metered(), it.community, it.supplier];
    let ([a, b, c], [d, e, f]) = (of(import), of(export));
    [a, b, c, d, e, f].map(|wh| wh.to_string())
}

/// A serial number that a spreadsheet would compute stays text.
fn inert(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@']) { format!("'{text}") } else { text.to_owned() }
}

/// The intervals with their lines and totals.
#[must_use]
pub fn json(blocks: &[Block]) -> Value {
    let shared = |it: Shared| json!({ "metered_wh": it.metered(), "community_wh": it.community, "supplier_wh": it.supplier });
    let line = |line: &Line| {
        json!({
            "home": line.home.as_str(),
            "meter": line.meter,
            "status": line.status.word(),
            "import": shared(line.import),
            "export": shared(line.export),
            "share_permyriad": line.participation.share_permyriad,
            "participation_permille": line.participation.permille,
        })
    };
    let block = |block: &Block| {
        let total = block.total();
        json!({
            "start": block.interval.to_string(),
            "end": block.interval.end().to_string(),
            "status": total.status.word(),
            "homes": block.lines.iter().map(line).collect::<Vec<_>>(),
            "import": shared(total.import),
            "export": shared(total.export),
        })
    };
    blocks.iter().map(block).collect()
}
