//! Runs checks, a few at a time, each with a limit; says a line for each, and counts.

use crate::daemon::Daemon;
use crate::engine::Engine;
use crate::{known, left, place};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt::Display;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long a check may take; in a full run, ten times as long.
const LIMIT: Duration = Duration::from_secs(180);

/// One behaviour.
#[derive(Clone, Copy)]
pub struct Check {
    /// `file::sentence`.
    pub name: &'static str,
    /// Whether it stops or kills the daemon, which therefore is its own.
    pub own_daemon: bool,
    /// What is done.
    pub body: fn(&Engine),
}

/// A check that shares the daemon with others, or one that has its own.
#[macro_export]
macro_rules! check {
    (own $body:ident) => {
        $crate::Check {
            name: concat!(module_path!(), "::", stringify!($body)),
            own_daemon: true,
            body: $body,
        }
    };
    ($body:ident) => {
        $crate::Check {
            name: concat!(module_path!(), "::", stringify!($body)),
            own_daemon: false,
            body: $body,
        }
    };
}

impl Check {
    /// Without the name of the program.
    fn name(&self) -> &'static str {
        self.name.split_once("::").map_or(self.name, |(_, name)| name)
    }
}

/// How often, or for how long: the first number by default, the second with `FULL=1`.
pub fn full<T>(short: T, full: T) -> T {
    if std::env::var_os("FULL").is_some() { full } else { short }
}

/// Leaves the check as skipped. The fact is what the machine or the daemon lacks, in a few words.
pub fn skip(fact: impl Display) -> ! {
    panic_any(Skip(fact.to_string()))
}

struct Skip(String);

enum Outcome {
    Passed,
    Failed(String),
    Skipped(String),
}

#[derive(Default)]
struct Counts {
    passed: AtomicUsize,
    failed: AtomicUsize,
    skipped: AtomicUsize,
    faults: AtomicUsize,
}

/// `[--threads N] [--list] [WORD…]`: the checks whose names have one of the words, or all.
pub fn main(checks: &[Check]) -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (mut threads, mut list, mut words) = (2, false, Vec::new());
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--threads" => threads = args.next().and_then(|n| n.parse().ok()).unwrap_or(1),
            "--list" => list = true,
            _ => words.push(arg),
        }
    }
    let wanted =
        |check: &&Check| words.is_empty() || words.iter().any(|word| check.name().contains(word.as_str()));
    let chosen: VecDeque<Check> = checks.iter().filter(wanted).copied().collect();
    if list {
        chosen.iter().for_each(|check| println!("{}", check.name()));
        return ExitCode::SUCCESS;
    }
    std::panic::set_hook(Box::new(|info| {
        let at = info.location().map_or(String::new(), |l| format!("{}:{}: ", l.file(), l.line()));
        PLACE.with(|place| *place.borrow_mut() = at);
    }));
    let counts = Counts::default();
    left::remember();
    run(chosen, threads, &counts);
    close(&counts)
}

thread_local! { static PLACE: RefCell<String> = const { RefCell::new(String::new()) }; }

fn run(checks: VecDeque<Check>, threads: usize, counts: &Counts) {
    let shared = Arc::new(Daemon::start(place::scratch().join("d")));
    let queue = Mutex::new(checks.into_iter().enumerate().collect::<VecDeque<_>>());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let Some((n, check)) = queue.lock().expect("no check holds it").pop_front() else {
                        break;
                    };
                    let begin = Instant::now();
                    let outcome = limited(check, format!("n{n}"), &shared);
                    judge(check.name(), outcome, begin.elapsed(), counts);
                }
            });
        }
    });
}

/// In a thread of its own, which a hanging check keeps.
fn limited(check: Check, namespace: String, shared: &Arc<Daemon>) -> Outcome {
    let (sender, receiver) = mpsc::channel();
    let shared = Arc::clone(shared);
    std::thread::spawn(move || {
        let _ = sender.send(whole(check, &namespace, &shared));
    });
    let limit = full(LIMIT, LIMIT * 10);
    receiver.recv_timeout(limit).unwrap_or_else(|_| Outcome::Failed(format!("hangs: no end after {limit:?}")))
}

/// The check, and then a look at what it left.
fn whole(check: Check, namespace: &str, shared: &Arc<Daemon>) -> Outcome {
    let mut folders = vec![place::scratch().join(namespace)];
    let outcome = outcome(|| {
        let daemon = if check.own_daemon {
            let dir = place::scratch().join(format!("d{}", &namespace[1..]));
            folders.push(dir.clone());
            Arc::new(Daemon::start(dir))
        } else {
            Arc::clone(shared)
        };
        let engine = Engine::new(daemon, namespace);
        let result = catch_unwind(AssertUnwindSafe(|| (check.body)(&engine)));
        let place = PLACE.with(|place| place.borrow().clone());
        let closed = catch_unwind(AssertUnwindSafe(|| engine.close()));
        if let Err(payload) = result {
            left::destroy(&engine);
            PLACE.with(|cell| *cell.borrow_mut() = place);
            std::panic::resume_unwind(payload);
        }
        closed
            .unwrap_or_else(|payload| std::panic::resume_unwind(payload))
            .unwrap_or_else(|left| panic!("{left}"));
    });
    let keep = std::env::var_os("KEEP").is_some() && matches!(outcome, Outcome::Failed(_));
    for folder in folders {
        if keep {
            let to = place::checkout().join("target/engines/failed").join(check.name());
            let _ = fs::create_dir_all(&to);
            let _ = std::process::Command::new("cp").arg("-r").arg(&folder).arg(&to).status();
        }
        if crate::daemon::mounts_below(&folder).is_empty() {
            let _ = fs::remove_dir_all(&folder);
        }
    }
    outcome
}

fn outcome(body: impl FnOnce()) -> Outcome {
    let Err(payload) = catch_unwind(AssertUnwindSafe(body)) else { return Outcome::Passed };
    if let Some(Skip(fact)) = payload.downcast_ref() {
        return Outcome::Skipped(fact.clone());
    }
    let text = payload.downcast_ref::<String>().cloned();
    let text =
        text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default();
    Outcome::Failed(PLACE.with(|place| place.borrow().clone()) + &text)
}

fn judge(name: &str, outcome: Outcome, took: Duration, counts: &Counts) {
    let fault = known::fault(name);
    let (word, count, text) = match (outcome, fault) {
        (Outcome::Passed, Some(fault)) if !fault.sometimes => {
            ("FAIL", &counts.failed, format!("passes, though it is listed: {}", fault.why))
        }
        (Outcome::Passed, _) => ("PASS", &counts.passed, String::new()),
        (Outcome::Failed(how), Some(fault)) => ("BUG", &counts.faults, format!("{}; {how}", fault.why)),
        (Outcome::Failed(how), None) => ("FAIL", &counts.failed, how),
        (Outcome::Skipped(fact), _) => ("SKIP", &counts.skipped, fact),
    };
    count.fetch_add(1, Ordering::Relaxed);
    let text = text.lines().collect::<Vec<_>>().join(" ⏎ ");
    let colon = if text.is_empty() { "" } else { ": " };
    println!("{word} {name} ({:.1} s){colon}{text}", took.as_secs_f32());
}

/// The last look, and the closing line.
fn close(counts: &Counts) -> ExitCode {
    let begin = Instant::now();
    judge(
        "nothing_is_left_at_the_end",
        left::at_all().map_or_else(Outcome::Failed, |()| Outcome::Passed),
        begin.elapsed(),
        counts,
    );
    for entry in fs::read_dir(place::scratch()).into_iter().flatten().flatten() {
        if crate::daemon::mounts_below(&entry.path()).is_empty() {
            let _ = fs::remove_dir_all(entry.path());
            let _ = fs::remove_file(entry.path());
        }
    }
    let number = |count: &AtomicUsize| count.load(Ordering::Relaxed);
    let faults = match number(&counts.faults) {
        0 => String::new(),
        n => format!(", {n} bugs of that shim as listed"),
    };
    let (passed, failed, skipped) = (number(&counts.passed), number(&counts.failed), number(&counts.skipped));
    println!("{passed} passed, {failed} failed, {skipped} skipped{faults}");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
