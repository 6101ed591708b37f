//! `config.Volumes`: where the image wants its data kept out of the root file system. Docker makes an anonymous volume on disk
//! for each and seeds it with what the image has there; who runs a bundle has no place for such volumes. So each is a tmpfs
//! that the runtime seeds (`tmpcopyup`), with the mode and the owner of the image's directory: it ends with the container, as
//! `docker run --rm` has it, and is memory. For much data, a mount of the caller's own takes its place, or
//! [`Volumes::Rootfs`] leaves it where it is; then a commit has to leave it out.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

use rustix::fs::FileType;
use serde_json::{Value, json};

use super::{IdMaps, rootfs};
use crate::config::Process;
use crate::error::{Context, Error, Result};

/// What becomes of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Volumes {
    /// A tmpfs for each, with a copy of what the image has there.
    #[default]
    Tmpfs,
    /// Nothing: they are directories of the root file system.
    Rootfs,
}

/// One mount for each volume, however often it is written, outer ones first. What is `mounted` anyway is left out, with a warning.
pub fn mounts(
    image: &Process,
    root: BorrowedFd<'_>,
    maps: Option<&IdMaps>,
    mounted: &[Value],
    warnings: &mut Vec<String>,
) -> Result<Vec<Value>> {
    let mut volumes = BTreeMap::new();
    for volume in image.volumes.keys() {
        let place = format!("config.Volumes[{volume:?}]");
        volumes.insert(clean(volume).context(&place)?, place);
    }
    let mut mounts = Vec::new();
    for (path, place) in volumes {
        if mounted.iter().any(|mount| mount["destination"] == path.as_str()) {
            warnings.push(format!("{place}: left out: {path} is a mount of every container"));
        } else {
            let options = options(root, &path, maps).context(place)?;
            mounts.push(json!({"destination": path, "type": "tmpfs", "source": "tmpfs", "options": options}));
        }
    }
    Ok(mounts)
}

/// Absolute, and without what has no meaning to the runtime either.
fn clean(volume: &str) -> Result<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in volume.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    if !volume.starts_with('/') || parts.is_empty() || volume.contains('\0') {
        return Err(Error::invalid("not an absolute path below /"));
    }
    Ok(format!("/{}", parts.join("/")))
}

fn options(root: BorrowedFd<'_>, path: &str, maps: Option<&IdMaps>) -> Result<Vec<String>> {
    let mut options = vec!["nosuid".to_owned(), "nodev".into(), "tmpcopyup".into()];
    let Some(stat) = rootfs::stat(root, path)? else {
        options.push("mode=755".into());
        return Ok(options);
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Err(Error::invalid("not a directory in the image"));
    }
    options.push(format!("mode={:o}", stat.st_mode & 0o7777));
    let inside = |id: u32, maps: Option<&[super::IdMap]>| match maps {
        None => Some(id),
        Some(maps) => maps.iter().find_map(|map| map.inside(id)),
    };
    // What is not mapped is nobody's inside; the tmpfs is its root's then.
    if let (Some(uid), Some(gid)) =
        (inside(stat.st_uid, maps.map(|m| &m.uids[..])), inside(stat.st_gid, maps.map(|m| &m.gids[..])))
    {
        options.extend([format!("uid={uid}"), format!("gid={gid}")]);
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::IdMap;
    use crate::bundle::tests::Tree;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn check(
        tree: &Tree,
        volumes: &[&str],
        maps: Option<&IdMaps>,
    ) -> std::result::Result<Vec<String>, String> {
        let volumes = volumes.iter().map(|v| ((*v).to_owned(), json!({}))).collect();
        let image = Process { volumes, ..Process::default() };
        let mounted = [json!({"destination": "/dev/shm"})];
        let mut warnings = Vec::new();
        let all = mounts(&image, tree.fd(), maps, &mounted, &mut warnings).map_err(|e| e.to_string())?;
        let told = |mount: &Value| {
            let options: Vec<_> = mount["options"].as_array().unwrap().iter().skip(3).collect();
            let options: Vec<_> = options.iter().map(|o| o.as_str().unwrap()).collect();
            format!("{} {}", mount["destination"].as_str().unwrap(), options.join(","))
        };
        Ok(all.iter().map(told).chain(warnings.iter().map(|w| format!("warning: {w}"))).collect())
    }

    #[test]
    fn each_is_a_tmpfs_like_the_directory_it_covers() {
        let tree = Tree::new();
        tree.directory("data/inner");
        std::fs::set_permissions(tree.path("data"), PermissionsExt::from_mode(0o1770)).unwrap();
        symlink("/data", tree.path("link")).unwrap();
        tree.file("file", "");
        let own = format!("uid={},gid={}", tree.owner().0, tree.owner().1);
        assert_eq!(check(&tree, &["/data"], None), Ok(vec![format!("/data mode=1770,{own}")]));
        assert_eq!(
            check(&tree, &["/data/inner/", "/data", "/data/", "/none", "/a/../data/./x"], None),
            Ok(vec![
                format!("/data mode=1770,{own}"),
                format!("/data/inner mode=755,{own}"),
                "/data/x mode=755".into(),
                "/none mode=755".into(),
            ])
        );
        assert_eq!(check(&tree, &["/link"], None), Ok(vec![format!("/link mode=1770,{own}")]));
        for wrong in ["data", "", "/", "/..", "/a/..", "/a\0b"] {
            let expect = format!("config.Volumes[{wrong:?}]: not an absolute path below /");
            assert_eq!(check(&tree, &[wrong], None), Err(expect));
        }
        let file = Err("config.Volumes[\"/file\"]: not a directory in the image".into());
        assert_eq!(check(&tree, &["/file"], None), file);
        assert_eq!(
            check(&tree, &["/dev//shm"], None).unwrap(),
            ["warning: config.Volumes[\"/dev//shm\"]: left out: /dev/shm is a mount of every container"]
        );
    }

    /// The host's files are neither seeds nor examples.
    #[test]
    fn cve_2022_23648_a_volume_stays_in_the_image() {
        let tree = Tree::new();
        tree.directory("data");
        symlink("../../../../../../../..", tree.path("out")).unwrap();
        symlink("/etc", tree.path("data/etc")).unwrap();
        let expect = |path: &str| Ok(vec![format!("{path} mode=755")]);
        for path in ["/out/usr/bin", "/data/etc", "/data/etc/ssl", "/out/out/out/usr"] {
            assert_eq!(check(&tree, &[path], None), expect(path));
        }
    }

    #[test]
    fn the_owner_is_the_one_inside_a_user_namespace() {
        let tree = Tree::new();
        tree.directory("data");
        let (uid, gid) = tree.owner();
        let map = |host| vec![IdMap { container: 7, host, size: 1 }];
        let mapped = IdMaps { uids: map(uid), gids: map(gid) };
        assert_eq!(check(&tree, &["/data"], Some(&mapped)), Ok(vec!["/data mode=755,uid=7,gid=7".into()]));
        let unmapped = IdMaps { uids: map(uid + 1), gids: map(gid) };
        assert_eq!(check(&tree, &["/data"], Some(&unmapped)), Ok(vec!["/data mode=755".into()]));
    }
}
