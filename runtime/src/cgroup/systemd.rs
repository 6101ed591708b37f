//! What systemd is asked about a container's unit: to start it around a process, to change it, to stop it. Each verb is
//! one connection and one call; the end of a job is told by the signal JobRemoved. org.freedesktop.systemd1(5).

use super::{Cgroup, Layout};
use crate::bail;
use crate::bus::{Address, Answer, BUS, Body, Bus, Peer};
use crate::error::{Error, Kind, Result};
use crate::plan::cgroup::systemd::{Property, Unit};
use std::fmt;
use std::path::Path;
use std::time::Duration;
use zbus::{OwnedObjectPath, Variant};

const MANAGER: Peer<'_> = Peer {
    name: "org.freedesktop.systemd1",
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
};
/// As long as runc waits for a job.
const LIMIT: Duration = Duration::from_secs(30);
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";
const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
/// What systemd says of a property that it does not know, and of a value that is out of its range.
const UNKNOWN_PROPERTY: [&str; 2] =
    ["org.freedesktop.DBus.Error.PropertyReadOnly", "org.freedesktop.DBus.Error.InvalidArgs"];

/// A property as it is sent.
type Sent<'a> = (&'a str, &'a Variant<'static>);

/// A connection to a systemd, about one unit.
#[derive(Debug)]
pub struct Manager {
    bus: Bus,
    unit: String,
}

impl Manager {
    /// Connects; what follows is about `unit`.
    ///
    /// # Errors
    /// A machine without systemd; no bus.
    pub fn connect(address: &Address, unit: &str) -> Result<Self> {
        if !is_running() {
            bail!(
                "systemd cgroup flag passed, but systemd support for managing cgroups is not available: systemd does \
                 not run this machine; leave out --systemd-cgroup"
            );
        }
        Ok(Self { bus: Bus::connect(address, LIMIT)?, unit: unit.to_owned() })
    }

    /// Connects to start `unit`: that its jobs are of interest is said before there is one.
    ///
    /// # Errors
    /// As for [`Manager::connect`].
    pub fn connect_for_start(address: &Address, unit: &str) -> Result<Self> {
        let mut manager = Self::connect(address, unit)?;
        manager.watch_jobs()?;
        Ok(manager)
    }

    /// Has the bus pass on the ends of the unit's jobs. systemd itself tells whoever is connected.
    fn watch_jobs(&mut self) -> Result<()> {
        if self.bus.is_direct() {
            return Ok(());
        }
        let rule = format!(
            "type='signal',sender='{}',interface='{}',member='JobRemoved',arg2='{}'",
            MANAGER.name, MANAGER.interface, self.unit
        );
        self.bus.send(BUS, "AddMatch", false, &rule).map(drop)
    }

    /// Starts the unit around process `pid` and waits until it stands.
    ///
    /// # Errors
    /// A unit of that name that is there already; what systemd refuses or can't do in time.
    pub fn start(&mut self, unit: &Unit, pid: i32) -> Result<()> {
        self.start_job(unit, pid).map_err(|error| told(error, format_args!("start unit {}", unit.name)))
    }

    fn start_job(&mut self, unit: &Unit, pid: i32) -> Result<()> {
        let pids = Variant::from(vec![pid as u32]);
        let auxiliary: Vec<(&str, Vec<Sent<'_>>)> = Vec::new();
        let mut properties: Vec<_> = unit.properties.iter().collect();
        let mut reset = false;
        loop {
            let mut sent: Vec<Sent<'_>> =
                properties.iter().map(|one| (one.name.as_str(), &one.value)).collect();
            if !unit.is_slice {
                sent.push(("PIDs", &pids));
            }
            let answer = self.bus.call(
                MANAGER,
                "StartTransientUnit",
                &(unit.name.as_str(), "replace", sent, &auxiliary),
            )?;
            match &answer {
                // What failed under that name earlier and was not collected. Once is enough.
                Answer::Refused { name, .. } if name == UNIT_EXISTS && !reset => {
                    reset = true;
                    self.reset_failed()?;
                }
                Answer::Refused { name, text } if without_unknown(&mut properties, name, text) => {}
                Answer::Refused { name, text } => return Err(refusal(name, text)),
                // A job that fails leaves a unit that failed.
                Answer::Done(job) => {
                    return self.finish(job).or_else(|error| self.reset_failed().and(Err(error)));
                }
            }
        }
    }

    /// Changes properties of the unit until it ends.
    ///
    /// # Errors
    /// What systemd refuses.
    pub fn change(&mut self, properties: &[Property]) -> Result<()> {
        self.set(properties).map_err(|error| told(error, format_args!("set properties of {}", self.unit)))
    }

    fn set(&mut self, properties: &[Property]) -> Result<()> {
        let mut properties: Vec<_> = properties.iter().collect();
        loop {
            let sent: Vec<Sent<'_>> = properties.iter().map(|one| (one.name.as_str(), &one.value)).collect();
            match self.bus.call(MANAGER, "SetUnitProperties", &(self.unit.as_str(), true, sent))? {
                Answer::Refused { name, text } if without_unknown(&mut properties, &name, &text) => {}
                Answer::Refused { name, text } => return Err(refusal(&name, &text)),
                Answer::Done(_) => return Ok(()),
            }
        }
    }

    /// Moves process `pid` into the unit's cgroup, or into the one called `below` in it, for a caller who may not.
    ///
    /// # Errors
    /// What systemd refuses.
    pub fn attach(&mut self, below: &str, pid: i32) -> Result<()> {
        let body = (self.unit.as_str(), below, vec![pid as u32]);
        let answer = match self.bus.call(MANAGER, "AttachProcessesToUnit", &body) {
            Ok(Answer::Refused { name, text }) => Err(refusal(&name, &text)),
            other => other.map(drop),
        };
        answer.map_err(|error| told(error, format_args!("attach a process to {}", self.unit)))
    }

    /// Stops the unit, waits until it is gone, and forgets that it may have failed; unless something lives in it, because
    /// then it is another one of the same name. One that is gone is as good.
    ///
    /// # Errors
    /// What systemd refuses or can't do in time.
    pub fn stop_if_empty(&mut self, layout: &Layout) -> Result<()> {
        let stopped = self.is_inhabited(layout).and_then(|inhabited| match inhabited {
            Some(false) => self.stop_job(),
            Some(true) | None => Ok(()),
        });
        stopped.map_err(|error| told(error, format_args!("stop unit {}", self.unit)))
    }

    /// Its job is asked for once its end will be heard of.
    fn stop_job(&mut self) -> Result<()> {
        self.watch_jobs()?;
        match self.bus.call(MANAGER, "StopUnit", &(self.unit.as_str(), "replace"))? {
            Answer::Refused { name, .. } if name == NO_SUCH_UNIT => return Ok(()),
            Answer::Refused { name, text } => return Err(refusal(&name, &text)),
            Answer::Done(job) => self.finish(&job)?,
        }
        self.reset_failed()
    }

    /// Whether something lives in the unit; `None` when there is no such unit, as mostly: systemd forgot it by itself.
    fn is_inhabited(&mut self, layout: &Layout) -> Result<Option<bool>> {
        let object = match self.bus.call(MANAGER, "GetUnit", &self.unit)? {
            Answer::Done(found) => found.read::<OwnedObjectPath>()?,
            Answer::Refused { name, .. } if name == NO_SUCH_UNIT => return Ok(None),
            Answer::Refused { name, text } => return Err(refusal(&name, &text)),
        };
        let peer = Peer { path: object.as_str(), interface: "org.freedesktop.DBus.Properties", ..MANAGER };
        let interface = match self.unit.ends_with(".slice") {
            true => "org.freedesktop.systemd1.Slice",
            false => "org.freedesktop.systemd1.Scope",
        };
        let path = match self.bus.call(peer, "Get", &(interface, "ControlGroup"))? {
            Answer::Done(value) => match value.read::<Variant<'_>>()? {
                Variant::Str(path) => path.to_string(),
                _ => return Ok(Some(false)),
            },
            // Forgotten in between.
            Answer::Refused { name, .. } if name.ends_with(".UnknownObject") => return Ok(None),
            Answer::Refused { name, text } => return Err(refusal(&name, &text)),
        };
        // One that failed has none.
        let cgroup = if path.is_empty() { None } else { Cgroup::open(&layout.directory(Path::new(&path)))? };
        let events = cgroup.map_or(Ok(None), |cgroup| cgroup.events())?;
        Ok(Some(events.is_some_and(|events| events.populated)))
    }

    /// Waits for the job that was asked for.
    fn finish(&mut self, answer: &Body) -> Result<()> {
        let job = answer.read::<OwnedObjectPath>()?;
        let result = self.bus.signal("JobRemoved", |body| {
            let (_, path, _, result) = body.read::<(u32, OwnedObjectPath, String, String)>().ok()?;
            (path == job).then_some(result)
        })?;
        match result.as_str() {
            // Skipped: there was nothing to do.
            "done" | "skipped" => Ok(()),
            other => bail!("its job ended as {other:?} (systemctl status {} may say why)", self.unit),
        }
    }

    fn reset_failed(&mut self) -> Result<()> {
        // A unit that is not there has not failed.
        self.bus.call(MANAGER, "ResetFailedUnit", &self.unit).map(drop)
    }
}

/// Whether systemd runs this machine, sd_booted(3).
pub fn is_running() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// Leaves out a property that an older systemd refuses and that the cgroup's files have, too; whether there was one.
fn without_unknown(properties: &mut Vec<&Property>, refused: &str, text: &str) -> bool {
    let before = properties.len();
    properties
        .retain(|one| !(UNKNOWN_PROPERTY.contains(&refused) && one.dispensable && names(text, &one.name)));
    properties.len() < before
}

/// Whether an error text is about this property.
fn names(text: &str, property: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == property)
}

fn refusal(name: &str, text: &str) -> Error {
    let hint = match name {
        UNIT_EXISTS => " (another container may have the same cgroupsPath)",
        "org.freedesktop.DBus.Error.AccessDenied"
        | "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired" => {
            " (an ordinary user's containers belong to the user's own systemd)"
        }
        _ => "",
    };
    Error::new(format!("{text}{hint}"))
}

/// What was asked of systemd, before what went wrong.
fn told(error: Error, what: fmt::Arguments<'_>) -> Error {
    let hint = match error.kind() {
        Kind::TimedOut => ": it is too busy or hangs (systemctl list-jobs shows what it waits for)",
        _ => "",
    };
    Error::new(format!("systemd: {what}: {error}{hint}"))
}
