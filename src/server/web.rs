//! What the configuration says of the HTTP side, with the files that it names.

use std::path::Path;

use crate::config::{self, Config};
use crate::http::{HttpConfig, HttpError, OidcConfig, SignInConfig};

/// The HTTP side's configuration.
pub fn http_config(config: &Config) -> Result<HttpConfig, HttpError> {
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
            secure: http.plain_beyond_loopback || proxied,
        },
        oidc: oidc_config(http)?,
    })
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
        public_url: http.public_url.clone().unwrap_or_else(|| format!("http://{}", http.listen)),
    }))
}
