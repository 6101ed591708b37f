//! Random profiles, calls and arguments: the same ones for the same seed everywhere.

use super::machine::Call;
use super::{AARCH64, ARM, X32_BIT, X86, X86_64, names};
use fastrand::Rng;
use pintle::plan::seccomp::{ACTIONS, OPERATORS};
use serde_json::{Value, json};

/// Names at both ends of the tables, next to each other and far apart, some of one architecture only.
const SOME: &str = "socket socketcall shmget ipc set_tls restart_syscall read write open close stat mmap mmap2 \
    chown32 clone execve ptrace personality mount openat openat2 clone3 close_range futex_waitv bpf _llseek ugetrlimit \
    clock_gettime64 rt_sigaction no_such_call";

fn pick<T: Copy>(random: &mut Rng, from: &[T]) -> T {
    *random.choice(from).expect("some")
}

fn name(random: &mut Rng) -> &'static str {
    let names: Vec<&str> = SOME.split_whitespace().collect();
    pick(random, &names)
}

/// An argument: anything, 32 bits, few, or one that a condition looks for.
pub fn argument(random: &mut Rng, values: &[u64]) -> u64 {
    match random.u8(..4) {
        0 => random.u64(..),
        1 => random.u32(..).into(),
        2 => random.u64(..64),
        _ => pick(random, values),
    }
}

/// A call, mostly one that [`SOME`] names.
pub fn call(random: &mut Rng, values: &[u64]) -> Call {
    let arch = pick(random, &[X86_64, X86_64, X86, X86, ARM, ARM, AARCH64, AARCH64]);
    let (abi, name) = (pick(random, &["x86_64", "x86", "x32", "aarch64", "arm"]), name(random));
    let named = names(abi).find(|(known, _)| *known == name).map(|(_, number)| number);
    let number = match random.u8(..4) {
        0 => random.u32(..500) | pick(random, &[0, X32_BIT]),
        1 => random.u32(..),
        _ => named.unwrap_or(u32::MAX).wrapping_add(random.u32(..3)).wrapping_sub(1),
    };
    Call { arch, number, args: std::array::from_fn(|_| argument(random, values)) }
}

/// A profile with every action but NOTIFY, every operator and up to 60 rules, as JSON; one in three is for 64-bit Arm.
pub fn profile(random: &mut Rng) -> String {
    let actions: Vec<&str> = ACTIONS.iter().copied().filter(|action| *action != "SCMP_ACT_NOTIFY").collect();
    let known: &[&str] = if random.u8(..3) == 0 {
        &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
    } else {
        &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    };
    let architectures = &known[..random.usize(1..=known.len())];
    let rules: Vec<Value> = (0..random.usize(..60)).map(|_| rule(random, &actions)).collect();
    json!({"defaultAction": pick(random, &actions), "architectures": architectures, "syscalls": rules})
        .to_string()
}

fn rule(random: &mut Rng, actions: &[&str]) -> Value {
    let names: Vec<&str> = (0..random.usize(..8)).map(|_| name(random)).collect();
    let errno = random.bool().then(|| random.u8(..40));
    let args: Vec<Value> = (0..pick(random, &[0, 0, 1, 1, 2, 3])).map(|_| condition(random)).collect();
    json!({"names": names, "action": pick(random, actions), "errnoRet": errno, "args": args})
}

fn condition(random: &mut Rng) -> Value {
    let [value, other] = std::array::from_fn(|_| {
        let mut half = || pick(random, &[0, 1, 2, 3, 0x7fff_ffff, 0xffff_ffff_u64]);
        half() | half() << (half() & 32)
    });
    json!({"index": random.u8(..6), "op": pick(random, OPERATORS), "value": value, "valueTwo": other})
}
