//! `exec`.

use super::create::{self, CONSOLE_SOCKET, PID_FILE, PIDFD_SOCKET, PRESERVE_FDS};
use super::flags::{Arguments, Flag, Kind};
use super::run::DETACH;
use super::{Count, Verb};
use crate::error::{Error, Result, phrase};
use crate::ops::Context;
use crate::ops::exec::{self, Changes, Options, Process};

pub(super) const VERB: Verb = Verb {
    usage: USAGE,
    flags: &[
        CONSOLE_SOCKET,
        PIDFD_SOCKET,
        Flag::new("cwd", Kind::Text, "current working directory in the container"),
        Flag::new("env", Kind::List, "add an environment variable").short('e'),
        Flag::new("tty", Kind::Switch, "give the process a pseudoterminal").short('t'),
        Flag::new("user", Kind::Text, "UID (format: <uid>[:<gid>])").short('u'),
        Flag::new("additional-gids", Kind::Numbers, "add a supplementary group").short('g'),
        Flag::new("process", Kind::Path, "a file with the process object (process.json)").short('p'),
        DETACH,
        PID_FILE,
        Flag::new("process-label", Kind::Text, "the SELinux label of the process"),
        Flag::new("apparmor", Kind::Text, "the AppArmor profile of the process"),
        Flag::new("no-new-privs", Kind::Switch, "set no_new_privs for the process"),
        Flag::new("cap", Kind::List, "add a capability to the process").short('c'),
        PRESERVE_FDS,
        Flag::new("cgroup", Kind::List, "an existing cgroup below the container's ([<controller>:]<cgroup>)"),
        Flag::new("ignore-paused", Kind::Switch, "allow exec in a paused container"),
        Flag::new("no-subreaper", Kind::Switch, "do not adopt and reap orphans").hidden(),
    ],
    count: Count::AtLeast(1),
    stop_at_first: true,
    failure: 255,
    ..Verb::new("exec", "execute another process in a running container", run)
};

const USAGE: &str = "\
<container-id> <command> [command options]  || -p process.json <container-id>

Where \"<container-id>\" is the name of the container and \"<command>\" is what to
execute in it, which can only be left out with \"-p\".

EXAMPLE:
To list the processes of a container that has ps(1):

       # {program} exec <container-id> ps";

fn run(context: &Context, arguments: &Arguments) -> Result<u8> {
    let status = options(arguments).and_then(|options| exec::exec(context, &options));
    status.map_err(|error| error.context(phrase::EXEC_FAILED))
}

fn options(arguments: &Arguments) -> Result<Options> {
    let mut words = arguments.texts()?.into_iter();
    Ok(Options {
        id: words.next().unwrap_or_default(),
        process: match arguments.absolute("process")? {
            Some(file) => Process::File(file),
            None => Process::Like(Box::new(changes(arguments, words.collect())?)),
        },
        console_socket: arguments.absolute("console-socket")?,
        pidfd_socket: arguments.absolute("pidfd-socket")?,
        detach: arguments.switch("detach"),
        pid_file: arguments.absolute("pid-file")?,
        preserve_fds: arguments.number("preserve-fds")?.unwrap_or(0),
        listen_fds: create::listen_fds(),
        cgroups: arguments.list("cgroup"),
        ignore_paused: arguments.switch("ignore-paused"),
        no_subreaper: arguments.switch("no-subreaper"),
    })
}

fn changes(arguments: &Arguments, args: Vec<String>) -> Result<Changes> {
    let groups: Vec<i64> = arguments.numbers("additional-gids")?;
    let group = |gid: i64| {
        u32::try_from(gid).map_err(|_| Error::new(format!("additional-gids must be a positive number {gid}")))
    };
    Ok(Changes {
        args,
        cwd: arguments.text("cwd"),
        env: arguments.list("env"),
        tty: arguments.switch("tty"),
        user: arguments.text("user"),
        additional_gids: groups.into_iter().map(group).collect::<Result<_>>()?,
        process_label: arguments.text("process-label"),
        apparmor: arguments.text("apparmor"),
        no_new_privs: arguments.given_switch("no-new-privs"),
        caps: arguments.list("cap"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::flags;
    use std::path::Path;

    fn read(line: &str) -> Options {
        let words = line.split(' ').map(Into::into);
        options(&flags::parse(VERB.flags, words, VERB.stop_at_first).unwrap()).unwrap()
    }

    #[test]
    fn a_process_like_the_containers_own_with_changes() {
        let options = read(
            "-t -u 1:2 -g 3 --additional-gids=4 -e A=1,2 -e B --cwd /w -c CAP_KILL --cap CAP_CHOWN \
             --apparmor p --process-label l --no-new-privs c1 sh -c id --tty=false",
        );
        let Process::Like(changes) = options.process else { panic!("not by flags") };
        assert_eq!(options.id, "c1");
        assert_eq!(changes.args, ["sh", "-c", "id", "--tty=false"]);
        assert_eq!(changes.user.as_deref(), Some("1:2"));
        assert_eq!(changes.additional_gids, [3, 4]);
        assert_eq!(changes.env, ["A=1,2", "B"]);
        assert_eq!(changes.caps, ["CAP_KILL", "CAP_CHOWN"]);
        assert_eq!(changes.cwd.as_deref(), Some("/w"));
        assert_eq!(changes.apparmor.as_deref(), Some("p"));
        assert_eq!(changes.process_label.as_deref(), Some("l"));
        assert!(changes.tty && changes.no_new_privs == Some(true));
    }

    #[test]
    fn a_process_from_a_file_as_containerd_asks_for_it() {
        let options = read("--process /tmp/p --console-socket /s --detach --pid-file /b/1.pid --cgroup a c1");
        let Process::File(file) = options.process else { panic!("not by file") };
        assert_eq!(file, Path::new("/tmp/p"));
        assert_eq!(options.console_socket.as_deref(), Some(Path::new("/s")));
        assert_eq!(options.pid_file.as_deref(), Some(Path::new("/b/1.pid")));
        assert_eq!(options.cgroups, ["a"]);
        assert!(options.detach && !options.ignore_paused && !options.no_subreaper);
    }
}
