//! What the configuration says of the HTTP side, with the files that it names.

use std::path::Path;
use std::sync::Arc;

use super::current::CurrentAuthority;
use crate::config::{self, Config, TlsMode};
use crate::http::{Certificate, CertificateSource, HttpConfig, HttpError, OidcConfig, SignInConfig};
use crate::time::{Clock, SystemClock};

/// The HTTP side's configuration.
pub fn http_config(
    config: &Config,
    authority: &Arc<CurrentAuthority>,
    clock: SystemClock,
) -> Result<HttpConfig, HttpError> {
    let http = &config.http;
    let proxied = http.public_url.as_deref().is_some_and(|url| url.starts_with("https://"));
    Ok(HttpConfig {
        listen: http.listen,
        plain_beyond_loopback: http.plain_beyond_loopback,
        sign_in: SignInConfig {
            session_idle: http.session_idle,
            session_longest: http.session_longest,
            metrics: http.metrics_without_sign_in,
            requests_per_second: http.requests_per_second,
            // Beyond loopback it is a proxy that adds TLS.
            secure: http.plain_beyond_loopback || proxied || http.tls != TlsMode::Off,
            behind_proxy: !http.trusted_proxies.is_empty()
                || http.tls == TlsMode::Off && (http.plain_beyond_loopback || proxied),
            trusted_proxies: http.trusted_proxies.clone(),
        },
        oidc: oidc_config(http)?,
        tls: certificate_source(config, authority, clock),
    })
}

/// Where the certificate of HTTPS comes from; none = plain HTTP.
fn certificate_source(
    config: &Config,
    authority: &Arc<CurrentAuthority>,
    clock: SystemClock,
) -> Option<CertificateSource> {
    let (http, names) = (&config.http, config.ingest.server_names.clone());
    match (http.tls, http.tls_certificate.clone(), http.tls_key.clone()) {
        (TlsMode::Own, ..) => {
            let authority = Arc::clone(authority);
            Some(Arc::new(move || {
                let own = authority.get().server_certificate(&names, clock.unix());
                let own = own.map_err(|error| error.to_string())?;
                Ok(Certificate { chain: own.chain, key: own.key })
            }))
        }
        (TlsMode::Files, Some(chain), Some(key)) => Some(Arc::new(move || {
            let read =
                |path: &Path| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
            Certificate::from_pem(&read(&chain)?, &read(&key)?)
        })),
        _ => None,
    }
}

fn oidc_config(http: &config::Http) -> Result<Option<OidcConfig>, HttpError> {
    let Some(issuer) = http.oidc_issuer.clone() else { return Ok(None) };
    let wrong = |key: &str, error: String| HttpError::Oidc(format!("`http.{key}`: {error}"));
    let read = |key: &'static str, path: &Path| {
        std::fs::read(path).map_err(|error| wrong(key, format!("{}: {error}", path.display())))
    };
    let secret = http.oidc_client_secret_file.as_deref().map(|path| read("oidc_client_secret_file", path));
    let secret = secret.transpose()?.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
    let grant = |text: &String| {
        let valid = "give group=role, group=role:site:ID or group=role:subscription:ID";
        OidcConfig::read_grant(text)
            .ok_or_else(|| wrong("oidc_grants", format!("`{text}` can't be used; {valid}")))
    };
    let roots = http.oidc_ca_file.as_deref().map(|path| read("oidc_ca_file", path)).transpose()?;
    Ok(Some(OidcConfig {
        issuer,
        client_id: http.oidc_client_id.clone(),
        client_secret: secret,
        groups_claim: http.oidc_groups_claim.clone(),
        grants: http.oidc_grants.iter().map(grant).collect::<Result<_, _>>()?,
        roots,
        public_url: http.public_url.clone().unwrap_or_else(|| {
            let scheme = if http.tls == TlsMode::Off { "http" } else { "https" };
            format!("{scheme}://{}", http.listen)
        }),
    }))
}
