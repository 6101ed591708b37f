//! config.json as written.
