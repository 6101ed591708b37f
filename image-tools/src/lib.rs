//! pintle-image: layered OCI and Docker images into bundles, and changes back into images.
//!
//! Names ([`reference`], [`digest`], [`platform`]) and documents ([`manifest`], [`config`]) are plain data. [`layer`]s say what
//! an image adds to the tree below. [`bundle`] makes the configuration that a runtime runs.

pub mod archive;
pub mod bundle;
pub mod cli;
pub mod config;
pub mod derive;
pub mod digest;
pub mod error;
pub mod image;
pub mod layer;
pub mod layout;
pub mod location;
pub mod manifest;
pub mod ops;
pub mod overlay;
pub mod pipeline;
pub mod platform;
pub mod progress;
pub mod reference;
pub mod registry;
pub mod rootless;
pub mod store;
pub mod terminal;
pub mod tree;
