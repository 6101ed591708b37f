//! `spec`.

use super::create::BUNDLE;
use super::flags::{Arguments, Flag, Kind};
use super::{Count, Verb, values};
use crate::error::Result;
use crate::ops::{self, Context};

pub(super) const VERB: Verb = Verb {
    usage: "",
    description: DESCRIPTION,
    flags: &[BUNDLE, Flag::new("rootless", Kind::Switch, "write a specification for a rootless container")],
    count: Count::Exactly(0),
    ..Verb::new("spec", "write a new specification file", run)
};

const DESCRIPTION: &str = "\
Writes the specification file \"config.json\" of a bundle: a starting point to edit.
Its \"args\" run \"sh\", which not every root filesystem has.

EXAMPLE:
To run docker's hello-world as the container \"container1\":

    mkdir hello
    cd hello
    mkdir rootfs
    docker pull hello-world
    docker export $(docker create hello-world) | tar -C rootfs -xf -
    {program} spec
    sed -i 's;\"sh\";\"/hello\";' config.json
    {program} run container1

With \"--rootless\" the container needs no root privileges: it has a user namespace
of its own. Root in a user namespace does not need that.";

fn run(_context: &Context, arguments: &Arguments) -> Result<u8> {
    let bundle = values::below_cwd(&arguments.path("bundle").unwrap_or_default())?;
    ops::spec::spec(&bundle, arguments.switch("rootless"))?;
    Ok(0)
}
