//! Attacks on the runtime's first process from inside a container, by every way there is to reach another process:
//! its image, its memory, its descriptors, its files in /proc. What is refused, what is not, and what was gained.

use super::inject;
use nix::sys::ptrace;
use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::unistd::Pid;
use rustix::fs::{AtFlags, CWD, FallocateFlags, Mode, OFlags, SealFlags, XattrFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, OpenTreeFlags};
use rustix::process::{PidfdFlags, PidfdGetfdFlags};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};

/// How init's image is called.
const IMAGE: &str = "/memfd:pintle-init";
/// While this is not there, the siege goes on.
const STOP: &str = "/dev/shm/stop";

/// What came of the attacks.
#[derive(Default)]
pub struct Tally {
    /// How often a process of the runtime's was there.
    seen: usize,
    /// By attack: how often it was refused, and how often not.
    tried: BTreeMap<&'static str, [usize; 2]>,
    /// What must never be had.
    gained: BTreeSet<String>,
    /// Where its descriptors led.
    links: BTreeSet<String>,
    /// Whom it is about, and its name: what is had of a process that has become another by then does not count.
    target: Option<(i32, String)>,
}

impl Tally {
    /// Counts an attempt; what a process that is gone answers is none.
    fn tried<T>(&mut self, what: &'static str, outcome: io::Result<T>) -> Option<T> {
        let gone = [Errno::NOENT, Errno::SRCH].map(|errno| Some(errno.raw_os_error()));
        match outcome {
            Err(error) if gone.contains(&error.raw_os_error()) => None,
            Err(_) => {
                self.tried.entry(what).or_default()[0] += 1;
                None
            }
            Ok(_) if self.target.as_ref().is_some_and(|(pid, known)| name(*pid) != *known) => None,
            Ok(found) => {
                self.tried.entry(what).or_default()[1] += 1;
                Some(found)
            }
        }
    }

    /// What was read of a process: the host's secret is not in it.
    fn look(&mut self, place: &str, bytes: &[u8]) {
        // Backwards, so that this program does not hold it itself.
        let secret: Vec<u8> = b"terces-tsoh".iter().rev().copied().collect();
        if bytes.windows(secret.len()).any(|window| window == secret) {
            self.gained.insert(format!("the host's secret in {place}"));
        }
    }

    fn told(&self) -> Value {
        json!({"seen": self.seen, "tried": self.tried, "gained": self.gained, "links": self.links})
    }
}

fn name(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

/// Besieges every process of the runtime's that is in sight, and in a cgroup whose path holds `cgroup`, until it is
/// told to stop or has seen as many as `limit`; calls `saw` when something could be tried. What runs the image as its program, without
/// an order, is counted apart.
pub fn besiege(cgroup: &str, limit: usize, saw: impl Fn()) -> Value {
    let (mut init, mut program, mut names) = (Tally::default(), Tally::default(), BTreeSet::new());
    let own =
        |pid: &i32| fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default().contains(cgroup);
    // There may be many on a whole machine, and what is born lives for a millisecond.
    let others: BTreeSet<i32> = pids().filter(|pid| !own(pid)).collect();
    while fs::symlink_metadata(STOP).is_err() && init.seen < limit {
        for pid in pids().filter(|pid| !others.contains(pid) && own(pid)) {
            let name = name(pid);
            let image = || fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
            if name.starts_with("pintle:") || name.starts_with("memfd:pintle") {
                let before = init.tried.len();
                assail(pid, &name, &mut init);
                if before == 0 && !init.tried.is_empty() {
                    saw();
                }
            } else if image().to_string_lossy().starts_with(IMAGE) {
                assail(pid, &name, &mut program);
            }
            names.insert(name);
        }
    }
    json!({"init": init.told(), "program": program.told(), "names": names})
}

fn pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// All attacks on one process. Each time another one is the first: the process may not live to see the last.
fn assail(pid: i32, name: &str, tally: &mut Tally) {
    tally.seen += 1;
    tally.target = Some((pid, name.to_owned()));
    let turn = tally.seen;
    let attacks = [image, memory, process_vm, trace, descriptors, open_descriptors, files, places, mapped];
    let count = attacks.len();
    attacks.iter().cycle().skip(turn % count).take(count).for_each(|attack| attack(pid, tally));
}

/// The image, by the link to it.
fn image(pid: i32, tally: &mut Tally) {
    let exe = format!("/proc/{pid}/exe");
    let Some(handle) = tally.tried("exe", open(&exe, OFlags::PATH)) else { return };
    let again = format!("/proc/self/fd/{}", handle.as_raw_fd());
    if !fs::read_link(&again).is_ok_and(|link| link.to_string_lossy().starts_with(IMAGE)) {
        return;
    }
    reopen(&again, tally);
    let remount = MountFlags::empty();
    let options: [(&'static str, io::Result<()>); 4] = [
        ("remount", rustix::mount::mount_remount(&again, remount, "").map_err(Into::into)),
        (
            "bind remount",
            rustix::mount::mount_remount(&again, MountFlags::BIND | remount, "").map_err(Into::into),
        ),
        (
            "bind",
            fs::write("/dev/shm/over", "")
                .and_then(|()| Ok(rustix::mount::mount_bind(&again, "/dev/shm/over")?)),
        ),
        ("open_tree", clone_tree(&handle)),
    ];
    for (what, outcome) in options {
        if tally.tried(what, outcome).is_some() {
            tally.gained.insert(format!("{what} of the image"));
        }
    }
    if tally.tried("link", linked(&handle)).is_some() {
        tally.gained.insert("another name for the image".into());
    }
}

fn clone_tree(handle: &OwnedFd) -> io::Result<()> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::AT_EMPTY_PATH | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    rustix::mount::open_tree(handle, "", flags)?;
    Ok(())
}

fn linked(handle: &OwnedFd) -> io::Result<()> {
    Ok(rustix::fs::linkat(handle, "", CWD, "/dev/shm/name", AtFlags::EMPTY_PATH)?)
}

/// A handle for writing, in all ways to ask for one; then whatever can be done with it.
fn reopen(path: &str, tally: &mut Tally) {
    let ways = [
        ("open for writing", OFlags::WRONLY),
        ("open for both", OFlags::RDWR),
        ("open to append", OFlags::RDWR | OFlags::APPEND),
        ("open to truncate", OFlags::WRONLY | OFlags::TRUNC),
    ];
    for (what, flags) in ways {
        if let Some(file) = tally.tried(what, open(path, flags)) {
            write(&File::from(file), tally);
        }
    }
    if let Some(file) = tally.tried("open for reading", open(path, OFlags::RDONLY)) {
        attributes(&file, tally);
        write(&File::from(file), tally);
    }
}

/// Every way to change bytes or size, through an open file.
fn write(file: &File, tally: &mut Tally) {
    let done = |outcome: Result<(), Errno>| outcome.map_err(io::Error::from);
    let from = || File::open("/proc/self/exe");
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let attempts = [
        ("pwrite", file.write_all_at(b"#!", 0)),
        ("write at the end", file.metadata().and_then(|meta| file.write_all_at(b"#!", meta.size()))),
        ("ftruncate", file.set_len(1)),
        ("ftruncate to grow", file.set_len(1 << 30)),
        ("fallocate", done(rustix::fs::fallocate(file, FallocateFlags::empty(), 0, 1 << 20))),
        ("punch a hole", done(rustix::fs::fallocate(file, hole, 0, 4096))),
        ("zero", done(rustix::fs::fallocate(file, FallocateFlags::ZERO_RANGE, 0, 4096))),
        ("collapse", done(rustix::fs::fallocate(file, FallocateFlags::COLLAPSE_RANGE, 0, 4096))),
        (
            "copy_file_range",
            from()
                .and_then(|from| Ok(rustix::fs::copy_file_range(from, None, file, Some(&mut 0), 4096)?))
                .map(drop),
        ),
        ("sendfile", from().and_then(|from| Ok(rustix::fs::sendfile(file, from, None, 4096)?)).map(drop)),
        ("add a seal", done(rustix::fs::fcntl_add_seals(file, SealFlags::FUTURE_WRITE))),
        ("loosen the seals", done(rustix::fs::fcntl_add_seals(file, SealFlags::empty()))),
    ];
    for (what, outcome) in attempts {
        if tally.tried(what, outcome).is_some() {
            tally.gained.insert(format!("{what} of the image"));
        }
    }
}

/// What is no byte of it and no size: told, and no gain.
fn attributes(file: &OwnedFd, tally: &mut Tally) {
    let mode = Mode::from_raw_mode(0o666);
    tally.tried("fchmod", rustix::fs::fchmod(file, mode).map_err(Into::into));
    let root = rustix::fs::Uid::from_raw(0);
    tally.tried("fchown", rustix::fs::fchown(file, Some(root), None).map_err(Into::into));
    for name in ["user.x", "trusted.x", "security.x"] {
        let set = rustix::fs::fsetxattr(file, name, b"x", XattrFlags::empty());
        tally.tried("fsetxattr", set.map_err(Into::into));
    }
}

/// Its memory, by the file: read through, and a word of its code written back as it was.
fn memory(pid: i32, tally: &mut Tally) {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let memory = OpenOptions::new().read(true).write(true).open(format!("/proc/{pid}/mem"));
    let Some(mut memory) = tally.tried("mem", memory) else { return };
    for line in maps.lines() {
        let Some((start, rest)) = line.split_once('-') else { continue };
        let Ok(start) = u64::from_str_radix(start, 16) else { continue };
        let end = rest.split(' ').next().and_then(|end| u64::from_str_radix(end, 16).ok()).unwrap_or(start);
        if memory.seek(SeekFrom::Start(start)).is_err() {
            continue;
        }
        let mut bytes = Vec::new();
        let length = (end - start).min(1 << 20);
        if memory.by_ref().take(length).read_to_end(&mut bytes).is_err() && bytes.is_empty() {
            continue;
        }
        tally.look("its memory", &bytes);
        if line.contains("r-xp") && line.contains("pintle") && bytes.len() >= 8 {
            tally.tried("write to memory", memory.write_all_at(&bytes[..8], start));
        }
    }
}

/// The same by the calls for it, where the image of a static program mostly is.
fn process_vm(pid: i32, tally: &mut Tally) {
    let base = fs::read_to_string(format!("/proc/{pid}/maps"))
        .ok()
        .and_then(|maps| usize::from_str_radix(maps.split('-').next().unwrap_or(""), 16).ok());
    let remote = [RemoteIoVec { base: base.unwrap_or(0x20_0000), len: 8 }];
    let mut bytes = [0; 8];
    let pid = Pid::from_raw(pid);
    let read = process_vm_readv(pid, &mut [IoSliceMut::new(&mut bytes)], &remote);
    let read = tally.tried("process_vm_readv", read.map_err(Into::into));
    // Without having read it there would be nothing to leave as it was; to be refused it needs no more.
    if read.is_some() || base.is_none() {
        let written = process_vm_writev(pid, &[IoSlice::new(&bytes)], &remote);
        tally.tried("process_vm_writev", written.map_err(Into::into));
    }
}

/// To be its tracer. One that has ended meanwhile is collected: its parent would wait for us.
fn trace(pid: i32, tally: &mut Tally) {
    let pid = Pid::from_raw(pid);
    let seized = ptrace::seize(pid, ptrace::Options::empty());
    if seized.is_ok() {
        let _ending = ptrace::interrupt(pid);
        let _stopped = nix::sys::wait::waitpid(pid, Some(nix::sys::wait::WaitPidFlag::__WALL));
        let _detached = ptrace::detach(pid, None);
    }
    tally.tried("ptrace", seized.map_err(Into::into));
}

/// Its descriptors, by a pidfd.
fn descriptors(pid: i32, tally: &mut Tally) {
    let Some(pid) = rustix::process::Pid::from_raw(pid) else { return };
    let Ok(pidfd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { return };
    for number in 0..32 {
        match rustix::process::pidfd_getfd(&pidfd, number, PidfdGetfdFlags::empty()) {
            Err(Errno::BADF) => {}
            other => {
                if let Some(fd) = tally.tried("pidfd_getfd", other.map_err(Into::into)) {
                    inspect(&fd, number, tally);
                }
            }
        }
    }
}

/// A descriptor of the runtime's that was had.
fn inspect(fd: &OwnedFd, number: i32, tally: &mut Tally) {
    let link = fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap_or_default();
    let link = link.to_string_lossy().into_owned();
    tally.look("the name of a descriptor", link.as_bytes());
    if link.starts_with("/memfd:pintle") {
        write(&File::from(fd.as_fd().try_clone_to_owned().expect("a copy")), tally);
        let mut bytes = vec![0; 1 << 16];
        let length = File::from(fd.as_fd().try_clone_to_owned().expect("a copy")).read_at(&mut bytes, 0);
        tally.look("a memfd", &bytes[..length.unwrap_or(0)]);
    }
    // The first three are the program's.
    if number > 2 {
        tally.links.insert(anonymous(&link));
    }
}

/// Its descriptors, by their links. The machine's root may list their numbers in any case.
fn open_descriptors(pid: i32, tally: &mut Tally) {
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
        let Some(link) = tally.tried("fd", fs::read_link(entry.path())) else { continue };
        let link = link.to_string_lossy().into_owned();
        tally.look("the name of a descriptor", link.as_bytes());
        // The first three are the program's.
        if entry.file_name().to_string_lossy().parse().is_ok_and(|number: i32| number > 2) {
            tally.links.insert(anonymous(&link));
        }
    }
}

/// `socket:[7]` is a socket.
fn anonymous(link: &str) -> String {
    link.split(":[").next().unwrap_or("").to_owned()
}

/// Its files in /proc, none of which is for everybody.
fn files(pid: i32, tally: &mut Tally) {
    for file in
        ["environ", "auxv", "maps", "smaps", "numa_maps", "syscall", "io", "stack", "personality", "pagemap"]
    {
        let mut bytes = Vec::new();
        let read = File::open(format!("/proc/{pid}/{file}"))
            .and_then(|file| file.take(1 << 16).read_to_end(&mut bytes));
        // Its name is its place in the tally.
        let what = if file == "environ" { "environ" } else { "a file in /proc" };
        // Of a process that has ended there is nothing to read.
        if !matches!(read, Ok(0)) {
            tally.tried(what, read);
        }
        tally.look(file, &bytes);
        // init has none. It may be the program by now, whose environment is the container's.
        let still = tally.target.as_ref().is_some_and(|(pid, known)| name(*pid) == *known);
        if file == "environ" && !bytes.is_empty() && still && known_as_init(tally) {
            tally.gained.insert("an environment".into());
        }
    }
}

fn known_as_init(tally: &Tally) -> bool {
    tally.target.as_ref().is_some_and(|(_, name)| name.starts_with("pintle:"))
}

/// Where it stands.
fn places(pid: i32, tally: &mut Tally) {
    let identity = |path: &str| fs::metadata(path).map(|meta| (meta.dev(), meta.ino()));
    let own = identity("/").ok();
    for place in ["root", "cwd"] {
        let found = tally.tried("root", identity(&format!("/proc/{pid}/{place}")));
        if found.is_some() && found != own {
            tally.links.insert(format!("another {place}"));
        }
    }
}

/// What it has mapped, as files.
fn mapped(pid: i32, tally: &mut Tally) {
    let entries =
        fs::read_dir(format!("/proc/{pid}/map_files")).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    for entry in tally.tried("map_files", entries).into_iter().flatten() {
        let path = entry.path().to_string_lossy().into_owned();
        if fs::read_link(&path).is_ok_and(|link| link.to_string_lossy().starts_with("/memfd:pintle")) {
            reopen(&path, tally);
        }
    }
}

fn open(path: &str, flags: OFlags) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())?)
}

/// Takes hold of the program behind a link, waits until the process has become another, and attacks what it holds:
/// nobody executes it any more, so that it can be opened.
pub fn hold(exe: &str) -> Value {
    let (Ok(handle), Ok(before)) = (open(exe, OFlags::PATH), fs::read(exe)) else {
        return json!({"refused": true});
    };
    let again = format!("/proc/self/fd/{}", handle.as_raw_fd());
    super::say("ready");
    let wait = || std::thread::sleep(std::time::Duration::from_millis(1));
    while fs::read_link(exe).is_ok_and(|link| link.to_string_lossy().starts_with(IMAGE)) {
        wait();
    }
    // The last that executed it may still be letting go of it.
    let is_busy =
        || open(&again, OFlags::RDWR).is_err_and(|e| e.raw_os_error() == Some(Errno::TXTBSY.raw_os_error()));
    for _ in (0..2000).take_while(|_| is_busy()) {
        wait();
    }
    let mut tally = Tally { seen: 1, ..Tally::default() };
    // First: another attempt adds a seal, where it can, that would be in the way.
    if let Ok(file) = open(&again, OFlags::RDWR) {
        for (what, outcome) in inject::mappings(File::from(file)) {
            let writable = tally.tried(what, outcome).is_some() && what != inject::CONTROL;
            tally.gained.extend(writable.then(|| format!("{what} of the image")));
        }
    }
    reopen(&again, &mut tally);
    if fs::read(&again).ok() != Some(before) {
        tally.gained.insert("another content".into());
    }
    tally.told()
}
