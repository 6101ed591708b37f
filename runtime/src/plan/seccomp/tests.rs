//! The compiler against a machine that runs its programs ([`machine`]) and a naive reading of the profile
//! ([`model`]). The expectations about order and ENOSYS were also compared with libseccomp 2.5 by hand.

mod machine;
mod model;
mod program;
mod refusals;
mod verdicts;

use super::{Arch, Filter, compile};
use crate::spec::seccomp::Profile;
use machine::Call;

const X86_64: u32 = 0xc000_003e;
const X86: u32 = 0x4000_0003;
const AARCH64: u32 = 0xc000_00b7;
const ARM: u32 = 0x4000_0028;

const ALLOW: u32 = 0x7fff_0000;
const LOG: u32 = 0x7ffc_0000;
const NOTIFY: u32 = 0x7fc0_0000;
const TRAP: u32 = 0x3_0000;
const KILL_THREAD: u32 = 0;
const KILL_PROCESS: u32 = 0x8000_0000;
const EPERM: u32 = errno(1);
const ENOSYS: u32 = errno(38);

const fn errno(errno: u32) -> u32 {
    0x5_0000 | errno
}

fn profile(json: &str) -> Profile {
    serde_json::from_str(json).unwrap()
}

fn number_of(arch: Arch, name: &str) -> Option<u32> {
    arch.table().iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

/// Compiles for x86_64.
fn filter(json: &str) -> Filter {
    compile(&profile(json), Arch::X86_64).unwrap().unwrap()
}

/// A call of x86_64.
fn call(number: u32, args: &[u64]) -> Call {
    foreign(X86_64, number, args)
}

fn foreign(arch: u32, number: u32, args: &[u64]) -> Call {
    let mut six = [0; 6];
    six[..args.len()].copy_from_slice(args);
    Call { arch, number, args: six }
}

/// Allow-list profiles in which only `rules` differ.
fn allowing(rules: &str) -> Filter {
    filter(&format!(r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{rules}]}}"#))
}

fn check(filter: &Filter, cases: &[(Call, u32)]) {
    for (call, expect) in cases {
        let (got, _) = machine::run(&filter.program, call);
        assert_eq!(got, *expect, "{call:x?}: {got:#x}, not {expect:#x}");
    }
}
