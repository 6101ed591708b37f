//! libseccomp's program for a profile, as runc calls the library: `libseccomp.c` in a process of its own, that stays and is
//! asked over a pipe, so that no foreign code has to be called from here. `fuzz/run` builds it where it can, and says where it
//! lies.

use super::model::action;
use super::{alternatives, instructions, multiplexed, number_of};
use crate::plan::seccomp::Arch;
use crate::spec::seccomp::{Arg, Profile};
use seccompiler::sock_filter;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock};

/// Where the program lies; without it there is nothing to compare with.
const PROGRAM: &str = "PINTLE_FUZZ_LIBSECCOMP";

/// The process, and what it said about names.
struct Library {
    process: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
    numbers: HashMap<(u32, String), i64>,
}

fn library() -> Option<&'static Mutex<Library>> {
    static LIBRARY: OnceLock<Option<Mutex<Library>>> = OnceLock::new();
    LIBRARY.get_or_init(|| std::env::var_os(PROGRAM).map(|_| Mutex::new(Library::start()))).as_ref()
}

/// The library's own word for an architecture, `SCMP_ARCH_*`.
fn token(arch: Arch) -> u32 {
    match arch {
        Arch::X86_64 => 0xc000_003e,
        Arch::X86 => 0x4000_0003,
        Arch::X32 => 0x4000_003e,
        Arch::Aarch64 => 0xc000_00b7,
        Arch::Arm => 0x4000_0028,
    }
}

/// None without the library. Else its program, if it makes one, for as much of the profile as it knows by the same numbers,
/// and that profile.
pub fn program(profile: &Profile, architectures: &[Arch]) -> Option<Option<(Vec<sock_filter>, Profile)>> {
    let mut library = library()?.lock().expect("nobody panics with it");
    let mut known = profile.clone();
    for rule in &mut known.syscalls {
        rule.names.retain(|name| {
            is_plain(profile, name) && architectures.iter().all(|arch| library.agrees(*arch, name))
        });
    }
    let program = library.compile(&known, architectures);
    Some(program.map(|program| (program, known)))
}

/// What libseccomp 2.5 gets right. Where several rules are about one call, and one of them has two conditions or two are no
/// equalities, it jumps to comparisons past the load in front of them, and compares half an argument with another half's value;
/// of two inequalities, the one that was added first is decided by the other's action.
fn is_plain(profile: &Profile, name: &str) -> bool {
    let about = profile.syscalls.iter().filter(|rule| rule.names.iter().any(|known| known == name));
    let all: Vec<&[Arg]> = about.flat_map(|rule| alternatives(&rule.args)).collect();
    let unequal = |args: &&&[Arg]| args.iter().any(|arg| !arg.op.ends_with("EQ"));
    all.len() == 1 || all.iter().all(|args| args.len() < 2) && all.iter().filter(unequal).count() < 2
}

impl Library {
    fn start() -> Self {
        let program = std::env::var_os(PROGRAM).expect("it was there before");
        let mut process = Command::new(&program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let (questions, answers) = (process.stdin.take(), process.stdout.take());
        let (questions, answers) = (questions.expect("a pipe"), BufReader::new(answers.expect("a pipe")));
        Self { process, questions, answers, numbers: HashMap::new() }
    }

    /// The number that is said; none from a library that did not come to an end, in whose place another process is put.
    fn ask(&mut self, question: &str) -> Option<i64> {
        let mut answer = String::new();
        // It may be gone before it has heard all.
        let asked = self.questions.write_all(question.as_bytes());
        if asked.and_then(|()| self.answers.read_line(&mut answer)).unwrap_or(0) == 0 {
            self.process.wait().expect("its end is known");
            let numbers = std::mem::take(&mut self.numbers);
            *self = Self { numbers, ..Self::start() };
            return None;
        }
        let number = answer.trim().parse();
        Some(number.unwrap_or_else(|_| panic!("libseccomp's process said {answer:?} to {question:?}")))
    }

    /// Whether both have the same number for a name. One that an architecture lacks is left out: beside x32, the library then
    /// was seen to look for the number of a call in that of the architecture.
    fn agrees(&mut self, arch: Arch, name: &str) -> bool {
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return false;
        }
        // Of the two ways to these, the library's versions know now one, now both.
        if arch == Arch::X86 && multiplexed(name).is_some() {
            return false;
        }
        let key = (token(arch), name.to_owned());
        let theirs = match self.numbers.get(&key) {
            Some(number) => *number,
            None => {
                let number = self.ask(&format!("name {} {name}\n", key.0)).expect("no work");
                self.numbers.insert(key, number);
                number
            }
        };
        let x32 = |number: i64| if arch == Arch::X32 { number & 0x3fff_ffff } else { number };
        number_of(arch, name).is_some_and(|ours| theirs >= 0 && x32(ours.into()) == x32(theirs))
    }

    /// As runc fills a filter: no rule that repeats the default, and a rule per condition where two are about one argument.
    fn compile(&mut self, profile: &Profile, architectures: &[Arch]) -> Option<Vec<sock_filter>> {
        let default = action(&profile.default_action, profile.default_errno_ret.map(|errno| errno & 0xffff));
        let mut question = format!("begin {default}\n");
        for arch in architectures {
            let _infallible = writeln!(question, "arch {}", token(*arch));
        }
        for rule in &profile.syscalls {
            let ret = action(&rule.action, rule.errno_ret.map(|errno| errno & 0xffff));
            if ret == default {
                continue;
            }
            let lists = alternatives(&rule.args);
            for (name, args) in rule.names.iter().flat_map(|name| lists.iter().map(move |args| (name, args)))
            {
                let _infallible = write!(question, "rule {ret} {name} {}", args.len());
                for arg in *args {
                    let op = operator(&arg.op);
                    let _infallible = write!(question, " {} {op} {} {}", arg.index, arg.value, arg.value_two);
                }
                question.push('\n');
            }
        }
        question.push_str("end\n");
        let length = usize::try_from(self.ask(&question)?).ok()?;
        let mut bytes = vec![0; length];
        self.answers.read_exact(&mut bytes).expect("libseccomp's process sends all of its program");
        Some(instructions(&bytes))
    }
}

/// `enum scmp_compare`
fn operator(name: &str) -> u32 {
    let order = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];
    let at = order.iter().position(|known| name.strip_prefix("SCMP_CMP_") == Some(*known));
    at.expect("an operator that the compiler took") as u32 + 1
}
