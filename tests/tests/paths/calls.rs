//! Which system calls take a path, in which argument, beside which directory, and whether a link at its end is
//! followed. A call in neither table is not known, which is a finding of its own.

use super::strace::Call;

/// Whether the last name of a path is followed when it is a link.
#[derive(Clone, Copy)]
pub enum Links {
    /// Always.
    Followed,
    /// By no means: the name itself is made, removed, read, described.
    Kept,
    /// Unless one of these words stands among the flags in this argument.
    Unless(usize, &'static [&'static str]),
    /// Only if this word stands there.
    If(usize, &'static str),
}

use Links::{Followed, If, Kept, Unless};

/// A path in a call.
#[derive(Debug)]
pub struct Path {
    /// The argument with the directory that it begins at; none for a call that begins where the process stands.
    pub directory: Option<usize>,
    /// The path.
    pub text: String,
    /// A link at its end is followed.
    pub followed: bool,
}

type Row = (&'static str, &'static [(Option<usize>, usize, Links)]);

/// With O_EXCL the last name has to be new.
const OPEN: &[&str] = &["O_NOFOLLOW", "O_EXCL"];
const NOFOLLOW: &[&str] = &["AT_SYMLINK_NOFOLLOW"];

#[rustfmt::skip]
const PATHS: &[Row] = &[
    ("access", &[(None, 0, Followed)]),
    ("acct", &[(None, 0, Followed)]),
    ("chdir", &[(None, 0, Followed)]),
    ("chmod", &[(None, 0, Followed)]),
    ("chown", &[(None, 0, Followed)]),
    ("chroot", &[(None, 0, Followed)]),
    ("creat", &[(None, 0, Followed)]),
    ("execve", &[(None, 0, Followed)]),
    ("execveat", &[(Some(0), 1, Unless(4, NOFOLLOW))]),
    ("faccessat", &[(Some(0), 1, Followed)]),
    ("faccessat2", &[(Some(0), 1, Unless(3, NOFOLLOW))]),
    ("fchmodat", &[(Some(0), 1, Followed)]),
    ("fchmodat2", &[(Some(0), 1, Unless(3, NOFOLLOW))]),
    ("fchownat", &[(Some(0), 1, Unless(4, NOFOLLOW))]),
    ("fspick", &[(Some(0), 1, Unless(2, &["FSPICK_SYMLINK_NOFOLLOW"]))]),
    ("futimesat", &[(Some(0), 1, Followed)]),
    ("getxattr", &[(None, 0, Followed)]),
    ("inotify_add_watch", &[(None, 1, Unless(2, &["IN_DONT_FOLLOW"]))]),
    ("lchown", &[(None, 0, Kept)]),
    ("lgetxattr", &[(None, 0, Kept)]),
    ("link", &[(None, 0, Kept), (None, 1, Kept)]),
    ("linkat", &[(Some(0), 1, If(4, "AT_SYMLINK_FOLLOW")), (Some(2), 3, Kept)]),
    ("listxattr", &[(None, 0, Followed)]),
    ("llistxattr", &[(None, 0, Kept)]),
    ("lremovexattr", &[(None, 0, Kept)]),
    ("lsetxattr", &[(None, 0, Kept)]),
    ("lstat", &[(None, 0, Kept)]),
    ("mkdir", &[(None, 0, Kept)]),
    ("mkdirat", &[(Some(0), 1, Kept)]),
    ("mknod", &[(None, 0, Kept)]),
    ("mknodat", &[(Some(0), 1, Kept)]),
    ("mount", &[(None, 0, Followed), (None, 1, Followed)]),
    ("mount_setattr", &[(Some(0), 1, Unless(2, NOFOLLOW))]),
    ("move_mount", &[(Some(0), 1, If(4, "MOVE_MOUNT_F_SYMLINKS")), (Some(2), 3, If(4, "MOVE_MOUNT_T_SYMLINKS"))]),
    ("name_to_handle_at", &[(Some(0), 1, If(4, "AT_SYMLINK_FOLLOW"))]),
    ("newfstatat", &[(Some(0), 1, Unless(3, NOFOLLOW))]),
    ("open", &[(None, 0, Unless(1, OPEN))]),
    ("open_tree", &[(Some(0), 1, Unless(2, NOFOLLOW))]),
    ("openat", &[(Some(0), 1, Unless(2, OPEN))]),
    ("openat2", &[(Some(0), 1, Unless(2, OPEN))]),
    ("pivot_root", &[(None, 0, Followed), (None, 1, Followed)]),
    ("readlink", &[(None, 0, Kept)]),
    ("readlinkat", &[(Some(0), 1, Kept)]),
    ("removexattr", &[(None, 0, Followed)]),
    ("rename", &[(None, 0, Kept), (None, 1, Kept)]),
    ("renameat", &[(Some(0), 1, Kept), (Some(2), 3, Kept)]),
    ("renameat2", &[(Some(0), 1, Kept), (Some(2), 3, Kept)]),
    ("rmdir", &[(None, 0, Kept)]),
    ("setxattr", &[(None, 0, Followed)]),
    ("stat", &[(None, 0, Followed)]),
    ("statfs", &[(None, 0, Followed)]),
    ("statx", &[(Some(0), 1, Unless(2, NOFOLLOW))]),
    ("swapoff", &[(None, 0, Followed)]),
    ("swapon", &[(None, 0, Followed)]),
    ("symlink", &[(None, 1, Kept)]),
    ("symlinkat", &[(Some(1), 2, Kept)]),
    ("truncate", &[(None, 0, Followed)]),
    ("umount2", &[(None, 0, Unless(1, &["UMOUNT_NOFOLLOW"]))]),
    ("unlink", &[(None, 0, Kept)]),
    ("unlinkat", &[(Some(0), 1, Kept)]),
    ("utime", &[(None, 0, Followed)]),
    ("utimensat", &[(Some(0), 1, Unless(3, NOFOLLOW))]),
    ("utimes", &[(None, 0, Followed)]),
];

/// Calls that reach what they work on by descriptors, numbers and memory alone.
const PATHLESS: &[&str] = &[
    "accept4",
    "alarm",
    "arch_prctl",
    "bpf",
    "brk",
    "capget",
    "capset",
    "clock_gettime",
    "clock_nanosleep",
    "clone",
    "clone3",
    "close",
    "close_range",
    "dup",
    "dup2",
    "dup3",
    "epoll_create1",
    "epoll_ctl",
    "epoll_pwait",
    "epoll_wait",
    "eventfd2",
    "exit",
    "exit_group",
    "fadvise64",
    "fallocate",
    "fchdir",
    "fchmod",
    "fchown",
    "fcntl",
    "fgetxattr",
    "flistxattr",
    "flock",
    "fork",
    "fsconfig",
    "fsetxattr",
    "fsmount",
    "fsopen",
    "fstat",
    "fstatfs",
    "fsync",
    "ftruncate",
    "futex",
    "get_robust_list",
    "getcwd",
    "getdents64",
    "getegid",
    "geteuid",
    "getgid",
    "getgroups",
    "getpgrp",
    "getpid",
    "getppid",
    "getrandom",
    "getresgid",
    "getresuid",
    "getrlimit",
    "getrusage",
    "getsid",
    "getsockname",
    "getsockopt",
    "gettid",
    "getuid",
    "ioctl",
    "ioprio_set",
    "kcmp",
    "keyctl",
    "kill",
    "listen",
    "lseek",
    "madvise",
    "membarrier",
    "memfd_create",
    "mlock",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "nanosleep",
    "pause",
    "personality",
    "pidfd_getfd",
    "pidfd_open",
    "pidfd_send_signal",
    "pipe2",
    "poll",
    "ppoll",
    "prctl",
    "pread64",
    "prlimit64",
    "pwrite64",
    "pwritev",
    "read",
    "readv",
    "recvfrom",
    "recvmsg",
    "restart_syscall",
    "rseq",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "rt_sigsuspend",
    "rt_sigtimedwait",
    "sched_getaffinity",
    "sched_setaffinity",
    "sched_setattr",
    "sched_yield",
    "seccomp",
    "select",
    "sendfile",
    "sendmsg",
    "sendto",
    "set_mempolicy",
    "set_robust_list",
    "set_tid_address",
    "setdomainname",
    "setgid",
    "setgroups",
    "sethostname",
    "setitimer",
    "setns",
    "setpgid",
    "setresgid",
    "setresuid",
    "setrlimit",
    "setsid",
    "setsockopt",
    "setuid",
    "shutdown",
    "sigaltstack",
    "signalfd4",
    "socket",
    "socketpair",
    "splice",
    "sysinfo",
    "tgkill",
    "timerfd_create",
    "timerfd_settime",
    "umask",
    "uname",
    "unshare",
    "vfork",
    "wait4",
    "waitid",
    "write",
    "writev",
];

/// The paths of a call.
///
/// # Errors
/// A call in neither table, or a path that can't be read.
pub fn paths(call: &Call) -> Result<Vec<Path>, String> {
    let Some((_, paths)) = PATHS.iter().find(|(name, _)| *name == call.name) else {
        return match call.name.as_str() {
            // A socket's address may be a path, and a file system's configuration may hold one that is looked up at
            // once.
            "bind" | "connect" => Ok(address(call.argument(1)).into_iter().collect()),
            "sendto" | "sendmsg" if call.line.contains("sun_path=\"") => {
                Err("a path where none is expected".into())
            }
            "fsconfig" if call.argument(1).starts_with("FSCONFIG_SET_PATH") => {
                Err("a path where none is expected".into())
            }
            name if PATHLESS.contains(&name) => Ok(Vec::new()),
            _ => Err("a call that no table knows".into()),
        };
    };
    let found = paths.iter().map(|(directory, argument, links)| {
        let text = call.string(*argument)?;
        let followed = match links {
            Followed => true,
            Kept => false,
            Unless(flags, words) => !words.iter().any(|word| call.has(*flags, word)),
            If(flags, word) => call.has(*flags, word),
        };
        Ok(text.map(|text| Path { directory: *directory, text, followed }))
    });
    found.filter_map(Result::transpose).collect()
}

/// The path of a socket in the file system.
fn address(argument: &str) -> Option<Path> {
    let (text, _) = argument.split_once("sun_path=\"")?.1.split_once('"')?;
    Some(Path { directory: None, text: text.to_owned(), followed: true })
}
