//! A neighbourhood in one process: recorded households with their devices, their agents and the real ledger, as fast as the
//! machine allows.
//!
//! A run is a pure function of a [`dataset::Recording`] and [`Options`]: the same bytes whenever, wherever and on however
//! many threads it runs.
//!
//! What is deliberately absent: sockets, a clock, randomness that a seed does not give.

mod brain;
mod chain;
pub mod cluster;
pub mod dataset;
mod desk;
mod error;
pub mod home;
mod mind;
#[cfg(feature = "optimum")]
mod optimum;
mod options;
mod report;
mod run;
pub mod session;
mod study;
mod tariff;
mod without;

pub use error::SimError;
pub use options::{Forward, Goals, Options, UnknownWord, WEEK};
pub use report::{Checks, Foresight, HomeReport, Made, OptimumWeek, Passive, Report, Way};
pub use tariff::TariffKind;

/// Lives through a recording.
///
/// # Errors
/// [`SimError`].
pub fn simulate(recording: &dataset::Recording, options: &Options) -> Result<Report, SimError> {
    study::study(recording, options, &minds(options), &|_, _, _, _, _| Ok(Vec::new()))
}

/// Lives through a recording and says how far that is from the optimum of each week.
///
/// # Errors
/// [`SimError`].
#[cfg(feature = "optimum")]
pub fn simulate_against_optimum(
    recording: &dataset::Recording,
    options: &Options,
) -> Result<Report, SimError> {
    study::study(recording, options, &minds(options), &optimum::weeks)
}

/// The agents of homes with devices, where there are to be any.
fn minds(options: &Options) -> impl Fn(brain::Place) -> Option<Box<dyn brain::Brain>> {
    let agents = options.agents;
    move |place| agents.then(|| Box::new(mind::Mind::new(place)) as Box<dyn brain::Brain>)
}
