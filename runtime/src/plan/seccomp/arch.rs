//! What differs between architectures: the kernel's audit number, the width of an argument, the numbers of the
//! system calls and the space they live in, and i386's two multiplexers.

use seccompiler::{SeccompCmpArgLen, SeccompCmpOp};

use super::lower::Condition;
use super::syscalls::{aarch64, arm, x32, x86, x86_64};

/// x32 calls are x86_64 calls with this bit.
const X32_BIT: u32 = 0x4000_0000;
/// 32-bit Arm's private calls; ordinary numbers never come near.
pub(super) const ARM_PRIVATE: u32 = 0xf_0000;

/// An architecture that this compiler has a table for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 32-bit x86.
    X86,
    /// 32-bit pointers on 64-bit x86.
    X32,
    /// 64-bit Arm.
    Aarch64,
    /// 32-bit Arm.
    Arm,
}

/// Every name that libseccomp 2.6 knows, sorted, and what this compiler has for it.
pub const ARCHITECTURES: &[(&str, Option<Arch>)] = &[
    ("SCMP_ARCH_AARCH64", Some(Arch::Aarch64)),
    ("SCMP_ARCH_ARM", Some(Arch::Arm)),
    ("SCMP_ARCH_LOONGARCH64", None),
    ("SCMP_ARCH_M68K", None),
    ("SCMP_ARCH_MIPS", None),
    ("SCMP_ARCH_MIPS64", None),
    ("SCMP_ARCH_MIPS64N32", None),
    ("SCMP_ARCH_MIPSEL", None),
    ("SCMP_ARCH_MIPSEL64", None),
    ("SCMP_ARCH_MIPSEL64N32", None),
    ("SCMP_ARCH_PARISC", None),
    ("SCMP_ARCH_PARISC64", None),
    ("SCMP_ARCH_PPC", None),
    ("SCMP_ARCH_PPC64", None),
    ("SCMP_ARCH_PPC64LE", None),
    ("SCMP_ARCH_RISCV64", None),
    ("SCMP_ARCH_S390", None),
    ("SCMP_ARCH_S390X", None),
    ("SCMP_ARCH_SH", None),
    ("SCMP_ARCH_SHEB", None),
    ("SCMP_ARCH_X32", Some(Arch::X32)),
    ("SCMP_ARCH_X86", Some(Arch::X86)),
    ("SCMP_ARCH_X86_64", Some(Arch::X86_64)),
];

impl Arch {
    /// What this program was built for.
    #[cfg(target_arch = "x86_64")]
    pub const NATIVE: Self = Self::X86_64;
    /// What this program was built for.
    #[cfg(target_arch = "aarch64")]
    pub const NATIVE: Self = Self::Aarch64;

    /// `AUDIT_ARCH_*`: what the kernel puts into `seccomp_data.arch`.
    pub(super) fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }

    /// How much of an argument counts.
    pub(super) fn width(self) -> SeccompCmpArgLen {
        match self {
            Self::X86_64 | Self::Aarch64 => SeccompCmpArgLen::Qword,
            Self::X86 | Self::X32 | Self::Arm => SeccompCmpArgLen::Dword,
        }
    }

    /// The first number that is this architecture's under its audit number; x86_64's end where x32's begin.
    pub(super) fn first(self) -> u64 {
        if self == Self::X32 { X32_BIT.into() } else { 0 }
    }

    /// Names and numbers, sorted by name.
    pub(super) fn table(self) -> &'static [(&'static str, u32)] {
        match self {
            Self::X86_64 => x86_64::TABLE,
            Self::X86 => x86::TABLE,
            Self::X32 => x32::TABLE,
            Self::Aarch64 => aarch64::TABLE,
            Self::Arm => arm::TABLE,
        }
    }

    /// The second way to a system call: a multiplexer's number, and what its first argument then is.
    pub(super) fn multiplexed(self, name: &str) -> Option<(u32, Condition)> {
        if self != Self::X86 {
            return None;
        }
        let at = MULTIPLEXED.binary_search_by(|(known, ..)| (*known).cmp(name)).ok()?;
        let (_, multiplexer, value) = MULTIPLEXED[at];
        // The kernel takes the version of an ipc call from the high half.
        let op = if multiplexer == IPC { SeccompCmpOp::MaskedEq(0xffff) } else { SeccompCmpOp::Eq };
        Some((multiplexer, Condition { arg: 0, op, value }))
    }
}

const SOCKETCALL: u32 = 102;
const IPC: u32 = 117;

/// What i386 has behind a multiplexer, sorted by name: the multiplexer and its first argument.
const MULTIPLEXED: &[(&str, u32, u64)] = &[
    ("accept", SOCKETCALL, 5),
    ("accept4", SOCKETCALL, 18),
    ("bind", SOCKETCALL, 2),
    ("connect", SOCKETCALL, 3),
    ("getpeername", SOCKETCALL, 7),
    ("getsockname", SOCKETCALL, 6),
    ("getsockopt", SOCKETCALL, 15),
    ("listen", SOCKETCALL, 4),
    ("msgctl", IPC, 14),
    ("msgget", IPC, 13),
    ("msgrcv", IPC, 12),
    ("msgsnd", IPC, 11),
    ("recv", SOCKETCALL, 10),
    ("recvfrom", SOCKETCALL, 12),
    ("recvmmsg", SOCKETCALL, 19),
    ("recvmsg", SOCKETCALL, 17),
    ("semctl", IPC, 3),
    ("semget", IPC, 2),
    ("semop", IPC, 1),
    ("semtimedop", IPC, 4),
    ("send", SOCKETCALL, 9),
    ("sendmmsg", SOCKETCALL, 20),
    ("sendmsg", SOCKETCALL, 16),
    ("sendto", SOCKETCALL, 11),
    ("setsockopt", SOCKETCALL, 14),
    ("shmat", IPC, 21),
    ("shmctl", IPC, 24),
    ("shmdt", IPC, 22),
    ("shmget", IPC, 23),
    ("shutdown", SOCKETCALL, 13),
    ("socket", SOCKETCALL, 1),
    ("socketpair", SOCKETCALL, 8),
];

#[cfg(test)]
mod tests {
    use super::MULTIPLEXED;

    #[test]
    fn the_multiplexed_calls_are_sorted_by_name() {
        assert!(MULTIPLEXED.is_sorted_by(|a, b| a.0 < b.0));
    }
}
