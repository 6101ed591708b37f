//! The order for init, as it grows: encoded steps, and which descriptor goes to which slot. Descriptors have numbers
//! only when `launch` starts init, so steps name slots.

use crate::error::{Error, Result};
use pintle_init::order::{Field, Head, Numbers, Order, Sink, Step, Strings, begin};
use std::ffi::CString;

/// A descriptor that init inherits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// The socket to the parent.
    Channel,
    /// The namespace at the path of this element of `linux.namespaces`.
    Namespace(usize),
    /// The pidfd of the container's init.
    ContainerInit,
    /// The time namespace that the container's program is in, or will be.
    ContainerTime,
    /// The user namespace of an id-mapped mount: an element of `Birth::mount_maps`.
    MountMap(usize),
    /// Where the terminal's master goes.
    Console,
    /// Where init's pidfd goes.
    PidfdSocket,
    /// What `start` opens at its other end.
    Fifo,
    /// The cgroup.
    Cgroup,
}

/// Bytes that grow, for the encoder of pintle-init.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Bytes(Vec<u8>);

impl Sink for Bytes {
    fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

/// Steps in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steps {
    bytes: Bytes,
    slots: Vec<Slot>,
}

impl Default for Steps {
    fn default() -> Self {
        Self::new()
    }
}

impl Steps {
    /// None yet.
    pub fn new() -> Self {
        Self { bytes: Bytes::default(), slots: vec![Slot::Channel] }
    }

    /// Appends a step.
    pub fn push(&mut self, step: &Step<'_>) {
        step.put(&mut self.bytes);
    }

    /// The place of a descriptor, the same for the same descriptor.
    pub fn slot(&mut self, slot: Slot) -> u32 {
        let place = self.slots.iter().position(|known| *known == slot).unwrap_or_else(|| {
            self.slots.push(slot);
            self.slots.len() - 1
        });
        place as u32
    }

    /// Which descriptor goes where.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// The whole order, with the descriptors' numbers in the order of [`Steps::slots`].
    pub fn order(&self, first_private: u32, descriptors: &[i32]) -> Vec<u8> {
        let numbers: Vec<u8> = descriptors.iter().flat_map(|number| number.to_le_bytes()).collect();
        let mut order = Bytes(Vec::with_capacity(self.bytes.0.len() + numbers.len() + 32));
        begin(&mut order, &Head { first_private, descriptors: Numbers(&numbers) });
        order.put(&self.bytes.0);
        order.0
    }

    /// Gives each step, decoded, to `look`.
    pub fn each(&self, mut look: impl FnMut(usize, &Step<'_>)) {
        let order = self.order(0, &[]);
        let steps = Order::read(&order).into_iter().flatten().flatten();
        for (index, step) in steps.enumerate() {
            look(index, &step);
        }
    }
}

/// `text` as a C string; a NUL inside is an error at `place`.
pub fn c_string(text: &str, place: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::new(format!("{place}: {text:?} contains a null byte")))
}

/// Strings for a step, each with its NUL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts(Vec<u8>);

impl Texts {
    /// All of `texts`; a NUL inside is an error at `place[n]`.
    pub fn new<'a>(texts: impl IntoIterator<Item = &'a str>, place: &str) -> Result<Self> {
        let mut all = Self::default();
        for (n, text) in texts.into_iter().enumerate() {
            all.push(text, || format!("{place}[{n}]"))?;
        }
        Ok(all)
    }

    /// Appends one.
    pub fn push(&mut self, text: &str, place: impl FnOnce() -> String) -> Result<()> {
        if text.contains('\0') {
            return Err(Error::new(format!("{}: {text:?} contains a null byte", place())));
        }
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(0);
        Ok(())
    }

    /// As a step takes them.
    pub fn strings(&self) -> Strings<'_> {
        Strings(&self.0)
    }
}

/// Numbers for a step.
pub fn words(numbers: impl IntoIterator<Item = u32>) -> Vec<u8> {
    numbers.into_iter().flat_map(u32::to_le_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_reads_back_as_it_was_written() {
        let texts = Texts::new(["a", "", "b c"], "x").unwrap();
        let groups = words([1, 65536]);
        let mut steps = Steps::new();
        let fifo = steps.slot(Slot::Fifo);
        assert_eq!(steps.slot(Slot::Fifo), fifo);
        let written = [
            Step::Undumpable {},
            Step::Affinity { processors: Numbers(&groups) },
            Step::MemoryPolicy { mode: 0x8002, nodes: Numbers(&groups) },
            Step::Hook {
                name: c"hook #0",
                path: c"/h",
                arguments: texts.strings(),
                environment: Strings(&[]),
                home: true,
                timeout: 7,
            },
            Step::Identity { uid: 1, gid: 2, groups: Numbers(&groups), set_groups: true },
            Step::Seccomp { program: &[1, 2, 3], flags: 4, notify: false },
            Step::Lookup { name: c"sh", candidates: texts.strings(), home_of: -1 },
            Step::AwaitStart { fifo },
        ];
        written.iter().for_each(|step| steps.push(step));
        let order = steps.order(5, &[9, 10]);
        let read = Order::read(&order).unwrap();
        assert_eq!(read.head.descriptors.iter().collect::<Vec<_>>(), [9, 10]);
        assert_eq!(read.head.first_private, 5);
        assert_eq!(read.map(|step| step.unwrap()).collect::<Vec<_>>(), written);
    }

    #[test]
    fn a_cut_order_is_malformed_wherever_it_is_cut() {
        let mut steps = Steps::new();
        steps.push(&Step::Hostname { name: b"name" });
        let order = steps.order(3, &[1]);
        for length in 0..order.len() {
            let whole =
                Order::read(&order[..length]).map(|order| order.map(|step| step.is_ok()).collect::<Vec<_>>());
            assert!(matches!(whole.as_deref(), Err(_) | Ok([] | [false])), "{length}");
        }
    }
}
