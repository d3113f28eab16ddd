//! What a request says of who sends it, and what becomes of that.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::SignInConfig;
use super::forwarded::{X_FORWARDED_FOR, client};
use super::secrets::{hash, token_hash};
use super::sessions::Session;
use super::slowing::source;
use super::standing::{Over, of_begun, of_token};
use crate::fleet::{Actor, ActorKind, Permission, Register, Target, Token, TokenHash, User};
use crate::http::MetricsAccess;
use crate::http::app::App;
use crate::http::caller::{Caller, Who};
use crate::http::listener::Peer;
use crate::http::problem::Problem;
use crate::http::router::Access;
use crate::limits::TOKEN_TOUCH_EVERY;
use crate::time::Now;

/// Carries the session's CSRF value.
pub(in crate::http) const CSRF: HeaderName = HeaderName::from_static("x-fleetpulse-csrf");
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// What proxies add. Who came through one is not on this machine, whatever the connection says.
const FORWARDED: [HeaderName; 3] = [header::FORWARDED, X_FORWARDED_FOR, HeaderName::from_static("x-real-ip")];

/// The cookie's name.
pub(in crate::http) fn cookie_name(secure: bool) -> &'static str {
    if secure { "__Host-fleetpulse" } else { "fleetpulse" }
}

/// What a request says of its sender.
#[derive(Clone, Debug)]
pub(in crate::http) struct Asked {
    pub(in crate::http) address: IpAddr,
    bearer: Option<Result<TokenHash, ()>>,
    cookie: Option<TokenHash>,
    csrf: Option<String>,
    writes: bool,
    /// `Some(true)`: a page of ours; `Some(false)`: a foreign page; `None`: it does not say.
    own_page: Option<bool>,
    /// By a program on this machine that means this machine.
    here: bool,
}

impl Asked {
    pub(in crate::http) fn of(request: &Request, config: &SignInConfig) -> Asked {
        let headers = request.headers();
        let peer = request.extensions().get::<Peer>().map(|peer| peer.0.ip().to_canonical());
        // Every connection has a peer; without one it is nobody's machine.
        let peer = peer.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let forwarded = FORWARDED.iter().any(|name| headers.contains_key(name));
        Asked {
            address: client(peer, headers, &config.trusted_proxies),
            bearer: bearer(headers),
            cookie: cookie(headers, cookie_name(config.secure)).map(|value| hash(&value)),
            csrf: headers.get(CSRF).and_then(|value| value.to_str().ok()).map(str::to_owned),
            writes: !matches!(*request.method(), Method::GET | Method::HEAD),
            own_page: own_page(headers),
            here: peer.is_loopback() && !forwarded && !config.behind_proxy && names_this_machine(headers),
        }
    }

    /// The caller, when they may use an operation of this access at all.
    pub(in crate::http) fn admit(
        &self,
        app: &App,
        register: &Register,
        access: Access,
        now: Now,
    ) -> Result<Caller, Problem> {
        if self.writes && self.bearer.is_none() && self.own_page == Some(false) {
            return Err(foreign_page());
        }
        let found = self.identify(app, register, now);
        if matches!(access, Access::Public | Access::Probe) {
            // Who has an old cookie may still sign in.
            return Ok(found.ok().flatten().unwrap_or_else(|| self.nobody()));
        }
        let Some(caller) = found? else {
            if access == Access::Metrics && self.may_read_metrics(app) {
                return Ok(self.nobody());
            }
            return Err(not_signed_in("give an API token (`Authorization: Bearer fp_...`) or sign in"));
        };
        let (permission, target) = match access {
            Access::Needs(permission) => (permission, Target::Somewhere),
            Access::NeedsAll(permission) => (permission, Target::Everything),
            Access::Metrics if !self.may_read_metrics(app) => (Permission::View, Target::Everything),
            _ => return Ok(caller),
        };
        caller.check(register, permission, target)?;
        Ok(caller)
    }

    /// `None`: it does not say who.
    fn identify(&self, app: &App, register: &Register, now: Now) -> Result<Option<Caller>, Problem> {
        if let Some(bearer) = self.bearer {
            let known = bearer.ok().and_then(|hash| register.token_of(hash));
            let token = known.ok_or_else(unknown_token)?;
            return self.by_token(register, token, now).map(Some);
        }
        let Some(cookie) = self.cookie else { return Ok(None) };
        let session = app.sign_in.sessions.find(cookie, now.mono).ok_or_else(ended)?;
        let user = of_begun(register, &session).map_err(|_| ended())?;
        if self.writes {
            self.check_csrf(&session)?;
        }
        Ok(Some(self.by_session(user, session)))
    }

    fn by_token(&self, register: &Register, token: &Token, now: Now) -> Result<Caller, Problem> {
        let (owner, grants) = of_token(register, token, now.unix).map_err(bad_by)?;
        let stale =
            token.last_used.is_none_or(|used| now.unix.0 - used.0 >= TOKEN_TOUCH_EVERY.as_millis() as i64);
        Ok(Caller {
            actor: self.actor(ActorKind::Token, &format!("{}/{}", owner.name, token.name)),
            grants: grants.into(),
            key: format!("token {}", token.id).into(),
            who: Who::Token { id: token.id, owner: owner.id, expires: token.expires, touch: stale },
            address: self.address,
            cookie: self.cookie,
        })
    }

    fn by_session(&self, user: &User, session: Arc<Session>) -> Caller {
        Caller {
            actor: self.actor(ActorKind::User, &user.name),
            grants: user.grants.as_slice().into(),
            key: format!("user {}", user.id).into(),
            who: Who::User { id: user.id, session },
            address: self.address,
            cookie: self.cookie,
        }
    }

    fn nobody(&self) -> Caller {
        Caller {
            actor: self.actor(ActorKind::User, ""),
            grants: Arc::default(),
            key: self.source(),
            who: Who::Nobody,
            address: self.address,
            cookie: self.cookie,
        }
    }

    /// Where it comes from, as a key.
    pub(in crate::http) fn source(&self) -> Arc<str> {
        format!("from {}", source(self.address)).into()
    }

    fn actor(&self, kind: ActorKind, name: &str) -> Actor {
        Actor { kind, name: name.to_owned(), from: Some(self.address.to_string()) }
    }

    fn may_read_metrics(&self, app: &App) -> bool {
        match app.sign_in.config.metrics {
            MetricsAccess::Everywhere => true,
            MetricsAccess::Loopback => self.here,
            MetricsAccess::Nowhere => false,
        }
    }

    /// A browser sends the cookie along whoever made the page; only our own pages know the session's value.
    fn check_csrf(&self, session: &Session) -> Result<(), Problem> {
        let given = self.csrf.as_deref().unwrap_or_default().as_bytes();
        let same = aws_lc_rs::constant_time::verify_slices_are_equal(given, session.csrf.as_bytes()).is_ok();
        if same && self.own_page == Some(true) {
            return Ok(());
        }
        let detail = "a request that writes with a session must come from a page of this server, with the header \
            `X-Fleetpulse-CSRF` as `GET /api/v1/session` gives it; programs use an API token";
        Err(Problem::new(StatusCode::FORBIDDEN, "csrf", detail)
            .field("X-Fleetpulse-CSRF", "`csrf` of `GET /api/v1/session`"))
    }
}

fn bearer(headers: &HeaderMap) -> Option<Result<TokenHash, ()>> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?;
    let text = value.to_str().unwrap_or_default();
    let token = text.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let hash = token.and_then(|(_, token)| token_hash(token.trim()));
    Some(hash.filter(|_| values.next().is_none()).ok_or(()))
}

/// The value of a cookie; none when there are several of that name, since one of them is foreign.
pub(in crate::http) fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let pairs = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut found = pairs.flat_map(|text| text.split(';')).filter_map(|pair| {
        let (there, value) = pair.trim().split_once('=')?;
        (there == name).then(|| value.to_owned())
    });
    let value = found.next()?;
    found.next().is_none().then_some(value)
}

/// A page of somebody's that has a name pointing here (DNS rebinding) sends that name along.
fn names_this_machine(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST) else { return true };
    let Some(authority) = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok()) else {
        return false;
    };
    let name = authority.host();
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

fn own_page(headers: &HeaderMap) -> Option<bool> {
    let text = |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    if let Some(site) = text(&FETCH_SITE) {
        return Some(matches!(site, "same-origin" | "none"));
    }
    let origin = text(&header::ORIGIN)?;
    let host = text(&header::HOST).unwrap_or_default();
    let of_origin = origin.split_once("://").map(|(_, host)| host);
    Some(of_origin.is_some_and(|of_origin| !host.is_empty() && of_origin.eq_ignore_ascii_case(host)))
}

fn foreign_page() -> Problem {
    let detail = "a page of another site may not write here; use a page of this server, or an API token";
    Problem::new(StatusCode::FORBIDDEN, "cross-site", detail)
}

fn challenge(problem: Problem) -> Problem {
    problem.header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"fleetpulse\""))
}

pub(in crate::http) fn not_signed_in(detail: &str) -> Problem {
    challenge(Problem::new(StatusCode::UNAUTHORIZED, "not-signed-in", detail))
}

/// Who was let in is nobody any more.
pub(in crate::http) fn nobody_now(who: &Who, why: Over) -> Problem {
    if matches!(who, Who::Token { .. }) { bad_by(why) } else { ended() }
}

/// Why a token is not good.
fn bad_by(why: Over) -> Problem {
    match why {
        Over::TokenDeleted => unknown_token(),
        Over::TokenExpired => bad_token("it has expired; make a new one"),
        _ => bad_token("its owner may not sign in any more"),
    }
}

/// Nobody is signed in by this session any more.
fn ended() -> Problem {
    not_signed_in("the session has ended; sign in again")
}

/// Nobody is signed in by this token.
fn unknown_token() -> Problem {
    bad_token("it is not known here; it may be deleted or cut off")
}

fn bad_token(why: &str) -> Problem {
    let detail = format!("the API token can't be used: {why}");
    let problem = Problem::new(StatusCode::UNAUTHORIZED, "bad-token", detail);
    challenge(problem.field("Authorization", "Bearer and an API token of this server"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    #[test]
    fn a_cookie_is_found_among_others_and_never_guessed() {
        let found = |text: &str| cookie(&headers(&[("cookie", text)]), "fleetpulse");
        assert_eq!(found("a=b; fleetpulse=x=y ;c=d"), Some("x=y".to_owned()));
        assert_eq!(found("fleetpulse=1; fleetpulse=2"), None);
        assert_eq!(found("xfleetpulse=1; fleetpulse"), None);
        assert_eq!(found("Fleetpulse=1"), None);
    }

    #[test]
    fn own_pages_are_told_from_foreign_ones() {
        let is = |pairs: &[(&str, &str)]| own_page(&headers(pairs));
        assert_eq!(is(&[]), None);
        assert_eq!(is(&[("sec-fetch-site", "same-origin")]), Some(true));
        assert_eq!(is(&[("sec-fetch-site", "none")]), Some(true));
        for site in ["cross-site", "same-site", "", "Same-Origin"] {
            assert_eq!(
                is(&[("sec-fetch-site", site), ("origin", "http://h"), ("host", "h")]),
                Some(false),
                "{site}"
            );
        }
        assert_eq!(is(&[("origin", "https://h:1"), ("host", "H:1")]), Some(true));
        for origin in ["null", "https://h", "https://evil", "h:1", ""] {
            assert_eq!(is(&[("origin", origin), ("host", "h:1")]), Some(false), "{origin}");
        }
        assert_eq!(is(&[("origin", "https://")]), Some(false));
    }

    #[test]
    fn this_machine_is_told_from_names_that_point_to_it() {
        let is = |pairs: &[(&str, &str)]| names_this_machine(&headers(pairs));
        assert!(is(&[]));
        for host in
            ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "127.8.9.1", "[::1]:8080", "[::ffff:127.0.0.1]"]
        {
            assert!(is(&[("host", host)]), "{host}");
        }
        for host in
            ["evil.example", "evil.example:8080", "localhost.evil.example", "10.0.0.1", "", "[::2]", "a b"]
        {
            assert!(!is(&[("host", host)]), "{host}");
        }
    }

    #[test]
    fn authorization_is_one_bearer_token() {
        let (token, hash) = super::super::secrets::new_token().unwrap();
        let is = |value: &str| bearer(&headers(&[("authorization", value)]));
        assert_eq!(is(&format!("Bearer {token}")), Some(Ok(hash)));
        assert_eq!(is(&format!("bearer  {token}")), Some(Ok(hash)));
        for wrong in [token.clone(), format!("Basic {token}"), "Bearer".to_owned(), "Bearer x".to_owned()] {
            assert_eq!(is(&wrong), Some(Err(())), "{wrong}");
        }
        let value = format!("Bearer {token}");
        let twice = headers(&[("authorization", &value), ("authorization", &value)]);
        assert_eq!(twice.get_all("authorization").iter().count(), 2);
        assert_eq!(bearer(&twice), Some(Err(())));
    }
}
