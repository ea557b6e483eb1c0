//! Dialling through proxies.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use transport::proxy::ProxyEnv;

use crate::support::*;
use crate::tls::{Authority, tls_relay};

/// What a `CONNECT` proxy does: notes the head, and connects.
async fn serve_connect<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    notes: Notes,
) -> io::Result<()> {
    let head = read_head(&mut stream).await?;
    let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
    notes.add(head);
    let mut onward = TcpStream::connect(target).await?;
    stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    copy_bidirectional(&mut stream, &mut onward).await.map(drop)
}

async fn connect_proxy() -> Server {
    Server::start(|stream, notes| Box::pin(serve_connect(stream, notes))).await
}

/// A SOCKS 5 proxy. Notes the user name and password, if it asks for them, and the target.
async fn socks5_proxy(method: u8, reply: u8) -> Server {
    Server::start(move |mut stream, notes| {
        Box::pin(async move {
            let [version, methods] = read(&mut stream).await?;
            let mut offered = vec![0; methods.into()];
            stream.read_exact(&mut offered).await?;
            assert!(version == 5 && (offered.contains(&method) || method == 0xff || method == 2));
            stream.write_all(&[5, method]).await?;
            if method == 2 {
                let [_, length] = read(&mut stream).await?;
                let user = read_text(&mut stream, length).await?;
                let [length] = read(&mut stream).await?;
                let password = read_text(&mut stream, length).await?;
                let good = password == "sesame";
                notes.add(format!("{user}:{password}"));
                stream.write_all(&[1, u8::from(!good)]).await?;
            }
            let [_, command, _, kind] = read(&mut stream).await?;
            let host = match kind {
                1 => std::net::Ipv4Addr::from(read::<4>(&mut stream).await?).to_string(),
                3 => {
                    let [length] = read(&mut stream).await?;
                    read_text(&mut stream, length).await?
                }
                _ => std::net::Ipv6Addr::from(read::<16>(&mut stream).await?).to_string(),
            };
            let port = u16::from_be_bytes(read(&mut stream).await?);
            notes.add(format!("{command} {kind} {host}:{port}"));
            let onward = if reply == 0 {
                TcpStream::connect((host, port)).await
            } else {
                Err(io::ErrorKind::Other.into())
            };
            let reply = if reply == 0 && onward.is_err() { 5 } else { reply };
            stream.write_all(&[5, reply, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
            copy_bidirectional(&mut stream, &mut onward?).await.map(drop)
        })
    })
    .await
}

/// A SOCKS 4 proxy that resolves names, as in 4a. Notes user and target.
async fn socks4_proxy() -> Server {
    Server::start(|mut stream, notes| {
        Box::pin(async move {
            let [version, command] = read(&mut stream).await?;
            let port = u16::from_be_bytes(read(&mut stream).await?);
            let address = std::net::Ipv4Addr::from(read::<4>(&mut stream).await?);
            let user = read_to_zero(&mut stream).await?;
            let host = match address.octets() {
                [0, 0, 0, 1..=255] => read_to_zero(&mut stream).await?,
                _ => address.to_string(),
            };
            notes.add(format!("{version} {command} {user} {host}:{port}"));
            stream.write_all(&[0, 90, 0, 0, 0, 0, 0, 0]).await?;
            let mut onward = TcpStream::connect((host, port)).await?;
            copy_bidirectional(&mut stream, &mut onward).await.map(drop)
        })
    })
    .await
}

async fn read<const N: usize>(stream: &mut TcpStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn read_text(stream: &mut TcpStream, length: u8) -> io::Result<String> {
    let mut bytes = vec![0; length.into()];
    stream.read_exact(&mut bytes).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

async fn read_to_zero(stream: &mut TcpStream) -> io::Result<String> {
    let mut bytes = Vec::new();
    loop {
        match stream.read_u8().await? {
            0 => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
            byte => bytes.push(byte),
        }
    }
}

/// The error text through this proxy, with `PROXY` for its host and port; it always means
/// "unreachable".
async fn failure_through(proxy: &Server, scheme: &str, user_info: &str, url: &str) -> String {
    let dialer = dialer_with(&[("http_proxy", format!("{scheme}://{user_info}{}", proxy.address))]);
    let (text, unreachable) = failure(&dialer, url).await;
    assert!(unreachable, "{text}");
    text.replace(&proxy.address.to_string(), "PROXY")
}

#[tokio::test]
async fn connect_reaches_the_relay() {
    let (relay, proxy) = (Server::relay().await, connect_proxy().await);
    let dialer =
        dialer_with(&[("http_proxy", format!("http://hugo:open%3Asesame@{}", proxy.address))]);
    let mut dialed = dial(&dialer, &relay.url("/ws")).await.expect("dialled");
    assert_eq!(
        dialed.peer,
        format!("{} via http://{} (from http_proxy)", relay.address, proxy.address)
    );
    echo(&mut dialed).await;
    let expected = format!(
        "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nProxy-Authorization: Basic aHVnbzpvcGVuOnNlc2FtZQ==\r\n\
         User-Agent: http-network-relay/{}\r\n\r\n",
        env!("CARGO_PKG_VERSION"),
        target = relay.address,
    );
    assert_eq!(proxy.notes.take(), [expected]);
    let head = relay.notes.take().concat();
    assert!(head.starts_with("GET /ws HTTP/1.1\r\n"), "{head}");
    assert_eq!(header(&head, "Proxy-Authorization"), None);
}

#[tokio::test]
async fn tls_goes_through_a_proxy_and_to_a_proxy() {
    let authority = Authority::new();
    let relay = tls_relay(authority.server(&["localhost"])).await;
    let url = format!("wss://localhost:{}/", relay.address.port());

    let plain = connect_proxy().await;
    let env = ProxyEnv::from_vars([("https_proxy", plain.address.to_string())]);
    let mut dialed = dial(&authority.dialer_with(env), &url).await.expect("dialled");
    echo(&mut dialed).await;
    assert!(
        plain.notes.take()[0].starts_with(&format!("CONNECT localhost:{} ", relay.address.port()))
    );
    assert!(relay.notes.take()[0].ends_with(r#"Some("localhost")"#));

    let acceptor = TlsAcceptor::from(Arc::new(authority.server(&["127.0.0.1"])));
    let secure = Server::start(move |stream, notes| {
        let acceptor = acceptor.clone();
        Box::pin(async move { serve_connect(acceptor.accept(stream).await?, notes).await })
    })
    .await;
    let env = ProxyEnv::from_vars([("https_proxy", format!("https://{}", secure.address))]);
    let mut dialed = dial(&authority.dialer_with(env), &url).await.expect("dialled");
    echo(&mut dialed).await;
    assert_eq!(secure.notes.take().len(), 1);
    assert_eq!(dialed.socket.tcp().and_then(|tcp| tcp.peer_addr().ok()), Some(secure.address));

    let env = ProxyEnv::from_vars([(
        "https_proxy",
        format!("https://localhost:{}", secure.address.port()),
    )]);
    let error = dial(&authority.dialer_with(env), &url).await.expect_err("the wrong name");
    let text = error.to_string().replace(&secure.address.port().to_string(), "PORT");
    assert_eq!(
        text,
        "proxy https://localhost:PORT (from https_proxy) cannot be reached: TLS handshake with localhost:PORT failed: its certificate is for 127.0.0.1 (use a name in the certificate as host of the URL)"
    );
}

#[tokio::test]
async fn excluded_hosts_are_reached_directly() {
    let relay = Server::relay().await;
    let (_socket, port) = closed_port();
    let dead = format!("http://127.0.0.1:{port}");
    let dialer = dialer_with(&[("all_proxy", dead), ("no_proxy", "127.0.0.0/8".into())]);
    let mut dialed = dial(&dialer, &relay.url("/")).await.expect("dialled");
    echo(&mut dialed).await;
}

#[tokio::test]
async fn a_redirect_chooses_its_own_proxy() {
    let (relay, proxy) = (Server::relay().await, connect_proxy().await);
    let first =
        Server::answering(format!("HTTP/1.1 302 Found\r\nLocation: {}\r\n\r\n", relay.url("/")))
            .await;
    let dialer = dialer_with(&[
        ("all_proxy", proxy.address.to_string()),
        ("no_proxy", first.address.to_string()),
    ]);
    dial(&dialer, &first.url("/")).await.expect("dialled");
    assert_eq!(proxy.notes.take().len(), 1);
}

#[tokio::test]
async fn refusals_of_connect_are_explained() {
    let ask = "Proxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n";
    let cases = [
        (
            "407 Proxy Authentication Required",
            ask,
            "",
            "proxy http://PROXY (from http_proxy) asks for a user name and password (407) (set user name and password in the variable: http_proxy=http://USER:PASSWORD@PROXY)",
        ),
        (
            "407 Proxy Authentication Required",
            ask,
            "hugo:hunter2@",
            "proxy http://PROXY (from http_proxy) does not accept the user name or password (407) (check them, and percent-encode : / ? # and @)",
        ),
        (
            "407 Proxy Authentication Required",
            "Proxy-Authenticate: NTLM\r\nProxy-Authenticate: Negotiate\r\n\r\n",
            "",
            "proxy http://PROXY (from http_proxy) asks for NTLM or Negotiate authentication, which is not supported (only Basic is: ask its administrator, or run a local proxy that signs in for you)",
        ),
        (
            "403 Forbidden",
            "Content-Type: text/html\r\n\r\n<title>Blocked</title>",
            "",
            "proxy http://PROXY (from http_proxy) does not connect to HOST: it answered 403 Forbidden \"Blocked\" (ask its administrator to allow it, or list the host in no_proxy)",
        ),
        (
            "502 Bad Gateway",
            "Content-Length: 0\r\n\r\n",
            "",
            "proxy http://PROXY (from http_proxy) does not connect to HOST: it answered 502 Bad Gateway (the proxy cannot reach the relay: check host and port of the URL)",
        ),
        (
            "302 Found",
            "Location: http://login/\r\nContent-Length: 0\r\n\r\n",
            "",
            "proxy http://PROXY (from http_proxy) does not connect to HOST: it answered 302 Found (this looks like a sign-in page of the network)",
        ),
        (
            "101 Switching Protocols",
            "Upgrade: x\r\nConnection: Upgrade\r\n\r\n",
            "",
            "proxy http://PROXY (from http_proxy) sent something unasked (is it a proxy of this kind?)",
        ),
        (
            "200 OK",
            "\r\nSSH-2.0-early",
            "",
            "proxy http://PROXY (from http_proxy) sent something unasked (is it a proxy of this kind?)",
        ),
    ];
    for (status, rest, user_info, expected) in cases {
        let proxy = Server::answering(format!("HTTP/1.1 {status}\r\n{rest}")).await;
        assert_eq!(
            failure_through(&proxy, "http", user_info, "ws://relay.invalid:81/").await,
            expected
        );
    }
}

#[tokio::test]
async fn what_is_no_proxy_is_told() {
    let cases: [(&[u8], &str); 2] = [
        (b"SSH-2.0-OpenSSH\r\n", "does not answer in HTTP"),
        (b"", "closed the connection without an answer"),
    ];
    for (answer, problem) in cases {
        let server = Server::answering(answer).await;
        let expected =
            format!("proxy http://PROXY (from http_proxy) {problem} (is it a proxy of this kind?)");
        assert_eq!(failure_through(&server, "http", "", "ws://relay.invalid/").await, expected);
    }
    let server = Server::start(|mut stream, _| {
        Box::pin(async move {
            read::<3>(&mut stream).await?;
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await
        })
    })
    .await;
    let expected = "proxy socks5h://PROXY (from http_proxy) does not answer in socks5h (is it a proxy of this kind?)";
    assert_eq!(failure_through(&server, "socks5h", "", "ws://relay.invalid/").await, expected);
}

#[tokio::test]
async fn an_unreachable_proxy_is_named() {
    let (_socket, port) = closed_port();
    for scheme in ["http", "socks5h"] {
        let dialer =
            dialer_with(&[("wss_proxy", format!("{scheme}://u:hunter2@127.0.0.1:{port}"))]);
        let (text, unreachable) = failure(&dialer, "wss://relay.invalid/").await;
        let expected = format!(
            "proxy {scheme}://127.0.0.1:{port} (from wss_proxy) cannot be reached: could not connect to 127.0.0.1:{port}: connection refused (check the variable; to go around the proxy, list the relay's host in no_proxy)"
        );
        assert_eq!((text, unreachable), (expected, true));
    }
}

#[tokio::test]
async fn an_unusable_proxy_is_no_reason_to_go_without() {
    let relay = Server::relay().await;
    let dialer = dialer_with(&[("http_proxy", "gopher://hunter2".into())]);
    let (text, unreachable) = failure(&dialer, &relay.url("/")).await;
    assert!(
        text.starts_with("http_proxy is no proxy that can be used: its scheme is none of "),
        "{text}"
    );
    assert!(unreachable && !text.contains("hunter2"));
    assert_eq!(relay.notes.take(), [""; 0]);
}

#[tokio::test]
async fn a_silent_proxy_is_given_ten_seconds() {
    for scheme in ["http", "socks5h"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound listener");
        let dialer = dialer_with(&[("ws_proxy", format!("{scheme}://{address}"))]);
        let silent = async {
            let (stream, _) = listener.accept().await.expect("accepted");
            stream.readable().await.expect("a request");
            tokio::time::pause();
            stream
        };
        let ((text, unreachable), _stream) =
            tokio::join!(failure(&dialer, "ws://relay.invalid/"), silent);
        let expected = format!(
            "timed out after 10 s: waiting for proxy {scheme}://{address} (from ws_proxy) to connect (are host and port right, or is the server overloaded?)"
        );
        assert_eq!((text, unreachable), (expected, true));
        tokio::time::resume();
    }
}

#[tokio::test]
async fn socks5_reaches_the_relay() {
    let relay = Server::relay().await;
    let port = relay.address.port();
    let named = format!("ws://localhost:{port}/");
    let cases = [
        // The proxy resolves.
        ("socks5h", &named, 0, format!("1 3 localhost:{port}")),
        ("socks5h", &relay.url("/"), 0, format!("1 1 127.0.0.1:{port}")),
        // We resolve.
        ("socks5", &named, 0, format!("1 1 127.0.0.1:{port}")),
        ("socks5", &relay.url("/"), 0, format!("1 1 127.0.0.1:{port}")),
        ("socks5h", &named, 2, format!("1 3 localhost:{port}")),
    ];
    for (scheme, url, method, target) in cases {
        let proxy = socks5_proxy(method, 0).await;
        let user_info = if method == 2 { "hugo:sesame@" } else { "" };
        let dialer =
            dialer_with(&[("socks_proxy", format!("{scheme}://{user_info}{}", proxy.address))]);
        let mut dialed = dial(&dialer, url).await.expect("dialled");
        echo(&mut dialed).await;
        let mut notes = proxy.notes.take();
        // Where `localhost` is ::1 first, that address is tried first, and nobody listens there.
        notes.retain(|note| !note.contains(" 4 ::1:"));
        let credentials = (method == 2).then(|| "hugo:sesame".to_owned());
        assert_eq!(
            notes,
            credentials.into_iter().chain([target]).collect::<Vec<_>>(),
            "{scheme} {url}"
        );
    }
}

#[tokio::test]
async fn refusals_of_socks5_are_explained() {
    let cases = [
        (
            0,
            1,
            "",
            "does not connect to HOST:80: it answered \"general socks server failure\" (check host and port of the URL; to go around the proxy, list the host in no_proxy)",
        ),
        (
            0,
            2,
            "",
            "does not connect to HOST:80: its rules do not allow it (ask its administrator, or list the host in no_proxy)",
        ),
        (
            0,
            4,
            "",
            "does not connect to HOST:80: it answered \"host unreachable\" (check host and port of the URL; to go around the proxy, list the host in no_proxy)",
        ),
        (
            0xff,
            0,
            "",
            "asks for a user name and password (set user name and password in the variable: http_proxy=socks5h://USER:PASSWORD@PROXY)",
        ),
        (
            0xff,
            0,
            "u:p@",
            "supports neither a user name with password nor going without (set user name and password in the variable: http_proxy=socks5h://USER:PASSWORD@PROXY)",
        ),
        (
            2,
            0,
            "",
            "asks for a user name and password (set user name and password in the variable: http_proxy=socks5h://USER:PASSWORD@PROXY)",
        ),
        (
            2,
            0,
            "hugo:hunter2@",
            "does not accept the user name or password (check them in http_proxy)",
        ),
    ];
    for (method, reply, user_info, problem) in cases {
        let proxy = socks5_proxy(method, reply).await;
        let expected = format!("proxy socks5h://PROXY (from http_proxy) {problem}");
        assert_eq!(
            failure_through(&proxy, "socks5h", user_info, "ws://relay.invalid/").await,
            expected
        );
    }
    let proxy = socks5_proxy(2, 0).await;
    let expected = "http_proxy is no proxy that can be used: its user name and password must have 1 to 255 bytes each (example: http://proxy.example.org:3128)";
    assert_eq!(failure_through(&proxy, "socks5h", "u@", "ws://relay.invalid/").await, expected);
}

#[tokio::test]
async fn socks4_reaches_the_relay() {
    let relay = Server::relay().await;
    let port = relay.address.port();
    let cases = [
        ("socks4a", format!("ws://localhost:{port}/"), format!("4 1 hugo localhost:{port}")),
        ("socks4", format!("ws://localhost:{port}/"), format!("4 1 hugo 127.0.0.1:{port}")),
        ("socks4a", relay.url("/"), format!("4 1 hugo 127.0.0.1:{port}")),
    ];
    for (scheme, url, expected) in cases {
        let proxy = socks4_proxy().await;
        let dialer = dialer_with(&[("all_proxy", format!("{scheme}://hugo@{}", proxy.address))]);
        let mut dialed = dial(&dialer, &url).await.expect("dialled");
        echo(&mut dialed).await;
        assert_eq!(proxy.notes.take(), [expected]);
    }
    let proxy = socks4_proxy().await;
    let expected = "proxy socks4://PROXY (from http_proxy) does not connect to HOST: it has no IPv4 address, and SOCKS 4 knows no other (try socks5h://)";
    assert_eq!(failure_through(&proxy, "socks4", "", "ws://[::1]:81/").await, expected);
}
