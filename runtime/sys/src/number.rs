//! Numbers of the system calls made here. To port: this table, `raw.rs` (the instruction), `entry.rs` (`_start`) and
//! the clone in `spawn.rs`; the numbers from 424 up are the same on every architecture.

pub(crate) const CLONE: usize = 56;
pub(crate) const GETCWD: usize = 79;
pub(crate) const SETGROUPS: usize = 116;
pub(crate) const EXECVE: usize = 59;
pub(crate) const EXIT: usize = 60;
pub(crate) const FCNTL: usize = 72;
pub(crate) const PERSONALITY: usize = 135;
pub(crate) const PRCTL: usize = 157;
pub(crate) const CAPSET: usize = 126;
pub(crate) const CAPGET: usize = 125;
pub(crate) const RT_SIGPROCMASK: usize = 14;
pub(crate) const RT_SIGACTION: usize = 13;
pub(crate) const BPF: usize = 321;
pub(crate) const PIDFD_SEND_SIGNAL: usize = 424;
pub(crate) const IOCTL: usize = 16;
pub(crate) const SET_MEMPOLICY: usize = 238;
pub(crate) const KEYCTL: usize = 250;
pub(crate) const IOPRIO_SET: usize = 251;
pub(crate) const UNSHARE: usize = 272;
pub(crate) const SETNS: usize = 308;
pub(crate) const CLOSE_RANGE: usize = 436;
pub(crate) const SCHED_SETAFFINITY: usize = 203;
pub(crate) const DUP3: usize = 292;
pub(crate) const PRLIMIT64: usize = 302;
pub(crate) const SCHED_SETATTR: usize = 314;
pub(crate) const SECCOMP: usize = 317;
pub(crate) const EXECVEAT: usize = 322;
pub(crate) const CLONE3: usize = 435;
pub(crate) const MOUNT_SETATTR: usize = 442;
