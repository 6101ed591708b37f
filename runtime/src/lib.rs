//! pintle, an OCI container runtime: reads what the user wrote ([`spec`]), looks at what the machine offers
//! ([`host`]), decides everything ([`plan`]), then does it once: the parent in [`launch`], the child in pintle-init,
//! with every unsafe call in pintle-sys. ARCHITECTURE.md tells who may call whom.

pub mod bus;
pub mod cgroup;
pub mod cli;
pub mod error;
pub mod host;
pub mod launch;
pub mod log;
pub mod ops;
pub mod plan;
pub mod spec;
pub mod state;
pub mod time;
