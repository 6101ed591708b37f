//! The default seccomp profile: what Docker allows a container with the default capabilities (moby's profile of 2026), as
//! data of our own, already resolved for those capabilities and for a kernel that pintle runs on. Everything else answers
//! EPERM; clone3 answers ENOSYS, so that a libc falls back to clone, whose flags a filter can see.

use serde_json::{Value, json};

/// System calls that are always allowed. A runtime leaves out names that its machine does not have.
const ALLOWED: &str = "
    accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32 clock_adjtime
    clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64
    close close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old
    epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2
    fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64
    fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync
    ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat getcpu getcwd
    getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername
    getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit
    get_robust_list getrusage getsid getsockname getsockopt get_thread_area gettid gettimeofday getuid getuid32 getxattr
    getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel ioctl io_destroy io_getevents
    io_pgetevents io_pgetevents_time64 ioprio_get ioprio_set io_setup io_submit ipc kill landlock_add_rule
    landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listmount listxattr
    listxattrat llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 madvise map_shadow_stack membarrier
    memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr
    mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl
    msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat _newselect open openat
    openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl
    pread64 preadv preadv2 prlimit64 process_mrelease pselect6 pselect6_time64 pwrite64 pwritev pwritev2 read readahead
    readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat
    rename renameat renameat2 restart_syscall riscv_hwprobe rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask
    rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_getaffinity
    sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min sched_getscheduler sched_rr_get_interval
    sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp
    select semctl semget semop semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto setfsgid
    setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid setregid32
    setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit set_robust_list setsid setsockopt
    set_thread_area set_tid_address setuid setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack
    signalfd signalfd4 sigprocmask sigreturn socketcall socketpair splice stat stat64 statfs statfs64 statmount statx
    symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun
    timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64
    timerfd_settime timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat uretprobe
    utime utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev
    process_vm_readv process_vm_writev ptrace
    chroot";

/// What an architecture adds: its own calls, and the ABIs its kernel also speaks.
const ARCHITECTURES: [(&str, &[&str], &str); 2] = [
    ("amd64", &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"], "arch_prctl modify_ldt"),
    (
        "arm64",
        &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
    ),
];

/// Address families below this may have sockets: AF_UNIX (1) to AF_ROSE (11).
const FAMILIES_BELOW: u64 = 12;

/// The others that may. What is missing: families that Linux no longer has, AF_ALG (38), which only opens the kernel's
/// cryptography to attack, and AF_VSOCK (40), which leads to the hypervisor past every network namespace.
const FAMILIES: [u64; 25] =
    [13, 14, 15, 16, 17, 18, 21, 22, 24, 26, 27, 28, 29, 30, 31, 32, 33, 35, 36, 39, 41, 42, 43, 44, 45];

/// personality(2): PER_LINUX, PER_LINUX32, both with UNAME26, and the question what it is.
const PERSONALITIES: [u64; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Every CLONE_NEW… but CLONE_NEWTIME, which clone(2) cannot have.
const NEW_NAMESPACES: u64 = 0x7e02_0000;

/// `linux.seccomp` for this architecture (in Go's words). One that has no table gets what is common to all.
pub fn profile(architecture: &str) -> Value {
    let own = ARCHITECTURES.iter().find(|(name, ..)| *name == architecture);
    let (abis, more) = own.map_or((&[][..], ""), |(_, abis, more)| (*abis, *more));
    let names: Vec<&str> = ALLOWED.split_whitespace().chain(more.split_whitespace()).collect();
    let mut rules = vec![json!({"names": names, "action": "SCMP_ACT_ALLOW"})];
    rules.push(on_argument("socket", FAMILIES_BELOW, "SCMP_CMP_LT"));
    rules.extend(FAMILIES.map(|family| on_argument("socket", family, "SCMP_CMP_EQ")));
    rules.extend(PERSONALITIES.map(|persona| on_argument("personality", persona, "SCMP_CMP_EQ")));
    // The value is the mask: none of these flags may be set.
    rules.push(on_argument("clone", NEW_NAMESPACES, "SCMP_CMP_MASKED_EQ"));
    rules.push(json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}));
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": abis,
        "syscalls": rules,
    })
}

/// A call that is allowed where its first argument compares so.
fn on_argument(name: &str, value: u64, operator: &str) -> Value {
    let argument = json!({"index": 0, "value": value, "op": operator});
    json!({"names": [name], "action": "SCMP_ACT_ALLOW", "args": [argument]})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(profile: &Value, call: &str, argument: u64) -> bool {
        let mut rules = profile["syscalls"].as_array().unwrap().iter();
        rules.any(|rule| {
            let named = rule["names"].as_array().unwrap().iter().any(|name| name == call);
            let fits = rule["args"].as_array().is_none_or(|all| {
                let value = all[0]["value"].as_u64().unwrap();
                match all[0]["op"].as_str().unwrap() {
                    "SCMP_CMP_LT" => argument < value,
                    "SCMP_CMP_EQ" => argument == value,
                    "SCMP_CMP_MASKED_EQ" => argument & value == 0,
                    other => panic!("{other}"),
                }
            });
            named && fits && rule["action"] == "SCMP_ACT_ALLOW"
        })
    }

    #[test]
    fn calls_are_allowed_as_docker_allows_them() {
        let profile = profile("amd64");
        for (call, argument, expect) in [
            ("read", 0, true),
            ("chroot", 0, true),
            ("ptrace", 0, true),
            ("arch_prctl", 0, true),
            ("set_tls", 0, false),
            ("mount", 0, false),
            ("unshare", 0, false),
            ("setns", 0, false),
            ("bpf", 0, false),
            ("keyctl", 0, false),
            ("io_uring_setup", 0, false),
            ("open_by_handle_at", 0, false),
            ("userfaultfd", 0, false),
            ("clone3", 0, false),
            ("clone", 0x11, true),
            ("clone", 0x1000_0000, false),
            ("clone", 0x0002_0000, false),
            ("socket", 1, true),
            ("socket", 10, true),
            ("socket", 16, true),
            ("socket", 38, false),
            ("socket", 40, false),
            ("personality", 0xffff_ffff, true),
            ("personality", 0x0004_0000, false),
        ] {
            assert_eq!(allowed(&profile, call, argument), expect, "{call}({argument:#x})");
        }
    }

    #[test]
    fn an_architecture_brings_its_own_calls_and_abis() {
        assert!(allowed(&profile("arm64"), "set_tls", 0) && !allowed(&profile("arm64"), "arch_prctl", 0));
        assert_eq!(profile("arm64")["architectures"], json!(["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]));
        assert_eq!(profile("riscv64")["architectures"], json!([]));
    }

    #[test]
    fn no_call_is_named_twice() {
        let mut names: Vec<&str> = ALLOWED.split_whitespace().collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
