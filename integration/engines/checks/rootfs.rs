//! Root file systems that are out of the ordinary: of many layers, id-mapped, of files that somebody else serves and does not.

use pintle_engines::alone::{Alone, config, drain, make_bundle};
use pintle_engines::daemon::mounts_below;
use pintle_engines::silent::{Silence, Silent};
use pintle_engines::task::{Stdio, code, mount, status};
use pintle_engines::wire::Message;
use pintle_engines::{Check, Engine, check, place, skip, wait_for};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub const CHECKS: &[Check] = &[
    check!(sixty_layers),
    check!(a_hundred_and_thirty_layers),
    check!(id_mapped_layers),
    check!(what_another_process_mounts_is_the_same),
    check!(a_source_that_does_not_answer_holds_up_nobody_else),
    check!(a_source_that_is_waited_for_and_not_even_killed),
];

/// More options than mount(2) takes, by the paths of a snapshotter.
fn layers(e: &Engine, count: usize) {
    let archive = place::image().with_file_name(format!("layers-{count}.tar"));
    // The daemon unpacks layer after layer and waits for the disk after each.
    e.begin(&["image", "import", &archive.to_string_lossy()]).end_within(Duration::from_secs(150)).ok();
    let image = format!("docker.io/test/layers:{count}");
    let script = "cat /last; ls /layers | wc -l; cat /layers/1; echo new >/layers/1; cat /layers/1; rm /last; ls /last";
    let mut words = e.run_words(&["--rm"], "many", &["sh", "-c", script]);
    let named = words.iter_mut().find(|word| **word == place::IMAGE).expect("the image is named");
    *named = &image;
    let answer = e.ctr(&words).exits(1);
    assert_eq!(answer.stdout, format!("{count}\n{count}\n1\nnew\n"), "{answer:?}");
}

fn sixty_layers(e: &Engine) {
    layers(e, 60);
}

fn a_hundred_and_thirty_layers(e: &Engine) {
    layers(e, 130);
}

fn id_mapped_layers(e: &Engine) {
    if place::containerd() == "host" {
        skip("containerd 1.6 gives a user namespace a copy with other owners, not a map");
    }
    let map = "0:100000:65536";
    let flags = ["--uidmap", map, "--gidmap", map, "--remap-labels"];
    let script =
        "id -u; stat -c '%u %g' /bin/busybox /etc; touch /new; stat -c %u /new; cat /proc/self/uid_map";
    let answer = e.run(&flags, &["sh", "-c", script]).ok();
    let words: Vec<&str> = answer.stdout.split_whitespace().collect();
    assert_eq!(words, ["0", "0", "0", "0", "0", "0", "0", "100000", "65536"], "{answer:?}");
}

/// A mount that the shim does not make itself, since a map needs a process.
fn what_another_process_mounts_is_the_same(e: &Engine) {
    let alone = Alone::start(e, &config(&["sh", "-c", "cat /f; exit 6"]));
    let root = alone.bundle.join("rootfs");
    fs::rename(&root, e.dir.join("base")).expect("its files");
    for name in ["lower", "upper", "work"] {
        fs::create_dir(e.dir.join(name)).expect("a folder");
    }
    fs::write(e.dir.join("lower/f"), "").expect("a file");
    let dir = e.dir.display();
    let words = [
        "uidmap=0:0:65536".to_owned(),
        "gidmap=0:0:65536".to_owned(),
        format!("upperdir={dir}/upper"),
        format!("workdir={dir}/work"),
        format!("lowerdir={dir}/lower:{dir}/base"),
    ];
    let mut shim = alone.connect();
    let number = shim.begin_create(&alone.id, &alone.bundle, &[mount("overlay", "overlay", &words)]);
    shim.client.end(number).expect("a container");
    assert_eq!(mounts_below(&alone.bundle), [root.display().to_string()]);
    shim.ask("Start", &alone.id, "").expect("a start");
    assert_eq!(shim.wait(&alone.id, "").0, 6);
    // What can't be mounted is told in the same words, whoever mounts.
    let (id, bundle) = another(e);
    for (kind, source, option) in [("overlay", "overlay", "lowerdir=/no/such"), ("bind", "/no/such", "rbind")]
    {
        let number = shim.begin_create(&id, &bundle, &[mount(kind, source, &[option.to_owned()])]);
        let said = shim.client.end(number).expect_err("there is nothing").message;
        assert!(said.contains("failed to mount rootfs component: mount source:"), "{said}");
        assert!(said.contains("no such file or directory"), "{said}");
    }
    alone.end();
}

/// A further bundle for a shim that is there.
fn another(e: &Engine) -> (String, PathBuf) {
    let id = e.id();
    let bundle = make_bundle(e, &id, &config(&["sleep", "1000"]));
    drain(&bundle.join("log"));
    (id, bundle)
}

fn a_source_that_does_not_answer_holds_up_nobody_else(e: &Engine) {
    does_not_answer(e, Silence::Deaf);
}

fn a_source_that_is_waited_for_and_not_even_killed(e: &Engine) {
    does_not_answer(e, Silence::Mute);
}

/// How long the shim waits for a source: long enough for others to be born, asked and killed meanwhile.
const TIMEOUT: Duration = Duration::from_secs(6);

fn does_not_answer(e: &Engine, how: Silence) {
    let silent = Silent::new(e.dir.join("silent"), how);
    let alone = Alone::prepare(e, &config(&["sleep", "1000"]))
        .with("PINTLE_SHIM_TIMEOUT", &TIMEOUT.as_secs().to_string());
    drain(&alone.bundle.join("log"));
    let alone = alone.go(&[]);
    let mut shim = alone.connect();
    shim.create(&alone.id, &alone.bundle, &Stdio::default(), None).expect("a container");
    shim.ask("Start", &alone.id, "").expect("a start");
    let begin = Instant::now();
    let mut others = roots_on(e, &silent).map(|root| {
        let (id, bundle) = another(e);
        let mut waits = alone.connect();
        let number = waits.begin_create(&id, &bundle, &[root]);
        (id, bundle, waits, number)
    });
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(shim.status(&alone.id, ""), status::RUNNING);
    shim.exec(&alone.id, "x", &["sh", "-c", "exit 4"], &Stdio::default()).expect("an exec");
    shim.ask("Start", &alone.id, "x").expect("a start");
    assert_eq!(shim.wait(&alone.id, "x").0, 4);
    shim.kill(&alone.id, "", 9).expect("a kill");
    assert_eq!(shim.wait(&alone.id, "").0, 137);
    for (.., waits, number) in &mut others {
        assert!(waits.client.is_pending(*number, Duration::from_millis(1)), "it was held up by another");
    }
    for (id, bundle, mut waits, number) in others {
        let status = waits.client.end(number).expect_err("nobody answers");
        assert!(status.message.contains("failed to mount rootfs component"), "{status:?}");
        assert!(begin.elapsed() > TIMEOUT - Duration::from_secs(1), "it was not waited for");
        assert_eq!(shim.ask("State", &id, "").expect_err("there is none").code, code::NOT_FOUND);
        assert_eq!(mounts_below(&bundle), Vec::<String>::new());
    }
    assert!(begin.elapsed() < Duration::from_secs(15), "it took {:?}", begin.elapsed());
    // Who could not be killed ends when there is an answer, and leaves nothing either.
    let pid = shim.pid();
    drop(silent);
    wait_for("the end of those that mount", || children(pid) == 0);
    assert_eq!(mounts_below(&e.dir), Vec::<String>::new());
    alone.end();
}

/// The file system as a layer, as layers below a writable one, and in part.
fn roots_on(e: &Engine, silent: &Silent) -> [Message; 3] {
    let source = silent.dir.display();
    let own = e.dir.join("own");
    for dir in ["u", "w"] {
        fs::create_dir_all(own.join(dir)).expect("a folder");
    }
    let own = own.display();
    let options =
        [format!("upperdir={own}/u"), format!("workdir={own}/w"), format!("lowerdir={source}/a:{source}/b")];
    [
        mount("overlay", "overlay", &[format!("lowerdir={source}:{own}")]),
        mount("overlay", "overlay", &options),
        mount("bind", &format!("{source}/a"), &["rbind".to_owned()]),
    ]
}

fn children(pid: i32) -> usize {
    let path = format!("/proc/{pid}/task/{pid}/children");
    fs::read_to_string(Path::new(&path)).expect("children").split_whitespace().count()
}
