use std::io::Write as _;
use std::ops::{Deref, DerefMut};
use std::process::{ChildStdin, ChildStdout, Stdio};
use std::sync::Arc;
use std::time::Duration;

use codec::v1::CLIENT_PATH;
use rustix::process::Signal;
use serde_json::json;

use super::agent::accept;
use super::link::Link;
use super::message::base64;
use super::relay::{Sizes, expect_bytes};
use super::stage::kit_failed;
use super::{Answer, Finding, Message, Outcome, Stage};
use crate::harness::frames::RawRelay;
use crate::harness::profile::Values;
use crate::harness::tunnel::{AGENT, CLIENT_SECRET};
use crate::harness::{Output, Process, holds_within};

/// The client under test, its stdin and stdout, and the port at which it finds the scripted relay. It is started by the
/// case.
#[derive(Debug)]
pub struct Client {
    stage: Arc<Stage>,
    relay: RawRelay,
    running: Option<Running>,
    variables: Vec<(String, String)>,
    holds_output: bool,
}

#[derive(Debug)]
struct Running {
    process: Process,
    stdin: Option<ChildStdin>,
    output: Output,
    /// Its stdout while nobody reads it.
    held: Option<ChildStdout>,
    /// How many bytes of its output were expected and have come.
    taken: usize,
}

/// What stdin of a client is.
#[derive(Debug)]
pub enum Input {
    /// A pipe that the case writes to.
    Pipe,
    /// A regular file that holds this.
    File(Vec<u8>),
    /// `/dev/null`.
    Null,
}

impl Client {
    pub(super) fn new(stage: Arc<Stage>) -> Outcome<Self> {
        if stage.profile.client.is_none() {
            return Err(Finding::Skipped("the profile has no client".to_owned()));
        }
        let relay = RawRelay::new().map_err(|error| kit_failed("listen", &error))?;
        Ok(Self { stage, relay, running: None, variables: Vec::new(), holds_output: false })
    }

    /// The case.
    pub fn stage(&self) -> &Stage {
        &self.stage
    }

    /// A SHOULD; see [`Stage::should`].
    pub fn should(&self, holds: bool, otherwise: impl Into<String>) {
        self.stage.should(holds, otherwise);
    }

    /// The port of the scripted relay.
    pub fn port(&self) -> u16 {
        self.relay.port()
    }

    /// Sets a variable for the client when it is launched, such as that of a proxy.
    pub fn set_variable(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    // ---- the program ----

    /// Starts the client towards the scripted relay; it asks for 127.0.0.1:22.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn launch(&mut self) -> Outcome {
        self.launch_at(&self.url())
    }

    /// The URL of the scripted relay.
    pub fn url(&self) -> String {
        format!("ws://127.0.0.1:{}{CLIENT_PATH}", self.port())
    }

    /// Starts the client with any URL.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn launch_at(&mut self, url: &str) -> Outcome {
        self.launch_for(url, "127.0.0.1", "22", Input::Pipe)
    }

    /// Starts the client with any URL, target and stdin.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn launch_for(&mut self, url: &str, host: &str, port: &str, input: Input) -> Outcome {
        let profile = Arc::clone(&self.stage.profile);
        let Some(program) = &profile.client else { return Ok(()) };
        let file = self.stage.file("secret", CLIENT_SECRET)?;
        let values = Values::from([
            ("url", url.to_owned()),
            ("secret", CLIENT_SECRET.to_owned()),
            ("secret_file", file.display().to_string()),
            ("agent", AGENT.to_owned()),
            ("target_host", host.to_owned()),
            ("target_port", port.to_owned()),
            ("protocol", "tcp".to_owned()),
        ]);
        let mut command = profile.command(&program.command, &program.environment, &values);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdout(Stdio::piped()).stdin(match input {
            Input::Pipe => Stdio::piped(),
            Input::Null => Stdio::null(),
            Input::File(content) => self.input_file(&content)?,
        });
        let mut process = self.stage.spawn("client", &mut command)?;
        let stdin = process.take_stdin();
        let held = if self.holds_output { process.take_stdout() } else { None };
        let output = process.collect_stdout();
        self.running = Some(Running { process, stdin, output, held, taken: 0 });
        Ok(())
    }

    fn input_file(&self, content: &[u8]) -> Outcome<Stdio> {
        let path = self.stage.folder().join("input");
        let file = std::fs::write(&path, content).and_then(|()| std::fs::File::open(&path));
        file.map(Stdio::from).map_err(|error| kit_failed("write a file", &error))
    }

    fn running(&mut self) -> Outcome<&mut Running> {
        self.running.as_mut().ok_or_else(|| Finding::fail("the client was not launched"))
    }

    /// Writes to its stdin, which has to be a pipe. That it takes no more is no failure here.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn input(&mut self, bytes: &[u8]) -> Outcome {
        self.stage.transcript.add("user", "client", "input", bytes);
        if let Some(stdin) = &mut self.running()?.stdin {
            // The case sees from the rest what became of it.
            let _ = stdin.write_all(bytes).and_then(|()| stdin.flush());
        }
        Ok(())
    }

    /// Writes to its stdin, which has to be a pipe, beside the case, and then closes it.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn input_beside(&mut self, bytes: Vec<u8>) -> Outcome {
        self.stage.transcript.add("user", "client", "input", &bytes);
        if let Some(mut stdin) = self.running()?.stdin.take() {
            // The thread ends with the client, at the latest.
            std::thread::spawn(move || stdin.write_all(&bytes));
        }
        Ok(())
    }

    /// Clients that are launched from now on have a stdout that nobody reads, until [`Client::release_output`].
    pub fn hold_output(&mut self) {
        self.holds_output = true;
    }

    /// Reads its stdout from now on.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn release_output(&mut self) -> Outcome {
        let running = self.running()?;
        if let Some(stdout) = running.held.take() {
            running.output = Output::collect(stdout);
        }
        Ok(())
    }

    /// Closes its stdin.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn end_input(&mut self) -> Outcome {
        self.stage.transcript.add("user", "client", "input", b"");
        self.running()?.stdin = None;
        Ok(())
    }

    /// Waits for these bytes next on its stdout.
    ///
    /// # Errors
    ///
    /// When others come, or too few.
    pub fn expect_output(&mut self, bytes: &[u8]) -> Outcome {
        self.expect_output_after(Duration::ZERO, bytes)
    }

    /// The same, where it may take this long besides.
    ///
    /// # Errors
    ///
    /// When others come, or too few.
    pub fn expect_output_after(&mut self, time: Duration, bytes: &[u8]) -> Outcome {
        let patience = self.stage.patience_after(time);
        let running = self.running()?;
        let wanted = running.taken + bytes.len();
        let all = running.output.wait_for_within(patience, wanted);
        let came =
            all[running.taken..].get(..bytes.len()).unwrap_or(&all[running.taken..]).to_vec();
        running.taken += came.len();
        self.stage.transcript.add("client", "user", "output", &came);
        if came == bytes {
            return Ok(());
        }
        let (length, wanted) = (came.len(), bytes.len());
        let same = came.iter().zip(bytes).take_while(|(came, sent)| came == sent).count();
        let at =
            if same < length { format!(", others from byte {same} on") } else { String::new() };
        Err(Finding::Fail(format!("on stdout came {length} of {wanted} bytes{at}")))
    }

    /// Waits for its end, and checks that it has written nothing to stdout but what was expected before. Gives whether
    /// it reports a failure: by its exit status, or as the profile says.
    ///
    /// # Errors
    ///
    /// When it goes on, or there was more on its stdout.
    pub fn wait(&mut self) -> Outcome<bool> {
        self.wait_after(Duration::ZERO)
    }

    /// The same, where it may take this long besides.
    ///
    /// # Errors
    ///
    /// When it goes on, or there was more on its stdout.
    pub fn wait_after(&mut self, time: Duration) -> Outcome<bool> {
        let patience = self.stage.patience_after(time);
        let profile = Arc::clone(&self.stage.profile);
        let running = self.running()?;
        let Some(status) = running.process.wait_within(patience) else {
            return Err(Finding::fail("the client goes on running"));
        };
        let said = running.process.stderr_at_end();
        let more = running.output.wait_for_within(patience, usize::MAX).len() - running.taken;
        self.stage.note("client", &format!("ends with status {status}"));
        if more > 0 {
            return Err(Finding::Fail(format!("{more} bytes more than expected are on stdout")));
        }
        let words = profile.client.as_ref().map_or(&[][..], |program| &program.failure_words);
        if words.is_empty() {
            return Ok(status != 0);
        }
        Ok(said.iter().any(|line| words.iter().any(|word| line.contains(word))))
    }

    /// Waits until it ends and reports a failure.
    ///
    /// # Errors
    ///
    /// When it goes on, or reports none.
    pub fn expect_failure(&mut self) -> Outcome {
        self.expect_failure_after(Duration::ZERO)
    }

    /// The same, where it may take this long besides.
    ///
    /// # Errors
    ///
    /// When it goes on, or reports none.
    pub fn expect_failure_after(&mut self, time: Duration) -> Outcome {
        if self.wait_after(time)? {
            return Ok(());
        }
        Err(Finding::fail("the client ends without reporting a failure"))
    }

    /// Waits until it ends and reports none.
    ///
    /// # Errors
    ///
    /// When it goes on, or reports a failure.
    pub fn expect_success(&mut self) -> Outcome {
        if self.wait()? {
            return Err(Finding::fail("the client reports a failure"));
        }
        Ok(())
    }

    /// Whether it still runs.
    ///
    /// # Errors
    ///
    /// When it was not launched.
    pub fn expect_running(&mut self) -> Outcome {
        match self.running()?.process.ended() {
            None => Ok(()),
            Some(status) => Err(Finding::Fail(format!("the client has ended with {status}"))),
        }
    }

    /// Sends the client a signal.
    ///
    /// # Errors
    ///
    /// When it was not launched.
    pub fn signal(&mut self, signal: Signal) -> Outcome {
        self.stage.note("client", &format!("gets signal {}", signal.as_raw()));
        self.running()?.process.signal(signal);
        Ok(())
    }

    // ---- the scripted relay ----

    /// The next connection of the client, of which nothing was read.
    ///
    /// # Errors
    ///
    /// When it does not dial.
    pub fn accept(&self) -> Outcome<ToClient> {
        accept(&self.relay, &self.stage, Duration::ZERO, "client").map(|link| ToClient { link })
    }

    /// The next connection of the client, of which nothing was read; `None` if the client ends without one.
    ///
    /// # Errors
    ///
    /// When it goes on and does not dial.
    pub fn accept_unless_ended(&mut self) -> Outcome<Option<ToClient>> {
        let (mut accepted, mut has_ended) = (None, false);
        holds_within(self.stage.start_patience(), || {
            // What it dialled before its end counts.
            let running = self.running.as_mut();
            has_ended = running.is_some_and(|running| running.process.ended().is_some());
            accepted = self.relay.poll_accept().transpose();
            accepted.is_some() || has_ended
        });
        match accepted {
            Some(Ok(raw)) => {
                Ok(Some(ToClient { link: Link::new(raw, &self.stage, "relay", "client") }))
            }
            Some(Err(error)) => Err(kit_failed("accept a connection", &error)),
            None if has_ended => Ok(None),
            None => Err(Finding::fail("the client does not dial")),
        }
    }

    /// The next connection of the client, with its request.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn accept_request(&self) -> Outcome<(ToClient, Answer)> {
        let mut link = self.accept()?;
        let request = link.head()?;
        Ok((link, request))
    }

    /// The next link of the client, upgraded, with its start.
    ///
    /// # Errors
    ///
    /// When it does not come so far.
    pub fn accept_start(&self) -> Outcome<(ToClient, Message)> {
        let (mut link, _) = self.accept_request()?;
        link.switch();
        let start = link.expect_kind("start")?;
        Ok((link, start))
    }

    /// Launches the client, and gives its link after its start.
    ///
    /// # Errors
    ///
    /// When it does not come so far.
    pub fn start(&mut self) -> Outcome<ToClient> {
        self.launch()?;
        Ok(self.accept_start()?.0)
    }

    /// Launches the client, and gives its link once its stream is open.
    ///
    /// # Errors
    ///
    /// When it does not come so far.
    pub fn open(&mut self) -> Outcome<ToClient> {
        let mut link = self.start()?;
        link.start_ok();
        Ok(link)
    }

    /// Ends the case.
    pub(super) fn end(&mut self) {
        if let Some(running) = &mut self.running {
            running.process.kill();
            self.stage.keep_log("client", &running.process);
        }
    }
}

/// The scripted relay's end of a client's link.
#[derive(Debug)]
pub struct ToClient {
    link: Link,
}

impl ToClient {
    /// Says that the stream is open.
    pub fn start_ok(&mut self) {
        self.send(&json!({ "kind": "start_ok" }));
    }

    /// Says that there is no stream, or no longer.
    pub fn error(&mut self, text: &str) {
        self.send(&json!({ "kind": "error", "message": text }));
    }

    /// Sends bytes of the stream, as one message.
    pub fn data(&mut self, bytes: &[u8]) {
        self.send(&json!({ "kind": "tcp_data", "data_base64": base64(bytes) }));
    }

    /// Waits for these bytes of the stream, in as many messages as they may come.
    ///
    /// # Errors
    ///
    /// When something else comes, or nothing.
    pub fn expect_data(&mut self, bytes: &[u8]) -> Outcome {
        self.sizes_of_data(bytes).map(|_| ())
    }

    /// The same; gives how they were cut.
    ///
    /// # Errors
    ///
    /// When something else comes, or nothing.
    pub fn sizes_of_data(&mut self, bytes: &[u8]) -> Outcome<Sizes> {
        expect_bytes(&mut self.link, None, bytes)
    }
}

impl Deref for ToClient {
    type Target = Link;

    fn deref(&self) -> &Link {
        &self.link
    }
}

impl DerefMut for ToClient {
    fn deref_mut(&mut self) -> &mut Link {
        &mut self.link
    }
}

impl From<ToClient> for Link {
    fn from(link: ToClient) -> Self {
        link.link
    }
}
