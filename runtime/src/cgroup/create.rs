//! Making a container's cgroup: the directories, the controllers on the way down, the limits, the device rules. What
//! was made is taken back when anything fails.

use super::{Cgroup, FROZEN, Layout, directory, file};
use crate::bail;
use crate::error::{Context, Error, Result, errno_text, phrase};
use crate::plan::cgroup::Plan;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, Mode, mkdirat, unlinkat};
use rustix::io::Errno;
use std::path::{Path, PathBuf};

/// Makes the cgroup of `plan` ready for a process to be born into; its device rules follow by
/// [`Cgroup::restrict_devices`], while init prepares the container. `None` when the plan can do without one and this
/// user may not make any.
pub fn create(layout: &Layout, plan: &Plan) -> Result<Option<Cgroup>> {
    let mut made = Vec::new();
    let path = layout.directory(&plan.path);
    let created = make(layout, &path, &mut made).map_err(|(path, errno)| refusal(plan, &path, errno));
    match created.and_then(|dir| furnish(layout, plan, Cgroup { dir, path, made: made.clone() })) {
        Ok(cgroup) => Ok(Some(cgroup)),
        Err(Refusal::Dispensable) => Ok(None),
        Err(Refusal::Failed(error)) => match remove(&made) {
            Ok(()) => Err(error),
            Err(also) => bail!("{error}; {also}"),
        },
    }
}

/// Refuses the place of a unit where others live already, or that is frozen, itself or from above: systemd would put the
/// process there.
pub fn check_place(layout: &Layout, plan: &Plan) -> Result<()> {
    let path = layout.directory(&plan.path);
    if let Some(cgroup) = Cgroup::open(&path)? {
        return check_state(&cgroup);
    }
    for above in path.ancestors().skip(1).take_while(|above| *above != layout.mount) {
        if let Some(cgroup) = Cgroup::open(above)? {
            return cgroup.join_check();
        }
    }
    Ok(())
}

/// Opens the cgroup that systemd made for process `pid` and put it into, says where it is, and does what systemd does
/// not know of. A slice takes no processes from systemd, so the process enters it here.
pub fn enter_unit(layout: &Layout, plan: &Plan, pid: i32, place: &mut Option<PathBuf>) -> Result<Cgroup> {
    let is_slice = plan.unit.as_ref().is_some_and(|unit| unit.is_slice);
    let path = match is_slice {
        true => layout.directory(&plan.path),
        false => layout.directory(Path::new(&super::path_of(&pid.to_string())?)),
    };
    let unit = plan.unit.as_ref().map(|unit| Path::new(&unit.name));
    if path.file_name().map(Path::new) != unit {
        bail!("systemd did not put process {pid} into its unit: it is in {}", path.display());
    }
    let dir = directory(&path).with_context(|| format!("open cgroup {}", path.display()))?;
    let cgroup = Cgroup { dir, path, made: Vec::new() };
    if is_slice {
        check_state(&cgroup)?;
        cgroup.add(pid)?;
    }
    *place = Some(cgroup.path.clone());
    enable_controllers(layout, plan, &cgroup);
    cgroup.apply(&plan.limits)?;
    Ok(cgroup)
}

/// Removes directories that were made, the deepest first.
pub(super) fn remove(made: &[PathBuf]) -> Result<()> {
    for path in made.iter().rev() {
        match unlinkat(CWD, path, AtFlags::REMOVEDIR) {
            // A parent that got other children meanwhile is theirs now.
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::BUSY) => {}
            Err(errno) => return Err(errno).with_context(|| format!("rmdir {}", path.display())),
        }
    }
    Ok(())
}

enum Refusal {
    Dispensable,
    Failed(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

fn refusal(plan: &Plan, path: &Path, errno: Errno) -> Refusal {
    let denied = matches!(errno, Errno::ACCESS | Errno::PERM | Errno::ROFS);
    if denied && plan.dispensable {
        return Refusal::Dispensable;
    }
    let mut text = format!("mkdir {}: {}", path.display(), errno_text(errno));
    if errno == Errno::ROFS {
        text.push_str(" (a container around this one may mount it so; it has to be writable here)");
    }
    if denied && plan.rootless_without_path {
        text = format!(
            "rootless needs no limits + no cgrouppath when no permission is granted for cgroups: {text}"
        );
    }
    Refusal::Failed(Error::new(text).context(phrase::APPLY_CGROUP))
}

/// The directory, with all parents that are missing. Mostly one mkdir(2) is enough.
fn make(
    layout: &Layout,
    path: &Path,
    made: &mut Vec<PathBuf>,
) -> std::result::Result<OwnedFd, (PathBuf, Errno)> {
    /// How often a parent may be taken away under us by the end of another container.
    const ATTEMPTS: usize = 16;
    for _ in 0..ATTEMPTS {
        match make_one(path, made) {
            Err((_, Errno::NOENT)) => {}
            done => {
                done?;
                break;
            }
        }
        let above = path.ancestors().skip(1).take_while(|above| *above != layout.mount);
        for parent in above.collect::<Vec<_>>().into_iter().rev() {
            match make_one(parent, made) {
                Err((_, Errno::NOENT)) => break,
                done => done?,
            }
        }
    }
    directory(path).map_err(|errno| (path.into(), errno))
}

fn make_one(path: &Path, made: &mut Vec<PathBuf>) -> std::result::Result<(), (PathBuf, Errno)> {
    match mkdirat(CWD, path, Mode::from_raw_mode(0o755)) {
        Ok(()) => made.push(path.into()),
        Err(Errno::EXIST) => {}
        Err(errno) => return Err((path.into(), errno)),
    }
    Ok(())
}

fn furnish(layout: &Layout, plan: &Plan, cgroup: Cgroup) -> std::result::Result<Cgroup, Refusal> {
    let fresh = !cgroup.made.is_empty();
    // A fresh child of the root can be neither frozen nor threaded: the root never is, and where the mount shows only
    // a part of the hierarchy, this process lives below the same top.
    if !fresh || plan.path.components().nth(2).is_some() {
        check_state(&cgroup)?;
        check_type(layout, plan, &cgroup)?;
    }
    if let Enabled::OfThreads = enable_controllers(layout, plan, &cgroup) {
        check_type(layout, plan, &cgroup)?;
    }
    cgroup.apply(&plan.limits)?;
    Ok(cgroup)
}

fn check_state(cgroup: &Cgroup) -> Result<()> {
    let Some(events) = cgroup.events()? else { return Ok(()) };
    if events.populated {
        let count = cgroup.pids()?.len();
        bail!("container's cgroup is not empty: {count} process(es) found");
    }
    if events.frozen {
        bail!("{FROZEN}");
    }
    Ok(())
}

/// Below a threaded cgroup there are only threaded ones, and in those only some controllers work.
fn check_type(layout: &Layout, plan: &Plan, cgroup: &Cgroup) -> Result<()> {
    let kind = file::read_if_there(&cgroup.dir, "cgroup.type").unwrap_or_default().unwrap_or_default();
    let kind = kind.trim_end();
    let path = cgroup.path.display();
    match (kind, plan.limits.needs_domain()) {
        ("domain invalid", true) => {
            bail!("cannot enter cgroupv2 \"{path}\" with domain controllers -- it is in an invalid state")
        }
        ("domain threaded" | "threaded", true) => {
            bail!("cannot enter cgroupv2 \"{path}\" with domain controllers -- it is in {kind} mode")
        }
        ("domain invalid", false) => {
            for above in ways_down(layout, &cgroup.path) {
                make_threaded(&above);
            }
            make_threaded(&cgroup.path);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Only an invalid domain is changed; where that fails, the birth into it says so.
fn make_threaded(path: &Path) {
    let Ok(dir) = directory(path) else { return };
    if file::read(&dir, "cgroup.type").is_ok_and(|kind| kind.trim_end() == "domain invalid") {
        // Refused: the birth into it says so.
        let _refused = file::write(&dir, "cgroup.type", "threaded");
    }
}

/// The cgroups from the root to the parent of `path`.
fn ways_down(layout: &Layout, path: &Path) -> Vec<PathBuf> {
    let mut above: Vec<_> = path
        .ancestors()
        .skip(1)
        .take_while(|above| above.starts_with(&layout.mount))
        .map(PathBuf::from)
        .collect();
    above.reverse();
    above
}

/// What became of the controllers.
enum Enabled {
    /// What is there is for whole processes; so are all cgroups on the way.
    Whole,
    /// A cgroup above keeps its processes: below it there may be only threaded ones now.
    OfThreads,
}

/// Enables every controller that the machine offers all the way down, as runc does, because what measures containers
/// relies on it; on a hybrid host, whose few controllers nobody measures, only those that a limit needs. What can't
/// be enabled shows when a limit of it is written.
fn enable_controllers(layout: &Layout, plan: &Plan, cgroup: &Cgroup) -> Enabled {
    let limited = |name: &&str| plan.limits.writes.iter().any(|write| write.controller() == *name);
    if layout.hybrid && plan.limits.writes.is_empty() {
        return Enabled::Whole;
    }
    let offered = std::fs::read_to_string(layout.mount.join("cgroup.controllers")).unwrap_or_default();
    let needed = |name: &&str| !layout.hybrid || limited(name);
    let wanted: Vec<_> = offered.split_whitespace().filter(needed).collect();
    let present = file::read(&cgroup.dir, "cgroup.controllers").unwrap_or_default();
    if wanted.iter().all(|name| present.split_whitespace().any(|there| there == *name)) {
        return Enabled::Whole;
    }
    let all: Vec<_> = wanted.iter().map(|name| format!("+{name}")).collect();
    let mut enabled = Enabled::Whole;
    for above in ways_down(layout, &cgroup.path) {
        let Ok(dir) = directory(&above) else { return enabled };
        if file::write(&dir, "cgroup.subtree_control", &all.join(" ")).is_err() {
            let inhabited = is_inhabited(&dir);
            // Beside processes only controllers of threads can be enabled, at the price of processes below: not
            // without need.
            for one in wanted.iter().filter(|name| !inhabited || limited(name)) {
                // Not to be had: the limit that needs it says so when it is written.
                let done = file::write(&dir, "cgroup.subtree_control", &format!("+{one}"));
                if inhabited && done.is_ok() {
                    enabled = Enabled::OfThreads;
                }
            }
        }
    }
    enabled
}

/// Whether processes live in a cgroup that is not the machine's root, for which nothing of this matters: where a
/// container around this one has its own processes.
fn is_inhabited(dir: &OwnedFd) -> bool {
    let text = |name| file::read_if_there(dir, name).ok().flatten();
    text("cgroup.type").is_some() && text("cgroup.procs").is_some_and(|pids| !pids.is_empty())
}
