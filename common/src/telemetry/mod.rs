//! Logs and metrics of a process.

mod health;
mod lines;
mod logging;
mod process;

pub use health::{Readiness, install_metrics, serve_health, serve_health_on};
pub use lines::REQUESTS;
pub use logging::start_logging;
