//! Programs that take the output of processes. A birth waits until its logger is ready; a container outlives its logger, whose streams
//! are then read and thrown away.

use super::births::Theirs;
use super::{Alarm, Service};
use crate::call::Call;
use crate::child;
use crate::logger::Logger;
use crate::poll::{EventFlags, Token};
use crate::relay::Sink;
use crate::wire::{Answer, Code, Failure};
use pintle::error::{Context as _, Error};
use pintle::log;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, kill_process};
use std::time::Duration;

/// How long a logger has to see the end of its streams and to leave.
pub const EOF: Duration = Duration::from_millis(500);
/// How long it may take to get ready.
const PATIENCE: Duration = Duration::from_secs(30);

/// A birth that waits for its logger.
#[derive(Debug)]
pub struct Unready {
    theirs: Theirs,
    call: Call,
    #[allow(dead_code, reason = "its other end's closing is what is waited for")]
    ready: OwnedFd,
}

impl Unready {
    /// What waits.
    pub fn call(&self) -> &Call {
        &self.call
    }
}

impl Service {
    /// Has a process born, after its logger got ready if there is one.
    pub(super) fn bear_with(&mut self, logger: Option<Logger>, theirs: Theirs, call: Call) -> Answer<()> {
        let Some(logger) = logger else { return self.bear(theirs, call) };
        let number = call.process;
        let process = self.process_mut(number)?;
        let [_, out, err] = &mut process.ends;
        let (Some(out), Some(err)) = (out.take(), err.take()) else { return self.bear(theirs, call) };
        for stream in [&out, &err] {
            // The logger's are to wait.
            let flags = rustix::fs::fcntl_getfl(stream).context("fcntl")?;
            rustix::fs::fcntl_setfl(stream, flags - OFlags::NONBLOCK).context("fcntl")?;
        }
        let id = if process.exec.is_empty() { process.task.clone() } else { process.exec.clone() };
        let dup = |fd: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd, 3).context("dup");
        let streams = [dup(&out)?, dup(&err)?];
        let (ready, their_ready) = pipe_with(PipeFlags::CLOEXEC).context("pipe2")?;
        let mut start = logger.command(&id, &self.namespace, streams, their_ready);
        self.unseen = true;
        let child = child::spawn(&mut start).context("failed to start binary process")?;
        // Our copy of its end would keep it from closing.
        drop(start);
        self.poll.add(&ready, Token::Logger(number), EventFlags::IN).map_err(Error::from)?;
        self.loggers.insert(child, (number, [out, err]));
        let process = self.process_mut(number)?;
        process.logger = Some(child);
        process.open += 1;
        self.unready.insert(number, Unready { theirs, call, ready });
        self.alarm(PATIENCE, Alarm::Unready(number));
        Ok(())
    }

    /// A logger said that it is ready, or has gone.
    pub fn logger_ready(&mut self, number: u32) {
        let Some(Unready { theirs, call, .. }) = self.unready.remove(&number) else { return };
        self.disarm(Alarm::Unready(number));
        let again = Call::new(call.verb, call.origin, number, call.mark);
        if let Err(failure) = self.bear(theirs, call) {
            self.unborn(&again, failure);
        }
    }

    pub(super) fn logger_unready(&mut self, number: u32) {
        let seconds = PATIENCE.as_secs();
        let message = format!("failed to read from logging binary: it was not ready within {seconds} s");
        self.logger_failed(number, message);
    }

    /// A birth does not wait for its logger any longer, and is none.
    pub(super) fn logger_failed(&mut self, number: u32, message: String) {
        let Some(Unready { call, .. }) = self.unready.remove(&number) else { return };
        self.disarm(Alarm::Unready(number));
        self.end_logger(number, Signal::KILL);
        self.unborn(&call, Failure { code: Code::DeadlineExceeded, message });
    }

    /// Asks a logger to leave.
    pub(super) fn end_logger(&mut self, number: u32, signal: Signal) {
        let logger = self.processes.get(&number).and_then(|process| process.logger);
        if let Some(pid) = logger.and_then(|logger| Pid::from_raw(logger.cast_signed())) {
            // It is our child, and not collected yet: nobody else has its number.
            if let Err(errno) = kill_process(pid, signal) {
                log::debug(format_args!("the logger is gone: {errno}"));
            }
        }
    }

    /// Whether it was a logger that ended. What it would have read is thrown away from now on, so that nobody waits for it.
    pub(super) fn logger_ended(&mut self, pid: u32) -> bool {
        let Some((number, streams)) = self.loggers.remove(&pid) else { return false };
        let Some(process) = self.processes.get_mut(&number) else { return true };
        process.logger = None;
        if process.exit.is_none() {
            log::warn(format_args!("{}: its logger ended: what it says is thrown away", process.task));
            for stream in streams {
                if let Err(failure) = self.throw_away(number, stream) {
                    log::warn(failure.message);
                }
            }
        }
        self.one_is_over(number);
        true
    }

    fn throw_away(&mut self, number: u32, stream: OwnedFd) -> Answer<()> {
        crate::relay::do_not_block(&stream)?;
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let null = rustix::fs::open("/dev/null", flags, Mode::empty()).context("open /dev/null")?;
        self.relay_output(number, stream, Sink::pipe(null))
    }
}
