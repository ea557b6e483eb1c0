//! Dialling `wss` URLs.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use transport::dial::{DialError, Dialer, DialerConfig};
use transport::proxy::ProxyEnv;
use transport::socket::Socket;

use crate::support::*;

/// A certificate authority, and the file with its certificate.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: TempDir,
}

impl Authority {
    pub(crate) fn new() -> Self {
        Self::named(&format!("authority {}", fastrand::u64(..)))
    }

    fn named(name: &str) -> Self {
        let mut params = CertificateParams::new([]).expect("no names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, key()).expect("signed");
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("ca.pem"), issuer.pem()).expect("written");
        Self { issuer, dir }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    pub(crate) fn dialer(&self) -> Dialer {
        self.dialer_with(ProxyEnv::none())
    }

    pub(crate) fn dialer_with(&self, proxies: ProxyEnv) -> Dialer {
        Dialer::new(DialerConfig { ca_file: Some(self.file()), proxies }).expect("the file is good")
    }

    /// What a server needs to speak TLS under these names.
    pub(crate) fn server(&self, names: &[&str]) -> ServerConfig {
        self.server_with(names, |_| {})
    }

    fn server_with(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> ServerConfig {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("valid names");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        change(&mut params);
        let key = key();
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        server_config(certificate.der().clone(), &key, rustls::ALL_VERSIONS)
    }
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

fn server_config(
    certificate: CertificateDer<'static>,
    key: &KeyPair,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> ServerConfig {
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(versions)
        .expect("ring has both versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key.into())
        .expect("key and certificate belong together")
}

/// A relay that speaks TLS. Notes version, ALPN and server name of each handshake, then the head of
/// the request.
pub(crate) async fn tls_relay(mut config: ServerConfig) -> Server {
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    Server::start(move |stream, notes| {
        let acceptor = acceptor.clone();
        Box::pin(async move {
            let stream = acceptor.accept(stream).await?;
            let (_, tls) = stream.get_ref();
            let alpn = tls.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
            notes.add(format!("{:?} {alpn:?} {:?}", tls.protocol_version(), tls.server_name()));
            serve_relay(stream, notes).await
        })
    })
    .await
}

fn url(server: &Server, host: &str) -> String {
    format!("wss://{host}:{}/ws", server.address.port())
}

#[tokio::test]
async fn a_websocket_opens_over_tls() {
    let authority = Authority::new();
    let relay = tls_relay(authority.server(&["localhost", "127.0.0.1"])).await;
    for (host, name) in [("localhost", r#"Some("localhost")"#), ("127.0.0.1", "None")] {
        let mut dialed = dial(&authority.dialer(), &url(&relay, host)).await.expect("dialled");
        echo(&mut dialed).await;
        assert_eq!(dialed.socket.tcp().and_then(|tcp| tcp.peer_addr().ok()), Some(relay.address));
        assert!(matches!(dialed.socket, Socket::Tls(_)));
        let notes = relay.notes.take();
        assert_eq!(notes[0], format!(r#"Some(TLSv1_3) Some("http/1.1") {name}"#));
        assert!(notes[1].starts_with("GET /ws HTTP/1.1\r\n"), "{}", notes[1]);
    }
}

#[tokio::test]
async fn tls_12_will_do() {
    let authority = Authority::new();
    let key = key();
    let params = CertificateParams::new(["localhost".to_owned()]).expect("a valid name");
    let certificate = params.signed_by(&key, &authority.issuer).expect("signed");
    let relay =
        tls_relay(server_config(certificate.der().clone(), &key, &[&rustls::version::TLS12])).await;
    let mut dialed = dial(&authority.dialer(), &url(&relay, "localhost")).await.expect("dialled");
    echo(&mut dialed).await;
    assert!(relay.notes.take()[0].starts_with("Some(TLSv1_2)"));
}

#[tokio::test]
async fn bad_certificates_are_named() {
    let authority = Authority::named("the same");
    let past = |params: &mut CertificateParams| params.not_after = date_time_ymd(2020, 1, 1);
    let future = |params: &mut CertificateParams| params.not_before = date_time_ymd(3000, 1, 1);
    let ca =
        |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let cases = [
        (
            authority.server_with(&["localhost"], past),
            "its certificate has expired (renew it; or is the clock of this machine wrong?)",
        ),
        (
            authority.server_with(&["localhost"], future),
            "its certificate is not valid yet (is the clock of this machine wrong?)",
        ),
        (
            authority.server(&["relay.lan", "*.relay.lan"]),
            "its certificate is for relay.lan, *.relay.lan (use a name in the certificate as host of the URL)",
        ),
        (
            authority.server(&[]),
            "its certificate is for no name at all (use a name in the certificate as host of the URL)",
        ),
        (
            Authority::new().server(&["localhost"]),
            "its certificate was issued by an authority that this machine does not know (if you trust it, name a PEM file with the authority's certificate with --ca-file)",
        ),
        (
            Authority::named("the same").server(&["localhost"]),
            "its certificate was not signed by the authority it names (is the file that --ca-file names up to date?)",
        ),
        (
            authority.server_with(&["localhost"], ca),
            "its certificate is that of an authority (CA:TRUE), which must not serve as a server's own (let it issue a certificate for the server, and name the authority's with --ca-file)",
        ),
    ];
    for (config, reason) in cases {
        let relay = tls_relay(config).await;
        let (text, unreachable) = failure(&authority.dialer(), &url(&relay, "localhost")).await;
        assert_eq!(text, format!("TLS handshake with HOST failed: {reason}"));
        assert!(unreachable);
        assert_eq!(relay.notes.take(), [""; 0], "nothing is sent to a server that is not trusted");
    }
}

#[tokio::test]
async fn the_other_end_may_not_speak_tls() {
    let authority = Authority::new();
    let plain = Server::start(|mut stream, _| {
        Box::pin(async move {
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await?;
            std::future::pending().await
        })
    })
    .await;
    let closing = Server::start(|stream, _| {
        Box::pin(async move {
            Socket::from(stream).abort();
            Ok(())
        })
    })
    .await;
    let cases = [
        (plain, "the answer is not TLS (if this port does not speak TLS, try ws:// or http://)"),
        (
            closing,
            "the connection was closed (does this port speak TLS? else try ws:// or http://)",
        ),
    ];
    for (server, reason) in cases {
        let expected = (format!("TLS handshake with HOST failed: {reason}"), true);
        assert_eq!(failure(&authority.dialer(), &url(&server, "localhost")).await, expected);
    }
}

#[tokio::test]
async fn a_silent_handshake_is_given_ten_seconds() {
    let authority = Authority::new();
    // Has the authorities of the system loaded while the clock runs.
    let warm = tls_relay(authority.server(&["localhost"])).await;
    let dialer = authority.dialer();
    dial(&dialer, &url(&warm, "localhost")).await.expect("dialled");

    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("wss://{}/", listener.local_addr().expect("a bound listener"));
    let silent = async {
        let (stream, _) = listener.accept().await.expect("accepted");
        stream.readable().await.expect("a client hello");
        tokio::time::pause();
        stream
    };
    let ((text, unreachable), _stream) = tokio::join!(failure(&dialer, &url), silent);
    assert_eq!(
        text,
        "timed out after 10 s: TLS handshake with HOST (are host and port right, or is the server overloaded?)"
    );
    assert!(unreachable);
}

#[tokio::test]
async fn a_server_may_ask_for_a_certificate() {
    let authority = Authority::new();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.issuer.der().clone()).expect("a good certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .expect("roots");
    let key = key();
    let params = CertificateParams::new(["localhost".to_owned()]).expect("a valid name");
    let certificate = params.signed_by(&key, &authority.issuer).expect("signed");
    for versions in [[&rustls::version::TLS12], [&rustls::version::TLS13]] {
        let config = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&versions)
            .expect("ring has both versions")
            .with_client_cert_verifier(verifier.clone())
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )
            .expect("key and certificate belong together");
        let relay = tls_relay(config).await;
        let (text, unreachable) = failure(&authority.dialer(), &url(&relay, "localhost")).await;
        let expected = "TLS handshake with HOST failed: the server asks for a client certificate, which is not supported (let it do without on the relay's paths)";
        assert_eq!((text.as_str(), unreachable), (expected, true));
    }
}

#[tokio::test]
async fn redirects_never_give_up_tls() {
    let authority = Authority::new();
    let config = Arc::new(authority.server(&["localhost"]));
    let plain = Server::relay().await;
    for location in [plain.url("/"), plain.url("/").replace("ws:", "http:")] {
        let server = redirecting_over_tls(&config, &location).await;
        let expected = (
            "HOST redirected from wss:// to ws://, which would give up encryption (let it redirect to wss://)".to_owned(),
            false,
        );
        assert_eq!(failure(&authority.dialer(), &url(&server, "localhost")).await, expected);
    }
    assert_eq!(plain.notes.take(), [""; 0]);

    // The other way, and from one to the next.
    let relay = tls_relay(authority.server(&["localhost"])).await;
    let second =
        redirecting_over_tls(&config, &url(&relay, "localhost").replace("wss:", "https:")).await;
    let location = url(&second, "localhost");
    let first =
        Server::answering(format!("HTTP/1.1 301 Moved\r\nLocation: {location}\r\n\r\n")).await;
    let mut dialed = dial(&authority.dialer(), &first.url("/")).await.expect("dialled");
    echo(&mut dialed).await;
}

async fn redirecting_over_tls(config: &Arc<ServerConfig>, location: &str) -> Server {
    let acceptor = TlsAcceptor::from(config.clone());
    let answer = format!("HTTP/1.1 301 Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
    Server::start(move |stream: TcpStream, _| {
        let (acceptor, answer) = (acceptor.clone(), answer.clone());
        Box::pin(async move {
            let mut stream = acceptor.accept(stream).await?;
            read_head(&mut stream).await?;
            stream.write_all(answer.as_bytes()).await?;
            stream.shutdown().await
        })
    })
    .await
}

#[test]
fn the_ca_file_must_hold_certificates() {
    let dir = tempfile::tempdir().expect("a directory");
    let write = |name: &str, content: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, content).expect("written");
        path
    };
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let cases = [
        (
            dir.path().join("missing.pem"),
            "could not read the CA file PATH: no such file or directory (check the path, and who may read it)",
        ),
        (
            write("empty.pem", ""),
            "the CA file PATH contains no certificate (it must hold certificates in PEM form)",
        ),
        (
            write("key.pem", &key().serialize_pem()),
            "the CA file PATH contains no certificate (it must hold certificates in PEM form)",
        ),
        (
            write("broken.pem", broken),
            "the CA file PATH holds a malformed certificate, number 1 in it: ",
        ),
        (
            write("cut.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n"),
            "the CA file PATH is malformed: ",
        ),
    ];
    for (path, expected) in cases {
        let config = DialerConfig { ca_file: Some(path.clone()), ..DialerConfig::default() };
        let text = Dialer::new(config).expect_err("the file is no good").to_string();
        let text = text.replace(&path.display().to_string(), "PATH");
        assert!(text.starts_with(expected), "{text}");
    }
}

#[tokio::test]
async fn a_bundle_may_hold_several() {
    let (one, two) = (Authority::new(), Authority::new());
    let bundle = one.dir.path().join("bundle.pem");
    let text = [
        std::fs::read_to_string(one.file()),
        Ok("# a comment\n".into()),
        std::fs::read_to_string(two.file()),
    ];
    std::fs::write(&bundle, text.map(|part| part.expect("read")).concat()).expect("written");
    let dialer = Dialer::new(DialerConfig { ca_file: Some(bundle), ..DialerConfig::default() })
        .expect("a good file");
    for authority in [one, two] {
        let relay = tls_relay(authority.server(&["localhost"])).await;
        dial(&dialer, &url(&relay, "localhost")).await.expect("dialled");
    }
}

#[tokio::test]
async fn an_address_needs_no_name() {
    let authority = Authority::new();
    let Ok(listener) = TcpListener::bind("[::1]:0").await else {
        return;
    }; // a machine without IPv6
    let address: SocketAddr = listener.local_addr().expect("a bound listener");
    let acceptor = TlsAcceptor::from(Arc::new(authority.server(&["::1"])));
    let serving = async {
        let (stream, _) = listener.accept().await.expect("accepted");
        let stream = acceptor.accept(stream).await.expect("TLS");
        serve_relay(stream, Notes::default()).await
    };
    let dialing = async {
        let result: Result<_, DialError> =
            dial(&authority.dialer(), &format!("wss://{address}/")).await;
        let mut dialed = result.expect("dialled");
        echo(&mut dialed).await;
    };
    let _ = tokio::join!(serving, dialing);
}
