//! Tests from outside, each subject a module: one link instead of many.

mod bundle;
mod diff;
mod differential;
mod oracle;
mod registry;
mod sandbox;
mod tree;
