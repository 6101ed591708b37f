//! Who executes the machine's instructions: KVM where a kernel truly boots on it (a /dev/kvm inside another machine often
//! does not), else QEMU's translator.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cache::{self, Scratch};
use crate::cli::{Init, Shape};
use crate::image::{self, Image};
use crate::machine;
use crate::qemu::{Disk, Qemu};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    Kvm,
    Tcg,
}

impl Accel {
    /// QEMU's option.
    pub fn option(self) -> &'static str {
        match self {
            Accel::Kvm => "kvm",
            Accel::Tcg => "tcg,thread=multi,tb-size=512",
        }
    }
}

/// Tries KVM once for a machine, and remembers the outcome.
pub fn choose(image: &Image) -> Result<Accel> {
    let remembered = cache::path("accel");
    match fs::read_to_string(&remembered).as_deref() {
        Ok("kvm") => return Ok(Accel::Kvm),
        Ok("tcg") => return Ok(Accel::Tcg),
        Ok(other) => bail!("{}: {other:?} is neither kvm nor tcg", remembered.display()),
        Err(_) => {}
    }
    let bar = image::spinner("try whether a kernel boots with KVM");
    let boots =
        fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok() && boots_with_kvm(image)?;
    bar.finish_and_clear();
    let (accel, word) = if boots { (Accel::Kvm, "kvm") } else { (Accel::Tcg, "tcg") };
    fs::write(&remembered, word).with_context(|| format!("write {}", remembered.display()))?;
    Ok(accel)
}

/// A failure of whatever kind means that it does not.
fn boots_with_kvm(image: &Image) -> Result<bool> {
    let nothing = Scratch::new()?;
    let image = Image { accel: Accel::Kvm, ..image.clone() };
    let shape = Shape { init: Init::Minimal, memory: 1024, cpus: 1, selinux: false };
    let booted = Qemu::start(&image, shape, Disk::Fresh, &nothing.path(""), false)
        .and_then(|mut qemu| machine::wait_until_ready(&mut qemu, Duration::from_secs(20)));
    Ok(booted.is_ok())
}
