//! One HTTP request on a socket that is to become something else: `CONNECT`, or an upgrade.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use crate::printable::printable;
use crate::socket::Socket;

/// What a server answered.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) then: Then,
}

/// What comes after the head of an answer.
pub(crate) enum Then {
    /// The socket is free for the new protocol: after 101, or 2xx to `CONNECT`.
    Switched {
        socket: Socket,
        /// What the server sent directly behind the head.
        read_ahead: Bytes,
    },
    /// An ordinary answer.
    Body {
        /// The first words of it, if it is text that people can read: one line, without control
        /// characters.
        excerpt: Option<String>,
    },
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    /// What came is not HTTP.
    NotHttp(hyper::Error),
    /// The connection ended before an answer.
    Closed(hyper::Error),
}

/// Sends a request and reads the answer. Spawns nothing: dropping the future drops the socket.
pub(crate) async fn exchange(
    socket: Socket,
    request: Request<Empty<Bytes>>,
) -> Result<Answer, NoAnswer> {
    let connect = request.method() == Method::CONNECT;
    let (mut sender, connection) = http1::Builder::new()
        .title_case_headers(true)
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(socket))
        .await
        .map_err(no_answer)?;
    let mut connection = pin!(connection.with_upgrades());
    let mut answer = pin!(async move {
        let response = sender.send_request(request).await.map_err(no_answer)?;
        let status = response.status();
        let headers = response.headers().clone();
        let switched =
            status == StatusCode::SWITCHING_PROTOCOLS || (connect && status.is_success());
        let then = if switched {
            let upgraded = hyper::upgrade::on(response).await.map_err(no_answer)?;
            let parts = upgraded
                .downcast::<TokioIo<Socket>>()
                .expect("the type that the handshake was given");
            Then::Switched { socket: parts.io.into_inner(), read_ahead: parts.read_buf }
        } else {
            // What a redirect says beside its location is for people who cannot follow it.
            let excerpt = match status.is_redirection() {
                true => None,
                false => excerpt(&headers, response.into_body()).await,
            };
            Then::Body { excerpt }
        };
        Ok(Answer { status, headers, then })
    });
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        // The connection hands its result, good or bad, to the request that waits for it.
        _ = &mut connection => answer.await,
    }
}

fn no_answer(error: hyper::Error) -> NoAnswer {
    if error.is_parse() || error.is_user() {
        NoAnswer::NotHttp(error)
    } else {
        NoAnswer::Closed(error)
    }
}

async fn excerpt(headers: &HeaderMap, body: Incoming) -> Option<String> {
    let kind = headers.get(CONTENT_TYPE).map_or("", |value| value.to_str().unwrap_or("?"));
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let html = kind == "text/html";
    let readable = html
        || matches!(
            kind.as_str(),
            "" | "text/plain" | "application/json" | "application/problem+json"
        );
    if !readable || headers.contains_key(CONTENT_ENCODING) {
        return None;
    }
    let mut body = pin!(body);
    let mut read = Vec::new();
    let reading = async {
        while read.len() < MAX_BODY
            && let Some(Ok(frame)) = body.frame().await
        {
            if let Some(data) = frame.data_ref() {
                read.extend_from_slice(&data[..data.len().min(MAX_BODY - read.len())]);
            }
        }
    };
    // Whatever came in this time will do.
    let _ = timeout(BODY_TIMEOUT, reading).await;
    let text = String::from_utf8_lossy(&read);
    let shown = |line: &str| Some(printable(line, MAX_EXCERPT)).filter(|line| !line.is_empty());
    if html { shown(title(&text)?) } else { text.lines().find_map(shown) }
}

/// The title of an HTML page.
fn title(page: &str) -> Option<&str> {
    let lower = page.to_ascii_lowercase();
    let start = lower.find("<title>")? + "<title>".len();
    let end = start + lower[start..].find("</title>")?;
    page.get(start..end)
}

/// How long the head of an answer may be, in bytes. Servers stop at 8 to 64 KiB for the head of a
/// request.
const MAX_HEAD: usize = 64 * 1024;

/// How much of a body is read for an excerpt, in bytes: the title of a page is within it.
const MAX_BODY: usize = 4096;

/// How long to wait for that much; the head has already said that the attempt failed.
const BODY_TIMEOUT: Duration = Duration::from_secs(1);

/// How many characters an excerpt has at most.
const MAX_EXCERPT: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_found() {
        let cases = [
            ("<html><head><TITLE>400 Bad\nRequest</Title></head>", Some("400 Bad\nRequest")),
            ("<title></title>", Some("")),
            ("<title>cut off", None),
            ("İ<title>x</title>", Some("x")),
            ("plain", None),
        ];
        for (page, expected) in cases {
            assert_eq!(title(page), expected, "{page}");
        }
    }
}
