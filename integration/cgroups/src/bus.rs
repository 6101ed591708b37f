//! The D-Bus messages of one create and one delete by the systemd driver: seen by a monitor of the bus, and in a trace of the
//! client's system calls. Whoever runs this chooses the bus: root has the system's, an ordinary user the user's.

use std::ffi::OsString;
use std::fs::{self, File};
use std::ops::Add;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use pintle_tests::{Bundle, Value, json};
use serde::{Deserialize, Serialize};

use crate::place::Place;
use crate::runtimes::{Driver, Runtime};
use crate::trace;

/// A monitor needs this to begin, and to be told what is on the way.
const SETTLE: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(60);

/// Messages by kind, to and from a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Messages {
    pub calls: usize,
    /// Returns and errors.
    pub replies: usize,
    /// Delivered to the client.
    pub signals: usize,
}

impl Messages {
    /// All of them.
    pub fn total(&self) -> usize {
        self.calls + self.replies + self.signals
    }
}

impl Add for Messages {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            calls: self.calls + other.calls,
            replies: self.replies + other.replies,
            signals: self.signals + other.signals,
        }
    }
}

/// All runtimes on one bus.
#[derive(Debug, Serialize, Deserialize)]
pub struct Bus {
    pub versions: Vec<String>,
    /// `system` or `user`.
    pub bus: String,
    pub runs: Vec<Run>,
}

/// One runtime.
#[derive(Debug, Serialize, Deserialize)]
pub struct Run {
    pub runtime: String,
    pub create: Call,
    pub delete: Call,
}

/// One call of a runtime.
#[derive(Debug, Serialize, Deserialize)]
pub struct Call {
    pub monitored: Messages,
    pub traced: Messages,
    /// Connections to the bus.
    pub connections: usize,
    /// Paths of the sockets that the client connected to.
    pub sockets: Vec<String>,
    /// The methods, in order.
    pub methods: Vec<String>,
}

/// Counts for all runtimes.
pub fn measure(place: &Place, runtimes: &[Runtime]) -> Result<Bus> {
    let versions = runtimes.iter().map(Runtime::version).collect::<Result<_>>()?;
    let name = if rustix::process::geteuid().is_root() { "system" } else { "user" };
    let mut bus = Bus { versions, bus: name.into(), runs: Vec::new() };
    for runtime in runtimes {
        let run = run(place, runtime, name).with_context(|| runtime.name.clone())?;
        for (verb, call) in [("create", &run.create), ("delete", &run.delete)] {
            println!("{name} bus, {} {verb}: {call:?}", runtime.name);
        }
        bus.runs.push(run);
    }
    Ok(bus)
}

/// Each verb twice, once monitored and once traced.
fn run(place: &Place, runtime: &Runtime, bus: &str) -> Result<Run> {
    let mut create = Vec::new();
    let mut delete = Vec::new();
    for traced in [false, true] {
        let mut bundle = bundle(place, bus)?;
        let id = format!("{}-{}", runtime.name, place.next());
        let slice = if bus == "system" { "system.slice" } else { "user.slice" };
        bundle.set("/linux/cgroupsPath", json!(format!("{slice}:evidence:{id}"))).write();
        let dir = bundle.dir.to_string_lossy().into_owned();
        let words = [
            runtime.words(Driver::Systemd, &["create", "--bundle", &dir, &id]),
            runtime.words(Driver::Systemd, &["delete", "--force", &id]),
        ];
        for (words, seen) in words.iter().zip([&mut create, &mut delete]) {
            seen.push(if traced {
                Seen::Traced(trace(place, words)?)
            } else {
                Seen::Heard(listen(place, words, bus)?)
            });
        }
    }
    Ok(Run { runtime: runtime.name.clone(), create: call(create)?, delete: call(delete)? })
}

enum Seen {
    Heard(Heard),
    Traced((Messages, Vec<String>)),
}

/// What a monitor heard of a client.
struct Heard {
    messages: Messages,
    connections: usize,
    methods: Vec<String>,
}

fn call(seen: Vec<Seen>) -> Result<Call> {
    match <[Seen; 2]>::try_from(seen) {
        Ok([Seen::Heard(heard), Seen::Traced((traced, sockets))]) => Ok(Call {
            monitored: heard.messages,
            traced,
            connections: heard.connections,
            sockets,
            methods: heard.methods,
        }),
        _ => bail!("each verb is heard once and traced once"),
    }
}

/// A bundle for whoever runs this.
fn bundle(place: &Place, bus: &str) -> Result<Bundle> {
    let mut bundle = place.bundle(&["/busybox", "true"], &json!({}))?;
    if bus == "user" {
        // As `runc spec --rootless` has it.
        let ids = |id: u32| json!([{"containerID": 0, "hostID": id, "size": 1}]);
        bundle
            .without_namespace("network")
            .new_namespace("user")
            .remove("/linux/resources")
            .set("/linux/uidMappings", ids(rustix::process::getuid().as_raw()))
            .set("/linux/gidMappings", ids(rustix::process::getgid().as_raw()));
        let mounts = bundle.config["mounts"].as_array_mut().context("mounts")?;
        mounts.retain(|mount| mount["type"] != "cgroup");
        for mount in mounts {
            match mount["type"].as_str() {
                Some("sysfs") => {
                    *mount = json!({"destination": "/sys", "type": "none", "source": "/sys",
                        "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]});
                }
                Some("devpts") => {
                    mount["options"].as_array_mut().context("options")?.retain(|option| option != "gid=5");
                }
                _ => {}
            }
        }
    }
    Ok(bundle)
}

fn start(place: &Place, words: &[OsString], output: &str) -> Result<Child> {
    let (first, rest) = words.split_first().context("a command")?;
    Command::new(first)
        .args(rest)
        .stdin(Stdio::null())
        .stdout(File::create(place.path(output))?)
        .stderr(File::create(place.path("err"))?)
        .spawn()
        .with_context(|| format!("start {}", first.display()))
}

fn wait(place: &Place, mut child: Child, words: &[OsString]) -> Result<()> {
    if !child.wait().context("wait")?.success() {
        let err = fs::read_to_string(place.path("err")).unwrap_or_default();
        bail!("{words:?} failed: {}", err.trim());
    }
    Ok(())
}

/// Runs a call under the ears of a monitor.
fn listen(place: &Place, words: &[OsString], bus: &str) -> Result<Heard> {
    let monitor: Vec<OsString> =
        ["busctl", &format!("--{bus}"), "--json=short", "monitor"].iter().map(OsString::from).collect();
    let mut monitor = start(place, &monitor, "monitor")?;
    std::thread::sleep(SETTLE);
    let ended = start(place, words, "out").and_then(|child| wait(place, child, words));
    std::thread::sleep(SETTLE);
    monitor.kill().context("end the monitor")?;
    monitor.wait().context("end the monitor")?;
    ended?;
    heard(&fs::read_to_string(place.path("monitor")).context("read what the monitor heard")?)
}

/// Counts what went to and came from those who said hello meanwhile: on a quiet machine, the runtime.
fn heard(text: &str) -> Result<Heard> {
    let messages: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("the monitor said {line:?}")))
        .collect::<Result<_>>()?;
    let hello = messages.iter().filter(|message| message["member"] == "Hello");
    let clients: Vec<&str> = hello.filter_map(|message| message["sender"].as_str()).collect();
    let is_client = |name: &Value| name.as_str().is_some_and(|name| clients.contains(&name));
    let mut rules: Vec<&str> = Vec::new();
    let mut heard = Heard { messages: Messages::default(), connections: clients.len(), methods: Vec::new() };
    for message in &messages {
        // The bus says farewell to who has gone: it is never read.
        if message["member"] == "NameLost" {
            continue;
        }
        let own = is_client(&message["sender"]) || is_client(&message["destination"]);
        let count = &mut heard.messages;
        match message["type"].as_str() {
            Some("method_call") if own => {
                count.calls += 1;
                let member = message["member"].as_str().unwrap_or_default();
                heard.methods.push(member.to_owned());
                if let ("AddMatch", Some(rule)) = (member, message["payload"]["data"][0].as_str()) {
                    rules.push(rule);
                }
            }
            Some("method_return" | "error") if own => count.replies += 1,
            Some("signal") if own => count.signals += 1,
            Some("signal") if message["destination"].is_null() => {
                count.signals += usize::from(rules.iter().any(|rule| fits(rule, message)));
            }
            _ => {}
        }
    }
    Ok(heard)
}

/// Whether a broadcast signal fits a match rule.
fn fits(rule: &str, message: &Value) -> bool {
    rule.split(',').filter_map(|part| part.trim().split_once('=')).all(|(key, value)| {
        let value = value.trim_matches('\'');
        match key {
            "type" | "interface" | "member" | "path" => message[key] == value,
            // A unique name stands for a well-known one: systemd's, since the bus itself has only one.
            "sender" => (value == "org.freedesktop.DBus") == (message["sender"] == "org.freedesktop.DBus"),
            "arg0" => message["payload"]["data"][0] == value,
            "path_namespace" => {
                message["path"].as_str().is_some_and(|path| Path::new(path).starts_with(value))
            }
            _ => true,
        }
    })
}

/// Runs a call under strace. What it leaves alive is traced too, and let go when the call itself has ended.
fn trace(place: &Place, words: &[OsString]) -> Result<(Messages, Vec<String>)> {
    let file = place.path(format!("trace{}", place.next()));
    // Without -I2 it lets no signal end it.
    let options = ["strace", "-I2", "-f", "-yy", "-xx", "-s", "1000000", "-e", trace::CALLS, "-o"];
    let mut all: Vec<OsString> = options.iter().map(OsString::from).collect();
    all.push(file.clone().into());
    all.extend(words.iter().cloned());
    let mut strace = start(place, &all, "out")?;
    let begin = Instant::now();
    let status = loop {
        let text = fs::read_to_string(&file).unwrap_or_default();
        if let Some(status) = trace::status(&text) {
            break status;
        }
        if begin.elapsed() > PATIENCE {
            bail!("{words:?} does not end under strace");
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    let strace_pid = strace.id().to_string();
    // On SIGTERM strace lets go of what it traces; it may have ended by itself.
    Command::new("kill").args(["-TERM", &strace_pid]).stderr(Stdio::null()).status().context("end strace")?;
    strace.wait().context("end strace")?;
    if status != 0 {
        bail!(
            "{words:?} failed under strace with {status}: {}",
            fs::read_to_string(place.path("err"))?.trim()
        );
    }
    trace::read(&fs::read_to_string(&file).context("read the trace")?)
}

/// pintle's messages are at most half of runc's, and go to no private socket.
pub fn judge(bus: &Bus) -> bool {
    let find = |name: &str| bus.runs.iter().find(|run| run.runtime == name);
    let Some(pintle) = find("pintle") else { return true };
    let public = [&pintle.create, &pintle.delete]
        .iter()
        .all(|call| call.sockets.iter().all(|socket| !socket.contains("systemd/private")));
    let total = |run: &Run| (run.create.traced + run.delete.traced).total();
    public && find("runc").is_none_or(|runc| 2 * total(pintle) <= total(runc))
}
