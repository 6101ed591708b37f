//! Hooks that run where init stands: createContainer before the rootfs is entered, startContainer before the program.
//! Each is a child with the container's state on its standard input.

use crate::Init;
use crate::failure::{Failure, Result};
use crate::order::Strings;
use core::ffi::CStr;
use pintle_sys::exec::{List, execve, exit};
use pintle_sys::fork::{Side, fork};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

/// Exit status of a hook's process that could not become the hook.
const NOT_EXECUTED: u8 = 127;

impl Init<'_> {
    /// Runs one hook to its end: a failure is its exit status, its signal or its time, and the last of its words.
    pub(crate) fn hook(
        &mut self,
        path: &CStr,
        arguments: Strings<'_>,
        environment: Strings<'_>,
        timeout: u64,
    ) -> Result {
        self.note.clear();
        let (reader, writer) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(Failure::at("pipe2"))?;
        match fork(0).map_err(Failure::at("clone"))? {
            Side::Child => self.become_hook(path, arguments, environment, writer.as_fd()),
            Side::Parent { pidfd, .. } => {
                drop(writer);
                let outcome = self.attend(&pidfd, reader.as_fd(), timeout);
                if outcome.is_err() {
                    // It may have ended in the meantime; only that it ends matters.
                    let _already_gone = pidfd_send_signal(&pidfd, Signal::KILL);
                }
                let status = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)
                    .map_err(Failure::at("waitid"))?;
                outcome?;
                match status.and_then(|status| status.exit_status()) {
                    Some(0) => Ok(()),
                    Some(code) => Err(Failure::new("exit status", Errno::from_raw_os_error(code))),
                    None => Err(Failure::new("killed by a signal", Errno::INTR)),
                }
            }
        }
    }

    fn become_hook(
        &self,
        path: &CStr,
        arguments: Strings<'_>,
        environment: Strings<'_>,
        output: BorrowedFd<'_>,
    ) -> ! {
        let errno = self.execute_hook(path, arguments, environment, output).err().unwrap_or(Errno::INVAL);
        // The standard error is the pipe by now, if anything is.
        for part in [path.to_bytes(), b": ", crate::program::describe(errno).as_bytes()] {
            let _unheard = rustix::io::write(output, part);
        }
        exit(NOT_EXECUTED)
    }

    fn execute_hook(
        &self,
        path: &CStr,
        arguments: Strings<'_>,
        environment: Strings<'_>,
        output: BorrowedFd<'_>,
    ) -> core::result::Result<(), Errno> {
        if let Some(state) = &self.state {
            rustix::fs::seek(state, rustix::fs::SeekFrom::Start(0))?;
            rustix::stdio::dup2_stdin(state)?;
        }
        rustix::stdio::dup2_stdout(output)?;
        rustix::stdio::dup2_stderr(output)?;
        let mut lists = [None, None];
        for (slot, strings) in lists.iter_mut().zip([arguments, environment]) {
            let list = slot.insert(List::with_capacity(strings.iter().count())?);
            strings.iter().try_for_each(|string| list.push(string))?;
        }
        let [Some(arguments), Some(environment)] = &lists else { return Err(Errno::INVAL) };
        Err(execve(path, arguments, environment))
    }

    /// Reads what the hook says until it ends or its time is up.
    fn attend(&mut self, pidfd: &OwnedFd, output: BorrowedFd<'_>, timeout: u64) -> Result {
        let deadline = (timeout > 0).then(|| now() + i64::try_from(timeout).unwrap_or(i64::MAX / 2));
        let mut words = [0u8; 512];
        loop {
            let left = deadline.map(|deadline| (deadline - now()).max(0));
            if left == Some(0) {
                return Err(Failure::new("timeout", Errno::TIMEDOUT));
            }
            let mut events = [PollFd::new(&output, PollFlags::IN), PollFd::new(pidfd, PollFlags::IN)];
            let limit = left.map(|seconds| Timespec { tv_sec: seconds, tv_nsec: 0 });
            match poll(&mut events, limit.as_ref()) {
                Ok(0) => return Err(Failure::new("timeout", Errno::TIMEDOUT)),
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(Failure::new("ppoll", errno)),
            }
            let [said, ended] = &events;
            if said.revents().contains(PollFlags::IN) {
                let length = rustix::io::read(output, &mut words).map_err(Failure::at("read"))?;
                self.note.push(words.get(..length).unwrap_or_default());
            } else if !ended.revents().is_empty() {
                return Ok(());
            } else if !said.revents().is_empty() {
                // The hook closed its output and lives on: its end is all that is left to wait for.
                return self.await_end(pidfd, deadline);
            }
        }
    }

    fn await_end(&self, pidfd: &OwnedFd, deadline: Option<i64>) -> Result {
        loop {
            let limit = deadline.map(|deadline| Timespec { tv_sec: (deadline - now()).max(0), tv_nsec: 0 });
            let mut events = [PollFd::new(pidfd, PollFlags::IN)];
            match poll(&mut events, limit.as_ref()) {
                Ok(0) => return Err(Failure::new("timeout", Errno::TIMEDOUT)),
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Failure::new("ppoll", errno)),
            }
        }
    }
}

/// Seconds of the monotonic clock.
fn now() -> i64 {
    rustix::time::clock_gettime(rustix::time::ClockId::Monotonic).tv_sec
}
