//! People known by JSON Web Tokens: by a shared secret, and by keys at a URL that change.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use vellum::config::Flags;

use crate::support::{Socket, TestServer};

const SECRET: &str = "a secret of at least thirty-two bytes";
const VIEWER: &str = "{ viewer { role actor { id name kind } } }";

/// Seconds since 1970, from now on.
#[expect(
    clippy::disallowed_methods,
    reason = "the rule is for the product; signers have clocks of their own"
)]
fn after(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    i64::try_from(now).expect("a date") + seconds
}

fn signed(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let signature = URL_SAFE_NO_PAD.encode(sign(message.as_bytes()));
    format!("{message}.{signature}")
}

fn by_secret(secret: &str, claims: &Value) -> String {
    signed(&json!({ "alg": "HS256", "typ": "JWT" }), claims, |message| {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), message).as_ref().to_vec()
    })
}

fn with(claims: &Value, change: &Value) -> Value {
    let mut claims = claims.clone();
    for (name, value) in change.as_object().expect("an object") {
        claims[name] = value.clone();
    }
    claims
}

async fn viewer(server: &mut TestServer, token: &str) -> Value {
    server.token = Some(token.to_owned());
    server.ask(VIEWER, json!({})).await
}

async fn refused(server: &mut TestServer, token: &str) -> String {
    let answer = viewer(server, token).await;
    assert_eq!(answer["errors"][0]["extensions"]["code"], "UNAUTHENTICATED", "{answer}");
    answer["errors"][0]["message"].as_str().expect("a text").to_owned()
}

#[tokio::test]
async fn a_shared_secret_and_claims_say_who_somebody_is() {
    let settings = format!(
        "[jwt]\nsecret = \"{SECRET}\"\nissuer = \"https://id.example\"\naudience = \"vellum\"\n\
         role_claim = \"app.roles\"\nname_claim = \"nick\"\n\
         [jwt.roles]\nreaders = \"viewer\"\nwriters = \"editor\"\n"
    );
    let mut server = TestServer::with(Flags::default(), &settings).await;
    let claims = json!({ "sub": "ada", "nick": "Ada", "iss": "https://id.example", "aud": ["x", "vellum"],
        "exp": after(60), "app": { "roles": ["other", "readers", "writers"] } });
    let known = viewer(&mut server, &by_secret(SECRET, &claims)).await;
    let actor = json!({ "id": "ada", "name": "Ada", "kind": "USER" });
    assert_eq!(known["data"]["viewer"], json!({ "role": "EDITOR", "actor": actor }));
    let made = "mutation { createFolder(input: { path: \"a\" }) { changes { actor { id name kind } } } }";
    assert_eq!(server.gql(made, json!({})).await["createFolder"]["changes"][0]["actor"], actor);

    for (change, why) in [
        (json!({ "exp": after(-10) }), "has expired"),
        (json!({ "exp": null }), "no time"),
        (json!({ "exp": "soon" }), "no time"),
        (json!({ "nbf": after(60) }), "not valid yet"),
        (json!({ "iss": "https://evil.example" }), "another issuer"),
        (json!({ "iss": ["https://id.example"] }), "iss"),
        (json!({ "iss": ["https://id.example", "https://evil.example"] }), "iss"),
        (json!({ "iss": 7 }), "iss"),
        (json!({ "aud": "other" }), "another audience"),
        (json!({ "aud": [] }), "another audience"),
        (json!({ "sub": "" }), "no sub"),
        (json!({ "sub": 7 }), "no sub"),
        (json!({ "app": { "roles": ["other"] } }), "names no role"),
        (json!({ "app": "writers" }), "names no role"),
    ] {
        let why_not = refused(&mut server, &by_secret(SECRET, &with(&claims, &change))).await;
        assert!(why_not.contains(why), "{change}: {why_not}");
    }
    let mut without = claims.clone();
    without.as_object_mut().expect("an object").remove("exp");
    assert!(refused(&mut server, &by_secret(SECRET, &without)).await.contains("exp"));
    without["exp"] = json!(after(60));
    without.as_object_mut().expect("an object").remove("aud");
    assert!(refused(&mut server, &by_secret(SECRET, &without)).await.contains("audience"));

    for critical in [json!(["b64"]), json!(["https://x.example/ext"]), json!([]), json!(null), json!("exp")] {
        let header = json!({ "alg": "HS256", "crit": critical, "b64": true });
        let extended = signed(&header, &claims, |message| {
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), message).as_ref().to_vec()
        });
        refused(&mut server, &extended).await;
    }
    refused(&mut server, &by_secret("another secret of thirty-two bytes and more", &claims)).await;
    let unsigned = signed(&json!({ "alg": "none" }), &claims, |_| Vec::new());
    refused(&mut server, &unsigned).await;
    let token = by_secret(SECRET, &claims);
    for cut in ["..", "a.b.c", &token[..token.len() - 2], &format!("{token}x"), &"x.".repeat(10_000)] {
        refused(&mut server, cut).await;
    }
    for name in ["HS384", "RS256", "ES256", "EdDSA"] {
        let other = signed(&json!({ "alg": name }), &claims, |message| {
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), message).as_ref().to_vec()
        });
        refused(&mut server, &other).await;
    }
}

#[tokio::test]
async fn who_has_no_role_gets_the_default_one_and_dotted_claims_are_claims_too() {
    let settings = format!(
        "[jwt]\nsecret = \"{SECRET}\"\ndefault_role = \"viewer\"\nrole_claim = \"https://x.example/role\"\n"
    );
    let mut server = TestServer::with(Flags::default(), &settings).await;
    let claims = json!({ "sub": "bob", "exp": after(60) });
    assert_eq!(viewer(&mut server, &by_secret(SECRET, &claims)).await["data"]["viewer"]["role"], "VIEWER");
    let claims = with(&claims, &json!({ "https://x.example/role": "openid admin" }));
    assert_eq!(viewer(&mut server, &by_secret(SECRET, &claims)).await["data"]["viewer"]["role"], "ADMIN");
}

#[tokio::test]
async fn a_jwt_that_expires_ends_its_subscriptions() {
    let settings = format!("[jwt]\nsecret = \"{SECRET}\"\n");
    let server = TestServer::with(Flags::default(), &settings).await;
    let token = by_secret(SECRET, &json!({ "sub": "ada", "role": "viewer", "exp": after(600) }));
    let mut socket = Socket::open(&server.address, "graphql-transport-ws", &[]).await.expect("a socket");
    socket
        .send(json!({ "type": "connection_init", "payload": { "Authorization": format!("Bearer {token}") } }))
        .await;
    assert_eq!(socket.next().await["type"], "connection_ack");
    socket.subscribe("1", "subscription { changes { cursor } }", json!({})).await;
    server.clock.advance(700_000);
    assert_eq!(socket.close_code().await, 4403);
}

/// Publishes a key set, which can be changed; counts how often it was read.
struct Publisher {
    url: String,
    set: Arc<Mutex<(Value, usize)>>,
}

impl Publisher {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/keys", listener.local_addr().expect("an address"));
        let set = Arc::new(Mutex::new((json!({ "keys": [] }), 0)));
        let served = Arc::clone(&set);
        let answer = move || {
            let mut set = served.lock().expect("not poisoned");
            set.1 += 1;
            let body = set.0.to_string();
            async move { body }
        };
        let routes = axum::Router::new().route("/keys", axum::routing::get(answer));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { url, set }
    }

    fn publish(&self, keys: &Value) {
        self.set.lock().expect("not poisoned").0 = json!({ "keys": keys });
    }

    fn read(&self) -> usize {
        self.set.lock().expect("not poisoned").1
    }
}

fn ed25519() -> (Ed25519KeyPair, String) {
    let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
    let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).expect("a key");
    let public = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
    (pair, public)
}

#[tokio::test]
async fn keys_at_a_url_are_read_once_and_again_when_they_change() {
    let publisher = Publisher::start().await;
    let random = SystemRandom::new();
    let kind = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
    let document = EcdsaKeyPair::generate_pkcs8(kind, &random).expect("a key");
    let pair = EcdsaKeyPair::from_pkcs8(kind, document.as_ref(), &random).expect("a key");
    let point = pair.public_key().as_ref();
    let coordinate = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let (x, y) = (coordinate(&point[1..33]), coordinate(&point[33..65]));
    let first = json!({ "kty": "EC", "crv": "P-256", "use": "sig", "kid": "one", "x": x, "y": y });
    let shared = json!({ "kty": "oct", "kid": "oct", "k": coordinate(SECRET.as_bytes()) });
    publisher.publish(&json!([first, shared, { "kty": "new", "kid": "x" }]));
    let settings = format!("[jwt]\njwks_url = \"{}\"\naudience = \"vellum\"\n", publisher.url);
    let mut server = TestServer::with(Flags::default(), &settings).await;

    let claims = json!({ "sub": "ada", "aud": "vellum", "role": "editor", "exp": after(600) });
    let by_first = signed(&json!({ "alg": "ES256", "kid": "one" }), &claims, |message| {
        pair.sign(&random, message).expect("signed").as_ref().to_vec()
    });
    for _ in 0..3 {
        assert_eq!(viewer(&mut server, &by_first).await["data"]["viewer"]["role"], "EDITOR");
    }
    assert_eq!(publisher.read(), 1, "it is kept");
    let unnamed = signed(&json!({ "alg": "ES256" }), &claims, |message| {
        pair.sign(&random, message).expect("signed").as_ref().to_vec()
    });
    assert_eq!(viewer(&mut server, &unnamed).await["data"]["viewer"]["role"], "EDITOR");

    // The public key as if it were a shared secret, and a shared secret that a key set tells everybody.
    for (secret, id) in [(point, "one"), (SECRET.as_bytes(), "oct")] {
        let forged = signed(&json!({ "alg": "HS256", "kid": id }), &claims, |message| {
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message).as_ref().to_vec()
        });
        refused(&mut server, &forged).await;
    }

    // The signer takes another key. Who asks with an unknown one lets the keys be read again, though not at once again.
    let (second, public) = ed25519();
    publisher
        .publish(&json!([{ "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": "two", "x": public }]));
    let by_second = signed(&json!({ "alg": "EdDSA", "kid": "two" }), &claims, |message| {
        second.sign(message).as_ref().to_vec()
    });
    let known = async {
        while viewer(&mut server, &by_second).await["data"]["viewer"]["role"] != "EDITOR" {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), known).await.expect("known in time");
    refused(&mut server, &by_first).await;
    // At most one in five seconds, and hundreds were asked with unknown keys.
    let readings = publisher.read();
    for _ in 0..50 {
        refused(&mut server, &by_first).await;
    }
    assert!(publisher.read() <= readings + 10, "an unknown key does not cause a reading each");
}

#[tokio::test]
async fn while_keys_cannot_be_read_others_are_served() {
    // Nobody listens there.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/keys", listener.local_addr().expect("an address"));
    drop(listener);
    let settings = format!("[jwt]\njwks_url = \"{url}\"\nissuer = \"x\"\n");
    let mut server = TestServer::with(Flags::default(), &settings).await;
    let token = by_secret(SECRET, &json!({ "sub": "ada", "iss": "x", "exp": after(60) }));
    let answer = viewer(&mut server, &token).await;
    assert_eq!(answer["errors"][0]["extensions"]["code"], "STORAGE_UNAVAILABLE", "{answer}");
    let bearer = format!("Bearer {token}");
    assert_eq!(server.get("/assets/x", &[("authorization", &bearer)]).await.status(), 503);
    server.token = None;
    assert_eq!(server.gql(VIEWER, json!({})).await["viewer"]["role"], "ANONYMOUS");
}

#[test]
fn settings_of_jwts_that_would_let_strangers_in_are_refused() {
    for (settings, said) in [
        ("[jwt]\nsecret = \"short\"", "at least 32 bytes"),
        ("[jwt]\naudience = \"x\"", "secret, or jwks_url"),
        ("[jwt]\njwks_url = \"https://x.example/keys\"", "jwt.audience, jwt.issuer"),
        ("[jwt]\njwks_url = \"ftp://x\"\nissuer = \"x\"", "http:// or https:// URL"),
        ("[jwt]\nsecret = \"0123456789012345678901234567890123\"\ndefault_role = \"root\"", "is no role"),
        ("[jwt]\nsecert = \"x\"", "unknown field"),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("vellum.toml");
        std::fs::write(&file, settings).expect("written");
        let error = vellum::config::Config::load(Some(&file), &Flags::default()).expect_err(settings);
        assert!(error.to_string().contains(said), "{settings}: {error}");
    }
}
