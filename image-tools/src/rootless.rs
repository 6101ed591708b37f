//! An ordinary user's own user namespace, in which files may have owners (user_namespaces(7), newuidmap(1), subuid(5)): root inside is the
//! caller, and the ids above are those that the machine's administrator gave to the caller.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use nix::sched::{CloneFlags, unshare};

use crate::error::{Context, Error, Kind, Result};
use crate::layer::ids::{Ids, Map, Range};

/// The command line's hidden first word for the process that has the maps written.
pub const MAPPER: &str = "write-id-maps";

/// Enters a user namespace and a mount namespace of the caller's own; gives the maps. With `squash`, or where the caller was given no ids, the
/// maps have one id, the caller's.
pub fn enter(uid: u32, gid: u32, squash: bool) -> Result<Ids> {
    let ranges = match squash {
        true => None,
        false => granted("/etc/subuid", uid)?.zip(granted("/etc/subgid", uid)?),
    };
    let ids = match ranges {
        Some((users, groups)) => Ids { users: map(uid, users), groups: map(gid, groups) },
        None => Ids { users: Map(vec![one(uid)]), groups: Map(vec![one(gid)]) },
    };
    let made = match ranges {
        Some(_) => enter_by_helper(&ids),
        None => enter_alone(&ids),
    };
    made.context("a user namespace of your own")?;
    Ok(ids)
}

/// Whether this process is in a user namespace other than the machine's: then overlayfs keeps its notes in `user.overlay.*`.
pub fn is_in_user_namespace() -> bool {
    static KNOWN: OnceLock<bool> = OnceLock::new();
    *KNOWN.get_or_init(|| {
        let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        map.split_whitespace().ne(["0", "0", "4294967295"])
    })
}

fn one(id: u32) -> Range {
    Range { inside: 0, outside: id, count: 1 }
}

fn map(own: u32, (first, count): (u32, u32)) -> Map {
    Map(vec![one(own), Range { inside: 1, outside: first, count }])
}

/// The first range that /etc/subuid or /etc/subgid gives to a user, by name or number.
fn granted(path: &str, uid: u32) -> Result<Option<(u32, u32)>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).context(path),
    };
    let passwd = fs::read_to_string("/etc/passwd").context("/etc/passwd")?;
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid.to_string()).then(|| name.to_owned())
    });
    Ok(text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let who = fields.next()?;
        let is_mine = who == uid.to_string() || name.as_deref() == Some(who);
        let range = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        is_mine.then_some(range)
    }))
}

/// One id may be mapped by its owner.
fn enter_alone(ids: &Ids) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).map_err(refused)?;
    fs::write("/proc/self/setgroups", "deny").context("setgroups")?;
    fs::write("/proc/self/uid_map", text(&ids.users)).context("uid_map")?;
    fs::write("/proc/self/gid_map", text(&ids.groups)).context("gid_map")
}

/// More ids are mapped by setuid programs, which have to be outside: this program's second self calls them.
fn enter_by_helper(ids: &Ids) -> Result<()> {
    let mut mapper = Command::new("/proc/self/exe")
        .args([MAPPER, &std::process::id().to_string(), &text(&ids.users), &text(&ids.groups)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("start the mapper")?;
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).map_err(refused)?;
    mapper.stdin.take().expect("piped").write_all(b"\n").context("the mapper")?;
    let mut said = String::new();
    mapper.stdout.take().expect("piped").read_to_string(&mut said).context("the mapper")?;
    match mapper.wait().context("the mapper")?.success() {
        true => Ok(()),
        false => Err(Error::new(Kind::Denied, said.trim().to_owned())),
    }
}

/// The mapper: waits until the namespace is there, and has its maps written.
pub fn write_maps(pid: &str, users: &str, groups: &str) -> Result<()> {
    BufReader::new(std::io::stdin()).read_line(&mut String::new()).context("standard input")?;
    for (program, map) in [("newuidmap", users), ("newgidmap", groups)] {
        let output = Command::new(program).arg(pid).args(map.split_whitespace()).output();
        let output = output.map_err(|_| {
            Error::unsupported(format!("{program} is missing: install uidmap, or use --squash-owners"))
        })?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(Error::new(Kind::Denied, format!("{program}: {}", said.trim())));
        }
    }
    Ok(())
}

fn text(map: &Map) -> String {
    map.0.iter().map(|r| format!("{} {} {}\n", r.inside, r.outside, r.count)).collect()
}

fn refused(errno: nix::errno::Errno) -> Error {
    let hint = "does this machine let ordinary users make them? (sysctl kernel.unprivileged_userns_clone, user.max_user_namespaces)";
    Error::new(Kind::Denied, format!("{}: {hint}", pintle::error::Error::from(errno)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_begin_with_the_caller() {
        assert_eq!(text(&map(1000, (100_000, 65_536))), "0 1000 1\n1 100000 65536\n");
    }
}
