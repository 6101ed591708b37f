//! Tests from outside, each subject a module: one link instead of many.

mod apply;
mod bundle;
mod crash;
mod diff;
mod differential;
mod hostile;
mod layer;
mod layout;
mod make;
mod model;
mod oracle;
mod pull;
mod registry;
mod rootless;
mod sandbox;
mod store;
mod tree;
