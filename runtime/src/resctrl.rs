//! The container's group in the resctrl file system, as [`crate::plan::rdt`] decided: made, given its schemata, joined,
//! measured, removed. The kernel says what was wrong with a write in `info/last_cmd_status`. Every path lies below a
//! root that is found here once; nothing here knows another. The kernel's Documentation/filesystems/resctrl.rst

pub mod stats;

use crate::bail;
use crate::error::{Context, Error, Result};
use crate::plan::rdt::{Machine, Origin, Plan};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Looks for a mounted resctrl; whoever wants one has mounted it.
///
/// # Errors
/// /proc/self/mountinfo that can't be read.
pub fn find() -> Result<Option<Machine>> {
    let table = std::fs::read("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    Ok(mount_point(&String::from_utf8_lossy(&table)).map(|root| offers(&root)))
}

/// What the resctrl at `root` can do.
pub fn offers(root: &Path) -> Machine {
    let info = |name: &str| root.join("info").join(name);
    let step = std::fs::read_to_string(info("MB/bandwidth_gran")).ok();
    Machine {
        // With code and data apart (CDP) the cache has two other names.
        cache: info("L3").is_dir() || info("L3CODE").is_dir(),
        bandwidth: info("MB").is_dir(),
        bandwidth_step: step.and_then(|text| text.trim().parse().ok()).unwrap_or(0),
        root: root.to_owned(),
    }
}

/// The mount point of the first resctrl in a mountinfo table.
fn mount_point(table: &str) -> Option<PathBuf> {
    table.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let kind = after.split(' ').next()?;
        (kind == "resctrl").then(|| before.split(' ').nth(4)).flatten().map(unescape)
    })
}

/// mountinfo writes blanks and backslashes as three octal digits.
fn unescape(text: &str) -> PathBuf {
    let known = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    known.iter().fold(text.to_owned(), |text, (code, plain)| text.replace(code, plain)).into()
}

/// Directories that [`prepare`] made, parents first.
#[derive(Debug, Default)]
pub struct Made(Vec<PathBuf>);

/// Makes the group ready for [`join`]: there, with its schemata, with its monitoring group.
///
/// # Errors
/// A closID that has to be there and is not, or is there with other schemata; what the kernel refuses, in its words.
/// Then nothing that was made is left.
pub fn prepare(plan: &Plan) -> Result<Made> {
    let mut made = Made::default();
    match furnish(plan, &mut made) {
        Ok(()) => Ok(made),
        Err(error) => {
            let error = error.context("unable to apply Intel RDT configuration");
            match take_back(&made) {
                Ok(()) => Err(error),
                Err(also) => bail!("{error}; and then: {also}"),
            }
        }
    }
}

fn furnish(plan: &Plan, made: &mut Made) -> Result<()> {
    let existed = match plan.origin {
        Origin::Given => std::fs::metadata(&plan.directory).map(|_| true).with_context(|| {
            let what = "must be pre-created when schemata, l3CacheSchema and memBwSchema are empty";
            format!("clos dir not accessible ({what}): stat {}", plan.directory.display())
        })?,
        Origin::Container | Origin::Shared => !make(plan, &plan.directory, made)?,
    };
    if plan.origin == Origin::Shared && existed {
        let path = plan.directory.join("schemata");
        let there = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        plan.compare(&there)?;
    } else {
        if plan.origin == Origin::Container && existed {
            refuse_inhabited(&plan.directory)?;
        }
        write_schemata(plan, &plan.schemata)?;
    }
    match &plan.monitor {
        Some(monitor) => make(plan, monitor, made).map(drop),
        None => Ok(()),
    }
}

/// A group of the container's own name in which somebody lives is somebody else's: deleting it would move them out.
fn refuse_inhabited(directory: &Path) -> Result<()> {
    // Removed meanwhile: writing the schemata says so.
    let tasks = std::fs::read_to_string(directory.join("tasks")).unwrap_or_default();
    if !tasks.trim().is_empty() {
        bail!(
            "{}: the group is there already and has processes; name another one by closID",
            directory.display()
        );
    }
    Ok(())
}

/// Whether the directory was made now; one that is there is as good.
fn make(plan: &Plan, directory: &Path, made: &mut Made) -> Result<bool> {
    match std::fs::create_dir(directory) {
        Ok(()) => {
            made.0.push(directory.to_owned());
            Ok(true)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(refused(&plan.root, error, format!("mkdir {}", directory.display()))),
    }
}

/// One write for all lines: the kernel takes them together.
fn write_schemata(plan: &Plan, lines: &[String]) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let text = format!("{}\n", lines.join("\n"));
    let path = plan.directory.join("schemata");
    std::fs::write(path, &text)
        .map_err(|error| refused(&plan.root, error, format!("intelrdt: unable to write {text:?}")))
}

/// What was being done, the errno, and what the kernel has to say about it.
fn refused(root: &Path, error: std::io::Error, doing: String) -> Error {
    let status = std::fs::read_to_string(root.join("info/last_cmd_status")).unwrap_or_default();
    let error = Error::from(error).context(doing);
    match status.trim() {
        "" | "ok" => error,
        status => Error::new(format!("{error}, last_cmd_status: {status}")),
    }
}

/// Puts a process, and with it its children to come, into the group; then into the monitoring group, which takes only
/// members of the group that it is of.
///
/// # Errors
/// A group that is gone.
pub fn join(plan: &Plan, pid: i32) -> Result<()> {
    for directory in std::iter::once(&plan.directory).chain(&plan.monitor) {
        match std::fs::write(directory.join("tasks"), pid.to_string()) {
            // That it is dead is told by whoever waits for it.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(()),
            written => written.map_err(|error| {
                refused(&plan.root, error, format!("write {pid} to {}/tasks", directory.display()))
                    .context("unable to apply Intel RDT configuration")
            })?,
        }
    }
    Ok(())
}

/// Writes new lines; returns the schemata as they were, for [`restore`].
///
/// # Errors
/// What the kernel refuses, in its words; then the old schemata are back in force.
pub fn change(plan: &Plan, lines: &[String]) -> Result<String> {
    let path = plan.directory.join("schemata");
    let before = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    match write_schemata(plan, lines) {
        Ok(()) => Ok(before),
        // The kernel may have taken the first lines of several.
        Err(error) => match restore(plan, &before) {
            Ok(()) => Err(error),
            Err(also) => bail!("{error}; and then: {also}"),
        },
    }
}

/// Sets back what [`change`] returned.
///
/// # Errors
/// What the kernel refuses.
pub fn restore(plan: &Plan, before: &str) -> Result<()> {
    write_schemata(plan, &before.lines().map(str::to_owned).collect::<Vec<_>>())
        .context("set back the schemata")
}

/// Removes what is the container's own: the group that is named after it, and its monitoring group in any other.
///
/// # Errors
/// What can't be removed; that it is gone is no error.
pub fn remove(plan: &Plan) -> Result<()> {
    match plan.origin {
        // Its monitoring groups go with it.
        Origin::Container => remove_directory(&plan.directory),
        Origin::Shared | Origin::Given => plan.monitor.as_deref().map_or(Ok(()), remove_directory),
    }
}

/// Removes what a birth made that failed: a shared group, too, in which there was nobody yet.
///
/// # Errors
/// As for [`remove`].
pub fn take_back(made: &Made) -> Result<()> {
    made.0.iter().rev().try_for_each(|directory| remove_directory(directory))
}

/// The kernel's own files in it do not hold a group.
fn remove_directory(directory: &Path) -> Result<()> {
    match std::fs::remove_dir(directory) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("rmdir {}", directory.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_is_found_by_its_type() {
        let table = "22 1 0:20 / /sys rw shared:2 - sysfs sysfs rw\n\
                     23 22 0:21 / /sys/fs/resctrl\\040x rw,nosuid shared:3 master:1 - resctrl resctrl rw,mba_MBps\n\
                     24 22 0:21 / /resctrl rw - tmpfs resctrl rw\n";
        assert_eq!(mount_point(table), Some("/sys/fs/resctrl x".into()));
        assert_eq!(mount_point("24 22 0:21 / /resctrl rw - tmpfs resctrl rw\nrubbish\n"), None);
    }
}
