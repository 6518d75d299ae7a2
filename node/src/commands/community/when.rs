//! Times as people and other programs write them: RFC 3339 with its offset, or as clocks show them.

use chrono::{NaiveDateTime, NaiveTime};
use clap::Args;
use energy::{Interval, Mtu, Timestamp};

use crate::commands::CommandError;
use crate::commands::hand_in::{NodeArgs, usage};
use crate::config::Config;
use crate::zone::{Zone, date};

/// Ways to write a local time, seconds or not, as computers and as people in German speaking countries do.
const LOCAL: [&str; 6] = [
    "%Y-%m-%dT%H:%M:%S",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%d %H:%M",
    "%d.%m.%Y %H:%M:%S",
    "%d.%m.%Y %H:%M",
];

/// Where clocks are.
#[derive(Debug, Clone, Copy, Args)]
pub struct ZoneArgs {
    /// Where clocks are, for times without an offset: a name such as Europe/Vienna, or an offset such as +08:00. Otherwise
    /// what --config says, then UTC.
    #[arg(long, value_name = "ZONE", value_parser = Zone::parse, allow_hyphen_values = true)]
    pub zone: Option<Zone>,
}

impl ZoneArgs {
    /// That of the arguments, else of the node's configuration, else UTC.
    pub(super) fn or_of(&self, node: &NodeArgs) -> Result<Zone, CommandError> {
        match (&self.zone, &node.config) {
            (Some(zone), _) => Ok(*zone),
            (None, Some(config)) => Ok(Config::load(config)?.zone),
            (None, None) => Ok(Zone::UTC),
        }
    }
}

/// When something was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// At one instant.
    Once(Timestamp),
    /// Clocks showed it twice, when they were set back.
    Twice(Timestamp, Timestamp),
}

/// The instant or the two instants that `text` names where clocks are in `zone`. A date alone is its first instant.
///
/// # Errors
/// A sentence.
pub(super) fn moment(text: &str, zone: &Zone) -> Result<Moment, String> {
    let text = text.trim();
    if let Ok(time) = Timestamp::parse(text) {
        return Ok(Moment::Once(time));
    }
    if let Ok(day) = date(text) {
        return Ok(Moment::Once(zone.midnight(day)));
    }
    let local = LOCAL.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok());
    let Some(local) = local else {
        return Err(format!(
            "{text:?} is no time; write 2026-07-14T12:15:00+02:00, or 2026-07-14 12:15 with --zone"
        ));
    };
    match zone.instants(local) {
        Some((first, last)) if first == last => Ok(Moment::Once(first)),
        Some((first, last)) => Ok(Moment::Twice(first, last)),
        // A day that begins later than at midnight begins with its first instant.
        None if local.time() == NaiveTime::MIN => Ok(Moment::Once(zone.midnight(local.date()))),
        None => Err(format!("clocks in {zone} skip {local} on that day")),
    }
}

/// The interval that starts at `text`.
///
/// # Errors
/// A sentence.
pub(super) fn starting(text: &str, zone: &Zone, mtu: Mtu) -> Result<Interval, String> {
    match moment(text, zone)? {
        Moment::Once(time) => Interval::starting_at(time, mtu).map_err(|error| error.to_string()),
        Moment::Twice(first, last) => Err(format!(
            "clocks in {zone} show {text} twice on that day; write the offset: {} or {}",
            zone.rfc3339(first),
            zone.rfc3339(last)
        )),
    }
}

/// The same for an argument of the command line.
pub(super) fn starting_arg(name: &str, text: &str, zone: &Zone, mtu: Mtu) -> Result<Interval, CommandError> {
    starting(text, zone, mtu).map_err(|what| usage(format!("{name}: {what}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vienna() -> Zone {
        Zone::parse("Europe/Vienna").unwrap()
    }

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    #[test]
    fn a_time_is_read_as_computers_and_as_people_write_it() {
        let expected = Moment::Once(at("2026-07-14T10:15:00Z"));
        for text in [
            "2026-07-14T10:15:00Z",
            "2026-07-14T12:15:00+02:00",
            "2026-07-14T12:15",
            "2026-07-14 12:15:00",
            "14.07.2026 12:15",
            " 14.07.2026 12:15:00 ",
        ] {
            assert_eq!(moment(text, &vienna()), Ok(expected), "{text}");
        }
        assert_eq!(moment("2026-07-14", &vienna()), Ok(Moment::Once(at("2026-07-13T22:00:00Z"))));
        for text in ["", "noon", "07/14/2026 12:15", "2026-07-14T25:00", "2026-02-30 00:00"] {
            assert!(moment(text, &vienna()).unwrap_err().contains("is no time"), "{text}");
        }
    }

    #[test]
    fn an_hour_that_comes_twice_or_never_is_said_to() {
        let twice = moment("2026-10-25 02:30", &vienna());
        assert_eq!(twice, Ok(Moment::Twice(at("2026-10-25T00:30:00Z"), at("2026-10-25T01:30:00Z"))));
        let asked = starting("2026-10-25 02:30", &vienna(), Mtu::Min15).unwrap_err();
        assert!(asked.contains("write the offset: 2026-10-25T02:30:00+02:00 or"), "{asked}");
        let skipped = moment("2026-03-29 02:30", &vienna()).unwrap_err();
        assert!(skipped.contains("skip 2026-03-29 02:30:00"), "{skipped}");
        assert!(starting("2026-07-14 12:10", &vienna(), Mtu::Min15).is_err(), "no interval starts then");
    }
}
