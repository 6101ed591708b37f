//! Runtimes that are not there, fail, hang or flood, and configurations that are refused: the words that engines look for,
//! and nothing left.

use pintle_engines::alone::{Alone, config};
use pintle_engines::place::Shim as Which;
use pintle_engines::task::Stdio;
use pintle_engines::{Call, Check, Engine, check, left, wait_for};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

pub const CHECKS: &[Check] = &[
    check!(a_missing_runtime_is_named),
    check!(a_runtime_that_is_no_program_is_named),
    check!(the_last_error_of_the_log_is_told),
    check!(a_silent_failure_is_told_with_its_status_and_stderr),
    check!(a_killed_runtime_is_told),
    check!(stderr_may_be_flooded_on_success),
    check!(stderr_may_be_flooded_on_failure),
    check!(a_runtime_that_hangs_in_create_hangs_alone),
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
    create_fails(e, "/", &["fork/exec /: permission denied"]);
}

fn the_last_error_of_the_log_is_told(e: &Engine) {
    let lines = r#"[ $verb != create ] || {
        echo '{"level":"warning","msg":"not this","time":"2026-01-01T00:00:00Z"}' >>$log
        echo '{"level":"error","msg":"nor this","time":"2026-01-01T00:00:00Z"}' >>$log
        echo '{"level":"error","msg":"but \"this\"","time":"2026-01-01T00:00:00Z"}' >>$log
        exit 1; }"#;
    create_fails(e, &wrapper(e, lines), &["OCI runtime create failed: but \"this\""]);
}

fn a_silent_failure_is_told_with_its_status_and_stderr(e: &Engine) {
    let runtime = wrapper(e, "[ $verb != create ] || { echo some words >&2; exit 3; }");
    create_fails(e, &runtime, &["did not terminate successfully: exit status 3: some words"]);
}

fn a_killed_runtime_is_told(e: &Engine) {
    create_fails(e, &wrapper(e, "[ $verb != create ] || kill -9 $$"), &["signal: killed"]);
}

const FLOOD: &str = "head -c 1000000 /dev/zero | tr '\\0' x >&2";

fn stderr_may_be_flooded_on_success(e: &Engine) {
    let runtime = wrapper(e, FLOOD);
    let flags = ["--detach", "--runc-binary", &runtime];
    let id = e.id();
    e.ctr(&e.run_words(&flags, &id, &["sleep", "1000"])).ok();
    let task = e.task(&id);
    task.exec(&[], &["true"]).ok();
    task.remove();
}

fn stderr_may_be_flooded_on_failure(e: &Engine) {
    let runtime = wrapper(e, &format!("[ $verb != create ] || {{ {FLOOD}; exit 1; }}"));
    create_fails(e, &runtime, &["exit status 1"]);
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
            "if [ $verb = {verb} ] && [ -e {0} ]; then echo $$ >{1}; while :; do sleep 1; done; fi",
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
    call.end().fails("signal: killed");
    other.remove();
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

/// A way to spoil a configuration, and what the shim says then.
struct Bad {
    name: &'static str,
    pointer: &'static str,
    value: Value,
    says: &'static str,
}

fn bad(name: &'static str, pointer: &'static str, value: Value, says: &'static str) -> Bad {
    Bad { name, pointer, value, says }
}

fn bad_configurations() -> Vec<Bad> {
    vec![
        bad("no program", "/process/args", json!(["nosuch"]), "?"),
        bad("no file", "/process/args", json!(["/bin/nosuch"]), "?"),
        bad("a folder", "/process/args", json!(["/proc"]), "?"),
        bad("no arguments", "/process/args", json!([]), "?"),
        bad("no process", "/process", Value::Null, "?"),
        bad("relative cwd", "/process/cwd", json!("tmp"), "?"),
        bad("cwd is a file", "/process/cwd", json!("/bin/sh"), "?"),
        bad("bad variable", "/process/env", json!(["=x"]), "?"),
        bad("bad limit", "/process/rlimits", json!([{"type": "RLIMIT_FOO", "hard": 1, "soft": 1}]), "?"),
        bad("bad score", "/process/oomScoreAdj", json!(5000), "?"),
        bad("no root", "/root", Value::Null, "?"),
        bad("missing root", "/root/path", json!("nosuch"), "?"),
        bad(
            "bad file system",
            "/mounts",
            json!([{"destination": "/x", "type": "nosuch", "source": "x"}]),
            "?",
        ),
        bad(
            "missing source",
            "/mounts",
            json!([{"destination": "/x", "source": "/nosuch", "options": ["bind"]}]),
            "?",
        ),
        bad(
            "missing namespace",
            "/linux/namespaces",
            json!([{"type": "network", "path": "/nosuch"}, {"type": "mount"}]),
            "?",
        ),
        bad("unknown namespace", "/linux/namespaces", json!([{"type": "foo"}, {"type": "mount"}]), "?"),
        bad("unknown sysctl", "/linux/sysctl", json!({"net.nosuch": "1"}), "?"),
        bad("bad profile", "/linux/seccomp", json!({"defaultAction": "SCMP_ACT_FOO"}), "?"),
        bad("failing hook", "/hooks", json!({"createRuntime": [{"path": "/bin/false"}]}), "?"),
        bad("missing hook", "/hooks", json!({"createRuntime": [{"path": "/nosuch"}]}), "?"),
        bad("wrong type", "/process/args", json!(7), "?"),
    ]
}

fn bad_configurations_are_refused_in_the_same_words(e: &Engine) {
    let mut wrong = Vec::new();
    for Bad { name, pointer, value, says } in bad_configurations() {
        let mut config = config(&["true"]);
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let parent = config.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        if value.is_null() {
            parent.remove(key)
        } else {
            parent.insert(key.to_owned(), value)
        };
        let alone = Alone::start(e, &config);
        let mut shim = alone.connect();
        let said = match shim.create(&alone.id, &alone.bundle, &Stdio::default(), None) {
            Ok(_) => "nothing: it is created".to_owned(),
            Err(status) => status.message.replace(&alone.bundle.display().to_string(), "BUNDLE"),
        };
        if said != says {
            wrong.push(format!("{name}: {said:?}, not {says:?}"));
        }
        alone.end();
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
