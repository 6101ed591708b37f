//! Nothing is left behind: the whole machine is compared before and after many lives, many deaths in the middle, and
//! many broken configurations. These tests run one by one, in a private view that `run.sh` makes.

use fastrand::Rng;
use pintle_tests::*;
use std::fs;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Even where libtest would run them side by side.
static ALONE: Mutex<()> = Mutex::new(());

/// The body between two snapshots. Whom the runtime leaves falls to process 1, which buries the dead: a zombie that
/// entered a pid namespace from outside would keep that namespace's first process from ending.
#[track_caller]
fn leaves_nothing(births: usize, body: impl FnOnce()) {
    let _alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    behaviour(|| {
        let before = Snapshot::take();
        body();
        before.compare(births);
    });
}

#[test]
fn one_life_leaves_nothing() {
    leaves_nothing(1, || {
        let t = Sandbox::new();
        t.run(&t.bundle()).ok();
    });
}

#[test]
fn two_hundred_lives_eight_at_a_time_leave_nothing() {
    leaves_nothing(200, || {
        std::thread::scope(|s| {
            for _ in 0..8 {
                s.spawn(|| {
                    let t = Sandbox::new();
                    let mut b = t.bundle();
                    b.args(&["/probe", "wait"]);
                    for _ in 0..25 {
                        let c = t.create(&b);
                        c.start().ok();
                        c.kill("KILL").ok();
                        c.wait_until("stopped");
                        c.call("delete").ok();
                    }
                    assert_eq!(t.entries(), 0);
                });
            }
        });
    });
}

#[test]
fn sixty_four_creates_at_once_leave_nothing() {
    leaves_nothing(64, || {
        let t = Sandbox::new();
        let b = t.bundle();
        b.write();
        let ids: Vec<String> = (0..64).map(|_| t.id()).collect();
        let create = |id: &String| {
            let mut command = t.command();
            command.arg("create").arg("-b").arg(&b.dir).arg(id).stdout(Stdio::null()).stderr(Stdio::null());
            command.spawn().unwrap()
        };
        let children: Vec<_> = ids.iter().map(create).collect();
        for mut child in children {
            assert!(
                child.wait().unwrap().success(),
                "{}",
                fs::read_to_string(t.dir.join("log")).unwrap_or_default()
            );
        }
        assert_eq!(t.call(["list", "-q"]).ok().stdout.lines().count(), 64);
        for id in &ids {
            t.call(["delete", "--force", id]).ok();
        }
    });
}

#[test]
fn a_create_that_fails_at_any_step_leaves_nothing() {
    type Edit = fn(&mut Bundle) -> &mut Bundle;
    let edits: [Edit; 9] = [
        |b| b.args(&["nothing"]),
        |b| b.mount("/data", "foofs", "x", &[]),
        |b| b.mount("/data", "bind", "/nothing", &["bind"]),
        |b| b.hook("createRuntime", "exit 1"),
        |b| b.hook("createContainer", "exit 1"),
        |b| b.set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 9, "hard": 1}])),
        |b| b.set("/linux/sysctl", json!({"net.nothing": "1"})),
        |b| b.set("/process/cwd", json!("/probe")),
        |b| b.join_namespace("network", "/proc/self/ns/uts"),
    ];
    leaves_nothing(45, || {
        let t = Sandbox::new();
        for edit in edits.iter().cycle().take(45) {
            let mut b = t.bundle();
            edit(&mut b);
            t.try_create(&b).fails(1, "");
            assert_eq!(t.entries(), 0);
        }
    });
}

/// The runtime dies by SIGKILL at a random moment of this verb, 25 times; `delete --force` clears what it left.
#[track_caller]
fn killed_in_the_middle(verb: &str) {
    leaves_nothing(25, || {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.args(&["/probe", "wait"]);
        b.write();
        let mut dice = Rng::with_seed(verb.len() as u64);
        let mut usual = Duration::from_millis(40);
        for round in 0..26 {
            let id = match verb {
                "create" => t.id(),
                "start" => t.create(&b).id,
                _ => t.start(&b).id,
            };
            let mut command = t.command();
            match verb {
                "create" => command.arg("create").arg("-b").arg(&b.dir).arg(&id),
                "exec" => command.args(["exec", &id, "/probe", "exit", "0"]),
                "delete" => command.args(["delete", "--force", &id]),
                other => command.args([other, &id]),
            };
            command.stdout(Stdio::null()).stderr(Stdio::null());
            let begin = Instant::now();
            let mut child = command.spawn().unwrap();
            if round == 0 {
                // Undisturbed: how long it takes.
                child.wait().unwrap();
                usual = begin.elapsed();
            } else {
                std::thread::sleep(usual.mul_f64(dice.f64()));
                let _ = child.kill();
                child.wait().unwrap();
            }
            t.call(["delete", "--force", &id]).ok();
            assert_eq!(t.entries(), 0, "round {round}");
        }
    });
}

#[test]
fn create_killed_at_random_moments_leaves_nothing() {
    killed_in_the_middle("create");
}

#[test]
fn start_killed_at_random_moments_leaves_nothing() {
    killed_in_the_middle("start");
}

#[test]
fn exec_killed_at_random_moments_leaves_nothing() {
    killed_in_the_middle("exec");
}

#[test]
fn delete_killed_at_random_moments_leaves_nothing() {
    killed_in_the_middle("delete");
}

#[test]
fn five_hundred_mutated_configurations_neither_hang_nor_panic_nor_leave_anything() {
    leaves_nothing(500, || {
        let first: u64 = std::env::var("PINTLE_TESTS_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
        println!("seeds {first} to {}", first + 499);
        let t = Sandbox::new();
        let (mut parsed, mut cloned) = (0, 0);
        for seed in first..first + 500 {
            let mut b = t.bundle();
            let mark = b.beside("cloned");
            b.hook("createRuntime", &format!(": > {}", mark.display()));
            mutate(&mut b.config, &mut Rng::with_seed(seed));
            let output = t.run(&b);
            assert!(
                !output.stderr.contains("panicked") && !output.stderr.contains("goroutine"),
                "seed {seed}: {output:?}"
            );
            assert_eq!(t.entries(), 0, "seed {seed}: an entry stays");
            let error = output.error();
            parsed += usize::from(!error.contains("config.json: ") && !error.contains("json: "));
            cloned += usize::from(mark.exists());
            fs::remove_dir_all(&b.dir).expect("nothing is mounted in the bundle any more");
        }
        println!("{parsed} parsed, {cloned} reached the clone");
        assert!(parsed >= 250 && cloned >= 100, "{parsed} parsed, {cloned} reached the clone");
    });
}

/// Changes one to three values anywhere. The rootfs and a mount namespace of its own stay, for the host's sake.
fn mutate(config: &mut Value, dice: &mut Rng) {
    let namespaces = config["linux"]["namespaces"].clone();
    for _ in 0..=dice.u8(..3) {
        let mut pointers = Vec::new();
        gather(config, String::new(), &mut pointers);
        let pointer = &pointers[dice.usize(..pointers.len())];
        change(config, pointer, dice);
    }
    config["root"] = json!({"path": "rootfs", "readonly": dice.bool()});
    let own = |n: &Value| n["type"] == "mount" && n.get("path").is_none();
    if !config["linux"]["namespaces"].as_array().is_some_and(|list| list.iter().any(own)) {
        if !config["linux"].is_object() {
            config["linux"] = json!({});
        }
        config["linux"]["namespaces"] = namespaces;
    }
}

fn gather(value: &Value, at: String, all: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            map.iter().for_each(|(k, v)| gather(v, format!("{at}/{}", k.replace('/', "~1")), all))
        }
        Value::Array(list) => list.iter().enumerate().for_each(|(i, v)| gather(v, format!("{at}/{i}"), all)),
        _ => {}
    }
    if !at.is_empty() {
        all.push(at);
    }
}

fn change(config: &mut Value, pointer: &str, dice: &mut Rng) {
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    match (dice.u8(..10), config.pointer_mut(parent)) {
        (0..=2, Some(Value::Object(map))) => {
            map.remove(key);
        }
        (0..=1, Some(Value::Array(list))) => {
            list.remove(key.parse().expect("an index"));
        }
        (2..=3, Some(Value::Array(list))) => {
            let again = list[key.parse::<usize>().expect("an index")].clone();
            list.push(again);
        }
        _ => {
            let Some(value) = config.pointer_mut(pointer) else { return };
            *value = match value {
                Value::String(text) => word(text, dice),
                Value::Number(_) => {
                    let numbers = [0i64, 1, -1, 7, 255, 65_536, i64::from(u32::MAX), i64::MAX, i64::MIN];
                    json!(dice.choice(numbers))
                }
                Value::Bool(truth) => json!(!*truth),
                _ => dice.choice([json!(null), json!([]), json!({}), json!("text"), json!(3)]).expect("some"),
            };
        }
    }
}

/// Mostly still a text: of another kind, cut, doubled, endless, or with strange signs.
fn word(text: &str, dice: &mut Rng) -> Value {
    let cut = text.chars().take(dice.usize(..=text.chars().count())).collect::<String>();
    match dice.u8(..12) {
        0 => json!(""),
        1 => json!(cut),
        2 => json!(format!("{text}{text}")),
        3 => json!(text.repeat(5_000)),
        4 => json!(format!("{cut}\0{text}")),
        5 => json!(format!("../{text}")),
        6 => json!(format!("/{text}/..")),
        7 => json!(format!("{text}=%s\n")),
        8 => json!(text.to_uppercase()),
        9 => json!("/data"),
        10 => json!("ü\u{feff}\u{202e}"),
        _ => json!(dice.u16(..1_000)),
    }
}
