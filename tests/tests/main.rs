//! The subjects, one file each.

mod lifecycle;
