//! TCP servers for the agent to dial, one for each way in which a target can behave.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::{DEADLINE, seeded_bytes, sha256};

/// What a target saw of one connection, told when the connection is over for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// How many bytes it read.
    pub length: usize,
    /// Their SHA-256.
    pub sha256: String,
    /// How the reading ended: `None` at an end of file.
    pub error: Option<ErrorKind>,
}

/// A target that listens on loopback until it is dropped.
#[derive(Debug)]
pub struct Target {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    received: Arc<AtomicUsize>,
    seen: Mutex<Receiver<Seen>>,
    stop: Arc<AtomicBool>,
    /// A handle to each connection, to end them all.
    connections: Arc<Mutex<Vec<TcpStream>>>,
}

impl Target {
    /// A target that runs `serve` for each connection, in a thread of its own, then drops the connection.
    ///
    /// # Panics
    ///
    /// When there is no port to listen on.
    pub fn serving(serve: impl Fn(&mut TcpStream) -> Option<Seen> + Send + Sync + 'static) -> Self {
        Self::counting(Ipv4Addr::LOCALHOST.into(), Arc::default(), serve)
    }

    /// The same, with a count of the bytes that `serve` reads, which it keeps itself.
    fn counting(
        host: IpAddr,
        received: Arc<AtomicUsize>,
        serve: impl Fn(&mut TcpStream) -> Option<Seen> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((host, 0))
            .unwrap_or_else(|error| panic!("no port for a target: {error}"));
        let address =
            listener.local_addr().unwrap_or_else(|error| panic!("no address of a target: {error}"));
        let (sender, seen) = mpsc::channel();
        let target = Self {
            address,
            accepted: Arc::default(),
            received,
            seen: Mutex::new(seen),
            stop: Arc::default(),
            connections: Arc::default(),
        };
        let (accepted, stop) = (Arc::clone(&target.accepted), Arc::clone(&target.stop));
        let (connections, serve) = (Arc::clone(&target.connections), Arc::new(serve));
        thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let handle = stream.try_clone();
                connections.lock().unwrap_or_else(PoisonError::into_inner).extend(handle);
                accepted.fetch_add(1, Ordering::SeqCst);
                serve_one(stream, Arc::clone(&serve), sender.clone());
            }
        });
        target
    }

    /// Sends back what it gets; ends when the other side does.
    pub fn echo() -> Self {
        Self::echo_at(Ipv4Addr::LOCALHOST.into())
    }

    /// The same at another address of this machine.
    pub fn echo_at(host: IpAddr) -> Self {
        Self::counting(host, Arc::default(), |stream| {
            Some(read_to_end(stream, |stream, bytes| stream.write_all(bytes)))
        })
    }

    /// Says `greeting` first, then does as [`Target::echo`].
    pub fn greeting(greeting: &'static str) -> Self {
        Self::serving(move |stream| {
            stream.write_all(greeting.as_bytes()).ok()?;
            Some(read_to_end(stream, |stream, bytes| stream.write_all(bytes)))
        })
    }

    /// Takes everything and says nothing.
    pub fn sink() -> Self {
        let received = Arc::<AtomicUsize>::default();
        Self::counting(Ipv4Addr::LOCALHOST.into(), Arc::clone(&received), move |stream| {
            let count = |_: &mut TcpStream, bytes: &[u8]| {
                received.fetch_add(bytes.len(), Ordering::SeqCst);
                Ok(())
            };
            Some(read_to_end(stream, count))
        })
    }

    /// Takes `length` bytes, then sends their SHA-256 and a line feed; takes more until the other side ends.
    pub fn checksum(length: usize) -> Self {
        Self::serving(move |stream| {
            let mut bytes = vec![0; length];
            stream.read_exact(&mut bytes).ok()?;
            stream.write_all(format!("{}\n", sha256(&bytes)).as_bytes()).ok()?;
            Some(read_to_end(stream, |_, _| Ok(())))
        })
    }

    /// Sends [`seeded_bytes`], then ends its side and reads until the other side ends.
    pub fn source(seed: u64, length: usize) -> Self {
        Self::serving(move |stream| {
            stream.write_all(&seeded_bytes(seed, length)).ok()?;
            stream.shutdown(Shutdown::Write).ok()?;
            Some(read_to_end(stream, |_, _| Ok(())))
        })
    }

    /// Sends [`seeded_bytes`], and goes on with [`Target::sink`] without ending its side.
    pub fn open_source(seed: u64, length: usize) -> Self {
        Self::serving(move |stream| {
            stream.write_all(&seeded_bytes(seed, length)).ok()?;
            Some(read_to_end(stream, |_, _| Ok(())))
        })
    }

    /// Accepts and then neither reads nor writes, until it is dropped.
    pub fn silent() -> Self {
        // The handle in `connections` keeps the connection open.
        Self::serving(|_| None)
    }

    /// Takes `length` bytes, then resets the connection.
    pub fn resetting_after(length: usize) -> Self {
        Self::serving(move |stream| {
            stream.read_exact(&mut vec![0; length]).ok()?;
            reset(stream).ok()?;
            None
        })
    }

    /// `host:port` of it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// How many connections it has accepted.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// How many bytes a [`Target::sink`] has read, on all connections; other targets do not count.
    pub fn received(&self) -> usize {
        self.received.load(Ordering::SeqCst)
    }

    /// Waits for the next connection to be over.
    ///
    /// # Panics
    ///
    /// When none ends.
    pub fn next_seen(&self) -> Seen {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(DEADLINE);
        seen.unwrap_or_else(|_| panic!("no connection to the target has ended"))
    }

    /// Resets all connections.
    pub fn reset_all(&self) {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in connections.drain(..) {
            // It may be gone already.
            let _ = reset(&stream);
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the listener.
        let _ = TcpStream::connect(self.address);
        let connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in connections.iter() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn serve_one(
    mut stream: TcpStream,
    serve: Arc<impl Fn(&mut TcpStream) -> Option<Seen> + Send + Sync + 'static>,
    sender: Sender<Seen>,
) {
    thread::spawn(move || {
        if let Some(seen) = serve(&mut stream) {
            let _ = stream.shutdown(Shutdown::Both);
            // Nobody may be interested any more.
            let _ = sender.send(seen);
        }
    });
}

/// Reads until the other side ends, and gives each piece to `each`.
fn read_to_end(
    stream: &mut TcpStream,
    mut each: impl FnMut(&mut TcpStream, &[u8]) -> io::Result<()>,
) -> Seen {
    let mut all = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    let error = loop {
        match stream.read(&mut buffer) {
            Ok(0) => break None,
            Ok(read) => {
                all.extend_from_slice(&buffer[..read]);
                if let Err(error) = each(stream, &buffer[..read]) {
                    break Some(error.kind());
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => break Some(error.kind()),
        }
    };
    Seen { length: all.len(), sha256: sha256(&all), error }
}

/// Ends a connection by RST, even while other handles of it exist.
fn reset(stream: &TcpStream) -> io::Result<()> {
    Ok(rustix::net::connect_unspec(stream)?)
}

/// A port of loopback that refuses connections as long as this lives: bound, but not listening.
#[derive(Debug)]
pub struct RefusingPort {
    _socket: Socket,
    port: u16,
}

impl RefusingPort {
    /// Takes a free port.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn new() -> io::Result<Self> {
        let (socket, port) = bound()?;
        Ok(Self { _socket: socket, port })
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// A port of loopback at which connecting neither succeeds nor fails: its listener does not accept, and its queue is
/// full.
#[derive(Debug)]
pub struct SilentPort {
    listener: Socket,
    queued: Vec<Socket>,
    port: u16,
}

impl SilentPort {
    /// Takes a free port and fills its queue.
    ///
    /// # Errors
    ///
    /// When that cannot be done.
    pub fn new() -> io::Result<Self> {
        let (listener, port) = bound()?;
        listener.listen(0)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut queued = Vec::new();
        for _ in 0..4 {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.set_nonblocking(true)?;
            // In progress, for those that find no room for good.
            let _ = socket.connect(&address.into());
            queued.push(socket);
        }
        Ok(Self { listener, queued, port })
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Answers from now on; gives the first connection that is not one of its own, if it comes in time.
    ///
    /// # Errors
    ///
    /// Those of the listener.
    pub fn accept_within(&mut self, limit: Duration) -> io::Result<Option<TcpStream>> {
        let own = self.queued.iter().map(Socket::local_addr).collect::<io::Result<Vec<_>>>()?;
        self.listener.set_nonblocking(true)?;
        let mut found = Ok(None);
        super::holds_within(limit, || {
            match self.listener.accept() {
                Ok((_, from)) if own.contains(&from) => {}
                Ok((stream, _)) => found = Ok(Some(stream.into())),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => found = Err(error),
            }
            !matches!(found, Ok(None))
        });
        found
    }
}

fn bound() -> io::Result<(Socket, u16)> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    let address = socket.local_addr()?;
    let port = address.as_socket().map(|address| address.port());
    port.map(|port| (socket, port)).ok_or_else(|| io::Error::other("no port"))
}
