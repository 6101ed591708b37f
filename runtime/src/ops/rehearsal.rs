//! A birth without consequences, to tell how much memory one takes: the same steps in the same kind of cgroup, but no
//! hook, no terminal, no record, and no program at the end. Only done when a birth failed for want of memory.

use super::Context;
use super::create::{Decision, Options, Purpose, decide_with, load};
use crate::bail;
use crate::cgroup::{self, Cgroup};
use crate::error::{Kind, Result};
use crate::launch::mount_maps;
use crate::launch::serve::{Caller, Delivery, Parent};
use crate::launch::spawn::{self, Descriptors};
use crate::plan::cgroup::{Limits, Missing, Turn, Write};
use rustix::fd::OwnedFd;
use std::time::{Duration, Instant};

/// In bytes. No birth takes more, but a hostile image may make it.
const MOST: u64 = 256 << 20;
/// In bytes; how exactly the answer is looked for.
const STEP: u64 = 16 << 10;
/// Nobody waits longer for an error.
const ENOUGH: Duration = Duration::from_millis(300);
/// How long a cgroup may take to be empty.
const LIMIT: Duration = Duration::from_secs(10);

/// A limit, in bytes, with which everything up to the program is done: the least that is found in [`ENOUGH`]. Each trial
/// is a birth, which takes a few milliseconds, or many where the kernel looks long for memory to take back.
///
/// # Errors
/// A birth that fails for another reason.
pub(super) fn memory(context: &Context, options: &Options) -> Result<u64> {
    let options =
        Options { console_socket: None, pidfd_socket: None, notify_socket: None, ..options.clone() };
    let Some(taken) = trial(context, &options, MOST)? else { bail!("more than {MOST} bytes are not tried") };
    // Without a record of the most there is only what is left at the end, which may be nothing.
    let (mut fails, mut works) = (0, taken.max(STEP).next_multiple_of(STEP));
    // What was taken includes what the kernel sets aside for each processor, so less may do.
    while works < MOST && trial(context, &options, works)?.is_none() {
        (fails, works) = (works, works * 2);
    }
    let end = Instant::now() + ENOUGH;
    while works - fails > STEP && Instant::now() < end {
        let middle = (fails + works) / 2;
        match trial(context, &options, middle)? {
            Some(_) => works = middle,
            None => fails = middle,
        }
    }
    Ok(works)
}

/// The bytes that a birth with this limit took; `None` when they were too few.
fn trial(context: &Context, options: &Options, limit: u64) -> Result<Option<u64>> {
    let spec = load(options)?;
    let mut decision = decide_with(context, options, Purpose::Detached, &spec, |told| told.rehearsal = true)?;
    if decision.plan.saved.chroot {
        bail!("without a mount namespace of its own it would leave mounts");
    }
    // systemd has no part in it, and nobody else: the container's own place is free again for others.
    decision.plan.cgroup.unit = None;
    let name = format!("pintle-rehearsal-{}", std::process::id());
    decision.plan.cgroup.path.set_file_name(name);
    decision.plan.cgroup.limits = Limits { writes: vec![memory_max(limit)], above_usage: None };
    let Some(cgroup) = cgroup::create(&decision.layout, &decision.plan.cgroup)? else {
        bail!("it has no cgroup")
    };
    let born = born(&mut decision, &cgroup);
    for made in cgroup.made().iter().rev() {
        cgroup::delete(made, LIMIT)?;
    }
    match born {
        Err(error) if error.kind() == Kind::OutOfMemory => Ok(None),
        other => other.map(Some),
    }
}

fn memory_max(limit: u64) -> Write {
    Write {
        origin: "linux.resources.memory.limit".into(),
        file: "memory.max".into(),
        value: limit.to_string(),
        missing: Missing::Refuse,
        turn: Turn::Once,
    }
}

fn born(decision: &mut Decision, cgroup: &Cgroup) -> Result<u64> {
    let birth = std::mem::take(&mut decision.plan.birth);
    let mount_maps = mount_maps::open(&birth.mount_maps, &decision.opened)?;
    let descriptors =
        Descriptors { opened: Some(&decision.opened), mount_maps: &mount_maps, ..Descriptors::default() };
    let child = spawn::init(&birth, &descriptors, Some(cgroup.fd()))?;
    let mut delivery =
        Delivery::begin(child, birth, Trial { cgroup, mount_maps: &mount_maps }, Parent::Sleeps);
    delivery.complete()?;
    spawn::end(delivery.child());
    cgroup.memory_peak()
}

/// Nobody is told of it.
struct Trial<'a> {
    cgroup: &'a Cgroup,
    mount_maps: &'a [OwnedFd],
}

impl Caller for Trial<'_> {
    fn born(&mut self, _pid: i32) -> Result<()> {
        Ok(())
    }

    fn filtered(&mut self, _pid: i32, _listener: OwnedFd) -> Result<()> {
        bail!("a rehearsal has no agent")
    }

    fn mount_maps(&self) -> &[OwnedFd] {
        self.mount_maps
    }

    fn cgroup(&self) -> Option<&Cgroup> {
        Some(self.cgroup)
    }

    fn of_container(&self) -> bool {
        true
    }

    fn see_it_run(&self) -> bool {
        false
    }
}
