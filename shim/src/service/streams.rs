//! The streams of processes: laid when a process is born, copied while it lives, closed when it is removed.

use super::{Alarm, Service};
use crate::console::Console;
use crate::poll::Token;
use crate::process::Origin;
use crate::relay::{Relay, Sink, Source, Turn};
use crate::wire::Answer;
use crate::wire::task::PidResponse;
use pintle::error::{Context as _, Result};
use pintle::log;
use rustix::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// After this time is looked for a reader who has not come yet, in milliseconds; then after twice that, and so on.
const FIRST_LOOK: u64 = 5;
/// How long a birth is not told of because nobody reads its output.
const PATIENCE: Duration = Duration::from_secs(30);
/// Up to this.
const LAST_LOOK: u64 = 1000;

impl Service {
    /// The output of a process, and of the runtime that bears it, gets where the engine reads, the engine's input gets to it: for a terminal
    /// when the runtime has sent it, else from the beginning.
    pub(super) fn lay_streams(&mut self, number: u32, console: Option<&Console>) -> Answer<()> {
        let process = self.process_mut(number)?;
        let stdin = process.stdio.stdin.clone();
        let mut to_logger = None;
        let (outputs, input): (Vec<(OwnedFd, PathBuf)>, Option<OwnedFd>) = match console {
            Some(console) => {
                let master = console.receive()?;
                let dup = || rustix::io::fcntl_dupfd_cloexec(&master, 3).context("dup");
                let input = (!stdin.is_empty()).then(dup).transpose()?;
                let outputs = match process.terminal_output()? {
                    Some(path) => vec![(dup()?, path)],
                    None => Vec::new(),
                };
                to_logger = process.to_logger.take().map(|to| dup().map(|from| (from, to))).transpose()?;
                process.console = Some(master);
                (outputs, input)
            }
            None => (process.outputs()?, process.ends[0].take()),
        };
        if let Some((from, to)) = to_logger {
            self.relay_output(number, from, Sink::pipe(to))?;
        }
        let mut shared: Option<(PathBuf, Sink)> = None;
        for (from, path) in outputs {
            let sink = match &shared {
                Some((name, sink)) if *name == path => Some(sink.again()?),
                _ => Sink::open(&path)?,
            };
            match sink {
                Some(sink) => {
                    shared = Some((path, sink.again()?));
                    self.relay_output(number, from, sink)?;
                }
                None => {
                    let process = self.process_mut(number)?;
                    process.open += 1;
                    process.unread.push((from, path));
                    self.look_again(number);
                }
            }
        }
        if let (Some(to), false) = (input, stdin.is_empty()) {
            let path = stdin.strip_prefix("fifo://").unwrap_or(&stdin);
            let mut relay = Relay::input(Source::open(Path::new(path))?, to);
            if self.process(number)?.input_closed {
                relay.close_input();
            }
            let input = self.add_relay(number, relay)?;
            self.process_mut(number)?.input = Some(input);
        }
        Ok(())
    }

    pub(super) fn relay_output(&mut self, process: u32, from: OwnedFd, sink: Sink) -> Answer<()> {
        self.add_relay(process, Relay::out(from, sink))?;
        self.process_mut(process)?.open += 1;
        Ok(())
    }

    fn add_relay(&mut self, process: u32, relay: Relay) -> Result<u32> {
        let number = self.next();
        relay.watch(&self.poll, Token::Relay(number))?;
        self.relays.insert(number, (process, relay));
        self.ready.push_back(number);
        Ok(number)
    }

    /// Tells whoever asked for it that a process is born, when its output is read or nobody came for long.
    pub(super) fn answer_birth(&mut self, number: u32, origin: Origin) {
        let Some(process) = self.processes.get_mut(&number) else { return };
        process.unheard = Some(origin);
        if process.unread.is_empty() {
            self.tell_birth(number);
        } else {
            self.alarm(PATIENCE, Alarm::Unheard(number));
        }
    }

    pub(super) fn tell_birth(&mut self, number: u32) {
        let Some(process) = self.processes.get_mut(&number) else { return };
        let Some(origin) = process.unheard.take() else { return };
        let pid = process.pid;
        self.disarm(Alarm::Unheard(number));
        self.answer(origin, Ok(PidResponse { pid }));
    }

    /// Looks again, later each time.
    fn look_again(&mut self, number: u32) {
        let Some(process) = self.processes.get_mut(&number) else { return };
        if process.look == 0 {
            process.look = FIRST_LOOK;
            self.alarm(Duration::from_millis(FIRST_LOOK), Alarm::Readers(number));
        }
    }

    /// Somebody may read by now what a process says.
    pub(super) fn look_for_readers(&mut self, number: u32) {
        let Some(process) = self.processes.get_mut(&number) else { return };
        for (from, path) in std::mem::take(&mut process.unread) {
            match Sink::open(&path) {
                Ok(Some(sink)) => {
                    if let Err(error) = self.add_relay(number, Relay::out(from, sink)) {
                        log::warn(format_args!("{}: {error}", path.display()));
                        self.one_is_over(number);
                    }
                }
                Ok(None) => {
                    if let Some(process) = self.processes.get_mut(&number) {
                        process.unread.push((from, path));
                    }
                }
                // The engine has given it up.
                Err(_) => self.one_is_over(number),
            }
        }
        let Some(process) = self.processes.get_mut(&number) else { return };
        if process.unread.is_empty() {
            process.look = 0;
            return self.tell_birth(number);
        }
        // As long as somebody waits for it, it is urgent.
        process.look = if process.unheard.is_some() { FIRST_LOOK } else { (process.look * 2).min(LAST_LOOK) };
        let pause = Duration::from_millis(process.look);
        self.alarm(pause, Alarm::Readers(number));
    }

    /// Copies one stream on.
    pub fn relay(&mut self, number: u32) {
        let Some((process, relay)) = self.relays.get_mut(&number) else { return };
        let process = *process;
        match relay.turn() {
            Turn::Waits => {}
            Turn::Goes => self.ready.push_back(number),
            Turn::Over => {
                if let Some(after) = relay.last_look() {
                    if !std::mem::replace(&mut relay.awaited, true) {
                        self.alarm(after, Alarm::Unread(number));
                    }
                    return;
                }
                self.relays.remove(&number);
                match self.processes.get_mut(&process) {
                    Some(process) if process.input == Some(number) => process.input = None,
                    _ => self.one_is_over(process),
                }
            }
        }
    }

    /// The engine may have read the rest by now.
    pub(super) fn look_for_rest(&mut self, number: u32) {
        if let Some((_, relay)) = self.relays.get_mut(&number) {
            relay.awaited = false;
        }
        self.relay(number);
    }

    pub(super) fn one_is_over(&mut self, number: u32) {
        let Some(process) = self.processes.get_mut(&number) else { return };
        process.open = process.open.saturating_sub(1);
        self.check_drained(number);
    }

    /// Ends all streams of a process, whatever is still on its way.
    pub(super) fn close_streams(&mut self, number: u32) {
        self.relays.retain(|_, (process, _)| *process != number);
        if let Some(process) = self.processes.get_mut(&number) {
            (process.open, process.input, process.console) = (0, None, None);
            process.unread.clear();
            process.ends = [None, None, None];
            process.to_logger = None;
        }
    }
}
