//! `shim-recorder`, called as containerd calls a shim: is that shim, and writes down what the two say. `shim-recorder select FROM TO`
//! keeps a few records of each kind. See `pintle_engines::record`.

use pintle_engines::record::{self, Ear, FILE, Kind, SHIM};
use pintle_engines::task;
use rustix::process::{Pid, WaitOptions, set_child_subreaper, wait};
use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::{CommandExt, parent_id};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What it is called when it stays, beside the shim.
const BESIDE: &str = "shim-recorder-beside";
/// How long one side may take for the end of the other.
const PATIENCE: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [BESIDE, words @ ..] => return beside(words),
        [_, "select", from, to] => {
            let selected = record::select(&fs::read(from).expect("a recording"));
            fs::write(to, selected).expect("a file");
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    let words = &words[1..];
    if !record::is_daemon(parent_id()) {
        // A check that plays the daemon: not what a daemon says.
        panic!("{}", shim(words).exec());
    }
    let output = if words.last() == Some(&"start") { start(words) } else { call(words) };
    // As a shim that was killed.
    let code = output.status.code().map_or(255, |code| code as u8);
    let said = std::io::stdout().write_all(&output.stdout);
    said.and_then(|()| std::io::stderr().write_all(&output.stderr)).expect("the daemon listens");
    code.into()
}

/// The real one.
fn shim(words: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os(SHIM).expect("the shim that is recorded"));
    // Makes std fork: glibc's posix_spawn leaves signal 32 ignored, which containers would inherit.
    command.args(words).uid(0);
    command
}

fn recording() -> PathBuf {
    std::env::var_os(FILE).expect("a file to record to").into()
}

/// Calls it, and records what it reads and writes.
fn call(words: &[&str]) -> Output {
    let input = record::all(std::io::stdin()).expect("standard input");
    let variable = |name: &&str| std::env::var(name).ok().map(|value| format!("{name}={value}"));
    let variables = ["MAX_SHIM_VERSION", "GRPC_ADDRESS", "TTRPC_ADDRESS"];
    let mut line: Vec<String> = variables.iter().filter_map(variable).collect();
    // Where the daemon's own program is says more of this machine than of the daemon.
    let publisher = words.iter().position(|word| *word == "-publish-binary").map(|at| at + 1);
    let word =
        |(at, word): (usize, &&str)| if Some(at) == publisher { "containerd" } else { word }.to_owned();
    line.extend(words.iter().enumerate().map(word));
    let line = line.join(" ");
    record::add(&recording(), Kind::Input, &line, &input);
    let mut command = shim(words);
    if words.last() == Some(&"start") {
        command.env("TTRPC_ADDRESS", aside());
    }
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a shim");
    // One that does not read it has no use for it.
    let _ = child.stdin.take().expect("a pipe").write_all(&input);
    let output = child.wait_with_output().expect("its output");
    record::add(&recording(), Kind::Output, &line, &output.stdout);
    output
}

/// Where the shim's events go instead.
fn aside() -> PathBuf {
    std::env::temp_dir().join(format!("{}.events", std::process::id()))
}

/// `start`, by a process that stays with the shim. Its answer comes through a pipe.
#[allow(clippy::zombie_processes, reason = "it outlives this one")]
fn start(words: &[&str]) -> Output {
    let mut command = Command::new("/proc/self/exe");
    command.arg0(BESIDE).args(words).uid(0).stderr(Stdio::null()).stdout(Stdio::piped());
    let child = command.stdin(Stdio::inherit()).spawn().expect("a process beside");
    let answer = record::all(child.stdout.expect("a pipe")).expect("its answer");
    let (status, rest) = answer.split_first_chunk::<4>().expect("a status");
    let (length, rest) = rest.split_first_chunk::<4>().expect("a length");
    let (stdout, stderr) = rest.split_at(u32::from_be_bytes(*length) as usize);
    let status = std::os::unix::process::ExitStatusExt::from_raw(i32::from_be_bytes(*status));
    Output { status, stdout: stdout.to_vec(), stderr: stderr.to_vec() }
}

/// Stays between the daemon and a new shim, as long as that lives.
fn beside(words: &[&str]) -> ExitCode {
    // Ours will be told when it ends.
    set_child_subreaper(Pid::from_raw(1)).expect("prctl");
    let events = UnixListener::bind(aside()).expect("a socket for events");
    let output = call(words);
    let path = task::path(&String::from_utf8_lossy(&output.stdout));
    // The shim of a pod, which has one beside already, is nobody's child here.
    let is_new = output.status.success() && matches!(wait(WaitOptions::NOHANG), Ok(None));
    let shim = path.with_extension(std::process::id().to_string());
    let listener = is_new.then(|| {
        fs::rename(&path, &shim).expect("the shim's socket");
        let listener = UnixListener::bind(&path).expect("a socket in its place");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("a mode");
        listener
    });
    answer(&output);
    let Some(listener) = listener else {
        let _ = fs::remove_file(aside());
        return ExitCode::SUCCESS;
    };
    stay(listener, events, &path, &shim);
    let _ = fs::remove_file(aside());
    ExitCode::SUCCESS
}

/// Answers whoever waits for `start`, and lets go of all that could hold it up.
fn answer(output: &Output) {
    use std::os::unix::process::ExitStatusExt;
    let mut all = output.status.into_raw().to_be_bytes().to_vec();
    all.extend((output.stdout.len() as u32).to_be_bytes());
    all.extend_from_slice(&output.stdout);
    all.extend_from_slice(&output.stderr);
    let mut stdout = std::io::stdout();
    stdout.write_all(&all).and_then(|()| stdout.flush()).expect("the caller waits");
    let null = fs::OpenOptions::new().read(true).write(true).open("/dev/null").expect("/dev/null");
    rustix::stdio::dup2_stdin(&null).and_then(|()| rustix::stdio::dup2_stdout(&null)).expect("dup2");
    std::env::set_current_dir("/").expect("the root folder");
}

fn stay(listener: UnixListener, events: UnixListener, path: &Path, shim: &Path) {
    let to = std::env::var("TTRPC_ADDRESS").expect("where events go to");
    let recording = recording();
    let file = recording.clone();
    let events_ear = move |_: &UnixStream| Some(Ear::new(&file, (Kind::Event, Kind::Heard)));
    record::relay(events, &task::path(&to), events_ear, || {});
    let ours = listener.try_clone().expect("a descriptor");
    let inode = |path: &Path| fs::metadata(path).map(|found| found.ino()).ok();
    let place = inode(path);
    let ear = move |client: &UnixStream| {
        let pid = rustix::net::sockopt::socket_peercred(client).expect("a peer").pid;
        let daemon = record::is_daemon(pid.as_raw_nonzero().get().cast_unsigned());
        daemon.then(|| Ear::new(&recording, (Kind::Request, Kind::Response)))
    };
    // A daemon that sees its connection end calls `delete`, which must find everything as the shim left it.
    let tidy = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&tidy);
    let connections = record::relay(listener, shim, ear, move || wait_until(|| seen.load(Ordering::SeqCst)));
    // Its end, or that of what it left to us.
    while matches!(wait(WaitOptions::empty()), Err(rustix::io::Errno::INTR)) {}
    rustix::net::shutdown(&ours, rustix::net::Shutdown::Both).expect("a listener");
    // The shim has removed it, and another may have come, unless it was killed.
    if inode(path) == place && fs::rename(shim, path).is_err() {
        let _ = fs::remove_file(path);
    }
    let _ = fs::remove_file(shim);
    tidy.store(true, Ordering::SeqCst);
    wait_until(|| connections.lock().expect("no panic holds it").iter().all(JoinHandle::is_finished));
}

fn wait_until(done: impl Fn() -> bool) {
    let begin = Instant::now();
    while !done() && begin.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(1));
    }
}
