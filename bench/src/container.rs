//! A container of a runtime, from `create` to `delete`. Dropped early, it is deleted by force, so that an error leaves
//! none behind.

use crate::command::{Meter, ends};
use crate::failure::{Doing, Failure, Result};
use crate::runtimes::Runtime;
use rustix::fd::{AsFd, OwnedFd};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::ffi::OsStr;
use std::fs;

/// One that was created and not yet deleted.
#[derive(Debug)]
pub struct Container<'a> {
    runtime: &'a Runtime,
    id: String,
    process: Option<OwnedFd>,
    deleted: bool,
}

impl<'a> Container<'a> {
    /// `create` of the bundle called `bundle`, and what it cost.
    ///
    /// # Errors
    /// Those of the command.
    pub fn create(runtime: &'a Runtime, bundle: &str, meter: Meter) -> Result<(Self, f64)> {
        // Ids become names of cgroups: runtimes and bundles must not meet there.
        let id = format!("{bundle}-{}", runtime.name);
        let mut container = Self { runtime, id, process: None, deleted: false };
        let (folder, pid_file) = (runtime.place.join(bundle), runtime.place.join("pid"));
        let figure = container.call(
            "create",
            &["--bundle".as_ref(), folder.as_ref(), "--pid-file".as_ref(), pid_file.as_ref()],
            &[],
            meter,
        )?;
        container.process = Some(process(&fs::read_to_string(&pid_file).doing(pid_file.display())?)?);
        Ok((container, figure))
    }

    /// One that runs, made without a look at the clock.
    ///
    /// # Errors
    /// Those of the commands.
    pub fn running(runtime: &'a Runtime) -> Result<Self> {
        let (container, _cost) = Self::create(runtime, "idle", Meter::Wall)?;
        container.start(Meter::Wall)?;
        Ok(container)
    }

    /// `start`.
    ///
    /// # Errors
    /// Those of the command.
    pub fn start(&self, meter: Meter) -> Result<f64> {
        self.call("start", &[], &[], meter)
    }

    /// `exec` of a program that does nothing.
    ///
    /// # Errors
    /// Those of the command.
    pub fn exec_true(&self, meter: Meter) -> Result<f64> {
        self.call("exec", &[], &["/bin/true"], meter)
    }

    /// `state`.
    ///
    /// # Errors
    /// Those of the command.
    pub fn state(&self, meter: Meter) -> Result<f64> {
        self.call("state", &[], &[], meter)
    }

    /// `kill` with a signal that the program does not mind, so that it is there for the next round.
    ///
    /// # Errors
    /// Those of the command.
    pub fn kill(&self, meter: Meter) -> Result<f64> {
        self.call("kill", &[], &["WINCH"], meter)
    }

    /// `delete`, as soon as the program has ended by itself.
    ///
    /// # Errors
    /// Those of the command; the program does not end.
    pub fn delete(mut self, meter: Meter) -> Result<f64> {
        if let Some(process) = &self.process
            && !ends(process.as_fd()).doing("poll")?
        {
            return Err(Failure::Hangs(format!("{}: the program of {}", self.runtime.name, self.id)));
        }
        let figure = self.call("delete", &[], &[], meter)?;
        self.deleted = true;
        Ok(figure)
    }

    /// `delete --force`.
    ///
    /// # Errors
    /// Those of the command.
    pub fn delete_by_force(mut self, meter: Meter) -> Result<f64> {
        let figure = self.call("delete", &["--force".as_ref()], &[], meter)?;
        self.deleted = true;
        Ok(figure)
    }

    fn call(&self, verb: &str, flags: &[&OsStr], rest: &[&str], meter: Meter) -> Result<f64> {
        let mut words = vec![OsStr::new(verb)];
        words.extend(flags);
        words.push(self.id.as_ref());
        words.extend(rest.iter().map(OsStr::new));
        self.runtime.invocation(&words).measure(meter)
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        if !self.deleted {
            // After another error: what this can't delete, the end of the private view does.
            let _told_already = self.call("delete", &["--force".as_ref()], &[], Meter::Wall);
        }
    }
}

fn process(number: &str) -> Result<OwnedFd> {
    let pid = number.trim().parse().ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| Failure::new(format!("pid file: {number:?} is no pid")))?;
    pidfd_open(pid, PidfdFlags::empty()).doing("pidfd_open")
}
