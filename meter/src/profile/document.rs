//! The TOML of a profile read value by value, so that every fault in it is found in one run and at its place.
//!
//! A [`Section`] remembers which keys it was asked for. When it goes out of scope, every key of the file that nobody
//! asked for is a fault: an unknown key can neither be overlooked nor pass.

use std::cell::RefCell;
use std::fmt::Display;
use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ProfileFault;

/// Why a value was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mismatch {
    /// Another type of TOML value.
    Type,
    /// The right type, but what it says cannot be; the reason.
    Value(String),
}

/// Can be written as one TOML value.
pub(super) trait FromToml: Sized {
    /// What to write, as the end of "expected …".
    fn expected() -> String;

    fn from_toml(value: &DeValue<'_>) -> Result<Self, Mismatch>;
}

impl FromToml for bool {
    fn expected() -> String {
        "true or false".to_owned()
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, Mismatch> {
        value.as_bool().ok_or(Mismatch::Type)
    }
}

impl FromToml for String {
    fn expected() -> String {
        "text in quotes".to_owned()
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, Mismatch> {
        value.as_str().map(str::to_owned).ok_or(Mismatch::Type)
    }
}

macro_rules! integers {
    ($($integer:ident),*) => {$(
        impl FromToml for $integer {
            fn expected() -> String {
                format!("an integer from {} to {}", Self::MIN, Self::MAX)
            }

            fn from_toml(value: &DeValue<'_>) -> Result<Self, Mismatch> {
                let DeValue::Integer(integer) = value else { return Err(Mismatch::Type) };
                Self::from_str_radix(integer.as_str(), integer.radix())
                    .map_err(|_| Mismatch::Value(format!("{integer} is out of range")))
            }
        }
    )*};
}

integers!(u8, u16, u32, u64, i64);

/// Parses `text` and lets `build` take its values. `build` reports what it refuses through the section; what it returns
/// counts only if nothing was reported.
pub(super) fn read<T>(
    text: &str,
    build: impl FnOnce(&Section<'_>) -> Option<T>,
) -> Result<T, Vec<ProfileFault>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let faults = RefCell::new(errors.iter().map(syntax_fault).collect::<Vec<_>>());
    // Half a table after a syntax error would only yield faults that are none.
    let built = if faults.borrow().is_empty() {
        build(&Section::new(String::new(), table.get_ref(), 0..0, &faults))
    } else {
        None
    };
    match (built, faults.into_inner()) {
        (Some(built), faults) if faults.is_empty() => Ok(built),
        (_, faults) => Err(faults),
    }
}

fn syntax_fault(error: &toml::de::Error) -> ProfileFault {
    let title = error.message().lines().next().unwrap_or("not TOML").trim_end().to_owned();
    ProfileFault { span: error.span(), title, label: String::new(), help: None }
}

/// One table of a document while it is being read.
#[derive(Debug)]
pub(super) struct Section<'a> {
    /// Dotted path from the top of the file; empty there.
    path: String,
    table: &'a DeTable<'a>,
    span: Range<usize>,
    asked: RefCell<Vec<&'static str>>,
    /// Keys that must be there and are not, with what belongs there.
    missing: RefCell<Vec<(&'static str, String)>>,
    faults: &'a RefCell<Vec<ProfileFault>>,
}

impl<'a> Section<'a> {
    fn new(
        path: String,
        table: &'a DeTable<'a>,
        span: Range<usize>,
        faults: &'a RefCell<Vec<ProfileFault>>,
    ) -> Self {
        Self { path, table, span, asked: RefCell::default(), missing: RefCell::default(), faults }
    }

    fn ask(&self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.asked.borrow_mut().push(key);
        self.table.get(key)
    }

    fn ask_required(&self, key: &'static str, expected: String) -> Option<&'a Spanned<DeValue<'a>>> {
        let value = self.ask(key);
        if value.is_none() {
            self.missing.borrow_mut().push((key, expected));
        }
        value
    }

    /// The value of `key`; its absence is a fault.
    pub(super) fn required<T: FromToml>(&self, key: &'static str) -> Option<T> {
        self.ask_required(key, T::expected()).and_then(|value| self.convert(key, value))
    }

    /// The value of `key`, if it is there.
    pub(super) fn optional<T: FromToml>(&self, key: &'static str) -> Option<T> {
        self.ask(key).and_then(|value| self.convert(key, value))
    }

    /// The value of `key`, or `default` where it is absent.
    pub(super) fn or<T: FromToml>(&self, key: &'static str, default: T) -> T {
        self.optional(key).unwrap_or(default)
    }

    /// The integer `key`, which must lie in `range`, or `default` where it is absent.
    pub(super) fn within<T>(&self, key: &'static str, default: T, range: RangeInclusive<T>) -> T
    where
        T: FromToml + PartialOrd + Display,
    {
        self.optional_within(key, range).unwrap_or(default)
    }

    /// The integer `key`, which must lie in `range`, if it is there.
    pub(super) fn optional_within<T>(&self, key: &'static str, range: RangeInclusive<T>) -> Option<T>
    where
        T: FromToml + PartialOrd + Display,
    {
        self.ask(key).and_then(|value| self.integer(key, value, &range))
    }

    /// The integer `key`, which must be there and lie in `range`.
    pub(super) fn required_within<T>(&self, key: &'static str, range: RangeInclusive<T>) -> Option<T>
    where
        T: FromToml + PartialOrd + Display,
    {
        self.ask_required(key, expected_within(&range)).and_then(|value| self.integer(key, value, &range))
    }

    fn integer<T>(&self, key: &str, value: &Spanned<DeValue<'_>>, range: &RangeInclusive<T>) -> Option<T>
    where
        T: FromToml + PartialOrd + Display,
    {
        let why = match T::from_toml(value.get_ref()) {
            Ok(number) if range.contains(&number) => return Some(number),
            Ok(number) => Mismatch::Value(format!("{number} is out of range")),
            Err(why) => why,
        };
        self.mismatch(key, value, &expected_within(range), why);
        None
    }

    /// The elements of the array `key`, if it is there.
    pub(super) fn list<T: FromToml>(&self, key: &'static str) -> Option<Vec<T>> {
        let value = self.ask(key)?;
        let DeValue::Array(elements) = value.get_ref() else {
            self.mismatch(key, value, &format!("an array, each element {}", T::expected()), Mismatch::Type);
            return None;
        };
        Some(elements.iter().filter_map(|element| self.convert(key, element)).collect())
    }

    /// The table `key`, if it is there.
    pub(super) fn section(&self, key: &'static str) -> Option<Section<'a>> {
        let value = self.ask(key)?;
        self.table_of(key, self.dotted(key), value)
    }

    /// The table `key`; its absence is a fault.
    pub(super) fn required_section(&self, key: &'static str) -> Option<Section<'a>> {
        let value = self.ask_required(key, "a table".to_owned())?;
        self.table_of(key, self.dotted(key), value)
    }

    /// The table `key`, or each table of the array `key`; its absence is a fault.
    pub(super) fn required_sections(&self, key: &'static str) -> Vec<Section<'a>> {
        let Some(value) = self.ask_required(key, "a table, or an array of tables".to_owned()) else {
            return Vec::new();
        };
        let DeValue::Array(elements) = value.get_ref() else {
            return self.table_of(key, self.dotted(key), value).into_iter().collect();
        };
        if elements.is_empty() {
            self.mismatch(key, value, "at least one table", Mismatch::Value("it is empty".to_owned()));
        }
        let path = |position| format!("{}[{position}]", self.dotted(key));
        let numbered = elements.iter().enumerate();
        numbered.filter_map(|(position, element)| self.table_of(key, path(position), element)).collect()
    }

    fn table_of(&self, key: &str, path: String, value: &'a Spanned<DeValue<'a>>) -> Option<Section<'a>> {
        let DeValue::Table(table) = value.get_ref() else {
            self.mismatch(key, value, "a table", Mismatch::Type);
            return None;
        };
        Some(Section::new(path, table, value.span(), self.faults))
    }

    /// True if the file has `key` here.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Dotted path from the top of the file.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Reports that the value of `key` cannot stay as it is; at the section itself where it has no such key.
    pub(super) fn fault(&self, key: &str, problem: &str, label: &str, help: Option<&str>) {
        let span = self.table.get(key).map_or_else(|| self.span.clone(), Spanned::span);
        let title = format!("`{}` {problem}", self.dotted(key));
        self.push(ProfileFault {
            span: Some(span),
            title,
            label: label.to_owned(),
            help: help.map(str::to_owned),
        });
    }

    /// What `read` makes, unless it reported something: values next to a fault would only lead to further ones.
    pub(super) fn flawless<T>(&self, read: impl FnOnce() -> Option<T>) -> Option<T> {
        let before = self.faults.borrow().len();
        let value = read();
        if self.faults.borrow().len() == before { value } else { None }
    }

    fn convert<T: FromToml>(&self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<T> {
        T::from_toml(value.get_ref()).map_err(|why| self.mismatch(key, value, &T::expected(), why)).ok()
    }

    fn mismatch(&self, key: &str, value: &Spanned<DeValue<'_>>, expected: &str, why: Mismatch) {
        let key = self.dotted(key);
        let title = match why {
            Mismatch::Type => format!("`{key}` has the wrong type: {}", type_name(value.get_ref())),
            Mismatch::Value(why) => format!("`{key}` cannot be used: {why}"),
        };
        let label = format!("expected {expected}");
        self.push(ProfileFault { span: Some(value.span()), title, label, help: None });
    }

    fn dotted(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn push(&self, fault: ProfileFault) {
        self.faults.borrow_mut().push(fault);
    }

    /// Reports every key that was not asked for, and returns the keys they were probably meant to be.
    fn report_unknown(&self) -> Vec<&'static str> {
        let asked = self.asked.take();
        let place = if self.path.is_empty() { String::new() } else { format!(" in `{}`", self.path) };
        let mut meant = Vec::new();
        for key in self.table.keys().filter(|key| !asked.contains(&key.get_ref().as_ref())) {
            let free = asked.iter().filter(|known| !self.has(known)).copied();
            let known = nearest(key.get_ref(), free);
            meant.extend(known);
            self.push(ProfileFault {
                span: Some(key.span()),
                title: format!("unknown key `{}`{place}", key.get_ref()),
                label: known.map_or("not known here".to_owned(), |known| format!("did you mean `{known}`?")),
                help: Some(format!("known here: {}", asked.join(", "))),
            });
        }
        meant
    }
}

impl Drop for Section<'_> {
    fn drop(&mut self) {
        let meant = self.report_unknown();
        for (key, expected) in self.missing.take() {
            // Reported once: a misspelt key is not missing as well.
            if !meant.contains(&key) {
                self.push(ProfileFault {
                    span: Some(self.span.clone()),
                    title: format!("`{}` is missing", self.dotted(key)),
                    label: format!("add `{key}`: {expected}"),
                    help: None,
                });
            }
        }
    }
}

fn expected_within<T: Display>(range: &RangeInclusive<T>) -> String {
    format!("an integer from {} to {}", range.start(), range.end())
}

/// The name of a value's type as people say it.
const fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a number with a decimal point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// The candidate that `word` was probably meant to be: at most a third of its letters differ.
pub(crate) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (word.chars().count() / 3).max(1);
    let measured = candidates.map(|candidate| (edit_distance(word, candidate), candidate));
    measured.filter(|(distance, _)| *distance <= allowed).min().map(|(_, candidate)| candidate)
}

/// Insertions, deletions, replacements and swaps of neighbours between two words (optimal string alignment).
fn edit_distance(left: &str, right: &str) -> usize {
    let letters = |word: &str| word.chars().take(64).collect::<Vec<char>>();
    let (left, right) = (letters(left), letters(right));
    let mut rows = vec![(0..=right.len()).collect::<Vec<usize>>()];
    for (i, a) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in right.iter().enumerate() {
            let replaced = rows[i][j] + usize::from(a != b);
            let mut best = replaced.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == right[j - 1] && left[i - 1] == *b {
                best = best.min(rows[i - 1][j - 1] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[left.len()][right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_recognised_and_another_word_is_not() {
        let known = ["address", "count", "quantum_wh", "eastron-sdm630"];
        for (typed, meant) in
            [("adress", "address"), ("cuont", "count"), ("eastron-sdm360", "eastron-sdm630")]
        {
            assert_eq!(nearest(typed, known.into_iter()), Some(meant));
        }
        assert_eq!(nearest("voltage", known.into_iter()), None);
    }
}
