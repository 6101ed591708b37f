//! The config.json of a bundle from an image's configuration (image-spec conversion.md), with an engine's defaults for all
//! that an image does not say. The result is a runtime configuration for pintle, runc or crun.
//!
//! What the image says is kept to the letter; where the specification leaves a choice, each room says what was chosen:
//! [`user`] whom it runs as, `process` its command and environment, [`volumes`] where its data goes, `annotations`, and
//! `defaults` and `seccomp` what it may do. Files of the image are read by `rootfs`, which trusts nothing in them.

mod annotations;
mod defaults;
mod process;
pub mod record;
mod rootfs;
mod seccomp;
pub mod user;
pub mod volumes;

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::path::Path;

use serde_json::{Value, json};

use crate::config::Config;
use crate::error::{Context, Error, Result};
use crate::manifest::to_json;
use crate::platform::Platform;
use user::User;
pub use volumes::Volumes;

/// The name of a container whose caller gives none.
const HOSTNAME: &str = "pintle";

/// What the caller wants otherwise than the image.
#[derive(Clone, Debug)]
pub struct Options {
    /// In place of Cmd; empty for the image's.
    pub args: Vec<String>,
    /// In place of Entrypoint; it leaves the image's Cmd out, too.
    pub entrypoint: Option<Vec<String>>,
    /// `NAME=value` sets a variable, `NAME` takes one away.
    pub env: Vec<String>,
    /// In place of User: `user[:group]`, names or numbers.
    pub user: Option<String>,
    /// In place of WorkingDir.
    pub cwd: Option<String>,
    /// The process gets a terminal.
    pub terminal: bool,
    /// The root file system is read-only inside.
    pub read_only: bool,
    /// The name of the container in its UTS namespace.
    pub hostname: Option<String>,
    /// `root.path`: where the root file system is, from the bundle.
    pub rootfs: String,
    /// A new user namespace with these maps, as an ordinary user needs it.
    pub user_namespace: Option<IdMaps>,
    /// The host's network instead of an empty one of its own.
    pub host_network: bool,
    /// What becomes of the image's volumes.
    pub volumes: Volumes,
    /// Annotations beside the image's, and over them.
    pub annotations: BTreeMap<String, String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            args: Vec::new(),
            entrypoint: None,
            env: Vec::new(),
            user: None,
            cwd: None,
            terminal: false,
            read_only: false,
            hostname: None,
            rootfs: "rootfs".into(),
            user_namespace: None,
            host_network: false,
            volumes: Volumes::default(),
            annotations: BTreeMap::new(),
        }
    }
}

/// How the ids of a user namespace map to those outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdMaps {
    /// Of users.
    pub uids: Vec<IdMap>,
    /// Of groups.
    pub gids: Vec<IdMap>,
}

/// `size` ids from `container` on are, outside, those from `host` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdMap {
    /// The first id inside.
    pub container: u32,
    /// The first id outside.
    pub host: u32,
    /// How many.
    pub size: u32,
}

impl IdMap {
    /// What an id outside is inside.
    pub fn inside(&self, host: u32) -> Option<u32> {
        let offset = host.checked_sub(self.host)?;
        (offset < self.size).then(|| self.container.checked_add(offset))?
    }

    fn has(&self, container: u32) -> bool {
        container.checked_sub(self.container).is_some_and(|offset| offset < self.size)
    }

    fn json(&self) -> Value {
        json!({"containerID": self.container, "hostID": self.host, "size": self.size})
    }
}

/// A configuration, and what of the image did not get into it.
#[derive(Clone, Debug)]
pub struct Converted {
    /// The document: config.json.
    pub json: Vec<u8>,
    /// Sentences for the user.
    pub warnings: Vec<String>,
}

/// Converts an image's configuration. `rootfs` is the image's applied tree, of which /etc/passwd, /etc/group and the volumes'
/// directories are looked at, if need be.
///
/// Errors: an image for another system; a user whom the image does not know; no command; paths that are none; files of the
/// image that are not what they should be.
pub fn runtime_config(image: &Config, rootfs: BorrowedFd<'_>, options: &Options) -> Result<Converted> {
    if !matches!(image.os.as_str(), "" | "linux") {
        return Err(Error::unsupported(format!("os: {:?} does not run on Linux", image.os)));
    }
    let mut warnings = Vec::new();
    let maps = options.user_namespace.as_ref();
    let args = process::args(&image.config, options)?;
    let cwd = process::cwd(&image.config, options)?;
    let env = process::own_env(&image.config, options);
    let user = user(image, &env, rootfs, options, &mut warnings)?;
    let hostname = options.hostname.as_deref().unwrap_or(HOSTNAME);
    let mut mounts = defaults::mounts(maps.is_some(), options.host_network);
    if options.volumes == Volumes::Tmpfs {
        mounts.extend(volumes::mounts(&image.config, rootfs, maps, &mounts, &mut warnings)?);
    }
    let document = json!({
        "ociVersion": pintle::spec::VERSION,
        "process": {
            "terminal": options.terminal,
            "user": user_json(&user),
            "args": args,
            "env": process::env(env, user.home.as_deref(), hostname, options.terminal),
            "cwd": cwd,
            "capabilities": defaults::capabilities(user.uid),
            "noNewPrivileges": false,
        },
        "root": {"path": options.rootfs, "readonly": options.read_only},
        "hostname": hostname,
        "mounts": mounts,
        "linux": linux(maps, options.host_network),
        "annotations": annotations::annotations(image, &options.annotations, &mut warnings),
    });
    Ok(Converted { json: to_json(&document), warnings })
}

/// Makes what the process needs and the image lacks: its working directory, the caller's and 0755, as Docker makes it for
/// root. A runtime would, too, but only where it may write the root file system.
pub fn prepare(image: &Config, rootfs: BorrowedFd<'_>, options: &Options) -> Result<()> {
    let cwd = process::cwd(&image.config, options)?;
    rootfs::make_directory(rootfs, &cwd).with_context(|| format!("working directory {cwd:?}"))
}

/// The image's files of users and groups.
struct Files<'a>(BorrowedFd<'a>);

impl user::Files for Files<'_> {
    fn passwd(&self) -> Result<Option<Vec<u8>>> {
        rootfs::read(self.0, "etc/passwd")
    }
    fn group(&self) -> Result<Option<Vec<u8>>> {
        rootfs::read(self.0, "etc/group")
    }
}

fn user(
    image: &Config,
    env: &[String],
    rootfs: BorrowedFd<'_>,
    options: &Options,
    warnings: &mut Vec<String>,
) -> Result<User> {
    let text = options.user.as_ref().unwrap_or(&image.config.user);
    let mut user = user::resolve(text, !process::has(env, "HOME"), &Files(rootfs))?;
    let Some(maps) = &options.user_namespace else { return Ok(user) };
    let has = |maps: &[IdMap], id: u32| maps.iter().any(|map| map.has(id));
    for (what, id, maps) in [("user", user.uid, &maps.uids), ("group", user.gid, &maps.gids)] {
        if !has(maps, id) {
            return Err(Error::unsupported(format!("user {text:?}: {what} {id} is not mapped")));
        }
    }
    // Who maps only itself must give up setgroups(2), and a group that is not mapped is no group.
    let alone = maps.gids.iter().map(|map| u64::from(map.size)).sum::<u64>() == 1;
    let count = user.additional_gids.len();
    user.additional_gids.retain(|gid| !alone && has(&maps.gids, *gid));
    if user.additional_gids.len() < count {
        warnings.push(format!("user {text:?}: additional groups that are not mapped were left out"));
    }
    Ok(user)
}

fn user_json(user: &User) -> Value {
    match &user.additional_gids[..] {
        [] => json!({"uid": user.uid, "gid": user.gid}),
        gids => json!({"uid": user.uid, "gid": user.gid, "additionalGids": gids}),
    }
}

fn linux(maps: Option<&IdMaps>, host_network: bool) -> Value {
    let rootless = maps.is_some();
    let mut linux = json!({
        "namespaces": defaults::namespaces(rootless, host_network),
        "sysctl": defaults::sysctls(rootless, host_network),
        "maskedPaths": defaults::masked_paths(Path::new("/sys/devices/system/cpu")),
        "readonlyPaths": defaults::read_only_paths(),
        "seccomp": seccomp::profile(&Platform::here().architecture),
    });
    match maps {
        // The runtime lets the devices that it makes itself.
        None => linux["resources"] = json!({"devices": [{"allow": false, "access": "rwm"}]}),
        Some(maps) => {
            let json = |maps: &[IdMap]| maps.iter().map(IdMap::json).collect::<Value>();
            linux["uidMappings"] = json(&maps.uids);
            linux["gidMappings"] = json(&maps.gids);
        }
    }
    linux
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::error::Kind;
    use std::fs;
    use std::os::fd::{AsFd, OwnedFd};
    use std::os::unix::fs::MetadataExt;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU32, Ordering};

    static TREES: AtomicU32 = AtomicU32::new(0);

    /// A temporary directory that is the root of something.
    pub(crate) struct Tree {
        path: PathBuf,
        fd: OwnedFd,
    }

    impl Tree {
        pub(crate) fn new() -> Self {
            let name = format!("pi{}-{}", std::process::id(), TREES.fetch_add(1, Ordering::Relaxed));
            let path = std::env::temp_dir().join(name);
            fs::create_dir(&path).unwrap();
            let fd = fs::File::open(&path).unwrap().into();
            Self { path, fd }
        }

        pub(crate) fn path(&self, inside: &str) -> PathBuf {
            self.path.join(inside)
        }

        pub(crate) fn fd(&self) -> BorrowedFd<'_> {
            self.fd.as_fd()
        }

        pub(crate) fn directory(&self, inside: &str) {
            fs::create_dir_all(self.path(inside)).unwrap();
        }

        pub(crate) fn file(&self, inside: &str, content: &str) {
            fs::write(self.path(inside), content).unwrap();
        }

        pub(crate) fn owner(&self) -> (u32, u32) {
            let metadata = fs::metadata(&self.path).unwrap();
            (metadata.uid(), metadata.gid())
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.path).unwrap();
        }
    }

    fn image(config: Value) -> Config {
        let document = json!({"os": "linux", "architecture": "amd64", "config": config,
            "rootfs": {"type": "layers", "diff_ids": []}});
        Config::parse(document.to_string().as_bytes()).unwrap()
    }

    fn debian() -> Tree {
        let tree = Tree::new();
        tree.directory("etc");
        tree.file("etc/passwd", "root:x:0:0:root:/root:/bin/bash\nwww:x:33:33::/var/www:/bin/sh\n");
        tree.file("etc/group", "root:x:0:\nwww:x:33:\nvideo:x:44:www\n");
        tree
    }

    fn converted(config: Value, options: &Options) -> std::result::Result<(Value, Vec<String>), Error> {
        let Converted { json, warnings } = runtime_config(&image(config), debian().fd(), options)?;
        Ok((serde_json::from_slice(&json).unwrap(), warnings))
    }

    #[test]
    fn the_fields_of_the_image_are_kept() {
        let config = json!({"Entrypoint": ["/ep"], "Cmd": ["a", "b"], "WorkingDir": "/srv", "User": "www",
            "Env": ["PATH=/bin", "A=b"], "StopSignal": "SIGQUIT", "Volumes": {"/data": {}}});
        let (document, warnings) = converted(config, &Options::default()).unwrap();
        assert_eq!(document["process"]["args"], json!(["/ep", "a", "b"]));
        assert_eq!(document["process"]["cwd"], "/srv");
        assert_eq!(document["process"]["user"], json!({"uid": 33, "gid": 33, "additionalGids": [33, 44]}));
        assert_eq!(
            document["process"]["env"],
            json!(["PATH=/bin", "A=b", "HOSTNAME=pintle", "HOME=/var/www"])
        );
        assert_eq!(document["annotations"]["org.opencontainers.image.stopSignal"], "SIGQUIT");
        assert_eq!(document["root"], json!({"path": "rootfs", "readonly": false}));
        assert_eq!(document["mounts"].as_array().unwrap().last().unwrap()["destination"], "/data");
        // As in Docker: no ordinary user has any at once.
        assert_eq!(document["process"]["capabilities"].as_object().unwrap().len(), 1);
        assert_eq!(warnings, Vec::<String>::new());
    }

    #[test]
    fn the_caller_has_the_last_word() {
        let config = json!({"Entrypoint": ["/ep"], "WorkingDir": "/srv", "User": "www", "Env": ["A=b"],
            "Volumes": {"/data": {}}});
        let options = Options {
            args: vec!["x".into()],
            user: Some("0:5".into()),
            cwd: Some("/".into()),
            env: vec!["A=c".into()],
            terminal: true,
            read_only: true,
            hostname: Some("box".into()),
            rootfs: "merged".into(),
            host_network: true,
            volumes: Volumes::Rootfs,
            ..Options::default()
        };
        let (document, _) = converted(config, &options).unwrap();
        let process = &document["process"];
        assert_eq!((&process["args"], &process["cwd"]), (&json!(["/ep", "x"]), &json!("/")));
        assert_eq!(process["user"], json!({"uid": 0, "gid": 5}));
        assert_eq!((&process["terminal"], &process["env"][0]), (&json!(true), &json!("A=c")));
        assert_eq!(document["root"], json!({"path": "merged", "readonly": true}));
        assert_eq!(document["hostname"], "box");
        let lists = |key: &str, value: &str| document[key].to_string().contains(value);
        assert!(!lists("linux", "\"network\"") && !lists("mounts", "/data") && !lists("linux", "net.ipv4"));
    }

    #[test]
    fn a_user_namespace_has_no_limits_and_only_mapped_ids() {
        let maps = |size| {
            let map = vec![IdMap { container: 0, host: 1000, size }];
            Options {
                user_namespace: Some(IdMaps { uids: map.clone(), gids: map }),
                host_network: true,
                ..Options::default()
            }
        };
        let (document, _) = converted(json!({"Cmd": ["sh"]}), &maps(1)).unwrap();
        assert_eq!(document["linux"]["uidMappings"], json!([{"containerID": 0, "hostID": 1000, "size": 1}]));
        assert!(document["linux"]["resources"].is_null());
        let mounts = document["mounts"].to_string();
        assert!(!mounts.contains("gid=5") && mounts.contains("rbind"));
        let (document, warnings) = converted(json!({"Cmd": ["sh"], "User": "www"}), &maps(40)).unwrap();
        assert_eq!(document["process"]["user"]["additionalGids"], json!([33]));
        assert_eq!(warnings, ["user \"www\": additional groups that are not mapped were left out"]);
        let error = converted(json!({"Cmd": ["sh"], "User": "www"}), &maps(1)).unwrap_err();
        assert_eq!(
            (error.kind(), &*error.to_string()),
            (Kind::Unsupported, "user \"www\": user 33 is not mapped")
        );
    }

    #[test]
    fn what_cannot_run_is_an_error() {
        for (config, kind, text) in [
            (
                json!({"Cmd": ["sh"], "User": "nobody-knows"}),
                Kind::NotFound,
                "user \"nobody-knows\": the image's",
            ),
            (
                json!({"Cmd": ["sh"], "User": "4294967296"}),
                Kind::Invalid,
                "user \"4294967296\": 4294967296 is",
            ),
            (json!({"Cmd": ["sh"], "WorkingDir": "x"}), Kind::Invalid, "config.WorkingDir: \"x\""),
            (json!({"Cmd": ["sh"], "Volumes": {"/": {}}}), Kind::Invalid, "config.Volumes[\"/\"]"),
            (json!({}), Kind::Usage, "no command"),
            (json!(null), Kind::Usage, "no command"),
        ] {
            let error = converted(config, &Options::default()).unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().starts_with(text), "{error}");
        }
        let windows = Config { os: "windows".into(), ..image(json!({"Cmd": ["sh"]})) };
        let error = runtime_config(&windows, debian().fd(), &Options::default()).unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported);
    }

    #[test]
    fn cve_2024_9676_a_pipe_for_a_passwd_is_an_error_where_it_is_needed() {
        let tree = Tree::new();
        tree.directory("etc");
        let (pipe, mode) = (tree.path("etc/passwd"), rustix::fs::Mode::from_raw_mode(0o644));
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, mode).unwrap();
        for (user, expect) in [
            ("app", Err("user \"app\": etc/passwd: not a regular file")),
            ("1", Err("user \"1\": etc/passwd: not a regular file")),
            ("1:1", Ok(())),
        ] {
            let image = image(json!({"Cmd": ["sh"], "User": user, "Env": ["HOME=/"]}));
            let found = runtime_config(&image, tree.fd(), &Options::default()).map_err(|e| e.to_string());
            assert_eq!(found.map(drop), expect.map_err(str::to_owned), "{user}");
        }
    }

    #[test]
    fn the_oci_spec_of_the_runtime_reads_it() {
        let (document, _) = converted(json!({"Cmd": ["sh"]}), &Options::default()).unwrap();
        let spec: pintle::spec::Spec = serde_json::from_value(document).unwrap();
        assert_eq!(spec.oci_version.as_deref(), Some(pintle::spec::VERSION));
        assert_eq!(spec.linux.unwrap().masked_paths.unwrap()[2], "/proc/interrupts");
    }

    #[test]
    fn ids_map_inwards() {
        let map = IdMap { container: 10, host: 1000, size: 5 };
        for (host, expect) in [(999, None), (1000, Some(10)), (1004, Some(14)), (1005, None)] {
            assert_eq!(map.inside(host), expect, "{host}");
        }
        let end = IdMap { container: u32::MAX, host: 0, size: u32::MAX };
        assert_eq!((end.inside(0), end.inside(1)), (Some(u32::MAX), None));
        assert!(map.has(10) && map.has(14) && !map.has(15) && !map.has(9));
    }
}
