//! Puts the device program of a plan on a cgroup. The kernel asks every program on the way up, so one can only
//! restrict further; what an earlier run left on the same cgroup is replaced.

use super::Cgroup;
use crate::error::{Context, Result};
use crate::plan::cgroup::Devices;
use crate::plan::cgroup::devices::{Instruction, code};
use pintle_sys::bpf;
use rustix::fd::OwnedFd;
use rustix::io::Errno;

/// The kernel allows no more on one cgroup.
const MOST_PROGRAMS: usize = 64;

/// Allows everything.
const OPEN: [Instruction; 2] = [
    Instruction { code: code::MOVE, to: 0, from: 0, offset: 0, constant: 1 },
    Instruction { code: code::RETURN, to: 0, from: 0, offset: 0, constant: 0 },
];

impl Cgroup {
    /// Loads and attaches the program of the plan.
    ///
    /// # Errors
    /// A program that the kernel does not take, where rules are required.
    pub fn restrict_devices(&self, devices: &Devices) -> Result<()> {
        // A cgroup that was just made has no program yet.
        let fresh = !self.made.is_empty();
        let attached = match (&devices.program, fresh) {
            (None, true) => Ok(()),
            (Some(program), true) => self.attach(program, &[]),
            (program, false) => self.replace(program.as_deref()),
        };
        if devices.required { attached.context("device rules (linux.resources.devices)") } else { Ok(()) }
    }

    fn replace(&self, program: Option<&[Instruction]>) -> Result<()> {
        let old = self.attached().context("bpf_prog_query(BPF_CGROUP_DEVICE) failed")?;
        match program {
            None if old.is_empty() => Ok(()),
            program => self.attach(program.unwrap_or(&OPEN), &old),
        }
    }

    /// The old programs go only after the new one is there, or in the same step: no moment is without rules.
    fn attach(&self, program: &[Instruction], old: &[OwnedFd]) -> Result<()> {
        let encoded: Vec<_> = program.iter().map(|instruction| instruction.encode()).collect();
        let new = bpf::load_device_program(&encoded, c"Apache-2.0", c"pintle_devices")
            .context("bpf_prog_load(BPF_PROG_TYPE_CGROUP_DEVICE) failed")?;
        let replaced = if let [one] = old { Some(one) } else { None };
        bpf::attach_device_program(&self.dir, &new, replaced)
            .context("failed to call BPF_PROG_ATTACH (BPF_CGROUP_DEVICE, BPF_F_ALLOW_MULTI)")?;
        for program in old.iter().filter(|_| replaced.is_none()) {
            bpf::detach_device_program(&self.dir, program)
                .context("failed to call BPF_PROG_DETACH (BPF_CGROUP_DEVICE) on old filter program")?;
        }
        Ok(())
    }

    /// The programs attached to this very cgroup that this process may touch: one that a security module guards
    /// stays, and can only restrict further.
    fn attached(&self) -> std::result::Result<Vec<OwnedFd>, Errno> {
        let mut ids = [0; MOST_PROGRAMS];
        let count = bpf::attached_device_programs(&self.dir, &mut ids)?;
        let mut programs = Vec::new();
        for id in ids.iter().take(count) {
            match bpf::program_by_id(*id) {
                Ok(program) => programs.push(program),
                Err(Errno::ACCESS | Errno::PERM | Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(programs)
    }
}
