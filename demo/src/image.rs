//! The image that the demo's containers run: made of Debian packages, or of what this host has instead, in a store of its own. What
//! pintle-image does is shown by its command line, run in the demo's folder, so that what is printed is what was called.

use crate::show::{heading, note, table};
use crate::{Result, call, now};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The bundle's name in the demo's folder.
const BUNDLE: &str = "bundle";
/// The packages of the base layer. base-files comes first: where /bin is a link into /usr, it is that link.
const BASE: [&str; 3] = ["base-files", "libc6", "busybox-static"];
/// Debian releases and derivatives differ in who brings these links where /usr holds everything.
const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];

/// What the image is made of.
#[derive(Clone, Copy, PartialEq)]
pub enum Source {
    /// Debian's packages.
    Packages,
    /// The host's static busybox; there are no packages.
    Busybox,
    /// This program alone; there is no busybox either.
    Alone,
}

/// The store, and the trees that the layers are made of.
pub struct Image {
    dir: PathBuf,
    tool: PathBuf,
    /// What it is made of.
    pub source: Source,
}

impl Image {
    /// With the store in `dir`, and nothing in it yet.
    pub fn new(dir: &Path) -> Result<Self> {
        let tool = std::env::current_exe()?.with_file_name("pintle-image");
        Ok(Self { dir: dir.to_owned(), tool, source: Source::Alone })
    }

    /// Lays the trees of the layers out; `packages` may not be there.
    pub fn gather(&mut self, packages: Option<&Path>) -> Result {
        fs::copy(std::env::current_exe()?, self.dir.join("pintle-demo"))?;
        let base = self.dir.join("base");
        fs::create_dir(&base)?;
        if let Some(packages) = packages.filter(|packages| packages.is_dir()) {
            BASE.iter().try_for_each(|name| unpack(packages, name, &base))?;
            unpack(packages, "hello", &self.dir.join("hello"))?;
            self.source = Source::Packages;
        } else if borrow_busybox(&base).is_ok() {
            self.source = Source::Busybox;
        } else {
            fs::remove_dir_all(&base)?;
            return Ok(fs::create_dir(&base)?);
        }
        link_applets(&base)
    }

    /// For the first line.
    pub fn made_of(&self) -> &'static str {
        match self.source {
            Source::Packages => "Debian's base-files, libc6, busybox-static and hello",
            Source::Busybox => "this host's busybox, there are no Debian packages to be had",
            Source::Alone => {
                "this very program, there are neither Debian packages nor a static busybox to be had"
            }
        }
    }

    /// The program that the image runs.
    pub fn command(&self) -> &'static [&'static str] {
        match self.source {
            Source::Packages => &["hello"],
            Source::Busybox => &["echo", "Hello from busybox"],
            Source::Alone => &["/demo", "clock"],
        }
    }

    /// The bundle, once it is built.
    pub fn bundle(&self) -> PathBuf {
        self.dir.join(BUNDLE)
    }

    /// Builds image and bundle, a step at a time.
    pub fn build(&self) -> Result {
        heading("An image", "each command, its time, and the layer that it adds");
        let program = format!("CMD {}", serde_json::to_string(self.command())?);
        let mut commands: Vec<&[&str]> = vec![&["import", "base", "demo"]];
        if self.source == Source::Packages {
            commands.push(&["insert", "demo", "hello", "/"]);
        }
        let configure = ["config", "demo", "-c", &program, "-c", "ENV GREETING=hello"];
        commands.push(&["insert", "demo", "pintle-demo", "/demo"]);
        commands.push(&configure);
        commands.push(&["bundle", "--hostname", "demo", "demo", BUNDLE]);
        let rows = commands.iter().map(|command| self.step(command, "demo")).collect::<Result<Vec<_>>>()?;
        table(["", "time", "layer"], &rows);
        self.show(&["ls"])
    }

    /// What the container changed becomes a layer, and the bundle goes away.
    pub fn commit(&self) -> Result {
        heading("Back into an image", "what the containers changed becomes one more layer");
        let commands: [&[&str]; 2] = [&["commit", BUNDLE, "demo:changed"], &["umount", "--delete", BUNDLE]];
        let rows =
            commands.iter().map(|command| self.step(command, "demo:changed")).collect::<Result<Vec<_>>>()?;
        table(["", "time", "layer"], &rows);
        note(&format!("the new layer holds: {}", self.newest_layer("demo:changed")?.join(" ")));
        self.show(&["history", "demo:changed"])
    }

    /// The bundle and its mount, if there are any.
    pub fn unmount(&self) -> Result {
        self.call(&["umount", "--delete", BUNDLE]).map(drop)
    }

    /// A row: the command, its time, and the size of the layer that it added to `image`.
    fn step(&self, command: &[&str], image: &str) -> Result<[String; 3]> {
        let begin = now();
        self.call(command)?;
        let time = format!("{:.1} ms", (now() - begin) as f64 / 1000.0);
        let history: Value = serde_json::from_str(&self.call(&["history", "--json", image])?)?;
        let adds = ["import", "insert", "commit"].contains(&command[0]);
        let size = history[0]["size"].as_u64().filter(|_| adds).map(in_units);
        Ok([format!("pintle-image {}", quoted(command)), time, size.unwrap_or_default()])
    }

    /// The names in the last layer, from its blob in the store.
    fn newest_layer(&self, image: &str) -> Result<Vec<String>> {
        let manifest: Value = serde_json::from_str(&self.call(&["inspect", "--raw", image])?)?;
        let layers = manifest["layers"].as_array().ok_or("a manifest without layers")?;
        let digest =
            layers.last().and_then(|layer| layer["digest"].as_str()).ok_or("an image without layers")?;
        let blob = self.dir.join("store/blobs").join(digest.replace(':', "/"));
        let names = call(Command::new("tar").arg("-tzf").arg(blob))?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// A command, and the table that it prints.
    fn show(&self, command: &[&str]) -> Result {
        note(&format!("pintle-image {}", quoted(command)));
        self.call(command)?.lines().for_each(|line| note(&format!("  {line}")));
        Ok(())
    }

    fn call(&self, arguments: &[&str]) -> Result<String> {
        call(Command::new(&self.tool).current_dir(&self.dir).args(["--root", "store"]).args(arguments))
    }
}

/// A package's files.
fn unpack(packages: &Path, name: &str, into: &Path) -> Result {
    let mut files = fs::read_dir(packages)?.flatten().map(|entry| entry.path());
    let is_it = |file: &PathBuf| {
        file.file_name().is_some_and(|file| file.to_string_lossy().starts_with(&format!("{name}_")))
    };
    let file = files.find(is_it).ok_or_else(|| format!("{}: no {name}_*.deb", packages.display()))?;
    call(Command::new("dpkg-deb").arg("-x").args([&file, into])).map(drop)
}

/// The host's busybox, if it is one that needs no shared libraries: those are not here.
fn borrow_busybox(base: &Path) -> Result {
    fs::create_dir(base.join("bin"))?;
    fs::copy("/bin/busybox", base.join("bin/busybox"))?;
    call(Command::new("chroot").arg(base).args(["/bin/busybox", "true"])).map(drop)
}

/// All of busybox's programs, and the ways to them.
fn link_applets(base: &Path) -> Result {
    for name in MERGED {
        if !base.join(name).exists() && base.join("usr").join(name).exists() {
            symlink(Path::new("usr").join(name), base.join(name))?;
        }
    }
    let applets = call(Command::new("chroot").arg(base).args(["/bin/busybox", "--list"]))?;
    let mut links = applets.lines().map(|name| base.join("bin").join(name)).filter(|link| !link.exists());
    Ok(links.try_for_each(|link| symlink("busybox", link))?)
}

/// As a shell wants it.
fn quoted(command: &[&str]) -> String {
    let word = |word: &&str| if word.contains(' ') { format!("'{word}'") } else { (*word).to_owned() };
    command.iter().map(word).collect::<Vec<_>>().join(" ")
}

/// Bytes, as pintle-image tells them.
fn in_units(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}
