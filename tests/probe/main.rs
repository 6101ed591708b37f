//! The program that the tests run inside containers: it reports what it sees there, as JSON, or tries something
//! and reports what the kernel said. It is static, and all that most rootfs hold.
//!
//! `report` tells everything, `try ACTION ARGS , ACTION ARGS …` does one thing after the other, `wait` prints
//! `ready` and then each signal until SIGTERM, `exit N`, `print TEXT`, `variables`, `complain TEXT`, `cat`, `die`, `crowd N`,
//! `fork`, `eat`, `terminal`, `overwrite`, `besiege LIMIT CGROUP`, `hold LINK`, `stalk STOP`, `notify TEXT`, `sleep`.

mod attempt;
mod inject;
mod report;
mod siege;
mod stalk;

use nix::sys::signal::{SigSet, Signal};
use serde_json::json;
use std::io::{Read, Write};
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os().skip(1).map(|a| a.to_string_lossy().into_owned()).collect();
    let rest = args.get(1..).unwrap_or_default();
    let text = rest.join(" ");
    match args.first().map_or("", String::as_str) {
        "report" => say(&report::everything().to_string()),
        "try" => {
            let results: Vec<_> = rest.split(|a| a == ",").map(attempt::attempt).collect();
            say(&json!(results).to_string());
        }
        "wait" => wait(),
        "exit" => return ExitCode::from(text.parse::<u8>().unwrap_or(99)),
        "print" => say(&text),
        // And fails, so that a hook's words are told.
        "variables" => {
            say(&std::env::vars()
                .map(|(name, value)| format!("{name}={value}"))
                .collect::<Vec<_>>()
                .join(" "));
            return ExitCode::from(3);
        }
        "complain" => eprintln!("{text}"),
        "overwrite" => overwrite(),
        "besiege" => {
            say("ready");
            let limit = rest.first().and_then(|n| n.parse().ok()).unwrap_or(usize::MAX);
            let cgroup = rest.get(1).map_or("", String::as_str);
            say(&siege::besiege(cgroup, limit, || say("saw init")).to_string());
        }
        "hold" => say(&siege::hold(&text).to_string()),
        // Until the file is there; then what was seen.
        "stalk" => {
            say("ready");
            let looks = stalk::stalk(std::path::Path::new(&text));
            looks.caught.iter().for_each(|what| say(&format!("caught {what}")));
            say(&format!("refused {}", looks.refused));
        }
        "notify" => notify(&rest.join("\n")),
        // Any signal ends it.
        "sleep" => {
            say("ready");
            std::thread::sleep(std::time::Duration::from_secs(1000));
        }
        "cat" => cat(),
        "die" => std::process::abort(),
        "crowd" => {
            crowd(text.parse().unwrap_or(1));
            wait();
        }
        // Leaves a child behind and goes.
        "fork" => crowd(1),
        "eat" => eat(),
        "terminal" => terminal(),
        other => {
            eprintln!("probe: {other:?} is nothing it can do");
            return ExitCode::from(98);
        }
    }
    ExitCode::SUCCESS
}

fn say(line: &str) {
    let mut out = std::io::stdout();
    // A reader that is gone is the test's business.
    let _ = out.write_all(line.as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush());
}

/// Every signal that can be waited for is told; SIGTERM ends it.
fn wait() {
    let all = SigSet::all();
    all.thread_block().expect("signals can be blocked");
    say("ready");
    while let Ok(signal) = all.wait() {
        match signal {
            Signal::SIGTERM => return,
            Signal::SIGCHLD => {}
            other => say(&format!("signal {other}")),
        }
    }
}

/// Attacks the programs of all processes until it is ended, and tells what it could change.
fn overwrite() {
    say("ready");
    loop {
        attempt::overwrite().iter().for_each(|exe| say(&format!("changed {exe}")));
    }
}

/// Tells the service manager something, and waits.
fn notify(words: &str) {
    let socket = std::env::var("NOTIFY_SOCKET").unwrap_or_default();
    let sent =
        std::os::unix::net::UnixDatagram::unbound().and_then(|own| own.send_to(words.as_bytes(), &socket));
    say(&format!("{socket}: {sent:?}"));
    wait();
}

/// Children that wait; nobody waits for them.
fn crowd(count: usize) {
    for _ in 0..count {
        drop(Command::new("/proc/self/exe").arg("wait").spawn().expect("a child"));
    }
}

/// Takes memory until the kernel kills it.
fn eat() {
    let mut eaten = Vec::new();
    loop {
        eaten.push(vec![1u8; 1 << 20]);
        std::hint::black_box(&eaten);
    }
}

fn cat() {
    let mut text = String::new();
    let _ = std::io::stdin().read_to_string(&mut text);
    say(text.trim_end());
}

/// Shows the terminal, then its size again whenever it changes, and echoes lines until `quit`.
fn terminal() {
    let mut winch = SigSet::empty();
    winch.add(Signal::SIGWINCH);
    winch.thread_block().expect("signals can be blocked");
    std::thread::spawn(move || {
        while winch.wait().is_ok() {
            say(&format!("resized {}", report::size()));
        }
    });
    say(&report::terminal().to_string());
    for line in std::io::stdin().lines().map_while(Result::ok) {
        if line == "quit" {
            break;
        }
        say(&format!("line {line}"));
    }
}
