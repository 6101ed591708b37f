//! `ps`: the processes of a container.

use super::Context;
use crate::bail;
use crate::error::{Context as _, Error, Result};
use crate::launch::spawn;
use crate::state::Container;

/// The host process ids in the cgroup of `id` and all cgroups below it.
pub fn pids(context: &Context, id: &str) -> Result<Vec<i32>> {
    let container = Container::load(context, id)?;
    if container.state.cgroup.is_none() {
        bail!("{}", crate::error::phrase::NO_CGROUP);
    }
    // The cgroup of a stopped container may be gone already.
    container.cgroup()?.map_or(Ok(Vec::new()), |cgroup| cgroup.pids())
}

/// The rows of the host's `ps ARGS` (default `-ef`) whose PID belongs to the container, header first.
pub fn table(context: &Context, id: &str, args: &[String]) -> Result<String> {
    let pids = pids(context, id)?;
    let default = ["-ef".to_string()];
    let args = if args.is_empty() { &default[..] } else { args };
    let output = spawn::output("ps", args)?;
    rows(&String::from_utf8_lossy(&output), &pids)
}

fn rows(output: &str, pids: &[i32]) -> Result<String> {
    let mut lines = output.lines();
    let header = lines.next().unwrap_or_default();
    let Some(column) = header.split_whitespace().position(|word| word == "PID") else {
        return Err(Error::new("couldn't find PID field in ps output"));
    };
    let mut table = format!("{header}\n");
    for line in lines.filter(|line| !line.is_empty()) {
        let word = line.split_whitespace().nth(column).unwrap_or_default();
        let pid: i32 = word
            .parse()
            .map_err(|_| Error::new(format!("{word:?} is no number")))
            .context("unable to parse pid")?;
        if pids.contains(&pid) {
            table.push_str(line);
            table.push('\n');
        }
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rows_of_the_container_are_kept() {
        let output = "UID        PID  PPID CMD\nroot         1     0 init 12\nroot        12     1 sleep 1\n\nroot 120 1 x\n";
        assert_eq!(
            rows(output, &[12, 7]).expect("rows"),
            "UID        PID  PPID CMD\nroot        12     1 sleep 1\n"
        );
    }

    #[test]
    fn the_pid_may_stand_in_any_column() {
        assert_eq!(rows("PID CMD\n5 a\n6 b\n", &[6]).expect("rows"), "PID CMD\n6 b\n");
    }

    #[test]
    fn a_table_that_is_none_is_refused() {
        assert_eq!(
            rows("A B\n1 2\n", &[1]).expect_err("no PID").to_string(),
            "couldn't find PID field in ps output"
        );
        assert_eq!(
            rows("PID\nx\n", &[1]).expect_err("no number").to_string(),
            "unable to parse pid: \"x\" is no number"
        );
    }
}
