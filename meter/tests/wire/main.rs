//! The meter layer on real sockets: against servers and clients that nobody here wrote, and against a scripted device
//! that does everything wrong.

mod faults;
mod late;
mod profiles;
mod scan;
mod serial;
mod serve;
mod support;
mod third_party;
