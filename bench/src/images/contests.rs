//! What is measured: for each row of the table who takes part, and the commands of each. pintle-image comes first.

use crate::disk::{Disk, run};
use crate::failure::{Doing, Failure, Result};
use crate::meter::{Cost, measure};
use clap::ValueEnum;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Contest {
    /// A Debian with compilers, gzip, to a flat root
    Deb,
    /// More than 50,000 small files, gzip, to a flat root
    Small,
    /// Three zstd layers to a flat root
    Zstd,
    /// A runnable bundle of an image whose layers are applied
    Bundle,
    /// From a registry on loopback
    Pull,
}

/// Who takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Pintle,
    Umoci,
    Skopeo,
    /// skopeo to an OCI layout, then umoci.
    Both,
}

/// The programs and images.
#[derive(Debug)]
pub struct Field {
    /// pintle-image.
    pub pintle: PathBuf,
    /// The folder of tests/image-layouts.sh.
    pub layouts: PathBuf,
    /// Where disks are.
    pub memory: PathBuf,
}

impl Contest {
    /// The row's first column.
    pub fn name(self) -> &'static str {
        match self {
            Self::Deb => "unpack deb",
            Self::Small => "unpack small",
            Self::Zstd => "unpack zstd",
            Self::Bundle => "bundle",
            Self::Pull => "pull",
        }
    }

    /// Who takes part, in the order of a round.
    pub fn who(self) -> &'static [Who] {
        match self {
            Self::Deb | Self::Small | Self::Zstd => &[Who::Pintle, Who::Umoci, Who::Skopeo],
            Self::Bundle => &[Who::Pintle],
            Self::Pull => &[Who::Pintle, Who::Both],
        }
    }

    fn image(self) -> &'static str {
        match self {
            Self::Small => "small:latest",
            Self::Zstd => "zstd:latest",
            Self::Deb | Self::Bundle | Self::Pull => "deb:full",
        }
    }
}

impl Who {
    /// The second column.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pintle => "pintle-image",
            Self::Umoci => "umoci",
            Self::Skopeo => "skopeo, overlay",
            Self::Both => "skopeo + umoci",
        }
    }
}

impl Field {
    /// One run of one of a row, on a disk of its own. `bundle` is so short that it is done ten times; the median counts.
    ///
    /// # Errors
    /// A command fails.
    pub fn run(&self, contest: Contest, who: Who) -> Result<Cost> {
        let disk = Disk::new(&self.memory, "disk")?;
        let image = format!("{}/{}", self.layouts.display(), contest.image());
        match contest {
            Contest::Bundle => self.bundles(&disk, &image),
            Contest::Pull => {
                let registry = Registry::with(&self.memory, &image)?;
                self.pull(&disk, &registry, who)
            }
            Contest::Deb | Contest::Small | Contest::Zstd => self.unpack(&disk, &image, who),
        }
    }

    fn unpack(&self, disk: &Disk, image: &str, who: Who) -> Result<Cost> {
        let location = format!("oci:{image}");
        match who {
            Who::Pintle => measure(&self.pintle(disk, &["unpack", &location, &disk.at("bundle")])),
            Who::Umoci | Who::Both => {
                measure(&words(&["umoci", "unpack", "--image", image, &disk.at("bundle")]))
            }
            Who::Skopeo => {
                let storage = format!("[overlay@{}+{}]", disk.at("store"), disk.at("run"));
                let to = format!("containers-storage:{storage}pintle.test/image:1");
                measure(&words(&["skopeo", "copy", "--quiet", &location, &to]))
            }
        }
    }

    fn bundles(&self, disk: &Disk, image: &str) -> Result<Cost> {
        let load = self.pintle(disk, &["load", &format!("oci:{image}"), "--name", "pintle.test/image:1"]);
        run(Command::new(&load[0]).args(&load[1..]))?;
        let mut costs = Vec::new();
        for number in 0..10 {
            let bundle = disk.at(&format!("bundle-{number}"));
            costs.push(measure(&self.pintle(disk, &["bundle", "pintle.test/image:1", &bundle]))?);
        }
        costs.sort_by(|one, other| one.wall_s.total_cmp(&other.wall_s));
        Ok(costs[costs.len() / 2])
    }

    fn pull(&self, disk: &Disk, registry: &Registry, who: Who) -> Result<Cost> {
        let name = registry.image();
        if who == Who::Pintle {
            return measure(&self.pintle(disk, &["pull", "--insecure", &name]));
        }
        let (from, layout) = (format!("docker://{name}"), format!("{}:full", disk.at("layout")));
        let copy = ["skopeo", "copy", "--quiet", "--src-tls-verify=false", &from, &format!("oci:{layout}")];
        Ok(measure(&words(&copy))?.and(self.unpack(disk, &layout, Who::Both)?))
    }

    fn pintle(&self, disk: &Disk, rest: &[&str]) -> Vec<String> {
        let program = self.pintle.display().to_string();
        [words(&[&program, "--root", &disk.at("store")]), words(rest)].concat()
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Debian's docker-registry on loopback with one image; it ends when dropped.
struct Registry {
    process: Child,
    // Dropped after its process ended.
    _disk: Disk,
}

/// No registry of a host listens there.
const PORT: u16 = 5599;

impl Registry {
    fn with(memory: &Path, image: &str) -> Result<Self> {
        let disk = Disk::new(memory, "registry")?;
        let config = disk.path.join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nhttp: {{addr: '127.0.0.1:{PORT}'}}\n\
             storage: {{filesystem: {{rootdirectory: '{}'}}}}\n",
            disk.at("data")
        );
        fs::write(&config, text).doing(config.display())?;
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let registry = Self { process: command.spawn().doing("docker-registry")?, _disk: disk };
        registry.wait()?;
        let (from, to) = (format!("oci:{image}"), format!("docker://{}", registry.image()));
        run(Command::new("skopeo").args(["copy", "--quiet", "--dest-tls-verify=false", &from, &to]))?;
        Ok(registry)
    }

    fn image(&self) -> String {
        format!("127.0.0.1:{PORT}/deb:full")
    }

    fn wait(&self) -> Result<()> {
        for _try in 0..100 {
            if TcpStream::connect(("127.0.0.1", PORT)).is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(Failure::Hangs("docker-registry".to_owned()))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.process.kill().and_then(|()| self.process.wait());
    }
}
