//! The planner: its rules, its physics, and how far it is from the optimum.

mod homes;
mod odd_prices;
mod optimum;
mod physics;
mod properties;
mod rules;
