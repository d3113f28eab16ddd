//! Requests and answers.
//!
//! What the server put off (429 or 503 with `Retry-After`) is sent again after that time, if sending it twice does no
//! harm: each POST has an `Idempotency-Key`, so it is among those. Nothing is sent after a redirect.

use std::io::{self, IsTerminal, Read};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;
use ureq::http::{HeaderMap, Response};
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, Body, Proxy, RequestBuilder};

use super::problem;
use super::profile::{Target, is_loopback};
use super::progress::Progress;
use crate::cli::Failure;
use crate::limits::{
    CLIENT_ANSWER_BYTES_MAX, CLIENT_ANSWER_TIMEOUT, CLIENT_CONNECT_TIMEOUT, CLIENT_RETRIES_MAX,
    CLIENT_RETRY_AFTER_MAX,
};

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

/// What a request carries.
#[derive(Clone, Debug)]
pub(super) enum Content {
    Nothing,
    Json(Value),
    /// A file of this media type.
    File(&'static str, Vec<u8>),
}

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Call {
    method: Method,
    path: String,
    query: Vec<(&'static str, String)>,
    headers: Vec<(&'static str, String)>,
    content: Content,
    /// The answer comes for as long as it likes.
    endless: bool,
    /// Only as often as said, whatever the server answers.
    once: bool,
}

impl Call {
    pub(super) fn new(method: Method, path: impl Into<String>) -> Call {
        let (path, content) = (path.into(), Content::Nothing);
        Call { method, path, query: Vec::new(), headers: Vec::new(), content, endless: false, once: false }
    }

    pub(super) fn get(path: impl Into<String>) -> Call {
        Call::new(Method::Get, path)
    }

    pub(super) fn json(mut self, body: Value) -> Call {
        self.content = Content::Json(body);
        self
    }

    pub(super) fn content(mut self, content: Content) -> Call {
        self.content = content;
        self
    }

    /// A parameter, if there is a value.
    pub(super) fn query(mut self, name: &'static str, value: Option<impl ToString>) -> Call {
        self.query.extend(value.map(|value| (name, value.to_string())));
        self
    }

    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Call {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn endless(mut self) -> Call {
        self.endless = true;
        self
    }

    pub(super) fn once(mut self) -> Call {
        self.once = true;
        self
    }
}

/// A whole answer.
pub(super) struct Answer {
    pub(super) headers: HeaderMap,
    /// Null when there was no body.
    pub(super) body: Value,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// The connection to one server.
pub(super) struct Http {
    agent: Agent,
    target: Target,
    /// What the command is called in messages.
    what: String,
}

impl Http {
    pub(super) fn new(target: Target, what: &str) -> Result<Http, Failure> {
        let host = target.url.split("://").nth(1).unwrap_or_default();
        let bare =
            host.rsplit_once(':').map_or(host, |(bare, port)| if port.ends_with(']') { host } else { bare });
        // A proxy can't reach our own loopback.
        let proxy = if is_loopback(bare) { None } else { Proxy::try_from_env() };
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(proxy)
            .timeout_connect(Some(CLIENT_CONNECT_TIMEOUT))
            .timeout_recv_response(Some(CLIENT_ANSWER_TIMEOUT))
            .user_agent(concat!("fleetpulse/", env!("CARGO_PKG_VERSION")));
        let config = match target.url.starts_with("https:") {
            true => config.tls_config(tls(&target)?),
            false => config,
        };
        Ok(Http { agent: config.build().into(), target, what: what.to_owned() })
    }

    /// The server's address.
    pub(super) fn url(&self) -> &str {
        &self.target.url
    }

    /// Sends it; gives the answer if it is a success.
    pub(super) fn open(&self, call: &Call) -> Result<Response<Body>, Failure> {
        let mut call = call.clone();
        if call.method == Method::Post && !call.once {
            call = call.header("Idempotency-Key", uuid::Uuid::new_v4().to_string());
        }
        for tried in 0_u32.. {
            let answer = self.send(&call).map_err(|error| self.unreachable(&error))?;
            let status = answer.status().as_u16();
            if (200..300).contains(&status) {
                return Ok(answer);
            }
            let wait = retry_after(&answer).filter(|_| matches!(status, 429 | 503) && !call.once);
            let wait = wait.map(Duration::from_secs).filter(|wait| *wait <= CLIENT_RETRY_AFTER_MAX);
            match wait.filter(|_| tried < CLIENT_RETRIES_MAX) {
                Some(wait) => {
                    // Said at once: the wait itself is what takes long.
                    if std::io::stderr().is_terminal() {
                        eprintln!("fleetpulse: the server is busy; again in {} s", wait.as_secs());
                    }
                    std::thread::sleep(wait);
                }
                None => return Err(problem::refused(answer, &self.what)),
            }
        }
        Err(Failure::failed("tried too often"))
    }

    /// Sends it, and lets `read` have the body as it comes. Says where its signature is, when it has one.
    pub(super) fn stream<T>(
        &self,
        call: &Call,
        read: impl FnOnce(&mut dyn Read) -> io::Result<T>,
    ) -> Result<(Option<String>, T), Failure> {
        let answer = self.open(call)?;
        let signature = answer.headers().get("fleetpulse-signature");
        let signature = signature.and_then(|value| value.to_str().ok()).map(str::to_owned);
        let done = read(&mut answer.into_body().into_reader());
        Ok((signature, done.map_err(|error| self.unreachable(&ureq::Error::Io(error)))?))
    }

    /// Sends it and reads the whole answer as it is.
    pub(super) fn bytes(&self, call: &Call) -> Result<Vec<u8>, Failure> {
        self.whole(call).map(|(_, bytes)| bytes)
    }

    fn whole(&self, call: &Call) -> Result<(HeaderMap, Vec<u8>), Failure> {
        let mut answer = self.open(call)?;
        let read = answer.body_mut().with_config().limit(CLIENT_ANSWER_BYTES_MAX).read_to_vec();
        let bytes = read.map_err(|error| self.unreachable(&error))?;
        Ok((std::mem::take(answer.headers_mut()), bytes))
    }

    /// Sends it and reads the whole answer as JSON.
    pub(super) fn call(&self, call: &Call) -> Result<Answer, Failure> {
        let (headers, bytes) = self.whole(call)?;
        if bytes.is_empty() {
            return Ok(Answer { headers, body: Value::Null });
        }
        // Every document of the API is an object.
        match serde_json::from_slice(&bytes) {
            Ok(body @ Value::Object(_)) => Ok(Answer { headers, body }),
            _ => {
                let (what, url) = (&self.what, &self.target.url);
                let why = "does not answer as a Fleetpulse server; is the address right?";
                Err(Failure::failed(format!("{what}: {url} {why}")))
            }
        }
    }

    /// All items of a list, page by page, until `each` has had `most` of them. True when there would be more.
    pub(super) fn each(
        &self,
        call: &Call,
        most: usize,
        mut each: impl FnMut(Value) -> Result<(), Failure>,
    ) -> Result<bool, Failure> {
        let mut progress = Progress::new("items read");
        let (mut cursor, mut taken) = (None::<String>, 0);
        loop {
            let limit = (most - taken).clamp(1, crate::limits::PAGE_MAX);
            let page = call.clone().query("limit", Some(limit)).query("cursor", cursor.as_ref());
            let mut body = self.call(&page)?.body;
            let Some(items) = body.get_mut("items").and_then(Value::as_array_mut).map(std::mem::take) else {
                return Err(Failure::failed(format!("{}: the answer is no list", self.what)));
            };
            let next = body["next"].as_str().map(str::to_owned);
            // Each thing in the API is an object.
            if !items.iter().all(Value::is_object) {
                return Err(Failure::failed(format!("{}: the answer is no list of things", self.what)));
            }
            for item in items {
                if taken == most {
                    return Ok(true);
                }
                each(item)?;
                taken += 1;
            }
            progress.at(taken);
            match next {
                // A page that does not end in another place would go round for ever.
                Some(next) if cursor.as_ref() == Some(&next) => {
                    return Err(Failure::failed(format!("{}: the server's list does not go on", self.what)));
                }
                Some(_) if taken == most => return Ok(true),
                Some(next) => cursor = Some(next),
                None => return Ok(false),
            }
        }
    }

    fn unreachable(&self, error: &ureq::Error) -> Failure {
        problem::unreachable(error, &self.target.url, &self.what)
    }

    fn send(&self, call: &Call) -> Result<Response<Body>, ureq::Error> {
        let url = format!("{}{}", self.target.url, call.path);
        match call.method {
            Method::Get => self.prepare(self.agent.get(url), call).call(),
            Method::Delete => self.prepare(self.agent.delete(url), call).call(),
            Method::Post => deliver(self.prepare(self.agent.post(url), call), call),
            Method::Put => deliver(self.prepare(self.agent.put(url), call), call),
            Method::Patch => deliver(self.prepare(self.agent.patch(url), call), call),
        }
    }

    fn prepare<B>(&self, request: RequestBuilder<B>, call: &Call) -> RequestBuilder<B> {
        let whole = (!call.endless).then_some(2 * CLIENT_ANSWER_TIMEOUT);
        // Whoever follows events hears of the server every few seconds.
        let silent = call.endless.then_some(CLIENT_ANSWER_TIMEOUT);
        let mut request = request.config().timeout_global(whole).timeout_per_read(silent).build();
        request = request.query_pairs(call.query.iter().map(|(name, value)| (*name, value.as_str())));
        if let Some(token) = &self.target.token {
            request = request.header("Authorization", format!("Bearer {}", token.0));
        }
        for (name, value) in &call.headers {
            request = request.header(*name, value.as_str());
        }
        request
    }
}

fn deliver(
    request: RequestBuilder<ureq::typestate::WithBody>,
    call: &Call,
) -> Result<Response<Body>, ureq::Error> {
    match &call.content {
        Content::Nothing => request.send_empty(),
        Content::Json(body) => request.send_json(body),
        Content::File(media_type, bytes) => request.content_type(*media_type).send(bytes.as_slice()),
    }
}

/// Seconds after which to try again.
pub(super) fn retry_after(answer: &Response<Body>) -> Option<u64> {
    answer.headers().get("retry-after")?.to_str().ok()?.trim().parse().ok()
}

/// Own authorities when they are named, those of the system otherwise.
fn tls(target: &Target) -> Result<TlsConfig, Failure> {
    let roots: Vec<CertificateDer<'static>> = match &target.ca {
        Some(path) => {
            let wrong = |problem: String| {
                Failure::config(format!("{}: {problem}; give a PEM file with certificates", path.display()))
            };
            let file = CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))?;
            let read: Result<Vec<_>, _> = file.collect();
            let roots = read.map_err(|error| wrong(error.to_string()))?;
            if roots.is_empty() {
                return Err(wrong("no certificate in it".to_owned()));
            }
            roots
        }
        None => rustls_native_certs::load_native_certs().certs,
    };
    if roots.is_empty() {
        return Err(Failure::config(
            "this system has no root certificates; give the authority's with --ca FILE",
        ));
    }
    let roots: Vec<_> = roots.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    Ok(TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(
            std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
        )
        .root_certs(RootCerts::new_with_certs(&roots))
        .build())
}
