//! The holes that were races: an attacker exchanges a name with a link while the runtime is at work.
//!
//! In each, a create that is refused is as good as one that succeeds; what must never be is that it succeeds with
//! something of the host in it, or leaves something on the host.

use super::guard::{Attack, Target};
use super::race::{Caller, Pair, points, run};
use super::without_mounts_in;
use pintle_tests::*;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

/// A volume with a folder `x` that holds these folders, and a link `y` to somewhere else.
fn volume(t: &Sandbox, folders: &[&str], link: &Path) -> (PathBuf, Pair) {
    let volume = t.dir.join("volume");
    fs::create_dir_all(volume.join("x")).unwrap();
    folders.iter().for_each(|folder| fs::create_dir_all(volume.join("x").join(folder)).unwrap());
    symlink(link, volume.join("y")).unwrap();
    let pair = Pair::new(volume.join("x"), volume.join("y"));
    (volume, pair)
}

/// Puts the last two mounts before all but the procfs: what comes then is far behind them, and the window wide.
fn first_of_all(b: &mut Bundle) -> &mut Bundle {
    b.config["mounts"].as_array_mut().unwrap()[1..].rotate_right(2);
    b
}

/// Where the two mounts `one` and `two` are, in words: in the volume, whatever its folder is called by then, or below
/// the rootfs where the link leads when it is followed inside. Nowhere else, and nowhere at all, is an escape.
fn landings(mountinfo: &str, target: &Path) -> String {
    let word = |source: &str| {
        let points = points(mountinfo, source);
        let [point] = points.as_slice() else {
            panic!("{source} is mounted {} times inside, so it is outside:\n{mountinfo}", points.len())
        };
        match point {
            _ if point.starts_with("/data/x/") || point.starts_with("/data/y/") => "in the volume",
            _ if Path::new(point).starts_with(target) => "at the link's end, inside",
            _ => panic!("{source} is mounted at {point}"),
        }
    };
    format!("one {}, two {}", word("one"), word("two"))
}

const MOUNTS: [&str; 4] = ["/probe", "try", "read", "/proc/self/mountinfo"];

/// CVE-2021-30465: a mount point was exchanged for a link between the look and the mount.
#[test]
fn cve_2021_30465_a_mount_never_lands_outside() {
    behaviour(|| {
        let t = Attack::new();
        let target = Target::new(&t, "target", &["one", "two"]);
        let (volume, pair) = volume(&t, &["one", "two"], &target.dir);
        let mut b = t.bundle();
        b.mount("/data", "bind", &volume.to_string_lossy(), &["bind"]);
        b.mount("/data/x/one", "tmpfs", "one", &[]);
        first_of_all(&mut b).mount("/data/x/two", "tmpfs", "two", &[]);
        b.args(&MOUNTS).write();
        let (mut caller, id) = (Caller::new(&t), t.id());
        pair.race(|| {
            let end = caller.call(&mut run(&t, &b.dir, &id));
            match end.ok {
                true => landings(end.found()[0].as_str().unwrap(), &target.dir),
                false => end.error(&t),
            }
        });
        target.is_untouched();
    });
}

/// CVE-2024-45310: missing mount points were made where the name led by then: on the host.
#[test]
fn cve_2024_45310_no_mount_point_is_made_outside() {
    behaviour(|| {
        let t = Attack::new();
        let target = Target::new(&t, "target", &[]);
        let (volume, pair) = volume(&t, &[], &target.dir);
        let mut b = t.bundle();
        b.mount("/data", "bind", &volume.to_string_lossy(), &["bind"]);
        b.mount("/data/x/one/a", "tmpfs", "one", &[]);
        first_of_all(&mut b).mount("/data/x/two/a", "tmpfs", "two", &[]);
        b.args(&MOUNTS).write();
        // The folders themselves, whatever their names are just then.
        let folder = rustix::fs::open(
            volume.join("x"),
            rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )
        .unwrap();
        let folder = PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&folder)));
        let inside = b.inside(&target.dir.to_string_lossy());
        let (mut caller, id) = (Caller::new(&t), t.id());
        pair.race(|| {
            let end = caller.call(&mut run(&t, &b.dir, &id));
            target.is_untouched();
            for name in ["one", "two"] {
                // Where they were not made there is nothing to remove.
                let _ = (fs::remove_dir_all(folder.join(name)), fs::remove_dir_all(inside.join(name)));
            }
            match end.ok {
                true => landings(end.found()[0].as_str().unwrap(), &target.dir),
                false => end.error(&t),
            }
        });
    });
}

/// CVE-2019-19921: /proc was exchanged for a link, and what the runtime writes to /proc went to a false one.
#[test]
fn cve_2019_19921_proc_exchanged_for_a_link_is_no_mount_point() {
    behaviour(|| {
        let t = Attack::new();
        let mut b = t.bundle();
        b.folder("/data/false", 0o755).link("/corp", "data/false");
        // Two of them, all other mounts in between: the name may change from the first look to the second.
        b.config["mounts"][0]["source"] = json!("one");
        b.mount("/proc", "proc", "two", &[]);
        b.remove("/linux/maskedPaths").remove("/linux/readonlyPaths").write();
        let mut caller = Caller::new(&t);
        Pair::new(b.inside("/proc"), b.inside("/corp")).race(|| {
            // As the host sees it: the container's own /proc goes where its name goes.
            let mountinfo = |pid: &str| fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
            match caller.create(&t, &b.dir, &[], mountinfo) {
                Ok(list) => {
                    for source in ["one", "two"] {
                        let points = points(&list, source);
                        assert_eq!(points.len(), 1, "{source}: {list}");
                        assert!(!points[0].ends_with("/data/false"), "procfs is mounted at {}", points[0]);
                    }
                    "both mounted".to_owned()
                }
                Err(refusal) => refusal,
            }
        });
        assert_eq!(fs::read_dir(b.inside("/data/false")).unwrap().count(), 0);
    });
}

/// CVE-2024-21626: the working directory was exchanged for a link to a descriptor of the host that had leaked.
#[test]
fn cve_2024_21626_a_working_directory_exchanged_for_a_link_leads_nowhere() {
    behaviour(|| {
        let t = Attack::new();
        let target = Target::new(&t, "target", &[]);
        let (volume, pair) = volume(&t, &["own"], Path::new("/proc/self/fd/9"));
        let mut b = t.bundle();
        b.mount("/data", "bind", &volume.to_string_lossy(), &["bind"]);
        b.set("/process/cwd", json!("/data/x"));
        b.args(&["/probe", "try", "getcwd", ",", "list", "."]).write();
        let (mut caller, id) = (Caller::new(&t), t.id());
        pair.race(|| {
            let end = caller.call(&mut super::leaking(&run(&t, &b.dir, &id), &target.dir));
            if end.ok {
                let found = end.found();
                // init's own handle on the container's /proc may have that number by chance.
                let names = found[1].as_array().into_iter().flatten().filter_map(Value::as_str);
                let mut pids = names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
                if found[0] == "/proc" && pids.next() == Some("1") && pids.next().is_none() {
                    return "in the container's own /proc".to_owned();
                }
                assert_eq!(found[1], json!(["own"]), "it stands in {}, a folder of the host", found[0]);
                return "in the volume".to_owned();
            }
            end.error(&t)
        });
    });
}

/// CVE-2025-31133: /dev/null was exchanged for a link, and masks bound what it led to.
#[test]
fn cve_2025_31133_an_exchanged_dev_null_masks_nothing_with_something_else() {
    behaviour(|| {
        let t = Attack::new();
        let mut b = t.bundle();
        without_mounts_in("/dev", &mut b);
        b.writable().file("/etc/secret", "hidden", 0o644).file("/etc/bait", "bait", 0o666);
        super::node(&b.inside("/dev/null"), 1, 3);
        b.link("/dev/llun", "/etc/bait");
        b.set("/linux/maskedPaths", json!(["/etc/secret"])).args(&["/probe", "try", "read", "/etc/secret"]);
        b.write();
        let (mut caller, id) = (Caller::new(&t), t.id());
        Pair::new(b.inside("/dev/null"), b.inside("/dev/llun")).race(|| {
            let end = caller.call(&mut run(&t, &b.dir, &id));
            if end.ok {
                assert_eq!(end.found()[0], "", "the mask shows something");
                return "masked".to_owned();
            }
            end.error(&t)
        });
    });
}

/// No number, the class of 2025-31133: /proc was exchanged for a link once it was mounted, and what was to be hidden in it was "not
/// there". runc 1.4.3 leaves it open, too.
#[test]
fn what_is_hidden_in_proc_stays_so_when_its_name_is_exchanged() {
    behaviour(|| {
        const HIDDEN: [&str; 4] = ["/keys", "/kcore", "/timer_list", "/acpi"];
        let there: Vec<&str> =
            HIDDEN.into_iter().filter(|name| Path::new(&format!("/proc{name}")).exists()).collect();
        let t = Attack::new();
        let mut b = t.bundle();
        b.folder("/data/false", 0o755).link("/corp", "data/false").args(&["/probe", "sleep"]);
        b.set(
            "/linux/maskedPaths",
            json!(there.iter().map(|name| format!("/proc{name}")).collect::<Vec<_>>()),
        );
        b.set("/linux/readonlyPaths", json!(["/proc/sys", "/proc/bus", "/proc/fs", "/proc/irq"])).write();
        let mut caller = Caller::new(&t);
        Pair::new(b.inside("/proc"), b.inside("/corp")).race(|| {
            let mounts = |pid: &str| fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
            match caller.create(&t, &b.dir, &[], mounts) {
                Ok(mounts) => {
                    let is_point = |name: &str| {
                        // Whatever the folder below it is called by now.
                        mounts
                            .lines()
                            .filter_map(|line| line.split(' ').nth(4))
                            .any(|point| point.ends_with(name))
                    };
                    for name in there.iter().chain(&["/irq"]) {
                        assert!(is_point(name), "{name} is open:\n{mounts}");
                    }
                    "all is hidden".to_owned()
                }
                Err(refusal) => refusal,
            }
        });
    });
}

/// CVE-2025-52565: the terminal's file was exchanged for a link before it was bound at /dev/console.
#[test]
fn cve_2025_52565_the_console_is_the_terminal_or_nothing() {
    behaviour(|| {
        let t = Attack::new();
        let mut b = t.bundle();
        let devpts = b.config["mounts"][2].clone();
        without_mounts_in("/dev", &mut b);
        b.config["mounts"].as_array_mut().unwrap().push(devpts);
        b.writable().folder("/dev/pts", 0o755).file("/false/0", "bait", 0o666).file(
            "/false/ptmx",
            "bait",
            0o666,
        );
        b.link("/dev/stp", "/false").set("/process/terminal", json!(true)).args(&["/probe", "sleep"]).write();
        let masters = Masters::new(&t);
        let mut caller = Caller::new(&t);
        Pair::new(b.inside("/dev/pts"), b.inside("/dev/stp")).race(|| {
            let socket = ["--console-socket", &masters.path.to_string_lossy()];
            let console = |pid: &str| fs::metadata(format!("/proc/{pid}/root/dev/console")).unwrap();
            match caller.create(&t, &b.dir, &socket, console) {
                Ok(console) => {
                    let major = rustix::fs::major(console.rdev());
                    assert!(
                        console.file_type().is_char_device() && (136..144).contains(&major),
                        "the console is no terminal: {console:?}"
                    );
                    "a terminal".to_owned()
                }
                Err(refusal) => refusal,
            }
        });
        assert_eq!(fs::read_to_string(b.inside("/false/0")).unwrap(), "bait");
    });
}

/// Takes the masters of terminals, and keeps the last.
struct Masters {
    path: PathBuf,
}

impl Masters {
    fn new(t: &Sandbox) -> Self {
        let path = t.dir.join("masters");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        std::thread::spawn(move || {
            // A master that nobody receives lives as long as its connection: until the next one comes.
            let _last = listener.incoming().map_while(Result::ok).reduce(|_, next| next);
        });
        Self { path }
    }
}

/// CVE-2025-52881: a mount was led over a file of /proc by a link, and what the runtime wrote went into it.
#[test]
fn cve_2025_52881_no_mount_is_led_over_proc_and_no_parameter_into_it() {
    behaviour(|| {
        let t = Attack::new();
        let bait = |name: &str| {
            let dir = t.dir.join(name);
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join("ip_forward"), "bait").unwrap();
            dir
        };
        let baits = ["bait1", "bait2"].map(bait);
        let (volume, pair) = volume(&t, &[], Path::new("/proc/sys/net/ipv4"));
        let mut b = t.bundle();
        b.mount("/data", "bind", &volume.to_string_lossy(), &["bind"]);
        b.mount("/data/x", "bind", &baits[0].to_string_lossy(), &["bind"]);
        first_of_all(&mut b).mount("/data/x", "bind", &baits[1].to_string_lossy(), &["bind"]);
        b.set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}));
        b.args(&["/probe", "try", "read", "/proc/sys/net/ipv4/ip_forward"]).write();
        let (mut caller, id) = (Caller::new(&t), t.id());
        pair.race(|| {
            let end = caller.call(&mut run(&t, &b.dir, &id));
            for bait in &baits {
                let text = fs::read_to_string(bait.join("ip_forward")).unwrap();
                assert_eq!(text, "bait", "the parameter was written into a file of the attacker");
            }
            match end.ok {
                true => {
                    assert_eq!(end.found()[0], "1\n", "the parameter is covered");
                    "the parameter is set".to_owned()
                }
                // Which of the two is refused tells when the names changed: keep its number.
                false => {
                    end.error(&t) + if end.err.contains("bait2") { " (the second)" } else { " (the first)" }
                }
            }
        });
    });
}

/// CVE-2026-41579: /dev was exchanged for a link, and the runtime worked in a folder of the host.
#[test]
fn cve_2026_41579_an_exchanged_dev_leads_to_no_folder_of_the_host() {
    behaviour(|| {
        let t = Attack::new();
        let target = Target::new(&t, "target", &[]);
        let mut b = t.bundle();
        without_mounts_in("/dev", &mut b);
        b.writable().link("/ved", &target.dir).args(&["/probe", "print", "it runs"]).write();
        let dev = rustix::fs::open(
            b.inside("/dev"),
            rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )
        .unwrap();
        let dev = PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&dev)));
        let inside = b.inside(&target.dir.to_string_lossy());
        let (mut caller, id) = (Caller::new(&t), t.id());
        Pair::new(b.inside("/dev"), b.inside("/ved")).race(|| {
            let end = caller.call(&mut run(&t, &b.dir, &id));
            target.is_untouched();
            let made = [emptied(&dev), emptied(&inside)];
            let how = if end.ok { "it ran".to_owned() } else { end.error(&t) };
            format!("{how}; made in its own /dev: {}, at the link's end inside: {}", made[0], made[1])
        });
    });
}

/// Whether there was anything in the folder; there is not any more.
fn emptied(dir: &Path) -> bool {
    let names = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    names.filter(|path| fs::remove_file(path).is_ok()).count() > 0
}
