//! What init reads and what it says, as bytes: an order and a message. Whatever of them is understood is written again as the
//! same bytes, and every failure that a message can name becomes a sentence.

use pintle::launch::sentence;
use pintle::plan::steps::Steps;
use pintle_init::channel::Message;
use pintle_init::order::{Field, Head, Numbers, Order, Sink, begin};

/// One input, read as both.
pub fn check(data: &[u8]) {
    order(data);
    // Behind a head of this very version, so that no input grows old with it.
    let mut whole = Bytes::default();
    begin(&mut whole, &Head { first_private: 3, descriptors: Numbers(&[0; 16]) });
    whole.put(data);
    let steps = order(&whole.0);
    if let Some((Message::Failed { step, errno, operation, text }, _)) = message(data) {
        told(&steps, step.into(), errno, operation, text);
    }
    for n in 0..8 {
        told(&steps, n, 1 + i32::from(data.len() as u8), b"open source", data);
    }
}

#[derive(Default)]
struct Bytes(Vec<u8>);

impl Sink for Bytes {
    fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

/// The steps up to the first that is malformed, after which there are none.
fn order(data: &[u8]) -> Steps {
    let mut steps = Steps::new();
    let Ok(read) = Order::read(data) else { return steps };
    let mut again = Bytes::default();
    begin(&mut again, &read.head);
    let mut malformed = false;
    for step in read {
        assert!(!malformed, "a step after a malformed one");
        match step {
            Ok(step) => {
                step.put(&mut again);
                steps.push(&step);
                assert!(!format!("{step:?}").is_empty());
            }
            Err(_) => malformed = true,
        }
    }
    assert!(data.starts_with(&again.0), "written again, it is another order");
    assert!(malformed || data.len() == again.0.len(), "something was passed over");
    steps
}

fn message(data: &[u8]) -> Option<(Message<'_>, usize)> {
    let mut rest = data;
    let message = Message::take(&mut rest).ok()?;
    let mut again = Bytes::default();
    message.put(&mut again);
    let length = data.len() - rest.len();
    assert_eq!(again.0, data[..length], "written again, it is another message");
    Some((message, length))
}

fn told(steps: &Steps, index: usize, errno: i32, operation: &[u8], note: &[u8]) {
    // What the kernel answers: init makes nothing else of it.
    if (1..4096).contains(&errno) {
        let sentence = sentence::failure(steps, index, errno, operation, note).to_string();
        assert!(!sentence.is_empty());
    }
}
