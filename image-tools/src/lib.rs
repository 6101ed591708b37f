//! pintle-image: layered OCI and Docker images into bundles, and changes back into images.
//!
//! Names ([`reference`], [`digest`], [`platform`]) and documents ([`manifest`], [`config`]) are plain data. Bytes come from a
//! [`registry`] and end in the [`store`]; a [`layer`] is applied to a tree or made of one. Each verb stands in a file of its own
//! below [`ops`] and is told top to bottom.

pub mod config;
pub mod digest;
pub mod error;
pub mod manifest;
pub mod platform;
pub mod reference;
