//! What our seccomp programs say to a call beside what runc's would: libseccomp's program, with and without its binary
//! tree, and runc's ENOSYS rule before it. For Docker's and Podman's default profiles all that is recorded in `seccomp/`
//! (its README.md says where from); where the library is there (`make oracles`), it has to make these same programs, have
//! these same names, and decide random profiles alike.

#[path = "seccomp/libseccomp.rs"]
#[expect(dead_code, reason = "the bench takes times")]
mod libseccomp;
#[path = "../src/plan/seccomp/tests/machine.rs"]
mod machine;
#[path = "seccomp/random.rs"]
mod random;

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use fastrand::Rng;
use libseccomp::{Layout, Libseccomp, program};
use machine::{Call, run, verify};
use pintle::plan::seccomp::{Arch, Filter, compile};
use pintle::spec::seccomp::{Profile, Syscalls};
use seccompiler::sock_filter;

struct Recorded {
    profile: &'static str,
    plain: &'static str,
    tree: &'static str,
}

const ENGINES: [Recorded; 2] = [
    Recorded {
        profile: include_str!("seccomp/docker.json"),
        plain: include_str!("seccomp/docker.plain"),
        tree: include_str!("seccomp/docker.tree"),
    },
    Recorded {
        profile: include_str!("seccomp/podman.json"),
        plain: include_str!("seccomp/podman.plain"),
        tree: include_str!("seccomp/podman.tree"),
    },
];
/// libseccomp's tables: architecture, number and name in each line.
const NAMES: &str = include_str!("seccomp/names");

const X86_64: u32 = 0xc000_003e;
const X86: u32 = 0x4000_0003;
const AARCH64: u32 = 0xc000_00b7;
const ARM: u32 = 0x4000_0028;
const X32_BIT: u32 = 0x4000_0000;
/// 32-bit Arm's private calls.
const ARM_PRIVATE: u32 = 0xf_0000;
/// An architecture's word in the list of names, its audit number, its first number.
const ABIS: [(&str, u32, u32); 3] = [("x86_64", X86_64, 0), ("x86", X86, 0), ("x32", X86_64, X32_BIT)];
const ARMS: [(&str, u32, u32); 2] = [("aarch64", AARCH64, 0), ("arm", ARM, 0)];

const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x5_0000;
const ENOSYS: u32 = ERRNO | 38;

fn parse(profile: &str) -> Profile {
    serde_json::from_str(profile).unwrap()
}

fn ours(profile: &Profile) -> Filter {
    let filter = compile(profile, Arch::X86_64).unwrap().unwrap();
    verify(&filter.program);
    filter
}

/// The numbers of all names that an architecture has.
fn names(abi: &str) -> impl Iterator<Item = (&'static str, u32)> {
    static TABLES: LazyLock<HashMap<&str, Vec<(&str, u32)>>> = LazyLock::new(|| {
        let mut tables: HashMap<&str, Vec<(&str, u32)>> = HashMap::new();
        for line in NAMES.lines() {
            let [abi, number, name] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            tables.entry(abi).or_default().push((name, number.parse().unwrap()));
        }
        tables
    });
    TABLES[abi].iter().copied()
}

/// The newest call that a profile names, but for 32-bit Arm's private ones.
fn newest(profile: &Profile, abi: &str) -> Option<u32> {
    let named = |name: &str| profile.syscalls.iter().flat_map(|rule| &rule.names).any(|named| named == name);
    let ordinary = |number: u32| abi != "arm" || number < ARM_PRIVATE;
    let numbers =
        names(abi).filter(|(name, number)| ordinary(*number) && named(name)).map(|(_, number)| number);
    numbers.max().filter(|newest| *newest > 0)
}

/// The architecture of a call, as the list of names has it.
fn abi(call: &Call) -> Option<&'static str> {
    match call.arch {
        X86_64 if call.number & X32_BIT == 0 => Some("x86_64"),
        X86_64 => Some("x32"),
        X86 => Some("x86"),
        AARCH64 => Some("aarch64"),
        ARM => Some("arm"),
        _ => None,
    }
}

fn native(profile: &Profile) -> (Arch, &'static str) {
    let arm = profile.architectures.first().is_some_and(|first| first == "SCMP_ARCH_AARCH64");
    if arm { (Arch::Aarch64, "aarch64") } else { (Arch::X86_64, "x86_64") }
}

/// runc's filter for a profile.
struct Runc<'a> {
    profile: &'a Profile,
    /// By architecture, where runc has the rule.
    newest: HashMap<&'static str, u32>,
    libseccomp: Vec<sock_filter>,
}

impl<'a> Runc<'a> {
    fn new(profile: &'a Profile, libseccomp: Vec<sock_filter>) -> Self {
        let permissive = ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"];
        let strict = !permissive.contains(&profile.default_action.as_str());
        let listed = |abi: &str| {
            let name = format!("SCMP_ARCH_{}", abi.to_uppercase());
            abi == native(profile).1 || profile.architectures.contains(&name)
        };
        let abis = ABIS.into_iter().chain(ARMS).map(|(abi, ..)| abi).filter(|abi| strict && listed(abi));
        let newest = abis.filter_map(|abi| Some((abi, newest(profile, abi)?))).collect();
        Self { profile, newest, libseccomp }
    }

    fn verdict(&self, call: &Call) -> u32 {
        let newest = abi(call).and_then(|abi| self.newest.get(abi));
        if newest.is_some_and(|newest| call.number > *newest) {
            ENOSYS
        } else {
            run(&self.libseccomp, call).0
        }
    }
}

#[track_caller]
fn same(ours: &Filter, theirs: &[Runc], call: &Call) {
    let (got, _) = run(&ours.program, call);
    for runc in theirs {
        let expect = runc.verdict(call);
        assert_eq!(got, expect, "{call:x?}: {got:#x}, not {expect:#x} in {:#?}", runc.profile);
    }
}

/// Every number up to the newest that the profile names, on each architecture, with random arguments and with all that
/// are next to a condition's border.
#[test]
fn the_engines_profiles_are_decided_as_by_runc() {
    let (mut drawn, mut random) = (0, Rng::with_seed(7));
    for recorded in ENGINES {
        let profile = parse(recorded.profile);
        let ours = ours(&profile);
        let theirs = [recorded.plain, recorded.tree].map(|text| Runc::new(&profile, program(text)));
        let values = values(profile.syscalls.iter());
        for (abi, arch, first) in ABIS {
            for number in first..=newest(&profile, abi).unwrap() {
                for _ in 0..40 {
                    let args = std::array::from_fn(|_| random::argument(&mut random, &values));
                    same(&ours, &theirs, &Call { arch, number, args });
                    drawn += 1;
                }
                for args in borders(&profile, abi, number) {
                    same(&ours, &theirs, &Call { arch, number, args });
                }
            }
        }
    }
    assert!(drawn >= 100_000, "{drawn}");
}

#[test]
fn beyond_the_engines_profiles_runc_s_enosys_rule_holds() {
    let mut random = Rng::with_seed(8);
    for recorded in ENGINES {
        let profile = parse(recorded.profile);
        let ours = ours(&profile);
        let theirs = [recorded.plain, recorded.tree].map(|text| Runc::new(&profile, program(text)));
        let ends = ABIS.map(|(abi, ..)| newest(&profile, abi).unwrap());
        let near = ends.iter().flat_map(|end| [end - 1, *end, end + 1, end + 2]);
        let powers = (0..32).flat_map(|bit| [1_u32 << bit, (1 << bit) - 1]);
        let drawn: Vec<u32> = (0..10_000).map(|_| random.u32(..)).collect();
        for number in near.chain(powers).chain([u32::MAX - 1, u32::MAX]).chain(drawn) {
            for arch in [X86_64, X86, ARM, AARCH64, 0, X32_BIT] {
                same(&ours, &theirs, &Call { arch, number, args: [random.u64(..); 6] });
            }
        }
        for ((_, arch, _), end) in ABIS.into_iter().zip(ends) {
            assert_eq!(run(&ours.program, &Call { arch, number: end + 1, args: [0; 6] }).0, ENOSYS);
        }
    }
}

/// What conditions compare with, and what is next to it, in either half.
fn values<'a>(rules: impl Iterator<Item = &'a Syscalls>) -> Vec<u64> {
    let mut values = vec![0, 1, u64::MAX, u32::MAX.into(), 1 << 32];
    for arg in rules.flat_map(|rule| &rule.args) {
        for value in [arg.value, arg.value_two] {
            for next in [value, value.wrapping_sub(1), value.wrapping_add(1), !value] {
                values.extend([next, next | 1 << 32, next | 1 << 63, next & 0xffff_ffff]);
            }
        }
        if arg.op == "SCMP_CMP_MASKED_EQ" {
            values.extend((0..64).map(|bit| arg.value_two ^ 1 << bit));
        }
    }
    values.sort_unstable();
    values.dedup();
    values
}

/// For a number with conditions: every combination of such values.
fn borders(profile: &Profile, abi: &str, number: u32) -> Vec<[u64; 6]> {
    let Some((name, _)) = names(abi).find(|(_, known)| *known == number) else { return Vec::new() };
    let here = |rule: &&Syscalls| rule.names.iter().any(|named| named == name);
    let rules: Vec<&Syscalls> = profile.syscalls.iter().filter(here).collect();
    let values = values(rules.iter().copied());
    let mut sets = vec![[0; 6]];
    for index in 0..6 {
        if rules.iter().flat_map(|rule| &rule.args).any(|arg| arg.index == index as u64) {
            let with = |mut set: [u64; 6], value| {
                set[index] = value;
                set
            };
            sets = sets.iter().flat_map(|set| values.iter().map(|value| with(*set, *value))).collect();
        }
    }
    sets
}

/// Each name has an answer of its own, which stands at its number.
#[test]
fn the_tables_have_libseccomp_s_numbers() {
    for (abi, arch, _) in ABIS.into_iter().chain(ARMS) {
        let rules: Vec<_> = names(abi)
            .enumerate()
            .map(|(at, (name, _))| serde_json::json!({"names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": at + 1}))
            .collect();
        let native = if ARMS.iter().any(|(arm, ..)| *arm == abi) { Arch::Aarch64 } else { Arch::X86_64 };
        let architectures = [format!("SCMP_ARCH_{}", abi.to_uppercase())];
        let profile = serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": architectures,
            "syscalls": rules});
        let filter = compile(&parse(&profile.to_string()), native).unwrap().unwrap();
        for (at, (name, number)) in names(abi).enumerate() {
            // i386's multiplexers get the rules of the calls behind them.
            let got = run(&filter.program, &Call { arch, number, args: [0; 6] }).0;
            assert_eq!(got, ERRNO | (at as u32 + 1), "{abi}: {name}");
        }
    }
}

/// With the library of `make oracles`, built into a folder that goes away.
fn with_libseccomp(test: impl FnOnce(&Libseccomp)) {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("libseccomp-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let at = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    match Libseccomp::build(&at) {
        Some(libseccomp) => {
            test(&libseccomp);
            std::fs::remove_file(&at).unwrap();
        }
        None => {
            // Past libtest, which would keep it for itself. Nobody reads a closed stream.
            let why = "no library (make oracles), or no C compiler";
            let _closed = writeln!(std::io::stdout(), "SKIP beside libseccomp: {why}");
        }
    }
}

#[test]
fn what_is_recorded_is_libseccomp_s() {
    with_libseccomp(|libseccomp| {
        for recorded in ENGINES {
            let profile = parse(recorded.profile);
            for (layout, text) in [(Layout::Plain, recorded.plain), (Layout::Tree, recorded.tree)] {
                let made = libseccomp.program(&profile, layout).unwrap();
                assert!(made == text, "{layout:?}: record it anew, see seccomp/README.md");
            }
        }
        assert!(libseccomp.names() == NAMES, "names: record them anew, see seccomp/README.md");
    });
}

/// Where pintle differs on purpose (docs/compatibility.md): the multiplexer of i386 whose first argument holds a version,
/// 32-bit Arm's private calls, and calls with several rules with conditions, of which libseccomp applies wrong ones.
fn ours_alone(profile: &Profile, call: &Call) -> bool {
    const IPC: u32 = 117;
    let version_of_ipc = call.arch == X86 && call.number == IPC && call.args[0] as u32 > 0xffff;
    let private = call.arch == ARM && call.number >= ARM_PRIVATE;
    let name = abi(call).and_then(|abi| names(abi).find(|(_, number)| *number == call.number));
    let behind = |named: &str| match name {
        Some(("socketcall", _)) => named == "socket",
        Some(("ipc", _)) => named == "shmget",
        _ => false,
    };
    let about = |named: &&String| name.is_some_and(|(name, _)| name == named.as_str()) || behind(named);
    let conditional = profile.syscalls.iter().filter(|rule| !rule.args.is_empty());
    let alternatives = conditional.map(|rule| rule.names.iter().filter(about).count() * alternatives(rule));
    version_of_ipc || private || alternatives.sum::<usize>() > 1
}

/// Several conditions on one argument are as many rules.
fn alternatives(rule: &Syscalls) -> usize {
    let mut indexes: Vec<u64> = rule.args.iter().map(|arg| arg.index).collect();
    indexes.sort_unstable();
    if indexes.is_sorted_by(|a, b| a < b) { 1 } else { rule.args.len() }
}

#[test]
fn random_profiles_are_decided_as_by_runc() {
    with_libseccomp(|libseccomp| {
        let (mut compared, mut calls) = (0, 0);
        for seed in 1..=150 {
            let mut random = Rng::with_seed(seed);
            let profile = parse(&random::profile(&mut random));
            let ours = compile(&profile, native(&profile).0);
            let theirs = [Layout::Plain, Layout::Tree].map(|layout| libseccomp.program(&profile, layout));
            let ([Some(plain), Some(tree)], Ok(Some(ours))) = (theirs, ours) else { continue };
            compared += 1;
            let theirs = [plain, tree].map(|text| Runc::new(&profile, program(&text)));
            let values = values(profile.syscalls.iter());
            for _ in 0..300 {
                let call = random::call(&mut random, &values);
                if !ours_alone(&profile, &call) {
                    calls += 1;
                    same(&ours, &theirs, &call);
                }
            }
        }
        assert!(compared > 100 && calls > 20_000, "only {compared} profiles, {calls} calls");
    });
}

#[test]
fn an_engine_s_program_is_short() {
    for recorded in ENGINES {
        let ours = ours(&parse(recorded.profile));
        let (plain, tree) = (program(recorded.plain), program(recorded.tree));
        assert!(ours.program.len() * 2 < plain.len(), "{} of {}", ours.program.len(), plain.len());
        let steps = |program: &[sock_filter]| {
            let calls = names("x86_64").map(|(_, number)| Call { arch: X86_64, number, args: [0; 6] });
            let allowed = calls.map(|call| run(program, &call)).filter(|(verdict, _)| *verdict == ALLOW);
            let mut steps: Vec<usize> = allowed.map(|(_, steps)| steps).collect();
            steps.sort_unstable();
            steps[steps.len() / 2]
        };
        assert!(steps(&ours.program) * 4 <= steps(&plain));
        assert!(steps(&ours.program) <= steps(&tree));
    }
}
