//! Signing in at an identity provider: OpenID Connect, authorization code with PKCE.
//!
//! What a sign-in under way has to remember (state, nonce, verifier, where to go afterwards) lies in a cookie of the
//! browser that began it, sealed with a key of this run of the server: strangers fill no table, and a code that somebody
//! else obtained is of no use in another browser. Talking to the provider blocks, so it is done by workers, with time
//! limits and a bound on what is read; what the provider says of itself is kept for an hour, and asked again at most every
//! five seconds when a signature's key is not known.

use std::io::Read;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openidconnect::core::{
    CoreAuthDisplay, CoreAuthPrompt, CoreAuthenticationFlow, CoreErrorResponseType, CoreGenderClaim,
    CoreJsonWebKey, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm, CoreProviderMetadata,
    CoreRevocableToken, CoreRevocationErrorResponse, CoreTokenIntrospectionResponse, CoreTokenType,
};
use openidconnect::{
    AccessTokenHash, AdditionalClaims, AuthorizationCode, Client, ClientId, ClientSecret, CsrfToken,
    EmptyExtraTokenFields, EndpointMaybeSet, EndpointNotSet, EndpointSet, HttpRequest, HttpResponse,
    IdTokenFields, IssuerUrl, Nonce, OAuth2TokenResponse, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl,
    Scope as OidcScope, StandardErrorResponse, StandardTokenResponse, TokenResponse,
};
use serde::{Deserialize, Serialize};
use ureq::tls::Certificate;

use crate::fleet::{Grant, Role, Scope};
use crate::limits::{
    OIDC_ANSWER_BYTES_MAX, OIDC_FAILED_KEEP, OIDC_FLOW_LIFE, OIDC_METADATA_AGAIN, OIDC_METADATA_LIFE,
    OIDC_TIMEOUT,
};
use crate::time::MonoNanos;

/// What is configured of the identity provider.
#[derive(Clone, Debug, PartialEq)]
pub struct OidcConfig {
    /// Its issuer URL.
    pub issuer: String,
    /// What we are called there.
    pub client_id: String,
    /// Our secret there, when we have one.
    pub client_secret: Option<String>,
    /// Claim of the id token with the groups of a user.
    pub groups_claim: String,
    /// What the members of a group may do.
    pub grants: Vec<(String, Grant)>,
    /// Roots that its certificate is checked against (PEM); none = those of the system.
    pub roots: Option<Vec<u8>>,
    /// Where browsers reach us, such as `https://fleet.example`.
    pub public_url: String,
}

impl OidcConfig {
    /// `group=role`, `group=role:site:ID` or `group=role:subscription:ID`.
    pub fn read_grant(text: &str) -> Option<(String, Grant)> {
        let (group, wanted) = text.rsplit_once('=')?;
        let mut parts = wanted.splitn(3, ':');
        let role = Role::named(parts.next()?.trim())?;
        let scope = match (parts.next(), parts.next()) {
            (None, None) => Scope::All,
            (Some("site"), Some(id)) => Scope::Site(id.parse().ok()?),
            (Some("subscription"), Some(id)) => Scope::Subscription(id.parse().ok()?),
            _ => return None,
        };
        let group = group.trim();
        (!group.is_empty()).then(|| (group.to_owned(), Grant { role, scope }))
    }
}

/// Why a sign-in at the provider did not work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::http) enum OidcError {
    /// The provider can't be asked, or answers nonsense.
    #[error("the identity provider can't be asked: {0}")]
    Provider(String),
    /// What came back is not what was begun.
    #[error("the sign-in can't be finished: {0}")]
    Refused(String),
}

/// Who somebody is at the provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::http) struct Identity {
    pub(in crate::http) issuer: String,
    pub(in crate::http) subject: String,
    /// What they are called there, best first.
    pub(in crate::http) names: Vec<String>,
    pub(in crate::http) full_name: String,
    pub(in crate::http) grants: Vec<Grant>,
}

/// All other claims.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Claims {
    #[serde(flatten)]
    all: serde_json::Map<String, serde_json::Value>,
}

impl AdditionalClaims for Claims {}

type Fields = IdTokenFields<
    Claims,
    EmptyExtraTokenFields,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJwsSigningAlgorithm,
>;
type Answer = StandardTokenResponse<Fields, CoreTokenType>;
type Party = Client<
    Claims,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    StandardErrorResponse<CoreErrorResponseType>,
    Answer,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

/// What a sign-in under way remembers.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Flow {
    state: String,
    nonce: String,
    verifier: String,
    /// Own path to go to afterwards.
    to: String,
    /// Engine time of its end.
    until: u64,
}

/// The provider as we know it.
pub(in crate::http) struct Oidc {
    config: OidcConfig,
    agent: ureq::Agent,
    seal: hmac::Key,
    known: Mutex<Known>,
}

/// What was heard last, and what went wrong last, each with its time.
#[derive(Default)]
struct Known {
    metadata: Option<(CoreProviderMetadata, MonoNanos)>,
    failed: Option<(OidcError, MonoNanos)>,
}

impl Oidc {
    /// The provider's URL, as configured.
    pub(in crate::http) fn issuer(&self) -> &str {
        &self.config.issuer
    }

    pub(in crate::http) fn new(config: OidcConfig) -> Result<Oidc, OidcError> {
        let failed = |what: &str| OidcError::Provider(what.to_owned());
        let random = aws_lc_rs::rand::SystemRandom::new();
        let seal = hmac::Key::generate(hmac::HMAC_SHA256, &random)
            .map_err(|_| failed("the system gives no random numbers"))?;
        let mut tls = ureq::tls::TlsConfig::builder()
            .unversioned_rustls_crypto_provider(rustls::crypto::aws_lc_rs::default_provider().into());
        let roots: Vec<Certificate<'static>> = match &config.roots {
            Some(pem) => ureq::tls::parse_pem(pem)
                .filter_map(|item| match item {
                    Ok(ureq::tls::PemItem::Certificate(certificate)) => Some(certificate),
                    _ => None,
                })
                .collect(),
            None => {
                let system = rustls_native_certs::load_native_certs().certs;
                system.iter().map(|root| Certificate::from_der(root).to_owned()).collect()
            }
        };
        if config.roots.is_some() && roots.is_empty() {
            return Err(failed("`http.oidc_ca_file` has no certificate in it; give a PEM file"));
        }
        tls = tls.root_certs(ureq::tls::RootCerts::new_with_certs(&roots));
        // A redirect would let the provider send us anywhere.
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(OIDC_TIMEOUT))
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .tls_config(tls.build())
            .build()
            .into();
        Ok(Oidc { config, agent, seal, known: Mutex::default() })
    }

    /// Begins a sign-in: where to send the browser, and what goes into its cookie. Blocks.
    pub(in crate::http) fn begin(&self, to: &str, now: MonoNanos) -> Result<(String, String), OidcError> {
        let party = self.party(self.metadata(now, OIDC_METADATA_LIFE)?)?;
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let flow = CoreAuthenticationFlow::AuthorizationCode;
        let asked = party.authorize_url(flow, CsrfToken::new_random, Nonce::new_random);
        let asked = ["profile", "email"]
            .into_iter()
            .fold(asked, |asked, scope| asked.add_scope(OidcScope::new(scope.to_owned())));
        let (url, state, nonce) = asked.set_pkce_challenge(challenge).url();
        let flow = Flow {
            state: state.into_secret(),
            nonce: nonce.secret().clone(),
            verifier: verifier.into_secret(),
            to: to.to_owned(),
            until: now.plus(OIDC_FLOW_LIFE).0,
        };
        Ok((url.into(), self.sealed(&flow)))
    }

    /// Finishes a sign-in: who it is, and where to go. Blocks.
    pub(in crate::http) fn finish(
        &self,
        cookie: &str,
        state: &str,
        code: &str,
        now: MonoNanos,
    ) -> Result<(Identity, String), OidcError> {
        let refused = |what: &str| OidcError::Refused(what.to_owned());
        let flow =
            self.opened(cookie).ok_or_else(|| refused("this browser did not begin it; begin again"))?;
        if now.0 >= flow.until {
            return Err(refused("it took too long; begin again"));
        }
        let same = aws_lc_rs::constant_time::verify_slices_are_equal(state.as_bytes(), flow.state.as_bytes());
        same.map_err(|_| refused("the state is not that of this browser; begin again"))?;
        let party = self.party(self.metadata(now, OIDC_METADATA_LIFE)?)?;
        let answer = party
            .exchange_code(AuthorizationCode::new(code.to_owned()))
            .map_err(|error| OidcError::Provider(error.to_string()))?
            .set_pkce_verifier(PkceCodeVerifier::new(flow.verifier))
            .request(&|request| self.ask(request))
            .map_err(|error| OidcError::Refused(told(&error)))?;
        let nonce = Nonce::new(flow.nonce);
        let identity = match self.identity(&party, &answer, &nonce) {
            Ok(identity) => identity,
            // Its keys may have changed since we asked.
            Err(_) => {
                self.identity(&self.party(self.metadata(now, OIDC_METADATA_AGAIN)?)?, &answer, &nonce)?
            }
        };
        Ok((identity, flow.to))
    }

    fn identity(&self, party: &Party, answer: &Answer, nonce: &Nonce) -> Result<Identity, OidcError> {
        let refused = |what: String| OidcError::Refused(what);
        let token = answer.id_token().ok_or_else(|| refused("the provider gave no id token".to_owned()))?;
        let verifier = party.id_token_verifier();
        let claims = token.claims(&verifier, nonce).map_err(|error| refused(told(&error)))?;
        if let Some(expected) = claims.access_token_hash() {
            let failed = |error: &dyn std::error::Error| refused(told(error));
            let algorithm = token.signing_alg().map_err(|error| failed(&error))?;
            let key = token.signing_key(&verifier).map_err(|error| failed(&error))?;
            let hash = AccessTokenHash::from_token(answer.access_token(), algorithm, key)
                .map_err(|error| failed(&error))?;
            if hash != *expected {
                return Err(refused("the access token is not that of the id token".to_owned()));
            }
        }
        let mut names: Vec<String> = Vec::new();
        names.extend(claims.preferred_username().map(|name| name.as_str().to_owned()));
        names.extend(claims.email().map(|email| email.as_str().to_owned()));
        names.push(claims.subject().as_str().to_owned());
        let full_name = claims.name().and_then(|name| name.get(None));
        Ok(Identity {
            issuer: claims.issuer().as_str().to_owned(),
            subject: claims.subject().as_str().to_owned(),
            names,
            full_name: full_name.map(|name| name.as_str().to_owned()).unwrap_or_default(),
            grants: self.grants(claims.additional_claims()),
        })
    }

    /// What the groups of somebody may do, all together.
    fn grants(&self, claims: &Claims) -> Vec<Grant> {
        let groups: Vec<&str> = match claims.all.get(&self.config.groups_claim) {
            Some(serde_json::Value::Array(groups)) => {
                groups.iter().filter_map(|group| group.as_str()).collect()
            }
            Some(serde_json::Value::String(group)) => vec![group],
            _ => Vec::new(),
        };
        let of_groups = self.config.grants.iter().filter(|(group, _)| groups.contains(&group.as_str()));
        let mut grants: Vec<Grant> = of_groups.map(|(_, grant)| *grant).collect();
        grants.sort_unstable();
        grants.dedup();
        grants
    }

    /// What the provider says of itself, not older than `most`. One asks at a time; the others wait and get its answer.
    fn metadata(&self, now: MonoNanos, most: Duration) -> Result<CoreProviderMetadata, OidcError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((metadata, asked)) = &known.metadata
            && now.since(*asked) < most
        {
            return Ok(metadata.clone());
        }
        if let Some((error, asked)) = &known.failed
            && now.since(*asked) < OIDC_FAILED_KEEP
        {
            return Err(error.clone());
        }
        let wrong = |error: String| OidcError::Provider(error);
        let issuer = IssuerUrl::new(self.config.issuer.clone()).map_err(|error| wrong(error.to_string()))?;
        let found = CoreProviderMetadata::discover(&issuer, &|request| self.ask(request));
        match found.map_err(|error| wrong(told(&error))) {
            Ok(metadata) => {
                *known = Known { metadata: Some((metadata.clone(), now)), failed: None };
                Ok(metadata)
            }
            Err(error) => {
                known.failed = Some((error.clone(), now));
                Err(error)
            }
        }
    }

    fn party(&self, metadata: CoreProviderMetadata) -> Result<Party, OidcError> {
        let back = format!("{}/api/v1/sign-in/oidc/callback", self.config.public_url.trim_end_matches('/'));
        let back = RedirectUrl::new(back).map_err(|error| OidcError::Provider(error.to_string()))?;
        let secret = self.config.client_secret.clone().map(ClientSecret::new);
        let id = ClientId::new(self.config.client_id.clone());
        Ok(Party::from_provider_metadata(metadata, id, secret).set_redirect_uri(back))
    }

    /// One request to the provider, within time and size.
    fn ask(&self, request: HttpRequest) -> Result<HttpResponse, ureq::Error> {
        let (head, body) = self.agent.run(request)?.into_parts();
        let mut bytes = Vec::new();
        body.into_reader().take(OIDC_ANSWER_BYTES_MAX).read_to_end(&mut bytes).map_err(ureq::Error::Io)?;
        Ok(HttpResponse::from_parts(head, bytes))
    }

    fn sealed(&self, flow: &Flow) -> String {
        // Texts and a number: it does not fail.
        let text = URL_SAFE_NO_PAD.encode(serde_json::to_vec(flow).unwrap_or_default());
        let tag = hmac::sign(&self.seal, text.as_bytes());
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(tag.as_ref()))
    }

    fn opened(&self, sealed: &str) -> Option<Flow> {
        let (text, tag) = sealed.split_once('.')?;
        let tag = URL_SAFE_NO_PAD.decode(tag).ok()?;
        hmac::verify(&self.seal, text.as_bytes(), &tag).ok()?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
    }
}

/// An error with what is behind it, on one line, cut.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut behind = error.source();
    while let Some(error) = behind {
        text = format!("{text}: {error}");
        behind = error.source();
    }
    text.chars().take(300).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Whether a path is one of this server, to go to after the sign-in.
pub(in crate::http) fn is_own_path(path: &str) -> bool {
    // A browser takes `//host` and `/\host` for another host.
    let second = path.as_bytes().get(1);
    path.starts_with('/')
        && !matches!(second, Some(b'/' | b'\\'))
        && path.len() <= 1_024
        && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::MONO_ORIGIN;

    fn oidc() -> Oidc {
        let grants = ["ops=operator", "ops=reader", "boss=administrator"]
            .map(|text| OidcConfig::read_grant(text).unwrap());
        Oidc::new(OidcConfig {
            issuer: "https://id.example".into(),
            client_id: "fleet".into(),
            client_secret: None,
            groups_claim: "groups".into(),
            grants: grants.into(),
            roots: None,
            public_url: "https://fleet.example".into(),
        })
        .unwrap()
    }

    #[test]
    fn a_cookie_of_another_run_or_a_changed_one_is_not_opened() {
        let (one, other) = (oidc(), oidc());
        let flow =
            Flow { state: "s".into(), nonce: "n".into(), verifier: "v".into(), to: "/".into(), until: 5 };
        let sealed = one.sealed(&flow);
        assert_eq!(one.opened(&sealed).unwrap().state, "s");
        assert!(other.opened(&sealed).is_none());
        for wrong in ["", ".", "x", "x.y", &sealed[1..], &sealed[..sealed.len() - 1]] {
            assert!(one.opened(wrong).is_none(), "{wrong}");
        }
        let refused = |cookie: &str, state: &str, now| one.finish(cookie, state, "code", now).unwrap_err();
        assert!(matches!(refused("x.y", "s", MONO_ORIGIN), OidcError::Refused(_)));
        assert!(refused(&sealed, "s", MonoNanos(5)).to_string().contains("too long"));
        assert!(refused(&sealed, "t", MonoNanos(4)).to_string().contains("state"));
    }

    #[test]
    fn groups_give_grants() {
        let grants = |value: serde_json::Value| {
            let all = serde_json::Map::from_iter([("groups".to_owned(), value)]);
            oidc().grants(&Claims { all }).len()
        };
        assert_eq!(grants(serde_json::json!(["ops", "x", "ops"])), 2);
        assert_eq!(grants(serde_json::json!("boss")), 1);
        for nothing in [serde_json::json!(null), serde_json::json!({"ops": 1}), serde_json::json!(["Ops", 3])]
        {
            assert_eq!(grants(nothing.clone()), 0, "{nothing}");
        }
        let site = "00000000-0000-4000-8000-000000000001";
        assert!(
            OidcConfig::read_grant(&format!("a=b=reader:site:{site}"))
                .is_some_and(|(group, _)| group == "a=b")
        );
        for wrong in
            ["", "ops", "=reader", "ops=king", "ops=reader:site", "ops=reader:site:x", "ops=reader:zone:1"]
        {
            assert!(OidcConfig::read_grant(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn only_own_paths_are_gone_to() {
        for own in ["/", "/sites?x=1#y", "/api/v1/docs"] {
            assert!(is_own_path(own), "{own}");
        }
        for foreign in
            ["", "x", "//evil.example", "/\\evil.example", "https://evil", "/a b", "/\n", "/\u{e9}", "/a\\b"]
        {
            assert!(!is_own_path(foreign), "{foreign}");
        }
    }
}
