//! The life of one machine: started, ready, its script run, its status brought back, gone.

use std::fmt;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};

use crate::cache::{self, Scratch};
use crate::cli::Request;
use crate::image::Image;
use crate::qemu::{Disk, Qemu};
use crate::saved;

/// The machine's own end: its kernel's, or that of the program that emulates it.
#[derive(Debug)]
pub struct Died;

impl fmt::Display for Died {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the machine died before the script's end")
    }
}

impl std::error::Error for Died {}

/// An emulated kernel panics now and then, whatever runs in it: that is told, and what was done in it is done once more in
/// another machine.
pub fn with_another<T>(what: &str, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    match attempt() {
        Err(error) if error.is::<Died>() => {
            eprintln!("vm: {what}: {error:#}; once more, in another one");
            attempt()
        }
        other => other,
    }
}

/// Runs a script in a fresh machine, its output to ours; its exit status.
pub fn run(image: &Image, request: &Request) -> Result<u8> {
    with_another("run", || run_once(image, request))
}

fn run_once(image: &Image, request: &Request) -> Result<u8> {
    let scratch = Scratch::new()?;
    let results = match &request.results {
        Some(folder) => folder.clone(),
        None => scratch.path("results"),
    };
    fs::create_dir_all(&results).with_context(|| format!("make {}", results.display()))?;
    run_into(image, request, &results, io::stdout(), io::stderr())
}

/// The same, with the output to two writers.
pub fn run_into<O, E>(image: &Image, request: &Request, results: &Path, out: O, err: E) -> Result<u8>
where
    O: Write + Send + 'static,
    E: Write + Send + 'static,
{
    let deadline = Instant::now() + request.timeout;
    let script = results.join(".script");
    fs::write(&script, &request.script).with_context(|| format!("write {}", script.display()))?;
    let ended = start(image, request, results).and_then(|mut qemu| {
        let streams = send(&mut qemu, out, err)?;
        wait(&streams, deadline).or_else(|error| {
            // What it was stays to be told apart.
            let told = format!("{error:#}; {}", qemu.keep_console()?);
            if error.is::<Died>() { Err(error.context(told)) } else { bail!(told) }
        })
    });
    // Whatever became of the machine: the folder is the caller's.
    fs::remove_file(&script).with_context(|| format!("remove {}", script.display()))?;
    ended
}

fn start(image: &Image, request: &Request, results: &Path) -> Result<Qemu> {
    if request.boot {
        let mut qemu = Qemu::start(image, request.shape, Disk::Fresh, results, false)?;
        wait_until_ready(&mut qemu, request.timeout)?;
        return Ok(qemu);
    }
    let saved = saved::state(image, request.shape)?;
    let mut qemu = Qemu::start(image, request.shape, Disk::Layer(&saved.disk), results, true)?;
    qemu.monitor.restore(&saved.memory)?;
    Ok(qemu)
}

/// Waits for the agent's word that the machine has booted.
pub fn wait_until_ready(qemu: &mut Qemu, timeout: Duration) -> Result<()> {
    let deadline = Instant::now() + timeout;
    let (said, word) = channel();
    let control = qemu.ports[0].try_clone()?;
    thread::spawn(move || {
        let mut line = String::new();
        let read = BufReader::new(control).read_line(&mut line).map(|_| line);
        // Nobody listens any more when the machine was given up.
        said.send(read).ok();
    });
    loop {
        match word.recv_timeout(Duration::from_millis(20)) {
            Ok(Ok(line)) if line == "ready\n" => return Ok(()),
            Ok(other) => {
                bail!("the machine's agent said {other:?} instead of ready; {}", qemu.keep_console()?)
            }
            Err(RecvTimeoutError::Timeout) if qemu.is_over()? => {
                let console = qemu.keep_console()?;
                return Err(anyhow::Error::new(Died).context(format!("it died while booting; {console}")));
            }
            Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
            Err(_) => bail!("not booted after {} s; {}", timeout.as_secs(), qemu.keep_console()?),
        }
    }
}

/// Tells the agent to begin, and starts copying what its script says.
fn send<O, E>(qemu: &mut Qemu, out: O, err: E) -> Result<[Receiver<Result<u8>>; 2]>
where
    O: Write + Send + 'static,
    E: Write + Send + 'static,
{
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).context("read the clock")?;
    let token = format!("{:x}-{:x}", std::process::id(), now.as_nanos());
    let time = format!("{}.{:03}", now.as_secs(), now.subsec_millis());
    let [control, stdout, stderr] = &mut qemu.ports;
    writeln!(control, "{token} {time} {}", cache::checkout().display())
        .context("speak to the machine's agent")?;
    Ok([copy(stdout.try_clone()?, out, &token), copy(stderr.try_clone()?, err, &token)])
}

/// Copies a port until its end mark, "\0TOKEN STATUS\n".
fn copy<W: Write + Send + 'static>(mut port: UnixStream, mut to: W, token: &str) -> Receiver<Result<u8>> {
    let mark = format!("\0{token} ").into_bytes();
    let (done, status) = channel();
    thread::spawn(move || {
        done.send(copy_until(&mut port, &mut to, &mark)).ok();
    });
    status
}

fn copy_until(port: &mut impl Read, to: &mut impl Write, mark: &[u8]) -> Result<u8> {
    let mut held = Vec::new();
    let mut chunk = [0; 65536];
    loop {
        // From the mark on, or from what could become it.
        let may_be_mark = |rest: &[u8]| rest.starts_with(mark) || mark.starts_with(rest);
        let at = (0..held.len()).find(|&at| may_be_mark(&held[at..])).unwrap_or(held.len());
        to.write_all(&held[..at])?;
        to.flush()?;
        held.drain(..at);
        if held.len() > mark.len() && held.ends_with(b"\n") {
            let status = std::str::from_utf8(&held[mark.len()..])?.trim();
            return status.parse().with_context(|| format!("the agent's status {status:?}"));
        }
        match port.read(&mut chunk)? {
            0 => return Err(Died.into()),
            n => held.extend_from_slice(&chunk[..n]),
        }
    }
}

fn wait(streams: &[Receiver<Result<u8>>; 2], deadline: Instant) -> Result<u8> {
    let mut status = 0;
    for stream in streams {
        status = loop {
            match stream.recv_timeout(Duration::from_millis(20)) {
                Ok(Ok(status)) => break status,
                Ok(Err(error)) => return Err(error),
                Err(_) if Instant::now() > deadline => bail!("the script did not end in time"),
                Err(_) => {}
            }
        };
    }
    Ok(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A port that gives these pieces, one a read.
    struct Pieces(Vec<&'static [u8]>);

    impl Read for Pieces {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Ok(0);
            }
            let piece = self.0.remove(0);
            into[..piece.len()].copy_from_slice(piece);
            Ok(piece.len())
        }
    }

    #[track_caller]
    fn check(pieces: &[&'static [u8]], expect: Option<(&[u8], u8)>) {
        let mut to = Vec::new();
        let status = copy_until(&mut Pieces(pieces.to_vec()), &mut to, b"\0token ").ok();
        assert_eq!(status.map(|status| (to.as_slice(), status)), expect);
    }

    #[test]
    fn output_ends_at_the_mark_wherever_the_pieces_break() {
        check(&[b"hello\n\0token 3\n"], Some((b"hello\n", 3)));
        check(&[b"a", b"b\0to", b"ken ", b"12", b"5\n"], Some((b"ab", 125)));
        check(&[b"\0to\0token 0\n"], Some((b"\0to", 0)));
        check(&[b"zeroes \0\0\0 pass\n", b"\0token 1\n"], Some((b"zeroes \0\0\0 pass\n", 1)));
        check(&[b"no mark\n"], None);
    }
}
