//! Runtimes that are not there, fail, hang or flood, and configurations that are refused: the words that engines look for,
//! and nothing left.

use pintle_engines::alone::{Alone, config, make_bundle};
use pintle_engines::place::Shim as Which;
use pintle_engines::task::Stdio;
use pintle_engines::{Call, Check, Engine, check, left, wait_for};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

pub const CHECKS: &[Check] = &[
    check!(a_missing_runtime_is_named),
    check!(a_runtime_that_is_no_program_is_named),
    check!(the_last_error_of_the_log_is_told),
    check!(a_silent_failure_is_told_with_its_status),
    check!(a_killed_runtime_is_told),
    check!(stderr_may_be_flooded_in_create),
    check!(stderr_may_be_flooded_in_a_create_that_fails),
    check!(stderr_may_be_flooded_in_later_verbs),
    check!(a_runtime_that_hangs_in_create_hangs_alone),
    check!(own a_create_ends_with_its_daemon),
    check!(a_runtime_that_hangs_in_exec_hangs_alone),
    check!(a_runtime_that_hangs_in_kill_hangs_alone),
    check!(a_runtime_that_hangs_in_delete_hangs_alone),
    check!(bad_configurations_are_refused_in_the_same_words),
    check!(a_bad_exec_is_refused_in_the_same_words),
    check!(after_a_failed_create_the_same_id_works),
];

/// A runtime in front of the real one: these shell lines are run first. `$verb` is what it is asked for, `$log` its log file.
fn wrapper(e: &Engine, lines: &str) -> String {
    let path = e.dir.join(format!("runtime-{}", e.id()));
    let real = Which::under_test().runtime();
    let text = format!(
        "#!/bin/sh\nverb= log= last=\nfor word; do\n\tcase $last in --log) log=$word;; esac\n\tcase $word in \
         create|start|state|kill|delete|exec|ps|pause|resume|update|events) [ -n \"$verb\" ] || verb=$word;; esac\n\
         \tlast=$word\ndone\n{lines}\nexec {} \"$@\"\n",
        real.display()
    );
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

#[track_caller]
fn create_fails(e: &Engine, runtime: &str, texts: &[&str]) {
    let id = e.id();
    let mut answer = e.ctr(&e.run_words(&["--detach", "--runc-binary", runtime], &id, &["true"]));
    for text in [&["OCI runtime create failed: "], texts].concat() {
        answer = answer.fails(text);
    }
    wait_for("the shim to go", || e.shims().is_empty());
    wait_for("the bundle to go", || !e.bundle(&id).exists());
}

fn a_missing_runtime_is_named(e: &Engine) {
    create_fails(
        e,
        "/nosuch",
        &[
            "unable to retrieve OCI runtime error (open ",
            "/log.json: no such file or directory): fork/exec /nosuch: no such file or directory",
        ],
    );
}

fn a_runtime_that_is_no_program_is_named(e: &Engine) {
    create_fails(e, "/etc/passwd", &["fork/exec /etc/passwd: permission denied"]);
}

fn the_last_error_of_the_log_is_told(e: &Engine) {
    let lines = r#"[ $verb != create ] || {
        echo '{"level":"warning","msg":"not this","time":"2026-01-01T00:00:00Z"}' >>$log
        echo '{"level":"error","msg":"nor this","time":"2026-01-01T00:00:00Z"}' >>$log
        echo '{"level":"error","msg":"but \"this\"","time":"2026-01-01T00:00:00Z"}' >>$log
        exit 1; }"#;
    create_fails(e, &wrapper(e, lines), &["OCI runtime create failed: but \"this\""]);
}

fn a_silent_failure_is_told_with_its_status(e: &Engine) {
    let runtime = wrapper(e, "[ $verb != create ] || { echo some words >&2; exit 3; }");
    create_fails(e, &runtime, &[&runtime, "did not terminate successfully: exit status 3"]);
}

fn a_killed_runtime_is_told(e: &Engine) {
    create_fails(
        e,
        &wrapper(e, "[ $verb != create ] || kill -9 $$"),
        &["did not terminate successfully: exit status 137"],
    );
}

const FLOOD: &str = "head -c 1000000 /dev/zero | tr '\\0' x >&2";

fn stderr_may_be_flooded_in_create(e: &Engine) {
    let runtime = wrapper(e, FLOOD);
    e.run(&["--runc-binary", &runtime], &["echo", "words"]).ok().says("words\n");
}

fn stderr_may_be_flooded_in_a_create_that_fails(e: &Engine) {
    let runtime = wrapper(e, &format!("[ $verb != create ] || {{ {FLOOD}; exit 1; }}"));
    let answer = e.run(&["--runc-binary", &runtime], &["true"]);
    assert!(answer.stderr.contains("did not terminate successfully: exit status 1"), "{answer:?}");
}

fn stderr_may_be_flooded_in_later_verbs(e: &Engine) {
    let runtime = wrapper(e, &format!("case $verb in create|exec) ;; *) {FLOOD};; esac"));
    let task = e.start(&["--runc-binary", &runtime], &["sleep", "1000"]);
    task.exec(&[], &["true"]).ok();
    task.call("pause").ok();
    task.call("resume").ok();
    task.remove();
    let runtime = wrapper(e, &format!("[ $verb != start ] || {{ {FLOOD}; exit 1; }}"));
    let id = e.id();
    e.ctr(&e.run_words(&["--detach", "--runc-binary", &runtime], &id, &["true"]))
        .fails("OCI runtime start failed");
}

/// A runtime that hangs in one verb, as long as a file is there; and tells its pid.
struct Hang {
    runtime: String,
    file: PathBuf,
    pid: PathBuf,
}

impl Hang {
    fn new(e: &Engine, verb: &str) -> Self {
        let (file, pid) = (e.dir.join("hang"), e.dir.join("hangs"));
        let lines = format!(
            "if [ $verb = {verb} ] && [ -e {0} ]; then echo $$ >{1}; while [ -e $0 ]; do sleep 0.1; done; fi",
            file.display(),
            pid.display()
        );
        Self { runtime: wrapper(e, &lines), file, pid }
    }

    /// From now on it hangs.
    fn arm(&self) {
        fs::write(&self.file, "").unwrap();
    }

    /// Waits until it does; then the next one does not.
    #[track_caller]
    fn wait(&self) -> i32 {
        wait_for("the runtime to hang", || fs::read_to_string(&self.pid).is_ok_and(|t| t.ends_with('\n')));
        fs::remove_file(&self.file).unwrap();
        fs::read_to_string(&self.pid).unwrap().trim().parse().unwrap()
    }
}

/// Two containers of a pod, with this runtime.
fn pod<'a>(e: &'a Engine, hang: &Hang) -> [pintle_engines::Task<'a>; 2] {
    let annotation = format!("io.kubernetes.cri.sandbox-id={}-pod", e.namespace);
    [0, 1]
        .map(|_| e.start(&["--runc-binary", &hang.runtime, "--annotation", &annotation], &["sleep", "1000"]))
}

fn a_runtime_that_hangs_in_create_hangs_alone(e: &Engine) {
    let hang = Hang::new(e, "create");
    let [one, other] = pod(e, &hang);
    hang.arm();
    let annotation = format!("io.kubernetes.cri.sandbox-id={}-pod", e.namespace);
    let id = e.id();
    let flags = ["--detach", "--runc-binary", &hang.runtime, "--annotation", &annotation];
    let call: Call = e.begin(&e.run_words(&flags, &id, &["true"]));
    let pid = hang.wait();
    one.exec(&[], &["true"]).ok();
    assert_eq!(one.processes(), 1);
    one.remove();
    left::kill(pid);
    call.end().fails("did not terminate successfully");
    other.remove();
}

/// Nobody would ever start or remove what comes of it.
fn a_create_ends_with_its_daemon(e: &Engine) {
    let hang = Hang::new(e, "create");
    hang.arm();
    let id = e.id();
    let call = e.begin(&e.run_words(&["--detach", "--runc-binary", &hang.runtime], &id, &["sleep", "1000"]));
    let pid = hang.wait();
    e.note_sockets();
    e.daemon.kill();
    drop(call);
    wait_for("the runtime to end", || !pintle_tests::alive(pid));
    e.daemon.again();
    assert_eq!(e.task(&id).status(), "");
    e.ctr(&["containers", "rm", &id]).ok();
    wait_for("the shim to go", || e.shims().is_empty());
    wait_for("the bundle to go", || !e.bundle(&id).exists());
}

fn a_runtime_that_hangs_in_exec_hangs_alone(e: &Engine) {
    let hang = Hang::new(e, "exec");
    let [one, other] = pod(e, &hang);
    hang.arm();
    let call = e.begin(&one.exec_words("x", &[], &["true"]));
    let pid = hang.wait();
    one.exec(&[], &["true"]).ok();
    assert_eq!(one.status(), "RUNNING");
    other.remove();
    one.kill("KILL").ok();
    left::kill(pid);
    assert_ne!(call.end().code, 0);
    one.end().exits(137);
}

fn a_runtime_that_hangs_in_kill_hangs_alone(e: &Engine) {
    let hang = Hang::new(e, "kill");
    let [one, other] = pod(e, &hang);
    hang.arm();
    let call = e.begin(&["tasks", "kill", "--signal", "USR1", &one.id]);
    let pid = hang.wait();
    other.exec(&[], &["true"]).ok();
    other.remove();
    left::kill(pid);
    assert_ne!(call.end().code, 0);
    one.remove();
}

fn a_runtime_that_hangs_in_delete_hangs_alone(e: &Engine) {
    let hang = Hang::new(e, "delete");
    let [one, other] = pod(e, &hang);
    one.kill("KILL").ok();
    one.wait_until("STOPPED");
    hang.arm();
    let call = e.begin(&["tasks", "rm", &one.id]);
    let pid = hang.wait();
    other.exec(&[], &["true"]).ok();
    other.remove();
    left::kill(pid);
    call.end();
}

/// A way to spoil a configuration, and what is said then, after the words that begin every such answer.
struct Bad {
    name: &'static str,
    pointer: &'static str,
    value: Value,
    says: &'static [&'static str],
}

fn bad(name: &'static str, pointer: &'static str, value: Value, says: &'static [&'static str]) -> Bad {
    Bad { name, pointer, value, says }
}

const BIRTH: &str = "unable to start container process: error during container init: ";

/// One text is the whole answer; several are parts of it, where runtimes have words of their own between.
fn bad_configurations() -> Vec<Bad> {
    let one = |value: Value| json!([value, {"type": "mount"}]);
    let bind = json!([{"destination": "/x", "source": "/nosuch", "options": ["bind"]}]);
    vec![
        bad(
            "no program",
            "/process/args",
            json!(["nosuch"]),
            &[
                "unable to start container process: error during container init: exec: \"nosuch\": executable file not found in $PATH",
            ],
        ),
        bad(
            "no file",
            "/process/args",
            json!(["/bin/nosuch"]),
            &[
                "unable to start container process: error during container init: exec: \"/bin/nosuch\": stat /bin/nosuch: no such file or directory",
            ],
        ),
        bad(
            "a folder",
            "/process/args",
            json!(["/proc"]),
            &[
                "unable to start container process: error during container init: exec: \"/proc\": is a directory",
            ],
        ),
        bad("no arguments", "/process/args", json!([]), &["args must not be empty"]),
        bad("no process", "/process", Value::Null, &["process property must not be empty"]),
        bad("relative cwd", "/process/cwd", json!("tmp"), &["Cwd must be an absolute path"]),
        bad("cwd is a file", "/process/cwd", json!("/bin/sh"), &[BIRTH, "/bin/sh", "not a directory"]),
        bad(
            "bad variable",
            "/process/env",
            json!(["=x"]),
            &["invalid environment variable: name cannot be empty", ""],
        ),
        bad(
            "bad limit",
            "/process/rlimits",
            json!([{"type": "RLIMIT_FOO", "hard": 1, "soft": 1}]),
            &["wrong rlimit value: RLIMIT_FOO"],
        ),
        bad("bad score", "/process/oomScoreAdj", json!(5000), &["nvalid argument", ""]),
        bad("no root", "/root", Value::Null, &["root must be specified"]),
        bad(
            "missing root",
            "/root/path",
            json!("nosuch"),
            &["invalid rootfs: stat BUNDLE/nosuch: no such file or directory"],
        ),
        bad(
            "bad file system",
            "/mounts",
            json!([{"destination": "/x", "type": "nosuch", "source": "x"}]),
            &[BIRTH, "error mounting \"x\" to rootfs at \"/x\": ", "no such device"],
        ),
        bad("missing source", "/mounts", bind, &[BIRTH, "open /nosuch: no such file or directory"]),
        bad(
            "missing namespace",
            "/linux/namespaces",
            one(json!({"type": "network", "path": "/nosuch"})),
            &["namespace path: ", "/nosuch: no such file or directory"],
        ),
        bad("unknown namespace", "/linux/namespaces", one(json!({"type": "foo"})), &["namespace", "foo"]),
        bad(
            "unknown sysctl",
            "/linux/sysctl",
            json!({"net.nosuch": "1"}),
            &["sysctl \"net.nosuch\" not allowed in host network namespace"],
        ),
        bad(
            "bad profile",
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_FOO"}),
            &["string SCMP_ACT_FOO is not a valid action for seccomp", ""],
        ),
        bad(
            "failing hook",
            "/hooks",
            json!({"createRuntime": [{"path": "/bin/false"}]}),
            &[
                "unable to start container process: ",
                "error running createRuntime hook #0: exit status 1, stdout: , stderr:",
            ],
        ),
        bad(
            "missing hook",
            "/hooks",
            json!({"createRuntime": [{"path": "/nosuch"}]}),
            &["unable to start container process: ", "hook #0: fork/exec /nosuch: no such file or directory"],
        ),
        bad("wrong type", "/process/args", json!(7), &["process.args", ""]),
    ]
}

impl Bad {
    fn config(&self) -> Value {
        let mut config = config(&["true"]);
        let (parent, key) = self.pointer.rsplit_once('/').expect("a pointer");
        let parent = config.pointer_mut(parent).and_then(Value::as_object_mut).expect("an object");
        if self.value.is_null() {
            parent.remove(key);
        } else {
            parent.insert(key.to_owned(), self.value.clone());
        }
        config
    }

    /// Whether an answer is what is expected.
    fn is(&self, said: &str) -> bool {
        let Some(rest) = said.strip_prefix("OCI runtime create failed: runc create failed: ") else {
            return false;
        };
        match self.says {
            [whole] => rest == *whole,
            parts => parts.iter().all(|part| rest.contains(part)),
        }
    }
}

/// What the runtime itself logs when it is called on a bundle like this.
fn own_words(e: &Engine, config: &Value) -> String {
    let id = e.id();
    let bundle = make_bundle(e, &id, config);
    let (root, log) = (e.dir.join("state"), bundle.join("log.json"));
    let call = |words: &[&str]| {
        let mut command = Command::new(Which::under_test().runtime());
        command.arg("--root").arg(&root).arg("--log").arg(&log).args(["--log-format", "json"]).args(words);
        pintle_engines::call::finish(command, &e.dir)
    };
    call(&["create", "--bundle", &bundle.display().to_string(), &id]);
    let text = fs::read_to_string(&log).unwrap_or_default();
    let mut records = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let error = records.rfind(|r| r["level"] == "error").unwrap_or_default();
    call(&["delete", "--force", &id]);
    error["msg"].as_str().unwrap_or_default().replace(&bundle.display().to_string(), "BUNDLE")
}

/// Without what differs from call to call: numbers of processes and descriptors.
fn without_numbers(text: &str) -> String {
    text.trim().chars().filter(|c| !c.is_ascii_digit()).collect()
}

fn bad_configurations_are_refused_in_the_same_words(e: &Engine) {
    let mut wrong = Vec::new();
    for bad in bad_configurations() {
        let config = bad.config();
        let alone = Alone::start(e, &config);
        let mut shim = alone.connect();
        let said = match shim.create(&alone.id, &alone.bundle, &Stdio::default(), None) {
            Ok(_) => "nothing: it is created".to_owned(),
            Err(status) => status.message.replace(&alone.bundle.display().to_string(), "BUNDLE"),
        };
        alone.end();
        if !bad.is(&said) {
            wrong.push(format!("{}: {said:?}, not {:?}", bad.name, bad.says));
        }
        let own = format!("OCI runtime create failed: {}", own_words(e, &config));
        if without_numbers(&said) != without_numbers(&own) {
            wrong.push(format!("{}: {said:?}, not the runtime's {own:?}", bad.name));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn a_bad_exec_is_refused_in_the_same_words(e: &Engine) {
    let alone = Alone::start(e, &config(&["sleep", "1000"]));
    let mut shim = alone.connect();
    shim.create(&alone.id, &alone.bundle, &Stdio::default(), None).expect("a container");
    let early = {
        shim.exec(&alone.id, "e", &["true"], &Stdio::default()).expect("an exec");
        shim.ask("Start", &alone.id, "e")
    };
    assert!(early.is_ok(), "an exec may come before the start: {early:?}");
    shim.ask("Start", &alone.id, "").expect("a start");
    let head = "OCI runtime exec failed: exec failed: unable to start container process: exec: ";
    for (n, (program, says)) in [
        ("nosuch", "\"nosuch\": executable file not found in $PATH"),
        ("/nosuch", "\"/nosuch\": stat /nosuch: no such file or directory"),
        ("/proc", "\"/proc\": is a directory"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("x{n}");
        shim.exec(&alone.id, &name, &[program], &Stdio::default()).expect("an exec");
        let status = shim.ask("Start", &alone.id, &name).expect_err("there is no such program");
        assert_eq!(status.message, format!("{head}{says}"));
        // What failed counts as ended, and can be deleted.
        shim.ask("Delete", &alone.id, &name).expect("a deletion");
    }
    alone.end();
}

fn after_a_failed_create_the_same_id_works(e: &Engine) {
    let id = e.id();
    e.ctr(&e.run_words(&["--rm"], &id, &["/nosuch"])).fails("no such file or directory");
    wait_for("the bundle to go", || !e.bundle(&id).exists());
    e.ctr(&["containers", "rm", &id]);
    e.ctr(&e.run_words(&["--rm"], &id, &["true"])).ok();
}
