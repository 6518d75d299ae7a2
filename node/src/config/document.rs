//! A TOML file read value by value, so that every fault in it is found in one run and shown at its place.
//!
//! A [`Section`] remembers which keys it was asked for. When it goes out of scope, every key of the file that nobody
//! asked for is a fault: an unknown key can neither be overlooked nor pass.

use std::cell::RefCell;
use std::fmt::Display;
use std::io::Read;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::report::{Fault, Report};
use super::value::{FromToml, Mismatch, type_name};

/// A file's text and where it came from.
#[derive(Debug, Clone)]
pub struct Document {
    path: PathBuf,
    text: String,
}

impl Document {
    /// Reads the file at `path`, at most `bytes_max` of it.
    ///
    /// # Errors
    /// [`Report`] if it cannot be read, is longer, or is not UTF-8.
    pub fn open(path: &Path, bytes_max: u64) -> Result<Self, Report> {
        let refuse = |title: String| Report::of_file(path, title, None);
        let file = std::fs::File::open(path).map_err(|error| {
            let absent = error.kind() == std::io::ErrorKind::NotFound;
            let help = absent.then(|| {
                "`commonwatt init` makes the files of a new home, with --join it takes the genesis".to_owned()
            });
            Report::of_file(path, format!("cannot open the file: {error}"), help)
        })?;
        let mut bytes = Vec::new();
        let read = file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes);
        read.map_err(|error| refuse(format!("cannot read the file: {error}")))?;
        if bytes.len() as u64 > bytes_max {
            return Err(refuse(format!("the file is longer than the limit of {bytes_max} bytes")));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            refuse(format!("the file is not UTF-8 text: byte {} is wrong", error.utf8_error().valid_up_to()))
        })?;
        Ok(Self { path: path.to_owned(), text })
    }

    /// A document that is not read from a disk; `path` is what reports call it.
    #[must_use]
    pub fn of_text(path: &Path, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    /// Where it came from.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Parses it and lets `build` take its values. `build` reports what it refuses through the section; what it
    /// returns counts only if nothing was reported.
    ///
    /// # Errors
    /// [`Report`] with every fault.
    pub fn read<T>(&self, build: impl FnOnce(&Section<'_>) -> Option<T>) -> Result<T, Report> {
        let (table, errors) = DeTable::parse_recoverable(&self.text);
        let faults = RefCell::new(errors.iter().map(syntax_fault).collect::<Vec<_>>());
        // Half a table after a syntax error would only yield faults that are none.
        let built = if faults.borrow().is_empty() {
            build(&Section::new(String::new(), table.get_ref(), 0..0, &faults))
        } else {
            None
        };
        let faults = faults.into_inner();
        match built {
            Some(built) if faults.is_empty() => Ok(built),
            _ => Err(Report::new(&self.path, &self.text, faults)),
        }
    }
}

fn syntax_fault(error: &toml::de::Error) -> Fault {
    let message = error.message().lines().next().unwrap_or("not TOML").trim_end().to_owned();
    Fault { span: error.span(), title: message, label: String::new(), help: None }
}

/// One table of a document while it is being read.
#[derive(Debug)]
pub struct Section<'a> {
    /// Dotted path from the top of the file; empty there.
    path: String,
    table: &'a DeTable<'a>,
    span: Range<usize>,
    asked: RefCell<Vec<&'static str>>,
    /// Keys that must be there and are not, with what belongs there.
    missing: RefCell<Vec<(&'static str, String)>>,
    faults: &'a RefCell<Vec<Fault>>,
}

impl<'a> Section<'a> {
    fn new(
        path: String,
        table: &'a DeTable<'a>,
        span: Range<usize>,
        faults: &'a RefCell<Vec<Fault>>,
    ) -> Self {
        Self { path, table, span, asked: RefCell::default(), missing: RefCell::default(), faults }
    }

    fn ask(&self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.asked.borrow_mut().push(key);
        self.table.get(key)
    }

    /// The value of `key`; its absence is a fault.
    pub fn required<T: FromToml>(&self, key: &'static str) -> Option<T> {
        match self.ask(key) {
            Some(value) => self.convert(key, value),
            None => {
                self.missing.borrow_mut().push((key, T::expected()));
                None
            }
        }
    }

    /// The value of `key`, if it is there.
    pub fn optional<T: FromToml>(&self, key: &'static str) -> Option<T> {
        self.ask(key).and_then(|value| self.convert(key, value))
    }

    /// The value of `key`, or `default` where it is absent.
    pub fn or<T: FromToml>(&self, key: &'static str, default: T) -> T {
        self.optional(key).unwrap_or(default)
    }

    /// The integer `key`, which must lie in `range`, or `default` where it is absent.
    pub fn within<T>(&self, key: &'static str, default: T, range: RangeInclusive<T>) -> T
    where
        T: FromToml + PartialOrd + Display,
    {
        let Some(value) = self.ask(key) else { return default };
        let expected = format!("an integer from {} to {}", range.start(), range.end());
        match T::from_toml(value.get_ref()) {
            Ok(number) if range.contains(&number) => return number,
            Ok(number) => {
                self.mismatch(key, value, &expected, Mismatch::Value(format!("{number} is out of range")));
            }
            Err(why) => self.mismatch(key, value, &expected, why),
        }
        default
    }

    /// The integer `key`, which must lie in `range`, if it is there.
    pub fn ask_within<T>(&self, key: &'static str, range: RangeInclusive<T>) -> Option<T>
    where
        T: FromToml + PartialOrd + Display + Copy,
    {
        // The default only stands in beside a fault, and then nothing of the document counts.
        if !self.has(key) {
            self.asked.borrow_mut().push(key);
            return None;
        }
        Some(self.within(key, *range.start(), range))
    }

    /// True if there is such a key.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// The elements of the array `key`; none where it is absent.
    pub fn list<T: FromToml>(&self, key: &'static str) -> Option<Vec<T>> {
        let value = self.ask(key)?;
        let DeValue::Array(elements) = value.get_ref() else {
            self.mismatch(key, value, &format!("an array, each element {}", T::expected()), Mismatch::Type);
            return None;
        };
        Some(elements.iter().filter_map(|element| self.convert(key, element)).collect())
    }

    /// The table `key`, if it is there.
    pub fn section(&self, key: &'static str) -> Option<Section<'a>> {
        let value = self.ask(key)?;
        let DeValue::Table(table) = value.get_ref() else {
            self.mismatch(key, value, &format!("a table, written [{}]", self.dotted(key)), Mismatch::Type);
            return None;
        };
        Some(Section::new(self.dotted(key), table, value.span(), self.faults))
    }

    /// The table `key`; its absence is a fault.
    pub fn required_section(&self, key: &'static str) -> Option<Section<'a>> {
        if !self.table.contains_key(key) {
            self.ask(key);
            let expected = format!("a table, written [{}]", self.dotted(key));
            self.missing.borrow_mut().push((key, expected));
            return None;
        }
        self.section(key)
    }

    /// The tables of the array `key`, written `[[key]]`.
    pub fn sections(&self, key: &'static str) -> Vec<Section<'a>> {
        let Some(value) = self.ask(key) else { return Vec::new() };
        let expected = format!("tables, each written [[{}]]", self.dotted(key));
        let DeValue::Array(elements) = value.get_ref() else {
            self.mismatch(key, value, &expected, Mismatch::Type);
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (position, element) in elements.iter().enumerate() {
            match element.get_ref() {
                DeValue::Table(table) => {
                    let path = format!("{}[{position}]", self.dotted(key));
                    sections.push(Section::new(path, table, element.span(), self.faults));
                }
                _ => self.mismatch(key, element, &expected, Mismatch::Type),
            }
        }
        sections
    }

    /// Reports that the value of `key` cannot stay as it is; at the section itself where it has no such key.
    pub fn fault(&self, key: &str, title: String, label: &str, help: Option<String>) {
        let span = self.table.get(key).map_or_else(|| self.span.clone(), Spanned::span);
        self.push(Fault { span: Some(span), title, label: label.to_owned(), help });
    }

    /// Reports that this section as a whole cannot stay as it is.
    pub fn fault_here(&self, title: String, label: &str, help: Option<String>) {
        self.push(Fault { span: Some(self.span.clone()), title, label: label.to_owned(), help });
    }

    /// True once anything was reported anywhere in the document.
    #[must_use]
    pub fn has_faults(&self) -> bool {
        !self.faults.borrow().is_empty()
    }

    /// The bytes of the document that hold the value of `key`.
    #[must_use]
    pub fn span_of(&self, key: &str) -> Option<Range<usize>> {
        self.table.get(key).map(Spanned::span)
    }

    /// The bytes of the document that introduce this section.
    #[must_use]
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    fn convert<T: FromToml>(&self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<T> {
        T::from_toml(value.get_ref()).map_err(|why| self.mismatch(key, value, &T::expected(), why)).ok()
    }

    fn mismatch(&self, key: &str, value: &Spanned<DeValue<'_>>, expected: &str, why: Mismatch) {
        let (key, label) = (self.dotted(key), format!("expected {expected}"));
        let (title, label) = match why {
            Mismatch::Type => (format!("`{key}` has the wrong type: {}", type_name(value.get_ref())), label),
            Mismatch::Value(why) => (format!("`{key}` cannot be used: {why}"), label),
        };
        self.push(Fault { span: Some(value.span()), title, label, help: None });
    }

    fn dotted(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn push(&self, fault: Fault) {
        self.faults.borrow_mut().push(fault);
    }
}

impl Drop for Section<'_> {
    fn drop(&mut self) {
        let meant = self.report_unknown();
        for (key, expected) in self.missing.take() {
            // Reported once: a misspelt key is not missing as well.
            if !meant.contains(&key) {
                let title = format!("`{}` is missing", self.dotted(key));
                self.fault_here(title, &format!("add `{key}`: {expected}"), None);
            }
        }
    }
}

impl Section<'_> {
    /// Reports every key that was not asked for, and returns the keys they were probably meant to be.
    fn report_unknown(&self) -> Vec<&'static str> {
        let asked = self.asked.take();
        let place = if self.path.is_empty() { String::new() } else { format!(" in `{}`", self.path) };
        let mut meant = Vec::new();
        for key in self.table.keys().filter(|key| !asked.contains(&key.get_ref().as_ref())) {
            let free = asked.iter().filter(|known| !self.table.contains_key(**known)).copied();
            let known = nearest(key.get_ref(), free);
            let label = known.map_or("not known here".to_owned(), |known| format!("did you mean `{known}`?"));
            meant.extend(known);
            self.push(Fault {
                span: Some(key.span()),
                title: format!("unknown key `{}`{place}", key.get_ref()),
                label,
                help: Some(format!("known here: {}", asked.join(", "))),
            });
        }
        meant
    }
}

/// The candidate that `word` was probably meant to be: at most a third of its letters differ.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (word.chars().count() / 3).max(1);
    let measured = candidates.map(|candidate| (edit_distance(word, candidate), candidate));
    measured.filter(|(distance, _)| *distance <= allowed).min().map(|(_, candidate)| candidate)
}

/// Insertions, deletions, replacements and swaps of neighbours between two words (optimal string alignment).
fn edit_distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) =
        (left.chars().take(64).collect(), right.chars().take(64).collect());
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
        let known = ["address", "unit", "profile", "timeout_ms"];
        for (typed, meant) in [("adress", "address"), ("uint", "unit"), ("profiel", "profile")] {
            assert_eq!(nearest(typed, known.into_iter()), Some(meant));
        }
        assert_eq!(nearest("password", known.into_iter()), None);
    }

    #[test]
    fn a_file_over_its_limit_is_refused_unread() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("long.toml");
        std::fs::write(&path, "a = 1\n".repeat(100)).unwrap();
        let report = Document::open(&path, 50).unwrap_err();
        assert_eq!(report.faults()[0].title, "the file is longer than the limit of 50 bytes");
    }
}
