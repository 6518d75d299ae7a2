//! Real nodes in network namespaces, and everything that can go wrong around them.
//!
//! A community is founded with the commands that people use; each node runs in a namespace of its own with the delay and
//! loss of a home's line. Then the network parts, processes are killed or stopped, clocks jump, disks fill or slow down,
//! while people trade. What was acknowledged must be in every final chain exactly once, the books must balance, and the
//! chain must go on soon after what went wrong is right again.

pub mod lan;
pub mod load;
pub mod look;
pub mod meters;
pub mod nat;
pub mod random;
pub mod report;
pub mod scenario;
pub mod shell;
pub mod shim;
pub mod street;
pub mod wire;
