//! pintle-image from outside. The subjects are modules of one binary: one link instead of many.

mod differential;
mod oracle;
mod tree;
