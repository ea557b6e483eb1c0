use std::fmt::Write as _;

use codec::v1::{AGENT_PATH, CLIENT_PATH};

/// A request by hand. Its text is written exactly as it is put together.
#[derive(Debug, Clone)]
pub struct Request {
    method: String,
    path: String,
    version: String,
    headers: Vec<(String, String)>,
}

impl Request {
    /// A request without an upgrade.
    pub fn plain(method: &str, path: &str) -> Self {
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            version: "HTTP/1.1".to_owned(),
            headers: vec![("Host".to_owned(), "relay.test".to_owned())],
        }
    }

    /// A good upgrade of any path.
    pub fn upgrade(path: &str) -> Self {
        Self::plain("GET", path)
            .with("Upgrade", "websocket")
            .with("Connection", "Upgrade")
            .with("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
            .with("Sec-WebSocket-Version", "13")
    }

    /// A good upgrade by an agent.
    pub fn agent() -> Self {
        Self::upgrade(AGENT_PATH)
    }

    /// A good upgrade by a client.
    pub fn client() -> Self {
        Self::upgrade(CLIENT_PATH)
    }

    /// The same with a header: in place of the one of this name, or in addition.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        let known = self.headers.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(name));
        match known {
            Some((_, known)) => value.clone_into(known),
            None => self.headers.push((name.to_owned(), value.to_owned())),
        }
        self
    }

    /// The same without a header.
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self
    }

    /// The same by another method.
    pub fn by(mut self, method: &str) -> Self {
        method.clone_into(&mut self.method);
        self
    }

    /// The same over another version of HTTP.
    pub fn over(mut self, version: &str) -> Self {
        version.clone_into(&mut self.version);
        self
    }

    /// The same with its headers in the opposite order, and their names in capitals.
    pub fn shuffled(mut self) -> Self {
        self.headers.reverse();
        for (name, _) in &mut self.headers {
            *name = name.to_uppercase();
        }
        self
    }

    /// Its path.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Its bytes.
    pub fn text(&self) -> String {
        let mut text = format!("{} {} {}\r\n", self.method, self.path, self.version);
        for (name, value) in &self.headers {
            // Writing to a String cannot fail.
            let _ = write!(text, "{name}: {value}\r\n");
        }
        text + "\r\n"
    }
}

/// A head of HTTP, be it of a request or of an answer, and the body of the latter.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The first line.
    pub first_line: String,
    /// The headers, in their order and as they were written.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// Reads a head that ends with an empty line.
    pub(super) fn parse(head: &str) -> Self {
        let mut lines = head.lines();
        let first_line = lines.next().unwrap_or_default().to_owned();
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers =
            headers.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()));
        Self { first_line, headers: headers.collect(), body: Vec::new() }
    }

    /// The status of an answer; 0 if it is none.
    pub fn status(&self) -> u16 {
        let status = self.first_line.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5));
        status.and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    /// The value of a header; the first one if there are several.
    pub fn header(&self, name: &str) -> Option<&str> {
        let is_it = |header: &&(String, String)| header.0.eq_ignore_ascii_case(name);
        self.headers.iter().find(is_it).map(|(_, value)| &**value)
    }

    /// Whether a list of a header, such as that of `Connection`, has an entry.
    pub fn lists(&self, name: &str, entry: &str) -> bool {
        let value = self.header(name).unwrap_or_default();
        value.split(',').any(|listed| listed.trim().eq_ignore_ascii_case(entry))
    }

    /// The body as a text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// How long the body is to be: `None` if it goes on until the connection ends.
    pub(super) fn length(&self) -> Option<usize> {
        if matches!(self.status(), 100..=199 | 204 | 304) {
            return Some(0);
        }
        self.header("Content-Length").and_then(|length| length.parse().ok())
    }
}
