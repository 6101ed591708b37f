//! pintle-image: layered OCI and Docker images into bundles, and changes back into images.
//!
//! Names ([`reference`], [`digest`], [`platform`]) and documents ([`manifest`], [`config`]) are plain data. [`layer`]s say what
//! an image adds to the tree below.

pub mod config;
pub mod digest;
pub mod error;
pub mod layer;
pub mod manifest;
pub mod platform;
pub mod reference;
pub mod registry;
