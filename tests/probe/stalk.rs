//! Lies in wait for processes that enter the container, and tries to look into each, and to trace it, before it is the
//! program that it will be: CVE-2016-9962. The files of its descriptors and its memory are what an attacker wants.

use nix::sys::{ptrace, wait::waitpid};
use nix::unistd::Pid;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// What became of all looks.
#[derive(Default)]
pub struct Looks {
    /// How many the kernel refused.
    pub refused: u64,
    /// What could be seen, or done.
    pub caught: Vec<String>,
}

/// Goes on until `stop` is there.
pub fn stalk(stop: &Path) -> Looks {
    let mut looks = Looks::default();
    let own = std::process::id().to_string();
    let program = fs::read_link("/proc/self/exe").unwrap_or_default();
    while !stop.exists() {
        if !looks.caught.is_empty() {
            // One is enough; what comes now is let in undisturbed.
            std::thread::sleep(std::time::Duration::from_millis(10));
            continue;
        }
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name != own && name.bytes().all(|byte| byte.is_ascii_digit()) {
                look(&entry.path(), &program, &mut looks);
            }
        }
    }
    looks
}

/// Every way to get at one process. Only what is the program by now, which is the container's own, may be seen.
fn look(process: &Path, program: &Path, looks: &mut Looks) {
    let exe = || fs::read_link(process.join("exe"));
    if exe().is_ok_and(|path| path == program) {
        return;
    }
    let descriptors: Vec<PathBuf> = fs::read_dir(process.join("fd"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .collect();
    let memory = fs::File::open(process.join("mem")).map(drop);
    let pid = process.file_name().and_then(|name| name.to_str()?.parse().ok()).map(Pid::from_raw);
    let traced = pid.map(trace);
    if memory.as_ref().is_err_and(|error| error.kind() == ErrorKind::PermissionDenied) {
        looks.refused += 1;
    }
    // What succeeded may have met the program. What says what it is says so to those who may look.
    if let Ok(path) = exe()
        && path != program
    {
        looks.caught.push(format!(
            "{} is {}: descriptors {descriptors:?}, memory {memory:?}, traced {traced:?}",
            process.display(),
            path.display()
        ));
    }
}

/// Attaches, and lets it go again at once.
fn trace(pid: Pid) -> nix::Result<()> {
    ptrace::seize(pid, ptrace::Options::empty())?;
    // It may end meanwhile; then there is nothing to let go.
    let _ = ptrace::interrupt(pid).and_then(|()| waitpid(pid, None)).and_then(|_| ptrace::detach(pid, None));
    Ok(())
}
