//! Writes the limits of a plan into the files of a cgroup, and says why where one can't be kept: a controller that
//! is missing is never passed over in silence.

use super::{Cgroup, Layout, file};
use crate::bail;
use crate::error::{Error, Result, errno_text};
use crate::plan::cgroup::{Limits, Missing, Turn, Write};
use refusals::Place;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::path::Path;

mod refusals;

/// What files said before limits were changed, in the order in which they are set back.
pub struct Before(Vec<(String, String)>);

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

    /// What the files that `limits` will write say now.
    pub fn before(&self, limits: &Limits) -> Before {
        let mut names: Vec<&str> = Vec::new();
        for write in limits.writes.iter().rev() {
            // An idle cgroup loses its weight; and another file may have to do.
            let lost = (write.file == "cpu.idle").then_some("cpu.weight");
            let other = if let Missing::Instead(name, _) = &write.missing { Some(*name) } else { None };
            for name in [&*write.file].into_iter().chain(lost).chain(other) {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        let mut before: Vec<_> = names
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), file::read(&self.dir, name).ok()?)))
            .collect();
        if before.iter().any(|(name, text)| name == "cpu.idle" && text.trim_end() == "1") {
            before.retain(|(name, _)| name != "cpu.weight");
        }
        Before(before)
    }

    /// Writes back what was before, whatever of it changed.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn set_back(&self, before: &Before) -> Result<()> {
        let restore = |(name, before): &&(String, String)| {
            let now = file::read(&self.dir, name)?;
            match (now == *before, before.is_empty()) {
                (true, _) => Ok(()),
                (false, true) if !is_by_device(name) => self.write_lines(name, "\n"),
                (false, _) => self.write_lines(name, &(unlimited(name, before, &now) + before)),
            }
        };
        // Some depend on each other (a burst on its quota, a weight on not being idle): those come right later.
        let left: Vec<_> = before.0.iter().filter(|entry| restore(entry).is_err()).collect();
        for entry in left {
            if let Err(errno) = restore(&entry) {
                bail!("setting back {} failed: {}", entry.0, errno_text(errno));
            }
        }
        Ok(())
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
        if errno == Errno::NOENT && file.starts_with("hugetlb.") && self.has("hugetlb") {
            let sizes = refusals::page_sizes(&self.place());
            return Error::new(format!("{origin}: cannot write {file}: this machine has {sizes}"));
        }
        // The file of a missing controller can't be opened; without O_CREAT that is ENOENT.
        if errno == Errno::NOENT {
            return Error::new(format!(
                "{origin}: cannot write {file}: {}",
                self.why_missing(write.controller())
            ));
        }
        Error::new(format!("{origin}: {}", self.refusal(file, value, errno)))
    }

    /// runc's words, then what would have been taken.
    fn refusal(&self, file: &str, value: &str, errno: Errno) -> String {
        let (path, cause) = (self.path.display(), errno_text(errno));
        let told = format!("failed to write {value:?}: write {path}/{file}: {cause}");
        match refusals::allowed(&self.place(), file, value, errno) {
            Some(allowed) => format!("{told}; {allowed}"),
            None => told,
        }
    }

    fn place(&self) -> Place<'_> {
        Place { dir: &self.dir, sys: Path::new("/sys") }
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
        let refusal = self.refusal(file, &write.value, errno);
        Error::new(format!("{origin}: unable to set unified resource {file:?}: {refusal}"))
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

/// Files with a line per device that has a limit, and none for the others.
fn is_by_device(file: &str) -> bool {
    matches!(file, "io.max" | "io.latency" | "io.weight" | "io.bfq.weight")
}

/// The lines that take the limits off again of devices that had no line in `before` and have one `now`.
fn unlimited(file: &str, before: &str, now: &str) -> String {
    let line_of = |line: &str| {
        let (device, limits) = line.split_once(' ')?;
        let fresh = device.contains(':') && !before.lines().any(|old| old.split(' ').next() == Some(device));
        let none = |limit: &str| match limit.split_once('=') {
            Some(("target", _)) => "target=0".to_owned(),
            Some((key, _)) => format!("{key}=max"),
            None => "default".to_owned(),
        };
        let none: Vec<_> = limits.split_whitespace().map(none).collect();
        fresh.then(|| format!("{device} {}\n", none.join(" ")))
    };
    if is_by_device(file) { now.lines().filter_map(line_of).collect() } else { String::new() }
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

#[cfg(test)]
mod tests {
    use super::unlimited;

    #[test]
    fn a_device_that_had_no_limit_loses_the_new_one() {
        let now = "8:0 rbps=1 wbps=max riops=max wiops=max\n254:0 rbps=5 wbps=max riops=max wiops=9\n";
        let none = "254:0 rbps=max wbps=max riops=max wiops=max\n";
        assert_eq!(unlimited("io.max", "8:0 rbps=7 wbps=max riops=max wiops=max\n", now), none);
        assert_eq!(unlimited("io.bfq.weight", "default 100\n", "default 50\n8:0 7\n"), "8:0 default\n");
        assert_eq!(unlimited("io.latency", "", "8:0 target=7\n"), "8:0 target=0\n");
        assert_eq!(unlimited("memory.max", "max\n", "5\n"), "");
    }
}
