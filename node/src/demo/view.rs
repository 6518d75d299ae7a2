//! What the demo shows while it runs, and at the end. Text goes to stdout; with JSON output, stdout holds the summary alone
//! and progress goes to stderr.

use std::io::{IsTerminal, Write, stderr, stdout};
use std::path::Path;

use rusqlite::{Connection, OpenFlags, params};

use ledger::Forward;

use super::gains::{Agents, HomeGain};
use super::street::Street;
use super::summary::Summary;
use crate::cli::{DemoArgs, Output};
use sim::dataset::QUARTERS_PER_DAY;

/// Widest bar of matched energy.
const BAR: usize = 20;

/// The demo's screen.
pub struct View {
    output: Output,
    homes: u32,
    speed: u32,
    once: bool,
    reader: Option<Connection>,
    shown_ms: i64,
}

/// One settled interval, for a line.
struct Line {
    start_ms: i64,
    import: i64,
    export: i64,
    matched: i64,
    saved: i64,
    height: i64,
    /// Energy traded ahead, and at which price, µ/kWh.
    ahead: i64,
    price: Option<i64>,
}

impl View {
    /// Nothing shown yet.
    #[must_use]
    pub fn new(output: Output, args: &DemoArgs) -> Self {
        Self {
            output,
            homes: args.homes,
            speed: args.speed,
            once: args.once,
            reader: None,
            shown_ms: i64::MIN,
        }
    }

    /// Before anything stands.
    pub fn starting(&self) {
        self.say(&format!("Starting {} homes, each with its own keys, ledger, meter and page …", self.homes));
    }

    /// The street stands.
    pub fn introduce(&mut self, street: &Street) -> anyhow::Result<()> {
        let seats = street.genesis.delegates.len();
        let first = street.homes.first();
        let page = first.map(|home| format!("http://{}/?token={}", home.node.api, home.node.token));
        let seller = street.homes.iter().find(|home| home.home.has_pv());
        let sunny = seller.map(|home| {
            format!("http://{}/?token={}   ({}, with solar)", home.node.api, home.node.token, home.home.id)
        });
        self.say(&format!(
            "{} homes, {seats} of them delegates; market time runs {} times as fast, from {}.",
            street.homes.len(),
            self.speed,
            street.first
        ));
        if street.agents {
            let how = match street.genesis.forward {
                Forward::Off => "nothing is traded ahead",
                Forward::Posted => "they trade ahead at the middle of the supplier's prices",
                Forward::Auction => "they trade ahead in an auction",
            };
            let homes = street.flexible();
            self.say(&format!("{homes} homes have an agent for battery, car or heat pump; {how}."));
        }
        if let Some(congestion) = &street.congestion {
            self.say(&format!(
                "Feeder {} is congested: the operator limits the connections of {} homes with devices, all day.",
                congestion.feeder,
                congestion.caps.len()
            ));
        }
        self.say(&format!("  page     {}", sunny.or(page).unwrap_or_default()));
        self.say(&format!("  console  {} tui --neighbourhood {}", program(), street.neighbourhood.display()));
        if !self.once {
            self.say("  Ctrl-C ends the demo with a summary.");
        }
        self.say("");
        self.say("interval          import kWh  export kWh   from neighbours          saved    block   traded ahead");
        if let Some(home) = first {
            self.reader = Some(open(&home.node.db)?);
        }
        Ok(())
    }

    /// Shows the intervals settled since the last time.
    pub fn update(&mut self, _street: &Street) -> anyhow::Result<()> {
        let Some(reader) = &self.reader else { return Ok(()) };
        for line in settled_after(reader, self.shown_ms)? {
            self.shown_ms = line.start_ms;
            self.say(&line.text());
        }
        Ok(())
    }

    /// Ctrl-C.
    pub fn interrupted(&self) {
        self.say("\nStopping …");
    }

    /// The end.
    pub fn finish(&self, summary: &Summary) -> anyhow::Result<()> {
        match self.output {
            Output::Json => writeln!(stdout().lock(), "{}", serde_json::to_string(summary)?)?,
            Output::Text => stdout().lock().write_all(text_of(summary).as_bytes())?,
        }
        Ok(())
    }

    /// A line of progress. Nobody listening is no reason to stop the street.
    fn say(&self, line: &str) {
        let _ = match self.output {
            Output::Text => writeln!(stdout().lock(), "{line}"),
            Output::Json if stderr().is_terminal() => writeln!(stderr().lock(), "{line}"),
            Output::Json => Ok(()),
        };
    }
}

/// How this program is called from here: after `cargo run` it is not where the shell looks.
fn program() -> String {
    let path = std::env::current_exe().unwrap_or_else(|_| "commonwatt".into());
    let here = std::env::current_dir().ok();
    let short = here.and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned));
    short.map_or_else(|| path.display().to_string(), |short| format!("./{}", short.display()))
}

fn open(path: &Path) -> anyhow::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Ok(Connection::open_with_flags(path, flags)?)
}

fn settled_after(reader: &Connection, start_ms: i64) -> anyhow::Result<Vec<Line>> {
    let sql = "SELECT i.start_ms, coalesce(sum(s.import_wh), 0), coalesce(sum(s.export_wh), 0), coalesce(sum(s.import_wh), 0) - i.supplier_import_wh,
               coalesce(sum(s.amount_n - s.baseline_n), 0), i.height, coalesce(g.volume_wh, 0), g.price
               FROM interval i JOIN settlement s ON s.interval_ms = i.start_ms AND s.kind = 'settled'
               LEFT JOIN gate g ON g.interval_ms = i.start_ms
               WHERE i.start_ms > ?1 GROUP BY i.start_ms ORDER BY i.start_ms";
    let mut statement = reader.prepare_cached(sql)?;
    let rows = statement.query_map(params![start_ms], |row| {
        Ok(Line {
            start_ms: row.get(0)?,
            import: row.get(1)?,
            export: row.get(2)?,
            matched: row.get(3)?,
            saved: row.get(4)?,
            height: row.get(5)?,
            ahead: row.get(6)?,
            price: row.get(7)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

impl Line {
    fn text(&self) -> String {
        let start = energy::Timestamp::from_unix_ms(u64::try_from(self.start_ms).unwrap_or_default());
        let time = start.to_string();
        let clock = time.get(..16).unwrap_or(&time).replace('T', " ");
        let share = share(self.matched, self.import);
        let ahead = match self.price.filter(|_| self.ahead > 0) {
            Some(price) => format!("   {} kWh at {}", kwh(self.ahead), per_kwh(price)),
            None => String::new(),
        };
        let filled = usize::try_from(share).unwrap_or_default() * BAR / 100;
        format!(
            "{clock}  {:>10}  {:>10}   {:<BAR$} {share:>3} %  {:>7}  {:>6}{ahead}",
            kwh(self.import),
            kwh(self.export),
            "█".repeat(filled.min(BAR)),
            amount(self.saved),
            self.height,
        )
    }
}

/// `part` of `whole` in whole per cent, rounded down.
fn share(part: i64, whole: i64) -> i64 {
    part.saturating_mul(100).checked_div(whole).unwrap_or(0)
}

/// Wh as kWh with one decimal, rounded toward zero.
fn kwh(wh: i64) -> String {
    format!("{}.{}", wh / 1000, (wh % 1000).unsigned_abs() / 100)
}

/// µ/kWh as the currency with three decimals, rounded toward zero.
fn per_kwh(micro: i64) -> String {
    let sign = if micro < 0 { "-" } else { "" };
    let mills = micro.unsigned_abs() / 1_000;
    format!("{sign}{}.{:03}", mills / 1_000, mills % 1_000)
}

/// n as the currency with two decimals, rounded toward zero: for showing; the ledger keeps every n.
fn amount(nano: i64) -> String {
    let sign = if nano < 0 { "-" } else { "" };
    let cents = nano.unsigned_abs() / 10_000_000;
    format!("{sign}{}.{:02}", cents / 100, cents % 100)
}

fn text_of(summary: &Summary) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: String| out.push_str(&format!("  {name:<28}{value}\n"));
    line("homes", summary.homes.to_string());
    line("intervals settled", format!("{} of {}", summary.intervals_settled, summary.intervals));
    line(
        "metered",
        format!(
            "{} kWh imported, {} kWh exported",
            kwh(summary.metered_import_wh),
            kwh(summary.metered_export_wh)
        ),
    );
    line(
        "from neighbour to neighbour",
        format!(
            "{} kWh: {} % of what was exported, {} % of what was imported",
            kwh(summary.matched_wh),
            share(summary.matched_wh, summary.metered_export_wh),
            share(summary.matched_wh, summary.metered_import_wh)
        ),
    );
    line(
        "supplier",
        format!(
            "{} kWh taken, {} kWh given",
            kwh(summary.supplier_import_wh),
            kwh(summary.supplier_export_wh)
        ),
    );
    line("network losses", summary.losses_wh.map_or("unknown".to_owned(), |wh| format!("{} kWh", kwh(wh))));
    line("saved against supplier-only", format!("{} {}", amount(summary.saved_n.total), summary.currency));
    let figure = |ms: Option<u64>| ms.map_or("--".to_owned(), |ms| format!("{ms} ms"));
    line("blocks", format!("{} with {} entries", summary.blocks, summary.entries));
    line(
        "finality",
        format!("p50 {}, p99 {}", figure(summary.finality_ms.p50), figure(summary.finality_ms.p99)),
    );
    let mib = |bytes: Option<u64>| bytes.map_or("--".to_owned(), |bytes| format!("{} MiB", bytes >> 20));
    line("all nodes at the same state", yes(summary.roots_equal));
    line("money and energy add up", yes(summary.invariants_hold));
    line("peak memory, all nodes", mib(summary.peak_rss_bytes));
    line("written, all nodes", mib(summary.written_bytes));
    line("took", format!("{} s", summary.wall_s));
    let saved: Vec<_> = summary
        .saved_n
        .homes
        .iter()
        .map(|(home, nano)| format!("  {home:<10}{:>9} {}", amount(*nano), summary.currency))
        .collect();
    let day = if summary.intervals_settled == QUARTERS_PER_DAY { "The day" } else { "So far" };
    let agents = summary.agents.as_ref().map(|agents| agents_text(agents, &summary.currency));
    format!(
        "\n{day}\n{out}\nSaved by each home against its supplier alone\n{}\n{}",
        saved.join("\n"),
        agents.unwrap_or_default()
    )
}

/// Who saved what through its agent, and why.
fn agents_text(agents: &Agents, currency: &str) -> String {
    let mut out =
        format!("\nWhat agents brought, {currency} (negative: paid), with what devices hold at the end\n");
    let mut row = |name: &str, figures: [&str; 3], why: &str| {
        let [alone, neighbours, with] = figures;
        let line = format!("  {name:<10}{alone:>15}{neighbours:>17}{with:>13}  {why}");
        out.push_str(line.trim_end());
        out.push('\n');
    };
    row("home", ["supplier alone", "with neighbours", "with agent"], "");
    for gain in &agents.gains {
        let figures = [gain.alone_n, gain.neighbours_n, gain.agents_n].map(wide_amount);
        row(&gain.home, figures.each_ref().map(String::as_str), &why(gain));
    }
    let figures = [agents.alone_n, agents.neighbours_n, agents.agents_n].map(wide_amount);
    row("all homes", figures.each_ref().map(String::as_str), "");
    let Agents { orders, forward_wh, gates, gates_void, breaches, .. } = agents;
    out.push_str(&format!(
        "  {orders} orders, {} kWh traded ahead at {gates} gates{}; {}\n",
        kwh(*forward_wh),
        if *gates_void > 0 { format!(", {gates_void} of them too late") } else { String::new() },
        if *breaches == 0 {
            "no connection carried more than its limit".to_owned()
        } else {
            format!("connections carried more than their limit {breaches} times")
        },
    ));
    out
}

/// What an agent did, in words.
fn why(gain: &HomeGain) -> String {
    let kwh = |wh: u64| kwh(i64::try_from(wh).unwrap_or(i64::MAX));
    let mut words = vec![gain.devices.clone()];
    if gain.battery_wh > 0 {
        words.push(format!("battery gave {} kWh", kwh(gain.battery_wh)));
    }
    if gain.vehicle_wh > 0 {
        let local = kwh(gain.vehicle_local_wh);
        words.push(format!("car took {} kWh, {local} from neighbours", kwh(gain.vehicle_wh)));
    }
    if gain.shifted_wh > 0 {
        words.push(format!("{} kWh at a better time", kwh(gain.shifted_wh)));
    }
    if gain.curtailed_wh > 0 {
        words.push(format!("{} kWh of sun given up", kwh(gain.curtailed_wh)));
    }
    if gain.deadlines_missed > 0 {
        words.push(format!("{} departures not in time", gain.deadlines_missed));
    }
    words.join("; ")
}

/// As [`amount`], for sums of many days.
fn wide_amount(nano: i128) -> String {
    amount(i64::try_from(nano).unwrap_or(if nano < 0 { i64::MIN } else { i64::MAX }))
}

fn yes(good: bool) -> String {
    if good { "yes".to_owned() } else { "NO".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_for_people_are_cut_and_keep_their_sign() {
        assert_eq!(kwh(1_999), "1.9");
        assert_eq!(kwh(-250), "0.2");
        assert_eq!(amount(-1_239_999_999), "-1.23");
        assert_eq!(amount(9_999_999), "0.00");
        assert_eq!(share(1, 0), 0);
    }
}
