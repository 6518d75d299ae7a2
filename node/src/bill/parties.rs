//! Who a home's bills are for: the contract holder, occupants with the days they lived there, the asset owner.
//!
//! The ledger knows homes and owners. Who lives in a home is nobody else's business, so it stands in a file at the edge.

use std::collections::BTreeSet;
use std::path::Path;

use chrono::NaiveDate;
use energy::HomeId;

use crate::config::document::{Document, Section};
use crate::config::report::Report;

/// No file of parties is longer, in bytes.
pub const PARTIES_BYTES_MAX: u64 = 4 << 20;

/// What is known of the people of all homes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parties {
    homes: Vec<Household>,
}

/// The people of one home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Household {
    /// The home.
    pub home: HomeId,
    /// Whose account it is; the owner on the ledger if not said.
    pub contract_holder: Option<String>,
    /// Who is credited for what the home exports; the contract holder if not said.
    pub asset_owner: Option<String>,
    /// Who lived there, in order. Days of nobody are the contract holder's.
    pub occupants: Vec<Occupant>,
}

/// Who lives in a home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occupant {
    /// Name.
    pub name: String,
    /// First day; `None`: from the start.
    pub from: Option<NaiveDate>,
    /// First day that is not theirs any more; `None`: still there.
    pub until: Option<NaiveDate>,
    /// Import and export register that was agreed on when they moved in, Wh.
    pub moved_in: Option<(u64, u64)>,
    /// The same when they moved out.
    pub moved_out: Option<(u64, u64)>,
}

impl Parties {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`Report`] with every fault at its place.
    pub fn load(path: &Path) -> Result<Self, Report> {
        Self::read(&Document::open(path, PARTIES_BYTES_MAX)?)
    }

    /// Reads parties that are already in memory.
    ///
    /// # Errors
    /// See [`Parties::load`].
    pub fn read(document: &Document) -> Result<Self, Report> {
        document.read(|top| {
            let mut seen = BTreeSet::new();
            let sections = top.sections("home");
            let homes: Vec<_> = sections.iter().map(|section| read_home(section, &mut seen)).collect();
            Some(Self { homes: homes.into_iter().collect::<Option<_>>()? })
        })
    }

    /// The people of a home, if anything is said of them.
    #[must_use]
    pub fn of(&self, home: &HomeId) -> Option<&Household> {
        self.homes.iter().find(|household| household.home == *home)
    }

    /// Every home that something is said of.
    pub fn homes(&self) -> impl Iterator<Item = &HomeId> {
        self.homes.iter().map(|household| &household.home)
    }
}

fn read_home(section: &Section<'_>, seen: &mut BTreeSet<HomeId>) -> Option<Household> {
    let home = section.required::<HomeId>("id");
    if home.as_ref().is_some_and(|home| !seen.insert(home.clone())) {
        section.fault("id", "this home stands twice".to_owned(), "the second time", None);
    }
    let (contract_holder, asset_owner) =
        (section.optional("contract_holder"), section.optional("asset_owner"));
    let sections = section.sections("occupant");
    let occupants: Vec<_> = sections.iter().map(read_occupant).collect();
    let occupants: Vec<Occupant> = occupants.into_iter().collect::<Option<_>>()?;
    for (pair, place) in occupants.windows(2).zip(sections.iter().skip(1)) {
        if let [earlier, later] = pair
            && !follows(earlier, later)
        {
            let title = format!("{} moves in before {} moved out", later.name, earlier.name);
            let help = "occupants stand in the order they lived there; one is left by the day the next comes";
            place.fault("from", title, "overlaps the occupant above", Some(help.to_owned()));
        }
    }
    Some(Household { home: home?, contract_holder, asset_owner, occupants })
}

/// Nobody lives there together with the next.
fn follows(earlier: &Occupant, later: &Occupant) -> bool {
    matches!((earlier.until, later.from), (Some(until), Some(from)) if until <= from)
}

fn read_occupant(section: &Section<'_>) -> Option<Occupant> {
    let name = section.required::<String>("name");
    if name.as_ref().is_some_and(String::is_empty) {
        section.fault("name", "`name` is empty".to_owned(), "say who lives there", None);
    }
    let (from, until) = (section.optional("from"), section.optional("until"));
    if let (Some(from), Some(until)) = (from, until)
        && until <= from
    {
        section.fault("until", "`until` must be later than `from`".to_owned(), "lives there on no day", None);
    }
    let (moved_in, moved_out) = (registers(section, "moved_in_wh"), registers(section, "moved_out_wh"));
    Some(Occupant { name: name?, from, until, moved_in, moved_out })
}

/// `[import, export]` in Wh.
fn registers(section: &Section<'_>, key: &'static str) -> Option<(u64, u64)> {
    let list = section.list::<u64>(key)?;
    if let [import, export] = list[..] {
        return Some((import, export));
    }
    let label = "expected the import and the export register in Wh, such as [4711080, 815020]";
    section.fault(key, format!("`{key}` holds {} values", list.len()), label, None);
    None
}

impl Occupant {
    /// True if they live there on a day.
    #[must_use]
    pub fn lives_there_on(&self, day: NaiveDate) -> bool {
        self.from.is_none_or(|from| from <= day) && self.until.is_none_or(|until| day < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Parties, String> {
        Parties::read(&Document::of_text(Path::new("parties.toml"), text))
            .map_err(|report| report.render(false))
    }

    const TWO: &str = "[[home]]\nid = \"h001\"\ncontract_holder = \"Chen Jie\"\n\
        [[home.occupant]]\nname = \"Li Wei\"\nuntil = 2026-07-15\nmoved_out_wh = [812000, 40]\n\
        [[home.occupant]]\nname = \"Zhou Min\"\nfrom = 2026-07-20\nmoved_in_wh = [813000, 40]\n";

    #[test]
    fn occupants_live_there_one_after_another() {
        let parties = read(TWO).unwrap();
        let home = parties.of(&HomeId::new("h001").unwrap()).unwrap();
        let who = |day| {
            let day = NaiveDate::from_ymd_opt(2026, 7, day).unwrap();
            home.occupants
                .iter()
                .filter(|it| it.lives_there_on(day))
                .map(|it| it.name.as_str())
                .collect::<Vec<_>>()
        };
        assert_eq!((who(14), who(15), who(19), who(20)), (vec!["Li Wei"], vec![], vec![], vec!["Zhou Min"]));
        assert_eq!(home.occupants[1].moved_in, Some((813_000, 40)));
    }

    #[test]
    fn people_who_would_live_there_together_are_refused() {
        for text in [TWO.replace("07-20", "07-14"), TWO.replace("from = 2026-07-20\n", "")] {
            let report = read(&text).unwrap_err();
            assert!(report.contains("Zhou Min moves in before Li Wei moved out"), "{report}");
        }
    }

    #[test]
    fn a_home_twice_and_half_a_register_are_refused() {
        let twice = format!("{TWO}[[home]]\nid = \"h001\"\n");
        assert!(read(&twice).unwrap_err().contains("this home stands twice"));
        let half = TWO.replace("[812000, 40]", "[812000]");
        assert!(read(&half).unwrap_err().contains("parties.toml:7:16"));
    }
}
