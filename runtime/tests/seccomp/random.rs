//! Random profiles, calls and arguments: the same ones for the same seed everywhere.

use super::machine::Call;
use super::{AARCH64, ARM, X32_BIT, X86, X86_64, names};
use pintle::plan::seccomp::{ACTIONS, OPERATORS};
use serde_json::{Value, json};

/// Names at both ends of the tables, next to each other and far apart, some of one architecture only.
const SOME: &str = "socket socketcall shmget ipc set_tls restart_syscall read write open close stat mmap mmap2 \
    chown32 clone execve ptrace personality mount openat openat2 clone3 close_range futex_waitv bpf _llseek ugetrlimit \
    clock_gettime64 rt_sigaction no_such_call";

/// xorshift64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn name(&mut self) -> &'static str {
        let names: Vec<&str> = SOME.split_whitespace().collect();
        self.pick(&names)
    }

    /// An argument: anything, 32 bits, few, or one that a condition looks for.
    pub fn argument(&mut self, values: &[u64]) -> u64 {
        match self.below(4) {
            0 => self.next(),
            1 => self.next() & 0xffff_ffff,
            2 => self.next() & 63,
            _ => self.pick(values),
        }
    }

    /// A call, mostly one that [`SOME`] names.
    pub fn call(&mut self, values: &[u64]) -> Call {
        let arch = self.pick(&[X86_64, X86_64, X86, X86, ARM, ARM, AARCH64, AARCH64]);
        let (abi, name) = (self.pick(&["x86_64", "x86", "x32", "aarch64", "arm"]), self.name());
        let named = names(abi).find(|(known, _)| *known == name).map(|(_, number)| number);
        let number = match self.below(4) {
            0 => self.below(500) as u32 | self.pick(&[0, X32_BIT]),
            1 => self.next() as u32,
            _ => named.unwrap_or(u32::MAX).wrapping_add(self.below(3) as u32).wrapping_sub(1),
        };
        Call { arch, number, args: std::array::from_fn(|_| self.argument(values)) }
    }

    /// A profile with every action but NOTIFY, every operator and up to 60 rules, as JSON; one in three is for 64-bit Arm.
    pub fn profile(&mut self) -> String {
        let actions: Vec<&str> =
            ACTIONS.iter().copied().filter(|action| *action != "SCMP_ACT_NOTIFY").collect();
        let known: &[&str] = if self.below(3) == 0 {
            &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
        } else {
            &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
        };
        let count = 1 + self.below(known.len());
        let architectures = &known[..count];
        let rules: Vec<Value> = (0..self.below(60)).map(|_| self.rule(&actions)).collect();
        json!({"defaultAction": self.pick(&actions), "architectures": architectures, "syscalls": rules})
            .to_string()
    }

    fn rule(&mut self, actions: &[&str]) -> Value {
        let names: Vec<&str> = (0..self.below(8)).map(|_| self.name()).collect();
        let errno = (self.below(2) == 0).then(|| self.below(40));
        let args: Vec<Value> = (0..self.pick(&[0, 0, 1, 1, 2, 3])).map(|_| self.condition()).collect();
        json!({"names": names, "action": self.pick(actions), "errnoRet": errno, "args": args})
    }

    fn condition(&mut self) -> Value {
        let [value, other] = std::array::from_fn(|_| {
            let mut half = || self.pick(&[0, 1, 2, 3, 0x7fff_ffff, 0xffff_ffff_u64]);
            half() | half() << (half() & 32)
        });
        json!({"index": self.below(6), "op": self.pick(OPERATORS), "value": value, "valueTwo": other})
    }
}
