//! The program itself: its pipes, its lines, its exit status.

use std::io::{BufRead as _, BufReader, Read as _, Seek as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use client::exit::Exit;
use codec::v2::Code;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::relay::{Answer, Relay, SECRET};
use crate::support::{Echo, RESUME_FOR, listener, pattern, within};

/// The program with a relay, but no target.
fn command(relay: &Relay) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_access-client"));
    command.env_clear().env("HTTP_NETWORK_RELAY_SECRET", SECRET);
    command.args(["--relay-url", &relay.url(), "workshop"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn to(mut command: Command, target: SocketAddr) -> Command {
    command.args([target.ip().to_string(), target.port().to_string()]);
    command
}

/// A process that does not outlive its test.
struct Running(Child);

impl Running {
    fn start(mut command: Command) -> Self {
        Self(command.spawn().unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    /// Its exit status and what it says on stderr, once it has ended.
    async fn ended(mut self) -> (i32, String) {
        let waiting = tokio::task::spawn_blocking(move || {
            let mut said = String::new();
            self.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
            (self.0.wait().unwrap().code().unwrap(), said)
        });
        within(waiting).await.unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Everything that comes, read on a thread of its own.
async fn read_to_end(mut source: impl std::io::Read + Send + 'static) -> Vec<u8> {
    let reading = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        source.read_to_end(&mut bytes).unwrap();
        bytes
    });
    within(reading).await.unwrap()
}

#[tokio::test]
async fn the_end_of_the_target_closes_stdout_while_stdin_is_open() {
    let relay = Relay::start(RESUME_FOR).await;
    let (server, address) = listener().await;
    let mut client = Running::start(to(command(&relay), address));
    let (mut far, _) = within(server.accept()).await.unwrap();
    far.write_all(b"all of it").await.unwrap();
    far.shutdown().await.unwrap();
    assert_eq!(read_to_end(client.0.stdout.take().unwrap()).await, b"all of it");
    let mut stdin = client.0.stdin.take().unwrap();
    stdin.write_all(b"and back").unwrap();
    drop(stdin);
    let mut heard = String::new();
    within(far.read_to_string(&mut heard)).await.unwrap();
    assert_eq!(heard, "and back");
    drop(far);
    assert_eq!(client.ended().await, (0, String::new()));
}

#[tokio::test]
async fn files_go_in_and_out() {
    let relay = Relay::start(RESUME_FOR).await;
    let echo = Echo::start().await;
    let bytes = pattern(3_000_000);
    let (mut input, mut output) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    input.write_all(&bytes).unwrap();
    input.rewind().unwrap();
    let mut command = to(command(&relay), echo.address);
    command.stdin(input).stdout(output.try_clone().unwrap());
    assert_eq!(Running::start(command).ended().await, (0, String::new()));
    output.rewind().unwrap();
    let mut written = Vec::new();
    output.read_to_end(&mut written).unwrap();
    assert!(written == bytes, "{} of {} bytes", written.len(), bytes.len());
}

#[tokio::test]
async fn one_socket_for_stdin_and_stdout_ends_each_way_too() {
    let relay = Relay::start(RESUME_FOR).await;
    let (server, address) = listener().await;
    let (near, mine) = UnixStream::pair().unwrap();
    let mut command = to(command(&relay), address);
    command.stdin(std::os::fd::OwnedFd::from(near.try_clone().unwrap()));
    command.stdout(std::os::fd::OwnedFd::from(near));
    let client = Running::start(command);
    let (mut far, _) = within(server.accept()).await.unwrap();
    far.write_all(b"over").await.unwrap();
    far.shutdown().await.unwrap();
    assert_eq!(read_to_end(mine.try_clone().unwrap()).await, b"over");
    (&mine).write_all(b"out").unwrap();
    mine.shutdown(std::net::Shutdown::Write).unwrap();
    let mut heard = String::new();
    within(far.read_to_string(&mut heard)).await.unwrap();
    assert_eq!(heard, "out");
    assert_eq!(client.ended().await, (0, String::new()));
}

#[tokio::test]
async fn failures_are_one_line_and_a_status() {
    let relay = Relay::start(RESUME_FOR).await;
    relay.refuse_streams(Code::Forbidden);
    let (_server, address) = listener().await;
    let (status, said) = Running::start(to(command(&relay), address)).ended().await;
    assert_eq!(status, i32::from(Exit::Refused.code()));
    let line = format!(
        "access-client: the stream to {address} behind agent \"workshop\" is not allowed: said by the test (ask whoever runs the relay or the agent)\n"
    );
    assert_eq!(said, line);
}

#[tokio::test]
async fn a_signal_resets_the_stream() {
    let relay = Relay::start(RESUME_FOR).await;
    let (server, address) = listener().await;
    let client = Running::start(to(command(&relay), address));
    let (mut far, _) = within(server.accept()).await.unwrap();
    client.signal(Signal::TERM);
    within(far.read_u8()).await.unwrap_err();
    assert_eq!(client.ended().await, (143, String::new()));
    relay.seen("a reset", |seen| seen.frames[0].contains(&"reset".to_owned())).await;
}

#[tokio::test]
async fn an_absence_is_told_and_so_is_its_end() {
    let relay = Relay::start(RESUME_FOR).await;
    let echo = Echo::start().await;
    let mut client = Running::start(to(command(&relay), echo.address));
    let mut stdin = client.0.stdin.take().unwrap();
    let mut stdout = client.0.stdout.take().unwrap();
    let mut stderr = BufReader::new(client.0.stderr.take().unwrap());
    stdin.write_all(b"a").unwrap();
    let (read, stdout) = within(tokio::task::spawn_blocking(move || {
        let mut byte = [0];
        (stdout.read(&mut byte).unwrap(), stdout)
    }))
    .await
    .unwrap();
    assert_eq!(read, 1);
    relay.answer(Answer::Cut);
    relay.cut();
    let line = move || {
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        (line, stderr)
    };
    let (away, mut stderr) = within(tokio::task::spawn_blocking(line)).await.unwrap();
    let start = format!("access-client: the link to the relay at {} was lost: ", relay.url());
    assert!(away.starts_with(&start), "{away}");
    assert!(away.ends_with("; the stream waits for up to 180 s\n"), "{away}");
    relay.answer(Answer::Welcome);
    stdin.write_all(b"b").unwrap();
    drop(stdin);
    assert_eq!(read_to_end(stdout).await, b"b");
    let back = within(tokio::task::spawn_blocking(move || {
        let mut rest = String::new();
        stderr.read_to_string(&mut rest).unwrap();
        rest
    }))
    .await
    .unwrap();
    assert!(back.starts_with("access-client: back after "), "{back}");
    assert_eq!(back.lines().count(), 1, "{back}");
    assert_eq!(client.0.wait().unwrap().code(), Some(0));
}

#[tokio::test]
async fn what_is_listened_on_is_told_and_gone_at_the_end() {
    let relay = Relay::start(RESUME_FOR).await;
    let echo = Echo::start().await;
    let mut command = command(&relay);
    command.args(["--listen", "0"]);
    let mut client = Running::start(to(command, echo.address));
    let stderr = client.0.stderr.take().unwrap();
    let bound = within(tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        BufReader::new(stderr).read_line(&mut line).unwrap();
        line
    }))
    .await
    .unwrap();
    let rest = bound.strip_prefix("access-client: listening on ").unwrap();
    let (bound, rest) = rest.split_once(", ").unwrap();
    assert_eq!(rest, format!("for {} behind agent \"workshop\"\n", echo.address));
    let bound: SocketAddr = bound.parse().unwrap();
    let stream = within(tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(bound).unwrap();
        stream.write_all(b"hello").unwrap();
        let mut heard = [0; 5];
        stream.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"hello");
        stream
    }))
    .await
    .unwrap();
    client.signal(Signal::INT);
    let ended = within(tokio::task::spawn_blocking(move || client.0.wait().unwrap())).await;
    assert_eq!(ended.unwrap().code(), Some(130));
    TcpStream::connect(bound).unwrap_err();
    drop(stream);
}
