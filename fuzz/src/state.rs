//! state.json as a later verb finds it: read or refused, and what was read is written and read again as the same.

use pintle::ops::Context;
use pintle::plan::cgroup::Driver;
use pintle::state::{Container, for_hooks};
use std::path::PathBuf;
use std::sync::OnceLock;

/// Keys and values of state.json.
pub const WORDS: &str = include_str!("../dictionaries/state.dict");

/// A directory of this process's own, in memory where that can be; `fuzz/run` takes it away.
fn root() -> &'static PathBuf {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let root = std::env::temp_dir().join(format!("pintle-fuzz-state-{}", std::process::id()));
        std::fs::create_dir_all(root.join("c")).expect("a directory for the state");
        root
    })
}

fn context() -> Context {
    Context {
        root: root().clone(),
        root_is_explicit: true,
        driver: Driver::Files,
        buses: Default::default(),
        rootless: false,
        in_user_namespace: false,
        environment: Vec::new(),
    }
}

/// One text.
pub fn check(text: &[u8]) {
    let context = context();
    std::fs::write(root().join("c/state.json"), text).expect("the state can be written");
    let container = match Container::load(&context, "c") {
        Ok(container) => container,
        Err(error) => {
            let again = Container::load(&context, "c").expect_err("refused, then read").to_string();
            return assert_eq!(error.to_string(), again);
        }
    };
    container.save().expect("what was read can be saved");
    let again = Container::load(&context, "c").expect("what was saved can be read");
    assert_eq!(described(&container), described(&again), "saved and read again, it is another state");
    let state = for_hooks(&container.state, "running", Some(container.state.pid));
    assert!(serde_json::from_str::<serde_json::Value>(&state).is_ok(), "{state}");
}

/// All of it; limits are maps without an order, so as JSON.
fn described(container: &Container) -> (String, serde_json::Value) {
    let mut state = container.state.clone();
    let json = serde_json::to_value((&state.resources, &state.saved)).expect("it was read from JSON");
    (state.resources, state.saved) = Default::default();
    (format!("{state:?}"), json)
}
