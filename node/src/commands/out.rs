//! Printing: data to stdout, everything else to stderr. A reader that closes its end (`| head`) is no error.

use std::io::{self, IsTerminal, Write};

/// Prints one line of data.
pub fn line(text: &str) {
    // Nothing useful can be done when stdout is closed.
    let _ = writeln!(io::stdout().lock(), "{text}");
}

/// Prints text as it is.
pub fn text(text: &str) {
    let _ = io::stdout().lock().write_all(text.as_bytes());
}

/// Prints one JSON value, indented.
pub fn json(value: &serde_json::Value) {
    line(&format!("{value:#}"));
}

/// Says something to the person at the terminal.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// True if what goes to stderr may be coloured.
#[must_use]
pub fn stderr_has_color() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
