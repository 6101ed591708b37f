//! The socket and the command line of a shim: what no client should say, and what only a daemon does.

use fastrand::Rng;
use pintle_engines::alone::{Alone, config};
use pintle_engines::place::Shim as Which;
use pintle_engines::task::{Shim, Stdio, code, status};
use pintle_engines::wire::{Client, Fields, Message, write_frame};
use pintle_engines::{Check, Engine, check, full, happens, left, skip, wait_for};
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

pub const CHECKS: &[Check] = &[
    check!(random_bytes_never_end_the_shim),
    check!(random_messages_never_end_the_shim),
    check!(frames_of_impossible_lengths_never_end_the_shim),
    check!(unknown_methods_and_services_are_told),
    check!(both_versions_of_the_service_answer),
    check!(clients_come_and_go),
    check!(a_hundred_clients_at_once),
    check!(a_second_start_answers_the_same_address),
    check!(delete_cleans_up_after_a_dead_shim),
    check!(the_next_start_clears_away_after_one_that_was_killed_at_birth),
    check!(without_a_container_it_leaves_by_itself),
    check!(a_create_that_nobody_waits_for_is_undone),
    check!(delete_of_nothing_is_fine),
    check!(the_socket_is_for_root_only),
    check!(the_shims_badness_is_one_more),
    check!(cores_of_its_own_are_had_or_refused),
    check!(it_tells_its_version_and_what_it_can),
    check!(a_bootstrap_of_the_newest_kind_is_answered_in_kind),
    check!(a_full_log_holds_nothing_up),
    check!(a_log_without_reader_holds_nothing_up),
    check!(a_pause_while_execs_start_is_answered),
    check!(a_kill_while_execs_start_ends_the_container),
];

fn bytes(random: &mut Rng, most: usize) -> Vec<u8> {
    let mut bytes = vec![0; random.usize(..most)];
    random.fill(&mut bytes);
    bytes
}

/// A shim with a container that runs.
fn running(e: &Engine) -> (Alone<'_>, Shim) {
    let alone = Alone::start(e, &config(&["sleep", "1000"]));
    let mut shim = alone.connect();
    shim.create(&alone.id, &alone.bundle, &Stdio::default(), None).expect("a container");
    shim.ask("Start", &alone.id, "").expect("a start");
    (alone, shim)
}

fn random_bytes_never_end_the_shim(e: &Engine) {
    let (alone, mut shim) = running(e);
    let mut random = Rng::with_seed(0x5eed);
    for _ in 0..full(300, 20_000) {
        let mut stream = UnixStream::connect(&alone.socket).expect("the shim listens");
        let _ = stream.write_all(&bytes(&mut random, 300));
    }
    assert_eq!(shim.status(&alone.id, ""), status::RUNNING);
    assert_eq!(alone.connect().status(&alone.id, ""), status::RUNNING);
    alone.end();
}

fn random_messages_never_end_the_shim(e: &Engine) {
    let (alone, mut shim) = running(e);
    let mut random = Rng::with_seed(0xbad5eed);
    // None that ends the container for good reason.
    let methods = [
        "State",
        "Create",
        "Start",
        "Pids",
        "Exec",
        "ResizePty",
        "CloseIO",
        "Update",
        "Stats",
        "Connect",
        "Kill",
    ];
    for n in 0..full(300, 20_000) {
        let method = methods[n % methods.len()];
        let mut payload = Message(bytes(&mut random, 60));
        if n % 3 == 0 {
            // The container's own id, and then anything.
            payload.0.splice(0..0, Message::new().text(1, &alone.id).0);
        }
        if method == "Kill" {
            payload = Message::new().text(1, &alone.id).text(2, "nosuch").number(3, random.u64(..));
        }
        let service = shim.service.clone();
        let mut client = Client::connect(&alone.socket).expect("the shim listens");
        let number = client.begin(&service, method, &payload);
        client.is_pending_or_gone(number, Duration::from_secs(10));
    }
    // And a frame that is no request at all.
    for kind in 0..=255 {
        let mut stream = UnixStream::connect(&alone.socket).expect("the shim listens");
        let _ = write_frame(&mut stream, random.u32(..), kind, &bytes(&mut random, 40));
    }
    assert_eq!(shim.status(&alone.id, ""), status::RUNNING);
    alone.end();
}

fn frames_of_impossible_lengths_never_end_the_shim(e: &Engine) {
    let (alone, mut shim) = running(e);
    for length in [0u32, 1, 9, 4 << 20, (4 << 20) + 1, 1 << 30, u32::MAX] {
        let mut stream = UnixStream::connect(&alone.socket).expect("the shim listens");
        let mut head = length.to_be_bytes().to_vec();
        head.extend([0, 0, 0, 1, 1, 0]);
        let _ = stream.write_all(&head).and_then(|()| stream.write_all(&vec![7; 100_000]));
        // Held open while others are served.
        assert_eq!(shim.status(&alone.id, ""), status::RUNNING);
    }
    alone.end();
}

fn unknown_methods_and_services_are_told(e: &Engine) {
    let (alone, mut shim) = running(e);
    let status = shim.ask("Nosuch", &alone.id, "").expect_err("there is no such method");
    assert_eq!(status.code, code::UNIMPLEMENTED, "{status:?}");
    let status = shim.client.call("nosuch.Service", "State", &Message::new()).expect_err("no such service");
    assert_eq!(status.code, code::UNIMPLEMENTED, "{status:?}");
    assert_eq!(shim.status(&alone.id, ""), status::RUNNING);
    alone.end();
}

fn both_versions_of_the_service_answer(e: &Engine) {
    let (alone, mut shim) = running(e);
    for version in ["v2", "v3"] {
        let service = format!("containerd.task.{version}.Task");
        let answer = shim.client.call(&service, "State", &Message::new().text(1, &alone.id));
        if Which::under_test() == Which::Runc && answer.is_err() {
            continue;
        }
        assert_eq!(answer.unwrap_or_else(|e| panic!("{service}: {e:?}")).number(4), status::RUNNING);
    }
    alone.end();
}

fn clients_come_and_go(e: &Engine) {
    let (alone, mut shim) = running(e);
    let service = shim.service.clone();
    for _ in 0..50 {
        let mut client = Client::connect(&alone.socket).expect("the shim listens");
        client.begin(&service, "Wait", &Message::new().text(1, &alone.id));
    }
    assert_eq!(shim.status(&alone.id, ""), status::RUNNING);
    let wait = shim.begin("Wait", &Message::new().text(1, &alone.id));
    alone.connect().kill(&alone.id, "", 9).expect("a kill");
    assert_eq!(shim.client.end(wait).expect("an end").number(1), 137);
    alone.end();
}

fn a_hundred_clients_at_once(e: &Engine) {
    let (alone, _) = running(e);
    let mut clients: Vec<Shim> = (0..100).map(|_| alone.connect()).collect();
    let request = Message::new().text(1, &alone.id);
    let waits: Vec<u32> = clients.iter_mut().map(|shim| shim.begin("Wait", &request)).collect();
    for shim in &mut clients {
        assert_eq!(shim.status(&alone.id, ""), status::RUNNING);
    }
    alone.connect().kill(&alone.id, "", 9).expect("a kill");
    for (shim, wait) in clients.iter_mut().zip(waits) {
        assert_eq!(shim.client.end(wait).expect("an end").number(1), 137);
    }
    drop(clients);
    alone.end();
}

fn a_second_start_answers_the_same_address(e: &Engine) {
    let (alone, mut shim) = running(e);
    let answer = alone.action(&["start"]).ok();
    assert_eq!(pintle_engines::task::path(&answer.stdout), alone.socket);
    assert_eq!(shim.status(&alone.id, ""), status::RUNNING);
    alone.end();
}

fn delete_cleans_up_after_a_dead_shim(e: &Engine) {
    let alone = Alone::start(e, &config(&["sleep", "1000"]));
    let mut shim = alone.connect();
    // With options, as from containerd.
    shim.create(&alone.id, &alone.bundle, &Stdio::default(), Some(&Message::new())).expect("a container");
    shim.ask("Start", &alone.id, "").expect("a start");
    let (pid, init) = (shim.pid(), shim.pids(&alone.id)[0]);
    left::kill(pid);
    wait_for("the end of the shim", || !pintle_tests::alive(pid));
    let answer = alone.delete().ok();
    wait_for("the end of the container", || !pintle_tests::alive(init as i32));
    // The answer is a message, of which there is only the text: what is none was replaced.
    if !answer.stdout.contains(char::REPLACEMENT_CHARACTER) {
        let response = Fields::read(answer.stdout.as_bytes()).expect("a message");
        assert_eq!(response.number(1), init, "pid");
    }
    assert!(!alone.socket.exists(), "the socket is left");
    // Once more is no error.
    alone.delete().ok();
}

/// Before its first container no daemon calls `delete` for a shim that dies.
fn the_next_start_clears_away_after_one_that_was_killed_at_birth(e: &Engine) {
    let kill_all = || loop {
        let shims = e.shims();
        if shims.is_empty() {
            break;
        }
        shims.iter().for_each(|pid| left::kill(*pid));
        wait_for("the end of a shim", || !shims.iter().any(|pid| pintle_tests::alive(*pid)));
    };
    // Once to its end: then it is known where it listens.
    let killed = Alone::start(e, &config(&["true"]));
    kill_all();
    for n in 0..full(30, 1000) {
        let call = killed.begin(&["start"]);
        std::thread::sleep(Duration::from_micros(fastrand::u64(..8000)));
        kill_all();
        drop(call);
        let next = Alone::start(e, &config(&["true"]));
        assert!(!killed.socket.exists(), "round {n}: the socket is left");
        next.connect().shutdown(&next.id);
        wait_for("the end of the next", || e.shims().is_empty());
    }
}

fn without_a_container_it_leaves_by_itself(e: &Engine) {
    let alone = Alone::start(e, &config(&["/nosuch"]));
    let mut shim = alone.connect();
    let pid = shim.pid();
    shim.create(&alone.id, &alone.bundle, &Stdio::default(), None).expect_err("there is no such program");
    // Ten seconds without a client; a minute with one that was there before.
    let client = full(None, Some(shim));
    assert!(happens(Duration::from_secs(90), || !pintle_tests::alive(pid)), "it stays");
    assert!(!alone.socket.exists(), "the socket is left");
    drop(client);
}

fn a_create_that_nobody_waits_for_is_undone(e: &Engine) {
    let alone = Alone::start(e, &config(&["sleep", "1000"]));
    let mut shim = alone.connect();
    for _ in 0..full(20, 500) {
        let mut gone = alone.connect();
        gone.begin_create(&alone.id, &alone.bundle, &[]);
        drop(gone);
        // The same can be asked for again, unless it was complete before.
        let mut last = None;
        let again = happens(Duration::from_secs(30), || {
            last = shim.create(&alone.id, &alone.bundle, &Stdio::default(), None).err();
            last.is_none()
                || shim.ask("State", &alone.id, "").is_ok_and(|state| state.number(4) == status::CREATED)
        });
        assert!(again, "{last:?}");
        shim.kill(&alone.id, "", 9).expect("it is there");
        shim.wait(&alone.id, "");
        shim.ask("Delete", &alone.id, "").expect("a deletion");
    }
    alone.end();
}

fn delete_of_nothing_is_fine(e: &Engine) {
    // As after a daemon that died between the start of the shim and the create.
    let alone = Alone::prepare(e, &config(&["true"]));
    alone.delete().ok();
}

fn the_socket_is_for_root_only(e: &Engine) {
    let (alone, _) = running(e);
    let mode = |path: &std::path::Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    let folder = alone.socket.parent().expect("a folder");
    assert!(mode(folder) & 0o066 == 0, "{:o}", mode(folder));
    assert_eq!(mode(&alone.socket), 0o600);
    alone.end();
}

fn the_shims_badness_is_one_more(e: &Engine) {
    let score = |pid: &str| -> i32 {
        fs::read_to_string(format!("/proc/{pid}/oom_score_adj"))
            .expect("a score")
            .trim()
            .parse()
            .expect("a number")
    };
    let task = e.idle();
    let shim = e.shims()[0].to_string();
    assert_eq!(score(&shim), score("self") + 1, "the daemon has the harness's");
    task.remove();
}

/// `sched_core` of containerd's configuration. Most virtual machines have processors without siblings, or a kernel without it.
fn cores_of_its_own_are_had_or_refused(e: &Engine) {
    let alone = Alone::prepare(e, &config(&["sleep", "1000"]));
    let answer = alone.action_with("SCHED_CORE", "1", &["start"]);
    let own = rustix::process::getpid();
    match rustix::thread::core_scheduling_cookie(own, rustix::thread::CoreSchedulingScope::Thread) {
        Ok(none) => {
            assert_eq!(none, 0, "the checks have cores of their own");
            let mut shim = Shim::at(&pintle_engines::task::path(&answer.ok().stdout));
            let pid = rustix::process::Pid::from_raw(shim.pid()).expect("a process");
            let scope = rustix::thread::CoreSchedulingScope::Thread;
            assert_ne!(rustix::thread::core_scheduling_cookie(pid, scope).expect("a cookie"), 0);
            shim.shutdown(&alone.id);
        }
        Err(_) => {
            assert_eq!(answer.code, 1);
            let said = format!("{}{}", answer.stdout, answer.stderr);
            assert!(said.contains("enable sched core support: "), "{said}");
        }
    }
}

fn it_tells_its_version_and_what_it_can(e: &Engine) {
    let mut command = std::process::Command::new(Which::under_test().program());
    command.arg("-v").current_dir(&e.dir);
    let answer = pintle_engines::call::finish(command, &e.dir).ok();
    assert!(answer.stdout.contains("Version"), "{answer:?}");
    if Which::under_test() == Which::Runc && pintle_engines::place::containerd() == "host" {
        skip("containerd 1.6 has no -info");
    }
    let mut command = std::process::Command::new(Which::under_test().program());
    pintle_engines::daemon::environment(&mut command);
    command.arg("-info").current_dir(&e.dir).stdin(std::process::Stdio::null());
    let answer = pintle_engines::call::finish(command, &e.dir).ok();
    // RuntimeInfo: the name, and in its features what mounts can be mapped.
    assert!(answer.stdout.contains("io.containerd."), "{answer:?}");
    assert!(answer.stdout.contains("mountExtensions"), "{answer:?}");
}

fn a_bootstrap_of_the_newest_kind_is_answered_in_kind(e: &Engine) {
    if Which::under_test() == Which::Runc {
        skip("the Go shims here are older than containerd 2.3");
    }
    let alone = Alone::prepare(e, &config(&["true"]));
    let parameters = Message::new()
        .text(1, &alone.id)
        .text(2, &e.namespace)
        .text(4, "2.3.0")
        .text(5, &alone.events_address());
    let answer = alone.bootstrap(&parameters);
    let result = Fields::read(&answer).expect("a BootstrapResult");
    assert_eq!((result.number(1), result.text(3)), (3, "ttrpc".to_owned()));
    let socket = pintle_engines::task::path(&result.text(2));
    let pid = Shim::at(&socket).pid();
    Shim::at(&socket).shutdown(&alone.id);
    wait_for("the end of the shim", || !pintle_tests::alive(pid));
}

/// Much of what a shim may log.
#[track_caller]
fn is_busy(alone: &Alone, shim: &mut Shim) {
    for n in 0..full(40, 1000) {
        let name = format!("x{n}");
        shim.exec(&alone.id, &name, &["true"], &Stdio::default()).expect("an exec");
        shim.ask("Start", &alone.id, &name).expect("a start");
        shim.wait(&alone.id, &name);
        shim.ask("Delete", &alone.id, &name).expect("a deletion");
        shim.exec(&alone.id, &name, &["/nosuch"], &Stdio::default()).expect("an exec");
        shim.ask("Start", &alone.id, &name).expect_err("there is no such program");
        shim.ask("Delete", &alone.id, &name).expect("a deletion");
    }
}

fn a_full_log_holds_nothing_up(e: &Engine) {
    // Somebody has it open, and does not read.
    let alone = Alone::prepare(e, &config(&["sleep", "1000"]));
    let held = alone.full_log();
    let alone = alone.go(&["-debug"]);
    let mut shim = alone.connect();
    shim.create(&alone.id, &alone.bundle, &Stdio::default(), None).expect("a container");
    shim.ask("Start", &alone.id, "").expect("a start");
    is_busy(&alone, &mut shim);
    alone.end();
    drop(held);
}

fn a_log_without_reader_holds_nothing_up(e: &Engine) {
    // As after a daemon that died: it was read once.
    let alone = Alone::prepare(e, &config(&["sleep", "1000"]));
    let held = alone.open_log();
    let alone = alone.go(&["-debug"]);
    let mut shim = alone.connect();
    drop(held);
    shim.create(&alone.id, &alone.bundle, &Stdio::default(), None).expect("a container");
    shim.ask("Start", &alone.id, "").expect("a start");
    is_busy(&alone, &mut shim);
    alone.end();
}

fn a_pause_while_execs_start_is_answered(e: &Engine) {
    let (alone, mut shim) = running(e);
    let mut other = alone.connect();
    for n in 0..full(10, 200) {
        let name = format!("x{n}");
        shim.exec(&alone.id, &name, &["true"], &Stdio::default()).expect("an exec");
        let start = shim.begin("Start", &Message::new().text(1, &alone.id).text(2, &name));
        std::thread::sleep(Duration::from_micros(n as u64 * 700 % 15_000));
        other.ask("Pause", &alone.id, "").expect("a pause");
        assert_eq!(other.status(&alone.id, ""), status::PAUSED);
        other.ask("Resume", &alone.id, "").expect("a resume");
        // It may have been refused, while the container was frozen.
        if shim.client.end(start).is_ok() {
            shim.wait(&alone.id, &name);
        }
        shim.ask("Delete", &alone.id, &name).expect("a deletion");
    }
    alone.end();
}

/// What is frozen in the middle of its birth does not keep the container from its end, nor whoever asked for it waiting.
fn a_kill_while_execs_start_ends_the_container(e: &Engine) {
    for n in 0..full(6, 100) {
        let (alone, mut shim) = running(e);
        let mut other = alone.connect();
        shim.exec(&alone.id, "x", &["sleep", "1000"], &Stdio::default()).expect("an exec");
        let start = shim.begin("Start", &Message::new().text(1, &alone.id).text(2, "x"));
        std::thread::sleep(Duration::from_micros(n as u64 * 500 % 5_000));
        other.ask("Pause", &alone.id, "").expect("a pause");
        other.kill(&alone.id, "", 9).expect("a kill");
        assert_eq!(other.wait(&alone.id, "").0, 137);
        // It runs before the end, or not at all.
        let _ = shim.client.end(start);
        shim.ask("Delete", &alone.id, "x").expect("a deletion");
        alone.end();
    }
}
