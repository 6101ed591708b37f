//! Labels of the kernel's security modules. AppArmor's tests need it in the kernel, and apparmor_parser(8); SELinux's need
//! a kernel that runs with it.

use pintle_tests::*;
use std::fs;
use std::process::{Command, Stdio};

/// A profile that the kernel has for as long as this lives: all is allowed but reading /data.
struct Profile(String);

impl Profile {
    fn new(t: &Sandbox) -> Self {
        let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled");
        if !enabled.is_ok_and(|enabled| enabled.starts_with('Y')) {
            skip("AppArmor is not in the kernel, or is off");
        }
        // Each sandbox's folder has a name of its own.
        let name = format!("pintle-{}", t.dir.file_name().unwrap().to_string_lossy());
        let rules =
            "file,\ncapability, network, mount, umount, pivot_root, ptrace, signal, unix,\ndeny /data/** r,";
        needs_program("apparmor_parser");
        parser("--add", &format!("profile {name} flags=(attach_disconnected) {{ {rules} }}")).unwrap();
        Self(name)
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        // A test that failed already has said more.
        let removed = parser("--remove", &format!("profile {} {{ }}", self.0));
        assert!(std::thread::panicking() || removed.is_ok(), "{removed:?}");
    }
}

/// Has apparmor_parser(8) do something with a profile.
fn parser(verb: &str, text: &str) -> std::io::Result<()> {
    let mut parser = Command::new("apparmor_parser");
    let mut child = parser.args([verb, "--skip-cache"]).stdin(Stdio::piped()).spawn()?;
    std::io::Write::write_all(child.stdin.as_mut().expect("a pipe"), text.as_bytes())?;
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(std::io::Error::other(format!("{status}: {text}"))) }
}

const LOOK: [&str; 7] =
    ["/probe", "try", "read", "/proc/self/attr/apparmor/current", ",", "read", "/data/secret"];

#[test]
fn an_apparmor_profile_confines_the_program_and_what_is_executed_beside_it() {
    rows([("with no_new_privs", true), ("without no_new_privs", false)], |no_new_privileges| {
        let t = Sandbox::new();
        let profile = Profile::new(&t);
        let mut b = t.bundle();
        b.set("/process/apparmorProfile", json!(profile.0)).file("/data/secret", "x", 0o644);
        b.set("/process/noNewPrivileges", json!(no_new_privileges));
        let confined = |report: &Value| {
            assert_eq!(report[0]["found"], format!("{} (enforce)\n", profile.0), "{report}");
            assert_eq!(report[1]["errno"], "EACCES", "{report}");
        };
        confined(&t.report(b.args(&LOOK)));
        let c = t.start(b.args(&["/probe", "wait"]));
        confined(&c.exec(&LOOK).ok().json());
        // Another profile by the command line.
        b.remove("/process/apparmorProfile");
        let c = t.start(&b);
        assert_eq!(c.exec(&LOOK).ok().json()[1]["errno"], "", "unconfined");
        confined(&c.exec_with(&["--apparmor", &profile.0], &LOOK).ok().json());
    });
}

#[test]
fn a_profile_that_the_kernel_does_not_have_is_an_error() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.set("/process/apparmorProfile", json!("pintle-has-no-such-profile"));
        t.try_create(&b).fails(1, "unable to apply apparmor profile");
        assert_eq!(t.entries(), 0);
        let c = t.waiting();
        c.exec_with(&["--apparmor", "pintle-has-no-such-profile"], &["/probe", "exit", "0"])
            .fails(255, "unable to apply apparmor profile");
    });
}

#[test]
fn labels_of_selinux_need_it() {
    let cases = [("process", "/process/selinuxLabel"), ("mounts", "/linux/mountLabel")];
    rows(cases, |pointer| {
        if fs::exists("/sys/fs/selinux/enforce").unwrap() {
            skip("SELinux runs");
        }
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.set(pointer, json!("system_u:system_r:container_t:s0:c4,c5"));
        t.try_create(&b)
            .fails(1, "selinux label is specified in config, but selinux is disabled or not supported");
        assert_eq!(t.entries(), 0);
    });
}

/// A container's label and a label of files in integration/selinux/policy.cil; skips where another policy is loaded, or none.
fn labels() -> (&'static str, &'static str) {
    let own = fs::read_to_string("/proc/self/attr/current").unwrap_or_default();
    if !own.starts_with("u:r:host:s0") {
        skip("SELinux does not run with the policy of integration/selinux");
    }
    ("u:r:container:s0:c1,c2", "u:object_r:content:s0:c1,c2")
}

const CURRENT: [&str; 4] = ["/probe", "try", "read", "/proc/self/attr/current"];

#[test]
fn a_process_has_its_selinux_label_and_so_has_what_is_executed_beside_it() {
    rows([("with no_new_privs", true), ("without no_new_privs", false)], |no_new_privileges| {
        let (label, _) = labels();
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.set("/process/selinuxLabel", json!(label));
        b.set("/process/noNewPrivileges", json!(no_new_privileges));
        let labelled = |report: &Value| {
            assert_eq!(report[0]["found"].as_str().unwrap().trim_end_matches('\0'), label, "{report}");
        };
        labelled(&t.report(b.args(&CURRENT)));
        let c = t.start(b.args(&["/probe", "wait"]));
        labelled(&c.exec(&CURRENT).ok().json());
        b.remove("/process/selinuxLabel");
        let c = t.start(&b);
        labelled(&c.exec_with(&["--process-label", label], &CURRENT).ok().json());
    });
}

#[test]
fn new_file_systems_have_the_selinux_label_of_mounts() {
    let kinds = [("context", None), ("rootcontext", Some("rootcontext"))];
    rows(kinds, |kind: Option<&str>| {
        let (_, label) = labels();
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.set("/linux/mountLabel", json!(label));
        if let Some(kind) = kind {
            b.set("/annotations", json!({"run.oci.mount_context_type": kind}));
        }
        let c = t.start(b.args(&["/probe", "wait"]));
        c.wait_for_output("ready");
        let of = |path: &str| {
            let mut value = [0; 256];
            let path = format!("/proc/{}/root{path}", c.pid());
            let length = rustix::fs::getxattr(&path, "security.selinux", &mut value).expect("a label");
            String::from_utf8_lossy(&value[..length]).trim_end_matches('\0').to_owned()
        };
        // The null device in /dev was made there, the directory of message queues is labelled once it is there.
        let made = if kind.is_none() { label } else { "u:object_r:content:s0" };
        assert_eq!([of("/dev"), of("/dev/mqueue"), of("/dev/null")], [label, label, made]);
        assert_ne!(of("/proc"), label);
    });
}

#[test]
fn a_label_that_the_policy_does_not_know_is_an_error() {
    let cases = [("process", "/process/selinuxLabel"), ("mounts", "/linux/mountLabel")];
    rows(cases, |pointer| {
        labels();
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.set(pointer, json!("u:r:nobody:s0"));
        t.try_create(&b).fails(1, "invalid argument");
        assert_eq!(t.entries(), 0);
    });
}
