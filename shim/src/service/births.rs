//! Processes are born: in this process where nobody but init has to be answered, and by the runtime as a child where hooks, systemd or the
//! maps of a user namespace have to be waited for, or the runtime is another program. Neither way anybody else waits.

use super::exits::Ended;
use super::{Alarm, Service};
use crate::call::{Call, Verb};
use crate::console::Console;
use crate::poll::{EventFlags, Token};
use crate::runtime::INIT_PID;
use crate::socket;
use crate::wire::{Answer, Empty, Failure};
use pintle::error::{Context as _, Error, phrase};
use pintle::launch::spawn::has_ended;
use pintle::log;
use pintle::ops::{Streams, Underway, create, exec};
use rustix::fd::{AsFd as _, OwnedFd};
use rustix::fs::{Mode, OFlags};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long a process that was killed while it was being born may take to be gone.
const LAST: Duration = Duration::from_secs(10);

/// The ends of a process's streams that are its own; none where nothing is read or written.
pub type Theirs = [Option<OwnedFd>; 3];

/// A birth in this process.
#[derive(Debug)]
pub struct Bearing {
    call: Call,
    birth: Box<dyn Underway>,
}

impl Service {
    /// Has a process born with its streams.
    pub(super) fn bear(&mut self, theirs: Theirs, mut call: Call) -> Answer<()> {
        let terminal = self.process(call.process)?.stdio.terminal;
        if !terminal {
            self.lay_streams(call.process, None)?;
        }
        if let Some(birth) = self.begin_birth(&theirs, &mut call, terminal)? {
            return self.attend(Bearing { call, birth });
        }
        let mut command = match call.verb {
            Verb::Create => self.command_to_create(call.process)?,
            _ => self.command_to_exec(&mut call)?,
        };
        if terminal {
            let path = socket::beside(&self.socket, call.process);
            command.arg("--console-socket").arg(&path);
            call.console = Some(Console::at(path)?);
        }
        command.arg(&self.process(call.process)?.task);
        let [stdin, stdout, stderr] = theirs.map(|end| end.map_or_else(Stdio::null, Stdio::from));
        command.stdin(stdin).stdout(stdout).stderr(stderr);
        self.call(command, call)
    }

    /// None: the runtime has to do it, as a child.
    fn begin_birth(
        &mut self,
        theirs: &Theirs,
        call: &mut Call,
        terminal: bool,
    ) -> Answer<Option<Box<dyn Underway>>> {
        let process = self.process(call.process)?;
        let task = self.tasks.get(&process.task).ok_or_else(super::not_created)?;
        let Some(library) = task.runtime.library() else { return Ok(None) };
        if task.slow_root && call.verb == Verb::Create {
            return Ok(None);
        }
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .context("open /dev/null")?;
        let console = terminal.then(Console::pair).transpose()?;
        let streams = Streams {
            stdio: theirs.each_ref().map(|end| end.as_ref().unwrap_or(&null).as_fd()),
            console: console.as_ref().map(|(_, theirs)| theirs.as_fd()),
        };
        let begun = match call.verb {
            Verb::Create => {
                let options = create::Options {
                    id: task.id.clone(),
                    bundle: task.bundle.clone(),
                    pid_file: Some(task.bundle.join(INIT_PID)),
                    no_pivot: task.runtime.options().no_pivot_root,
                    no_new_keyring: task.runtime.options().no_new_keyring,
                    ..create::Options::default()
                };
                create::begin(&library, &options, streams)
            }
            _ => {
                let process = exec::Process::Text(process.spec.clone());
                let options =
                    exec::Options { id: task.id.clone(), process, detach: true, ..exec::Options::default() };
                exec::begin(&library, &options, streams)
            }
        };
        let begun = begun.map_err(|error| failure(call.verb, error))?;
        if begun.is_some() {
            call.console = console.map(|(console, _)| console);
        }
        Ok(begun)
    }

    fn attend(&mut self, bearing: Bearing) -> Answer<()> {
        let number = bearing.call.process;
        let flags = EventFlags::IN | EventFlags::ET;
        let watched = self.poll.add(bearing.birth.channel(), Token::Birth(number), flags);
        self.alarm(self.patience, Alarm::Birth(number));
        self.births.insert(number, bearing);
        if let Err(errno) = watched {
            self.give_up_birth(number, Error::from(errno).context("epoll_ctl"));
        }
        Ok(())
    }

    fn command_to_create(&self, number: u32) -> Answer<Command> {
        let task = self.tasks.get(&self.process(number)?.task).ok_or_else(super::not_created)?;
        let options = task.runtime.options();
        let mut command = task.runtime.command();
        command.arg("create").arg("--bundle").arg(&task.bundle);
        command.arg("--pid-file").arg(task.bundle.join(INIT_PID));
        if options.no_pivot_root {
            command.arg("--no-pivot");
        }
        if options.no_new_keyring {
            command.arg("--no-new-keyring");
        }
        Ok(command)
    }

    fn command_to_exec(&self, call: &mut Call) -> Answer<Command> {
        let process = self.process(call.process)?;
        let task = self.task(&process.task)?;
        let file = task.bundle.join(format!(".{}.process", process.exec));
        // From here on the call's end, or its failure, takes the file away.
        call.file = Some(file.clone());
        let mut options = std::fs::OpenOptions::new();
        let written = options.write(true).create(true).truncate(true).mode(0o600).open(&file);
        written
            .and_then(|mut to| std::io::Write::write_all(&mut to, &process.spec))
            .with_context(|| format!("write {}", file.display()))?;
        let mut command = task.runtime.command();
        command.arg("exec").arg("--process").arg(&file).arg("--detach");
        command.arg("--pid-file").arg(pid_file(&task.bundle, &process.exec));
        Ok(command)
    }

    /// init has asked for something, or a process of a birth has ended.
    pub fn birth(&mut self, number: u32) {
        let Some(bearing) = self.births.get_mut(&number) else { return };
        let early = &mut self.early;
        let turned = bearing.birth.turn(&mut |pid, pidfd| {
            // Somebody else may have had the number before.
            let ended = has_ended(pidfd)?.then(|| early.remove(&pid.cast_unsigned())).flatten();
            Ok(ended.map(Ended::ending))
        });
        let born = match turned {
            Ok(false) => return,
            Ok(true) => Ok(bearing.birth.pid().cast_unsigned()),
            Err(_) if bearing.call.given_up => Err(bearing.call.too_late()),
            Err(error) => Err(failure(bearing.call.verb, error)),
        };
        self.delivered(number, born);
    }

    fn delivered(&mut self, number: u32, born: Answer<u32>) {
        self.disarm(Alarm::Birth(number));
        let Some(Bearing { call, mut birth }) = self.births.remove(&number) else { return };
        let left = born.is_err() && birth.is_left();
        // With it goes the container's lock.
        drop(birth);
        if let (true, Verb::Create, Some(process)) = (left, call.verb, self.processes.get(&number)) {
            let id = process.task.clone();
            self.remove_created(&id);
        }
        self.returned(call, born.map(Some));
    }

    /// Looks after every birth that may have lost a process.
    pub(super) fn look_after_births(&mut self) {
        let numbers: Vec<u32> = self.births.keys().copied().collect();
        numbers.into_iter().for_each(|number| self.birth(number));
    }

    /// A birth takes too long: what is being born is killed, and when it can't even die, nobody waits for it.
    pub(super) fn birth_too_long(&mut self, number: u32) {
        let Some(bearing) = self.births.get_mut(&number) else { return };
        let late = bearing.call.too_late();
        if bearing.call.given_up {
            return self.delivered(number, Err(late));
        }
        self.kill_birth(number, late.message);
    }

    fn kill_birth(&mut self, number: u32, why: String) {
        let Some(bearing) = self.births.get_mut(&number) else { return };
        bearing.call.given_up = true;
        log::warn(&why);
        self.alarm(LAST, Alarm::Birth(number));
        self.give_up_birth(number, Error::new(why));
    }

    /// Containers that are not there yet, and whose daemon died or gave up, are not to be: nobody would ever start or remove them. As with
    /// containerd's own shim, whose calls end with the connection by which they were asked for.
    pub(super) fn end_creates_of(&mut self, peer: u32) {
        let why = |verb: Verb| format!("{}: whoever asked for it is gone", verb.failed());
        let births = self.births.iter().filter(|(_, bearing)| bearing.call.creates_for(peer));
        let children = self.calls.iter().filter(|(_, call)| call.creates_for(peer) && !call.given_up);
        let unready = self.unready.iter().filter(|(_, unready)| unready.call().creates_for(peer));
        let births: Vec<u32> = births.map(|(number, _)| *number).collect();
        let children: Vec<(u32, Verb)> = children.map(|(child, call)| (*child, call.verb)).collect();
        let unready: Vec<u32> = unready.map(|(number, _)| *number).collect();
        births.into_iter().for_each(|number| self.kill_birth(number, why(Verb::Create)));
        children.into_iter().for_each(|(child, verb)| self.kill_call(child, &why(verb)));
        unready.into_iter().for_each(|number| self.logger_failed(number, why(Verb::Create)));
    }

    /// What is being born is not wanted any more. Its end is told as every other.
    pub(super) fn give_up_birth(&mut self, number: u32, error: Error) {
        if let Some(bearing) = self.births.get_mut(&number) {
            bearing.birth.give_up(error);
        }
    }

    /// Whoever asked for a birth that could not begin, or be answered, is told why.
    pub(super) fn unborn(&mut self, call: &Call, failure: Failure) {
        match self.processes.get(&call.process).map(|process| process.task.clone()) {
            Some(id) => self.failed(call, &id, failure),
            None => self.answer::<Empty>(call.origin, Err(super::not_created())),
        }
    }
}

/// Where the runtime as a child leaves the id of a process that was added. Not `init.pid`, whatever the process is called.
pub(super) fn pid_file(bundle: &Path, exec: &str) -> PathBuf {
    bundle.join(format!(".{exec}.exec.pid"))
}

/// In the words of the runtime's command line, and of containerd's own shim before them.
fn failure(verb: Verb, error: Error) -> Failure {
    let first = if verb == Verb::Create { phrase::CREATE_FAILED } else { phrase::EXEC_FAILED };
    Failure::unknown(error.context(first).context(verb.failed()))
}
