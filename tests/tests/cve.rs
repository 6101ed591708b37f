//! What once was a hole in some runtime, each by its number: it must not be one here.

use pintle_tests::*;
use std::fs;
use std::path::Path;

/// CVE-2019-5736: the container opens /proc/1/exe, the runtime in disguise, for writing.
#[test]
fn cve_2019_5736_the_runtime_cannot_be_overwritten() {
    behaviour(|| {
        let t = Sandbox::new();
        let binary = Runtime::under_test().binary();
        let before = fs::read(&binary).unwrap();
        let c = t.create(&t.bundle());
        let exe = fs::read_link(format!("/proc/{}/exe", c.pid())).unwrap();
        assert_ne!(fs::canonicalize(&binary).unwrap(), exe, "the first process is not the host's binary");
        let out = c
            .exec(&["/probe", "try", "reopen-write", "/proc/1/exe", ",", "write", "/proc/1/exe", "x"])
            .ok()
            .json();
        assert!(out[0]["errno"] != "" && out[1]["errno"] != "", "{out}");
        assert!(fs::read(&binary).unwrap() == before);
    });
}

/// CVE-2019-5736, the other way: the entrypoint itself is /proc/self/exe.
#[test]
fn cve_2019_5736_proc_self_exe_as_the_program_is_harmless() {
    behaviour(|| {
        let t = Sandbox::new();
        let binary = Runtime::under_test().binary();
        let before = fs::read(&binary).unwrap();
        for program in ["/proc/self/exe", "/script"] {
            let mut b = t.bundle();
            b.file("/script", "#!/proc/self/exe\n", 0o755).args(&[program, "init"]);
            t.run(&b);
        }
        assert!(fs::read(&binary).unwrap() == before);
    });
}

/// CVE-2019-5736: what stands in /proc/1/exe can't be written, even with all the rights to try.
#[test]
fn cve_2019_5736_the_first_program_is_a_sealed_copy() {
    /// F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE
    const SEALS: u64 = 0xf;
    let whole = |results: &Value| {
        assert_eq!(results[1]["found"], "/memfd:pintle-init (deleted)", "{results}");
        assert_eq!(results[2]["found"].as_u64().map(|seals| seals & SEALS), Some(SEALS), "{results}");
        for write in 3..7 {
            assert_ne!(results[write]["errno"], "", "{results}");
        }
        assert!(results[0]["found"]["size"].as_u64().unwrap() > 1000, "{results}");
        assert_eq!(results[0]["found"], results[7]["found"], "{results}");
    };
    let attempts = |exe: &str| {
        let words = ["stat", "readlink", "seals", "reopen-write", "open-write", "truncate", "write"];
        let mut all = vec!["/probe".to_owned(), "try".to_owned()];
        for word in words {
            all.extend([word, exe].map(str::to_owned));
            all.extend((word == "write").then(|| "x".to_owned()));
            all.push(",".into());
        }
        all.extend(["stat", exe].map(str::to_owned));
        all
    };
    rows([("from an exec", true), ("from the host", false)], |inside| {
        let t = Sandbox::new();
        let c = t.create(&t.bundle());
        let exe = if inside { "/proc/1/exe".to_owned() } else { format!("/proc/{}/exe", c.pid()) };
        let words = attempts(&exe);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        if inside {
            let rights = ["--cap", "CAP_SYS_ADMIN", "--cap", "CAP_SYS_PTRACE", "--cap", "CAP_DAC_OVERRIDE"];
            whole(&c.exec_with(&rights, &words).ok().json());
        } else {
            let mut probe = std::process::Command::new(t.bundle().inside("/probe"));
            probe.args(&words[1..]);
            whole(&t.finish(probe).ok().json());
        }
    });
}

/// CVE-2019-5736 with an attacker who has every right to look, and a program that leads to the runtime.
#[test]
fn cve_2019_5736_no_attack_on_running_programs_reaches_the_hosts_binary() {
    let programs = [("itself", "/proc/self/exe"), ("a script", "/script"), ("a link", "/link")];
    let verbs = programs.into_iter().flat_map(|(name, program)| {
        ["run", "create", "exec"].map(|verb| (format!("{verb} of {name}"), (verb, program)))
    });
    rows(verbs, |(verb, program)| {
        let t = Sandbox::new();
        let binary = Runtime::under_test().binary();
        let before = fs::read(&binary).unwrap();
        // The attacker shares the pid namespace with whatever is born beside it.
        let mut attacker = t.bundle();
        attacker.args(&["/probe", "overwrite"]).file("/script", "#!/proc/self/exe\n", 0o755);
        attacker.link("/link", "/proc/self/exe").set("/process/noNewPrivileges", json!(false));
        for set in ["bounding", "effective", "permitted"] {
            for right in ["CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"] {
                attacker.push(&format!("/process/capabilities/{set}"), json!(right));
            }
        }
        let c = t.start(&attacker);
        c.wait_for_output("ready");
        let mut b = t.bundle();
        b.config = attacker.config.clone();
        b.join_namespace("pid", &format!("/proc/{}/ns/pid", c.pid()));
        b.file("/script", "#!/proc/self/exe\n", 0o755).link("/link", "/proc/self/exe");
        b.args(&[program, "init"]);
        for _ in 0..8 {
            // Whether such a program runs is up to the runtime; it has to end.
            match verb {
                "run" => drop(t.run(&b)),
                "create" => {
                    let id = t.id();
                    b.write();
                    t.call(["create", "--bundle", &b.dir.to_string_lossy(), &id]);
                    t.call(["start", &id]);
                    t.call(["delete", "--force", &id]);
                }
                _ => {
                    let rights = ["--cap", "CAP_SYS_ADMIN", "--cap", "CAP_SYS_PTRACE"];
                    c.exec_with(&rights, &[program, "init"]);
                }
            }
        }
        assert_eq!(c.stdout().matches("changed").count(), 0, "{}", c.stdout());
        assert!(fs::read(&binary).unwrap() == before, "the binary has changed");
    });
}

/// CVE-2022-29162, CVE-2022-27650: capabilities of an exec were inheritable.
#[test]
fn cve_2022_29162_exec_has_no_inheritable_capabilities() {
    rows([("root", "0"), ("another", "5")], |user| {
        let t = Sandbox::new();
        let c = t.waiting();
        let report = c.exec_with(&["-u", user, "--cap", "CAP_NET_RAW"], &["/probe", "report"]).ok().json();
        assert_eq!(report["status"]["CapInh"], "0000000000000000");
        assert_eq!(report["status"]["CapAmb"], "0000000000000000");
    });
}

/// CVE-2026-30892: `exec -u 1` ran as root.
#[test]
fn cve_2026_30892_a_uid_alone_is_not_root() {
    behaviour(|| {
        let t = Sandbox::new();
        let report = t.waiting().exec_with(&["-u", "1"], &["/probe", "report"]).ok().json();
        assert_eq!(report["status"]["Uid"], "1 1 1 1");
    });
}

/// CVE-2024-21626: a leaked descriptor of the host's cgroups served as working folder.
#[test]
fn cve_2024_21626_no_descriptor_leads_out() {
    behaviour(|| {
        let t = Sandbox::new();
        let c = t.waiting();
        let report = c.exec(&["/probe", "report"]).ok().json();
        let fds = report["fds"].as_object().unwrap();
        assert_eq!(fds.len(), 3, "{fds:?}");
        let mut b = t.bundle();
        b.set("/process/cwd", json!("/proc/self/fd/7"));
        assert_ne!(t.run(&b).code, 0);
    });
}

/// CVE-2026-41579, CVE-2026-47766: /dev as a link made the runtime work in the host's /dev.
#[test]
fn cve_2026_41579_dev_as_a_link_does_not_touch_the_hosts() {
    rows(["/dev", "../../../../../../../dev"].map(|l| (l, l)), |target| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let look = || {
            let mut all: Vec<_> = fs::read_dir("/dev")
                .unwrap()
                .flatten()
                .map(|e| (e.file_name(), fs::read_link(e.path()).ok()))
                .collect();
            all.sort();
            (all, fs::symlink_metadata("/dev/ptmx").map(|m| std::os::unix::fs::MetadataExt::ino(&m)).ok())
        };
        let before = look();
        b.config["mounts"]
            .as_array_mut()
            .unwrap()
            .retain(|m| !m["destination"].as_str().unwrap().starts_with("/dev"));
        t.run(b.writable().link("/dev", target));
        assert_eq!(before, look());
    });
}

/// CVE-2025-31133: /dev/null as a link made the masks bind something else.
#[test]
fn cve_2025_31133_a_false_dev_null_is_no_mask() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.config["mounts"]
            .as_array_mut()
            .unwrap()
            .retain(|m| !m["destination"].as_str().unwrap().starts_with("/dev"));
        b.writable()
            .file("/etc/secret", "hidden", 0o644)
            .file("/etc/bait", "bait", 0o666)
            .link("/dev/null", "/etc/bait");
        b.set("/linux/maskedPaths", json!(["/etc/secret"])).args(&["/probe", "try", "read", "/etc/secret"]);
        let output = t.run(&b);
        assert!(output.code != 0 || output.json()[0]["found"] == "", "{output:?}");
    });
}

/// CVE-2023-27561, CVE-2023-28642, CVE-2019-19921: /proc as a link.
#[test]
fn cve_2023_27561_proc_as_a_link_is_refused() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        t.run(b.link("/proc", "data")).fails(1, "must be mounted on ordinary directory");
    });
}

/// CVE-2019-16884: a volume over /proc swallowed the writes of labels.
#[test]
fn cve_2019_16884_nothing_is_mounted_over_proc() {
    rows(["/proc", "/proc/self", "/proc/self/attr", "/proc/sys"].map(|p| (p, p)), |point| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.mount(point, "tmpfs", "t", &[]);
        t.run(&b).fails(1, "cannot be mounted because it is");
    });
}

/// CVE-2021-43784: a length of 16 bits overflowed.
#[test]
fn cve_2021_43784_a_namespace_path_of_70_kib_is_an_error() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.join_namespace("network", &format!("/{}", "a".repeat(70_000)));
        t.run(&b).fails(1, "file name too long");
    });
}

/// Raises its flag when it goes.
struct Stop<'a>(&'a std::sync::atomic::AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

/// CVE-2021-30465, CVE-2024-45310: a mount point was swapped for a link between look and use.
#[test]
fn cve_2021_30465_a_swapped_mount_point_never_leads_out() {
    behaviour(|| {
        let t = Sandbox::new();
        let volume = t.dir.join("volume");
        let target = t.dir.join("target");
        fs::create_dir_all(volume.join("folder/deep")).unwrap();
        fs::create_dir_all(&target).unwrap();
        std::os::unix::fs::symlink(&target, volume.join("link")).unwrap();
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|s| {
            s.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let flags = rustix::fs::RenameFlags::EXCHANGE;
                    let cwd = rustix::fs::CWD;
                    let _ = rustix::fs::renameat_with(
                        cwd,
                        volume.join("folder"),
                        cwd,
                        volume.join("link"),
                        flags,
                    );
                }
            });
            // However the loop ends: the scope waits for the swapper.
            let _stop = Stop(&stop);
            for _ in 0..40 {
                let mut b = t.bundle();
                b.mount("/data", "bind", &volume.to_string_lossy(), &["bind"]);
                b.mount("/data/folder/deep", "tmpfs", "t", &[]);
                t.run(&b);
            }
        });
        assert_eq!(fs::read_dir(&target).unwrap().count(), 0, "something was made outside");
        assert!(!mounts().iter().any(|m| m.contains(&*target.to_string_lossy())));
    });
}

/// CVE-2025-52881: a sysctl was written through whatever lay over /proc.
#[test]
fn cve_2025_52881_a_sysctl_is_not_written_into_a_false_proc() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.config["mounts"].as_array_mut().unwrap().retain(|m| m["destination"] != "/proc");
        b.writable().file("/proc/sys/net/ipv4/ip_forward", "bait", 0o666);
        b.set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}));
        b.remove("/linux/maskedPaths").remove("/linux/readonlyPaths");
        t.run(&b);
        assert_eq!(fs::read_to_string(b.inside("/proc/sys/net/ipv4/ip_forward")).unwrap(), "bait");
    });
}

/// No number, the same class: an id is a name, not a path.
#[test]
fn an_id_never_leads_out_of_the_root() {
    behaviour(|| {
        let t = Sandbox::new();
        let victim = t.dir.join("victim");
        fs::create_dir(&victim).unwrap();
        for verb in [&["delete", "--force"][..], &["state"], &["kill"], &["start"]] {
            let mut command = t.command();
            command.args(verb).arg("../victim");
            assert_ne!(t.finish(command).code, 0);
        }
        assert!(Path::new(&victim).exists());
    });
}
