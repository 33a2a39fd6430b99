//! Subscriptions in one HTTP answer.

use std::time::Duration;

use futures_util::StreamExt as _;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{HOPPER, TestServer};

const FOLLOW: &str = "subscription { changes { changes { type path } cursor } }";

/// A running subscription, and what came of it so far.
struct Events {
    body: std::pin::Pin<Box<dyn futures_util::Stream<Item = reqwest::Result<bytes::Bytes>>>>,
    text: String,
}

impl Events {
    async fn start(server: &TestServer, accept: &str, query: &str) -> (String, Self) {
        let body = json!({ "query": query }).to_string();
        let headers = [("accept", accept), ("content-type", "application/json")];
        let response = server.send(Method::POST, "/graphql", &headers, body.as_bytes()).await;
        assert_eq!(response.status(), 200);
        let content_type = response.headers()["content-type"].to_str().expect("a text").to_owned();
        (content_type, Self { body: Box::pin(response.bytes_stream()), text: String::new() })
    }

    /// Reads until the text has `what`, and answers all that came.
    async fn until(&mut self, what: &str) -> &str {
        while !self.text.contains(what) {
            let piece = tokio::time::timeout(Duration::from_secs(10), self.body.next()).await;
            let piece = piece.unwrap_or_else(|_| panic!("no {what:?} in {:?}", self.text));
            let piece = piece.unwrap_or_else(|| panic!("it ended with {:?}", self.text)).expect("bytes");
            self.text.push_str(std::str::from_utf8(&piece).expect("a text"));
        }
        &self.text
    }

    async fn rest(mut self) -> String {
        while let Ok(Some(Ok(piece))) = tokio::time::timeout(Duration::from_secs(10), self.body.next()).await
        {
            self.text.push_str(std::str::from_utf8(&piece).expect("a text"));
        }
        self.text
    }
}

#[tokio::test]
async fn server_sent_events_follow_the_changelog() {
    let server = TestServer::start().await;
    let (content_type, mut events) = Events::start(&server, "text/event-stream", FOLLOW).await;
    assert_eq!(content_type, "text/event-stream; charset=utf-8");
    events.until(":\n\n").await;
    server.upload(json!({ "path": "photo" }), HOPPER).await;
    let text = events.until("ASSET_PUBLISH").await;
    let data = text.lines().find_map(|line| line.strip_prefix("data: ")).expect("an event");
    let event: Value = serde_json::from_str(data).expect("JSON on one line");
    let types = &event["data"]["changes"]["changes"];
    assert_eq!(types[0], json!({ "type": "ASSET_CREATE", "path": "photo" }));
    assert!(text.contains("event: next\ndata: "));
    assert!(!text.contains("event: complete"), "it goes on");
}

#[tokio::test]
async fn parts_are_sent_as_they_come() {
    let server = TestServer::start().await;
    let accept = "multipart/mixed;boundary=graphql;subscriptionSpec=1.0,application/json";
    let (content_type, mut events) = Events::start(&server, accept, FOLLOW).await;
    assert_eq!(content_type, "multipart/mixed;boundary=\"graphql\";subscriptionSpec=1.0");
    events.until("--graphql").await;
    server.upload(json!({ "path": "photo" }), HOPPER).await;
    let text = events.until("ASSET_PUBLISH").await.to_owned();
    // The boundary comes with its part, not with the next one.
    let text =
        if text.ends_with("--graphql") { text } else { events.until("\r\n--graphql").await.to_owned() };
    let part = text.split("--graphql").nth(1).expect("a part");
    let (headers, body) = part.split_once("\r\n\r\n").expect("headers and a body");
    assert_eq!(headers.trim(), "Content-Type: application/json");
    let part: Value = serde_json::from_str(body.trim()).expect("JSON");
    assert_eq!(part["payload"]["data"]["changes"]["changes"][0]["path"], "photo");
}

#[tokio::test]
async fn what_ends_is_completed_and_what_cannot_begin_says_why() {
    let server = TestServer::start().await;
    let expired = "subscription { changes(after: \"nonsense\") { cursor } }";
    let (_, events) = Events::start(&server, "text/event-stream", expired).await;
    let text = events.rest().await;
    assert!(text.contains("BAD_USER_INPUT"), "{text}");
    assert!(text.ends_with("event: complete\ndata:\n\n"), "{text}");
    let (_, events) = Events::start(&server, "multipart/mixed;subscriptionSpec=\"1.0\"", expired).await;
    let text = events.rest().await;
    assert!(text.contains("BAD_USER_INPUT") && text.ends_with("--graphql--\r\n"), "{text}");
    let (_, events) = Events::start(&server, "text/event-stream", "{ headCursor }").await;
    let text = events.rest().await;
    assert!(text.contains("\"headCursor\"") && text.ends_with("event: complete\ndata:\n\n"), "{text}");
    let headers = [("accept", "text/event-stream"), ("content-type", "application/json")];
    let body = json!({ "query": "subscription { nope }" }).to_string();
    let response = server.send(Method::POST, "/graphql", &headers, body.as_bytes()).await;
    assert_eq!(response.status(), 400, "what is not valid never begins");
    let query = "/graphql?query=mutation%7BcreateFolder(input%3A%7Bpath%3A%22x%22%7D)%7Bcreated%7D%7D";
    let response = server.get(query, &[("accept", "text/event-stream")]).await;
    assert_eq!(response.status(), 405, "a GET writes nothing");
    let body = json!({ "query": FOLLOW }).to_string();
    let response = server.send(Method::POST, "/graphql", &headers[1..], body.as_bytes()).await;
    assert_eq!(response.status(), 405, "one answer cannot have it all");
}

#[tokio::test]
async fn a_server_that_stops_ends_the_answer_without_completing_it() {
    let server = TestServer::start().await;
    let (_, mut events) = Events::start(&server, "text/event-stream", FOLLOW).await;
    events.until(":\n\n").await;
    server.app.stopping().cancel();
    assert!(!events.rest().await.contains("complete"));
}
