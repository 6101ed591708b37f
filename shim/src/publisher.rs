//! Events on their way to containerd: one queue, in the order in which they happened, each sent again until containerd has taken it. While
//! containerd is away they wait.

use crate::poll::{EventFlags, Poll, Token};
use crate::socket;
use crate::wire::events::{Envelope, Event, ForwardRequest};
use crate::wire::frame::{Connection, Incoming, KeyValue, REQUEST, RESPONSE, Request, Response};
use crate::wire::{Any, Timestamp};
use pintle::log;
use prost::Message as _;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// containerd's service.
const SERVICE: &str = "containerd.services.events.ttrpc.v1.Events";
/// The first pause after a failure; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest.
const LONGEST: Duration = Duration::from_secs(5);
/// How long containerd may take over one event before it is asked again on a new connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// The queue, and the way to containerd.
#[derive(Debug)]
pub struct Publisher {
    address: PathBuf,
    namespace: String,
    queue: VecDeque<Vec<u8>>,
    connection: Option<Connection>,
    /// The request that containerd has not answered yet, and until when it may.
    asked: Option<(u32, Instant)>,
    stream: u32,
    pause: Duration,
    /// Not before this moment again.
    rest: Option<Instant>,
}

impl Publisher {
    /// To the containerd that listens at `address`; nobody, where there is none.
    pub fn new(address: &str, namespace: &str) -> Self {
        Self {
            address: socket::path_of(address).into(),
            namespace: namespace.into(),
            queue: VecDeque::new(),
            connection: None,
            asked: None,
            stream: 1,
            pause: PAUSE,
            rest: None,
        }
    }

    /// Puts an event at the end of the queue.
    pub fn publish<E: Event>(&mut self, event: &E) {
        if self.address.as_os_str().is_empty() {
            return;
        }
        let envelope = Envelope {
            timestamp: Some(Timestamp::now()),
            namespace: self.namespace.clone(),
            topic: E::TOPIC.into(),
            event: Some(Any::of(E::TYPE, event)),
        };
        self.queue.push_back(ForwardRequest { envelope: Some(envelope) }.encode_to_vec());
    }

    /// Everything was taken.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// When something has to be done, whatever happens until then.
    pub fn due(&self) -> Option<Instant> {
        match (&self.asked, self.rest) {
            (Some((_, until)), _) => Some(*until),
            (None, rest) => rest.filter(|_| !self.queue.is_empty()),
        }
    }

    /// Goes on: connects, asks, hears the answer, as far as that does not need waiting.
    pub fn turn(&mut self, poll: &Poll) {
        self.hear();
        let now = Instant::now();
        if self.asked.is_some_and(|(_, until)| until <= now) {
            self.lose("no answer");
        }
        while self.asked.is_none() && !self.queue.is_empty() && self.rest.is_none_or(|rest| rest <= now) {
            self.ask(poll);
            self.hear();
        }
    }

    fn ask(&mut self, poll: &Poll) {
        self.rest = None;
        if self.connection.is_none() {
            match socket::connect(&self.address) {
                Ok(socket) => {
                    if poll
                        .add(&socket, Token::Publisher, EventFlags::IN | EventFlags::ET | EventFlags::OUT)
                        .is_err()
                    {
                        return self.lose("epoll_ctl");
                    }
                    self.connection = Some(Connection::new(socket));
                }
                Err(errno) => return self.lose(&pintle::error::errno_text(errno)),
            }
        }
        let (Some(connection), Some(event)) = (self.connection.as_mut(), self.queue.front()) else { return };
        let request = Request {
            service: SERVICE.into(),
            method: "Forward".into(),
            payload: event.clone(),
            timeout_nano: i64::try_from(PATIENCE.as_nanos()).unwrap_or(0),
            metadata: vec![KeyValue {
                key: "containerd-namespace-ttrpc".into(),
                value: self.namespace.clone(),
            }],
        };
        let stream = self.stream;
        self.stream = self.stream.wrapping_add(2);
        if !connection.send(stream, REQUEST, &request) {
            return self.lose("the connection was cut");
        }
        self.asked = Some((stream, Instant::now() + PATIENCE));
    }

    fn hear(&mut self) {
        let Some(connection) = &mut self.connection else { return };
        let open = connection.flush() && connection.receive();
        while let Some(incoming) = connection.frame() {
            let Incoming::Frame(frame) = incoming else { continue };
            if frame.kind != RESPONSE || self.asked.is_none_or(|(stream, _)| stream != frame.stream) {
                continue;
            }
            let refused = Response::decode(frame.body.as_slice()).ok().and_then(|response| response.status);
            if let Some(status) = refused.filter(|status| status.code != 0) {
                // It has heard it; to say it again would not change its mind.
                log::warn(format_args!("containerd refuses an event: {}", status.message));
            }
            self.queue.pop_front();
            self.asked = None;
            self.pause = PAUSE;
        }
        if !open {
            self.lose("the connection was cut");
        }
    }

    /// Tries again later, from the same event on.
    fn lose(&mut self, why: &str) {
        self.connection = None;
        self.asked = None;
        if !self.queue.is_empty() {
            log::debug(format_args!("events wait for containerd: {why}"));
        }
        self.rest = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(LONGEST);
    }
}
