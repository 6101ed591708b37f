//! `make demo`: shows a newcomer an image and one real container of it, from outside by the command lines of pintle-image and pintle,
//! and from inside by this very program, which is static and lies in the image as /demo. Nothing is left when it ends.

mod image;
mod look;
mod show;

use image::{Image, Source};
use rustix::fs::{MemfdFlags, memfd_create, statfs};
use rustix::process::{Pid, WaitId, WaitIdOptions, set_child_subreaper, waitid};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use show::{bars, heading, note, table};
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Starts that are measured; the one with the median time is shown.
const STARTS: usize = 21;
/// What statfs(2) calls overlayfs.
const OVERLAYFS: u64 = 0x794c_7630;
/// What the container may use, where the host's cgroup v2 offers the controller.
const LIMITS: [(&str, u64); 2] = [("memory", 64 << 20), ("pids", 64)];

fn main() -> ExitCode {
    let done = match std::env::args().nth(1).as_deref() {
        Some("look") => show::lines(&look::look()),
        Some("clock") => show::lines(&[("now", now().to_string())]),
        Some("wait") => loop {
            std::thread::park();
        },
        Some("write") => fs::write("/note", "written inside\n").map_err(Into::into),
        packages => demo(packages.map(Path::new)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("demo: {why}");
            ExitCode::FAILURE
        }
    }
}

/// All of it, with the Debian packages in this folder if there are any.
fn demo(packages: Option<&Path>) -> Result {
    // As an engine does: containers that outlive the command that created them are this program's to collect.
    set_child_subreaper(Some(rustix::process::getpid()))?;
    let demo = Demo::new(packages)?;
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    println!("pintle on Linux {release}, image: {}", demo.image.made_of());
    demo.image.build()?;
    demo.limit()?;
    runs(&demo)?;
    isolates(&demo)?;
    takes_its_time(&demo)?;
    lives(&demo)?;
    changes(&demo)?;
    let name = demo.name.clone();
    drop(demo);
    leaves_nothing(&name)
}

fn runs(demo: &Demo) -> Result {
    heading("It runs", "pintle run demo");
    let said = demo.pintle(&["run", "-b", &demo.bundle(), &demo.name])?;
    note(&format!("{}: {}", demo.image.command().join(" "), said.trim_end().replace('\t', ": ")));
    if demo.image.source != Source::Alone {
        let greet =
            "echo \"$GREETING from $(hostname): user $(id -u), process $$, and / holds: $(ls / | xargs)\"";
        note(&format!("sh: {}", demo.run(&["sh", "-c", greet])?.trim_end()));
    }
    Ok(())
}

/// The root file system is the container's to change; the image is not.
fn changes(demo: &Demo) -> Result {
    let program: &[&str] = match demo.image.source {
        Source::Packages => &["sh", "-c", "/demo write; rm /usr/bin/hello"],
        Source::Busybox | Source::Alone => &["/demo", "write"],
    };
    demo.run(program)?;
    demo.image.commit()
}

fn isolates(demo: &Demo) -> Result {
    heading("What it sees", "the same questions, asked on the host and in a container");
    let said = demo.run(&["/demo", "look"])?;
    let inside = |name: &str| {
        let value = said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('\t'));
        value.unwrap_or("?").to_owned()
    };
    let rows: Vec<_> =
        look::look().into_iter().map(|(name, host)| [name.to_owned(), host, inside(name)]).collect();
    let (spaces, seen): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row[0].starts_with("ns/"));
    table(["", "host", "container"], &seen);
    let (shared, own): (Vec<_>, Vec<_>) = spaces.iter().partition(|[_, host, container]| host == container);
    let names = |rows: &[&[String; 3]]| rows.iter().map(|row| &row[0][3..]).collect::<Vec<_>>().join(" ");
    note(&format!("namespaces of its own: {}; shared with the host: {}", names(&own), names(&shared)));
    for (controller, _) in LIMITS.iter().filter(|(controller, _)| !look::offers(controller)) {
        note(&format!("no {controller} limit: this host's cgroup v2 has no {controller} controller"));
    }
    Ok(())
}

fn takes_its_time(demo: &Demo) -> Result {
    heading("How long a start takes", &format!("pintle run demo, the median of {STARTS}"));
    demo.set_program(&["/demo", "clock"])?;
    let log = demo.dir.join("log");
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        File::create(&log)?;
        let begin = now();
        let said = demo.pintle(&[
            "--debug",
            "--log",
            &log.to_string_lossy(),
            "run",
            "-b",
            &demo.bundle(),
            &demo.name,
        ])?;
        let end = now();
        let program: u64 = said.trim().trim_start_matches("now\t").parse()?;
        let mut rows = phases(&fs::read_to_string(&log)?);
        rows.push(("until the program runs".to_owned(), program - begin));
        rows.push(("its end, and all removed".to_owned(), end - program));
        rows.push(("pintle run, all of it".to_owned(), end - begin));
        starts.push(rows);
    }
    starts.sort_by_key(|rows| rows.last().map(|(_, time)| *time));
    bars(&starts[STARTS / 2]);
    Ok(())
}

/// The records `phase=NAME us=N` of a log.
fn phases(log: &str) -> Vec<(String, u64)> {
    let one = |line: &str| {
        let (name, rest) = line.split_once("phase=")?.1.split_once(" us=")?;
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        Some((format!("  {name}"), digits.parse().ok()?))
    };
    log.lines().filter_map(one).collect()
}

fn lives(demo: &Demo) -> Result {
    heading("A life", "each command, its time, and the state it leaves");
    demo.set_program(&["/demo", "wait"])?;
    let (name, bundle) = (demo.name.as_str(), demo.bundle());
    let exec: &[&str] = if demo.image.source != Source::Alone {
        &["exec", name, "ps", "-o", "pid,args"]
    } else {
        &["exec", name, "/demo", "clock"]
    };
    let commands: [&[&str]; 7] = [
        &["create", "-b", &bundle, name],
        &["start", name],
        exec,
        &["pause", name],
        &["resume", name],
        &["kill", name, "KILL"],
        &["delete", name],
    ];
    let mut rows = Vec::new();
    for command in commands {
        let init = demo.state().and_then(|state| Pid::from_raw(state["pid"].as_i64()? as i32));
        let begin = now();
        let said = demo.pintle(command)?;
        let time = format!("{:.1} ms", (now() - begin) as f64 / 1000.0);
        if let ("kill", Some(init)) = (command[0], init) {
            waitid(WaitId::Pid(init), WaitIdOptions::EXITED)?;
        }
        let state = demo.state().and_then(|state| Some(state["status"].as_str()?.to_owned()));
        let shown = command.join(" ").replace(&bundle, "BUNDLE").replace(name, "demo");
        rows.push([format!("pintle {shown}"), time, state.unwrap_or("gone".to_owned())]);
        let lines = said.lines().filter(|_| command[0] == "exec");
        rows.extend(lines.map(|line| [format!("  {line}"), String::new(), String::new()]));
    }
    table(["", "time", "state"], &rows);
    Ok(())
}

fn leaves_nothing(name: &str) -> Result {
    heading("What is left", "of all that, on this host");
    let named = |file: String| {
        fs::read_to_string(file).unwrap_or_default().lines().filter(|line| line.contains(name)).count()
    };
    let processes =
        look::names("/proc").iter().filter(|pid| named(format!("/proc/{pid}/cgroup")) > 0).count();
    let mounts = named("/proc/self/mountinfo".to_owned());
    let cgroups = look::CGROUP_MOUNTS.iter().filter(|mount| Path::new(mount).join(name).exists()).count();
    let files = look::names(&std::env::temp_dir().to_string_lossy())
        .iter()
        .filter(|file| file.contains(name))
        .count();
    note(&format!("{processes} processes, {mounts} mounts, {cgroups} cgroups, {files} files"));
    if processes + mounts + cgroups + files > 0 { Err("something was left behind".into()) } else { Ok(()) }
}

/// A directory with store, bundle and state in it, and a name that nothing else on this host has.
struct Demo {
    dir: PathBuf,
    name: String,
    pintle: PathBuf,
    image: Image,
}

impl Demo {
    fn new(packages: Option<&Path>) -> Result<Self> {
        let pintle = std::env::current_exe()?.with_file_name("pintle");
        let name = format!("pintle-demo-{}", std::process::id());
        let dir = std::env::temp_dir().join(&name);
        fs::create_dir(&dir)?;
        let image = Image::new(&dir)?;
        // From here on everything is taken away again, whatever happens.
        let mut demo = Self { dir, name, pintle, image };
        // In a container /tmp is often on overlayfs, which can't hold the changes of another one.
        if statfs(&demo.dir)?.f_type as u64 == OVERLAYFS {
            call(Command::new("mount").args(["-t", "tmpfs", "-o", "mode=755", &demo.name]).arg(&demo.dir))?;
        }
        demo.image.gather(packages)?;
        Ok(demo)
    }

    fn bundle(&self) -> String {
        self.image.bundle().to_string_lossy().into_owned()
    }

    /// Edits the bundle's config.json.
    fn edit(&self, change: impl FnOnce(&mut Value)) -> Result {
        let path = self.image.bundle().join("config.json");
        let mut config: Value = serde_json::from_str(&fs::read_to_string(&path)?)?;
        change(&mut config);
        Ok(fs::write(&path, config.to_string())?)
    }

    /// A cgroup, the limits that the host can keep, and no way to gain privileges.
    fn limit(&self) -> Result {
        self.edit(|config| {
            config["process"]["noNewPrivileges"] = json!(true);
            config["linux"]["cgroupsPath"] = json!(format!("/{}", self.name));
            for (controller, limit) in LIMITS.iter().filter(|(controller, _)| look::offers(controller)) {
                config["linux"]["resources"][controller] = json!({"limit": limit});
            }
        })
    }

    fn set_program(&self, program: &[&str]) -> Result {
        self.edit(|config| config["process"]["args"] = json!(program))
    }

    fn run(&self, program: &[&str]) -> Result<String> {
        self.set_program(program)?;
        self.pintle(&["run", "-b", &self.bundle(), &self.name])
    }

    fn pintle(&self, arguments: &[&str]) -> Result<String> {
        call(Command::new(&self.pintle).arg("--root").arg(self.dir.join("state")).args(arguments))
    }

    fn state(&self) -> Option<Value> {
        serde_json::from_str(&self.pintle(&["state", &self.name]).ok()?).ok()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // After a success there is no container left to delete; after a failure its words were the better ones.
        let _gone = self.pintle(&["delete", "--force", &self.name]);
        let _gone = self.image.unmount();
        let _gone = call(Command::new("umount").arg(&self.dir));
        let _gone = fs::remove_dir_all(&self.dir);
    }
}

/// What a command printed. Into files in memory, not pipes: a container that lives on holds its streams open.
fn call(command: &mut Command) -> Result<String> {
    let file = || memfd_create("words", MemfdFlags::CLOEXEC).map(File::from);
    let (mut said, mut told) = (file()?, file()?);
    let status = command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(told.try_clone()?).status()?;
    let words = if status.success() { &mut said } else { &mut told };
    let mut text = String::new();
    words.rewind()?;
    words.read_to_string(&mut text)?;
    if status.success() { Ok(text) } else { Err(text.trim_end().into()) }
}

/// Microseconds of a clock that host and container share.
fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000 + now.tv_nsec.unsigned_abs() / 1000
}
