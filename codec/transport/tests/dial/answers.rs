//! What a server may answer, or not answer, to the request for a WebSocket.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use transport::dial::{DialError, Protocol};
use transport::socket::Socket;

use crate::support::*;

#[tokio::test]
async fn a_websocket_opens() {
    let relay = Server::relay().await;
    let mut dialed = dial(&dialer(), &relay.url("/ws%5Ffor/../x?token=1")).await.expect("dialled");
    assert!(matches!(dialed.socket, Socket::Tcp(_)));
    assert_eq!(dialed.peer, relay.address.to_string());
    assert_eq!(
        dialed.headers.get("http-network-relay").map(|value| value.as_bytes()),
        Some(&b"test/1"[..])
    );
    assert!(dialed.read_ahead.is_empty());
    echo(&mut dialed).await;

    let notes = relay.notes.take();
    let key = header(&notes[0], "Sec-WebSocket-Key").expect("a key");
    assert_eq!(key.len(), 24, "16 bytes in base64");
    let expected = format!(
        "GET /ws%5Ffor/../x?token=1 HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-Websocket-Key: {key}\r\nSec-Websocket-Version: 13\r\n\
         Sec-Websocket-Protocol: http-network-relay.v2\r\nUser-Agent: http-network-relay/{}\r\n\r\n",
        relay.address,
        env!("CARGO_PKG_VERSION"),
    );
    assert_eq!(notes, [expected]);
}

#[tokio::test]
async fn the_subprotocol_that_a_relay_chooses_decides() {
    for (header, expected) in
        [("", Protocol::V1), ("Sec-WebSocket-Protocol: http-network-relay.v2\r\n", Protocol::V2)]
    {
        let relay = Server::start(move |mut stream, _| {
            Box::pin(async move {
                let head = read_head(&mut stream).await?;
                stream.write_all(switching(&head, header).as_bytes()).await
            })
        })
        .await;
        let dialed = dial(&dialer(), &relay.url("/")).await.expect("dialled");
        assert_eq!(dialed.protocol, expected);
    }
}

#[tokio::test]
async fn keys_differ() {
    let relay = Server::relay().await;
    for _ in 0..2 {
        dial(&dialer(), &relay.url("/")).await.expect("dialled");
    }
    let notes = relay.notes.take();
    assert_ne!(header(&notes[0], "Sec-WebSocket-Key"), header(&notes[1], "Sec-WebSocket-Key"));
}

#[tokio::test]
async fn user_info_is_sent_as_basic() {
    let relay = Server::relay().await;
    let url = format!("ws://aladdin:open%20sesame@{}/", relay.address);
    dial(&dialer(), &url).await.expect("dialled");
    assert_eq!(
        header(&relay.notes.take()[0], "Authorization"),
        Some("Basic YWxhZGRpbjpvcGVuIHNlc2FtZQ==")
    );
}

#[tokio::test]
async fn what_follows_the_answer_is_kept() {
    let relay = Server::start(|mut stream, _| {
        Box::pin(async move {
            let head = read_head(&mut stream).await?;
            let answer = format!(
                "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n{}\x01\x02early",
                switching(&head, "")
            );
            stream.write_all(answer.as_bytes()).await?;
            stream.write_all(b" late").await?;
            stream.shutdown().await
        })
    })
    .await;
    let mut dialed = dial(&dialer(), &relay.url("/")).await.expect("dialled");
    let mut all = dialed.read_ahead.to_vec();
    dialed.socket.read_to_end(&mut all).await.expect("read");
    assert_eq!(all, b"\x01\x02early late");
}

#[tokio::test]
async fn an_answer_may_come_in_pieces() {
    let relay = Server::start(|mut stream, _| {
        Box::pin(async move {
            stream.set_nodelay(true)?;
            let head = read_head(&mut stream).await?;
            for byte in switching(&head, "X: y\r\n").into_bytes() {
                stream.write_all(&[byte]).await?;
                tokio::task::yield_now().await;
            }
            let mut back = [0; 14];
            stream.read_exact(&mut back).await?;
            stream.write_all(&back).await
        })
    })
    .await;
    let mut dialed = dial(&dialer(), &relay.url("/")).await.expect("dialled");
    echo(&mut dialed).await;
}

/// The error text after this answer.
async fn after(answer: impl Into<Vec<u8>>) -> (String, bool) {
    let server = Server::answering(answer).await;
    failure(&dialer(), &server.url("/")).await
}

#[tokio::test]
async fn another_status_comes_with_a_hint() {
    const PATH: &str = "(check the path of the URL; if it is right, a reverse proxy in front of the relay drops the Upgrade header)";
    const DENIED: &str =
        "(check the path of the URL, or whether something in front of the relay denies access)";
    let json =
        "Content-Type: application/json\r\nContent-Length: 22\r\n\r\n{\"detail\":\"Not Found\"}";
    let html = "Content-Type: text/html; charset=utf-8\r\n\r\n<html>\r\n<head><title>400 The plain HTTP request\nwas sent to HTTPS port</title></head>\r\n";
    let chunked = "Transfer-Encoding: chunked\r\nContent-Type: text/plain\r\n\r\n5\r\n\r\nhel\r\n4\r\nlo\nx\r\n0\r\n\r\n";
    let hostile = "Content-Length: 30\r\n\r\n\x1b[2J\x07two\twords\0\u{202e}\n second line";
    let cases = [
        ("200 OK\r\nContent-Length: 0\r\n\r\n", format!("HOST answered 200 OK instead of opening a WebSocket {PATH}")),
        (&format!("404 Not Found\r\n{json}"), format!(r#"HOST answered 404 Not Found "{{\"detail\":\"Not Found\"}}" instead of opening a WebSocket {PATH}"#)),
        (&format!("400 Bad Request\r\n{html}"), format!(r#"HOST answered 400 Bad Request "400 The plain HTTP request was sent to HTTPS port" instead of opening a WebSocket {PATH}"#)),
        (&format!("426 Upgrade Required\r\n{chunked}"), format!(r#"HOST answered 426 Upgrade Required "hello" instead of opening a WebSocket {PATH}"#)),
        (&format!("403 Forbidden\r\n{hostile}"), format!(r#"HOST answered 403 Forbidden "[2Jtwo words" instead of opening a WebSocket {DENIED}"#)),
        ("403 Forbidden\r\nContent-Type: image/png\r\n\r\nPNG", format!("HOST answered 403 Forbidden instead of opening a WebSocket {DENIED}")),
        ("403 Forbidden\r\nContent-Encoding: gzip\r\n\r\nGZIP", format!("HOST answered 403 Forbidden instead of opening a WebSocket {DENIED}")),
        ("401 Unauthorized\r\nContent-Length: 0\r\n\r\n", "HOST answered 401 Unauthorized instead of opening a WebSocket (it wants a user name and password: wss://USER:PASSWORD@HOST/PATH)".into()),
        ("502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", "HOST answered 502 Bad Gateway instead of opening a WebSocket (the relay behind this server may be down)".into()),
        ("418 I'm a teapot\r\nContent-Length: 0\r\n\r\n", "HOST answered 418 I'm a teapot instead of opening a WebSocket (check the URL; it has to lead to a relay)".into()),
        // A redirect to nowhere.
        ("302 Found\r\nContent-Length: 0\r\n\r\n", "HOST answered 302 Found instead of opening a WebSocket (check the URL; it has to lead to a relay)".into()),
        // A redirect of a kind that is not one.
        ("304 Not Modified\r\nLocation: /x\r\n\r\n", "HOST answered 304 Not Modified instead of opening a WebSocket (check the URL; it has to lead to a relay)".into()),
    ];
    for (answer, expected) in cases {
        assert_eq!(after(format!("HTTP/1.1 {answer}")).await, (expected, false), "{answer}");
    }
}

#[tokio::test]
async fn a_body_without_end_does_not_hold_up_the_error() {
    for silent in [false, true] {
        let server = Server::start(move |mut stream, _| {
            Box::pin(async move {
                read_head(&mut stream).await?;
                // No time passes but that in which nothing happens.
                tokio::time::pause();
                stream
                    .write_all(b"HTTP/1.1 503 Busy\r\nContent-Type: text/plain\r\n\r\nwait")
                    .await?;
                if silent {
                    return std::future::pending().await;
                }
                loop {
                    stream.write_all(&[b'x'; 1000]).await?;
                }
            })
        })
        .await;
        let (text, _) = failure(&dialer(), &server.url("/")).await;
        let excerpt = if silent { "wait".into() } else { format!("wait{}…", "x".repeat(95)) };
        let expected =
            format!("HOST answered 503 Service Unavailable \"{excerpt}\" instead of opening");
        assert!(text.starts_with(&expected), "{text}");
        tokio::time::resume();
    }
}

#[tokio::test]
async fn a_flawed_101_is_refused() {
    let full =
        ["Upgrade: websocket\r\n", "Connection: Upgrade\r\n", "Sec-WebSocket-Accept: KEY\r\n"];
    let cases = [
        (full.concat(), None),
        (full.concat().to_lowercase().replace("key", "KEY"), None),
        (full.concat().replace("Upgrade\r\n", "keep-alive, UPGRADE\r\n"), None),
        (full.concat().replace("n: Upgrade", "n: keep-alive\r\nConnection: upgrade"), None),
        (full[1..].concat(), Some("its 101 does not say Upgrade: websocket")),
        (
            full.concat().replace("websocket\r", "h2c\r"),
            Some("its 101 does not say Upgrade: websocket"),
        ),
        ([full[0], full[2]].concat(), Some("its 101 does not say Connection: Upgrade")),
        (
            full[..2].concat(),
            Some(
                "its 101 belongs to another request (Sec-WebSocket-Accept is wrong; a cache in between?)",
            ),
        ),
        (
            full.concat().replace("KEY", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            Some(
                "its 101 belongs to another request (Sec-WebSocket-Accept is wrong; a cache in between?)",
            ),
        ),
        (
            full.concat() + "Sec-WebSocket-Extensions: permessage-deflate\r\n",
            Some("it chose an extension that was not offered"),
        ),
        (
            full.concat() + "Sec-WebSocket-Protocol: x\r\n",
            Some("it chose a subprotocol that was not offered"),
        ),
    ];
    for (headers, flaw) in cases {
        let told = headers.clone();
        let server = Server::start(move |mut stream, _| {
            let headers = told.clone();
            Box::pin(async move {
                let right = switching(&read_head(&mut stream).await?, "");
                let headers = headers
                    .replace("KEY", header(&right, "Sec-WebSocket-Accept").unwrap_or_default());
                stream.write_all(format!("HTTP/1.1 101 OK\r\n{headers}\r\n").as_bytes()).await
            })
        })
        .await;
        match (dial(&dialer(), &server.url("/")).await, flaw) {
            (Ok(_), None) => {}
            (Err(error), Some(flaw)) => {
                assert!(error.is_bad_answer());
                let hint = match flaw.ends_with(')') {
                    true => "",
                    false => " (check the URL; it has to lead to a relay)",
                };
                let expected =
                    format!("{} does not speak WebSocket as agreed: {flaw}{hint}", server.address);
                assert_eq!(error.to_string(), expected, "{headers}");
            }
            (result, _) => panic!("{headers}: {result:?}"),
        }
    }
}

#[tokio::test]
async fn garbage_is_told_from_silence() {
    const NO_HTTP: &str = "HOST does not speak WebSocket as agreed: its answer is not HTTP (if this port speaks TLS, try wss://)";
    const CLOSED: &str = "HOST closed the connection without an answer (is the relay running behind it, and is ws:// or wss:// right?)";
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(300_000));
    let cases: [(&[u8], &str, bool); 8] = [
        (b"SSH-2.0-OpenSSH_9.9\r\n", NO_HTTP, false),
        (b"\x15\x03\x01\x00\x02\x02\x46", NO_HTTP, false),
        (b"HTTP/1.1 2x0 OK\r\n\r\n", NO_HTTP, false),
        (b"HTTP/1.1 200 OK\r\n\xff: x\r\n\r\n", NO_HTTP, false),
        (b"\0\0\0\0\0\0\0\0", NO_HTTP, false),
        (long.as_bytes(), NO_HTTP, false),
        (b"", CLOSED, true),
        (b"HTTP/1.1 101 Switch", CLOSED, true),
    ];
    for (answer, text, unreachable) in cases {
        let shown = String::from_utf8_lossy(&answer[..answer.len().min(40)]).into_owned();
        assert_eq!(after(answer).await, (text.to_owned(), unreachable), "{shown:?}");
    }
}

#[tokio::test]
async fn a_silent_server_is_given_ten_seconds() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("ws://{}/", listener.local_addr().expect("a bound listener"));
    let silent = async {
        let (mut stream, _) = listener.accept().await.expect("accepted");
        read_head(&mut stream).await.expect("a request");
        // From here on nothing happens but time.
        tokio::time::pause();
        let began = tokio::time::Instant::now();
        let rest = stream.read(&mut [0]).await.expect("an orderly end");
        (rest, began.elapsed())
    };
    let dialer = dialer();
    let ((text, unreachable), (rest, waited)) = tokio::join!(failure(&dialer, &url), silent);
    assert_eq!(
        text,
        "timed out after 10 s: waiting for HOST to answer the WebSocket request (are host and port right, or is the server overloaded?)"
    );
    assert!(unreachable);
    assert_eq!(rest, 0, "the connection is closed");
    assert!(waited > Duration::from_secs(8) && waited < Duration::from_secs(11), "{waited:?}");
}

#[tokio::test]
async fn nobody_listens() {
    let (_socket, port) = closed_port();
    let error =
        dial(&dialer(), &format!("ws://127.0.0.1:{port}/")).await.expect_err("nobody listens");
    assert!(matches!(error, DialError::Connect(_)) && error.is_relay_unreachable());
    assert_eq!(
        error.to_string(),
        format!(
            "the relay cannot be reached: could not connect to 127.0.0.1:{port}: connection refused (is the relay running there? check host and port of the URL)"
        )
    );
}

#[tokio::test]
async fn a_summary_says_what_failed_and_quotes_nobody() {
    let mark = codec::v1::KEEP_ALIVE_UNKNOWN_MARKS[0];
    let head = "Content-Type: text/plain\r\nContent-Length";
    let answer = format!("HTTP/1.1 503 {mark}\r\n{head}: {}\r\n\r\n{mark}", mark.len());
    let server = Server::answering(answer).await;
    let error = dial(&dialer(), &server.url("/")).await.expect_err("no relay");
    let expected = format!("{} answered 503 instead of opening a WebSocket", server.address);
    assert_eq!(error.summary(), expected);

    let (_socket, port) = closed_port();
    let url = format!("ws://127.0.0.1:{port}/");
    let error = dial(&dialer(), &url).await.expect_err("nobody listens");
    let expected = format!("could not connect to 127.0.0.1:{port}: connection refused");
    assert_eq!(error.summary(), expected);
}

#[tokio::test]
async fn giving_up_closes_the_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("ws://{}/", listener.local_addr().expect("a bound listener"));
    let dialer = dialer();
    let mut dialling = Box::pin(dial(&dialer, &url));
    let (mut stream, _) = tokio::select! {
        accepted = listener.accept() => accepted.expect("accepted"),
        result = &mut dialling => panic!("{result:?}"),
    };
    tokio::select! {
        head = read_head(&mut stream) => drop(head.expect("a request")),
        result = &mut dialling => panic!("{result:?}"),
    }
    drop(dialling);
    assert_eq!(stream.read(&mut [0]).await.expect("an orderly end"), 0);
}
