use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::link::hold_little;
use super::stage::kit_failed;
use super::{Finding, Outcome, Stage};
use crate::harness::frames::is_over_time;
use crate::harness::holds_within;
use crate::harness::targets::SilentPort;

/// A target that the case plays: it listens on loopback, and takes a connection when the case says so.
#[derive(Debug)]
pub struct Target {
    stage: Arc<Stage>,
    listener: TcpListener,
    port: u16,
}

impl Target {
    pub(super) fn new(stage: &Arc<Stage>) -> Outcome<Self> {
        let listen = || {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            listener.set_nonblocking(true)?;
            let port = listener.local_addr()?.port();
            Ok(Self { stage: Arc::clone(stage), listener, port })
        };
        listen().map_err(|error| kit_failed("listen", &error))
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The next connection of the agent.
    ///
    /// # Errors
    ///
    /// When it does not connect.
    pub fn accept(&self) -> Outcome<Connection> {
        let mut accepted = None;
        holds_within(self.stage.patience(), || {
            accepted = self.listener.accept().ok();
            accepted.is_some()
        });
        match accepted {
            Some((stream, _)) => Connection::new(&self.stage, stream),
            None => Err(Finding::fail("the agent does not connect to the target")),
        }
    }
}

/// A target that neither takes nor refuses connections, until the case lets it.
#[derive(Debug)]
pub struct SilentTarget {
    stage: Arc<Stage>,
    port: SilentPort,
}

impl SilentTarget {
    pub(super) fn new(stage: &Arc<Stage>) -> Outcome<Self> {
        let port = SilentPort::new().map_err(|error| kit_failed("fill a queue", &error))?;
        Ok(Self { stage: Arc::clone(stage), port })
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port.port()
    }

    /// Takes connections from now on; gives that of the agent, if it comes in time.
    ///
    /// # Errors
    ///
    /// When the kit fails.
    pub fn accept_within(&mut self, limit: Duration) -> Outcome<Option<Connection>> {
        let accepted = self.port.accept_within(self.stage.at_most(limit));
        let stream = accepted.map_err(|error| kit_failed("accept a connection", &error))?;
        stream.map(|stream| Connection::new(&self.stage, stream)).transpose()
    }
}

/// The target's end of a connection.
#[derive(Debug)]
pub struct Connection {
    stage: Arc<Stage>,
    stream: TcpStream,
    name: String,
}

impl Connection {
    fn new(stage: &Arc<Stage>, stream: TcpStream) -> Outcome<Self> {
        let name = stage.next_name("target");
        stage.transcript.add("agent", &name, "dial", b"");
        hold_little(&stream);
        // A connection whose other end takes nothing must not hold up the kit.
        let made = stream
            .set_nonblocking(false)
            .and_then(|()| stream.set_write_timeout(Some(stage.start_patience())));
        made.map_err(|error| kit_failed("set up a connection", &error))?;
        Ok(Self { stage: Arc::clone(stage), stream, name })
    }

    /// Sends bytes to the agent. That it takes no more is no failure here.
    pub fn write(&mut self, bytes: &[u8]) {
        self.stage.transcript.add(&self.name, "agent", "bytes", bytes);
        if let Err(error) = self.stream.write_all(bytes) {
            self.stage.note(&self.name, &format!("could not be written: {error}"));
        }
    }

    /// Waits for exactly these bytes next.
    ///
    /// # Errors
    ///
    /// When others come, or too few.
    pub fn expect(&mut self, bytes: &[u8]) -> Outcome {
        self.expect_after(Duration::ZERO, bytes)
    }

    /// The same, where it may take this long besides.
    ///
    /// # Errors
    ///
    /// When others come, or too few.
    pub fn expect_after(&mut self, time: Duration, bytes: &[u8]) -> Outcome {
        let end = Instant::now() + self.stage.patience_after(time);
        let mut came = Vec::new();
        let ended = loop {
            if came.len() >= bytes.len() {
                break "";
            }
            match self.read(end, bytes.len() - came.len())? {
                Read::Bytes(read) => came.extend(read),
                Read::Nothing => break ", then nothing in time",
                Read::End | Read::Reset => break ", then the end",
            }
        };
        self.stage.transcript.add("agent", &self.name, "bytes", &came);
        if came == bytes {
            return Ok(());
        }
        let same = came.iter().zip(bytes).take_while(|(came, sent)| came == sent).count();
        let (length, wanted) = (came.len(), bytes.len());
        let at =
            if same < length { format!(", others from byte {same} on") } else { String::new() };
        Err(Finding::Fail(format!("at the target came {length} of {wanted} bytes{at}{ended}")))
    }

    /// Waits until the agent ends the connection, with nothing more before.
    ///
    /// # Errors
    ///
    /// When something comes, or it goes on.
    pub fn expect_end(&mut self) -> Outcome {
        match self.drain()? {
            0 => Ok(()),
            more => Err(Finding::Fail(format!("before the end {more} bytes came to the target"))),
        }
    }

    /// Waits until the agent ends the connection; gives how many bytes came before that.
    ///
    /// # Errors
    ///
    /// When it goes on.
    pub fn drain(&mut self) -> Outcome<usize> {
        let end = Instant::now() + self.stage.patience();
        let mut length = 0;
        loop {
            match self.read(end, 1 << 16)? {
                Read::Bytes(bytes) => length += bytes.len(),
                Read::Nothing => {
                    return Err(Finding::fail("the connection to the target stays open"));
                }
                ended @ (Read::End | Read::Reset) => {
                    let how = if matches!(ended, Read::End) { "FIN" } else { "RST" };
                    self.stage.transcript.add("agent", &self.name, "end", how.as_bytes());
                    return Ok(length);
                }
            }
        }
    }

    /// Ends this side of the connection; it is read as before.
    pub fn finish(&mut self) {
        self.stage.transcript.add(&self.name, "agent", "end", b"FIN");
        // It may be gone already.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Ends the connection by RST.
    pub fn reset(self) {
        self.stage.transcript.add(&self.name, "agent", "end", b"RST");
        // It may be gone already.
        let _ = rustix::net::connect_unspec(&self.stream);
    }

    fn read(&mut self, end: Instant, most: usize) -> Outcome<Read> {
        self.stage.check_time()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Read::Nothing);
        }
        let mut buffer = vec![0; most.min(1 << 16)];
        let read =
            self.stream.set_read_timeout(Some(left)).and_then(|()| self.stream.read(&mut buffer));
        Ok(match read {
            Ok(0) => Read::End,
            Ok(length) => {
                buffer.truncate(length);
                Read::Bytes(buffer)
            }
            Err(error) if is_over_time(&error) => Read::Nothing,
            Err(error) if error.kind() == ErrorKind::Interrupted => Read::Bytes(Vec::new()),
            Err(_) => Read::Reset,
        })
    }
}

/// What a read of a connection came to.
#[derive(Debug)]
enum Read {
    Bytes(Vec<u8>),
    /// Nothing came in time.
    Nothing,
    End,
    Reset,
}
