//! `spec`: the default config.json.
