//! A program, run to its end: exit code and both streams. Its streams are files, since what it leaves behind may hold them.

use std::fmt;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long a call may take before it counts as hanging.
const PATIENCE: Duration = Duration::from_secs(40);

static CALLS: AtomicU32 = AtomicU32::new(0);

/// The end of a call.
#[derive(Clone)]
pub struct Answer {
    /// The exit code; 128 and the number for a signal.
    pub code: i32,
    /// Everything on stdout.
    pub stdout: String,
    /// Everything on stderr.
    pub stderr: String,
}

impl Answer {
    /// Demands success.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.exits(0)
    }

    /// Demands this exit code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "exit code; {self:?}");
        self
    }

    /// Demands this on stdout, to the letter.
    #[track_caller]
    pub fn says(self, stdout: &str) -> Self {
        assert_eq!(self.stdout, stdout, "stdout; {self:?}");
        self
    }

    /// Demands a failure of whose words this is a part.
    #[track_caller]
    pub fn fails(self, text: &str) -> Self {
        assert_ne!(self.code, 0, "exit code; {self:?}");
        assert!(self.stderr.contains(text), "should say {text:?}; {self:?}");
        self
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |text: &str| text.chars().take(800).collect::<String>();
        write!(f, "exit {}, stdout {:?}, stderr {:?}", self.code, short(&self.stdout), short(&self.stderr))
    }
}

/// A call that goes on.
pub struct Call {
    /// Its process.
    pub child: Child,
    out: std::path::PathBuf,
    err: std::path::PathBuf,
    words: String,
}

impl Call {
    /// What it wrote on stdout so far.
    pub fn stdout(&self) -> String {
        read(&self.out)
    }

    /// To its end.
    #[track_caller]
    pub fn end(self) -> Answer {
        self.end_within(PATIENCE)
    }

    /// To its end, for what has more to do than other calls.
    #[track_caller]
    pub fn end_within(mut self, patience: Duration) -> Answer {
        let status = patiently(&mut self.child, &self.words, patience);
        Answer { code: code(status), stdout: read(&self.out), stderr: read(&self.err) }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for a condition; panics with its name when patience ends.
#[track_caller]
pub fn wait_for(what: &str, condition: impl FnMut() -> bool) {
    assert!(happens(PATIENCE / 2, condition), "waited {:?} for {what}", PATIENCE / 2);
}

/// Whether a condition comes true within a time.
pub fn happens(within: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let begin = Instant::now();
    while !condition() {
        if begin.elapsed() > within {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

/// Starts a prepared command whose streams become files in `dir`.
#[track_caller]
pub fn begin(mut command: Command, dir: &Path) -> Call {
    let n = CALLS.fetch_add(1, Ordering::Relaxed);
    let (out, err) = (dir.join(format!("out{n}")), dir.join(format!("err{n}")));
    command.stdout(File::create(&out).expect("a file")).stderr(File::create(&err).expect("a file"));
    let words = format!("{command:?}");
    let child = command.spawn().unwrap_or_else(|e| panic!("{words}: {e}"));
    Call { child, out, err, words }
}

/// Runs a prepared command to its end.
#[track_caller]
pub fn finish(command: Command, dir: &Path) -> Answer {
    begin(command, dir).end()
}

#[track_caller]
fn patiently(child: &mut Child, words: &str, patience: Duration) -> ExitStatus {
    let begin = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            return status;
        }
        if begin.elapsed() > patience {
            let _ = child.kill();
            let _ = child.wait();
            panic!("hangs: {words}");
        }
        std::thread::sleep(Duration::from_millis(if begin.elapsed().as_millis() < 100 { 2 } else { 10 }));
    }
}

fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}
