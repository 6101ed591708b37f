//! Tests from outside, each subject a module: one link instead of many.

mod bundle;
mod diff;
mod registry;
mod sandbox;
