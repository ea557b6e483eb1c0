//! Redirects of the request for a WebSocket.

use tokio::io::AsyncWriteExt as _;

use crate::support::*;

async fn redirecting(status: u16, location: &str) -> Server {
    Server::answering(format!(
        "HTTP/1.1 {status} Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
    ))
    .await
}

#[tokio::test]
async fn all_kinds_are_followed() {
    for status in [301, 302, 303, 307, 308] {
        let relay = Server::relay().await;
        for location in [relay.url("/there?x=1"), relay.url("/there?x=1").replace("ws:", "http:")] {
            let first = redirecting(status, &location).await;
            let mut dialed = dial(&dialer(), &first.url("/here")).await.expect("dialled");
            assert_eq!(dialed.peer, relay.address.to_string());
            echo(&mut dialed).await;
            let head = relay.notes.take().concat();
            assert!(head.starts_with("GET /there?x=1 HTTP/1.1\r\n"), "{head}");
            assert_eq!(header(&head, "Host"), Some(relay.address.to_string().as_str()));
        }
    }
}

#[tokio::test]
async fn user_info_stays_with_its_origin() {
    let relay = Server::relay().await;
    let first = redirecting(307, &format!("http://evil:evil@{}/", relay.address)).await;
    dial(&dialer(), &format!("ws://u:p@{}/", first.address)).await.expect("dialled");
    assert_eq!(header(&first.notes.take()[0], "Authorization"), Some("Basic dTpw"));
    assert_eq!(header(&relay.notes.take()[0], "Authorization"), None);

    // The same server moves the path: it has the user info already.
    let relay = Server::start(|mut stream, notes| {
        Box::pin(async move {
            let head = read_head(&mut stream).await?;
            let answer = if head.starts_with("GET /new ") {
                switching(&head, "")
            } else {
                "HTTP/1.1 308 Moved\r\nLocation: new\r\n\r\n".into()
            };
            notes.add(head);
            stream.write_all(answer.as_bytes()).await
        })
    })
    .await;
    dial(&dialer(), &format!("ws://u:p@{}/old", relay.address)).await.expect("dialled");
    let heads = relay.notes.take();
    assert_eq!(heads.len(), 2);
    assert!(
        heads.iter().all(|head| header(head, "Authorization") == Some("Basic dTpw")),
        "{heads:?}"
    );
}

#[tokio::test]
async fn five_are_followed_and_no_more() {
    let relay = Server::start(|mut stream, notes| {
        Box::pin(async move {
            let head = read_head(&mut stream).await?;
            let path = head.split(' ').nth(1).unwrap_or_default();
            let left: u32 = path.trim_start_matches('/').parse().unwrap_or_default();
            let answer = match left {
                0 => switching(&head, ""),
                _ => format!("HTTP/1.1 302 Found\r\nLocation: /{}\r\n\r\n", left - 1),
            };
            notes.add(path);
            stream.write_all(answer.as_bytes()).await
        })
    })
    .await;
    dial(&dialer(), &relay.url("/5")).await.expect("dialled");
    assert_eq!(relay.notes.take(), ["/5", "/4", "/3", "/2", "/1", "/0"]);
    let expected = (
        "HOST redirected more than 5 times (check the URL, or what redirects there)".to_owned(),
        false,
    );
    assert_eq!(failure(&dialer(), &relay.url("/6")).await, expected);
    assert_eq!(relay.notes.take().len(), 6);
}

#[tokio::test]
async fn a_location_must_be_dialable() {
    for location in
        ["ftp://relay.lan/", "http://", "http://relay.lan:0/", "mailto:x@relay.lan", "//[::1/"]
    {
        let server = redirecting(302, location).await;
        let expected =
            ("HOST redirected to a location that is no URL of a relay (check the URL, or what redirects there)".to_owned(), false);
        assert_eq!(failure(&dialer(), &server.url("/")).await, expected, "{location}");
    }
}
