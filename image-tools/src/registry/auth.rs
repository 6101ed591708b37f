//! How a registry wants to know who asks: RFC 7235 challenges, Basic, and the distribution project's Bearer tokens. Nothing
//! is shown before a registry asks for it; what it asked for is remembered, and tokens are kept by registry and scope, each
//! fetched once however many threads want it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::Deserialize;
use ureq::http::header::{self, HeaderMap};
use ureq::http::{Method, Uri};

use super::credentials::Credentials;
use super::retry::{Tried, Trouble};
use super::transport::{self, Answer, Call, Payload};
use super::{Client, Place, escape};
use crate::error::{Error, Kind, Result};
use crate::manifest::json;

/// The longest answer of a token server, in bytes.
const LONGEST_TOKEN: u64 = 1 << 20;
/// What the token specification says where a server does not.
const SHORTEST_LIFE: u64 = 60;
/// A token this close to its end counts as ended: the request takes time too.
const MARGIN: Duration = Duration::from_secs(10);

/// What a request wants to do, as token scopes.
#[derive(Clone, Debug)]
pub(super) struct Access(Vec<String>);

impl Access {
    /// Nothing but to be known.
    pub(super) fn login() -> Self {
        Self(Vec::new())
    }

    pub(super) fn pull(repository: &str) -> Self {
        Self(vec![format!("repository:{repository}:pull")])
    }

    pub(super) fn push(repository: &str) -> Self {
        Self(vec![format!("repository:{repository}:pull,push")])
    }

    /// Push, with a blob of another repository.
    pub(super) fn mount(repository: &str, from: &str) -> Self {
        Self(vec![format!("repository:{repository}:pull,push"), format!("repository:{from}:pull")])
    }
}

/// What a registry asks for.
#[derive(Clone, Debug, PartialEq)]
enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String> },
}

/// A token and when it ends. No `Debug`: it is a secret.
struct Token {
    header: String,
    until: Instant,
}

/// One scope's token; who holds the lock fetches it.
type Slot = Arc<Mutex<Option<Token>>>;

/// What was learned so far.
#[derive(Default)]
pub(super) struct Memory {
    challenges: Mutex<HashMap<String, Challenge>>,
    tokens: Mutex<HashMap<(String, String), Slot>>,
    credentials: Mutex<HashMap<(String, String), Option<Credentials>>>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Client {
    /// Sends a request with whatever the registry wants to see. After a refusal it is sent once more with a fresh token; a
    /// stream can't be, which makes it trouble that passes.
    pub(super) fn send(&self, place: &Place, access: &Access, call: Call) -> Tried<Answer> {
        // An upload's place or a page may be on another host, which is none of the registry's secrets' business.
        if transport::origin(&call.url) != place.origin() {
            transport::refuse_downgrade(&place.base, &call.url, call.lax)?;
            return self.transport.follow(call, None);
        }
        let shown = self.authorization(place, access, None)?;
        let again = call.again();
        let answer = self.transport.follow(call, shown.as_deref())?;
        // Redirected elsewhere, it is not the registry that asks.
        if answer.status != 401 || transport::origin(&answer.url) != place.origin() {
            return Ok(answer);
        }
        if let Some(challenge) = challenge(&answer.headers, &answer.url)? {
            self.memory.challenges.lock().expect("nobody panics with it").insert(place.origin(), challenge);
        }
        let fresh = self.authorization(place, access, shown.as_deref())?;
        match (again, fresh) {
            (_, None) => Ok(answer),
            // The same password would be refused again.
            (_, fresh) if fresh == shown => Ok(answer),
            (Some(call), fresh) => self.transport.follow(call, fresh.as_deref()),
            (None, _) => Err(Trouble::passing(Error::new(Kind::Denied, "the access token ended meanwhile"))),
        }
    }

    /// Whether a place wanted to know who we are.
    pub(super) fn is_asked_who(&self, place: &Place) -> bool {
        self.memory.challenges.lock().expect("nobody panics with it").contains_key(&place.origin())
    }

    /// The `Authorization` header for a request; `refused` is one that the registry did not take.
    fn authorization(&self, place: &Place, access: &Access, refused: Option<&str>) -> Tried<Option<String>> {
        let challenge =
            self.memory.challenges.lock().expect("nobody panics with it").get(&place.origin()).cloned();
        let Some(challenge) = challenge else { return Ok(None) };
        let credentials = self.credentials(place)?;
        let (realm, service) = match (challenge, &credentials) {
            (Challenge::Basic, Some(Credentials::Password { .. })) => {
                return Ok(credentials.as_ref().and_then(Credentials::header));
            }
            (Challenge::Basic, _) => return Ok(None),
            (Challenge::Bearer { .. }, Some(Credentials::Bearer(_))) => {
                return Ok(credentials.as_ref().and_then(Credentials::header));
            }
            (Challenge::Bearer { realm, service }, _) => (realm, service),
        };
        let slot = {
            let mut tokens = self.memory.tokens.lock().expect("nobody panics with it");
            Arc::clone(tokens.entry((place.origin(), access.0.join(" "))).or_default())
        };
        let mut slot = slot.lock().expect("nobody panics with it");
        if let Some(token) = slot.as_ref()
            && token.until > Instant::now()
            && refused != Some(&token.header)
        {
            return Ok(Some(token.header.clone()));
        }
        let token = self.fetch_token(place, access, (&realm, service.as_deref()), credentials.as_ref())?;
        let header = token.header.clone();
        *slot = Some(token);
        Ok(Some(header))
    }

    /// Who we are to a place: as the caller said, to the registry that he named; else as the auth files say.
    fn credentials(&self, place: &Place) -> Result<Option<Credentials>> {
        if let Some(explicit) = self.settings.credentials.as_ref().filter(|_| !place.source.mirror) {
            return Ok(Some(explicit.clone()));
        }
        let key = (place.source.registry.clone(), place.source.repository.clone());
        let mut known = self.memory.credentials.lock().expect("nobody panics with it");
        if let Some(known) = known.get(&key) {
            return Ok(known.clone());
        }
        let found = super::credentials::find(&self.settings.auth_files, &key.0, &key.1)?;
        known.insert(key, found.clone());
        Ok(found)
    }

    fn fetch_token(
        &self,
        place: &Place,
        access: &Access,
        (realm, service): (&str, Option<&str>),
        credentials: Option<&Credentials>,
    ) -> Tried<Token> {
        let realm = transport::url(realm)?;
        let plain = realm.scheme_str() != Some("https");
        if plain && place.origin().starts_with("https:") && !place.source.insecure {
            let text = format!("{}: its token server speaks plain http", place.source.registry);
            return Err(Error::other(text).into());
        }
        let mut fields: Vec<(&str, &str)> = service.iter().map(|service| ("service", *service)).collect();
        let scopes = access.0.join(" ");
        let answer = match credentials {
            Some(Credentials::Identity(token)) => {
                fields.extend([("grant_type", "refresh_token"), ("refresh_token", token)]);
                fields.extend([("client_id", "pintle-image"), ("scope", &scopes)]);
                let form = query(&fields);
                let call = Call::new(Method::POST, realm, place.source.insecure)
                    .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                    .payload(Payload::Bytes(form.as_bytes()));
                self.transport.follow(call, None)?
            }
            _ => {
                fields.extend(access.0.iter().map(|scope| ("scope", scope.as_str())));
                let separator = if realm.query().is_some() { '&' } else { '?' };
                let text = match fields.is_empty() {
                    true => realm.to_string(),
                    false => format!("{realm}{separator}{}", query(&fields)),
                };
                let call = Call::new(Method::GET, transport::url(&text)?, place.source.insecure);
                let basic = credentials.and_then(Credentials::header);
                self.transport.follow(call, basic.as_deref())?
            }
        };
        if !answer.status.is_success() {
            return Err(answer.into_trouble(&place.source.registry));
        }
        token(&answer.into_bytes(LONGEST_TOKEN)?).map_err(Trouble::Lasting)
    }
}

/// Reads a token server's answer.
fn token(bytes: &[u8]) -> Result<Token> {
    // The document is a secret: the error says only where it is wrong.
    let wrong = || Error::invalid("a token server's answer has no token");
    let answer: TokenAnswer = json(bytes).map_err(|_| wrong())?;
    let text = answer.token.filter(|t| !t.is_empty()).or(answer.access_token).ok_or_else(wrong)?;
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(wrong());
    }
    let life = Duration::from_secs(answer.expires_in.unwrap_or(0).clamp(SHORTEST_LIFE, 86_400));
    Ok(Token { header: format!("Bearer {text}"), until: Instant::now() + life - MARGIN })
}

/// Fields of a query or a form.
fn query(fields: &[(&str, &str)]) -> String {
    let pairs: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect();
    pairs.join("&")
}

/// What the headers of a 401 ask for: tokens rather than passwords. Errors: nothing that we can do.
fn challenge(headers: &HeaderMap, url: &Uri) -> Result<Option<Challenge>> {
    let values = headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    let all: Vec<(String, HashMap<String, String>)> = values.flat_map(challenges).collect();
    let find = |scheme: &str| all.iter().find(|(name, _)| name.eq_ignore_ascii_case(scheme));
    if let Some((_, fields)) = find("bearer") {
        let realm = fields.get("realm").ok_or_else(|| {
            Error::invalid(format!("{}: its challenge has no realm", transport::display(url)))
        })?;
        // Relative realms are not in any specification, and some registries have them.
        let realm = transport::join(url, realm)?.to_string();
        return Ok(Some(Challenge::Bearer { realm, service: fields.get("service").cloned() }));
    }
    if find("basic").is_some() {
        return Ok(Some(Challenge::Basic));
    }
    match all.first() {
        Some((other, _)) => Err(Error::unsupported(format!(
            "{}: it wants {:?} authentication",
            transport::display(url),
            super::printable(other)
        ))),
        None => Ok(None),
    }
}

/// The challenges of one header: `Scheme key="value", key=value, Scheme …`.
fn challenges(text: &str) -> Vec<(String, HashMap<String, String>)> {
    let mut found: Vec<(String, HashMap<String, String>)> = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([',', ' ', '\t']);
        let end = rest.find(['=', ' ', ',', '\t']).unwrap_or(rest.len());
        if end == 0 {
            return found;
        }
        let word = &rest[..end];
        rest = rest[end..].trim_start_matches([' ', '\t']);
        match (rest.strip_prefix('='), found.last_mut()) {
            (Some(after), Some((_, fields))) => {
                let (value, after) = value(after.trim_start_matches([' ', '\t']));
                fields.insert(word.to_ascii_lowercase(), value);
                rest = after;
            }
            (Some(_), None) => return found,
            (None, _) => found.push((word.to_owned(), HashMap::new())),
        }
    }
}

/// A token or a quoted string, and what stands behind it.
fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(values: &[&str]) -> Result<Option<Challenge>> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::WWW_AUTHENTICATE, value.parse().unwrap());
        }
        challenge(&headers, &transport::url("https://r.example/v2/").unwrap())
    }

    #[test]
    fn challenges_are_read_in_every_form() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer { realm: realm.into(), service: service.map(str::to_owned) })
        };
        let check = |values: &[&str], expect| assert_eq!(asked(values).unwrap(), expect, "{values:?}");
        check(
            &[r#"Bearer realm="https://a.example/token",service="r.example",scope="repository:a:pull,push""#],
            bearer("https://a.example/token", Some("r.example")),
        );
        check(&[r#"Basic realm="x, Bearer realm=y""#], Some(Challenge::Basic));
        check(&[r#"bearer realm="/token" , error="invalid_token""#], bearer("https://r.example/token", None));
        check(&["Basic realm=x", "Bearer realm=https://a.example/t"], bearer("https://a.example/t", None));
        let realm = |realm: &str| HashMap::from([("realm".to_owned(), realm.to_owned())]);
        assert_eq!(
            challenges(r#"Basic realm="a \"b\", Bearer c\\", Bearer realm="/t""#),
            [("Basic".to_owned(), realm(r#"a "b", Bearer c\"#)), ("Bearer".to_owned(), realm("/t"))]
        );
        check(&[], None);
        assert!(asked(&["Negotiate"]).is_err());
        assert!(asked(&["Bearer service=x"]).is_err());
        assert!(asked(&["Bearer realm=\"file:///x\""]).is_err());
    }

    #[test]
    fn tokens_have_two_names_and_a_life() {
        assert_eq!(token(br#"{"token":"a"}"#).unwrap().header, "Bearer a");
        assert_eq!(token(br#"{"access_token":"b","expires_in":300}"#).unwrap().header, "Bearer b");
        for wrong in [r#"{}"#, r#"{"token":""}"#, r#"{"token":"a\nb"}"#, "geheim"] {
            assert_eq!(
                token(wrong.as_bytes()).err().unwrap().to_string(),
                "a token server's answer has no token"
            );
        }
    }
}
