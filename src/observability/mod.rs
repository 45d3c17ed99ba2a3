//! What an administrator sees of a running server: metrics, counters, findings, and what the process and its certificates
//! say of themselves.

pub mod busiest;
pub mod certificate;
pub mod clock_watch;
pub mod counters;
pub mod forwarding;
pub mod local_person;
pub mod log_limiter;
pub mod metrics;
pub mod noticed;
pub mod process;
pub mod refused_users;
