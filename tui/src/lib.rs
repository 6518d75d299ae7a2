//! The operator's console: a whole neighbourhood on one screen, from the APIs of its nodes.
//!
//! Grey by default; colour only for what is abnormal, and never without a letter. Every value has an age: what a node
//! said a while ago is dimmed, and a node that does not answer is shown as such, with how long. The console only
//! reads.
//!
//! What is deliberately absent: the insides of a node. Everything shown comes through [`api`].

mod figures;
mod market;
mod model;
mod neighbourhood;
mod poll;
mod screen;
mod terminal;

use std::fmt;
use std::io::Write;
use std::path::PathBuf;
use std::str::FromStr;

pub use neighbourhood::{Neighbour, write_neighbourhood};

/// What the console is pointed at.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:\n  \
    commonwatt-tui --connect http://127.0.0.1:8480 --token-file /var/lib/commonwatt/api.token\n  \
    commonwatt-tui --neighbourhood neighbourhood.json\n  \
    commonwatt-tui --neighbourhood neighbourhood.json --once --size 120x36")]
pub struct Args {
    /// Address of a node's API; give it once per node, each with its --token-file
    #[arg(long, value_name = "URL", requires = "token_file")]
    pub connect: Vec<String>,
    /// File with the API token of the node at the same place among --connect
    #[arg(long, value_name = "FILE", requires = "connect")]
    pub token_file: Vec<PathBuf>,
    /// Nodes from a file, as the demo writes it: a JSON list of {"home", "url", "token"}
    #[arg(long, value_name = "FILE")]
    pub neighbourhood: Option<PathBuf>,
    /// Begin with the forward market in the lower half; the key m does the same
    #[arg(long)]
    pub market: bool,
    /// Print one frame and exit
    #[arg(long)]
    pub once: bool,
    /// Size of that frame in columns and rows
    #[arg(long, value_name = "COLUMNSxROWS", default_value = "120x36", requires = "once")]
    pub size: Size,
}

/// Size of a screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Columns.
    pub columns: u16,
    /// Rows.
    pub rows: u16,
}

impl Size {
    /// The largest accepted: far beyond any terminal, and small enough to draw at once.
    pub const MAX: u16 = 1_000;
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let sizes = text
            .split_once('x')
            .and_then(|(columns, rows)| Some((columns.parse().ok()?, rows.parse().ok()?)));
        match sizes {
            Some((columns, rows))
                if (1..=Self::MAX).contains(&columns) && (1..=Self::MAX).contains(&rows) =>
            {
                Ok(Self { columns, rows })
            }
            _ => Err(format!("{text:?} is not a size such as 120x36, each at most {}", Self::MAX)),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.columns, self.rows)
    }
}

/// The console could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum TuiError {
    /// No node was named, or not as it should be.
    #[error("{0}")]
    Usage(String),
    /// A file cannot be used.
    #[error("{path}: {reason}")]
    File {
        /// Which.
        path: String,
        /// Why, and what to do.
        reason: String,
    },
    /// Not one node answered.
    #[error("no node answered; the first one: {first}")]
    Unreachable {
        /// What happened with the first.
        first: String,
    },
}

impl TuiError {
    /// The exit code of a program that ends with it: 2 usage, 5 unreachable, 78 configuration.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Unreachable { .. } => 5,
            Self::File { .. } => 78,
        }
    }
}

/// Shows the console until the user quits, or prints one frame.
///
/// # Errors
/// [`TuiError`] for what the user can mend; an I/O error if the terminal fails.
pub async fn run(args: Args) -> anyhow::Result<()> {
    if args.once {
        let frame = frame(&args).await?;
        let mut out = std::io::stdout().lock();
        out.write_all(frame.as_bytes())?;
        return Ok(out.flush()?);
    }
    let targets = neighbourhood::targets(&args)?;
    // https://no-color.org: set and not empty means no colour.
    let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    terminal::interactive(targets, args.market, colour).await
}

/// The frame that `--once` prints, as text.
///
/// # Errors
/// [`TuiError`].
pub async fn frame(args: &Args) -> anyhow::Result<String> {
    terminal::once(neighbourhood::targets(args)?, args.market, args.size).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_columns_by_rows() {
        assert_eq!("80x24".parse(), Ok(Size { columns: 80, rows: 24 }));
        for bad in ["", "80", "0x24", "80x", "80x24x3", "1001x1", "-1x5"] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
    }
}
