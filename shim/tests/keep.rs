//! pintle-keep from outside, as root: containers of a static busybox, kept, looked at and forgotten. Each test has a state directory and a
//! runtime's directory of its own, and must leave neither a process nor a container.

use pintle_tests::{HostMount, Pty, Value, default_config, json, kill, wait_for};
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

static PLACES: AtomicU32 = AtomicU32::new(0);

/// A bundle, a state directory, a directory of the runtime's.
struct Place {
    dir: PathBuf,
    config: Value,
}

/// What a call left.
#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        let code = output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0));
        Self { code, out: text(output.stdout), err: text(output.stderr) }
    }

    #[track_caller]
    fn ok(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{self:?}");
        self.out
    }

    #[track_caller]
    fn fails(self, words: &str) {
        assert!(self.code == 125 && self.err.contains(words), "{self:?}: {words:?} expected");
    }
}

impl Place {
    /// The container is a shell's with this script. None where there can't be any: the test is skipped.
    fn new(script: &str) -> Option<Self> {
        let busybox = pintle_tests::static_busybox()?;
        let number = PLACES.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("pk{}-{number:02}", std::process::id()));
        for folder in ["proc", "dev", "sys", "bin"] {
            fs::create_dir_all(dir.join("bundle/rootfs").join(folder)).expect("a rootfs");
        }
        pintle_tests::copy_program(busybox, dir.join("bundle/rootfs/bin/busybox"));
        for name in ["sh", "cat", "seq", "sleep", "stty", "kill"] {
            symlink("busybox", dir.join("bundle/rootfs/bin").join(name)).expect("a link");
        }
        let mut config = default_config();
        config["process"]["env"] = json!(["PATH=/bin"]);
        config["process"]["args"] = json!(["sh", "-c", script]);
        Some(Self { dir, config })
    }

    /// The name of its container, which nobody else on the machine has.
    fn id(&self) -> &str {
        self.dir.file_name().expect("a name").to_str().expect("text")
    }

    fn command(&self, verb: &str, flags: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pintle-keep"));
        command.arg("--state").arg(self.dir.join("state")).arg(verb).args(flags).stdin(Stdio::null());
        if verb != "list" {
            command.arg(self.id());
        }
        command
    }

    /// A call to its end.
    fn call(&self, verb: &str, flags: &[&str]) -> Said {
        Said::of(self.command(verb, flags).output().expect("a call"))
    }

    fn run(&self, flags: &[&str]) -> Said {
        fs::write(self.dir.join("bundle/config.json"), self.config.to_string()).expect("config.json");
        let paths = [self.dir.join("bundle"), self.dir.join("root")];
        let [bundle, root] = paths.each_ref().map(|path| path.to_str().expect("text"));
        self.call("run", &[&["--bundle", bundle, "--root", root], flags].concat())
    }

    /// A call under way, by pipes.
    fn begin(&self, verb: &str, flags: &[&str]) -> Child {
        let mut command = self.command(verb, flags);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a call")
    }

    /// What `list` says of its container.
    fn record(&self) -> Value {
        let all: Value = serde_json::from_str(&self.call("list", &["--format", "json"]).ok()).expect("JSON");
        assert_eq!(all.as_array().map(Vec::len), Some(1), "{all}");
        all[0].clone()
    }

    #[track_caller]
    fn wait_for_log(&self, text: &str) {
        wait_for(text, || self.call("logs", &[]).out.contains(text));
    }

    fn number(&self, key: &str) -> i32 {
        self.record()[key].as_i64().expect("a number") as i32
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join("state").join(self.id()).join(name)
    }

    /// What is in the state directory and in the runtime's.
    fn left(&self) -> usize {
        let count = |folder| fs::read_dir(self.dir.join(folder)).map_or(0, Iterator::count);
        count("state") + count("root")
    }

    /// Processes that have this place in their arguments; no name of a place is the beginning of another's.
    fn processes(&self) -> Vec<String> {
        let all = fs::read_dir("/proc").expect("/proc").flatten();
        let arguments = all.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
        let arguments = arguments.map(|all| String::from_utf8_lossy(&all).replace('\0', " "));
        arguments.filter(|all| all.contains(self.id())).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let removed = self.file("").exists().then(|| self.call("rm", &["--force"]));
        if !std::thread::panicking() {
            removed.map(Said::ok);
            assert_eq!((self.left(), self.processes()), (0, Vec::new()));
        }
        fs::remove_dir_all(&self.dir).expect("an ordinary directory");
    }
}

#[test]
fn output_is_logged_and_the_status_is_kept_until_rm() {
    let script =
        "echo one; echo two >&2; printf thr; while [ ! -e /go ]; do sleep 0.05; done; echo ee; cat; exit 7";
    let Some(place) = Place::new(script) else { return };
    let waiting = place.begin("wait", &[]);
    Said::of(waiting.wait_with_output().expect("its end")).fails("no such container here");
    place.run(&[]).ok();
    place.run(&[]).fails("is there already");
    place.call("rm", &[]).fails("has not ended");
    assert_eq!(place.record()["status"], "running");
    let waiting = place.begin("wait", &[]);
    fs::write(place.dir.join("bundle/rootfs/go"), "").expect("a file");
    assert_eq!(Said::of(waiting.wait_with_output().expect("its end")).code, 7);
    assert_eq!(place.call("wait", &[]).code, 7);
    let said = place.call("logs", &[]);
    assert_eq!((said.out.as_str(), said.err.as_str()), ("one\nthree\n", "two\n"));
    let said = place.call("logs", &["--tail", "1"]);
    assert_eq!((said.out.as_str(), said.err.as_str()), ("three\n", ""));
    let log = fs::read_to_string(place.file("log")).expect("a log");
    let ends: Vec<_> = log.lines().filter_map(|line| line.split_once("Z ")).map(|(_, end)| end).collect();
    for end in ["stdout F one", "stderr F two", "stdout F three"] {
        assert!(ends.contains(&end), "{log}");
    }
    assert!(place.call("list", &[]).ok().contains(" exited (7) "));
    place.call("stop", &[]).ok();
    assert_eq!(place.processes(), Vec::<String>::new());
    place.call("rm", &[]).ok();
    assert_eq!(place.left(), 0);
}

#[test]
fn a_start_that_fails_is_told_and_leaves_nothing() {
    let Some(mut place) = Place::new("") else { return };
    place.config["process"]["args"] = json!(["/nosuch"]);
    place.run(&[]).fails("no such file or directory");
    place.config["process"]["args"] = json!(["sleep", "1000"]);
    place.run(&["--log", "/nonexistent/log"]).fails("open /nonexistent/log: no such file or directory");
    place.config["annotations"] = json!({"org.opencontainers.image.stopSignal": "SIGNONE"});
    place.run(&[]).fails("unknown signal \"SIGNONE\"");
    assert_eq!(place.left(), 0);
    for id in ["../x", "a/b", ""] {
        Said::of(place.command("logs", &[id]).output().expect("a call")).fails("");
        let said = Command::new(env!("CARGO_BIN_EXE_pintle-keep")).args(["rm", "--force", id]).output();
        Said::of(said.expect("a call")).fails("container");
    }
}

#[test]
fn a_container_of_somebody_else_s_is_left_alone() {
    let Some(place) = Place::new("sleep 1000") else { return };
    place.run(&[]).ok();
    let other = place.dir.join("other");
    let (bundle, root) = (place.dir.join("bundle"), place.dir.join("root"));
    let mut run = Command::new(env!("CARGO_BIN_EXE_pintle-keep"));
    run.arg("--state")
        .arg(&other)
        .arg("run")
        .arg("--bundle")
        .arg(bundle)
        .arg("--root")
        .arg(root)
        .arg(place.id());
    Said::of(run.output().expect("a call")).fails("container with given ID already exists");
    assert_eq!(fs::read_dir(other).expect("a directory").count(), 0);
    place.call("stop", &["--time", "0"]).ok();
    assert_eq!(place.call("wait", &[]).code, 137);
}

#[test]
fn the_log_is_rotated_by_size_and_the_oldest_file_goes() {
    let Some(place) = Place::new("seq 20000 29999") else { return };
    let log = place.dir.join("log");
    place.run(&["--log", log.to_str().expect("text"), "--log-size", "16k", "--log-files", "3"]).ok();
    assert_eq!(place.call("wait", &[]).code, 0);
    let sizes = ["log", "log.1", "log.2"].map(|name| fs::metadata(place.dir.join(name)).expect(name).len());
    assert!(sizes.iter().all(|size| *size <= 16 << 10) && sizes[1] > 15 << 10, "{sizes:?}");
    assert!(!place.dir.join("log.3").exists());
    let out = place.call("logs", &[]).ok();
    let lines: Vec<_> = out.lines().collect();
    let first = 30_000 - lines.len();
    assert!(lines.iter().enumerate().all(|(n, line)| *line == (first + n).to_string()), "a line is missing");
    assert_eq!(place.call("logs", &["--tail", "2"]).ok(), "29998\n29999\n");
    assert_eq!(place.call("logs", &["--tail", "0"]).ok(), "");
    place.call("rm", &[]).ok();
    assert!(log.exists(), "a log that was named is its owner's");
}

#[test]
fn logs_follow_until_the_end_through_renamed_files() {
    let script = "for i in $(seq 1000 1060); do echo $i; sleep 0.02; done";
    let Some(place) = Place::new(script) else { return };
    place.run(&["--log-size", "1k", "--log-files", "4"]).ok();
    let all = Said::of(place.begin("logs", &["--follow"]).wait_with_output().expect("its end")).ok();
    let expect: String = (1000..=1060).map(|n| format!("{n}\n")).collect();
    assert_eq!(all, expect);
}

#[test]
fn a_failure_is_restarted_as_often_as_was_said() {
    let Some(mut place) = Place::new("echo life; exit 3") else { return };
    let begin = Instant::now();
    place.run(&["--restart", "on-failure:2"]).ok();
    assert_eq!(place.call("wait", &[]).code, 3);
    assert!(begin.elapsed().as_millis() >= 250, "pauses of 100 and 200 ms");
    assert_eq!(place.number("restarts"), 2);
    assert_eq!(place.call("logs", &[]).ok(), "life\n".repeat(3));
    place.call("rm", &[]).ok();
    place.config["process"]["args"] = json!(["sh", "-c", "echo well"]);
    place.run(&["--restart", "on-failure"]).ok();
    assert_eq!((place.call("wait", &[]).code, place.number("restarts")), (0, 0));
}

#[test]
fn stop_ends_even_what_is_always_restarted() {
    let Some(place) = Place::new("echo life") else { return };
    place.run(&["--restart", "always"]).ok();
    // The stop comes in a pause of 3.2 seconds: in a life it would decide how that one ends.
    wait_for("a long pause", || {
        let record = place.record();
        record["status"] == "restarting" && record["restarts"].as_i64() >= Some(5)
    });
    place.call("stop", &[]).ok();
    let restarts = place.number("restarts");
    assert_eq!((place.call("wait", &[]).code, place.record()["status"].as_str()), (0, Some("exited")));
    assert_eq!(place.call("logs", &[]).ok(), "life\n".repeat(restarts as usize + 1));
}

#[test]
fn a_restart_that_fails_is_told_and_tried_again() {
    let Some(place) = Place::new("sleep 0.3") else { return };
    place.run(&["--restart", "always"]).ok();
    fs::remove_file(place.dir.join("bundle/config.json")).expect("config.json");
    wait_for("trouble", || place.record()["trouble"].as_str().is_some_and(|it| it.contains("config.json")));
    place.call("stop", &[]).ok();
    assert_eq!(place.call("wait", &[]).code, 125);
}

#[test]
fn stop_sends_the_signal_that_the_configuration_names_and_then_kills() {
    let deaf = "trap 'echo told; exit 3' USR1; trap '' TERM; echo ready; while :; do sleep 0.05; done";
    let Some(mut place) = Place::new(deaf) else { return };
    place.config["annotations"] = json!({"org.opencontainers.image.stopSignal": "SIGUSR1"});
    place.run(&["--restart", "always"]).ok();
    place.wait_for_log("ready");
    place.call("stop", &[]).ok();
    assert_eq!(place.call("wait", &[]).code, 3);
    assert!(place.call("logs", &[]).ok().ends_with("told\n"));
    place.call("rm", &[]).ok();
    place.config["annotations"] = json!({});
    place.run(&[]).ok();
    place.wait_for_log("ready");
    let begin = Instant::now();
    place.call("stop", &["--time", "1"]).ok();
    assert!((1..9).contains(&begin.elapsed().as_secs()));
    assert_eq!(place.call("wait", &[]).code, 137);
}

#[test]
fn clients_share_input_and_output() {
    let Some(place) = Place::new("while read line; do echo got $line; [ $line = end ] && exit 5; done")
    else {
        return;
    };
    place.run(&["--interactive"]).ok();
    let mut one = place.begin("attach", &[]);
    let heard = place.dir.join("heard");
    let mut two = place.command("attach", &["--no-stdin"]);
    let mut two = two.stdout(fs::File::create(&heard).expect("a file")).spawn().expect("a call");
    let mut typed = one.stdin.take().expect("a pipe");
    let mut lines = String::new();
    // The second is there when it has heard something; the first hears each line before another is typed.
    wait_for("the second to hear", || {
        let mut line = [0; 6];
        typed.write_all(b"a\n").expect("typing");
        one.stdout.as_mut().expect("a pipe").read_exact(&mut line).expect("an answer");
        assert_eq!(&line, b"got a\n");
        lines.push_str("got a\n");
        fs::metadata(&heard).expect("a file").len() > 0
    });
    typed.write_all(b"end\n").expect("typing");
    let one = Said::of(one.wait_with_output().expect("its end"));
    assert_eq!((one.code, one.out.as_str()), (5, "got end\n"));
    assert_eq!(two.wait().expect("its end").code(), Some(5));
    let heard = fs::read_to_string(&heard).expect("text");
    let before = heard.strip_suffix("got end\n").expect("the last line");
    assert!(before.starts_with("got a\n") && lines.ends_with(before), "{heard}");
    place.call("attach", &[]).fails("has ended");
}

#[test]
fn who_does_not_read_keeps_nobody_waiting_and_is_told_what_was_left_out() {
    let echo = "while read word && [ $word != go ]; do echo $word; done";
    let Some(place) = Place::new(&format!("{echo}; seq 100000 299999; {echo}; echo last; sleep 0.2")) else {
        return;
    };
    place.run(&["--interactive", "--log-size", "100M"]).ok();
    let errors = place.dir.join("errors");
    let mut slow = place.command("attach", &["--no-stdin"]);
    let errors_of_slow = fs::File::create(&errors).expect("a file");
    let slow = slow.stdout(Stdio::piped()).stderr(errors_of_slow).spawn().expect("a call");
    let heard = place.dir.join("heard");
    let mut other = place.command("attach", &[]);
    let file = fs::File::create(&heard).expect("a file");
    let mut other = other.stdin(Stdio::piped()).stdout(file).spawn().expect("a call");
    let mut typed = other.stdin.take().expect("a pipe");
    let mut say = |word: &[u8]| typed.write_all(word).expect("typing");
    let waiting = slow.stdout.as_ref().expect("a pipe");
    wait_for("both to be there", || {
        say(b"a\n");
        rustix::io::ioctl_fionread(waiting).expect("a pipe") > 0
    });
    // Nobody reads its output yet, and what it has no room for waits in no memory.
    say(b"go\n");
    place.wait_for_log("\n299999\n");
    let reading = std::thread::spawn(move || Said::of(slow.wait_with_output().expect("its end")));
    // Who is told has taken all that came before; who hears words again after numbers, too.
    wait_for("both to have caught up", || {
        say(b"a\n");
        let [errors, heard] = [&errors, &heard].map(|file| fs::read_to_string(file).expect("text"));
        errors.contains(" bytes were left out here") && heard.contains('0') && heard.ends_with("\na\n")
    });
    say(b"go\n");
    assert_eq!(place.call("wait", &[]).code, 0);
    let slow = reading.join().expect("a reader").out;
    let first = slow.trim_start_matches("a\n");
    assert!(first.starts_with("100000\n") && slow.ends_with("last\n"), "what it had room for");
    other.wait().expect("its end");
    assert!(fs::read_to_string(&heard).expect("text").ends_with("\nlast\n"));
    let log = place.call("logs", &[]).ok();
    assert_eq!(log.lines().filter(|line| *line != "a").count(), 200_001);
}

#[test]
fn input_that_nobody_takes_waits_with_its_sender() {
    let Some(place) = Place::new("sleep 1000") else { return };
    place.run(&["--interactive"]).ok();
    let mut sender = place.begin("attach", &[]);
    let mut typed = sender.stdin.take().expect("a pipe");
    let writer = std::thread::spawn(move || (0..1024).all(|_| typed.write_all(&[b'x'; 4096]).is_ok()));
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(!writer.is_finished());
    let status =
        fs::read_to_string(format!("/proc/{}/status", place.number("supervisor"))).expect("a process");
    let own = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a size");
    let own: u32 = own.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(own < 1024, "{own} KiB of 4 MiB");
    place.call("stop", &["--time", "0"]).ok();
    assert_eq!(Said::of(sender.wait_with_output().expect("its end")).code, 137);
    // What comes after the end goes nowhere.
    writer.join().expect("a writer");
}

#[test]
fn a_terminal_is_left_by_keys_and_found_again() {
    let script = "trap 'echo now $(stty size)' WINCH; echo ready; while :; do read line && echo got $line; [ $line = end ] && exit 4; done";
    let Some(mut place) = Place::new(script) else { return };
    place.config["process"]["terminal"] = json!(true);
    place.run(&[]).ok();
    // From now on it hears of its terminal's size.
    place.wait_for_log("ready");
    let (pty, slave) = Pty::open(33, 77);
    let attach = || {
        let [stdin, stdout, stderr] = Pty::streams(&slave);
        place.command("attach", &[]).stdin(stdin).stdout(stdout).stderr(stderr).spawn().expect("a call")
    };
    let before = rustix::termios::tcgetattr(&slave).expect("a terminal").local_modes;
    let mut first = attach();
    pty.wait_for("now 33 77");
    pty.write("hello\r");
    pty.wait_for("got hello");
    pty.resize(40, 100);
    kill_with(first.id(), rustix::process::Signal::WINCH);
    pty.wait_for("now 40 100");
    pty.write("\x10\x11");
    assert_eq!(first.wait().expect("its end").code(), Some(0));
    assert_eq!(rustix::termios::tcgetattr(&slave).expect("a terminal").local_modes, before);
    assert_eq!(place.record()["status"], "running");
    let mut second = attach();
    wait_for("a raw terminal", || {
        rustix::termios::tcgetattr(&slave).is_ok_and(|now| now.local_modes != before)
    });
    pty.write("end\r");
    assert_eq!(second.wait().expect("its end").code(), Some(4));
    place.wait_for_log("got end");
}

fn kill_with(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid as i32).expect("a process");
    rustix::process::kill_process(pid, signal).expect("a living process");
}

#[test]
fn a_supervisor_that_was_killed_is_told_of_and_cleared_away_after() {
    let Some(place) = Place::new("sleep 1000") else { return };
    place.run(&["--restart", "always"]).ok();
    let (supervisor, pid) = (place.number("supervisor"), place.number("pid"));
    kill(supervisor);
    wait_for("its end", || !pintle_tests::alive(supervisor));
    assert_eq!(place.record()["status"], "lost");
    place.call("wait", &[]).fails("its supervisor was killed");
    for verb in ["stop", "attach", "rm"] {
        place.call(verb, &[]).fails("rm --force clears away");
    }
    place.call("rm", &["--force"]).ok();
    assert!(!pintle_tests::alive(pid));
    assert_eq!(place.left(), 0);
}

#[test]
fn a_supervisor_that_hangs_is_killed_by_rm() {
    let Some(place) = Place::new("sleep 1000") else { return };
    place.run(&[]).ok();
    let (supervisor, pid) = (place.number("supervisor"), place.number("pid"));
    kill_with(supervisor as u32, rustix::process::Signal::STOP);
    place.call("rm", &["--force"]).ok();
    assert!(!pintle_tests::alive(supervisor) && !pintle_tests::alive(pid));
    assert_eq!(place.left(), 0);
}

#[test]
fn a_runtime_that_hangs_does_not_keep_stop_from_ending_it() {
    let Some(mut place) = Place::new("exit 1") else { return };
    let (gate, hangs) = (place.dir.join("gate"), place.dir.join("hangs"));
    let hook = format!("[ ! -e {} ] || {{ : >{}; sleep 1000; }}", gate.display(), hangs.display());
    place.config["hooks"] = json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", hook]}]});
    place.run(&["--restart", "always"]).ok();
    fs::write(&gate, "").expect("a file");
    wait_for("a hook that hangs", || hangs.exists());
    place.call("stop", &["--time", "1"]).ok();
    assert_eq!(place.call("wait", &[]).code, 125);
}

#[test]
fn a_full_disk_is_told_once_and_stops_nothing() {
    let Some(place) = Place::new("seq 10000 19999; read go; echo after") else { return };
    let disk = place.dir.join("disk");
    let mount = HostMount::new(&["-t", "tmpfs", "-o", "size=64k", "tmpfs"], &disk);
    let log = disk.join("log");
    place.run(&["--interactive", "--log", log.to_str().expect("text")]).ok();
    wait_for("trouble", || place.record()["trouble"] != "");
    let trouble = place.record()["trouble"].as_str().expect("text").to_owned();
    assert!(trouble.ends_with(&format!("write {}: output is lost: no space left on device", log.display())));
    std::thread::sleep(std::time::Duration::from_millis(300));
    let written = fs::read_to_string(&log).expect("a log");
    assert!(
        written.len() > 60 << 10
            && written.ends_with('\n')
            && written
                .lines()
                .all(|line| line.split_once(" stdout F ").is_some_and(|(_, text)| text.len() == 5)),
        "as many whole lines as there is room for"
    );
    assert_eq!(place.record()["trouble"], trouble, "told once");
    // Room again.
    fs::OpenOptions::new().write(true).truncate(true).open(&log).expect("a log");
    let mut client = place.begin("attach", &[]);
    client.stdin.take().expect("a pipe").write_all(b"go\n").expect("typing");
    assert_eq!(place.call("wait", &[]).code, 0);
    assert_eq!(Said::of(client.wait_with_output().expect("its end")).code, 0);
    assert!(place.call("logs", &[]).ok().ends_with("after\n"));
    place.call("rm", &[]).ok();
    drop(mount);
}

#[test]
fn the_state_is_its_user_s_alone() {
    let Some(place) = Place::new("sleep 1000") else { return };
    place.run(&[]).ok();
    for path in ["", "log"] {
        assert_eq!(fs::metadata(place.file(path)).expect(path).permissions().mode() & 0o077, 0, "{path}");
    }
    place.call("rm", &["--force"]).ok();
    fs::set_permissions(place.dir.join("state"), fs::Permissions::from_mode(0o755)).expect("a mode");
    place.run(&[]).fails("open to others");
}
