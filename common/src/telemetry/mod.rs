//! Logs and metrics of a process.

mod health;
mod lines;
mod logging;
mod process;
mod request_line;

pub use health::{Readiness, install_metrics, serve_health, serve_health_on};
pub use logging::start_logging;
pub use request_line::RequestLine;
