//! libseccomp, to compare with: a profile's rules in the words of libseccomp.c, that program built with the library that
//! the runc of `make oracles` loads, and its answers. The bench (bench/src/seccomp.rs) uses this file, too.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pintle::spec::seccomp::{Profile, Syscalls};
use seccompiler::sock_filter;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../runtime/tests/seccomp/libseccomp.c");
const LIBRARIES: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../target/oracles/root/usr/lib/x86_64-linux-gnu");

/// How libseccomp lays out a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One comparison after the other: what it makes unless it is told otherwise.
    Plain,
    /// A binary tree: what runc asks for above 32 system calls.
    Tree,
}

impl Layout {
    /// The word for it on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Tree => "tree",
        }
    }
}

/// The program around the library.
pub struct Libseccomp(PathBuf);

impl Libseccomp {
    /// Builds it; none where the oracles or a C compiler are missing.
    pub fn build(to: &Path) -> Option<Self> {
        let library = Path::new(LIBRARIES).join("libseccomp.so.2");
        let linked = format!("-Wl,-rpath,{LIBRARIES},--dynamic-linker={LIBRARIES}/ld-linux-x86-64.so.2");
        let mut cc = Command::new("cc");
        cc.args(["-O2", "-o"]).arg(to).args([SOURCE.as_ref(), library.as_path()]).arg(linked);
        let built = library.exists() && cc.status().is_ok_and(|status| status.success());
        built.then(|| Self(to.to_path_buf()))
    }

    /// The program for a profile in words, which [`program`] reads; none where libseccomp refuses a rule.
    pub fn program(&self, profile: &Profile, layout: Layout) -> Option<String> {
        self.answer(&[layout.word()], &rules(profile))
    }

    /// The median of what making the program takes, in nanoseconds.
    pub fn nanoseconds(&self, profile: &Profile, layout: Layout, turns: usize) -> Option<u64> {
        let answer = self.answer(&[&turns.to_string(), layout.word()], &rules(profile))?;
        answer.trim().parse().ok()
    }

    /// Every system call that the library knows: architecture, number and name in each line.
    pub fn names(&self) -> String {
        self.answer(&["names"], "").expect("names")
    }

    fn answer(&self, args: &[&str], input: &str) -> Option<String> {
        let mut child = Command::new(&self.0);
        child.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = child.spawn().expect("libseccomp");
        child.stdin.take().unwrap().write_all(input.as_bytes()).expect("libseccomp's rules");
        let output = child.wait_with_output().expect("libseccomp's answer");
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    }
}

/// A program from its words.
pub fn program(text: &str) -> Vec<sock_filter> {
    let word = |word: Option<&str>| u32::from_str_radix(word.unwrap(), 16).unwrap();
    let instruction = |line: &str| {
        let mut words = line.split(' ');
        let mut next = || word(words.next());
        sock_filter { code: next() as u16, jt: next() as u8, jf: next() as u8, k: next() }
    };
    text.lines().map(instruction).collect()
}

/// What runc tells libseccomp of a profile, one call per line: `default ACTION`, `arch TOKEN`, then
/// `rule ACTION NAME COUNT` with ARGUMENT, OPERATOR and two values for each condition. A profile that begins with
/// 64-bit Arm is one for such a machine: `without TOKEN` takes this one's own architecture away.
fn rules(profile: &Profile) -> String {
    let mut text = format!("default {:x}\n", action(&profile.default_action, profile.default_errno_ret));
    for name in &profile.architectures {
        writeln!(text, "arch {:x}", architecture(name)).unwrap();
    }
    if profile.architectures.first().is_some_and(|first| first == "SCMP_ARCH_AARCH64") {
        writeln!(text, "without {:x}", architecture("SCMP_ARCH_X86_64")).unwrap();
    }
    for rule in &profile.syscalls {
        let conditions = conditions(rule);
        for name in &rule.names {
            let action = action(&rule.action, rule.errno_ret);
            writeln!(text, "rule {action:x} {name} {}{conditions}", rule.args.len()).unwrap();
        }
    }
    text
}

fn conditions(rule: &Syscalls) -> String {
    let mut text = String::new();
    for arg in &rule.args {
        let known = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];
        let op = known.iter().position(|op| arg.op.strip_prefix("SCMP_CMP_") == Some(op)).unwrap() + 1;
        write!(text, " {} {op} {:x} {:x}", arg.index, arg.value, arg.value_two).unwrap();
    }
    text
}

/// `SCMP_ACT_*`, which are the kernel's own values.
fn action(name: &str, data: Option<u64>) -> u32 {
    let data = data.unwrap_or(1) as u32 & 0xffff;
    match name {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => 0,
        "SCMP_ACT_KILL_PROCESS" => 0x8000_0000,
        "SCMP_ACT_TRAP" => 0x3_0000,
        "SCMP_ACT_ERRNO" => 0x5_0000 | data,
        "SCMP_ACT_NOTIFY" => 0x7fc0_0000,
        "SCMP_ACT_TRACE" => 0x7ff0_0000 | data,
        "SCMP_ACT_LOG" => 0x7ffc_0000,
        "SCMP_ACT_ALLOW" => 0x7fff_0000,
        other => panic!("{other}"),
    }
}

/// `SCMP_ARCH_*`: audit numbers, but for x32, which has the one of x86_64.
fn architecture(name: &str) -> u32 {
    match name {
        "SCMP_ARCH_X86_64" => 0xc000_003e,
        "SCMP_ARCH_X86" => 0x4000_0003,
        "SCMP_ARCH_X32" => 0x4000_003e,
        "SCMP_ARCH_AARCH64" => 0xc000_00b7,
        "SCMP_ARCH_ARM" => 0x4000_0028,
        other => panic!("{other}"),
    }
}
