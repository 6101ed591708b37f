//! Who may be given which path: the rules of docs/birth.md, "Paths", held against the trace of a whole verb. Each
//! process is followed from its birth to what it becomes; what matters of a descriptor is where it came from.

use super::calls::{Path, paths};
use super::strace::Call;
use std::collections::BTreeMap;

/// What is known of a verb before it is traced.
#[derive(Debug)]
pub struct Known {
    /// The rootfs on the host.
    pub rootfs: String,
    /// Paths of the host that init may open on its way; one that ends in a slash stands for all below.
    pub host: Vec<String>,
    /// Paths that are looked up in the container's own root.
    pub inside: Vec<String>,
    /// init joins a mount namespace whose root is the container's already: an exec.
    pub joins_root: bool,
}

/// One process's calls.
pub type Trace = BTreeMap<i64, Vec<Call>>;

/// What was found, and how often each rule was used: a trace that uses none shows nothing.
#[derive(Debug, Default)]
pub struct Findings {
    /// Each call that no rule allows, with the reason.
    pub wrong: Vec<String>,
    /// By rule.
    pub used: BTreeMap<&'static str, usize>,
}

/// What a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The runtime, in the host's namespaces.
    Runtime,
    /// init, while `/` is the host's.
    Init,
    /// init, when `/` is the container's.
    Entered,
    /// A hook or the user's program: not ours.
    Foreign,
}

/// Where a descriptor came from, as far as a rule asks.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    /// Opened by a path of the host's.
    Host(String),
    /// The rootfs, or something looked up below it.
    Root,
    /// A file system's context: its type.
    Context(String),
    /// A new file system that is mounted nowhere, or what lies in it: nobody else can reach it.
    New,
    /// A whole procfs that was verified to be one.
    Procfs,
    /// What was looked up in it.
    InProcfs,
    /// Anything else.
    Other,
}

#[derive(Clone, Debug)]
struct Process {
    phase: Phase,
    descriptors: BTreeMap<i64, Origin>,
    /// It stands in the rootfs, by fchdir.
    in_root: bool,
}

/// Follows all processes.
pub fn check(trace: &Trace, known: &Known) -> Findings {
    let mut findings = Findings::default();
    let begin = Process { phase: Phase::Runtime, descriptors: BTreeMap::new(), in_root: false };
    let children = |calls: &Vec<Call>| calls.iter().filter_map(child).collect::<Vec<_>>();
    let born: Vec<i64> = trace.values().flat_map(children).collect();
    let mut open: Vec<(i64, Process)> =
        trace.keys().filter(|pid| !born.contains(pid)).map(|pid| (*pid, begin.clone())).collect();
    if open.len() != 1 {
        findings.wrong.push(format!("{} processes that nobody bore", open.len()));
    }
    while let Some((pid, mut process)) = open.pop() {
        let Some(calls) = trace.get(&pid) else { continue };
        for (number, call) in calls.iter().enumerate() {
            // strace itself becomes the runtime.
            let becomes_runtime = number == 0 && process.phase == Phase::Runtime && call.name == "execve";
            if !becomes_runtime {
                process.judge(call, known, &mut findings);
                process.follow(call, known);
            }
            open.extend(child(call).map(|pid| (pid, process.clone())));
        }
    }
    findings
}

/// The process that a call bore.
fn child(call: &Call) -> Option<i64> {
    let bears = matches!(call.name.as_str(), "clone" | "clone3" | "fork" | "vfork");
    call.result.filter(|pid| bears && *pid > 0).map(|pid| call.seen_outside.unwrap_or(pid))
}

impl Process {
    fn judge(&self, call: &Call, known: &Known, findings: &mut Findings) {
        if self.phase == Phase::Foreign {
            return;
        }
        let judged = paths(call).and_then(|paths| {
            paths.iter().try_for_each(|path| {
                let rule = match self.phase {
                    Phase::Runtime => self.runtime(call, path, known),
                    Phase::Entered => self.entered(call, path, known),
                    _ => self.init(call, path, known),
                };
                rule.map(|rule| *findings.used.entry(rule).or_default() += 1)
            })
        });
        let judged = judged.and_then(|()| self.written(call));
        if let Err(why) = judged {
            findings.wrong.push(format!("{:?}: {why}: {}", self.phase, call.line));
        }
    }

    /// The runtime goes nowhere below the rootfs, nor where init stands, and writes to procfs as init does.
    fn runtime(&self, call: &Call, path: &Path, known: &Known) -> Result<&'static str, String> {
        let below = path.text.starts_with(&format!("{}/", known.rootfs)) || path.text.starts_with("rootfs/");
        let names: Vec<&str> = path.text.split('/').collect();
        let of_process =
            matches!(names[..], ["", "proc", process, "root" | "cwd" | "fd", ..] if process != "self");
        let unverified = self.directory(call, path) == Some(&Origin::Host("/proc".into()));
        match () {
            () if below || of_process => Err("the runtime gives a path through the rootfs".into()),
            () if path.text.starts_with("/proc/") && writes(call) => Err("writes to procfs by a path".into()),
            () if unverified && !path.text.is_empty() => Err("a procfs that was not verified".into()),
            () if call.name == "openat2" && path.directory.is_some_and(|n| call.descriptor(n).is_some()) => {
                self.beside(call, path)
            }
            () => Ok("the runtime, outside the rootfs"),
        }
    }

    /// Where the directory that a path begins at came from.
    fn directory(&self, call: &Call, path: &Path) -> Option<&Origin> {
        let fd = path.directory.and_then(|number| call.descriptor(number))?;
        Some(self.descriptors.get(&fd).unwrap_or(&Origin::Other))
    }

    /// Before the rootfs is the root.
    fn init(&self, call: &Call, path: &Path, known: &Known) -> Result<&'static str, String> {
        if path.text.starts_with('/') && !self.looks_up(call) {
            return host(call, &path.text, known);
        }
        self.beside(call, path)
    }

    /// After it: absolute paths are the container's own, and known.
    fn entered(&self, call: &Call, path: &Path, known: &Known) -> Result<&'static str, String> {
        if !path.text.starts_with('/') || self.looks_up(call) {
            return self.beside(call, path);
        }
        match known.inside.contains(&path.text) {
            true if writes(call) && path.text != "/dev/pts/ptmx" => Err("opens a path for writing".into()),
            true => Ok("a path in the container's own root"),
            false => Err("a path that nobody asked for in the container's root".into()),
        }
    }

    /// A path that begins at a descriptor.
    fn beside(&self, call: &Call, path: &Path) -> Result<&'static str, String> {
        let directory = path.directory.and_then(|number| call.descriptor(number));
        let origin = self.directory(call, path);
        let resolves = |words: &[&str]| words.iter().all(|word| call.has(2, word));
        match (path.text.as_str(), directory) {
            ("", Some(_)) => return Ok("a descriptor alone"),
            // A mount that has no source, a change of one.
            ("", None) if call.name == "mount" => return Ok("no path"),
            (".", None) if self.in_root => return Ok("where fchdir led"),
            (".", Some(_)) => return Ok("a descriptor alone"),
            _ => {}
        }
        if call.name == "openat2" {
            return match origin {
                Some(Origin::Root) if resolves(&["RESOLVE_IN_ROOT", "RESOLVE_NO_MAGICLINKS"]) => {
                    Ok("openat2 in the root")
                }
                Some(Origin::Procfs | Origin::InProcfs)
                    if resolves(&["RESOLVE_BENEATH", "RESOLVE_NO_XDEV", "RESOLVE_NO_MAGICLINKS"]) =>
                {
                    Ok("openat2 in a procfs")
                }
                // A single name, not followed, of what was made in that directory a moment ago.
                Some(Origin::Root)
                    if resolves(&["RESOLVE_BENEATH"]) && is_name(&path.text) && !path.followed =>
                {
                    Ok("a name beside its parent")
                }
                _ => Err("openat2 without the restrictions of its directory".into()),
            };
        }
        let own_descriptor =
            path.text.strip_prefix("self/fd/").is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()));
        match origin {
            // The one magic link that is followed: of a descriptor that this process holds itself.
            Some(Origin::Procfs) if own_descriptor => Ok("an own descriptor, opened anew"),
            None => Err("a path without a directory".into()),
            Some(_) if !is_name(&path.text) => Err("more than a name".into()),
            // Nobody else can have put a link there.
            Some(Origin::New) => Ok("a name in a file system that is mounted nowhere"),
            Some(_) if path.followed => Err("follows a link".into()),
            Some(_) => Ok("a name beside its parent"),
        }
    }

    /// openat2 begins at its descriptor even where the path begins with a slash.
    fn looks_up(&self, call: &Call) -> bool {
        call.name == "openat2" && (call.has(2, "RESOLVE_IN_ROOT") || call.has(2, "RESOLVE_BENEATH"))
    }

    /// Whatever is written in a procfs was looked up in one that was verified.
    fn written(&self, call: &Call) -> Result<(), String> {
        let writes = matches!(call.name.as_str(), "write" | "writev" | "pwrite64" | "pwritev");
        let origin = call.descriptor(0).and_then(|fd| self.descriptors.get(&fd));
        match origin {
            Some(Origin::Host(path))
                if writes && (self.phase == Phase::Init || path.starts_with("/proc")) =>
            {
                Err(format!("writes to the host's {path}"))
            }
            _ => Ok(()),
        }
    }

    /// What a call changes.
    fn follow(&mut self, call: &Call, known: &Known) {
        let Some(result @ 0..) = call.result else { return };
        let origin = |process: &Self, number: usize| {
            let fd = call.descriptor(number)?;
            process.descriptors.get(&fd).cloned()
        };
        match call.name.as_str() {
            "execve" => *self = Self { phase: Phase::Foreign, descriptors: BTreeMap::new(), in_root: false },
            "execveat" => self.phase = if is_init(call) { Phase::Init } else { Phase::Foreign },
            "pivot_root" | "chroot" => self.phase = Phase::Entered,
            "setns" if known.joins_root && call.has(1, "CLONE_NEWNS") => self.phase = Phase::Entered,
            // A mount namespace of the rootfs alone: there is no path of the host's any more.
            "setns" if call.has(1, "CLONE_NEWNS") && origin(self, 0) == Some(Origin::Root) => {
                self.phase = Phase::Entered;
            }
            "fchdir" => self.in_root = origin(self, 0) == Some(Origin::Root),
            "chdir" => self.in_root = false,
            "close" => drop(call.descriptor(0).map(|fd| self.descriptors.remove(&fd))),
            "close_range" => {
                let first = call.descriptor(0).unwrap_or(0);
                // ~0U and the like are no numbers to us.
                let last = call.descriptor(1).unwrap_or(i64::MAX);
                if !call.has(2, "CLOSE_RANGE_CLOEXEC") {
                    self.descriptors.retain(|fd, _| *fd < first || *fd > last);
                }
            }
            "dup2" | "dup3" => {
                drop(self.descriptors.insert(result, origin(self, 0).unwrap_or(Origin::Other)))
            }
            "fstatfs"
                if call.has(1, "PROC_SUPER_MAGIC")
                    && origin(self, 0) == Some(Origin::Host("/proc".into())) =>
            {
                drop(call.descriptor(0).map(|fd| self.descriptors.insert(fd, Origin::Procfs)));
            }
            // It lies in the container's root from now on. A procfs stays one.
            "move_mount" if origin(self, 0) == Some(Origin::New) => {
                drop(call.descriptor(0).map(|fd| self.descriptors.insert(fd, Origin::Root)));
            }
            _ => self.opened(call, result, known, origin),
        }
    }

    /// A new descriptor.
    fn opened(
        &mut self,
        call: &Call,
        result: i64,
        known: &Known,
        origin: impl Fn(&Self, usize) -> Option<Origin>,
    ) {
        let path = || call.string(1).ok().flatten().unwrap_or_default();
        let new = match call.name.as_str() {
            "fsopen" => Origin::Context(call.string(0).ok().flatten().unwrap_or_default()),
            "fsmount" if origin(self, 0) == Some(Origin::Context("proc".into())) => Origin::Procfs,
            "fsmount" => Origin::New,
            // A copy of the rootfs is the rootfs from there on.
            "open_tree" => match origin(self, 0) {
                Some(Origin::Host(path)) if path == known.rootfs => Origin::Root,
                other => other.unwrap_or(Origin::Other),
            },
            "openat" if path().starts_with('/') && self.phase != Phase::Entered => Origin::Host(path()),
            "openat" if path() == "/" && call.has(2, "O_PATH") => Origin::Root,
            "openat" if path().starts_with('/') => Origin::Other,
            "openat" | "openat2" => match origin(self, 0) {
                Some(Origin::Procfs | Origin::InProcfs) => Origin::InProcfs,
                other => other.unwrap_or(Origin::Other),
            },
            _ => return,
        };
        // A container without a mount namespace is in the rootfs by its own descriptor.
        let new =
            if new == Origin::Host(known.rootfs.clone()) && known.joins_root { Origin::Root } else { new };
        self.descriptors.insert(result, new);
    }
}

/// A path of the host's: known, and not one through the rootfs.
fn host(call: &Call, path: &str, known: &Known) -> Result<&'static str, String> {
    let is_above = known
        .rootfs
        .strip_prefix(path)
        .is_some_and(|rest| path == "/" || rest.starts_with('/') || rest.is_empty());
    let changes_propagation = call.name == "mount" && call.arguments.iter().any(|a| a.contains("MS_PRIVATE"));
    let asked_for = |one: &String| match one.len() > 1 && one.ends_with('/') {
        true => path.starts_with(one.as_str()),
        false => path == one,
    };
    if path.starts_with(&format!("{}/", known.rootfs)) {
        return Err("a path through the rootfs".into());
    }
    if writes(call) {
        return Err("opens a path for writing".into());
    }
    match () {
        () if path == known.rootfs && call.name == "openat" && call.has(2, "O_PATH") => {
            Ok("the rootfs itself")
        }
        () if is_above && changes_propagation => Ok("the mount around the rootfs"),
        () if known.host.iter().any(asked_for) => Ok("a path of the host's"),
        () => Err("a path that nobody asked for".into()),
    }
}

/// Whether a call opens something to change it.
fn writes(call: &Call) -> bool {
    ["O_WRONLY", "O_RDWR", "O_CREAT"].iter().any(|flag| call.arguments.iter().any(|a| a.contains(flag)))
}

/// One name: neither a way, nor up.
fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.contains('/') && text != ".."
}

fn is_init(call: &Call) -> bool {
    call.argument(1) == "\"\""
        && call.argument(2).starts_with("[\"pintle-init\"")
        && call.has(4, "AT_EMPTY_PATH")
}
