//! A small identity provider over real HTTP: discovery, keys, sign-in, token endpoint with PKCE and a client secret,
//! id tokens signed with ES256. It can be told to misbehave.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use fleetpulse::time::{Clock, SystemClock};
use serde_json::{Value, json};

pub const CLIENT: &str = "fleet";
pub const SECRET: &str = "a secret of the client";

/// What the provider does.
pub struct State {
    key: EcdsaKeyPair,
    key_name: String,
    /// Claims of who signs in, over the usual ones.
    pub claims: Value,
    /// What the last sign-in came with.
    asked: Option<Asked>,
    /// Sign with a key that is not published.
    pub foreign_key: bool,
    /// Times that keys were asked for.
    pub keys_asked: usize,
}

#[derive(Clone)]
struct Asked {
    code: String,
    challenge: String,
    nonce: String,
    back: String,
}

#[derive(Clone)]
pub struct Provider {
    pub address: SocketAddr,
    pub state: Arc<Mutex<State>>,
}

fn key() -> EcdsaKeyPair {
    EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()
}

impl Provider {
    pub fn start() -> Provider {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let state = State {
            key: key(),
            key_name: "one".into(),
            claims: json!({}),
            asked: None,
            foreign_key: false,
            keys_asked: 0,
        };
        let provider =
            Provider { address: listener.local_addr().unwrap(), state: Arc::new(Mutex::new(state)) };
        let serving = provider.clone();
        // Ends with the process of the tests.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                serving.answer(stream);
            }
        });
        provider
    }

    pub fn issuer(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on it signs with another key.
    pub fn rotate(&self) {
        let mut state = self.state.lock().unwrap();
        (state.key, state.key_name) = (key(), "two".into());
    }

    fn answer(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        let _ = reader.read_line(&mut line);
        let (mut length, mut authorization) = (0, String::new());
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header).unwrap_or(0) <= 2 {
                break;
            }
            let Some((name, value)) = header.trim().split_once(": ") else { continue };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().unwrap(),
                "authorization" => authorization = value.to_owned(),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        let _ = reader.read_exact(&mut body);
        let target = line.split(' ').nth(1).unwrap_or("/").to_owned();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let (status, head, body) = match path {
            "/.well-known/openid-configuration" => ("200 OK", String::new(), self.discovery().to_string()),
            "/jwks" => ("200 OK", String::new(), self.keys().to_string()),
            "/authorize" => {
                ("303 See Other", format!("Location: {}\r\n", self.authorize(query)), String::new())
            }
            "/token" => match self.token(&pairs(&String::from_utf8_lossy(&body)), &authorization) {
                Ok(tokens) => ("200 OK", String::new(), tokens.to_string()),
                Err(error) => ("400 Bad Request", String::new(), json!({"error": error}).to_string()),
            },
            _ => ("404 Not Found", String::new(), String::new()),
        };
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\n{head}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let _ = reader.get_mut().write_all(answer.as_bytes());
    }

    fn discovery(&self) -> Value {
        let at = |path: &str| format!("{}{path}", self.issuer());
        json!({
            "issuer": self.issuer(),
            "authorization_endpoint": at("/authorize"),
            "token_endpoint": at("/token"),
            "jwks_uri": at("/jwks"),
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }

    fn keys(&self) -> Value {
        let mut state = self.state.lock().unwrap();
        state.keys_asked += 1;
        let point = state.key.public_key().as_ref();
        let number = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({"keys": [{"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": state.key_name,
            "x": number(&point[1..33]), "y": number(&point[33..65])}]})
    }

    /// Somebody signs in at once, and is sent back.
    fn authorize(&self, query: &str) -> String {
        let asked = pairs(query);
        let of =
            |name: &str| asked.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone()).unwrap_or_default();
        assert_eq!((of("response_type"), of("client_id")), ("code".into(), CLIENT.into()));
        assert_eq!(of("code_challenge_method"), "S256");
        assert!(of("scope").split(' ').any(|scope| scope == "openid"));
        let code = format!("code {}", of("state").len() + of("nonce").len());
        let (challenge, nonce, back) = (of("code_challenge"), of("nonce"), of("redirect_uri"));
        let to = format!("{back}?code={}&state={}", code.replace(' ', "%20"), of("state"));
        self.state.lock().unwrap().asked = Some(Asked { code, challenge, nonce, back });
        to
    }

    fn token(&self, given: &[(String, String)], authorization: &str) -> Result<Value, &'static str> {
        let of =
            |name: &str| given.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str()).unwrap_or_default();
        let basic = STANDARD.encode(format!("{CLIENT}:{}", SECRET.replace(' ', "+")));
        if authorization != format!("Basic {basic}") {
            return Err("invalid_client");
        }
        let mut state = self.state.lock().unwrap();
        // A code is good once.
        let asked = state.asked.take().ok_or("invalid_grant")?;
        let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, of("code_verifier").as_bytes()));
        if of("code") != asked.code || challenge != asked.challenge || of("redirect_uri") != asked.back {
            return Err("invalid_grant");
        }
        let now = SystemClock::start().unix().0 / 1_000;
        let mut claims = json!({"iss": self.issuer(), "sub": "4711", "aud": CLIENT, "iat": now, "exp": now + 300,
            "nonce": asked.nonce, "preferred_username": "Grace", "name": "Grace H.", "groups": ["ops"]});
        for (name, value) in state.claims.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let head = json!({"alg": "ES256", "typ": "JWT", "kid": state.key_name});
        let text = format!("{}.{}", encode(&head), encode(&claims));
        let foreign = key();
        let signer = if state.foreign_key { &foreign } else { &state.key };
        let signature = signer.sign(&SystemRandom::new(), text.as_bytes()).unwrap();
        let id_token = format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()));
        Ok(json!({"access_token": "x", "token_type": "Bearer", "expires_in": 300, "id_token": id_token}))
    }
}

/// `a=b&c=d` taken apart.
fn pairs(text: &str) -> Vec<(String, String)> {
    let plain = |text: &str| {
        let text = text.replace('+', " ");
        let mut parts = text.split('%');
        let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
        for part in parts {
            bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
            bytes.extend_from_slice(&part.as_bytes()[2..]);
        }
        String::from_utf8(bytes).unwrap()
    };
    let pair = |pair: &str| pair.split_once('=').map(|(name, value)| (plain(name), plain(value)));
    text.split('&').filter_map(pair).collect()
}
