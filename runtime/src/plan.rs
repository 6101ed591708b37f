//! Every decision, no side effect.
