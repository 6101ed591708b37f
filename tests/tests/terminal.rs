//! Terminals: the engine's, by a console socket, and a person's, before a foreground `run` or `exec`.

use pintle_tests::*;

fn bundle(t: &Sandbox) -> Bundle {
    let mut b = t.bundle();
    b.args(&["/probe", "terminal"]).set("/process/terminal", json!(true));
    b
}

/// The probe's description of its terminal: the first line that appears.
fn described(pty: &Pty) -> Value {
    pty.wait_for("}");
    let text = pty.text();
    serde_json::from_str(text.lines().next().unwrap()).unwrap_or_else(|e| panic!("{e}: {text:?}"))
}

#[test]
fn the_master_comes_through_the_console_socket() {
    behaviour(|| {
        let t = Sandbox::new();
        let b = bundle(&t);
        let socket = ConsoleSocket::new(&t.dir);
        let c = t.make(&b, &["create", "--console-socket", &socket.path.to_string_lossy()]);
        let (name, pty) = socket.master();
        assert!(name.starts_with("/dev/pts/"), "{name:?}");
        c.start().ok();
        let tty = described(&pty);
        assert_eq!(tty["tty"], json!([true, true, true]));
        assert_eq!(tty["controlling"], json!(true));
        pty.write("hello\n");
        pty.wait_for("line hello");
        pty.write("quit\n");
        c.wait_until("stopped");
    });
}

#[test]
fn the_console_is_the_terminal() {
    behaviour(|| {
        let t = Sandbox::new();
        let b = bundle(&t);
        let socket = ConsoleSocket::new(&t.dir);
        let _c = t.make(&b, &["run", "-d", "--console-socket", &socket.path.to_string_lossy()]);
        let (_, pty) = socket.master();
        let tty = described(&pty);
        assert_eq!((&tty["console_is_it"], &tty["name"]), (&json!(true), &json!("/dev/pts/0")));
    });
}

#[test]
fn the_size_is_as_configured_and_follows_the_master() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = bundle(&t);
        b.set("/process/consoleSize", json!({"height": 11, "width": 22}));
        let socket = ConsoleSocket::new(&t.dir);
        let _c = t.make(&b, &["run", "-d", "--console-socket", &socket.path.to_string_lossy()]);
        let (_, pty) = socket.master();
        assert_eq!(described(&pty)["size"], "11x22");
        pty.resize(33, 44);
        pty.wait_for("resized 33x44");
    });
}

#[test]
fn the_terminal_belongs_to_the_user() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = bundle(&t);
        b.set("/process/user", json!({"uid": 7, "gid": 8}));
        let socket = ConsoleSocket::new(&t.dir);
        let _c = t.make(&b, &["run", "-d", "--console-socket", &socket.path.to_string_lossy()]);
        let (_, pty) = socket.master();
        assert_eq!(described(&pty)["owner"], json!([7, 5]));
    });
}

#[test]
fn a_foreground_run_joins_the_persons_terminal_to_the_containers() {
    behaviour(|| {
        let t = Sandbox::new();
        let b = bundle(&t);
        b.write();
        let (pty, slave) = Pty::open(20, 70);
        let [stdin, stdout, stderr] = Pty::streams(&slave);
        let mut command = t.command();
        command.arg("run").arg("-b").arg(&b.dir).arg(t.id()).stdin(stdin).stdout(stdout).stderr(stderr);
        let mut child = command.spawn().unwrap();
        let tty = described(&pty);
        assert_eq!((&tty["tty"], &tty["size"]), (&json!([true, true, true]), &json!("20x70")));
        pty.write("typed\r");
        pty.wait_for("line typed");
        pty.resize(21, 71);
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(child.id() as i32),
            nix::sys::signal::Signal::SIGWINCH,
        )
        .unwrap();
        pty.wait_for("resized 21x71");
        pty.write("quit\r");
        assert!(child.wait().unwrap().success());
    });
}

#[test]
fn a_foreground_run_gives_the_persons_terminal_back_as_it_was() {
    behaviour(|| {
        let t = Sandbox::new();
        let b = bundle(&t);
        b.write();
        let (pty, slave) = Pty::open(20, 70);
        let before = format!("{:?}", rustix::termios::tcgetattr(&slave).unwrap());
        let [stdin, stdout, stderr] = Pty::streams(&slave);
        let mut command = t.command();
        command.arg("run").arg("-b").arg(&b.dir).arg(t.id()).stdin(stdin).stdout(stdout).stderr(stderr);
        let mut child = command.spawn().unwrap();
        described(&pty);
        assert_ne!(before, format!("{:?}", rustix::termios::tcgetattr(&slave).unwrap()), "raw meanwhile");
        pty.write("quit\r");
        child.wait().unwrap();
        assert_eq!(before, format!("{:?}", rustix::termios::tcgetattr(&slave).unwrap()));
    });
}

#[test]
fn exec_can_have_a_terminal_too() {
    behaviour(|| {
        let t = Sandbox::new();
        let c = t.waiting();
        let socket = ConsoleSocket::new(&t.dir);
        c.exec_with(
            &["-t", "-d", "--console-socket", &socket.path.to_string_lossy()],
            &["/probe", "terminal"],
        )
        .ok();
        let (_, pty) = socket.master();
        let tty = described(&pty);
        assert_eq!((&tty["tty"], &tty["controlling"]), (&json!([true, true, true]), &json!(true)));
    });
}

#[test]
fn without_a_terminal_there_is_none() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let tty = t.report(b.args(&["/probe", "terminal"]));
        assert_eq!((&tty["tty"], &tty["controlling"]), (&json!([false, false, false]), &json!(false)));
    });
}

#[test]
fn the_name_that_comes_with_the_master_is_the_containers() {
    rows(["create", "run", "exec"].map(|v| (v, v)), |verb| {
        let t = Sandbox::new();
        let b = bundle(&t);
        let socket = ConsoleSocket::new(&t.dir);
        let path = socket.path.to_string_lossy().into_owned();
        if verb == "exec" {
            let c = t.waiting();
            c.exec_with(&["-t", "-d", "--console-socket", &path], &["/probe", "terminal"]).ok();
            let (name, pty) = socket.master();
            assert_eq!(json!(name), described(&pty)["name"]);
            return;
        }
        let flags = ["--console-socket", &path];
        let c = match verb {
            "create" => t.make(&b, &["create", flags[0], flags[1]]),
            _ => t.make(&b, &["run", "--detach", flags[0], flags[1]]),
        };
        if verb == "create" {
            c.start().ok();
        }
        let (name, pty) = socket.master();
        assert_eq!(json!(name), described(&pty)["name"]);
    });
}

/// `run` with a terminal of the container's own, shown on stdout, while only stdin is a terminal.
fn shown(t: &Sandbox, b: &Bundle) -> Output {
    b.write();
    let (_pty, slave) = Pty::open(24, 80);
    let mut command = t.command();
    command.arg("run").arg("-b").arg(&b.dir).arg(t.id()).stdin(slave);
    t.finish(command)
}

#[test]
fn newlines_in_the_foreground_are_those_of_the_program() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = bundle(&t);
        b.args(&["/probe", "print", "one\ntwo"]);
        // The program is quick: whoever changes its terminal only afterwards is often late.
        for _ in 0..10 {
            assert_eq!(shown(&t, &b).ok().stdout, "one\ntwo\n");
        }
    });
}

#[test]
fn what_keeps_the_program_from_running_is_told_on_its_terminal() {
    rows(
        [
            ("execve", ("exec /s: no such file or directory", None)),
            (
                "startContainer hook",
                (
                    "error running startContainer hook #0: exit status 3",
                    Some(json!({"path": "/probe", "args": ["probe", "exit", "3"]})),
                ),
            ),
        ],
        |(text, hook)| {
            let t = Sandbox::new();
            let mut b = bundle(&t);
            b.file("/s", "#!/nothing\n", 0o755).args(&["/s"]);
            if let Some(hook) = hook {
                b.push("/hooks/startContainer", hook);
            }
            let output = shown(&t, &b);
            assert!(output.code != 0 && output.stdout.contains(text), "{output:?}");
        },
    );
}

#[test]
fn what_keeps_an_exec_from_running_is_told_on_its_terminal() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.file("/s", "#!/nothing\n", 0o755).args(&["/probe", "wait"]);
        let c = t.start(&b);
        let (_pty, slave) = Pty::open(24, 80);
        let mut command = t.command();
        command.args(["exec", "-t", &c.id, "/s"]).stdin(slave);
        let output = t.finish(command);
        assert_eq!((output.code, output.stdout.trim()), (255, "exec /s: no such file or directory"));
    });
}

#[test]
fn a_read_only_dev_has_a_console() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = bundle(&t);
        let dev = b.config["mounts"].as_array().unwrap().iter().position(|m| m["destination"] == "/dev");
        b.push(&format!("/mounts/{}/options", dev.unwrap()), json!("ro"));
        b.args(&["/probe", "try", "write", "/dev/x", "text"]);
        let output = shown(&t, &b).ok().stdout;
        assert!(output.contains("EROFS"), "{output}");
    });
}
