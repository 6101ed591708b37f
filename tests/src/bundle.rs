//! A bundle: the default config.json as plain JSON to edit, and a rootfs that holds the probe and empty folders.

use crate::{Value, json};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

/// The empty folders of every rootfs.
pub(crate) const FOLDERS: [&str; 7] = ["proc", "sys", "dev", "etc", "tmp", "run", "data"];

/// A bundle on disk. Its configuration is written when a container is made of it.
pub struct Bundle {
    /// The folder.
    pub dir: PathBuf,
    /// config.json, to be edited freely.
    pub config: Value,
}

impl Bundle {
    pub(crate) fn new(dir: PathBuf) -> Self {
        for folder in FOLDERS {
            fs::create_dir_all(dir.join("rootfs").join(folder)).expect("a rootfs can be made");
        }
        let probe = crate::runtime::probe();
        let inside = dir.join("rootfs/probe");
        // A link: nothing is written, so no exec anywhere meets a "text file busy".
        if fs::hard_link(&probe, &inside).is_err() {
            crate::copy_program(&probe, &inside);
        }
        Self { dir, config: default_config() }
    }

    /// The rootfs on the host.
    pub fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    /// A path inside the rootfs, as the host sees it.
    pub fn inside(&self, path: &str) -> PathBuf {
        self.rootfs().join(path.trim_start_matches('/'))
    }

    /// What the container runs.
    pub fn args(&mut self, args: &[&str]) -> &mut Self {
        self.set("/process/args", json!(args))
    }

    /// Sets a value by JSON pointer; the objects on the way are made.
    pub fn set(&mut self, pointer: &str, value: Value) -> &mut Self {
        let mut at = &mut self.config;
        for key in pointer.split('/').skip(1) {
            at = match at {
                Value::Array(list) => &mut list[key.parse::<usize>().expect("an index of the list")],
                other => &mut other[key],
            };
        }
        *at = value;
        self
    }

    /// Appends to a list, which is made if it is missing.
    pub fn push(&mut self, pointer: &str, value: Value) -> &mut Self {
        if self.config.pointer(pointer).is_none() {
            self.set(pointer, json!([]));
        }
        self.config.pointer_mut(pointer).and_then(Value::as_array_mut).expect("a list").push(value);
        self
    }

    /// Removes a key.
    pub fn remove(&mut self, pointer: &str) -> &mut Self {
        let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
        self.config.pointer_mut(parent).and_then(Value::as_object_mut).expect("an object").remove(key);
        self
    }

    /// Makes the rootfs writable.
    pub fn writable(&mut self) -> &mut Self {
        self.set("/root/readonly", json!(false))
    }

    /// Appends a mount.
    pub fn mount(&mut self, to: &str, kind: &str, source: &str, options: &[&str]) -> &mut Self {
        self.push("/mounts", json!({"destination": to, "type": kind, "source": source, "options": options}))
    }

    /// Leaves a namespace out: the container shares the runtime's.
    pub fn without_namespace(&mut self, kind: &str) -> &mut Self {
        let list = self.config["linux"]["namespaces"].as_array_mut().expect("a list of namespaces");
        list.retain(|n| n["type"] != kind);
        self
    }

    /// A new namespace of this kind.
    pub fn new_namespace(&mut self, kind: &str) -> &mut Self {
        self.without_namespace(kind).push("/linux/namespaces", json!({"type": kind}))
    }

    /// Joins the namespace at `path`.
    pub fn join_namespace(&mut self, kind: &str, path: &str) -> &mut Self {
        self.without_namespace(kind).push("/linux/namespaces", json!({"type": kind, "path": path}))
    }

    /// A new user namespace: inside 0 to 65535 are 100000 and up outside. The rootfs belongs to its root.
    pub fn user_namespace(&mut self) -> &mut Self {
        self.new_namespace("user").map_ids();
        self
    }

    /// The id maps of [`Bundle::user_namespace`], and a rootfs that belongs to them.
    pub fn map_ids(&mut self) -> &mut Self {
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
        self.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
        for path in [""].iter().chain(&FOLDERS) {
            chown(self.rootfs().join(path), Some(100_000), Some(100_000)).expect("root can chown");
        }
        self
    }

    /// A file in the rootfs.
    pub fn file(&mut self, path: &str, content: &str, mode: u32) -> &mut Self {
        let file = self.inside(path);
        fs::create_dir_all(file.parent().expect("a folder")).expect("a folder in the rootfs");
        fs::write(&file, content).expect("a file in the rootfs");
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("its mode");
        self
    }

    /// A folder in the rootfs.
    pub fn folder(&mut self, path: &str, mode: u32) -> &mut Self {
        let dir = self.inside(path);
        fs::create_dir_all(&dir).expect("a folder in the rootfs");
        fs::set_permissions(&dir, fs::Permissions::from_mode(mode)).expect("its mode");
        self
    }

    /// A symbolic link in the rootfs; an empty folder that stands there gives way.
    pub fn link(&mut self, path: &str, target: impl AsRef<Path>) -> &mut Self {
        let link = self.inside(path);
        if link.is_dir() {
            fs::remove_dir(&link).expect("an empty folder");
        }
        symlink(target, link).expect("a link in the rootfs");
        self
    }

    /// A file on the host, beside the rootfs: for hooks, bind sources and their marks.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A hook that runs the host's shell.
    pub fn hook(&mut self, kind: &str, script: &str) -> &mut Self {
        self.push(&format!("/hooks/{kind}"), json!({"path": "/bin/sh", "args": ["sh", "-c", script]}))
    }

    /// Writes config.json.
    pub fn write(&self) -> &Self {
        let text = serde_json::to_vec_pretty(&self.config).expect("JSON");
        fs::write(self.dir.join("config.json"), text).expect("config.json can be written");
        self
    }
}

/// runc's default configuration, without a terminal and with the probe as the program.
pub fn default_config() -> Value {
    let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    json!({
        "ociVersion": "1.3.0",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": ["/probe", "report"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "runc",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
                "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
                "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs",
                "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}
        ],
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"},
                {"type": "mount"}, {"type": "cgroup"}],
            "maskedPaths": ["/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    })
}
