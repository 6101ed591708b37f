//! The registry client against a registry that does things wrong on purpose (`server`), over TLS (`tls`), and against
//! Debian's docker-registry (`oracle`). The library is called directly: the command line adds nothing to this.

mod login;
pub mod oracle;
mod pull;
mod push;
pub mod server;
pub mod tls;

use std::time::Duration;

use pintle_image::error::{Error, Result};
use pintle_image::reference::Reference;
use pintle_image::registry::credentials::Credentials;
use pintle_image::registry::{Client, Settings};

/// As patient as a test: short pauses, five retries, nothing of the machine's own settings.
pub fn settings() -> Settings {
    Settings {
        mirrors: None,
        pause: Duration::from_millis(2),
        longest_pause: Duration::from_millis(40),
        patience: Duration::from_secs(5),
        ..Settings::default()
    }
}

pub fn client() -> Client {
    Client::new(settings()).unwrap()
}

pub fn client_as(user: &str, password: &str) -> Client {
    Client::new(Settings { credentials: Some(credentials(user, password)), ..settings() }).unwrap()
}

pub fn credentials(user: &str, password: &str) -> Credentials {
    Credentials::Password { user: user.into(), password: password.into() }
}

/// A name at a server.
pub fn name(server: &server::Server, rest: &str) -> Reference {
    Reference::parse(&format!("{}/{rest}", server.host())).unwrap()
}

pub fn text<T>(result: Result<T>) -> String {
    error(result).to_string()
}

#[track_caller]
pub fn error<T>(result: Result<T>) -> Error {
    match result {
        Ok(_) => panic!("no error"),
        Err(error) => error,
    }
}

/// Bytes that no two places of are alike.
pub fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fastrand::Rng::with_seed(1).fill(&mut bytes);
    bytes
}
