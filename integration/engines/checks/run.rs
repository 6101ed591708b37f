//! `ctr run`: exit codes, what a container is given, what stays on the machine while it runs and after.

use pintle_engines::{Check, Engine, check};
use std::fs;

pub const CHECKS: &[Check] = &[
    check!(true_is_true),
    check!(the_exit_code_is_the_programs),
    check!(a_detached_container_runs_until_it_ends),
    check!(the_pid_file_of_the_bundle_names_the_first_process),
    check!(the_container_has_the_root_of_its_image),
    check!(a_folder_as_root),
    check!(two_hundred_environment_variables_and_a_long_argument),
    check!(many_at_once),
    check!(a_user_is_who_the_image_says),
];

fn true_is_true(e: &Engine) {
    e.run(&[], &["true"]).ok().says("");
    e.run(&[], &["false"]).exits(1);
}

fn the_exit_code_is_the_programs(e: &Engine) {
    for code in [0, 1, 2, 42, 125, 126, 127, 128, 137, 255] {
        e.run(&[], &["sh", "-c", &format!("exit {code}")]).exits(code);
    }
}

fn a_detached_container_runs_until_it_ends(e: &Engine) {
    let task = e.script("echo ready; while [ ! -e /go ]; do sleep 0.01; done; exit 7");
    assert_eq!(task.status(), "RUNNING");
    assert_eq!(e.shims().len(), 1, "shims");
    task.go();
    task.end().exits(7);
    assert_eq!(task.status(), "");
    e.ctr(&["containers", "rm", &task.id]).ok();
}

fn the_pid_file_of_the_bundle_names_the_first_process(e: &Engine) {
    let task = e.idle();
    let text = fs::read_to_string(e.bundle(&task.id).join("init.pid")).expect("init.pid");
    assert_eq!(text.trim(), task.pid().to_string());
    // The shim writes the one; a newer daemon writes the other.
    let names = ["address", "bootstrap.json"].map(|file| e.bundle(&task.id).join(file));
    let texts: String = names.iter().filter_map(|file| fs::read_to_string(file).ok()).collect();
    assert!(texts.contains("unix:///run/containerd/s/"), "{texts:?}");
    task.remove();
}

fn the_container_has_the_root_of_its_image(e: &Engine) {
    e.run(&[], &["cat", "/etc/passwd"])
        .ok()
        .says("root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/tmp:/bin/sh\n");
    e.run(&[], &["sh", "-c", "echo $$; touch /new; ls -d /new"]).ok().says("1\n/new\n");
    e.run(&["--read-only"], &["touch", "/new"]).fails("Read-only file system");
}

fn a_folder_as_root(e: &Engine) {
    let root = e.dir.join("root");
    fs::create_dir_all(root.join("bin")).unwrap();
    pintle_tests::copy_program(pintle_engines::place::busybox(), root.join("bin/busybox"));
    let id = e.id();
    let runtime = pintle_engines::place::Shim::under_test().runtime_name();
    let folder = root.to_string_lossy();
    let words = ["run", "--rm", "--cpu-shares", "0", "--runtime", runtime, "--rootfs", &folder, &id];
    e.ctr(&[&words[..], &["/bin/busybox", "echo", "here"]].concat()).ok().says("here\n");
}

fn two_hundred_environment_variables_and_a_long_argument(e: &Engine) {
    let variables: Vec<String> = (0..200).map(|n| format!("V{n}={}", "x".repeat(100))).collect();
    let flags: Vec<&str> = variables.iter().flat_map(|v| ["--env", v.as_str()]).collect();
    let long = "y".repeat(60_000);
    let answer = e.run(&flags, &["sh", "-c", "env | grep -c ^V; echo ${#0}", &long]);
    answer.ok().says("200\n60000\n");
}

fn many_at_once(e: &Engine) {
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..8)
            .map(|n| {
                let (id, script) = (e.id(), format!("echo {n}; exit {n}"));
                let words: Vec<String> = e
                    .run_words(&["--rm"], &id, &["sh", "-c", &script])
                    .iter()
                    .map(|w| (*w).to_owned())
                    .collect();
                let command = e.command(&words.iter().map(String::as_str).collect::<Vec<_>>());
                let dir = e.dir.clone();
                scope.spawn(move || (n, pintle_engines::call::finish(command, &dir)))
            })
            .collect();
        for call in calls {
            let (n, answer) = call.join().expect("no panic");
            answer.exits(n).says(&format!("{n}\n"));
        }
    });
}

fn a_user_is_who_the_image_says(e: &Engine) {
    let task = e.idle();
    task.exec(&["--user", "user"], &["id", "-u"]).ok().says("1000\n");
    task.exec(&["--user", "1234:77"], &["sh", "-c", "id -u; id -g"]).ok().says("1234\n77\n");
    task.exec(&["--cwd", "/tmp"], &["pwd"]).ok().says("/tmp\n");
    task.remove();
}
