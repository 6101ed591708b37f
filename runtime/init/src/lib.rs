//! The container's first process: carries out an [`order`] with system calls and nothing else. It has no heap, no
//! libc, no environment and no opinion: every decision was taken by `plan` in the runtime, and each step is carried
//! out by the room of its name. A failure is a step's index, an operation and an errno; the parent, which wrote the
//! order, makes a sentence of it.
//!
//! `plan/x.rs` in the runtime decides what `x.rs` here does.
#![no_std]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod channel;
pub mod order;

mod cgroup;
mod console;
mod copy_up;
mod devices;
mod failure;
mod hooks;
mod mountinfo;
mod mounts;
mod namespaces;
mod path;
mod process;
mod procfs;
mod program;
mod rootfs;

use channel::Message;
use core::ffi::CStr;
use failure::{Failure, Note, Result};
use order::{CHANNEL, Numbers, Order, Step};
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::DumpableBehavior;

/// The exit status of an init that failed, as of a shell whose command could not be executed by runc.
const FAILED: u8 = 255;

/// What init knows beside the order: the descriptors that earlier steps left for later ones.
struct Init<'a> {
    descriptors: Numbers<'a>,
    /// Descriptors below are the program's.
    first_private: u32,
    /// The caller's umask, for hooks.
    umask: rustix::fs::Mode,
    channel: BorrowedFd<'static>,
    /// The rootfs: every container path is resolved below it.
    root: Option<OwnedFd>,
    /// The rootfs is `/` by now.
    entered: bool,
    /// What tells the rootfs from everything in it: its mount and inode.
    root_identity: (u64, u64),
    /// The directory of the last device or link: the next one is mostly made there, too.
    directory: Option<(&'a CStr, OwnedFd)>,
    /// procfs, verified.
    proc: Option<OwnedFd>,
    /// Joins that wait for the user namespace.
    deferred: [Option<(u32, BorrowedFd<'static>)>; 8],
    /// The state that hooks read, sent by the parent.
    state: Option<OwnedFd>,
    /// The read-only empty directory that covers masked ones.
    empty: Option<OwnedFd>,
    /// The null device that covers masked files, where it covers one.
    null: Option<OwnedFd>,
    /// The same, attached nowhere yet.
    spare_null: Option<OwnedFd>,
    /// What is to be sealed, by its target.
    unsealed: [Option<(&'a CStr, OwnedFd)>; order::SEALS],
    /// The mount namespace of the rootfs alone, until it is entered.
    own_mounts: Option<OwnedFd>,
    /// What `Tree` took along and `Bind` has not attached yet.
    trees: [Option<OwnedFd>; order::TREES],
    /// The other end of `start`.
    fifo: Option<OwnedFd>,
    /// What `Lookup` found.
    program: Option<&'a CStr>,
    /// `HOME=…`, when the environment lacks it.
    home: program::Home,
    /// `Cwd` was refused to root: the user's turn.
    cwd_pending: bool,
    /// Words of the kernel or of a hook about a failure.
    note: Note,
    /// Whether `Done` was said: the parent may be gone.
    done: bool,
}

/// Carries out the order behind the descriptor whose number is `argument`; never returns.
pub fn main(argument: &CStr) -> ! {
    let Some(bytes) = open_order(argument) else { pintle_sys::exec::exit(FAILED) };
    let Ok(order) = Order::read(bytes) else { pintle_sys::exec::exit(FAILED) };
    let Ok(channel) = descriptor(order.head.descriptors, CHANNEL) else { pintle_sys::exec::exit(FAILED) };
    let mut init = Init {
        descriptors: order.head.descriptors,
        first_private: order.head.first_private,
        umask: rustix::fs::Mode::empty(),
        channel,
        root: None,
        entered: false,
        root_identity: (0, 0),
        directory: None,
        proc: None,
        deferred: [None; 8],
        state: None,
        empty: None,
        null: None,
        spare_null: None,
        unsealed: [const { None }; order::SEALS],
        own_mounts: None,
        trees: [const { None }; order::TREES],
        fifo: None,
        program: None,
        home: program::Home::new(),
        cwd_pending: false,
        note: Note::new(),
        done: false,
    };
    let outcome = init.prepare().map_err(|failure| (0, failure, false));
    let Err((index, failure, executing)) = outcome.and_then(|()| init.run(order)) else {
        pintle_sys::exec::exit(0)
    };
    init.report(index, &failure, executing);
    pintle_sys::exec::exit(FAILED)
}

/// Reads the number and maps the order; `None` when there is nobody to tell.
fn open_order(argument: &CStr) -> Option<&'static [u8]> {
    let number: i32 = argument.to_str().ok()?.parse().ok()?;
    pintle_sys::map::sealed(pintle_sys::fd::inherited(number)).ok()
}

/// The inherited descriptor at `place`.
fn descriptor(descriptors: Numbers<'_>, place: u32) -> Result<BorrowedFd<'static>> {
    let number = descriptors.iter().nth(place as usize).and_then(|number| i32::try_from(number).ok());
    number.map(pintle_sys::fd::inherited).ok_or(Failure::new("descriptor", Errno::BADF))
}

impl<'a> Init<'a> {
    /// A clean process: its name, its signals, no descriptors but those it was given, no umask in the way of exact
    /// modes.
    fn prepare(&mut self) -> Result {
        pintle_sys::process::set_name(c"pintle:init").map_err(Failure::at("prctl"))?;
        pintle_sys::signal::unblock_all().map_err(Failure::at("rt_sigprocmask"))?;
        pintle_sys::signal::default_all();
        pintle_sys::fd::close_on_exec_from(self.first_private).map_err(Failure::at("close_range"))?;
        self.umask = rustix::process::umask(rustix::fs::Mode::empty());
        Ok(())
    }

    /// Everything that no later step needs, before the image's paths decide what is executed.
    fn close_rest(&mut self, keep: u32) -> Result {
        use rustix::fd::AsRawFd;
        (self.root, self.null, self.empty, self.directory, self.state) = (None, None, None, None, None);
        self.spare_null = None;
        let keep = [
            Some(self.channel.as_raw_fd()),
            Some(self.descriptor(keep)?.as_raw_fd()),
            self.proc.as_ref().map(AsRawFd::as_raw_fd),
        ];
        let kept = keep.into_iter().flatten().filter_map(|fd| u32::try_from(fd).ok());
        pintle_sys::fd::close_all_but(self.first_private, kept).map_err(Failure::at("close_range"))
    }

    /// The inherited descriptor at `place`.
    fn descriptor(&self, place: u32) -> Result<BorrowedFd<'static>> {
        descriptor(self.descriptors, place)
    }

    /// All steps in order; on failure the step's index, and whether it was the execution of the program.
    fn run(&mut self, order: Order<'a>) -> core::result::Result<(), (u16, Failure, bool)> {
        let mut index: u16 = 0;
        for step in order {
            let step = step.map_err(|_| (index, Failure::new("order", Errno::INVAL), false))?;
            self.step(&step, index).map_err(|failure| {
                let executing = matches!(step, Step::Exec { .. });
                (index, failure, executing)
            })?;
            index = index.saturating_add(1);
        }
        Ok(())
    }

    /// One step: a table of which room does it.
    #[rustfmt::skip]
    fn step(&mut self, step: &Step<'a>, index: u16) -> Result {
        match *step {
            Step::Undumpable {} => rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(Failure::at("prctl")),
            Step::AwaitMaps {} => self.await_go(),
            Step::AskMaps {} => self.exchange(&Message::Maps),
            Step::Affinity { processors } => process::affinity(processors),
            Step::Join { kinds, descriptor, deferrable } => self.join(kinds, descriptor, deferrable),
            Step::Become { uid, gid, set_groups } => namespaces::become_root(uid, gid, set_groups),
            Step::Unshare { kinds } => namespaces::unshare(kinds),
            Step::TimeOffsets { lines } => procfs::write_own(c"timens_offsets", lines),
            Step::ForkInto { kinds, cgroup } => self.fork_into(kinds, cgroup),
            Step::Fork { kinds } => self.fork(kinds),
            Step::Session {} => rustix::process::setsid().map(drop).map_err(Failure::at("setsid")),
            Step::Keyring { name } => process::keyring(name),
            Step::Loopback { lent } => self.loopback(lent),
            Step::NetDevices {} => self.exchange(&Message::NetDevices),
            Step::Propagation { flags } => rootfs::propagation(flags),
            Step::Root { path, parent_private } => self.root(path, parent_private),
            Step::Tree { source, recursive, propagation, .. } => self.take_along(source, recursive, propagation),
            Step::OwnRoot { path } => self.own_root(path),
            Step::EnterOwnRoot { propagation } => self.enter_own_root(propagation).map(|()| self.entered = true),
            Step::Filesystem { .. } => self.filesystem(step),
            Step::Bind { .. } => self.bind(step, index),
            Step::CgroupMount { .. } => self.cgroup_mount(step),
            Step::Seal { target } => self.seal(target),
            Step::Device { .. } => self.device(step),
            Step::DeviceBind { source, directory, name } => self.device_bind(source, directory, name),
            Step::Link { target, directory, name, replace } => self.link(target, directory, name, replace),
            Step::RunHooks {} => self.exchange(&Message::RunHooks),
            Step::Hook { .. } => self.hook(step),
            Step::Sysctl { path, value } => self.sysctl(path, value),
            Step::ReadOnly { path } => self.read_only(&path),
            Step::Mask { path, options } => self.mask(&path, options),
            Step::RootReadOnly {} => self.root_read_only(),
            Step::Pivot {} => self.pivot().map(|()| self.entered = true),
            Step::DropKernelMounts { rootfs } => self.drop_kernel_mounts(rootfs),
            Step::MoveRoot {} => self.move_root().map(|()| self.entered = true),
            Step::Chroot {} => self.chroot().map(|()| self.entered = true),
            Step::Console { .. } => self.console(step),
            Step::Stdio { uid, only_pipes } => console::own_stdio(uid, only_pipes),
            Step::CloseRest { keep } => self.close_rest(keep),
            Step::EnterRoot { path } => self.enter_root(path),
            Step::SendPidfd { socket, word } => channel::send_pidfd(self.descriptor(socket)?, word),
            Step::Hostname { name } => rustix::system::sethostname(name).map_err(Failure::at("sethostname")),
            Step::Domainname { name } => rustix::system::setdomainname(name).map_err(Failure::at("setdomainname")),
            Step::Umask { mask } => { rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask)); Ok(()) }
            Step::NoNewPrivileges {} => rustix::thread::set_no_new_privs(true).map_err(Failure::at("prctl")),
            Step::Scheduler { .. } => process::scheduler(step),
            Step::IoPriority { class, level } => pintle_sys::process::set_io_priority(class, level).map_err(Failure::at("ioprio_set")),
            Step::Personality { domain } => pintle_sys::process::set_personality(domain).map_err(Failure::at("personality")),
            Step::MemoryPolicy { mode, nodes } => process::memory_policy(mode, nodes),
            Step::Ready {} => self.exchange(&Message::Ready),
            Step::AwaitGo {} => self.await_go(),
            Step::Rlimit { resource, soft, hard } => pintle_sys::process::set_limit(resource, soft, hard).map_err(Failure::at("setrlimit")),
            Step::Label { attribute, fallback, value } => self.label(attribute, fallback, value),
            Step::Seccomp { program, flags, notify } => self.seccomp(program, flags, notify),
            Step::Cwd { path } => self.cwd(path),
            Step::Bounding { set } => process::bounding(set),
            Step::Identity { uid, gid, groups, set_groups } => process::identity(uid, gid, groups, set_groups),
            Step::Capabilities { effective, permitted, inheritable, ambient } => process::capabilities(effective, permitted, inheritable, ambient),
            Step::Lookup { name, candidates, home_of } => self.lookup(name, candidates, home_of),
            Step::Done { waits } => self.say_done(waits),
            Step::AwaitStart { fifo } => self.await_start(fifo),
            Step::Exec { arguments, environment } => self.execute(arguments, environment),
            Step::SendPath { path } => self.send_path(path),
            Step::SendRouteSocket {} => self.send_route_socket(),
            Step::SendTree { path, recursive, id_map, id_map_recursive } => self.send_tree(path, recursive, (id_map, id_map_recursive)),
            Step::Procfs {} => self.private_procfs(),
            Step::ReopenNull {} => self.reopen_null(),
            Step::CwdAgain { path } => self.cwd_again(path),
            Step::MakeCwd { path } => path::open_or_make(self.root_fd()?, path, path::Kind::Directory).map(drop),
        }
    }

    /// Tells whoever still listens: the parent by the channel, `start` by its fifo.
    fn report(&mut self, index: u16, failure: &Failure, executing: bool) {
        let execution = self.program.filter(|_| executing);
        if let Some(program) = execution {
            // The container's own standard error gets the sentence that runc's init prints there.
            program::print_failure(program, failure.errno);
        }
        if self.done && execution.is_none() {
            // Only startContainer hooks come after `Done`; runc's init tells of them there, too.
            program::print(self.note.bytes());
        }
        if let Some(fifo) = &self.fifo {
            program::report_to_start(fifo, execution, failure, self.note.bytes());
            return;
        }
        let message = Message::Failed {
            step: index,
            errno: failure.errno.raw_os_error(),
            operation: failure.operation.as_bytes(),
            text: self.note.bytes(),
        };
        // Nobody is left to tell when this fails: the parent then sees a death.
        let _unheard = channel::send(self.channel, &message, None);
    }
}
