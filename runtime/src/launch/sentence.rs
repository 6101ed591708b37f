//! What init says in numbers, as a sentence: the step tells what was being done, in runc's words where engines or
//! people know them.

use crate::error::{Error, errno_text, phrase};
use crate::plan::steps::Steps;
use pintle_init::order::{Protected, Step};
use rustix::io::Errno;
use std::ffi::CStr;

/// The failure of step `index`.
pub fn failure(steps: &Steps, index: usize, errno: i32, operation: &[u8], note: &[u8]) -> Error {
    let said = Said {
        operation: String::from_utf8_lossy(operation).into_owned(),
        errno: Errno::from_raw_os_error(errno),
        note: String::from_utf8_lossy(note).into_owned(),
    };
    let mut sentence = None;
    steps.each(|n, step| {
        if n == index {
            sentence = Some(said.about(step));
        }
    });
    let sentence = sentence.unwrap_or_else(|| said.plain());
    if said.errno == Errno::NOMEM { Error::out_of_memory(sentence) } else { Error::new(sentence) }
}

/// What init said.
struct Said {
    operation: String,
    errno: Errno,
    note: String,
}

impl Said {
    /// `operation: errno`, and the kernel's own words if there are any.
    fn plain(&self) -> String {
        let mut text = match self.operation.as_str() {
            "" => errno_text(self.errno),
            operation => format!("{operation}: {}", errno_text(self.errno)),
        };
        if !self.note.is_empty() {
            text = format!("{text} ({})", self.note.trim_end().replace('\n', "; "));
        }
        text
    }

    /// A check that has a sentence of its own needs no errno.
    fn refusal(&self) -> Option<&str> {
        let whole = ["mountpoint is on the top of rootfs", "cannot be mounted because it is inside /proc"];
        whole.iter().find(|text| **text == self.operation).copied()
    }

    fn binding(&self, source: &CStr, target: &CStr) -> String {
        let cause = match self.operation.as_str() {
            "open source" => format!("open {}: {}", text(source), errno_text(self.errno)),
            "only a procfs may be bound there" => {
                format!("{} cannot be mounted because it is not of type proc", quoted(target))
            }
            _ => self.cause(),
        };
        format!("{}: {cause}", mounting(source, target))
    }

    fn about(&self, step: &Step<'_>) -> String {
        match step {
            Step::Filesystem { kind, source, place, .. } => {
                let cause = match self.operation.as_str() {
                    "must be mounted on ordinary directory" => {
                        format!("filesystem {} must be mounted on ordinary directory", quoted(kind))
                    }
                    _ => self.cause(),
                };
                format!("{}: {cause}", mounting(source, place.target))
            }
            Step::Tree { source, target, .. } => self.binding(source, target),
            Step::Bind { source, place, .. } => self.binding(source, place.target),
            Step::SendTree { path, .. } if self.operation == "open source" => {
                format!("open {}: {}", text(path), errno_text(self.errno))
            }
            Step::CgroupMount { place, .. } => {
                format!("{}: {}", mounting(c"cgroup", place.target), self.cause())
            }
            Step::Device { directory, name, .. } | Step::DeviceBind { directory, name, .. } => {
                format!("error creating device nodes: {}/{}: {}", text(directory), text(name), self.plain())
            }
            Step::Link { directory, name, .. } => {
                format!("symlink {}/{}: {}", text(directory), text(name), self.plain())
            }
            Step::Root { path, .. } | Step::OwnRoot { path, .. } => {
                format!("rootfs {}: {}", text(path), self.plain())
            }
            Step::DropKernelMounts { .. } | Step::Pivot {} | Step::MoveRoot {} | Step::Chroot {} => {
                format!("error jailing process inside rootfs: {}", self.plain())
            }
            Step::Sysctl { path, .. } => format!("sysctl {}: {}", text(path).replace('/', "."), self.plain()),
            Step::Mask { path, .. } => format!("can't mask path {:?}: {}", protected(path), self.plain()),
            Step::ReadOnly { path } => {
                format!("can't make {:?} read-only: {}", protected(path), self.plain())
            }
            Step::MakeCwd { path } => format!("mkdir {}: {}", text(path), errno_text(self.errno)),
            Step::Cwd { path } | Step::CwdAgain { path } => match self.operation.as_str() {
                "getcwd" if self.errno == Errno::NOENT => phrase::BREAKOUT.to_owned(),
                _ => format!(
                    "chdir to cwd ({}) set in config.json failed: {}",
                    quoted(path),
                    errno_text(self.errno)
                ),
            },
            Step::Lookup { name, .. } => self.lookup(name),
            Step::Exec { .. } => self.plain(),
            // init wrote the whole sentence: after `start` it has nobody else to do so.
            Step::Hook { .. } if !self.note.is_empty() => self.note.clone(),
            Step::Label { attribute, value, .. } => {
                let (value, attribute) = (String::from_utf8_lossy(value), text(attribute));
                if attribute.ends_with("/apparmor/exec") {
                    let profile = value.strip_prefix("exec ").unwrap_or(&value);
                    return format!("unable to apply apparmor profile: {profile:?}: {}", self.plain());
                }
                let of = if attribute.ends_with("/keycreate") { " of keys" } else { "" };
                format!("unable to apply selinux label{of} {value:?}: {}", self.plain())
            }
            Step::Identity { uid, gid, .. }
                if self.errno == Errno::INVAL && self.operation != "setgroups" =>
            {
                format!("{}: user {uid} or group {gid} is not mapped in the user namespace", self.plain())
            }
            Step::Seccomp { .. } => format!("unable to init seccomp: {}", self.plain()),
            Step::Join { kinds, .. } => format!("error joining namespaces {kinds:#x}: {}", self.plain()),
            Step::Console { .. } => format!("error setting up the terminal: {}", self.plain()),
            Step::ReopenNull {} => format!("error reopening /dev/null inside container: {}", self.plain()),
            Step::Rlimit { resource, .. } => {
                let cause = errno_text(self.errno);
                format!(
                    "error setting rlimits for ready process: error setting rlimit type {resource}: {cause}"
                )
            }
            Step::Affinity { .. } => {
                format!("error setting final CPU affinity: {}", errno_text(self.errno))
            }
            Step::Scheduler { policy, .. } => {
                let cause = errno_text(self.errno);
                // sched_setattr(2): a deadline needs CAP_SYS_NICE, and an affinity with all CPUs of its domain.
                let deadline =
                    i32::try_from(*policy) == Ok(libc::SCHED_DEADLINE) && self.errno == Errno::PERM;
                let hint = match deadline {
                    true => {
                        "; process scheduler can't be used together with AllowedCPUs (linux.resources.cpu.cpus)"
                    }
                    false => "",
                };
                format!("error setting scheduler: {cause}{hint}")
            }
            _ => self.plain(),
        }
    }

    fn cause(&self) -> String {
        self.refusal().map_or_else(|| self.plain(), str::to_owned)
    }

    /// Docker, Podman and Kubernetes make exit statuses 126 and 127 of these words.
    fn lookup(&self, name: &CStr) -> String {
        let name_text = text(name);
        let why = match self.operation.as_str() {
            "not in $PATH" => "executable file not found in $PATH".to_owned(),
            "stat" => format!("stat {name_text}: {}", errno_text(self.errno)),
            _ => errno_text(self.errno),
        };
        format!("exec: {}: {why}", quoted(name))
    }
}

/// A mount that failed, up to the cause.
pub fn mounting(source: &CStr, target: &CStr) -> String {
    format!("error mounting {} to rootfs at {}", quoted(source), quoted(target))
}

fn protected(path: &Protected<'_>) -> String {
    text(path.mount_point) + &text(path.path)
}

fn text(text: &CStr) -> String {
    text.to_string_lossy().into_owned()
}

fn quoted(name: &CStr) -> String {
    format!("{:?}", text(name))
}

/// A signal as Go prints it: `killed`, `terminated`.
pub fn signal_name(signal: i32) -> String {
    let known = match signal {
        1 => "hangup",
        2 => "interrupt",
        3 => "quit",
        4 => "illegal instruction",
        6 => "aborted",
        8 => "floating point exception",
        9 => "killed",
        11 => "segmentation fault",
        13 => "broken pipe",
        14 => "alarm clock",
        15 => "terminated",
        31 => "bad system call",
        other => return format!("signal {other}"),
    };
    known.to_owned()
}
