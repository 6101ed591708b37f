//! `features`: what this runtime supports, independent of the host.
