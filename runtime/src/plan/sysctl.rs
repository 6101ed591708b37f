//! Kernel parameters: only those that belong to a namespace of the container's own may be written (config-linux.md,
//! "Sysctl").

use super::namespaces::{self, Decided};
use super::steps::{Steps, c_string};
use crate::bail;
use crate::error::Result;
use crate::host::Facts;
use crate::spec::Linux;
use pintle_init::order::Step;

/// Parameters of an ipc namespace, ipc_namespaces(7).
const IPC: [&str; 8] = ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"];

/// The steps that write them.
pub fn write(steps: &mut Steps, linux: &Linux, spaces: &Decided, facts: &Facts) -> Result<()> {
    for (key, value) in linux.sysctl.iter().flatten() {
        // `net.ipv4.conf.eth0/1.x` and `net/ipv4/conf/eth0.1/x` are the same: the first separator decides, sysctl(8).
        let path = path(key);
        check(key, &path, spaces, facts)?;
        steps.push(&Step::Sysctl { path: &c_string(&path, "linux.sysctl")?, value: value.as_bytes() });
    }
    Ok(())
}

fn path(key: &str) -> String {
    match key.find(['.', '/']).map(|at| &key[at..=at]) {
        Some(".") => key
            .chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect(),
        _ => key.to_owned(),
    }
}

fn check(key: &str, path: &str, spaces: &Decided, facts: &Facts) -> Result<()> {
    let dotted = path.replace('/', ".");
    if path.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        bail!("linux.sysctl: {key:?} is not the name of a kernel parameter");
    }
    let ipc = dotted.strip_prefix("kernel.").is_some_and(|name| IPC.contains(&name))
        || dotted.starts_with("fs.mqueue.");
    if ipc {
        if !spaces.has(namespaces::IPC) {
            bail!("sysctl {dotted:?} is not allowed in the hosts ipc namespace");
        }
        return Ok(());
    }
    if dotted.starts_with("net.") {
        let joined =
            spaces.joined(namespaces::NETWORK).and_then(|n| facts.namespaces.get(n).copied().flatten());
        if !spaces.has(namespaces::NETWORK) || joined == Some(facts.own_network) {
            bail!("sysctl {dotted:?} not allowed in host network namespace");
        }
        return Ok(());
    }
    if dotted.starts_with("user.") {
        if !spaces.has(namespaces::USER) {
            bail!("setting ucounts without a user namespace not allowed: {dotted}");
        }
        return Ok(());
    }
    match dotted.as_str() {
        "kernel.domainname" if spaces.has(namespaces::UTS) => Ok(()),
        "kernel.domainname" => {
            bail!("sysctl {dotted:?} is not allowed as it conflicts with the hosts uts namespace")
        }
        "kernel.hostname" => {
            bail!("sysctl {dotted:?} is not allowed as it conflicts with the OCI \"hostname\" field")
        }
        _ => bail!("sysctl {dotted:?} is not in a separate kernel namespace"),
    }
}
