//! Ports that a test can keep for members which are stopped and started again.
//!
//! A port that was bound and released again is not one: the system gives it to the next outgoing connection or to
//! another test. These are below the range from which the system takes ports, and a block of them belongs to one process.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener},
};

use parking_lot::Mutex;

/// Below what `conflux dev` takes, and far below where outgoing connections begin.
const FIRST: u16 = 10_000;
const LAST: u16 = 18_000;
/// One lock file stands for so many ports.
const BLOCK: u16 = 50;

/// What this process has; the locks end with it.
static OWN: Mutex<Own> = Mutex::new(Own { locks: Vec::new(), left: Vec::new() });

struct Own {
    locks: Vec<File>,
    left: Vec<u16>,
}

/// An address on loopback that no other test is given while this process lives, and where nobody listens now.
pub fn free_address() -> SocketAddr {
    let mut own = OWN.lock();
    loop {
        match own.left.pop() {
            Some(port) => {
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
                if TcpListener::bind(address).is_ok() {
                    return address;
                }
            }
            None => claim(&mut own),
        }
    }
}

/// One more block.
fn claim(own: &mut Own) {
    let folder = std::env::temp_dir().join("conflux-test-ports");
    fs::create_dir_all(&folder).expect("make the directory of the port locks");
    // Blocks that this process has already are locked too, by another handle.
    for first in (FIRST..LAST).step_by(usize::from(BLOCK)) {
        let file = File::create(folder.join(first.to_string())).expect("make a port lock");
        if file.try_lock().is_ok() {
            own.locks.push(file);
            own.left.extend((first..first + BLOCK).rev());
            return;
        }
    }
    panic!("no free ports between {FIRST} and {LAST}: too many tests run at once");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_given_once() {
        // Two members on one port are a group that never forms.
        let given: std::collections::BTreeSet<SocketAddr> = (0..2 * BLOCK).map(|_| free_address()).collect();
        assert_eq!(given.len(), usize::from(2 * BLOCK));
        let own = OWN.lock();
        assert!(own.locks.len() >= 2);
        let first = given.iter().next().map(|a| a.port() / BLOCK * BLOCK).expect("some");
        let file = File::create(std::env::temp_dir().join("conflux-test-ports").join(first.to_string())).expect("open");
        assert!(file.try_lock().is_err(), "another process could take the block");
    }
}
