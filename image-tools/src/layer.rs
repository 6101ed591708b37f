//! Layers: a tar archive that tells what an image adds to the tree below, changes in it and takes away from it (image-spec
//! layer.md). A [`member`] is one entry of it; [`write`] makes an archive of members. What changed in a [`tree`] becomes a layer in
//! [`diff`]; of a flat one, [`stat`] remembers what it was.

pub mod apply;
pub mod compression;
pub mod diff;
pub mod gzip;
pub mod ids;
pub mod member;
pub mod read;
pub mod stat;
pub mod stream;
pub mod tree;
pub mod write;
