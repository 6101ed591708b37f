//! The tests of pintle-image from outside, one binary: a file per subject.

mod diff;
