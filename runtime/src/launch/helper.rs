//! Helpers: processes of init's image that do one thing where this one can't be, and end.

use super::{sentence, spawn};
use crate::error::{Context, Error, Result};
use crate::plan::Birth;
use crate::plan::steps::{Slot, Steps};
use pintle_init::channel::{LONGEST, Message, receive};
use pintle_init::order::{Field, Step};
use rustix::fd::{BorrowedFd, OwnedFd};

/// What a process with our ids sends from the namespaces of these `kinds` that `process`, a pidfd, is in.
///
/// # Errors
/// What kept it from that.
pub fn beside<'a>(
    process: BorrowedFd<'_>,
    kinds: u32,
    mount_maps: &[OwnedFd],
    last: impl FnOnce(&mut Steps) -> Step<'a>,
) -> Result<OwnedFd> {
    let mut steps = Steps::new();
    let descriptor = steps.slot(Slot::ContainerInit);
    let join = Step::Join { kinds, descriptor, deferrable: false };
    let last = last(&mut steps);
    let descriptors =
        spawn::Descriptors { container_init: Some(process), mount_maps, ..spawn::Descriptors::default() };
    run(steps, [join, last], &descriptors, |_, descriptor| {
        descriptor.ok_or_else(|| Error::new("the helper sent nothing"))
    })
}

/// Has a helper join, and do one more thing; `answer` looks at it and at what it sent while it still waits.
///
/// # Errors
/// What kept the helper from that; those of `answer`.
pub fn run<T>(
    mut steps: Steps,
    [join, last]: [Step<'_>; 2],
    descriptors: &spawn::Descriptors<'_>,
    answer: impl FnOnce(&spawn::Child, Option<OwnedFd>) -> Result<T>,
) -> Result<T> {
    for step in [Step::Undumpable {}, join, last] {
        steps.push(&step);
    }
    let birth = Birth { steps, first_private: 3, ..Birth::default() };
    let helper = spawn::init(&birth, descriptors, None)?;
    let mut buffer = [0; LONGEST];
    let answered =
        receive(&helper.channel, &mut buffer).context("read from helper").and_then(|(length, descriptor)| {
            match Message::take(&mut &buffer[..length]) {
                Ok(Message::Failed { step, errno, operation, text }) => {
                    Err(sentence::failure(&birth.steps, usize::from(step), errno, operation, text))
                }
                Ok(_) => answer(&helper, descriptor),
                Err(_) => Err(Error::new("the helper said nothing")),
            }
        });
    spawn::end(&helper);
    answered
}
