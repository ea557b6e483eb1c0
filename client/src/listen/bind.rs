//! The places that are listened at.

use std::fmt;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use tokio::net::{TcpListener, UnixListener};

use super::connection::Local;
use crate::config::Bind;
use crate::error::RunError;

/// One socket that is listened at. Its file, if it has one, is removed when this is dropped.
#[derive(Debug)]
pub(super) struct Listener {
    bind: Bind,
    socket: Socket,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    /// The file is removed when the listener is closed.
    Unix {
        listener: UnixListener,
        _file: SocketFile,
    },
}

/// The file of a Unix socket.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Device and number, by which it is known that nobody else has put another file there.
    identity: Option<(u64, u64)>,
}

/// Listens at a place.
///
/// # Errors
/// [`RunError::Listen`]
pub(super) fn listen(bind: &Bind) -> Result<Listener, RunError> {
    let socket = match bind {
        Bind::Tcp(address) => tcp(*address),
        Bind::Everywhere(port) => tcp((Ipv6Addr::UNSPECIFIED, *port).into()).or_else(|error| {
            // A machine without IPv6.
            tcp((Ipv4Addr::UNSPECIFIED, *port).into()).map_err(|_| error)
        }),
        Bind::Unix(path) => unix(path),
    };
    match socket {
        Ok(socket) => Ok(Listener { bind: bind.clone(), socket }),
        Err(error) => Err(failure(bind, error)),
    }
}

fn tcp(address: SocketAddr) -> io::Result<Socket> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(Socket::Tcp(TcpListener::from_std(listener)?))
}

fn unix(path: &Path) -> io::Result<Socket> {
    let listener = match bind_privately(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_left_over(path) => {
            fs::remove_file(path)?;
            bind_privately(path)?
        }
        bound => bound?,
    };
    let identity = fs::symlink_metadata(path).ok().map(|file| (file.dev(), file.ino()));
    Ok(Socket::Unix { listener, _file: SocketFile { path: path.to_owned(), identity } })
}

/// Only this user may connect, as with `ssh -L`. The mask is the process's, but files are made nowhere else by now.
fn bind_privately(path: &Path) -> io::Result<UnixListener> {
    let before = rustix::process::umask(Mode::RWXG | Mode::RWXO | Mode::XUSR);
    let bound = UnixListener::bind(path);
    rustix::process::umask(before);
    bound
}

/// Whether a socket's file is of a program that is gone.
fn is_left_over(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    let refuses = || {
        std::os::unix::net::UnixStream::connect(path)
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    };
    is_socket && refuses()
}

fn failure(bind: &Bind, source: io::Error) -> RunError {
    let hint = match source.kind() {
        io::ErrorKind::AddrInUse => "does another program listen there? port 0 is any free one",
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need privileges; a socket's folder has to be yours"
        }
        io::ErrorKind::AddrNotAvailable => "is the address one of this machine's?",
        io::ErrorKind::NotFound => "does the folder exist?",
        _ => "try another port or path",
    };
    RunError::Listen { bind: bind.clone(), hint, source }
}

impl Listener {
    /// The next connection.
    pub(super) async fn accept(&self) -> io::Result<Local> {
        match &self.socket {
            Socket::Tcp(listener) => Ok(Local::Tcp(listener.accept().await?.0)),
            Socket::Unix { listener, .. } => Ok(Local::Unix(listener.accept().await?.0)),
        }
    }

    /// The error that a failure to accept for good stands for.
    pub(super) fn failed(&self, error: io::Error) -> RunError {
        failure(&self.bind, error)
    }
}

/// Where it listens, with the port that the system has chosen.
impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.socket {
            Socket::Tcp(listener) => match listener.local_addr() {
                Ok(address) => address.fmt(f),
                Err(_) => self.bind.fmt(f),
            },
            Socket::Unix { .. } => self.bind.fmt(f),
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let now = fs::symlink_metadata(&self.path).ok().map(|file| (file.dev(), file.ino()));
        if now.is_some() && now == self.identity {
            // If it cannot be removed, the next start finds it left over.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn a_sockets_file_is_private_replaced_when_left_over_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let bind = Bind::Unix(path.clone());
        // Closing a listener of the standard library leaves the file.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let listener = listen(&bind).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let twice = listen(&bind).unwrap_err().to_string();
        assert!(twice.contains("in use"), "{twice}");
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn somebody_elses_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        fs::write(&path, "precious").unwrap();
        listen(&Bind::Unix(path.clone())).unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        fs::remove_file(&path).unwrap();
        let listener = listen(&Bind::Unix(path.clone())).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "another").unwrap();
        drop(listener);
        assert_eq!(fs::read(&path).unwrap(), b"another");
    }

    #[tokio::test]
    async fn the_bound_port_is_shown() {
        let listener = listen(&"0".parse().unwrap()).unwrap();
        let shown = listener.to_string();
        assert!(shown.starts_with("127.0.0.1:") && !shown.ends_with(":0"), "{shown}");
        let error = listen(&shown.parse().unwrap()).unwrap_err().to_string();
        let hint = "does another program listen there? port 0 is any free one";
        assert_eq!(error, format!("cannot listen on {shown}: address already in use ({hint})"));
        let everywhere = listen(&"*:0".parse().unwrap()).unwrap().to_string();
        assert!(
            everywhere.starts_with("[::]:") || everywhere.starts_with("0.0.0.0:"),
            "{everywhere}"
        );
    }
}
