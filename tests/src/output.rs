//! What a call of the runtime left: its exit code, both streams, and the error it logged.

use crate::{Runtime, Value};
use std::fmt;

/// The end of one call.
pub struct Output {
    /// The exit code; 128 and the number for a signal.
    pub code: i32,
    /// Everything on stdout.
    pub stdout: String,
    /// Everything on stderr.
    pub stderr: String,
    /// The records that the call added to the log, read as a stream of JSON as containerd does.
    pub log: Vec<Value>,
}

impl Output {
    /// Demands success.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "exit code; {self:?}");
        self
    }

    /// Demands this exit code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "exit code; {self:?}");
        self
    }

    /// Demands a failure whose logged error holds `text`. The words and codes are runc's, which engines match; crun
    /// has its own, and only has to fail.
    #[track_caller]
    pub fn fails(self, code: i32, text: &str) -> Self {
        if Runtime::under_test() == Runtime::Crun {
            assert_ne!(self.code, 0, "exit code; {self:?}");
            return self;
        }
        let error = self.error();
        assert!(error.contains(text), "error {error:?}\n  should say {text:?}; {self:?}");
        self.exits(code)
    }

    /// The last error in the log, as containerd reads it.
    pub fn error(&self) -> String {
        let mut errors = self.log.iter().filter(|r| r["level"] == "error");
        errors.next_back().and_then(|r| r["msg"].as_str()).unwrap_or("").to_owned()
    }

    /// Whether the log has a warning that holds `text`.
    pub fn warns(&self, text: &str) -> bool {
        let mut warnings = self.log.iter().filter(|r| r["level"] == "warning");
        warnings.any(|r| r["msg"].as_str().is_some_and(|m| m.contains(text)))
    }

    /// The probe's report, or any other JSON on stdout.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("stdout is not JSON: {e}; {self:?}"))
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |text: &str| text.chars().take(600).collect::<String>();
        let log: Vec<String> =
            self.log.iter().map(|r| format!("{}: {}", r["level"], short(&r["msg"].to_string()))).collect();
        write!(
            f,
            "exit {}, stdout {:?}, stderr {:?}, log {log:?}",
            self.code,
            short(&self.stdout),
            short(&self.stderr)
        )
    }
}
