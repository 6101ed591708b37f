//! pintle's own machine for BPF and its naive reading of profiles, from the compiler's unit tests: the very files. Around
//! them the names that they use; the compiler's tables, too, which it shows nobody.

#[path = "../../../runtime/src/plan/seccomp/tests/machine.rs"]
pub mod machine;
#[path = "../../../runtime/src/plan/seccomp/tests/model.rs"]
#[allow(dead_code, reason = "the drawing of random profiles is for the tests alone")]
pub mod model;

#[path = "../../../runtime/src/plan/seccomp/syscalls/aarch64.rs"]
mod aarch64;
#[path = "../../../runtime/src/plan/seccomp/syscalls/arm.rs"]
mod arm;
#[path = "../../../runtime/src/plan/seccomp/syscalls/x32.rs"]
mod x32;
#[path = "../../../runtime/src/plan/seccomp/syscalls/x86.rs"]
mod x86;
#[path = "../../../runtime/src/plan/seccomp/syscalls/x86_64.rs"]
mod x86_64;

use crate::plan::seccomp::Arch;

pub const X86_64: u32 = 0xc000_003e;
pub const X86: u32 = 0x4000_0003;
pub const AARCH64: u32 = 0xc000_00b7;
pub const ARM: u32 = 0x4000_0028;

pub const ALLOW: u32 = 0x7fff_0000;
pub const LOG: u32 = 0x7ffc_0000;
pub const NOTIFY: u32 = 0x7fc0_0000;
pub const TRAP: u32 = 0x3_0000;
pub const KILL_THREAD: u32 = 0;
pub const KILL_PROCESS: u32 = 0x8000_0000;
pub const ENOSYS: u32 = 0x5_0000 | 38;

/// Names and numbers, sorted by name.
pub fn table(arch: Arch) -> &'static [(&'static str, u32)] {
    match arch {
        Arch::X86_64 => x86_64::TABLE,
        Arch::X86 => x86::TABLE,
        Arch::X32 => x32::TABLE,
        Arch::Aarch64 => aarch64::TABLE,
        Arch::Arm => arm::TABLE,
    }
}

pub fn number_of(arch: Arch, name: &str) -> Option<u32> {
    let table = table(arch);
    table.binary_search_by(|(known, _)| (*known).cmp(name)).ok().map(|at| table[at].1)
}
