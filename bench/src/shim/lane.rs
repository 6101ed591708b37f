//! A daemon and a shim: a containerd of its own in a cgroup of its own, its containers below another, all on a tmpfs of
//! the view's own.

use crate::failure::{Doing, Failure, Result};
use clap::ValueEnum;
use pintle_engines::daemon::WITHOUT;
use pintle_engines::task::{Shim, socket};
use rustix::mount::{UnmountFlags, unmount};
use serde::Serialize;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The view's own /run: gone with it.
const PLACE: &str = "/run/bench-shim";
const CGROUPS: &str = "/sys/fs/cgroup";
const IMAGE: &str = "docker.io/test/busybox:1";
/// How long anything may take that is not measured.
const PATIENCE: Duration = Duration::from_secs(30);

/// Ids are never used twice: nothing of an earlier container is in the way.
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A daemon of tests/engine-oracles.sh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Containerd {
    /// The newest of any Debian suite
    Newest,
    /// The host's Debian suite's
    Host,
}

/// A shim with its runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Who {
    /// containerd-shim-pintle-v1, which is the runtime, too.
    Pintle,
    /// The daemon's own containerd-shim-runc-v2, and runc.
    Runc,
}

impl Containerd {
    /// As the oracles' folders are called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Newest => "newest",
            Self::Host => "host",
        }
    }
}

impl Who {
    /// In the order of a round.
    pub const ALL: [Self; 2] = [Self::Pintle, Self::Runc];

    /// As the tables call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pintle => "pintle",
            Self::Runc => "runc",
        }
    }

    /// As containerd looks for it.
    fn program(self) -> &'static str {
        match self {
            Self::Pintle => "containerd-shim-pintle-v1",
            Self::Runc => "containerd-shim-runc-v2",
        }
    }

    fn runtime(self) -> &'static str {
        match self {
            Self::Pintle => "io.containerd.pintle.v1",
            Self::Runc => "io.containerd.runc.v2",
        }
    }
}

/// Where the programs are.
#[derive(Debug)]
pub struct Programs {
    shim: PathBuf,
    runc: PathBuf,
    engines: PathBuf,
    image: PathBuf,
}

impl Programs {
    /// Those of the checkout, in which this was started.
    ///
    /// # Errors
    /// One is missing.
    pub fn find(shim: &Path) -> Result<Self> {
        let path = |path: &str| fs::canonicalize(path).doing(path);
        Ok(Self {
            shim: fs::canonicalize(shim).doing(shim.display())?,
            runc: path("target/oracles/bin/runc")?,
            engines: path("target/oracles/engines")?,
            image: path("target/engines/image.tar")?,
        })
    }

    fn of(&self, which: Containerd, name: &str) -> PathBuf {
        self.engines.join(which.name()).join("bin").join(name)
    }

    fn shim(&self, which: Containerd, who: Who) -> PathBuf {
        match who {
            Who::Pintle => self.shim.clone(),
            Who::Runc => self.of(which, who.program()),
        }
    }

    /// A line for each.
    ///
    /// # Errors
    /// One does not start.
    pub fn versions(&self, which: &[Containerd]) -> Result<Vec<String>> {
        let first_line = |program: &Path, word: &str| {
            let output = Command::new(program).arg(word).output().doing(program.display())?;
            let text = String::from_utf8_lossy(&output.stdout);
            Ok::<_, Failure>(text.lines().next().unwrap_or("version unknown").to_owned())
        };
        let mut lines = vec![first_line(&self.runc, "--version")?];
        for which in which {
            let line = first_line(&self.of(*which, "containerd"), "--version")?;
            // containerd PACKAGE VERSION COMMIT
            let version = line.split(' ').nth(2).unwrap_or("unknown");
            lines.push(format!("{} containerd {version} with its containerd-shim-runc-v2", which.name()));
        }
        Ok(lines)
    }
}

/// A running daemon, and everything below it, which ends with it.
#[derive(Debug)]
pub struct Lane {
    /// Which daemon.
    pub containerd: Containerd,
    /// Which shim.
    pub who: Who,
    /// The shim's program.
    pub shim: PathBuf,
    ctr: PathBuf,
    place: PathBuf,
    /// containerd's namespace.
    name: String,
    daemon: Child,
}

impl Lane {
    /// Starts the daemon and gives it the image.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start(programs: &Programs, containerd: Containerd, who: Who) -> Result<Self> {
        let name = format!("{}-{}-{}", containerd.name(), who.name(), number());
        let place = Path::new(PLACE).join(&name);
        let bin = place.join("bin");
        fs::create_dir_all(&bin).doing(bin.display())?;
        let shim = programs.shim(containerd, who);
        link(&shim, &bin.join(who.program()))?;
        if who == Who::Runc {
            link(&programs.runc, &bin.join("runc"))?;
        }
        for cgroup in [daemon_cgroup(&name), container_cgroup(&name)] {
            fs::create_dir(&cgroup).doing(cgroup.display())?;
        }
        let daemon = start(&programs.of(containerd, "containerd"), &place, &daemon_cgroup(&name))?;
        let ctr = programs.of(containerd, "ctr");
        let lane = Self { containerd, who, shim, ctr, place, name, daemon };
        lane.wait_for("containerd", || lane.run(&["version"]).is_ok())?;
        lane.run(&["image", "import", &programs.image.to_string_lossy()])?;
        Ok(lane)
    }

    /// The daemon's process id.
    pub fn daemon(&self) -> u32 {
        self.daemon.id()
    }

    /// The cgroups of all that runs here: the daemon's, in which shims and runtimes are, too, and the containers'.
    pub fn cgroups(&self) -> [PathBuf; 2] {
        [daemon_cgroup(&self.name), container_cgroup(&self.name)]
    }

    /// The processes in the daemon's cgroup but for the daemon: shims, and runtimes that are at work.
    ///
    /// # Errors
    /// No such cgroup.
    pub fn shims(&self) -> Result<Vec<u32>> {
        let mut pids = members(&daemon_cgroup(&self.name))?;
        pids.retain(|pid| *pid != self.daemon());
        Ok(pids)
    }

    /// How many processes there are.
    ///
    /// # Errors
    /// No such cgroup.
    pub fn population(&self) -> Result<usize> {
        let containers = tree(&container_cgroup(&self.name));
        let count = |cgroup: &PathBuf| members(cgroup).map_or(0, |pids| pids.len());
        Ok(self.shims()?.len() + containers.iter().map(count).sum::<usize>())
    }

    /// Waits until there are this many processes.
    ///
    /// # Errors
    /// They do not become so many.
    pub fn settle(&self, population: usize) -> Result<()> {
        self.wait_for("processes to end", || self.population().is_ok_and(|now| now == population))
    }

    /// Waits for something in this lane.
    ///
    /// # Errors
    /// It does not happen; with the end of the daemon's log.
    pub fn wait_for(&self, what: &str, happens: impl Fn() -> bool) -> Result<()> {
        let begin = Instant::now();
        while !happens() {
            if begin.elapsed() > PATIENCE {
                let log = fs::read_to_string(self.place.join("log")).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                let end = lines[lines.len().saturating_sub(10)..].join("\n");
                return Err(Failure::Hangs(format!("{}: {what}\n{end}\n{}", self.name, self.said())));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// The words of a `ctr run` of a new container that does nothing and goes.
    pub fn run_true(&self) -> Vec<String> {
        self.run_words(&["--rm"], &id(), &["true"])
    }

    /// The words of a `ctr task exec`.
    pub fn exec_true(&self, container: &str) -> Vec<String> {
        ["tasks", "exec", "--exec-id", &id(), container, "true"].map(str::to_owned).to_vec()
    }

    /// A client of the shim of a container that [`Lane::idle`] started.
    pub fn client(&self, container: &str) -> Shim {
        let bundles = self.place.join("state/io.containerd.runtime.v2.task").join(&self.name);
        Shim::at(&socket(&bundles.join(container)))
    }

    /// Starts a container that does nothing and stays, its output in a file; its id.
    ///
    /// # Errors
    /// Those of ctr.
    pub fn idle(&self) -> Result<String> {
        let id = id();
        let log = format!("file://{}", self.place.join("output").display());
        let words = self.run_words(&["--detach", "--log-uri", &log], &id, &["sleep", "100000"]);
        self.run(&words.iter().map(String::as_str).collect::<Vec<_>>())?;
        Ok(id)
    }

    /// The view has no cpu controller, so no shares are asked for.
    fn run_words(&self, flags: &[&str], id: &str, program: &[&str]) -> Vec<String> {
        let first = ["run", "--cpu-shares", "0", "--runtime", self.who.runtime()];
        [&first, flags, &[IMAGE, id], program].concat().into_iter().map(str::to_owned).collect()
    }

    /// ctr, ready to run. What it says is kept.
    ///
    /// # Errors
    /// No file can be made.
    pub fn command(&self, words: &[&str]) -> Result<Command> {
        let said = self.place.join("said");
        let mut command = Command::new(&self.ctr);
        command.arg("--address").arg(self.place.join("c.sock")).args(["--namespace", &self.name]).args(words);
        environment(&mut command, &self.place);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&said).doing(said.display())?);
        Ok(command)
    }

    /// ctr, to its end.
    ///
    /// # Errors
    /// It fails: with what it said.
    pub fn run(&self, words: &[&str]) -> Result<()> {
        let status = self.command(words)?.status().doing("ctr")?;
        if status.success() { Ok(()) } else { Err(self.failure(words)) }
    }

    /// What the last ctr failed with.
    pub fn failure(&self, words: &[&str]) -> Failure {
        Failure::new(format!("{}: ctr {}: {}", self.name, words.join(" "), self.said()))
    }

    fn said(&self) -> String {
        fs::read_to_string(self.place.join("said")).unwrap_or_default().trim_end().to_owned()
    }
}

impl Drop for Lane {
    /// By force: shims first, which else would clean up. What fails here goes with the view.
    fn drop(&mut self) {
        for cgroup in self.cgroups() {
            let _later = fs::write(cgroup.join("cgroup.kill"), "1");
        }
        let _ended = self.daemon.wait();
        let begin = Instant::now();
        while self.population().is_ok_and(|left| left > 0) && begin.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        for target in mounts.lines().rev().filter_map(|line| line.split(' ').nth(4)) {
            if Path::new(target).starts_with(&self.place) {
                let _later = unmount(target, UnmountFlags::DETACH);
            }
        }
        for cgroup in self.cgroups().iter().flat_map(|cgroup| tree(cgroup)) {
            let _later = fs::remove_dir(cgroup);
        }
        let _later = fs::remove_dir_all(&self.place);
    }
}

/// In the cgroup from its first instruction on.
fn start(containerd: &Path, place: &Path, cgroup: &Path) -> Result<Child> {
    let without: Vec<String> = WITHOUT.iter().map(|id| format!("{id:?}")).collect();
    let (folder, config) = (place.display(), place.join("config.toml"));
    let text = format!(
        "version = 2\nroot = \"{folder}/root\"\nstate = \"{folder}/state\"\ndisabled_plugins = [{}]\n\
         [grpc]\naddress = \"{folder}/c.sock\"\n",
        without.join(", ")
    );
    fs::write(&config, text).doing(config.display())?;
    let log = File::create(place.join("log")).doing("the daemon's log")?;
    let mut command = Command::new("sh");
    command.args(["-c", "echo $$ >\"$1\" && shift && exec \"$@\"", "sh"]).arg(cgroup.join("cgroup.procs"));
    command.arg(containerd).arg("--config").arg(config);
    command.stdin(Stdio::null()).stdout(log.try_clone().doing("a copy")?).stderr(log);
    environment(&mut command, place);
    command.spawn().doing("sh")
}

/// Nothing of the caller's environment but where programs are: this lane's shim and runtime, and no other.
fn environment(command: &mut Command, place: &Path) {
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", place.join("bin").display());
    command.env_clear().env("PATH", path).env("HOME", "/root").env("LC_ALL", "C.UTF-8").env("TMPDIR", place);
}

/// With its pages written to the disk: dirty pages of a program that was just built would count as dirtied by the
/// process.
fn link(program: &Path, link: &Path) -> Result<()> {
    File::open(program).and_then(|file| file.sync_all()).doing(program.display())?;
    std::os::unix::fs::symlink(program, link).doing(link.display())
}

fn daemon_cgroup(name: &str) -> PathBuf {
    Path::new(CGROUPS).join(format!("daemon-{name}"))
}

/// ctr puts each container into a cgroup below that of its namespace.
fn container_cgroup(name: &str) -> PathBuf {
    Path::new(CGROUPS).join(name)
}

fn number() -> u32 {
    NUMBER.fetch_add(1, Ordering::Relaxed)
}

fn id() -> String {
    format!("c{}", number())
}

/// The processes of one cgroup.
fn members(cgroup: &Path) -> Result<Vec<u32>> {
    let path = cgroup.join("cgroup.procs");
    let text = fs::read_to_string(&path).doing(path.display())?;
    Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
}

/// A cgroup and all below it, the deepest first.
fn tree(cgroup: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(cgroup).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut found: Vec<PathBuf> = folders.flat_map(|entry| tree(&entry.path())).collect();
    found.push(cgroup.to_owned());
    found
}
