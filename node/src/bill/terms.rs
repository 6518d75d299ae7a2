//! What a bill has beside the ledger's energy: who issues it, and the levies, taxes and fixed charges of a TOML file.

use std::path::Path;

use chrono::{Datelike, NaiveDate};

use crate::config::document::{Document, Section, nearest};
use crate::config::report::Report;
use crate::zone::Zone;

use super::items::Part;

/// No file of terms is longer, in bytes.
pub const TERMS_BYTES_MAX: u64 = 1 << 20;
/// No bill has more configured lines.
pub const LINES_MAX: usize = 64;
/// No charge is beyond 1 billion of the currency, so that no sum can leave its range, n.
const RATE_MAX: i64 = 1_000_000_000_000_000_000;

/// Who issues the bill and what it adds to the energy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Terms {
    /// Where the clocks of the community are.
    pub zone: Option<Zone>,
    /// Who issues it.
    pub issuer: Issuer,
    /// What is added, in this order.
    pub lines: Vec<LineSpec>,
}

/// Who issues the bill.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Issuer {
    /// Name; the community's if not said.
    pub name: Option<Name>,
    /// Lines of the address.
    pub address: Vec<String>,
    /// How to pay, line by line.
    pub payment: Vec<String>,
}

/// A text in both languages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// In English, or whatever the community writes.
    pub name: String,
    /// In Chinese, if it differs.
    pub chinese: Option<String>,
}

/// A configured line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineSpec {
    /// What it is called.
    pub name: Name,
    /// What it is charged on.
    pub basis: Basis,
    /// How much, in the unit of the basis; below zero: a rebate.
    pub rate: i64,
    /// The column of a fixed charge.
    pub part: Part,
    /// Who gets it.
    pub to: String,
    /// First local day on which it holds.
    pub from: Option<NaiveDate>,
    /// First local day on which it does not hold any more.
    pub until: Option<NaiveDate>,
}

/// What a line is charged on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// Metered import that neighbours gave, µ/kWh.
    CommunityImport,
    /// Metered import from the supplier, µ/kWh.
    GridImport,
    /// All metered import, µ/kWh.
    TotalImport,
    /// All metered export, µ/kWh.
    Export,
    /// Everything charged before it, without what was credited for export, ‰.
    Subtotal,
    /// Per month, n; for a part of a month by its days.
    Month,
    /// Per day, n.
    Day,
}

impl Basis {
    /// All of them with their words.
    const WORDS: [(&'static str, Self); 7] = [
        ("community-import", Self::CommunityImport),
        ("grid-import", Self::GridImport),
        ("total-import", Self::TotalImport),
        ("export", Self::Export),
        ("subtotal", Self::Subtotal),
        ("month", Self::Month),
        ("day", Self::Day),
    ];

    /// The word in files.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, basis)| *basis == self).map_or("", |(word, _)| word)
    }

    /// True for charges that do not depend on energy.
    #[must_use]
    pub const fn is_fixed(self) -> bool {
        matches!(self, Self::Month | Self::Day)
    }

    /// True where it reaches energy of the supplier.
    const fn reaches_grid(self) -> bool {
        matches!(self, Self::GridImport | Self::TotalImport)
    }
}

impl LineSpec {
    /// True if it holds on a local day.
    #[must_use]
    pub fn holds_on(&self, day: NaiveDate) -> bool {
        self.from.is_none_or(|from| from <= day) && self.until.is_none_or(|until| day < until)
    }
}

impl Terms {
    /// Reads the file at `path`. `grid_is_outside` says that the supplier bills its energy itself: then nothing can be
    /// charged on it here.
    ///
    /// # Errors
    /// [`Report`] with every fault at its place.
    pub fn load(path: &Path, grid_is_outside: bool) -> Result<Self, Report> {
        Self::read(&Document::open(path, TERMS_BYTES_MAX)?, grid_is_outside)
    }

    /// Reads terms that are already in memory.
    ///
    /// # Errors
    /// See [`Terms::load`].
    pub fn read(document: &Document, grid_is_outside: bool) -> Result<Self, Report> {
        document.read(|top| {
            let zone = top.optional("zone");
            let issuer = top.section("issuer").map(|section| read_issuer(&section)).unwrap_or_default();
            let sections = top.sections("line");
            if let Some(over) = sections.get(LINES_MAX) {
                over.fault_here(format!("more than {LINES_MAX} lines"), "the first one too many", None);
            }
            let lines: Vec<_> = sections.iter().map(|section| read_line(section, grid_is_outside)).collect();
            Some(Self { zone, issuer, lines: lines.into_iter().collect::<Option<_>>()? })
        })
    }
}

fn read_issuer(section: &Section<'_>) -> Issuer {
    let name = section.optional("name").map(|name| Name { name, chinese: section.optional("name_zh") });
    if name.is_none() && section.has("name_zh") {
        section.fault("name_zh", "`issuer.name_zh` needs `issuer.name`".to_owned(), "beside this", None);
        let _: Option<String> = section.optional("name_zh");
    }
    Issuer {
        name,
        address: section.list("address").unwrap_or_default(),
        payment: section.list("payment").unwrap_or_default(),
    }
}

fn read_line(section: &Section<'_>, grid_is_outside: bool) -> Option<LineSpec> {
    let (name, chinese) = (section.required::<String>("name"), section.optional("name_zh"));
    let (basis, to) = (read_basis(section), section.required("to"));
    let rate = section.required::<i64>("rate");
    let (from, until) = (section.optional("from"), section.optional("until"));
    let part = read_part(section, basis);
    let line = LineSpec {
        name: Name { name: name?, chinese },
        basis: basis?,
        rate: rate?,
        part: part?,
        to: to?,
        from,
        until,
    };
    check_line(section, &line, grid_is_outside);
    Some(line)
}

fn read_basis(section: &Section<'_>) -> Option<Basis> {
    let word = section.required::<String>("basis")?;
    if let Some((_, basis)) = Basis::WORDS.iter().find(|(known, _)| *known == word) {
        return Some(*basis);
    }
    let known = Basis::WORDS.map(|(known, _)| known);
    let label = nearest(&word, known.into_iter()).map_or_else(
        || format!("expected one of {}", known.join(", ")),
        |meant| format!("did you mean \"{meant}\"?"),
    );
    section.fault("basis", format!("`basis` cannot be \"{word}\""), &label, None);
    None
}

/// The column of a fixed charge; everything else knows its own.
fn read_part(section: &Section<'_>, basis: Option<Basis>) -> Option<Part> {
    let basis = basis?;
    if !basis.is_fixed() {
        if section.has("part") {
            let title = format!("`part` has no meaning with basis \"{}\"", basis.word());
            section.fault("part", title, "only a fixed charge needs it", None);
            let _: Option<String> = section.optional("part");
        }
        return Some(if basis == Basis::CommunityImport { Part::Community } else { Part::Grid });
    }
    match section.required::<String>("part")?.as_str() {
        "community" => Some(Part::Community),
        "grid" => Some(Part::Grid),
        other => {
            let title = format!("`part` cannot be \"{other}\"");
            section.fault("part", title, "expected \"community\" or \"grid\"", None);
            None
        }
    }
}

fn check_line(section: &Section<'_>, line: &LineSpec, grid_is_outside: bool) {
    if !(-RATE_MAX..=RATE_MAX).contains(&line.rate) {
        section.fault("rate", "`rate` is beyond 1 000 000 000 000 000 000".to_owned(), "this rate", None);
    }
    if line.name.name.is_empty() {
        section.fault("name", "`name` is empty".to_owned(), "say what is charged", None);
    }
    let with_grid = line.basis.reaches_grid() || (line.basis.is_fixed() && line.part == Part::Grid);
    if grid_is_outside && with_grid {
        let key = if line.basis.is_fixed() { "part" } else { "basis" };
        let title =
            "the supplier bills its energy itself in this community (supplier_leg = \"outside\")".to_owned();
        section.fault(key, title, "nothing can be charged on it here", None);
    }
    if let (Some(from), Some(until)) = (line.from, line.until)
        && until <= from
    {
        section.fault("until", "`until` must be later than `from`".to_owned(), "holds on no day", None);
    }
    for (key, day) in [("from", line.from), ("until", line.until)] {
        if line.basis == Basis::Subtotal && day.is_some_and(|day| day.day() != 1) {
            let title = format!("`{key}` of a line on the subtotal must be the first day of a month");
            section.fault(key, title, "a subtotal is of a whole month", None);
        }
    }
}

impl Name {
    /// The text in Chinese or English.
    #[must_use]
    pub fn text(&self, chinese: bool) -> &str {
        self.chinese.as_deref().filter(|_| chinese).unwrap_or(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Terms, String> {
        let document = Document::of_text(Path::new("bill.toml"), text);
        Terms::read(&document, false).map_err(|report| report.render(false))
    }

    #[test]
    fn every_fault_of_a_file_is_shown_at_its_place() {
        let text = "zone = \"Asia/Peking\"\n[[line]]\nname = \"levy\"\nbasis = \"grid-improt\"\nrate = 0.5\nto = \"x\"\n\
                    [[line]]\nname = \"fee\"\nbasis = \"month\"\nrate = 1\nto = \"x\"\nform = 2026-01-01\n";
        let report = read(text).unwrap_err();
        for part in [
            "bill.toml:1:8",
            "bill.toml:4:9",
            "did you mean \"grid-import\"?",
            "bill.toml:5:8",
            "`line[1].part` is missing",
            "did you mean `from`?",
            "5 errors",
        ] {
            assert!(report.contains(part), "{part:?} is not in\n{report}");
        }
    }

    #[test]
    fn nothing_is_charged_on_energy_that_the_supplier_bills() {
        let line =
            |basis: &str| format!("[[line]]\nname = \"x\"\nbasis = \"{basis}\"\nrate = 1\nto = \"y\"\n");
        for (text, refused) in [
            (line("grid-import"), true),
            (line("total-import"), true),
            (line("community-import"), false),
            (line("subtotal"), false),
            (line("month") + "part = \"grid\"\n", true),
            (line("month") + "part = \"community\"\n", false),
        ] {
            let document = Document::of_text(Path::new("bill.toml"), &text);
            assert_eq!(Terms::read(&document, true).is_err(), refused, "{text}");
            assert!(Terms::read(&document, false).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_line_holds_from_its_first_day_until_before_its_last() {
        let text = "[[line]]\nname = \"x\"\nbasis = \"day\"\nrate = 1\nto = \"y\"\npart = \"grid\"\n\
                    from = 2026-07-10\nuntil = \"2026-07-12\"\n";
        let line = read(text).unwrap().lines.remove(0);
        let days: Vec<u32> =
            (1..=31).filter(|day| line.holds_on(NaiveDate::from_ymd_opt(2026, 7, *day).unwrap())).collect();
        assert_eq!(days, [10, 11]);
        assert!(read(&text.replace("2026-07-12", "2026-07-10")).unwrap_err().contains("later than `from`"));
        assert!(read(&text.replace("\"day\"", "\"subtotal\"").replace("part = \"grid\"\n", "")).is_err());
    }
}
