//! A profile out of bytes: each chooses among what makes a difference to the compiler, so that a changed byte is a changed
//! rule and never a broken text.

use super::reading::table;
use super::{ACTIONS, Arch, OPERATORS};
use crate::spec::seccomp::{Arg, Profile, Syscalls};

/// Bytes that are taken one by one; after the last come zeros.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> usize {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(*first)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.next() % from.len()]
    }

    /// Where 64 bits, their halves and their borders make a difference; sometimes anything.
    fn value(&mut self) -> u64 {
        const HALVES: [u64; 8] = [0, 1, 2, 3, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff];
        match self.next() {
            way @ 0..128 => HALVES[way % 8] | HALVES[way / 8 % 8] << if way < 64 { 64 - 32 } else { 0 },
            128..192 => (0..8).fold(0, |value, _| value << 8 | self.next() as u64),
            way => (way as u64 - 192) << (self.next() % 60),
        }
    }
}

/// The profile that the bytes stand for.
pub(super) fn profile(data: &[u8]) -> Profile {
    const ARCHITECTURES: [&str; 6] = [
        "SCMP_ARCH_X86",
        "SCMP_ARCH_X32",
        "SCMP_ARCH_ARM",
        "SCMP_ARCH_S390X",
        "SCMP_ARCH_AARCH64",
        "SCMP_ARCH_X86_64",
    ];
    let mut bytes = Bytes(data);
    let (actions, listed) = (bytes.next(), bytes.next());
    let mut profile = Profile {
        default_action: ACTIONS[actions % ACTIONS.len()].into(),
        default_errno_ret: (actions >= 128).then(|| bytes.next() as u64),
        listener_path: "/run/agent".into(),
        ..Profile::default()
    };
    let chosen = ARCHITECTURES.iter().enumerate().filter(|(n, _)| listed >> n & 1 == 1);
    profile.architectures = chosen.map(|(_, name)| (*name).into()).collect();
    while !bytes.0.is_empty() && profile.syscalls.len() < 128 {
        let shape = bytes.next();
        profile.syscalls.push(Syscalls {
            names: (0..=shape % 3).map(|_| name(&mut bytes)).collect(),
            action: bytes.pick(ACTIONS).into(),
            errno_ret: (shape >= 192).then(|| bytes.next() as u64),
            args: (0..shape / 4 % 4).map(|_| arg(&mut bytes)).collect(),
        });
    }
    profile
}

/// Few names often, so that rules meet; now and then any of a table's.
fn name(bytes: &mut Bytes<'_>) -> String {
    const OFTEN: [&str; 16] = [
        "read",
        "close",
        "mmap",
        "mmap2",
        "clone",
        "ptrace",
        "socket",
        "recv",
        "semtimedop",
        "shmget",
        "personality",
        "openat2",
        "set_tls",
        "rt_sigaction",
        "restart_syscall",
        "no_such_call",
    ];
    match bytes.next() {
        often @ 0..160 => OFTEN[often % 16].into(),
        any => {
            let table = table([Arch::X86_64, Arch::X86, Arch::X32, Arch::Aarch64, Arch::Arm][any % 5]);
            let at = bytes.next() << 8 | bytes.next();
            table[at % table.len()].0.into()
        }
    }
}

fn arg(bytes: &mut Bytes<'_>) -> Arg {
    let index = bytes.next() as u64 % 6;
    Arg { index, op: bytes.pick(OPERATORS).into(), value: bytes.value(), value_two: bytes.value() }
}
