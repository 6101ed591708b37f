//! A seccomp profile to BPF, three ways: the compiler's program, a naive reading of the profile, and libseccomp's program for
//! it, where libseccomp is there. All have to say the same to calls that lie around whatever the profile names.
//!
//! The input is a profile as JSON, or else bytes from which one is drawn ([`drawn`]): these reach far more conditions.

mod drawn;
mod libseccomp;
mod reading;

use crate::plan::seccomp::{ACTIONS, Arch, Filter, OPERATORS, compile};
use crate::spec::seccomp::{Arg, Profile, Syscalls};
use fastrand::Rng;
pub(crate) use reading::machine;
use reading::machine::Call;
use reading::{AARCH64, ARM, ENOSYS, KILL_THREAD, X86, X86_64, model, number_of};
use seccompiler::sock_filter;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// Keys and values of a profile.
pub const WORDS: &str = include_str!("../dictionaries/seccomp.dict");

const CALLS: usize = 64;
const SOCKETCALL: u32 = 102;
const IPC: u32 = 117;

/// One input.
pub fn check(data: &[u8]) {
    let json = data.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    let profile = match json {
        true => serde_json::from_slice(data).ok(),
        false => Some(drawn::profile(data)),
    };
    let Some(profile) = profile else { return };
    let mut random = Rng::with_seed(seed_of(data));
    for native in [Arch::X86_64, Arch::Aarch64] {
        let [one, two] = [(); 2].map(|()| compile(&profile, native).map_err(|error| error.to_string()));
        assert_eq!(one, two, "compiled in two ways");
        let Ok(Some(filter)) = one else { continue };
        machine::verify(&filter.program);
        assert_eq!(instructions(&filter.bytes()), filter.program);
        let plain = Plain::new(&profile, native);
        let calls: Vec<Call> = (0..CALLS).map(|_| plain.call(&mut random)).collect();
        for call in &calls {
            let (got, _) = machine::run(&filter.program, call);
            let expect = plain.expect(call);
            assert_eq!(got, expect, "{call:x?}: {got:#x}, the naive reading says {expect:#x}: {profile:#?}");
        }
        if native == Arch::X86_64 {
            beside_libseccomp(&profile, &filter, &plain, &calls);
        }
    }
}

/// `struct sock_filter` out of its bytes.
pub fn instructions(bytes: &[u8]) -> Vec<sock_filter> {
    let (parts, rest) = bytes.as_chunks::<8>();
    assert!(rest.is_empty(), "half an instruction");
    let read = |part: &[u8; 8]| sock_filter {
        code: u16::from_ne_bytes([part[0], part[1]]),
        jt: part[2],
        jf: part[3],
        k: u32::from_ne_bytes([part[4], part[5], part[6], part[7]]),
    };
    parts.iter().map(read).collect()
}

/// A profile for the naive reading: numbers cut as the kernel cuts them, and what i386 has behind a multiplexer written out
/// as rules about the multiplexer.
struct Plain {
    profile: Profile,
    native: Arch,
    architectures: Vec<Arch>,
    /// For calls of i386.
    i386: Profile,
}

impl Plain {
    fn new(profile: &Profile, native: Arch) -> Self {
        let mut profile = profile.clone();
        let cut = |errno: &mut Option<u64>| *errno = errno.map(|errno| errno & 0xffff);
        cut(&mut profile.default_errno_ret);
        profile.syscalls.iter_mut().for_each(|rule| cut(&mut rule.errno_ret));
        let named = |name: &str| match name {
            "SCMP_ARCH_X86_64" => Some(Arch::X86_64),
            "SCMP_ARCH_X86" => Some(Arch::X86),
            "SCMP_ARCH_X32" => Some(Arch::X32),
            "SCMP_ARCH_AARCH64" => Some(Arch::Aarch64),
            "SCMP_ARCH_ARM" => Some(Arch::Arm),
            _ => None,
        };
        let mut architectures = vec![native];
        architectures.extend(profile.architectures.iter().filter_map(|name| named(name)));
        let mut i386 = profile.clone();
        i386.syscalls = profile.syscalls.iter().flat_map(written_out).collect();
        Self { profile, native, architectures, i386 }
    }

    fn has(&self, arch: Arch) -> bool {
        self.architectures.contains(&arch)
    }

    /// Whose call it is, if the profile is about it at all.
    fn abi(&self, call: &Call) -> Option<Arch> {
        let arch = match call.arch {
            X86_64 if call.number < 0x4000_0000 => Arch::X86_64,
            X86_64 => Arch::X32,
            X86 => Arch::X86,
            ARM => Arch::Arm,
            AARCH64 => Arch::Aarch64,
            _ => return None,
        };
        self.has(arch).then_some(arch)
    }

    fn expect(&self, call: &Call) -> u32 {
        match self.abi(call) {
            // With -1 a tracer skips a call; only where x86_64's calls are known is that one of them.
            None if !self.has(Arch::X86_64) => KILL_THREAD,
            Some(Arch::X86) if self.speaks_of(call.number) => {
                model::expect(&self.i386, Some(Arch::X86), call)
            }
            arch => model::expect(&self.profile, arch, call),
        }
    }

    /// Whether it is a multiplexer that a rule is about. Any other is no call that the profile names, and may be too new for it.
    fn speaks_of(&self, number: u32) -> bool {
        let ret = |action: &str, errno| model::action(action, errno);
        let default = ret(&self.profile.default_action, self.profile.default_errno_ret);
        let is = |name: &String| number_of(Arch::X86, name) == Some(number);
        let rules = self.i386.syscalls.iter().filter(|rule| rule.names.iter().any(is));
        [SOCKETCALL, IPC].contains(&number)
            && rules.into_iter().any(|rule| ret(&rule.action, rule.errno_ret) != default)
    }

    /// A call near something that the profile names.
    fn call(&self, random: &mut Rng) -> Call {
        let rule = random.choice(&self.profile.syscalls);
        let name = rule.and_then(|rule| random.choice(&rule.names)).map_or("read", |name| name);
        let abi = if random.bool() { self.native } else { pick(random, &self.architectures) };
        let foreign = [X86_64, X86, ARM, AARCH64, 0x8000_0016, 0];
        let arch = match (random.u8(..12), abi) {
            (0, _) => pick(random, &foreign),
            (_, Arch::X86_64 | Arch::X32) => X86_64,
            (_, Arch::X86) => X86,
            (_, Arch::Aarch64) => AARCH64,
            (_, Arch::Arm) => ARM,
        };
        let near = random.u32(..3).wrapping_sub(1);
        let borders =
            [0, 1, 0x3fff_ffff, 0x4000_0000, 0x4000_0001, u32::MAX - 1, u32::MAX, 0xe_ffff, 0xf_0000];
        let number = match random.u8(..12) {
            0 => random.u32(..),
            1 => pick(random, &borders),
            2 => random.u32(..600),
            3 => pick(random, &[SOCKETCALL, IPC]),
            4 => number_of(abi, name).unwrap_or(0).wrapping_add(near),
            _ => number_of(abi, name).unwrap_or(random.u32(..500)),
        };
        Call { arch, number, args: std::array::from_fn(|n| argument(rule, n as u64, random)) }
    }
}

fn pick<T: Copy>(random: &mut Rng, from: &[T]) -> T {
    *random.choice(from).expect("some")
}

/// A value on either side of what a rule compares with.
fn argument(rule: Option<&Syscalls>, index: u64, random: &mut Rng) -> u64 {
    let about: Vec<&Arg> = rule.iter().flat_map(|rule| &rule.args).filter(|arg| arg.index == index).collect();
    let Some(arg) = random.choice(about) else {
        // socketcall and ipc tell by their first argument what they are.
        return if random.bool() { random.u64(..26) } else { random.u64(..) >> random.u8(..64) };
    };
    let near = random.u64(..3).wrapping_sub(1);
    match random.u8(..8) {
        0 => random.u64(..),
        1 => arg.value_two,
        2 => arg.value & arg.value_two,
        3 => arg.value_two | random.u64(..) & !arg.value,
        4 => arg.value ^ 1 << random.u8(..64),
        5 => arg.value ^ 1 << 32,
        _ => arg.value.wrapping_add(near),
    }
}

/// A seed that belongs to the input.
fn seed_of(data: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    data.hash(&mut hasher);
    hasher.finish()
}

/// Behind one of i386's multiplexers: the multiplexer, and its first argument. From the kernel's net.h and ipc.h.
fn multiplexed(name: &str) -> Option<(&'static str, Arg)> {
    const SOCKETS: &str = "socket bind connect listen accept getsockname getpeername socketpair send recv sendto \
        recvfrom shutdown setsockopt getsockopt sendmsg recvmsg accept4 recvmmsg sendmmsg";
    const SYSTEM_V: [(&str, u64); 12] = [
        ("semop", 1),
        ("semget", 2),
        ("semctl", 3),
        ("semtimedop", 4),
        ("msgsnd", 11),
        ("msgrcv", 12),
        ("msgget", 13),
        ("msgctl", 14),
        ("shmat", 21),
        ("shmdt", 22),
        ("shmget", 23),
        ("shmctl", 24),
    ];
    let arg = |value, value_two, op: &str| Arg { index: 0, value, value_two, op: op.into() };
    if let Some(at) = SOCKETS.split_whitespace().position(|known| known == name) {
        return Some(("socketcall", arg(at as u64 + 1, 0, "SCMP_CMP_EQ")));
    }
    let (_, number) = SYSTEM_V.iter().find(|(known, _)| *known == name)?;
    Some(("ipc", arg(0xffff, *number, "SCMP_CMP_MASKED_EQ")))
}

/// Each is a list of conditions that must all hold: where two of a rule's are about one argument, each stands alone.
fn alternatives(args: &[Arg]) -> Vec<&[Arg]> {
    let twice = args.iter().any(|a| args.iter().filter(|b| b.index == a.index).count() > 1);
    let size = if twice { 1 } else { args.len().max(1) };
    if args.is_empty() { vec![&[]] } else { args.chunks(size).collect() }
}

/// The rule, and for each name that has a second way on i386 what it says there: nothing about a first argument, which lies
/// behind a pointer or is the call's own.
fn written_out(rule: &Syscalls) -> Vec<Syscalls> {
    let mut rules = vec![rule.clone()];
    let alternatives = alternatives(&rule.args);
    for (multiplexer, call) in rule.names.iter().filter_map(|name| multiplexed(name)) {
        for args in &alternatives {
            let others = args.iter().filter(|arg| arg.index != 0).cloned();
            rules.push(Syscalls {
                names: vec![multiplexer.into()],
                args: std::iter::once(call.clone()).chain(others).collect(),
                ..rule.clone()
            });
        }
    }
    rules
}

/// libseccomp's program for the profile, as runc would have it made. What differs on purpose is left out: ENOSYS, which runc
/// puts before libseccomp's program; names that only one of the two knows; i386's multiplexers. What libseccomp gets wrong, too
/// ([`libseccomp`]).
fn beside_libseccomp(profile: &Profile, filter: &Filter, plain: &Plain, calls: &[Call]) {
    let Some(answer) = libseccomp::program(profile, &plain.architectures) else { return };
    let Some((theirs, known)) = answer else { return };
    let ours = match known == *profile {
        true => None,
        false => match compile(&known, Arch::X86_64) {
            Ok(Some(filter)) => Some(filter),
            _ => return,
        },
    };
    let ours = ours.as_ref().unwrap_or(filter);
    for call in calls {
        let multiplexer = call.arch == X86 && [SOCKETCALL, IPC].contains(&call.number);
        let (got, _) = machine::run(&ours.program, call);
        let (expect, _) = machine::run(&theirs, call);
        if multiplexer || got == ENOSYS {
            continue;
        }
        assert_eq!(got, expect, "{call:x?}: {got:#x}, libseccomp says {expect:#x}: {known:#?}");
    }
}
