//! A program that runs beside the test: its stderr line by line, its stdout as it comes, its exit status.

use std::collections::BTreeSet;
use std::io::{self, BufRead as _, BufReader, Read};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::DEADLINE;

/// Something that a thread fills and tests wait for.
#[derive(Debug, Default)]
struct Shared<T> {
    content: Mutex<(T, bool)>,
    changed: Condvar,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, (T, bool)> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut (T, bool))) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// Waits for `found` to give something. `None` when the writer has ended without, or after [`DEADLINE`].
    fn wait<R>(&self, found: impl FnMut(&T) -> Option<R>) -> Option<R> {
        self.wait_within(DEADLINE, found)
    }

    /// The same for another time.
    fn wait_within<R>(&self, limit: Duration, mut found: impl FnMut(&T) -> Option<R>) -> Option<R> {
        let end = Instant::now() + limit;
        let mut guard = self.lock();
        loop {
            if let Some(result) = found(&guard.0) {
                return Some(result);
            }
            let left = end.saturating_duration_since(Instant::now());
            if guard.1 || left.is_zero() {
                return None;
            }
            guard =
                self.changed.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// The bytes that a program has written to its stdout so far.
#[derive(Debug, Clone, Default)]
pub struct Output(Arc<Shared<Vec<u8>>>);

impl Output {
    /// Collects what `source` gives, in a thread that ends with it.
    pub fn collect(mut source: impl Read + Send + 'static) -> Self {
        let output = Self::default();
        let shared = Arc::clone(&output.0);
        thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while let Ok(read @ 1..) = source.read(&mut buffer) {
                shared.change(|content| content.0.extend_from_slice(&buffer[..read]));
            }
            shared.change(|content| content.1 = true);
        });
        output
    }

    /// All bytes once there are at least `length` of them, or fewer when no more will come.
    pub fn wait_for(&self, length: usize) -> Vec<u8> {
        let full = self.0.wait(|bytes| (bytes.len() >= length).then(|| bytes.clone()));
        full.unwrap_or_else(|| self.0.lock().0.clone())
    }

    /// The same for another time than [`DEADLINE`].
    pub fn wait_for_within(&self, limit: Duration, length: usize) -> Vec<u8> {
        let full =
            self.0.wait_within(limit, |bytes| (bytes.len() >= length).then(|| bytes.clone()));
        full.unwrap_or_else(|| self.0.lock().0.clone())
    }

    /// All bytes, once the program has closed its stdout.
    ///
    /// # Panics
    ///
    /// After [`DEADLINE`].
    pub fn wait_for_end(&self) -> Vec<u8> {
        self.0.wait(|_| None::<()>);
        let guard = self.0.lock();
        assert!(guard.1, "stdout is still open, after {} bytes", guard.0.len());
        guard.0.clone()
    }

    /// All of it so far, once `text` is in it.
    ///
    /// # Panics
    ///
    /// When it does not come.
    pub fn wait_for_text(&self, text: &str) -> String {
        let all = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
        let came = self.0.wait(|bytes| Some(all(bytes)).filter(|all| all.contains(text)));
        came.unwrap_or_else(|| {
            panic!("{text:?} did not come; what came: {}", all(&self.0.lock().0))
        })
    }

    /// How many bytes there are so far.
    pub fn len(&self) -> usize {
        self.0.lock().0.len()
    }

    /// Whether nothing has come yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The processes that were started here and were not yet waited for.
static RUNNING: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

fn running() -> MutexGuard<'static, BTreeSet<u32>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Kills every process that was started here and still runs, for a program that has to end at once. Whoever would start
/// another one, or wait for one, waits until the program has ended.
pub fn kill_all() {
    let running = running();
    for pid in running.iter().filter_map(|&pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
        // It may just have ended.
        let _ = kill_process(pid, Signal::KILL);
    }
    std::mem::forget(running);
}

/// A running program. It is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stderr: Arc<Shared<Vec<String>>>,
    /// Whether the log is looked at in the end: a panic or an error in it is a bug.
    is_ours: bool,
}

impl Process {
    /// Starts `command` with its stderr collected. stdin and stdout are as the command says.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    pub fn start(name: &str, mut command: Command, is_ours: bool) -> Self {
        Self::spawn(name, &mut command, is_ours)
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"))
    }

    /// The same, for a program that may be missing.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn spawn(name: &str, command: &mut Command, is_ours: bool) -> io::Result<Self> {
        command.stderr(Stdio::piped());
        let mut child = {
            let mut running = running();
            let child = command.spawn()?;
            running.insert(child.id());
            child
        };
        let stderr = Arc::new(Shared::<Vec<String>>::default());
        if let Some(pipe) = child.stderr.take() {
            let stderr = Arc::clone(&stderr);
            thread::spawn(move || {
                let mut lines = BufReader::new(pipe);
                let mut line = Vec::new();
                while let Ok(1..) = lines.read_until(b'\n', &mut line) {
                    let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                    stderr.change(|content| content.0.push(text));
                    line.clear();
                }
                stderr.change(|content| content.1 = true);
            });
        }
        Ok(Self { name: name.to_owned(), child, stderr, is_ours })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The end of the pipe to its stdin, if that is piped and was not taken before.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Its stdout, collected from now on; nothing if it is not piped.
    pub fn collect_stdout(&mut self) -> Output {
        self.child.stdout.take().map_or_else(Output::default, Output::collect)
    }

    /// Its stdout, to be read or dropped by the test.
    pub fn take_stdout(&mut self) -> Option<std::process::ChildStdout> {
        self.child.stdout.take()
    }

    /// The lines of its stderr so far.
    pub fn stderr(&self) -> Vec<String> {
        self.stderr.lock().0.clone()
    }

    /// All lines of its stderr, once it has closed it.
    pub fn stderr_at_end(&self) -> Vec<String> {
        self.stderr.wait(|_| None::<()>);
        self.stderr()
    }

    /// The result of `found` on all lines of stderr, as soon as it has one.
    ///
    /// # Panics
    ///
    /// When it comes to none.
    pub fn wait_for_lines<R>(
        &self,
        what: &str,
        mut found: impl FnMut(&[String]) -> Option<R>,
    ) -> R {
        let result = self.stderr.wait(|lines| found(lines));
        result.unwrap_or_else(|| {
            panic!("{} did not say {what}; it said: {:#?}", self.name, self.stderr())
        })
    }

    /// The result of `found` on the first line that has one, by now or later.
    ///
    /// # Panics
    ///
    /// When no such line comes.
    pub fn wait_for_line<R>(&self, what: &str, mut found: impl FnMut(&str) -> Option<R>) -> R {
        self.wait_for_lines(what, |lines| lines.iter().find_map(|line| found(line)))
    }

    /// The result of `found` on the first line that has one; `None` if no such line comes in time.
    pub fn line_within<R>(
        &self,
        limit: Duration,
        mut found: impl FnMut(&str) -> Option<R>,
    ) -> Option<R> {
        self.stderr.wait_within(limit, |lines| lines.iter().find_map(|line| found(line)))
    }

    /// Waits for a line that holds `text`.
    ///
    /// # Panics
    ///
    /// When no such line comes.
    pub fn wait_for_text(&self, text: &str) {
        self.wait_for_line(text, |line| line.contains(text).then_some(()));
    }

    /// Sends it a signal. One that has ended gets none.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // It may have ended meanwhile, which the test will see.
            let _ = kill_process(pid, signal);
        }
    }

    /// Kills it as `kill -9` does, and waits for its end.
    pub fn kill(&mut self) {
        // Ending twice is no error.
        let _ = self.child.kill();
        // Its number may be given to another process as soon as it was waited for.
        let mut running = running();
        let _ = self.child.wait();
        running.remove(&self.child.id());
    }

    /// Its exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let mut running = running();
        let status = self.child.try_wait().ok().flatten();
        if status.is_some() {
            running.remove(&self.child.id());
        }
        status
    }

    /// Its exit status once it has ended, or minus the number of the signal that ended it; `None` if it still runs
    /// after `limit`.
    pub fn wait_within(&mut self, limit: Duration) -> Option<i32> {
        let mut status = None;
        super::holds_within(limit, || {
            status = self.ended();
            status.is_some()
        });
        let code = |status: ExitStatus| {
            status.code().or_else(|| status.signal().map(|signal| -signal)).unwrap_or(i32::MIN)
        };
        status.map(code)
    }

    /// Waits for its end. The result is its exit status, or minus the number of the signal that ended it.
    ///
    /// # Panics
    ///
    /// When it does not end.
    pub fn wait(&mut self) -> i32 {
        self.wait_within(DEADLINE)
            .unwrap_or_else(|| panic!("{} still runs; it said: {:#?}", self.name, self.stderr()))
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.child.id());
        std::fs::read_dir(folder).map_or(0, Iterator::count)
    }

    /// Checks that a program of ours has logged neither a panic nor an error, which would be a bug.
    fn check_log(&self) {
        let is_bad = |line: &&String| line.contains("panicked at") || line.contains(" ERROR ");
        let lines = self.stderr();
        if let Some(bad) = lines.iter().find(is_bad) {
            panic!("{} logged a bug: {bad}\nall of it: {lines:#?}", self.name);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            super::say(&format!("-- stderr of {}:\n{}", self.name, self.stderr().join("\n")));
        } else if self.is_ours {
            self.check_log();
        }
    }
}
