//! How this process starts others.

use nix::sys::signal::{SigSet, Signal};
use std::process::Command;

/// What the server waits for by signalfd(2), and so blocks.
pub fn signals() -> SigSet {
    let mut signals = SigSet::empty();
    [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT].into_iter().for_each(|signal| signals.add(signal));
    signals
}

/// Starts a child and returns its process id. A child has its parent's blocked signals, which would be blocked in the container, too: so for
/// this moment none is, and a child's end in it is not told. Look for that afterwards.
///
/// # Errors
/// Those of the command.
pub fn spawn(command: &mut Command) -> std::io::Result<u32> {
    let signals = signals();
    signals.thread_unblock()?;
    let child = command.spawn();
    signals.thread_block()?;
    Ok(child?.id())
}
