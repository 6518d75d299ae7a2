//! What is wrong with a file, each fault shown at its place.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// A report stops showing after this many faults: the first ones explain the rest.
const SHOWN_MAX: usize = 20;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Bytes of the file it is about; `None` for the file as a whole.
    pub span: Option<Range<usize>>,
    /// What is wrong, one line.
    pub title: String,
    /// What stands beside the marked bytes: what is expected there.
    pub label: String,
    /// What to do, where that is not obvious.
    pub help: Option<String>,
}

/// Everything that is wrong with one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    path: PathBuf,
    text: String,
    faults: Vec<Fault>,
}

impl Report {
    /// The faults of the file at `path`, which holds `text`.
    #[must_use]
    pub fn new(path: &Path, text: &str, mut faults: Vec<Fault>) -> Self {
        faults.sort_by_key(|fault| fault.span.as_ref().map_or((0, 0), |span| (span.start, span.end)));
        Self { path: path.to_owned(), text: text.to_owned(), faults }
    }

    /// A file that could not be taken in at all.
    #[must_use]
    pub fn of_file(path: &Path, title: String, help: Option<String>) -> Self {
        Self::new(path, "", vec![Fault { span: None, title, label: String::new(), help }])
    }

    /// The faults, in the order of the file.
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// The whole report: every fault with file, line, column and the marked text, then how many there are.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let path = self.path.display().to_string();
        let shown = self.faults.iter().take(SHOWN_MAX);
        let mut parts: Vec<String> =
            shown.map(|fault| renderer.render(&[self.group(fault, &path)])).collect();
        parts.push(match self.faults.len() {
            1 => format!("1 error in {path}"),
            count @ ..=SHOWN_MAX => format!("{count} errors in {path}"),
            count => format!("{count} errors in {path}; the first {SHOWN_MAX} are shown"),
        });
        parts.join("\n\n")
    }

    fn group<'a>(&'a self, fault: &'a Fault, path: &'a str) -> Group<'a> {
        let title = Level::ERROR.primary_title(fault.title.as_str());
        let group = match &fault.span {
            Some(span) => {
                let mark = AnnotationKind::Primary.span(span.clone()).label(fault.label.as_str());
                title.element(Snippet::source(self.text.as_str()).path(path).annotation(mark))
            }
            None => title.element(annotate_snippets::Origin::path(path)),
        };
        match &fault.help {
            Some(help) => group.element(Level::HELP.message(help.as_str())),
            None => group,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Report {}
