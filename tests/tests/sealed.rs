//! What a container can do to the runtime: nothing. Its first process is besieged while it waits and while execs
//! enter, by attackers of all kinds of rights; what they are refused, and what the kernel lets them have, is
//! docs/birth.md, "What a container can see of the runtime". Beside `cve_2019_5736_…` in cve.rs.

use pintle_tests::*;
use std::ffi::OsStr;
use std::fs;
use std::process::Command;

/// How often something is begun before the eyes of an attacker, and how often at most until it has seen one.
const BIRTHS: usize = 30;
const AT_MOST: usize = 1000;

/// The rights to look into other processes; CAP_PERFMON shows where what is mapped.
const TRACING: [&str; 2] = ["CAP_SYS_PTRACE", "CAP_PERFMON"];

/// What of init an attacker can get at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum Sight {
    /// That there is a process.
    Nothing,
    /// And where what of it is mapped, by CAP_SYS_ADMIN or CAP_PERFMON on newer kernels; nothing of what stands
    /// there.
    Layout,
    /// The kernel lets it trace such processes: it has init's memory and descriptors, while they last.
    Process,
    /// And `/` as init sees it before the rootfs is entered: it shares a pid namespace with births.
    Root,
}

/// An attacker's rights, and what it sees with them of an exec that enters, of a container that waits, of a birth
/// beside it.
#[derive(Clone, Copy)]
struct Attacker {
    name: &'static str,
    rights: fn(&mut Bundle),
    entering: Sight,
    waiting: Sight,
    beside: Sight,
}

const ATTACKERS: [Attacker; 4] = [
    Attacker {
        name: "ordinary rights",
        rights: ordinary,
        entering: Sight::Nothing,
        waiting: Sight::Nothing,
        beside: Sight::Nothing,
    },
    Attacker {
        name: "all rights but tracing",
        rights: all_but_tracing,
        entering: Sight::Layout,
        waiting: Sight::Layout,
        beside: Sight::Layout,
    },
    Attacker {
        name: "all rights",
        rights: all,
        entering: Sight::Process,
        waiting: Sight::Process,
        beside: Sight::Root,
    },
    Attacker {
        name: "all rights in a user namespace",
        rights: all_in_user_namespace,
        entering: Sight::Nothing,
        waiting: Sight::Process,
        beside: Sight::Nothing,
    },
];

fn ordinary(b: &mut Bundle) {
    b.set("/process/noNewPrivileges", json!(false));
}

fn all_but_tracing(b: &mut Bundle) {
    grant(b, |right| !TRACING.contains(&right));
}

fn all(b: &mut Bundle) {
    grant(b, |_| true);
}

/// Of all that there are, those.
fn grant(b: &mut Bundle, which: fn(&str) -> bool) {
    let features = Command::new(Runtime::under_test().binary()).arg("features").output().unwrap().stdout;
    let features: Value = serde_json::from_slice(&features).unwrap();
    let all = features["linux"]["capabilities"].as_array().unwrap().iter().filter_map(Value::as_str);
    let rights: Vec<&str> = all.filter(|right| which(right)).collect();
    for set in ["bounding", "effective", "permitted"] {
        b.set(&format!("/process/capabilities/{set}"), json!(rights));
    }
    ordinary(b);
}

fn all_in_user_namespace(b: &mut Bundle) {
    all(b);
    b.user_namespace();
}

/// Programs that lead back to init's image, and one that does not.
const PROGRAMS: [&[&str]; 4] =
    [&["/probe", "exit", "0"], &["/proc/self/exe", "x"], &["/proc/self/exe", "3"], &["/script", "x"]];

/// A container's bundle with a script that leads back to the image.
fn bundle(t: &Sandbox, args: &[&str], rights: fn(&mut Bundle)) -> Bundle {
    let mut b = t.bundle();
    b.file("/script", "#!/proc/self/exe\n", 0o755).args(args);
    rights(&mut b);
    b
}

/// A call of the runtime that has a secret in its environment and another in a descriptor that it was not asked to
/// hand on.
fn with_secrets<S: AsRef<OsStr>>(t: &Sandbox, arguments: impl IntoIterator<Item = S>) -> Output {
    let runtime = t.command();
    let secret = t.dir.join("host-secret-file");
    fs::write(&secret, "host-secret").unwrap();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "exec 9<\"$0\"; exec \"$@\""]).arg(secret).env("SECRET", "host-secret");
    command.arg(runtime.get_program()).args(runtime.get_args()).args(arguments);
    command.stdin(std::process::Stdio::null());
    t.finish(command)
}

/// Begins something before the eyes of a container whose program is a siege, again and again, until that saw enough.
fn births(c: &Container<'_>, begin: impl FnMut(usize)) {
    let saw = || c.stdout().contains("saw init");
    (0..AT_MOST).take_while(|n| *n < BIRTHS || !saw()).for_each(begin);
}

/// Executes one program after the other.
fn exec(t: &Sandbox, c: &Container<'_>, n: usize) {
    with_secrets(t, [&["exec", &c.id], PROGRAMS[n % PROGRAMS.len()]].concat());
}

/// Ends a siege that is a container's program; what it tells.
#[track_caller]
fn lift(c: &Container<'_>) -> Value {
    // Which may be killed with the container, whose first process ends at the sight of the file.
    c.exec(&["/probe", "try", "write", "/dev/shm/stop", "x"]);
    let last = || c.stdout().lines().last().unwrap_or("").to_owned();
    wait_for("the end of the siege", || last().starts_with('{') && last().ends_with('}'));
    serde_json::from_str(&last()).unwrap()
}

/// Demands that nothing was gained, and no more seen than that.
#[track_caller]
fn in_vain(told: &Value, sight: Sight) {
    println!("   {sight:?}: {told}");
    for of in ["init", "program"] {
        assert_eq!(told[of]["gained"], json!([]), "{told}");
    }
    let init = &told["init"];
    assert_ne!(init["seen"], 0, "the siege never saw init: {told}");
    let tried = init["tried"].as_object().unwrap();
    let sum = |which: usize| tried.values().map(|counts| counts[which].as_u64().unwrap()).sum::<u64>();
    assert_ne!(sum(0), 0, "nothing was refused: {told}");
    let layout = ["a file in /proc", "map_files", "environ"];
    for (what, counts) in tried {
        let may = sight > Sight::Layout || sight == Sight::Layout && layout.contains(&what.as_str());
        assert!(may || counts[1] == 0, "{what} was not refused: {told}");
    }
    // Sockets to the runtime and to its caller, pidfds, a time namespace, its order, and what it waits with.
    let harmless = [
        "socket",
        "anon_inode",
        "time",
        "pipe",
        "/memfd:pintle-order (deleted)",
        "/memfd:pintle-state (deleted)",
    ];
    for link in init["links"].as_array().unwrap().iter().filter_map(Value::as_str) {
        let of_waiting = link == "/" || link == "/proc" || link.ends_with("/exec.fifo");
        let allowed = harmless.contains(&link) || of_waiting || sight == Sight::Root;
        assert!(allowed, "init holds {link}: {told}");
    }
    // The runtime itself was never there, nor whatever else it starts.
    for name in told["names"].as_array().unwrap().iter().filter_map(Value::as_str) {
        let known = ["probe", "pintle:init", "exe", "script", "3", "x", ""].contains(&name)
            || name.starts_with("memfd:pintle");
        assert!(known, "{name:?} was in sight: {told}");
    }
}

/// The binary under test, which is the same after `body`.
#[track_caller]
fn unchanged(body: impl FnOnce()) {
    let binary = Runtime::under_test().binary();
    let before = fs::read(&binary).unwrap();
    body();
    assert!(fs::read(&binary).unwrap() == before, "the binary has changed");
}

/// What stands here is about an init that is executed from a sealed memfd.
fn needs_pintle() {
    if Runtime::under_test() != Runtime::Pintle {
        skip("it is pintle's init that is besieged");
    }
}

fn attackers() -> impl Iterator<Item = (&'static str, Attacker)> {
    ATTACKERS.into_iter().map(|attacker| (attacker.name, attacker))
}

#[test]
fn an_exec_is_besieged_in_vain() {
    rows(attackers(), |attacker| {
        needs_pintle();
        let t = Sandbox::new();
        let c = t.start(&bundle(&t, &["/probe", "besiege"], attacker.rights));
        c.wait_for_output("ready");
        unchanged(|| {
            births(&c, |n| exec(&t, &c, n));
            in_vain(&lift(&c), attacker.entering);
        });
    });
}

#[test]
fn an_exec_is_besieged_in_vain_from_the_hosts_pid_namespace() {
    // Who may trace the machine's root there reaches the runtime itself, by nature; but not by init.
    type Row = (&'static str, fn(&mut Bundle), Sight);
    let cases: [Row; 3] = [
        ("ordinary rights", ordinary, Sight::Nothing),
        ("all rights but tracing", all_but_tracing, Sight::Layout),
        ("all rights", all, Sight::Root),
    ];
    rows(cases.map(|row| (row.0, row)), |(_, rights, sight)| {
        needs_pintle();
        let t = Sandbox::new();
        // Not those of other tests.
        let own = format!("{}-", t.dir.file_name().unwrap().to_string_lossy());
        let mut b = bundle(&t, &["/probe", "besiege", "-", &own], rights);
        let c = t.start(b.without_namespace("pid").without_namespace("cgroup"));
        c.wait_for_output("ready");
        unchanged(|| {
            births(&c, |n| exec(&t, &c, n));
            let mut told = lift(&c);
            // Of these there is more to be seen here, and whose they are is not told by a name.
            told["names"] = json!([]);
            in_vain(&told, sight);
        });
    });
}

#[test]
fn a_birth_beside_the_attacker_is_besieged_in_vain() {
    // A user namespace has a pid namespace of its own, or none that it may mount a procfs of.
    rows(attackers().take(3), |attacker| {
        needs_pintle();
        let t = Sandbox::new();
        let c = t.start(&bundle(&t, &["/probe", "besiege"], attacker.rights));
        c.wait_for_output("ready");
        unchanged(|| {
            births(&c, |n| {
                let mut b = bundle(&t, PROGRAMS[n % PROGRAMS.len()], attacker.rights);
                b.join_namespace("pid", &format!("/proc/{}/ns/pid", c.pid())).write();
                let (id, dir) = (t.id(), b.dir.to_string_lossy().into_owned());
                if n % 2 == 0 {
                    with_secrets(&t, ["run", "--bundle", &dir, &id]);
                } else {
                    with_secrets(&t, ["create", "--bundle", &dir, &id]).ok();
                    t.call(["start", &id]);
                    t.call(["delete", "--force", &id]);
                }
            });
            in_vain(&lift(&c), attacker.beside);
        });
    });
}

#[test]
fn a_container_that_waits_for_its_start_is_besieged_in_vain() {
    rows(attackers(), |attacker| {
        needs_pintle();
        let t = Sandbox::new();
        let b = bundle(&t, &["/probe", "print", "alive"], attacker.rights);
        b.write();
        let c = t.create(&b);
        let exe = format!("/proc/{}/exe", c.pid());
        let before = fs::read(&exe).unwrap();
        unchanged(|| {
            let siege = with_secrets(&t, ["exec", &c.id, "/probe", "besiege", "100"]).ok();
            in_vain(&serde_json::from_str(siege.stdout.lines().last().unwrap()).unwrap(), attacker.waiting);
        });
        assert!(fs::read(&exe).unwrap() == before, "the image has changed");
        // F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE; and F_SEAL_EXEC where the kernel has it, which
        // brings F_SEAL_FUTURE_WRITE.
        let seals = rustix::fs::fcntl_get_seals(fs::File::open(&exe).unwrap()).unwrap().bits();
        assert!([0x0f, 0x3f].contains(&seals), "{seals:#x}");
        c.start().ok();
        c.wait_for_output("alive");
    });
}

#[test]
fn a_handle_that_was_kept_of_the_image_is_good_for_nothing() {
    rows(attackers(), |attacker| {
        needs_pintle();
        let t = Sandbox::new();
        let c = t.create(&bundle(&t, &["/probe", "wait"], attacker.rights));
        let output = t.dir.join("held");
        let mut hold = t.command();
        hold.args(["exec", &c.id, "/probe", "hold", "/proc/1/exe"])
            .stdout(fs::File::create(&output).unwrap());
        let mut hold = hold.spawn().unwrap();
        let said = || fs::read_to_string(&output).unwrap_or_default();
        wait_for("the attacker", || said().contains('\n'));
        c.start().ok();
        assert!(hold.wait().unwrap().success());
        let told: Value = serde_json::from_str(said().lines().last().unwrap()).unwrap();
        println!("   {told}");
        if attacker.waiting < Sight::Process {
            return assert_eq!(told, json!({"refused": true}));
        }
        assert_eq!(told["gained"], json!([]), "{told}");
        // It had the file, open for writing, and a mapping; that it was refused the rest says something.
        for (what, least) in [("open for both", 1), ("map privately", 1)] {
            assert_eq!(told["tried"][what][1], least, "{told}");
        }
        for what in [
            "pwrite",
            "write at the end",
            "ftruncate",
            "fallocate",
            "punch a hole",
            "map to write",
            "add a seal",
        ] {
            assert_ne!(told["tried"][what][0], 0, "{told}");
        }
    });
}

#[test]
fn the_program_has_nothing_of_the_runtimes() {
    rows(["run", "create", "exec"].map(|verb| (verb, verb)), |verb| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        if verb == "exec" {
            b.args(&["/probe", "wait"]);
        }
        b.write();
        let (id, dir) = (t.id(), b.dir.to_string_lossy().into_owned());
        let report = match verb {
            "run" => with_secrets(&t, ["run", "--bundle", &dir, &id]).ok().json(),
            "exec" => {
                with_secrets(&t, ["run", "--detach", "--bundle", &dir, &id]).ok();
                with_secrets(&t, ["exec", &id, "/probe", "report"]).ok().json()
            }
            _ => {
                let output = t.dir.join("report");
                let mut create = t.command();
                create.args(["create", "--bundle", &dir, &id]).env("SECRET", "host-secret");
                create.stdout(fs::File::create(&output).unwrap());
                assert!(create.status().unwrap().success());
                with_secrets(&t, ["start", &id]).ok();
                let said = || fs::read_to_string(&output).unwrap_or_default();
                wait_for("the report", || said().ends_with('\n'));
                serde_json::from_str(&said()).unwrap()
            }
        };
        assert!(!report.to_string().contains("host-secret"), "{report}");
        let numbers: Vec<&String> = report["fds"].as_object().unwrap().keys().collect();
        assert_eq!(numbers, ["0", "1", "2"], "{report}");
    });
}
