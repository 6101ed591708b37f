//! What the process is: its arguments, its environment, its working directory (conversion.md, "Verbatim Fields"). The image's
//! words are taken as they are; the caller's change the image's as Docker's command line does.

use super::Options;
use super::defaults::PATH;
use crate::config::Process;
use crate::error::{Error, Kind, Result};

/// `process.args`: Entrypoint, then Cmd. The caller's arguments replace Cmd; another entrypoint leaves Cmd out, which was
/// meant for the image's.
pub fn args(image: &Process, options: &Options) -> Result<Vec<String>> {
    let cmd = match (&options.args[..], &options.entrypoint) {
        ([], None) => &image.cmd[..],
        (args, _) => args,
    };
    let entrypoint = options.entrypoint.as_ref().unwrap_or(&image.entrypoint);
    let args = [entrypoint, cmd].concat();
    if args.is_empty() {
        let text = "no command: the image has neither Entrypoint nor Cmd, and none was given";
        return Err(Error::new(Kind::Usage, text));
    }
    Ok(args)
}

/// `process.cwd`
pub fn cwd(image: &Process, options: &Options) -> Result<String> {
    let (place, cwd) = match &options.cwd {
        Some(cwd) => ("working directory", cwd),
        None => ("config.WorkingDir", &image.working_dir),
    };
    match cwd.as_str() {
        "" => Ok("/".into()),
        cwd if cwd.starts_with('/') && !cwd.contains('\0') => Ok(cwd.into()),
        _ => Err(Error::invalid(format!("{place}: {cwd:?} is not an absolute path"))),
    }
}

/// The image's variables with the caller's: `NAME=value` takes the place of one or is added, `NAME` takes one away.
pub fn own_env(image: &Process, options: &Options) -> Vec<String> {
    let mut env = image.env.clone();
    for variable in &options.env {
        let name = name(variable);
        // The last of several is the one that counts.
        let place = env.iter().rposition(|other| self::name(other) == name);
        match place {
            _ if !variable.contains('=') => env.retain(|other| self::name(other) != name),
            Some(place) => env[place].clone_from(variable),
            None => env.push(variable.clone()),
        }
    }
    env
}

/// `process.env`: what nobody has set is added, nothing is changed.
pub fn env(mut env: Vec<String>, home: Option<&str>, hostname: &str, terminal: bool) -> Vec<String> {
    let more = [
        ("PATH", Some(PATH)),
        ("HOSTNAME", Some(hostname)),
        ("TERM", terminal.then_some("xterm")),
        ("HOME", Some(home.unwrap_or("/"))),
    ];
    for (name, value) in more {
        if let Some(value) = value
            && !has(&env, name)
        {
            env.push(format!("{name}={value}"));
        }
    }
    env
}

/// Whether the variable is set, be it to nothing.
pub fn has(env: &[String], wanted: &str) -> bool {
    env.iter().any(|variable| name(variable) == wanted)
}

fn name(variable: &str) -> &str {
    variable.split_once('=').map_or(variable, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn arguments_follow_the_entrypoint() {
        for (entrypoint, cmd, own_entrypoint, own, expect) in [
            ("/ep a", "b c", None, "", "/ep a b c"),
            ("", "b c", None, "", "b c"),
            ("/ep", "", None, "", "/ep"),
            ("/ep a", "b c", None, "x y", "/ep a x y"),
            ("", "b c", None, "x", "x"),
            ("/ep a", "b c", Some("/own 1"), "", "/own 1"),
            ("/ep a", "b c", Some("/own 1"), "x", "/own 1 x"),
            ("/ep a", "b c", Some(""), "x", "x"),
            ("/ep a", "b c", Some(""), "", "!"),
            ("", "", None, "", "!"),
        ] {
            let image = Process { entrypoint: words(entrypoint), cmd: words(cmd), ..Process::default() };
            let entrypoint = own_entrypoint.map(words);
            let options = Options { args: words(own), entrypoint, ..Options::default() };
            match args(&image, &options) {
                Ok(args) => assert_eq!(args.join(" "), expect),
                Err(e) => assert_eq!((expect, e.kind()), ("!", Kind::Usage)),
            }
        }
    }

    #[test]
    fn an_argument_is_not_touched() {
        let cmd = vec![String::new(), "a b".into(), "$HOME".into(), "\"".into(), "\n".into()];
        let image = Process { cmd: cmd.clone(), ..Process::default() };
        assert_eq!(args(&image, &Options::default()).unwrap(), cmd);
    }

    #[test]
    fn the_working_directory_is_absolute() {
        for (image, own, expect) in [
            ("", None, Ok("/")),
            ("/srv", None, Ok("/srv")),
            ("/a/../b//c/.", None, Ok("/a/../b//c/.")),
            ("/srv", Some("/own"), Ok("/own")),
            ("/srv", Some(""), Ok("/")),
            ("srv", Some("/own"), Ok("/own")),
            ("srv", None, Err("config.WorkingDir: \"srv\" is not an absolute path")),
            ("/srv", Some("own"), Err("working directory: \"own\" is not an absolute path")),
            ("/a\0b", None, Err("config.WorkingDir: \"/a\\0b\" is not an absolute path")),
        ] {
            let image = Process { working_dir: image.into(), ..Process::default() };
            let options = Options { cwd: own.map(str::to_owned), ..Options::default() };
            let found = cwd(&image, &options).map_err(|e| e.to_string());
            assert_eq!(found.as_deref().map_err(String::as_str), expect);
        }
    }

    #[test]
    fn variables_are_added_and_never_changed() {
        let path = format!("PATH={PATH}");
        for (image, own, terminal, expect) in [
            ("", "", false, format!("{path} HOSTNAME=h HOME=/root")),
            ("PATH=/x A=1", "", false, "PATH=/x A=1 HOSTNAME=h HOME=/root".into()),
            ("PATH= HOME= TERM=", "", true, "PATH= HOME= TERM= HOSTNAME=h".into()),
            ("HOME=/h PATH=/", "", true, "HOME=/h PATH=/ HOSTNAME=h TERM=xterm".into()),
            ("PATH=/ A=1 B=2", "A=3 C=4=5", false, "PATH=/ A=3 B=2 C=4=5 HOSTNAME=h HOME=/root".into()),
            ("PATH=/ A=1 A=2 AB=3", "A=4", false, "PATH=/ A=1 A=4 AB=3 HOSTNAME=h HOME=/root".into()),
            ("PATH=/ A=1 B=2 A=3", "A", false, "PATH=/ B=2 HOSTNAME=h HOME=/root".into()),
            ("PATH=/ A=1", "A=2 A", false, "PATH=/ HOSTNAME=h HOME=/root".into()),
            ("PATHS=/x", "HOSTNAME=o", false, format!("PATHS=/x HOSTNAME=o {path} HOME=/root")),
        ] {
            let image = Process { env: words(image), ..Process::default() };
            let options = Options { env: words(own), ..Options::default() };
            let all = env(own_env(&image, &options), Some("/root"), "h", terminal);
            assert_eq!(all.join(" "), expect);
        }
    }
}
