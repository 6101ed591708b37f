//! Writes the limits of a plan into the files of a cgroup, and says why where one can't be kept: a controller that
//! is missing is never passed over in silence.

use super::{Cgroup, Layout, file};
use crate::bail;
use crate::error::{Error, Result, errno_text};
use crate::plan::cgroup::{Limits, Missing, Turn, Write};
use rustix::fs::OFlags;
use rustix::io::Errno;

impl Cgroup {
    /// Writes everything, in the order given. Stops at the first that fails.
    pub fn apply(&self, limits: &Limits) -> Result<()> {
        self.check(limits)?;
        let mut postponed = Vec::new();
        for write in &limits.writes {
            let written = match write.turn {
                Turn::Again if !postponed.contains(&&*write.file) => continue,
                Turn::Lines => self.write_lines(&write.file, &write.value),
                Turn::Once | Turn::Early | Turn::Again => file::write(&self.dir, &write.file, &write.value),
            };
            match written {
                Ok(()) => {}
                Err(Errno::INVAL) if write.turn == Turn::Early => postponed.push(&*write.file),
                Err(errno) => self.without(write, errno)?,
            }
        }
        Ok(())
    }

    /// Refuses limits that the cgroup is above already, where that is asked for.
    pub fn check(&self, limits: &Limits) -> Result<()> {
        limits.above_usage.map_or(Ok(()), |check| self.check_usage(check.memory_and_swap, check.memory))
    }

    /// Like [`Cgroup::apply`], but what the files said before is written back when one write fails. Only a device
    /// that had no line in a file of lines keeps its new one.
    pub fn change(&self, limits: &Limits) -> Result<()> {
        let read = |write: &Write| Some((write.file.clone(), file::read(&self.dir, &write.file).ok()?));
        let before: Vec<_> = limits.writes.iter().filter_map(read).collect();
        let Err(error) = self.apply(limits) else { return Ok(()) };
        for (name, text) in before.iter().rev() {
            if let Err(errno) = self.write_lines(name, if text.is_empty() { "\n" } else { text }) {
                bail!("{error}; setting back {name} failed: {}", errno_text(errno));
            }
        }
        Err(error)
    }

    /// Lowering a limit below the present use would make the kernel kill. What can't be read is not checked.
    fn check_usage(&self, memory_and_swap: Option<u64>, memory: Option<u64>) -> Result<()> {
        let text = file::read(&self.dir, "memory.current").unwrap_or_default();
        let Ok(usage) = text.trim().parse::<u64>() else { return Ok(()) };
        if let Some(limit) = memory_and_swap.filter(|limit| *limit <= usage) {
            bail!("rejecting memory+swap limit {limit} <= usage {usage}");
        }
        if let Some(limit) = memory.filter(|limit| *limit <= usage) {
            bail!("rejecting memory limit {limit} <= usage {usage}");
        }
        Ok(())
    }

    fn write_lines(&self, name: &str, lines: &str) -> std::result::Result<(), Errno> {
        let file = file::open(&self.dir, name, OFlags::WRONLY)?;
        lines.split_inclusive('\n').try_for_each(|line| file::put(&file, line))
    }

    /// A write failed: goes another way if the plan knows one, else says why.
    fn without(&self, write: &Write, errno: Errno) -> Result<()> {
        match (&write.missing, errno) {
            (Missing::Harmless, Errno::NOENT) => Ok(()),
            (Missing::Accept, Errno::NOENT) if self.has(write.controller()) => Ok(()),
            (Missing::Instead(name, value), Errno::NOENT) => match file::write(&self.dir, name, value) {
                Ok(()) => Ok(()),
                Err(errno) => {
                    let other = Write { file: (*name).into(), value: value.clone(), ..write.clone() };
                    Err(self.failure(&other, errno))
                }
            },
            (Missing::Unified, _) => Err(self.unified_failure(write, errno)),
            _ => Err(self.failure(write, errno)),
        }
    }

    fn failure(&self, write: &Write, errno: Errno) -> Error {
        let Write { origin, file, value, .. } = write;
        // The file of a missing controller can't be opened; without O_CREAT that is ENOENT.
        if errno == Errno::NOENT {
            return Error::new(format!(
                "{origin}: cannot write {file}: {}",
                self.why_missing(write.controller())
            ));
        }
        let path = self.path.display();
        Error::new(format!("{origin}: failed to write {value:?}: write {path}/{file}: {}", errno_text(errno)))
    }

    /// In runc's words, which its callers know.
    fn unified_failure(&self, write: &Write, errno: Errno) -> Error {
        let (origin, file, controller) = (&write.origin, &write.file, write.controller());
        if matches!(errno, Errno::NOENT | Errno::PERM | Errno::ACCESS) {
            if !file.contains('.') {
                return Error::new(format!(
                    "{origin}: unified resource {file:?} must be in the form CONTROLLER.PARAMETER"
                ));
            }
            if controller != "cgroup" && !self.has(controller) {
                return Error::new(format!(
                    "{origin}: unified resource {file:?} can't be set: controller {controller:?} not available: {}",
                    self.why_missing(controller)
                ));
            }
        }
        let path = self.path.display();
        Error::new(format!(
            "{origin}: unable to set unified resource {file:?}: failed to write {:?}: write {path}/{file}: {}",
            write.value,
            errno_text(errno)
        ))
    }

    /// Whether the controller works in this cgroup.
    fn has(&self, controller: &str) -> bool {
        let names = file::read(&self.dir, "cgroup.controllers").unwrap_or_default();
        names.split_whitespace().any(|name| name == controller)
    }

    /// Where the controller went, and what to do.
    fn why_missing(&self, controller: &str) -> String {
        if self.has(controller) || controller == "cgroup" {
            return "this kernel has no such file; a newer one may, or remove the limit".into();
        }
        let Ok(layout) = Layout::find() else { return "the cgroup2 hierarchy is gone".into() };
        let mount = layout.mount.display();
        let offered = std::fs::read_to_string(layout.mount.join("cgroup.controllers")).unwrap_or_default();
        if offered.split_whitespace().any(|name| name == controller) {
            return format!(
                "the {controller} controller is not enabled for {}; it has to stand in cgroup.subtree_control of \
                 every cgroup above, which one that holds processes itself refuses",
                self.path.display()
            );
        }
        let lacks = format!("this host's cgroup2 hierarchy ({mount}) has no {controller} controller");
        if belongs_to_v1(controller) {
            return format!(
                "{lacks} (it belongs to cgroup v1 here); boot with systemd.unified_cgroup_hierarchy=1 or \
                 cgroup_no_v1=all, or remove the limit"
            );
        }
        format!(
            "{lacks}; the kernel is built without it or started with cgroup_disable={controller}: remove the limit"
        )
    }
}

/// Each line of /proc/self/cgroup names a hierarchy of v1 and its controllers.
fn belongs_to_v1(controller: &str) -> bool {
    let name = if controller == "io" { "blkio" } else { controller };
    let text = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split(':').nth(1))
        .flat_map(|names| names.split(','))
        .any(|n| n == name)
}
