//! Time and randomness of the simulated thread: the functions of libc through which all of Rust asks for them, put in front of
//! libc's own. Other threads get the real ones.
//!
//! The monotonic clock and the wall clock show simulated time, the wall clock of a host with the error that it was given. All
//! random bytes come from one generator that the seed sets: those of hash maps, of elections, of ids, of TLS.

use std::{cell::Cell, time::Duration};

use super::place;

/// 2026-06-01, when every simulation begins, in seconds since 1970.
pub const BEGINNING_S: u64 = 1_780_272_000;
/// The monotonic clock at that moment: long after the boot, so that it can be reckoned back from.
const BOOTED_BEFORE_S: u64 = 1_000_000;

thread_local! {
    static SINCE_BEGINNING: Cell<Option<Duration>> = const { Cell::new(None) };
    static RANDOM: Cell<u64> = const { Cell::new(0) };
}

/// From here on this thread is simulated.
pub fn enter(seed: u64) {
    SINCE_BEGINNING.set(Some(Duration::ZERO));
    RANDOM.set(seed);
}

/// So much of simulated time has passed.
pub fn set_time(since_beginning: Duration) {
    SINCE_BEGINNING.set(Some(since_beginning));
}

/// What was set last.
pub fn time() -> Duration {
    SINCE_BEGINNING.get().unwrap_or_default()
}

/// SplitMix64.
fn next_random() -> u64 {
    let state = RANDOM.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    RANDOM.set(state);
    let mut mixed = state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn shown(clock: libc::clockid_t, passed: Duration) -> Option<Duration> {
    match clock {
        libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE => {
            let right = Duration::from_secs(BEGINNING_S) + passed;
            let error = place::clock_error_ms();
            let size = Duration::from_millis(error.unsigned_abs());
            Some(if error < 0 { right.saturating_sub(size) } else { right + size })
        }
        libc::CLOCK_MONOTONIC | libc::CLOCK_MONOTONIC_RAW | libc::CLOCK_MONOTONIC_COARSE | libc::CLOCK_BOOTTIME => {
            Some(Duration::from_secs(BOOTED_BEFORE_S) + passed)
        }
        _ => None,
    }
}

/// As libc's.
///
/// # Safety
/// `into` must be valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, into: *mut libc::timespec) -> libc::c_int {
    let simulated = SINCE_BEGINNING.get().and_then(|passed| shown(clock, passed));
    match simulated {
        Some(time) => {
            let spec =
                libc::timespec { tv_sec: time.as_secs() as libc::time_t, tv_nsec: time.subsec_nanos() as libc::c_long };
            // SAFETY: as the caller promises.
            unsafe { into.write(spec) };
            0
        }
        // SAFETY: the arguments are those of this call.
        None => unsafe { libc::syscall(libc::SYS_clock_gettime, clock, into) as libc::c_int },
    }
}

/// As libc's.
///
/// # Safety
/// `into` must be valid for a write of `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(into: *mut libc::c_void, length: usize, flags: libc::c_uint) -> libc::ssize_t {
    if SINCE_BEGINNING.get().is_none() {
        // SAFETY: the arguments are those of this call.
        return unsafe { libc::syscall(libc::SYS_getrandom, into, length, flags) as libc::ssize_t };
    }
    // SAFETY: as the caller promises.
    let bytes = unsafe { std::slice::from_raw_parts_mut(into.cast::<u8>(), length) };
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&next_random().to_le_bytes()[..chunk.len()]);
    }
    length as libc::ssize_t
}
