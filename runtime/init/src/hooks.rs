//! Hooks that run where init stands: createContainer before the rootfs is entered, startContainer before the program.
//! Each is a child with the container's state on its standard input.

use crate::Init;
use crate::failure::{Failure, Note, Result};
use crate::order::{Step, Strings};
use core::ffi::CStr;
use pintle_sys::exec::{List, execve, exit};
use pintle_sys::fd::inherited;
use pintle_sys::fork::{Side, fork};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions, WaitIdStatus, pidfd_send_signal, waitid};

/// Exit status of a hook's process that could not become the hook.
const NOT_EXECUTED: u8 = 127;

impl Init<'_> {
    /// Runs one hook to its end. What fails is told as a whole sentence, here and now: after `start` nobody is left to
    /// make one of numbers.
    pub(crate) fn hook(&mut self, step: &Step<'_>) -> Result {
        let Step::Hook { name, path, timeout, .. } = *step else {
            return Err(Failure::new("hook", Errno::INVAL));
        };
        let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(Failure::at("pipe2"));
        let ((out, out_writer), (err, err_writer)) = (pipe()?, pipe()?);
        let (fault, fault_writer) = pipe()?;
        let Side::Parent { pidfd, .. } = fork(0).map_err(Failure::at("clone"))? else {
            let errno = self.become_hook(step, [out_writer.as_fd(), err_writer.as_fd()]);
            let errno = errno.err().unwrap_or(Errno::INVAL);
            // Read as: it could not be executed, and why.
            let _unheard = rustix::io::write(&fault_writer, &errno.raw_os_error().to_le_bytes());
            exit(NOT_EXECUTED)
        };
        drop((out_writer, err_writer, fault_writer));
        let mut said = [Said::new(out), Said::new(err)];
        let in_time = attend(&pidfd, &mut said, timeout);
        if !matches!(in_time, Ok(true)) {
            // It may have ended in the meantime; only that it ends matters.
            let _already_gone = pidfd_send_signal(&pidfd, Signal::KILL);
        }
        let status =
            waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).map_err(Failure::at("waitid"))?;
        let status = status.ok_or(Failure::new("waitid", Errno::CHILD))?;
        let mut errno = [0; 4];
        let outcome = match (in_time?, rustix::io::read(&fault, &mut errno)) {
            (false, _) => Outcome::TimedOut(timeout),
            (true, Ok(4)) => Outcome::NotExecuted(Errno::from_raw_os_error(i32::from_le_bytes(errno))),
            (true, _) => Outcome::Ended(status),
        };
        if matches!(&outcome, Outcome::Ended(status) if status.exit_status() == Some(0)) {
            return Ok(());
        }
        self.tell(name, path, &outcome, &said);
        Err(Failure::new("hook", Errno::CANCELED))
    }

    /// `error running KIND hook #N: why`, as runc says it.
    fn tell(&mut self, name: &CStr, path: &CStr, outcome: &Outcome, said: &[Said; 2]) {
        self.note.clear();
        let note = &mut self.note;
        note.push(b"error running ");
        note.push(name.to_bytes());
        note.push(b": ");
        match *outcome {
            Outcome::TimedOut(seconds) => {
                note.push(b"hook ran past specified timeout of ");
                note.push_number(seconds);
                note.push(b".0s");
                return;
            }
            Outcome::NotExecuted(errno) => {
                note.push(b"fork/exec ");
                note.push(path.to_bytes());
                note.push(b": ");
                note.push(crate::program::describe(errno).as_bytes());
                return;
            }
            Outcome::Ended(status) => {
                let (code, signal) = (status.exit_status(), status.terminating_signal().unwrap_or(0));
                let (word, number) = match (code, crate::program::describe_signal(signal)) {
                    (Some(code), _) => ("exit status ", Some(code)),
                    (None, Some(known)) => (known, None),
                    (None, None) => ("signal ", Some(signal)),
                };
                note.push(if code.is_none() { b"signal: " } else { b"" });
                note.push(word.as_bytes());
                if let Some(number) = number {
                    note.push_number(u64::from(number.unsigned_abs()));
                }
            }
        }
        let [out, err] = said;
        for part in [b", stdout: ".as_slice(), out.note.bytes(), b", stderr: ", err.note.bytes()] {
            note.push(part);
        }
    }

    /// In the child: a hook that runs before the rootfs was entered stands in it.
    fn become_hook(
        &self,
        step: &Step<'_>,
        [out, err]: [BorrowedFd<'_>; 2],
    ) -> core::result::Result<(), Errno> {
        let Step::Hook { path, arguments, environment, home, .. } = *step else { return Err(Errno::INVAL) };
        if let (Some(root), false) = (&self.root, self.entered) {
            rustix::process::fchdir(root)?;
            rustix::process::umask(self.umask);
        }
        if let Some(state) = &self.state {
            rustix::fs::seek(state, rustix::fs::SeekFrom::Start(0))?;
            rustix::stdio::dup2_stdin(state)?;
        }
        rustix::stdio::dup2_stdout(out)?;
        rustix::stdio::dup2_stderr(err)?;
        let home = self.home.variable().filter(|_| home);
        Err(execve(path, &list(arguments, None)?, &list(environment, home)?))
    }
}

fn list<'a>(strings: Strings<'a>, more: Option<&'a CStr>) -> core::result::Result<List<'a>, Errno> {
    let mut list = List::with_capacity(strings.iter().count() + 1)?;
    strings.iter().chain(more).try_for_each(|string| list.push(string))?;
    Ok(list)
}

/// How a hook ended.
enum Outcome {
    /// Its time was up, after so many seconds.
    TimedOut(u64),
    /// There was no such program, or none that can be executed.
    NotExecuted(Errno),
    /// By itself, or by a signal.
    Ended(WaitIdStatus),
}

/// One of a hook's output streams, and what came through it.
struct Said {
    pipe: Option<OwnedFd>,
    note: Note,
}

impl Said {
    fn new(pipe: OwnedFd) -> Self {
        Self { pipe: Some(pipe), note: Note::new() }
    }

    fn read(&mut self) -> Result {
        let Some(pipe) = &self.pipe else { return Ok(()) };
        let mut words = [0u8; 512];
        match rustix::io::read(pipe, &mut words) {
            Ok(0) => self.pipe = None,
            Ok(length) => self.note.push(words.get(..length).unwrap_or_default()),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(errno) => return Err(Failure::new("read", errno)),
        }
        Ok(())
    }
}

/// Reads what the hook says until it ends; false when its time is up first. A grandchild that keeps the pipes open
/// does not keep the hook alive.
fn attend(pidfd: &OwnedFd, said: &mut [Said; 2], timeout: u64) -> Result<bool> {
    let deadline = (timeout > 0).then(|| now() + i64::try_from(timeout).unwrap_or(i64::MAX / 2));
    loop {
        let left = deadline.map(|deadline| (deadline - now()).max(0));
        if left == Some(0) {
            return Ok(false);
        }
        let [out, err] = &*said;
        // A stream that ended is asked for nothing: the pidfd stands in for it.
        let watched =
            |said: &Said| said.pipe.as_ref().map_or(pidfd.as_fd().as_raw_fd(), |pipe| pipe.as_raw_fd());
        let (out, err) = (inherited(watched(out)), inherited(watched(err)));
        let wanted = PollFlags::IN;
        let mut events = [
            PollFd::new(pidfd, wanted),
            PollFd::from_borrowed_fd(out, wanted),
            PollFd::from_borrowed_fd(err, wanted),
        ];
        let limit = left.map(|seconds| Timespec { tv_sec: seconds, tv_nsec: 0 });
        match poll(&mut events, limit.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(Failure::new("ppoll", errno)),
        }
        let [ended, streams @ ..] = events.map(|event| !event.revents().is_empty());
        for (said, ready) in said.iter_mut().zip(streams) {
            if ready && said.pipe.is_some() {
                said.read()?;
            }
        }
        // What it said is read; a grandchild that goes on talking is not waited for.
        if ended {
            return Ok(true);
        }
    }
}

/// Seconds of the monotonic clock.
fn now() -> i64 {
    rustix::time::clock_gettime(rustix::time::ClockId::Monotonic).tv_sec
}
