//! Holes by what lies outside of a container: the runtime's state, the host's cgroups and who lives there.

use super::guard::Attack;
use pintle_tests::*;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// No number, crun 1.28: an id is a name, not a path.
#[test]
fn an_id_never_leads_out_of_the_root() {
    let ids = [
        "../victim",
        "..",
        ".",
        "",
        "a/../../victim",
        "/victim",
        "victim\n",
        "a b",
        "%2e%2e",
        "\u{2025}/victim",
    ];
    let verbs =
        [&["delete", "--force"][..], &["state"], &["kill"], &["start"], &["exec"], &["create"], &["run"]];
    let cases = verbs.into_iter().flat_map(|verb| ids.map(|id| (format!("{} {id:?}", verb[0]), (verb, id))));
    rows(cases, |(verb, id)| {
        let t = Attack::new();
        let victim = t.dir.join("victim");
        fs::create_dir_all(t.root()).unwrap();
        fs::create_dir(&victim).unwrap();
        let b = t.bundle();
        b.write();
        let mut command = t.command();
        command.args(verb);
        if verb[0] == "create" || verb[0] == "run" {
            command.arg("--bundle").arg(&b.dir);
        }
        command.arg(id);
        if verb[0] == "exec" {
            command.arg("/probe");
        }
        let output = t.finish(command);
        assert_ne!(output.code, 0, "{output:?}");
        assert_eq!(fs::read_dir(&victim).map(Iterator::count).ok(), Some(0), "the victim is as it was");
        assert_eq!(t.entries(), 0);
    });
}

/// A folder of the sandbox that paths climb to. What is made in it may be taken back: the time of its last change tells.
struct Summit {
    dir: PathBuf,
    changed: (i64, i64),
}

impl Summit {
    fn new(t: &Sandbox) -> Self {
        let dir = t.dir.join("summit");
        fs::create_dir(&dir).unwrap();
        let meta = fs::metadata(&dir).unwrap();
        Self { changed: (meta.ctime(), meta.ctime_nsec()), dir }
    }

    /// The path of something in it, from the top of the file system.
    fn path(&self) -> String {
        format!("{}/made", self.dir.display()).trim_start_matches('/').to_owned()
    }

    #[track_caller]
    fn was_not_reached(&self) {
        let meta = fs::metadata(&self.dir).unwrap();
        assert_eq!(
            (meta.ctime(), meta.ctime_nsec()),
            self.changed,
            "something was made outside of the hierarchy"
        );
    }
}

/// No number, crun 1.28: cgroup paths that climb out of the hierarchy.
#[test]
fn a_cgroup_path_never_leads_out_of_the_hierarchy() {
    let ups = ["../../../../../../..", "a/../../../../../../..", "./../../../../../../.."];
    let cases = ups.into_iter().flat_map(|up| ["", "/"].map(|begin| format!("{begin}{up}")));
    rows(cases.map(|up| (up.clone(), up)), |up| {
        let t = Attack::new();
        let mut b = t.bundle();
        let summit = Summit::new(&t);
        b.set("/linux/cgroupsPath", json!(format!("{up}/{}", summit.path()))).args(&["/probe", "exit", "0"]);
        t.run(&b);
        summit.was_not_reached();
        // What was made of it inside the hierarchy goes with the container.
        assert!(!cgroup_mount().join(summit.path()).exists());
    });
}

/// No number, crun 1.28: a cgroup of somebody else, named from below the container's own.
#[test]
fn a_sub_cgroup_never_leads_above_the_containers_own() {
    let ways = ["..", "../NAME", "/../NAME", "a/../../NAME", "../../../../../../NAME"];
    rows(ways.map(|way| (way, way)), |way| {
        let t = Attack::new();
        let c = t.waiting();
        let other = Stranger::beside(cgroup_of(c.pid()), &t.id());
        let way = way.replace("NAME", &other.dir.file_name().unwrap().to_string_lossy());
        let output = c.exec_with(&["--cgroup", &way], &["/probe", "report"]);
        assert!(output.code != 0 && output.stdout.is_empty(), "{output:?}");
        assert!(alive(other.child.id().cast_signed()));
    });
}

/// No number, crun 1.28: an annotation that names a cgroup to delegate, with `..` in it.
#[test]
fn an_annotation_delegates_no_cgroup_outside_of_the_container() {
    let ways = ["../../..", "../NAME", "../../../../../../../NAME", "/../../../../../../../NAME"];
    rows(ways.map(|way| (way, way)), |way| {
        let t = Attack::new();
        let mut b = t.bundle();
        let summit = Summit::new(&t);
        b.set("/annotations", json!({"run.oci.delegate-cgroup": way.replace("NAME", &summit.path())}));
        b.args(&["/probe", "wait"]).write();
        let id = t.id();
        let output = t.call(["run", "--detach", "--bundle", &b.dir.to_string_lossy(), &id]);
        if output.code == 0 {
            let state: Value = t.call(["state", &id]).ok().json();
            let own = cgroup_of(state["pid"].as_i64().unwrap() as i32);
            assert!(own.to_string_lossy().contains(&id), "it lives in {}", own.display());
            t.call(["delete", "--force", &id]).ok();
        }
        summit.was_not_reached();
    });
}

/// A process of the host in a cgroup of its own; both go with the value.
struct Stranger {
    dir: PathBuf,
    child: Child,
}

impl Stranger {
    /// In `name` beside the cgroup `dir`.
    fn beside(dir: PathBuf, name: &str) -> Self {
        let dir = dir.parent().expect("no container lives in the root").join(name);
        fs::create_dir(&dir).expect("a cgroup");
        let mut sleep = Command::new("sleep");
        sleep.arg("1000").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = sleep.spawn().expect("sleep starts");
        fs::write(dir.join("cgroup.procs"), child.id().to_string()).expect("a process can be moved");
        Self { dir, child }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Not for long: where the attack succeeded, somebody else may live there.
        for _ in 0..200 {
            if fs::remove_dir(&self.dir).is_ok() || !self.dir.exists() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

/// No number: a create that failed killed whatever lived in the cgroup that its path named.
#[test]
fn a_failed_create_leaves_strangers_in_its_cgroup_alone() {
    type Edit = fn(&mut Bundle) -> &mut Bundle;
    let faults: [(&str, Edit); 3] = [
        ("nothing else wrong", |b| b),
        ("no program", |b| b.args(&["/nothing"])),
        ("a hook that fails", |b| b.hook("createRuntime", "exit 1")),
    ];
    rows(faults, |edit| {
        let t = Attack::new();
        let stranger = Stranger::beside(cgroup_mount().join("child"), &t.id());
        let mut b = t.bundle();
        let path = stranger.dir.strip_prefix(cgroup_mount()).unwrap();
        b.set("/linux/cgroupsPath", json!(format!("/{}", path.display())));
        edit(&mut b).write();
        let id = t.id();
        let output = t.call(["create", "--bundle", &b.dir.to_string_lossy(), &id]);
        assert_ne!(output.code, 0, "{output:?}");
        t.call(["delete", "--force", &id]);
        assert!(alive(stranger.child.id().cast_signed()), "the stranger was killed");
        assert_eq!(cgroup_of(stranger.child.id().cast_signed()), stranger.dir);
    });
}

/// No number: modes of the state's folders, of the state and of the fifo.
#[test]
fn the_state_is_for_root_and_the_fifo_for_the_containers_root() {
    rows([("without a user namespace", 0), ("with one", 100_000)], |owner| {
        let t = Attack::new();
        let mut b = t.bundle();
        fs::set_permissions(&t.dir, fs::Permissions::from_mode(0o755)).unwrap();
        if owner != 0 {
            b.user_namespace();
        }
        let c = t.create(&b);
        let dir = t.root().join(&c.id);
        let modes = [t.root(), dir.clone(), dir.join("state.json"), dir.join("exec.fifo")].map(|path| {
            let meta = fs::metadata(path).unwrap();
            (meta.permissions().mode() & 0o777, meta.uid(), meta.gid())
        });
        assert_eq!(
            modes,
            [(0o700, 0, 0), (0o711, 0, 0), (0o600, 0, 0), (0o622, owner, owner)].map(|(m, u, g)| (m, u, g))
        );
        // Nobody else finds a container, or lets one go.
        let script = format!("ls {0}; cat {0}/state.json; : >{0}/exec.fifo", dir.display());
        let mut other = Command::new("sh");
        other.args(["-c", &script]);
        std::os::unix::process::CommandExt::gid(&mut other, 65_534);
        std::os::unix::process::CommandExt::uid(&mut other, 65_534);
        let output = t.finish(other);
        assert!(output.code != 0 && output.stdout.is_empty(), "{output:?}");
        assert_eq!(c.status(), "created");
    });
}

/// CVE-2023-25809: without a cgroup namespace the cgroups that the caller was given on the host were writable inside.
#[test]
fn cve_2023_25809_the_callers_own_cgroups_are_read_only_inside() {
    let spaces = [("without a cgroup namespace", false), ("with one", true)];
    rows(spaces, |own_space| {
        let t = Attack::on(Sandbox::ordinary());
        let delegated = Delegated::to(&t);
        let mut b = t.bundle();
        t.call(["spec", "--rootless", "--bundle", &b.dir.to_string_lossy()]).ok();
        b.config = fs::read_to_string(b.dir.join("config.json")).unwrap().parse().unwrap();
        if !own_space {
            b.without_namespace("cgroup");
        }
        let tops = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(|top| {
            let path = delegated.dir.strip_prefix(cgroup_mount()).unwrap();
            format!("{top}/{}", path.display())
        });
        let mut words = vec!["/probe", "try"];
        let made: Vec<String> = tops.iter().map(|top| format!("{top}/inside")).collect();
        for (n, path) in made.iter().enumerate() {
            words.extend((n > 0).then_some(","));
            words.extend(["mkdir", path]);
        }
        let output = t.run(b.set("/process/terminal", json!(false)).args(&words)).ok().json();
        assert!(!delegated.dir.join("inside").exists(), "a cgroup was made from inside: {output}");
        if !own_space {
            // Seen, and refused because of how it is mounted, not because it is somebody else's.
            let errors = output.as_array().unwrap().iter().map(|one| one["errno"].as_str().unwrap());
            assert!(errors.clone().any(|errno| errno == "EROFS"), "{output}");
        }
    });
}

/// A cgroup of the host's that belongs to whom the runtime is called as, as a user's own slice does.
struct Delegated {
    dir: PathBuf,
}

impl Delegated {
    fn to(t: &Sandbox) -> Self {
        let dir = cgroup_mount().join(t.id());
        let made = fs::create_dir(&dir).and_then(|()| chown(&dir, Some(t.caller().0), Some(t.caller().1)));
        if let Err(error) = made {
            skip(format!("no cgroup can be given away: {error}"));
        }
        Self { dir }
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        let _ = (fs::remove_dir(self.dir.join("inside")), fs::remove_dir(&self.dir));
    }
}
