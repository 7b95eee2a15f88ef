//! The sockets of every connection between members: tokio's. In the simulation of `chaos/sim`, and only there, turmoil's.

#[cfg(feature = "simulation")]
pub use turmoil::net::{TcpListener, TcpStream};

#[cfg(not(feature = "simulation"))]
pub use tokio::net::{TcpListener, TcpStream};
