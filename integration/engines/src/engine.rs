//! What a check works in: a containerd namespace of its own, with the image, and a folder; and the tasks it starts there.

use crate::call::{self, Answer, Call};
use crate::daemon::Daemon;
use crate::place::{self, Shim};
use crate::{Pty, happens, left, task, wait_for};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// A namespace in a daemon.
pub struct Engine {
    /// The daemon, which others may use, too.
    pub daemon: Arc<Daemon>,
    /// The containerd namespace.
    pub namespace: String,
    /// Files of this check.
    pub dir: PathBuf,
    sockets: RefCell<BTreeSet<PathBuf>>,
    count: Cell<u32>,
    imported: Cell<bool>,
}

impl Engine {
    /// A new namespace `name`; the image comes with the first container that wants it.
    pub fn new(daemon: Arc<Daemon>, name: &str) -> Self {
        let dir = place::scratch().join(name);
        fs::create_dir(&dir).expect("a folder for the check");
        Self {
            daemon,
            namespace: name.to_owned(),
            dir,
            sockets: RefCell::default(),
            count: Cell::new(0),
            imported: Cell::new(false),
        }
    }

    /// ctr in this namespace, ready to run.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.daemon.ctr(&["--namespace", &self.namespace]);
        command.args(args);
        command
    }

    /// ctr in this namespace, to its end.
    #[track_caller]
    pub fn ctr(&self, args: &[&str]) -> Answer {
        call::finish(self.command(args), &self.dir)
    }

    /// ctr in this namespace, which goes on.
    #[track_caller]
    pub fn begin(&self, args: &[&str]) -> Call {
        call::begin(self.command(args), &self.dir)
    }

    /// The words of a `ctr run`, with the shim under test. The view has no cpu controller, so no shares are asked for.
    pub fn run_words<'a>(&self, flags: &[&'a str], id: &'a str, args: &[&'a str]) -> Vec<&'a str> {
        if !self.imported.replace(true) {
            self.ctr(&["image", "import", &place::image().to_string_lossy()]).ok();
        }
        let mut words = vec!["run", "--cpu-shares", "0"];
        // Whoever gives a runtime's options means the name under which ctr passes them.
        let named = flags.iter().any(|flag| flag.starts_with("--runtime") || flag.starts_with("--runc-"));
        if !named {
            words.extend(["--runtime", Shim::under_test().runtime_name()]);
        }
        words.extend(flags);
        words.extend([place::IMAGE, id]);
        words.extend(args);
        words
    }

    /// `ctr run --rm`, in the foreground.
    #[track_caller]
    pub fn run(&self, flags: &[&str], args: &[&str]) -> Answer {
        let id = self.id();
        let mut all = vec!["--rm"];
        all.extend(flags);
        self.ctr(&self.run_words(&all, &id, args))
    }

    /// A container that runs detached, its output in a file.
    #[track_caller]
    pub fn start(&self, flags: &[&str], args: &[&str]) -> Task<'_> {
        let id = self.id();
        let log = self.dir.join(format!("{id}.log"));
        let uri = format!("file://{}", log.display());
        let mut all = vec!["--detach", "--log-uri", &uri];
        all.extend(flags);
        self.ctr(&self.run_words(&all, &id, args)).ok();
        self.note_sockets();
        Task { engine: self, id, log }
    }

    /// A container that runs a shell script detached and has said `ready`.
    #[track_caller]
    pub fn script(&self, script: &str) -> Task<'_> {
        let task = self.start(&[], &["sh", "-c", script]);
        task.wait_for("ready");
        task
    }

    /// A container that does nothing, and says nothing.
    #[track_caller]
    pub fn idle(&self) -> Task<'_> {
        self.start(&[], &["sleep", "1000"])
    }

    /// An existing container, whose output nobody keeps.
    pub fn task(&self, id: &str) -> Task<'_> {
        Task { engine: self, id: id.to_owned(), log: PathBuf::from("/dev/null") }
    }

    /// ctr on a terminal of this size, whose master is returned.
    #[track_caller]
    pub fn on_terminal(&self, rows: u16, columns: u16, args: &[&str]) -> (Pty, std::process::Child) {
        let (pty, slave) = Pty::open(rows, columns);
        let [stdin, stdout, stderr] = Pty::streams(&slave);
        let mut command = self.command(args);
        command.stdin(stdin).stdout(stdout).stderr(stderr);
        (pty, command.spawn().expect("ctr starts"))
    }

    /// Changes a client's terminal to a size that its program is waiting to tell, and waits for that. The client hears of
    /// it by a signal. Again and again, with another size between: neither it nor the program may listen yet.
    #[track_caller]
    pub fn resize(pty: &Pty, client: &std::process::Child, rows: u16, columns: u16) {
        let told = format!("{rows} {columns}");
        let mut other = true;
        wait_for(&format!("{told:?} on the terminal"), || {
            other = !other;
            pty.resize(rows + u16::from(other), columns);
            let pid = rustix::process::Pid::from_child(client);
            rustix::process::kill_process(pid, rustix::process::Signal::WINCH).expect("the client lives");
            happens(Duration::from_millis(300), || pty.text().contains(&told))
        });
    }

    /// An id that is new in this namespace.
    pub fn id(&self) -> String {
        format!("c{}", self.count.replace(self.count.get() + 1))
    }

    /// The folder of a container that the shim works in.
    pub fn bundle(&self, id: &str) -> PathBuf {
        self.daemon.bundles(&self.namespace).join(id)
    }

    /// The shims of this namespace.
    pub fn shims(&self) -> Vec<i32> {
        left::shims(&self.namespace)
    }

    /// Remembers where shims listen, so that it is known whose a socket is that is left.
    pub fn note_sockets(&self) {
        let bundles = fs::read_dir(self.daemon.bundles(&self.namespace)).into_iter().flatten().flatten();
        self.sockets.borrow_mut().extend(bundles.filter_map(|entry| task::address(&entry.path())));
    }

    /// Remembers one.
    pub fn note_socket(&self, path: &Path) {
        self.sockets.borrow_mut().insert(path.to_owned());
    }

    /// Those that are still there.
    pub fn left_sockets(&self) -> Vec<PathBuf> {
        self.sockets.borrow().iter().filter(|path| path.exists()).cloned().collect()
    }

    /// Ends everything in the namespace by force, and says what could not be ended or was left before.
    pub fn close(&self) -> Result<(), String> {
        for id in self.ctr(&["containers", "list", "--quiet"]).stdout.split_whitespace() {
            self.ctr(&["tasks", "rm", "--force", id]);
            self.ctr(&["containers", "rm", id]);
        }
        left::of(self)
    }
}

/// A container that was started.
pub struct Task<'a> {
    /// Where it runs.
    pub engine: &'a Engine,
    /// Its id.
    pub id: String,
    /// Where its output is, if that is a file.
    pub log: PathBuf,
}

impl Task<'_> {
    /// What it wrote.
    pub fn output(&self) -> String {
        read(&self.log)
    }

    /// Waits until its output holds `text`.
    #[track_caller]
    pub fn wait_for(&self, text: &str) {
        wait_for(&format!("{text:?} in the output of {}", self.id), || self.output().contains(text));
    }

    /// `ctr tasks VERB ID`, to its end.
    #[track_caller]
    pub fn call(&self, verb: &str) -> Answer {
        self.engine.ctr(&["tasks", verb, &self.id])
    }

    /// `ctr tasks kill -s SIGNAL`.
    #[track_caller]
    pub fn kill(&self, signal: &str) -> Answer {
        self.engine.ctr(&["tasks", "kill", "--signal", signal, &self.id])
    }

    /// Signal to an exec.
    #[track_caller]
    pub fn kill_exec(&self, exec: &str, signal: &str) -> Answer {
        self.engine.ctr(&["tasks", "kill", "--signal", signal, "--exec-id", exec, &self.id])
    }

    /// The words of a `ctr tasks exec` with these flags.
    pub fn exec_words<'a>(&'a self, exec: &'a str, flags: &[&'a str], args: &[&'a str]) -> Vec<&'a str> {
        let mut words = vec!["tasks", "exec", "--exec-id", exec];
        words.extend(flags);
        words.push(&self.id);
        words.extend(args);
        words
    }

    /// `ctr tasks exec`, to its end.
    #[track_caller]
    pub fn exec(&self, flags: &[&str], args: &[&str]) -> Answer {
        let exec = self.engine.id();
        self.engine.ctr(&self.exec_words(&exec, flags, args))
    }

    /// `RUNNING`, `STOPPED`, `PAUSED`; empty if it is not listed.
    pub fn status(&self) -> String {
        self.row().get(2).cloned().unwrap_or_default()
    }

    /// The first process, as the machine numbers it.
    #[track_caller]
    pub fn pid(&self) -> i32 {
        self.row()
            .get(1)
            .and_then(|pid| pid.parse().ok())
            .unwrap_or_else(|| panic!("{} is not listed", self.id))
    }

    /// Makes the file /go in its root, from outside: whoever is executed for that may not live to tell of it.
    #[track_caller]
    pub fn go(&self) {
        std::fs::write(format!("/proc/{}/root/go", self.pid()), "").expect("a sign");
    }

    fn row(&self) -> Vec<String> {
        let list = self.engine.ctr(&["tasks", "list"]).ok().stdout;
        let rows = list.lines().map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        rows.into_iter().find(|row| row.first() == Some(&self.id)).unwrap_or_default()
    }

    /// Waits for a status.
    #[track_caller]
    pub fn wait_until(&self, status: &str) {
        wait_for(&format!("{} to be {status}", self.id), || self.status() == status);
    }

    /// Waits for its end; removes the task. The answer's code is the task's exit status.
    #[track_caller]
    pub fn end(&self) -> Answer {
        self.wait_until("STOPPED");
        let mut answer = self.call("rm");
        // ctr says the status, but does not exit with it.
        let told = answer.stderr.split("non-zero exit code ").nth(1);
        let status = told.and_then(|t| t.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
        if let (0, Some(status)) = (answer.code, status) {
            answer.code = status;
        }
        answer
    }

    /// How many processes `ctr tasks ps` lists.
    #[track_caller]
    pub fn processes(&self) -> usize {
        self.call("ps").ok().stdout.lines().count() - 1
    }

    /// Kills it, waits and removes task and container.
    #[track_caller]
    pub fn remove(&self) {
        self.kill("KILL").ok();
        self.end().exits(137);
        self.engine.ctr(&["containers", "rm", &self.id]).ok();
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}
