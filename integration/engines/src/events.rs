//! `ctr events` of a namespace, as they come.

use crate::call::{Call, happens};
use crate::engine::Engine;
use serde_json::Value;
use std::time::Duration;

/// One event as the daemon tells it.
#[derive(Clone, Debug)]
pub struct Event {
    /// Without `/tasks/`.
    pub topic: String,
    /// What it says.
    pub body: Value,
}

impl Event {
    /// A text of its body.
    pub fn text(&self, key: &str) -> &str {
        self.body[key].as_str().unwrap_or("")
    }
}

/// A client that listens.
pub struct Listener<'a> {
    engine: &'a Engine,
    call: Call,
}

impl<'a> Listener<'a> {
    /// Starts one, which surely hears all that comes after.
    #[track_caller]
    pub fn start(engine: &'a Engine) -> Self {
        let listener = Self { engine, call: engine.begin(&["events"]) };
        let mut n = 0;
        let heard = happens(Duration::from_secs(30), || {
            n += 1;
            let label = format!("try={n}");
            engine.ctr(&["namespaces", "label", &engine.namespace, &label]).ok();
            listener.call.stdout().contains("/namespaces/update")
        });
        assert!(heard, "ctr hears no events");
        listener
    }

    /// The events of tasks of this namespace so far.
    pub fn events(&self) -> Vec<Event> {
        let text = self.call.stdout();
        // The last line may be half written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let of_tasks = |line: &str| {
            let (head, rest) = line.split_once(" /tasks/")?;
            let (topic, body) = rest.split_once(' ')?;
            let own = head.split_whitespace().last() == Some(self.engine.namespace.as_str());
            own.then(|| Event {
                topic: topic.to_owned(),
                body: serde_json::from_str(body).unwrap_or_default(),
            })
        };
        whole.lines().filter_map(of_tasks).collect()
    }

    /// Topics of a container's events so far; an exit has the id of its process.
    pub fn of(&self, container: &str) -> Vec<String> {
        let events = self.events();
        let own = events.iter().filter(|e| e.text("container_id") == container);
        own.map(|e| if e.topic == "exit" { format!("exit {}", e.text("id")) } else { e.topic.clone() })
            .collect()
    }

    /// Waits until a container's events are these, in this order, and no others.
    #[track_caller]
    pub fn wait_for(&self, container: &str, topics: &[&str]) {
        let came = happens(Duration::from_secs(30), || self.of(container) == topics);
        assert!(came, "events of {container}: {:?}, not {topics:?}", self.of(container));
    }
}
