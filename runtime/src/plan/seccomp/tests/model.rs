//! A naive reading of a profile: what should happen to one call, found by walking all rules. And random profiles.

use super::machine::Call;
use super::{ALLOW, ENOSYS, KILL_PROCESS, KILL_THREAD, LOG, NOTIFY, TRAP, X86_64, number_of};
use crate::plan::seccomp::{ACTIONS, Arch, OPERATORS};
use crate::spec::seccomp::{Arg, Profile, Syscalls};
use fastrand::Rng;

/// An argument, a class of operators, a value: a condition's place in the order.
type Key = (u64, u8, u64);

/// What the filter should return.
pub fn expect(profile: &Profile, arch: Option<Arch>, call: &Call) -> u32 {
    let default = action(&profile.default_action, profile.default_errno_ret);
    // Neither x32's bit nor a number of x86_64.
    if call.arch == X86_64 && call.number >> 30 == 0b10 && newer(profile, Arch::X86_64, call.number) {
        return ENOSYS;
    }
    let Some(arch) = arch else {
        return if call.arch == X86_64 && call.number == u32::MAX { default } else { KILL_THREAD };
    };
    let mut matching: Vec<(Vec<Key>, u32)> = Vec::new();
    for rule in &profile.syscalls {
        let ret = action(&rule.action, rule.errno_ret);
        if ret == default || !rule.names.iter().any(|name| number_of(arch, name) == Some(call.number)) {
            continue;
        }
        for args in either(&rule.args) {
            let args: Vec<Arg> = args.into_iter().filter(|a| !always(a, arch)).collect();
            if args.is_empty() {
                return ret;
            }
            if args.iter().all(|arg| holds(arg, arch, call)) {
                matching.push((keys(args, arch), ret));
            }
        }
    }
    // The greatest first condition wins; a shorter list precedes a longer one that begins with it.
    matching.sort_by(|(a, _), (b, _)| {
        let differ = a.iter().zip(b).find(|(a, b)| a != b);
        differ.map_or(a.len().cmp(&b.len()), |(a, b)| b.cmp(a))
    });
    match matching.first() {
        Some((_, ret)) => *ret,
        None if newer(profile, arch, call.number) => ENOSYS,
        None => default,
    }
}

fn newer(profile: &Profile, arch: Arch, number: u32) -> bool {
    let names = profile.syscalls.iter().flat_map(|rule| &rule.names);
    let newest =
        names.filter_map(|name| number_of(arch, name)).filter(|n| arch != Arch::Arm || *n < 0xf_0000).max();
    let permissive = ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"].contains(&&*profile.default_action);
    let private = arch == Arch::Arm && number >= 0xf_0000;
    !permissive && !private && newest.is_some_and(|newest| newest > 0 && number > newest)
}

pub fn action(name: &str, data: Option<u64>) -> u32 {
    let data = data.unwrap_or(1) as u32;
    match name {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => KILL_THREAD,
        "SCMP_ACT_KILL_PROCESS" => KILL_PROCESS,
        "SCMP_ACT_TRAP" => TRAP,
        "SCMP_ACT_ERRNO" => 0x5_0000 | data,
        "SCMP_ACT_TRACE" => 0x7ff0_0000 | data,
        "SCMP_ACT_ALLOW" => ALLOW,
        "SCMP_ACT_LOG" => LOG,
        "SCMP_ACT_NOTIFY" => NOTIFY,
        other => panic!("{other}"),
    }
}

fn either(args: &[Arg]) -> Vec<Vec<Arg>> {
    let twice = args.iter().any(|a| args.iter().filter(|b| b.index == a.index).count() > 1);
    if twice { args.iter().map(|a| vec![a.clone()]).collect() } else { vec![args.to_vec()] }
}

fn seen(value: u64, arch: Arch) -> u64 {
    if matches!(arch, Arch::X86_64 | Arch::Aarch64) { value } else { value & 0xffff_ffff }
}

fn always(arg: &Arg, arch: Arch) -> bool {
    arg.op == "SCMP_CMP_MASKED_EQ" && seen(arg.value, arch) == 0
}

pub fn holds(arg: &Arg, arch: Arch, call: &Call) -> bool {
    let actual = seen(call.args[arg.index as usize], arch);
    let (value, two) = (seen(arg.value, arch), seen(arg.value_two, arch));
    match arg.op.as_str() {
        "SCMP_CMP_NE" => actual != value,
        "SCMP_CMP_LT" => actual < value,
        "SCMP_CMP_LE" => actual <= value,
        "SCMP_CMP_EQ" => actual == value,
        "SCMP_CMP_GE" => actual >= value,
        "SCMP_CMP_GT" => actual > value,
        "SCMP_CMP_MASKED_EQ" => actual & value == two & value,
        other => panic!("{other}"),
    }
}

fn keys(mut args: Vec<Arg>, arch: Arch) -> Vec<Key> {
    args.sort_by_key(|arg| arg.index);
    let key = |arg: &Arg| match arg.op.as_str() {
        "SCMP_CMP_MASKED_EQ" => (arg.index, 3, seen(arg.value, arch) & seen(arg.value_two, arch)),
        "SCMP_CMP_EQ" | "SCMP_CMP_NE" => (arg.index, 3, seen(arg.value, arch)),
        "SCMP_CMP_LT" | "SCMP_CMP_LE" => (arg.index, 2, u64::MAX - seen(arg.value, arch)),
        _ => (arg.index, 1, seen(arg.value, arch)),
    };
    args.iter().map(key).collect()
}

/// Small numbers, both halves and their borders.
pub fn value(random: &mut Rng) -> u64 {
    let mut half = || random.choice([0, 1, 2, 3, 0x7fff_ffff, 0xffff_ffff_u64]).expect("some");
    let [low, high] = [half(), half()];
    if random.bool() { low } else { high << 32 | low }
}

/// A profile with every action but NOTIFY, every operator and up to 60 rules.
pub fn profile(random: &mut Rng, names: &[&str]) -> Profile {
    let actions = || ACTIONS.iter().copied().filter(|action| *action != "SCMP_ACT_NOTIFY");
    let action = |random: &mut Rng| random.choice(actions().collect::<Vec<_>>()).expect("some").to_owned();
    let mut profile = Profile { default_action: action(random), ..Profile::default() };
    let architectures = ["SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_ARM", "SCMP_ARCH_S390X"];
    profile.architectures = architectures.map(String::from).into_iter().filter(|_| random.bool()).collect();
    for _ in 0..random.usize(..60) {
        let name = |random: &mut Rng| (*random.choice(names).expect("some")).to_owned();
        profile.syscalls.push(Syscalls {
            names: (0..random.usize(..8)).map(|_| name(random)).collect(),
            action: action(random),
            errno_ret: random.bool().then(|| random.u64(..40)),
            args: (0..random.choice([0, 0, 1, 1, 2, 3]).expect("some")).map(|_| arg(random)).collect(),
        });
    }
    profile
}

fn arg(random: &mut Rng) -> Arg {
    let op = (*random.choice(OPERATORS).expect("some")).to_owned();
    Arg { index: random.u64(..6), value: value(random), value_two: value(random), op }
}
