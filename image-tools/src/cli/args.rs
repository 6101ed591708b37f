//! What can be written on the command line.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::bundle::{self, Volumes};
use crate::error::Result;
use crate::layer::ids::{Ids, Map};

/// Layered OCI and Docker images into bundles, and changes back into images.
#[derive(Debug, Parser)]
#[command(name = "pintle-image", version, disable_help_subcommand = true)]
pub(super) struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Args)]
pub(super) struct Global {
    /// The store's folder [default: /var/lib/pintle-image, or ~/.local/share/pintle-image]
    #[arg(long, global = true, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Results as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Warnings and errors only
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// How progress is told on standard error: auto, plain, json (one object a line) or none
    #[arg(long, global = true, value_name = "FORM")]
    pub progress: Option<String>,
    /// Which image of an index: os/architecture[/variant] [default: this machine's]
    #[arg(long, global = true, value_name = "PLATFORM")]
    pub platform: Option<String>,
    /// Layers worked on at once [default: the number of processors]
    #[arg(long, global = true, value_name = "N")]
    pub jobs: Option<usize>,
    /// The largest uncompressed layer, in bytes [default: 1 GiB, or 250 times its blob]
    #[arg(long, global = true, value_name = "BYTES")]
    pub max_layer_size: Option<u64>,
    /// Everything belongs to the caller, whatever the image says
    #[arg(long, global = true)]
    pub squash_owners: bool,
}

/// An IMAGE is a name or digest in the store, oci:DIR[:NAME], oci-archive:FILE[:NAME] or docker-archive:FILE[:NAME].
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Bring images from an archive or layout into the store
    Load {
        /// A file of either format (- for standard input), a layout's folder, or an IMAGE outside the store
        #[arg(value_name = "FROM")]
        input: String,
        /// The name in the store, instead of the one that came with it
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// Don't apply the layers yet
        #[arg(long)]
        blobs_only: bool,
    },
    /// Make a flat bundle: all layers in one ordinary directory
    Unpack {
        /// Which image
        image: String,
        /// The bundle, not there yet or empty
        dir: PathBuf,
        /// The tree alone, without a bundle around it
        #[arg(long)]
        rootfs_only: bool,
        #[command(flatten)]
        map: Maps,
        #[command(flatten)]
        config: Config,
    },
    /// Mount an image's tree on a directory, read-only
    Mount {
        /// Which image
        image: String,
        /// Where
        dir: PathBuf,
    },
    /// Unmount what mount or bundle mounted
    Umount {
        /// The directory, or the bundle
        dir: PathBuf,
        /// Remove the bundle, too, with everything that was changed in it
        #[arg(long)]
        delete: bool,
    },
    /// Make a bundle that runs at once: an overlay mount and a config.json
    Bundle {
        /// Which image
        image: String,
        /// The bundle: not there yet, empty, or an earlier one of this image
        dir: PathBuf,
        /// Changes need not survive the machine
        #[arg(long)]
        volatile: bool,
        #[command(flatten)]
        config: Config,
    },
    /// List images
    #[command(alias = "list")]
    Ls,
    /// Show an image's documents
    Inspect {
        /// Which image
        image: String,
        /// The manifest as it is
        #[arg(long, conflicts_with = "config")]
        raw: bool,
        /// The configuration as it is
        #[arg(long)]
        config: bool,
    },
    /// Show how an image was made, newest step first
    History {
        /// Which image
        image: String,
    },
    /// Give an image one more name
    Tag {
        /// Which image
        image: String,
        /// The name
        name: String,
    },
    /// Take names away, and remove what nothing leads to any more
    Rm {
        /// Names; a digest or ID takes all names of its image
        #[arg(required = true)]
        images: Vec<String>,
    },
    /// Remove what no name and no bundle leads to
    Gc,
    /// Check every document, blob and layer
    Fsck {
        /// Remove what is wrong, so that it is fetched again
        #[arg(long)]
        repair: bool,
    },
}

/// Owners on the disk.
#[derive(Debug, Args)]
pub(super) struct Maps {
    /// Users: INSIDE:OUTSIDE:COUNT, may be repeated
    #[arg(long, value_name = "MAP")]
    pub uid_map: Vec<String>,
    /// Groups: INSIDE:OUTSIDE:COUNT, may be repeated
    #[arg(long, value_name = "MAP")]
    pub gid_map: Vec<String>,
}

impl Maps {
    pub fn ids(&self) -> Result<Ids> {
        let map =
            |texts: &[String]| texts.iter().map(|text| Map::parse(text)).collect::<Result<Vec<_>>>().map(Map);
        Ok(Ids { users: map(&self.uid_map)?, groups: map(&self.gid_map)? })
    }
}

/// How config.json differs from what the image wants.
#[derive(Debug, Args)]
pub(super) struct Config {
    /// In place of the image's entrypoint; empty for none
    #[arg(long, value_name = "PROGRAM")]
    pub entrypoint: Option<String>,
    /// NAME=VALUE sets a variable, NAME takes one away; may be repeated
    #[arg(long, short, value_name = "VARIABLE")]
    pub env: Vec<String>,
    /// USER[:GROUP], names or numbers
    #[arg(long, short, value_name = "USER")]
    pub user: Option<String>,
    /// The working directory
    #[arg(long, short, value_name = "DIR")]
    pub workdir: Option<String>,
    /// The process gets a terminal
    #[arg(long, short)]
    pub terminal: bool,
    /// The root file system is read-only inside
    #[arg(long)]
    pub read_only: bool,
    /// The container's host name
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// The host's network instead of an empty one
    #[arg(long)]
    pub host_network: bool,
    /// Volumes stay ordinary directories of the image
    #[arg(long)]
    pub volumes_in_rootfs: bool,
    /// KEY=VALUE, may be repeated
    #[arg(long, value_name = "ANNOTATION")]
    pub annotation: Vec<String>,
    /// The command, in place of the image's
    #[arg(last = true)]
    pub args: Vec<String>,
}

impl Config {
    pub fn options(self) -> bundle::Options {
        let pairs = self.annotation.iter().map(|a| a.split_once('=').unwrap_or((a, "")));
        let annotations: BTreeMap<String, String> =
            pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        bundle::Options {
            args: self.args,
            entrypoint: self.entrypoint.map(|e| Some(e).filter(|e| !e.is_empty()).into_iter().collect()),
            env: self.env,
            user: self.user,
            cwd: self.workdir,
            terminal: self.terminal,
            read_only: self.read_only,
            hostname: self.hostname,
            host_network: self.host_network,
            volumes: if self.volumes_in_rootfs { Volumes::Rootfs } else { Volumes::default() },
            annotations,
            ..bundle::Options::default()
        }
    }
}
