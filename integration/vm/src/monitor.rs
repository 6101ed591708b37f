//! QEMU's monitor (QMP): as much of it as saving and restoring a machine needs.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

pub struct Monitor {
    lines: BufReader<UnixStream>,
}

impl Monitor {
    /// Greets the monitor.
    pub fn new(stream: UnixStream) -> Result<Monitor> {
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut monitor = Monitor { lines: BufReader::new(stream) };
        monitor.read().context("QEMU's greeting")?;
        monitor.call("qmp_capabilities", json!({}))?;
        Ok(monitor)
    }

    /// Writes the paused machine into `file`, whose holes stand for memory that was never touched.
    pub fn save(&mut self, file: &Path) -> Result<()> {
        self.call("stop", json!({}))?;
        self.migrate_through("migrate", file)
    }

    /// Continues the machine that `save` wrote.
    pub fn restore(&mut self, file: &Path) -> Result<()> {
        self.migrate_through("migrate-incoming", file)?;
        self.call("cont", json!({})).map(drop)
    }

    fn migrate_through(&mut self, verb: &str, file: &Path) -> Result<()> {
        let mapped = json!({"capabilities": [{"capability": "mapped-ram", "state": true}]});
        self.call("migrate-set-capabilities", mapped)?;
        self.call(verb, json!({"uri": format!("file:{}", file.display())}))?;
        let deadline = Instant::now() + Duration::from_secs(120);
        while Instant::now() < deadline {
            let state = self.call("query-migrate", json!({}))?;
            match state["status"].as_str() {
                Some("completed") => return Ok(()),
                Some("failed" | "cancelled") => bail!("{verb} {}: {}", file.display(), state["error-desc"]),
                _ => std::thread::sleep(Duration::from_millis(10)),
            }
        }
        bail!("{verb} {}: not done after 120 s", file.display())
    }

    fn call(&mut self, verb: &str, arguments: Value) -> Result<Value> {
        let request = json!({"execute": verb, "arguments": arguments});
        writeln!(self.lines.get_mut(), "{request}").with_context(|| format!("ask QEMU to {verb}"))?;
        loop {
            let mut answer = self.read().with_context(|| format!("QEMU's answer to {verb}"))?;
            if !answer["error"].is_null() {
                bail!(
                    "{verb}: {}",
                    answer["error"]["desc"].as_str().unwrap_or("QEMU refuses without a word")
                );
            }
            // Everything else is an event.
            if answer.get("return").is_some() {
                return Ok(answer["return"].take());
            }
        }
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.lines.read_line(&mut line)? == 0 {
            bail!("QEMU closed its monitor");
        }
        Ok(serde_json::from_str(&line)?)
    }
}
