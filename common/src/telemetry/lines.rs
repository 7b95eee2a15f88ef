//! Log lines on their way to standard error. Those of requests are gathered for a moment, since a call into the kernel for each
//! would cost as much as answering a small request; every other line is written at once, behind those that wait.

use std::{
    io::{self, Write},
    mem,
    sync::OnceLock,
    thread,
    time::Duration,
};

use parking_lot::Mutex;
use tracing_subscriber::fmt::MakeWriter;

/// A line of a request waits at most so long. What a `kill -9` takes along is of this time.
const WAIT: Duration = Duration::from_millis(100);
/// So many bytes are written without waiting.
const ENOUGH: usize = 32 * 1024;

/// See the module. Clones are the same.
#[derive(Debug)]
pub struct Lines<W: Write + Send + 'static> {
    shared: &'static Shared<W>,
}

#[derive(Debug)]
struct Shared<W> {
    state: Mutex<(Vec<u8>, W)>,
    /// Whether there is a thread that writes what waits.
    writer: OnceLock<bool>,
}

impl<W: Write + Send + 'static> Clone for Lines<W> {
    fn clone(&self) -> Self {
        Self { shared: self.shared }
    }
}

impl<W: Write + Send + 'static> Lines<W> {
    /// To there. For the life of the process.
    pub fn new(to: W) -> Self {
        Self { shared: Box::leak(Box::new(Shared { state: Mutex::new((Vec::new(), to)), writer: OnceLock::new() })) }
    }

    /// Takes one line. `may_wait`: it is one of a request.
    pub fn give(&self, line: &[u8], may_wait: bool) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        state.0.extend_from_slice(line);
        if may_wait && state.0.len() < ENOUGH && self.has_writer() {
            return Ok(());
        }
        write(&mut state)
    }

    /// Whether there is a thread that writes what waits. The first line that may wait starts it.
    fn has_writer(&self) -> bool {
        let shared = self.shared;
        *self.shared.writer.get_or_init(|| {
            let work = move || {
                loop {
                    thread::sleep(WAIT);
                    // Nobody is there to be told of it.
                    let _ = write(&mut shared.state.lock());
                }
            };
            thread::Builder::new().name("log-lines".into()).spawn(work).is_ok()
        })
    }
}

fn write<W: Write>((waiting, to): &mut (Vec<u8>, W)) -> io::Result<()> {
    if waiting.is_empty() {
        return Ok(());
    }
    let written = to.write_all(waiting).and_then(|()| to.flush());
    waiting.clear();
    if waiting.capacity() > 4 * ENOUGH {
        mem::take(waiting);
    }
    written
}

/// Takes one line of any other kind.
pub struct Line<'a, W: Write + Send + 'static>(&'a Lines<W>);

impl<W: Write + Send + 'static> Write for Line<'_, W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.give(line, false)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a, W: Write + Send + 'static> MakeWriter<'a> for Lines<W> {
    type Writer = Line<'a, W>;

    fn make_writer(&'a self) -> Line<'a, W> {
        Line(self)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};

    use super::*;

    /// Says of each call what was written by it.
    struct Told(mpsc::Sender<String>);

    impl Write for Told {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.send(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The order of lines is that in which they came; those of requests need no call of their own, and are not forgotten.
    #[test]
    fn lines_of_requests_are_gathered_and_no_other_waits() {
        let (told, calls) = mpsc::channel();
        let lines = Arc::new(Lines::new(Told(told)));
        lines.give(b"a\n", true).unwrap();
        lines.give(b"b\n", true).unwrap();
        lines.give(b"error\n", false).unwrap();
        let all: String = std::iter::from_fn(|| calls.try_recv().ok()).collect();
        assert_eq!(all, "a\nb\nerror\n");
        lines.give(b"c\n", true).unwrap();
        assert_eq!(calls.recv().unwrap(), "c\n", "written without a further line");
        let large = vec![b'x'; ENOUGH];
        lines.give(&large, true).unwrap();
        assert_eq!(calls.try_recv().unwrap().len(), ENOUGH, "the memory is bounded");
    }
}
