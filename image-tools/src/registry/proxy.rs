//! Which proxy a URL goes through, by HTTP_PROXY, HTTPS_PROXY and NO_PROXY as Go's programs (Docker, Podman, skopeo) read
//! them. The variables come in as values: only the command line reads the environment.

use std::fmt;
use std::net::IpAddr;

use crate::error::{Error, Result};

/// The values of the three variables.
#[derive(Clone, Default)]
pub struct Proxies {
    /// For `http` URLs.
    pub http: Option<String>,
    /// For `https` URLs.
    pub https: Option<String>,
    /// Hosts that are reached directly: names, `.domains`, addresses, networks, each perhaps with a port, or `*`.
    pub none: Option<String>,
}

/// Proxies have passwords too.
impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = |value: &Option<String>| value.as_ref().map(|_| "…");
        write!(f, "Proxies({:?}, {:?}, {:?})", known(&self.http), known(&self.https), self.none)
    }
}

impl Proxies {
    /// The proxy for this scheme, host and port.
    pub(super) fn choose(&self, scheme: &str, host: &str, port: u16) -> Result<Option<ureq::Proxy>> {
        let (name, value) = match scheme {
            "https" => ("HTTPS_PROXY", &self.https),
            _ => ("HTTP_PROXY", &self.http),
        };
        let Some(value) = value.as_deref().filter(|v| !v.is_empty()) else { return Ok(None) };
        if super::is_loopback(host) || self.is_excepted(host, port) {
            return Ok(None);
        }
        // The value may hold a password: it stays out of the error.
        let wrong = || Error::invalid(format!("{name}: neither http://host:port nor https://host:port"));
        let proxy = ureq::Proxy::new(value).map_err(|_| wrong())?;
        match proxy.protocol() {
            ureq::ProxyProtocol::Http | ureq::ProxyProtocol::Https => Ok(Some(proxy)),
            _ => Err(wrong()),
        }
    }

    fn is_excepted(&self, host: &str, port: u16) -> bool {
        let host = host.trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
        let rules =
            self.none.as_deref().unwrap_or("").split(',').map(|rule| rule.trim().to_ascii_lowercase());
        rules.filter(|rule| !rule.is_empty()).any(|rule| excepts(&rule, &host, port))
    }
}

fn excepts(rule: &str, host: &str, port: u16) -> bool {
    if rule == "*" {
        return true;
    }
    if let Some((network, bits)) = rule.split_once('/') {
        return matches!((network.parse(), bits.parse(), host.parse()), (Ok(n), Ok(b), Ok(h)) if contains(n, b, h));
    }
    // An IPv6 address has colons of its own.
    let (rule, only) = match rule.parse::<IpAddr>() {
        Ok(_) => (rule, None),
        Err(_) => rule.rsplit_once(':').map_or((rule, None), |(rule, port)| (rule, Some(port))),
    };
    if only.is_some_and(|only| only.parse() != Ok(port)) {
        return false;
    }
    let rule = rule.trim_matches(['[', ']']).trim_start_matches('*');
    match rule.strip_prefix('.') {
        Some(_) => host.ends_with(rule),
        None => host == rule || host.strip_suffix(rule).is_some_and(|rest| rest.ends_with('.')),
    }
}

fn contains(network: IpAddr, bits: u32, host: IpAddr) -> bool {
    match (network, host) {
        (IpAddr::V4(n), IpAddr::V4(h)) if bits <= 32 => {
            (u32::from(n) ^ u32::from(h)).checked_shr(32 - bits).unwrap_or(0) == 0
        }
        (IpAddr::V6(n), IpAddr::V6(h)) if bits <= 128 => {
            (u128::from(n) ^ u128::from(h)).checked_shr(128 - bits).unwrap_or(0) == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_are_names_domains_addresses_and_networks() {
        let check = |rules: &str, host: &str, expect| {
            let proxies = Proxies { none: Some(rules.into()), ..Proxies::default() };
            assert_eq!(proxies.is_excepted(host, 443), expect, "{host} in {rules:?}");
        };
        check("", "r.example", false);
        check("*", "r.example", true);
        check("a, R.example", "r.example", true);
        check("example", "r.example", true);
        check("ample", "r.example", false);
        check(".example", "example", false);
        check("*.example", "r.example", true);
        check("r.example:443", "r.example", true);
        check("r.example:80", "r.example", false);
        check("10.0.0.0/8", "10.1.2.3", true);
        check("10.0.0.0/8", "11.1.2.3", false);
        check("0.0.0.0/0", "11.1.2.3", true);
        check("fd00::/8", "[fd00::1]", true);
        check("fd00::1", "[fd00::1]", true);
    }

    #[test]
    fn loopback_is_reached_directly_and_errors_hold_no_password() {
        let proxies = Proxies { https: Some("http://a:geheim@p:1".into()), ..Proxies::default() };
        assert!(proxies.choose("https", "localhost", 443).unwrap().is_none());
        assert!(proxies.choose("https", "r.example", 443).unwrap().is_some());
        assert!(proxies.choose("http", "r.example", 80).unwrap().is_none());
        let proxies = Proxies { https: Some("socks5://a:geheim@p:1".into()), ..Proxies::default() };
        let error = proxies.choose("https", "r.example", 443).unwrap_err().to_string();
        assert!(error.starts_with("HTTPS_PROXY: ") && !error.contains("geheim"), "{error}");
        assert!(!format!("{proxies:?}").contains("geheim"));
    }
}
