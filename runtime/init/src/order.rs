//! The order: what `plan` decided, as a stream of steps in one flat buffer that init reads in place.
//!
//! The sequence of steps is the security argument of a birth, so it is data: tests compare it, errors name a step by
//! its index, and `pintle plan BUNDLE` prints it. Encoding and decoding stand side by side in the macro below; both
//! ends are built from the same source, and a version guards against mixing builds.

use core::ffi::CStr;

/// First bytes of every order.
const MAGIC: u32 = 0x6c74_6e70;
/// Changes with every change of the format.
const VERSION: u32 = 5;

/// The buffer does not hold what its length and tags promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Where an order is written to.
pub trait Sink {
    /// Appends `bytes`.
    fn put(&mut self, bytes: &[u8]);
}

/// One value of a step: its two directions next to each other.
pub trait Field<'a>: Sized {
    /// Appends the value.
    fn put(&self, sink: &mut impl Sink);
    /// Takes the value off the front of `bytes`.
    fn take(bytes: &mut &'a [u8]) -> Result<Self, Malformed>;
}

fn split<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], Malformed> {
    let (head, rest) = bytes.split_at_checked(length).ok_or(Malformed)?;
    *bytes = rest;
    Ok(head)
}

macro_rules! number {
    ($($type:ty),*) => {$(
        impl<'a> Field<'a> for $type {
            fn put(&self, sink: &mut impl Sink) {
                sink.put(&self.to_le_bytes());
            }
            fn take(bytes: &mut &'a [u8]) -> Result<Self, Malformed> {
                let head = split(bytes, size_of::<Self>())?;
                Ok(Self::from_le_bytes(head.try_into().map_err(|_| Malformed)?))
            }
        }
    )*};
}
number!(u16, u32, u64, i32, i64);

impl<'a> Field<'a> for bool {
    fn put(&self, sink: &mut impl Sink) {
        sink.put(&[u8::from(*self)]);
    }
    fn take(bytes: &mut &'a [u8]) -> Result<Self, Malformed> {
        match split(bytes, 1)? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(Malformed),
        }
    }
}

impl<'a> Field<'a> for &'a [u8] {
    fn put(&self, sink: &mut impl Sink) {
        (self.len() as u64).put(sink);
        sink.put(self);
    }
    fn take(bytes: &mut &'a [u8]) -> Result<Self, Malformed> {
        let length = usize::try_from(u64::take(bytes)?).map_err(|_| Malformed)?;
        split(bytes, length)
    }
}

impl<'a> Field<'a> for &'a CStr {
    fn put(&self, sink: &mut impl Sink) {
        self.to_bytes_with_nul().put(sink);
    }
    fn take(bytes: &mut &'a [u8]) -> Result<Self, Malformed> {
        CStr::from_bytes_with_nul(<&[u8]>::take(bytes)?).map_err(|_| Malformed)
    }
}

/// Strings one after the other, each with its final NUL.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Strings<'a>(pub &'a [u8]);

impl<'a> Strings<'a> {
    /// The strings in order.
    pub fn iter(&self) -> impl Iterator<Item = &'a CStr> + use<'a> {
        self.0.split_inclusive(|byte| *byte == 0).filter_map(|s| CStr::from_bytes_with_nul(s).ok())
    }
}

impl core::fmt::Debug for Strings<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> Field<'a> for Strings<'a> {
    fn put(&self, sink: &mut impl Sink) {
        self.0.put(sink);
    }
    fn take(bytes: &mut &'a [u8]) -> Result<Self, Malformed> {
        match <&[u8]>::take(bytes)? {
            text if text.last().is_none_or(|last| *last == 0) => Ok(Self(text)),
            _ => Err(Malformed),
        }
    }
}

/// Numbers one after the other, four bytes each, little-endian.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Numbers<'a>(pub &'a [u8]);

impl<'a> Numbers<'a> {
    /// The numbers in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + Clone + use<'a> {
        let (words, _) = self.0.as_chunks::<4>();
        words.iter().map(|word| u32::from_le_bytes(*word))
    }
}

impl core::fmt::Debug for Numbers<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> Field<'a> for Numbers<'a> {
    fn put(&self, sink: &mut impl Sink) {
        self.0.put(sink);
    }
    fn take(bytes: &mut &'a [u8]) -> Result<Self, Malformed> {
        match <&[u8]>::take(bytes)? {
            words if words.len().is_multiple_of(4) => Ok(Self(words)),
            _ => Err(Malformed),
        }
    }
}

/// A structure whose fields are encoded in their order.
macro_rules! record {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name<'a> { $($(#[$field_doc])* pub $field: $type,)* }
        impl<'a> Field<'a> for $name<'a> {
            fn put(&self, sink: &mut impl Sink) {
                $(self.$field.put(sink);)*
            }
            fn take(bytes: &mut &'a [u8]) -> Result<Self, Malformed> {
                Ok(Self { $($field: Field::take(bytes)?,)* })
            }
        }
    };
}

record! {
    /// A path inside the rootfs that is to be hidden or read-only.
    Protected {
        /// The kernel's own file system that it lies in: its mount point in the rootfs, or empty.
        mount_point: &'a CStr,
        /// What statfs(2) calls that file system.
        magic: u64,
        /// The path below the mount point, or below the rootfs.
        path: &'a CStr,
    }
}

record! {
    /// Where a finished mount goes, and what is done to it there.
    Place {
        /// Path inside the rootfs, cleaned, absolute.
        target: &'a CStr,
        /// Attributes set on the whole tree (the options that begin with `r`: `rro` …).
        tree_set: u64,
        /// Attributes cleared on the whole tree.
        tree_clear: u64,
        /// Whether the target may lie in procfs.
        in_proc: bool,
        /// Propagation changes in order: MS_SHARED, MS_SLAVE, MS_PRIVATE or MS_UNBINDABLE, each maybe with MS_REC.
        propagation: Numbers<'a>,
    }
}

/// What holds for all steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// Descriptors below this number are the program's; all others are closed when it begins.
    pub first_private: u32,
    /// The descriptors that init inherits: a step names one by its place here. The first is the socket to the parent.
    pub descriptors: Numbers<'a>,
}

/// How many trees of mounts init takes along.
pub const TREES: usize = 32;
/// How many mounts init keeps until they are sealed.
pub const SEALS: usize = 32;

/// The place of the socket to the parent among [`Head::descriptors`].
pub const CHANNEL: u32 = 0;

/// All kinds of step: the tag, the name, the fields.
macro_rules! steps {
    ($($(#[$doc:meta])* $tag:literal $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {
        /// One thing that init does.
        #[allow(missing_docs, reason = "fields are named as in the manual pages; those with a meaning of their own say it")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Step<'a> {
            $($(#[$doc])* $name { $($(#[$field_doc])* $field: $type,)* },)*
        }
        impl<'a> Field<'a> for Step<'a> {
            fn put(&self, sink: &mut impl Sink) {
                match self {
                    $(Self::$name { $($field,)* } => {
                        u16::put(&$tag, sink);
                        $($field.put(sink);)*
                    })*
                }
            }
            fn take(bytes: &mut &'a [u8]) -> Result<Self, Malformed> {
                match u16::take(bytes)? {
                    $($tag => Ok(Self::$name { $($field: Field::take(bytes)?,)* }),)*
                    _ => Err(Malformed),
                }
            }
        }
    };
}

steps! {
    /// From here on nobody without CAP_SYS_PTRACE over the machine may trace this process (CVE-2016-9962).
    1 Undumpable {}
    /// Waits until the parent wrote the id maps of the user namespace this process was born in.
    2 AwaitMaps {}
    /// Asks the parent to write the id maps of the user namespace just unshared, or to read those of one just joined, and waits.
    3 AskMaps {}
    /// The processors to run on.
    62 Affinity { /** By number; none at all: every one that the cgroup allows. */ processors: Numbers<'a>, }
    /// Enters the namespaces `kinds` (CLONE_NEW…) behind the descriptor: one namespace, or a pidfd.
    4 Join { kinds: u32, descriptor: u32, /** EPERM means: try again after the user namespace was joined. */ deferrable: bool, }
    /// Becomes root of the new user namespace, and gives up the capabilities kept for the way here.
    5 Become { uid: u32, gid: u32, set_groups: bool, }
    /// New namespaces (CLONE_NEW…).
    6 Unshare { kinds: u32, }
    /// Offsets of the clocks in the time namespace just unshared: lines for /proc/self/timens_offsets.
    7 TimeOffsets { lines: &'a [u8], }
    /// Goes on in a second process: pid namespaces are entered by birth only. `kinds` as for clone3.
    8 Fork { kinds: u32, }
    /// The same, in the cgroup behind the descriptor.
    64 ForkInto { kinds: u32, cgroup: u32, }
    /// A session of its own, setsid(2).
    9 Session {}
    /// A session keyring of its own.
    10 Keyring { name: &'a CStr, }
    /// Brings the loopback interface up, or lends the parent a socket by which it does.
    11 Loopback { lent: bool, }
    /// Asks the parent to move network devices here, and waits.
    66 NetDevices {}
    /// Sends a socket of rtnetlink(7), made in the network namespace joined before, to the parent.
    67 SendRouteSocket {}
    /// Changes the propagation of the mount at `/` (flags of mount(2)).
    12 Propagation { flags: u32, }
    /// Binds the rootfs onto itself: from here on it is the tree that all targets are resolved in.
    13 Root { path: &'a CStr, /** Make the mount that holds it private. */ parent_private: bool, }
    /// Makes a mount namespace that has nothing but the rootfs (open_tree(2), OPEN_TREE_NAMESPACE). First of the three, since mounts are
    /// listed by age.
    69 OwnRoot { path: &'a CStr, }
    /// Takes a copy of the mounts at a bind's source along into a mount namespace that will not have them; `Bind` attaches them in their
    /// order. At most [`TREES`].
    68 Tree { source: &'a CStr, recursive: bool, /** As for `Propagation`. */ propagation: u32, /** Where it will go. */ target: &'a CStr, }
    /// Enters the mount namespace of `OwnRoot`: the rootfs is `/` there.
    70 EnterOwnRoot { /** As for `Propagation`. */ propagation: u32, }
    /// A new file system.
    14 Filesystem {
        kind: &'a CStr, source: &'a CStr, options: Strings<'a>, attributes: u64,
        /** SELinux's label of its root, where no option gives it; or empty. */ label: &'a CStr,
        /** A tmpfs takes the mode of the directory it covers. */ inherit_mode: bool,
        /** A tmpfs starts with a copy of what it covers. */ copy_up: bool,
        /** The target must be a real directory, not a link (CVE-2023-27561). */ ordinary: bool,
        /** `Seal` makes it read-only. */ to_be_sealed: bool,
        place: Place<'a>,
    }
    /// A bind mount.
    15 Bind {
        source: &'a CStr, recursive: bool,
        /** Whether attributes change at all. */ change: bool,
        set: u64, /** Cleared if the kernel lets us. */ clear: u64, /** Cleared, or it is an error. */ clear_explicit: u64,
        /** Only a procfs may be bound here. */ only_proc: bool,
        /** The descriptor of a user namespace whose maps the mount gets, or none: 0. */ id_map: u32, id_map_recursive: bool,
        /** The parent makes the tree, since nobody in a user namespace may, with maps of which this is the number there, counted from 1; or 0. */ parents_map: u32,
        /** The next of what `Tree` took along. */ prepared: bool,
        place: Place<'a>,
    }
    /// The container's cgroups: a new cgroup2 mount or, where that is not allowed, a bind of `fallback`.
    16 CgroupMount { attributes: u64, /** Without a cgroup namespace a new mount would change the options of the machine's own: always bind. */ bind: bool, fallback: &'a CStr, /** Where `fallback` can't be seen either, hide what is there. */ mask_missing: bool, /** What hides it is mounted with these. */ mask_options: Strings<'a>, place: Place<'a>, }
    /// Makes the mount for `target` read-only, when all that had to be made in it is there.
    17 Seal { target: &'a CStr, }
    /// A device node (or fifo): `directory` and `name` inside the rootfs.
    18 Device { directory: &'a CStr, name: &'a CStr, /** Type and permissions. */ mode: u32, major: u32, minor: u32, uid: u32, gid: u32, /** The host's node, where mknod is not permitted. */ host: &'a CStr, }
    /// The host's node bound into the rootfs, where mknod is not allowed.
    19 DeviceBind { source: &'a CStr, directory: &'a CStr, name: &'a CStr, }
    /// A symbolic link.
    20 Link { target: &'a CStr, directory: &'a CStr, name: &'a CStr, /** Replace what is there. */ replace: bool, }
    /// Asks the parent to run the hooks of the runtime's side, and waits.
    21 RunHooks {}
    /// Runs a hook as a child of this process.
    22 Hook { /** `createContainer hook #0` */ name: &'a CStr, path: &'a CStr, arguments: Strings<'a>, environment: Strings<'a>, /** With the HOME that was found for the program. */ home: bool, /** Seconds, 0 for none. */ timeout: u64, }
    /// Writes a kernel parameter: `path` below /proc/sys.
    23 Sysctl { path: &'a CStr, value: &'a [u8], }
    /// Makes what is at `path` read-only, if it is there.
    24 ReadOnly { path: Protected<'a>, }
    /// Hides what is at `path`, if it is there; what covers a directory is mounted with the options.
    25 Mask { path: Protected<'a>, options: Strings<'a>, }
    /// Makes the rootfs itself read-only.
    26 RootReadOnly {}
    /// The rootfs becomes `/`, and the old root goes away.
    27 Pivot {}
    /// Takes off every whole procfs and sysfs outside the rootfs: `MoveRoot` leaves the old root below the new one.
    61 DropKernelMounts { rootfs: &'a CStr, }
    /// The same where pivot_root is impossible (a ramfs): the rootfs is moved over `/`.
    28 MoveRoot {}
    /// The rootfs becomes `/` of this process only (no mount namespace).
    29 Chroot {}
    /// A terminal of the container's own; its master goes through the socket.
    30 Console { socket: u32, /** Bind it at /dev/console. */ mount: bool, /** Newlines come out as they are: the caller's terminal makes lines of them. */ keep_newlines: bool, rows: u32, columns: u32, uid: u32, }
    /// The standard streams belong to the user.
    31 Stdio { uid: u32, /** Files and terminals stay whose they are: they are the caller's own. */ only_pipes: bool, }
    /// Sends a pidfd of this process through the socket, with `word` as data.
    32 SendPidfd { socket: u32, word: &'a [u8], }
    /// sethostname(2)
    33 Hostname { name: &'a [u8], }
    /// setdomainname(2)
    34 Domainname { name: &'a [u8], }
    /// umask(2)
    35 Umask { mask: u32, }
    /// no_new_privs
    36 NoNewPrivileges {}
    /// sched_setattr(2)
    37 Scheduler { policy: u32, flags: u64, nice: i32, priority: u32, runtime: u64, deadline: u64, period: u64, }
    /// ioprio_set(2)
    38 IoPriority { class: u32, level: u32, }
    /// personality(2)
    39 Personality { domain: u32, }
    /// set_mempolicy(2)
    40 MemoryPolicy { mode: u32, nodes: Numbers<'a>, }
    /// Tells the parent that the container stands, and waits: it sets what only it may, and hands over the state.
    41 Ready {}
    /// Waits until the parent has done its part, which needs nothing of this side.
    57 AwaitGo {}
    /// Closes all that the steps to come have no use for, but the descriptor at `keep`.
    59 CloseRest { keep: u32, }
    /// The root of a container without a mount namespace, for a process that joins it.
    60 EnterRoot { path: &'a CStr, }
    /// A limit, setrlimit(2).
    58 Rlimit { resource: u32, soft: u64, hard: u64, }
    /// Writes a security label below /proc/self/attr.
    42 Label { attribute: &'a CStr, /** Tried when the first is not there. */ fallback: &'a CStr, value: &'a [u8], }
    /// Loads the seccomp filter.
    43 Seccomp { program: &'a [u8], flags: u32, notify: bool, }
    /// The working directory.
    44 Cwd { path: &'a CStr, }
    /// The bounding set.
    45 Bounding { set: u64, }
    /// User and groups, with the capabilities kept.
    46 Identity { uid: u32, gid: u32, groups: Numbers<'a>, set_groups: bool, }
    /// The other four sets.
    47 Capabilities { effective: u64, permitted: u64, inheritable: u64, ambient: u64, }
    /// Checks that there is a program, among `candidates`, to execute; finds HOME.
    48 Lookup { name: &'a CStr, candidates: Strings<'a>, /** The user whose home becomes HOME, or -1. */ home_of: i64, }
    /// Tells the parent that all is prepared.
    49 Done { /** `start` is waited for. */ waits: bool, }
    /// Waits for `start` at the other end of the fifo behind the descriptor.
    50 AwaitStart { fifo: u32, }
    /// Becomes the program that `Lookup` found.
    51 Exec { arguments: Strings<'a>, environment: Strings<'a>, }
    /// Opens a path in the namespaces joined before, and sends the descriptor to the parent.
    52 SendPath { path: &'a CStr, }
    /// The same with a copy of the mounts at the path, attached nowhere, that have the maps of a user namespace.
    65 SendTree { path: &'a CStr, recursive: bool, id_map: u32, id_map_recursive: bool, }
    /// A handle on procfs for the steps that write there or reopen a descriptor, where the container mounts none.
    53 Procfs {}
    /// A standard stream that is the host's /dev/null becomes the container's.
    54 ReopenNull {}
    /// Tries again as the user what `Cwd` was not permitted as root.
    55 CwdAgain { path: &'a CStr, }
    /// Makes the working directory, if it is missing.
    56 MakeCwd { path: &'a CStr, }
}

/// Writes the head of an order.
pub fn begin(sink: &mut impl Sink, head: &Head<'_>) {
    MAGIC.put(sink);
    VERSION.put(sink);
    head.first_private.put(sink);
    head.descriptors.put(sink);
}

/// An order as read: its head, and its steps as an iterator.
#[derive(Clone, Debug)]
pub struct Order<'a> {
    /// What holds for all steps.
    pub head: Head<'a>,
    rest: &'a [u8],
}

impl<'a> Order<'a> {
    /// Reads the head.
    ///
    /// # Errors
    /// [`Malformed`] for anything that `begin` of this very version did not write.
    pub fn read(mut bytes: &'a [u8]) -> Result<Self, Malformed> {
        if u32::take(&mut bytes)? != MAGIC || u32::take(&mut bytes)? != VERSION {
            return Err(Malformed);
        }
        let head = Head { first_private: u32::take(&mut bytes)?, descriptors: Numbers::take(&mut bytes)? };
        Ok(Self { head, rest: bytes })
    }
}

impl<'a> Iterator for Order<'a> {
    type Item = Result<Step<'a>, Malformed>;
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let step = Step::take(&mut self.rest);
        if step.is_err() {
            self.rest = &[];
        }
        Some(step)
    }
}
