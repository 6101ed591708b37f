//! What can be written on the command line.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::bundle::{self, Volumes};
use crate::derive::Changes;
use crate::error::Result;
use crate::layer::ids::{Ids, Map};
use crate::platform::Platform;

/// What can stand for an image, below the list of commands.
const IMAGES: &str = "An IMAGE is a name, digest or ID in the store, oci:DIR[:NAME], oci-archive:FILE[:NAME] or docker-archive:FILE[:NAME].";

/// Layered OCI and Docker images into bundles, and changes back into images.
#[derive(Debug, Parser)]
#[command(name = "pintle-image", version, disable_help_subcommand = true, after_help = IMAGES)]
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
    /// Layers worked on at once [default: the number of processors, at most 4]
    #[arg(long, global = true, value_name = "N")]
    pub jobs: Option<usize>,
    /// The largest uncompressed layer, in bytes [default: 1 GiB, or 250 times its blob]
    #[arg(long, global = true, value_name = "BYTES")]
    pub max_layer_size: Option<u64>,
    /// Everything belongs to the caller, whatever the image says
    #[arg(long, global = true)]
    pub squash_owners: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Fetch images from their registries
    Pull {
        /// [registry/]repository[:tag][@digest]
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// Don't apply the layers yet
        #[arg(long)]
        blobs_only: bool,
        #[command(flatten)]
        registry: Registry,
    },
    /// Send an image to a registry
    Push {
        /// Which image
        image: String,
        /// Under which name [default: its own]
        to: Option<String>,
        #[command(flatten)]
        registry: Registry,
    },
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
    /// Write images to one file, in Docker's format and OCI's at once
    Save {
        /// Which images
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<String>,
        /// The file [default: standard output]
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Make an image of one layer from a tree
    Import {
        /// A folder or an archive (- for standard input)
        from: PathBuf,
        /// The image's name
        name: String,
        /// The layer's compression: gzip, zstd or none [default: gzip]
        #[arg(long, value_name = "FORM")]
        compress: Option<String>,
        #[command(flatten)]
        making: Making,
        #[command(flatten)]
        changes: ChangeArgs,
    },
    /// Write an image's tree, or a bundle's, as one flat archive
    Export {
        /// An image or a bundle
        from: String,
        /// The file [default: standard output]
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
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
    /// Make an image of what changed in a bundle
    Commit {
        /// The bundle
        dir: PathBuf,
        /// The new image's name
        name: String,
        /// A path that stays out, may be repeated
        #[arg(long, value_name = "PATH")]
        mask: Vec<String>,
        /// Data in the image's volumes belongs to the layer, too
        #[arg(long)]
        no_mask_volumes: bool,
        /// The layer's compression: gzip, zstd or none [default: gzip]
        #[arg(long, value_name = "FORM")]
        compress: Option<String>,
        #[command(flatten)]
        making: Making,
        #[command(flatten)]
        changes: ChangeArgs,
    },
    /// Change an image's configuration
    Config {
        /// Which image
        image: String,
        /// The new image's name [default: the same]
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        #[command(flatten)]
        making: Making,
        #[command(flatten)]
        changes: ChangeArgs,
    },
    /// Put a file or a tree of the host into an image, or take a path out of it
    Insert {
        /// Which image
        image: String,
        /// A file or folder of the host, and a path in the image; with --remove the path alone
        #[arg(num_args = 1..=2, required = true, value_name = "PATH")]
        paths: Vec<String>,
        /// The folder replaces the one that is there
        #[arg(long, conflicts_with = "remove")]
        replace: bool,
        /// The path goes away
        #[arg(long)]
        remove: bool,
        /// The new image's name [default: the same]
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// The layer's compression: gzip, zstd or none [default: gzip]
        #[arg(long, value_name = "FORM")]
        compress: Option<String>,
        #[command(flatten)]
        making: Making,
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
    /// Keep credentials for a registry
    Login {
        /// Its host, and perhaps port
        registry: String,
        /// The user's name
        #[arg(long, short)]
        username: String,
        /// The password is read from standard input
        #[arg(long)]
        password_stdin: bool,
        #[command(flatten)]
        settings: Registry,
    },
    /// Forget a registry's credentials
    Logout {
        /// Its host, and perhaps port
        registry: String,
        /// The file with credentials
        #[arg(long, value_name = "FILE")]
        authfile: Option<PathBuf>,
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

/// How registries are reached.
#[derive(Debug, Args)]
pub(super) struct Registry {
    /// Credentials, instead of those of any file
    #[arg(long, value_name = "USER:PASSWORD")]
    pub creds: Option<String>,
    /// The file with credentials
    #[arg(long, value_name = "FILE")]
    pub authfile: Option<PathBuf>,
    /// Don't check certificates, and take plain http
    #[arg(long)]
    pub insecure: bool,
    /// A folder of certificates like /etc/containers/certs.d, may be repeated
    #[arg(long, value_name = "DIR")]
    pub cert_dir: Vec<PathBuf>,
    /// Mirrors and insecure registries [default: /etc/containers/registries.conf]
    #[arg(long, value_name = "FILE")]
    pub registries_conf: Option<PathBuf>,
    /// How often a request is tried again
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub retries: u32,
}

/// How a new image is made. SOURCE_DATE_EPOCH in the environment makes it the same each time.
#[derive(Debug, Args)]
pub(super) struct Making {
    /// Who made it, for the history
    #[arg(long, value_name = "WHO")]
    pub by: Option<String>,
    /// Why, for the history
    #[arg(long, short, value_name = "TEXT")]
    pub message: Option<String>,
}

/// How the configuration changes.
#[derive(Debug, Args)]
pub(super) struct ChangeArgs {
    /// A line of a Dockerfile: CMD ENTRYPOINT ENV EXPOSE LABEL STOPSIGNAL USER VOLUME WORKDIR; may be repeated
    #[arg(long, short, value_name = "LINE")]
    pub change: Vec<String>,
    /// Empty a field first: env cmd entrypoint labels ports volumes user workdir stop-signal author history
    #[arg(long, value_name = "FIELD")]
    pub clear: Vec<String>,
    /// The image's author
    #[arg(long, value_name = "WHO")]
    pub author: Option<String>,
    /// When it was made, RFC 3339
    #[arg(long, value_name = "TIME")]
    pub created: Option<String>,
    /// Where it runs, from now on
    #[arg(long, value_name = "PLATFORM")]
    pub set_platform: Option<String>,
}

impl ChangeArgs {
    pub fn changes(self) -> Result<Changes> {
        let platform = self.set_platform.as_deref().map(Platform::parse).transpose()?;
        let mut changes = Changes {
            author: self.author,
            created: self.created,
            platform,
            clear: self.clear,
            ..Changes::default()
        };
        for line in &self.change {
            changes.read(line)?;
        }
        Ok(changes)
    }
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
