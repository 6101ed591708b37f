//! Test suites run in machines: which files there are, one fresh machine (or native view) a file, several side by side, and
//! results that are kept, so that an interrupted run goes on where it was.

use std::collections::VecDeque;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use crate::cache::{self, Scratch};
use crate::cli::{Request, Shape};
use crate::image::Image;
use crate::machine;
use crate::report;

/// The suites, each a folder of `integration/suites`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    /// runc's own integration tests.
    Runc,
    /// pintle's conformance tests.
    Pintle,
}

impl Suite {
    pub fn name(self) -> &'static str {
        match self {
            Suite::Runc => "runc",
            Suite::Pintle => "pintle",
        }
    }

    /// Its files, those with most tests first: they take longest.
    pub fn files(self, image: &Image) -> Result<Vec<String>> {
        let (folder, ending, mark) = match self {
            Suite::Runc => (image.root.join("opt/suites/runc/tests/integration"), "bats", "@test"),
            Suite::Pintle => (cache::checkout().join("tests/tests"), "rs", "#[test]"),
        };
        let mut files = Vec::new();
        for entry in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != ending) {
                continue;
            }
            let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            // The tests' own frame, and the rules of the house, which test the checkout.
            if self == Suite::Pintle && ["main", "tidy"].contains(&name.as_str()) {
                continue;
            }
            files.push((text.lines().filter(|line| line.trim_start().starts_with(mark)).count(), name));
        }
        files.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        Ok(files.into_iter().map(|(_, name)| name).collect())
    }
}

/// Where tests run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Machine,
    /// A private view of this host: the machine's root folder without emulation, and without most controllers.
    Native,
}

impl Place {
    pub fn name(self) -> &'static str {
        match self {
            Place::Machine => "machine",
            Place::Native => "native",
        }
    }
}

/// What is tested, and how.
#[derive(Clone)]
pub struct Subject {
    pub suite: Suite,
    /// pintle, a command of the machine's, or the path of a binary.
    pub runtime: String,
    /// cgroupfs or systemd.
    pub driver: String,
    /// Nobody: root.
    pub user: Option<String>,
    pub place: Place,
}

impl Subject {
    /// The folder with the results of this subject: another runtime, suite or machine has another one.
    pub fn results(&self, image: &Image) -> Result<PathBuf> {
        let mut hasher = DefaultHasher::new();
        let binary = self.binary(image)?;
        fs::read(&binary).with_context(|| format!("read {}", binary.display()))?.hash(&mut hasher);
        image.identity()?.hash(&mut hasher);
        if self.suite == Suite::Pintle {
            let tests = cache::checkout().join("target/inside/deps/conformance");
            let missing = || format!("read {}: integration/suites/pintle/build makes it", tests.display());
            fs::read(&tests).with_context(missing)?.hash(&mut hasher);
        }
        let how = [self.place.name(), &self.driver, self.user.as_deref().unwrap_or("root")].join("-");
        let runtime = binary.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let folder = format!("results/{}/{how}/{runtime}-{:016x}", self.suite.name(), hasher.finish());
        Ok(cache::path(&folder))
    }

    /// The runtime's file on this host.
    fn binary(&self, image: &Image) -> Result<PathBuf> {
        match self.runtime.as_str() {
            "pintle" => Ok(cache::checkout().join("target/x86_64-unknown-linux-gnu/release/pintle")),
            path if path.contains('/') => Ok(path.into()),
            name => {
                let inside = ["usr/sbin", "usr/bin"].map(|dir| image.root.join(dir).join(name));
                let found = inside.into_iter().find(|path| path.exists());
                found.with_context(|| {
                    format!("{name}: the machine has no such runtime; name a binary by its path")
                })
            }
        }
    }
}

/// A run of a suite.
pub struct Run {
    pub subject: Subject,
    /// The machine's shape.
    pub shape: Shape,
    /// Machines side by side.
    pub machines: usize,
    /// Forget what is recorded.
    pub again: bool,
    /// Nothing named: all.
    pub files: Vec<String>,
}

/// No file takes longer than this; what hangs ends there.
const FILE_SECONDS: u64 = 1500;

/// Runs what has no result yet, shows the table, and fails if a test fails that is not listed.
pub fn run(image: &Image, run: &Run) -> Result<u8> {
    let results = run.subject.results(image)?;
    if run.again && results.exists() {
        fs::remove_dir_all(&results).with_context(|| format!("remove {}", results.display()))?;
    }
    fs::create_dir_all(&results).with_context(|| format!("make {}", results.display()))?;
    let all = run.subject.suite.files(image)?;
    if let Some(unknown) = run.files.iter().find(|file| !all.contains(file)) {
        bail!("{unknown}: the suite has no such file; it has {}", all.join(" "));
    }
    let files: Vec<String> =
        all.into_iter().filter(|file| run.files.is_empty() || run.files.contains(file)).collect();
    let start = Instant::now();
    run_files(image, run, &results, &files)?;
    eprintln!(
        "vm: {}: {} files in {:.0} s",
        run.subject.suite.name(),
        files.len(),
        start.elapsed().as_secs_f32()
    );
    report::table(image, &run.subject, &files)
}

/// The files that have no result yet, from one queue.
fn run_files(image: &Image, run: &Run, results: &Path, files: &[String]) -> Result<()> {
    let missing = files.iter().filter(|file| !results.join(format!("{file}.tap")).exists());
    let queue: Mutex<VecDeque<&String>> = Mutex::new(missing.collect());
    let bar = ProgressBar::new(queue.lock().expect("no worker panics").len() as u64);
    let style = ProgressStyle::with_template("[{elapsed}] {bar:30} {pos}/{len} {wide_msg}");
    bar.set_style(style.expect("the template is right"));
    let worker = || -> Result<()> {
        loop {
            let Some(file) = queue.lock().expect("no worker panics").pop_front() else { return Ok(()) };
            bar.set_message(file.clone());
            let start = Instant::now();
            let said = machine::with_another(file, || run_file(image, run, results, file));
            let said = said.with_context(|| file.clone())?;
            bar.inc(1);
            bar.suspend(|| eprintln!("{} ({:.0} s)", said.trim_end(), start.elapsed().as_secs_f32()));
        }
    };
    let ended = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..run.machines).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("no worker panics"))
    });
    bar.finish_and_clear();
    ended
}

/// One file in one machine; what the suite's script said.
fn run_file(image: &Image, run: &Run, results: &Path, file: &str) -> Result<String> {
    let folder = results.join(format!(".{file}"));
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    fs::create_dir(&folder).with_context(|| format!("make {}", folder.display()))?;
    let subject = &run.subject;
    fs::copy(subject.binary(image)?, folder.join("runtime")).context("copy the runtime")?;
    // Installed under runc's name, as engines find a drop-in. Ordinary users have to reach it.
    let script = format!(
        "install -m 755 /results/runtime /usr/local/sbin/runc\nexport FILE_SECONDS={FILE_SECONDS} DRIVER={} TEST_USER={}\n\
         exec /pintle/integration/suites/{}/run /usr/local/sbin/runc /results {file}\n",
        subject.driver,
        subject.user.as_deref().unwrap_or_default(),
        subject.suite.name(),
    );
    let said = match subject.place {
        Place::Machine => in_machine(image, run.shape, &folder, script)?,
        Place::Native => natively(image, &folder, &script)?,
    };
    let tap = format!("{file}.tap");
    fs::rename(folder.join(&tap), results.join(&tap))
        .with_context(|| format!("no result; it said: {said}"))?;
    fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
    Ok(said)
}

fn in_machine(image: &Image, shape: Shape, folder: &Path, script: String) -> Result<String> {
    let timeout = Duration::from_secs(FILE_SECONDS + 120);
    let request = Request { shape, boot: false, timeout, script, results: Some(folder.into()) };
    let said = Said::default();
    machine::run_into(image, &request, folder, said.clone(), said.clone())?;
    Ok(said.text())
}

fn natively(image: &Image, folder: &Path, script: &str) -> Result<String> {
    let native = cache::checkout().join("integration/suites/native");
    // Whatever holds the output after the end must not hold us: it goes to a file.
    let scratch = Scratch::new()?;
    let log = fs::File::create(scratch.path("log")).context("write the log")?;
    let mut child = Command::new(native)
        .args([&image.root, folder])
        .args(["--", "bash", "-c", script])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("run the native view")?;
    child.wait().context("wait for the native view")?;
    fs::read_to_string(scratch.path("log")).context("read the log")
}

/// A writer that several threads share and somebody reads at the end.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl Said {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("no writer panics")).into_owned()
    }
}

impl Write for Said {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no writer panics").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
