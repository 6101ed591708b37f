//! Real races: two threads exchange two names (renameat2(2), RENAME_EXCHANGE) while containers are made one after the
//! other. First both states are tried at rest. What a create does in the race and in neither state at rest, it did
//! because the names were exchanged between two of its looks: that is counted and reported, and none at all fails.

use pintle_tests::*;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

/// One race at a time: beside others it would see less.
static ALONE: Mutex<()> = Mutex::new(());

/// How many creates a race is made of: 2,000, or PINTLE_TESTS_CREATES, and more if none of them saw anything. Of the oracles, which are slower, only to see
/// what they do.
fn creates() -> usize {
    let usual = if Runtime::under_test() == Runtime::Pintle { 2_000 } else { 200 };
    std::env::var("PINTLE_TESTS_CREATES").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// Two names that change places.
pub struct Pair {
    one: PathBuf,
    other: PathBuf,
}

impl Pair {
    /// Of these two files, both of which are there.
    pub fn new(one: PathBuf, other: PathBuf) -> Self {
        Self { one, other }
    }

    fn exchange(&self) -> rustix::io::Result<()> {
        renameat_with(CWD, &self.one, CWD, &self.other, RenameFlags::EXCHANGE)
    }

    /// Races `create` with the exchange. What it returns says how a create ended, in words that are the same for the
    /// same end; whatever an attacker could gain makes it panic.
    #[track_caller]
    pub fn race(&self, create: impl FnMut() -> String) {
        let _alone: MutexGuard<'_, ()> = ALONE.lock().unwrap_or_else(|e| e.into_inner());
        let mut create = create;
        let at_rest = [self.at_rest(&mut create), self.at_rest(&mut create)];
        let (stop, exchanges) = (AtomicBool::new(false), AtomicU64::new(0));
        let mut ends = Ends::new();
        std::thread::scope(|scope| {
            // However the loop ends: the scope waits for the threads.
            let _stop = Raised(&stop);
            for _ in 0..2 {
                scope.spawn(|| {
                    while !stop.load(Relaxed) {
                        self.exchange().expect("two names can be exchanged");
                        exchanges.fetch_add(1, Relaxed);
                        // With the kernel's slack some 60 µs, the length of the windows; spinning would take the
                        // processors from those who are raced.
                        std::thread::sleep(Duration::from_micros(10));
                    }
                });
            }
            // A busy machine may need more until one sees something.
            let enough = creates();
            let most = if Runtime::under_test() == Runtime::Pintle { enough.max(2_000) } else { enough } * 10;
            let more = |ends: &Ends, n| n < enough || n < most && Seen::new(ends, &at_rest).inside == 0;
            for n in 0.. {
                if !more(&ends, n) {
                    break;
                }
                *ends.entry(create()).or_default() += 1;
            }
        });
        report(&ends, &at_rest, exchanges.load(Relaxed));
    }

    /// How creates end while nothing moves; then the names change places.
    fn at_rest(&self, create: &mut impl FnMut() -> String) -> BTreeSet<String> {
        // What the first one makes in the rootfs, the next ones find.
        let ends = (0..3).map(|_| create()).collect();
        self.exchange().expect("two names can be exchanged");
        ends
    }
}

/// How many creates ended in which way.
type Ends = BTreeMap<String, usize>;

/// How many creates ended as in the first state at rest, as in the second only, and as in neither.
struct Seen {
    all: usize,
    first: usize,
    second: usize,
    inside: usize,
}

impl Seen {
    fn new(ends: &Ends, at_rest: &[BTreeSet<String>; 2]) -> Self {
        let count = |of: &dyn Fn(&String) -> bool| -> usize {
            ends.iter().filter(|(end, _)| of(end)).map(|(_, count)| count).sum()
        };
        let all = count(&|_| true);
        let first = count(&|end| at_rest[0].contains(end));
        let second = count(&|end| at_rest[1].contains(end) && !at_rest[0].contains(end));
        Self { all, first, second, inside: all - first - second }
    }
}

#[track_caller]
fn report(ends: &Ends, at_rest: &[BTreeSet<String>; 2], exchanges: u64) {
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    let Seen { all, first, second, inside } = Seen::new(ends, at_rest);
    println!(
        "RACE {test}: {all} creates, {exchanges} exchanges; {first} ended as in the first state at rest, {second} as in the \
         second, {inside} saw the exchange inside their window"
    );
    ends.iter().for_each(|(end, count)| println!("     {count:5} {end}"));
    if inside == 0 && Runtime::under_test() != Runtime::Pintle {
        skip("this runtime looks only once, or refuses whatever it finds");
    }
    assert!(inside > 0, "no create of {all} saw an exchange inside its window: this was no race\n{ends:#?}");
}

/// Raises its flag when it goes.
struct Raised<'a>(&'a AtomicBool);

impl Drop for Raised<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// The runtime, called many times in a row with as little as possible around it.
pub struct Caller {
    out: File,
    err: File,
    /// Who is waited for, and for the how manieth time.
    child: std::sync::Arc<(AtomicI32, AtomicU64)>,
}

/// The end of such a call.
pub struct End {
    /// It was a success.
    pub ok: bool,
    /// Its standard output.
    pub out: String,
    /// Its standard error: the error in plain text.
    pub err: String,
}

impl Caller {
    /// With files of its own in the sandbox.
    pub fn new(t: &Sandbox) -> Self {
        let file = |name: &str| {
            let path = t.dir.join(name);
            File::options().read(true).write(true).create(true).truncate(true).open(path).expect("a file")
        };
        let child: std::sync::Arc<(AtomicI32, AtomicU64)> = std::sync::Arc::default();
        let watched = std::sync::Arc::downgrade(&child);
        // A call that hangs is ended, and fails whatever is asked of it.
        std::thread::spawn(move || {
            let mut before = u64::MAX;
            loop {
                std::thread::sleep(Duration::from_secs(60));
                let Some(child) = watched.upgrade() else { return };
                let (pid, now) = (child.0.load(Relaxed), child.1.load(Relaxed));
                if pid != 0 && now == before {
                    kill(pid);
                }
                before = now;
            }
        });
        Self { out: file("race.out"), err: file("race.err"), child }
    }

    /// One call, to its end.
    pub fn call(&mut self, command: &mut Command) -> End {
        for file in [&mut self.out, &mut self.err] {
            file.set_len(0).expect("a file can be cut");
            file.rewind().expect("a file can be rewound");
        }
        let copy = |file: &File| Stdio::from(file.try_clone().expect("a copy"));
        command.stdin(Stdio::null()).stdout(copy(&self.out)).stderr(copy(&self.err));
        let mut child = command.spawn().expect("the runtime starts");
        self.child.1.fetch_add(1, Relaxed);
        self.child.0.store(child.id().cast_signed(), Relaxed);
        let status = child.wait().expect("a child can be waited for");
        self.child.0.store(0, Relaxed);
        let end = End { ok: status.success(), out: text(&mut self.out), err: text(&mut self.err) };
        assert!(status.code().is_some_and(|code| code < 128), "{status}: {}{}", end.out, end.err);
        assert!(!end.err.contains("panicked"), "{}", end.err);
        end
    }
}

impl Caller {
    /// Creates a container, looks at it from the host with the pid of its first process, and deletes it; or how it was
    /// refused.
    pub fn create<T>(
        &mut self,
        t: &Sandbox,
        bundle: &Path,
        flags: &[&str],
        look: impl FnOnce(&str) -> T,
    ) -> Result<T, String> {
        // Cgroups are named for it, so nobody else on the machine may have it.
        let id = format!("{}-race", t.dir.file_name().unwrap_or_default().to_string_lossy());
        let pid_file = t.dir.join("race.pid");
        let mut create = runtime(t);
        create
            .arg("create")
            .args(flags)
            .arg("--pid-file")
            .arg(&pid_file)
            .arg("--bundle")
            .arg(bundle)
            .arg(&id);
        let end = self.call(&mut create);
        if !end.ok {
            return Err(end.error(t));
        }
        let seen = look(&std::fs::read_to_string(&pid_file).expect("a file with the pid"));
        let deleted = self.call(runtime(t).args(["delete", "--force", &id]));
        assert!(deleted.ok, "{}", deleted.err);
        Ok(seen)
    }
}

fn text(file: &mut File) -> String {
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("a file can be read");
    String::from_utf8_lossy(&bytes).into_owned()
}

impl End {
    /// The error without what is different each time: numbers, and the sandbox's own name.
    pub fn error(&self, t: &Sandbox) -> String {
        let last = self.err.lines().next_back().unwrap_or_default();
        // The log's text begins with the time.
        let last = last.split_once("msg=").map_or(last, |(_, message)| message);
        let plain = last.replace(&*t.dir.to_string_lossy(), "SANDBOX");
        format!("refused: {}", plain.replace(|c: char| c.is_ascii_digit(), "N"))
    }

    /// What the probe's first attempts found; they succeeded.
    #[track_caller]
    pub fn found(&self) -> Vec<Value> {
        let all: Vec<Value> = serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}", self.out));
        all.into_iter().map(|one| one["found"].clone()).collect()
    }
}

/// Where in a list of mounts those with this source are, in their order, as points of the container.
pub fn points(mountinfo: &str, source: &str) -> Vec<String> {
    let of_source =
        |line: &&str| line.split(" - ").nth(1).and_then(|rest| rest.split(' ').nth(1)) == Some(source);
    mountinfo.lines().filter(of_source).filter_map(|l| l.split(' ').nth(4).map(str::to_owned)).collect()
}

/// A command that runs the bundle in the foreground under always the same id.
pub fn run(t: &Sandbox, bundle: &Path, id: &str) -> Command {
    let mut command = runtime(t);
    command.arg("run").arg("--bundle").arg(bundle).arg(id);
    command
}

/// Without a log: errors are on its standard error.
fn runtime(t: &Sandbox) -> Command {
    let mut command = Command::new(Runtime::under_test().binary());
    command.arg("--root").arg(t.root());
    command
}
