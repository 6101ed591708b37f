//! What was promised of a figure, and whether it holds.

use serde::Serialize;

/// One line under the table.
#[derive(Debug, Serialize)]
pub struct Target {
    /// What is compared with what.
    pub name: String,
    /// At most this.
    pub limit: f64,
    /// What it is.
    pub value: f64,
    /// Whether it is reached.
    pub ok: bool,
}

impl Target {
    /// Compares.
    pub fn new(name: impl Into<String>, limit: f64, value: f64) -> Self {
        Self { name: name.into(), limit, value, ok: value <= limit }
    }

    /// For people.
    pub fn verdict(&self) -> &'static str {
        if self.ok { "ok" } else { "MISSED" }
    }
}
