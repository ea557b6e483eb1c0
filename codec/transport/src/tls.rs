//! TLS towards relays and proxies.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;

use crate::printable::printable;
use crate::socket::Socket;
use crate::system::system_text;

/// Why TLS does not work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The file with further authorities cannot be read.
    #[error(
        "could not read the CA file {}: {} (check the path, and who may read it)",
        path.display(), system_text(source)
    )]
    CaFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file with further authorities holds something else.
    #[error("the CA file {} {problem} (it must hold certificates in PEM form)", path.display())]
    CaFileContent {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// There is nothing to check a certificate against.
    #[error(
        "no certificate authorities were found on this system (install ca-certificates, or name a PEM file with --ca-file)"
    )]
    NoAuthorities,
    /// The host of the URL can be in no certificate.
    #[error("{host:?} is no host name that a certificate could be checked for (check the URL)")]
    Name {
        /// The host.
        host: String,
    },
    /// The handshake failed.
    #[error("TLS handshake with {host} failed: {reason}")]
    Handshake {
        /// Host and port.
        host: String,
        /// What failed, and what to try.
        reason: String,
        /// The error of the TLS library or of the connection.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Opens TLS on sockets. TLS 1.2 or 1.3, ALPN `http/1.1`, no early data.
///
/// Trusts the authorities of the system and those in the CA file. The former are read when TLS is
/// first needed.
#[derive(Debug)]
pub(crate) struct Tls {
    further: Vec<CertificateDer<'static>>,
    config: OnceCell<Arc<ClientConfig>>,
}

impl Tls {
    /// Reads the CA file, if there is one.
    pub(crate) fn new(ca_file: Option<&Path>) -> Result<Self, TlsError> {
        let further = ca_file.map(read_ca_file).transpose()?.unwrap_or_default();
        Ok(Self { further, config: OnceCell::new() })
    }

    /// Opens TLS on `socket` towards `host`, a name or an address without brackets. `shown` names
    /// the peer in errors.
    pub(crate) async fn open(
        &self,
        socket: Socket,
        host: &str,
        shown: &str,
    ) -> Result<Socket, TlsError> {
        let name = ServerName::try_from(host.trim_end_matches('.').to_owned())
            .map_err(|_| TlsError::Name { host: host.to_owned() })?;
        let config = self.config.get_or_try_init(|| self.load()).await?;
        let handshake = TlsConnector::from(config.clone()).connect(name, socket);
        match handshake.await {
            Ok(stream) => Ok(Socket::Tls(Box::new(stream.into()))),
            Err(error) => Err(TlsError::Handshake {
                host: shown.to_owned(),
                reason: reason(&error),
                source: error.into(),
            }),
        }
    }

    async fn load(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let mut roots = RootCertStore::empty();
        // Reads a few hundred kilobytes of files: not on a thread that drives sockets. If the
        // runtime is shutting down, nobody waits for the result either.
        if let Ok(native) =
            tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await
        {
            let (_, ignored) = roots.add_parsable_certificates(native.certs);
            for error in native.errors {
                tracing::debug!(%error, "some certificate authorities of the system could not be read");
            }
            if ignored > 0 {
                tracing::debug!(
                    ignored,
                    "some certificate authorities of the system are malformed"
                );
            }
        }
        roots.add_parsable_certificates(self.further.iter().cloned());
        if roots.is_empty() {
            return Err(TlsError::NoAuthorities);
        }
        let mut config =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
                .expect("ring has cipher suites for both versions")
                .with_root_certificates(roots)
                .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn read_ca_file(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes =
        std::fs::read(path).map_err(|source| TlsError::CaFile { path: path.to_owned(), source })?;
    let bad = |problem: String| TlsError::CaFileContent { path: path.to_owned(), problem };
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| bad(format!("is malformed: {error}")))?;
    if certificates.is_empty() {
        return Err(bad("contains no certificate".into()));
    }
    let mut store = RootCertStore::empty();
    for (index, certificate) in certificates.iter().enumerate() {
        let number = index + 1;
        store.add(certificate.clone()).map_err(|error| {
            bad(format!("holds a malformed certificate, number {number} in it: {error}"))
        })?;
    }
    Ok(certificates)
}

/// What made a handshake fail, and what to try.
fn reason(error: &io::Error) -> String {
    let Some(error) = tls_error(error) else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
                "the connection was closed (does this port speak TLS? else try ws:// or http://)"
                    .into()
            }
            _ => format!("{} (try again; if it stays, check the URL)", system_text(error)),
        };
    };
    tls_reason(error)
}

/// As the error of a handshake, an alert that came after it: in TLS 1.3 the client is through with
/// the handshake before the server has looked at what it sent.
pub(crate) fn late_alert(host: &str, error: hyper::Error) -> Result<TlsError, hyper::Error> {
    match tls_error(&error).map(tls_reason) {
        Some(reason) => {
            Ok(TlsError::Handshake { host: host.to_owned(), reason, source: error.into() })
        }
        None => Err(error),
    }
}

/// The error of the TLS library somewhere beneath an error.
fn tls_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        let inner = match error.downcast_ref::<io::Error>() {
            Some(error) => error.get_ref().and_then(|inner| inner.downcast_ref()),
            None => error.downcast_ref(),
        };
        if inner.is_some() {
            return inner;
        }
        next = error.source();
    }
    None
}

fn tls_reason(error: &rustls::Error) -> String {
    use rustls::Error as E;
    match error {
        E::InvalidCertificate(problem) => certificate_reason(problem),
        E::InvalidMessage(_) => {
            "the answer is not TLS (if this port does not speak TLS, try ws:// or http://)".into()
        }
        E::AlertReceived(AlertDescription::UnrecognisedName) => {
            "the server does not know this host name (check the host in the URL)".into()
        }
        E::AlertReceived(AlertDescription::NoApplicationProtocol) => {
            "the server does not offer HTTP/1.1, which WebSocket needs (let it offer that by ALPN)".into()
        }
        E::AlertReceived(
            AlertDescription::CertificateRequired | AlertDescription::BadCertificate,
        ) => "the server asks for a client certificate, which is not supported (let it do without on the relay's paths)"
            .into(),
        E::AlertReceived(AlertDescription::ProtocolVersion) | E::PeerIncompatible(_) => {
            format!(
                "the server has no TLS version or cipher suite in common with us: {error} (let it offer TLS 1.2 or 1.3)"
            )
        }
        other => format!("{other} (check the URL, and the log of the server there)"),
    }
}

fn certificate_reason(problem: &CertificateError) -> String {
    use CertificateError as C;
    match problem {
        C::Expired | C::ExpiredContext { .. } => {
            "its certificate has expired (renew it; or is the clock of this machine wrong?)".into()
        }
        C::NotValidYet | C::NotValidYetContext { .. } => {
            "its certificate is not valid yet (is the clock of this machine wrong?)".into()
        }
        C::UnknownIssuer => "its certificate was issued by an authority that this machine does not know \
             (if you trust it, name a PEM file with the authority's certificate with --ca-file)"
            .into(),
        C::NotValidForName => {
            "its certificate is for another name (use the name in the certificate as host of the URL)".into()
        }
        C::NotValidForNameContext { presented, .. } => {
            let names: Vec<String> = presented.iter().take(4).map(|name| shown_name(name)).collect();
            let more = if presented.len() > names.len() { ", …" } else { "" };
            let names = if names.is_empty() { "no name at all".into() } else { names.join(", ") };
            format!("its certificate is for {names}{more} (use a name in the certificate as host of the URL)")
        }
        C::Revoked => "its certificate has been revoked (renew it)".into(),
        C::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            "its certificate is that of an authority (CA:TRUE), which must not serve as a server's own \
             (let it issue a certificate for the server, and name the authority's with --ca-file)"
                .into()
        }
        C::BadSignature => "its certificate was not signed by the authority it names (is the file that --ca-file \
             names up to date?)"
            .into(),
        other => format!("its certificate is not valid: {other} (replace it)"),
    }
}

/// A name from a certificate, which the server chooses freely: `DnsName("relay.lan")` and
/// `IpAddress(10.0.0.1)` without the decoration, and fit to be shown.
fn shown_name(name: &str) -> String {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    printable(inner.trim_matches('"'), 80)
}
