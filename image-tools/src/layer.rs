//! Layers: a tar archive that tells what an image adds to the tree below, changes in it and takes away from it (image-spec
//! layer.md). A [`member`] is one entry of it.

pub mod apply;
pub mod compression;
pub mod ids;
pub mod member;
pub mod read;
pub mod stream;
