//! The server: one loop over clients, children and streams, until the engine has no more use for it.

use crate::child;
use crate::cli::Arguments;
use crate::idle::Idle;
use crate::poll::{EventFlags, Poll, Token};
use crate::process::Origin;
use crate::publisher::Publisher;
use crate::service::Service;
use crate::socket;
use crate::unfinished::Note;
use crate::wire::frame::{Connection, Incoming, REQUEST, RESPONSE, Request, Response};
use crate::wire::{Code, Failure};
use nix::sys::signal::Signal;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use pintle::error::{Context as _, Result};
use pintle::log;
use pintle::state;
use prost::Message as _;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::SocketFlags;
use rustix::process::Pid;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long containerd may take for the last events.
const FAREWELL: Duration = Duration::from_secs(5);
/// How long this process stays without a container and without a client.
const LONELY: Duration = Duration::from_secs(10);
/// How long it waits for a container of the daemon that started it.
const UNUSED: Duration = Duration::from_secs(60);
/// How long nobody is let in when there are no descriptors left.
const DEAF: Duration = Duration::from_millis(200);
/// Where containerd reads what a shim has to say.
const LOG: &str = "log";

/// Serves until the engine says that it is over.
///
/// # Errors
/// A process that was not started by `start`.
pub fn serve(arguments: &Arguments) -> Result<()> {
    let listener =
        rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3).context("the listening socket")?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .context("open /dev/null")?;
    rustix::stdio::dup2_stdin(&null).context("dup2")?;
    let note = take_note(arguments)?;
    rustix::stdio::dup2_stdout(&null).context("dup2")?;
    open_log();
    log::configure(None, log::Format::Text, arguments.debug)?;
    rustix::process::set_child_subreaper(rustix::process::Pid::from_raw(1)).context("become a subreaper")?;
    let signals = block_signals()?;
    let path = socket::path_of(&arguments.listens).to_owned();
    let poll = Poll::new()?;
    let level = EventFlags::IN;
    poll.add(&listener, Token::Listener, level).context("epoll_ctl")?;
    poll.add(&signals, Token::Signals, level).context("epoll_ctl")?;
    let publisher = Publisher::new(&arguments.events, &arguments.namespace);
    let mut service = Service::new(&arguments.namespace, path.clone(), poll, publisher);
    if let Some(patience) = arguments.patience {
        service.wait_for_calls(patience);
    }
    let mut server = Server {
        listener,
        signals,
        service,
        peers: BTreeMap::new(),
        number: 0,
        asked_to_end: false,
        note,
        path: Some(path),
        empty_since: None,
        alone_since: None,
        deaf_until: None,
    };
    let served = server.run();
    server.retire();
    served
}

/// The note of `start`, whose lock went on through the birth of this process: there is no moment in which nobody would clear away.
fn take_note(arguments: &Arguments) -> Result<Option<Note>> {
    let Some(path) = &arguments.note else { return Ok(None) };
    let file = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3).context("the note")?;
    Ok(Some(Note::taken_over(path.clone(), file)))
}

/// What this process says goes to containerd while somebody there reads, and nowhere while nobody does. It never waits for that.
fn open_log() {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    if let Ok(fifo) = rustix::fs::open(LOG, flags, Mode::empty()) {
        // Without a log everything else goes on.
        let _unheard = rustix::stdio::dup2_stderr(&fifo);
    }
}

/// Has the end of children, and what asks this process to end, told by a descriptor.
pub(crate) fn block_signals() -> Result<SignalFd> {
    let signals = child::signals();
    signals.thread_block().context("block signals")?;
    SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).context("signalfd")
}

/// Who is connected.
struct Peer {
    connection: Connection,
    /// It is as old as this process: perhaps the daemon that started it, and none that was started again and has no use for it.
    elder: bool,
}

impl Peer {
    fn new(socket: OwnedFd, pid: Pid) -> Self {
        // Of one and the same tick, 10 ms, the number tells.
        let since = |pid: Pid| Some((state::start_time(pid.as_raw_pid())?, pid.as_raw_pid()));
        let own = since(rustix::process::getpid());
        // Of another pid namespace nothing is known.
        let elder = since(pid).is_none_or(|theirs| own.is_none_or(|own| theirs <= own));
        Self { connection: Connection::new(socket), elder }
    }
}

struct Server {
    listener: OwnedFd,
    signals: SignalFd,
    service: Service,
    peers: BTreeMap<u32, Peer>,
    number: u32,
    asked_to_end: bool,
    /// Its socket, as long as it is found there.
    path: Option<PathBuf>,
    /// Before there is a container nobody cleans up after this process but the next one.
    note: Option<Note>,
    /// Since when there is no container.
    empty_since: Option<Instant>,
    /// Since when nobody is there either who may want one.
    alone_since: Option<Instant>,
    /// Nobody is let in before this moment.
    deaf_until: Option<Instant>,
}

impl Server {
    fn run(&mut self) -> Result<()> {
        let mut until: Option<Instant> = None;
        let mut idle = Idle::default();
        loop {
            let alone = self.alone_until();
            let due = self.service.due().into_iter().chain(until).chain(self.deaf_until).chain(alone);
            let events = self.service.poll().wait(due.chain(idle.due()).min())?;
            idle.awake(!events.is_empty());
            for (token, flags) in events {
                self.event(token, flags);
            }
            self.listen_again();
            self.service.turn();
            self.send_answers();
            self.note.take_if(|_| !self.service.is_new());
            let deserted = self.alone_until().is_some_and(|until| until <= Instant::now());
            if self.service.is_over() || self.asked_to_end || deserted {
                self.retire();
                let last = *until.get_or_insert_with(|| Instant::now() + FAREWELL);
                if self.service.is_heard() || last <= Instant::now() {
                    return Ok(());
                }
            }
        }
    }

    /// Whoever looks for a shim from now on finds none here, and starts another.
    fn retire(&mut self) {
        if let Some(path) = self.path.take() {
            socket::remove(&path);
        }
    }

    /// Without a container and without the daemon that started this process there is nothing to do: it died before it could come back, and one
    /// that was started again may find this process but makes no container in it.
    fn alone_until(&mut self) -> Option<Instant> {
        if !self.service.is_empty() {
            (self.empty_since, self.alone_since) = (None, None);
            return None;
        }
        let unused = *self.empty_since.get_or_insert_with(Instant::now) + UNUSED;
        if self.peers.values().any(|peer| peer.elder) {
            self.alone_since = None;
            return Some(unused);
        }
        let lonely = *self.alone_since.get_or_insert_with(Instant::now) + LONELY;
        Some(lonely.min(unused))
    }

    fn event(&mut self, token: Token, flags: EventFlags) {
        match token {
            Token::Listener => self.accept(),
            Token::Signals => self.take_signals(),
            Token::Publisher => self.service.hear(),
            Token::Peer(peer) => self.hear(peer, flags),
            Token::Relay(relay) => self.service.relay(relay),
            Token::Memory(process) => self.service.memory_changed(process),
            Token::Release(process) => self.service.released(process),
            Token::Logger(process) => self.service.logger_ready(process),
            Token::Birth(process) => self.service.birth(process),
            Token::Input => {}
        }
    }

    /// Only the same user's processes are let in, as containerd's own shims do it.
    fn accept(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        loop {
            let socket = match rustix::net::accept_with(&self.listener, flags) {
                Ok(socket) => socket,
                Err(Errno::MFILE | Errno::NFILE) => return self.listen_later(),
                Err(_) => return,
            };
            let ours = (rustix::process::geteuid(), rustix::process::getegid());
            let pid = match rustix::net::sockopt::socket_peercred(&socket) {
                Ok(peer) if (peer.uid, peer.gid) == ours => peer.pid,
                _ => {
                    log::warn("a connection of another user was refused");
                    continue;
                }
            };
            self.number = self.number.wrapping_add(1);
            let peer = self.number;
            if self.service.poll().add(&socket, Token::Peer(peer), EventFlags::IN).is_ok() {
                self.peers.insert(peer, Peer::new(socket, pid));
            }
        }
    }

    /// No descriptor is left for whoever waits there: a look at it again and again would help nobody.
    fn listen_later(&mut self) {
        log::warn("no descriptors left for another connection");
        if self.service.poll().change(&self.listener, Token::Listener, EventFlags::empty()).is_ok() {
            self.deaf_until = Some(Instant::now() + DEAF);
        }
    }

    fn listen_again(&mut self) {
        if self.deaf_until.is_some_and(|until| until <= Instant::now())
            && self.service.poll().change(&self.listener, Token::Listener, EventFlags::IN).is_ok()
        {
            self.deaf_until = None;
        }
    }

    fn take_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            match i32::try_from(signal.ssi_signo).map(Signal::try_from) {
                Ok(Ok(Signal::SIGCHLD)) => self.service.reap(),
                _ => self.asked_to_end = true,
            }
        }
    }

    fn hear(&mut self, peer: u32, flags: EventFlags) {
        let Some(Peer { connection, .. }) = self.peers.get_mut(&peer) else { return };
        let mut open = !flags.contains(EventFlags::ERR) && connection.flush();
        open &= connection.receive();
        let mut requests = Vec::new();
        while let Some(incoming) = connection.frame() {
            match incoming {
                Incoming::Frame(frame) if frame.kind == REQUEST => requests.push(frame),
                Incoming::Frame(_) => {}
                Incoming::TooLong(stream) => {
                    let message = "message length exceeds the maximum".to_owned();
                    let failure = Failure { code: Code::ResourceExhausted, message };
                    open &= connection.send(stream, RESPONSE, &Response::of(Err(failure)));
                }
            }
        }
        for frame in requests {
            let origin = Origin { peer, stream: frame.stream };
            match Request::decode(frame.body.as_slice()) {
                Ok(request) => {
                    log::debug(format_args!("{}", request.method));
                    self.service.request(origin, &request);
                }
                Err(error) => {
                    let failure = Failure::new(Code::InvalidArgument, error);
                    if let Some(Peer { connection, .. }) = self.peers.get_mut(&peer) {
                        open &= connection.send(frame.stream, RESPONSE, &Response::of(Err(failure)));
                    }
                }
            }
        }
        if open {
            self.watch(peer);
        } else {
            self.lose(peer);
        }
    }

    fn send_answers(&mut self) {
        for (origin, answer) in self.service.answers() {
            let Some(Peer { connection, .. }) = self.peers.get_mut(&origin.peer) else { continue };
            if connection.send(origin.stream, RESPONSE, &Response::of(answer)) {
                self.watch(origin.peer);
            } else {
                self.lose(origin.peer);
            }
        }
    }

    fn watch(&mut self, peer: u32) {
        let Some(Peer { connection, .. }) = self.peers.get(&peer) else { return };
        let events = match connection.wants_to_send() {
            true => EventFlags::IN | EventFlags::OUT,
            false => EventFlags::IN,
        };
        if self.service.poll().change(connection, Token::Peer(peer), events).is_err() {
            self.lose(peer);
        }
    }

    fn lose(&mut self, peer: u32) {
        self.peers.remove(&peer);
        self.service.forget(peer);
    }
}
