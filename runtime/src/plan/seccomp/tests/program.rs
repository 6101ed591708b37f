//! The program as a whole: random profiles against the model, its shape, its size.

use super::super::syscalls::{x32, x86, x86_64};
use super::machine::{run, verify};
use super::model::{self, expect};
use super::*;
use fastrand::Rng;

/// Names that exist on some architectures only, at both ends of the tables, next to each other and far apart. None
/// of them is behind one of i386's multiplexers: the model doesn't know those.
const NAMES: &[&str] = &[
    "read",
    "write",
    "open",
    "close",
    "stat",
    "fstat",
    "lstat",
    "poll",
    "lseek",
    "mmap",
    "mmap2",
    "chown32",
    "clone",
    "execve",
    "ptrace",
    "personality",
    "mount",
    "openat",
    "openat2",
    "clone3",
    "close_range",
    "futex_waitv",
    "bpf",
    "set_tls",
    "breakpoint",
    "_llseek",
    "ugetrlimit",
    "clock_gettime64",
    "rt_sigaction",
    "readv",
    "io_setup",
    "keyctl",
    "file_setattr",
    "restart_syscall",
    "no_such_call",
];

fn abi(call: &Call, listed: &dyn Fn(&str) -> bool) -> Option<Arch> {
    match call.arch {
        X86_64 if call.number < 0x4000_0000 => Some(Arch::X86_64),
        X86_64 => Some(Arch::X32).filter(|_| listed("SCMP_ARCH_X32")),
        X86 => Some(Arch::X86).filter(|_| listed("SCMP_ARCH_X86")),
        ARM => Some(Arch::Arm).filter(|_| listed("SCMP_ARCH_ARM")),
        _ => None,
    }
}

fn random_call(random: &mut Rng) -> Call {
    let arch = random.choice([X86_64, X86_64, X86_64, X86, ARM, AARCH64, 0x8000_0016]).expect("some");
    let name = random.choice(NAMES).expect("some");
    let abi = random.choice([Arch::X86_64, Arch::X86, Arch::X32, Arch::Arm]).expect("some");
    let known = number_of(abi, name);
    let number = match random.u8(..4) {
        0 => random.u32(..500),
        1 => random.u32(..),
        _ => known.unwrap_or(u32::MAX).wrapping_add(random.u32(..3)).wrapping_sub(1),
    };
    Call { arch, number, args: std::array::from_fn(|_| model::value(random)) }
}

#[test]
fn random_profiles_do_what_the_model_says() {
    let mut compiled = 0;
    for seed in 1..=200 {
        let mut random = Rng::with_seed(seed);
        let profile = model::profile(&mut random, NAMES);
        // Two actions for the same conditions are an error, and a program may be too long.
        let Ok(Some(filter)) = compile(&profile, Arch::X86_64) else { continue };
        compiled += 1;
        verify(&filter.program);
        let listed = |name: &str| profile.architectures.iter().any(|listed| listed == name);
        for _ in 0..200 {
            let call = random_call(&mut random);
            let (got, _) = run(&filter.program, &call);
            let expect = expect(&profile, abi(&call, &listed), &call);
            assert_eq!(got, expect, "seed {seed}: {call:x?}: {got:#x}, not {expect:#x} in {profile:#?}");
        }
    }
    assert!(compiled > 175, "only {compiled} profiles compiled");
}

/// In the shape of Docker's default profile: most calls allowed, some refused, some only with certain arguments.
fn engine_profile() -> Profile {
    const REFUSED: &str = "acct add_key bpf clock_adjtime clock_settime create_module delete_module finit_module \
        fsconfig fsmount fsopen fspick get_kernel_syms init_module ioperm iopl kcmp kexec_file_load kexec_load keyctl \
        lookup_dcookie mbind mount mount_setattr move_mount nfsservctl open_by_handle_at open_tree perf_event_open \
        pivot_root process_vm_readv process_vm_writev ptrace query_module quotactl reboot request_key set_mempolicy \
        setns settimeofday stime swapoff swapon sysfs umount umount2 unshare uselib userfaultfd ustat vm86 vm86old \
        uretprobe _sysctl afs_syscall getpmsg putpmsg security tuxcall vserver personality clone clone3 socket";
    let refused: Vec<&str> = REFUSED.split_whitespace().collect();
    let all = [x86_64::TABLE, x86::TABLE, x32::TABLE].into_iter().flatten().map(|(name, _)| *name);
    let allowed: Vec<&str> = all.filter(|name| !refused.contains(name)).collect();
    let when = |name: &str, op: &str, value: u64| serde_json::json!({"names": [name], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": value, "op": op}]});
    let mut rules = vec![serde_json::json!({"names": allowed, "action": "SCMP_ACT_ALLOW"})];
    rules
        .extend([0, 8, 0x20000, 0x20008, 0xffff_ffff].map(|value| when("personality", "SCMP_CMP_EQ", value)));
    rules.push(when("clone", "SCMP_CMP_MASKED_EQ", 0x7e02_0000));
    rules.push(when("socket", "SCMP_CMP_NE", 40));
    rules.push(serde_json::json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}));
    let architectures = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"];
    let json = serde_json::json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
        "architectures": architectures, "syscalls": rules});
    profile(&json.to_string())
}

#[test]
fn a_profile_of_an_engine_is_small_and_its_paths_are_short() {
    let filter = compile(&engine_profile(), Arch::X86_64).unwrap().unwrap();
    verify(&filter.program);
    let conditional = ["personality", "clone", "socket"];
    let mut longest = 0;
    for (name, number) in x86_64::TABLE.iter().filter(|(name, _)| !conditional.contains(name)) {
        let (_, steps) = run(&filter.program, &call(*number, &[]));
        assert!(steps <= 15, "{name}: {steps} instructions");
        longest = longest.max(steps);
    }
    assert!(filter.program.len() <= 400, "{} instructions, the longest path {longest}", filter.program.len());
    let cases = [
        (call(0, &[]), ALLOW),
        (call(165, &[]), EPERM),
        (call(435, &[]), ENOSYS),
        (call(56, &[0x11]), ALLOW),
        (call(56, &[0x1000_0000]), EPERM),
        (call(135, &[0x20008]), ALLOW),
        (call(135, &[9]), EPERM),
        (call(41, &[40]), EPERM),
        (call(41, &[1]), ALLOW),
        (call(500, &[]), ENOSYS),
        (foreign(X86, 21, &[]), EPERM),
        (foreign(X86, 3, &[]), ALLOW),
        (call(0x4000_0000, &[]), ALLOW),
        (foreign(AARCH64, 63, &[]), KILL_THREAD),
    ];
    check(&filter, &cases);
}

#[test]
fn equal_neighbours_are_one_range() {
    let names: Vec<&str> =
        x86_64::TABLE.iter().filter(|(_, number)| *number <= 300).map(|(name, _)| *name).collect();
    let rule = serde_json::json!({"names": names, "action": "SCMP_ACT_ALLOW"});
    // 0 to 300 allowed, then ENOSYS, x32 and -1: a search of four ranges.
    assert!(allowing(&rule.to_string()).program.len() <= 12);
}

/// Long bodies between a jump and its target, on every way through the search.
#[test]
fn jumps_reach_further_than_255_instructions() {
    let names = ["read", "poll", "mmap", "ioctl", "clone", "ptrace", "mount", "openat", "bpf", "openat2"];
    let rules: Vec<String> = (0..30)
        .map(|n| {
            let arg = format!(r#"{{"index":3,"value":{},"op":"SCMP_CMP_GT"}}"#, n * 0x1_0000_0007_u64);
            let data = format!(r#""action":"SCMP_ACT_ERRNO","errnoRet":{},"args":[{arg}]"#, n + 100);
            format!(r#"{{"names":{names:?},{data}}}"#)
        })
        .collect();
    let json = format!(
        r#"{{"defaultAction":"SCMP_ACT_KILL_PROCESS","architectures":["SCMP_ARCH_X86"],"syscalls":[{}]}}"#,
        rules.join(",")
    );
    let filter = filter(&json);
    verify(&filter.program);
    assert!(filter.program.len() > 1000, "{}", filter.program.len());
    for name in names {
        let number = number_of(Arch::X86_64, name).unwrap();
        for n in 0..30 {
            let above = n * 0x1_0000_0007_u64 + 1;
            check(&filter, &[(call(number, &[0, 0, 0, above]), errno(n as u32 + 100))]);
        }
        check(&filter, &[(call(number, &[]), KILL_PROCESS), (call(2, &[]), KILL_PROCESS)]);
    }
    check(&filter, &[(foreign(ARM, 3, &[]), KILL_THREAD), (foreign(X86, 3, &[0, 0, 0, 8]), errno(101))]);
}

#[test]
fn bytes_are_the_kernel_s_structure() {
    let filter = filter(r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#);
    let bytes = filter.bytes();
    assert_eq!(bytes.len(), filter.program.len() * 8);
    assert_eq!(bytes[..8], [0x20, 0, 0, 0, 4, 0, 0, 0].map(|byte: u8| byte));
    let last = filter.program.last().unwrap();
    assert_eq!(bytes[bytes.len() - 4..], last.k.to_ne_bytes());
}
