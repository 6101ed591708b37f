//! The runtimes that are compared, and a container of one of them.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use pintle_tests::{Bundle, Value, json};
use serde::{Deserialize, Serialize};

use crate::place::Place;

/// Who makes cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// The runtime, by mkdir and by writing files.
    Cgroupfs,
    /// systemd, asked by the runtime.
    Systemd,
}

impl Driver {
    /// As in results and in the list of differences.
    pub fn name(self) -> &'static str {
        match self {
            Driver::Cgroupfs => "cgroupfs",
            Driver::Systemd => "systemd",
        }
    }

    /// config.json's `linux.cgroupsPath` for a container.
    pub fn cgroups_path(self, id: &str) -> String {
        match self {
            Driver::Cgroupfs => format!("/{id}"),
            Driver::Systemd => format!("system.slice:evidence:{id}"),
        }
    }
}

/// A runtime with a state folder of its own.
pub struct Runtime {
    /// `pintle`, `runc` or `crun`.
    pub name: String,
    /// What is started.
    pub binary: PathBuf,
    root: PathBuf,
    log: PathBuf,
}

/// What a call came to.
pub struct Ended {
    pub status: ExitStatus,
    /// What was logged as an error, or the last words on stderr.
    pub error: String,
}

impl Ended {
    /// Demands success.
    pub fn ok(self) -> Result<Self> {
        if !self.status.success() {
            bail!("{}: {}", self.status, self.error);
        }
        Ok(self)
    }
}

impl Runtime {
    /// One for each command or path.
    pub fn all(place: &Place, named: &[PathBuf]) -> Result<Vec<Self>> {
        named.iter().map(|path| Self::new(place, path)).collect()
    }

    fn new(place: &Place, path: &PathBuf) -> Result<Self> {
        let name = path.file_name().context("a runtime's name")?.to_string_lossy().into_owned();
        let (root, log) = (place.path(format!("state-{name}")), place.path(format!("log-{name}")));
        // A copy: the checkout is on a slow file system.
        let binary = if path.is_absolute() {
            let copy = place.path(&name);
            fs::copy(path, &copy).with_context(|| format!("copy {}", path.display()))?;
            copy
        } else {
            path.clone()
        };
        Ok(Self { name, binary, root, log })
    }

    /// `NAME VERSION`; of pintle, which answers with runc's version, the commit.
    pub fn version(&self) -> Result<String> {
        let output = Command::new(&self.binary).arg("--version").output().context("ask for the version")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let line = |start: &str| text.lines().find_map(|line| line.strip_prefix(start));
        let version = match self.name.as_str() {
            "pintle" => line("commit: "),
            name => line(&format!("{name} version ")),
        };
        Ok(format!("{} {}", self.name, version.unwrap_or("of unknown version").trim()))
    }

    /// The words of a call, ready to be started or traced.
    pub fn words<S: AsRef<OsStr>>(&self, driver: Driver, arguments: &[S]) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec![self.binary.clone().into()];
        words.extend(["--root".into(), self.root.clone().into(), "--log".into(), self.log.clone().into()]);
        words.extend(["--log-format".into(), "json".into()]);
        if driver == Driver::Systemd {
            words.push("--systemd-cgroup".into());
        }
        words.extend(arguments.iter().map(|word| word.as_ref().to_owned()));
        words
    }

    /// Runs a call to its end. Its streams are files: a container may keep them open.
    pub fn call<S: AsRef<OsStr>>(&self, place: &Place, driver: Driver, arguments: &[S]) -> Result<Ended> {
        self.call_by(place, &[], driver, arguments)
    }

    /// Runs a call by another program, `by` and its arguments, which starts the words that follow it.
    pub fn call_by<S: AsRef<OsStr>>(
        &self,
        place: &Place,
        by: &[&str],
        driver: Driver,
        arguments: &[S],
    ) -> Result<Ended> {
        let mut words: Vec<OsString> = by.iter().map(OsString::from).collect();
        words.extend(self.words(driver, arguments));
        let (out, err) = (place.path("out"), place.path("err"));
        File::create(&self.log).context("empty the log")?;
        let status = Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(File::create(&out).context("a file for stdout")?)
            .stderr(File::create(&err).context("a file for stderr")?)
            .status()
            .with_context(|| format!("start {}", self.name))?;
        let stderr = String::from_utf8_lossy(&fs::read(&err).context("read stderr")?).into_owned();
        Ok(Ended { status, error: self.logged().unwrap_or(stderr) })
    }

    /// The last error in the log.
    fn logged(&self) -> Option<String> {
        let text = fs::read_to_string(&self.log).ok()?;
        let mut records = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let error = records.rfind(|record| record["level"] == "error")?;
        Some(error["msg"].as_str()?.to_owned())
    }
}

/// A created container. Deleted by force when dropped.
pub struct Container<'a> {
    runtime: &'a Runtime,
    place: &'a Place,
    driver: Driver,
    /// Its id.
    pub id: String,
    /// Its first process.
    pub pid: i32,
}

impl<'a> Container<'a> {
    /// `create`; what the runtime said where it refused.
    pub fn create(
        runtime: &'a Runtime,
        place: &'a Place,
        driver: Driver,
        bundle: &mut Bundle,
    ) -> Result<std::result::Result<Self, String>> {
        let id = format!("{}-{}", runtime.name, place.next());
        bundle.set("/linux/cgroupsPath", json!(driver.cgroups_path(&id))).write();
        let pid_file = place.path("pid");
        let words: [&OsStr; 6] = [
            "create".as_ref(),
            "--bundle".as_ref(),
            bundle.dir.as_ref(),
            "--pid-file".as_ref(),
            pid_file.as_ref(),
            id.as_ref(),
        ];
        let ended = runtime.call(place, driver, &words)?;
        if !ended.status.success() {
            // What a refusal leaves must not be in the way of the next.
            runtime.call(place, driver, &["delete", "--force", &id])?;
            let text = ended.error.replace(&id, "ID").replace(&place.dir.display().to_string(), "DIR");
            return Ok(Err(text.trim().to_owned()));
        }
        let text = fs::read_to_string(&pid_file).context("read the pid file")?;
        let pid = text.trim().parse().with_context(|| format!("pid file: {text:?}"))?;
        Ok(Ok(Self { runtime, place, driver, id, pid }))
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        let deleted = self.runtime.call(self.place, self.driver, &["delete", "--force", &self.id]);
        if let Err(error) = deleted.and_then(Ended::ok) {
            eprintln!("cgroups: {}: delete {}: {error:#}", self.runtime.name, self.id);
        }
    }
}
