//! Tests of pintle-image from outside, one module per subject.

mod registry;
