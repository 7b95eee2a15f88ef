//! The feed of changes: from apply to the gateways.
//!
//! [`Hub`] takes what apply commits and hands it to each open stream; `stream` is one `Feed` call: it joins the history
//! with the live changes at one revision, tenant by tenant, and sends progress marks in the same ordered channel.

mod hub;
mod newcomer;
mod stream;
mod subscription;

pub use hub::{Frame, Hub, Queue};
pub use stream::{FeedStream, feed};
