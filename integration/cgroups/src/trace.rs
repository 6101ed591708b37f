//! D-Bus messages in a system-call trace: what went over a program's sockets to a bus, put together from strace's lines
//! (`-f -yy -xx`). The framing is that of the D-Bus specification, "Message Format".

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

use crate::bus::Messages;

/// The calls that are traced.
pub const CALLS: &str = "trace=connect,sendmsg,recvmsg,sendto,recvfrom,write,writev,read,readv";

/// Both directions of one socket.
#[derive(Default)]
struct Stream {
    sent: Vec<u8>,
    received: Vec<u8>,
}

/// The messages on all sockets that are connected to a bus or to systemd, and the paths of these sockets.
pub fn read(text: &str) -> Result<(Messages, Vec<String>)> {
    let mut paths = BTreeMap::new();
    let mut streams: BTreeMap<u64, Stream> = BTreeMap::new();
    let mut begun: BTreeMap<&str, String> = BTreeMap::new();
    for line in text.lines() {
        let Some((pid, call)) = line.split_once(' ') else { continue };
        let call = call.trim_start();
        // A call that another thread's interrupts is told in two lines.
        if let Some(beginning) = call.strip_suffix(" <unfinished ...>") {
            begun.insert(pid, beginning.to_owned());
            continue;
        }
        let whole = match call.split_once(" resumed>") {
            Some((_, end)) => begun.remove(pid).unwrap_or_default() + end,
            None => call.to_owned(),
        };
        note(&whole, &mut paths, &mut streams);
    }
    let mut messages = Messages::default();
    let mut seen: Vec<String> = Vec::new();
    for (socket, path) in paths.iter().filter(|(_, path)| path.contains("bus") || path.contains("systemd")) {
        let stream = streams.remove(socket).unwrap_or_default();
        count(&stream.sent, &mut messages).with_context(|| format!("sent to {path}"))?;
        count(&stream.received, &mut messages).with_context(|| format!("received from {path}"))?;
        if !seen.contains(path) {
            seen.push(path.clone());
        }
    }
    Ok((messages, seen))
}

/// How the first process ended, if it did.
pub fn status(text: &str) -> Option<i32> {
    let own = text.split_whitespace().next()?;
    let mut ended = text.lines().filter_map(|line| line.split_once(" +++ exited with "));
    let (_, status) = ended.rfind(|(pid, _)| pid.trim() == own)?;
    status.split_whitespace().next()?.parse().ok()
}

/// Remembers what one call did to a socket.
fn note(call: &str, paths: &mut BTreeMap<u64, String>, streams: &mut BTreeMap<u64, Stream>) {
    let Some((name, rest)) = call.split_once('(') else { return };
    let Some(socket) = socket(rest) else { return };
    if name == "connect" {
        if let Some(path) = rest.split_once("sun_path=").and_then(|(_, rest)| quoted(rest)) {
            paths.insert(socket, String::from_utf8_lossy(&path).trim_start_matches('\0').to_owned());
        }
        return;
    }
    let result =
        rest.rsplit_once(" = ").and_then(|(_, result)| result.split_whitespace().next()?.parse().ok());
    let Some(length) = result.filter(|length: &usize| *length > 0) else { return };
    let mut bytes = Vec::new();
    if rest.contains("iov_base=") {
        rest.split("iov_base=").skip(1).filter_map(quoted).for_each(|part| bytes.extend(part));
    } else if let Some(part) = rest.split_once(", ").and_then(|(_, rest)| quoted(rest)) {
        bytes = part;
    }
    bytes.truncate(length);
    let stream = streams.entry(socket).or_default();
    match name {
        "sendmsg" | "sendto" | "write" | "writev" => stream.sent.extend(bytes),
        _ => stream.received.extend(bytes),
    }
}

/// The inode of the socket that is a call's first argument: `7<UNIX-STREAM:[1858->951]>`.
fn socket(arguments: &str) -> Option<u64> {
    let first = arguments.split(',').next()?;
    let inode = first.split_once("UNIX-STREAM:[")?.1;
    inode.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The bytes of a string that strace wrote in hexadecimal, if one begins here.
fn quoted(text: &str) -> Option<Vec<u8>> {
    let inside = text.strip_prefix('"')?.split('"').next()?;
    inside.split("\\x").skip(1).map(|pair| u8::from_str_radix(pair, 16).ok()).collect()
}

/// Counts the messages of one direction, which follow lines of authentication.
fn count(bytes: &[u8], messages: &mut Messages) -> Result<()> {
    let mut rest = bytes.strip_prefix(b"\0").unwrap_or(bytes);
    while let Some(first) = rest.first() {
        if *first != b'l' {
            let end = rest.windows(2).position(|pair| pair == b"\r\n").context("no end of a line")?;
            rest = &rest[end + 2..];
            continue;
        }
        let number = |at: usize| -> Result<usize> {
            let bytes: [u8; 4] = rest.get(at..at + 4).context("a cut message")?.try_into()?;
            Ok(u32::from_le_bytes(bytes) as usize)
        };
        let length = 16 + number(12)?.next_multiple_of(8) + number(4)?;
        match rest.get(1) {
            Some(1) => messages.calls += 1,
            Some(2 | 3) => messages.replies += 1,
            Some(4) => messages.signals += 1,
            other => bail!("a message of type {other:?}"),
        }
        rest = rest.get(length..).context("a cut message")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hexadecimal(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect()
    }

    fn message(kind: u8, fields: u32, body: u32) -> Vec<u8> {
        let mut bytes = vec![b'l', kind, 0, 1];
        bytes.extend(body.to_le_bytes());
        bytes.extend(1u32.to_le_bytes());
        bytes.extend(fields.to_le_bytes());
        bytes.resize(16 + (fields as usize).next_multiple_of(8) + body as usize, 0);
        bytes
    }

    #[test]
    fn messages_are_counted_over_cut_and_interrupted_calls() {
        let sent = [b"\0AUTH EXTERNAL\r\nBEGIN\r\n".to_vec(), message(1, 13, 5)].concat();
        let received = [b"OK 12\r\n".to_vec(), message(2, 8, 0), message(4, 1, 3)].concat();
        let (first, second) = received.split_at(20);
        let bus = hexadecimal(b"/run/dbus/system_bus_socket");
        let text = format!(
            "9   connect(7<UNIX-STREAM:[18]>, {{sa_family=AF_UNIX, sun_path=\"{bus}\"}}, 34) = 0\n\
             9 write(7<UNIX-STREAM:[18->9]>, \"{}\", {}) = {}\n\
             9 recvmsg(7<UNIX-STREAM:[18->9]> <unfinished ...>\n\
             8 write(1<UNIX-STREAM:[4->5]>, \"\\x61\", 1) = 1\n\
             9 <... recvmsg resumed>, {{msg_name=NULL, msg_iov=[{{iov_base=\"{}\", iov_len=99}}], msg_iovlen=1}}, 0) = {}\n\
             8 read(7<UNIX-STREAM:[18->9]>, \"{}\", 4096) = {}\n\
             8 read(7<UNIX-STREAM:[18->9]>, 0x12, 4096) = -1 EAGAIN (no)\n",
            hexadecimal(&sent),
            sent.len(),
            sent.len(),
            hexadecimal(first),
            first.len(),
            hexadecimal(second),
            second.len()
        );
        let (messages, paths) = read(&text).expect("a trace");
        assert_eq!((messages.calls, messages.replies, messages.signals), (1, 1, 1));
        assert_eq!(paths, ["/run/dbus/system_bus_socket"]);
    }
}
