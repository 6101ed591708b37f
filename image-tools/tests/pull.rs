//! `pull`, `push`, `login` and what follows them, as a person calls them: the program against Debian's docker-registry (`debian`)
//! and against a registry that does things wrong (`faults`), many of it at once (`together`), killed (`kills`), and where
//! there is nothing but itself (`alone`).

mod alone;
mod debian;
mod faults;
mod image;
mod kills;
mod together;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A test's own folder and home; nothing of the machine's settings is read. It goes with the test.
pub struct Place(PathBuf);

/// What a command came to.
#[derive(Debug)]
pub struct Outcome {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Place {
    pub fn new(what: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("pull-{what}-{n}-{}", std::process::id());
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&name);
        // Each pull waits until everything that anybody wrote is on the disk; memory has none.
        let dir =
            [Path::new("/dev/shm").join(name), dir].into_iter().find(|dir| fs::create_dir_all(dir).is_ok());
        Self(dir.unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// pintle-image with a store of this name.
    pub fn command(&self, store: &str, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pintle-image"));
        command.env_clear().env("HOME", &self.0).env("XDG_RUNTIME_DIR", self.0.join("run"));
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").current_dir(&self.0);
        command.arg("--root").arg(self.0.join(store)).args(words);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn run(&self, store: &str, words: &[&str]) -> Outcome {
        finish(self.command(store, words).spawn().unwrap())
    }

    /// What it prints; it has to succeed.
    #[track_caller]
    pub fn ok(&self, store: &str, words: &[&str]) -> String {
        let outcome = self.run(store, words);
        assert_eq!(outcome.code, Some(0), "{words:?}: {}", outcome.err);
        outcome.out
    }

    /// What it says; it has to fail like this.
    #[track_caller]
    pub fn fails(&self, code: i32, store: &str, words: &[&str]) -> String {
        let outcome = self.run(store, words);
        assert_eq!(outcome.code, Some(code), "{words:?}: {}", outcome.err);
        assert_eq!(outcome.out, "", "{words:?}");
        outcome.err
    }

    /// The names in a folder of a store.
    pub fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.0.join(folder)).into_iter().flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Nothing that was not finished is in the store, and what is there is right.
    #[track_caller]
    pub fn is_tidy(&self, store: &str) {
        for folder in ["partial", "tmp"] {
            assert_eq!(self.names(&format!("{store}/{folder}")), [""; 0], "{folder}");
        }
        assert_eq!(self.ok(store, &["fsck"]), "");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// Waits for a command, which must not take for ever.
#[track_caller]
pub fn finish(mut child: Child) -> Outcome {
    let until = Instant::now() + Duration::from_secs(120);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > until {
            child.kill().unwrap();
            panic!("it takes for ever: {:?}", child.wait_with_output());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Outcome { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}
