//! Where the time of one `run true` goes: strace(1) writes down every call of the runtime and of the container's init,
//! and the phases of a birth are told by the calls that begin them. strace adds its own time to every call, so the
//! shares are a hint of where to look and not a measurement.

use crate::command::{Invocation, Meter};
use crate::failure::{Doing, Failure, Result};
use crate::runtimes::{Runtime, on_path};
use std::ffi::OsString;
use std::fs;
use std::path::Path;

/// Traced runs, of which the quickest is shown.
const TRIES: usize = 5;

/// How many of a phase's calls are shown.
const SHOWN: usize = 4;

/// Seconds below which a call is not.
const WORTH_SHOWING: f64 = 50e-6;

/// Columns of the longest bar.
const WIDTH: f64 = 40.0;

/// A system call, in seconds.
#[derive(Debug)]
struct Call {
    begin: f64,
    taken: f64,
    text: String,
}

impl Call {
    /// `1795230344.529572 pivot_root(".", ".")  = 0 <0.000036>`
    fn parse(line: &str) -> Option<Self> {
        let (begin, rest) = line.split_once(' ')?;
        let (text, taken) = match rest.rsplit_once(" <") {
            Some((text, taken)) => (text, taken.strip_suffix('>')?.parse().ok()?),
            None => (rest, 0.0),
        };
        Some(Self { begin: begin.parse().ok()?, taken, text: text.to_owned() })
    }

    fn end(&self) -> f64 {
        self.begin + self.taken
    }

    /// The runtime waiting for init, or for all of the birth: that time is told by what init does.
    fn waits(&self) -> bool {
        ["recvmsg(", "ppoll(", "poll(", "waitid(", "clone3(", "+++"]
            .iter()
            .any(|name| self.text.starts_with(name))
    }
}

/// A stretch of the birth, and the moment at which it begins.
struct Phase {
    name: &'static str,
    begin: f64,
    end: f64,
}

impl Phase {
    fn taken(&self) -> f64 {
        self.end - self.begin
    }
}

/// A bar chart of the phases with their longest calls, of the quickest of a few runs.
///
/// # Errors
/// strace is not there; the run fails; a phase's call is not found.
pub fn of(runtime: &Runtime) -> Result<String> {
    // Once without, for the caches and for a time to compare with.
    let plain = runtime.run_true(Meter::Wall)?;
    let births = (0..TRIES).map(|number| Birth::trace(runtime, number)).collect::<Result<Vec<_>>>()?;
    let quickest = births.iter().min_by(|a, b| a.taken().total_cmp(&b.taken()));
    Ok(quickest.map_or_else(String::new, |birth| birth.chart(plain)))
}

/// One traced run: the calls of the runtime, those of init, and what they tell.
struct Birth {
    host: Vec<Call>,
    init: Vec<Call>,
    phases: Vec<Phase>,
}

impl Birth {
    fn trace(runtime: &Runtime, number: usize) -> Result<Self> {
        let mut files = trace(runtime, number)?;
        let mut take = |name: &str| {
            let place = files.iter().position(|calls| calls.iter().any(|call| call.text.starts_with(name)));
            let place = place.ok_or_else(|| Failure::new(format!("no process of the trace calls {name}")))?;
            Ok(files.swap_remove(place))
        };
        let (init, host) = (take("pivot_root(")?, take("clone3(")?);
        Ok(Self { phases: phases(&host, &init)?, host, init })
    }

    fn taken(&self) -> f64 {
        self.phases.iter().map(Phase::taken).sum()
    }

    fn chart(&self, plain: f64) -> String {
        let whole = self.taken() * 1e3;
        let mut out = format!(
            "one `run true`: {whole:.2} ms under strace, {plain:.2} ms without; the longest calls of each phase\n\n\
             phase               ms  in calls  calls\n"
        );
        let longest = self.phases.iter().map(Phase::taken).fold(f64::MIN_POSITIVE, f64::max);
        self.phases.iter().for_each(|phase| out.push_str(&self.lines(phase, longest)));
        out
    }

    fn lines(&self, phase: &Phase, longest: f64) -> String {
        let mut inside: Vec<(&str, &Call)> =
            during(phase, "host", &self.host).chain(during(phase, "init", &self.init)).collect();
        inside.sort_by(|a, b| b.1.taken.total_cmp(&a.1.taken));
        let (wall, count) = (phase.taken() * 1e3, inside.len());
        let busy = inside.iter().map(|(_, call)| call.taken).sum::<f64>() * 1e3;
        let bar = "█".repeat((phase.taken() / longest * WIDTH).round() as usize);
        let mut lines = format!("{:<14}{wall:>8.2}{busy:>10.2}{count:>7} {bar}\n", phase.name);
        for (who, call) in inside.iter().take(SHOWN).filter(|(_, call)| call.taken >= WORTH_SHOWING) {
            let text: String = call.text.chars().take(76).collect();
            lines += &format!("{:>22.2}  {who}: {}\n", call.taken * 1e3, text.trim_end());
        }
        lines
    }
}

/// Runs `run true` under strace; gives every process's calls.
fn trace(runtime: &Runtime, number: usize) -> Result<Vec<Vec<Call>>> {
    let folder = runtime.place.join(format!("trace-{number}"));
    fs::create_dir_all(&folder).doing(folder.display())?;
    let bundle = runtime.place.join("true");
    let traced =
        runtime.invocation(&["run".as_ref(), "--bundle".as_ref(), bundle.as_ref(), "traced".as_ref()]);
    let mut arguments: Vec<OsString> = ["-ff", "-ttt", "-T", "-s", "48", "-o"].map(OsString::from).to_vec();
    arguments.extend([folder.join("calls").into(), traced.program.into()]);
    arguments.extend(traced.arguments);
    let program = on_path("strace").ok_or_else(|| Failure::new("strace is not installed"))?;
    Invocation { program, arguments, stderr: traced.stderr }.measure(Meter::Wall)?;
    fs::read_dir(&folder).doing(folder.display())?.map(|entry| calls(&entry.doing("trace")?.path())).collect()
}

fn calls(path: &Path) -> Result<Vec<Call>> {
    let text = fs::read_to_string(path).doing(path.display())?;
    Ok(text.lines().filter_map(Call::parse).collect())
}

fn phases(host: &[Call], init: &[Call]) -> Result<Vec<Phase>> {
    let at = |calls: &[Call], word: &str, end: bool| {
        let call = calls.iter().find(|call| call.text.contains(word));
        let call = call.ok_or_else(|| Failure::new(format!("no {word} in the trace")))?;
        Ok(if end { call.end() } else { call.begin })
    };
    let last = |calls: &[Call]| calls.last().map_or(0.0, |call| call.begin);
    let begins = [
        ("host start", at(host, "execve(", false)?),
        ("plan", at(host, "config.json\"", false)?),
        ("clone", at(host, "clone3(", false)?),
        ("init's mounts", at(init, "execveat(", true)?),
        ("pivot", at(init, "pivot_root(", false)?),
        ("identity", at(init, "MNT_DETACH", true)?),
        ("program", at(init, "execve(\"", false)?),
        ("cleanup", last(init)),
        ("", last(host)),
    ];
    let pairs = begins.windows(2);
    Ok(pairs.map(|two| Phase { name: two[0].0, begin: two[0].1, end: two[1].1 }).collect())
}

/// The calls that begin in a phase. clone3 is the host's own work in the phase of that name only.
fn during<'a>(phase: &Phase, who: &'a str, calls: &'a [Call]) -> impl Iterator<Item = (&'a str, &'a Call)> {
    let (begin, end, clone) = (phase.begin, phase.end, phase.name == "clone");
    calls
        .iter()
        .filter(move |call| call.begin >= begin && call.begin < end)
        .filter(move |call| !call.waits() || clone && call.text.starts_with("clone3("))
        .map(move |call| (who, call))
}

#[cfg(test)]
mod tests {
    use super::Call;

    #[test]
    fn a_line_of_strace_is_a_call_with_its_time() {
        let call = Call::parse("10.500000 pivot_root(\".\", \".\")  = 0 <0.250000>").expect("a call");
        assert_eq!((call.begin, call.taken, call.end()), (10.5, 0.25, 10.75));
        assert_eq!(call.text, "pivot_root(\".\", \".\")  = 0");
        let exit = Call::parse("11.000000 +++ exited with 0 +++").expect("the end");
        assert_eq!(exit.taken, 0.0);
        assert!(Call::parse("").is_none());
    }
}
